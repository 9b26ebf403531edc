"""A host's disk (an ext4 image) and its file tree (an overlay of that disk over the base tree)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .config import Places
from .machine import run
from .ui import LabError


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


def attach(image: Path, disk: Path) -> None:
    if not os.path.ismount(disk):
        disk.mkdir(parents=True, exist_ok=True)
        run("mount", "-o", "loop,noatime", image, disk)


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
