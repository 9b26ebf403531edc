"""
The place of this minion's etcd in its cluster: entering, being promoted, leaving, and what is kept.

The orchestrate calls these; each looks at the live cluster again before it acts, since a plan is
some seconds old by then, and each may be called again after an interruption.

:depends: etcdctl, which the formula installs on members
"""

import contextlib
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_backup_host
import etcd_ha_backup_program
import etcd_ha_client
import etcd_ha_common_files
import etcd_ha_common_process
import etcd_ha_common_systemd
import etcd_ha_data
import etcd_ha_etcd_metrics
import etcd_ha_etcdctl
import etcd_ha_faces
import etcd_ha_hashes
import etcd_ha_host
import etcd_ha_host_etcds
import etcd_ha_host_in_force
import etcd_ha_host_paused
import etcd_ha_host_record
import etcd_ha_host_start
import etcd_ha_machine
import etcd_ha_membership
import etcd_ha_pem
import etcd_ha_progress
import etcd_ha_release
import etcd_ha_snapshot
from etcd_ha_common_process import ProgramError
from salt.exceptions import CommandExecutionError

__virtualname__ = "etcd_ha_member"

# Entries of the log by which a learner may be behind when it is promoted. etcd itself is content
# with 90% of the leader's (server/etcdserver/server.go, readyPercentThreshold).
LAG = 500
SNAPSHOTS = "/var/lib/etcd_ha/snapshots"
UNITS = "/etc/systemd/system"
# Where it is not known how far a member is behind.
_UNKNOWN = 1 << 62
# Seconds for a member's hash: it reads its whole database.
HASH_TIMEOUT = 60


def __virtual__():
    return __virtualname__


def enter(name, peer_url, usable, endpoints="", timeout=60, corrupt=False):
    """
    Have the cluster's member list hold this host as a learner that has not started yet.

    An entry of a lost incarnation (same peer address or name, but the data is gone) is taken out
    first, where the others are a quorum without it. So is a learner that has not started: it may
    have taken entries before its data was lost, and etcd ends by a panic (``tocommit is out of
    range``) where the leader takes a blank log for that one (etcd's issue 21178).

    name
        The member's name (text).

    peer_url
        The peer URL that it will advertise (text).

    usable
        Whether this host holds data that it can start with (bool).

    endpoints
        Client URLs of the cluster that runs (text, comma-separated); without it those in the file
        of root's etcdctl.

    timeout : 60
        Seconds (int or float) to try for: etcd refuses while it finds its voters badly connected.

    corrupt : False
        Whether this host's data was found to differ from the others' (bool). It is thrown away only
        where those others are a majority that holds the same: etcd's word alone does not say whose
        data is the wrong one.

    Returns a dict: ``keep`` (bool: the present data belongs to the entry and stays),
    ``initial_cluster`` (text, for the first start), and where it does not stay ``cluster_id`` and
    ``member_id`` (hex text).

    Raises CommandExecutionError when the others have no quorum, or do not hold the same, or etcd
    refuses.

    CLI Example:

    .. code-block:: bash

        salt etcd4.example.com etcd_ha_member.enter etcd4 https://192.168.200.64:2380 False
    """
    etcd_ha_faces.sound(locals())
    member = etcd_ha_faces.member()
    others = endpoints or etcd_ha_client.others(member)
    if not others:
        raise CommandExecutionError(
            "there is no other member whose cluster this one could enter. Give endpoints, or run "
            "salt-run state.orchestrate etcd_ha.orch, which knows them"
        )
    deadline = time.monotonic() + timeout
    entry = _own_entry(_listed(member, others), name, peer_url)
    if entry and usable:
        return {"keep": True, "initial_cluster": ""}
    waits = entry and not entry["started"] and peer_url in entry["peer_urls"]
    if entry and (entry["learner"] or not waits):
        _refuse_without_quorum(member, others, entry)
        if corrupt:
            _refuse_disagreeing(member, others, entry)
        _try(member, ["member", "remove", entry["id"]], others, deadline)
        entry = None
    if entry is None:
        _add(member, name, peer_url, others, deadline)
    listed = _listed(member, others)
    pairs = [f"{m['name'] or name}={url}" for m in listed for url in m["peer_urls"]]
    ids = {
        "cluster_id": etcd_ha_faces.status(member, 10, others)[0]["cluster_id"],
        "member_id": _own_entry(listed, name, peer_url)["id"],
    }
    return {"keep": False, "initial_cluster": ",".join(pairs), **ids}


def promote(endpoints="", timeout=300):
    """
    Wait until this member has caught up with the leader, and make it a voter if it is a learner.

    endpoints
        Client URLs of the cluster that runs (text, comma-separated); without it those in the file
        of root's etcdctl.

    timeout : 300
        Seconds (int or float) for both together.

    Returns a dict: ``promoted`` (bool) and ``lag`` (int, entries of the log behind the leader).

    Raises CommandExecutionError when it does not catch up in time or etcd refuses.

    CLI Example:

    .. code-block:: bash

        salt etcd4.example.com etcd_ha_member.promote
    """
    etcd_ha_faces.sound(locals())
    member, deadline, told = etcd_ha_faces.member(), time.monotonic() + timeout, "no answer"
    here = etcd_ha_client.serving_endpoint()
    watched = etcd_ha_host_start.Watched("etcd.service")
    while time.monotonic() < deadline:
        with etcd_ha_faces.told(etcd_ha_host_start.StartError):
            watched.check()
        try:
            own = etcd_ha_client.status(member, 5, here)
            others = endpoints or _reachable_through(member, own, here)
            lag = _lag(member, own, others)
            told = _behind(own, lag)
            if lag == _UNKNOWN and _reads_by_consensus(own):
                return {"promoted": False, "lag": 0}
            if own and lag <= LAG:
                if not own[0]["learner"]:
                    return {"promoted": False, "lag": lag}
                command = ["member", "promote", own[0]["member_id"]]
                _try(member, command, _leading(member, others), deadline)
                return {"promoted": True, "lag": lag}
        except etcd_ha_etcdctl.EtcdctlError as err:
            told = str(err)
        time.sleep(0.3)
    raise CommandExecutionError(
        f"this member has not caught up with its leader within {timeout} s ({told}). "
        "Look at journalctl -u etcd, and run the orchestrate again"
    )


