"""The backups of a cluster as people and monitoring read them, and whom the master asks for one."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import etcd_ha_backup
import etcd_ha_plain
import etcd_ha_report
import etcd_ha_told
from etcd_ha_backup import Backup
from etcd_ha_report import Report
from etcd_ha_topology import Cluster


def step(cluster: Cluster) -> str:
    """What the orchestrate's state is called, so that a dry run tells where a backup would go."""
    backup = cluster.settings["backup"]
    places = [f"{backup['directory']} of a member"]
    if backup["s3"]["bucket"]:
        places.append(f"S3 ({backup['s3']['bucket']})")
    if backup["master"]["enabled"]:
        places.append(f"{backup['master']['directory']} here")
    return f"{cluster.name}: take a backup, restore it aside to check it, keep it in " + ", ".join(
        places
    )


def candidates(statuses: Mapping[str, Any]) -> list[str]:
    """Who is asked for a backup, in this order; ``statuses`` is minion -> ``etcd_ha.status``."""
    able = {
        minion: status
        for minion, status in statuses.items()
        if not etcd_ha_told.status_fault(status) and status["leader_id"] not in ("", "0")
    }
    rows = [
        {"name": minion, "leader": one["leader"], "learner": one["learner"]}
        for minion, one in able.items()
    ]
    return etcd_ha_backup.order(rows)


def odd(statuses: Mapping[str, Any]) -> dict[str, str]:
    """Who told a status of another form than a member's, and what is odd of it: minion -> fault."""
    told = {
        minion: etcd_ha_told.status_fault(status)
        for minion, status in statuses.items()
        # One that cannot tell says so in words, and one that is no member has a role alone.
        if not isinstance(status, str) and not (isinstance(status, Mapping) and "role" in status)
    }
    return {minion: fault for minion, fault in told.items() if fault}


def backups(cluster: Cluster, found: Mapping[str, Any], now: datetime) -> Report:
    """A table of one cluster's backups, newest first, and what is wrong.

    ``found`` is place -> a list of sidecars, or text that says why it is not known; places are the
    members' minions, ``master`` and ``s3``.
    """
    rows, silent = [], []
    for place, told in found.items():
        if not isinstance(told, list):
            silent.append(
                f"{place}: {etcd_ha_plain.brief(str(told).strip().rpartition(chr(10))[2])}"
            )
            continue
        try:
            rows += [(Backup.of(one), place) for one in told]
        except ValueError as err:
            silent.append(f"{place}: {err}")
    rows.sort(key=lambda row: (row[0].when, row[0].revision), reverse=True)
    lines = [cluster.name]
    if rows:
        heads = ("NAME", "WHERE", "AGE", "REVISION", "KEYS", "SIZE", "ETCD", "VERIFIED")
        lines.append(etcd_ha_report.table(heads, [_row(one, where, now) for one, where in rows]))
    problems = _problems(cluster, rows, now)
    problems += [one for one in silent if one.startswith("s3:")]
    data = {
        "backups": [{"place": place, **one.sidecar} for one, place in rows],
        "problems": problems,
        "silent": silent,
    }
    text = "\n".join([*lines, *silent, *problems, *_cure(cluster, problems)])
    return Report(text, not problems, {cluster.name: data})


def _problems(cluster: Cluster, rows: list[tuple[Backup, str]], now: datetime) -> list[str]:
    hours = int(cluster.settings["backup"]["max_age"])
    problems = []
    for place, names in _places(cluster).items():
        last = etcd_ha_backup.newest(one for one, where in rows if where in names)
        if last is None:
            problems.append(f"There is no verified backup {place}")
        elif (now - last.taken).total_seconds() > hours * 3600:
            problems.append(
                f"The newest verified backup {place} is {age(last, now)} old, more than "
                f"backup:max_age ({hours} hours)"
            )
    return problems


def _places(cluster: Cluster) -> dict[str, list[str]]:
    """Each place as a sentence has it -> what it is called in the table."""
    backup = cluster.settings["backup"]
    places = {"on the members": [member.minion for member in cluster.members]}
    if backup["master"]["enabled"]:
        places["on the master"] = ["master"]
    if backup["s3"]["bucket"]:
        places["in S3"] = ["s3"]
    return places


def _cure(cluster: Cluster, problems: list[str]) -> list[str]:
    if not problems:
        return []
    asked = f"""pillar='{{"cluster": "{cluster.name}"}}'"""
    return [f"Take one now: salt-run state.orchestrate etcd_ha.orch.backup {asked}"]


def _row(backup: Backup, where: str, now: datetime) -> tuple[object, ...]:
    return (
        backup.name,
        where,
        age(backup, now),
        backup.revision,
        "-" if backup.keys is None else backup.keys,
        etcd_ha_report.size(backup.size),
        backup.version or "-",
        "yes" if backup.verified else "no",
    )


def age(backup: Backup, now: datetime) -> str:
    """How old it is, in the two units that matter."""
    minutes = max(0, int((now - backup.taken).total_seconds() // 60))
    days, hours = minutes // 1440, minutes % 1440 // 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
