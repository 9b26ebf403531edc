"""Whose a stopped member's files are: etcd reads and writes nothing that is another user's.

Root's tools leave them behind (an offline ``etcdutl defrag`` replaces the database by a file of
root's), and on a host whose root disk was made anew users have other numbers than those on the
data's disk.
"""

import os
import pwd
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator

import etcd_ha_common_files
import etcd_ha_host_places
from etcd_ha_common_errors import Failed
from etcd_ha_common_text import few

# A member has some dozens of files. Where there are more, this is no member's directory.
MOST = 20_000

# A directory (its number), a name in it, the path of both, and what is there.
_Entry = tuple[int, str, str, os.stat_result]


class OwnerError(Failed):
    """A file could not be given to etcd's user; the text says what to do next."""


def wrong(places: Iterable[tuple[str, str]]) -> list[str]:
    """The paths that etcd's user does not own, or may not read and write.

    ``places`` are directories with the name of what in them belongs to the member. The directory
    says who etcd's user is: the formula sets its owner before. Raises OwnerError, Unreadable.
    """
    return _each(places, lambda entry, owner: None)


def is_anothers(places: Iterable[tuple[str, str]], user: str) -> bool:
    """Whether a directory that etcd uses, or what is in it, is another user's than this one's.

    Its files come and go meanwhile, so that they are not looked at one by one.
    """
    wanted = pwd.getpwnam(user).pw_uid
    paths = [path for folder, part in places for path in (folder, os.path.join(folder, part))]
    there = filter(etcd_ha_common_files.is_directory, paths)
    return any(os.stat(path).st_uid != wanted for path in there)


def give_folders(places: Iterable[tuple[str, str]], user: str, group: str) -> None:
    """Give the directories themselves to a user, as ``give`` does for what is in them."""
    for folder, _ in places:
        if etcd_ha_common_files.is_directory(folder):
            shutil.chown(folder, user, group)


def give(places: Iterable[tuple[str, str]]) -> list[str]:
    """Give all of a member's files to etcd's user; the paths that were not, see ``wrong``."""
    return _each(places, _give)


def told(paths: list[str]) -> dict[str, str]:
    """An entry of ``changes`` for these paths."""
    return {"old": f"another user: {few(paths)}", "new": "etcd's user"}


def _each(
    places: Iterable[tuple[str, str]], act: Callable[[_Entry, os.stat_result], None]
) -> list[str]:
    found = []
    for folder, part in places:
        if not etcd_ha_common_files.is_directory(os.path.join(folder, part)):
            continue
        owner = os.stat(folder)
        try:
            for entry in _entries(folder, part):
                if _is_wrong(entry[3], owner):
                    act(entry, owner)
                    found.append(entry[2])
        except OSError as err:
            path = os.path.join(folder, part)
            raise OwnerError(
                f"not all files below {path} can be given to etcd's user ({err}). Do it by hand: "
                f"chown -R {owner.st_uid}:{owner.st_gid} {path}, then run again"
            ) from err
    return found


def _entries(folder: str, part: str) -> Iterator[_Entry]:
    """A directory and all in it; neither links nor mount points are entered.

    By file descriptors: no link that appears meanwhile leads root to somebody else's file.
    """
    top, known, seen = os.path.join(folder, part), etcd_ha_host_places.mounts(), 0
    if os.path.islink(top):
        return
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield number, part, top, os.stat(part, dir_fd=number, follow_symlinks=False)
    finally:
        os.close(number)
    for parent, folders, files, within in os.fwalk(top, onerror=_raise, follow_symlinks=False):
        here = etcd_ha_host_places.true(parent)
        folders[:] = [name for name in folders if f"{here}/{name}" not in known]
        seen += len(folders) + len(files)
        if seen > MOST:
            raise OwnerError(
                f"{top} has more than {MOST} files, so it is not a member's directory alone. Move "
                "away what is not etcd's, then run again"
            )
        for name in (*folders, *(one for one in files if f"{here}/{one}" not in known)):
            there = os.stat(name, dir_fd=within, follow_symlinks=False)
            yield within, name, f"{parent}/{name}", there


def _raise(err: OSError) -> None:
    raise err


def _needed(mode: int) -> int:
    """What its owner must be able to do with a file or directory of this mode."""
    return 0o700 if stat.S_ISDIR(mode) else 0o600


def _is_wrong(there: os.stat_result, owner: os.stat_result) -> bool:
    if not (stat.S_ISDIR(there.st_mode) or stat.S_ISREG(there.st_mode)):
        return False
    needed = _needed(there.st_mode)
    return there.st_uid != owner.st_uid or there.st_mode & needed != needed


def _give(entry: _Entry, owner: os.stat_result) -> None:
    within, name, path, there = entry
    if stat.S_ISREG(there.st_mode) and there.st_nlink > 1:
        raise OwnerError(
            f"{path} is not etcd's user's, and has another name elsewhere (a hard link), so its "
            f"owner is not changed. Replace it by a copy: cp -p {path} {path}.copy && "
            f"mv {path}.copy {path}, then run again"
        )
    os.chown(name, owner.st_uid, owner.st_gid, dir_fd=within, follow_symlinks=False)
    needed = _needed(there.st_mode)
    if there.st_mode & needed != needed:
        os.chmod(name, stat.S_IMODE(there.st_mode) | needed, dir_fd=within)
