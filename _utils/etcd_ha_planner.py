"""From what should be and what is, to the steps between them, or a refusal with its reason.

Here: whether a cluster may be planned at all, its bootstrap, the way back to a quorum, and what is
done once because somebody asked for it (COMMANDS). What is done with a cluster that answers is in
etcd_ha_convergence. No I/O, no Salt.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import etcd_ha_certificates
import etcd_ha_drift
import etcd_ha_membership
import etcd_ha_parts
import etcd_ha_plain
import etcd_ha_plan_examine
import etcd_ha_plan_foreign
import etcd_ha_plan_hidden
import etcd_ha_plan_own_certificates
import etcd_ha_plan_paused
import etcd_ha_plan_silent
import etcd_ha_space
import etcd_ha_stages
import etcd_ha_trust
import etcd_ha_upkeep
from etcd_ha_access import Access
from etcd_ha_convergence import Convergence
from etcd_ha_membership import quorum
from etcd_ha_observed import Observed, Wanted
from etcd_ha_steps import Plan, Refused, Step, names
from etcd_ha_topology import Cluster

# What can be asked for: the pillar's state, a restart of every member or one, a member rebuilt from
# the others, a new CA, smaller databases, the way out of NOSPACE, an end.
COMMANDS = (
    *("converge", "restart", "replace", "rotate_ca", "defrag", "recover_space", "remove_cluster"),
)
# Those of them that leave the members as they are, also where the pillar has others by now.
KEEPING = ("defrag", "recover_space")
# Those after which the master remembers no members: who they are has not changed, or nobody is one.
UNREMEMBERED = (*KEEPING, "remove_cluster")
_NO_AUTHORITY = "cannot issue certificates"


def plan(
    cluster: Cluster,
    observed: Mapping[str, Observed],
    wanted: Wanted,
    command: str = "converge",
    now: int = 0,
    member: str = "",
) -> Plan:
    """The steps that make the cluster as wanted, each safe at the moment it is taken.

    ``now`` (seconds since 1970) is for ``restart``: whoever began later has been restarted.
    ``member`` is the one that is restarted or replaced, by its name or its minion.
    """
    observed = etcd_ha_plan_hidden.holding(etcd_ha_membership.own(cluster, observed, wanted))
    summary = summarize(cluster, observed)
    notes = etcd_ha_trust.notes(cluster, observed)
    waits: Sequence[str] = ()
    beside = (
        *etcd_ha_plan_foreign.notes(cluster, observed, wanted),
        *etcd_ha_plan_silent.notes(cluster, observed, wanted),
        *etcd_ha_plan_own_certificates.notes(cluster, observed),
        *etcd_ha_plan_paused.notes(cluster, observed),
        *etcd_ha_plan_own_certificates.clock_notes(cluster, observed),
    )
    space = etcd_ha_space.notes(cluster, observed)
    nothing = ""
    try:
        if command == "restart":
            course = _answering(cluster, observed, wanted, "restarted")
            steps = course.restarts(now, _named(cluster, observed, member) if member else "")
        elif command == "replace":
            steps = _replace(cluster, observed, wanted, member)
        elif command == "rotate_ca":
            steps = _rotate(cluster, observed, wanted)
            notes = etcd_ha_trust.notes(cluster, _without_authority(cluster, observed))
        elif command == "defrag":
            course = _answering(cluster, observed, wanted, "defragmented", members_alone=True)
            steps, notes = etcd_ha_upkeep.defragmentation(course)
            nothing = etcd_ha_upkeep.nothing_to_defragment(course)
        elif command == "recover_space":
            course = _answering(cluster, observed, wanted, "compacted", members_alone=True)
            steps, notes = etcd_ha_upkeep.recovery(course)
            nothing = etcd_ha_upkeep.nothing_to_recover(course)
            space = ()
        elif command == "remove_cluster":
            steps = _remove(cluster, observed, wanted)
            nothing = "" if steps else f"nothing of {cluster.name} is left to remove"
        else:
            observed, wanted = _beside_unusable(cluster, observed, wanted)
            observed, wanted = _beside_lost_authority(cluster, observed, wanted)
            steps, waits = _steps(cluster, observed, wanted)
            notes = (*notes, *_lost_notes(cluster, observed, wanted)) if steps else notes
            notes = (*notes, *etcd_ha_trust.leaving_notes(cluster, steps))
        steps = [*etcd_ha_plan_foreign.lost_records(cluster, observed, wanted), *steps]
    except Refused as why:
        hidden = etcd_ha_plan_hidden.unsaid(cluster, observed, [str(why)])
        told = (*beside, *hidden, *space)
        return Plan(cluster.name, summary, refusal=str(why), warnings=told)
    if space and etcd_ha_space.is_full(observed):
        # A put would only fail: with all else done, the note says what is left to do.
        steps = [step for step in steps if step.kind != "verify"]
    told = (*notes, *beside, *etcd_ha_plan_hidden.unsaid(cluster, observed, waits), *space)
    refusal = ""
    if waits and not steps:
        refusal = etcd_ha_plan_silent.refusal(cluster, observed, wanted, cluster.hosts)
    return Plan(
        cluster.name,
        summary,
        _distinct(steps),
        refusal=refusal,
        warnings=told,
        nothing=nothing,
        waits=tuple(waits),
    )


def _distinct(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps with titles of their own: the orchestrate takes them as state ids."""
    found: list[Step] = []
    for step in steps:
        before = sum(other.title == step.title for other in steps[: len(found)])
        title = f"{step.title}, pass {before + 1}" if before else step.title
        found.append(dataclasses.replace(step, title=title))
    return tuple(found)


