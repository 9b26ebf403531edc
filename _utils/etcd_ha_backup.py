"""Backups as such: what each is called, what stands beside it, which are kept, who takes the next.

A backup is ``NAME.db``, a snapshot of etcd's, and ``NAME.json`` beside it, which is written last:
a backup without it was not found good.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

_NAME = re.compile(
    r"(?P<cluster>[A-Za-z0-9][A-Za-z0-9_.-]*)-(?P<when>[0-9]{8}T[0-9]{6}Z)-r(?P<revision>[0-9]{1,19})"
)
_STAMP, _TIME = "%Y%m%dT%H%M%SZ", "%Y-%m-%dT%H:%M:%SZ"
# It begins with a word, and is no option of systemd-analyze.
SCHEDULE = r"[A-Za-z0-9*][A-Za-z0-9*,:./~+ _-]{0,199}"
# Backups, and days of them (a hundred years), that ``keep`` may ask for.
_MOST_KEPT = 36500
# Seconds by which the clocks of two members may differ.
SKEW = 60
# What the pillar may leave out below ``backup:s3``.
S3_OPTIONAL = (
    "bucket",
    "endpoint",
    "access_key",
    "secret_key",
    "credentials_file",
    "server_side_encryption",
    "kms_key",
    "encryption_password",
    "ca_certificate",
)


# Of which kind each part of a sidecar is.
_KINDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("name", "cluster", "when", "sha256"), (str,)),
    **dict.fromkeys(("version", "member", "cluster_id"), (str,)),
    **dict.fromkeys(("revision", "size"), (int,)),
    "keys": (int, type(None)),
    "verified": (bool,),
    "members": (list, tuple),
}


@dataclass(frozen=True)
class Backup:
    """One backup; ``when`` is UTC as ISO 8601 has it, ``sha256`` the hash in the snapshot's end."""

    name: str
    cluster: str
    when: str
    revision: int
    verified: bool = False
    size: int = 0
    keys: int | None = None
    sha256: str = ""
    version: str = ""
    member: str = ""
    members: tuple[str, ...] = ()
    cluster_id: str = ""

    @classmethod
    def named(cls, name: str, size: int = 0) -> "Backup | None":
        """What a file's name alone tells; None where it is no backup's name."""
        found = _NAME.fullmatch(name)
        if not found:
            return None
        try:
            when = datetime.strptime(found["when"], _STAMP)
        except ValueError:
            return None
        return cls(name, found["cluster"], when.strftime(_TIME), int(found["revision"]), size=size)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Backup":
        """Read back what ``sidecar`` wrote; raises ValueError where it says something else."""
        if not isinstance(told, Mapping):
            raise ValueError("this says nothing of a backup")
        known = {name: told[name] for name in cls.__dataclass_fields__ if name in told}
        odd = [name for name, value in known.items() if not isinstance(value, _KINDS[name])]
        if odd or not all(isinstance(one, str) for one in known.get("members", ())):
            raise ValueError(f"this says nothing of a backup: {', '.join(odd) or 'members'}")
        try:
            found = cls(**{**known, "members": tuple(known.get("members", ()))})
            found.taken  # noqa: B018 - it raises where the time is none
        except TypeError as err:
            raise ValueError(f"this says nothing of a backup: {err}") from None
        # The name becomes a file's, also on a master that a member has told it.
        own = cls.named(found.name)
        if own is None or own.cluster != found.cluster:
            raise ValueError("this says nothing of a backup: its name is none of its cluster's")
        return found

    @property
    def sidecar(self) -> dict[str, Any]:
        """What is written beside the snapshot."""
        return {**asdict(self), "members": list(self.members)}

    @property
    def taken(self) -> datetime:
        """When it was taken."""
        return datetime.strptime(self.when, _TIME).replace(tzinfo=timezone.utc)


def new_name(cluster: str, now: datetime, revision: int) -> str:
    """``main-20261124T101500Z-r4711``: sorts by time within a cluster."""
    return f"{cluster}-{now.strftime(_STAMP)}-r{revision}"


def stamp(now: datetime) -> str:
    """A time as backups tell it."""
    return now.strftime(_TIME)


def newest(backups: Iterable[Backup]) -> Backup | None:
    """The newest verified one."""
    return max((b for b in backups if b.verified), key=lambda b: (b.when, b.revision), default=None)


# One backup each is kept of the newest days, weeks and months that have any.
_PERIODS: Mapping[str, Callable[[datetime], tuple[int, ...]]] = {
    "daily": lambda when: (when.year, when.month, when.day),
    "weekly": lambda when: tuple(when.isocalendar())[:2],
    "monthly": lambda when: (when.year, when.month),
}


def to_remove(backups: Iterable[Backup], keep: Mapping[str, int], now: datetime) -> list[Backup]:
    """Those that no rule keeps, oldest first.

    ``keep`` has ``last`` (how many), ``days`` (younger than this), ``daily``, ``weekly`` and
    ``monthly`` (the newest of so many days, weeks, months). One rule is enough to be kept. The
    newest verified one is always kept, and so is one that nobody has found good or bad yet.
    """
    verified = sorted((b for b in backups if b.verified), key=lambda b: (b.when, b.revision))
    verified.reverse()
    kept = {b.name for b in verified[: max(1, keep["last"])]}
    youngest = now - timedelta(days=keep["days"])
    kept |= {b.name for b in verified if b.taken > youngest}
    for rule, period in _PERIODS.items():
        firsts: dict[tuple[int, ...], str] = {}
        for backup in verified:
            firsts.setdefault(period(backup.taken), backup.name)
        kept |= set(list(firsts.values())[: keep[rule]])
    return [b for b in reversed(verified) if b.name not in kept]


