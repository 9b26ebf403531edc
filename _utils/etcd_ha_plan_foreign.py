"""An etcd on a host that this formula did not set up: the plan is refused, or notes it.

And the records by which members are known: a lost one is written again from the others.
"""

from collections.abc import Mapping
from typing import Any

import etcd_ha_host_foreign
import etcd_ha_plain
import etcd_ha_plan_overrides
from etcd_ha_host_foreign import Ids, Known, Place, Verdict
from etcd_ha_observed import Observed, Wanted
from etcd_ha_steps import Refused, Step
from etcd_ha_topology import Cluster, Member

# How many of a host's other etcds a plan names.
MOST_NOTED = 3


def refuse(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> None:
    """Stop at every etcd that is not this cluster's and in the way, on all its hosts at once.

    And at what else somebody has put in the way of the formula: variables in a drop-in.
    """
    told = etcd_ha_host_foreign.refusal(cluster.name, verdicts_of(cluster, observed, wanted))
    if told:
        raise Refused(told)
    etcd_ha_plan_overrides.refuse(cluster, observed)


def is_known_data(host: Observed) -> bool:
    """Whether the data on a host has been looked at, so that ``refuse`` has decided whose it is."""
    return any(one["holds_data"] for one in host.etcds)


def notes(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> tuple[str, ...]:
    """What else of etcd there is on the hosts, which nobody touches."""
    found = []
    for minion, verdict in verdicts_of(cluster, observed, wanted).items():
        found += [_note(minion, one) for one in verdict.others[:MOST_NOTED]]
        more = len(verdict.others) - MOST_NOTED
        if more > 0:
            found.append(
                f"{minion} has {more} more etcds; list them with salt {minion} etcd_ha.etcds"
            )
    return tuple(found)


def _note(minion: str, one: Mapping[str, Any]) -> str:
    note = f"{minion} has another etcd, which is left alone: {etcd_ha_host_foreign.words(one)}"
    if not etcd_ha_host_foreign.races(one):
        return note
    ports = ", ".join(map(str, one["ports"]))
    unit = etcd_ha_plain.brief(str(one["unit"]))
    return (
        f"{note}. At the next boot it starts and wants the ports {ports}. If it is not needed: "
        f"systemctl disable {unit}"
    )


def verdicts_of(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted
) -> dict[str, Verdict]:
    """minion -> whose each etcd there is, for all hosts that a plan for the cluster may change."""
    leaving = [m for m in wanted.managed if m not in cluster.hosts]
    hosts = [m for m in (*cluster.hosts, *leaving) if m in observed and observed[m].etcds]
    listed = _listed(cluster, observed, wanted) if hosts else frozenset()
    return {
        minion: etcd_ha_host_foreign.judged(
            observed[minion].etcds,
            _known(observed[minion], wanted, listed - _elsewhere(observed, minion)),
            _place(cluster, observed[minion]),
        )
        for minion in hosts
    }


def _place(cluster: Cluster, host: Observed) -> Place:
    """What the formula takes on a host, or has taken on one that leaves."""
    if host.minion in cluster.hosts:
        return etcd_ha_host_foreign.place(cluster, host.minion)
    return etcd_ha_host_foreign.left_place(host.record)


def _known(host: Observed, wanted: Wanted, listed: frozenset[Ids]) -> Known:
    own = etcd_ha_host_foreign.of_record(host.record, host.restoring)
    past = wanted.managed.get(host.minion, {}).get("member_id", "")
    remembered = frozenset([(wanted.cluster_id, past)] if wanted.cluster_id and past else [])
    return Known(own.ids | remembered | listed, own.data_dir, own.changing)


def _listed(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> frozenset[Ids]:
    """The members of this recorded cluster while it has a quorum, as one that is ours tells it."""
    found: set[Ids] = set()
    for host in observed.values():
        own = host.record.get("cluster") in (cluster.name, cluster.former)
        recorded = str(host.record.get("cluster_id") or "") if own else ""
        # One host's word counts only where the master itself knows nothing.
        trusted = wanted.cluster_id or recorded
        if host.healthy and trusted and host.cluster_id == trusted:
            found |= {(host.cluster_id, str(entry["id"])) for entry in host.members}
    return frozenset(found)


def _elsewhere(observed: Mapping[str, Observed], minion: str) -> frozenset[Ids]:
    """The members that run on other hosts: a copy of their data is not this host's member.

    A start with it would be that member once more, and could vote a second time.
    """
    hosts = [host for one, host in observed.items() if one != minion and host.active]
    return frozenset((host.cluster_id, host.member_id) for host in hosts if host.member_id)


def lost_records(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> list[Step]:
    """Write the record of each member again that lacks it, or has one of another member.

    Of one that leaves too: without a record it is neither stopped nor moved away.

    Before anything else: what a host does to its data, it does by its own record.
    """
    named = [member.minion for member in cluster.members]
    leaving = [minion for minion in wanted.managed if minion not in named]
    steps = []
    for minion in (*named, *leaving):
        host = observed.get(minion)
        ids = _ids(cluster, host, observed, wanted) if host else None
        if host is None or ids is None or host.restoring:
            continue
        if host.record.get("state") == "bootstrapping" and not host.healthy:
            # Not all have started yet: the bootstrap goes on, and then writes it.
            continue
        if minion in leaving and host.record:
            # It may be another cluster's by now.
            continue
        held = tuple(host.record.get(name) or "" for name in ("cluster_id", "member_id"))
        if held == ids and host.record.get("cluster") in (cluster.name, cluster.former):
            continue
        member = cluster.member(minion)
        name = member.name if member else wanted.managed[minion]["name"]
        steps.append(
            Step(
                title=f"{cluster.name}: write the record of {name} again",
                kind="function",
                targets=(minion,),
                function="etcd_ha_member.write_record",
                arguments={
                    "cluster": str(host.record.get("cluster") or cluster.name),
                    "cluster_id": ids[0],
                    "member_id": ids[1],
                    **_places(member, host, ids),
                },
                why=_why(host, ids),
            )
        )
    return steps


def _why(host: Observed, ids: Ids) -> str:
    data = f"its data is of member {ids[1]}, cluster {ids[0]}"
    held = [str(host.record.get(name) or "") for name in ("member_id", "cluster_id")]
    if not host.record:
        return f"{host.minion} has no record; {data}"
    if not all(held):
        return f"the record on {host.minion} has no ids; {data}"
    told = etcd_ha_plain.brief(f"member {held[0]}, cluster {held[1]}")
    return f"the record on {host.minion} names {told}; {data}"


def _places(member: Member | None, host: Observed, ids: Ids) -> dict[str, str]:
    """Where the data of this member lies on its host."""
    rows = [one for one in host.etcds if (one["cluster_id"], one["member_id"]) == ids]
    # A copy for somebody's study has the same ids.
    for one in sorted(rows, key=lambda one: one["unit"] != etcd_ha_host_foreign.UNIT):
        if one["data_dir"]:
            return {"data_dir": str(one["data_dir"]), "wal_dir": str(one["wal_dir"])}
    if member is None:
        return {"data_dir": "", "wal_dir": ""}
    wal_dir = member.settings["wal_dir"]
    log = f"{wal_dir}/wal" if wal_dir else ""
    return {"data_dir": str(member.settings["data_dir"]), "wal_dir": log}


def claimed(
    cluster: Cluster, facts: Mapping[str, Mapping[str, Any]], cluster_id: str
) -> dict[str, dict[str, str]]:
    """The members of a cluster whose records are lost, minion -> {name, peer_url, member_id}.

    Raises Refused where an etcd on their hosts is of another cluster, or somebody else's.
    """
    members: dict[str, dict[str, str]] = {}
    faults = []
    for member in cluster.members:
        place = etcd_ha_host_foreign.place(cluster, member.minion)
        etcds = [
            one
            for one in facts.get(member.minion, {}).get("etcds", ())
            if etcd_ha_host_foreign.is_there(one) and etcd_ha_host_foreign.ways(one, place)
        ]
        faults += [
            f"{member.minion}: {etcd_ha_host_foreign.words(one)}"
            for one in etcds
            if not etcd_ha_host_foreign.may_be_claimed(one, place, cluster_id)
        ]
        ids = [str(one["member_id"]) for one in etcds if one["cluster_id"] == cluster_id]
        members[member.minion] = {"name": member.name, "peer_url": cluster.peer_url(member)}
        members[member.minion] |= {"member_id": ids[0]} if ids else {}
    if faults:
        raise Refused(
            f"nothing was claimed. Not of cluster {cluster_id}, or not set up by this formula: "
            f"{'; '.join(faults)}. See docs/existing_etcd.md"
        )
    if not any("member_id" in one for one in members.values()):
        hosts = ",".join(one.minion for one in cluster.members)
        raise Refused(
            f"nothing was claimed. No host of {cluster.name} that answers has an etcd of cluster "
            f"{cluster_id}. See what is there: salt -L '{hosts}' etcd_ha.etcds"
        )
    return members


def _ids(
    cluster: Cluster, host: Observed, observed: Mapping[str, Observed], wanted: Wanted
) -> Ids | None:
    """The ids of the data on a host that is ours; None where there is none."""
    if cluster.member(host.minion) and host.healthy and host.cluster_id and host.member_id:
        return host.cluster_id, host.member_id
    listed = _listed(cluster, observed, wanted) - _elsewhere(observed, host.minion)
    known = _known(host, wanted, listed)
    for one in host.etcds:
        if (
            one["kind"] not in etcd_ha_host_foreign.BESIDE
            and one["cluster_id"]
            and etcd_ha_host_foreign.is_ours(one, known)
        ):
            return str(one["cluster_id"]), str(one["member_id"])
    return None
