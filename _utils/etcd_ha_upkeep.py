"""What keeps a database small and its members alike, as steps: defragment, leave NOSPACE, CORRUPT.

Each member stands still while it is defragmented: it is taken as one that is down for so long.
"""

import etcd_ha_parts
import etcd_ha_space
from etcd_ha_course import Course
from etcd_ha_steps import Refused, Step

MODULE = "etcd_ha_maintenance"


def defragmentation(course: Course) -> tuple[list[Step], tuple[str, ...]]:
    """Defragment the members where it pays, one by one, the leader last; and notes on all."""
    settings = course.cluster.settings["maintenance"]["defragment"]
    notes = []
    for minion in course.leader_last():
        host, name = course.observed[minion], course.members[minion].name
        told = f"{name}: {etcd_ha_space.state(host)}"
        if not host.healthy:
            notes.append(f"{name} is not healthy and is passed over")
        elif etcd_ha_space.pays(host.db_size, host.db_in_use, settings):
            _defragment(course, minion, f"{etcd_ha_space.state(host)}")
        else:
            notes.append(f"{told}: it would not pay")
    steps = [*course.taken, etcd_ha_parts.verify(course.cluster)] if course.taken else []
    return steps, tuple(notes)


def recovery(course: Course) -> list[Step]:
    """Out of NOSPACE: compact, defragment each member, and disarm that alarm."""
    if not etcd_ha_space.is_full(course.observed):
        return []
    name = course.cluster.name
    if _is_corrupt(course):
        raise Refused(
            f"{name} has the alarm CORRUPT beside NOSPACE, and etcd compacts nothing meanwhile. "
            "Run salt-run state.orchestrate etcd_ha.orch first, which replaces the member whose "
            "data is wrong"
        )
    _refuse_unhealthy(course)
    course.taken.append(
        Step(
            title=f"{name}: compact to the present revision",
            kind="function",
            targets=(course.speaker(),),
            function=f"{MODULE}.compact",
            why="older revisions of the keys take space; watchers that are behind must begin anew",
        )
    )
    for minion in course.leader_last():
        _defragment(course, minion, "what the compaction freed is given back to the disk")
    course.taken.append(
        Step(
            title=f"{name}: disarm NOSPACE once every database is below its quota",
            kind="function",
            targets=(course.speaker(),),
            function=f"{MODULE}.disarm",
            arguments={"alarm": etcd_ha_space.NOSPACE},
            why="etcd takes writes again only then; no other alarm is touched",
        )
    )
    return [*course.taken, etcd_ha_parts.verify(course.cluster)]


def clear_corruption(course: Course) -> None:
    """Once nobody with other data is left, have etcd take writes again.

    The alarm outlives the member that it was raised for: neither its removal nor a member in its
    place disarms it (seen with 3.4.23 to 3.7.1).
    """
    if not _is_corrupt(course):
        return
    course.taken.append(
        Step(
            title=f"{course.cluster.name}: see that all members hold the same, disarm CORRUPT",
            kind="function",
            targets=(course.speaker(),),
            function=f"{MODULE}.disarm",
            arguments={"alarm": etcd_ha_space.CORRUPT},
            why="etcd takes no writes while this alarm is raised",
        )
    )


def refuse_disputed(course: Course) -> None:
    """Stop where members hold different data and no majority says which is right."""
    disputed = next((host.disputed for host in course.observed.values() if host.disputed), "")
    if disputed:
        raise Refused(
            f"{course.cluster.name} has the alarm CORRUPT, and it is not clear whose data is right "
            f"({disputed}). Nothing is replaced: look with salt-run etcd_ha.hash_kv, and take the "
            "member whose data is wrong out of the pillar, or restore a backup"
        )


def _defragment(course: Course, minion: str, why: str) -> None:
    """Enter a member's defragmentation; it is healthy again after it, and does not lead."""
    course.gate(minion)
    successor = course.next_leader(minion)
    away, role = course.handing_to(successor), course.role_of(minion)
    name, now = course.members[minion].name, course.now(minion)
    step = Step(
        title=f"{course.cluster.name}: {name}: {away}defragment {role}, then wait until it is fit",
        kind="function",
        targets=(minion,),
        function=f"{MODULE}.defragment",
        arguments={"successor": course.members[successor].name if successor else ""},
        why=why,
        disruptive=True,
    )
    course.enter(minion, now, step)


def _is_corrupt(course: Course) -> bool:
    return any(etcd_ha_space.CORRUPT in host.alarms for host in course.observed.values())


def _refuse_unhealthy(course: Course) -> None:
    sick = [m for m in course.running() if course.ids[m] not in course.membership.healthy]
    if sick:
        raise Refused(
            f"{', '.join(sick)} is not healthy, and its database may be full as well. Run "
            f"salt-run state.orchestrate etcd_ha.orch first, which heals or replaces it, or take "
            "it out of the pillar"
        )
