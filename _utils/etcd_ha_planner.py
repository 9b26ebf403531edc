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
import etcd_ha_plan_foreign
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

# What can be asked for: the pillar's state, a restart of every member, a new CA, smaller databases,
# the way out of NOSPACE, an end.
COMMANDS = ("converge", "restart", "rotate_ca", "defrag", "recover_space", "remove_cluster")
# Those of them that leave the members as they are, also where the pillar has others by now.
KEEPING = ("defrag", "recover_space")


def plan(
    cluster: Cluster,
    observed: Mapping[str, Observed],
    wanted: Wanted,
    command: str = "converge",
    now: int = 0,
) -> Plan:
    """The steps that make the cluster as wanted, each safe at the moment it is taken.

    ``now`` (seconds since 1970) is for ``restart``: whoever began later has been restarted.
    """
    summary = summarize(cluster, observed)
    notes = etcd_ha_trust.notes(cluster, observed)
    beside = etcd_ha_plan_foreign.notes(cluster, observed, wanted)
    space = etcd_ha_space.notes(cluster, observed)
    nothing = ""
    try:
        if command == "restart":
            steps = _answering(cluster, observed, wanted, "restarted").restarts(now)
        elif command == "rotate_ca":
            steps = _rotate(cluster, observed, wanted)
            notes = etcd_ha_trust.notes(cluster, _without_authority(cluster, observed))
        elif command == "defrag":
            course = _answering(cluster, observed, wanted, "defragmented")
            steps, notes = etcd_ha_upkeep.defragmentation(course)
            nothing = etcd_ha_upkeep.nothing_to_defragment(course)
        elif command == "recover_space":
            course = _answering(cluster, observed, wanted, "compacted")
            steps, notes = etcd_ha_upkeep.recovery(course)
            nothing = etcd_ha_upkeep.nothing_to_recover(course)
            space = ()
        elif command == "remove_cluster":
            steps = _remove(cluster, observed, wanted)
        else:
            steps = _steps(cluster, observed, wanted)
        steps = [*etcd_ha_plan_foreign.lost_records(cluster, observed, wanted), *steps]
    except Refused as why:
        return Plan(cluster.name, summary, refusal=str(why), warnings=(*beside, *space))
    if space and etcd_ha_space.is_full(observed):
        # A put would only fail: with all else done, the note says what is left to do.
        steps = [step for step in steps if step.kind != "verify"]
    told = (*notes, *beside, *space)
    return Plan(cluster.name, summary, _distinct(steps), warnings=told, nothing=nothing)


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
    if not any(host.has_data for _, host in seen):
        return f"{count}, not bootstrapped"
    leader = next((member.name for member, host in seen if host.leader), "none")
    healthy = sum(host.healthy for _, host in seen)
    state = "healthy" if healthy == len(cluster.members) else f"{healthy} healthy"
    revision = max((host.revision for _, host in seen), default=0)
    return f"{count}, leader {leader}, {state}, revision {revision}"


