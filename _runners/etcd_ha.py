"""
The etcd clusters of this master as wholes: what would be done, what is, where clients connect.
"""

import copy
import dataclasses
import datetime
import hashlib
import os
import re
import sys
import time

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_access
import etcd_ha_backup
import etcd_ha_backup_files
import etcd_ha_backup_report
import etcd_ha_certificates
import etcd_ha_delivery
import etcd_ha_faces
import etcd_ha_host
import etcd_ha_observed
import etcd_ha_peers
import etcd_ha_planner
import etcd_ha_recover
import etcd_ha_release
import etcd_ha_report
import etcd_ha_restore
import etcd_ha_space
import etcd_ha_steps
import etcd_ha_told
import etcd_ha_topology
import etcd_ha_trust
import salt.cache
import salt.client
import salt.exceptions
import salt.fileclient
import salt.pillar
import salt.utils.hashutils
import salt.utils.minions
import salt.utils.yaml
import salt.version
from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "etcd_ha"

BANK = "etcd_ha/clusters"
FORMULA_MODULES = ("_modules", "_states", "_utils")
# The release of Salt that knows worker_pools; an older one takes no notice of them.
POOLS_SINCE = 3008
SYNCED_BANK = "etcd_ha/synced"
# Seconds in which what an interrupted run has left running on the hosts must have ended.
BUSY_TIMEOUT = 300
# What cannot be undone: the cluster's name is asked for.
CONFIRMED = {
    "remove_cluster": "removing a cluster stops it for good",
    "restore": "restoring a backup puts a cluster back to what it was",
    "recover": "recovering a cluster may lose its last writes",
}


def __virtual__():
    return __virtualname__


def plan(cluster=None, command="converge", backup="", lost=(), survivor=""):
    """
    What ``state.orchestrate etcd_ha.orch`` would do now, and why, in words; changes nothing.

    cluster : None
        The name of one cluster (text); without it all clusters are planned.

    command : converge
        Plan ``etcd_ha.orch.restart``, ``rotate_ca``, ``defrag``, ``recover_space``,
        ``remove_cluster``, ``restore`` or ``recover`` instead: their last word (text).

    backup, lost, survivor
        What ``restore`` and ``recover`` are asked for, as ``etcd_ha.steps`` has it.

    Returns text. When the pillar is wrong or a plan is refused, the exit code of salt-run is 1.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.plan
        salt-run etcd_ha.plan cluster=main
        salt-run etcd_ha.plan command=rotate_ca
        salt-run etcd_ha.plan cluster=main command=restore
    """
    given = locals()
    try:
        etcd_ha_faces.sound(given, cluster="name?")
        plans = _plans(cluster, command, {"backup": backup, "lost": lost, "survivor": survivor})
    except (CommandExecutionError, SaltInvocationError) as err:
        return _failed(str(err))
    told = etcd_ha_steps.text(plans)
    return _failed(told) if any(one.refusal for one in plans) else told


def steps(cluster=None, command="converge", confirm=None, backup="", lost=(), survivor=""):
    """
    The plan as data, for the SLS files of ``etcd_ha/orch``; prints it for people first.

    cluster : None
        The name of one cluster (text); without it all clusters are planned.

    command : converge
        ``converge``, ``restart``, ``rotate_ca``, ``defrag``, ``recover_space``, ``remove_cluster``,
        ``restore`` or ``recover`` (text).

    confirm : None
        The name of the cluster (text), which the last three ask for.

    backup
        With ``restore``: the backup's name or path on a member, or a ``salt://`` path (text);
        without it the newest verified one.

    lost : ()
        With ``recover``: the minions (list of text) that are gone for good.

    survivor
        With ``recover``: the minion (text) to go on from, where the evidence shall not decide.

    Returns ``{"refusals": [{id, why}], "steps": [{id, kind, targets, sls, pillar, ...}]}``. It does
    not raise for a wrong pillar or a refused plan, so that the orchestrate can show one clear
    failed state instead of a traceback.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.steps
    """
    given = locals()
    began = time.monotonic()
    try:
        etcd_ha_faces.sound(given, cluster="name?")
        if command in CONFIRMED:
            cluster = _confirmed(cluster, confirm, command)
        plans = _plans(cluster, command, {"backup": backup, "lost": lost, "survivor": survivor})
    except (CommandExecutionError, SaltInvocationError) as err:
        return {"refusals": [{"id": "The plan is refused", "why": str(err)}], "steps": []}
    sys.stderr.write(
        f"{etcd_ha_steps.text(plans)}\n  (planned in {time.monotonic() - began:.1f} s)\n"
    )
    sys.stderr.flush()
    refusals = [
        {"id": f"{one.cluster}: the plan is refused", "why": one.refusal}
        for one in plans
        if one.refusal
    ]
    clusters = _clusters(cluster)
    source = _source_digest()
    rows = []
    for one in () if refusals else plans:
        if command in etcd_ha_planner.KEEPING:
            rows += [_row(clusters[one.cluster], step, source) for step in one.steps]
        else:
            rows += _rows(clusters[one.cluster], one.steps, source)
    return {"refusals": refusals, "steps": rows}


