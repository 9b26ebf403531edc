"""Members that run on data which their paths do not lead to any more: no step restarts them.

Such a member is healthy and its vote counts. It holds its data as long as its process runs, so it
is neither replaced nor taken out; and it would lose it by a restart, so nothing that needs one is
done before the data is back at its place.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import etcd_ha_host_hidden
from etcd_ha_observed import Observed
from etcd_ha_steps import Refused
from etcd_ha_topology import Cluster


def holding(observed: Mapping[str, Observed]) -> dict[str, Observed]:
    """The hosts, where a process that has its data open counts as one that holds it.

    Older modules do not tell what hides it: a member that is healthy has data all the same.
    """
    return {minion: _holding(host) for minion, host in observed.items()}


def _holding(host: Observed) -> Observed:
    hidden = host.hidden
    if not hidden and not host.has_data and (host.healthy or host.voting):
        path = str(host.running.get("ETCD_DATA_DIR", ""))
        hidden = {"kind": etcd_ha_host_hidden.UNKNOWN, "path": path, "by": ""}
    return dataclasses.replace(host, hidden=hidden, has_data=True) if hidden else host


def minions(cluster: Cluster, observed: Mapping[str, Observed]) -> list[str]:
    """The hosts of the pillar's members whose data is hidden."""
    return [m.minion for m in cluster.members if m.minion in observed and observed[m.minion].hidden]


def is_deleted(host: Observed) -> bool:
    """Whether its files are gone for good once it ends: only a rebuild gives it data again."""
    return host.hidden.get("kind") == etcd_ha_host_hidden.DELETED


def told(cluster: Cluster, observed: Mapping[str, Observed]) -> tuple[str, ...]:
    """A sentence for each of them: what hides the data, and the cure."""
    members = [member.name for member in cluster.members]
    return tuple(
        f"{one.minion}: "
        + etcd_ha_host_hidden.words(observed[one.minion].hidden, cluster.name, one.name, members)
        for one in cluster.members
        if one.minion in minions(cluster, observed)
    )


def refusal(cluster: Cluster, observed: Mapping[str, Observed]) -> str:
    """Why nothing is done with these members; empty where there is none."""
    found = told(cluster, observed)
    return f"{'. '.join(found)}. Nothing was changed there" if found else ""


def refuse(
    cluster: Cluster, observed: Mapping[str, Observed], spared: Collection[str] = ()
) -> None:
    """Stop what would restart one of these members, but for those that are spared (minions)."""
    if [minion for minion in minions(cluster, observed) if minion not in spared]:
        raise Refused(refusal(cluster, observed))


def refuse_reachable(cluster: Cluster, observed: Mapping[str, Observed]) -> None:
    """Stop what exchanges all data where some of it only has to be brought back to its place."""
    gone = [m for m in minions(cluster, observed) if is_deleted(observed[m])]
    refuse(cluster, observed, gone)


def unsaid(
    cluster: Cluster, observed: Mapping[str, Observed], texts: Sequence[str]
) -> tuple[str, ...]:
    """What of it these texts do not say yet."""
    return tuple(one for one in told(cluster, observed) if not any(one in text for text in texts))
