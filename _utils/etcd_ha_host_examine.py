"""Whether a member's data can be read: etcd itself is asked, on a copy, in a controlled experiment.

The same program is started on a copy of the data with a configuration of the least, as etcd's user,
without any network (etcd_ha_host_sandbox). It has no peers there, so it is nobody's second
incarnation, and needs none: without a leader it applies what it knows to be committed, its metrics
answer, and so does the hash of its keys, which peers are told before there is a leader
(server/etcdserver/corrupt.go, HashKVHandler). For the hash it reads every key and every value.
``force-new-cluster`` would be another start than the one in question: it drops entries, rewrites
the log, and takes members out.

Three things can come of it: **readable**, **damaged** (it ends by itself), or **unproven**. It is
damage only where the same program does start in the same place without any data.

The verdict is kept with what the data is known by: it counts for this data and this release alone.
"""

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import etcd_ha_common_files
import etcd_ha_common_local_http
import etcd_ha_data
import etcd_ha_database
import etcd_ha_etcd_log
import etcd_ha_host_copy
import etcd_ha_host_ended
import etcd_ha_host_places
import etcd_ha_host_sandbox
import etcd_ha_log
import etcd_ha_machine
import etcd_ha_release
from etcd_ha_common_errors import Failed
from etcd_ha_host_sandbox import State

LOCK = "/run/etcd_ha/examine.lock"
VERDICT = "/var/lib/etcd_ha/examined/verdict.json"
READABLE, DAMAGED, UNPROVEN = "readable", "damaged", "unproven"
# Beside these: it can be read, and is not what the majority has; or somebody has given it up.
DIFFERS, GIVEN_UP = "differs", "given up"
VERDICTS = (READABLE, DAMAGED, UNPROVEN, DIFFERS, GIVEN_UP)
# A path in an URL is refused before 3.7 ("must be host:port"), so the sockets' names look like
# hosts and ports; they are made in the directory in which etcd runs.
METRICS, PEERS, CLIENTS = "metrics:1", "peer:1", "client:1"
# Seconds in which an etcd without data must have come so far that its metrics answer.
CONTROL = 30
# Seconds between two looks, and for which what has been applied must stay the same.
_PAUSE, _SETTLED, _STILL = 0.1, 0.5, 10.0
# Seconds for the first answer of a socket.
_PATIENCE = 5
# Bytes of what it says that are read.
_SAID = 1 << 20
# With less than these bytes free afterwards it may have ended for want of room.
_FULL = 16 << 20


class ExamineError(Failed):
    """There can be no examination now; the text says why."""


@dataclass(frozen=True)
class Subject:
    """What is examined: a member's directories, its program, and as whom that runs.

    ``ids`` are the cluster id and the member id that this host's member has, as far as is known.
    """

    data_dir: str
    wal_dir: str
    program: str
    release: str
    owner: tuple[str, str]
    ids: tuple[str, str] = ("", "")

    @property
    def log(self) -> str:
        """Where the write-ahead log is."""
        return f"{self.wal_dir}/wal" if self.wal_dir else f"{self.data_dir}/member/wal"


@dataclass(frozen=True)
class Verdict:
    """What an examination has found.

    ``index`` is the last entry that was applied, ``hash`` (hex text) that of all keys at
    ``revision``, with the compaction that it is of (``compact_revision``); empty where it was not
    told. ``compared`` says what came of comparing it: ``same``, or why it could not be compared.
    """

    verdict: str
    words: str = ""
    index: int = 0
    revision: int = 0
    hash: str = ""
    compact_revision: int = 0
    compared: str = ""
    identity: str = ""
    release: str = ""
    invocation: str = ""
    when: str = ""