def status(cluster=None):
    """
    What is: every member and balancer with role, version, health, revision, lag and size.

    cluster : None
        The name of one cluster (text); without it all clusters are shown.

    Returns text, a table a cluster.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.status
    """
    etcd_ha_faces.sound(locals(), cluster="name?")
    clusters = _clusters(cluster)
    facts = _facts(clusters.values())
    observed = {minion: etcd_ha_observed.Observed.of(found) for minion, found in facts.items()}
    reports = []
    for one in clusters.values():
        notes = etcd_ha_space.notes(one, observed)
        reports.append("\n".join([etcd_ha_report.status(one, facts), *notes]))
    return "\n\n".join(reports)


def certificates(cluster=None):
    """
    Every certificate of every host: purpose, issuer, expiry, days left; for people and monitoring.

    cluster : None
        The name of one cluster (text); without it all clusters are shown.

    Returns text, a table a cluster. When a certificate has expired, is inside its renewal window
    (``tls:days_remaining``, of the CA's own ``tls:ca:days_remaining``), or cannot be read, or a
    host does not answer, the exit code of salt-run is 1.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.certificates
        salt-run etcd_ha.certificates cluster=main
    """
    etcd_ha_faces.sound(locals(), cluster="name?")
    clusters = _clusters(cluster)
    named = list(dict.fromkeys(minion for one in clusters.values() for minion in one.hosts))
    found = _certificates(_connected(named))
    # Minions with older modules do not know the function yet.
    blank = [minion for minion, told in found.items() if not isinstance(told, list)]
    _sync(blank)
    found |= _certificates(blank)
    now = datetime.datetime.now(datetime.timezone.utc)
    reports = [etcd_ha_report.certificates(one, found, now) for one in clusters.values()]
    told = "\n\n".join(report.text for report in reports)
    return told if all(report.sound for report in reports) else _failed(told)


def hash_kv(cluster=None):
    """
    Whether all members hold the same keys, by their hashes at one revision; for people.

    Each member reads its whole database for it (some seconds a GiB).

    cluster : None
        The name of one cluster (text); without it all clusters are compared.

    Returns text, a table a cluster. When members differ, or one of them does not tell, the exit
    code of salt-run is 1.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.hash_kv
        salt-run etcd_ha.hash_kv cluster=main
    """
    etcd_ha_faces.sound(locals(), cluster="name?")
    clusters = _clusters(cluster).values()
    facts = _facts(clusters)
    reports = []
    for one in clusters:
        answer = {}
        for minion in etcd_ha_report.healthy_members(one, facts):
            answer = _ask([minion], "etcd_ha.hash_kv").get(minion, {}).get("ret")
            if isinstance(answer, dict):
                break
        reports.append(etcd_ha_report.hashes(one, answer))
    told = "\n\n".join(report.text for report in reports)
    return told if all(report.sound for report in reports) else _failed(told)


def endpoints(cluster=None, consumer=None):
    """
    Where clients connect, also as the settings that a consumer pastes.

    cluster : None
        The name of one cluster (text); without it all clusters.

    consumer : None
        ``kube-apiserver`` or ``patroni`` for that program's own settings (text).

    Returns a dict cluster -> list of URLs, or text for a consumer.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.endpoints
        salt-run etcd_ha.endpoints main consumer=kube-apiserver
    """
    etcd_ha_faces.sound(locals(), cluster="name?")
    clusters = _clusters(cluster)
    if consumer is None:
        return {name: etcd_ha_report.client_urls(one) for name, one in clusters.items()}
    try:
        return "\n".join(etcd_ha_report.consumer(one, consumer) for one in clusters.values())
    except ValueError as err:
        raise SaltInvocationError(str(err)) from err


