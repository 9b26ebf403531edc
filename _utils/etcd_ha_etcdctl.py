"""Calling etcdctl: its arguments, its time limit, and its JSON as plain data.

Member ids are decimal uint64 in etcd's JSON and hex on its command line; here they are always the
hex text that a person sees in ``etcdctl member list``.
"""

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import etcd_ha_environment

# NOSPACE and CORRUPT of etcdserverpb.AlarmType (rpc.proto).
ALARMS: Mapping[int, str] = {1: "NOSPACE", 2: "CORRUPT"}


# What etcd logs when it cannot use its own data; server/storage/wal, .../snap, .../corrupt.go.
CORRUPTION: Mapping[str, str] = {
    "crc mismatch": "its log or snapshot is corrupt (crc mismatch)",
    "checksum mismatch": "its data differs from the others' (checksum mismatch)",
    "found data inconsistency with peers": "its data differs from the others'",
    "failed to recover v3 backend from snapshot": "its database is missing or corrupt",
    "invalid database": "its database is corrupt",
    "page is not freelist": "its database is corrupt",
    "file size too small": "its database is corrupt",
    "raft log corrupted, truncated, or lost": "its log has lost entries that it once confirmed",
    "wal: file not found": "its log is missing",
    "permanently removed from the cluster": "it was taken out of the member list",
}

# What a damaged record can look like besides, but said of other things too: it counts only where
# etcd ended by it. server/storage/wal/wal.go, walpb/record.pb.go.
FATAL_CORRUPTION: Mapping[str, str] = {
    '"error":"proto: ': "its log or snapshot is corrupt (a record cannot be decoded)",
    "unexpected block type": "its log is corrupt (a record of no known type)",
    "wal: slice bounds out of range": "its log is corrupt (entries are missing)",
    "wal: snapshot mismatch": "its log and its snapshots do not fit together",
    "wal: conflicting metadata found": "its log is of another member",
}


class EtcdctlError(RuntimeError):
    """etcdctl could not be run, failed, or said something that is not JSON."""


@dataclass(frozen=True)
class Answer:
    """What one call of etcdctl gave."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The answer as data; raises EtcdctlError where it is none."""
        try:
            return json.loads(self.out)
        except ValueError:
            said = (self.err or self.out).strip().splitlines()
            raise EtcdctlError(
                f"etcdctl gave no JSON (exit code {self.code}): {said[-1] if said else 'nothing'}"
            ) from None