def update(peer_url, timeout=30):
    """
    Tell the cluster the peer URL under which this member is about to be reached.

    peer_url
        The new URL (text).

    timeout : 30
        Seconds (int or float) to try for.

    Returns True when the list was changed, False when it has this URL already, or does not have
    this member.

    Raises CommandExecutionError when etcd refuses or does not answer.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_member.update https://192.168.200.52:2380
    """
    etcd_ha_faces.sound(locals())
    member, here = etcd_ha_faces.member(), etcd_ha_client.serving_endpoint()
    own = etcd_ha_faces.status(member, 10, here)[0]
    entry = next((m for m in _listed(member, here) if m["id"] == own["member_id"]), None)
    if entry is None or entry["peer_urls"] == [peer_url]:
        return False
    command = ["member", "update", own["member_id"], f"--peer-urls={peer_url}"]
    _try(member, command, here, time.monotonic() + timeout)
    return True


def remove(member_id, name="", timeout=30):
    """
    Take another member out of the list, after moving leadership away from it.

    Its own etcd then ends by itself; ``etcd_ha_member.retire`` tidies up there.

    member_id
        The id (hex text), as ``etcdctl member list`` has it.

    name
        Its name (text), for messages.

    timeout : 30
        Seconds (int or float) to try for.

    Returns True when it was taken out, False when it is not in the list.

    Raises CommandExecutionError when the others would be no quorum, or etcd refuses or does not
    answer.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_member.remove 8211f1d0f64f3269 etcd3
    """
    # A name is for messages alone here, and others may have given it.
    etcd_ha_faces.sound(locals(), name="text?")
    # Digits alone are a number to whoever reads a command line.
    member_id = str(member_id)
    member = etcd_ha_faces.member()
    entry = next((m for m in _listed(member, None) if m["id"] == member_id), None)
    if entry is None:
        return False
    _refuse_without_quorum(member, None, entry)
    _lead_instead_of(member, entry)
    _try(member, ["member", "remove", member_id], None, time.monotonic() + timeout)
    return True


def reason_to_keep(member_id):
    """
    Why another member must not be taken out of the list right now.

    member_id
        The id (hex text), as ``etcdctl member list`` has it.

    Returns text; empty when the voters left are a healthy quorum, when it is a learner, or in no
    list.

    Raises CommandExecutionError when etcd does not answer.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_member.reason_to_keep 8211f1d0f64f3269
    """
    etcd_ha_faces.sound(locals())
    # Digits alone are a number to whoever reads a command line.
    member_id = str(member_id)
    member = etcd_ha_faces.member()
    entry = next((m for m in _listed(member, None) if m["id"] == member_id), None)
    if entry is None:
        return ""
    try:
        _refuse_without_quorum(member, None, entry)
    except CommandExecutionError as err:
        return str(err)
    return ""


def add(name, peer_url, timeout=30):
    """
    Have the member list hold another member as a learner, which has no vote until it is promoted.

    A voter that has not started would count against the quorum, so none is ever added.

    name
        Its name (text).

    peer_url
        The peer URL that it will advertise (text).

    timeout : 30
        Seconds (int or float) to try for: etcd refuses while it finds its voters badly connected.

    Returns text for its first start: the ``initial-cluster``. A learner at this URL alone that was
    added before and has not started is not added again.

    Raises CommandExecutionError when etcd refuses, such as for a second learner, and when the list
    has another member at this peer URL.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_member.add etcd4 https://192.168.200.64:2380
    """
    etcd_ha_faces.sound(locals())
    member, here = etcd_ha_faces.member(), etcd_ha_client.serving_endpoint()
    listed = _listed(member, here)
    known = next((m for m in listed if peer_url in m["peer_urls"]), None)
    if known is None:
        _add(member, name, peer_url, here, time.monotonic() + timeout)
        listed = _listed(member, here)
    else:
        _refuse_another(known, peer_url)
    pairs = [f"{m['name'] or name}={u}" for m in listed for u in m["peer_urls"]]
    return ",".join(pairs)


def readdress(member_id, peer_url, timeout=30):
    """
    Tell the cluster under which peer URL another member is reached.

    member_id
        The id (hex text), as ``etcdctl member list`` has it.

    peer_url
        The new URL (text).

    timeout : 30
        Seconds (int or float) to try for.

    Returns True. Raises CommandExecutionError when etcd refuses.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_member.readdress 8211f1d0f64f3269 https://192.168.200.64:2380
    """
    etcd_ha_faces.sound(locals())
    # Digits alone are a number to whoever reads a command line.
    member_id = str(member_id)
    command = ["member", "update", member_id, f"--peer-urls={peer_url}"]
    here, deadline = etcd_ha_client.serving_endpoint(), time.monotonic() + timeout
    _try(etcd_ha_faces.member(), command, here, deadline)
    return True


