"""Members that do not start: who is examined first, and what that makes of the plan.

Whether a member's data can be read is for etcd alone to say, on a copy (etcd_ha_host_examine): a
step of a plan of its own, after which it is planned again. A member that was merely stopped is
simply started.
"""

import json
from collections.abc import Mapping, Sequence

import etcd_ha_parts
from etcd_ha_observed import Observed
from etcd_ha_steps import Step, names
from etcd_ha_topology import Cluster

READABLE = "readable"


def is_due(host: Observed) -> bool:
    """Whether it is to be examined: its start ended by itself, and nothing is known of its data."""
    return (
        bool(host.failing)
        and host.has_data
        and not host.active
        and not host.corrupt
        and not is_readable(host)
    )


def is_readable(host: Observed) -> bool:
    """Whether etcd could read the data that is there, and it does not run."""
    return host.examined.get("verdict") == READABLE and not host.active


def has_failed_since(host: Observed) -> bool:
    """Whether it was started after its data had been found readable, and ended by itself again."""
    return is_readable(host) and bool(host.failing) and bool(host.examined.get("tried"))


def steps(cluster: Cluster, minions: Sequence[str], endpoints: str) -> list[Step]:
    """Examine these members, all at once, and plan again.

    ``endpoints`` are where the members that run serve clients; empty where none does.
    """
    return [
        Step(
            title=f"{cluster.name}: examine {names(minions)}: can etcd read the data, on a copy?",
            kind="function",
            targets=tuple(minions),
            function="etcd_ha_member.examine",
            arguments={"cluster": cluster.name, "endpoints": endpoints},
            why="etcd was started there and ended by itself",
        ),
        etcd_ha_parts.again(cluster, "what to do depends on what the examination finds"),
    ]


def compared(cluster: Cluster, minion: str) -> Step:
    """See that a member that serves again has what the majority has: readable is not yet right."""
    return Step(
        title=f"{cluster.name}: compare the keys of {names([minion])} with the majority's",
        kind="function",
        targets=(minion,),
        function="etcd_ha_member.compare",
        arguments={"cluster": cluster.name},
        why="its data can be read, which does not prove that it is right",
    )


def why_start(cluster: Cluster, minion: str, host: Observed) -> str:
    """Why a member is started whose data was found readable; empty for every other one.

    Where that has failed once more, it may be data that ends etcd beside its peers alone.
    """
    if not is_readable(host):
        return ""
    ended = f": {host.failing}" if host.failing else ""
    why = f"etcd can read its data, so its last start failed for another reason{ended}"
    if has_failed_since(host):
        why += (
            ". It has failed again since then; if this start fails, too, and that reason cannot be "
            f"removed, rebuild it from the others: {replacing(cluster.name, minion)}"
        )
    return why


def replacing(cluster: str, minion: str) -> str:
    """The command that has a member rebuilt from the others on an operator's word."""
    asked = json.dumps({"confirm": cluster, "member": minion})
    return f"salt-run state.orchestrate etcd_ha.orch.replace pillar='{asked}'"


def causes(cluster: Cluster, observed: Mapping[str, Observed], minions: Sequence[str]) -> str:
    """Why these members do not start although their data can be read."""
    found = [f"{minion}: {observed[minion].failing}" for minion in minions]
    return (
        f"etcd can read the data of {', '.join(minions)}, but ends as it starts there "
        f"({'; '.join(found)}), and {cluster.name} has no quorum without. Remove that cause, then "
        "run systemctl start etcd there"
    )