def call(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    program: str = "etcdctl",
    timeout: float = 10.0,
    stdin: str | None = None,
    folder: str | None = None,
) -> Answer:
    """Run etcdctl with certificates and endpoints from ``environment``; nothing secret in argv.

    ``folder`` is where it runs, for sockets and files without a path. ``timeout`` is in seconds and
    bounds the whole process, since etcdctl itself can hang while it dials (its own --dial-timeout
    bounds one attempt only).
    """
    clean = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
    }
    clean.update(environment)
    try:
        done = subprocess.run(
            [program, *arguments],
            env=clean,
            cwd=folder,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise EtcdctlError(
            f"{program} is not installed here; run salt-run state.orchestrate etcd_ha.orch"
        ) from None
    except subprocess.TimeoutExpired:
        raise EtcdctlError(f"etcdctl {arguments[0]} gave no answer within {timeout:g} s") from None
    return Answer(done.returncode, done.stdout, done.stderr)


def corruption(log: str) -> str:
    """Why etcd cannot use its data, from the last lines of its log; empty if it does not say so.

    The last two starts count: systemd may just have begun another one.
    """
    last = "".join(log.split("starting an etcd server")[-2:])
    ends = "".join(line for line in last.splitlines() if '"level":"fatal"' in line)
    said = [why for text, why in CORRUPTION.items() if text in last]
    said += [why for text, why in FATAL_CORRUPTION.items() if text in ends]
    return said[0] if said else ""


def alarms_told(errors: Sequence[object]) -> list[str]:
    """The alarms that a member's status tells, each once; all members tell the same."""
    found = (re.search(r"alarm:\s*([A-Z]+)", str(error)) for error in errors)
    return sorted({match[1] for match in found if match})


def alarms(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """``alarm list``: member_id (hex text) and alarm.

    The id is empty where etcd names nobody, as 3.4 and 3.5 do with CORRUPT
    (https://github.com/etcd-io/etcd/pull/14828).
    """
    return [
        {
            "member_id": hex_id(one.get("memberID")),
            "alarm": ALARMS.get(int(one.get("alarm", 0)), str(one.get("alarm", ""))),
        }
        for one in document.get("alarms") or []
    ]


def hex_id(number: object) -> str:
    """A member or cluster id as etcdctl takes it on its command line."""
    return f"{int(str(number)):x}" if number not in (None, "") else ""


def members(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """``member list``: id, name, peer_urls, client_urls, learner, started; by name."""
    found = [
        {
            "id": hex_id(member.get("ID")),
            "name": member.get("name", ""),
            "peer_urls": list(member.get("peerURLs", [])),
            "client_urls": list(member.get("clientURLs", [])),
            "learner": bool(member.get("isLearner", False)),
            # A member that was added and never started has no name yet.
            "started": bool(member.get("name")),
        }
        for member in document.get("members", [])
    ]
    return sorted(found, key=lambda member: (member["name"], member["id"]))


def status(document: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """``endpoint status``: one row an endpoint that answered.

    Without an answer the document is ``null`` from 3.6 on, and an empty list before.
    """
    rows = []
    for row in document or []:
        inner = row.get("Status", {})
        header = inner.get("header", {})
        rows.append(
            {
                "endpoint": row.get("Endpoint", ""),
                "member_id": hex_id(header.get("member_id")),
                "cluster_id": hex_id(header.get("cluster_id")),
                "leader_id": hex_id(inner.get("leader")),
                "leader": header.get("member_id") == inner.get("leader"),
                "learner": bool(inner.get("isLearner", False)),
                "version": inner.get("version", ""),
                # From 3.6 on: the line whose programs can read this member's database.
                "storage_version": inner.get("storageVersion", ""),
                "revision": int(header.get("revision", 0)),
                "raft_term": int(header.get("raft_term", inner.get("raftTerm", 0))),
                "raft_index": int(inner.get("raftIndex", 0)),
                "applied_index": int(inner.get("raftAppliedIndex", 0)),
                "db_size": int(inner.get("dbSize", 0)),
                "db_in_use": int(inner.get("dbSizeInUse", 0)),
                # From 3.6 on; 0 where etcd does not tell it.
                "db_quota": int(inner.get("dbSizeQuota", 0)),
                "errors": [str(error) for error in inner.get("errors") or []],
                "alarms": alarms_told(inner.get("errors") or []),
            }
        )
    return rows


def health(document: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """``endpoint health``: endpoint, healthy, took (text), error, alarms (list of text).

    Since 3.5 an alarm of the cluster makes all its members unhealthy, also those that answer and
    vote as ever (etcdctl/ctlv3/command/ep_command.go): these have ``alarms``.
    """
    return [
        {
            "endpoint": row.get("endpoint", ""),
            "healthy": bool(row.get("health", False)),
            "took": row.get("took", ""),
            "error": row.get("error", ""),
            "alarms": _alarms_of_health(str(row.get("error", ""))),
        }
        for row in document
    ]


def _alarms_of_health(error: str) -> list[str]:
    told = error.partition("Active Alarm(s):")[2]
    return sorted(set(told.split()) & set(ALARMS.values()))


def hashes(document: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """``endpoint hashkv``: endpoint, member_id, hash, revision, compact_revision, a row an answer.

    Without an answer the document is ``null`` from 3.6 on, and an empty list before.
    """
    return [
        {
            "endpoint": row.get("Endpoint", ""),
            "member_id": hex_id(row.get("HashKV", {}).get("header", {}).get("member_id")),
            "hash": f"{int(row.get('HashKV', {}).get('hash', 0)):08x}",
            "revision": int(row.get("HashKV", {}).get("header", {}).get("revision", 0)),
            "compact_revision": int(row.get("HashKV", {}).get("compact_revision", 0)),
        }
        for row in document or []
    ]


def read_environment(path: str) -> dict[str, str]:
    """The ``ETCDCTL_*`` variables that the formula left for root, empty where there are none."""
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return etcd_ha_environment.parse_file(file.read())
