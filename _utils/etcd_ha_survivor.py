"""What a data directory proves: how much of the cluster's history this host holds."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import etcd_ha_data
import etcd_ha_database
import etcd_ha_log


@dataclass(frozen=True)
class Evidence:
    """How far the data of one member goes; all indexes are those of raft's log.

    ``kept`` is the last entry that a forced start keeps: the one that the log says is committed, or
    the one that is in the database already. ``last`` is the log's last one, ``term`` its term:
    those between were not known to be committed. ``commit`` is what the log says of it.
    """

    has_data: bool = False
    fault: str = ""
    kept: int = 0
    commit: int = 0
    last: int = 0
    term: int = 0
    revision: int = 0
    size: int = 0
    member_id: str = ""
    cluster_id: str = ""

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Evidence":
        """Read what ``evidence`` returned on a host."""
        return cls(**{name: found[name] for name in cls.__dataclass_fields__ if name in found})


def evidence(data_dir: str, log: str = "") -> dict[str, Any]:
    """Read a member's directories; ``log`` is the log's where it is not with the data."""
    place = f"{data_dir}/member"
    if not os.path.isdir(place):
        return {"has_data": False}
    try:
        reach = etcd_ha_log.reach(log or f"{place}/wal")
        held = etcd_ha_database.content(f"{place}/snap/db")
    except (etcd_ha_log.LogError, etcd_ha_database.DatabaseError) as err:
        return {"has_data": True, "fault": str(err)}
    return {
        "has_data": True,
        "kept": max(reach.commit, held.index),
        "commit": reach.commit,
        "last": max(reach.last, held.index),
        "term": max(reach.term, held.term),
        "revision": held.revision,
        "size": etcd_ha_data.size(place) + (etcd_ha_data.size(log) if log else 0),
        "member_id": reach.member_id,
        "cluster_id": reach.cluster_id,
    }
