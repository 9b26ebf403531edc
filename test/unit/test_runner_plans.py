"""The plans of all clusters: what one odd host or a mirror that lacks a release does to them."""

import copy

import etcd_ha_minions
import pytest
import salt.exceptions
from etcd_ha_master import Master
from etcd_ha_steps import Plan, Step
from faces import load
from good_pillar import PILLAR
from salt.exceptions import CommandExecutionError

OTHER = {
    "version": "3.6.14",
    "members": {
        f"etcd{number}.example.org": {"address": f"192.168.201.5{number}"} for number in (1, 2, 3)
    },
    "tls": {"ca": {"minion": "ca.example.org"}},
}
ODD = "etcd2.example.com"


@pytest.fixture
def runner(defaults, monkeypatch):
    """A runner of two clusters on blank hosts; ``pillar``, ``facts`` and ``lacking`` may change."""
    pillar = copy.deepcopy(PILLAR)
    pillar["clusters"]["other"] = copy.deepcopy(OTHER)
    os_file = "etcd_ha/os/Debian.yaml"
    context = {
        "etcd_ha_pillar": pillar,
        "etcd_ha_yaml_etcd_ha/defaults.yaml": defaults,
        f"etcd_ha_yaml_{os_file}": {"settings": {}},
        "etcd_ha_source": "hash",
        "etcd_ha_modules": "hash",
    }
    module = load("_runners/etcd_ha", opts={"id": "master"}, context=context)
    module.pillar, module.lacking, module.fetched = pillar, "", []
    module.facts = {
        minion: {"minion": minion, "arch": "amd64", "os_file": os_file, "etcd": {}}
        for cluster in Master({"id": "master"}, context).clusters().values()
        for minion in cluster.hosts
    }

    def ask(master, minions, function, arguments):
        assert function == "etcd_ha.release_available"
        module.fetched += [(minions[0], url) for url in arguments]
        return {minions[0]: {"ret": module.lacking}}

    monkeypatch.setattr(Master, "check_own_modules", lambda self: None)
    monkeypatch.setattr(Master, "record", lambda self, one: {})
    monkeypatch.setattr(
        Master, "peer", {".*": ["x509.sign_remote_certificate", "etcd_ha_ca.sign", ".*"]}
    )
    monkeypatch.setattr(etcd_ha_minions, "facts", lambda *_: module.facts)
    monkeypatch.setattr(etcd_ha_minions, "ask", ask)
    monkeypatch.setattr(module.etcd_ha_peers, "refusal", lambda *_: "")
    return module


def plans(runner, command="converge"):
    master = Master(runner.__opts__, runner.__context__)
    made = runner._plans(master, None, command, {})
    return {one.cluster: one for one in made}


def runs(runner, version="3.6.14"):
    """Have all members of main run etcd, healthy."""
    main = Master(runner.__opts__, runner.__context__).clusters()["main"]
    for member in main.members:
        runner.facts[member.minion]["etcd"] = {
            "active": True,
            "healthy": True,
            "has_data": True,
            "version": version,
            "record": {"cluster": "main", "state": "bootstrapped"},
        }


def test_a_host_of_an_architecture_that_has_no_archive_refuses_its_cluster_alone(runner):
    runner.facts[ODD]["arch"] = "riscv64"
    made = plans(runner)
    assert made["main"].steps == () and made["other"].steps and not made["other"].refusal
    for part in (ODD, "'riscv64'", "install: {method: package}", "main:members:" + ODD):
        assert part in made["main"].refusal


def test_plan_and_steps_tell_it_in_words(runner):
    runner.facts[ODD]["arch"] = "riscv64"
    (refused,) = runner.steps()["refusals"]
    assert refused["id"].startswith("main: ") and "riscv64" in refused["why"]
    with pytest.raises(
        salt.exceptions.NotImplemented, match=r"refused: etcd2\.example\.com cannot"
    ):
        runner.plan()


def test_the_cure_that_it_names_is_one(runner):
    runner.facts[ODD]["arch"] = "riscv64"
    own = runner.pillar["clusters"]["main"]["members"][ODD]
    own["install"] = {"method": "package"}
    made = plans(runner)["main"]
    assert made.steps and not made.refusal


