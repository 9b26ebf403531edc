"""
A backup onto this member, or a cluster of its own from its data, in steps that each look again.

The orchestrates ``etcd_ha.orch.restore`` and ``etcd_ha.orch.recover`` call these. What was done is
kept in ``/var/lib/etcd_ha/restore``, so each may be called again after an interruption.

:depends: etcdutl, etcdctl before etcd 3.5, which the formula installs on members
"""

import os
import shutil
import time
import urllib.parse

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_client
import etcd_ha_common_files
import etcd_ha_common_process
import etcd_ha_common_systemd
import etcd_ha_data
import etcd_ha_database
import etcd_ha_environment
import etcd_ha_etcdctl
import etcd_ha_faces
import etcd_ha_host
import etcd_ha_host_etcds
import etcd_ha_host_examine
import etcd_ha_host_record
import etcd_ha_machine
import etcd_ha_progress
import etcd_ha_recover
import etcd_ha_release
import etcd_ha_restore
import etcd_ha_snapshot
import etcd_ha_survivor
import etcd_ha_transfer
from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "etcd_ha_restore"

# Seconds in which a guest must have reached the member that serves the file, and this one a guest.
PATIENCE = 90
# Seconds in which the member before this one should serve its peers; without it this one goes on.
TURN = 10
_IDENTITY = ("NAME", "INITIAL_ADVERTISE_PEER_URLS")


def __virtual__():
    return __virtualname__


def look(places, folders=(), path=""):
    """
    What this member's disk says before a restore or a recovery; reads only.

    places
        minion -> ``[data directory, log's directory]`` (absolute paths; the latter may be empty).

    folders
        Where backups may lie (list of absolute paths). They are not read: what is told of them
        stands in their sidecars (``NAME.json``).

    path
        A backup (absolute path) whose own hash is to be checked.

    Returns a dict: ``free`` and ``wal_free`` (bytes; the latter None where the log is with the
    data), ``progress`` (dict: what a restore has begun here; empty where nothing is), ``recovery``
    (dict: what a recovery has), ``backups`` (list of dicts: ``path``, ``size``, ``sha256``,
    ``revision``, ``version``, ``keys``, ``when``, ``verified``, and ``fault`` where it is no good),
    ``evidence`` (dict: how far the data here goes) and ``wanted`` (text: a hash of what the pillar
    in this minion's memory wants it to be).

    Raises SaltInvocationError where ``places`` lacks this minion.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_restore.look '{"etcd1.example.com": ["/var/lib/etcd", ""]}'
    """
    etcd_ha_faces.sound(locals(), folders="paths", path="path?")
    if __grains__["id"] not in places:
        raise SaltInvocationError(f"places does not name {__grains__['id']}; give its directories")
    data_dir, wal_dir = places[__grains__["id"]]
    progress = etcd_ha_progress.read(etcd_ha_progress.RESTORE)
    if progress.get("phase", "done") == "done":
        progress = _staged(data_dir) or progress
    lying = [f"{f}/{n}" for f in folders for n in etcd_ha_common_files.names(f) if _is_backup(n)]
    backups = [_known(one) for one in lying]
    if path and etcd_ha_common_files.is_file(path):
        backups = [one for one in backups if one["path"] != path] + [_checked(path)]
    return {
        "free": etcd_ha_data.free(data_dir),
        "wal_free": etcd_ha_data.free(wal_dir) if wal_dir else None,
        "progress": progress,
        "recovery": etcd_ha_progress.read(etcd_ha_progress.RECOVER),
        "backups": backups,
        "evidence": _evidence(data_dir, wal_dir),
        "wanted": __salt__["etcd_ha.wanted_digest"](),
    }


