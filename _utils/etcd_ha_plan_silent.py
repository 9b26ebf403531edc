"""Hosts without facts: what waits for them, and what goes on without.

Nothing is known of such a host, so nothing is concluded: neither that it is stopped, nor that it is
lost. What needs it waits; what does not goes on. A plan may end early at any step, since each step
leaves a state from which the next plan starts.
"""

from collections.abc import Mapping, Sequence

import etcd_ha_membership
import etcd_ha_parts
from etcd_ha_observed import Observed, Wanted
from etcd_ha_steps import Refused, names
from etcd_ha_topology import Cluster

NO_ANSWER = (
    "did not answer. Bring it back (salt-run manage.status; salt-key -L shows whether its key is "
    "accepted)"
)


class Waits(Exception):
    """The plan ends here for now: the text says what is left, and for which host it waits."""


def members(cluster: Cluster, observed: Mapping[str, Observed]) -> list[str]:
    """The members without facts."""
    return [m.minion for m in cluster.members if m.minion not in observed]


def balancers(cluster: Cluster, observed: Mapping[str, Observed]) -> list[str]:
    """The balancers without facts."""
    return [b.minion for b in cluster.balancers if b.minion not in observed]


def authority(cluster: Cluster, observed: Mapping[str, Observed]) -> str:
    """The CA minion where it has no facts; empty where it has, and where there is none."""
    minion = cluster.ca_minion
    return minion if minion is not None and minion not in observed else ""


def all_of(cluster: Cluster, observed: Mapping[str, Observed]) -> list[str]:
    """All hosts of the cluster without facts."""
    return [minion for minion in cluster.hosts if minion not in observed]


def waits(what: str, minions: Sequence[str], wanted: Wanted) -> str:
    """What is left for a later run, and the hosts that it needs."""
    causes = [f"{one}, which {_cause(one, wanted).partition('. ')[0]}" for one in minions]
    return f"{what}: needs {' and '.join(causes)}"


def refuse(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted, minions: Sequence[str]
) -> None:
    """Stop where one of these hosts has no facts."""
    told = refusal(cluster, observed, wanted, minions)
    if told:
        raise Refused(told)


def refusal(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted, minions: Sequence[str]
) -> str:
    """Which of these hosts have no facts, and what helps; empty where all have them."""
    silent = [minion for minion in minions if minion not in observed]
    if not silent:
        return ""
    groups: dict[str, list[str]] = {}
    for minion in silent:
        groups.setdefault(_cause(minion, wanted), []).append(minion)
    told = [f"{', '.join(those)} {cause}" for cause, those in groups.items()]
    return f"{'; '.join(told)}. Then run again{_recovery(cluster, observed)}"


def notes(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> tuple[str, ...]:
    """Hosts that have left the cluster and give no facts: nobody stops what runs there yet.

    The master remembers them until they answer, or their keys are deleted.
    """
    left = [m for m in (*wanted.managed, *wanted.balancers) if m not in cluster.hosts]
    return tuple(
        f"{minion} {_cause(minion, wanted).partition('. ')[0]}: what the pillar no longer names "
        "there is not stopped, and its certificates open the cluster. A run in which it answers "
        f"does that; if its machine is gone for good: salt-key -d {minion}"
        for minion in dict.fromkeys(left)
        if minion not in observed
    )


def _cause(minion: str, wanted: Wanted) -> str:
    return wanted.silent.get(minion) or NO_ANSWER


def _recovery(cluster: Cluster, observed: Mapping[str, Observed]) -> str:
    """The way out with loss: only where the members whose data is known cannot form a quorum."""
    silent = members(cluster, observed)
    sound = [
        host
        for host in (observed[m.minion] for m in cluster.members if m.minion in observed)
        if host.has_data and not host.corrupt and not host.learner
    ]
    if not silent or len(sound) >= etcd_ha_membership.quorum(len(cluster.members)):
        return ""
    return (
        f". Only where {names(silent)} will never come back: "
        f"{etcd_ha_parts.asked(cluster, 'recover')}"
    )
