"""What keeps a database small and its members alike, as steps: defragment, leave NOSPACE, CORRUPT.

Each member stands still while it is defragmented: it is taken as one that is down for so long.
"""

from collections.abc import Mapping, Sequence

import etcd_ha_report
import etcd_ha_space
from etcd_ha_course import Course
from etcd_ha_steps import Refused, Step

MODULE = "etcd_ha_maintenance"


def defragmentation(course: Course) -> tuple[list[Step], tuple[str, ...]]:
    """Defragment the members where it pays, one by one, the leader last; and a note on all."""
    settings = course.cluster.settings["maintenance"]["defragment"]
    fit = _fit(course)
    paying = {
        minion
        for minion in fit
        if etcd_ha_space.pays(
            course.observed[minion].db_size, course.observed[minion].db_in_use, settings
        )
    }
    note = _sizes(
        course,
        ("FREE", "PAYS"),
        {
            minion: (f"{_free_percent(course, minion)}%", "yes" if minion in paying else "no")
            for minion in fit
        },
    )
    for minion in course.leader_last():
        if minion in paying:
            _defragment(course, minion, etcd_ha_space.state(course.observed[minion]))
    steps = [*course.taken, course.verify()] if course.taken else []
    return steps, (note,)


def nothing_to_defragment(course: Course) -> str:
    """Why no member is defragmented, where none is: the largest database, and from when it pays."""
    settings = course.cluster.settings["maintenance"]["defragment"]
    fit = _fit(course)
    if not fit:
        return "nothing to defragment: no member is healthy"
    largest = max(fit, key=lambda minion: course.observed[minion].db_size)
    host, size = course.observed[largest], etcd_ha_report.size
    return (
        f"nothing to defragment: {_counted(fit)}, the largest database is "
        f"{course.members[largest].name}'s: {size(host.db_size)}, of which "
        f"{size(max(0, host.db_size - host.db_in_use))} ({_free_percent(course, largest)}%) is "
        f"free. It pays from {size(int(settings['minimum_size']))} and "
        f"{settings['fragmentation']}% on (maintenance:defragment)"
    )


def recovery(course: Course) -> tuple[list[Step], tuple[str, ...]]:
    """Out of NOSPACE: compact, defragment each member, disarm that alarm; and a note on all."""
    fit = _fit(course)
    limits = {minion: etcd_ha_space.quota(course.observed[minion].running) for minion in fit}
    told = {minion: etcd_ha_report.size(one) if one else "none" for minion, one in limits.items()}
    note = _sizes(course, ("QUOTA",), {minion: (one,) for minion, one in told.items()})
    return _recovering(course), (note,)


def nothing_to_recover(course: Course) -> str:
    """Why nothing is compacted, where nothing is: no NOSPACE, and how full the databases are."""
    found = "nothing to recover: the alarm NOSPACE is not raised"
    if _is_corrupt(course):
        found += ", but CORRUPT is (run salt-run state.orchestrate etcd_ha.orch)"
    fit = _fit(course)
    if not fit:
        return found
    shares = {minion: _share(course, minion) for minion in fit}
    fullest = max(fit, key=lambda minion: (shares[minion], course.observed[minion].db_size))
    host, size = course.observed[fullest], etcd_ha_report.size
    limit = etcd_ha_space.quota(host.running)
    quota = f"{shares[fullest]}% of its quota of {size(limit)}" if limit else "and no quota"
    return (
        f"{found}. {_counted(fit)}, the fullest database is {course.members[fullest].name}'s: "
        f"{size(host.db_size)}, {quota}"
    )


def _recovering(course: Course) -> list[Step]:
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
    return [*course.taken, course.verify()]


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


def _fit(course: Course) -> list[str]:
    """The members whose size is known."""
    return [minion for minion in course.running() if course.observed[minion].healthy]


def _counted(fit: Sequence[str]) -> str:
    return f"{len(fit)} healthy member{'s' if len(fit) != 1 else ''}"


def _free_percent(course: Course, minion: str) -> int:
    host = course.observed[minion]
    return etcd_ha_space.free_percent(host.db_size, host.db_in_use)


def _share(course: Course, minion: str) -> int:
    """How much of its quota a member's database takes, in percent; 0 where it has none."""
    host = course.observed[minion]
    limit = etcd_ha_space.quota(host.running)
    return 100 * host.db_size // limit if limit else 0


def _sizes(course: Course, heads: Sequence[str], more: Mapping[str, Sequence[str]]) -> str:
    """The databases of all members as a table; those that are not in ``more`` are not healthy."""
    rows = []
    for minion in course.running():
        host, size = course.observed[minion], etcd_ha_report.size
        own = (size(host.db_size), size(host.db_in_use), *more.get(minion, ()))
        silent = (*["-"] * (len(heads) + 1), "not healthy")
        rows.append((course.members[minion].name, *(own if minion in more else silent)))
    table = etcd_ha_report.table(("MEMBER", "DB SIZE", "IN USE", *heads), rows)
    indented = table.replace("\n", "\n    ")
    return f"what each member's database holds:\n    {indented}"


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
