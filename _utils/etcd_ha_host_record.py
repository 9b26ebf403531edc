"""What a host keeps of its member outside the data directory: whose it is, and where its data is.

It is written before there is data: data without a record was made by somebody else. ``cluster_id``
and ``member_id`` are etcd's own (hex text); they are what a member is known by.
"""

import os
from collections.abc import Mapping
from typing import Any

import etcd_ha_common_files
import etcd_ha_machine
from etcd_ha_common_files import Malformed

FOLDER = os.path.dirname(etcd_ha_machine.MARK_FILE)
FIELDS = ("cluster", "state", "data_dir", "wal_dir", "cluster_id", "member_id")
# ``bootstrapping``: a start without data was asked for, and etcd has not told its ids yet.
STATES = ("bootstrapping", "bootstrapped")


def path(cluster: str) -> str:
    """Where the record of a member of this cluster lies."""
    return f"{FOLDER}/{cluster}.json"


def read() -> dict[str, Any]:
    """This host's record, of whichever cluster it is; empty where there is none.

    See ``of`` for one that cannot be relied on.
    """
    for name in etcd_ha_common_files.names(FOLDER):
        if name.endswith(".json") and name != os.path.basename(etcd_ha_machine.MARK_FILE):
            return of(f"{FOLDER}/{name}")
    return {}


def of(file: str) -> dict[str, Any]:
    """The record in this file; empty where there is none.

    One that cannot be relied on speaks all the same against a bootstrap: it has its cluster alone.
    Raises Unreadable where it cannot be read at all.
    """
    try:
        found = etcd_ha_common_files.mapping(file)
    except Malformed:
        found = {}
    if found is None:
        return {}
    cluster = os.path.basename(file).removesuffix(".json")
    return found if is_sound(found) else {"cluster": cluster, "state": "bootstrapped"}


def is_sound(found: Mapping[str, Any]) -> bool:
    """Whether this is a record as it is written here."""
    texts = (found.get(name) for name in FIELDS)
    return bool(found) and all(isinstance(one, (str, type(None))) for one in texts)


def made(
    cluster: str,
    state: str,
    environment: Mapping[str, str],
    cluster_id: str = "",
    member_id: str = "",
) -> dict[str, str]:
    """The record of a member with this environment (``ETCD_*``)."""
    return {
        "cluster": cluster,
        "state": state,
        "data_dir": environment["ETCD_DATA_DIR"],
        "wal_dir": environment.get("ETCD_WAL_DIR", ""),
        "cluster_id": cluster_id,
        "member_id": member_id,
    }


def write(file: str, record: Mapping[str, str]) -> bool:
    """Keep a record, unless it is there already; whether it was written."""
    if etcd_ha_machine.read_json(file) == dict(record):
        return False
    etcd_ha_machine.write_json(file, record)
    return True