def admit(member_id, timeout=30):
    """
    Make another member, a learner, a voter, once it is close to the leader.

    member_id
        The id (hex text), as ``etcdctl member list`` has it.

    timeout : 30
        Seconds (int or float) to wait until it is.

    Returns a dict: ``lag`` (int, entries of the log behind the leader), also of one that is a voter
    already.

    Raises CommandExecutionError when it is not in the list, has not started, does not catch up in
    time, or etcd refuses.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_member.admit 8211f1d0f64f3269
    """
    etcd_ha_faces.sound(locals())
    # Digits alone are a number to whoever reads a command line.
    member_id = str(member_id)
    member, here = etcd_ha_faces.member(), etcd_ha_client.serving_endpoint()
    deadline, told = time.monotonic() + timeout, "it has not started"
    while time.monotonic() < deadline:
        entry = next((m for m in _listed(member, here) if m["id"] == member_id), None)
        if entry is None:
            raise CommandExecutionError(
                f"the member list has no {member_id}; see salt ID etcd_ha.members for those that "
                "there are"
            )
        if entry["client_urls"]:
            try:
                own = etcd_ha_client.status(member, 5, ",".join(entry["client_urls"]))
                lag = _lag(member, own, etcd_ha_client.everyone(member))
                if own and lag <= LAG and not entry["learner"]:
                    return {"lag": lag}
                if own and lag <= LAG:
                    leading = _leading(member, etcd_ha_client.everyone(member))
                    _try(member, ["member", "promote", member_id], leading, deadline)
                    return {"lag": lag}
                told = _behind(own, lag)
            except etcd_ha_etcdctl.EtcdctlError as err:
                told = str(err)
        time.sleep(0.3)
    raise CommandExecutionError(
        f"{member_id} was not made a voter within {timeout} s: {told}. Start it and let it catch "
        "up, then run again"
    )


def record():
    """
    This host's record of its member: cluster, state, ids, directories.

    Returns a dict: ``cluster``, ``state`` (``bootstrapping`` or ``bootstrapped``), ``data_dir``,
    ``wal_dir``, ``cluster_id`` and ``member_id`` (all text; ids in hex, empty where etcd has not
    told them yet). Empty on a host that never was a member.

    CLI Example:

    .. code-block:: bash

        salt 'etcd*' etcd_ha_member.record
    """
    return etcd_ha_host_record.read()


def write_record(cluster, cluster_id, member_id, data_dir, wal_dir=""):
    """
    Write this host's lost record again; fails if the data is another member's.

    cluster
        The name of the cluster (text).

    cluster_id, member_id
        Whose data it is, as etcd tells it (hex text).

    data_dir, wal_dir : ""
        Where it lies (absolute paths); the second where the write-ahead log is not with the data.

    Returns True where it was written, False where it is there already.

    Raises CommandExecutionError where the data there is not this member's.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_member.write_record main cdf818194e3a8c32 \
            8211f1d0f64f3269 /var/lib/etcd
    """
    etcd_ha_faces.sound(locals())
    # Digits alone are a number to whoever reads a command line.
    ids = str(cluster_id), str(member_id)
    there = etcd_ha_host_etcds.content(data_dir, wal_dir)
    if (there["cluster_id"], there["member_id"]) != ids:
        told = there["fault"] or "found no ids"
        if there["member_id"]:
            told = f"found member {there['member_id']} of cluster {there['cluster_id']}"
        raise CommandExecutionError(
            f"the data in {data_dir} is not that of member {ids[1]} of cluster {ids[0]}: {told}. "
            f"The record was not written. See: salt {__grains__['id']} etcd_ha.etcds"
        )
    environment = {"ETCD_DATA_DIR": data_dir, "ETCD_WAL_DIR": wal_dir}
    made = etcd_ha_host_record.made(cluster, "bootstrapped", environment, *ids)
    return etcd_ha_host_record.write(etcd_ha_host_record.path(cluster), made)


def retire(cluster, purge=False, whole=False):
    """
    Stop etcd on a host that is no member any more, and set its data aside.

    cluster
        The name of the cluster that it left (text).

    purge : False
        Delete the data instead of setting it aside (bool).

    whole : False
        The whole cluster is to go: stop a member that is healthy, and a balancer, too (bool).

    Returns a dict: ``stopped`` (bool; False where the formula left nothing here) and ``aside``
    (list of the directories' new paths; empty with ``purge``).

    Raises CommandExecutionError when this host belongs to another cluster, is still a member, or
    etcd does not stop.

    CLI Example:

    .. code-block:: bash

        salt etcd3.example.com etcd_ha_member.retire main
    """
    etcd_ha_faces.sound(locals())
    record_file = etcd_ha_host.record_file(cluster)
    record, configured = etcd_ha_host_record.of(record_file), etcd_ha_client.configured()
    if not record and not etcd_ha_common_files.exists(etcd_ha_machine.MARK_FILE):
        return {"stopped": False, "aside": []}
    _refuse_foreign()
    if whole:
        _stop_balancer(cluster)
        if not record:
            return {"stopped": True, "aside": []}
    if record.get("cluster") != cluster:
        raise CommandExecutionError(
            f"this host holds no record of the cluster {cluster} ({record_file}); nothing is done. "
            "See salt ID etcd_ha.facts for what it holds"
        )
    if not whole and __salt__["etcd_ha.local_health"]()["healthy"]:
        raise CommandExecutionError(
            f"etcd here is still a healthy member of {cluster}: take it out of the list first "
            "(etcd_ha_member.remove on another member)"
        )
    _end("etcd.service")
    known = etcd_ha_client.member_on_disk()
    _end_backups(known["config_dir"] if known else "")
    folders = [configured.get("ETCD_DATA_DIR"), os.path.dirname(configured.get("ETCD_WAL_DIR", ""))]
    aside = set_aside([folder for folder in folders if folder], "removed", purge)
    for path in (record_file, etcd_ha_machine.MARK_FILE):
        if etcd_ha_common_files.lexists(path):
            os.unlink(path)
    etcd_ha_host_in_force.forget()
    etcd_ha_host_paused.lift()
    # A restore that was begun here has no cluster any more to be ended for.
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(etcd_ha_progress.FOLDER)
    return {"stopped": True, "aside": aside}


