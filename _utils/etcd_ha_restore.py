"""A backup onto all members of a cluster: whether that can be done, and in which steps.

Nothing is stopped before every member has the restored data whole beside what it has. Then all are
stopped together, exchange the one for the other, and start together; the balancers are closed from
the stop until the keys have been counted. What runs is looked at by each step anew, so the same
command goes on where it was interrupted.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import etcd_ha_drift
import etcd_ha_parts
import etcd_ha_plan_foreign
import etcd_ha_plan_hidden
import etcd_ha_plan_paused
import etcd_ha_planner
import etcd_ha_release
import etcd_ha_report
import etcd_ha_stages
from etcd_ha_common_text import few
from etcd_ha_observed import Observed, Wanted
from etcd_ha_steps import Plan, Refused, Step, names
from etcd_ha_topology import Cluster

# Upstream's advice for what watches by revision, such as Kubernetes: more than could ever have been
# written after the backup. https://etcd.io/docs/v3.6/op-guide/recovery/
BUMP = 1_000_000_000
# What etcd allots to the log of a new member, and some room beside it.
ROOM = 64_000_000 + (16 << 20)
# Where snapshots lie that an upgrade takes, beside the directory of backups.
SNAPSHOTS = "/var/lib/etcd_ha/snapshots"
BACKUPS = "/var/backups/etcd_ha"


@dataclass(frozen=True)
class Backup:
    """A snapshot that can be restored, and the host that has it."""

    path: str
    minion: str = ""
    size: int = 0
    sha256: str = ""
    revision: int = 0
    # The storage version that the file itself tells, or the release of its sidecar.
    version: str = ""
    keys: int | None = None
    when: str = ""
    verified: bool = False
    # Of which cluster it was taken, by its sidecar.
    cluster: str = ""
    fault: str = ""

    @classmethod
    def of(cls, minion: str, found: Mapping[str, Any]) -> "Backup":
        """One entry of what ``etcd_ha_restore.look`` tells."""
        keys = found.get("keys")
        return cls(
            path=str(found["path"]),
            minion=minion,
            size=int(found.get("size", 0)),
            sha256=str(found.get("sha256", "")),
            revision=int(found.get("revision", 0)),
            version=str(found.get("version", "")),
            keys=None if keys is None else int(keys),
            when=str(found.get("when", "")),
            verified=bool(found.get("verified")),
            cluster=str(found.get("cluster", "")),
            fault=str(found.get("fault", "")),
        )

    @property
    def name(self) -> str:
        """The file's name without what every backup's ends with."""
        return os.path.basename(self.path).removesuffix(".db")

    @property
    def is_served(self) -> bool:
        """Whether the master serves it to every member."""
        return self.path.startswith("salt://")


def sidecar(told: Mapping[str, Any]) -> dict[str, Any]:
    """What stands beside a backup, without what is of another kind than it should be."""
    kinds: dict[str, type] = dict.fromkeys(
        ("sha256", "version", "etcd_version", "when", "cluster"), str
    )
    kinds |= {"revision": int, "keys": int, "size": int, "verified": bool}
    return {name: told[name] for name, kind in kinds.items() if type(told.get(name)) is kind}


@dataclass(frozen=True)
class Look:
    """What one member's disk says: room in bytes, what is begun there, and its backups."""

    free: int = 0
    wal_free: int | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    backups: tuple[Backup, ...] = ()
    # How far the data there goes, by its database.
    revision: int = 0

    @classmethod
    def of(cls, minion: str, found: Mapping[str, Any]) -> "Look":
        """Read what ``etcd_ha_restore.look`` returns."""
        wal_free = found.get("wal_free")
        return cls(
            free=int(found.get("free", 0)),
            wal_free=None if wal_free is None else int(wal_free),
            progress=found.get("progress") or {},
            backups=tuple(Backup.of(minion, one) for one in found.get("backups", ())),
            revision=int((found.get("evidence") or {}).get("revision", 0)),
        )


