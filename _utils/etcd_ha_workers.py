"""How many hosts may ask the CA at once: as many as the master has workers to spare for them.

A minion's publish holds one worker of the master, which itself needs another one to pass it on
(seen with Salt 3008.3: with all workers held, the master answers nobody until they time out).
Workers of their own for ``minion_pub`` end that (worker_pools, from Salt 3008 on).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from etcd_ha_steps import Plan
from etcd_ha_topology import Cluster

# The release of Salt that knows worker_pools; an older one takes no notice of them.
POOLS_SINCE = 3008


def checked(cluster: Cluster, made: Plan, settings: Mapping[str, Any], release: int) -> Plan:
    """The plan, or its refusal where too many hosts ask at once.

    ``settings`` are the master's, ``release`` is the major version of its Salt.
    """
    workers = _beside_peers(settings, release)
    if workers is None:
        return made
    asking = max((len(s.targets) for s in made.steps if s.sls == ("etcd_ha",)), default=0)
    if cluster.ca_minion is None or asking < workers:
        return made
    refusal = (
        f"{asking} hosts of {cluster.name} may ask the CA at once, but the master has "
        f"{workers} workers. Give such questions workers of their own: set worker_pools in its "
        "configuration as the README says (before Salt 3008: "
        f"worker_threads: {2 * asking}), and restart salt-master"
    )
    return dataclasses.replace(made, steps=(), refusal=refusal)


def _beside_peers(settings: Mapping[str, Any], release: int) -> int | None:
    """How many workers all requests share; None where ``minion_pub`` has a pool of its own."""
    pools = settings.get("worker_pools") or {}
    shared = int(settings.get("worker_threads") or 5)
    if release < POOLS_SINCE or not pools or not settings.get("worker_pools_enabled", True):
        return shared
    if any("minion_pub" in pool["commands"] for pool in pools.values()):
        return None
    return next((int(p["worker_count"]) for p in pools.values() if "*" in p["commands"]), shared)