def backup(cluster, take=True):
    """
    Take a backup of a cluster on one of its members, and bring it to its places.

    A follower takes it, the leader only where no follower can; where one fails, the next one tries.
    It goes to S3 from there, and to the master's own directory (``backup:master``). The rules of
    ``backup:keep`` are applied in each place once the new one is there.

    cluster
        The name of the cluster (text).

    take : True
        False takes none, and only brings the newest one that lies on a member to the master (bool);
        for a master beside members that take theirs by the timer.

    Returns a dict: ``name``, ``member``, ``revision``, ``keys``, ``size`` (bytes), ``places`` (list
    of text).

    Raises CommandExecutionError when no member could take one, or it did not reach a place; it
    says then where the backup is.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.backup main
        salt-run etcd_ha.backup main take=False
    """
    etcd_ha_faces.sound(locals())
    one = _clusters(cluster)[cluster]
    members = _connected([member.minion for member in one.members])
    began = time.monotonic()
    minion, found = _new_backup(one, members) if take else _newest_backup(one, members)
    problems, places = list(found.get("problems", ())), [f"{minion}:{found['path']}"]
    if one.settings["backup"]["s3"]["bucket"] and take and not problems:
        places.append("S3")
    if one.settings["backup"]["master"]["enabled"]:
        problems += _bring_to_master(one, minion, found)
        places += [] if problems else [f"{one.settings['backup']['master']['directory']} here"]
    if take:
        _ask([other for other in members if other != minion], "etcd_ha_backup.prune")
    if problems:
        raise CommandExecutionError(
            f"{found['name']} is good, and lies on {minion} ({found['path']}), but "
            f"{'; '.join(problems)}. Mend that, and run it again"
        )
    _tell(f"{one.name}: done in {time.monotonic() - began:.0f} s. See salt-run etcd_ha.backups")
    kept = ("name", "member", "revision", "keys", "size")
    return {**{key: found[key] for key in kept}, "places": places}


def backup_steps(cluster=None):
    """
    Which clusters ``etcd_ha.orch.backup`` backs up, for its SLS file; reads the pillar alone.

    cluster : None
        The name of one cluster (text); without it all.

    Returns ``{"refusals": [{id, why}], "clusters": [{name, id}]}``; it does not raise for a wrong
    pillar, so that the orchestrate can show one clear failed state instead of a traceback.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.backup_steps
    """
    given = locals()
    try:
        etcd_ha_faces.sound(given, cluster="name?")
        _check_own_modules()
        clusters = _clusters(cluster)
    except (CommandExecutionError, SaltInvocationError) as err:
        return {"refusals": [{"id": "No backup is taken", "why": str(err)}], "clusters": []}
    told = etcd_ha_backup_report.step
    return {"refusals": [], "clusters": [{"name": n, "id": told(c)} for n, c in clusters.items()]}


def backups(cluster=None):
    """
    Every backup in every place: age, revision, keys, size, verified; for people and monitoring.

    cluster : None
        The name of one cluster (text); without it all clusters are shown.

    Returns text, a table a cluster. When one of its places (the members together, the master, S3)
    has no verified backup that is younger than ``backup:max_age`` hours, or S3 cannot be asked, the
    exit code of salt-run is 1.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.backups
        salt-run etcd_ha.backups cluster=main
    """
    etcd_ha_faces.sound(locals(), cluster="name?")
    now = datetime.datetime.now(datetime.timezone.utc)
    reports = [
        etcd_ha_backup_report.backups(one, _backups(one), now)
        for one in _clusters(cluster).values()
    ]
    told = "\n\n".join(report.text for report in reports)
    return told if all(report.sound for report in reports) else _failed(told)


def remember(cluster, members=None, former=None, balancers=()):
    """
    Keep on the master that a cluster was bootstrapped, and who its members are.

    So it is never bootstrapped a second time, and a member that the pillar no longer names is known
    as one that may be taken out.

    cluster
        The name of the cluster (text).

    members : None
        minion -> ``{name, peer_url}`` (dict).

    former : None
        The name that the cluster had before (text), under which it is forgotten.

    balancers : ()
        The minions (list of text) that are its balancers; one that leaves is stopped.

    Returns True.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.remember main
    """
    etcd_ha_faces.sound(locals())
    record = {"cluster": cluster, "state": "bootstrapped", "members": members or {}}
    record["balancers"] = list(balancers)
    cache = salt.cache.Cache(__opts__)
    cache.store(BANK, cluster, record)
    if former and cache.contains(BANK, former):
        cache.flush(BANK, former)
    return True


def forget(cluster):
    """
    Drop the master's record of a cluster whose data is gone and not needed.

    The members' own records (``/var/lib/etcd_ha/<cluster>.json``) are theirs to remove.

    cluster
        The name of the cluster (text).

    Returns True. Raises CommandExecutionError when there is no such record.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.forget main
    """
    etcd_ha_faces.sound(locals())
    cache = salt.cache.Cache(__opts__)
    if not cache.contains(BANK, cluster):
        raise CommandExecutionError(f"the master has no record of a cluster {cluster!r}")
    cache.flush(BANK, cluster)
    return True