def prepare(cluster, source, path, sha256, token, keys=None):
    """
    Lay the data of a backup beside this member's own, which is not touched and goes on running.

    The member that has the file serves it to the others over mutual TLS on ``ports:transfer`` while
    this runs on all of them.

    cluster
        The name of the cluster (text).

    source
        The minion id of the member that has the file (text); empty for ``salt://``.

    path
        The file there (absolute path, or ``salt://...``).

    sha256
        The backup's own hash (hex text); empty where it is not known yet.

    token
        The token of the cluster that the members will be (text).

    keys : None
        How many keys the backup is known to hold (int).

    Returns a dict: ``revision`` and ``keys`` (int) of what lies ready, and ``new`` (bool; False
    where it lay ready before).

    Raises CommandExecutionError when the file is corrupt, of a newer etcd, or another one than
    planned, does not arrive, or there is no room, and where this is no member.

    CLI Example:

    .. code-block:: bash

        salt 'etcd*' etcd_ha_restore.prepare main etcd1.example.com /root/x.db '' main-restored-1
    """
    etcd_ha_faces.sound(locals(), path="place")
    member = _member(cluster)
    progress = etcd_ha_progress.read(etcd_ha_progress.RESTORE)
    passed = etcd_ha_progress.has_passed(progress, token, "exchanging")
    ready = progress if passed else _staged(member["data_dir"])
    needed = ready.get("token") != token
    if not passed:
        _refuse_exchange(member)
    about = {"token": token, "sha256": sha256, "source": path, "expected": keys}
    try:
        if not source:
            found = _from_master(member, about, path) if needed else ready
        elif source == __grains__["id"]:
            found = _serve(member, about, path, needed, ready)
        else:
            found = _as_guest(member, about, source, path, needed, ready)
    except (etcd_ha_transfer.TransferError, OSError) as err:
        raise CommandExecutionError(
            f"the backup did not reach this member whole, and nothing was stopped: {err}. Members "
            f"must reach each other on port {_port(member)} (ports:transfer) meanwhile; or put the "
            f"file at the same path on each of them, and run this again"
        ) from err
    return {"revision": found["revision"], "keys": found["keys"], "new": needed}


def exchange(cluster, token):
    """
    Stop etcd here and put the data that was laid ready in place; close the balancer of this host.

    The present data is set aside under a name with the date. etcd does not start here again before
    ``etcd_ha_restore.start``, not even after a power loss.

    cluster
        The name of the cluster (text).

    token
        The token of the restore (text).

    Returns a dict: ``aside`` (list of paths) and ``closed`` (the balancer's service, or empty).

    Raises CommandExecutionError when nothing lies ready, or etcd or the balancer does not stop.

    CLI Example:

    .. code-block:: bash

        salt 'etcd*' etcd_ha_restore.exchange main main-restored-1
    """
    etcd_ha_faces.sound(locals())
    # First, since it refuses where an etcd that somebody else set up is in the way.
    host = __salt__["etcd_ha.wanted_host"]()
    closed = _close_balancer(cluster, token)
    if not host["member"] or host["member"]["cluster"] != cluster:
        return {"aside": [], "closed": closed}
    etcd_ha_progress.refuse_broken(etcd_ha_progress.RESTORE)
    member, progress = host["member"], etcd_ha_progress.read(etcd_ha_progress.RESTORE)
    if etcd_ha_progress.has_passed(progress, token, "exchanged"):
        return {"aside": progress.get("aside", []), "closed": closed}
    if not etcd_ha_progress.has_passed(progress, token, "exchanging"):
        progress = _staged(member["data_dir"])
        if progress.get("token") != token:
            raise CommandExecutionError(
                f"no restored data lies ready on {__grains__['id']}: run the restore again"
            )
        progress["date"] = time.strftime("%Y%m%d-%H%M%S")
        progress = etcd_ha_progress.write(etcd_ha_progress.RESTORE, progress, "exchanging")
    etcd_ha_progress.hold()
    with etcd_ha_faces.told(
        etcd_ha_data.DataError, OSError, cure="Mend it, and run the restore again"
    ):
        etcd_ha_data.stop(member["start_timeout"], patience=1)
        progress["aside"] = _exchanged(member, f"replaced-{progress['date']}")
    _remember(member)
    etcd_ha_progress.write(etcd_ha_progress.RESTORE, progress, "exchanged")
    return {"aside": progress["aside"], "closed": closed}


