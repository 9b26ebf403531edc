"""Taking a backup on a member: by the master's word, or by the timer, which needs no master.

``python3 backup.pyz SETTINGS`` is what the timer starts, by Salt's own Python. It needs no minion
and nothing of Salt's cache: its settings are a file that the states wrote, and its modules are in
the archive that they installed (etcd_ha_backup_program).
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import etcd_ha_backup
import etcd_ha_backup_files
import etcd_ha_backup_program
import etcd_ha_client
import etcd_ha_common_files
import etcd_ha_common_systemd
import etcd_ha_etcdctl
import etcd_ha_machine
import etcd_ha_s3
import etcd_ha_snapshot
import etcd_ha_trial
from etcd_ha_backup import Backup
from etcd_ha_common_errors import Failed
from etcd_ha_common_process import ProgramError
from etcd_ha_common_text import few

# What the settings hold, and of which kind.
_SETTINGS: Mapping[str, type | tuple[type, ...]] = {
    "cluster": str,
    "directory": str,
    "keep": dict,
    "schedule": (str, type(None)),
    "timeout": int,
    "s3": dict,
    "secrets": str,
}
# Seconds from one member's turn to the next one's, so that a follower comes before the leader.
TURN = 3
# Seconds after which another member goes on with what a lost one had begun.
LOCK_TTL = 30


class JobError(Failed):
    """No backup was taken, or it did not reach all its places; the text says what to do."""


def settings(path: str) -> dict[str, Any]:
    """What the states wrote for this member; raises JobError where they have not."""
    found = etcd_ha_machine.read_json(path)
    if not etcd_ha_common_files.exists(path):
        raise JobError(f"{path} is not there; run salt-run state.orchestrate etcd_ha.orch")
    odd = [name for name, kind in _SETTINGS.items() if not isinstance(found.get(name), kind)]
    if odd:
        raise JobError(
            f"{path} is not as the states write it ({', '.join(odd)}); run salt-run "
            "state.orchestrate etcd_ha.orch, which writes it anew"
        )
    return found


def take(wanted: Mapping[str, Any], tell: Callable[[str], None]) -> tuple[Backup, list[str]]:
    """Take a backup now, find it good, bring it to its places, and let go of what is too old.

    Returns it, and what went wrong after it lay safely here. Raises JobError where there is none.
    """
    folder, cluster = wanted["directory"], wanted["cluster"]
    try:
        with etcd_ha_backup_files.alone(folder):
            backup = _taken(wanted, tell)
            problems = _stored(wanted, backup, tell)
            gone = etcd_ha_backup_files.prune(folder, cluster, wanted["keep"], _now())
            _told_gone(gone, folder, tell)
    except (etcd_ha_backup_files.Busy, OSError) as err:
        raise JobError(f"no backup was taken: {err}") from err
    problems += _recorded(cluster, backup)
    return backup, problems


def verify(wanted: Mapping[str, Any], name: str) -> Backup:
    """Find out anew whether a backup that lies here is good, and have its sidecar say so.

    Raises JobError where it is not; its sidecar is gone then, so that it counts no more.
    """
    folder = wanted["directory"]
    path = f"{folder}/{name}.db"
    known = next((b for b in listed(wanted) if b.name == name), None)
    if known is None:
        raise JobError(f"there is no backup {name} in {folder}; see salt-run etcd_ha.backups")
    try:
        with etcd_ha_backup_files.alone(folder):
            good = _found_good(wanted, path, known)
            etcd_ha_backup_files.describe(folder, good)
    except ValueError as err:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{folder}/{name}.json")
        raise JobError(f"{path} is no backup any more: {err}. Delete it, and take another") from err
    except (etcd_ha_backup_files.Busy, OSError) as err:
        raise JobError(f"{path} was not looked at: {err}") from err
    return good


def listed(wanted: Mapping[str, Any]) -> list[Backup]:
    """The backups in this member's directory, oldest first."""
    return etcd_ha_backup_files.listing(wanted["directory"], wanted["cluster"])


