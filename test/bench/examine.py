#!/usr/bin/python3
"""Damaged data, judged by etcd_ha_host_examine and then by etcd itself: `make bench-examine`.

Clusters of three are made for each line of etcd, with keys that are known. One member is stopped or
killed, the other two go on. Then its data is spoiled in one way after another, and for each case

1. the member is started beside the two others, as its unit would do it: the truth;
2. its data is examined, as it lies there after that start if the start has failed;
3. what the plan would do next is done: replaced, or started again and compared.

It scores three things that must not happen: acknowledged keys lost or changed, sound data thrown
away, a verdict that etcd's own start contradicts. Everything is in network namespaces and on a
tmpfs of its own, and nothing is left of it. It needs root. Instead of systemd, which this machine
need not run, a small starter takes the text of the unit: hardening is test/e2e/test_examine.py's.
"""

import argparse
import base64
import collections
import dataclasses
import http.client
import json
import os
import pathlib
import queue
import random
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "_utils"), str(ROOT / "test" / "lab")]

import etcd_ha_data  # noqa: E402
import etcd_ha_host_ended  # noqa: E402
import etcd_ha_host_examine  # noqa: E402
import etcd_ha_host_sandbox  # noqa: E402
import etcd_ha_log  # noqa: E402
from etcd_ha_host_sandbox import State  # noqa: E402
from etcd_ha_lab import artifacts  # noqa: E402

RELEASES = {"3.4": "3.4.23", "3.5": "3.5.33", "3.6": "3.6.14", "3.7": "3.7.1"}
PLACE = pathlib.Path("/run/etcd_ha_bench")
OWNER = ("nobody", "nogroup")
NAMES = ("a", "b", "c")
SUBJECT = "b"
PEERS = {name: f"http://127.0.0.1:{23800 + at}" for at, name in enumerate(NAMES)}
CLIENTS = {name: f"http://127.0.0.1:{23790 + at}" for at, name in enumerate(NAMES)}
CHECK = {
    "3.4": "--experimental-initial-corrupt-check=true",
    "3.5": "--experimental-initial-corrupt-check=true",
    "3.6": "--feature-gates=InitialCorruptCheck=true",
    "3.7": "--feature-gates=InitialCorruptCheck=true",
}
# Clusters of a line: how its member ended, and how often etcd makes a snapshot.
REMEMBERED = "remembered"
BASES = {"stopped": 100000, "killed": 100000, "stopped-snap": 60, "killed-snap": 60}
BASES[REMEMBERED] = 100000
# Seconds for a start beside its peers. A sound one takes less than one.
TRUTH, EXAMINED = 10, 60
# What etcd ends with by a panic.
PANIC = etcd_ha_host_ended.PANIC
NOT_STARTED = {"came": "refused", "code": None, "keys": None, "agrees": None, "words": "foreign"}
BEGAN = time.monotonic()


class BenchError(Exception):
    """What stops the bench; the text says why."""


def say(text):
    print(f"[{time.monotonic() - BEGAN:6.1f} s] {text}", file=sys.stderr, flush=True)


# etcd, started by hand