def _failed(text):
    """
    Have salt-run show this text as it is, with exit code 1.

    Of all exceptions only this one is shown without a traceback (salt.client.mixins, ``low``); a
    returned ``retcode`` would have to stand in the text's place, as data.
    """
    raise salt.exceptions.NotImplemented(text)


def _rows(cluster, steps, source):
    """The plan's steps, and what the master remembers before and after them.

    Where nothing is left to do, a run may have ended before it could remember.
    """
    record = _record(cluster)
    past = record.get("members", {})
    own = {m.minion: {"name": m.name, "peer_url": cluster.peer_url(m)} for m in cluster.members}
    balancers = [balancer.minion for balancer in cluster.balancers]
    rows = [_row(cluster, step, source) for step in steps]
    known = {
        "kind": "remember",
        "id": f"{cluster.name}: remember on the master who its members are",
        "cluster": cluster.name,
        "former": cluster.former,
        "members": own,
        "balancers": balancers,
    }
    if rows and rows[-1]["kind"] == "forget":
        return rows
    led = record.get("balancers", [])
    if rows and past and (set(own) - set(past) or set(balancers) - set(led)):
        # Before a new host enters: after an interruption it is known as one of ours.
        first = f"{cluster.name}: remember on the master who its members are going to be"
        before = {"id": first, "members": {**past, **own}}
        before["balancers"] = list(dict.fromkeys([*led, *balancers]))
        rows.insert(0, {**known, **before})
    changed = own != past or balancers != record.get("balancers")
    is_new = changed or record.get("cluster", cluster.name) != cluster.name
    if is_new and not (rows and rows[-1]["kind"] == "again"):
        rows.append(known)
    return rows


def _row(cluster, step, source):
    """One step as the orchestrate's template takes it."""
    row = {
        "id": step.title,
        "kind": step.kind,
        "targets": list(step.targets),
        "cluster": cluster.name,
    }
    if step.kind == "verify":
        row["kind"], row["function"] = "function", "etcd_ha.verify"
        urls = etcd_ha_report.verified_urls(cluster)
        row["arguments"] = {"endpoints": urls, "cluster": cluster.name}
    elif step.kind == "function":
        row["function"], row["arguments"] = step.function, dict(step.arguments)
    elif step.kind == "state":
        row["sls"] = list(step.sls)
        handed = {"action": step.action, "source": source, "stage": dict(step.stage)}
        handed |= {"successor": step.successor, "endpoints": step.endpoints}
        handed |= {"restart_before": step.restart_before}
        handed["leads_to"] = {minion: list(found) for minion, found in step.leads_to.items()}
        row["pillar"] = {"etcd_ha_step": handed}
    return row


def _confirmed(cluster, confirm, command="remove_cluster"):
    """The one cluster whose name was given twice in all: in the pillar, and to the command."""
    names = [cluster] if cluster else list(_clusters())
    if confirm not in names:
        raise SaltInvocationError(
            f"{CONFIRMED[command]}, so its name is asked for: "
            f"""pillar='{{"confirm": "{names[0] if len(names) == 1 else "NAME"}"}}'"""
        )
    return confirm


def _plans(name, command="converge", asked=None):
    commands = (*etcd_ha_planner.COMMANDS, "restore", "recover")
    if command not in commands:
        raise SaltInvocationError(f"command is {command!r}; use one of {', '.join(commands)}")
    _check_own_modules()
    clusters = _clusters(name)
    _check_peer(clusters.values())
    facts = _facts(clusters.values())
    observed = {minion: etcd_ha_observed.Observed.of(found) for minion, found in facts.items()}
    wanted = _wanted(facts)
    plans = []
    for one in clusters.values():
        record = _record(one)
        known = etcd_ha_observed.Wanted(
            wanted["digests"],
            wanted["policies"],
            bool(record),
            record.get("members", {}),
            tuple(record.get("balancers", ())),
        )
        if command in etcd_ha_planner.COMMANDS:
            made = etcd_ha_planner.plan(one, observed, known, command, int(time.time()))
        else:
            made = _from_data(one, observed, known, command, asked or {})
        if command != "recover":
            # Data that is there needs no mirror: hosts that lack a release say so as they join.
            made = _with_release(one, made, facts)
        made = _with_workers(one, made)
        peers = etcd_ha_peers.notes(__opts__.get("peer") or {}, one.hosts)
        notes = (*etcd_ha_topology.warnings(one), *peers, *made.warnings)
        plans.append(dataclasses.replace(made, warnings=notes))
    return plans


