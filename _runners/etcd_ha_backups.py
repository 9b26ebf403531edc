"""
Backups from the master's side: who is asked for one, where they go, and which there are.
"""

import datetime
import time

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_backup
import etcd_ha_backup_files
import etcd_ha_backup_report
import etcd_ha_delivery
import etcd_ha_faces
import etcd_ha_master
import etcd_ha_minions
import etcd_ha_report
import etcd_ha_steps
import etcd_ha_told
from salt.exceptions import CommandExecutionError, SaltInvocationError

# Beside _runners/etcd_ha.py: Salt puts the functions of both under this name.
__virtualname__ = "etcd_ha"


def __virtual__():
    return __virtualname__


def backup(cluster, take=True):
    """
    Take a backup of a cluster on one of its members, and bring it to its places.

    A follower takes it, the leader only where no follower can; where one fails, the next one tries.
    It goes to S3 from there, and to the master's own directory (``backup:master``). The rules of
    ``backup:keep`` are applied in each place once the new one is there. What goes on is told on the
    way.

    cluster
        The name of the cluster (text).

    take : True
        False takes none, and only brings the newest one that lies on a member to the master (bool);
        for a master beside members that take theirs by the timer.

    Returns a dict: ``name`` and ``member`` (text), ``revision`` and ``keys`` (int), ``size``
    (bytes), ``places`` (list of text, such as ``MINION:PATH``, ``S3`` and ``PATH here``).

    Where the pillar is wrong, there is no such cluster, no member could take one (with
    ``take=False``: has a verified one), or it did not reach a place, it says so, and where the
    backup is then, with exit code 1; with ``--out=json`` as ``{error, retcode}``.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.backup main
        salt-run etcd_ha.backup main take=False
    """
    given = locals()

    def taken(master):
        etcd_ha_faces.sound(given)
        found = _taken(master, cluster, take)
        return etcd_ha_master.Answer(found, found)

    return etcd_ha_master.answer(__opts__, __context__, False, taken)


def backup_steps(cluster=None, given=()):
    """
    Which clusters ``etcd_ha.orch.backup`` backs up, for its SLS file; asks no minion.

    cluster : None
        The name of one cluster (text); without it all.

    given : ()
        The keys of the pillar that the orchestrate sees (list of text), as ``etcd_ha.steps`` has
        them.

    Returns ``{"refusals": [{id, why}], "clusters": [{name, id}]}``. It refuses, and does not raise,
    for a wrong pillar, of one cluster or of all, or where the master's own copy of the formula's
    modules is old, so that the orchestrate can show a clear failed state instead of a traceback.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.backup_steps
    """
    words = locals()
    try:
        master = etcd_ha_master.Master(__opts__, __context__)
        etcd_ha_faces.sound({"given": given})
        words |= master.asked("backup", given, words)
        etcd_ha_faces.sound(words, cluster="name?")
        master.check_own_modules()
        clusters, faults = master.clusters_and_faults(words["cluster"])
    except (CommandExecutionError, SaltInvocationError) as err:
        return {"refusals": [{"id": "No backup is taken", "why": str(err)}], "clusters": []}
    told = etcd_ha_backup_report.step
    return {
        "refusals": [
            {"id": etcd_ha_steps.state_id(f"{name}: no backup is taken"), "why": why}
            for name, why in faults.items()
        ],
        "clusters": [
            {"name": n, "id": etcd_ha_steps.state_id(told(c))} for n, c in clusters.items()
        ],
    }


def backups(cluster=None, data=False):
    """
    Every backup in every place: age, revision, keys, size, verified; for people and monitoring.

    cluster : None
        The name of one cluster (text); without it all clusters are shown.

    data : False
        Data instead of text (bool); ``salt-run --out=json`` (or ``yaml``, ``raw``, ``pprint``)
        returns it by itself.

    Returns text, a table a cluster. When one of its places (the members together, the master, S3)
    has no verified backup that is younger than ``backup:max_age`` hours, or S3 cannot be asked, the
    exit code of salt-run is 1; also where the pillar of a cluster is wrong: its faults stand in the
    table's place.

    What is wrong in the pillar for all clusters, and that there is no such cluster, is told as
    text, with exit code 1.

    As data: ``{"clusters": {NAME: {backups: [{place, name, ...}], problems, silent}}}``: of each
    backup its place (a minion, ``master`` or ``s3``) and what its sidecar says, ``silent`` the
    places that could not tell; or ``error``, as ``etcd_ha.status`` has it.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.backups
        salt-run etcd_ha.backups cluster=main
    """
    given = locals()

    def reported(master):
        etcd_ha_faces.sound(given, cluster="name?")
        now = datetime.datetime.now(datetime.timezone.utc)
        clusters, faults = master.clusters_and_faults(cluster)
        reports = [
            etcd_ha_backup_report.backups(one, _everywhere(master, one), now)
            for one in clusters.values()
        ]
        return etcd_ha_master.shown([*reports, *etcd_ha_report.of_faults(faults)])

    return etcd_ha_master.answer(__opts__, __context__, data, reported)


