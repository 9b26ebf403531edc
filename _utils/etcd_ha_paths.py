"""Which directories may be a cluster's own: the states make them their user's and close them."""

import os.path
import re
from collections.abc import Mapping
from typing import Any

# The longest that still leaves room for what lies below it (PATH_MAX is 4096, NAME_MAX 255).
LONGEST = 255
# A directory's name gets an end when it is moved away (DATA_DIR.replaced-DATE).
LONGEST_PART = 200
# A folder below such a path: the log, or one that is called like a cluster.
LONGEST_BELOW = LONGEST + 65
_PATH = re.compile(r"/[A-Za-z0-9_.@+/-]*")

# Everybody's: to close one of these to all but etcd, or but root, would break the host.
SHARED = frozenset(
    {
        "/",
        *(f"/{name}" for name in ("bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64")),
        *(f"/{name}" for name in ("media", "mnt", "opt", "proc", "root", "run", "sbin", "srv")),
        *(f"/{name}" for name in ("sys", "tmp", "usr", "var")),
        *(f"/usr/{name}" for name in ("bin", "lib", "lib64", "libexec", "local", "sbin", "share")),
        *(f"/usr/local/{name}" for name in ("bin", "lib", "sbin", "share")),
        *(f"/var/{name}" for name in ("backups", "cache", "lib", "local", "log", "opt", "run")),
        *(f"/var/{name}" for name in ("spool", "tmp", "lib/etcd_ha", "lib/systemd")),
        *(f"/etc/{name}" for name in ("default", "pki", "ssl", "systemd", "systemd/system")),
    }
)
# Out of the hardened unit's reach (ProtectHome, PrivateTmp, PrivateDevices), or gone at a restart.
_NOT_FOR_DATA = (
    *(f"/{name}" for name in ("dev", "home", "proc", "root", "run", "sys", "tmp")),
    *(f"/var/{name}" for name in ("run", "tmp")),
)
# Nothing of these may lie in a directory of data, which is emptied as a whole; nor data where root
# alone may enter.
_DATA = ("data_dir", "wal_dir")
_APART = ("config_dir", "install:dir", "tls:ca:dir", "backup:directory")
_CLOSED = ("backup:directory", "the formula's own records")
RECORDS = "/var/lib/etcd_ha"
OWN = (*_DATA, "config_dir", "tls:ca:dir", "backup:directory", "backup:master:directory")


def fault(path: object, longest: int = LONGEST) -> str:
    """Why a path cannot be written into every file and unit, or an empty text.

    path
        Whatever the pillar holds.

    longest
        Characters that it may have.
    """
    if not isinstance(path, str) or not _PATH.fullmatch(path) or ".." in path.split("/"):
        return "give an absolute path without blanks"
    plain = re.sub("/+", "/", os.path.normpath(path))
    if path != plain:
        return f"give an absolute path without blanks in its plain form: {plain}"
    if any(len(part) > LONGEST_PART for part in path.split("/")):
        return f"give a path whose parts have {LONGEST_PART} characters at most, each"
    return f"give a path of {longest} characters at most" if len(path) > longest else ""


def faults(settings: Mapping[str, Any], key: str) -> list[str]:
    """Directories of complete settings that are not a cluster's to have, each with its key."""
    named = {name: _at(settings, name) for name in (*OWN, *_APART)}
    paths = {name: path for name, path in named.items() if path is not None and not fault(path)}
    found = [
        f"{key}:{name} is {paths[name]!r}, which other programs use too; give a directory below it "
        "that is the cluster's alone"
        for name in OWN
        if paths.get(name) in SHARED
    ]
    for name in _DATA:
        path = paths.get(name, "")
        if path in SHARED:
            continue
        if any(within(path, place) for place in _NOT_FOR_DATA):
            found.append(
                f"{key}:{name} is {path!r}; what lies there is lost at a restart, or out of the "
                f"unit's reach. Give a directory on a disk, such as /var/lib/etcd"
            )
        others = {other: paths[other] for other in _APART if other in paths}
        for other, place in {**others, _CLOSED[1]: RECORDS}.items():
            inside = other in _CLOSED and within(path, place)
            if path and (inside or within(place, path)):
                found.append(
                    f"{key}:{name} is {path!r}, and {other} {'are in' if ' ' in other else 'is'} "
                    f"{place!r}: neither may lie in the other; give each its own"
                )
    member, log = f"{paths.get('data_dir')}/member", paths.get("wal_dir", "")
    if within(log, member):
        found.append(
            f"{key}:wal_dir is {log!r}, inside {member!r}, whose content is etcd's own; give a "
            "directory outside of it"
        )
    return found


def unfit_for_data(path: str) -> str:
    """Why etcd's data must not be at the place that a link leads to; empty where it may."""
    if path in SHARED:
        return "which other programs use too"
    if any(within(path, place) for place in _NOT_FOR_DATA):
        return "which is lost at a restart or out of the unit's reach"
    if within(path, RECORDS) or within(RECORDS, path):
        return f"which is where the formula's own records are ({RECORDS})"
    return "whose name the unit cannot take: use letters, digits and _.@+-" if fault(path) else ""


def within(path: str, place: str) -> bool:
    """Whether a plain path is this place, or lies in it."""
    return path == place or path.startswith(f"{place}/")


def _at(settings: Mapping[str, Any], path: str) -> Any:
    value: Any = settings
    for part in path.split(":"):
        value = value[part]
    return value