def _new_backup(one, members):
    """Have the first member that can take a backup: its minion, and what it told."""
    statuses = {m: answer.get("ret") for m, answer in _ask(members, "etcd_ha.status").items()}
    errors = []
    for minion in etcd_ha_backup_report.candidates(statuses):
        role = "the leader" if statuses[minion]["leader"] else "a follower"
        size = etcd_ha_report.size(statuses[minion]["db_size"])
        _tell(f"{one.name}: {minion} ({role}) takes a backup of {size}, and restores it aside")
        found = _ask([minion], "etcd_ha_backup.take").get(minion, {}).get("ret", "no answer")
        if isinstance(found, dict):
            return minion, found
        errors.append(f"{minion}: {found}")
        _tell(f"{one.name}: {errors[-1]}")
    raise CommandExecutionError(
        f"no member of {one.name} could take a backup. "
        + ("\n".join(errors) or f"None is healthy: see salt-run etcd_ha.status {one.name}")
    )


def _newest_backup(one, members):
    """The newest verified backup on a member: the member's minion, and what it told."""
    answers = _ask(members, "etcd_ha_backup.listing")
    rows = [
        (minion, row)
        for minion, answer in answers.items()
        if isinstance(answer.get("ret"), list)
        for row in answer["ret"]
        if row["verified"]
    ]
    if not rows:
        raise CommandExecutionError(
            f"no member of {one.name} has a verified backup: salt-run etcd_ha.backup {one.name}"
        )
    return max(rows, key=lambda found: (found[1]["when"], found[1]["revision"]))


def _bring_to_master(one, minion, found):
    """Fetch a backup to this master unless it is here; what kept it from that."""
    master, keep = one.settings["backup"]["master"], one.settings["backup"]["keep"]
    folder = master["directory"]
    known = etcd_ha_backup.Backup.of({**found, "verified": True})
    try:
        with etcd_ha_backup_files.alone(folder):
            if known not in etcd_ha_backup_files.listing(folder, one.name):
                _tell(f"{one.name}: {minion} brings {known.name} to this master")
                problem = _delivered(minion, known, master, f"{folder}/{known.name}.db")
                if problem:
                    return [f"it did not reach this master: {problem}"]
                etcd_ha_backup_files.describe(folder, known)
            now = datetime.datetime.now(datetime.timezone.utc)
            etcd_ha_backup_files.prune(folder, one.name, keep, now)
    except (etcd_ha_backup_files.Busy, OSError) as err:
        user = __opts__.get("user") or "root"
        return [
            f"it could not be kept on this master: {err}. Its directory is made by: "
            f"install -d -m 0700 -o {user} {folder}"
        ]
    return []


def _delivered(minion, known, master, path):
    """Wait for a member that sends a backup; the problem, empty where it is there and whole."""
    with etcd_ha_delivery.waiting(master["port"], path, known.size, known.sha256) as inbox:
        asked = {
            "name": known.name,
            "address": master["address"] or "",
            "port": inbox.port,
            "certificate": inbox.certificate,
            "token": inbox.token,
        }
        told = _ask([minion], "etcd_ha_backup.send", kwarg=asked).get(minion, {}).get("ret")
        if not inbox.problem:
            return ""
        return str(told) if isinstance(told, str) else inbox.problem


def _backups(one):
    """Where -> the backups there, or why they are not known; of one cluster."""
    members, s3 = [member.minion for member in one.members], one.settings["backup"]["s3"]["bucket"]
    there = _connected(members)
    found = dict.fromkeys(members, "no answer")
    answers = _ask(there, "etcd_ha_backup.listing")
    found |= {minion: answer.get("ret") for minion, answer in answers.items()}
    able = [minion for minion in there if isinstance(found[minion], list)]
    if s3:
        asked = _ask(able[:1], "etcd_ha_backup.listing", kwarg={"s3": True}) if able else {}
        found["s3"] = next((answer.get("ret") for answer in asked.values()), "no answer")
    folder = one.settings["backup"]["master"]["directory"]
    if one.settings["backup"]["master"]["enabled"]:
        try:
            here = etcd_ha_backup_files.listing(folder, one.name)
            found["master"] = [backup.sidecar for backup in here]
        except OSError as err:
            found["master"] = str(err)
    return found


def _tell(line):
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _from_data(cluster, observed, known, command, asked):
    """The plan of a restore or a recovery: beside the facts, it needs what the disks say."""
    there = [m.minion for m in cluster.members if m.minion in observed]
    # The steps are functions, which see the pillar that a minion had when it started, while a
    # state compiles it anew: on new hosts that names other members.
    if there:
        _ask(there, "saltutil.refresh_pillar", kwarg={"wait": True, "timeout": 10})
    backup = str(asked.get("backup") or "")
    found = _looks(cluster, there, backup if backup.startswith("/") else "")
    if command == "recover":
        lost, survivor = asked.get("lost") or (), str(asked.get("survivor") or "")
        lost = [lost] if isinstance(lost, str) else list(lost)
        return etcd_ha_recover.plan(cluster, observed, known, found, lost, survivor)
    looks = {minion: etcd_ha_restore.Look.of(minion, one) for minion, one in found.items()}
    named = etcd_ha_restore.candidate(looks, backup)
    if named and not backup.startswith("/"):
        # Known by its sidecar alone until now: have its own hash checked where it lies.
        again = _looks(cluster, [named.minion], named.path)
        looks |= {minion: etcd_ha_restore.Look.of(minion, one) for minion, one in again.items()}
        backup = named.path
    now = time.strftime("%Y%m%d%H%M%S", time.gmtime())
    return etcd_ha_restore.plan(cluster, observed, known, looks, backup, now)