def start(cluster, token):
    """
    Start etcd with the restored data, together with the others, and count its keys.

    cluster
        The name of the cluster (text).

    token
        The token of the restore (text).

    Returns a dict: ``revision`` and ``keys`` (int), as they were found at that revision.

    Raises CommandExecutionError when etcd does not start, or holds something else than the backup.

    CLI Example:

    .. code-block:: bash

        salt 'etcd*' etcd_ha_restore.start main main-restored-1
    """
    etcd_ha_faces.sound(locals())
    member, progress = _member(cluster), etcd_ha_progress.read(etcd_ha_progress.RESTORE)
    if not etcd_ha_progress.has_passed(progress, token, "exchanged"):
        raise CommandExecutionError(
            f"{__grains__['id']} has not exchanged its data yet: run the restore again"
        )
    _wait_for_turn(member)
    etcd_ha_progress.release()
    cure = "The balancers stay closed; fix that, and run the restore again"
    with etcd_ha_faces.told(etcd_ha_data.DataError, cure=cure):
        etcd_ha_data.start(member["start_timeout"])
    found = _count(member, progress["revision"], member["start_timeout"])
    if found != progress["keys"]:
        raise CommandExecutionError(
            f"etcd holds {found} keys at revision {progress['revision']}, the backup has "
            f"{progress['keys']}. The balancers stay closed; look at journalctl -u etcd, and "
            "restore another backup"
        )
    etcd_ha_progress.write(etcd_ha_progress.RESTORE, progress, "started")
    return {"revision": progress["revision"], "keys": found}


def finish(cluster, token):
    """
    Open the balancer of this host again, and remove what the restore needed; all is well by now.

    What was set aside stays where it is.

    cluster
        The name of the cluster (text).

    token
        The token of the restore (text).

    Returns a dict: ``opened`` (the balancer's service, or empty).

    Raises CommandExecutionError when this member has not started with the backup's data, or the
    balancer does not start.

    CLI Example:

    .. code-block:: bash

        salt '*' etcd_ha_restore.finish main main-restored-1
    """
    etcd_ha_faces.sound(locals())
    host = __salt__["etcd_ha.wanted_host"]()
    if host["member"] and host["member"]["cluster"] == cluster:
        progress = etcd_ha_progress.read(etcd_ha_progress.RESTORE)
        if not etcd_ha_progress.has_passed(progress, token, "started"):
            raise CommandExecutionError(
                f"{__grains__['id']} has not started with the restored data: run the restore again"
            )
        for folder in (host["member"]["data_dir"], host["member"]["wal_dir"]):
            if folder:
                shutil.rmtree(etcd_ha_data.beside(folder), ignore_errors=True)
        etcd_ha_progress.write(etcd_ha_progress.RESTORE, progress, "done")
    return {"opened": _open_balancer(cluster)}


def stop(cluster):
    """
    Stop etcd on a member whose cluster is about to go on from another one.

    cluster
        The name of the cluster (text).

    Returns True.

    Raises CommandExecutionError when it still runs, or this is no member.

    CLI Example:

    .. code-block:: bash

        salt etcd2.example.com etcd_ha_restore.stop main
    """
    etcd_ha_faces.sound(locals())
    member = _member(cluster)
    with etcd_ha_faces.told(etcd_ha_data.DataError):
        etcd_ha_data.stop(member["start_timeout"])
    return True


def force(cluster, revision=0, confirm=""):
    """
    Go on from this member's data alone: a cluster of one, which the others can join.

    For ``etcd_ha.orch.recover``, which compares the data of all members first. By hand it may lose
    writes that only others hold.

    etcd works on a copy; the original is set aside as it was. ``force-new-cluster`` stands in no
    file that outlives its one start. After a crash of etcd 3.4 the database may be ahead of what
    the log knows to be committed, and a forced start would then pass over as many new writes
    without a word: there the cluster is made of the database instead.

    cluster
        The name of the cluster (text).

    revision : 0
        The revision (int) that the data must have reached.

    confirm
        The name of the cluster again (text); without it nothing is done.

    Returns a dict: ``aside`` (list of paths) and ``revision`` (int).

    Raises CommandExecutionError when a member of the cluster has a quorum or may have one, when
    there is no data or no room, or etcd does not start so; the original is still there then. Raises
    SaltInvocationError without the confirmation.

    CLI Example:

    .. code-block:: bash

        # Use etcd_ha.orch.recover instead. With the cluster's name in the place of NAME:
        salt etcd1.example.com etcd_ha_restore.force main confirm=NAME
    """
    etcd_ha_faces.sound(locals(), confirm="text?")
    if confirm != cluster:
        raise SaltInvocationError(
            "forcing a member into a cluster of its own may lose writes that others hold, so the "
            "cluster's name is asked for (confirm=NAME). Nothing was done. To recover a cluster "
            "run salt-run state.orchestrate etcd_ha.orch.recover, which compares all members first"
        )
    member = _member(cluster)
    etcd_ha_progress.refuse_broken(etcd_ha_progress.RECOVER)
    progress = etcd_ha_progress.read(etcd_ha_progress.RECOVER)
    with etcd_ha_faces.told(
        etcd_ha_data.DataError,
        etcd_ha_database.DatabaseError,
        OSError,
        cure="What was set aside is as it was; remove the cause and run the recovery again",
    ):
        if progress.get("phase", "done") == "done":
            _refuse_quorum(member)
            _refuse_exchange(member)
            _refuse_no_copy(member["data_dir"], member["wal_dir"])
            etcd_ha_data.stop(member["start_timeout"])
            progress = _copied(member)
        progress["aside"] = _exchanged(member, f"recovered-{progress['date']}")
        _start_forced(member, progress["way"])
    found = _alone(member, revision)
    for folder in (member["data_dir"], member["wal_dir"]):
        if folder:
            shutil.rmtree(etcd_ha_data.beside(folder), ignore_errors=True)
    _remember(member)
    etcd_ha_progress.write(etcd_ha_progress.RECOVER, progress, "done")
    return {"aside": progress["aside"], "revision": found}


