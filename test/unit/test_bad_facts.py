"""What a minion tells of itself in another form: named, and never a traceback of a plan."""

import collections
import copy
import dataclasses
import datetime
import json
import re

import etcd_ha_access
import etcd_ha_backup_report
import etcd_ha_host_etcds
import etcd_ha_machine
import etcd_ha_minions
import etcd_ha_observed
import etcd_ha_report
import etcd_ha_restore
import etcd_ha_survivor
import etcd_ha_told
import pytest
import salt.cache
from etcd_ha_common_files import Unreadable
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
FOUND = etcd_ha_host_etcds.row(
    "process",
    pid=41,
    program="/opt/etcd/3.6.14/etcd",
    words=["--name=x"],
    environment={"ETCD_NAME": "x"},
    unit="etcd.service",
    unit_files=["/etc/systemd/system/etcd.service"],
    clients=["https://a:2379"],
    ports=[2379],
    holds_data=True,
    cluster_id="a",
    member_id="ef37ad9dc622a7c4",
)
FACTS = {
    "minion": "etcd1.example.com",
    "arch": "amd64",
    "os_file": "etcd_ha/os/Debian.yaml",
    "modules": "0" * 64,
    "digest": "1" * 64,
    "applied": {"settings": "2" * 64, "source": "3" * 64, "modules": "0" * 64},
    "changed_files": ["/etc/default/etcd"],
    "programs": {"systemd": "252", "haproxy": "2.6.12-1+deb12u2"},
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
    "etcds": [FOUND],
    "overrides": [{"variable": "ETCD_X", "value": "", "file": "/etc/systemd/x.conf", "wins": True}],
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
    "pairs": [
        {
            "purpose": "server",
            "certificate": "/etc/etcd/pki/server.crt",
            "source": "/root/pki/server.crt",
            "placed": True,
            "same": False,
            "faults": ["/root/pki/server.crt has expired"],
            "live_faults": [],
            "live_kinds": ["time"],
            "fingerprint": "0" * 64,
            "begins": "2026-01-01 00:00:00",
            "ends": "2027-01-01 00:00:00",
        }
    ],
    "clock": {"began": 1.5, "ended": 2},
}
LOOK = {
    "free": 10**9,
    "wal_free": None,
    "progress": {"token": "x", "phase": "staged"},
    "recovery": {},
    "backups": [{"path": "/b/x.db", "size": 5, "sha256": "0" * 64, "revision": 5, "keys": None}],
    "evidence": {"has_data": True, "kept": 5, "commit": 5, "last": 6, "term": 2, "revision": 5},
}
LEAF = {
    "cluster": "main",
    "purpose": "server",
    "path": "/etc/etcd/pki/server.crt",
    "subject": "CN=etcd1",
    "issuer": "CN=etcd main CA",
    "not_after": "2999-01-01 00:00:00",
}
CERTIFICATES = [LEAF, {**LEAF, "error": "the file is gone"}]
HASHES = {
    "agree": True,
    "right": "00000007",
    "members": [
        {
            "name": "etcd1",
            "member_id": "a",
            "endpoint": "https://a:2379",
            "hash": "00000007",
            "differs": False,
        }
    ],
}
STATUS = {"leader_id": "ab", "leader": True, "learner": False, "db_size": 4096}
E1, E2, E3 = (f"etcd{number}.example.com" for number in (1, 2, 3))
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


def test_so_are_good_answers():
    assert etcd_ha_told.certificates_fault(CERTIFICATES) == ""
    assert etcd_ha_told.certificates_fault([]) == ""
    assert etcd_ha_told.hashes_fault(HASHES) == ""
    assert etcd_ha_told.status_fault(STATUS) == ""


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


def each_place(value):
    return pytest.mark.parametrize(
        "path", list(places(value)), ids=lambda path: ":".join(map(str, path))
    )


@each_place(CERTIFICATES)
def test_odd_certificates_are_told_in_the_table_beside_the_others(path, cluster):
    now = datetime.datetime(2026, 11, 23, tzinfo=datetime.timezone.utc)
    for odd in ODD:
        told = with_odd(CERTIFICATES, path, odd)
        answers = {**{minion: [LEAF] for minion in cluster.hosts}, E2: told}
        report = etcd_ha_report.certificates(cluster, answers, now)
        fault = not isinstance(told, str) and told is not None
        fault = fault and bool(etcd_ha_told.certificates_fault(told))
        TRIED["certificates refused" if fault else "certificates read"] += 1
        lines = [line for line in report.text.splitlines() if line.startswith(E2)]
        assert lines and ("gave an odd answer" in lines[0]) is fault
        assert not (fault and report.sound)
        assert report.text.count(" ok") >= len(cluster.hosts) - 1


@each_place(HASHES)
def test_odd_hashes_are_told_and_the_next_member_is_asked(path, cluster, monkeypatch):
    module = load("_runners/etcd_ha_overview")
    facts = {minion: {"etcd": {"healthy": True}} for minion in (E1, E2)}
    for odd in ODD:
        answers = {E1: with_odd(HASHES, path, odd), E2: HASHES}
        monkeypatch.setattr(
            etcd_ha_minions,
            "ask",
            lambda _, asked, __, got=answers: {asked[0]: {"ret": got[asked[0]]}},
        )
        report = etcd_ha_report.hashes(cluster, *module._hashes(None, cluster, facts))
        fault = isinstance(answers[E1], (dict, list, int, float)) and bool(
            etcd_ha_told.hashes_fault(answers[E1])
        )
        TRIED["hashes refused" if fault else "hashes read"] += 1
        assert (f"{E1} gave an odd answer" in report.text) is fault
        assert "MEMBER" in report.text and not (fault and report.sound)