def _looks(cluster, minions, path=""):
    """What the disks of these members say."""
    places = {
        m.minion: [m.settings["data_dir"], m.settings["wal_dir"] or ""] for m in cluster.members
    }
    asked = {"places": places, "folders": etcd_ha_restore.folders(cluster), "path": path}
    answers = _ask(minions, "etcd_ha_restore.look", kwarg=asked) if minions else {}
    found = {minion: answer.get("ret") for minion, answer in answers.items()}
    for minion in minions:
        fault = etcd_ha_told.look_fault(found.get(minion, "no answer"))
        if fault:
            raise CommandExecutionError(f"{minion} could not tell what its disk holds: {fault}")
    return found


def _certificates(minions):
    answers = _ask(minions, "etcd_ha.certificates") if minions else {}
    return {minion: answer.get("ret") for minion, answer in answers.items()}


def _record(cluster):
    """What the master remembers of a cluster; empty where it was never bootstrapped."""
    return _recorded(cluster.name) or (_recorded(cluster.former) if cluster.former else {})


def _recorded(name):
    return salt.cache.Cache(__opts__).fetch(BANK, name) or {}


def _with_release(cluster, made, facts):
    """Refuse a version that the mirror does not have, before any host is touched."""
    install = cluster.settings["install"]
    touched = [m.minion for s in made.steps for m in cluster.members if m.minion in s.targets]
    if not touched or install["method"] != "archive":
        return made
    asked = touched[0]
    arch = etcd_ha_release.architecture(facts[asked]["arch"])
    present = {facts[m.minion].get("etcd", {}).get("version") for m in cluster.members}
    needed = {step.stage.get("version", cluster.version) for step in made.steps} - present
    for version in sorted(needed):
        url = etcd_ha_release.archive_url(install["url"], version, arch)
        if not etcd_ha_release.pinned(install["checksum"], arch):
            url = etcd_ha_release.checksums_url(install["url"], version)
        if not url.startswith("http"):
            continue
        reason = _ask([asked], "etcd_ha.release_available", [url]).get(asked, {}).get("ret", "?")
        if reason:
            refusal = (
                f"{asked} cannot fetch {url} ({reason}): correct version or install:url of "
                f"{cluster.name}, or put the release on the mirror"
            )
            return dataclasses.replace(made, steps=(), refusal=refusal)
    return made


def _wanted(facts):
    """What every host that answered should have in its mark, and every CA in its memory."""
    source = _source_digest()
    digests, policies = {}, {}
    named = {minion for one in _clusters().values() for minion in one.hosts}
    for minion, found in facts.items():
        if minion not in named:
            continue
        clusters = _read(_yaml(found["os_file"]).get("settings"))
        described = etcd_ha_host.describe(minion, clusters.values(), found["arch"])
        digests[minion] = etcd_ha_host.digest(described, source)
        if described["authorities"]:
            signed = etcd_ha_certificates.policies(clusters.values(), minion)
            policies[minion] = etcd_ha_host.policies_digest(signed)
    return {"digests": digests, "policies": policies}


def _clusters(name=None):
    clusters = _read(None)
    if name is None:
        return clusters
    if name not in clusters:
        raise SaltInvocationError(
            f"the pillar has no cluster {name!r}; it has {', '.join(sorted(clusters))}"
        )
    return {name: clusters[name]}


def _read(settings):
    if "etcd_ha_pillar" not in __context__:
        compiled = salt.pillar.get_pillar(
            __opts__, __opts__.get("grains") or {}, f"{_master_id()}", __opts__.get("saltenv")
        ).compile_pillar()
        __context__["etcd_ha_pillar"] = compiled.get("etcd_ha")
        if compiled.get("_errors"):
            raise CommandExecutionError(
                "the master's own pillar does not render: " + "; ".join(compiled["_errors"])
            )
    with etcd_ha_faces.told(etcd_ha_topology.PillarError):
        return etcd_ha_topology.read(
            copy.deepcopy(__context__["etcd_ha_pillar"]), _yaml("etcd_ha/defaults.yaml"), settings
        )