def retire_balancer(cluster):
    """
    Stop the balancer on a host that is none any more, and what keeps a virtual address there.

    cluster
        The name of the cluster that it led to (text).

    Returns a dict: ``stopped`` (bool), whether there was one of this cluster.

    Raises CommandExecutionError when it does not stop.

    CLI Example:

    .. code-block:: bash

        salt lb2.example.com etcd_ha_member.retire_balancer main
    """
    etcd_ha_faces.sound(locals())
    balancer = etcd_ha_client.certain_mark().get("balancer", {})
    if balancer.get("cluster") != cluster:
        return {"stopped": False}
    _stop_balancer(cluster)
    return {"stopped": True}


def served_by_one_ca(timeout=5):
    """
    See that every member serves clients and peers with a certificate of the CA that signed ours.

    The gate before a former CA is trusted no longer: with this member's own certificates, and none
    but the CA that signed them, each member must be reached.

    timeout : 5
        Seconds (int or float) to wait for each of them.

    Returns the list of the addresses that were reached, as ``host:port``.

    Raises CommandExecutionError that names those which were not, and where this member's own
    certificates cannot be read.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_member.served_by_one_ca
    """
    etcd_ha_faces.sound(locals())
    member = etcd_ha_faces.member()
    folder = f"{member['config_dir']}/pki"
    listed = _listed(member, etcd_ha_client.serving_endpoint())
    reached, failed = [], []
    for purpose, kind in (("server", "client_urls"), ("peer", "peer_urls")):
        pair = f"{folder}/{purpose}.crt", f"{folder}/{purpose}.key"
        leaf, trusted = (etcd_ha_machine.read_text(f) for f in (pair[0], f"{folder}/ca.crt"))
        try:
            ca = etcd_ha_pem.of_signer(leaf, trusted)
        except ValueError as err:
            raise CommandExecutionError(
                f"the certificates in {folder} cannot be read ({err}). Run salt-run "
                "state.orchestrate etcd_ha.orch, which puts them right"
            ) from err
        urls = (url for entry in listed for url in entry[kind])
        for url in (one for one in urls if one.startswith("https://")):
            try:
                etcd_ha_machine.shake_hands(url, ca, pair, timeout)
                reached.append(url.partition("://")[2])
            except OSError as err:
                failed.append(f"{url} ({err})")
    if failed:
        raise CommandExecutionError(
            f"not every member serves a certificate of the new CA yet: {', '.join(failed)}. The "
            "former CA stays trusted; look at journalctl -u etcd there, and run the orchestrate "
            "again"
        )
    return sorted(reached)


def handshakes(client_urls, peer_urls, timeout=5):
    """
    See that a member accepts this host's certificates, and shows ones that this host trusts.

    On a member by its server and peer certificates; on a balancer by the one for its checks, and at
    the client URLs alone. Where an URL is this host's own, its etcd must serve the certificate that
    lies on disk.

    client_urls
        Where the member serves clients (list of URLs, as ``https://host:port``).

    peer_urls
        Where it is reached by its peers (list of URLs).

    timeout : 5
        Seconds (int or float) to try for.

    Returns the list of the addresses that were reached, as ``host:port``.

    Raises CommandExecutionError that names those which were not, with the reason, and where this
    host has no certificates.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_member.handshakes '[https://192.168.200.62:2379]' \
            '[https://192.168.200.62:2380]'
    """
    etcd_ha_faces.sound(locals())
    mark = etcd_ha_client.mark()
    if "member" not in mark and mark.get("balancer", {}).get("certificate"):
        own = mark["balancer"]
        tried = [(url, own["certificate"], own["key"], own["ca"]) for url in client_urls]
    else:
        folder = f"{etcd_ha_faces.member()['config_dir']}/pki"
        tried = [
            (url, f"{folder}/{purpose}.crt", f"{folder}/{purpose}.key", f"{folder}/ca.crt")
            for purpose, urls in (("server", client_urls), ("peer", peer_urls))
            for url in urls
        ]
    failed = [why for one in tried for why in [_refused_handshake(*one, timeout)] if why]
    if failed:
        raise CommandExecutionError(
            f"a handshake failed: {'; '.join(failed)}. No other member was given new certificates. "
            "Look at journalctl -u etcd there, correct the files that tls:files names, and run "
            "salt-run state.orchestrate etcd_ha.orch again"
        )
    return sorted({one[0].partition("://")[2] for one in tried})


