"""Members that are stopped on purpose: no step of a plan is theirs, and plans say so."""

from collections.abc import Mapping, Sequence

import etcd_ha_release
import etcd_ha_trust
from etcd_ha_observed import Observed
from etcd_ha_stages import Stage
from etcd_ha_steps import Refused
from etcd_ha_topology import Cluster


def minions(cluster: Cluster, observed: Mapping[str, Observed]) -> list[str]:
    """The hosts of the members that are paused, also of one that the pillar no longer names."""
    named = [
        m.minion for m in cluster.members if m.minion in observed and observed[m.minion].paused
    ]
    gone = [
        minion
        for minion, host in observed.items()
        if host.paused and host.record.get("cluster") in (cluster.name, cluster.former or None)
    ]
    return list(dict.fromkeys([*named, *gone]))


def notes(cluster: Cluster, observed: Mapping[str, Observed]) -> tuple[str, ...]:
    """That these members are left alone, why and until when."""
    return tuple(
        f"{_name(cluster, minion)} is {observed[minion].paused}; nothing is done with it. To end "
        f"that: {command(cluster, minion)}"
        for minion in minions(cluster, observed)
    )


def command(cluster: Cluster, minion: str) -> str:
    """What ends the pause of a member."""
    return f"salt-run etcd_ha.resume cluster={cluster.name} member={_name(cluster, minion)}"


def _name(cluster: Cluster, minion: str) -> str:
    member = cluster.member(minion)
    return member.name if member else minion


def words(cluster: Cluster, observed: Mapping[str, Observed]) -> str:
    """Which members are paused, to be added to the reason of a refusal; empty where none is."""
    told = [
        f"{_name(cluster, minion)} is {observed[minion].paused} ({command(cluster, minion)})"
        for minion in minions(cluster, observed)
    ]
    return f". {'; '.join(told)}" if told else ""


def refuse(
    cluster: Cluster, observed: Mapping[str, Observed], what: str, lost: Sequence[str] = ()
) -> None:
    """Stop what needs every member; ``lost`` are those that are said to be gone for good."""
    found = [minion for minion in minions(cluster, observed) if minion not in lost]
    if found:
        first = found[0]
        raise Refused(
            f"{_name(cluster, first)} is {observed[first].paused}, and {what} needs every member. "
            f"End the pause first: {command(cluster, first)}"
        )


def staged_change(cluster: Cluster, now: Sequence[Stage]) -> str:
    """What every member has to go through one stage after the other; empty where nothing is.

    A member that is left behind in it could not come back.
    """
    if any(stage.transport != cluster.scheme for stage in now):
        return f"turning TLS {'on' if cluster.tls else 'off'}"
    if any(stage.trust not in (etcd_ha_trust.ALONE, etcd_ha_trust.HELD) for stage in now):
        return "another CA"
    goal = etcd_ha_release.parse(cluster.version).line
    if any(etcd_ha_release.parse(stage.version).line != goal for stage in now):
        return f"the change to etcd {goal}"
    return ""
