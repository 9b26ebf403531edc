"""``etcd_ha.cleaned``: what it removes, what it leaves, and on which hosts it does nothing."""

import os

import etcd_ha_client
import etcd_ha_common_process
import etcd_ha_common_systemd
import etcd_ha_etcdctl
import etcd_ha_faces
import etcd_ha_host
import etcd_ha_host_clean
import etcd_ha_host_record
import etcd_ha_progress
import pytest
import systemd_units
from etcd_ha_common_errors import Failed
from etcd_ha_host_clean import HOSTS_BEGIN, HOSTS_END, Places
from faces import ROOT, load
from salt.exceptions import CommandExecutionError

OURS = "# Kept by Salt (etcd_ha); a change made here is undone.\n"
BLOCK = f"{HOSTS_BEGIN}\n192.168.200.52 etcd1.example.com etcd1\n{HOSTS_END}\n"
MEMBER = "etcd3.example.com"
# What must outlive it, below the host's root.
KEPT = {
    "var/lib/etcd.removed-20261201-100000/member/wal/0.wal": "data",
    "var/lib/etcd_ha/snapshots/main-before.db": "data",
    "var/lib/etcd_ha/kept/20261101/etc/default/etcd": "of others",
    "var/backups/etcd_ha/main.db": "data",
    "etc/pki/etcd_ha/main/ca.key": "the CA's",
    "etc/etcd/notes.txt": "of a person",
    "opt/etcd/README": "of a person",
    "usr/local/bin/other": "of a person",
    "etc/systemd/system/etcd.service.d/share.conf": "[Service]\nCPUWeight=100\n",
    "etc/haproxy/other.cfg": "of a person",
}
GONE = {
    "etc/default/etcd": f"{OURS}ETCD_DATA_DIR=@/var/lib/etcd\n"
    "ETCD_TRUSTED_CA_FILE=@/etc/etcd/pki/ca.crt\n"
    "ETCD_INITIAL_ADVERTISE_PEER_URLS=https://192.168.200.63:2380\n",
    "etc/systemd/system/etcd.service": f"{OURS}[Service]\nExecStart=@/opt/etcd/current/etcd\n",
    "etc/systemd/system/etcd_ha-backup.timer": OURS,
    "etc/profile.d/etcdctl.sh": OURS,
    "etc/haproxy/haproxy.cfg": OURS,
    "etc/etcd/etcdctl.env": OURS,
    "etc/etcd/backup.json": "{}",
    "etc/etcd/pki/ca.crt": "pem",
    "etc/etcd/pki/server.crt": "pem",
    "etc/etcd/pki/server.key": "key",
    "etc/etcd/pki/admin.key": "key",
    "etc/etcd/pki/next/server.key": "key",
    "etc/etcd/main/check.key": "key",
    "etc/etcd/main/check.pem": "key",
    "etc/etcd/main/ca.crt": "pem",
    "opt/etcd/3.6.14/etcd": "program",
    "opt/etcd/3.6.14/etcdctl": "program",
    "opt/etcd/3.5.33/etcd": "program",
    "var/lib/etcd_ha/host.json": '{"digest": ""}',
    "var/lib/etcd_ha/in_force/host.json": "{}",
    "usr/local/lib/etcd_ha/backup.py": OURS,
}


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A retired host; ``root`` is its file system, ``apply`` the state, ``calls`` programs'."""
    root = tmp_path / "host"

    class Host:
        pillar, etcds, units, listed, answering = {}, [], {}, [], None

    found = Host()
    found.calls, found.root = [], root
    for path, text in {**KEPT, **GONE}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text.replace("@", str(root)))
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{BLOCK}::1 localhost\n")
    (root / "opt/etcd/current").symlink_to(root / "opt/etcd/3.6.14")
    (root / "usr/local/bin/etcd").symlink_to(root / "opt/etcd/current/etcd")
    (root / "usr/local/bin/etcdctl").symlink_to("/usr/bin/etcdctl")
    anchors = root / "usr/local/share/ca-certificates"
    anchors.mkdir(parents=True)
    (anchors / "etcd_ha_main.crt").symlink_to(root / "etc/etcd/pki/ca.crt")
    (anchors / "mine.crt").write_text("pem")

    def at(path):
        return str(root / path.lstrip("/"))

    os_data = {
        "keepalived": {"service": "keepalived", "config": at("etc/keepalived/keepalived.conf")},
        "haproxy": {"config": at("etc/haproxy/haproxy.cfg")},
        "nginx": {"config": at("etc/nginx/nginx.conf")},
        "profile_dir": at("etc/profile.d"),
        "trust": {"dir": str(anchors), "command": "update-ca-certificates"},
    }
    module = load("_states/etcd_ha_clean", grains={"id": MEMBER})
    for name in ("UNITS", "HOSTS", "CONFIG_DIR", "INSTALL_DIR", "BIN_DIR"):
        monkeypatch.setattr(module, name, at(getattr(module, name)))
    for owner, name in (
        (etcd_ha_client, "UNIT_FILE"),
        (etcd_ha_client, "ENVIRONMENT_FILE"),
        (etcd_ha_host, "BALANCER_CONFIG_DIR"),
        (module.etcd_ha_machine, "MARK_FILE"),
        (module.etcd_ha_host_in_force, "FILE"),
        (module.etcd_ha_host_examine, "VERDICT"),
        (module.etcd_ha_host_paused, "FOLDER"),
        (module.etcd_ha_host_paused, "UNITS"),
        (module.etcd_ha_backup_program, "FOLDER"),
        (module.etcd_ha_virtual, "CHECK"),
        (module.etcd_ha_virtual, "NONLOCAL"),
    ):
        monkeypatch.setattr(owner, name, at(getattr(owner, name)))
    monkeypatch.setattr(etcd_ha_host_record, "read", lambda: found.record)
    monkeypatch.setattr(etcd_ha_progress, "unfinished", lambda: "")
    monkeypatch.setattr(etcd_ha_client, "certain_mark", lambda: found.mark)
    monkeypatch.setattr(etcd_ha_client, "mark", dict)
    monkeypatch.setattr(etcd_ha_client, "others", lambda _: found.others)

    def members(*_):
        if found.listed is None:
            raise etcd_ha_etcdctl.EtcdctlError("no answer")
        return found.listed

    def status(*_):
        if found.answering is None:
            raise etcd_ha_etcdctl.EtcdctlError("no answer")
        return found.answering

    monkeypatch.setattr(etcd_ha_client, "members", members)
    monkeypatch.setattr(etcd_ha_client, "status", status)
    found.record, found.mark, found.others = {}, {}, ""

    def unit(name, *_):
        return systemd_units.unit(name, **found.units.get(name, {}))

    monkeypatch.setattr(etcd_ha_common_systemd, "unit", unit)
    monkeypatch.setattr(etcd_ha_faces, "unit", unit)
    systemctl = lambda *words, **_: found.calls.append(words)  # noqa: E731
    monkeypatch.setattr(etcd_ha_common_systemd, "systemctl", systemctl)
    run = lambda words, *_, **__: found.calls.append(tuple(words))  # noqa: E731
    monkeypatch.setattr(etcd_ha_common_process, "run", run)

    def wanted_host():
        if found.fault:
            raise CommandExecutionError(found.fault)
        return {"clusters": found.clusters}

    found.fault, found.clusters = "", []

    def apply(test=False):
        module.__pillar__ = found.pillar
        module.__opts__ = {"test": test}
        module.__salt__ = {
            "etcd_ha.os_data": lambda: os_data,
            "etcd_ha.etcds": lambda: found.etcds,
            "etcd_ha.wanted_host": wanted_host,
        }
        return module.cleaned("nothing of etcd_ha is left here")

    found.apply = apply
    return found