def _refused_handshake(url, certificate, key, ca, timeout):
    """Why a handshake there fails for as long as this; empty where it passes."""
    deadline, own = time.monotonic() + timeout, etcd_ha_client.configured()
    listens = [own.get(f"ETCD_LISTEN_{kind}_URLS", "") for kind in ("CLIENT", "PEER")]
    is_own = url in ",".join(listens).split(",")
    while True:
        try:
            text = etcd_ha_machine.read_text(ca)
            served = etcd_ha_machine.shake_hands(url, text, (certificate, key), timeout)
            if not is_own or etcd_ha_pem.is_leaf(served, etcd_ha_machine.read_text(certificate)):
                return ""
            why = f"it does not serve {certificate}, but another one"
        except (OSError, ValueError) as err:
            why = str(err)
        if time.monotonic() > deadline:
            return f"{url} ({why})"
        time.sleep(0.3)


def set_aside(folders, why, purge=False):
    """
    Move the content of data directories out of the way, under a name with the date.

    folders
        The directories (list of absolute paths); those without content are passed over.

    why
        A word for the new name (text), such as ``removed``.

    purge : False
        Delete instead (bool).

    Returns the list of new paths; empty with ``purge``.

    Raises CommandExecutionError where an etcd that somebody else set up is in the way.

    CLI Example:

    .. code-block:: bash

        salt etcd3.example.com etcd_ha_member.set_aside '[/var/lib/etcd]' removed
    """
    etcd_ha_faces.sound(locals())
    _refuse_foreign()
    aside = []
    for folder in dict.fromkeys(folders):
        target = etcd_ha_data.set_aside(folder, why, time.strftime("%Y%m%d-%H%M%S"))
        if target and purge:
            shutil.rmtree(target)
        elif target:
            aside.append(target)
    return aside


def snapshot(cluster, name, timeout=600):
    """
    Save a snapshot of this member's data on this host, and check its own hash.

    cluster
        The name of the cluster (text).

    name
        What it is for (text), such as ``before-3.6.14``.

    timeout : 600
        Seconds (int or float) to wait for it.

    Returns a dict: ``path``, ``size`` (bytes) and ``sha256`` (of the data in it).

    Raises CommandExecutionError when it cannot be taken or its hash is wrong; no file is left then.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_member.snapshot main by-hand
    """
    etcd_ha_faces.sound(locals())
    path = f"{SNAPSHOTS}/{cluster}-{name}-{time.strftime('%Y%m%d-%H%M%S')}.db"
    part = f"{path}.part"
    try:
        etcd_ha_common_files.make_directory(SNAPSHOTS, 0o700)
        done = etcd_ha_client.etcdctl(etcd_ha_faces.member(), ["snapshot", "save", part], timeout)
        if done.code != 0:
            raise ValueError(done.err.strip()[-300:])
        found = etcd_ha_snapshot.verified_hash(part)
        os.chmod(part, 0o600)
        os.replace(part, path)
    except (etcd_ha_etcdctl.EtcdctlError, ValueError, OSError) as err:
        raise CommandExecutionError(
            f"the snapshot failed: {err}. See df {SNAPSHOTS} and journalctl -u etcd, and run it "
            "again"
        ) from err
    finally:
        for left in (part, f"{part}.part"):
            if os.path.exists(left):
                os.unlink(left)
    return {"path": path, "size": os.path.getsize(path), "sha256": found}


def allow_downgrade(version, timeout=30):
    """
    Tell the cluster that its members may go to an older minor line, and wait until they can.

    Each member then makes its database readable for the older line within some seconds
    (monitorStorageVersion in server/etcdserver/server.go); started before, the older program ends
    with ``version "3.7.0" is not supported``.
    https://etcd.io/docs/v3.6/downgrades/downgrade_3_6/

    version
        The release to go to (text), such as ``3.5.33``.

    timeout : 30
        Seconds (int or float) for etcd's answer, and as many for the databases.

    Returns True, also when it was told so before.

    Raises CommandExecutionError when etcd refuses or does not answer, or a member's database is not
    there in time.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_member.allow_downgrade 3.5.33
    """
    etcd_ha_faces.sound(locals())
    line = etcd_ha_release.parse(version).line
    # Once told so, the cluster's version goes down before its members do, and no line that is no
    # longer below it is taken.
    if not _cluster_version().startswith(f"{line}."):
        command = ["downgrade", "enable", line]
        with etcd_ha_faces.told(etcd_ha_etcdctl.EtcdctlError, cure=etcd_ha_faces.LOG):
            path = etcd_ha_client.newest("etcdctl")
            done = etcd_ha_client.etcdctl(etcd_ha_faces.member(), command, timeout, path=path)
        told = done.err.strip()
        if done.code != 0 and "downgrade job in progress" not in told:
            raise CommandExecutionError(
                f"etcd refuses the downgrade to {line}: {told[-300:]}. All members must run one "
                "line, and the one before it is the only way down; see salt-run etcd_ha.status"
            )
    listed = _listed(etcd_ha_faces.member(), etcd_ha_client.serving_endpoint())
    _wait_for_storage(version, etcd_ha_client.advertised(listed), timeout)
    return True


