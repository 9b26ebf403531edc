"""A cluster whose quorum is gone: from which survivor it goes on, in which steps, and what is lost.

The survivor with the newest data is forced into a cluster of its own, once, on a copy: the original
is set aside untouched. The others join it as learners, as any new member does. A forced start keeps
what the member's log or database knows to be committed, and etcd ends old members that come back
("permanently removed"), so none of them can outvote it.
https://etcd.io/docs/v3.6/op-guide/recovery/
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import etcd_ha_drift
import etcd_ha_membership
import etcd_ha_parts
import etcd_ha_plan_foreign
import etcd_ha_plan_hidden
import etcd_ha_plan_paused
import etcd_ha_plan_silent
import etcd_ha_planner
import etcd_ha_report
import etcd_ha_restore
import etcd_ha_stages
import etcd_ha_trust
from etcd_ha_membership import quorum
from etcd_ha_observed import Observed, Wanted
from etcd_ha_steps import Plan, Refused, Step, names
from etcd_ha_survivor import Evidence
from etcd_ha_topology import Cluster

# Room beside the copy of the data, in bytes.
ROOM = 16 << 20


def plan(
    cluster: Cluster,
    observed: Mapping[str, Observed],
    wanted: Wanted,
    found: Mapping[str, Mapping[str, Any]],
    lost: Sequence[str] = (),
    survivor: str = "",
) -> Plan:
    """The steps of a recovery.

    ``found`` is minion -> what ``etcd_ha_restore.look`` tells; ``lost`` the members that are said
    to be gone for good; ``survivor`` the one to go on from where the evidence shall not decide.
    """
    observed = etcd_ha_plan_hidden.holding(observed)
    summary = etcd_ha_planner.summarize(cluster, observed)
    # Only a member of this cluster can be its survivor, whoever else tells of data.
    found = {m: one for m, one in found.items() if m in observed and cluster.member(m)}
    proofs = {m: Evidence.of(one.get("evidence") or {}) for m, one in found.items()}
    begun = [
        m for m, one in found.items() if (one.get("recovery") or {}).get("phase", "done") != "done"
    ]
    try:
        etcd_ha_planner.refuse_others(cluster, observed, wanted)
        etcd_ha_plan_hidden.refuse(cluster, observed)
        etcd_ha_plan_paused.refuse(cluster, observed, "a recovery", lost)
        _refuse_restore(cluster, observed)
        _refuse_alive(cluster, observed)
        _refuse_silent(cluster, observed, lost)
        _refuse_strangers(cluster, observed)
        if begun and survivor not in ("", begun[0]):
            raise Refused(
                f"a recovery of {cluster.name} has begun on {begun[0]}, so it does not go on from "
                f"{survivor}. Run it without survivor, or see "
                '"When it stops" in docs/recover.md'
            )
        if not begun:
            _refuse_healable(cluster, observed, wanted, proofs)
        chosen = begun[0] if begun else newest(cluster, proofs, survivor)
        if not begun:
            _refuse_full(cluster, chosen, proofs[chosen], found[chosen])
        steps = etcd_ha_plan_foreign.lost_records(cluster, observed, wanted)
        steps += _steps(cluster, observed, wanted, chosen, proofs.get(chosen, Evidence()))
    except Refused as why:
        return Plan(cluster.name, summary, refusal=str(why))
    return Plan(
        cluster.name, summary, tuple(steps), warnings=_notes(cluster, observed, proofs, chosen)
    )


def newest(cluster: Cluster, proofs: Mapping[str, Evidence], survivor: str = "") -> str:
    """The minion whose data goes furthest: what a forced start keeps counts, then the log."""
    able = {m: one for m, one in proofs.items() if one.has_data and not one.fault}
    if not able:
        _refuse_unjudged(cluster, proofs)
        broken = "; ".join(f"{m}: {one.fault}" for m, one in proofs.items() if one.fault)
        raise Refused(
            f"no member of {cluster.name} that answers holds data that can be read"
            f"{f' ({broken})' if broken else ''}. Restore a backup: "
            f"{etcd_ha_parts.asked(cluster, 'restore')}"
        )
    if survivor and survivor not in able:
        raise Refused(
            f"{survivor} holds no data that can be read. Those that do: {', '.join(able)}"
        )
    if not survivor:
        _refuse_unjudged(cluster, proofs)
    clusters = {one.cluster_id: m for m, one in able.items()}
    if len(clusters) > 1 and not survivor:
        told = ", ".join(f"{m} is of {one}" for one, m in sorted(clusters.items()))
        raise Refused(
            f"the data on these hosts is of different clusters ({told}). Name the host whose data "
            f'is right: pillar=\'{{"confirm": "{cluster.name}", "survivor": "MINION"}}\''
        )
    return survivor or max(able, key=lambda m: rank(able[m]))


def rank(one: Evidence) -> tuple[int, int, int, int]:
    """By what is kept; among equals by the log, as raft itself compares logs."""
    return one.kept, one.term, one.last, one.revision


def _refuse_unjudged(cluster: Cluster, proofs: Mapping[str, Evidence]) -> None:
    """Whether data is left aside that etcd itself may be able to read, and that may be newer."""
    doubtful = [m for m, one in proofs.items() if one.has_data and one.fault and not one.judged]
    if doubtful:
        why = "; ".join(f"{minion}: {proofs[minion].fault}" for minion in doubtful)
        raise Refused(
            f"whether the data of {', '.join(doubtful)} can be read is for etcd to say ({why}). "
            f"Run salt -L '{','.join(doubtful)}' etcd_ha_member.examine {cluster.name}, then this "
            "again. Or name whose data is right: "
            f'pillar=\'{{"confirm": "{cluster.name}", "survivor": "MINION"}}\''
        )


# When there is no need, or no way


def _refuse_restore(cluster: Cluster, observed: Mapping[str, Observed]) -> None:
    begun = [m for m, host in observed.items() if host.restoring == "restore"]
    if begun:
        raise Refused(
            f"a restore of {cluster.name} was begun and not ended (see {names(begun)}). "
            f"{etcd_ha_parts.begun_again(cluster, 'restore')}"
        )


def _refuse_alive(cluster: Cluster, observed: Mapping[str, Observed]) -> None:
    if any(host.restoring == "recover" for host in observed.values()):
        return
    if etcd_ha_membership.live(cluster, observed):
        raise Refused(
            f"{cluster.name} has a quorum, so nothing need be forced. The orchestrate heals it "
            f"without loss: salt-run state.orchestrate etcd_ha.orch "
            f'pillar=\'{{"cluster": "{cluster.name}"}}\''
        )


def _refuse_silent(cluster: Cluster, observed: Mapping[str, Observed], lost: Sequence[str]) -> None:
    members = [member.minion for member in cluster.members]
    unknown = [minion for minion in lost if minion not in members]
    if unknown:
        raise Refused(
            f"{', '.join(unknown)} is said to be lost, but is no member of {cluster.name}. Its "
            f"members are {', '.join(members)}"
        )
    there = [minion for minion in lost if minion in observed]
    if there:
        raise Refused(
            f"{', '.join(there)} is said to be lost, but answers. Its data may be the newest: "
            "leave it out of lost"
        )
    silent = [m for m in members if m not in observed and m not in lost]
    if silent:
        told = ", ".join(f'"{minion}"' for minion in silent)
        raise Refused(
            f"{', '.join(silent)} did not answer, and may hold newer data or serve clients. Bring "
            "it back. Only where it is gone for good, and can never run with its old data again, "
            f'say so: pillar=\'{{"confirm": "{cluster.name}", "lost": [{told}]}}\''
        )


def _refuse_strangers(cluster: Cluster, observed: Mapping[str, Observed]) -> None:
    for member in cluster.members:
        host = observed.get(member.minion)
        if host is None or etcd_ha_plan_foreign.is_known_data(host):
            continue
        if host.active and host.healthy and not host.record:
            etcd_ha_parts.refuse_data_of(member.minion)


def _refuse_healable(
    cluster: Cluster,
    observed: Mapping[str, Observed],
    wanted: Wanted,
    proofs: Mapping[str, Evidence],
) -> None:
    """Members that hold their data are a quorum once they run and find each other."""
    holding = [
        member.minion
        for member in cluster.members
        if member.minion in observed
        and observed[member.minion].has_data
        and not observed[member.minion].corrupt
        and not observed[member.minion].learner
        and not proofs.get(member.minion, Evidence()).fault
    ]
    learners = sum(host.learner for host in observed.values())
    voters = max(len(cluster.members), len(wanted.managed)) - learners
    if len(holding) < quorum(voters):
        return
    stopped = [minion for minion in holding if not observed[minion].active]
    if stopped:
        raise Refused(
            f"{', '.join(holding)} hold their data and are a quorum once they run. Start them, "
            f"without loss: salt-run state.orchestrate etcd_ha.orch "
            f'pillar=\'{{"cluster": "{cluster.name}"}}\''
        )
    raise Refused(
        f"{', '.join(holding)} run, hold their data and would be a quorum, but do not find each "
        "other. Forcing one would lose data for nothing: look at journalctl -u etcd there "
        "(network, firewall, certificates, clock)"
    )


def _refuse_full(cluster: Cluster, minion: str, proof: Evidence, look: Mapping[str, Any]) -> None:
    needed, free = proof.size + ROOM, int(look.get("free", 0))
    member = cluster.member(minion)
    if member is not None and free < needed:
        size = etcd_ha_report.size
        raise Refused(
            f"{minion} holds the newest data, but has no room for a copy of it: {size(needed)} are "
            f"needed in {member.settings['data_dir']}, {size(free)} are free. Make room there"
        )


# What is done


def _steps(
    cluster: Cluster,
    observed: Mapping[str, Observed],
    wanted: Wanted,
    chosen: str,
    proof: Evidence,
) -> list[Step]:
    there = [m for m in cluster.members if m.minion in observed]
    others = [m for m in there if m.minion != chosen]
    survivor = next(m for m in there if m.minion == chosen)
    # A lost CA does not keep data from coming back: what it would sign is left for later.
    able = cluster.ca_minion is None or cluster.ca_minion in observed
    stale = etcd_ha_drift.stale(cluster, [chosen], observed, wanted) if able else []
    proxies = [one.minion for one in cluster.balancers if one.minion in observed]
    proxies = etcd_ha_drift.stale(cluster, proxies, observed, wanted) if able else []
    steps = etcd_ha_restore.configured(cluster, observed, wanted, stale, proxies)
    if others:
        steps.append(
            Step(
                title=f"{cluster.name}: stop {names([m.minion for m in others])}",
                kind="function",
                targets=tuple(m.minion for m in others),
                function="etcd_ha_restore.stop",
                arguments={"cluster": cluster.name},
                why="they have no quorum, and must not speak to the new cluster as the old one",
                disruptive=True,
            )
        )
    steps.append(
        Step(
            title=f"{cluster.name}: force {survivor.name} into a cluster of its own",
            kind="function",
            targets=(chosen,),
            function="etcd_ha_restore.force",
            arguments={
                "cluster": cluster.name,
                "revision": proof.revision,
                "confirm": cluster.name,
            },
            why="its data is the newest; it is copied first, and the original set aside",
            disruptive=True,
        )
    )
    url = cluster.client_url(survivor)
    final = etcd_ha_stages.final(cluster)
    stage = {} if able else dataclasses.replace(final, trust=etcd_ha_trust.HELD).pillar()
    for member in others:
        steps.append(
            Step(
                title=f"{cluster.name}: add {member.name} as a learner, promote it once caught up",
                kind="state",
                targets=(member.minion,),
                sls=("etcd_ha",),
                action="join",
                endpoints=url,
                stage=stage,
                why="what it held is set aside",
            )
        )
    steps += etcd_ha_restore.balanced(cluster, proxies)
    silent = etcd_ha_plan_silent.all_of(cluster, observed)
    checked = dataclasses.replace(etcd_ha_parts.verify(cluster, silent), targets=(chosen,))
    return [*steps, checked]


def _notes(
    cluster: Cluster,
    observed: Mapping[str, Observed],
    proofs: Mapping[str, Evidence],
    chosen: str,
) -> tuple[str, ...]:
    """The evidence, and what may have been lost."""
    rows = [_row(member.name, proofs.get(member.minion)) for member in cluster.members]
    heads = ("MEMBER", "KEEPS UP TO", "LOG ENDS AT", "TERM", "REVISION", "DATA")
    table = etcd_ha_report.table(heads, rows).replace("\n", "\n    ")
    notes = [f"what each member's data holds:\n    {table}"]
    own = proofs.get(chosen, Evidence())
    # A log's end is comparable with another's only within the same cluster.
    furthest = max(
        (one.last for one in proofs.values() if one.cluster_id == own.cluster_id), default=0
    )
    if furthest > own.kept:
        notes.append(
            f"entries {own.kept + 1} to {furthest} are in a log, but were not known to be "
            "committed: they are dropped, whether a client was told of them or not"
        )
    gone = [m.name for m in cluster.members if not _holds(proofs.get(m.minion))]
    if gone:
        notes.append(
            f"{', '.join(gone)} may have held entries after {own.kept} that nobody else has: "
            "writes that were acknowledged in the last moments may be lost"
        )
    silent = [m.minion for m in cluster.members if m.minion not in observed]
    if silent:
        notes.append(
            f"{', '.join(silent)} stays out. Take it out of the pillar, or bring an empty host "
            "back under its name, then run etcd_ha.orch"
        )
    notes.append(
        "clients that cache what they watch (such as kube-apiserver) are to be restarted afterwards"
    )
    return tuple(notes)


def _row(name: str, one: Evidence | None) -> tuple[object, ...]:
    if one is None:
        return (name, "-", "-", "-", "-", "no answer")
    if one.fault or not one.has_data:
        return (name, "-", "-", "-", "-", one.fault or "none")
    return (name, one.kept, one.last, one.term, one.revision, etcd_ha_report.size(one.size))


def _holds(one: Evidence | None) -> bool:
    return one is not None and one.has_data and not one.fault