# The file, and what is made of it


def _serve(member, about, path, needed, ready):
    """Give the others the file, and meanwhile make this member's data of it."""
    if needed:
        about = {**about, "sha256": _verified(path, about["sha256"])}
    guests = {
        one["address"]: one["names"] for one in _others(member) if one["minion"] != __grains__["id"]
    }
    at = (_address(member, __grains__["id"]), _port(member))
    with etcd_ha_transfer.served(path, at, guests, _identity(member)) as service:
        found, failure = ready, None
        if needed:
            try:
                found = _stage(member, about, path)
            except CommandExecutionError as err:
                # The others have theirs first, so that the next run needs only this one.
                failure = err
        service.wait(PATIENCE)
        if failure:
            raise failure
    return found


def _as_guest(member, about, source, path, needed, ready):
    own = _address(member, __grains__["id"])
    at, identity = (_address(member, source), _port(member)), _identity(member)
    if needed and _is_here(path, about["sha256"]):
        etcd_ha_transfer.fetch(at, identity, PATIENCE, source=own)
        return _stage(member, about, path)
    if not needed:
        etcd_ha_transfer.fetch(at, identity, PATIENCE, source=own)
        return ready
    fetched = _fetched(member)
    try:
        _refuse_full(member["data_dir"], 0)
        etcd_ha_transfer.fetch(at, identity, PATIENCE, fetched, own)
        return _stage(member, about, fetched)
    finally:
        etcd_ha_progress.remove(fetched)


def _from_master(member, about, path):
    fetched = _fetched(member)
    try:
        if not __salt__["cp.get_file"](path, fetched):
            raise CommandExecutionError(
                f"{path} is not on the master's file server; nothing was stopped. Put it there, or "
                "name a backup that lies on a member"
            )
        os.chmod(fetched, 0o600)
        return _stage(member, about, fetched)
    finally:
        etcd_ha_progress.remove(fetched)


def _fetched(member):
    folder = etcd_ha_data.beside(member["data_dir"])
    shutil.rmtree(folder, ignore_errors=True)
    etcd_ha_common_files.make_directory(folder, 0o700, fresh=True)
    return f"{folder}/snapshot.db"


def _is_here(path, sha256):
    """Whether the same backup lies on this host at the same place."""
    try:
        return bool(sha256) and etcd_ha_snapshot.told_hash(path) == sha256
    except (OSError, ValueError):
        return False


def _verified(path, sha256):
    try:
        found = etcd_ha_snapshot.verified_hash(path)
    except (OSError, ValueError) as err:
        raise CommandExecutionError(
            f"{path}: {err}. Nothing was stopped; take another one"
        ) from err
    if sha256 and found != sha256:
        raise CommandExecutionError(
            f"{path} is not the backup that the plan was made for. Nothing was stopped; run the "
            "restore again, which plans anew"
        )
    return found


