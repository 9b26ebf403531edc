"""What a minion tells of itself in another form: named, and never a traceback of a plan."""

import collections
import copy
import json

import etcd_ha_access
import etcd_ha_machine
import etcd_ha_minions
import etcd_ha_observed
import etcd_ha_report
import etcd_ha_restore
import etcd_ha_survivor
import etcd_ha_told
import pytest
import salt.cache
from etcd_ha_master import Master
from faces import load
from odd_values import places, with_odd
from salt.exceptions import CommandExecutionError

MEMBER = {
    "id": "ef37ad9dc622a7c4",
    "name": "etcd1",
    "peer_urls": ["https://a:2380"],
    "client_urls": ["https://a:2379"],
    "learner": False,
    "started": True,
}
TRUST = {"certificates": ["a" * 64], "signers": ["b" * 64]}
FACTS = {
    "minion": "etcd1.example.com",
    "arch": "amd64",
    "os_file": "etcd_ha/os/Debian.yaml",
    "modules": "0" * 64,
    "digest": "1" * 64,
    "changed_files": ["/etc/default/etcd"],
    "etcd": {
        "active": True,
        "state": "active",
        "enabled": True,
        "environment": {"ETCD_NAME": "etcd1"},
        "pending": ["unit"],
        "has_data": True,
        "installed": "3.6.14",
        "record": {"cluster": "main", "state": "bootstrapped"},
        "trust": TRUST,
        "healthy": True,
        "member_id": "ef37ad9dc622a7c4",
        "cluster_id": "a",
        "leader_id": "ef37ad9dc622a7c4",
        "leader": True,
        "learner": False,
        "version": "3.6.14",
        "revision": 5,
        "raft_index": 9,
        "db_size": 20480,
        "db_in_use": 16384,
        "errors": [],
        "alarms": ["NOSPACE"],
        "members": [MEMBER],
    },
    "balancer": {"healthy": True, "trust": TRUST},
    "restoring": "",
    "policies": "",
    "ca": "ca.example.com",
    "authorities": {
        "/x/ca.crt": {"certificates": ["a"], "authorities": ["b"], "days_left": 5},
    },
    "days_left": 90,
    "access": {
        "enabled": True,
        "users": {"app": ["app"]},
        "roles": {"app": [["L2E=", "L2I=", "read"]]},
        "passwords": {"app": "another"},
        "named": ["app"],
    },
    "busy": [],
}
LOOK = {
    "free": 10**9,
    "wal_free": None,
    "progress": {"token": "x", "phase": "staged"},
    "recovery": {},
    "backups": [{"path": "/b/x.db", "size": 5, "sha256": "0" * 64, "revision": 5, "keys": None}],
    "evidence": {"has_data": True, "kept": 5, "commit": 5, "last": 6, "term": 2, "revision": 5},
}
ODD = [
    None,
    5,
    -1,
    1.5,
    True,
    "x",
    "../../etc/passwd",
    [],
    [5],
    [None],
    {},
    {"x": 5},
    {"x": None},
    [[]],
]
TRIED = collections.Counter()


@pytest.fixture(scope="module", autouse=True)
def counted():
    yield
    print(f"\nodd facts tried: {dict(sorted(TRIED.items()))}")


def test_good_facts_are_good():
    assert etcd_ha_told.facts_fault(FACTS) == ""
    assert etcd_ha_told.look_fault(LOOK) == ""


@pytest.mark.parametrize("path", list(places(FACTS)), ids=lambda path: ":".join(map(str, path)))
def test_odd_facts_are_named_or_can_be_planned_by(path, cluster):
    for odd in ODD:
        facts = with_odd(FACTS, path, odd)
        fault = etcd_ha_told.facts_fault(facts)
        if fault:
            TRIED["facts refused"] += 1
            assert not path or path[0] in fault or not isinstance(facts, dict), fault
            continue
        TRIED["facts read"] += 1
        assert etcd_ha_observed.Observed.of(facts)
        if facts.get("access") and "error" not in facts["access"]:
            etcd_ha_access.Live.of(facts["access"])
        assert etcd_ha_report.status(cluster, {facts["minion"]: facts})


@pytest.mark.parametrize("path", list(places(LOOK)), ids=lambda path: ":".join(map(str, path)))
def test_an_odd_look_is_named_or_can_be_planned_by(path):
    for odd in ODD:
        look = with_odd(LOOK, path, odd)
        if etcd_ha_told.look_fault(look):
            TRIED["look refused"] += 1
            continue
        TRIED["look read"] += 1
        assert etcd_ha_restore.Look.of("etcd1", look)
        assert etcd_ha_survivor.Evidence.of(look.get("evidence") or {}) is not None


@pytest.mark.parametrize("told", [None, 5, [], "ERROR: Minion exception\nTraceback ...", {}])
def test_what_is_no_answer_is_told_on_one_line(told):
    for fault in (etcd_ha_told.facts_fault(told), etcd_ha_told.look_fault(told)):
        assert fault and fault.isprintable()


def test_no_file_but_an_operating_system_s_is_read_by_a_minion_s_word():
    for path in ("etcd_ha/defaults.yaml", "../../etc/shadow", "etcd_ha/os/../../x.yaml", "/x"):
        assert "os_file" in etcd_ha_told.facts_fault({**FACTS, "os_file": path})


@pytest.mark.parametrize("content", ["", "[", "5", '{"revision": "x", "sha256": 5, "when": null}'])
def test_an_odd_sidecar_does_not_keep_other_backups_from_a_restore(tmp_path, content):
    (tmp_path / "x.db").write_bytes(b"x" * 32)
    (tmp_path / "x.json").write_text(content)
    found = load("_modules/etcd_ha_restore")._known(str(tmp_path / "x.db"))
    assert etcd_ha_told.look_fault({"free": 1, "backups": [found]}) == ""
    assert found["revision"] == 0 and found["verified"] is False


def test_a_plan_names_the_minion_whose_facts_are_odd(monkeypatch):
    monkeypatch.setattr(etcd_ha_minions, "connected", lambda master, wanted: list(wanted))
    monkeypatch.setattr(Master, "modules_digest", lambda self: FACTS["modules"])
    monkeypatch.setattr(Master, "record", lambda self, one: {})
    odd = {**FACTS, "etcd": {**FACTS["etcd"], "revision": "five"}}
    answers = {"etcd1.example.com": {"ret": json.loads(json.dumps(odd))}}
    monkeypatch.setattr(etcd_ha_minions, "ask", lambda *a, **k: copy.deepcopy(answers))
    monkeypatch.setattr(etcd_ha_minions, "sync", lambda master, minions: None)

    class Cache:
        def __init__(self, opts):
            pass

        def contains(self, bank, key):
            return True

    monkeypatch.setattr(salt.cache, "Cache", Cache)
    with pytest.raises(CommandExecutionError, match=r"etcd1.example.com could not .*: etcd is of"):
        etcd_ha_minions.facts(Master({}, {}), [])


def test_read_json_never_raises(tmp_path):
    for content in (b"", b"\xff", b"[" * 10**5, b'{"a":' * 10**5):
        (tmp_path / "x").write_bytes(content)
        assert etcd_ha_machine.read_json(str(tmp_path / "x")) == {}
    assert etcd_ha_machine.read_json(str(tmp_path)) == {}
