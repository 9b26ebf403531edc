"""Why a member's directories cannot move, or its etcd cannot use them: known before it is stopped.

``conflict`` only looks, so the plan asks it, too; ``fault`` also tries on the disk.
"""

import os
from collections.abc import Iterator, Mapping, Sequence

import etcd_ha_common_files
import etcd_ha_data
import etcd_ha_host_move_data
import etcd_ha_host_places
import etcd_ha_machine
from etcd_ha_host_move_data import DATA, LOG, Move, is_copied, later
from etcd_ha_host_places import TRYING, true
from etcd_ha_paths import within

# Bytes that must stay free where a copy goes.
ROOM = 64 << 20


def conflict(moves: Sequence[Move], environment: Mapping[str, str]) -> str:
    """Why the member cannot run with these directories, with the cure; empty where it can.

    ``moves`` are what ``environment`` makes necessary. Reads only.
    """
    new, log = environment.get("ETCD_DATA_DIR", ""), environment.get("ETCD_WAL_DIR", "")
    if not new:
        return ""
    data = next((one.old for one in moves if one.key == DATA), new)
    if log and within(true(log), f"{true(new)}/member"):
        return (
            f"wal_dir is {os.path.dirname(log)}, inside {new}/member, whose content is etcd's own. "
            "Give a directory outside of it"
        )
    return (
        etcd_ha_host_places.link_fault(data, apart=bool(log))
        or _log_in_target(moves, log)
        or next((told for told in map(_conflict, moves, [moves] * len(moves)) if told), "")
    )


def _conflict(one: Move, moves: Sequence[Move]) -> str:
    return _nested(one, moves) or _mounted(one) or _occupied(one, moves)


def _log_in_target(moves: Sequence[Move], log: str) -> str:
    """Why the data cannot go to where the log is: one of them would take the other's place."""
    for data in (one for one in moves if one.key == DATA):
        for path in (log, *(one.old for one in moves if one.key == LOG and not one.home)):
            inside = within(true(path), true(data.new)) and not within(true(path), true(data.old))
            if path and inside and etcd_ha_machine.holds_log(path):
                return (
                    f"the member's log is in {path}, so its data cannot move to {data.new}. Give "
                    "another data_dir"
                )
    return ""


def _nested(one: Move, moves: Sequence[Move]) -> str:
    """Why a directory cannot move into itself, or to where it lies in."""
    old, new, scratch = true(one.old), true(one.new), etcd_ha_machine.on_its_way(one.new)
    leaving = [true(other.old) for other in (*moves, one) if other.key in (DATA, one.key)]
    for place in leaving:
        if within(new, place):
            return (
                f"{one.key} cannot move to {new}, which lies in {place}: nothing moves into "
                f"itself. Give a directory outside of {place}"
            )
    if old != scratch and within(old, new) and is_copied(old, scratch):
        return (
            f"{one.key} cannot move from {old} to {new}, in which it lies on a file system of its "
            f"own. Give a directory outside of {new}"
        )
    return ""


def _mounted(one: Move) -> str:
    """Why a mount point is in the way: it cannot be renamed, and a log must move in one step."""
    known, old, new = etcd_ha_host_places.mounts(), true(one.old), true(one.new)
    if one.key == LOG and new in known:
        return (
            f"{new} is a mount point of its own, so it cannot be renamed. Mount that disk at "
            f"{os.path.dirname(new)} instead"
        )
    inside = [point for point in sorted(known) for end in (old, new) if _is_below(point, end)]
    points = ([old] if one.key == LOG and old in known else []) + inside
    if points:
        return (
            f"{points[0]} is a mount point, which cannot move along. Stop etcd, unmount it, and "
            f"put what it holds into {points[0]} itself"
        )
    return ""


def _is_below(point: str, place: str) -> bool:
    return point != place and within(point, place)


