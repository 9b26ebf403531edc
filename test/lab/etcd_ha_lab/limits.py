"""The one kernel limit that many systemds on one machine run into: inotify instances of root.

A distribution's default is 128, one host takes about six. It is raised only where hosts would not
boot otherwise, and set back when the last lab goes down.
"""

from __future__ import annotations

import os
from pathlib import Path

from .config import RUN, Places, labs
from .ui import say

LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
BEFORE = RUN / "inotify.before"
PER_HOST = 8
ROOMY = 1024
HOSTS_CGROUP = "/etcd_ha_lab."


def in_use() -> int:
    """inotify instances of all processes on this machine, but for those in labs' hosts."""
    count = 0
    for process in os.scandir("/proc"):
        if not process.name.isdigit():
            continue
        try:
            files = [os.readlink(d.path) for d in os.scandir(f"/proc/{process.name}/fd")]
            own = files.count("anon_inode:inotify")
            if own and HOSTS_CGROUP not in Path(f"/proc/{process.name}/cgroup").read_text():
                count += own
        except OSError:  # it ended under our hands
            continue
    return count


def hosts_of_all_labs() -> int:
    return sum(len(list(Places(lab).host("").glob("*"))) for lab in labs())


def make_room() -> None:
    """Raise the limit if the hosts of all labs, those still to boot too, do not fit under it.

    What hosts hold right now says little: another lab's may be booting. A host for which there is
    no room left comes up without a minion that answers.
    """
    limit = int(LIMIT.read_text())
    needed = in_use() + hosts_of_all_labs() * PER_HOST
    if limit >= needed:
        return
    if not BEFORE.exists():
        BEFORE.write_text(str(limit))
    roomy = max(ROOMY, needed)
    LIMIT.write_text(str(roomy))
    say(f"raised fs.inotify.max_user_instances from {limit} to {roomy} until the last lab is down")


def restore() -> None:
    """Set the limit back, unless another lab still runs."""
    if BEFORE.exists() and not labs():
        LIMIT.write_text(BEFORE.read_text())
        BEFORE.unlink()
