"""The main job: one orchestrate makes a cluster, and a second one finds nothing to do."""

import pytest
from lab_command import DOMAIN, HOSTS, MEMBERS, differences


def test_one_orchestrate_makes_a_cluster_of_blank_hosts(converged):
    """The fixture ran it; here is what a user would look at next."""
    table = converged.salt_run("etcd_ha.status").ok().out
    rows = [line.split() for line in table.splitlines()]
    roles = [row[2] for row in rows if row and row[0] in MEMBERS]
    assert sorted(roles) == ["follower", "follower", "leader"], table
    assert table.count("healthy") == len(MEMBERS) + 1 and "unhealthy" not in table, table
    converged.put("demo", "through the balancer")
    read = converged.get("demo", endpoint=converged.through_balancer())
    assert read == "through the balancer"
    for host in MEMBERS:
        assert converged.get("demo", endpoint=converged.own(host)) == "through the balancer"


def test_a_second_orchestrate_has_nothing_to_do(converged):
    before = converged.fingerprint()
    run = converged.orch().ok()
    assert run.changes == {}
    assert list(run.states) == ["Every cluster is as its pillar says"], run.text
    assert differences(before, converged.fingerprint()) == {}


def test_a_highstate_changes_nothing_on_any_host(converged):
    answers = converged.apply()
    assert {f"{host}.{DOMAIN}" for host in HOSTS} <= set(answers)
    for minion, states in answers.items():
        assert isinstance(states, dict), f"{minion}: {states}"
        for name, state in states.items():
            assert state["changes"] == {}, f"{minion}: {name}: {state['changes']}"
            assert state["result"] is True, f"{minion}: {name}: {state['comment']}"


def test_a_dry_run_of_a_changed_pillar_changes_nothing(converged):
    before = converged.fingerprint()
    converged.change_pillar(lambda cluster: cluster.update(options={"heartbeat-interval": 120}))
    run = converged.orch("test=True")
    assert differences(before, converged.fingerprint()) == {}
    assert any("heartbeat" in name.lower() for name in run.states), run.text


def test_health_speaks_for_every_role(converged):
    answers = converged.ask("*", "etcd_ha.health")
    roles = {minion.partition(".")[0]: answer["role"] for minion, answer in answers.items()}
    wanted = {**dict.fromkeys(MEMBERS, "member"), "lb": "balancer", "ca": "none"}
    assert {host: roles.get(host) for host in HOSTS} == wanted
    assert all(answer["healthy"] for answer in answers.values())


def test_health_fails_when_a_member_is_dead(converged):
    assert converged.salt("*", "etcd_ha.health").code == 0
    converged.exec("etcd2", "systemctl", "stop", "etcd").ok()
    try:
        # --static would hide the exit code.
        done = converged.salt("*", "etcd_ha.health", "--out=newline_values_only")
        sick = converged.ask("etcd2*", "etcd_ha.health")[f"etcd2.{DOMAIN}"]
    finally:
        converged.exec("etcd2", "systemctl", "start", "etcd").ok()
    assert done.code != 0, done.text
    assert sick["healthy"] is False and sick["error"], sick
    converged.wait_healthy("etcd2")


@pytest.mark.parametrize("host", MEMBERS)
def test_root_on_a_member_needs_no_flag(converged, host):
    done = converged.exec(host, "su", "-", "root", "-c", "etcdctl member list").ok()
    names = {line.split(",")[2].strip() for line in done.out.splitlines() if ", started, " in line}
    assert names == set(MEMBERS), done.text


def test_the_unit_is_shut_in(converged):
    done = converged.exec("etcd1", "systemd-analyze", "security", "--no-pager", "etcd.service")
    line = next(line for line in done.out.splitlines() if "exposure level" in line)
    assert float(line.split(":")[1].split()[0]) <= 1.5, line


def test_etcd_runs_as_its_own_user_and_keeps_its_files_to_itself(converged):
    for host in MEMBERS:
        script = "ps -o user= -C etcd; stat -c '%a %U' /var/lib/etcd /etc/etcd/pki/*.key"
        lines = converged.exec(host, "sh", "-c", script).ok().out.split("\n")
        assert lines[0].strip() == "etcd"
        assert lines[1] == "700 etcd"
        keys = [line.split() for line in lines[2:] if line]
        assert len(keys) == 3, lines
        assert {mode for mode, _ in keys} <= {"400", "600"}, keys
        assert sorted(owner for _, owner in keys) == ["etcd", "etcd", "root"], keys


def test_new_never_stays_in_a_member_s_configuration(converged):
    """A wiped majority that starts with ``new`` forms an empty cluster under the old id."""
    for host in MEMBERS:
        script = "cat /etc/default/etcd; ls /run/etcd_ha/bootstrap.env"
        text = converged.exec(host, "sh", "-c", script).out
        assert 'ETCD_INITIAL_CLUSTER_STATE="existing"' in text
        assert "bootstrap.env" not in text


def test_endpoints_are_what_a_consumer_pastes(converged):
    told = converged.salt_run("etcd_ha.endpoints", "main", "consumer=kube-apiserver").ok().out
    assert f"--etcd-servers={converged.through_balancer()}" in told
