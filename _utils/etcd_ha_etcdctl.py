"""Calling etcdctl: its arguments, its time limit, and its JSON as plain data.

Member ids are decimal uint64 in etcd's JSON and hex on its command line; here they are always the
hex text that a person sees in ``etcdctl member list``.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import etcd_ha_common_files
import etcd_ha_common_process
import etcd_ha_environment
import etcd_ha_plain
from etcd_ha_common_process import ANY_CODE, ProgramError, ProgramMissing, ProgramTimeout

# NOSPACE and CORRUPT of etcdserverpb.AlarmType (rpc.proto).
ALARMS: Mapping[int, str] = {1: "NOSPACE", 2: "CORRUPT"}


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
            return json.loads(self.out, parse_constant=_no_number)
        except (ValueError, RecursionError):
            said = (self.err or self.out)[-4096:].strip().splitlines()
            raise EtcdctlError(
                f"etcdctl gave no JSON (exit code {self.code}): "
                f"{etcd_ha_plain.brief(said[-1]) if said else 'nothing'}"
            ) from None


def _no_number(text: str) -> NoReturn:
    """NaN and Infinity, which Python reads and JSON has not."""
    raise ValueError(f"{text} is no JSON")


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
    bounds one attempt only). What it says is bounded too (etcd_ha_common_process.LIMIT). Raises
    EtcdctlError where it cannot be run, or has to be ended.
    """
    try:
        done = etcd_ha_common_process.run(
            [program, *arguments],
            timeout,
            codes=ANY_CODE,
            environment={"HOME": "/root", **environment},
            stdin=stdin,
            folder=folder,
        )
    except ProgramMissing:
        raise EtcdctlError(
            f"{program} is not installed here; run salt-run state.orchestrate etcd_ha.orch"
        ) from None
    except ProgramTimeout:
        raise EtcdctlError(f"etcdctl {arguments[0]} gave no answer within {timeout:g} s") from None
    except ProgramError as err:
        raise EtcdctlError(f"etcdctl {arguments[0]} gave no answer: {err.reason}") from None
    return Answer(done.code, done.out, done.err)


def alarms_told(errors: Sequence[object]) -> list[str]:
    """The alarms that a member's status tells, each once; all members tell the same."""
    found = (re.search(r"alarm:\s*([A-Z]+)", str(error)) for error in errors)
    return sorted({match[1] for match in found if match})


# What stands in an answer. Whatever has another form is an EtcdctlError, never taken for a zero:
# a proxy, or an etcdctl of another release, may answer in etcd's place.


def _odd(what: str, found: object) -> NoReturn:
    raise EtcdctlError(
        f"etcdctl gave an answer of another form: {what} is {etcd_ha_plain.shown(found)}"
    )


def table(document: object, name: str = "the answer") -> Mapping[str, Any]:
    """A mapping of an answer; null is an empty one."""
    if document is None:
        return {}
    return document if isinstance(document, Mapping) else _odd(name, document)


def rows(document: object, name: str = "the answer") -> list[Mapping[str, Any]]:
    """A list of mappings; null is an empty one, as Go writes it."""
    if document is None:
        return []
    if not isinstance(document, list):
        _odd(name, document)
    return [row if isinstance(row, Mapping) else _odd(f"a row of {name}", row) for row in document]


def text(row: Mapping[str, Any], name: str) -> str:
    """A text, empty where it is not told."""
    found = row.get(name)
    if found is None:
        return ""
    return found if isinstance(found, str) else _odd(name, found)


def texts(row: Mapping[str, Any], name: str) -> list[str]:
    """A list of texts, empty where it is not told."""
    found = row.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        _odd(name, found)
    return list(found)


def number(row: Mapping[str, Any], name: str) -> int:
    """A whole number of 64 bits, 0 where it is not told; some releases write them as text."""
    found = row.get(name)
    if found is None:
        return 0
    if isinstance(found, str) and re.fullmatch(r"-?[0-9]{1,20}", found):
        found = int(found)
    if not isinstance(found, int) or isinstance(found, bool) or abs(found) >> 64:
        _odd(name, found)
    return found


def flag(row: Mapping[str, Any], name: str) -> bool:
    """True or false, false where it is not told."""
    found = row.get(name)
    return found if isinstance(found, bool) else bool(found is not None and _odd(name, found))


def coded(row: Mapping[str, Any], name: str) -> bytes:
    """What etcdctl writes in base64, empty where it is not told."""
    try:
        return base64.b64decode(text(row, name), validate=True)
    except ValueError:
        _odd(name, row.get(name))


def revision(document: object) -> int:
    """The revision in the header of an answer, which every answer has."""
    found = number(table(table(document).get("header"), "header"), "revision")
    return found if found > 0 else _odd("revision", found)


def count(document: object) -> int:
    """How many keys there are, as an answer to ``get`` tells; 0 is left out."""
    revision(document)
    return number(table(document), "count")