def leave_v2(timeout=600):
    """
    See that etcd 3.6 can read this member's log, and make it so where that needs only writes.

    3.6 does not start over requests of the v2 store in the log behind the newest snapshot, and
    3.4 logs one at each /health (server/etcdserver/api/etcdhttp/metrics.go of 3.4, ``QGET``). Some
    thousand writes of one key make etcd take a snapshot, behind which none is left.
    https://etcd.io/docs/v3.6/upgrades/upgrade_3_6/ asks for ``etcdutl check v2store`` first.

    timeout : 600
        Seconds (int or float) for all of it.

    Returns a dict: ``writes`` (int), how many it took.

    Raises CommandExecutionError when the v2 store holds data of the user's own, when the writes
    fail, or the time is over.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_member.leave_v2
    """
    etcd_ha_faces.sound(locals())
    deadline, writes, told = time.monotonic() + timeout, 0, ""
    while time.monotonic() < deadline:
        told = _v2_content()
        if not told:
            return {"writes": writes}
        if "WAL" not in told:
            break
        try:
            _write_often(1000)
        except (OSError, etcd_ha_etcdctl.EtcdctlError) as err:
            raise CommandExecutionError(
                f"writing to make etcd snapshot failed: {err}. Look at: salt-run etcd_ha.status, "
                "and run the orchestrate again"
            ) from err
        writes += 1000
    raise CommandExecutionError(
        f"etcd 3.6 would not start over this member's data: {told}. See "
        "https://etcd.io/docs/v3.6/upgrades/upgrade_3_6/ for moving data out of the v2 store"
    )


def ready_for(version, timeout=30):
    """
    Wait until the cluster as a whole has reached the line before a release, which may then run.

    https://etcd.io/docs/v3.6/upgrades/: one minor line at a time. The cluster's version follows
    its members within some seconds. On the way down, this member's database must have followed.
    Where this member runs the release's line already there is nothing to wait for.

    version
        The release that is about to be started here (text).

    timeout : 30
        Seconds (int or float) to wait for the cluster's version, and as many for the database.

    Returns the cluster's version (text); where this member runs that line already, its own.

    Raises CommandExecutionError when it is not there in time, or etcd does not answer.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_member.ready_for 3.6.14
    """
    etcd_ha_faces.sound(locals())
    wanted, deadline, found = etcd_ha_release.parse(version), time.monotonic() + timeout, "unknown"
    own = _wait_for_storage(version, etcd_ha_client.serving_endpoint(), timeout)
    if own and etcd_ha_release.parse(own[0]["version"]).line == wanted.line:
        # A cluster in which this line runs bears it, whether it can tell its own version or not.
        return own[0]["version"]
    while time.monotonic() < deadline:
        found = _cluster_version()
        if (
            etcd_ha_release.is_version(found)
            and etcd_ha_release.parse(found).minor >= wanted.minor - 1
        ):
            return found
        time.sleep(0.5)
    raise CommandExecutionError(
        f"the cluster's version is {found}, so etcd {version} must not be started yet. Bring all "
        f"members to 3.{wanted.minor - 1} first; the orchestrate does so"
    )


def _wait_for_storage(version, endpoints, timeout):
    """Wait until an older release can read the databases behind these endpoints; their status."""
    wanted, deadline = etcd_ha_release.parse(version), time.monotonic() + timeout
    path = etcd_ha_client.newest("etcdctl")
    while True:
        with etcd_ha_faces.told(etcd_ha_etcdctl.EtcdctlError, cure=etcd_ha_faces.LOG):
            rows = etcd_ha_client.status(etcd_ha_faces.member(), 10, endpoints, path)
        late = [row["endpoint"] for row in rows if _is_above(row, wanted)]
        if not late:
            return rows
        if time.monotonic() > deadline:
            raise CommandExecutionError(
                f"the database of {', '.join(late)} is not readable for etcd {wanted.line} "
                f"yet, so {version} must not be started there. Run the orchestrate again"
            )
        time.sleep(0.5)


def _is_above(row, wanted):
    """Whether a member's database is one that the line of a release cannot read."""
    stored = etcd_ha_release.parse(row["storage_version"] or row["version"])
    return stored.minor > wanted.minor


def _refuse_foreign():
    """Before anything is stopped: it must not be somebody else's."""
    refused = __salt__["etcd_ha.refusal"]()
    if refused:
        raise CommandExecutionError(refused)


def _stop_balancer(cluster):
    """Stop the balancer that the last converge left here, if it is this cluster's."""
    found = etcd_ha_client.certain_mark()
    balancer = found.pop("balancer", {})
    if balancer.get("cluster") != cluster:
        return
    data = __salt__["etcd_ha.os_data"]()
    service = data[balancer["kind"]]["service"]
    if balancer.get("virtual_address"):
        # It goes first: the address comes to another balancer while this one still serves.
        _end(data["keepalived"]["service"])
    if etcd_ha_common_files.exists(etcd_ha_progress.CLOSED):
        with etcd_ha_faces.told(cure=f"Unmask it (systemctl unmask {service}), and run this again"):
            etcd_ha_common_systemd.systemctl("unmask", service)
        etcd_ha_progress.remove(etcd_ha_progress.CLOSED)
    _end(service)
    # What a highstate would put back comes last: an interrupted stop is begun anew.
    etcd_ha_host_in_force.forget("balancer")
    etcd_ha_machine.write_json(etcd_ha_machine.MARK_FILE, {**found, "digest": ""})


def _end_backups(config_dir):
    """A host that is no member any more takes no backups: its timer would fail each night."""
    for unit in (etcd_ha_backup_host.TIMER, etcd_ha_backup_host.SERVICE):
        _end(unit)
        path = f"{UNITS}/{unit}"
        if os.path.lexists(path):
            os.unlink(path)
    with etcd_ha_faces.told(cure="Look at: systemctl status"):
        etcd_ha_common_systemd.systemctl("daemon-reload")
    # Last: until then the timer may start it.
    if etcd_ha_common_files.lexists(etcd_ha_backup_program.FOLDER):
        shutil.rmtree(etcd_ha_backup_program.FOLDER)
    # What opens the buckets and backups of those who stay is nothing for whoever has left.
    for path in etcd_ha_backup_host.files(config_dir) if config_dir else ():
        if etcd_ha_common_files.lexists(path):
            os.unlink(path)


