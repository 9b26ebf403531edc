"""A member's directories: what lies ready beside them, and the exchange for what is in use."""

import contextlib
import os
import shutil
import time
from collections.abc import Sequence

import etcd_ha_common_files
import etcd_ha_common_process
import etcd_ha_common_systemd
import etcd_ha_host_places
import etcd_ha_host_start
import etcd_ha_machine
from etcd_ha_common_process import ProgramError, ProgramTimeout
from etcd_ha_host_start import StartError

UNIT = "etcd.service"
# Seconds in which etcd's own tool must have made a member's directories.
LONGEST = 3600
# Files and directories that a member's data and a start of etcd take: some ten, and room for more.
INODES = 64
# What belongs to an ext file system, not to etcd.
LOST = "lost+found"


class DataError(RuntimeError):
    """Something could not be done with a member's data; the text says what to do next."""


def beside(folder: str) -> str:
    """Where other data waits: on the same file system, whatever is mounted where."""
    return f"{folder}/restoring"


def places(data_dir: str, wal_dir: str | None) -> list[tuple[str, str]]:
    """The directories that are exchanged: where they are used, and where they lie ready.

    The data comes last: it is what tells that a member holds any. Links are followed: what lies
    ready must be on the file system of what is in use.
    """
    data_dir = etcd_ha_host_places.true(data_dir)
    wal_dir = etcd_ha_host_places.true(wal_dir) if wal_dir else None
    pairs = [(f"{data_dir}/member", f"{beside(data_dir)}/data/member")]
    if wal_dir:
        pairs.insert(0, (f"{wal_dir}/wal", f"{beside(wal_dir)}/wal"))
    return pairs


def put_in_place(place: str, staged: str, why: str) -> str:
    """Exchange a directory for one that lies ready; returns where the former one is by now.

    What was there is set aside under ``why``. It may end at any point, and is gone on with by the
    next call.
    """
    folder, name = os.path.split(place)
    aside = etcd_ha_host_places.aside(folder, why)
    is_directory = etcd_ha_common_files.is_directory
    if is_directory(staged):
        if is_directory(place):
            etcd_ha_common_files.make_directory(aside, 0o700)
            os.rename(place, f"{aside}/{name}")
            etcd_ha_machine.sync_folder(os.path.dirname(aside))
        os.rename(staged, place)
        etcd_ha_machine.sync_folder(folder)
    if not is_directory(place):
        raise DataError(f"{place} is missing, and so is {staged}: nothing could be put there")
    return aside if is_directory(aside) else ""


def exchange_fault(data_dir: str, wal_dir: str | None) -> str:
    """Why the exchange of these directories would fail, with the cure; empty where it will not."""
    for place, _ in places(data_dir, wal_dir):
        told = etcd_ha_host_places.moving_fault(*_split(place))
        if told:
            return told
    return ""


def _split(place: str) -> tuple[str, list[str]]:
    folder, name = os.path.split(place)
    return folder, [name]


def set_aside(folder: str, why: str, date: str) -> str:
    """Move what is in a directory to a folder ``why-date``; its path, empty where nothing is there.

    What was set aside before for the same reason stays where it is.
    """
    folder = etcd_ha_host_places.true(folder)
    held = sorted(_held(folder, why), key=lambda entry: entry != "member")
    if not held:
        return ""
    target = etcd_ha_host_places.aside(folder, f"{why}-{date}")
    # An interrupted run may have begun it in this same second.
    etcd_ha_common_files.make_directory(target, 0o700)
    for entry in held:
        os.rename(f"{folder}/{entry}", f"{target}/{entry}")
    return target


def set_aside_fault(folder: str, why: str) -> str:
    """Why ``set_aside`` would fail, with the cure; empty where it will not."""
    return etcd_ha_host_places.moving_fault(folder, _held(folder, why))


def _held(folder: str, why: str) -> list[str]:
    there = [entry for entry in etcd_ha_common_files.names(folder) if entry != LOST]
    return [
        entry
        for entry in there
        if not entry.startswith((f"{why}-", f".{etcd_ha_host_places.TRYING}"))
    ]