def alarms(document: object) -> list[dict[str, str]]:
    """``alarm list``: member_id (hex text) and alarm.

    The id is empty where etcd names nobody, as 3.4 and 3.5 do with CORRUPT
    (https://github.com/etcd-io/etcd/pull/14828).
    """
    return [
        {
            "member_id": hex_id(one.get("memberID")),
            "alarm": ALARMS.get(number(one, "alarm"), str(number(one, "alarm"))),
        }
        for one in rows(table(document).get("alarms"), "alarms")
    ]


def hex_id(number_: object) -> str:
    """A member or cluster id as etcdctl takes it on its command line."""
    if number_ in (None, ""):
        return ""
    found = number({"an id": number_}, "an id")
    return f"{found:x}" if found >= 0 else _odd("an id", number_)


def members(document: object) -> list[dict[str, Any]]:
    """``member list``: id, name, peer_urls, client_urls, learner, started; by name."""
    found = [
        {
            "id": hex_id(member.get("ID")) or _odd("ID", member.get("ID")),
            "name": text(member, "name"),
            "peer_urls": texts(member, "peerURLs"),
            "client_urls": texts(member, "clientURLs"),
            "learner": flag(member, "isLearner"),
            # A member that was added and never started has no name yet.
            "started": bool(member.get("name")),
        }
        for member in rows(table(document).get("members"), "members")
    ]
    return sorted(found, key=lambda member: (member["name"], member["id"]))


def called(entry: Mapping[str, Any]) -> str:
    """A member of the list as a sentence names it; one that has not started has no name yet."""
    if entry.get("name"):
        return str(entry["name"])
    where = ", ".join(map(str, entry.get("peer_urls") or ()))
    return f"the unstarted member at {where}" if where else f"the unstarted member {entry['id']}"


def status(document: object) -> list[dict[str, Any]]:
    """``endpoint status``: one row an endpoint that answered.

    Without an answer the document is ``null`` from 3.6 on, and an empty list before.
    """
    return [_status(row) for row in rows(document)]


def _status(row: Mapping[str, Any]) -> dict[str, Any]:
    inner = table(row.get("Status"), "Status")
    header = table(inner.get("header"), "header")
    errors = texts(inner, "errors")
    own, leader = hex_id(header.get("member_id")), hex_id(inner.get("leader"))
    return {
        "endpoint": text(row, "Endpoint"),
        "member_id": own,
        "cluster_id": hex_id(header.get("cluster_id")),
        "leader_id": leader,
        "leader": bool(own) and own == leader,
        "learner": flag(inner, "isLearner"),
        "version": text(inner, "version"),
        # From 3.6 on: the line whose programs can read this member's database.
        "storage_version": text(inner, "storageVersion"),
        "revision": number(header, "revision"),
        "raft_term": number(header, "raft_term") or number(inner, "raftTerm"),
        "raft_index": number(inner, "raftIndex"),
        "applied_index": number(inner, "raftAppliedIndex"),
        "db_size": number(inner, "dbSize"),
        "db_in_use": number(inner, "dbSizeInUse"),
        # From 3.6 on; 0 where etcd does not tell it.
        "db_quota": number(inner, "dbSizeQuota"),
        "errors": errors,
        "alarms": alarms_told(errors),
    }


def health(document: object) -> list[dict[str, Any]]:
    """``endpoint health``: endpoint, healthy, took (text), error, alarms (list of text).

    Since 3.5 an alarm of the cluster makes all its members unhealthy, also those that answer and
    vote as ever (etcdctl/ctlv3/command/ep_command.go): these have ``alarms``.
    """
    return [
        {
            "endpoint": text(row, "endpoint"),
            "healthy": flag(row, "health"),
            "took": text(row, "took"),
            "error": text(row, "error"),
            "alarms": _alarms_of_health(text(row, "error")),
        }
        for row in rows(document)
    ]


def _alarms_of_health(error: str) -> list[str]:
    told = error.partition("Active Alarm(s):")[2]
    return sorted(set(told.split()) & set(ALARMS.values()))


def hashes(document: object) -> list[dict[str, Any]]:
    """``endpoint hashkv``: endpoint, member_id, hash, revision, compact_revision, a row an answer.

    Without an answer the document is ``null`` from 3.6 on, and an empty list before.
    """
    return [_hash(row) for row in rows(document)]


def _hash(row: Mapping[str, Any]) -> dict[str, Any]:
    inner = table(row.get("HashKV"), "HashKV")
    header = table(inner.get("header"), "header")
    return {
        "endpoint": text(row, "Endpoint"),
        "member_id": hex_id(header.get("member_id")),
        "hash": f"{number(inner, 'hash'):08x}",
        "revision": number(header, "revision"),
        "compact_revision": number(inner, "compact_revision"),
    }


def read_environment(path: str) -> dict[str, str]:
    """The ``ETCDCTL_*`` variables that the formula left for root, empty where there are none."""
    return etcd_ha_environment.parse_file(etcd_ha_common_files.text(path) or "")