def store(wanted: Mapping[str, Any]) -> etcd_ha_s3.Store | None:
    """The cluster's place in S3, or None where the pillar names no bucket."""
    if not etcd_ha_s3.is_used(wanted["s3"]):
        return None
    secrets = etcd_ha_s3.read_secrets(wanted["secrets"])
    return etcd_ha_s3.Store(wanted["cluster"], wanted["s3"], secrets)


def prune(wanted: Mapping[str, Any]) -> list[str]:
    """Let go of what is too old in this member's directory; the names of what is gone."""
    with etcd_ha_backup_files.alone(wanted["directory"]):
        return etcd_ha_backup_files.prune(
            wanted["directory"], wanted["cluster"], wanted["keep"], _now()
        )


def scheduled(path: str, tell: Callable[[str], None]) -> None:
    """What the timer starts on every member: one of them takes a backup, if one is due.

    Each waits for its turn and then for a lock in etcd, which a lost holder frees by itself. Raises
    JobError where this member should have taken one and could not.
    """
    wanted = settings(path)
    turn = _turn(_member())
    time.sleep(turn * TURN)
    name = f"/etcd_ha/backup-lock/{wanted['cluster']}"
    program = [sys.executable, etcd_ha_backup_program.PATH]
    command = ["lock", f"--ttl={LOCK_TTL}", name, *program]
    variables = etcd_ha_client.environment(_member())
    variables["ETCDCTL_ENDPOINTS"] = etcd_ha_client.serving_endpoint()
    variables["PYTHONDONTWRITEBYTECODE"] = "1"
    etcdctl = etcd_ha_client.program("etcdctl")
    # Others may be at work before it, each for as long as a backup may take.
    patience = (turn + 1) * (wanted["timeout"] + wanted["s3"]["timeout"])
    try:
        done = etcd_ha_etcdctl.call([*command, "due", path], variables, etcdctl, patience)
    except etcd_ha_etcdctl.EtcdctlError as err:
        raise JobError(f"no backup was taken: {err}") from err
    for line in f"{done.out}{done.err}".splitlines():
        tell(line)
    if "database space exceeded" in done.err:
        # A full database takes no lock, and needs its backup more than any other.
        if turn:
            raise JobError("etcd's database is full, so no lock can be had; left to another member")
        due(path, tell)
    elif done.code:
        raise JobError("no backup was taken, or it did not reach all its places; see above")


def due(path: str, tell: Callable[[str], None]) -> None:
    """Take a backup unless a member has just done so; raises JobError."""
    wanted = settings(path)
    interval = _interval(wanted["schedule"], tell)
    last = _last(wanted)
    if not etcd_ha_backup.is_due(last.taken if last else None, _now(), interval):
        assert last is not None
        tell(f"{last.name} was taken by {last.member}: nothing to do")
        _told_gone(prune(wanted), wanted["directory"], tell)
        return
    backup, problems = take(wanted, tell)
    if problems:
        raise JobError(f"{backup.name} lies in {wanted['directory']}, but {'; '.join(problems)}")