def _steps(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> list[Step]:
    _refuse_restoring(cluster, observed)
    _refuse_foreign(cluster, observed, wanted)
    _refuse_silent(cluster, observed)
    _refuse_lost_authority(cluster, observed)
    if not _was_bootstrapped(cluster, observed, wanted):
        _refuse_strange_data(cluster, observed)
        return _bootstrap(cluster)
    listed = etcd_ha_membership.live(cluster, observed)
    if not listed:
        return _regain_quorum(cluster, observed, wanted)
    return Convergence(cluster, observed, wanted, listed).steps()


# What is asked for once


def _answering(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted, what: str
) -> Convergence:
    """A cluster that runs with a quorum, to be worked on."""
    _refuse_restoring(cluster, observed)
    _refuse_foreign(cluster, observed, wanted)
    _refuse_silent(cluster, observed)
    listed = etcd_ha_membership.live(cluster, observed)
    if not listed:
        raise Refused(etcd_ha_parts.not_in_sync(cluster, what))
    return Convergence(cluster, observed, wanted, listed)


def _rotate(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> list[Step]:
    """A new CA in the place of the present one, then what any other CA is followed by."""
    minion = cluster.ca_minion
    if minion is None:
        raise Refused(
            f"the certificates of {cluster.name} are not signed by a CA of this formula. Put the "
            "new CA and its certificates where tls:files says, and run etcd_ha.orch"
        )
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
    begun = dataclasses.replace(observed[minion], authorities={}, changed_files=(), digest="")
    return {**observed, minion: begun}


def _remove(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> list[Step]:
    """Stop all that the cluster is; its data stays on its hosts, set aside."""
    _refuse_foreign(cluster, observed, wanted)
    _refuse_silent(cluster, observed)
    steps = []
    healthy = [m.minion for m in cluster.members if observed[m.minion].healthy]
    if healthy:
        steps.append(
            etcd_ha_parts.snapshot(
                cluster, healthy[-1], "a snapshot", "removal", "before the removal"
            )
        )
    balancers = [b.minion for b in cluster.balancers if cluster.member(b.minion) is None]
    for hosts in (balancers, [member.minion for member in cluster.members]):
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
    return [*steps, etcd_ha_parts.forget(cluster)]


def _was_bootstrapped(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> bool:
    hosts = [observed[m.minion] for m in cluster.members if m.minion in observed]
    return wanted.recorded or any(
        host.record.get("state") == "bootstrapped" or host.healthy for host in hosts
    )


# What is never touched


def refuse_unfit(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> None:
    """What stops whoever acts on all hosts: others' members, silent hosts, a CA that is gone."""
    refuse_others(cluster, observed, wanted)
    _refuse_silent(cluster, observed)
    _refuse_lost_authority(cluster, observed)


def refuse_others(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> None:
    """Stop at the members of another cluster, whoever set it up."""
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


def _refuse_silent(cluster: Cluster, observed: Mapping[str, Observed]) -> None:
    missing = [minion for minion in cluster.hosts if minion not in observed]
    if missing:
        raise Refused(
            f"{', '.join(missing)} did not answer. Bring it back (salt-run manage.status; "
            "salt-key -L shows whether its key is accepted) and run again. Where members are lost "
            f"for good and the others are no quorum: {etcd_ha_parts.asked(cluster, 'recover')}"
        )


def _refuse_lost_authority(cluster: Cluster, observed: Mapping[str, Observed]) -> None:
    """Every step prepares a CA that is not as it was left, and that fails without its key."""
    minion = cluster.ca_minion
    if minion is None:
        return
    changed = observed[minion].changed_files
    for folder in etcd_ha_certificates.authority_dirs(cluster):
        if f"{folder}/ca.key" in changed and f"{folder}/ca.crt" not in changed:
            raise Refused(
                f"{folder}/ca.key on {minion} is missing or another one than before, but its "
                "certificate is there. No new key is made, since it would make every certificate "
                "of this CA worthless: put the key back from a backup"
            )
    if _has_lost(cluster, observed):
        raise Refused(
            f"the CA of {cluster.name} is gone from {minion}. Put "
            f"{etcd_ha_certificates.authority_dir(cluster)} back from a backup, or have a new CA "
            f"made and all certificates exchanged: salt-run state.orchestrate "
            f'etcd_ha.orch.rotate_ca pillar=\'{{"cluster": "{cluster.name}"}}\''
        )


def _has_lost(cluster: Cluster, observed: Mapping[str, Observed]) -> bool:
    """Whether the CA that the members' certificates are from is not there any more.

    One that was put aside is not in the memory of its host's last converge (etcd_ha_ca.set_aside).
    """
    minion = cluster.ca_minion
    if minion is None or any(
        path in observed[minion].authorities for path in etcd_ha_trust.authority_files(cluster)
    ):
        return False
    in_use = any(observed[m.minion].ca == minion for m in cluster.members if m.minion in observed)
    known = set(etcd_ha_trust.authority_files(cluster)) & set(observed[minion].changed_files)
    return in_use and (bool(known) or not observed[minion].digest)


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
        etcd_ha_parts.verify(cluster),
    ]


def _regain_quorum(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted
) -> list[Step]:
    """No member is healthy: start together what is stopped, where that can be a quorum."""
    members = [member.minion for member in cluster.members]
    gone = [m for m in wanted.managed if cluster.member(m) is None]
    if any(m not in observed or observed[m].has_data for m in gone):
        raise Refused(
            f"{cluster.name} has no quorum, and {', '.join(gone)}, which the pillar no longer "
            "names, may still be a part of it. Name it in the pillar again until the cluster is "
            "healthy, then take it out"
        )
    lost = [m for m in members if not observed[m].has_data or observed[m].corrupt]
    learners = [m for m in members if observed[m].learner]
    holding = [m for m in members if m not in lost and m not in learners]
    voters = max(len(members), len(wanted.managed)) - len(learners)
    if not holding:
        raise Refused(
            f"{cluster.name} was bootstrapped once, but no member holds data any more. It is not "
            f"bootstrapped again by itself: restore a backup "
            f"({etcd_ha_parts.asked(cluster, 'restore')}), or remove the records "
            f"(/var/lib/etcd_ha/{cluster.name}.json on the members and, on the master, "
            f"salt-run etcd_ha.forget {cluster.name}) if the data is not needed"
        )
    if len(holding) < quorum(voters):
        raise Refused(
            f"{', '.join(lost) or 'the members that are gone'} lost their data and the others are "
            "no quorum; recover from the surviving member "
            f"({etcd_ha_parts.asked(cluster, 'recover')}), or restore a backup "
            f"({etcd_ha_parts.asked(cluster, 'restore')})"
        )
    stopped = [minion for minion in holding if not observed[minion].active]
    if not stopped:
        raise Refused(etcd_ha_parts.no_quorum(cluster, holding))
    starts = {minion: etcd_ha_drift.starting(cluster, observed, minion) for minion in stopped}
    stages = set(starts.values())
    steps = [
        etcd_ha_parts.prepare(
            cluster, etcd_ha_drift.prepared(cluster, observed, wanted, stopped), None
        )
    ]
    for stage in sorted(stages, key=str):
        targets = [minion for minion in stopped if starts[minion] == stage]
        why = "all members hold data and none runs" if stopped == members else "no quorum runs"
        steps.append(
            Step(
                title=f"{cluster.name}: start {names(targets)} together",
                kind="state",
                targets=tuple(targets),
                sls=("etcd_ha",),
                action="restart",
                stage=etcd_ha_drift.handed(cluster, stage),
                why=why,
            )
        )
    whole = stopped == members and not gone
    if stages == {etcd_ha_stages.final(cluster)} and whole:
        return [*steps, etcd_ha_parts.verify(cluster)]
    return [*steps, etcd_ha_parts.again(cluster)]