def tree(root):
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        found[name] = (
            os.readlink(path) if path.is_symlink() else path.is_file() and path.read_text()
        )
    return found


def test_all_that_the_formula_left_goes_and_nothing_else(host):
    done = host.apply()
    assert done["result"] is True, done
    there = tree(host.root)
    assert [path for path in GONE if path in there] == []
    assert {path: there.get(path) for path in KEPT} == KEPT
    assert there["etc/hosts"] == "127.0.0.1 localhost\n::1 localhost\n"
    assert "usr/local/bin/etcd" not in there and "opt/etcd/current" not in there
    assert there["usr/local/bin/etcdctl"] == "/usr/bin/etcdctl"
    anchors = "usr/local/share/ca-certificates"
    assert f"{anchors}/etcd_ha_main.crt" not in there and f"{anchors}/mine.crt" in there
    assert "etc/etcd/pki" not in there and "etc/etcd/main" not in there
    assert ("daemon-reload",) in host.calls
    assert any("update-ca-certificates" in call for call in host.calls)


def test_a_second_run_has_no_changes(host):
    host.apply()
    host.calls.clear()
    before = tree(host.root)
    again = host.apply()
    assert (again["result"], again["changes"], host.calls) == (True, {}, [])
    assert host.apply(test=True)["result"] is True
    assert tree(host.root) == before


def test_a_test_changes_nothing_and_tells_what_would_go(host):
    before = tree(host.root)
    told = host.apply(test=True)
    assert told["result"] is None and tree(host.root) == before and host.calls == []
    done = host.apply()
    assert told["changes"] == done["changes"]


def test_a_timer_that_runs_is_stopped_first(host):
    host.units = {"etcd_ha-backup.timer": {"state": "active", "file_state": "enabled"}}
    host.apply()
    stopped = ("stop", "etcd_ha-backup.timer")
    assert stopped in host.calls and host.calls.index(stopped) < host.calls.index(
        ("daemon-reload",)
    )


def test_files_of_others_at_the_same_places_stay(host):
    """Somebody set up an etcd or a HAProxy of their own since."""
    own = {"etc/default/etcd": "ETCD_NAME=mine\n", "etc/haproxy/haproxy.cfg": "global\n"}
    own["etc/systemd/system/etcd.service"] = "[Service]\nExecStart=/usr/bin/etcd\n"
    for path, text in own.items():
        (host.root / path).write_text(text)
    host.etcds = [{"pid": 7, "by_formula": False, "program": "/usr/bin/etcd"}]
    host.units = {"etcd.service": {"pid": 7}}
    assert host.apply()["result"] is True
    there = tree(host.root)
    assert {path: there.get(path) for path in own} == own
    assert not any("etcd.service" in call for call in host.calls)