def _master_id():
    """The id under which the master's own pillar is compiled: ``<master id>_master``."""
    own = __opts__["id"]
    return own if own.endswith("_master") else f"{own}_master"


def _files():
    if "etcd_ha_files" not in __context__:
        __context__["etcd_ha_files"] = salt.fileclient.FSClient(__opts__)
    return __context__["etcd_ha_files"]


def _yaml(path):
    key = f"etcd_ha_yaml_{path}"
    if key not in __context__:
        found = _files().cache_file(f"salt://{path}", saltenv="base")
        if not found:
            raise CommandExecutionError(
                f"{path} is not on the master's file server: add the formula to file_roots"
            )
        with open(found, encoding="utf-8") as file:
            __context__[key] = salt.utils.yaml.safe_load(file) or {}
    return copy.deepcopy(__context__[key])


def _hashes(prefix, wanted):
    client = _files()
    lines = []
    for path in sorted(client.file_list("base", prefix=prefix)):
        if wanted(path):
            lines.append(f"{path} {client.hash_file(f'salt://{path}', 'base')['hsum']}")
    return lines


def _source_digest():
    """One hash of all states and templates, so that a changed formula is applied everywhere."""
    if "etcd_ha_source" not in __context__:
        lines = _hashes("etcd_ha", lambda path: not path.startswith("etcd_ha/orch/"))
        __context__["etcd_ha_source"] = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return __context__["etcd_ha_source"]


def _modules_digest():
    """The same hash that ``etcd_ha.modules_digest`` makes on a minion."""
    lines = []
    for folder in FORMULA_MODULES:
        lines += _hashes(
            folder, lambda path: os.path.basename(path).startswith("etcd_ha") and path[-3:] == ".py"
        )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _check_own_modules():
    """
    The master's own copies of the formula's modules must be those of its file server.

    Minions are synced by the plan; a master with older ones would expect what no host can be.
    """
    digests = []
    for folder in ("_runners", "_utils"):
        own = os.path.join(__opts__["extension_modules"], folder[1:])
        for line in _hashes(folder, lambda path: os.path.basename(path).startswith("etcd_ha")):
            name, _, hsum = line.partition(" ")
            path = os.path.join(own, os.path.basename(name))
            if os.path.exists(path) and salt.utils.hashutils.get_hash(path) != hsum:
                digests.append(name)
    if digests:
        raise CommandExecutionError(
            f"the master's own copy of {', '.join(digests)} is older than its file server's. "
            "Run salt-run saltutil.sync_all, then this again"
        )


def _check_peer(clusters):
    """The master must let every host ask its CA; without it each request would only time out."""
    peer = __opts__.get("peer") or {}
    for one in clusters:
        if one.ca_minion is None:
            continue
        for minion in [m.minion for m in one.members] + [b.minion for b in one.balancers]:
            if not etcd_ha_peers.may_ask(peer, minion):
                raise CommandExecutionError(
                    f"the master does not let {minion} ask for certificates. Add to the master's "
                    "configuration and restart salt-master:\n"
                    f"peer:\n  {re.escape(minion)}$:\n    - x509.sign_remote_certificate"
                )


def _with_workers(cluster, made):
    """
    Refuse a plan in which so many hosts ask the CA at once that the master has no worker to spare.

    A minion's publish holds one worker of the master, which itself needs another one to pass it on
    (seen with Salt 3008.3: with all workers held, the master answers nobody until they time out).
    Workers of their own for ``minion_pub`` end that (worker_pools, from Salt 3008 on).
    """
    workers = _workers_beside_peers()
    if workers is None:
        return made
    asking = max((len(s.targets) for s in made.steps if s.sls == ("etcd_ha",)), default=0)
    if cluster.ca_minion is None or asking < workers:
        return made
    refusal = (
        f"{asking} hosts of {cluster.name} may ask the CA at once, but the master has "
        f"{workers} workers. Give such questions workers of their own: set worker_pools in its "
        "configuration as the README says (before Salt 3008: "
        f"worker_threads: {2 * asking}), and restart salt-master"
    )
    return dataclasses.replace(made, steps=(), refusal=refusal)


def _workers_beside_peers():
    """How many workers all requests share; None where ``minion_pub`` has a pool of its own."""
    pools = __opts__.get("worker_pools") or {}
    shared = int(__opts__.get("worker_threads") or 5)
    known = salt.version.__saltstack_version__.major >= POOLS_SINCE
    if not known or not pools or not __opts__.get("worker_pools_enabled", True):
        return shared
    if any("minion_pub" in pool["commands"] for pool in pools.values()):
        return None
    return next((int(p["worker_count"]) for p in pools.values() if "*" in p["commands"]), shared)


