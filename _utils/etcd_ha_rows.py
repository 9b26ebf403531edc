"""A plan as ``etcd_ha/orch/steps.jinja`` takes it: a row a state, and what the master remembers."""

from collections.abc import Mapping, Sequence
from typing import Any

import etcd_ha_report
from etcd_ha_steps import Plan, Step, state_id
from etcd_ha_topology import Cluster

# What gives members other ids than those of the plan's moment: a member that joins has a new one of
# its own, and a restore makes a cluster with a new one.
_JOINING = ("bootstrap", "join")
_REMAKING = ("etcd_ha_restore.exchange", "etcd_ha_restore.force")
# What is put in force by it is less than the whole host.
PREPARE = "etcd_ha.prepare"


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
    partial: bool = False,
    unseen: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """The plan's steps, and what the master remembers before and after them.

    ``source`` is the hash of the formula's states, ``record`` what the master remembers now,
    ``ids`` what the members tell of themselves, ``partial`` that a part of the plan waits: whoever
    is to leave is a member until then. Where nothing is left to do, a run may have ended
    before it could remember; a plan that gives members other ids ends by remembering these.
    ``unseen`` are hosts without facts that have left: they are still to be stopped.
    """
    past = {
        minion: {key: one[key] for key in one if key != "member_id"}
        for minion, one in record.get("members", {}).items()
    }
    own = {m.minion: {"name": m.name, "peer_url": cluster.peer_url(m)} for m in cluster.members}
    balancers = [balancer.minion for balancer in cluster.balancers]
    own = {**{minion: past[minion] for minion in unseen if minion in past}, **own}
    balancers += [m for m in record.get("balancers", []) if m in unseen and m not in balancers]
    if partial:
        own = {**past, **own}
        balancers = list(dict.fromkeys([*record.get("balancers", []), *balancers]))
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


def planned_from(row: Mapping[str, Any], settings: Mapping[str, str]) -> dict[str, Any]:
    """A row whose states refuse a host with another pillar than the one that this plan is of.

    ``settings`` has the hash of what the master's pillar says of each host. A host that compiles
    another one would be brought to that, or nowhere, and the run would be called a success.
    """
    if row["kind"] != "state":
        return dict(row)
    known = {minion: settings[minion] for minion in row["targets"] if minion in settings}
    step = {**row["pillar"]["etcd_ha_step"], "settings": known}
    return {**row, "pillar": {**row["pillar"], "etcd_ha_step": step}}


def chained(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each row with the one before it of its own cluster: what fails in one stops no other."""
    last: dict[str, str] = {}
    found = []
    for row in rows:
        found.append({**row, "after": last.get(row["cluster"], "")})
        last[row["cluster"]] = row["id"]
    return found


def ends(plans: Sequence[Plan], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The last line of each cluster: what became of it. A refused one says so by itself.

    None where all clusters are as they should be: that is one line for all of them.
    """
    if not rows and all(one.sound for one in plans):
        return []
    found = []
    for one in plans:
        own = [row["id"] for row in rows if row["cluster"] == one.cluster]
        if one.refusal or (one.nothing and not own):
            continue
        done = f"all {len(own)} steps were taken" if own else "in sync, nothing to do"
        told = [f"waits: {what}" for what in one.waits] or [done]
        found.append(
            {
                "id": state_id(f"{one.cluster}: result"),
                "after": own[-1] if own else "",
                "sound": not one.waits,
                "comment": "; ".join(told),
            }
        )
    return found


def _row(cluster: Cluster, step: Step, source: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": state_id(step.title),
        "title": step.title,
        "kind": step.kind,
        "targets": list(step.targets),
        "cluster": cluster.name,
    }
    if step.kind == "verify":
        silent, paused = (step.arguments.get(name, ()) for name in ("silent", "paused"))
        up = [m.minion for m in cluster.members if m.minion not in (*silent, *paused)]
        row["arguments"] = {
            "former": cluster.former,
            "speaker": step.targets[0],
            "endpoints": etcd_ha_report.verified_urls(cluster, silent, paused),
            "balancers": [b.minion for b in cluster.balancers if b.minion not in silent],
        }
        if "fresh" in step.arguments:
            row["arguments"]["fresh"] = step.arguments["fresh"]
        if len(up) < len(cluster.members):
            # A balancer is not asked for a member of which nobody says that it is up.
            row["arguments"]["minions"] = up
    elif step.kind == "seen":
        row["kind"] = "verify"
        row["arguments"] = {
            "former": cluster.former,
            "balancers": list(step.targets),
            **step.arguments,
        }
    elif step.kind == "function":
        row["function"], row["arguments"] = step.function, dict(step.arguments)
    elif step.kind == "state":
        row["sls"] = list(step.sls)
        handed: dict[str, Any] = {"action": step.action, "source": source}
        handed |= {"stage": dict(step.stage), "successor": step.successor}
        handed["prepares"] = PREPARE in step.sls
        handed |= {"endpoints": step.endpoints, "restart_before": step.restart_before}
        handed["leads_to"] = {minion: list(found) for minion, found in step.leads_to.items()}
        handed["pairs"] = "keep" if step.keeps_pairs else "take"
        row["pillar"] = {"etcd_ha_step": handed}
    return row
