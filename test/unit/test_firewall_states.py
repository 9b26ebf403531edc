"""The firewalls as states: changes are what was done, also where one step fails."""

import etcd_ha_firewall
import pytest
from faces import load
from salt.exceptions import CommandExecutionError

RULES = [{"port": 2380, "sources": ["10.0.0.1"], "why": "etcd peers"}]


@pytest.fixture
def host(tmp_path, monkeypatch):
    """Its states, in a folder of its own; ``fails`` is what no command may hold."""
    for name in ("FIREWALLD_POLICY", "NFT_TABLE"):
        monkeypatch.setattr(etcd_ha_firewall, name, str(tmp_path / name))

    def made(fails=None, said=(), test=False):
        def run(command, **_):
            line = " ".join(command)
            answer = next((text for words, text in dict(said).items() if words in line), "")
            wrong = bool(fails) and fails in line
            return {"retcode": int(wrong), "stdout": answer, "stderr": "no\n" if wrong else ""}

        opts = {"test": test}
        return load("_states/etcd_ha_firewall", salt={"cmd.run_all": run}, opts=opts)

    made.folder = tmp_path
    return made


RUNS = {"--state": "running\n", "--get-policies": "etcd_ha\n"}


@pytest.mark.parametrize(("fails", "new"), [("--new-policy", []), ("--reload", ["not in force"])])
def test_of_a_policy_that_could_not_be_made_is_told_what_was(host, fails, new):
    told = host(fails, RUNS).firewalld("x", RULES)
    assert told["result"] is False
    assert [change["new"] for change in told["changes"].values()] == new
    assert "run this again" in told["comment"]


def test_a_policy_that_could_not_be_loaded_is_no_change(host):
    (host.folder / "FIREWALLD_POLICY").write_text("")
    told = host("--reload", {"--state": "running"}).firewalld("x", RULES)
    assert told["result"] is False and told["changes"] == {}


def test_only_rules_that_came_are_changes(host):
    (host.folder / "FIREWALLD_POLICY").write_text("")
    told = host("--add-rich-rule", RUNS).firewalld("x", RULES)
    assert told["result"] is False and told["changes"] == {}


def test_a_policy_that_could_not_be_removed_is_no_change(host):
    (host.folder / "FIREWALLD_POLICY").write_text("")
    told = host("--delete-policy", RUNS).cleared("x", ["firewalld"])
    assert told["result"] is False and told["changes"] == {}


@pytest.mark.parametrize("test", [True, False])
def test_what_would_be_done_is_told_as_what_was_done(host, test):
    new = host(None, RUNS, test).firewalld("x", RULES)
    assert new["result"] is (None if test else True)
    assert set(new["changes"]) == set(etcd_ha_firewall.rich_rules(RULES))
    (host.folder / "FIREWALLD_POLICY").write_text("")
    (host.folder / "NFT_TABLE").write_text("")
    gone = host(None, RUNS, test).cleared("x", ["nftables", "firewalld"])
    assert gone["result"] is (None if test else True) and len(gone["changes"]) == 2
    assert (host.folder / "NFT_TABLE").exists() is test


def test_a_program_that_is_not_there_is_a_failed_state(host):
    states = host(None, RUNS)

    def gone(command, **_):
        raise CommandExecutionError("no such file")

    states.__salt__["cmd.run_all"] = gone
    assert states.firewalld("x", RULES)["result"] is False