def plan(
    cluster: Cluster,
    observed: Mapping[str, Observed],
    wanted: Wanted,
    looks: Mapping[str, Look],
    asked: str = "",
    now: str = "",
) -> Plan:
    """The steps of a restore.

    ``asked`` is a backup's name or path; without it the newest verified one is taken. ``now``
    (text) makes the new cluster's token unlike any before.
    """
    observed = etcd_ha_plan_hidden.holding(observed)
    summary = etcd_ha_planner.summarize(cluster, observed)
    try:
        _refuse_hosts(cluster, observed, wanted)
        etcd_ha_plan_hidden.refuse_reachable(cluster, observed)
        etcd_ha_plan_paused.refuse(cluster, observed, "a restore")
        backup = chosen(looks, asked)
        _refuse_newer(cluster, backup)
        _refuse_release(cluster, observed)
        begun = under_way(looks, backup)
        if not begun:
            _refuse_full(cluster, looks, backup)
        token = begun or new_token(cluster, now, _bump(backup, observed, looks))
        steps = etcd_ha_plan_foreign.lost_records(cluster, observed, wanted)
        steps += _steps(cluster, observed, wanted, backup, token)
    except Refused as why:
        return Plan(cluster.name, summary, refusal=str(why))
    return Plan(cluster.name, summary, tuple(steps), warnings=_notes(cluster, backup, begun))


def chosen(looks: Mapping[str, Look], asked: str) -> Backup:
    """The backup that is asked for, or the newest verified one."""
    if asked.startswith("salt://"):
        return Backup(asked)
    known = [backup for look in looks.values() for backup in look.backups]
    if not asked:
        sound = [backup for backup in known if backup.verified and not backup.fault]
        if not sound:
            raise Refused(
                "no member has a verified backup. Name one: "
                'pillar=\'{"confirm": NAME, "backup": "/path/on/a/member.db"}\', or '
                '"backup": "salt://path" for one that lies on the master\'s file server'
            )
        return max(sound, key=lambda one: (one.when, one.revision))
    found = [one for one in known if asked in (one.path, one.name, os.path.basename(one.path))]
    if not found:
        raise Refused(
            f"no member has a backup {asked}. Known are: {_listed(known)}. Put the file onto one "
            "of the members, readable by root alone, and give its path"
        )
    whole = [one for one in found if not one.fault]
    if not whole:
        told = few((f"{one.path} on {one.minion}: {one.fault}" for one in found), between="; ")
        others = _listed(known)
        cure = f"Take another one: {others}" if others != "none" else "no other is known here"
        raise Refused(f"that backup cannot be restored ({told}); {cure}")
    if len({one.sha256 for one in whole}) > 1:
        told = few((f"{one.path} on {one.minion} ({one.sha256[:12]})" for one in whole), 6)
        raise Refused(
            f"there are different backups of the name {asked}: {told}. Move those away that are "
            "not meant"
        )
    return max(whole, key=lambda one: one.verified)


def candidate(looks: Mapping[str, Look], asked: str) -> Backup | None:
    """The backup that ``plan`` would take; None where it would refuse, or the master serves it."""
    try:
        found = chosen(looks, asked)
    except Refused:
        return None
    return None if found.is_served else found


def folders(cluster: Cluster) -> list[str]:
    """Where a member of this cluster may have backups."""
    return [str((cluster.settings.get("backup") or {}).get("directory") or BACKUPS), SNAPSHOTS]


def _listed(known: Iterable[Backup]) -> str:
    newest = sorted((one for one in known if not one.fault), key=lambda one: one.when)[-5:]
    return ", ".join(dict.fromkeys(one.name for one in reversed(newest))) or "none"


def new_token(cluster: Cluster, now: str, bump: int) -> str:
    """The token of the cluster that a restore makes, unlike any before.

    It also tells by how much the revision is raised: whoever goes on with the restore later must
    raise it by just as much, or members would hold different data.
    """
    return f"{cluster.token}-restored-{now}-by-{bump}"


def bump(token: str) -> int:
    """By how much the revision is raised in the restore that has this token."""
    found = re.search(r"-by-([0-9]{10,18})$", token)
    return int(found[1]) if found else BUMP


def _bump(backup: Backup, observed: Mapping[str, Observed], looks: Mapping[str, Look]) -> int:
    """By how much the revision is raised: beyond all that the present cluster has reached.

    Whatever watches is behind the new revision then, and is told that it must read anew. By less, a
    second restore would take the revision back, and watches would wait in silence.
    """
    reached = [host.revision for host in observed.values()]
    reached += [look.revision for look in looks.values()]
    return BUMP + max(0, max(reached, default=0) - backup.revision)


