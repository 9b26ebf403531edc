"""One silent host stops only what depends on it, and one cluster's trouble no other cluster."""

import copy

import pytest
from extent import only_in_all, only_in_all_case
from lab_command import DOMAIN, MEMBERS


def stop(lab, host):
    lab.exec(host, "systemctl", "stop", "etcd").ok()
    assert not lab.healthy(host)


@pytest.mark.parametrize("silent", ["ca", only_in_all_case("lb")])
def test_a_stopped_member_is_started_while_a_helper_is_away(converged, silent):
    lab = converged
    stop(lab, "etcd2")
    lab.fault(silent, "kill")
    try:
        plan = lab.salt_run("etcd_ha.plan")
        assert plan.code != 0 and "because: it is not running" in plan.text, plan.text
        run = lab.orch().refused(f"needs {silent}.{DOMAIN}, which did not answer")
        assert "etcd_ha.orch.recover" not in run.text
        last = list(run.states)[-1]
        assert last == "main: result" and run.states[last]["result"] is False, run.states.keys()
        failed = [name for name, state in run.states.items() if state["result"] is False]
        assert failed == [last], failed
        assert lab.healthy("etcd2")
        for what in run.states[last]["name"].split("; "):
            assert f"  {what}" in plan.text, what
    finally:
        lab.fault(silent, "heal")
    lab.wait_for_minions(silent)
    assert lab.orch().ok().changes == {}


def two_clusters(lab, interval):
    """``a`` of the hosts 4 and 5, and the shipped one with another heartbeat on 1 to 3."""
    pillar = copy.deepcopy(lab.shipped)
    main = pillar["clusters"]["main"]
    main["options"] = {**main.get("options", {}), "heartbeat-interval": interval}
    other = {key: value for key, value in main.items() if key != "load_balancers"}
    other["members"] = {f"{h}.{DOMAIN}": {"address": lab.address(h)} for h in ("etcd4", "etcd5")}
    pillar["clusters"] = {"a": other, "main": main}
    return pillar


@only_in_all
def test_a_dead_host_of_one_cluster_does_not_stop_another(changed):
    lab = changed.lab
    lab.become_blank()
    lab.state = "dirty"
    lab.write_pillar(two_clusters(lab, 100))
    lab.orch().ok()
    lab.write_pillar(two_clusters(lab, 110))
    lab.fault("etcd4", "kill")
    try:
        plan = lab.salt_run("etcd_ha.plan")
        assert plan.code != 0 and "not bootstrapped" not in plan.text, plan.text
        dry = lab.orch("test=True")
        run = lab.orch()
        assert dry.code != 0 and list(dry.states) == list(run.states), (dry.text, run.text)
    finally:
        lab.fault("etcd4", "heal")
    refused = run.states["a: the plan is refused"]
    assert run.code != 0 and f"etcd4.{DOMAIN} did not answer" in refused["name"], refused
    assert list(run.states)[-2:] == ["a: the plan is refused", "main: result"], run.states.keys()
    assert "steps were taken" in run.states["main: result"]["comment"]
    for host in MEMBERS:
        found = lab.exec(host, "cat", "/etc/default/etcd").ok().out
        assert 'ETCD_HEARTBEAT_INTERVAL="110"' in found, found
    lab.wait_for_minions("etcd4")
    lab.orch().ok()
    # A step that fails in the first cluster: its program cannot be started any more.
    lab.exec("etcd5", "chmod", "0", "/opt/etcd/current/etcd").ok()
    lab.exec("etcd5", "systemctl", "stop", "etcd").ok()
    lab.write_pillar(two_clusters(lab, 120))
    run = lab.orch(timeout=600)
    assert run.code != 0 and run.states["a: result"]["result"] is False, run.text
    assert run.states["main: result"]["result"] is True, run.text
    for host in MEMBERS:
        assert "120" in lab.exec(host, "cat", "/etc/default/etcd").ok().out


@only_in_all
def test_a_fault_in_the_pillar_of_one_cluster_does_not_stop_another(changed):
    lab = changed.lab
    lab.become_blank()
    lab.state = "dirty"
    pillar = two_clusters(lab, 100)
    pillar["clusters"]["a"]["versoin"] = "3.6.14"
    lab.write_pillar(pillar)
    run = lab.orch().refused("did you mean 'version'")
    assert list(run.states)[-2:] == ["a: the plan is refused", "main: result"], run.states.keys()
    assert run.states["main: result"]["result"] is True and lab.healthy("etcd1")
    assert lab.exec("etcd4", "test", "-e", "/etc/default/etcd").code != 0
    done = lab.salt("etcd4*", "state.apply", "etcd_ha")
    assert done.code != 0 and "did you mean 'version'" in done.text, done.text
