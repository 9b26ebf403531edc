"""A host's disk (an ext4 image) and its file tree (an overlay of that disk over the base tree)."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import time
from pathlib import Path

from .config import Places
from .machine import run
from .ui import LabError

# EXT4_IOC_SHUTDOWN and EXT4_GOING_FLAGS_NOLOGFLUSH of Linux' fs/ext4/ext4.h: the file system takes
# no more writes, and writes nothing of what it still has in memory.
SHUTDOWN = 0x8004587D
WITHOUT_FLUSH = 2
# e2fsck: nothing wrong, mended, mended and to be mounted anew.
MENDED = (0, 1, 2)


def create_disk(image: Path, size: str) -> None:
    """A blank disk. It takes room on the machine only as it fills.

    No journal: a host's power loss never loses what the machine itself has in memory, and a second
    journal would make every fsync three times as slow as on the machine's own disk.
    """
    image.parent.mkdir(parents=True, exist_ok=True)
    image.unlink(missing_ok=True)
    run("truncate", "--size", size, image)
    run("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal",
        "-E", "lazy_itable_init=1,nodiscard", image)  # fmt: skip


def copy(image: Path, to: Path) -> None:
    """An image's content and holes under another name; nothing may write to it meanwhile."""
    to.parent.mkdir(parents=True, exist_ok=True)
    run("cp", "--sparse=always", "--reflink=auto", image, to)


def flush(disk: Path) -> None:
    """Write to the image what the machine's kernel still has of a disk in memory."""
    run("sync", "--file-system", disk)


def attach(image: Path, disk: Path) -> None:
    if not os.path.ismount(disk):
        disk.mkdir(parents=True, exist_ok=True)
        run("mount", "-o", "loop,noatime", image, disk)


def stop_writing(disk: Path) -> None:
    """Cut a disk's file system off from its image, so that nothing more is written to that."""
    if not os.path.ismount(disk):
        # Here the machine's own file system would be cut off.
        raise LabError(f"{disk} is no disk that is attached")
    number = os.open(disk, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(number, SHUTDOWN, struct.pack("I", WITHOUT_FLUSH))
    except OSError as err:
        raise LabError(f"the kernel does not stop the file system at {disk}: {err}") from err
    finally:
        os.close(number)


def set_free(image: Path, seconds: float = 1) -> None:
    """Have an image that was cut off be no file system's any more.

    Whoever copied the machine's mounts meanwhile, as `ip netns exec` does, still holds the one that
    was cut off, and a new mount would get that again: then the image becomes a file of its own.
    """
    deadline = time.monotonic() + seconds
    while run("losetup", "--associated", image).strip():
        if time.monotonic() > deadline:
            copy = image.with_suffix(".copy")
            run("cp", "--sparse=always", image, copy)
            copy.replace(image)
            return
        time.sleep(0.05)


def mend(image: Path) -> None:
    """Have a file system that was cut off checked and mended, as a boot would."""
    done = subprocess.run(
        ["e2fsck", "-f", "-y", image], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode not in MENDED:
        raise LabError(f"{image} cannot be mended:\n    {(done.stdout + done.stderr)[-800:]}")


def overlay(base: Path, disk: Path, root: Path) -> None:
    for folder in (disk / "upper", disk / "work", root):
        folder.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "overlay", "overlay", root,
        "-o", f"lowerdir={base},upperdir={disk}/upper,workdir={disk}/work")  # fmt: skip


def below(folder: Path) -> list[str]:
    """Mount points at or below a folder, innermost first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    inside = [p for p in points if p == str(folder) or p.startswith(f"{folder}/")]
    return sorted(inside, key=len, reverse=True)


def detach(folder: Path) -> None:
    """Unmount all at or below a folder."""
    for point in below(folder):
        done = subprocess.run(["umount", point], capture_output=True, text=True)
        if done.returncode and point in below(folder):
            raise LabError(f"{point} cannot be unmounted: {done.stderr.strip()}")


def loops(places: Places) -> list[str]:
    """Loop devices that still hold one of this lab's disks."""
    listed = run("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE").splitlines()
    rows = [line.split(None, 1) for line in listed if line.strip()]
    return [name for name, *file in rows if file and file[0].startswith(f"{places.disks}/")]