def under_way(looks: Mapping[str, Look], backup: Backup) -> str:
    """The token of a restore of this backup that has begun to exchange data; empty where none."""
    tokens = [
        str(look.progress["token"])
        for look in looks.values()
        if look.progress.get("token")
        and look.progress.get("phase") != "done"
        and _is_same(look.progress, backup)
    ]
    return max(tokens, default="")


def _is_same(progress: Mapping[str, Any], backup: Backup) -> bool:
    if backup.is_served:
        return bool(progress.get("source") == backup.path)
    return bool(progress.get("sha256") == backup.sha256)


# What is never begun


def _refuse_hosts(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> None:
    etcd_ha_planner.refuse_unfit(cluster, observed, wanted)
    for minion in wanted.managed:
        host = observed.get(minion)
        if cluster.member(minion) is None and host is not None and host.active:
            raise Refused(
                f"{minion}, which the pillar no longer names, still runs etcd of {cluster.name}. "
                f"Stop it there (systemctl disable --now etcd), or name it again"
            )
    for member in cluster.members:
        host = observed[member.minion]
        unknown = host.has_data and not host.record and not host.restoring
        if unknown and not etcd_ha_plan_foreign.is_known_data(host):
            etcd_ha_parts.refuse_data_of(member.minion)


def _refuse_newer(cluster: Cluster, backup: Backup) -> None:
    """etcd reads what an older line wrote, and refuses what a newer one did (storage version)."""
    if not backup.version or etcd_ha_release.fault(backup.version) is not None:
        return
    own, other = etcd_ha_release.parse(cluster.version), etcd_ha_release.parse(backup.version)
    if (other.major, other.minor) > (own.major, own.minor):
        raise Refused(
            f"the backup {backup.name} is of etcd {other.line}, and {cluster.name} is to run "
            f"{cluster.version}, which cannot read it. Set version to a release of {other.line} "
            "or newer"
        )


def _refuse_release(cluster: Cluster, observed: Mapping[str, Observed]) -> None:
    """The files of another release would lie under members that run, should the restore not end."""
    for member in cluster.members:
        host = observed[member.minion]
        now = etcd_ha_drift.release(cluster, host)
        if host.has_data and now != cluster.version:
            raise Refused(
                f"{member.minion} has etcd {now}, the pillar says {cluster.version}. Restore with "
                f"version {now}, and change it afterwards; or remove the cluster first "
                "(etcd_ha.orch.remove_cluster) and restore onto the empty hosts"
            )


def _refuse_full(cluster: Cluster, looks: Mapping[str, Look], backup: Backup) -> None:
    """Room for the fetched file and the restored data, beside the present data."""
    if not backup.size:
        return
    short = []
    for member in cluster.members:
        look = looks.get(member.minion, Look())
        copies = 1 if member.minion == backup.minion else 2
        needed = copies * backup.size + (ROOM if look.wal_free is None else 0)
        if look.free < needed:
            short.append(_lacks(member.minion, member.settings["data_dir"], needed, look.free))
        if look.wal_free is not None and look.wal_free < ROOM:
            folder = member.settings["wal_dir"]
            short.append(_lacks(member.minion, folder, ROOM, look.wal_free))
    if short:
        raise Refused(
            f"there is too little room for the restored data beside the present one: "
            f"{'; '.join(short)}. Free it there (what was set aside lies beside the data "
            "directory), and run this again"
        )


def _lacks(minion: str, folder: str, needed: int, free: int) -> str:
    size = etcd_ha_report.size
    told = "" if free else " (no bytes, or no inodes: df -h, df -i)"
    return f"{minion} needs {size(needed)} in {folder} and has {size(free)}{told}"


# What is done


def _steps(
    cluster: Cluster,
    observed: Mapping[str, Observed],
    wanted: Wanted,
    backup: Backup,
    token: str,
) -> list[Step]:
    members = tuple(member.minion for member in cluster.members)
    everyone = names(members)
    balancers = tuple(balancer.minion for balancer in cluster.balancers)
    stale = etcd_ha_drift.stale(cluster, members, observed, wanted)
    where = f"{names([backup.minion])}:{backup.path}" if backup.minion else backup.path
    steps = configured(cluster, observed, wanted, stale)
    steps.append(
        _call(
            f"{cluster.name}: lay the data of {backup.name} beside that of {everyone}",
            members,
            "prepare",
            {
                "cluster": cluster.name,
                "source": backup.minion,
                "path": backup.path,
                "sha256": backup.sha256,
                "token": token,
                "keys": backup.keys,
            },
            f"from {where}; nothing is stopped before all have it whole",
        )
    )
    closed = f", close {names(balancers)}" if balancers else ""
    steps.append(
        _call(
            f"{cluster.name}: stop {everyone}{closed}, exchange the data (clients wait from here)",
            tuple(dict.fromkeys([*members, *balancers])),
            "exchange",
            {"cluster": cluster.name, "token": token},
            "the present data is set aside, and no member starts before all have exchanged it",
            disruptive=True,
        )
    )
    steps.append(
        _call(
            f"{cluster.name}: start {everyone} together, count the keys",
            members,
            "start",
            {"cluster": cluster.name, "token": token},
            "keys and revision must be the backup's on each",
        )
    )
    steps += _opened(cluster, members, balancers, token)
    steps += balanced(cluster, etcd_ha_drift.stale(cluster, balancers, observed, wanted))
    return [*steps, etcd_ha_parts.verify(cluster)]


def configured(
    cluster: Cluster,
    observed: Mapping[str, Observed],
    wanted: Wanted,
    stale: Sequence[str],
    balancers: Sequence[str] = (),
) -> list[Step]:
    """Members that are not as the pillar says (new ones, too) get all but their start.

    Balancers are only prepared; ``balanced`` comes when there is something to lead to.
    """
    if not stale and not balancers:
        return []
    prepared = etcd_ha_drift.prepared(cluster, observed, wanted, [*stale, *balancers])
    steps = [etcd_ha_parts.prepare(cluster, prepared, etcd_ha_stages.final(cluster))]
    if not stale:
        return steps
    return [
        *steps,
        Step(
            title=f"{cluster.name}: configure {names(stale)}, start nothing",
            kind="state",
            targets=tuple(stale),
            sls=("etcd_ha",),
            action="hold",
            why="certificates, release, unit and variables are there before the data",
        ),
    ]


def balanced(cluster: Cluster, stale: Sequence[str]) -> list[Step]:
    """The balancers that are not as the pillar says are made so."""
    if not stale:
        return []
    return [
        Step(
            title=f"{cluster.name}: configure the balancer {names(stale)}",
            kind="state",
            targets=tuple(stale),
            sls=("etcd_ha",),
            why="its configuration differs from the pillar's",
        )
    ]


def _opened(
    cluster: Cluster, members: tuple[str, ...], balancers: tuple[str, ...], token: str
) -> list[Step]:
    opened = f"open {names(balancers)}, " if balancers else ""
    return [
        _call(
            f"{cluster.name}: {opened}tidy up",
            tuple(dict.fromkeys([*members, *balancers])),
            "finish",
            {"cluster": cluster.name, "token": token},
            "all members hold what the backup held",
        )
    ]


def _call(
    title: str,
    targets: tuple[str, ...],
    function: str,
    arguments: Mapping[str, Any],
    why: str,
    disruptive: bool = False,
) -> Step:
    return Step(
        title=title,
        kind="function",
        targets=targets,
        function=f"etcd_ha_restore.{function}",
        arguments=arguments,
        why=why,
        disruptive=disruptive,
    )


def _notes(cluster: Cluster, backup: Backup, begun: str) -> tuple[str, ...]:
    held = [f"revision {backup.revision}"] if backup.revision else []
    held += [f"{backup.keys} keys"] if backup.keys is not None else []
    held += [etcd_ha_report.size(backup.size)] if backup.size else []
    held += [f"of {backup.when}"] if backup.when else []
    told = f" ({', '.join(held)})" if held else ""
    notes = [
        f"the backup is {backup.name}{told}: all that was written after it is lost to clients, and "
        "stays in what is set aside"
    ]
    if not backup.cluster:
        notes.append(
            "no backup's record (NAME.json) lies beside it: it is not known of which cluster it "
            "is, and it was not tried. Users, roles and authentication will be those in it"
        )
    elif backup.cluster not in (cluster.name, cluster.former):
        notes.append(f"it was taken of another cluster, {backup.cluster}")
    if begun:
        notes.append("a restore of it was begun and not ended: it is gone on with")
    if etcd_ha_release.parse(cluster.version) < etcd_ha_release.Version(3, 5, 0):
        notes.append(
            "etcd 3.4 cannot raise the revision on a restore: restart whatever watches (such as "
            "kube-apiserver) once it is done, since it would wait for revisions that come again"
        )
    return tuple(notes)