def _taken(master, cluster, take):
    """What ``backup`` tells of the backup that was taken, or brought here."""
    one = master.clusters(cluster)[cluster]
    members = etcd_ha_minions.connected(master, [member.minion for member in one.members])
    began = time.monotonic()
    minion, found = _new(master, one, members) if take else _newest(master, one, members)
    problems, places = list(found.get("problems", ())), [f"{minion}:{found['path']}"]
    if one.settings["backup"]["s3"]["bucket"] and take and not problems:
        places.append("S3")
    if one.settings["backup"]["master"]["enabled"]:
        problems += _bring_here(master, one, minion, found)
        places += [] if problems else [f"{one.settings['backup']['master']['directory']} here"]
    if take:
        others = [other for other in members if other != minion]
        etcd_ha_minions.ask(master, others, "etcd_ha_backup.prune")
    if problems:
        raise CommandExecutionError(
            f"{found['name']} is good, and lies on {minion} ({found['path']}), but "
            f"{'; '.join(problems)}. Mend that, and run it again"
        )
    took = time.monotonic() - began
    etcd_ha_master.tell(f"{one.name}: done in {took:.0f} s. See salt-run etcd_ha.backups")
    kept = ("name", "member", "revision", "keys", "size")
    return {**{key: found[key] for key in kept}, "places": places}


def _new(master, one, members):
    """Have the first member that can take a backup: its minion, and what it told."""
    answers = etcd_ha_minions.ask(master, members, "etcd_ha.status")
    statuses = {minion: answer.get("ret") for minion, answer in answers.items()}
    strange = etcd_ha_backup_report.odd(statuses)
    errors = [f"{m} {etcd_ha_report.odd_answer(fault)}" for m, fault in strange.items()]
    for error in errors:
        etcd_ha_master.tell(f"{one.name}: {error}")
    for minion in etcd_ha_backup_report.candidates(statuses):
        role = "the leader" if statuses[minion]["leader"] else "a follower"
        size = etcd_ha_report.size(statuses[minion]["db_size"])
        etcd_ha_master.tell(
            f"{one.name}: {minion} ({role}) takes a backup of {size}, and restores it aside"
        )
        answers = etcd_ha_minions.ask(master, [minion], "etcd_ha_backup.take")
        found = answers.get(minion, {}).get("ret", "no answer")
        fault = found if isinstance(found, str) else etcd_ha_told.backup_fault(found, one.name)
        if not fault:
            return minion, found
        errors.append(f"{minion}: {fault}")
        etcd_ha_master.tell(f"{one.name}: {errors[-1]}")
    raise CommandExecutionError(
        f"no member of {one.name} could take a backup. "
        + ("\n".join(errors) or f"None is healthy: see salt-run etcd_ha.status {one.name}")
    )


def _newest(master, one, members):
    """The newest verified backup on a member: the member's minion, and what it told."""
    answers = etcd_ha_minions.ask(master, members, "etcd_ha_backup.listing")
    rows = [
        (minion, row)
        for minion, answer in answers.items()
        if isinstance(answer.get("ret"), list)
        for row in answer["ret"]
        if not etcd_ha_told.backup_fault(row, one.name) and row.get("verified")
    ]
    if not rows:
        raise CommandExecutionError(
            f"no member of {one.name} has a verified backup: salt-run etcd_ha.backup {one.name}"
        )
    return max(rows, key=lambda found: (found[1]["when"], found[1]["revision"]))


def _bring_here(master, one, minion, found):
    """Fetch a backup to this master unless it is here; what kept it from that."""
    place, keep = one.settings["backup"]["master"], one.settings["backup"]["keep"]
    folder = place["directory"]
    known = etcd_ha_backup.Backup.of({**found, "verified": True})
    try:
        with etcd_ha_backup_files.alone(folder):
            if known not in etcd_ha_backup_files.listing(folder, one.name):
                etcd_ha_master.tell(f"{one.name}: {minion} brings {known.name} to this master")
                problem = _delivered(master, minion, known, place)
                if problem:
                    return [f"it did not reach this master: {problem}"]
                etcd_ha_backup_files.describe(folder, known)
            now = datetime.datetime.now(datetime.timezone.utc)
            etcd_ha_backup_files.prune(folder, one.name, keep, now)
    except (etcd_ha_backup_files.Busy, OSError) as err:
        user = master.opts.get("user") or "root"
        return [
            f"it could not be kept on this master: {err}. Its directory is made by: "
            f"install -d -m 0700 -o {user} {folder}"
        ]
    return []


def _delivered(master, minion, known, place):
    """Wait for a member that sends a backup; the problem, empty where it is there and whole."""
    path = f"{place['directory']}/{known.name}.db"
    with etcd_ha_delivery.waiting(place["port"], path, known.size, known.sha256) as inbox:
        asked = {
            "name": known.name,
            "address": place["address"] or "",
            "port": inbox.port,
            "certificate": inbox.certificate,
            "token": inbox.token,
        }
        answers = etcd_ha_minions.ask(master, [minion], "etcd_ha_backup.send", kwarg=asked)
        told = answers.get(minion, {}).get("ret")
        if not inbox.problem:
            return ""
        return str(told) if isinstance(told, str) else inbox.problem


def _everywhere(master, one):
    """Where -> the backups there, or why they are not known; of one cluster."""
    members, s3 = [member.minion for member in one.members], one.settings["backup"]["s3"]["bucket"]
    there = etcd_ha_minions.connected(master, members)
    found = dict.fromkeys(members, "no answer")
    answers = etcd_ha_minions.ask(master, there, "etcd_ha_backup.listing")
    found |= {minion: answer.get("ret") for minion, answer in answers.items()}
    able = [minion for minion in there if isinstance(found[minion], list)]
    if s3:
        function = "etcd_ha_backup.listing"
        asked = etcd_ha_minions.ask(master, able[:1], function, kwarg={"s3": True})
        found["s3"] = next((answer.get("ret") for answer in asked.values()), "no answer")
    folder = one.settings["backup"]["master"]["directory"]
    if one.settings["backup"]["master"]["enabled"]:
        try:
            here = etcd_ha_backup_files.listing(folder, one.name)
            found["master"] = [backup.sidecar for backup in here]
        except OSError as err:
            found["master"] = str(err)
    return found