def _stage(member, about, path):
    """The member's directories of a snapshot; what is told of them is written last."""
    try:
        told = etcd_ha_snapshot.told_hash(path)
        held = etcd_ha_database.content(path)
        keys = etcd_ha_database.count_keys(path)
    except (OSError, ValueError) as err:
        raise CommandExecutionError(
            f"the backup is not whole: {err}. Nothing was stopped; take another one"
        ) from err
    if about["sha256"] and told != about["sha256"]:
        raise CommandExecutionError(
            "what arrived is not the backup that the plan was made for. Nothing was stopped; run "
            "the restore again, which plans anew"
        )
    if about["expected"] is not None and keys != about["expected"]:
        raise CommandExecutionError(
            f"the backup holds {keys} keys, and is said to hold {about['expected']}. Nothing was "
            "stopped; take another one"
        )
    _refuse_newer(held.version)
    _refuse_full(member["data_dir"], os.path.getsize(path))
    # What another restore has left here is not to be taken for this one's.
    etcd_ha_progress.remove(_told(member["data_dir"]))
    target = _target(member)
    command = etcd_ha_snapshot.restore_command(
        _tool(),
        path,
        target,
        member["environment"],
        about["token"],
        member["environment"]["ETCD_INITIAL_CLUSTER"],
        etcd_ha_restore.bump(about["token"]) if _can_bump() else 0,
    )
    with etcd_ha_faces.told(
        etcd_ha_data.DataError,
        cure="Nothing was stopped or changed: take another backup, or make room",
    ):
        etcd_ha_data.make(command, [f for f in target if f], member["user"], member["group"])
    staged = etcd_ha_database.content(f"{target[0]}/member/snap/db")
    found = {"token": about["token"], "sha256": told, "source": about["source"]}
    found |= {"revision": staged.revision, "keys": keys, "phase": "staged"}
    etcd_ha_machine.write_json(_told(member["data_dir"]), found)
    return found


def _staged(data_dir):
    """What lies ready beside the data; empty where it is not whole."""
    return etcd_ha_progress.read(_told(data_dir))


def _told(data_dir):
    return f"{etcd_ha_data.beside(data_dir)}/restore.json"


def _target(member):
    """Where etcd's tool makes the data directory, and the log's where it has its own."""
    data, log = member["data_dir"], member["wal_dir"]
    return f"{etcd_ha_data.beside(data)}/data", f"{etcd_ha_data.beside(log)}/wal" if log else ""


def _listens(url):
    try:
        return etcd_ha_machine.listens(url)
    except OSError as err:
        raise CommandExecutionError(
            f"whether the member at {url} runs cannot be known from here ({err}), so neither "
            "whether the others have a quorum. Nothing was stopped. Mend this host's network, or "
            "see: salt-run etcd_ha.status"
        ) from err


def _exchanged(member, why):
    """Put what lies ready in place; returns where the former directories are by now."""
    pairs = etcd_ha_data.places(member["data_dir"], member["wal_dir"])
    aside = [etcd_ha_data.put_in_place(place, staged, why) for place, staged in pairs]
    return [one for one in dict.fromkeys(aside) if one]


def _refuse_quorum(member):
    """A cluster that has a quorum, or may have one, is never forced: it heals without loss."""
    if __salt__["etcd_ha.local_health"]()["healthy"]:
        raise CommandExecutionError(_HAS_QUORUM.format(who="this member"))
    others = [url for url in etcd_ha_client.others(member).split(",") if url]
    listening = [url for url in others if _listens(url)]
    if not listening:
        return
    try:
        healthy = etcd_ha_client.healthy(member, 10, ",".join(listening))
    except etcd_ha_etcdctl.EtcdctlError as err:
        raise CommandExecutionError(
            f"{', '.join(listening)} listens, and it is not known whether it has a quorum ({err}). "
            "Nothing was stopped. Stop etcd there, or see: salt-run etcd_ha.status"
        ) from err
    if healthy:
        raise CommandExecutionError(_HAS_QUORUM.format(who=", ".join(sorted(healthy))))


_HAS_QUORUM = (
    "{who} has a quorum, so nothing was stopped. A cluster with a quorum heals without loss: "
    "salt-run state.orchestrate etcd_ha.orch"
)


def _refuse_no_copy(data, log):
    """No data, or no room for a copy of it, is no reason to stop etcd."""
    if not etcd_ha_common_files.is_directory(f"{data}/member"):
        raise CommandExecutionError(
            f"{data} holds no data to go on from, and nothing was stopped. Go on from another "
            "member (survivor), or restore a backup"
        )
    needed = etcd_ha_data.size(f"{data}/member") + etcd_ha_recover.ROOM
    needed += etcd_ha_data.size(f"{log}/wal") if log else 0
    _refuse_no_inodes(data)
    if etcd_ha_data.free(data) < needed:
        raise CommandExecutionError(
            f"{data} has no room for a copy of the data, and nothing was stopped: make some there"
        )


