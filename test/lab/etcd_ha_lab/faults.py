"""Faults: what happens to real machines, and `heal`, which undoes any of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

from . import cgroups, hosts, lab, mounts, network, salt
from .config import Host, Places
from .ui import LabError, say, size, step

BALLAST = "ballast"
PAGE = 4096


def kill(places: Places, name: str, drop_cache: bool = False) -> None:
    """Power loss. The disk stays as it is; `heal` boots the host again.

    With `drop_cache` the disk has what was written to it by then, and no more: what programs had
    handed to the kernel without an fsync is lost, but for what the kernel wrote by itself, as it
    does after half a minute. Without it the machine's own memory keeps all that.
    """
    if not drop_cache:
        hosts.power_off(places, name)
        say(f"{name} is off, its disk as it was: `lab fault {name} heal` boots it")
        return
    own = cgroups.of_host(places, name)
    if own.is_dir() and not cgroups.is_frozen(own):
        cgroups.freeze(own, True)
    mounts.stop_writing(places.disk(name))
    hosts.power_off(places, name)
    mounts.detach(places.disk(name))
    mounts.set_free(places.image(name))
    mounts.mend(places.image(name))
    mounts.attach(places.image(name), places.disk(name))
    say(
        f"{name} is off, and what was not yet written to its disk is lost: "
        f"`lab fault {name} heal` boots it"
    )


def freeze(places: Places, name: str) -> None:
    """Every process stands still; connections stay open and nobody answers."""
    _must_be_on(places, name)
    cgroups.freeze(cgroups.of_host(places, name), True)
    say(f"{name} stands still: `lab fault {name} heal` lets it go on")


def cut(places: Places, name: str, others: list[str], one_way: bool) -> None:
    """Pull the plug, or (with `others`) drop packets between a host and these alone."""
    if not others:
        network.set_port(places, name, up=False)
        say(f"{name} is cut off: `lab fault {name} heal` plugs it in")
        return
    pairs = _cuts(places)
    for other in others:
        here, there = Host(name).address, Host(other).address
        pairs |= {(there, here)} if one_way else {(there, here), (here, there)}
    _set_cuts(places, pairs)
    direction = "hears nothing from" if one_way else "is cut off from"
    say(f"{name} {direction} {', '.join(others)}: `lab fault {name} heal` mends it")


def wipe(places: Places, name: str, folder: str | None) -> None:
    """Power loss and a blank disk, then a boot; or (with `folder`) that folder's content alone."""
    if folder is None:
        lab.reset(places, [name])
        say(f"{name} came back with a blank disk")
        return
    _must_be_on(places, name)
    if not folder.startswith("/") or os.path.normpath(folder) == "/":
        raise LabError(f"--data takes the folder to empty, as /var/lib/etcd, not '{folder}'")
    target = places.root(name) / folder.lstrip("/")
    if not target.is_dir():
        raise LabError(f"{name} has no folder {folder}")
    own = cgroups.of_host(places, name)
    # While all stands still, nothing can write in between, and systemd cannot start anything again.
    cgroups.freeze(own, True)
    try:
        for pid in _users_of(own, folder):
            os.kill(pid, signal.SIGKILL)
        for entry in target.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    finally:
        cgroups.freeze(own, False)
    say(f"{folder} of {name} is empty, and what wrote there was killed")


