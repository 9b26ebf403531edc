"""Why a host is changed: one reason, and the true one."""

from collections.abc import Sequence

import etcd_ha_drift
import etcd_ha_plan_own_certificates
import etcd_ha_trust
from etcd_ha_common_text import few
from etcd_ha_observed import Observed, Wanted
from etcd_ha_stages import Stage
from etcd_ha_steps import names
from etcd_ha_topology import Cluster

# What of a member's process is older than what is on disk (etcd_ha_machine.pending).
_PARTS = {"unit": "unit", "program": "program", "trust": "CA file"}

NEW = "it is not set up yet"
# Where nothing differs: no plan takes such a step.
KEPT = "it is kept as the pillar says"


def of_member(
    cluster: Cluster, host: Observed, wanted: Wanted, now: Stage, stage: Stage, fresh: bool
) -> str:
    """Why a member is started, restarted or configured.

    ``now`` is what it runs and ``stage`` what it will run; ``fresh`` until a step of this plan has
    changed it.
    """
    if fresh and not host.active:
        return "it is not running"
    if fresh and not host.healthy:
        return "it runs, but is not healthy"
    if now.version != stage.version:
        return f"the pillar has version {cluster.version}"
    if now.transport != stage.transport:
        return f"the pillar turns TLS {'on' if cluster.tls else 'off'}"
    if now.trust != stage.trust:
        if stage.trust == etcd_ha_trust.ALONE:
            return "all bear certificates of the new CA by now"
        return "another CA signs from now on; certificates of both are trusted at first"
    if host.pending:
        parts = " and ".join(_PARTS.get(one, one) for one in host.pending)
        return f"its {parts} changed after it was started"
    return of_files(cluster, host, wanted) or _of_process(cluster, host, stage)


def of_balancers(
    cluster: Cluster, hosts: Sequence[Observed], wanted: Wanted, trust: Sequence[bool]
) -> str:
    """Why balancers are configured; ``trust`` tells for each whether its CA is to be another."""
    found = {
        host.minion: _of_balancer(cluster, host, wanted, changes)
        for host, changes in zip(hosts, trust, strict=True)
    }
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    return "; ".join(f"{names([minion])}: {why}" for minion, why in found.items())


def _of_balancer(cluster: Cluster, host: Observed, wanted: Wanted, trust: bool) -> str:
    if not host.balancer_healthy:
        return "clients cannot reach the cluster through it" if host.balancer_of else NEW
    if trust:
        return "the cluster's CA changes"
    return of_files(cluster, host, wanted) or KEPT


def of_files(cluster: Cluster, host: Observed, wanted: Wanted) -> str:
    """Why the states have work on a host; empty where what they left there is as wanted."""
    if host.changed_files:
        return f"{few(host.changed_files)} changed on the host"
    waiting = etcd_ha_plan_own_certificates.why(host)
    if waiting:
        return waiting
    if etcd_ha_drift.expires(cluster, host):
        return f"a certificate expires in {host.days_left} days"
    if host.digest == wanted.digests.get(host.minion):
        return ""
    if not host.digest:
        return "no run has finished on this host yet"
    return _of_mark(host, wanted)


def _of_mark(host: Observed, wanted: Wanted) -> str:
    """What the last run was made from, beside what it would be made from now."""
    applied, now = host.applied, wanted.formula
    if not applied.get("source"):
        return "only a highstate has run on this host, no orchestrate yet"
    if any(applied.get(part, now[part]) != now[part] for part in now):
        return "the formula changed"
    settings = wanted.settings.get(host.minion)
    if "settings" in applied and applied["settings"] == settings:
        return "the last run did not finish on this host"
    return "the pillar changed"


def _of_process(cluster: Cluster, host: Observed, stage: Stage) -> str:
    member = cluster.member(host.minion)
    changes = etcd_ha_drift.changes(cluster, member, host, stage) if member else {}
    if changes:
        return f"its process was started with another {few(changes)}"
    return KEPT
