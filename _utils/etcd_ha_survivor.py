"""What a data directory proves: how much of the cluster's history this host holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import etcd_ha_common_files
import etcd_ha_data
import etcd_ha_database
import etcd_ha_host_examine
import etcd_ha_log
from etcd_ha_host_examine import Verdict


@dataclass(frozen=True)
class Evidence:
    """How far the data of one member goes; all indexes are those of raft's log.

    ``kept`` is the last entry that a forced start keeps: the one that the log says is committed, or
    the one that is in the database already. ``last`` is the log's last one, ``term`` its term:
    those between were not known to be committed. ``commit`` is what the log says of it.

    ``judged`` is etcd's own verdict on this data (etcd_ha_host_examine), empty where it was not
    asked: only with ``damaged`` a ``fault`` is etcd's word, and not just that of our readers.
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
    judged: str = ""

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Evidence":
        """Read what ``evidence`` returned on a host."""
        return cls(**{name: found[name] for name in cls.__dataclass_fields__ if name in found})


def evidence(data_dir: str, log: str = "", found: Verdict | None = None) -> dict[str, Any]:
    """Read a member's directories; ``log`` is the log's where it is not with the data.

    ``found`` is what an examination of this data has found: our readers count for nothing against
    it.
    """
    place, judged = f"{data_dir}/member", found.verdict if found else ""
    if not etcd_ha_common_files.is_directory(place):
        return {"has_data": False}
    if found and judged == etcd_ha_host_examine.DAMAGED:
        return {"has_data": True, "fault": found.words, "judged": judged}
    folder = log or f"{place}/wal"
    try:
        reach = etcd_ha_log.reach(folder)
        held = etcd_ha_database.content(f"{place}/snap/db")
    except (etcd_ha_log.LogError, etcd_ha_database.DatabaseError) as err:
        if found is None or judged != etcd_ha_host_examine.READABLE:
            return {"has_data": True, "fault": str(err), "judged": judged}
        ids = _ids(folder)
        reach = etcd_ha_log.Reach(0, found.index, found.index, ids[1], ids[0])
        held = etcd_ha_database.Content(found.revision, found.index)
    return {
        "has_data": True,
        "kept": max(reach.commit, held.index, found.index if found else 0),
        "commit": reach.commit,
        "last": max(reach.last, held.index),
        "term": max(reach.term, held.term),
        "revision": held.revision,
        "size": etcd_ha_data.size(place) + (etcd_ha_data.size(log) if log else 0),
        "member_id": reach.member_id,
        "cluster_id": reach.cluster_id,
        "judged": judged,
    }


def _ids(folder: str) -> tuple[str, str]:
    try:
        return etcd_ha_log.identity(folder)
    except etcd_ha_log.LogError:
        return "", ""
