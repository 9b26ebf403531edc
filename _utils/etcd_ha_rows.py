"""A plan as ``etcd_ha/orch/steps.jinja`` takes it: a row a state, and what the master remembers."""

from collections.abc import Mapping, Sequence
from typing import Any

import etcd_ha_report
from etcd_ha_steps import Step
from etcd_ha_topology import Cluster

# What gives members other ids than those of the plan's moment: a member that joins has a new one of
# its own, and a restore makes a cluster with a new one.
_JOINING = ("bootstrap", "join")
_REMAKING = ("etcd_ha_restore.exchange", "etcd_ha_restore.force")


def ids(cluster: Cluster, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """Cluster id and member id of each member that is healthy now, by minion."""
    found = {m.minion: facts[m.minion]["etcd"] for m in cluster.members if m.minion in facts}
    return {
        minion: (etcd["cluster_id"], etcd["member_id"])
        for minion, etcd in found.items()
        if etcd.get("healthy") and etcd.get("cluster_id") and etcd.get("member_id")
    }


def remembered(
    cluster: Cluster,
    steps: Sequence[Step],
    source: str,
    record: Mapping[str, Any],
    ids: Mapping[str, tuple[str, str]],
) -> list[dict[str, Any]]:
    """The plan's steps, and what the master remembers before and after them.

    ``source`` is the hash of the formula's states, ``record`` what the master remembers now,
    ``ids`` what the members tell of themselves. Where nothing is left to do, a run may have ended
    before it could remember; a plan that gives members other ids ends by remembering these.
    """
    past = {
        minion: {key: one[key] for key in one if key != "member_id"}
        for minion, one in record.get("members", {}).items()
    }
    own = {m.minion: {"name": m.name, "peer_url": cluster.peer_url(m)} for m in cluster.members}
    balancers = [balancer.minion for balancer in cluster.balancers]
    found = rows(cluster, steps, source)
    known = {
        "kind": "remember",
        "id": f"{cluster.name}: remember on the master who its members are",
        "cluster": cluster.name,
        "former": cluster.former,
        "members": own,
        "balancers": balancers,
    }
    if found and found[-1]["kind"] == "forget":
        return found
    led = record.get("balancers", [])
    if found and past and (set(own) - set(past) or set(balancers) - set(led)):
        # Before a new host enters: after an interruption it is known as one of ours.
        first = f"{cluster.name}: remember on the master who its members are going to be"
        before = {"id": first, "members": {**past, **own}}
        before["balancers"] = list(dict.fromkeys([*led, *balancers]))
        found.insert(0, {**known, **before})
    changed = own != past or balancers != record.get("balancers") or _lacks(record, ids)
    changed |= any(one.action in _JOINING or one.function in _REMAKING for one in steps)
    is_new = changed or record.get("cluster", cluster.name) != cluster.name
    if is_new and not (found and found[-1]["kind"] == "again"):
        found.append(known)
    return found


def _lacks(record: Mapping[str, Any], ids: Mapping[str, tuple[str, str]]) -> bool:
    """Whether the master does not know the ids of a member, by which it tells it from others'."""
    members = record.get("members", {})
    known = {minion: one.get("member_id") for minion, one in members.items()}
    return any(
        (record.get("cluster_id"), known.get(minion)) != pair for minion, pair in ids.items()
    )


def rows(cluster: Cluster, steps: Sequence[Step], source: str) -> list[dict[str, Any]]:
    """The steps alone."""
    return [_row(cluster, step, source) for step in steps]


def _row(cluster: Cluster, step: Step, source: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": step.title,
        "kind": step.kind,
        "targets": list(step.targets),
        "cluster": cluster.name,
    }
    if step.kind == "verify":
        row["kind"], row["function"] = "function", "etcd_ha.verify"
        urls = etcd_ha_report.verified_urls(cluster)
        row["arguments"] = {"endpoints": urls, "cluster": cluster.name}
    elif step.kind == "function":
        row["function"], row["arguments"] = step.function, dict(step.arguments)
    elif step.kind == "state":
        row["sls"] = list(step.sls)
        handed: dict[str, Any] = {"action": step.action, "source": source}
        handed |= {"stage": dict(step.stage), "successor": step.successor}
        handed |= {"endpoints": step.endpoints, "restart_before": step.restart_before}
        handed["leads_to"] = {minion: list(found) for minion, found in step.leads_to.items()}
        row["pillar"] = {"etcd_ha_step": handed}
    return row
