"""A directory of backups: what lies there, how one comes there whole, and how one goes."""

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from datetime import datetime

import etcd_ha_backup
import etcd_ha_common_files
import etcd_ha_machine
from etcd_ha_backup import Backup
from etcd_ha_common_files import Unreadable

_LOCK = ".lock"
# What an interrupted backup leaves, the test restore's directory among it.
_LEFT = re.compile(r"\.(part|trial)(-.*|\..*)?$|\.json\.tmp$")


class Busy(RuntimeError):
    """Another backup is being taken here."""


def listing(folder: str, cluster: str) -> list[Backup]:
    """A cluster's backups there, oldest first; one without its sidecar is not verified."""
    found = []
    for entry in etcd_ha_common_files.names(folder):
        stem, _, kind = entry.rpartition(".")
        known = Backup.named(stem) if kind == "db" else None
        if known is not None and known.cluster == cluster:
            found.append(_described(folder, known))
    return sorted(found, key=lambda backup: (backup.when, backup.revision))


def _described(folder: str, known: Backup) -> Backup:
    size = os.path.getsize(f"{folder}/{known.name}.db")
    try:
        told = Backup.of(etcd_ha_machine.read_json(f"{folder}/{known.name}.json"))
    except (ValueError, Unreadable):
        # Whether it was found good is unknown: it counts as not verified, and stays.
        return Backup.named(known.name, size) or known
    # A file that is not what its sidecar speaks of was found good by nobody.
    is_told = told.name == known.name and told.size == size
    return told if is_told else Backup.named(known.name, size) or known


@contextlib.contextmanager
def alone(folder: str) -> Iterator[None]:
    """One backup a directory at a time, and what an interrupted one left is gone before.

    Raises Busy where another is at work.
    """
    etcd_ha_common_files.make_directory(folder, 0o700)
    os.chmod(folder, 0o700)
    with open(os.open(f"{folder}/{_LOCK}", os.O_RDWR | os.O_CREAT, 0o600), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(
                f"another backup is being taken into {folder} at this moment; try later"
            ) from None
        tidy(folder)
        yield


def tidy(folder: str) -> None:
    """Remove what an interrupted backup left; it was never a backup."""
    for entry in os.listdir(folder):
        if _LEFT.search(entry):
            path = f"{folder}/{entry}"
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def publish(folder: str, part: str, backup: Backup) -> None:
    """Give a backup that was found good its name, and then its sidecar."""
    with open(part, "rb") as file:
        os.fchmod(file.fileno(), 0o600)
        os.fsync(file.fileno())
    os.replace(part, f"{folder}/{backup.name}.db")
    etcd_ha_machine.sync_folder(folder)
    describe(folder, backup)


def describe(folder: str, backup: Backup) -> None:
    """Write the sidecar: from now on this is a backup."""
    etcd_ha_machine.write_json(
        f"{folder}/{backup.name}.json", json.loads(json.dumps(backup.sidecar))
    )


def prune(folder: str, cluster: str, keep: Mapping[str, int], now: datetime) -> list[str]:
    """Remove what no rule keeps, each one's sidecar first; the names of what is gone."""
    gone = etcd_ha_backup.to_remove(listing(folder, cluster), keep, now)
    for backup in gone:
        for kind in ("json", "db"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{folder}/{backup.name}.{kind}")
    return [backup.name for backup in gone]


def free(folder: str) -> int:
    """Bytes that are free there."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
