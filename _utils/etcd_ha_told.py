"""What a minion may tell its master: the form of each answer, checked before anybody goes by it.

A minion that was broken into can tell what it likes. What it tells of itself is taken for true, but
not what is of another form: it would end a plan or a table of all clusters in a traceback, or name
a file of the master's.
"""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import etcd_ha_machine
import etcd_ha_plain
import etcd_ha_release
from etcd_ha_backup import Backup

Kind = Callable[[Any], bool]

_ODD = "of another form than this formula tells it; look at that host"


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _id(value: Any) -> bool:
    """An id as etcd has it, in hex, or none."""
    return _text(value) and re.fullmatch("[0-9a-f]{0,16}", value) is not None


def _release(value: Any) -> bool:
    """A release of etcd, or none."""
    return _text(value) and (not value or etcd_ha_release.is_version(value))


def _urls(value: Any) -> bool:
    """URLs of a member, each with a host and a port."""
    return _texts(value) and all(map(_is_url, value))


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and parts.port is not None
    except ValueError:
        return False


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_text, value))


def _table(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_text, value))


def _of_texts(value: Any) -> bool:
    return _table(value) and all(map(_text, value.values()))


@dataclass(frozen=True)
class OrNone:
    """None, or a value of this kind."""

    kind: Kind

    def __call__(self, value: Any) -> bool:
        return value is None or self.kind(value)


@dataclass(frozen=True)
class OrEmpty:
    """An empty mapping, or a value of this kind."""

    kind: Kind

    def __call__(self, value: Any) -> bool:
        return value == {} or self.kind(value)


@dataclass(frozen=True)
class Form:
    """A mapping whose values are of these kinds, as far as they are there, or ``needed``."""

    kinds: Mapping[str, Kind]
    needed: tuple[str, ...] = ()

    def __call__(self, value: Any) -> bool:
        return (
            _table(value)
            and all(name in value for name in self.needed)
            and all(self.kinds[name](part) for name, part in value.items() if name in self.kinds)
        )


@dataclass(frozen=True)
class Rows:
    """A list of values of this kind."""

    kind: Kind

    def __call__(self, value: Any) -> bool:
        return isinstance(value, (list, tuple)) and all(map(self.kind, value))


@dataclass(frozen=True)
class Table:
    """A mapping of any names to values of this kind."""

    kind: Kind

    def __call__(self, value: Any) -> bool:
        return _table(value) and all(map(self.kind, value.values()))


def _all(names: str, kind: Kind) -> dict[str, Kind]:
    return dict.fromkeys(names.split(), kind)


def _form(form: Mapping[str, Kind], needed: str = "") -> Kind:
    return Form(form, tuple(needed.split()))


def _is_os_file(value: Any) -> bool:
    return _text(value) and re.fullmatch(r"etcd_ha/os/[A-Za-z0-9]+\.yaml", value) is not None


_TRUST = _form(_all("certificates signers", _texts), "certificates signers")
_MEMBER = _form(
    {
        **_all("id name", _text),
        **_all("peer_urls client_urls", _urls),
        **_all("learner started", _flag),
    },
    "id name peer_urls client_urls learner started",
)
_EXAMINED = _form(
    {
        **_all("verdict words compared", _text),
        **_all("index revision", _number),
        "tried": _flag,
    },
    "verdict words index revision",
)
_HIDDEN = _form(_all("kind path by", _text), "kind path by")
_ETCD = _form(
    {
        **_all("state endpoint error corrupt failing disputed", _text),
        **_all("installed version", _release),
        **_all("member_id cluster_id leader_id", _id),
        **_all("active enabled has_data healthy voting leader learner", _flag),
        **_all("revision raft_term raft_index applied_index db_size db_in_use db_quota", _number),
        **_all("pending errors alarms", _texts),
        "environment": _of_texts,
        "record": _of_texts,
        "trust": OrNone(_TRUST),
        "members": Rows(_MEMBER),
        "examined": OrEmpty(_EXAMINED),
        "hidden": OrEmpty(_HIDDEN),
    }
)
_FOUND = _form(
    {
        **_all("kind program version user cwd container unit config_file name proxy", _text),
        **_all("data_dir wal_dir fault", _text),
        **_all("cluster_id member_id", _id),
        **_all("words unit_files clients peers same", _texts),
        **_all("by_formula holds_data enabled", _flag),
        "pid": _number,
        "environment": _of_texts,
        "ports": Rows(_number),
    },
    "kind pid program version user container unit unit_files by_formula data_dir wal_dir clients "
    "peers ports same proxy holds_data cluster_id member_id fault",
)
_OVERRIDE = _form({**_all("variable value file", _text), "wins": _flag}, "variable value file wins")
_AUTHORITY = _form(
    {
        **_all("certificates authorities", _texts),
        "days_left": OrNone(_number),
        "error": _text,
    },
    "certificates authorities days_left",
)


def _is_permission(row: Any) -> bool:
    """The two ends of a range in base64, and what may be done with its keys."""
    if not _texts(row) or len(row) != 3:
        return False
    try:
        return all(base64.b64decode(one, validate=True) is not None for one in row[:2])
    except ValueError:
        return False


def _access(value: Any) -> bool:
    if not _table(value):
        return False
    if "error" in value:
        return _text(value["error"])
    roles = value.get("roles")
    return (
        _flag(value.get("enabled"))
        and _table(value.get("users"))
        and all(map(_texts, value["users"].values()))
        and _table(roles)
        and all(
            isinstance(rows, (list, tuple)) and all(map(_is_permission, rows))
            for rows in (roles or {}).values()
        )
        and _of_texts(value.get("passwords", {}))
        and _texts(value.get("named", ()))
    )


