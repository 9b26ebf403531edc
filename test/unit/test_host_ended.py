"""Whether etcd ended by its own doing, from what systemd tells of its last process."""

import types

import etcd_ha_common_systemd
import etcd_ha_host_ended
import etcd_ha_host_sandbox
import pytest
from clock import ahead
from etcd_ha_common_errors import Failed


def shown(code, status):
    return {"ExecMainCode": str(code), "ExecMainStatus": str(status), "InvocationID": "ab"}


@pytest.mark.parametrize(
    "what, code, status, by_itself",
    [
        ("it runs, or never has in this boot", 0, 0, False),
        ("it ended well", 1, 0, False),
        ("a faulty setting", 1, 1, True),
        ("a panic", 1, 2, True),
        ("a program that cannot be started", 1, 203, False),
        ("a user that is not there", 1, 217, False),
        ("systemctl stop", 2, 15, False),
        ("kill -9, or too little memory", 2, 9, False),
        ("an abort", 3, 6, True),
        ("a bus error", 2, 7, True),
    ],
)
def test_an_end_is_its_own_or_somebody_else_s(what, code, status, by_itself):
    assert etcd_ha_host_ended.parse(shown(code, status)).by_itself is by_itself, what


def looked_at(monkeypatch, *answers):
    """What is made of these answers of systemd, one after the other; the last one stays."""
    left = list(answers)
    given = lambda unit, names: left.pop(0) if len(left) > 1 else left[0]  # noqa: E731
    monkeypatch.setattr(etcd_ha_host_sandbox, "properties", given)
    ahead(monkeypatch, etcd_ha_host_ended)
    return etcd_ha_host_ended.look()


def test_one_that_is_started_again_and_again_is_seen_at_its_next_end(monkeypatch):
    starting = {**shown(0, 0), "ActiveState": "activating", "NRestarts": "7"}
    ended = {**shown(1, 2), "ActiveState": "activating", "NRestarts": "7"}
    assert looked_at(monkeypatch, starting, ended).by_itself
    assert not looked_at(monkeypatch, starting).by_itself, "it waits for its peers"
    first = {**starting, "NRestarts": "0"}
    assert not looked_at(monkeypatch, first, ended).by_itself, "it was started by hand just now"
    runs = {**starting, "ActiveState": "active"}
    assert not looked_at(monkeypatch, runs, ended).by_itself


@pytest.mark.parametrize("lost", ["ExecMainCode", "ExecMainStatus", "InvocationID"])
def test_what_cannot_be_known_is_no_end(lost):
    found = shown(1, 2)
    del found[lost]
    with pytest.raises(Failed, match="does not tell how it ended"):
        etcd_ha_host_ended.parse(found)
    with pytest.raises(Failed):
        etcd_ha_host_ended.parse({**shown(1, 2), "ExecMainCode": "x"})


def test_only_the_log_of_that_start_is_quoted(monkeypatch):
    """One corruption that was mended long ago is no word on this start."""
    asked = []

    def journal(name, *, invocation, lines):
        asked.append((name, invocation))
        return "panic: now\n"

    monkeypatch.setattr(etcd_ha_common_systemd, "journal", journal)
    assert etcd_ha_host_ended.quoted("cd") == "panic: now"
    assert asked == [("etcd.service", "cd")]
    assert etcd_ha_host_ended.quoted("") == "" and len(asked) == 1


def test_a_quotation_is_one_line_of_printable_text():
    assert etcd_ha_host_ended.line("a\n\x1b[31mb\t c") == "a [31mb c"


def test_a_log_that_cannot_be_read_is_said_to_be_so(monkeypatch):
    def journal(name, **more):
        raise Failed("journalctl is not installed")

    monkeypatch.setattr(etcd_ha_common_systemd, "journal", journal)
    assert "cannot be read: journalctl is not installed" in etcd_ha_host_ended.quoted("cd")


@pytest.mark.parametrize(
    "looks, stays",
    [([True], True), ([False], False), ([True, True, False], False), ([True] * 4 + [False], False)],
)
def test_one_that_ends_after_it_was_ready_does_not_stay(monkeypatch, looks, stays):
    """A missing certificate ends etcd 3.6 after it has told systemd that it is ready."""
    left = list(looks)

    def unit(name):
        assert name == "etcd.service"
        return types.SimpleNamespace(active=left.pop(0) if len(left) > 1 else left[0])

    monkeypatch.setattr(etcd_ha_common_systemd, "unit", unit)
    ahead(monkeypatch, etcd_ha_host_ended)
    assert etcd_ha_host_ended.stays() is stays