@dataclass
class _Watch:
    """The experiment's clock, and whom its progress is told."""

    deadline: float
    tell: Callable[[str], None] = field(default=lambda words: None)

    def left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One examination at a time: two would take each other's copy away. Raises ExamineError."""
    etcd_ha_common_files.make_directory(os.path.dirname(LOCK), 0o755)
    with open(LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExamineError(
                "another examination of this member's data goes on here; wait for its end"
            ) from None
        yield


def clean_up(data_dir: str, wal_dir: str) -> None:
    """Remove what an interrupted examination has left; raises ExamineError while one goes on."""
    left = [place for place in (data_dir, wal_dir) if place]
    copies = [place for place in left if os.path.lexists(etcd_ha_host_copy.folder(place))]
    if copies or etcd_ha_host_sandbox.is_left():
        with alone():
            clean(data_dir, wal_dir)


def examine(
    subject: Subject, timeout: float, tell: Callable[[str], None] = lambda words: None
) -> Verdict:
    """Examine a member's data; its unit is held meanwhile, and stays stopped.

    ``timeout`` (seconds) is for all of it. Nothing is left of it but what is returned. Raises
    OSError, SandboxError, CopyError, ProgramError and the like where the host itself fails; the
    data was then not judged.
    """
    watch = _Watch(time.monotonic() + timeout, tell)
    clean(subject.data_dir, subject.wal_dir)
    etcd_ha_host_sandbox.hold()
    try:
        known = etcd_ha_host_copy.identity(subject.data_dir, subject.wal_dir)
        found = _judged(subject, watch)
        if etcd_ha_host_copy.identity(subject.data_dir, subject.wal_dir) != known:
            found = Verdict(UNPROVEN, "the data was written to meanwhile, although etcd was held")
    finally:
        clean(subject.data_dir, subject.wal_dir)
    return replace(found, identity=known, release=subject.release, when=_now())


def clean(data_dir: str, wal_dir: str) -> None:
    """Remove what an examination needed, also one that was interrupted; no unit is started."""
    etcd_ha_host_sandbox.release()
    etcd_ha_host_copy.remove(data_dir, wal_dir)


def _judged(subject: Subject, watch: _Watch) -> Verdict:
    if not os.access(subject.program, os.X_OK):
        return Verdict(UNPROVEN, f"{subject.program} is missing, so nothing can be started")
    # A copy has no links, so etcd would start there, and not with the data itself.
    fault = etcd_ha_host_places.link_fault(subject.data_dir, apart=bool(subject.wal_dir))
    fault = fault or etcd_ha_host_copy.room_fault(subject.data_dir, subject.wal_dir)
    if fault:
        return Verdict(UNPROVEN, fault)
    watch.tell("copying the data")
    etcd_ha_host_copy.make(subject.data_dir, subject.wal_dir, subject.owner, _progress(watch))
    watch.tell(f"starting etcd {subject.release} on the copy, without a network")
    found = _started(subject, watch, with_data=True)
    if found.verdict != DAMAGED:
        return found
    return _confirmed(subject, watch, found)


def _progress(watch: _Watch) -> Callable[[int, int], None]:
    return lambda done, whole: watch.tell(f"copied {done >> 20} of {whole >> 20} MiB")


def _confirmed(subject: Subject, watch: _Watch, found: Verdict) -> Verdict:
    """Whether it is the data that ended etcd: else it would have ended without any, too."""
    newer = _newer(subject)
    if newer:
        return Verdict(UNPROVEN, f"{newer} ({found.words})")
    lacks = etcd_ha_data.inodes_fault(subject.data_dir)
    if lacks:
        return Verdict(UNPROVEN, f"{lacks} ({found.words})")
    if etcd_ha_data.free(subject.data_dir) < _FULL:
        return Verdict(UNPROVEN, f"{subject.data_dir} was full meanwhile ({found.words})")
    watch.tell("starting it without any data, for comparison")
    etcd_ha_host_sandbox.stop()
    control = replace(watch, deadline=time.monotonic() + CONTROL)
    beside = _started(subject, control, with_data=False)
    if beside.verdict != READABLE:
        return Verdict(
            UNPROVEN,
            f"etcd {subject.release} does not run here without any data either: {beside.words}",
        )
    return found


def _newer(subject: Subject) -> str:
    """Whether a newer etcd wrote the data: an older one ends by it, and it is sound."""
    own = etcd_ha_release.parse(subject.release)
    try:
        wrote = etcd_ha_database.wrote(f"{subject.data_dir}/member/snap/db")
    except etcd_ha_database.DatabaseError:
        # It has no word to say for itself; etcd's stands.
        return ""
    for version in wrote:
        other = etcd_ha_release.parse(version)
        if (other.major, other.minor) > (own.major, own.minor):
            return f"the data is of etcd {version}, and {subject.release} is older"
    return ""


def _started(subject: Subject, watch: _Watch, with_data: bool) -> Verdict:
    """Start etcd once, and see how far it comes."""
    places = [etcd_ha_host_copy.folder(one) for one in (subject.data_dir, subject.wal_dir) if one]
    data = f"{places[0]}/{'data' if with_data else 'control'}"
    # Without any file of a log it would take itself for a new member, were it not to be an old one.
    flags = {"data-dir": data, "initial-cluster-state": "existing" if with_data else "new"}
    if subject.wal_dir and with_data:
        flags["wal-dir"] = f"{places[-1]}/wal"
    for name in (METRICS, PEERS, CLIENTS, "log"):
        if os.path.lexists(f"{places[0]}/{name}"):
            os.unlink(f"{places[0]}/{name}")
    text = etcd_ha_host_sandbox.unit_text(
        [subject.program, *_flags(flags)],
        subject.owner,
        places,
        [f"{subject.data_dir}/member", *([subject.log] if subject.wal_dir else [])],
        etcd_ha_host_sandbox.host_namespace(),
        int(watch.left()) + 60,
    )
    etcd_ha_host_sandbox.start(text)
    return _watched(places[0], watch, wanted=_committed(subject) if with_data else 0)


def _flags(more: Mapping[str, str]) -> list[str]:
    flags = {
        "name": "default",
        **more,
        "listen-client-urls": f"unix://{CLIENTS}",
        "advertise-client-urls": "http://localhost:1",
        "listen-peer-urls": f"unix://{PEERS}",
        "listen-metrics-urls": f"unix://{METRICS}",
        "logger": "zap",
        "log-level": "info",
    }
    return [f"--{name}={value}" for name, value in flags.items()]


def _committed(subject: Subject) -> int:
    """The entry up to which the log says that all is committed; 0 where only etcd can tell."""
    try:
        return etcd_ha_log.reach(subject.log).commit
    except etcd_ha_log.LogError:
        return 0


def _watched(folder: str, watch: _Watch, wanted: int) -> Verdict:
    """Wait until etcd has applied what is committed and told its hash, or has ended."""
    applied, since, told = -1, time.monotonic(), False
    while True:
        state = etcd_ha_host_sandbox.state()
        if not state.running:
            return _ended(state, folder)
        index = _applied(folder)
        if index is not None and not told:
            watch.tell("etcd answers, and applies what is committed")
            told = True
        if index is not None and index != applied:
            applied, since = index, time.monotonic()
        still = time.monotonic() - since
        # Where the log says what is committed, that is waited for, but not against etcd's word.
        enough = _STILL if 0 < wanted > applied else 0 if wanted else _SETTLED
        if index is not None and still >= enough:
            return _hashed(folder, watch, applied)
        if not watch.left():
            said = f"it has applied entry {applied} of {wanted}" if told else "it does not answer"
            return Verdict(UNPROVEN, f"etcd did not come to an end with it in time: {said}")
        time.sleep(_PAUSE)


def _applied(folder: str) -> int | None:
    """The last entry that it has applied; None where it does not answer yet."""
    if not os.path.exists(f"{folder}/{METRICS}"):
        return None
    try:
        code, text = etcd_ha_common_local_http.get(f"{folder}/{METRICS}", "/metrics", _PATIENCE)
    except OSError:
        # It does not listen yet, or has ended: its state tells, and the deadline.
        return None
    found = re.search(r"^etcd_server_proposals_applied_total (\S+)$", text, re.M)
    return int(float(found[1])) if code == 200 and found else None


def _hashed(folder: str, watch: _Watch, applied: int) -> Verdict:
    """Have it read all its keys; it may end by that, too."""
    watch.tell("etcd reads all its keys")
    hashed: dict[str, Any] = {}
    try:
        code, text = etcd_ha_common_local_http.get(
            f"{folder}/{PEERS}", "/members/hashkv", max(1.0, watch.left()), '{"revision": 0}'
        )
        hashed = json.loads(text) if code == 200 else {}
        fault = "" if code == 200 else f"it tells no hash ({code} {text.strip()[:200]})"
    except (OSError, ValueError) as err:
        fault = f"it tells no hash ({err})"
    # A panic ends the process a moment after the connection.
    time.sleep(_SETTLED)
    state = etcd_ha_host_sandbox.state()
    if not state.running:
        return _ended(state, folder)
    if fault and not watch.left():
        return Verdict(UNPROVEN, f"etcd did not read all its keys in time: {fault}")
    own = _hash_of(hashed)
    return Verdict(READABLE, fault, index=applied, **own)


def _hash_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the peers' handler tells (etcdserverpb.HashKVResponse); nothing where it is odd."""
    header = found.get("header")
    revision = header.get("revision") if isinstance(header, dict) else None
    numbers = (revision, found.get("hash"), found.get("compact_revision", 0))
    if not all(isinstance(one, int) for one in numbers):
        return {}
    return {"revision": numbers[0], "hash": f"{numbers[1]:08x}", "compact_revision": numbers[2]}


def _ended(state: State, folder: str) -> Verdict:
    words = etcd_ha_host_ended.line(etcd_ha_etcd_log.decisive(_said(folder)))
    if state.by_itself:
        return Verdict(DAMAGED, words or f"it ended with {state.code} without a word")
    if state.code == etcd_ha_host_sandbox.NO_NAMESPACE:
        return Verdict(
            UNPROVEN,
            "this host gives a unit no network namespace of its own (PrivateNetwork), without "
            "which a copy of the member could reach its peers",
        )
    if state.signal is not None:
        return Verdict(UNPROVEN, f"it was ended by signal {state.signal}; look at the memory")
    return Verdict(UNPROVEN, f"it could not be started (exit code {state.code}): {words}")


def _said(folder: str) -> str:
    try:
        with open(f"{folder}/log", "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _SAID))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def misplaced(found: Verdict, subject: Subject) -> Verdict:
    """Whether data that can be read is that of another member.

    A start with it would be that member once more, beside the one that runs. Or the host's record
    is out of date, so this alone condemns no data.
    """
    try:
        held = etcd_ha_log.identity(subject.log)
    except etcd_ha_log.LogError:
        # Nobody but etcd has read it; no other member is known from it.
        return found
    if not all(subject.ids) or held == subject.ids:
        return found
    words = (
        f"its data is that of member {held[1]} of cluster {held[0]}, and this host is "
        f"{subject.ids[1]} of {subject.ids[0]}"
    )
    return replace(found, verdict=UNPROVEN, words=words)


def shortened(found: Verdict, subject: Subject, code: int | None) -> Verdict:
    """Whether the log of data that can be read has lost entries that this member once confirmed.

    Without its peers it cannot know: it reads what is there. With them it ends by a panic (exit
    code 2), since the leader knows better. That is proven by its own files: the log ends before an
    entry that the database holds, or etcd itself has cut its last file short and kept a copy
    (server/storage/wal/repair.go).
    """
    if code != etcd_ha_host_ended.PANIC:
        return found
    broken = sorted(name for name in os.listdir(subject.log) if name.endswith(".wal.broken"))
    if broken:
        words = (
            f"etcd had to cut its log short ({broken[-1]}), and entries that it confirmed are lost"
        )
        return replace(found, verdict=DAMAGED, words=words)
    try:
        last = etcd_ha_log.reach(subject.log).last
        held = etcd_ha_database.content(f"{subject.data_dir}/member/snap/db").index
    except (etcd_ha_log.LogError, etcd_ha_database.DatabaseError):
        # etcd can read it, and its word stands.
        return found
    if held > last:
        words = f"its log ends at entry {last}, and its database holds entry {held} already"
        return replace(found, verdict=DAMAGED, words=words)
    return found


# What is kept


def places(configured: Mapping[str, str], record: Mapping[str, str]) -> tuple[str, str] | None:
    """Where the data lies, and the directory of its log where that is not with it; else None.

    ``configured`` is the environment on disk; the record knows where the data was when the member
    was last healthy.
    """
    known = (
        (record.get("data_dir"), record.get("wal_dir")),
        (configured.get("ETCD_DATA_DIR"), configured.get("ETCD_WAL_DIR")),
    )
    for data_dir, wal in known:
        if data_dir and os.path.isdir(f"{data_dir}/member"):
            return data_dir, os.path.dirname(wal) if wal else ""
    return None


def given_up(verdict: str, words: str, data_dir: str, wal_dir: str, release: str) -> Verdict:
    """A verdict that no examination has found: this data is not to be used again."""
    known = etcd_ha_host_copy.identity(data_dir, wal_dir)
    return Verdict(verdict, words, identity=known, release=release, when=_now())


def unusable(found: Verdict | None) -> str:
    """Why this data must not be started from again; empty where it may be."""
    if found is None or found.verdict in (READABLE, UNPROVEN):
        return ""
    start = "etcd cannot use its data: " if found.verdict == DAMAGED else ""
    return f"{start}{found.words}"


def told(found: Verdict | None, invocation: str) -> dict[str, Any]:
    """A verdict as the facts report it; empty where there is none.

    ``invocation`` is that of etcd's last start here: ``tried`` says whether it was started again
    after the examination.
    """
    if found is None:
        return {}
    whole = asdict(found)
    shown = {key: whole[key] for key in ("verdict", "words", "index", "revision", "compared")}
    return {**shown, "tried": invocation != found.invocation}


def write(found: Verdict) -> None:
    """Keep a verdict on this host."""
    folder = os.path.dirname(VERDICT)
    etcd_ha_common_files.make_directory(folder, 0o700)
    etcd_ha_machine.write_json(VERDICT, asdict(found))


def read(data_dir: str, wal_dir: str, release: str) -> Verdict | None:
    """The verdict on the data that is here now, for this release; None where there is none.

    One that cannot be read, or is on other data, is none: the data is examined again.
    """
    if not os.path.isdir(f"{data_dir}/member"):
        return None
    found = of(etcd_ha_machine.read_json(VERDICT))
    if found is None or found.release != release:
        return None
    try:
        known = etcd_ha_host_copy.identity(data_dir, wal_dir)
    except (OSError, etcd_ha_host_copy.CopyError):
        return None
    return found if found.identity == known else None


def of(found: Mapping[str, Any]) -> Verdict | None:
    """Read what was kept; None where it is of another form."""
    try:
        made = Verdict(**found)
    except TypeError:
        return None
    texts = ("verdict", "words", "hash", "compared", "identity", "release", "invocation", "when")
    numbers = (made.index, made.revision, made.compact_revision)
    sound = (
        all(isinstance(getattr(made, name), str) for name in texts)
        and all(type(one) is int for one in numbers)
        and made.verdict in VERDICTS
    )
    return made if sound else None


# What others say of it


def compared(
    found: Verdict, listed: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> Verdict:
    """Beside the hashes that other members of the list have at its revision.

    ``rows`` are those of the others (``hash``, ``compact_revision``). It differs where a quorum of
    the voters has another hash, of the same compaction: that alone makes them comparable.
    """
    if found.verdict != READABLE or not found.hash:
        return found
    others = [row for row in rows if row["compact_revision"] == found.compact_revision]
    voters = [one for one in listed if not one["learner"]]
    for value in dict.fromkeys(str(row["hash"]) for row in others):
        holders = sum(row["hash"] == value for row in others)
        if value == found.hash and holders + 1 > len(voters) // 2:
            return replace(found, compared="same")
        if value != found.hash and holders > len(voters) // 2:
            words = (
                f"its keys at revision {found.revision} have the hash {found.hash}, and "
                f"{holders} of {len(voters)} members have {value}"
            )
            return replace(found, verdict=DIFFERS, words=words)
    told = "the others have compacted since" if rows else "no other member told its hash"
    return replace(found, compared=f"not comparable: {told}")