def test_a_cluster_with_such_a_host_can_be_removed(runner, monkeypatch):
    runner.facts[ODD]["arch"] = "riscv64"
    monkeypatch.setattr(Master, "record", lambda self, one: {"members": {}})
    made = plans(runner, "remove_cluster")["main"]
    assert made.steps and not made.refusal


def test_a_host_with_an_old_program_is_refused_before_anything_is_done(runner):
    runner.facts["lb.example.com"]["programs"] = {"systemd": "252", "haproxy": "2.0.33-0ubuntu0.1"}
    made = plans(runner)["main"]
    assert not made.steps and "lb.example.com has HAProxy 2.0.33" in made.refusal
    runner.facts["lb.example.com"]["programs"] = {"systemd": "247", "haproxy": "2.2.9-2+deb11u6"}
    assert not plans(runner)["main"].refusal


def test_its_architecture_is_no_matter_where_no_member_is(runner):
    for minion in ("lb.example.com", "ca.example.com"):
        runner.facts[minion]["arch"] = "riscv64"
    assert not plans(runner)["main"].refusal


def test_the_host_itself_says_it_in_the_same_words(runner, monkeypatch, defaults):
    module = load("_modules/etcd_ha", pillar={"etcd_ha": PILLAR}, grains={"id": ODD})
    module.__grains__["cpuarch"] = "riscv64"
    monkeypatch.setattr(module, "_file", lambda path: {**defaults, "settings": {}})
    monkeypatch.setattr(module, "os_file", lambda: "x")
    monkeypatch.setattr(module, "_present_stage", dict)
    monkeypatch.setattr(module.etcd_ha_client, "configured", dict)
    with pytest.raises(CommandExecutionError, match=f"{ODD} cannot be a member of main"):
        module.host()


@pytest.mark.parametrize("command", ["remove_cluster", "defrag", "recover_space"])
def test_what_installs_nothing_needs_no_mirror(runner, command, monkeypatch):
    """The pillar may name a release that is neither installed nor on the mirror yet."""
    runs(runner, "3.6.13")
    step = Step("main: one step", "function", ("etcd1.example.com",))
    made = Plan("main", "", (step,))
    if command != "remove_cluster":
        monkeypatch.setattr(runner.etcd_ha_planner, "plan", lambda *_: made)
    runner.lacking = "HTTP 404"
    found = plans(runner, command)["main"]
    assert found.steps and not found.refusal and not runner.fetched


def test_a_release_that_the_mirror_lacks_is_refused_before_a_host_is_touched(runner):
    runner.lacking = "HTTP 404"
    made = plans(runner)["main"]
    assert made.steps == () and "etcd1.example.com cannot fetch https://" in made.refusal
    assert "/v3.6.14/SHA256SUMS (HTTP 404)" in made.refusal


def test_the_mirror_is_asked_by_a_member_that_fetches_from_it(runner):
    """Of an architecture that has no archive, the first one comes by a package."""
    runner.facts["etcd1.example.com"]["arch"] = "riscv64"
    own = runner.pillar["clusters"]["main"]["members"]["etcd1.example.com"]
    own["install"] = {"method": "package"}
    assert plans(runner)["main"].steps
    assert [asked for asked, _ in runner.fetched] == [ODD, "etcd1.example.org"]


def test_a_fault_in_the_pillar_refuses_that_cluster_alone(runner):
    runner.pillar["clusters"]["main"]["versoin"] = "3.6.14"
    made = plans(runner)
    assert "did you mean 'version'" in made["main"].refusal and not made["main"].steps
    assert made["other"].steps and not made["other"].refusal
    told = runner.steps()
    assert [one["id"] for one in told["refusals"]] == ["main: the plan is refused"]
    assert {row["cluster"] for row in told["steps"]} == {"other"}
    assert [one["id"] for one in told["ends"]] == ["other: result"]


def test_what_holds_for_all_refuses_all(runner):
    runner.pillar["versoin"] = "3.6.14"
    (refused,) = runner.steps()["refusals"]
    assert refused["id"] == "The plan is refused" and "did you mean 'version'" in refused["why"]


def test_two_clusters_with_one_host_are_both_refused(runner):
    runner.pillar["clusters"]["other"]["members"][ODD] = {"address": "192.168.201.59"}
    made = plans(runner)
    assert all("a minion serves one cluster" in one.refusal for one in made.values())


