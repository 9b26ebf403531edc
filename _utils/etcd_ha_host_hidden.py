"""Whether a running etcd still uses the files that its paths lead to.

A process keeps its files open whatever becomes of their names. A file system that is mounted over
the data directory, a directory that is renamed or deleted: etcd serves on and is healthy, and finds
other data, or none, at its next start. So a directory that looks empty proves nothing of a member
that runs: the files that it has open do. That is known for half a minute at most: where it cannot
list its directory to remove old files, etcd ends by itself (etcdserver's purgeFile).
"""

import os
from collections.abc import Mapping, Sequence

import etcd_ha_common_files
import etcd_ha_common_wait
import etcd_ha_host_places
import etcd_ha_host_processes
import etcd_ha_machine
import etcd_ha_plain
from etcd_ha_host_processes import OpenFile

# What has become of the files: below a mount, deleted, renamed, on a file system that is not
# mounted any more, or nobody can say.
MOUNT, DELETED, MOVED, UNMOUNTED, UNKNOWN = "mount", "deleted", "moved", "unmounted", "unknown"
# Seconds in which etcd itself has exchanged its database for another one (a defragmentation, a
# snapshot from the leader): it opens the new file shortly after it has renamed it.
SWITCH = 1.0
# From this number of members on the others can rebuild one.
REBUILT_FROM = 3


def look(pid: int, environment: Mapping[str, str], proc: str = "/proc") -> dict[str, str]:
    """What hides the data of a process from its path; empty where it uses what is there.

    ``environment`` are the variables that it was started with. Returns ``kind``, ``path`` (the
    directory) and ``by`` (the mount point, or where the files are now; empty where that is not
    known). Empty, too, where it has no such file open. Raises Unreadable.
    """
    data = environment.get("ETCD_DATA_DIR", "")
    if not pid or not data:
        return {}
    log = environment.get("ETCD_WAL_DIR") or f"{data}/member/wal"
    seen: dict[str, str] = {}

    def once() -> "tuple[dict[str, str] | None, str]":
        seen.clear()
        seen.update(_look(pid, data, log, proc))
        return (None if seen else {}), ""

    try:
        return etcd_ha_common_wait.until("etcd to use what is there", SWITCH, once)
    except etcd_ha_common_wait.TimedOut:
        return seen


def of_process(pid: int) -> dict[str, str]:
    """The same of a process by the variables that it runs with; empty for 0, where none runs."""
    return look(pid, etcd_ha_machine.process_environment(pid)) if pid else {}


def _look(pid: int, data: str, log: str, proc: str) -> dict[str, str]:
    held = etcd_ha_host_processes.open_files(pid, ("/snap/db", ".wal"), proc)
    databases = [one for one in held if one.path.endswith("/snap/db")]
    # Of the log the newest file counts: old ones are removed by etcd itself.
    logs = sorted(held, key=lambda one: os.path.basename(one.path))
    logs = [one for one in logs if one.path.endswith(".wal")][-1:]
    for folder, files in ((f"{data}/member/snap", databases), (log, logs)):
        if files and not any(_is_at(one, folder) for one in files):
            cause = _cause(files[-1], folder, proc)
            # People know the directory that the pillar names, not what etcd makes in it.
            inner = folder.removeprefix(data) if folder.startswith(f"{data}/") else ""
            by = cause["by"].removesuffix(inner) if cause["kind"] == MOVED else cause["by"]
            return {**cause, "path": folder.removesuffix(inner), "by": by}
    return {}


def _is_at(file: OpenFile, folder: str) -> bool:
    """Whether a file is in the directory that this path leads to, under its own name."""
    path = os.path.join(folder, os.path.basename(file.path))
    try:
        with etcd_ha_common_files.reading(path):
            found = os.stat(path)
    except etcd_ha_common_files.ABSENT:
        return False
    return (found.st_dev, found.st_ino) == (file.device, file.inode)


def _cause(file: OpenFile, folder: str, proc: str) -> dict[str, str]:
    if not file.links:
        return {"kind": DELETED, "by": ""}
    if file.mounted not in etcd_ha_host_processes.mounted("self", proc).values():
        return {"kind": UNMOUNTED, "by": ""}
    now = os.path.dirname(file.path)
    if _is_at(file, now):
        return {"kind": MOVED, "by": now}
    point = etcd_ha_host_places.mount_of(
        etcd_ha_host_places.true(folder), etcd_ha_host_places.mounts()
    )
    return {"kind": MOUNT, "by": point} if point != "/" else {"kind": UNKNOWN, "by": ""}


def words(found: Mapping[str, str], cluster: str, member: str, members: Sequence[str]) -> str:
    """What hides the data of a member, what must not be done meanwhile, and the cure.

    ``members`` are the names of all members of the cluster, if they are known.
    """
    kind = found.get("kind", UNKNOWN)
    path, by = (etcd_ha_plain.brief(found.get(name, "")) for name in ("path", "by"))
    if kind == MOUNT:
        return (
            f"the data that etcd uses in {path} is hidden below the mount at {by}, which was made "
            f"while etcd ran. Do not restart etcd and do not reboot the host before: umount {by}"
        )
    if kind == MOVED:
        return (
            f"the data that etcd uses is not in {path} any more, but in {by}. Do not restart etcd "
            f"and do not reboot the host before it is back at its place (mv, or the link as it was)"
        )
    if kind == UNMOUNTED:
        return (
            f"the file system with the data that etcd uses in {path} is not mounted any more. Do "
            f"not restart etcd and do not reboot the host before it is mounted there again"
        )
    if kind == DELETED:
        return (
            f"etcd runs on files of {path} that were deleted, and loses them once it ends. Do not "
            f"restart etcd and do not reboot the host. {_rebuilt(cluster, member, members)}"
        )
    return (
        f"etcd runs, but its data is not in {path or 'its data directory'}. Do not restart etcd "
        "and do not reboot the host before you know why: look at findmnt, and at the files that "
        "it has open (ls -l /proc/PID/fd)"
    )


def _rebuilt(cluster: str, member: str, members: Sequence[str]) -> str:
    """How a member whose files were deleted gets its data again."""
    if members and len(members) < REBUILT_FROM:
        return (
            "Take a backup now, and restore it: salt-run state.orchestrate etcd_ha.orch.backup "
            f'pillar=\'{{"cluster": "{cluster}"}}\''
        )
    return (
        "Have it rebuilt from the others, one member at a time and while the others have a "
        "quorum: salt-run state.orchestrate etcd_ha.orch.replace "
        f'pillar=\'{{"confirm": "{cluster}", "member": "{member}"}}\''
    )
