"""The firewalls as states: changes are what was done, also where one step fails."""

import etcd_ha_common_process
import etcd_ha_firewall
import pytest
from etcd_ha_common_process import Done, ProgramError, ProgramMissing, ProgramTimeout
from faces import load

RULES = [{"port": 2380, "sources": ["10.0.0.1"], "why": "etcd peers"}]


@pytest.fixture
def host(tmp_path, monkeypatch):
    """Its states, in a folder of its own; ``fails`` is what no command may hold."""
    for name in ("FIREWALLD_POLICY", "NFT_TABLE"):
        monkeypatch.setattr(etcd_ha_firewall, name, str(tmp_path / name))

    def made(fails=None, said=(), test=False):
        def run(command, *_, **__):
            line = " ".join(command)
            if fails and fails in line:
                raise ProgramError(command, "exit code 1: no", 1)
            found = dict(said)
            return Done(0, next((text for words, text in found.items() if words in line), ""), "")

        monkeypatch.setattr(etcd_ha_common_process, "run", run)
        return load("_states/etcd_ha_firewall", opts={"test": test})

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


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ProgramMissing, "firewalld does not run"),
        (ProgramError, "planted"),
        (ProgramTimeout, "planted"),
    ],
)
def test_only_a_firewall_that_is_not_there_does_not_run(host, monkeypatch, error, told):
    states = host(None, RUNS)
    (host.folder / "FIREWALLD_POLICY").write_text("")

    def fails(command, *_, **__):
        raise error(command, "planted")

    monkeypatch.setattr(etcd_ha_common_process, "run", fails)
    found = states.firewalld("x", RULES)
    assert found["result"] is False and told in found["comment"]
    gone = states.cleared("x", ["firewalld"])
    assert gone["result"] is (error is ProgramMissing)
    assert (host.folder / "FIREWALLD_POLICY").exists() is not gone["result"]


def test_an_ufw_that_cannot_tell_is_not_called_inactive(host, monkeypatch):
    states = host("status")
    (host.folder / "ufw.conf").write_text("ENABLED=yes\n")
    monkeypatch.setattr(etcd_ha_firewall, "UFW_CONFIG", str(host.folder / "ufw.conf"))
    found = states.ufw("x", RULES)
    assert found["result"] is False and "not active" not in found["comment"]
    assert "ufw status failed: exit code 1" in found["comment"]
    (host.folder / "ufw.conf").unlink()
    (host.folder / "ufw.conf").mkdir()
    found = states.ufw("x", RULES)
    assert found["result"] is False and "Is a directory" in found["comment"]