def _end(unit):
    """Stop a unit for good, and see that it has ended."""
    with etcd_ha_faces.told(cure=f"Nothing else was done. Look at: systemctl status {unit}"):
        found = etcd_ha_common_systemd.unit(unit)
        if found.is_up:
            etcd_ha_common_systemd.systemctl("stop", unit, timeout=120)
        if found.exists:
            etcd_ha_common_systemd.systemctl("disable", unit)
        found = etcd_ha_common_systemd.unit(unit)
    if found.is_up:
        raise CommandExecutionError(
            f"{unit} did not stop, and nothing else was done. Look at journalctl -u {unit} there, "
            "and run this again"
        )


def _listed(member, endpoints):
    try:
        return etcd_ha_client.members(member, 10, endpoints)
    except etcd_ha_etcdctl.EtcdctlError as err:
        raise CommandExecutionError(
            f"the cluster does not tell its members ({err}). Look at: salt-run etcd_ha.status"
        ) from err


def _own_entry(listed, name, peer_url):
    address = peer_url.partition("://")[2]
    by_address = (m for m in listed if address in {u.partition("://")[2] for u in m["peer_urls"]})
    by_name = (m for m in listed if m["name"] == name)
    return next(by_address, None) or next(by_name, None)


def _add(member, name, peer_url, endpoints, deadline):
    """Add a learner; where an answer was lost, see that it was done: etcd would refuse another."""

    def is_there():
        try:
            listed = _listed(member, endpoints)
        except CommandExecutionError:
            # Then it is tried again: an add of what is there changes nothing.
            return False
        return any(peer_url in one["peer_urls"] for one in listed)

    command = ["member", "add", name, "--learner", f"--peer-urls={peer_url}"]
    _try(member, command, endpoints, deadline, done=is_there)


def _try(member, command, endpoints, deadline, done=lambda: False):
    """Run a change of the member list until etcd takes it: it refuses for a while after others.

    ``done`` is asked after a failure: whether what was wanted is so all the same.
    """
    while True:
        try:
            answer = etcd_ha_client.etcdctl(member, command, 10, endpoints)
            if answer.code == 0:
                return
            # Above it stand warnings, each a line of JSON.
            told = (answer.err.strip().splitlines() or ["no reason given"])[-1][-300:]
        except etcd_ha_etcdctl.EtcdctlError as err:
            told = str(err)
        if done():
            return
        if time.monotonic() > deadline:
            raise CommandExecutionError(
                f"etcdctl {' '.join(command[:2])} failed: {told}. Look at: "
                "salt-run etcd_ha.status, and run it again"
            )
        time.sleep(0.5)


def _refuse_another(known, peer_url):
    """Who is at a peer URL already is whom one adds there only where it waits for its first start.

    Until then it has no name, and starts under the one that it is given.
    """
    if known["learner"] and not known["started"] and known["peer_urls"] == [peer_url]:
        return
    who, role = known["name"] or f"member {known['id']}", "learner" if known["learner"] else "voter"
    if known["started"]:
        told = f"a {role} that has started. Give another member a peer URL of its own"
    else:
        told = (
            f"a {role} that has not started. Give the new member another peer URL, or take that "
            f"one out first: etcd_ha_member.remove {known['id']}"
        )
    raise CommandExecutionError(f"nothing was added: {peer_url} is that of {who}, {told}")


def _refuse_without_quorum(member, endpoints, entry):
    """The gate at the moment of the act: the voters left must be a healthy quorum."""
    voters = [m for m in _listed(member, endpoints) if not m["learner"]]
    left = [m for m in voters if m["id"] != entry["id"]]
    if len(left) == len(voters):
        return
    try:
        fit = etcd_ha_client.fit(member, left)
    except etcd_ha_etcdctl.EtcdctlError as err:
        raise CommandExecutionError(
            f"{etcd_ha_etcdctl.called(entry)} was not taken out: it is not known whether the "
            f"others are healthy ({err}). Look at: salt-run etcd_ha.status"
        ) from err
    needed = etcd_ha_membership.quorum(len(left))
    if not left or len(fit) < needed:
        raise CommandExecutionError(
            f"{etcd_ha_etcdctl.called(entry)} was not taken out: {len(fit)} of the {len(left)} "
            f"members left are healthy, and {needed} are needed. Heal the others first"
        )


def _refuse_disagreeing(member, endpoints, entry):
    """Before a member's data is thrown away as wrong: the others must hold the same.

    They must be a majority without it, and one of them must lead, unless it is this one that does.
    """
    listed = _listed(member, endpoints)
    left = [m for m in listed if m["id"] != entry["id"]]
    try:
        rows = etcd_ha_client.hashes(member, left, HASH_TIMEOUT)
        leader = etcd_ha_client.status(member, 10, endpoints)[0]["leader_id"]
    except (etcd_ha_etcdctl.EtcdctlError, IndexError) as err:
        raise CommandExecutionError(
            f"the other members do not tell whether they hold the same data ({err}), so "
            f"{etcd_ha_etcdctl.called(entry)} keeps its place. Look at: salt-run etcd_ha.status"
        ) from err
    voters = [m for m in listed if not m["learner"]]
    found = etcd_ha_hashes.verdict(voters, rows)
    if not found.right or leader in found.odd:
        told = etcd_ha_hashes.words(left, rows)
        raise CommandExecutionError(
            f"{etcd_ha_etcdctl.called(entry)} keeps its place: the other members do not hold the "
            f"same data either ({told}), so it is not clear whose is wrong. Look with salt-run "
            "etcd_ha.hash_kv, and take the member whose data is wrong out of the "
            "pillar, or restore a backup"
        )