def _refuse_exchange(member):
    """What would fail once etcd is stopped is said before it is."""
    told = etcd_ha_data.exchange_fault(member["data_dir"], member["wal_dir"])
    if told:
        raise CommandExecutionError(
            f"the data here cannot be exchanged, and nothing was stopped: {told}. Then run this "
            "again"
        )


def _remember(member):
    """That this host holds the cluster's data is kept outside the data directory."""
    environment = member["environment"]
    there = etcd_ha_host_etcds.content(member["data_dir"], environment.get("ETCD_WAL_DIR", ""))
    ids = there["cluster_id"], there["member_id"]
    made = etcd_ha_host_record.made(member["cluster"], "bootstrapped", environment, *ids)
    etcd_ha_host_record.write(member["record"], made)


def _evidence(data_dir, wal_dir):
    """What the data here proves, with what etcd itself has made of it in an examination."""
    found = None
    if os.path.exists(etcd_ha_host_examine.VERDICT):
        # Where etcd was never asked, its program need not be there either.
        release = __salt__["etcd_ha.version"]()["installed"]
        found = etcd_ha_host_examine.read(data_dir, wal_dir or "", release)
    return etcd_ha_survivor.evidence(data_dir, f"{wal_dir}/wal" if wal_dir else "", found)


def _copied(member):
    """Lay a copy of the data ready, or what etcd's tool makes of its database; say which way."""
    data, log = member["data_dir"], member["wal_dir"]
    proof = _evidence(data, log)
    if not proof["has_data"] or proof.get("fault"):
        raise CommandExecutionError(
            f"{data} holds no data to go on from ({proof.get('fault', 'it is empty')}). Go on from "
            "another member (survivor), or restore a backup"
        )
    if etcd_ha_data.free(data) < proof["size"] + etcd_ha_recover.ROOM:
        raise CommandExecutionError(f"{data} has no room for a copy of the data: make some there")
    installed = _installed()
    ahead = installed.minor < 5 and proof["kept"] > proof["commit"]
    progress = {"way": "database" if ahead else "force", "date": time.strftime("%Y%m%d-%H%M%S")}
    if ahead:
        name, url = (member["environment"][f"ETCD_{one}"] for one in _IDENTITY)
        target = _target(member)
        token = f"{member['environment']['ETCD_INITIAL_CLUSTER_TOKEN']}-recovered"
        command = etcd_ha_snapshot.restore_command(
            _tool(),
            f"{data}/member/snap/db",
            target,
            member["environment"],
            f"{token}-{progress['date']}",
            f"{name}={url}",
            check=False,
        )
        made = [folder for folder in target if folder]
        etcd_ha_data.make(command, made, member["user"], member["group"])
    else:
        for place, staged in etcd_ha_data.places(data, log):
            etcd_ha_data.copy(place, staged)
            # Put here by hand, it may belong to anybody.
            etcd_ha_data.give(staged, member["user"], member["group"])
    for folder in filter(None, (data, log)):
        etcd_ha_machine.sync_tree(etcd_ha_data.beside(folder))
    return etcd_ha_progress.write(etcd_ha_progress.RECOVER, progress, "copied")


def _start_forced(member, way):
    """One start with force-new-cluster, from a file on a tmpfs that is gone once etcd has read it.

    Where it has been done before, it does no harm: a cluster of one is made one again.
    """
    if etcd_ha_common_systemd.unit("etcd.service").is_up:
        etcd_ha_data.stop(member["start_timeout"])
    forced = {"ETCD_FORCE_NEW_CLUSTER": "true"} if way == "force" else {}
    if forced:
        text = etcd_ha_environment.file_text(forced)
        etcd_ha_machine.write_text(etcd_ha_host.BOOTSTRAP_FILE, text, 0o644)
    try:
        etcd_ha_data.start(member["start_timeout"])
    finally:
        if os.path.exists(etcd_ha_host.BOOTSTRAP_FILE):
            os.unlink(etcd_ha_host.BOOTSTRAP_FILE)