def test_a_host_of_a_cluster_with_a_fault_is_not_another_one_s(runner):
    """Nobody knows what it is to be until the pillar is right."""
    runner.pillar["clusters"]["other"]["members"][ODD] = {"address": "192.168.201.59"}
    runner.pillar["clusters"]["main"]["versoin"] = "3.6.14"
    made = plans(runner)
    assert f"{ODD} belongs to main already" in made["other"].refusal
    assert "did you mean 'version'" in made["main"].refusal


def test_what_nobody_expected_refuses_its_cluster_alone(runner, monkeypatch):
    plan, logged = runner.etcd_ha_planner.plan, []
    monkeypatch.setattr(runner.log, "exception", lambda *told: logged.append(told))

    def broken(cluster, *arguments):
        if cluster.name == "main":
            raise KeyError("etcd9")
        return plan(cluster, *arguments)

    monkeypatch.setattr(runner.etcd_ha_planner, "plan", broken)
    made = plans(runner)
    assert made["other"].steps
    for words in ("planning main ended in an error of the formula", "KeyError('etcd9')", "report"):
        assert words in made["main"].refusal
    assert [told[1:] for told in logged] == [("converge", "main")]


def test_a_cluster_whose_ca_may_not_be_asked_is_refused_alone(runner, monkeypatch):
    def refusal(peer, cluster):
        return "the master does not let it" if cluster.name == "main" else ""

    monkeypatch.setattr(runner.etcd_ha_peers, "refusal", refusal)
    made = plans(runner)
    assert made["main"].refusal == "the master does not let it" and made["other"].steps


def test_a_dead_host_of_one_cluster_is_not_told_of_the_other(runner):
    found = {minion: one for minion, one in runner.facts.items() if minion != ODD}
    runner.facts = etcd_ha_minions.Facts(found, {ODD: "did not answer: it is off. Start it"})
    made = plans(runner)
    assert made["main"].refusal.startswith(f"{ODD} did not answer: it is off. Start it. Then run")
    assert "not bootstrapped" not in made["main"].summary
    assert made["other"].steps and made["other"].sound


def test_each_cluster_is_a_chain_of_its_own(runner):
    told = runner.steps()
    for name in ("main", "other"):
        own = [row for row in told["steps"] if row["cluster"] == name]
        assert len(own) > 2
        assert [row["after"] for row in own] == ["", *(row["id"] for row in own[:-1])]
    ends = {one["id"]: one for one in told["ends"]}
    assert ends["main: result"]["after"] in {row["id"] for row in told["steps"]}
    assert all(one["sound"] for one in ends.values())


def test_one_cluster_that_is_down_is_not_searched_for_in_another(runner):
    """A running cluster's member list is its own hosts' word alone."""
    runs(runner)
    clusters = Master(runner.__opts__, runner.__context__).clusters()
    main, other = clusters["main"], clusters["other"]
    for number, member in enumerate(main.members):
        runner.facts[member.minion]["etcd"] |= {
            "member_id": f"a{number}",
            "cluster_id": "a",
            "members": [
                {
                    "id": f"a{n}",
                    "name": m.name,
                    "peer_urls": [main.peer_url(m)],
                    "client_urls": [main.client_url(m)],
                    "learner": False,
                    "started": True,
                }
                for n, m in enumerate(main.members)
            ],
        }
    for member in other.members:
        record = {"cluster": "other", "state": "bootstrapped"}
        runner.facts[member.minion]["etcd"] = {"has_data": True, "record": record}
    made = plans(runner)
    assert not made["other"].refusal
    assert any("start etcd1, etcd2, etcd3 together" in step.title for step in made["other"].steps)
    assert "unknown" not in made["main"].refusal and not made["main"].refusal


def test_a_silent_host_does_not_keep_another_member_down(runner):
    runs(runner)
    silent, stopped = "etcd3.example.com", runner.facts["etcd1.example.com"]["etcd"]
    del runner.facts[silent]
    stopped |= {"active": False, "healthy": False}
    runner.facts = etcd_ha_minions.Facts(runner.facts, {silent: "did not answer"})
    made = plans(runner)["main"]
    assert any("etcd1" in step.title and "start" in step.title for step in made.steps), made
