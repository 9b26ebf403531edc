"""The one kernel limit that many systemds on one machine run into: inotify instances of root.

A distribution's default is 128, one host takes about six. It is raised only where hosts would not
boot otherwise, and set back when the last lab goes down.
"""

from __future__ import annotations

import os
from pathlib import Path

from .config import RUN, labs
from .ui import say

LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
BEFORE = RUN / "inotify.before"
PER_HOST = 8
ROOMY = 1024


def in_use() -> int:
    """inotify instances of all processes on this machine."""
    count = 0
    for process in os.scandir("/proc"):
        if not process.name.isdigit():
            continue
        try:
            for descriptor in os.scandir(f"/proc/{process.name}/fd"):
                count += os.readlink(descriptor.path) == "anon_inode:inotify"
        except OSError:  # it ended under our hands
            continue
    return count


def make_room(hosts: int) -> None:
    """Raise the limit if that many more hosts would not boot under it."""
    limit = int(LIMIT.read_text())
    if limit >= ROOMY or in_use() + hosts * PER_HOST <= limit:
        return
    if not BEFORE.exists():
        BEFORE.write_text(str(limit))
    LIMIT.write_text(str(ROOMY))
    say(f"raised fs.inotify.max_user_instances from {limit} to {ROOMY} until the last lab is down")


def restore() -> None:
    """Set the limit back, unless another lab still runs."""
    if BEFORE.exists() and not labs():
        LIMIT.write_text(BEFORE.read_text())
        BEFORE.unlink()
