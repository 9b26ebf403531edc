"""Files and directories. Only what is not there is absent; all else is an error.

``os.path.exists`` and its like say no to a disk that errs, a mount that is gone, and a right that
is missing. Whoever goes by that takes a member that has data for one without.
"""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from typing import Any

from etcd_ha_common_errors import Failed

# Something on the way there is missing, or is no directory.
ABSENT = (FileNotFoundError, NotADirectoryError)


class Unreadable(Failed):
    """A file or directory is there, or may be, and cannot be read."""


class Malformed(Unreadable):
    """A file can be read, and is not what was written there, or half of it."""


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn an OSError into Unreadable, but for that a file or a process is not there."""
    try:
        yield
    except (*ABSENT, ProcessLookupError):
        raise
    except OSError as err:
        raise Unreadable(f"{path} cannot be read: {err.strerror or err}") from err


def exists(path: str) -> bool:
    """Whether something is there; a link that leads nowhere is not."""
    return _mode(path) is not None


def lexists(path: str) -> bool:
    """Whether something is there, if only a link that leads nowhere."""
    try:
        with reading(path):
            os.lstat(path)
    except ABSENT:
        return False
    return True


def is_directory(path: str) -> bool:
    """Whether a directory is there."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def is_file(path: str) -> bool:
    """Whether a regular file is there."""
    mode = _mode(path)
    return mode is not None and stat.S_ISREG(mode)


def _mode(path: str) -> int | None:
    try:
        with reading(path):
            return os.stat(path).st_mode
    except ABSENT:
        return None


def names(folder: str) -> list[str]:
    """What is in a directory, sorted; nothing where there is none."""
    try:
        with reading(folder):
            return sorted(os.listdir(folder))
    except ABSENT:
        return []


def is_empty(path: str, but: str = "") -> bool:
    """Whether nothing is there but directories, however deep.

    ``but`` and what is in it does not count. A link is something: it may lead to somebody's files.
    """
    if path == but or not lexists(path):
        return True
    if os.path.islink(path) or not is_directory(path):
        return False
    return all(is_empty(f"{path}/{name}", but) for name in names(path))


def text(path: str) -> str | None:
    """A file's text, None where there is none; bytes that are no text are shown as such."""
    try:
        with reading(path), open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except ABSENT:
        return None


def sha256(path: str) -> str:
    """The sha256 of a file (hex text), empty where there is none."""
    found = hashlib.sha256()
    try:
        with reading(path), open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                found.update(block)
    except ABSENT:
        return ""
    return found.hexdigest()


def mapping(path: str) -> dict[str, Any] | None:
    """A JSON mapping from a file, None where there is none.

    Raises Malformed where the file holds something else.
    """
    found = text(path)
    if found is None:
        return None
    try:
        value = json.loads(found)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Malformed(f"{path} is broken: it is not what was written there")
    return value


def below(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Each directory of a tree with the files in it; raises where one cannot be read."""

    def fails(err: OSError) -> None:
        raise Unreadable(f"{err.filename} cannot be read: {err.strerror}") from err

    for parent, _, files in os.walk(folder, onerror=fails):
        yield parent, files


def make_directory(path: str, mode: int, *, fresh: bool = False) -> None:
    """Make a directory of this mode, whatever the umask is; each missing one above it gets 0755.

    A minion of a hardened host has the umask 0077. It takes bits from the mode that ``os.mkdir``
    is given, and then etcd's user cannot enter what was made for it. One that exists keeps its
    mode; with ``fresh`` that is a FileExistsError.
    """
    parent = os.path.dirname(path)
    if parent and not os.path.isdir(parent):
        make_directory(parent, 0o755)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if fresh or not os.path.isdir(path):
            raise
        return
    os.chmod(path, mode)