def make(command: Sequence[str], folders: Sequence[str], user: str, group: str) -> None:
    """Have etcd's own tool make these directories, for etcd's user; nothing is left if it fails."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        etcd_ha_common_files.make_directory(os.path.dirname(folder), 0o700)
    try:
        etcd_ha_common_process.run(command, LONGEST)
    except ProgramError as err:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        raise DataError(f"etcd's tool made no data: {err}") from err
    for folder in folders:
        give(folder, user, group)


def copy(place: str, staged: str) -> None:
    """A copy that lies ready, with its owners; cheap where the file system shares blocks."""
    try:
        # What is left there would get the copy inside it.
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(staged)
        etcd_ha_common_files.make_directory(os.path.dirname(staged), 0o700)
    except OSError as err:
        raise DataError(f"{place} could not be copied to {staged}: {err}") from err
    try:
        etcd_ha_common_process.run(["cp", "--archive", "--reflink=auto", place, staged], LONGEST)
    except ProgramError as err:
        shutil.rmtree(staged, ignore_errors=True)
        raise DataError(f"{place} could not be copied: {err}") from err


def give(folder: str, user: str, group: str) -> None:
    """Make a directory and all in it a user's own, closed to everybody else."""
    for parent, files in etcd_ha_common_files.below(folder):
        shutil.chown(parent, user, group)
        os.chmod(parent, 0o700)
        for name in files:
            shutil.chown(f"{parent}/{name}", user, group)
            os.chmod(f"{parent}/{name}", 0o600)


def free(folder: str) -> int:
    """Bytes that are free where this directory is, or will be; none where no file can be made."""
    found = os.statvfs(_existing(folder))
    return 0 if inodes_fault(folder) else found.f_bavail * found.f_frsize


def inodes_fault(folder: str, needed: int = INODES) -> str:
    """Why so many files cannot be made where this directory is, or will be; empty where they can.

    A disk without inodes has no space left although df shows free bytes. File systems that make
    them as they need them, such as btrfs, report that they have none at all.
    """
    found = os.statvfs(_existing(folder))
    if not found.f_files or found.f_favail >= needed:
        return ""
    return (
        f"{folder} has {found.f_favail} inodes left, and {needed} are needed, whatever bytes are "
        "free (df -i). Remove files there"
    )


def _existing(folder: str) -> str:
    """The directory itself, or the nearest one above it that exists."""
    while not etcd_ha_common_files.is_directory(folder):
        folder = os.path.dirname(folder)
    return folder


def size(folder: str) -> int:
    """Bytes that the files below a directory take."""
    return sum(
        os.path.getsize(f"{parent}/{name}")
        for parent, files in etcd_ha_common_files.below(folder)
        for name in files
    )


def stop(timeout: float, patience: float | None = None) -> None:
    """Stop etcd on this host, and see that it has ended; ``timeout`` and ``patience`` in seconds.

    A leader whose followers stop with it waits 7 s for one of them to take over
    (server/etcdserver/server.go, TryStopping). After ``patience`` it is killed, which is meant for
    data that nothing starts from again. Raises DataError, and ProgramError where it is not known
    whether it has ended.
    """
    found = etcd_ha_common_systemd.unit(UNIT)
    # Also one that runs while its file is gone.
    if found.exists or found.is_up:
        etcd_ha_common_systemd.systemctl("stop", "--no-block", UNIT)
    deadline = time.monotonic() + timeout
    kill_at = deadline if patience is None else time.monotonic() + patience
    while etcd_ha_common_systemd.unit(UNIT).is_up:
        if time.monotonic() > deadline + 5:
            raise DataError("etcd did not stop: it still runs. Look at journalctl -u etcd")
        if time.monotonic() > kill_at:
            _kill()
        time.sleep(0.1)


def _kill() -> None:
    """End it at once; that it has ended by itself meanwhile is no failure."""
    try:
        etcd_ha_common_systemd.systemctl("kill", "--signal=KILL", UNIT)
    except ProgramTimeout:
        raise
    except ProgramError:
        if etcd_ha_common_systemd.unit(UNIT).pid:
            raise


def start(timeout: float) -> None:
    """Start etcd on this host; with Type=notify it returns once a quorum was joined.

    ``timeout`` in seconds. Raises DataError, or ProgramError where systemd does not answer.
    """
    found = etcd_ha_common_systemd.unit(UNIT)
    if found.stale:
        etcd_ha_common_systemd.systemctl("daemon-reload")
    if not found.enabled:
        etcd_ha_common_systemd.systemctl("enable", UNIT)
    etcd_ha_common_systemd.reset_failed(UNIT)
    try:
        etcd_ha_host_start.start("start", UNIT, timeout)
    except StartError as err:
        raise DataError(str(err)) from err
