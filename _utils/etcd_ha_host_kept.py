"""Copies of what somebody else left at places that this formula writes.

Nothing of others is overwritten without one. What the last converge wrote down is ours, and so is a
file whose first line says so.
"""

import os
import shutil
import time
from collections.abc import Iterable, Mapping

import etcd_ha_common_files
import etcd_ha_host_units
import etcd_ha_machine

FOLDER = "/var/lib/etcd_ha/kept"


def foreign(paths: Iterable[str], known: Mapping[str, str]) -> list[str]:
    """Those of the paths where a file of others lies; ``known`` are the files of the mark."""
    return [path for path in dict.fromkeys(paths) if path not in known and _is_others(path)]


def keep(paths: Iterable[str], known: Mapping[str, str], follow: bool = True) -> dict[str, str]:
    """Copy what others left there, unless the same copy is there already: path -> its copy.

    Mode, owner and times are kept. Of a link the content is, which a state would overwrite where it
    is; without ``follow`` the link itself, for where the link is replaced. The folder is root's
    alone.
    """
    found = foreign(paths, known)
    copies: dict[str, str] = {}
    for path in found:
        if _is_kept(path, follow):
            continue
        copies[path] = f"{FOLDER}/{time.strftime('%Y%m%d-%H%M%S')}{path}"
        _copy(path, copies[path], follow)
    return copies


def _is_others(path: str) -> bool:
    if etcd_ha_common_files.lexists(path) and os.path.islink(path):
        # A mask is nobody's content, and a link of ours leads to what lies elsewhere.
        return not os.readlink(path).endswith("/null") and etcd_ha_common_files.exists(path)
    if not etcd_ha_common_files.is_file(path):
        return False
    first = etcd_ha_machine.read_text(path).partition("\n")[0]
    return not first.startswith(etcd_ha_host_units.OURS)


def _is_kept(path: str, follow: bool) -> bool:
    """Whether the newest copy of this file is what lies there now."""
    dates = etcd_ha_common_files.names(FOLDER)
    copies = [f"{FOLDER}/{date}{path}" for date in dates]
    there = [copy for copy in copies if os.path.lexists(copy)]
    if not there:
        return False
    if not follow and (os.path.islink(path) or os.path.islink(there[-1])):
        return os.path.islink(there[-1]) and os.readlink(path) == os.readlink(there[-1])
    return etcd_ha_machine.sha256_file(path) == etcd_ha_machine.sha256_file(there[-1])


def _make_private(folder: str) -> None:
    """Make a folder, and those above it up to FOLDER, root's alone, whatever the umask is."""
    if folder != FOLDER:
        _make_private(os.path.dirname(folder))
    etcd_ha_common_files.make_directory(folder, 0o700)
    os.chmod(folder, 0o700)


def _copy(path: str, copy: str, follow: bool) -> None:
    _make_private(os.path.dirname(copy))
    shutil.copy2(path, f"{copy}.part", follow_symlinks=follow)
    found = os.stat(path, follow_symlinks=follow)
    os.chown(f"{copy}.part", found.st_uid, found.st_gid, follow_symlinks=False)
    os.replace(f"{copy}.part", copy)
    etcd_ha_machine.sync_folder(os.path.dirname(copy))
