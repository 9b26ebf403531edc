"""Moving a member's directories where the pillar has them now, once its etcd is stopped.

The data moves first and its log last: etcd's unit starts only with a log, so no move that ended
half-way starts a member without its data. A move may end at any point and is resumed by the next
call: of an interrupted one, what is on its way is all that there is once the old place is empty.
A directory alone proves nothing; only files in it do. Why a move would fail:
etcd_ha_host_move_faults.
"""

import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import etcd_ha_common_files
import etcd_ha_data
import etcd_ha_host_places
import etcd_ha_host_record
import etcd_ha_machine
import etcd_ha_paths

ASIDE = re.compile(r"(removed|replaced|recovered|moved)-[0-9]{8}-[0-9]{6}")
DATA, LOG = "data_dir", "wal_dir"


class Move(NamedTuple):
    """A directory that has to move.

    ``key`` is the record's, which gets ``recorded``. ``home`` is the data directory that a log
    leaves, empty where it was apart; ``into`` the one that it enters.
    """

    key: str
    old: str
    new: str
    recorded: str
    home: str = ""
    into: str = ""


class _Log(NamedTuple):
    """Where a log is, and the data directory that it is with, if it is not apart."""

    path: str
    home: str = ""


def moves(
    process: Mapping[str, str], record: Mapping[str, Any], environment: Mapping[str, str]
) -> list[Move]:
    """Directories whose content has to move, in this order.

    ``process`` and ``environment`` are variables of etcd, as it runs and as it should; ``record``
    knows where the data was when the member was last healthy.
    """
    new = environment.get("ETCD_DATA_DIR", "")
    if not new:
        return []
    known = [
        (process.get("ETCD_DATA_DIR") or "", process.get("ETCD_WAL_DIR") or ""),
        (record.get("data_dir") or "", record.get("wal_dir") or ""),
    ]
    data = _data_moves([folder for folder, _ in known if folder], new)
    logs = [_log(folder, path) for folder, path in known if folder or path]
    wanted = _log(new, environment.get("ETCD_WAL_DIR", ""))
    return [*data, *_log_moves(logs, wanted, new, data)]


def _log(data_dir: str, path: str) -> _Log:
    return _Log(path) if path else _Log(f"{data_dir}/member/wal", data_dir)


def _data_moves(known: Sequence[str], new: str) -> list[Move]:
    """The move of the data, if it is not where it should be; ``known``: where it was, latest first.

    That something lies in the new place does not make the move done: it may be an older copy.
    """
    if known and _is_same(known[0], new) and _holds_data(new):
        return []
    on_ways = map(etcd_ha_machine.on_its_way, (new, *known))
    for old in dict.fromkeys((*known, *on_ways)):
        if not _is_same(old, new) and _holds_data(old):
            return [Move(DATA, old, new, new)]
    return []


def _log_moves(known: Sequence[_Log], wanted: _Log, new: str, data: Sequence[Move]) -> list[Move]:
    """The move of the log, if it is neither in its place nor comes there with the data.

    Where nothing is known any more, it is looked for on its way, and with data that has moved.
    """
    is_there = etcd_ha_machine.holds_log(wanted.path)
    if known and is_there and _is_same(later(known[0].path, data), wanted.path):
        return []
    ways = [_Log(etcd_ha_machine.on_its_way(one.path), one.home) for one in (wanted, *known)]
    with_data = [_log(folder, "") for folder in (new, *(one.old for one in data))]
    for old in (*known, *ways, *([] if is_there else with_data)):
        if etcd_ha_machine.holds_log(old.path):
            if _is_same(later(old.path, data), wanted.path):
                return []
            recorded = "" if wanted.home else wanted.path
            return [Move(LOG, old.path, wanted.path, recorded, old.home, wanted.home)]
    return []


def _holds_data(folder: str) -> bool:
    return not etcd_ha_common_files.is_empty(f"{folder}/member")


def _is_same(one: str, other: str) -> bool:
    return etcd_ha_host_places.true(one) == etcd_ha_host_places.true(other)


def later(path: str, moved: Sequence[Move]) -> str:
    """Where a path is once the data has moved; it may itself be a link."""
    folder, name = os.path.split(path)
    place = os.path.join(etcd_ha_host_places.true(folder), name)
    for one in moved:
        old = etcd_ha_host_places.true(one.old)
        if one.key == DATA and etcd_ha_paths.within(place, old):
            return etcd_ha_host_places.true(one.new) + place[len(old) :]
    return place