def in_pillar(host):
    host.pillar, host.clusters = {"etcd_ha": {"clusters": {}}}, ["main"]


def faulty(host):
    host.pillar, host.fault = {"etcd_ha": {"clusters": 5}}, "etcd_ha:clusters is 5"


def recorded(host):
    host.record = {"cluster": "main"}


def running(host):
    host.etcds = [{"pid": 7, "by_formula": True, "program": ""}]


def running_program(host):
    program = str(host.root / "opt/etcd/3.6.14/etcd")
    host.etcds = [{"pid": 7, "by_formula": False, "program": program}]


def running_unit(host):
    host.units = {"etcd.service": {"pid": 7}}


def with_data(host):
    wal = host.root / "var/lib/etcd/member/wal"
    wal.mkdir(parents=True)
    (wal / "0.wal").write_text("log")


def balancing(host):
    host.mark = {"balancer": {"cluster": "main"}}


def listed(host):
    host.others = "https://192.168.200.52:2379"
    host.listed = [{"peer_urls": ["https://192.168.200.63:2380"]}]


def without_quorum(host):
    host.others = "https://192.168.200.52:2379"
    host.listed, host.answering = None, [{"leader": ""}]


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (in_pillar, f"the pillar names {MEMBER} in main"),
        (faulty, "etcd_ha:clusters is 5"),
        (recorded, f"a record says that {MEMBER} is a member of main"),
        (running, "etcd still runs here"),
        (running_program, "etcd still runs here"),
        (running_unit, "etcd still runs here"),
        (with_data, "it was not retired"),
        (balancing, "is still a load balancer"),
        (listed, f"its cluster still lists {MEMBER}"),
        (without_quorum, f"do not tell whether {MEMBER} is one of them (no answer)"),
    ],
)
@pytest.mark.parametrize("test", [False, True])
def test_a_host_that_has_not_left_is_refused_and_nothing_is_changed(host, state, says, test):
    state(host)
    before = tree(host.root)
    told = host.apply(test)
    assert (told["result"], told["changes"]) == (False, {})
    assert says in told["comment"] and told["comment"].endswith("Nothing was changed")
    assert tree(host.root) == before and host.calls == []


def test_a_mark_that_is_broken_is_refused(host, monkeypatch):
    def broken():
        raise Failed("the mark is broken")

    monkeypatch.setattr(etcd_ha_client, "certain_mark", broken)
    assert host.apply()["result"] is False and (host.root / "etc/default/etcd").exists()


@pytest.mark.parametrize("answering", [None, []])
def test_a_retired_host_whom_nobody_answers_any_more_can_be_cleaned(host, answering):
    host.others, host.listed = "https://192.168.200.52:2379", None
    host.answering = answering
    assert host.apply()["result"] is True


def test_what_fails_half_way_tells_what_was_done_and_goes_on_later(host, monkeypatch):
    real, removed = os.unlink, []

    def unlink(path, **more):
        if not more and len(removed) == 5:
            raise OSError("read-only file system")
        removed.extend([] if more else [path])
        real(path, **more)

    monkeypatch.setattr(os, "unlink", unlink)
    told = host.apply()
    assert told["result"] is False and "Run this again" in told["comment"]
    assert set(removed) <= set(told["changes"])
    monkeypatch.setattr(os, "unlink", real)
    # What tells where the rest lies is still there.
    assert (host.root / "etc/default/etcd").exists()
    assert host.apply()["result"] is True
    assert [path for path in GONE if path in tree(host.root)] == []


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"a\n{BLOCK}b\n", "a\nb\n"),
        (BLOCK, ""),
        ("a\nb\n", "a\nb\n"),
        ("", ""),
        (f"a\n{HOSTS_BEGIN}\nb\n", f"a\n{HOSTS_BEGIN}\nb\n"),
        (f"a\n{HOSTS_END}\n{HOSTS_BEGIN}\nb\n", f"a\n{HOSTS_END}\n{HOSTS_BEGIN}\nb\n"),
    ],
)
def test_only_a_whole_block_is_taken_from_the_hosts_file(text, left):
    assert etcd_ha_host_clean.without_block(text) == left


def test_the_marks_of_the_block_are_those_of_the_states():
    text = (ROOT / "etcd_ha" / "hosts" / "init.sls").read_text()
    assert f'marker_start: "{HOSTS_BEGIN}"' in text and f'marker_end: "{HOSTS_END}"' in text


def test_another_directory_of_releases_and_programs_is_known_by_the_pillar(host):
    places = Places("", "", (), (), (), "", (str(host.root / "opt/etcd"),), (), "", "")
    assert f"{host.root}/opt/etcd/3.5.33" in etcd_ha_host_clean.left(places).paths
    assert f"{host.root}/opt/etcd/README" not in etcd_ha_host_clean.left(places).paths