def _lead_instead_of(member, entry):
    """Move leadership from a leaving member to this one; a failure only costs an election."""
    if not entry["client_urls"]:
        return
    try:
        own = etcd_ha_faces.status(member, 10)[0]
        if own["leader_id"] == entry["id"]:
            urls = ",".join(entry["client_urls"])
            etcd_ha_client.etcdctl(member, ["move-leader", own["member_id"]], 10, urls)
    except (etcd_ha_etcdctl.EtcdctlError, CommandExecutionError):
        return


def _reachable_through(member, own, here):
    """The other members' client URLs: a voter knows them, a learner has root's file alone."""
    if not own or own[0]["learner"]:
        return etcd_ha_client.others(member)
    return etcd_ha_client.advertised(etcd_ha_client.members(member, 5, here))


def _leading(member, endpoints):
    """The leader's endpoint, or all where none of them is found to lead.

    With etcd's own users a follower of 3.5 hands a promotion on to the leader without its client's
    name, and tries that until the request times out (seen with 3.5.16 and 3.5.33).
    """
    rows = etcd_ha_client.status(member, 10, endpoints)
    return next((row["endpoint"] for row in rows if row["leader"]), endpoints)


def _lag(member, own, others):
    """Entries of the log between the leader and what this member has applied."""
    if not own:
        return _UNKNOWN
    if own[0]["leader"]:
        return 0
    rows = etcd_ha_client.status(member, 10, others)
    leading = [row["raft_index"] for row in rows if row["leader"]]
    return max(0, leading[0] - own[0]["applied_index"]) if leading else _UNKNOWN


def _reads_by_consensus(own):
    """Whether a voter has caught up, told without its leader, which may serve no client.

    etcd answers such a read once it has applied all that was committed before it
    (linearizableReadLoop in server/etcdserver/v3_server.go).
    """
    return bool(own) and not own[0]["learner"] and __salt__["etcd_ha.local_health"]()["healthy"]


def _behind(own, lag):
    """How far a member is behind, in words."""
    if not own:
        return "it does not answer"
    return f"it is {lag} entries behind" if lag < _UNKNOWN else "no member answers as the leader"


def _write_often(times):
    """Put one key again and again, over one connection where that may be.

    With authentication on, etcd's HTTP gateway answers no client whose certificate has a common
    name (server/embed/serve.go, accessController): then etcdctl does it, at some 15 ms a put.
    """
    member, here = etcd_ha_faces.member(), etcd_ha_client.serving_endpoint()
    environment = etcd_ha_client.environment(member)
    files = tuple(environment.get(f"ETCDCTL_{name}") for name in ("CACERT", "CERT", "KEY"))
    # /etcd_ha/upgrade = 1
    body = '{"key": "L2V0Y2RfaGEvdXBncmFkZQ==", "value": "MQ=="}'
    try:
        etcd_ha_machine.post_often(f"{here}/v3/kv/put", files, body, times)
        return
    except OSError as err:
        if "CommonName of client" not in str(err):
            raise

    def put(_):
        done = etcd_ha_client.etcdctl(member, ["put", "/etcd_ha/upgrade", "1"], 10, here)
        if done.code != 0:
            raise etcd_ha_etcdctl.EtcdctlError(done.err.strip()[-300:])

    with ThreadPoolExecutor(4) as each:
        list(each.map(put, range(times)))


def _v2_content():
    """What ``etcdutl check v2store`` complains of; empty where it does not."""
    configured = etcd_ha_client.configured()
    command = [etcd_ha_client.program("etcdutl"), "check", "v2store"]
    command.append(f"--data-dir={configured.get('ETCD_DATA_DIR', '')}")
    if configured.get("ETCD_WAL_DIR"):
        command.append(f"--wal-dir={configured['ETCD_WAL_DIR']}")
    with etcd_ha_faces.told(cure=etcd_ha_faces.LOG):
        done = etcd_ha_common_process.run(command, 120, codes=etcd_ha_common_process.ANY_CODE)
    return "" if done.code == 0 else done.words()


def _cluster_version():
    """What the cluster has agreed on, or ``unknown``, with the reason."""
    pki, url = etcd_ha_client.environment(etcd_ha_faces.member()), etcd_ha_client.serving_endpoint()
    files = [pki.get(f"ETCDCTL_{name}") for name in ("CACERT", "CERT", "KEY")]
    try:
        _, body = etcd_ha_machine.get(f"{url}/version", *files)
        found = json.loads(body)["etcdcluster"]
        # Before the leader has decided it, etcd says so in words (server/etcdserver/version).
        if etcd_ha_release.is_version(found):
            return found
        told = f"{url}/version says {str(found)[:40]}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as err:
        told = f"{url}/version: {str(err)[:200]}"
    try:
        # Some settings close the client port to HTTP; the metrics have a port of their own.
        return etcd_ha_etcd_metrics.cluster_version(etcd_ha_client.metrics())
    except (OSError, ValueError, ProgramError) as err:
        return f"unknown ({told}; {err})"