def test_where_all_hashes_are_odd_each_host_is_told(cluster):
    report = etcd_ha_report.hashes(cluster, {}, {E1: "x is odd", E2: "y is odd"})
    assert not report.sound and report.text.count("gave an odd answer") == 2


@each_place(STATUS)
def test_whose_status_is_odd_is_not_asked_for_a_backup_and_is_told(
    path, cluster, monkeypatch, capsys
):
    module = load("_runners/etcd_ha_backups")
    for odd in ODD:
        answers = {E1: with_odd(STATUS, path, odd), E2: {**STATUS, "leader": False}}
        fault = etcd_ha_told.status_fault(answers[E1])
        TRIED["status refused" if fault else "status read"] += 1
        assert (E1 in etcd_ha_backup_report.candidates(answers)) <= (not fault)
        asked = []

        def ask(master, minions, function, got=answers, asked=asked):
            if function == "etcd_ha.status":
                return {minion: {"ret": got[minion]} for minion in minions}
            asked.extend(minions)
            return {minion: {"ret": "no space"} for minion in minions}

        monkeypatch.setattr(etcd_ha_minions, "ask", ask)
        with pytest.raises(CommandExecutionError) as told:
            module._new(None, cluster, [E1, E2])
        assert E2 in asked and (E1 in asked) <= (not fault)
        strange = bool(fault) and not isinstance(answers[E1], str)
        assert (f"{E1} gave an odd answer" in str(told.value)) is strange
        assert (f"{E1} gave an odd answer" in capsys.readouterr().err) is strange


def test_what_an_odd_host_tells_breaks_no_line_of_a_table(cluster):
    now = datetime.datetime(2026, 11, 23, tzinfo=datetime.timezone.utc)
    bad = {**LEAF, "issuer": "x\n\x1b[2Jetcd2.example.com  ok", "purpose": "y" * 10**5}
    report = etcd_ha_report.certificates(cluster, {E1: [bad]}, now)
    assert len(report.text.splitlines()) <= len(cluster.hosts) + 4
    assert "\x1b" not in report.text and max(map(len, report.text.splitlines())) < 2000


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


def test_a_minion_whose_facts_are_odd_is_silent_with_that_cause(monkeypatch):
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
    found = etcd_ha_minions.facts(Master({}, {}), [])
    assert found == {}
    assert re.search(r"with its facts: etcd is of", found.silent["etcd1.example.com"])


def test_a_cluster_whose_record_cannot_be_read_stops_no_other_one(monkeypatch, cluster):
    """It is refused by itself, where it is planned."""
    other = dataclasses.replace(cluster, name="other")

    def record(self, one):
        if one.name == "main":
            raise CommandExecutionError("the master's record of main cannot be read")
        return {"members": {"etcd9.example.com": {}}}

    monkeypatch.setattr(Master, "record", record)
    assert etcd_ha_minions._hosts(Master({}, {}), [cluster, other]) == [
        *cluster.hosts,
        "etcd9.example.com",
    ]


def test_who_is_connected_and_cannot_be_read_is_told_from_who_is_off(monkeypatch, cluster):
    off, odd = cluster.hosts[0], cluster.hosts[1]
    there = [minion for minion in cluster.hosts if minion != off]
    monkeypatch.setattr(etcd_ha_minions, "connected", lambda *_: there)
    monkeypatch.setattr(Master, "modules_digest", lambda self: FACTS["modules"])
    monkeypatch.setattr(Master, "record", lambda self, one: {})
    monkeypatch.setattr(Master, "cache", collections.defaultdict(dict))
    answers = {minion: {"ret": FACTS, "between": (0, 1)} for minion in there}
    answers[odd]["ret"] = "Traceback: no such file"
    monkeypatch.setattr(etcd_ha_minions, "_of_synced", lambda *_: (answers, set()))
    found = etcd_ha_minions.facts(Master({}, {}), [cluster])
    assert set(found) == set(cluster.hosts) - {off, odd} and found.unread == (odd,)
    assert "is not connected" in found.silent[off] and "Traceback" in found.silent[odd]


def test_read_json_raises_only_where_a_file_cannot_be_read(tmp_path):
    for content in (b"", b"\xff", b"[" * 10**5, b'{"a":' * 10**5):
        (tmp_path / "x").write_bytes(content)
        assert etcd_ha_machine.read_json(str(tmp_path / "x")) == {}
    assert etcd_ha_machine.read_json(str(tmp_path / "absent")) == {}
    assert etcd_ha_machine.read_json(str(tmp_path / "x" / "below")) == {}
    with pytest.raises(Unreadable, match="Is a directory"):
        etcd_ha_machine.read_json(str(tmp_path))


@pytest.mark.parametrize(
    "url", ["", "x", "http://h", "http://[", "https://h:99999", "http://:2380"]
)
@pytest.mark.parametrize("name", ["peer_urls", "client_urls"])
def test_a_member_s_url_has_a_host_and_a_port(url, name):
    etcd = {**FACTS["etcd"], "members": [{**MEMBER, name: [url]}]}
    assert etcd_ha_told.facts_fault({**FACTS, "etcd": etcd}) != ""


@pytest.mark.parametrize("release", ["x", "3.6", "3.6.14; rm", "\n"])
@pytest.mark.parametrize("name", ["installed", "version"])
def test_a_release_is_one(release, name):
    etcd = {**FACTS["etcd"], name: release}
    assert etcd_ha_told.facts_fault({**FACTS, "etcd": etcd}) != ""
    assert etcd_ha_told.facts_fault({**FACTS, "etcd": {**etcd, name: ""}}) == ""
