"""States for seed keys, members and alarms, as a user's own SLS applies them."""

import json

import pytest
from changing import THREE
from extent import RELEASES, SHIPPED, only_in_all

ONE = "etcd1.example.com"
STRANGER = "https://198.18.0.99:2380"


def single(lab, state, *arguments, test=False):
    """Apply one state on etcd1: its return, and the exit code."""
    words = [*arguments, *(["test=True"] if test else [])]
    done = lab.salt(ONE, "state.single", f"etcd_ha.{state}", *words, "--out=json", "--static")
    (ret,) = json.loads(done.out)[ONE].values()
    return ret


def three_times(lab, state, *arguments):
    """Under test=True, for real, and again: the changes of the second."""
    dry = single(lab, state, *arguments, test=True)
    assert dry["result"] is None and dry["changes"], dry
    real = single(lab, state, *arguments)
    assert real["result"] is True and real["changes"] == dry["changes"], (dry, real)
    again = single(lab, state, *arguments)
    assert again["result"] is True and again["changes"] == {}, again
    return real["changes"]


def test_keys_are_seeded_and_cleared(converged):
    changes = three_times(converged, "key_present", "/seed/a", "value=one")
    assert changes == {"/seed/a": {"old": None, "new": "one"}}
    assert converged.get("/seed/a", host="etcd3") == "one"
    kept = single(converged, "key_present", "/seed/a", "value=two", "replace=False")
    assert kept["result"] is True and converged.get("/seed/a") == "one"
    hidden = single(converged, "key_present", "/seed/b", "value=hunter2", "secret=True")
    assert hidden["result"] is True and "hunter2" not in json.dumps(hidden)
    assert converged.get("/seed/b") == "hunter2"
    changes = three_times(converged, "key_absent", "/seed/", "prefix=True")
    assert changes == {"deleted": ["/seed/a", "/seed/b"]}


def test_a_member_of_somebody_else_comes_and_goes(converged):
    three_times(converged, "member_present", "stranger", f"peer_url={STRANGER}")
    listed = json.loads(converged.etcdctl("etcd2", "member", "list", "-w", "json").ok().out)
    (found,) = [m for m in listed["members"] if STRANGER in m["peerURLs"]]
    assert found["isLearner"], "it has no vote until it has caught up"
    changes = three_times(converged, "member_absent", STRANGER)
    assert list(changes) == [STRANGER]
    itself = single(converged, "member_absent", "etcd1")
    assert itself["result"] is False and "run this state on another one" in itself["comment"]
    assert converged.orch().ok().changes == {}


def test_health_is_a_gate_that_changes_nothing(converged):
    good = single(converged, "healthy", "all is well", "everyone=True")
    assert good["result"] is True and good["changes"] == {}
    converged.exec("etcd3", "systemctl", "stop", "etcd").ok()
    try:
        bad = single(converged, "healthy", "all is well", "everyone=True", "timeout=3")
        assert bad["result"] is False and "etcd3 does not answer" in bad["comment"]
        dry = single(converged, "healthy", "all is well", "everyone=True", test=True)
        assert dry["result"] is None
    finally:
        converged.exec("etcd3", "systemctl", "start", "etcd").ok()
    converged.wait_healthy("etcd3")


def test_an_alarm_is_disarmed_alone(converged):
    """NOSPACE raised without a reason; CORRUPT beside it stays as it is."""
    for alarm in (1, 2):
        raise_alarm(converged, alarm)
    three_times(converged, "alarm_absent", "NOSPACE")
    listed = json.loads(converged.etcdctl("etcd1", "alarm", "list", "-w", "json").ok().out)
    assert [one["alarm"] for one in listed["alarms"]] == [2]
    three_times(converged, "alarm_absent", "CORRUPT")
    converged.put("/after-alarms", "written")
    wrong = single(converged, "alarm_absent", "NOSPCE")
    assert wrong["result"] is False and "use NOSPACE or CORRUPT" in wrong["comment"]


@only_in_all
@pytest.mark.parametrize("version", [one for one in RELEASES if one != SHIPPED])
def test_they_do_the_same_on_other_releases(changed, version):
    if not changed.obtainable(version):
        pytest.fail(f"the mirror cannot get {version} on this machine")
    changed.begin(THREE, version=version)
    for test in (
        test_keys_are_seeded_and_cleared,
        test_a_member_of_somebody_else_comes_and_goes,
        test_health_is_a_gate_that_changes_nothing,
        test_an_alarm_is_disarmed_alone,
    ):
        test(changed.lab)
    changed.settled()


def raise_alarm(lab, number):
    names = {1: "NOSPACE", 2: "CORRUPT"}
    body = json.dumps({"action": "ACTIVATE", "memberID": "7", "alarm": names[number]})
    source = """
import ssl, sys, urllib.request
pki = "/etc/etcd/pki"
context = ssl.create_default_context(cafile=f"{pki}/ca.crt")
context.load_cert_chain(f"{pki}/admin.crt", f"{pki}/admin.key")
url = "https://127.0.0.1:2379/v3/maintenance/alarm"
print(urllib.request.urlopen(url, sys.argv[1].encode(), context=context).status)
"""
    assert lab.exec("etcd1", "/usr/bin/python3", "-c", source, body).ok().out.strip() == "200"