def _taken(wanted: Mapping[str, Any], tell: Callable[[str], None]) -> Backup:
    folder, member = wanted["directory"], _member()
    before = _state(member)
    _refuse_full(folder, before["db_size"])
    now = _now()
    part = f"{folder}/{etcd_ha_backup.new_name(wanted['cluster'], now, before['revision'])}.part"
    tell(f"saving {before['db_size'] / (1 << 20):.0f} MiB of {member['name']}")
    try:
        _save(member, part, wanted["timeout"])
        found = Backup(
            name="",
            cluster=wanted["cluster"],
            when=etcd_ha_backup.stamp(now),
            revision=before["revision"],
            version=before["version"],
            member=member["name"],
            members=tuple(one["name"] for one in before["members"]),
            cluster_id=before["cluster_id"],
        )
        tell("checking its hash, and restoring it aside to count its keys")
        good = _found_good(wanted, part, found)
        name = etcd_ha_backup.new_name(wanted["cluster"], now, good.revision)
        good = replace(good, name=name)
        etcd_ha_backup_files.publish(folder, part, good)
    except ValueError as err:
        raise JobError(f"no backup was taken: {err}. Run it again") from err
    finally:
        for left in (part, f"{part}.part"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(left)
    tell(f"{folder}/{name}.db is good: {good.keys} keys at revision {good.revision}")
    return good


def _save(member: Mapping[str, Any], part: str, timeout: float) -> None:
    """From this member alone, as https://etcd.io/docs/v3.6/op-guide/recovery/ has it."""
    command = ["snapshot", "save", part]
    try:
        here = etcd_ha_client.serving_endpoint()
        done = etcd_ha_client.etcdctl(member, command, timeout, here)
    except etcd_ha_etcdctl.EtcdctlError as err:
        raise JobError(f"the snapshot failed: {err}. See journalctl -u etcd") from err
    if done.code:
        said = [line for line in done.err.splitlines() if line.strip()] or ["nothing"]
        raise JobError(
            f"the snapshot failed: {said[-1][-300:]}. See df {os.path.dirname(part)} and "
            "journalctl -u etcd"
        )


def _found_good(wanted: Mapping[str, Any], path: str, known: Backup) -> Backup:
    """A backup's own hash, its keys and its revision; raises ValueError where it is not good."""
    sha256 = etcd_ha_snapshot.verified_hash(path)
    if known.sha256 and sha256 != known.sha256:
        raise ValueError("it is another snapshot than the one that was taken under this name")
    size = os.path.getsize(path)
    _refuse_full(wanted["directory"], 0, size)
    found = etcd_ha_trial.opened(path, f"{path}.trial", _pki(), wanted["timeout"])
    if found.revision < known.revision:
        raise ValueError(
            f"it has revision {found.revision}, but the cluster had reached {known.revision}"
        )
    return replace(
        known,
        size=size,
        sha256=sha256,
        keys=found.keys,
        revision=found.revision,
        verified=True,
    )


def _refuse_full(folder: str, snapshot: int, trial: int | None = None) -> None:
    """The snapshot, and beside it the directory of its test restore."""
    needed = snapshot + (snapshot if trial is None else trial) + etcd_ha_trial.BESIDE_DATA
    there = etcd_ha_backup_files.free(folder)
    if there < needed:
        raise JobError(
            f"{folder} has {there >> 20} MiB free, and a backup with its test restore needs "
            f"{needed >> 20} MiB. Make room there, or set backup:directory to a larger disk; the "
            "backups that are there are left as they are"
        )


def _stored(wanted: Mapping[str, Any], backup: Backup, tell: Callable[[str], None]) -> list[str]:
    """What kept it from S3; empty where it is there, or S3 is not used."""
    try:
        place = store(wanted)
        if place is None:
            return []
        tell(f"bringing it to {place.place}, and reading it back")
        place.put(f"{wanted['directory']}/{backup.name}.db", backup)
        _told_gone(etcd_ha_s3.pruned(place, wanted["keep"], _now()), place.place, tell)
    except (etcd_ha_s3.S3Error, OSError, ValueError) as err:
        return [f"it did not reach S3: {err}"]
    return []


def _recorded(cluster: str, backup: Backup) -> list[str]:
    """Tell the other members, by a key; what kept it from that."""
    text = json.dumps({"name": backup.name, "member": backup.member})
    try:
        command = ["put", f"/etcd_ha/backup/{cluster}"]
        here = etcd_ha_client.serving_endpoint()
        done = etcd_ha_client.etcdctl(_member(), command, 10, here, stdin=text)
        told = done.err.strip()[-200:] if done.code else ""
    except etcd_ha_etcdctl.EtcdctlError as err:
        told = str(err)
    if "database space exceeded" in told:
        told = ""
    return [f"the other members could not be told: {told}"] if told else []


def _last(wanted: Mapping[str, Any]) -> Backup | None:
    """The newest backup that any member has told of, or that lies here.

    While the database is full, no member can tell.
    """
    told: Any = None
    with contextlib.suppress(etcd_ha_etcdctl.EtcdctlError):
        command = ["get", f"/etcd_ha/backup/{wanted['cluster']}", "--print-value-only"]
        here = etcd_ha_client.serving_endpoint()
        told = etcd_ha_client.etcdctl(_member(), command, 10, here).json()
    known = Backup.named(str(told.get("name"))) if isinstance(told, dict) else None
    found = [replace(known, member=str(told.get("member")))] if known else []
    own = etcd_ha_backup.newest(listed(wanted))
    return max([*found, *([own] if own else [])], key=lambda one: one.when, default=None)


def _member() -> dict[str, Any]:
    found = etcd_ha_client.member_on_disk()
    if found is None:
        raise JobError("no etcd member is here; run salt-run state.orchestrate etcd_ha.orch")
    return found


def _state(member: Mapping[str, Any]) -> dict[str, Any]:
    """This member's status and all members, by a read that needs a quorum.

    A member that was cut off would hand out a snapshot of old data as if it were new
    (``snapshot`` is served from its own database).
    """
    here = etcd_ha_client.serving_endpoint()
    try:
        listed = etcd_ha_client.members(member, 10, here)
        command = ["get", "/etcd_ha", "--limit=1", "--keys-only", "-w", "json"]
        answer = etcd_ha_client.etcdctl(member, command, 10, here).json()
        row = etcd_ha_client.status(member, 10, here)[0]
        reached = etcd_ha_etcdctl.revision(answer)
    except (etcd_ha_etcdctl.EtcdctlError, IndexError) as err:
        raise JobError(
            f"this member cannot tell what the cluster has reached ({err}), so no backup of it "
            "would be known to be new. See salt-run etcd_ha.status; without a quorum, "
            "etcd_ha_member.snapshot saves what a single member has"
        ) from err
    return {**row, "members": listed, "revision": reached}


def _turn(member: Mapping[str, Any]) -> int:
    """How many members come before this one."""
    state = _state(member)
    rows = [
        {"name": m["name"], "leader": m["id"] == state["leader_id"], "learner": m["learner"]}
        for m in state["members"]
    ]
    order = etcd_ha_backup.order(rows)
    if member["name"] not in order:
        raise JobError("this member is a learner: the others take the backups")
    return order.index(member["name"])


def _pki() -> dict[str, str]:
    """Root's certificates, and the member's own to serve with."""
    member = _member()
    found = etcd_ha_client.environment(member)
    configured = etcd_ha_client.configured()
    if "ETCDCTL_CACERT" in found and configured.get("ETCD_CERT_FILE"):
        found |= {"CERT": configured["ETCD_CERT_FILE"], "KEY": configured["ETCD_KEY_FILE"]}
    return found


def _interval(schedule: str, tell: Callable[[str], None]) -> float:
    """The shortest time between two scheduled backups (seconds).

    0 where nobody can tell it: then a backup is taken, rather than left out.
    """
    try:
        found = etcd_ha_backup.intervals(etcd_ha_common_systemd.calendar(schedule))
    except (ProgramError, ValueError) as err:
        tell(f"it is unknown how often {schedule} is, so a backup counts as due: {err}")
        return 0.0
    return min(found, default=0.0)


def _told_gone(gone: list[str], place: str, tell: Callable[[str], None]) -> None:
    if gone:
        tell(f"too old, and gone from {place}: {few(gone)}")


def _now() -> datetime:
    return datetime.now(timezone.utc)


def main(words: list[str]) -> int:
    """The program that the timer starts; a failure is one line, and the exit code 1."""

    def tell(line: str) -> None:
        print(line, flush=True)

    try:
        due(words[1], tell) if words[0] == "due" else scheduled(words[0], tell)
    except Failed as err:
        print(f"etcd_ha-backup: {err}", file=sys.stderr)
        return 1
    return 0
