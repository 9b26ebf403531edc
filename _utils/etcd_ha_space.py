"""The space of a database: its quota, how much of it is free, and whether a defragmentation pays.

A compaction drops old revisions, and their pages become free inside the file; only a
defragmentation makes the file smaller. At the quota etcd raises the alarm NOSPACE, and the whole
cluster takes no more writes until the alarm is disarmed.
https://etcd.io/docs/v3.6/op-guide/maintenance/
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import etcd_ha_environment
from etcd_ha_observed import Observed
from etcd_ha_report import size
from etcd_ha_topology import Cluster

NOSPACE, CORRUPT = "NOSPACE", "CORRUPT"
# https://etcd.io/docs/v3.6/dev-guide/limit/#storage-size-limit
DEFAULT_QUOTA = 2 * 1024**3
# In percent of the quota. etcd raises NOSPACE when the next request would not fit any more, so a
# database may be a little below its quota by then, and would be full again at once.
FULL = 95
# Beside the copy that a defragmentation makes, etcd goes on writing its log.
SPARE = 64 * 1024**2
# A slow disk's, of which both the reading and the writing take their part.
_BYTES_A_SECOND = 10 * 1024**2


def quota(variables: Mapping[str, str]) -> int:
    """The quota (bytes) of a member with these variables; 0 where it has none, or none is known.

    With text that is no number etcd does not start, so nothing can be said of a limit.

    NewBackendQuota in server/storage/quota.go: 0 means the default, below 0 no quota at all.
    """
    given = variables.get("ETCD_QUOTA_BACKEND_BYTES") or "0"
    if not re.fullmatch(r"-?[0-9]{1,19}", given):
        return 0
    set_to = int(given)
    return max(0, set_to or DEFAULT_QUOTA)


def free_percent(db_size: int, in_use: int) -> int:
    """How much of a database file is free inside, in percent of the file."""
    return 100 * max(0, db_size - in_use) // db_size if db_size else 0


def pays(db_size: int, in_use: int, settings: Mapping[str, Any]) -> bool:
    """Whether a defragmentation is worth the moment in which its member stands still."""
    enough = free_percent(db_size, in_use) >= int(settings["fragmentation"])
    return enough and db_size >= int(settings["minimum_size"])


def patience(db_size: int) -> int:
    """Seconds in which a database of this size (bytes) must have been defragmented."""
    return 60 + db_size // _BYTES_A_SECOND


def room_fault(in_use: int, free: int) -> str:
    """Why a file system with so much free (bytes) cannot take the copy that is made; or empty.

    The copy lies beside the database until it takes its place (server/storage/backend/backend.go).
    """
    needed = in_use + SPARE
    if free >= needed:
        return ""
    return f"its file system has {size(free)} free, and {size(needed)} are needed for the copy"


def too_large(rows: Sequence[Mapping[str, Any]], quota_here: int) -> list[str]:
    """The members whose database is not well below its quota, each in words.

    From 3.6 on a member tells its own quota; ``quota_here`` (bytes) stands for those that do not.
    """
    found = []
    for row in rows:
        limit = int(row["db_quota"]) or quota_here
        if limit and 100 * int(row["db_size"]) >= FULL * limit:
            found.append(f"{row['endpoint']} has {size(int(row['db_size']))} of {size(limit)}")
    return found


def shrunk_fault(cluster: Cluster, observed: Mapping[str, Observed]) -> str:
    """Why the pillar's quota must not be put in force: it is less than a database has; or empty.

    The first member that is started with it raises NOSPACE, and no client writes any more.
    """
    for member in cluster.members:
        host = observed.get(member.minion)
        wanted = quota(etcd_ha_environment.variables(cluster, member))
        if host is None or not wanted or not host.running:
            continue
        lowered = wanted < (quota(host.running) or wanted + 1)
        if lowered and 100 * host.db_size >= FULL * wanted:
            return (
                f"etcd_ha:clusters:{cluster.name}:options:quota-backend-bytes is {wanted} "
                f"({size(wanted)}), and the database of {member.name} has {size(host.db_size)}: "
                "etcd would take no more writes. Give more, or make the database smaller first "
                "(delete keys, then etcd_ha.orch.defrag)"
            )
    return ""


def deactivation(alarm: str, member_id: str) -> str:
    """The body by which etcd's HTTP gateway disarms one alarm of one member (hex id).

    AlarmRequest in https://github.com/etcd-io/etcd/blob/v3.6.14/api/etcdserverpb/rpc.proto
    """
    number = str(int(member_id or "0", 16))
    return json.dumps({"action": "DEACTIVATE", "memberID": number, "alarm": alarm})


def state(host: Observed) -> str:
    """A member's database in a few words."""
    free = free_percent(host.db_size, host.db_in_use)
    return f"{size(host.db_size)}, {free}% of it free"


def is_full(observed: Mapping[str, Observed]) -> bool:
    """Whether etcd takes no writes because a database has reached its quota."""
    return any(NOSPACE in host.alarms for host in observed.values())


def recovery(cluster: Cluster) -> str:
    """The command that leads out of NOSPACE."""
    return (
        "salt-run state.orchestrate etcd_ha.orch.recover_space "
        f'pillar=\'{{"cluster": "{cluster.name}"}}\''
    )


def notes(cluster: Cluster, observed: Mapping[str, Observed]) -> tuple[str, ...]:
    """What people should know of the space in a cluster, one sentence each."""
    own = {m.minion: observed[m.minion] for m in cluster.members if m.minion in observed}
    found = []
    if is_full(own):
        found.append(
            f"etcd takes no writes (alarm NOSPACE): a database has reached its quota. To free it, "
            f"run {recovery(cluster)}"
        )
    threshold = int(cluster.settings["maintenance"]["quota_warning"])
    for member in cluster.members:
        host = own.get(member.minion, Observed(member.minion))
        limit = quota(host.running)
        if limit and 100 * host.db_size >= threshold * limit and not is_full(own):
            found.append(
                f"{member.name}: its database has {size(host.db_size)}, "
                f"{100 * host.db_size // limit}% of the quota of {size(limit)} "
                f"({free_percent(host.db_size, host.db_in_use)}% of it free inside). Defragment "
                "(etcd_ha.orch.defrag), delete keys, or raise options:quota-backend-bytes; at "
                "the quota etcd takes no more writes"
            )
    return tuple(found)
