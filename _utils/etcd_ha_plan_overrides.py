"""Settings of etcd that a drop-in brings: no restart can make such a member as the pillar says.

So the plan is refused before anything is restarted. The formula's unit invites drop-ins, but for
what is systemd's: what is etcd's own stands in the pillar, where the safety rules see it.
"""

from collections.abc import Mapping
from typing import Any

import etcd_ha_environment
import etcd_ha_plain
from etcd_ha_observed import Observed
from etcd_ha_steps import Refused
from etcd_ha_topology import Cluster, Member


def refuse(cluster: Cluster, observed: Mapping[str, Observed]) -> None:
    """Stop at variables that every restart would bring back, on all members at once."""
    found = [
        _words(member.minion, row)
        for member in cluster.members
        if member.minion in observed
        for row in _in_the_way(cluster, member, observed[member.minion])
    ]
    if not found:
        return
    raise Refused(
        f"{'; '.join(found)}. A restart would not change that. Put the option under options in "
        "the pillar, or remove that line and run systemctl daemon-reload there; then run again. "
        "Nothing was changed on any host"
    )


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