def summarize(cluster: Cluster, observed: Mapping[str, Observed]) -> str:
    """One line for people: members, leader, health, revision."""
    seen = [(m, observed[m.minion]) for m in cluster.members if m.minion in observed]
    count = f"{len(cluster.members)} member{'s' if len(cluster.members) != 1 else ''}"
    silent = len(cluster.members) - len(seen)
    mute = f", {silent} without an answer" if silent else ""
    if not any(host.has_data for _, host in seen):
        return f"{count}{mute}" if mute else f"{count}, not bootstrapped"
    leader = next((member.name for member, host in seen if host.leader), "none")
    healthy = sum(host.healthy for _, host in seen)
    state = "healthy" if healthy == len(cluster.members) else f"{healthy} healthy"
    revision = max((host.revision for _, host in seen), default=0)
    return f"{count}, leader {leader}, {state}{mute}, revision {revision}"


def _steps(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted
) -> tuple[list[Step], Sequence[str]]:
    """The steps, and what waits for hosts without facts."""
    _refuse_restoring(cluster, observed)
    _refuse_foreign(cluster, observed, wanted)
    silent = etcd_ha_plan_silent.members(cluster, observed)
    if silent:
        return _beside_silent(cluster, observed, wanted, silent)
    return _of_members(cluster, observed, wanted)


def _beside_silent(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted, silent: Sequence[str]
) -> tuple[list[Step], Sequence[str]]:
    """With a member that gives no facts others are started; what else there is waits for it."""
    steps: list[Step] = []
    waits: Sequence[str] = ()
    try:
        steps, waits = _of_members(cluster, observed, wanted)
    except Refused:
        # Whatever it is, the silent member is looked at first: it may be a part of it.
        steps = []
    if not steps:
        etcd_ha_plan_silent.refuse(cluster, observed, wanted, cluster.hosts)
    return steps, waits or [etcd_ha_plan_silent.waits("all else", silent, wanted)]


def _beside_unusable(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted
) -> tuple[Mapping[str, Observed], Wanted]:
    """A member that is down and whose disk is absent is as a host without facts: nobody knows more.

    The others are healed beside it. Where all are so, or one runs, the plan is refused as it is.
    """
    down = {
        minion: told
        for minion, told in _unusable(cluster, observed).items()
        if not observed[minion].active
    }
    others = [m.minion for m in cluster.members if m.minion in observed and m.minion not in down]
    if not down or not others or not _was_bootstrapped(cluster, observed, wanted):
        return observed, wanted
    rest = {minion: found for minion, found in observed.items() if minion not in down}
    causes = {minion: f"cannot hold its data: {told}" for minion, told in down.items()}
    return rest, dataclasses.replace(wanted, silent={**wanted.silent, **causes})


