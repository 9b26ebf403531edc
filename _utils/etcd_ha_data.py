"""A member's directories: what lies ready beside them, and the exchange for what is in use."""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

import etcd_ha_machine
import etcd_ha_program

UNIT = "etcd.service"
# Seconds in which etcd's own tool must have made a member's directories.
LONGEST = 3600


class DataError(RuntimeError):
    """Something could not be done with a member's data; the text says what to do next."""


def beside(folder: str) -> str:
    """Where other data waits: on the same file system, whatever is mounted where."""
    return f"{folder}/restoring"


def places(data_dir: str, wal_dir: str | None) -> list[tuple[str, str]]:
    """The directories that are exchanged: where they are used, and where they lie ready.

    The data comes last: it is what tells that a member holds any.
    """
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
    aside = f"{folder}/{why}" if os.path.ismount(folder) else f"{folder}.{why}"
    if os.path.isdir(staged):
        if os.path.isdir(place):
            os.makedirs(aside, mode=0o700, exist_ok=True)
            os.rename(place, f"{aside}/{name}")
            etcd_ha_machine.sync_folder(os.path.dirname(aside))
        os.rename(staged, place)
        etcd_ha_machine.sync_folder(folder)
    if not os.path.isdir(place):
        raise DataError(f"{place} is missing, and so is {staged}: nothing could be put there")
    return aside if os.path.isdir(aside) else ""


def make(command: Sequence[str], folders: Sequence[str], user: str, group: str) -> None:
    """Have etcd's own tool make these directories, for etcd's user; nothing is left if it fails."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(os.path.dirname(folder), mode=0o700, exist_ok=True)
    told = _refusal(command)
    if told:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        raise DataError(f"etcd's tool refuses: {told}")
    for folder in folders:
        give(folder, user, group)


def _refusal(command: Sequence[str]) -> str:
    """Run etcd's own tool; what it says where it fails, or does not come to an end."""
    path = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    try:
        done = etcd_ha_program.run(command, path, LONGEST)
    except subprocess.TimeoutExpired:
        return f"it did not end within {LONGEST} s"
    except (OSError, ValueError, etcd_ha_program.TooMuch) as err:
        return f"it could not be run: {err}"
    told = (done.err or done.out).strip().splitlines() or ["it says nothing"]
    return told[-1][-300:] if done.code else ""


def copy(place: str, staged: str) -> None:
    """A copy that lies ready, with its owners; cheap where the file system shares blocks."""
    shutil.rmtree(staged, ignore_errors=True)
    os.makedirs(os.path.dirname(staged), mode=0o700, exist_ok=True)
    done = subprocess.run(
        ["cp", "--archive", "--reflink=auto", place, staged],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        shutil.rmtree(staged, ignore_errors=True)
        raise DataError(f"{place} could not be copied: {done.stderr.strip()[-300:]}")


def give(folder: str, user: str, group: str) -> None:
    """Make a directory and all in it a user's own, closed to everybody else."""
    for parent, _, files in os.walk(folder):
        shutil.chown(parent, user, group)
        os.chmod(parent, 0o700)
        for name in files:
            shutil.chown(f"{parent}/{name}", user, group)
            os.chmod(f"{parent}/{name}", 0o600)


def take_over(folder: str, part: str) -> bool:
    """Give ``part`` of a directory to the directory's own owner; whether that changed anything.

    On a host whose root disk was made anew, users have other numbers than those on the data's disk.
    """
    there, owner = os.path.join(folder, part), os.stat(folder)
    wanted = owner.st_uid, owner.st_gid
    if not os.path.isdir(there) or os.stat(there).st_uid == owner.st_uid:
        return False
    for parent, _, files in os.walk(there):
        for path in (parent, *(os.path.join(parent, name) for name in files)):
            os.chown(path, *wanted, follow_symlinks=False)
    return True


def free(folder: str) -> int:
    """Bytes that are free where this directory is, or will be."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def size(folder: str) -> int:
    """Bytes that the files below a directory take."""
    return sum(
        os.path.getsize(f"{parent}/{name}")
        for parent, _, files in os.walk(folder)
        for name in files
    )


def systemctl(*arguments: str, timeout: float = 60) -> str:
    """Run systemctl; returns what went wrong, empty where nothing did."""
    try:
        done = subprocess.run(
            ["systemctl", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"systemctl {' '.join(arguments)} took longer than {timeout:g} s"
    return "" if done.returncode == 0 else done.stderr.strip()[-300:] or "no word of systemctl's"


def stop(timeout: float, patience: float | None = None) -> None:
    """Stop etcd on this host, and see that it has ended; ``timeout`` and ``patience`` in seconds.

    A leader whose followers stop with it waits 7 s for one of them to take over
    (server/etcdserver/server.go, TryStopping). After ``patience`` it is killed, which is meant for
    data that nothing starts from again.
    """
    told = systemctl("stop", "--no-block", UNIT)
    deadline = time.monotonic() + timeout
    kill_at = deadline if patience is None else time.monotonic() + patience
    while _is_up(etcd_ha_machine.unit(UNIT)):
        if time.monotonic() > deadline + 5:
            raise DataError(
                f"etcd did not stop: {told or 'it still runs'}. Look at journalctl -u etcd"
            )
        if time.monotonic() > kill_at:
            systemctl("kill", "--signal=KILL", UNIT)
        time.sleep(0.1)


def _is_up(unit: Mapping[str, Any]) -> bool:
    """Also one that systemd is about to start once more."""
    return bool(unit["pid"]) or unit.get("state") in ("activating", "deactivating")


def start(timeout: float) -> None:
    """Start etcd on this host; with Type=notify it returns once a quorum was joined."""
    if etcd_ha_machine.unit(UNIT)["stale"]:
        systemctl("daemon-reload")
    if not etcd_ha_machine.unit(UNIT)["enabled"]:
        systemctl("enable", UNIT)
    systemctl("reset-failed", UNIT)
    told = systemctl("start", UNIT, timeout=timeout + 10)
    if told:
        raise DataError(f"etcd did not start: {told}. Look at journalctl -u etcd")