def _facts(clusters):
    """The facts of every host of these clusters that is there, synced first where need be."""
    clusters = list(clusters)
    named = list(dict.fromkeys(minion for one in clusters for minion in one.hosts))
    # Hosts that the pillar no longer names may still have to be stopped.
    records = [_record(one) for one in clusters]
    known = [m for one in records for m in (*one.get("members", {}), *one.get("balancers", ()))]
    wanted = list(dict.fromkeys(named + known))
    asked = {
        "data_dirs": sorted({m.settings["data_dir"] for one in clusters for m in one.members}),
        "authorities": sorted({f for one in clusters for f in etcd_ha_trust.authority_files(one)}),
    }
    if any(etcd_ha_access.Access.of(one.settings["access"]).managed for one in clusters):
        asked["access"] = True
    there, digest = _connected(wanted), _modules_digest()
    cache = salt.cache.Cache(__opts__)
    # A minion that lacks the function first loads every module that it has, to look for it.
    blank = [minion for minion in there if not cache.contains(SYNCED_BANK, minion)]
    _sync(blank)
    answers = _ask(there, "etcd_ha.facts", kwarg=asked)
    old = [
        minion
        for minion, answer in answers.items()
        if not isinstance(answer.get("ret"), dict) or answer["ret"].get("modules") != digest
    ]
    if old:
        _sync(old)
        answers.update(_ask(old, "etcd_ha.facts", kwarg=asked))
    if _busy(answers):
        _wait_until_idle(answers)
        answers = _ask(there, "etcd_ha.facts", kwarg=asked)
    for minion in {*blank, *old} & set(answers):
        cache.store(SYNCED_BANK, minion, {"digest": digest})
    facts = {}
    for minion, answer in answers.items():
        found = answer.get("ret")
        fault = etcd_ha_told.facts_fault(found)
        if fault:
            raise CommandExecutionError(f"{minion} could not tell its facts: {fault}")
        facts[minion] = found
    return facts


def _wait_until_idle(answers):
    """
    Wait until the states have ended that still run on these hosts.

    Whoever ends an orchestrate (Ctrl-C, a lost master) does not end the state that it had begun on
    a minion: it goes on there, and Salt refuses the next one meanwhile.
    """
    busy, deadline = _busy(answers), time.monotonic() + BUSY_TIMEOUT
    while busy:
        told = ", ".join(f"{minion} ({', '.join(jobs)})" for minion, jobs in sorted(busy.items()))
        if time.monotonic() > deadline:
            raise CommandExecutionError(
                f"an earlier run is still at work on {told}. Wait for its end, or end it "
                "(salt ID saltutil.kill_job JID), and run again"
            )
        sys.stderr.write(f"waiting for an earlier run that is still at work on {told}\n")
        sys.stderr.flush()
        time.sleep(2)
        busy = _busy(_ask(list(busy), "etcd_ha.facts"))


def _busy(answers):
    """minion -> the states that run there."""
    facts = ((minion, answer.get("ret")) for minion, answer in answers.items())
    return {m: found["busy"] for m, found in facts if isinstance(found, dict) and found.get("busy")}


def _sync(minions):
    """
    Bring the formula's modules to minions, with one reload there at the end.

    Salt asks each minion for its top file to learn the environments. Where the file server has
    ``base`` alone there is nothing to learn, and nothing of another environment to clean away.
    """
    if not minions:
        return
    sys.stderr.write(f"syncing the formula's modules to {', '.join(sorted(minions))}\n")
    only = {"saltenv": "base"} if _files().envs() == ["base"] else {}
    last = "saltutil.sync_modules"
    functions = ["saltutil.sync_utils", "saltutil.sync_states", last]
    arguments = [[{"__kwarg__": True, "refresh": one == last, **only}] for one in functions]
    _ask(minions, functions, arguments)


def _connected(wanted):
    """
    Those of the wanted minions that are connected, or all where the master cannot tell.

    A dead minion would cost every command its whole timeout and gather_job_timeout.
    """
    found = salt.utils.minions.CkMinions(__opts__).connected_ids()
    there = [minion for minion in wanted if minion in found]
    return there or list(wanted)


def _ask(minions, function, arguments=(), kwarg=None):
    """Run a function on these minions: minion -> {ret, retcode}; silent ones are left out."""
    with salt.client.get_local_client(mopts=__opts__) as client:
        answers = client.cmd(
            minions,
            function,
            arguments,
            tgt_type="list",
            timeout=30,
            kwarg=kwarg,
            full_return=True,
        )
    # For one that is connected and says nothing (a host that stands still), Salt itself answers.
    return {minion: one for minion, one in answers.items() if one.get("out") != "no_return"}