def _beside_lost_authority(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted
) -> tuple[Mapping[str, Observed], Wanted]:
    """A CA that is gone is as a host without facts: what needs it waits, what does not goes on."""
    minion, why = cluster.ca_minion, _lost_authority(cluster, observed)
    if minion is None or not why:
        return observed, wanted
    others = [one.minion for one in cluster.members] + [one.minion for one in cluster.balancers]
    if minion in others:
        raise Refused(why)
    if not _was_bootstrapped(cluster, observed, wanted):
        raise Refused(why)
    rest = {host: found for host, found in observed.items() if host != minion}
    silent = {**wanted.silent, minion: f"{_NO_AUTHORITY}: {why}"}
    return rest, dataclasses.replace(wanted, silent=silent)


def _lost_notes(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted
) -> tuple[str, ...]:
    """What helps a CA that is gone, beside a plan that does what needs none."""
    minion = etcd_ha_plan_silent.authority(cluster, observed)
    why = wanted.silent.get(minion, "")
    return (f"{minion} {why}",) if why.startswith(_NO_AUTHORITY) else ()


def _of_members(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted
) -> tuple[list[Step], Sequence[str]]:
    if not _was_bootstrapped(cluster, observed, wanted):
        etcd_ha_plan_silent.refuse(cluster, observed, wanted, cluster.hosts)
        _refuse_strange_data(cluster, observed)
        etcd_ha_plan_own_certificates.refuse_bad(cluster, observed)
        return _bootstrap(cluster), ()
    cut = etcd_ha_plan_own_certificates.cut_off(cluster, observed)
    if cut:
        # Certificates that work come from the CA.
        ca = [cluster.ca_minion] if cluster.ca_minion else []
        etcd_ha_plan_silent.refuse(cluster, observed, wanted, ca)
        return etcd_ha_plan_own_certificates.reconnect(cluster, observed, cut), ()
    listed = etcd_ha_membership.live(cluster, observed)
    if not listed:
        return _regain_quorum(cluster, observed, wanted), ()
    course = Convergence(cluster, observed, wanted, listed)
    return course.steps(), course.waits


# What is asked for once


def _answering(
    cluster: Cluster,
    observed: Mapping[str, Observed],
    wanted: Wanted,
    what: str,
    members_alone: bool = False,
) -> Convergence:
    """A cluster that runs with a quorum, to be worked on."""
    _refuse_restoring(cluster, observed)
    _refuse_foreign(cluster, observed, wanted)
    needed = [m.minion for m in cluster.members] if members_alone else cluster.hosts
    etcd_ha_plan_silent.refuse(cluster, observed, wanted, needed)
    etcd_ha_plan_hidden.refuse(cluster, observed)
    listed = etcd_ha_membership.live(cluster, observed)
    if not listed:
        raise Refused(etcd_ha_parts.not_in_sync(cluster, what))
    return Convergence(cluster, observed, wanted, listed)


def _named(cluster: Cluster, observed: Mapping[str, Observed], member: str) -> str:
    """The minion of the member of this name, or of this minion itself."""
    for one in cluster.members:
        if member in (one.name, one.minion):
            if one.minion in etcd_ha_plan_paused.minions(cluster, observed):
                etcd_ha_plan_paused.refuse(cluster, observed, f"work on {one.name}")
            return one.minion
    told = ", ".join(one.name for one in cluster.members)
    if not member:
        raise Refused(
            f"no member is named. Those of {cluster.name} are {told}: "
            f'pillar=\'{{"confirm": "{cluster.name}", "member": "{cluster.members[0].name}"}}\''
        )
    raise Refused(f"{member} is no member of {cluster.name}. Its members are {told}")


def _replace(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted, member: str
) -> list[Step]:
    """One member rebuilt from the others, on an operator's word."""
    _refuse_restoring(cluster, observed)
    _refuse_foreign(cluster, observed, wanted)
    etcd_ha_plan_silent.refuse(cluster, observed, wanted, cluster.hosts)
    listed = etcd_ha_membership.live(cluster, observed)
    if not listed:
        raise Refused(
            f"{cluster.name} has no quorum, so no member can be rebuilt from the others. See what "
            f"etcd_ha.orch would do: salt-run etcd_ha.plan cluster={cluster.name}"
        )
    minion = _named(cluster, observed, member)
    if observed[minion].hidden and not etcd_ha_plan_hidden.is_deleted(observed[minion]):
        # Its data would come to lie in another place than that of the data it has.
        raise Refused(etcd_ha_plan_hidden.refusal(cluster, observed))
    return Convergence(cluster, observed, wanted, listed).replacement(minion)