class Etcd:
    """One member on this machine, in the network namespace of whoever starts it."""

    def __init__(self, programs, line, name, folder, snapshots, state="existing", alone=False):
        self.name, self.folder = name, pathlib.Path(folder)
        others = [name] if alone else NAMES
        peers = ",".join(f"{one}={PEERS[one]}" for one in others)
        flags = {
            "name": name,
            "data-dir": self.folder,
            "listen-peer-urls": PEERS[name],
            "initial-advertise-peer-urls": PEERS[name],
            "listen-client-urls": CLIENTS[name],
            "advertise-client-urls": CLIENTS[name],
            "initial-cluster": peers,
            "initial-cluster-state": state,
            "initial-cluster-token": f"of-{snapshots}",
            "heartbeat-interval": 30,
            "election-timeout": 1000,
            "snapshot-count": snapshots,
            "logger": "zap",
            "quota-backend-bytes": 8 << 30,
        }
        command = [f"{programs}/etcd", *(f"--{flag}={value}" for flag, value in flags.items())]
        if state == "existing":
            command.append(CHECK[line])
        self.log = open(f"{folder}.log", "wb")  # noqa: SIM115
        self.process = subprocess.Popen(
            as_owner(command), stdout=self.log, stderr=subprocess.STDOUT, cwd="/", env={}
        )

    def ask(self, path, body=None, peer=False, timeout=5):
        """POST to the client URL, or GET with a body at the peer's; None without an answer."""
        url = (PEERS if peer else CLIENTS)[self.name]
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=timeout)
        try:
            connection.request("GET" if peer else "POST", path, body=json.dumps(body or {}))
            answer = connection.getresponse()
            text = answer.read()
            return json.loads(text) if answer.status == 200 else None
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def applied(self):
        found = self.ask("/v3/maintenance/status") or {}
        leads = int(found.get("leader", 0))
        # 3.4 has no such field for what is applied, but its index is that of what is committed.
        return int(found.get("raftAppliedIndex", found.get("raftIndex", 0))) if leads else 0

    def keys(self):
        everything = {"key": "AA==", "range_end": "AA==", "serializable": True}
        found = self.ask("/v3/kv/range", everything)
        if found is None:
            return None
        rows = found.get("kvs", [])
        return {
            base64.b64decode(row["key"]).decode("latin-1"): base64.b64decode(
                row.get("value", "")
            ).decode("latin-1")
            for row in rows
        }

    def hash_at(self, revision):
        """As etcd_ha_hashes has it: the hash and the compaction that it is of; None without."""
        found = self.ask("/members/hashkv", {"revision": revision}, peer=True)
        if found is None:
            return None
        return {
            "hash": f"{found['hash']:08x}",
            "compact_revision": found.get("compact_revision", 0),
        }

    def lead(self, members):
        """Have this one lead: a new leader knows of no other how far its log once went."""
        for one in members:
            found = one.ask("/v3/maintenance/status") or {}
            own = self.ask("/v3/maintenance/status") or {}
            if found and found.get("leader") == found["header"]["member_id"] != own["leader"]:
                target = {"targetID": own["header"]["member_id"]}
                if one.ask("/v3/maintenance/transfer-leadership", target) is not None:
                    return True
        return False

    def wait(self, index, seconds):
        """Whether it has applied this entry within so many seconds, and still runs."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            if self.applied() >= index:
                return True
            time.sleep(0.03)
        return False

    def end(self, kill=False):
        if self.process.poll() is None:
            (self.process.kill if kill else self.process.terminate)()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def said(self):
        return pathlib.Path(f"{self.folder}.log").read_text(errors="replace")


def as_owner(command):
    return ["setpriv", "--reuid", OWNER[0], "--regid", OWNER[1], "--clear-groups", *command]


def copy(source, target):
    shutil.rmtree(target, ignore_errors=True)
    command = ["cp", "-a", "--sparse=always", str(source), str(target)]
    subprocess.run(command, check=True)


# Data whose content is known


@dataclasses.dataclass
class Base:
    """A cluster of which one member is down, and all that was ever acknowledged to its clients."""

    line: str
    name: str
    folder: str
    keys: dict
    index: int

    @property
    def snapshots(self):
        return BASES[self.name]


def make(line, programs, folder):
    """The two clusters of a line; of each the member as it was killed, and as it was stopped."""
    found = []
    for snapshots in sorted(set(BASES.values())):
        place = folder / str(snapshots)
        place.mkdir(parents=True)
        os.chmod(folder, 0o755)
        members = {}
        for name in NAMES:
            (place / name).mkdir(mode=0o700)
            shutil.chown(place / name, *OWNER)
            members[name] = Etcd(programs, line, name, place / name, snapshots, "new")
        for one in members.values():
            if not one.wait(1, 60):
                raise BenchError(f"etcd {line} does not start: {one.said()[-1500:]}")
        keys = {}
        _write(members["a"], keys, "early", 60)
        _put(members["a"], keys, "large", "L" * 20000)
        revision = int(members["a"].ask("/v3/maintenance/status")["header"]["revision"])
        members["a"].ask("/v3/kv/compaction", {"revision": str(revision - 20)})
        copy(place / SUBJECT, place / "older")
        _write(members["a"], keys, "late", 120)
        _removed(members["a"], keys, "early6")
        # What it has on disk at this moment is what a power loss leaves.
        time.sleep(0.02)
        os.kill(members[SUBJECT].process.pid, 19)
        copy(place / SUBJECT, place / "killed")
        os.kill(members[SUBJECT].process.pid, 18)
        index = members["a"].applied()
        members[SUBJECT].wait(index, 10)
        members[SUBJECT].end()
        copy(place / SUBJECT, place / "stopped")
        _write(members["a"], keys, "after", 30)
        index = members["a"].applied()
        members["c"].wait(index, 10)
        for one in members.values():
            one.end()
        for name, count in BASES.items():
            if count == snapshots:
                whole = folder / name
                whole.mkdir()
                end = "stopped" if name == REMEMBERED else name.partition("-")[0]
                copy(place / end, whole / SUBJECT)
                for other in ("a", "c", "older"):
                    copy(place / other, whole / other)
                for one in (SUBJECT, "a", "c", "older"):
                    _shorten(whole / one)
                found.append(Base(line, name, str(whole), keys, index))
        shutil.rmtree(place)
    return found


def _shorten(folder):
    """Cut a log's room ahead, 64 MB, to a little: etcd takes any, and copies are quick."""
    for file in (folder / "member/wal").glob("*.tmp"):
        file.unlink()
    end = log_places(wal_file(folder))[1]
    os.truncate(wal_file(folder), (end // 65536 + 2) * 65536)


def _write(member, keys, prefix, count):
    for at in range(count):
        # Every third overwrites what is there.
        _put(
            member, keys, f"{prefix}{at - at % 3}" if at % 3 == 1 else f"{prefix}{at}", f"v{at}" * 9
        )


def _put(member, keys, key, value):
    coded = {"key": _coded(key), "value": _coded(value)}
    for _ in range(50):
        if member.ask("/v3/kv/put", coded) is not None:
            keys[key] = value
            return
        time.sleep(0.1)
    raise BenchError(f"{key} could not be written: {member.said()[-800:]}")


def _removed(member, keys, key):
    if member.ask("/v3/kv/deleterange", {"key": _coded(key)}) is None:
        raise BenchError(f"{key} could not be removed")
    del keys[key]


def _coded(text):
    return base64.b64encode(text.encode()).decode()


# Places that can be spoiled


def wal_file(folder):
    return max((pathlib.Path(folder) / "member/wal").glob("*.wal"))


def log_places(path):
    """Each class of byte of a log: name -> [(offset, length)], of whole records in order."""
    found = collections.defaultdict(list)
    data, at = path.read_bytes(), 0
    names = {1: "metadata", 2: "entry", 3: "state", 4: "checksum", 5: "snapshot"}
    while at + 8 <= len(data):
        (frame,) = struct.unpack_from("<Q", data, at)
        if frame == 0:
            break
        size = frame & ~(0xFF << 56)
        padding = (frame >> 56) & 7 if frame >> 63 else 0
        begin, end = at + 8, at + 8 + size
        kind = names.get(data[begin + 1], "odd")
        found["frame length"].append((at, 7))
        found["frame padding count"].append((at + 7, 1))
        found["record kind"].append((begin, 2))
        place, crc = begin + 3, begin + 2
        while data[place] & 0x80:
            place += 1
        found[f"checksum of {kind}"].append((crc, place + 1 - crc))
        if place + 1 < end:
            found[f"length of {kind}"].append((place + 1, 2))
            held = place + 3
            if held < end:
                found[f"head of {kind}"].append((held, min(8, end - held)))
                if end - held > 12:
                    found[f"body of {kind}"].append((held + 8, end - held - 8))
        if padding:
            found["padding"].append((end, padding))
        at = end + padding
    found["free end of the log"] = [(at, 8), (at + 8, 4000), (at + 4096, 512)]
    return found, at


def database_places(path):
    """Each class of byte of a database."""
    found = collections.defaultdict(list)
    data = path.read_bytes()
    size = 4096
    fields = {"magic": (16, 4), "version": (20, 4), "page size": (24, 4), "flags": (28, 4)}
    fields |= {"root": (32, 16), "freelist": (48, 8), "high water": (56, 8)}
    fields |= {"transaction": (64, 8), "checksum": (72, 8)}
    for page in (0, 1):
        for name, (at, length) in fields.items():
            found[f"meta page: {name}"].append((page * size + at, length))
        found["meta page: rest"].append((page * size + 200, 1000))
    number, pages = 2, len(data) // size
    while number < pages:
        at = number * size
        own, flags, count, over = struct.unpack_from("<QHHI", data, at)
        kind = {1: "branch", 2: "leaf", 16: "freelist"}.get(flags) if own == number else None
        if kind is None:
            found["unused page"].append((at, size))
            number += 1
            continue
        found[f"{kind}: page id"].append((at, 8))
        found[f"{kind}: flags"].append((at + 8, 2))
        found[f"{kind}: count"].append((at + 10, 2))
        found[f"{kind}: overflow"].append((at + 12, 4))
        if kind == "freelist":
            found["freelist: ids"].append((at + 16, max(8, min(count, 400) * 8)))
        else:
            for index in range(count):
                element = at + 16 + index * 16
                found[f"{kind}: element"].append((element, 16))
                if kind == "leaf":
                    _, place, key, value = struct.unpack_from("<IIII", data, element)
                    found["leaf: key"].append((element + place, max(key, 1)))
                    if value:
                        found["leaf: value"].append((element + place + key, value))
        number += 1 + over
    return found


OPERATIONS = ("bit", "zero", "ones", "random")


def spoil(path, operation, at, length, rng):
    """Spoil some bytes of a file in place."""
    with open(path, "r+b") as file:
        if operation == "cut":
            file.truncate(at)
            return
        file.seek(at)
        before = bytearray(file.read(length))
        if not before:
            before = bytearray(length)
        if operation == "bit":
            before[rng.randrange(len(before))] ^= 1 << rng.randrange(8)
        elif operation == "zero":
            before = bytearray(len(before))
        elif operation == "ones":
            before = bytearray(b"\xff" * len(before))
        else:
            before = bytearray(rng.randbytes(len(before)))
        file.seek(at)
        file.write(before)


# Whole files


def lost_tail(part, cut):
    """The log ends before what it once held: at a record's begin, or within one by some bytes."""

    def act(place):
        log = wal_file(place)
        rows = log_places(log)[0]["frame length"]
        at = rows[min(len(rows) - 1, int(len(rows) * part))][0]
        if cut:
            os.truncate(log, at + 5)
        else:
            with open(log, "r+b") as file:
                left = file.seek(0, os.SEEK_END) - at
                file.seek(at)
                file.write(bytes(left))

    return act


def _remove(place):
    shutil.rmtree(place) if place.is_dir() else place.unlink()


def _empty(place):
    place.write_bytes(b"")


def whole_cases(base, others):
    """Cases of whole files: name -> what is done to a copy of the member."""
    folder = pathlib.Path(base.folder)
    db, wal, snap = "member/snap/db", "member/wal", "member/snap"

    def replaced(part, source):
        def act(place):
            _remove(place / part)
            copy(source / part, place / part)

        return act

    def older(count):
        def act(place):
            data = bytearray((place / db).read_bytes())
            data[3 * 4096 : (3 + count) * 4096] = bytes(len(data[3 * 4096 : (3 + count) * 4096]))
            (place / db).write_bytes(data)

        return act

    def rename_wal(place):
        one = wal_file(place)
        one.rename(one.with_name("0000000000000007-0000000000000100.wal"))

    def snaps(act):
        def each(place):
            found = sorted((place / snap).glob("*.snap"))
            if found:
                act(found)

        return each

    found = {
        "nothing": lambda place: None,
        "missing: database": lambda place: _remove(place / db),
        "missing: file of the log": lambda place: _remove(wal_file(place)),
        "missing: log": lambda place: _remove(place / wal),
        "missing: all files of the log": lambda place: [
            _remove(one) for one in (place / wal).iterdir()
        ],
        "missing: snap": lambda place: _remove(place / snap),
        "missing: newest snapshot": snaps(lambda all: _remove(all[-1])),
        "missing: all snapshots": snaps(lambda all: [_remove(one) for one in all]),
        "missing: all but the log": lambda place: _remove(place / snap),
        "empty: database": lambda place: _empty(place / db),
        "empty: file of the log": lambda place: _empty(wal_file(place)),
        "empty: newest snapshot": snaps(lambda all: _empty(all[-1])),
        "renamed: file of the log": rename_wal,
        "20 pages zeroed": older(20),
        "5 pages zeroed": older(5),
        "another member's: database": replaced(db, folder / "a"),
        "another member's: log": replaced(wal, folder / "a"),
        "another member's: all": replaced("member", folder / "a"),
        "an older copy's: database": replaced(db, folder / "older"),
        "an older copy's: log": replaced(wal, folder / "older"),
        "an older copy's: all": replaced("member", folder / "older"),
        "garbage beside: file of the log": lambda place: _empty(place / wal / "0.wal"),
        "garbage beside: snapshot": lambda place: (place / snap / "x.snap").write_bytes(b"x" * 99),
    }
    if base.name == REMEMBERED:
        for part in range(1, 21):
            found[f"lost tail: cut after {part / 20:.0%}"] = lost_tail(part / 20, True)
            found[f"lost tail: zero after {part / 20:.0%}"] = lost_tail(part / 20, False)
    for other in others:
        if other.line > base.line and other.name == base.name:
            source = pathlib.Path(other.folder) / SUBJECT
            found[f"newer line {other.line}: database"] = replaced(db, source)
            found[f"newer line {other.line}: log"] = replaced(wal, source)
            found[f"newer line {other.line}: all"] = replaced("member", source)
        if other.line == base.line and other.name.endswith("-snap") != base.name.endswith("-snap"):
            source = pathlib.Path(other.folder) / SUBJECT
            if other.name.partition("-")[0] == base.name.partition("-")[0]:
                found["another cluster's: database"] = replaced(db, source)
                found["another cluster's: log"] = replaced(wal, source)
                found["another cluster's: all"] = replaced("member", source)
    return found


def byte_cases(base):
    """Each class of byte of this base: (class, file, offset, length)."""
    place = pathlib.Path(base.folder) / SUBJECT
    log = wal_file(place)
    places, end = log_places(log)
    found = {f"log, {name}": (log, rows) for name, rows in places.items()}
    database = place / "member/snap/db"
    found |= {f"database, {k}": (database, rows) for k, rows in database_places(database).items()}
    kept = sorted((place / "member/snap").glob("*.snap"))
    if kept:
        size = kept[-1].stat().st_size
        found["snapshot, checksum"] = (kept[-1], [(0, 6)])
        found["snapshot, head"] = (kept[-1], [(6, 10)])
        found["snapshot, body"] = (kept[-1], [(16, size - 16)])
    cuts = {"log": (log, end), "database": (database, database.stat().st_size)}
    if kept:
        cuts["snapshot"] = (kept[-1], size)
    return found, cuts


def drawn(base, rng, count):
    """As many cases of bytes, spread evenly over classes, places in the file and operations."""
    classes, cuts = byte_cases(base)
    names = sorted(classes)
    found = []
    for name, (file, end) in cuts.items():
        for part in (0.0, 0.1, 0.5, 0.9, 0.999, rng.random(), rng.random()):
            at = int(end * part)
            if part == 0.5:
                at -= at % 4096
            found.append((f"{name}, cut", "cut", file, at, 0))
    while len(found) < count:
        name = names[len(found) % len(names)]
        file, rows = classes[name]
        # The first and the last one are special, and so are those that were written last.
        at, length = rng.choice((rows[0], rows[-1], rng.choice(rows), rng.choice(rows[-8:])))
        operation = OPERATIONS[(len(found) // len(names)) % len(OPERATIONS)]
        if length > 16 and rng.random() < 0.5:
            inner = rng.randrange(length - 8)
            at, length = at + inner, 8
        found.append((name, operation, file, at, length))
    return found[:count]


# One case


class Sandbox:
    """Starts what a unit's text says as systemd would, but for its hardening."""

    process = None

    def start(self, text):
        found = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
        words = [w.replace("$$", "$").replace("%%", "%") for w in shlex.split(found["ExecStart"])]
        self.log = open(found["StandardOutput"].removeprefix("file:"), "ab")  # noqa: SIM115
        self.process = subprocess.Popen(
            ["unshare", "--net", *as_owner(words)],
            cwd=found["WorkingDirectory"],
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def state(self):
        code = self.process.poll()
        if code is None:
            return State(True)
        return State(False, code=code) if code >= 0 else State(False, signal=-code)

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.log.close()
            self.process = None

    def install(self):
        # A container may not see that of process 1; this one is as little the sandbox's.
        etcd_ha_host_sandbox.host_namespace = lambda: os.readlink("/proc/self/ns/net")
        etcd_ha_host_sandbox.hold = lambda: None
        etcd_ha_host_sandbox.start = self.start
        etcd_ha_host_sandbox.state = self.state
        etcd_ha_host_sandbox.stop = self.stop
        etcd_ha_host_sandbox.release = self.stop


def remember_controls():
    """Start without data but once: it is the same for each case, and costs as much as the case."""
    started, known = etcd_ha_host_examine._started, []

    def once(subject, watch, with_data):
        if with_data:
            return started(subject, watch, with_data)
        if not known:
            known.append(started(subject, watch, with_data))
        return known[0]

    etcd_ha_host_examine._started = once


class Worker:
    """Judges cases of one line, in a network namespace of its own."""

    def __init__(self, line, programs, release):
        self.line, self.programs, self.release = line, programs, release
        self.place = PLACE / f"w{os.getpid()}"
        self.place.mkdir()
        os.chmod(self.place, 0o755)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        self.peers, self.base = {}, None
        Sandbox().install()
        remember_controls()

    def begin(self, base):
        """Have the others of this cluster run."""
        # Each start of a member is an entry in the log (it publishes its URLs): what the leader
        # knows of a member is of its last start, whatever its data was.
        if self.peers and self.base == base and base.name != REMEMBERED and self._sound():
            self._forget()
            return
        self.end()
        self.base = base
        for name in ("a", "c"):
            copy(pathlib.Path(base.folder) / name, self.place / name)
            self.peers[name] = self._etcd(name)
        for one in self.peers.values():
            if not one.wait(base.index, 60):
                raise BenchError(f"the others do not start: {one.said()[-2000:]}")
        self.good = pathlib.Path(base.folder) / SUBJECT
        self.ids = etcd_ha_log.identity(f"{self.good}/member/wal")
        if base.name == REMEMBERED:
            self._remember()

    def _remember(self):
        """Have the leader know how far this member's log goes, which it must never fall behind."""
        copy(self.good, self.place / SUBJECT)
        one = self._etcd(SUBJECT)
        if not one.wait(self.base.index, 60):
            raise BenchError(f"sound data does not start: {one.said()[-2000:]}")
        one.end()
        copy(self.place / SUBJECT, self.place / "good")
        self.good = self.place / "good"

    def _forget(self):
        """Have another one lead, which does not know how far this member's log went."""
        members = list(self.peers.values())
        moved = any(one.lead([other]) for one in members for other in members if one is not other)
        if not moved:
            self.end()
            self.begin(self.base)

    def _etcd(self, name):
        snapshots = self.base.snapshots
        return Etcd(self.programs, self.line, name, self.place / name, snapshots)

    def _sound(self):
        """Whether the others still run and have what they had."""
        found = [one.process.poll() is None and one.keys() for one in self.peers.values()]
        return all(keys == self.base.keys for keys in found)

    def _has_lost(self):
        """Whether one of the others tells other keys; one that is too slow has lost nothing."""
        told = [one.keys() for one in self.peers.values()]
        return any(keys is not None and keys != self.base.keys for keys in told)

    def end(self):
        for one in self.peers.values():
            one.end(kill=True)
        self.peers = {}

    def case(self, base, name, operation, act):
        """What becomes of one case, as a dict."""
        self.begin(base)
        place = self.place / SUBJECT
        copy(self.good, place)
        act(place)
        etcd_ha_data.give(str(place), *OWNER)
        copy(place, self.place / "before")
        # Without any log etcd asks its peers and begins as a member that never ran: no start from
        # this data, whatever comes of it.
        logless = not list(place.glob("member/wal/*-*.wal"))
        found = {"line": base.line, "base": base.name, "class": name, "operation": operation}
        first = self._start() if self._is_own(place) else dict(NOT_STARTED)
        found |= {f"start_{key}": value for key, value in first.items()}
        if first["came"] != "ended":
            copy(self.place / "before", place)
        verdict = self._examined(first["code"])
        found |= {"verdict": verdict.verdict, "words": verdict.words, "index": verdict.index}
        found["compared"] = verdict.compared
        found |= self._followed(verdict, first, logless)
        return found

    def _is_own(self, place):
        """Whether the plan starts it: data of a member that runs elsewhere is foreign to a host."""
        try:
            return etcd_ha_log.identity(f"{place}/member/wal") == self.ids
        except etcd_ha_log.LogError:
            return True

    def _start(self):
        """Start it beside its peers: what etcd itself makes of the data."""
        one = self._etcd(SUBJECT)
        came = one.wait(self.base.index, TRUTH)
        if came:
            # What a moment later ends by what the leader sends has not come.
            time.sleep(0.1)
        ended = one.process.poll()
        found = {"came": "up" if came else "hangs", "code": None, "keys": None, "words": ""}
        if ended is not None:
            found |= {"came": "ended", "code": ended}
        else:
            keys = one.keys()
            if keys is None and one.process.poll() is not None:
                found |= {"came": "ended", "code": one.process.poll()}
            found["keys"] = keys == self.base.keys
            hashes = [member.hash_at(0) for member in (one, *self.peers.values())]
            found["agrees"] = all(row == hashes[0] for row in hashes) and hashes[0] is not None
        one.end()
        if found["came"] != "up":
            found["words"] = etcd_ha_host_examine.etcd_ha_etcd_log.decisive(one.said())[:300]
        return found

    def _examined(self, code):
        place = str(self.place / SUBJECT)
        program = f"{self.programs}/etcd"
        subject = etcd_ha_host_examine.Subject(place, "", program, self.release, OWNER, self.ids)
        found = etcd_ha_host_examine.examine(subject, EXAMINED)
        if found.verdict == etcd_ha_host_examine.READABLE:
            found = etcd_ha_host_examine.shortened(found, subject, code)
            found = etcd_ha_host_examine.misplaced(found, subject)
        if found.verdict == etcd_ha_host_examine.READABLE and found.hash:
            rows = [one.hash_at(found.revision) for one in self.peers.values()]
            listed = [{"id": name, "name": name, "learner": False} for name in NAMES]
            rows = [row for row in rows if row]
            found = etcd_ha_host_examine.compared(found, listed, rows)
        return found

    def _followed(self, verdict, first, logless):
        """What the plan does next, and the score of it."""
        unusable = bool(etcd_ha_host_examine.unusable(verdict))
        served = first["came"] == "up"
        sound = served and first["keys"] and first["agrees"]
        found = {"lost": False, "thrown": False, "contradicted": False, "stuck": False}
        # Replaced: it then has what the others have.
        found["lost"] = self._has_lost()
        if served and not unusable and not first["keys"]:
            # It runs with other keys. etcd_ha_member.compare finds that by the hash.
            found["lost"] |= bool(first["agrees"])
        found["thrown"] = unusable and sound and not logless
        if verdict.verdict == etcd_ha_host_examine.READABLE and first["came"] == "ended":
            # By a leader that knows better, a log that was cut cleanly is refused in a panic, and
            # nothing else shows that: it is started again, fails again, and stays as it is.
            found["stuck"] = self.base.name == REMEMBERED and first["code"] == PANIC
            found["contradicted"] = not found["stuck"]
        elif verdict.verdict == etcd_ha_host_examine.DAMAGED:
            found["contradicted"] = served and not logless
        return found


def work(line, programs, release):
    """A worker's loop: cases come as lines of JSON, and so do the answers go."""
    worker, bases = Worker(line, programs, release), {}
    wholes = {}
    for text in sys.stdin:
        asked = json.loads(text)
        if "bases" in asked:
            every = [Base(**one) for one in asked["bases"]]
            bases = {(one.line, one.name): one for one in every}
            wholes = {key: whole_cases(one, every) for key, one in bases.items()}
            continue
        key = (line, asked["base"])
        if asked["operation"] == "whole":
            act = wholes[key][asked["class"]]
        else:
            act = _byte_act(asked, bases[key])
        try:
            answer = worker.case(bases[key], asked["class"], asked["operation"], act)
            answer["case"] = asked["case"]
            answer["at"] = asked.get("at")
        except Exception as why:
            answer = {"case": asked["case"], "failed": repr(why)}
            worker.end()
        print(json.dumps(answer), flush=True)
    worker.end()
    shutil.rmtree(worker.place, ignore_errors=True)


def _byte_act(asked, base):
    inside = pathlib.Path(asked["file"]).relative_to(pathlib.Path(base.folder) / SUBJECT)

    def act(place):
        rng = random.Random(asked["seed"])
        spoil(place / inside, asked["operation"], asked["at"], asked["length"], rng)

    return act


# All of them


def listed_cases(bases, line, size, seed):
    rng = random.Random(f"{seed}/{line}")
    found = []
    own = [base for base in bases if base.line == line]
    for base in own:
        # Of what the leader remembers, whole files alone: others' data is the other bases' matter.
        for name in whole_cases(base, bases):
            found.append({"base": base.name, "class": name, "operation": "whole"})
    spread = [base for base in own if base.name != REMEMBERED]
    each = max(0, size - len(found)) // len(spread)
    for base in spread:
        for name, operation, file, at, length in drawn(base, rng, each):
            row = {"base": base.name, "class": name, "operation": operation, "file": str(file)}
            found.append({**row, "at": at, "length": length, "seed": rng.random()})
    for at, row in enumerate(found):
        row["case"] = f"{line}/{seed}/{at}"
    # Cases of one base follow each other: its peers then run on.
    return found


class Pool:
    """Workers of one line, each fed with the next case when it has answered."""

    def __init__(self, line, programs, release, bases, count):
        words = [sys.executable, __file__, "--worker", line, str(programs), release]
        self.rows = queue.Queue()
        self.bases = {"bases": [dataclasses.asdict(base) for base in bases]}
        self.words, self.count = ["unshare", "--net", *words], count

    def run(self, cases, tell):
        waiting = [queue.SimpleQueue() for _ in range(self.count)]
        share = -(-len(cases) // self.count)
        for at, one in enumerate(waiting):
            for case in cases[at * share : (at + 1) * share]:
                one.put(case)
        threads = [threading.Thread(target=self._feed, args=(one,), daemon=True) for one in waiting]
        for thread in threads:
            thread.start()
        found = []
        while len(found) < len(cases):
            row = self.rows.get()
            if row is None:
                break
            found.append(row)
            tell(row, len(found))
            if len(found) == 8 and all("failed" in one for one in found):
                raise BenchError("no case can be judged")
        for thread in threads:
            thread.join()
        return found

    def _feed(self, cases):
        with subprocess.Popen(
            self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            print(json.dumps(self.bases), file=process.stdin, flush=True)
            while not cases.empty():
                case = cases.get()
                print(json.dumps(case), file=process.stdin, flush=True)
                answer = process.stdout.readline()
                if not answer:
                    self.rows.put({"case": case["case"], "failed": "its worker has ended"})
                    self.rows.put(None)
                    return
                self.rows.put(json.loads(answer))
            process.stdin.close()


def programs_of(line):
    artifact = artifacts.get(RELEASES[line])
    place = PLACE / "bin" / line
    place.mkdir(parents=True)
    command = ["tar", "-C", str(place), "--strip-components=1", "-xzf", str(artifact.archive)]
    subprocess.run(command, check=True)
    return place, artifact.version


FAULTS = ("lost", "thrown", "contradicted")


def report(rows, seconds):
    """The table: a row for each line and kind of place."""
    print(f"{'line':5} {'what':34} {'cases':>5} {'readable':>8} {'damaged':>8} {'differs':>8} "
          f"{'unproven':>8} | {'up':>5} {'ended':>5} {'hangs':>5} {'refused':>7} | {'lost':>4} "
          f"{'thrown':>6} {'contra.':>7} {'stuck':>5}")  # fmt: skip
    groups = collections.defaultdict(list)
    for row in rows:
        groups[row["line"], re.split("[,:]", row["class"])[0]].append(row)
        groups[row["line"], "all"].append(row)
    for (line, kind), own in sorted(groups.items(), key=lambda one: (one[0][0], one[0][1])):
        verdicts = collections.Counter(row["verdict"] for row in own)
        starts = collections.Counter(row["start_came"] for row in own)
        faults = [sum(bool(row[name]) for row in own) for name in (*FAULTS, "stuck")]
        print(f"{line:5} {kind:34} {len(own):5} {verdicts['readable']:8} {verdicts['damaged']:8} "
              f"{verdicts['differs']:8} {verdicts['unproven']:8} | {starts['up']:5} "
              f"{starts['ended']:5} {starts['hangs']:5} {starts['refused']:7} | {faults[0]:4} "
              f"{faults[1]:6} {faults[2]:7} {faults[3]:5}")  # fmt: skip
    print(f"{len(rows)} cases in {seconds:.0f} s")


def large(mib, line):
    """Seconds for the examination of this much data, on the disk of this machine."""
    programs, release = programs_of(line)
    place = pathlib.Path("/var/tmp/etcd_ha_bench")
    shutil.rmtree(place, ignore_errors=True)
    data = place / "a"
    data.mkdir(parents=True)
    os.chmod(place, 0o755)
    shutil.chown(data, *OWNER)
    try:
        one = Etcd(programs, line, "a", data, 10000, "new", alone=True)
        if not one.wait(1, 60):
            raise BenchError(f"etcd does not start: {one.said()[-1500:]}")
        rng = random.Random(mib)
        for at in range(mib * 2):
            _put(one, {}, f"key{at}", rng.randbytes(3 << 17).hex()[: 1 << 19])
            if at % 256 == 0:
                say(f"{at // 2} of {mib} MiB are written")
        one.end()
        Sandbox().install()
        subject = etcd_ha_host_examine.Subject(str(data), "", f"{programs}/etcd", release, OWNER)
        size = etcd_ha_host_examine.etcd_ha_host_copy.size(str(data), "") >> 20
        began = time.monotonic()
        found = etcd_ha_host_examine.examine(subject, 3600, say)
        print(f"{size} MiB of etcd {release} (database and log): {found.verdict} after "
              f"{time.monotonic() - began:.1f} s")  # fmt: skip
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return 0


def main():
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--size", type=int, default=500, help="cases for each line")
    words.add_argument("--seed", default="1")
    words.add_argument("--lines", default=",".join(RELEASES))
    words.add_argument("--workers", type=int, default=4)
    words.add_argument("--case", default="", help="only the case of this name, as a run prints it")
    words.add_argument("--keep", default="", help="a file for all results, as JSON lines")
    words.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    words.add_argument("--large", type=int, help="measure the examination of so many MiB instead")
    words.add_argument("--no-newer", dest="newer", action="store_false", help="no newer lines")
    words.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = words.parse_args()
    if asked.worker:
        return work(*asked.worker)
    if os.geteuid() != 0:
        raise BenchError("it needs root, for namespaces and a tmpfs")
    lines = asked.lines.split(",")
    if not asked.inside:
        for line in (one for one in RELEASES if one in lines or asked.newer):
            artifacts.get(RELEASES[line])
        PLACE.mkdir(parents=True, exist_ok=True)
        # Whatever ends this ends all that was started in there.
        apart = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command = [*apart, sys.executable, __file__, *sys.argv[1:], "--inside"]
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        with subprocess.Popen(command) as process:
            try:
                return process.wait()
            finally:
                # unshare itself is deaf to all but this while its child runs.
                process.kill()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8g,mode=755", "tmpfs", PLACE], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    if asked.large:
        return large(asked.large, lines[0])
    bases, programs = [], {}
    for line in RELEASES:
        if line in lines or (asked.newer and line > min(lines)):
            programs[line] = programs_of(line)
            bases += make(line, programs[line][0], PLACE / f"made{line}")
            say(f"data of {line} is made")
    rows = []
    for line in lines:
        cases = listed_cases(bases, line, asked.size, asked.seed)
        cases = [one for one in cases if asked.case in ("", one["case"])]

        whole = len(cases)

        def tell(row, done, whole=whole, line=line):
            if asked.keep:
                with open(asked.keep, "a") as kept:
                    print(json.dumps(row), file=kept)
            if "failed" in row or asked.case:
                say(json.dumps(row))
            if done % 50 == 0:
                say(f"{line}: {done} of {whole}")

        pool = Pool(line, *programs[line], bases, asked.workers)
        rows += pool.run(cases, tell)
    failed = [row for row in rows if "failed" in row]
    rows = [row for row in rows if "failed" not in row]
    report(rows, time.monotonic() - BEGAN)
    faults = [row for row in rows if any(row[name] for name in FAULTS)]
    for row in faults:
        kinds = ", ".join(name for name in FAULTS if row[name])
        print(f"FAULT ({kinds}): {row['case']} {row['base']}, {row['class']} {row['operation']}: "
              f"{row['verdict']} {row['words'][:90]!r} but {row['start_came']} "
              f"{row['start_words'][:90]!r}")  # fmt: skip
    if faults or failed:
        print(f"{len(faults)} faults, {len(failed)} cases could not be judged")
    return 1 if faults or failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as why:
        sys.exit(f"bench-examine: {why}")