def _users_of(cgroup: Path, folder: str) -> list[int]:
    """Processes that have a file below the folder open."""
    users = []
    for pid in cgroups.processes(cgroup):
        try:
            files = [os.readlink(f.path) for f in os.scandir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        if any(file.startswith(f"{folder.rstrip('/')}/") for file in files):
            users.append(pid)
    return users


def flip(places: Places, name: str, path: str, spot: float) -> None:
    """Flip one bit of a file, or of the newest file of a folder, where it is not blank.

    `spot` (0 to 1) is how far into that it lies. A host that is off has its disk changed.
    """
    if not path.startswith("/"):
        raise LabError(f"--data takes the file to spoil, as /var/lib/etcd/member/wal, not '{path}'")
    if not 0 <= spot <= 1:
        raise LabError(f"--spot is from 0 (the begin) to 1 (the end), not {spot}")
    running = hosts.first_process(places, name)
    tree = places.root(name) if running else places.disk(name) / "upper"
    target = tree / path.lstrip("/")
    if target.is_dir():
        files = sorted(entry for entry in target.iterdir() if entry.is_file())
        named = [file for file in files if file.suffix in (".wal", ".snap", ".db")]
        if not files:
            raise LabError(f"{path} of {name} holds no file")
        target = (named or files)[-1]
    if not target.is_file():
        raise LabError(f"{name} has no file {path} of its own")
    position = spoil(target, spot)
    say(f"bit 4 of byte {position} of {target.relative_to(tree)} on {name} is flipped")


def spoil(file: Path, spot: float) -> int:
    """Flip a bit in that part of a file that is not blank; the byte's place."""
    with file.open("r+b") as held:
        blank, used, number = bytes(PAGE), [], 0
        while page := held.read(PAGE):
            if page != blank[: len(page)]:
                used.append(number)
            number += 1
        if not used:
            raise LabError(f"{file.name} is blank: there is no bit to spoil")
        place = min(int(spot * len(used)), len(used) - 1)
        held.seek(used[place] * PAGE)
        page = held.read(PAGE)
        # The last page of a log holds little: a byte of what it holds.
        length = len(page.rstrip(b"\0"))
        within = min(int((spot * len(used) - place) * length), length - 1)
        position = used[place] * PAGE + within
        held.seek(position)
        held.write(bytes([page[within] ^ 0x10]))
        return position


def flap(places: Places, name: str, every: float, seconds: float) -> None:
    """Pull the plug and put it in again, over and over; it is in at the end."""
    if every <= 0 or seconds <= 0:
        raise LabError("--every and --for are seconds above 0")
    ends, times = time.monotonic() + seconds, 0
    try:
        while time.monotonic() < ends:
            network.set_port(places, name, up=False)
            time.sleep(every)
            network.set_port(places, name, up=True)
            time.sleep(every)
            times += 1
    finally:
        network.set_port(places, name, up=True)
    say(f"the link of {name} was down {times} times in {seconds:.0f} s, and is up")


def clock(places: Places, name: str) -> None:
    """Say why a host's clock cannot jump."""
    raise LabError(
        "the hosts of a lab share the machine's wall clock: Linux has time namespaces for the "
        f"monotonic clock alone. `lab fault {name} freeze`, then heal, is what a jump forward "
        "looks like to the processes of a host"
    )


def fill(places: Places, name: str, leave: int) -> None:
    """Fill the host's disk, all but `leave` bytes."""
    disk = places.disk(name)
    room = os.statvfs(disk)
    free = room.f_bavail * room.f_frsize - leave
    if free <= 0:
        raise LabError(f"the disk of {name} is full already")
    with (disk / BALLAST).open("ab") as ballast:
        start = ballast.tell()
        # What the file system needs for its own books is not known before; take what there is.
        while free > 4096:
            try:
                os.posix_fallocate(ballast.fileno(), start, free)
            except OSError:
                free = free * 99 // 100
                continue
            start += free
            room = os.statvfs(disk)
            free = room.f_bavail * room.f_frsize - leave
    room = os.statvfs(disk)
    left = size(room.f_bavail * room.f_frsize)
    say(f"the disk of {name} has {left} left: `lab fault {name} heal` frees it")


def heal(places: Places, name: str, wait: bool = True) -> None:
    """Undo whatever was done to a host; if it was off, boot it with its disk as it was."""
    record = lab.require(places)
    clear(places, name)
    if hosts.first_process(places, name):
        say(f"{name} is well")
        return
    with step(f"{name} is on again"):
        hosts.mount(places, Host(name), record.base.tree)
        # A kernel forgets its firewall when the power goes.
        network.disconnect(places, name)
        network.connect(places, Host(name))
        hosts.boot(places, Host(name))
        hosts.wait_on(places, [name])
        if wait:
            on = [n for n in record.minions if hosts.first_process(places, n)]
            salt.wait_for(places, on if name == "master" else [name])


def clear(places: Places, name: str) -> None:
    """Undo what can be undone without a boot."""
    network.set_port(places, name, up=True)
    _set_cuts(places, {pair for pair in _cuts(places) if Host(name).address not in pair})
    own = cgroups.of_host(places, name)
    if own.is_dir() and cgroups.is_frozen(own):
        cgroups.freeze(own, False)
    (places.disk(name) / BALLAST).unlink(missing_ok=True)


def state(places: Places, name: str) -> str:
    """`running` or what is wrong, as seen on the machine and not as remembered."""
    found = []
    own = cgroups.of_host(places, name)
    if hosts.first_process(places, name) is None:
        found.append("off")
    elif cgroups.is_frozen(own):
        found.append("frozen")
    if name in network.unplugged(places):
        found.append("cut")
    if any(Host(name).address in pair for pair in _cuts(places)):
        found.append("cut in part")
    if (places.disk(name) / BALLAST).exists():
        found.append("full")
    return ", ".join(found) or "running"


def _must_be_on(places: Places, name: str) -> None:
    if hosts.first_process(places, name) is None:
        raise LabError(f"{name} is off: `lab fault {name} heal` switches it on")


def _cuts(places: Places) -> set[tuple[str, str]]:
    try:
        return {(source, target) for source, target in json.loads(places.cuts.read_text())}
    except FileNotFoundError:
        return set()


def _set_cuts(places: Places, pairs: set[tuple[str, str]]) -> None:
    if pairs == _cuts(places):
        return
    network.drop(places, sorted(pairs))
    places.cuts.write_text(json.dumps(sorted(pairs)))