_PAIR = _form(
    {
        **_all("purpose certificate source fingerprint begins ends", _text),
        **_all("placed same", _flag),
        **_all("faults live_faults live_kinds", _texts),
    },
    "purpose certificate source placed same faults live_faults live_kinds fingerprint begins ends",
)


def _seconds(value: Any) -> bool:
    """A time as a host's clock has it: any number, but no infinite one."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e12


_FACTS: Mapping[str, Kind] = {
    **_all("minion arch modules digest restoring paused policies ca", _text),
    "os_file": _is_os_file,
    "applied": _of_texts,
    "changed_files": _texts,
    "busy": _texts,
    "etcd": _ETCD,
    "etcds": Rows(_FOUND),
    "overrides": Rows(_OVERRIDE),
    "unusable": _of_texts,
    "programs": _of_texts,
    "balancer": OrNone(_form({"healthy": _flag, "error": _text, "trust": OrNone(_TRUST)})),
    "authorities": Table(_AUTHORITY),
    "days_left": OrNone(_number),
    "access": OrNone(_access),
    "pairs": Rows(_PAIR),
    "clock": _form(_all("began ended", _seconds), "began ended"),
}
_BACKUP = _form(
    {
        **_all("path sha256 version when fault", _text),
        **_all("size revision", _number),
        "keys": OrNone(_number),
        "verified": _flag,
        "cluster": _text,
    },
    "path",
)
_LOOK: Mapping[str, Kind] = {
    "free": _number,
    "wal_free": OrNone(_number),
    "progress": _table,
    "recovery": _table,
    "backups": Rows(_BACKUP),
    "evidence": _form(
        {
            **_all("kept commit last term revision size", _number),
            **_all("fault member_id cluster_id judged", _text),
            "has_data": _flag,
        }
    ),
    "wanted": _text,
}

FACTS = Form(_FACTS, ("minion", "arch", "os_file", "etcd", "etcds", "pairs", "clock"))
LOOK = Form(_LOOK, ("free", "backups"))

_STATUS: Mapping[str, Kind] = {
    "leader_id": _text,
    **_all("leader learner", _flag),
    "db_size": _number,
}
_PAUSE: Mapping[str, Kind] = _all("cluster member reason since until", _text)
_RESUME: Mapping[str, Kind] = {"resumed": _flag, "was": _text}
_HASHED = _form(
    {**_all("name member_id hash", _text), "differs": _flag}, "name member_id hash differs"
)
_HASHES: Mapping[str, Kind] = {
    "agree": _flag,
    "right": _text,
    "members": lambda value: bool(value) and Rows(_HASHED)(value),
}


def _time(value: Any) -> bool:
    try:
        return bool(datetime.strptime(value, etcd_ha_machine.TIME))
    except (TypeError, ValueError):
        return False


_LEAF = _form(
    {**_all("cluster purpose path subject issuer error", _text), "not_after": _time},
    "cluster purpose path",
)


def _certificate(value: Any) -> bool:
    return _LEAF(value) and ("error" in value or {"issuer", "not_after"} <= set(value))


def facts_fault(told: object) -> str:
    """Why this is not what ``etcd_ha.facts`` returns, or an empty text."""
    return _fault(told, FACTS.kinds, FACTS.needed)


def look_fault(told: object) -> str:
    """Why this is not what ``etcd_ha_restore.look`` returns, or an empty text."""
    return _fault(told, LOOK.kinds, LOOK.needed)


def status_fault(told: object) -> str:
    """Why this is not what ``etcd_ha.status`` returns on a member, or an empty text."""
    return _fault(told, _STATUS, tuple(_STATUS))


def hashes_fault(told: object) -> str:
    """Why this is not what ``etcd_ha.hash_kv`` returns, or an empty text."""
    return _fault(told, _HASHES, tuple(_HASHES))


def certificates_fault(told: object) -> str:
    """Why this is not what ``etcd_ha.certificates`` returns, or an empty text."""
    return "" if Rows(_certificate)(told) else f"what it tells of certificates is {_ODD}"


def pause_fault(told: object) -> str:
    """Why this is not what ``etcd_ha.pause`` returns, or an empty text."""
    return _fault(told, _PAUSE, tuple(_PAUSE))


def resume_fault(told: object) -> str:
    """Why this is not what ``etcd_ha.resume`` returns, or an empty text."""
    return _fault(told, _RESUME, tuple(_RESUME))


def backup_fault(told: Any, cluster: str) -> str:
    """Why this is not what ``etcd_ha_backup`` tells of a backup of this cluster; else empty."""
    fault = _fault(told, {"path": _text, "problems": _texts}, ("path",))
    if fault:
        return fault
    try:
        own = Backup.of(told).cluster
    except ValueError as err:
        return str(err)
    return "" if own == cluster else f"it tells of a backup of {own}"


def _fault(told: object, form: Mapping[str, Kind], needed: tuple[str, ...]) -> str:
    if not isinstance(told, Mapping):
        return etcd_ha_plain.brief(str(told)) if isinstance(told, str) else "it told something else"
    odd = [name for name in needed if name not in told]
    odd += [name for name, kind in form.items() if name in told and not kind(told[name])]
    if not odd:
        return ""
    return f"{', '.join(odd)} is {_ODD}"
