"""One cgroup for each host: its off switch, its pause button, the proof that nothing is left."""

from __future__ import annotations

import os
import time
from pathlib import Path

from .config import Places
from .ui import LabError


def root() -> Path:
    """Where cgroup version 2 is mounted, on a pure and on a hybrid machine."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise LabError("the lab needs cgroup version 2: boot this machine with it mounted")


def shadows(places: Places) -> list[Path]:
    """What nspawn mirrors of a lab's cgroups into version 1 hierarchies, on a hybrid machine."""
    rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    folders = [Path(row[1]) / of_lab(places).name for row in rows if row[2] == "cgroup"]
    return [folder for folder in folders if folder.is_dir()]


def of_lab(places: Places) -> Path:
    return root() / f"etcd_ha_lab.{places.lab}"


def of_host(places: Places, name: str) -> Path:
    return of_lab(places) / name


def create(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def join(path: Path) -> None:
    """Move this process into a cgroup."""
    (path / "cgroup.procs").write_text(str(os.getpid()))


def processes(path: Path) -> list[int]:
    """Every process of a cgroup and of all below it."""
    found: list[int] = []
    for folder, _, _ in os.walk(path):
        try:
            found += map(int, (Path(folder) / "cgroup.procs").read_text().split())
        except OSError:  # it ended under our hands
            continue
    return found


def is_populated(path: Path) -> bool:
    """Whether a cgroup, or any below it, has a process.

    The kernel's own word: whoever counts them folder by folder misses one that moves meanwhile, as
    nspawn does at its start.
    """
    try:
        return "populated 1" in (path / "cgroup.events").read_text()
    except OSError:
        return False


def freeze(path: Path, frozen: bool) -> None:
    (path / "cgroup.freeze").write_text("1" if frozen else "0")
    verb = "freeze" if frozen else "thaw"
    _wait(lambda: is_frozen(path) == frozen, f"{path.name} does not {verb}")


def is_frozen(path: Path) -> bool:
    try:
        return "frozen 1" in (path / "cgroup.events").read_text()
    except OSError:
        return False


def end(path: Path) -> None:
    """Kill all in a cgroup at once, as a power loss does, and remove it."""
    if not path.is_dir():
        return
    (path / "cgroup.kill").write_text("1")
    _wait(lambda: not is_populated(path), f"processes of {path.name} do not end")
    remove(path)


def remove(path: Path) -> None:
    for folder, _, _ in os.walk(path, topdown=False):
        # A cgroup stays busy for a moment after its last process ended.
        _wait(lambda folder=folder: _removed(folder), f"cgroup {folder} stays busy")


def _removed(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _wait(condition, problem: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"{problem} within {seconds:.0f} s")
        time.sleep(0.005)