def left_at(one: Move, why: str) -> str:
    """Where the former directory stays after a copy: never in ``member``, which is etcd's."""
    if one.home:
        return f"{etcd_ha_host_places.aside(one.home, why)}/wal"
    return f"{etcd_ha_host_places.true(one.old)}.{why}"


def is_copied(old: str, scratch: str) -> bool:
    """Whether a directory cannot be renamed to there: a mount point, or on another mount."""
    known = etcd_ha_host_places.mounts()
    ends = (etcd_ha_host_places.mount_of(one, known) for one in (old, os.path.dirname(scratch)))
    return old in known or len(set(ends)) > 1


def move(moves: Sequence[Move], record: str) -> None:
    """Move the content of each directory; ``record`` is the file of the host's record."""
    for number, one in enumerate(moves):
        home = later(one.home, moves[:number]) if one.home else ""
        _move(one._replace(old=later(one.old, moves[:number]), home=home), record)


def _move(one: Move, record: str) -> None:
    """Move one directory.

    The record follows before the new place is used: what is found in there is then known by it.
    """
    new, scratch = etcd_ha_host_places.true(one.new), etcd_ha_machine.on_its_way(one.new)
    etcd_ha_common_files.make_directory(os.path.dirname(scratch), 0o700)
    if etcd_ha_host_places.true(one.old) != scratch:
        _set_out(one, scratch)
    past = etcd_ha_host_record.of(record)
    etcd_ha_machine.write_json(record, {**past, one.key: one.recorded})
    _arrive(scratch, new)


def _set_out(one: Move, scratch: str) -> None:
    """Bring a directory to where the new one will be; a copy counts once the old place is empty."""
    old = etcd_ha_host_places.true(one.old)
    shutil.rmtree(scratch, ignore_errors=True)
    if is_copied(old, scratch):
        _copy(old, scratch)
        _leave(one, old)
    else:
        os.rename(old, scratch)
    if one.key == LOG and os.path.islink(one.old):
        # It has led to the log, and leads nowhere now.
        os.unlink(one.old)


def _copy(old: str, scratch: str) -> None:
    shutil.copytree(old, scratch, symlinks=True, copy_function=_copy_with_owner, ignore=_leave_out)
    for folder, _ in etcd_ha_common_files.below(scratch):
        _give_owner(os.path.join(old, os.path.relpath(folder, scratch)), folder)
    etcd_ha_machine.sync_tree(scratch)


def _leave(one: Move, old: str) -> None:
    """Empty the old place after a copy, in one step: what is still there counts as all there is."""
    date = time.strftime("%Y%m%d-%H%M%S")
    if etcd_ha_host_places.is_mount(old):
        etcd_ha_data.set_aside(old, "moved", date)
        return
    left = left_at(one, f"moved-{date}")
    etcd_ha_common_files.make_directory(os.path.dirname(left), 0o700)
    os.rename(old, left)


def _leave_out(folder: str, names: list[str]) -> list[str]:
    """What belongs to the file system, and what was set aside before, in a mount point."""
    return [name for name in names if name == etcd_ha_data.LOST or ASIDE.fullmatch(name)]


def _arrive(scratch: str, new: str) -> None:
    """Put what has come in its place; what tells that a member holds data comes last."""
    if not etcd_ha_host_places.is_mount(new):
        _remove_empty(new)
        os.rename(scratch, new)
        etcd_ha_machine.sync_folder(os.path.dirname(new))
        return
    for entry in sorted(os.listdir(scratch), key=lambda entry: entry == "member"):
        _remove_empty(f"{new}/{entry}")
        os.rename(f"{scratch}/{entry}", f"{new}/{entry}")
    os.rmdir(scratch)
    etcd_ha_machine.sync_folder(new)


def _remove_empty(folder: str) -> None:
    """Remove a directory that holds nothing but directories, so that another may take its name."""
    if etcd_ha_common_files.is_directory(folder) and etcd_ha_common_files.is_empty(folder):
        for parent, _, _ in os.walk(folder, topdown=False):
            os.rmdir(parent)


def _copy_with_owner(source: str, target: str) -> None:
    shutil.copy2(source, target)
    _give_owner(source, target)


def _give_owner(source: str, target: str) -> None:
    found = os.stat(source)
    os.chown(target, found.st_uid, found.st_gid)