def order(members: Sequence[Mapping[str, Any]]) -> list[str]:
    """Who takes a backup, and who takes over: followers by name, the leader last.

    ``members`` have ``name``, ``leader`` and ``learner``; a learner never takes one, since it may
    be far behind.
    """
    fit = [m for m in members if not m["learner"]]
    return [str(m["name"]) for m in sorted(fit, key=lambda m: (bool(m["leader"]), m["name"]))]


def is_due(last: datetime | None, now: datetime, interval: float) -> bool:
    """Whether a scheduled backup is to be taken; ``interval`` is the schedule's shortest (seconds).

    All members' timers go off together, and those that were off at the time catch up when they
    start again: a backup in the younger half of the interval is the one that was to be taken.
    """
    if last is None:
        return True
    return (now - last).total_seconds() > max(SKEW, interval / 2)


def intervals(text: str) -> list[float]:
    """Seconds between the times that ``systemd-analyze calendar --iterations=N`` tells, in UTC.

    None where it elapses once or never. Raises ValueError where this is something else.
    """
    if "Next elapse: " not in text:
        raise ValueError(f"it printed no next time, but {text.strip()[:80]!r}")
    # ``Iteration #2`` from systemd 254 on.
    times = re.findall(
        r"(?:Next elapse|Iter(?:\.|ation) #\d+): \w+ (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", text
    )
    if len(times) != len(re.findall("Next elapse: (?!never)|#[0-9]+:", text)):
        raise ValueError(f"it printed times of a form that is not known: {text.strip()[:80]!r}")
    found = [datetime.strptime(one, "%Y-%m-%d %H:%M:%S") for one in times]
    return [(b - a).total_seconds() for a, b in itertools.pairwise(found)]


def faults(backup: Mapping[str, Any], key: str) -> list[str]:
    """What is wrong with the pillar's ``backup``, one sentence a fault, each with its key."""
    return [*_own_faults(backup, key), *_s3_faults(backup["s3"], f"{key}:s3")]


def _own_faults(backup: Mapping[str, Any], key: str) -> list[str]:
    found = []
    schedule = backup["schedule"]
    if schedule is not None and not (
        isinstance(schedule, str) and re.fullmatch(SCHEDULE, schedule)
    ):
        found.append(
            f"{key}:schedule is {schedule!r}; give a time as systemd's OnCalendar has it, such as "
            "daily or '*-*-* 02:30:00'"
        )
    for name, value in backup["keep"].items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not (name == "last") <= value <= _MOST_KEPT:
            least = "above 0" if name == "last" else "from 0 on"
            found.append(
                f"{key}:keep:{name} is {value!r}; give a whole number {least}, {_MOST_KEPT} at most"
            )
    address = backup["master"]["address"]
    if address is not None and not (
        isinstance(address, str) and re.fullmatch(r"[A-Za-z0-9_:][A-Za-z0-9_.:-]{0,252}", address)
    ):
        found.append(f"{key}:master:address is {address!r}; give a host's name or IP address")
    return found


def _s3_faults(s3: Mapping[str, Any], key: str) -> list[str]:
    if s3["bucket"] is None:
        named = [name for name in ("endpoint", "access_key", "secret_key") if s3[name] is not None]
        why = f"{key}:{', '.join(named)} is set, but {key}:bucket is not: nothing would go there"
        return [why] if named else []
    found = []
    if not isinstance(s3["bucket"], str) or not re.fullmatch(
        r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", s3["bucket"]
    ):
        found.append(f"{key}:bucket is {s3['bucket']!r}; give the name of a bucket that is there")
    if not isinstance(s3["prefix"], str) or not re.fullmatch(
        r"\w[\w.-]*(/\w[\w.-]*)*", s3["prefix"], re.ASCII
    ):
        found.append(f"{key}:prefix is {s3['prefix']!r}; give a folder's name such as etcd_ha")
    found += _endpoint_faults(s3, key)
    if (s3["access_key"] is None) != (s3["secret_key"] is None):
        found.append(
            f"{key}:access_key and {key}:secret_key belong together; give both, or neither and a "
            "credentials_file, or nothing where the host itself may write"
        )
    if s3["access_key"] is not None and s3["credentials_file"] is not None:
        found.append(f"{key}:credentials_file is set beside access_key; give one of the two")
    encryption = s3["server_side_encryption"]
    if encryption not in (None, "AES256", "aws:kms"):
        found.append(f"{key}:server_side_encryption is {encryption!r}; use AES256 or aws:kms")
    if s3["kms_key"] is not None and encryption != "aws:kms":
        found.append(f"{key}:kms_key needs {key}:server_side_encryption: aws:kms")
    # Never the value: it may be a secret in the wrong form.
    found += [
        f"{key}:{name} is no text; quote it"
        for name in (
            "access_key",
            "secret_key",
            "encryption_password",
            "kms_key",
            "region",
            "provider",
        )
        if s3[name] is not None and not (isinstance(s3[name], str) and s3[name].isprintable())
    ]
    return found


def _endpoint_faults(s3: Mapping[str, Any], key: str) -> list[str]:
    endpoint = s3["endpoint"]
    if endpoint is None:
        return []
    if not isinstance(endpoint, str) or not re.fullmatch(r"https?://[^\s\"'/@]+", endpoint):
        return [
            f"{key}:endpoint is {endpoint!r}; give an URL such as https://s3.example.com, without "
            "user and password"
        ]
    if endpoint.startswith("http://") and s3["encryption_password"] is None:
        return [
            f"{key}:endpoint is {endpoint!r}: backups would travel in plain. Use https, or set "
            f"{key}:encryption_password, so that they are encrypted before they leave"
        ]
    return []