def _occupied(one: Move, moves: Sequence[Move]) -> str:
    """Why a place is not free: an older copy there would be taken for the member's own data."""
    found = next(iter(_others(one, moves)), "")
    if not found:
        return ""
    return (
        f"{found} is there already, and the member's {'data' if one.key == DATA else 'log'} is in "
        f"{one.old}. Only one of them can be used: move the older one away. That is {found}, "
        "unless somebody has copied the newest there while etcd was stopped"
    )


def _others(one: Move, moves: Sequence[Move]) -> Iterator[str]:
    """What lies where a directory is to go, and is not part of its move."""
    old, new, scratch = true(one.old), true(one.new), etcd_ha_machine.on_its_way(one.new)
    if one.key == LOG:
        # Data that moves before it brings what lies in that place of it.
        before = [f"{move.old}/member/wal" for move in moves if move.key == DATA and one.into]
        places = [one.new, *(place for place in before if true(place) != old)]
    elif not etcd_ha_host_places.is_mount(new):
        places = [f"{one.new}/{name}" for name in etcd_ha_common_files.names(new)]
    elif old == scratch:
        places = [f"{one.new}/member"]
    else:
        names = (name for name in etcd_ha_common_files.names(new) if not _is_own(name))
        places = [f"{one.new}/{name}" for name in names if f"{new}/{name}" != scratch]
    for place in places:
        if not etcd_ha_common_files.is_empty(_plain(place), but=old):
            yield place


def _plain(place: str) -> str:
    """A path without links on the way to it."""
    return os.path.join(true(os.path.dirname(place)), os.path.basename(place))


def _is_own(name: str) -> bool:
    """What is in a mount point beside data: the file system's, and what was set aside."""
    return name == etcd_ha_data.LOST or bool(etcd_ha_host_move_data.ASIDE.fullmatch(name))


def fault(moves: Sequence[Move]) -> str:
    """Why one of these moves would fail, with the cure; empty where none will.

    Directories are made, renamed and removed for it.
    """
    for one in moves:
        told = _conflict(one, moves) or _rename_fault(one, moves)
        if told:
            return told
    return _room_fault(moves)


def _rename_fault(one: Move, moves: Sequence[Move]) -> str:
    """Why a directory could not leave its old place, or arrive at the new one."""
    old, scratch = true(one.old), etcd_ha_machine.on_its_way(one.new)
    trying = f"{scratch}.{TRYING}"
    # Where the data moves first, its own move has tried what a log in it needs.
    data = any(other.key == DATA for other in moves) and one.key == LOG
    if not (data and one.into):
        arriving = etcd_ha_host_places.moving_fault(os.path.dirname(scratch), [], trying)
        if arriving or old == scratch or (data and one.home):
            return arriving
    if etcd_ha_host_places.is_mount(old):
        return etcd_ha_data.set_aside_fault(old, "moved")
    folder, name = os.path.split(old)
    if is_copied(old, scratch):
        left = etcd_ha_host_move_data.left_at(one, TRYING)
        trying = os.path.dirname(left) if one.home else left
    elif data and one.into:
        trying = f"{old}.{TRYING}"
    return etcd_ha_host_places.moving_fault(folder, [name], trying)


def _room_fault(moves: Sequence[Move]) -> str:
    """Why there is not enough room for all that is copied to a file system."""
    known, needed = etcd_ha_host_places.mounts(), dict[str, int]()
    for number, one in enumerate(moves):
        old, scratch = true(one.old), etcd_ha_machine.on_its_way(one.new)
        if old == scratch or not is_copied(true(later(one.old, moves[:number])), scratch):
            continue
        point = etcd_ha_host_places.mount_of(os.path.dirname(scratch), known)
        needed[point] = needed.get(point, ROOM) + etcd_ha_data.size(old)
        free = etcd_ha_data.free(one.new)
        if free < needed[point]:
            return (
                f"{one.new} is on another file system than {old} and has {free >> 20} MiB free; "
                f"{needed[point] >> 20} MiB are needed for the copy. Make room there"
            )
    return ""
