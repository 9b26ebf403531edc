"""Another CA for a cluster that runs: what of its phases (etcd_ha_trust) is left, as steps."""

import dataclasses
from collections.abc import Sequence

import etcd_ha_drift
import etcd_ha_plan_silent
import etcd_ha_trust
from etcd_ha_course import Course
from etcd_ha_membership import Entry
from etcd_ha_stages import Stage
from etcd_ha_steps import Refused, Step, names

# Phases in which a host bears certificates of the old CA.
_OLD_BEARERS = (etcd_ha_trust.KEPT, etcd_ha_trust.BOTH)


def exchange(course: Course, leaving: Sequence[Entry]) -> bool:
    """Have all trust both CAs, and bear certificates of the new one; the last pass drops it.

    Returns whether the members that leave are out of the list by then.
    """
    bearers = [m for m in course.running() if _bears_old(course, m)]
    proxies = [m for m in course.proxies() if course.proxy_phase(m) in _OLD_BEARERS]
    if not bearers and not proxies:
        return False
    course.need("have all hosts trust another CA", balancers=True)
    _leave_for_now(course)
    _trust_pass(course)
    unready = [m for m in course.proxies() if course.proxy_phase(m) == etcd_ha_trust.KEPT]
    course.configure_balancers(unready, course.oldest(), etcd_ha_trust.BOTH)
    if etcd_ha_trust.change_goes(course.cluster) == etcd_ha_trust.UP_TO_TRUST:
        _refuse_to_join(course)
        return False
    course.take_out(leaving)
    _issue(course)
    course.configure_balancers(proxies, course.oldest(), etcd_ha_trust.ISSUED)
    return True


def healing_stage(course: Course, minion: str) -> Stage:
    """As it is; but a member that was away while the CA was exchanged catches up with that."""
    now = course.now(minion)
    if now.trust not in _OLD_BEARERS:
        return now
    others = [m for m in course.ids if course.observed[m].active and course.speaks_tls(m)]
    dropped = any(
        course.observed[m].healthy and course.now(m).trust == etcd_ha_trust.ALONE for m in others
    )
    # Members that leave are not touched any more, and those without facts cannot be asked: they may
    # trust the former CA alone.
    untold = course.match.leaving or etcd_ha_plan_silent.members(course.cluster, course.observed)
    known = bool(others) and all(_knows_new(course, m) for m in others) and not untold
    phase = etcd_ha_trust.ISSUED if dropped or known else etcd_ha_trust.BOTH
    return dataclasses.replace(now, trust=phase)


def _refuse_to_join(course: Course) -> None:
    """The CA signs with its new key alone, and who joins would bear what nobody bears yet."""
    absent = [minion for minion in course.members if minion not in course.ids]
    if absent:
        raise Refused(
            f"{names(absent)} cannot join while the CA is being exchanged and "
            f"etcd_ha:clusters:{course.cluster.name}:tls:ca:change is trust: set it to issue"
        )


def _leave_for_now(course: Course) -> None:
    """Members without data wait outside: nobody would trust their certificates yet."""
    for minion in [m for m in course.running() if course.must_rejoin(m)]:
        entry, one = course.match.kept[minion], course.ids[minion]
        if not entry.get("learner") and not course.membership.can_remove(one):
            raise Refused(course.cannot_replace(minion))
        course.add_removal(
            entry, course.members[minion].name, None, "it comes back under the new CA"
        )
        course.membership.remove(one)
        del course.ids[minion]


def _trust_pass(course: Course) -> None:
    for minion in course.leader_last():
        now = course.now(minion)
        if now.trust == etcd_ha_trust.KEPT or not _knows_new(course, minion):
            course.gate(minion)
            course.take(minion, dataclasses.replace(now, trust=etcd_ha_trust.BOTH))


def _issue(course: Course) -> None:
    """New certificates for all members at once: nothing is restarted for them.

    But the user's own come one after the other, and each is seen by handshakes.
    """
    bearers = [m for m in course.running() if course.now(m).trust == etcd_ha_trust.BOTH]
    if course.cluster.ca_minion is None:
        for minion in bearers:
            _issue_to(
                course,
                dataclasses.replace(course.now(minion), trust=etcd_ha_trust.ISSUED),
                [minion],
            )
            course.see_certificates(minion, course.now(minion))
        bearers = []
    for now in sorted({course.now(m) for m in bearers}, key=str):
        stage = dataclasses.replace(now, trust=etcd_ha_trust.ISSUED)
        _issue_to(course, stage, [m for m in bearers if course.now(m) == now])
    course.taken.append(
        Step(
            title=f"{course.cluster.name}: see that every member serves a certificate of one CA",
            kind="function",
            targets=tuple(m for m in course.running() if course.speaks_tls(m)),
            function="etcd_ha_member.served_by_one_ca",
            why="the old CA is trusted until this has been seen",
        )
    )


def _issue_to(course: Course, stage: Stage, targets: Sequence[str]) -> None:
    course.taken.append(
        Step(
            title=f"{course.cluster.name}: {names(targets)}: {etcd_ha_drift.trusted(stage)}",
            kind="state",
            targets=tuple(targets),
            sls=("etcd_ha",),
            stage=etcd_ha_drift.handed(course.cluster, stage),
            why="all trust both CAs by now; nothing is restarted for a certificate",
        )
    )
    course.applied |= dict.fromkeys(targets, stage)


def _bears_old(course: Course, minion: str) -> bool:
    return course.speaks_tls(minion) and course.now(minion).trust in _OLD_BEARERS


def _knows_new(course: Course, minion: str) -> bool:
    """Whether a member's process, and not its file alone, trusts the new CA."""
    if minion in course.applied:
        return course.applied[minion].trust != etcd_ha_trust.KEPT
    fresh = "trust" not in course.observed[minion].pending
    return not course.speaks_tls(minion) or (
        fresh and course.now(minion).trust != etcd_ha_trust.KEPT
    )