def _rotate(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> list[Step]:
    """A new CA in the place of the present one, then what any other CA is followed by."""
    minion = cluster.ca_minion
    if minion is None:
        raise Refused(
            f"the certificates of {cluster.name} are not signed by a CA of this formula. Put the "
            "new CA and its certificates where tls:files says, and run etcd_ha.orch"
        )
    etcd_ha_plan_paused.refuse(cluster, observed, "another CA")
    present = _answering(cluster, observed, wanted, "given another CA")
    folder, lost = etcd_ha_certificates.authority_dir(cluster), _has_lost(cluster, observed)
    if not lost and (present.steps() or etcd_ha_trust.under_way(cluster, observed)):
        raise Refused(etcd_ha_parts.not_in_sync(cluster, "given another CA"))
    begun = _without_authority(cluster, observed)
    after = _answering(cluster, begun, wanted, "given another CA").steps()
    if lost:
        return after
    aside = Step(
        title=f"{cluster.name}: put the key of the CA on {minion} aside",
        kind="function",
        targets=(minion,),
        function="etcd_ha_ca.set_aside",
        arguments={"directory": folder},
        why="the next step makes a new one; all trust the present one until the end",
    )
    return [aside, *after]


def _without_authority(
    cluster: Cluster, observed: Mapping[str, Observed]
) -> Mapping[str, Observed]:
    """The hosts as they will tell once the CA is put aside."""
    minion = str(cluster.ca_minion)
    begun = dataclasses.replace(
        observed[minion], authorities={}, broken_authorities={}, changed_files=(), digest=""
    )
    return {**observed, minion: begun}


def _remove(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> list[Step]:
    """Stop all that the cluster is; its data stays on its hosts, set aside."""
    _refuse_foreign(cluster, observed, wanted)
    etcd_ha_plan_silent.refuse(cluster, observed, wanted, cluster.hosts)
    etcd_ha_plan_hidden.refuse_reachable(cluster, observed)
    if not _is_left(cluster, observed, wanted):
        return []
    steps = []
    healthy = [m.minion for m in cluster.members if observed[m.minion].healthy]
    if healthy:
        steps.append(
            etcd_ha_parts.snapshot(
                cluster, healthy[-1], "a snapshot", "removal", "before the removal"
            )
        )
    former_members, former_balancers = _former(cluster, observed, wanted)
    balancers = [b.minion for b in cluster.balancers if cluster.member(b.minion) is None]
    members = [member.minion for member in cluster.members]
    for hosts in (balancers + former_balancers, members + former_members):
        if hosts:
            steps.append(
                Step(
                    title=f"{cluster.name}: stop {names(hosts)} for good",
                    kind="function",
                    targets=tuple(hosts),
                    function="etcd_ha_member.retire",
                    arguments={
                        "cluster": cluster.name,
                        "purge": cluster.settings["purge"],
                        "whole": True,
                    },
                    why=f"the whole cluster is to go; {etcd_ha_parts.kept_data(cluster)}",
                    disruptive=True,
                )
            )
    return [*steps, *([etcd_ha_parts.forget(cluster)] if wanted.recorded else [])]


def _is_part(cluster: Cluster, host: Observed) -> bool:
    """Whether a host holds a member of this cluster or is its balancer, by its own records."""
    names = {cluster.name, cluster.former} - {""}
    return host.record.get("cluster") in names or host.balancer_of in names


def _is_left(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> bool:
    """Whether there is anything of the cluster, on a host or in the master's memory."""
    hosts = [observed[m] for m in (*cluster.hosts, *wanted.managed) if m in observed]
    if wanted.recorded:
        return True
    return any(_is_part(cluster, host) or host.has_data or host.active for host in hosts)


def _former(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted
) -> tuple[list[str], list[str]]:
    """Members and balancers that the pillar no longer names, and that were not stopped yet."""
    found = [
        [m for m in known if m not in cluster.hosts and m in observed]
        for known in (wanted.managed, wanted.balancers)
    ]
    members, balancers = ([m for m in part if _is_part(cluster, observed[m])] for part in found)
    return members, [minion for minion in balancers if minion not in members]


def _was_bootstrapped(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> bool:
    hosts = [observed[m.minion] for m in cluster.members if m.minion in observed]
    return wanted.recorded or any(
        host.record.get("state") == "bootstrapped" or host.healthy for host in hosts
    )


# What is never touched


def refuse_unfit(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> None:
    """What stops whoever acts on all hosts: others' members, silent hosts, a CA that is gone."""
    refuse_others(cluster, observed, wanted)
    etcd_ha_plan_silent.refuse(cluster, observed, wanted, cluster.hosts)
    _refuse_lost_authority(cluster, observed)


def refuse_others(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> None:
    """Stop at the members of another cluster, whoever set it up, and where no data can be."""
    hosts = {m.minion: observed[m.minion] for m in cluster.members if m.minion in observed}
    for minion, host in hosts.items():
        owner = host.record.get("cluster", cluster.name)
        if owner not in (cluster.name, cluster.former):
            raise Refused(
                f"{minion} holds a member of the cluster {owner}, not of {cluster.name}. It is not "
                f"touched; take it out of {owner} first, or correct the pillar. If it is the same "
                f"cluster under a new name, set etcd_ha:clusters:{cluster.name}:renamed_from: "
                f"{owner}"
            )
    etcd_ha_plan_foreign.refuse(cluster, observed, wanted)
    # An absent disk is not a member without data.
    unusable = [f"{minion}: {told}" for minion, told in _unusable(cluster, hosts).items()]
    if unusable:
        raise Refused(f"{'. '.join(unusable)}. Nothing was changed on any host")


def _unusable(cluster: Cluster, hosts: Mapping[str, Observed]) -> dict[str, str]:
    """Where a member's data cannot be, and why: minion -> that in words."""
    found = {}
    for member in cluster.members:
        settings, host = member.settings, hosts.get(member.minion)
        paths = [
            p for p in (settings["data_dir"], settings["wal_dir"]) if host and p in host.unusable
        ]
        if host and paths:
            found[member.minion] = ". ".join(etcd_ha_plain.brief(host.unusable[p]) for p in paths)
    return found


def _refuse_foreign(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> None:
    refuse_others(cluster, observed, wanted)
    hosts = {m.minion: observed[m.minion] for m in cluster.members if m.minion in observed}
    ids = {host.cluster_id: minion for minion, host in hosts.items() if host.cluster_id}
    if len(ids) > 1:
        told = ", ".join(f"{minion} is in {found}" for found, minion in sorted(ids.items()))
        raise Refused(f"the members belong to different clusters ({told}); nothing is touched")


def _refuse_restoring(cluster: Cluster, observed: Mapping[str, Observed]) -> None:
    there = {minion: observed[minion] for minion in cluster.hosts if minion in observed}
    begun = {minion: host.restoring for minion, host in there.items() if host.restoring}
    if not begun:
        return
    command = "recover" if "recover" in begun.values() else "restore"
    raise Refused(
        f"a {command} of {cluster.name} was begun and not ended (see {names(list(begun))}). "
        f"{etcd_ha_parts.begun_again(cluster, command)}"
    )


def _refuse_lost_authority(cluster: Cluster, observed: Mapping[str, Observed]) -> None:
    """Every step prepares a CA that is not as it was left, and that fails without its key."""
    why = _lost_authority(cluster, observed)
    if why:
        raise Refused(why)


def _lost_authority(cluster: Cluster, observed: Mapping[str, Observed]) -> str:
    """Why the CA on its host cannot be used, and what helps; empty where it can."""
    minion = cluster.ca_minion
    if minion is None or minion not in observed:
        return ""
    changed = observed[minion].changed_files
    for folder in etcd_ha_certificates.authority_dirs(cluster):
        if f"{folder}/ca.key" in changed and f"{folder}/ca.crt" not in changed:
            return (
                f"{folder}/ca.key on {minion} is missing or another one than before, but its "
                "certificate is there. No new key is made, since it would make every certificate "
                "of this CA worthless: put the key back from a backup"
            )
    if not _has_lost(cluster, observed):
        return ""
    rest = (
        f"Put {etcd_ha_certificates.authority_dir(cluster)} back from a backup, or have a new CA "
        f"made and all certificates exchanged: salt-run state.orchestrate etcd_ha.orch.rotate_ca "
        f'pillar=\'{{"cluster": "{cluster.name}"}}\''
    )
    broken = "; ".join(_broken(cluster, observed))
    if broken:
        return f"{broken} on {minion}, so the CA of {cluster.name} cannot be used. {rest}"
    return f"the CA of {cluster.name} is gone from {minion}. {rest}"


def _has_lost(cluster: Cluster, observed: Mapping[str, Observed]) -> bool:
    """Whether the CA that the members' certificates are from is not there any more.

    One that was put aside is not in the memory of its host's last converge (etcd_ha_ca.set_aside).
    """
    minion = cluster.ca_minion
    if minion is None or minion not in observed:
        return False
    if any(path in observed[minion].authorities for path in etcd_ha_trust.authority_files(cluster)):
        return False
    if _broken(cluster, observed):
        # It is no CA to make one in the place of.
        return True
    in_use = any(observed[m.minion].ca == minion for m in cluster.members if m.minion in observed)
    known = set(etcd_ha_trust.authority_files(cluster)) & set(observed[minion].changed_files)
    return in_use and (bool(known) or not observed[minion].digest)


def _broken(cluster: Cluster, observed: Mapping[str, Observed]) -> list[str]:
    """What is wrong with the files of the cluster's own CA: those that hold no certificate."""
    found = observed[cluster.ca_minion].broken_authorities if cluster.ca_minion else {}
    return [found[path] for path in etcd_ha_trust.authority_files(cluster) if path in found]


def _refuse_strange_data(cluster: Cluster, observed: Mapping[str, Observed]) -> None:
    for member in cluster.members:
        host = observed[member.minion]
        if host.has_data and host.record.get("state") != "bootstrapping":
            etcd_ha_parts.refuse_data_of(member.minion)


# A cluster that is not there yet, or that does not answer


def _bootstrap(cluster: Cluster) -> list[Step]:
    together = tuple(
        dict.fromkeys([m.minion for m in cluster.members] + [b.minion for b in cluster.balancers])
    )
    started = names([member.minion for member in cluster.members])
    # What takes long on a balancer (its packages) runs beside the members' start, not before it.
    first = [m for m in cluster.hosts if cluster.member(m) or m == cluster.ca_minion]
    managed = Access.of(cluster.settings["access"]).managed
    access = etcd_ha_parts.access(cluster, cluster.members[0].minion, "etcd has none of them yet")
    return [
        etcd_ha_parts.prepare(cluster, first, etcd_ha_stages.final(cluster)),
        Step(
            title=f"{cluster.name}: bootstrap {started} together, the balancers beside them",
            kind="state",
            targets=together,
            sls=("etcd_ha",),
            action="bootstrap",
            why="a majority must start inside one election window; no member holds data",
        ),
        *([access] if managed else []),
        etcd_ha_parts.verify(cluster, first=True),
    ]


def _restart_unaware(
    cluster: Cluster, observed: Mapping[str, Observed], unaware: Sequence[str]
) -> list[Step]:
    """Without a quorum there is nothing to be spared: all start together, with the CA on disk."""
    stages = {m: etcd_ha_drift.starting(cluster, observed, m) for m in unaware}
    steps = [
        Step(
            title=f"{cluster.name}: restart {names(targets)} together",
            kind="state",
            targets=tuple(targets),
            sls=("etcd_ha",),
            action="restart",
            stage=etcd_ha_drift.handed(cluster, stage),
            why="no quorum runs, and they started before the CA's certificate on disk was written",
            disruptive=True,
        )
        for stage in sorted(set(stages.values()), key=str)
        for targets in [[m for m in unaware if stages[m] == stage]]
    ]
    return [*steps, etcd_ha_parts.again(cluster)]


def _startable(
    cluster: Cluster,
    observed: Mapping[str, Observed],
    wanted: Wanted,
    stopped: Sequence[str],
    needed: int,
) -> list[str]:
    """Those of the stopped that are worth a start; ``needed`` is how many of them make a quorum.

    Who has failed once more after its examination does not keep the others from starting. Where
    these are no quorum by themselves it is tried again, but only with another configuration.
    """
    failed = [m for m in stopped if etcd_ha_plan_examine.has_failed_since(observed[m])]
    hopeful = [m for m in stopped if m not in failed]
    if len(hopeful) >= max(needed, 1):
        return hopeful
    if failed and not etcd_ha_drift.stale(cluster, failed, observed, wanted):
        raise Refused(etcd_ha_plan_examine.causes(cluster, observed, failed))
    return list(stopped)


def _regain_quorum(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted
) -> list[Step]:
    """No member is healthy: start together what is stopped, where that can be a quorum.

    Or all run, but with settings that the pillar does not have any more and that keep clients, or
    the members, from them: these are restarted, one by one where they vote as ever.
    """
    members = [member.minion for member in cluster.members]
    heard = _let_hear(cluster, observed, wanted)
    if heard:
        return heard
    gone = [m for m in wanted.managed if cluster.member(m) is None]
    if any(m not in observed or observed[m].has_data for m in gone):
        raise Refused(
            f"{cluster.name} has no quorum, and {', '.join(gone)}, which the pillar no longer "
            "names, may still be a part of it. Name it in the pillar again until the cluster is "
            "healthy, then take it out"
        )
    there = [m for m in members if m in observed]
    lost = [m for m in there if not observed[m].has_data or observed[m].corrupt]
    learners = [m for m in there if observed[m].learner]
    holding = [m for m in there if m not in lost and m not in learners]
    voters = max(len(members), len(wanted.managed)) - len(learners)
    if len(holding) < quorum(voters):
        # Nobody knows what silent members hold.
        etcd_ha_plan_silent.refuse(cluster, observed, wanted, members)
        raise Refused(_lost_quorum(cluster, lost, holding))
    paused = etcd_ha_plan_paused.minions(cluster, observed)
    if len([minion for minion in holding if minion not in paused]) < quorum(voters):
        etcd_ha_plan_paused.refuse(cluster, observed, "a quorum")
    holding = [minion for minion in holding if minion not in paused]
    hidden = etcd_ha_plan_hidden.minions(cluster, observed)
    stopped = [minion for minion in holding if not observed[minion].active]
    # A CA that etcd has not read yet: its peers cannot come to it before it has.
    steady = [*stopped, *hidden]
    unaware = [m for m in holding if m not in steady and "trust" in observed[m].pending]
    if unaware:
        return _restart_unaware(cluster, observed, unaware)
    # Without a quorum nobody is cut off by a restart, and who runs with settings that keep it from
    # the others never comes back by itself.
    astray = [
        minion
        for minion in holding
        if minion not in steady
        and not observed[minion].voting
        and _changes(cluster, observed, minion)
    ]
    if len(holding) - len(astray) < quorum(voters):
        stopped = [minion for minion in holding if minion in stopped or minion in astray]
    if not stopped:
        raise Refused(etcd_ha_parts.no_quorum(cluster, holding))
    due = [minion for minion in stopped if etcd_ha_plan_examine.is_due(observed[minion])]
    if due and (len(due) == len(stopped) or len(holding) - len(due) < quorum(voters)):
        return etcd_ha_plan_examine.steps(cluster, due, "")
    stopped = [minion for minion in stopped if minion not in due]
    active = [minion for minion in holding if observed[minion].active]
    stopped = _startable(cluster, observed, wanted, stopped, quorum(voters) - len(active))
    starts = {minion: etcd_ha_drift.starting(cluster, observed, minion) for minion in stopped}
    stages = set(starts.values())
    steps = [
        etcd_ha_parts.prepare(
            cluster, etcd_ha_drift.prepared(cluster, observed, wanted, stopped), None
        )
    ]
    # None is healthy before a quorum runs: of several groups the last one alone waits for that.
    for left, stage in zip(range(len(stages))[::-1], sorted(stages, key=str), strict=True):
        targets = [minion for minion in stopped if starts[minion] == stage]
        why = "all members hold data and none runs" if stopped == members else "no quorum runs"
        verb, run = "start", [minion for minion in targets if observed[minion].active]
        if run:
            verb = "start or restart"
            why = f"no quorum runs, and {names(run)} not with the pillar's settings"
        steps.append(
            Step(
                title=f"{cluster.name}: {verb} {names(targets)} together",
                kind="state",
                targets=tuple(targets),
                sls=("etcd_ha",),
                action="begin" if left else "restart",
                stage=etcd_ha_drift.handed(cluster, stage),
                why=why,
            )
        )
    whole = stopped == members and not gone
    if stages == {etcd_ha_stages.final(cluster)} and whole:
        silent = etcd_ha_plan_silent.all_of(cluster, observed)
        return [*steps, etcd_ha_parts.verify(cluster, silent, paused)]
    return [*steps, etcd_ha_parts.again(cluster)]


def _lost_quorum(cluster: Cluster, lost: Sequence[str], holding: Sequence[str]) -> str:
    """What brings a cluster back whose data is gone on too many members."""
    if not holding:
        return (
            f"{cluster.name} was bootstrapped once, but no member holds data any more. Look at the "
            "mounts of each member first (findmnt, /etc/fstab): a disk that is not mounted, or "
            "another one mounted over the data directory, hides data that is still there. Mount "
            "or unmount it, and run again. It is not bootstrapped again by itself. Only if the "
            "data is gone for good: restore a backup "
            f"({etcd_ha_parts.asked(cluster, 'restore')}), or, if it is not needed, remove the "
            f"records (/var/lib/etcd_ha/{cluster.name}.json on the members and, on the master, "
            f"salt-run etcd_ha.forget {cluster.name}) to have an empty cluster bootstrapped"
        )
    return (
        f"{', '.join(lost) or 'the members that are gone'} lost their data and the others have "
        "no quorum; recover from the surviving member "
        f"({etcd_ha_parts.asked(cluster, 'recover')}), or restore a backup "
        f"({etcd_ha_parts.asked(cluster, 'restore')})"
    )


def _differing(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted, minions: Sequence[str]
) -> list[str]:
    """Who runs with other settings than it would be started with now."""
    behind = etcd_ha_drift.stale(cluster, minions, observed, wanted)
    running = [minion for minion in minions if observed[minion].active]
    return [m for m in running if m in behind or _changes(cluster, observed, m)]


def _changes(
    cluster: Cluster, observed: Mapping[str, Observed], minion: str
) -> dict[str, dict[str, str]]:
    stage = etcd_ha_drift.starting(cluster, observed, minion)
    member = cluster.member(minion)
    return etcd_ha_drift.changes(cluster, member, observed[minion], stage) if member else {}


def _has_vote(minion: str, observed: Mapping[str, Observed], wanted: Wanted) -> bool:
    """Whether a host is a member already; one that is yet to join is known on the master, too."""
    host = observed.get(minion)
    known = wanted.managed.get(minion, {}).get("member_id")
    return bool(known) or host is None or host.has_data or bool(host.record)


def _let_hear(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> list[Step]:
    """Where members say that they reach a quorum, but serve no client: one gets its settings.

    It then tells who the others are. First comes who does not vote: nobody misses it meanwhile.
    Empty where none says so, or where one that is down has to be started before.
    """
    members = [member.minion for member in cluster.members if member.minion in observed]
    deaf = [minion for minion in members if observed[minion].voting]
    if not deaf:
        return []
    down = [m for m in members if observed[m].has_data and not observed[m].active]
    hidden = etcd_ha_plan_hidden.minions(cluster, observed)
    able = [minion for minion in members if minion not in hidden]
    differing = _differing(cluster, observed, wanted, able)
    if not differing:
        if down:
            return []
        raise Refused(etcd_ha_parts.no_quorum(cluster, deaf, deaf))
    minion = next((m for m in differing if m not in deaf), differing[0])
    known = wanted.managed or [member.minion for member in cluster.members]
    voters = sum(_has_vote(one, observed, wanted) for one in known)
    if minion in deaf and voters >= 3 and len(deaf) - 1 < quorum(voters):
        if down:
            return []
        raise Refused(etcd_ha_parts.needed_vote(minion, len(deaf) - 1, voters))
    stage = etcd_ha_drift.starting(cluster, observed, minion)
    changes = _changes(cluster, observed, minion)
    told = etcd_ha_drift.told(changes) or "its configuration"
    name = next(member.name for member in cluster.members if member.minion == minion)
    prepared = etcd_ha_drift.prepared(cluster, observed, wanted, [minion])
    return [
        etcd_ha_parts.prepare(cluster, prepared, None),
        Step(
            title=f"{cluster.name}: {name}: apply {told}, restart it if it must, then wait",
            kind="state",
            targets=(minion,),
            sls=("etcd_ha",),
            action="restart",
            stage=etcd_ha_drift.handed(cluster, stage),
            why="the members have a quorum, but serve no client with the settings that they run "
            "with",
            disruptive=True,
            details=etcd_ha_drift.details(changes),
        ),
        etcd_ha_parts.again(cluster),
    ]
