"""Settings of etcd that a drop-in brings: no restart can make such a member as the pillar says.

So the plan is refused before anything is restarted. The formula's unit invites drop-ins, but for
what is systemd's: what is etcd's own stands in the pillar, where the safety rules see it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import etcd_ha_environment
import etcd_ha_plain
from etcd_ha_host_overrides import MANAGER
from etcd_ha_observed import Observed
from etcd_ha_steps import Refused
from etcd_ha_topology import Cluster, Member


def refuse(cluster: Cluster, observed: Mapping[str, Observed]) -> None:
    """Stop at variables that every restart would bring back, on all members at once."""
    found = [
        (member.minion, row)
        for member in cluster.members
        if member.minion in observed
        for row in _in_the_way(cluster, member, observed[member.minion])
    ]
    if not found:
        return
    told = "; ".join(_words(minion, row) for minion, row in found)
    raise Refused(
        f"{told}. A restart would not change that. Put the option under options in the pillar, or "
        f"{_cure([row for _, row in found])} there; then run again. Nothing was changed on any host"
    )


def _cure(rows: Sequence[Mapping[str, Any]]) -> str:
    """What takes the variables away on a host."""
    given = [etcd_ha_plain.brief(row["variable"]) for row in rows if row["file"] == MANAGER]
    cures = [f"run systemctl unset-environment {' '.join(dict.fromkeys(given))}"] if given else []
    if len(given) < len(rows):
        cures.append("remove that line and run systemctl daemon-reload")
    return " and ".join(cures)


def _in_the_way(cluster: Cluster, member: Member, host: Observed) -> list[Mapping[str, Any]]:
    wanted = etcd_ha_environment.variables(cluster, member)
    return [row for row in host.overrides if _differs(row, wanted)]


def _differs(row: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    """Whether a member that is started with it differs from the pillar."""
    if row["variable"] == "EnvironmentFile":
        return True
    if row["variable"] in wanted and not row["wins"]:
        # The formula's file counts.
        return False
    return bool(row["value"] != wanted.get(row["variable"], ""))


def _words(minion: str, row: Mapping[str, Any]) -> str:
    file, variable = (etcd_ha_plain.brief(str(row[name])) for name in ("file", "variable"))
    if variable == "EnvironmentFile":
        return f"on {minion}, {file} takes the formula's EnvironmentFile from etcd.service"
    return f"on {minion}, {file} sets {variable} for etcd, and the pillar says otherwise"