def _alone(member, revision):
    """See that etcd leads a cluster of one that has reached a revision; returns its revision."""
    deadline, told = time.monotonic() + member["start_timeout"], "no answer"
    while time.monotonic() < deadline:
        try:
            here = etcd_ha_client.serving_endpoint()
            own = etcd_ha_client.status(member, 10, here)[0]
            listed = etcd_ha_client.members(member, 10, here)
        except (etcd_ha_etcdctl.EtcdctlError, IndexError) as err:
            told = str(err)
            time.sleep(0.2)
            continue
        if len(listed) != 1 or own["revision"] < revision:
            raise CommandExecutionError(
                f"etcd came up with {len(listed)} members at revision {own['revision']}, and one "
                f"member at {revision} was expected. Look at journalctl -u etcd"
            )
        __salt__["etcd_ha_member.update"](member["environment"]["ETCD_INITIAL_ADVERTISE_PEER_URLS"])
        return own["revision"]
    raise CommandExecutionError(f"etcd does not answer: {told}. Look at journalctl -u etcd")


def _wait_for_turn(member):
    """Let the member before this one serve its peers first, for a while.

    At its start etcd compares its data with that of its peers, and serves none of them before it is
    done: of members that listen at the same moment each waits for all others, 7 s for each
    (etcdserver/corrupt.go, CheckInitialHashKV).
    """
    if etcd_ha_faces.unit("etcd.service").active:
        return
    listed = member["environment"].get("ETCD_INITIAL_CLUSTER", "").split(",")
    pairs = [one.partition("=")[::2] for one in listed]
    own = [name for name, _ in pairs].index(member["environment"]["ETCD_NAME"])
    if own:
        before = urllib.parse.urlsplit(pairs[own - 1][1])
        identity = _identity(member) if before.scheme == "https" else None
        etcd_ha_transfer.answers((before.hostname, before.port), identity, TURN)


def _count(member, revision, timeout):
    """How many keys this member's etcd has at a revision, once it answers.

    Leases go on from the start: keys may go with theirs meanwhile, but not at this revision.
    """
    command = ["get", "", "--from-key", "--keys-only", "--limit=1", f"--rev={revision}"]
    deadline, told = time.monotonic() + timeout, "no answer"
    while time.monotonic() < deadline:
        try:
            here = etcd_ha_client.serving_endpoint()
            done = etcd_ha_client.etcdctl(member, [*command, "-w", "json"], 30, here)
            return etcd_ha_etcdctl.count(done.json())
        except etcd_ha_etcdctl.EtcdctlError as err:
            told = str(err)
        time.sleep(0.2)
    raise CommandExecutionError(
        f"the keys at revision {revision} cannot be counted: {told}. The balancers stay closed; "
        "look at journalctl -u etcd"
    )


def _refuse_newer(version):
    own = _installed()
    known = etcd_ha_release.is_version(version)
    if known and etcd_ha_release.parse(version).minor > own.minor:
        raise CommandExecutionError(
            f"the backup is of etcd {version}, and {own} cannot read it. Nothing was stopped; set "
            "version in the pillar to its line or a newer one"
        )


def _installed():
    found = __salt__["etcd_ha.version"]()["installed"]
    if not etcd_ha_release.is_version(found):
        raise CommandExecutionError(
            "etcd here does not tell its version (etcd --version), so it is not known what it can "
            "read. Nothing was stopped; run salt-run state.orchestrate etcd_ha.orch"
        )
    return etcd_ha_release.parse(found)


def _refuse_no_inodes(folder):
    fault = etcd_ha_data.inodes_fault(folder)
    if fault:
        raise CommandExecutionError(f"{fault}. Nothing was stopped")


def _refuse_full(folder, size):
    _refuse_no_inodes(folder)
    needed, free = size + etcd_ha_restore.ROOM, etcd_ha_data.free(folder)
    if free < needed:
        raise CommandExecutionError(
            f"{folder} has {free} bytes free, and {needed} are needed beside the present data. "
            "Nothing was stopped; make room there"
        )


def _tool():
    """etcdutl; before 3.5 there is none, and from 3.6 on etcdctl restores no more."""
    found = etcd_ha_client.program("etcdutl")
    return found if os.path.isabs(found) else etcd_ha_client.program("etcdctl")


def _can_bump():
    """Whether etcd's tool can raise the revision: a late 3.5 or newer."""
    with etcd_ha_faces.told(cure="Nothing was stopped or changed"):
        done = etcd_ha_common_process.run([_tool(), "snapshot", "restore", "--help"], 10)
    return "--bump-revision" in done.out + done.err


# What is known of a backup


def _is_backup(name):
    return name.endswith(".db") and not name.startswith(".")


def _known(path):
    """A backup by its sidecar, without reading it; one without (before an upgrade) by its date."""
    told = etcd_ha_restore.sidecar(etcd_ha_machine.read_json(f"{path.removesuffix('.db')}.json"))
    here = os.stat(path)
    written = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(here.st_mtime))
    found = {
        "path": path,
        "size": here.st_size,
        "sha256": told.get("sha256", ""),
        "revision": told.get("revision", 0),
        "version": told.get("version", told.get("etcd_version", "")),
        "keys": told.get("keys"),
        "when": str(told.get("when", written)),
        "verified": bool(told.get("verified")),
        "cluster": told.get("cluster", ""),
    }
    if told.get("size", found["size"]) != found["size"]:
        found["fault"] = f"it has {found['size']} bytes instead of {told['size']}"
    return found


def _checked(path):
    """A backup that was read whole, with what its sidecar adds."""
    found = _known(path)
    try:
        sha256 = etcd_ha_snapshot.verified_hash(path)
        held = etcd_ha_database.content(path)
    except (OSError, ValueError) as err:
        return {**found, "fault": str(err)}
    if found.get("sha256", sha256) not in ("", sha256):
        return {**found, "fault": "its hash is not the one that was written down with it"}
    version = held.version or found.get("version", "")
    return {**found, "sha256": sha256, "revision": held.revision, "version": version}


# Hosts, ports, certificates


def _member(cluster):
    return etcd_ha_faces.of_cluster(__salt__["etcd_ha.wanted_host"](), cluster)


def _others(member):
    return member["transfer"]["members"]


def _port(member):
    return member["transfer"]["port"]


def _address(member, minion):
    return next(one["address"] for one in _others(member) if one["minion"] == minion)


def _identity(member):
    """This member's peer certificate; None in a cluster without TLS."""
    if not member["pki"]:
        return None
    folder = member["pki"]["dir"]
    return etcd_ha_transfer.Identity(
        member["pki"]["ca_certificate"], f"{folder}/peer.crt", f"{folder}/peer.key"
    )


def _close_balancer(cluster, token):
    """Stop the balancer here, and have nobody start it before it is opened again."""
    mark = etcd_ha_client.certain_mark().get("balancer", {})
    if mark.get("cluster") != cluster:
        return ""
    service = __salt__["etcd_ha.os_data"]()[mark["kind"]]["service"]
    if not etcd_ha_progress.read(etcd_ha_progress.CLOSED):
        etcd_ha_progress.write(
            etcd_ha_progress.CLOSED, {"service": service, "token": token}, "closed"
        )
    cure = f"Look at systemctl status {service}, and run the restore again"
    with etcd_ha_faces.told(cure=cure):
        etcd_ha_common_systemd.systemctl("mask", service)
        etcd_ha_common_systemd.systemctl("stop", service, timeout=120)
        found = etcd_ha_common_systemd.unit(service)
    if found.is_up:
        raise CommandExecutionError(
            f"{service} did not stop. Look at journalctl -u {service} there"
        )
    return service


def _open_balancer(cluster):
    if not etcd_ha_common_files.exists(etcd_ha_progress.CLOSED):
        return ""
    service = etcd_ha_progress.read(etcd_ha_progress.CLOSED).get("service") or _own_service()
    cure = f"{service} does not start again. The data is restored; fix that and run this again"
    with etcd_ha_faces.told(cure=cure):
        etcd_ha_common_systemd.systemctl("unmask", service)
        # To unmask a unit removes the links by which it starts at boot (seen with systemd 252).
        etcd_ha_common_systemd.systemctl("enable", service)
        etcd_ha_common_systemd.systemctl("start", service)
    etcd_ha_progress.remove(etcd_ha_progress.CLOSED)
    return service


def _own_service():
    """The balancer's service by the last converge, where what was written down is lost."""
    mark = etcd_ha_client.certain_mark().get("balancer", {})
    if not mark:
        raise CommandExecutionError(
            f"{etcd_ha_progress.CLOSED} cannot be read, so it is not known which balancer was "
            "closed here. Unmask and start it (systemctl unmask --now NAME), remove that file, and "
            "run this again"
        )
    return __salt__["etcd_ha.os_data"]()[mark["kind"]]["service"]
