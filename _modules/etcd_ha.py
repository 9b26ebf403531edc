"""
etcd on this minion: its health, its place in the cluster, and what the formula wants here.

:depends: etcdctl, which the formula installs on members
"""

import copy
import hashlib
import logging
import os
import secrets
import time

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_certificates
import etcd_ha_client
import etcd_ha_common_files
import etcd_ha_common_process
import etcd_ha_common_systemd
import etcd_ha_environment
import etcd_ha_etcdctl
import etcd_ha_faces
import etcd_ha_hashes
import etcd_ha_host
import etcd_ha_host_balancer
import etcd_ha_host_ended
import etcd_ha_host_etcds
import etcd_ha_host_examine
import etcd_ha_host_foreign
import etcd_ha_host_hidden
import etcd_ha_host_in_force
import etcd_ha_host_leaves
import etcd_ha_host_move_data
import etcd_ha_host_move_faults
import etcd_ha_host_overrides
import etcd_ha_host_paused
import etcd_ha_host_places
import etcd_ha_host_programs
import etcd_ha_host_proxies
import etcd_ha_host_record
import etcd_ha_host_tls_files
import etcd_ha_journal
import etcd_ha_machine
import etcd_ha_mark
import etcd_ha_membership
import etcd_ha_progress
import etcd_ha_release
import etcd_ha_stages
import etcd_ha_topology
import etcd_ha_trust
import etcd_ha_virtual
import salt.utils.files
import salt.utils.http
import salt.utils.minion
import salt.utils.yaml
from etcd_ha_common_process import ProgramError
from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "etcd_ha"

log = logging.getLogger(__name__)

FORMULA_MODULES = ("modules", "states", "utils")
# What the orchestrate runs on a host to change it.
CHANGING = ("state.", "etcd_ha_member.", "etcd_ha_maintenance.", "etcd_ha_restore.")
# Seconds for the hashes of all members: each reads its whole database for it.
HASH_TIMEOUT = 60
# What helps against an alarm of the cluster.
CURES = {
    "NOSPACE": "salt-run state.orchestrate etcd_ha.orch.recover_space",
    "CORRUPT": "salt-run state.orchestrate etcd_ha.orch",
}
# Seconds for which it counts whether an etcd is in the way.
REFUSAL_AGE = 15
# Seconds after which a member without a leader has none to expect: two elections and more.
ELECTION = 3


def __virtual__():
    return __virtualname__


def health(timeout=5):
    """
    Whether etcd can be used here: on a member its own etcd, on a balancer the path through it.

    A minion that is not part of any cluster says so and counts as healthy. With an unhealthy member
    or balancer the command line's exit code is not zero.

    timeout : 5
        Seconds (int or float) to wait for an answer.

    Returns a dict with ``role`` (``member`` or ``balancer``), ``cluster``, ``name`` (text; of a
    balancer its URL) and ``healthy`` (bool), and either ``took`` (text, such as ``1.2ms``) or
    ``error`` (text). A balancer that shares a virtual address tells it (``virtual_address``, text),
    and whether it holds it now (``holds_address``, bool). On a minion without a part: ``role``
    (``none``), ``healthy`` (True) and ``comment``.

    Raises CommandExecutionError on a balancer with a virtual address where the formula's files
    cannot be had from the master.

    CLI Example:

    .. code-block:: bash

        salt -C 'etcd* or lb*' etcd_ha.health
    """
    etcd_ha_faces.sound(locals())
    mark = etcd_ha_client.certain_mark()
    if "member" in mark:
        result = _without_alarm(mark["member"], _seconds(timeout))
    elif "balancer" in mark:
        result = _balancer_health(mark["balancer"], _seconds(timeout))
    else:
        comment = "this minion is not part of any etcd cluster"
        return {"role": "none", "healthy": True, "comment": comment}
    if not result["healthy"]:
        __context__["retcode"] = 1
    return result


def local_health(timeout=5):
    """
    The health of the etcd on this minion, from its configuration on disk alone.

    Unlike ``etcd_ha.health`` it works before the first converge has been completed, and an alarm of
    the cluster does not count: that is no fault of this member, which votes as ever.

    timeout : 5
        Seconds (int or float) to wait for an answer.

    Returns a dict with ``role`` (``member``), ``cluster`` (empty before the first converge),
    ``name``, ``healthy`` (bool), ``alarms`` (list of text; empty without an answer), and either
    ``took`` or ``error`` (text).

    Raises CommandExecutionError where no member is configured.

    CLI Example:

    .. code-block:: bash

        salt 'etcd1*' etcd_ha.local_health
    """
    etcd_ha_faces.sound(locals())
    endpoint = etcd_ha_client.serving_endpoint()
    return _member_health(etcd_ha_faces.member(), _seconds(timeout), endpoint)


def reason_to_stay(timeout=5):
    """
    Why the etcd on this minion must not be stopped right now.

    A gate for the moment of the act: a plan is some seconds old by then. Where one or two members
    are all there is, none can be spared in any case, and the plan has said so.

    timeout : 5
        Seconds (int or float) for each call of etcdctl.

    Returns text; empty when the other healthy voters are still a quorum, or there are fewer than
    three voters in all.

    Raises CommandExecutionError when etcd does not answer, or no member is configured.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha.reason_to_stay
    """
    etcd_ha_faces.sound(locals())
    member, seconds = etcd_ha_faces.member(), _seconds(timeout)
    here = etcd_ha_client.serving_endpoint()
    with etcd_ha_faces.told(etcd_ha_etcdctl.EtcdctlError, cure=etcd_ha_faces.LOG):
        own = etcd_ha_faces.status(member, seconds, here)[0]["member_id"]
        voters = [m for m in etcd_ha_client.members(member, seconds, here) if not m["learner"]]
        others = [m for m in voters if m["id"] != own]
        urls = etcd_ha_client.advertised(others)
        healthy = etcd_ha_client.healthy(member, seconds, urls) if urls else set()
    others = [m for m in others if healthy & set(m["client_urls"])]
    needed = etcd_ha_membership.quorum(len(voters))
    if len(voters) < 3 or len(others) >= needed:
        return ""
    return (
        f"only {len(others)} of the other members are healthy, and {needed} of {len(voters)} are "
        "needed for a quorum. Look at: salt-run etcd_ha.status"
    )


def move_leader(successor="", timeout=10):
    """
    Hand leadership from this member to another voter.

    successor
        The name of the member that shall lead (text); without it, or where it is not fit, the most
        advanced one.

    timeout : 10
        Seconds (int or float) for each call of etcdctl.

    Returns the new leader's endpoint (text), empty where this member does not lead, or no other
    voter answers without an error.

    Raises CommandExecutionError when etcd refuses or does not answer, or no member is configured.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha.move_leader
    """
    etcd_ha_faces.sound(locals())
    member, seconds = etcd_ha_faces.member(), _seconds(timeout)
    here = etcd_ha_client.serving_endpoint()
    if not etcd_ha_faces.status(member, seconds, here)[0]["leader"]:
        return ""
    with etcd_ha_faces.told(etcd_ha_etcdctl.EtcdctlError, cure=etcd_ha_faces.LOG):
        listed = etcd_ha_client.members(member, seconds, here)
        everyone = etcd_ha_client.advertised(listed)
        rows = [r for r in etcd_ha_client.status(member, seconds, everyone) if not r["leader"]]
        voters = [r for r in rows if not r["learner"] and not r["errors"]]
        if not voters:
            return ""
        ids = {m["name"]: m["id"] for m in listed}
        chosen = [row for row in voters if row["member_id"] == ids.get(successor)]
        target = max(chosen or voters, key=lambda row: row["raft_index"])
        done = etcd_ha_client.etcdctl(member, ["move-leader", target["member_id"]], seconds, here)
    if done.code != 0:
        raise CommandExecutionError(
            f"etcd did not move leadership: {done.err.strip()[-300:]}. Look at: "
            "salt-run etcd_ha.status, and run it again"
        )
    return target["endpoint"]


def status(timeout=5):
    """
    What etcd says of the member on this minion: leader, revision, raft term, size of its database.

    timeout : 5
        Seconds (int or float) to wait for an answer.

    Returns a dict: ``endpoint`` (text), ``member_id``, ``cluster_id``, ``leader_id`` (hex text),
    ``leader``, ``learner`` (bool), ``version``, ``storage_version`` (text; empty before 3.6),
    ``revision``, ``raft_term``, ``raft_index``, ``applied_index`` (int),
    ``db_size``, ``db_in_use``, ``db_quota`` (bytes; 0 where etcd does not tell its quota, before
    3.6), ``errors`` and ``alarms`` (lists of text). On a minion that is no member ``role`` alone
    (``balancer`` or ``none``).

    Raises CommandExecutionError when etcd does not answer.

    CLI Example:

    .. code-block:: bash

        salt 'etcd*' etcd_ha.status
    """
    etcd_ha_faces.sound(locals())
    mark = etcd_ha_client.certain_mark()
    if "member" not in mark:
        return {"role": "balancer" if "balancer" in mark else "none"}
    rows = etcd_ha_faces.status(mark["member"], _seconds(timeout))
    return rows[0]


def members(timeout=5):
    """
    The cluster's member list as etcd has it.

    timeout : 5
        Seconds (int or float) to wait for an answer.

    Returns a list of dicts, by name: ``id`` (hex text), ``name`` (text; empty until it has
    started), ``peer_urls``, ``client_urls`` (lists of text), ``learner`` and ``started`` (bool).
    Empty on a minion that is no member.

    Raises CommandExecutionError when etcd does not answer.

    CLI Example:

    .. code-block:: bash

        salt 'etcd1*' etcd_ha.members
    """
    etcd_ha_faces.sound(locals())
    mark = etcd_ha_client.certain_mark()
    if "member" not in mark:
        return []
    with etcd_ha_faces.told(etcd_ha_etcdctl.EtcdctlError, cure=etcd_ha_faces.LOG):
        return etcd_ha_client.members(mark["member"], _seconds(timeout))


def version():
    """
    The version of etcd that is installed here, and of the one that runs.

    Returns a dict: ``installed`` and ``running``, each text such as ``3.6.14``, empty where there
    is none; and ``error`` (text) where one runs that does not tell its version.

    Raises CommandExecutionError where etcd is installed and does not tell its version, or systemd
    does not tell whether it runs.

    CLI Example:

    .. code-block:: bash

        salt 'etcd*' etcd_ha.version
    """
    found = {"installed": _installed_version(), "running": ""}
    # A member that is stopped would be waited for: etcdctl tries for seconds.
    if "member" in etcd_ha_client.mark() and etcd_ha_faces.unit("etcd.service").pid:
        try:
            found["running"] = status()["version"]
        except CommandExecutionError as err:
            found["error"] = str(err)
    return found


def endpoints():
    """
    Where clients reach the cluster of this minion.

    Returns a list of URLs: on a balancer its own, behind the virtual one where there is one (the
    virtual one alone where it listens there alone), on a member those of all members, elsewhere
    none.

    CLI Example:

    .. code-block:: bash

        salt 'lb*' etcd_ha.endpoints
    """
    mark = etcd_ha_client.certain_mark()
    if "balancer" in mark:
        return list(mark["balancer"].get("endpoints") or [mark["balancer"]["url"]])
    if "member" in mark:
        return [url for url in etcd_ha_client.everyone(mark["member"]).split(",") if url]
    return []


def certificates():
    """
    The certificates that the formula keeps on this minion, read from their files; never a key.

    Returns a list of dicts: ``cluster``, ``purpose`` (``server``, ``peer``, ``admin``, ``check`` or
    ``ca``), ``path``, and either ``subject``, ``issuer`` and ``not_after`` (text, the time in UTC),
    or ``error``. Empty on a minion without a part in any cluster, and before its first converge.

    CLI Example:

    .. code-block:: bash

        salt '*' etcd_ha.certificates
    """
    return [
        {**one, **_read_certificate(one["path"])}
        for one in etcd_ha_host.marked_certificates(etcd_ha_client.certain_mark())
    ]


def facts(
    data_dirs=None,
    authorities=None,
    timeout=5,
    access=False,
    hurried=False,
    wal_dirs=(),
    ports=(),
    haproxy_on=(),
    pairs=None,
    places=None,
):
    """
    All that the planner needs to know of this minion; reads only.

    data_dirs : None
        A list of directories (absolute paths) that may hold a member's data, beside the one that
        the environment file names.

    authorities : None
        A list of files (absolute paths) that may hold a CA's certificate.

    timeout : 5
        Seconds (int or float) to wait for etcd.

    access : False
        Also tell who may do what in the cluster (bool); see ``etcd_ha_auth.observed``.

    hurried : False
        Do not wait for an election where etcd's own log says that it has been without a leader for
        longer than one takes (bool).

    wal_dirs : ()
        A list of directories (absolute paths) that may hold a member's write-ahead log.

    ports : ()
        A list of TCP ports (int): also report other programs that listen on these ports.

    haproxy_on : ()
        A list of minion ids: report the version of HAProxy, installed or to be installed, on these.

    pairs : None
        The certificates to look at (a dict: minion id -> list of dicts, as the master makes them
        with ``etcd_ha_host.pairs``); only this minion's are.

    places : None
        Where members shall have their data (a dict: minion id -> list of two absolute paths, the
        data directory and the one of the log, which may be empty); only this minion's are looked
        at.

    Returns a dict: ``minion``, ``arch``, ``os_file``, ``modules`` (hash of the formula's modules
    here), ``digest`` and ``changed_files`` (what the last converge left), ``applied`` (a dict: the
    hashes ``settings``, ``source`` and ``modules`` that it was made from), ``etcd``, ``etcds`` (a
    list of dicts: every etcd on this host, as ``etcd_ha.etcds`` has it), ``unusable`` (dict:
    directory -> why no data can be there, such as a link that leads nowhere, or an older copy of
    the data that is to move there), ``balancer``,
    ``restoring`` (text: ``restore`` or ``recover`` where one was begun and not ended), ``paused``
    (text: that and why the member is stopped on purpose; empty where it is not), ``policies``
    (a hash, empty where it would sign none), ``ca`` (text: whose certificates these are),
    ``programs`` (a dict: program -> its version, empty where it is not known), ``overrides`` (a
    list of dicts: variables of etcd that a drop-in of its unit or the service manager sets),
    ``authorities`` (path -> dict of the CAs in it), ``days_left`` (int, of the certificate that
    ends first; None without any), ``pairs`` (a list of dicts: each certificate with what is wrong
    with it and with the files that it comes from), ``clock`` (a dict: ``began`` and ``ended``, the
    time of this host as this call did, in seconds since 1970), ``access`` (a dict, None where it
    was not asked for or etcd is not healthy) and ``busy`` (a list of text: what changes this host
    now, after which all of this may be otherwise). ``balancer`` (a dict, as ``etcd_ha.health``) is
    None on a host that is none; ``etcd`` is a dict in any case.

    Raises CommandExecutionError on an operating system that the formula does not know.

    CLI Example:

    .. code-block:: bash

        salt 'etcd*' etcd_ha.facts
    """
    etcd_ha_faces.sound(locals(), places="places?")
    began = time.time()
    mark = etcd_ha_client.mark()
    balancer = None
    if "balancer" in mark:
        balancer = _balancer_health(mark["balancer"], _seconds(timeout))
        balancer["trust"] = etcd_ha_client.trust(mark["balancer"]["ca"])
    etcd = _etcd_facts(mark, data_dirs or [], _seconds(timeout), hurried)
    found = etcd_ha_host_etcds.found(_places(data_dirs or []), _logs(wal_dirs or []), ports or [])
    pid, files = _own_pid(found), mark.get("files", {})
    found = etcd_ha_host_proxies.with_ours(found, files) + etcd_ha_host_proxies.found(files)
    return {
        "minion": __grains__["id"],
        "arch": _arch(),
        "os_file": os_file(),
        "modules": modules_digest(),
        "digest": mark.get("digest", ""),
        "applied": etcd_ha_mark.made_from(mark),
        "changed_files": etcd_ha_machine.changed_files(mark.get("files", {})),
        "etcd": etcd,
        "etcds": [_with_ids(one, etcd) for one in found],
        "overrides": etcd_ha_host_overrides.found(
            manager=etcd_ha_common_systemd.manager_environment()
        ),
        "unusable": {
            **_conflict((places or {}).get(__grains__["id"]), pid),
            **_unusable([*(data_dirs or []), *map(os.path.dirname, wal_dirs or [])]),
        },
        "balancer": balancer,
        "restoring": etcd_ha_progress.unfinished(),
        "paused": etcd_ha_host_paused.in_effect(),
        "policies": _policies_in_force(),
        "ca": mark.get("member", {}).get("ca", ""),
        "programs": _programs(haproxy_on),
        "authorities": etcd_ha_client.authorities(authorities or []),
        "days_left": etcd_ha_machine.days_left(mark.get("expires", {})),
        "access": __salt__["etcd_ha_auth.observed"]() if access and etcd["healthy"] else None,
        "busy": _busy(),
        "pairs": [
            etcd_ha_host_tls_files.facts(row) for row in (pairs or {}).get(__grains__["id"], ())
        ],
        "clock": {"began": began, "ended": time.time()},
    }


def verify(endpoints, cluster, timeout=15, minions=(), former="", fresh=True):
    """
    Prove the way from clients to data: by writes on a member, by a balancer's own view of members.

    On a member it writes a key through each endpoint, reads it back through the same, and removes
    it. On a balancer it waits until its own checks see the members up: HAProxy's have passed since
    each member's process began, and each answers the same request here and now; nginx has no checks
    of its own, so there that request alone counts.

    endpoints
        A list of client URLs, for example those of the balancers; a balancer needs none.

    cluster
        The name of the cluster (text); the key is ``/etcd_ha/verify/<cluster>``.

    timeout : 15
        Seconds (int or float) to try for at one endpoint, and on a balancer for all members; the
        last try may take ten more.

    minions : ()
        On a balancer: the members (list of text, their minion ids) to look at; without it all.

    former : ""
        The name that the cluster had before (text), while it is being renamed: a balancer has that
        until its turn comes.

    fresh : True
        Whether HAProxy's checks must have passed since each member's process began (bool). Not in a
        bootstrap: no etcd was there before, whose answer they could have had.

    Returns a dict: endpoint -> seconds (float) that the put and the get took, on a balancer minion
    of a member -> seconds until it was seen up.

    Raises CommandExecutionError that names the endpoint or the member which failed, and on a minion
    that is neither.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha.verify '["https://192.168.200.56:2379"]' main
        salt lb.example.com etcd_ha.verify '[]' main
    """
    etcd_ha_faces.sound(locals(), endpoints="list of urls or none")
    mark, took = etcd_ha_client.certain_mark(), {}
    if mark.get("balancer", {}).get("cluster") in {cluster, former or cluster}:
        took.update(_verify_members(mark["balancer"], minions, _seconds(timeout), fresh))
    if "member" not in mark:
        if took:
            return took
        raise CommandExecutionError(
            "etcd_ha.verify needs a member's admin certificate, or a balancer of this cluster: run "
            "it there"
        )
    if not endpoints and took:
        return took
    if not isinstance(endpoints, list) or not endpoints:
        raise SaltInvocationError("endpoints must be a list with at least one URL")
    for endpoint in endpoints:
        took[endpoint] = _verify_endpoint(mark["member"], endpoint, cluster, _seconds(timeout))
    return took


def hash_kv(timeout=60):
    """
    Compare the keys of all members of the cluster at one revision, by their hashes.

    Asked of one member, which asks all. Each reads its whole database for it (some seconds a GiB).
    https://etcd.io/docs/v3.6/op-guide/data_corruption/

    timeout : 60
        Seconds (int or float) to wait for each member. While they compact, all are asked anew, six
        times at most.

    Returns a dict: ``agree`` (bool), ``right`` (text: the hash of the majority of the voters, empty
    where there is none) and ``members``, a list of dicts: ``name``, ``member_id`` and ``endpoint``
    (text), ``hash`` (text, empty without an answer) and ``differs`` (bool). With a difference, or
    without an answer of all, the exit code is not zero.

    Raises CommandExecutionError when no member answers, or they compact all the time.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha.hash_kv
    """
    etcd_ha_faces.sound(locals())
    member, seconds = etcd_ha_faces.member(), _seconds(timeout)
    with etcd_ha_faces.told(etcd_ha_etcdctl.EtcdctlError, cure=etcd_ha_faces.HEALTH):
        listed = etcd_ha_client.members(member, seconds, etcd_ha_client.serving_endpoint())
        rows = etcd_ha_client.hashes(member, listed, seconds)
    found = etcd_ha_hashes.verdict(listed, rows)
    told = {row["member_id"]: row["hash"] for row in rows}
    if not found.agreed:
        __context__["retcode"] = 1
    return {
        "agree": found.agreed,
        "right": found.right,
        "members": [
            {
                "name": one["name"],
                "member_id": one["id"],
                "endpoint": ",".join(one["client_urls"]),
                "hash": told.get(one["id"], ""),
                "differs": one["id"] in found.odd,
            }
            for one in listed
        ],
    }


def release_available(url, timeout=10):
    """
    Whether a mirror has a file, asked from this minion.

    url
        The file's URL (text; http or https), such as that of a release's SHA256SUMS.

    timeout : 10
        Seconds (int or float) to wait.

    Returns an empty text where it has it, else the reason.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha.release_available https://mirror/v3.6.14/SHA256SUMS
    """
    etcd_ha_faces.sound(locals())
    answer = salt.utils.http.query(url, method="HEAD", status=True, timeout=_seconds(timeout))
    if answer.get("status") == 200:
        return ""
    return str(answer.get("error") or f"HTTP {answer.get('status')}")


def os_file():
    """
    The file with the data of this minion's operating system, below the formula's root.

    Returns text such as ``etcd_ha/os/Debian.yaml``. Raises CommandExecutionError on an operating
    system that the formula does not know.

    CLI Example:

    .. code-block:: bash

        salt '*' etcd_ha.os_file
    """
    with etcd_ha_faces.told(ValueError):
        return etcd_ha_host.os_file(__grains__.get("os", ""), __grains__.get("os_family", ""))


def host():
    """
    What the states of this minion are rendered from.

    In a step of the orchestrate that is what the pillar wants it to be. In any other state run it
    is what the orchestrate has put in force here (``/var/lib/etcd_ha/in_force/host.json``): what
    the pillar changed since is pending. Made once a state run: each file asked of the master is a
    round trip, and every SLS asks.

    Returns the dict of ``etcd_ha_host.describe``: ``member`` and ``balancer`` (dicts, or None),
    ``authorities`` (list), ``pending`` (list of text: what waits for the orchestrate), ... and
    ``not_before`` (text): from when on a certificate that is made now is valid.

    Raises CommandExecutionError with every fault of the pillar, where etcd has no release archive
    for this machine, where an etcd that somebody else set up is in the way, and where the formula's
    files cannot be had from the master.

    CLI Example:

    .. code-block:: bash

        salt 'etcd1*' etcd_ha.host
    """
    if __pillar__.get("etcd_ha_step") is None:
        return _once("etcd_ha_in_force", _held)
    return _once("etcd_ha_host", wanted_host)


def wanted_host():
    """
    What the pillar wants this minion to be, whatever is in force; functions of a restore use it.

    A member's release, transport and data directory stay what they are: only a step of the
    orchestrate changes these.

    Returns the dict of ``etcd_ha_host.describe``, as ``etcd_ha.host`` does.

    Raises CommandExecutionError as ``etcd_ha.host`` does.

    CLI Example:

    .. code-block:: bash

        salt 'etcd1*' etcd_ha.wanted_host
    """
    handed = __pillar__.get("etcd_ha_step")
    step = {"stage": _present_stage()} if handed is None else dict(handed)
    present = etcd_ha_client.configured().get(etcd_ha_environment.PEER_NAME, "")
    step["stage"] = {**(step.get("stage") or {}), "peer_name": present}
    found = _described(step)
    found["owner"] = _owner(found["member"])
    if found["phase"] == etcd_ha_trust.HELD:
        found["trust"] = _trust_in_force()
    planned = (step.get("settings") or {}).get(__grains__["id"])
    found["other_pillar"] = planned is not None and planned != wanted_digest()
    return found


def _trust_in_force():
    """How far this host is with another CA by what it has itself: the CA gives no answer."""
    try:
        record = etcd_ha_host_in_force.read()
    except etcd_ha_host_in_force.RecordError:
        record = None
    if record is not None:
        return record["trust"]
    return _present_stage().get("trust", etcd_ha_trust.ALONE)


def _described(step=None):
    """What the pillar wants here, with the true places of a member's directories."""
    found = etcd_ha_host.describe(__grains__["id"], _fit_clusters(), _arch(), step)
    if found["member"]:
        places = found["member"]["places"]
        real = {key: path and etcd_ha_host_places.true(path) for key, path in places.items()}
        found["member"]["places"] = real
    found["not_before"] = etcd_ha_certificates.backdated(time.time())
    return found


def _owner(member):
    """Whose the data is: etcd's as long as it runs, and then the pillar's user's."""
    if not member:
        return None
    pid = _own_pid(etcd_ha_host_etcds.found([], [], []))
    return etcd_ha_machine.owner_of(pid) or {name: member[name] for name in ("user", "group")}


def _fit_clusters():
    """The clusters of this minion's pillar, where it can be what they want."""
    refused = refusal(fit=True)
    if refused:
        raise CommandExecutionError(refused)
    return list(_own_clusters())


def _held():
    """What is in force here, and what of the pillar waits for the orchestrate."""
    desired = _described()
    mark, member = etcd_ha_client.mark(), etcd_ha_host_record.read()
    converged = [
        part for part in ("member", "balancer") if part in mark or (part == "member" and member)
    ]
    try:
        record, fault = etcd_ha_host_in_force.read(), ""
    except etcd_ha_host_in_force.RecordError as err:
        record, fault = None, str(err)
    if mark.get("digest") and record is None and not converged:
        fault = fault or f"{etcd_ha_host_in_force.FILE} is missing"
    found = etcd_ha_host_in_force.held(record, desired, converged, fault)
    found["owner"] = _owner(found["member"])
    etcd_ha_host_in_force.without_lost_authorities(found)
    files = mark.get("files", {})
    found["issuing"], damaged = etcd_ha_host_leaves.issuing(found, desired, files)
    found["pending"] += [*etcd_ha_host_leaves.waiting(found), *damaged]
    return found


def _once(key, make):
    if key not in __context__:
        __context__[key] = make()
    return copy.deepcopy(__context__[key])


def _present_stage():
    """What a member is, which only the orchestrate may change: a highstate keeps to it.

    Otherwise a crash between a highstate and the orchestrate would start a release, a transport or
    a data directory that the cluster is not ready for, and another CA would cut hosts off.
    """
    configured, mark = etcd_ha_client.configured(), etcd_ha_client.mark()
    files = configured.get("ETCD_TRUSTED_CA_FILE"), mark.get("balancer", {}).get("ca")
    former = any(etcd_ha_client.bears_former(path) for path in files if path)
    trust = {"trust": etcd_ha_trust.BOTH if former else etcd_ha_trust.KEPT} if mark else {}
    if not etcd_ha_host_record.read() or not configured:
        return trust
    installed = _release_in_use()
    return {
        **trust,
        "version": installed if etcd_ha_release.is_known(installed) else "",
        "transport": etcd_ha_stages.transport(configured),
        "data_dir": configured.get("ETCD_DATA_DIR", ""),
        "wal_dir": configured.get("ETCD_WAL_DIR", ""),
    }


def etcds(ports=()):
    """
    Every etcd on this host, whoever set it up: those that run, and those that could be started.

    ports : ()
        A list of TCP ports (int): also report other programs that listen on these ports.

    Returns a list of dicts: ``kind`` (text: ``process``, ``unit`` for one that is stopped, ``data``
    for a directory that neither names, ``listener`` for another program on one of the ports),
    ``pid`` (int, 0 where it does not run), ``program``, ``version``, ``user``, ``cwd``,
    ``container``, ``unit``, ``config_file``, ``name``, ``data_dir``, ``wal_dir``, ``cluster_id``,
    ``member_id`` (hex text), ``fault`` (what cannot be known, and why), ``proxy`` (all text, empty
    where there is none), ``words`` (list: its command line), ``environment`` (its ``ETCD_*``
    variables), ``unit_files``, ``clients``, ``peers`` (lists of text), ``ports`` (list of int),
    ``by_formula`` (bool: whether this formula wrote its unit), ``enabled`` (bool: whether a stopped
    one starts at boot) and ``holds_data`` (bool).

    CLI Example:

    .. code-block:: bash

        salt '*' etcd_ha.etcds
    """
    etcd_ha_faces.sound(locals())
    return etcd_ha_host_etcds.found(_places([]), _logs([]), ports or [])


def refusal(fit=False):
    """
    Why this formula must not change this host: an etcd is in the way that somebody else set up.

    Or the data of the member that runs is out of reach of its path, such as below a mount that was
    made since it started: whatever is done in that directory would be done in another one. Or the
    pillar has a fault: every one is named. It is an answer, not an error, since an error while
    states are rendered ends a highstate with all that other formulas have in it.

    Whose an etcd is, is known by its cluster and member id and this host's record of them
    (``/var/lib/etcd_ha/CLUSTER.json``), which the orchestrate writes.

    fit : False
        Also say why this host cannot be what the pillar wants, such as by its architecture (bool).

    Returns text; empty where nothing is in the way. It also says why that cannot be known.

    CLI Example:

    .. code-block:: bash

        salt '*' etcd_ha.refusal
    """
    etcd_ha_faces.sound(locals())
    # Each SLS asks, and a minion without multiprocessing keeps its context from job to job.
    known = __context__.get("etcd_ha_refusal")
    if known is None or time.monotonic() - known[0] > REFUSAL_AGE:
        known = __context__["etcd_ha_refusal"] = (time.monotonic(), _refusal())
    return known[1] or (_unfit() if fit else "")


def _unfit():
    return etcd_ha_host.unfit(__grains__["id"], list(_own_clusters()), _arch())


def _refusal():
    try:
        return _in_the_way(list(_own_clusters()))
    except CommandExecutionError as err:
        return str(err)


def _in_the_way(clusters):
    minion, record = __grains__["id"], etcd_ha_host_record.read()
    places = {one.name: etcd_ha_host_foreign.place(one, minion) for one in clusters}
    if not any(one.ports for one in places.values()):
        if not record:
            return ""
        places = {record["cluster"]: etcd_ha_host_foreign.left_place(record)}
    known = etcd_ha_host_foreign.of_record(record, etcd_ha_progress.unfinished())
    folders = [folder for place in places.values() for folder in place.dirs]
    logs = [f"{folder}/wal" for folder in folders]
    ports = [port for place in places.values() for port in place.ports]
    found = etcd_ha_host_etcds.found(_places(folders), _logs(logs), ports)
    files = etcd_ha_client.mark().get("files", {})
    there = etcd_ha_host_proxies.with_ours(found, files) + etcd_ha_host_proxies.found(files)
    for name, place in places.items():
        verdicts = {minion: etcd_ha_host_foreign.judged(there, known, place)}
        told = etcd_ha_host_foreign.refusal(name, verdicts, "by this")
        if told:
            return told
    hidden = etcd_ha_host_hidden.of_process(_own_pid(found))
    # A member whose files were deleted can be rebuilt; etcd_ha.running leaves it alone.
    if hidden and hidden["kind"] != etcd_ha_host_hidden.DELETED:
        told = etcd_ha_host_hidden.words(hidden, record.get("cluster", ""), minion, ())
        return f"{told}. Nothing was changed by this"
    unusable = _unusable([folder for place in places.values() for folder in place.dirs])
    if unusable:
        return f"{'. '.join(unusable.values())}. Nothing was changed by this"
    return ""


def _unusable(folders):
    """Directories in which no member's data can be: path -> why not, with the cure."""
    with etcd_ha_faces.told():
        return etcd_ha_host_places.faults(dict.fromkeys(folders))


def _own_pid(found):
    """The process of the formula's own unit among these etcds of a host; 0 where none runs."""
    return next(
        (one["pid"] for one in found if one["pid"] and one["unit"] == etcd_ha_host_foreign.UNIT), 0
    )


def _conflict(place, pid=0):
    """Why this member's data cannot come to a data directory: its path -> why not, with the cure.

    ``place`` is that and the one of the log, None on a host that is to have no member; ``pid`` is
    the member's process, 0 where none runs. A restore puts data in the new place while other data
    is in the old one: it is resumed.
    """
    if not place or etcd_ha_progress.unfinished():
        return {}
    data_dir, wal_dir = place
    log = {"ETCD_WAL_DIR": f"{wal_dir}/wal"} if wal_dir else {}
    environment = {"ETCD_DATA_DIR": data_dir, **log}
    process = etcd_ha_machine.process_environment(pid) if pid else {}
    record = etcd_ha_host_record.read()
    moves = etcd_ha_host_move_data.moves(process, record, environment)
    told = etcd_ha_host_move_faults.conflict(moves, environment)
    return {data_dir: told} if told else {}


def former_balancer():
    """
    The kind of balancer that the last converge left on this minion, to be stopped by a change.

    Returns text, ``haproxy`` or ``nginx``; empty where there was none.

    CLI Example:

    .. code-block:: bash

        salt 'lb*' etcd_ha.former_balancer
    """
    return etcd_ha_client.mark().get("balancer", {}).get("kind", "")


def os_data():
    """
    How this minion's operating system does things: package names, paths, services.

    Returns the ``os`` mapping of the file that ``etcd_ha.os_file`` names.

    Raises CommandExecutionError where that file cannot be had from the master.

    CLI Example:

    .. code-block:: bash

        salt '*' etcd_ha.os_data
    """
    return _file(os_file())["os"]


def signing_policies(pillar, defaults, minion):
    """
    The ``x509_signing_policies`` of a CA minion, one for each host and purpose.

    pillar
        The content of the ``etcd_ha`` pillar key (dict).

    defaults
        The content of ``etcd_ha/defaults.yaml`` (dict).

    minion
        The id of the CA minion (text).

    Returns a dict of signing policies; empty where this minion is no cluster's CA.

    A cluster with a fault in the pillar has none until it is corrected.

    Raises CommandExecutionError with every fault of what holds for all clusters,
    SaltInvocationError where the defaults are not the formula's.

    CLI Example:

    .. code-block:: bash

        # What a minion would sign, by the pillar that it has:
        salt ca.example.com pillar.get x509_signing_policies
        # What the pillar file calls, with both contents as JSON:
        salt-call etcd_ha.signing_policies "$PILLAR" "$DEFAULTS" ca.example.com
    """
    etcd_ha_faces.sound(locals(), pillar="mapping?")
    try:
        clusters = _clusters(pillar, defaults, None)
    except (KeyError, TypeError, AttributeError) as err:
        raise SaltInvocationError(
            f"defaults is not the content of etcd_ha/defaults.yaml ({err!r})"
        ) from err
    return etcd_ha_certificates.policies(clusters.clusters.values(), minion)


def modules_digest():
    """
    One hash of the formula's own modules as they are synced here.

    Returns text; ``salt-run etcd_ha.plan`` syncs a minion whose hash differs from the master's.

    CLI Example:

    .. code-block:: bash

        salt '*' etcd_ha.modules_digest
    """
    found = []
    for kind in FORMULA_MODULES:
        folder = os.path.join(__opts__["extension_modules"], kind)
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if name.startswith("etcd_ha") and name.endswith(".py"):
                found.append(f"_{kind}/{name} {etcd_ha_machine.sha256_file(f'{folder}/{name}')}")
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def wanted_digest():
    """
    One hash of what the pillar in this minion's memory wants it to be.

    Functions see that pillar alone, while a state compiles it anew: where this hash is another one
    than the master's, the minion does not know the pillar of now.

    Returns text; empty where that pillar is faulty, or the formula's files cannot be had.

    CLI Example:

    .. code-block:: bash

        salt 'etcd*' etcd_ha.wanted_digest
    """
    try:
        return etcd_ha_host.pillar_digest(__grains__["id"], _own_clusters(), _arch())
    except CommandExecutionError:
        return ""


def _file(path):
    """A YAML file of the formula, fetched once a job."""
    key = f"etcd_ha_file_{path}"
    if key not in __context__:
        cached = __salt__["cp.cache_file"](f"salt://{path}")
        if not cached:
            raise CommandExecutionError(
                f"salt://{path} is not there: add the formula to the master's file_roots"
            )
        with salt.utils.files.fopen(cached, encoding="utf-8") as file:
            __context__[key] = salt.utils.yaml.safe_load(file) or {}
    return copy.deepcopy(__context__[key])


def _own_clusters():
    """The clusters of this minion's pillar, as they are on its operating system."""
    defaults, settings = _file("etcd_ha/defaults.yaml"), _file(os_file())["settings"]
    read = _clusters(__pillar__.get("etcd_ha"), defaults, settings)
    with etcd_ha_faces.told(etcd_ha_topology.PillarError):
        return read.known_to(__grains__["id"]).values()


def _clusters(pillar, defaults, settings):
    with etcd_ha_faces.told(etcd_ha_topology.PillarError):
        return etcd_ha_topology.read_each(copy.deepcopy(pillar), defaults, settings)


def _arch():
    return __grains__.get("osarch") or __grains__.get("cpuarch", "")


def _seconds(timeout):
    try:
        seconds = float(timeout)
    except (TypeError, ValueError):
        seconds = 0
    if seconds <= 0:
        raise SaltInvocationError(f"timeout is {timeout!r}; give seconds above 0")
    return seconds


def _member_health(member, timeout, endpoint=None):
    result = {"role": "member", "cluster": member["cluster"], "name": member["name"], "alarms": []}
    try:
        command = ["endpoint", "health", "-w", "json"]
        answer = etcd_ha_client.etcdctl(member, command, timeout, endpoint)
        rows = etcd_ha_etcdctl.health(answer.json())
    except etcd_ha_etcdctl.EtcdctlError as err:
        return _unhealthy(result, f"{err}. Look at: journalctl -u etcd")
    if not rows:
        return _unhealthy(result, "etcd does not answer here. Look at: journalctl -u etcd")
    row = rows[0]
    result["alarms"] = row["alarms"]
    if not row["healthy"] and not row["alarms"]:
        return _unhealthy(result, f"{row['error']}. Look at: journalctl -u etcd")
    return {**result, "healthy": True, "took": row["took"]}


def _unhealthy(result, why):
    """A result without a time: nothing was done in it."""
    return {**{key: result[key] for key in result if key != "took"}, "healthy": False, "error": why}


def _without_alarm(member, timeout):
    """A member's health for people: with an alarm the cluster takes no writes.

    3.4 calls a member healthy meanwhile, so the alarms are asked for.
    """
    result = _member_health(member, timeout)
    raised = set(result.pop("alarms", ()))
    if result["healthy"] and not raised:
        try:
            raised = {one["alarm"] for one in etcd_ha_client.alarms(member, timeout)}
        except etcd_ha_etcdctl.EtcdctlError as err:
            return _unhealthy(result, f"{err}. Look at: journalctl -u etcd")
    if raised:
        cures = [f"{one}: run {CURES.get(one, 'etcdctl alarm list')}" for one in sorted(raised)]
        told = f"etcd takes no writes, an alarm is raised. {'; '.join(cures)}"
        return _unhealthy(result, told)
    return result


def _balancer_health(balancer, timeout):
    result = _path_health(balancer, timeout)
    address = balancer.get("virtual_address")
    if not address:
        return result
    service = os_data()["keepalived"]["service"]
    result["virtual_address"] = address
    try:
        result["holds_address"] = bool(
            etcd_ha_virtual.interface_of(address, etcd_ha_virtual.addresses())
        )
        runs = etcd_ha_common_systemd.unit(service).active
    except ProgramError as err:
        return _unhealthy(result, f"{err}. Look at: ip address; systemctl status {service}")
    if result["healthy"] and not runs:
        told = f"{service} does not run, so this balancer cannot take {address} over"
        return _unhealthy(result, f"{told}. Look at: journalctl -u {service}")
    return result


def _path_health(balancer, timeout):
    result = {"role": "balancer", "cluster": balancer["cluster"], "name": balancer["url"]}
    look = f"Look at: journalctl -u {balancer['kind']}, and at: salt-run etcd_ha.status"
    began = time.monotonic()
    try:
        code, body = etcd_ha_machine.get(
            f"{balancer['url']}/health",
            balancer["ca"],
            balancer["certificate"],
            balancer["key"],
            timeout,
        )
    except OSError as err:
        return _unhealthy(result, f"no answer through {balancer['url']}: {err}. {look}")
    if code != 200:
        return _unhealthy(result, f"HTTP {code} {body.strip()[:200]}. {look}")
    return {**result, "healthy": True, "took": f"{(time.monotonic() - began) * 1000:.1f}ms"}


def _programs(haproxy_on):
    """The version of each program for which a host may be too old; empty where it is not known."""
    found = {etcd_ha_host_programs.SYSTEMD: str(__grains__.get("systemd", {}).get("version", ""))}
    if __grains__["id"] in haproxy_on:
        package = os_data()["haproxy"]["packages"][0]
        version = etcd_ha_host_programs.haproxy()
        # Before it is installed: what the package's state would install.
        latest = "" if version else __salt__["pkg.latest_version"](package, refresh=False)
        found[etcd_ha_host_programs.HAPROXY] = version or latest
    return found


def _read_certificate(path):
    try:
        if not etcd_ha_common_files.is_file(path):
            return {"error": "the file is gone"}
        found = __salt__["x509.read_certificate"](path)
    except (CommandExecutionError, SaltInvocationError) as err:
        return {"error": str(err)}
    return {
        "subject": found["subject_str"],
        "issuer": found["issuer_str"],
        "not_after": found["not_after"],
    }


def _installed_version():
    path = etcd_ha_client.program("etcd")
    if not os.path.isabs(path):
        return ""
    with etcd_ha_faces.told(cure=f"Try: {path} --version. Remove or reinstall it"):
        command = [path, "--version"]
        done = etcd_ha_common_process.run(command, 10)
        found = etcd_ha_release.told(done.out)
        if not found:
            raise ProgramError(command, f"it names no version, but {done.words()!r}")
    return found


def _etcd_facts(mark, data_dirs, timeout, hurried):
    unit = etcd_ha_faces.unit("etcd.service")
    running = etcd_ha_machine.process_environment(unit.pid) if unit.pid else {}
    configured, record = etcd_ha_client.configured(), etcd_ha_host_record.read()
    dirs = [source.get("ETCD_DATA_DIR") for source in (running, configured)]
    dirs += [record.get("data_dir"), *data_dirs]
    logs = [source.get("ETCD_WAL_DIR") for source in (running, configured)]
    dirs, logs = _with_moving(dirs), _with_moving([*logs, record.get("wal_dir")])
    hidden = etcd_ha_host_hidden.of_process(unit.pid)
    # A directory that looks empty proves nothing while a process has the data open.
    has_data = bool(hidden) or etcd_ha_machine.holds_data(dirs, logs)
    result = {
        "active": unit.active,
        "state": unit.state,
        "enabled": unit.enabled,
        "environment": running or configured,
        "pending": etcd_ha_machine.pending(unit, etcd_ha_client.program("etcd")),
        "has_data": has_data,
        "hidden": hidden,
        "installed": _installed_for(has_data),
        "record": record,
        "trust": etcd_ha_client.trust(configured.get("ETCD_TRUSTED_CA_FILE")),
        "healthy": False,
    }
    if unit.active and configured:
        here = running.get("ETCD_LISTEN_CLIENT_URLS", "").split(",")[-1]
        result.update(_live_facts(etcd_ha_faces.member(), timeout, here, hurried))
        # A setting can cut off whoever asks it as a client, while it votes as ever.
        result["voting"] = result["healthy"] or etcd_ha_client.votes()
    if result["has_data"] and not unit.active:
        result.update(_stopped_facts(configured, record, result["installed"]))
    return result


def _stopped_facts(configured, record, release):
    """Of a member that does not run: whether it ended by itself, and what is known of its data."""
    ended, found = etcd_ha_host_ended.look(), None
    places = etcd_ha_host_examine.places(configured, record)
    if places is not None:
        found = etcd_ha_host_examine.read(*places, release)
    said = etcd_ha_host_ended.quoted(ended.invocation) if ended.by_itself else ""
    failing = f"{ended.words}{f' ({said})' if said else ''}" if ended.by_itself else ""
    return {
        "failing": failing,
        "corrupt": etcd_ha_host_examine.unusable(found),
        "examined": etcd_ha_host_examine.told(found, ended.invocation),
    }


def _places(data_dirs):
    """Where data of a member may lie although no process and no unit names it."""
    record, configured = etcd_ha_host_record.read(), etcd_ha_client.configured()
    named = [configured.get("ETCD_DATA_DIR"), record.get("data_dir"), *data_dirs]
    return list(dict.fromkeys(_with_moving(named)))


def _logs(wal_dirs):
    """Where the write-ahead log of such data may be, if it is not with it."""
    record, configured = etcd_ha_host_record.read(), etcd_ha_client.configured()
    named = [configured.get("ETCD_WAL_DIR"), record.get("wal_dir"), *wal_dirs]
    return list(dict.fromkeys(_with_moving(named)))


def _with_ids(found, etcd):
    """One etcd of this host; where its log does not tell its ids, etcd itself may.

    What lies at its path by now may be another's.
    """
    hidden = bool(etcd.get("hidden"))
    own = found["pid"] and found["unit"] == etcd_ha_host_foreign.UNIT
    if not own or (found["cluster_id"] and not hidden):
        return found
    if not etcd.get("member_id"):
        return {**found, "cluster_id": "", "member_id": ""} if hidden else found
    return {**found, "cluster_id": etcd["cluster_id"], "member_id": etcd["member_id"]}


def _with_moving(folders):
    """These folders, and where each would be while it moves."""
    named = [folder for folder in folders if folder]
    return [*named, *map(etcd_ha_machine.on_its_way, named)]


def _release_in_use():
    """The release that would start now, from the link where there is one (it is quick)."""
    target = os.path.realpath(etcd_ha_client.program("etcd"))
    release = os.path.basename(os.path.dirname(target))
    return release if etcd_ha_release.fault(release) is None else _installed_version()


def _installed_for(has_data):
    """The release in use; where there is no data, one that cannot tell is as good as none."""
    try:
        return _release_in_use()
    except CommandExecutionError as err:
        if has_data:
            raise
        log.warning("%s", err)
        return ""


def _journal(**choice):
    """Lines of etcd's own log; none where they cannot be had: it is quoted, and proves nothing."""
    try:
        return etcd_ha_common_systemd.journal("etcd.service", **choice)
    except ProgramError as err:
        log.warning("%s", err)
        return ""


def _live_facts(member, timeout, here, hurried=False):
    """What the running etcd says; ``member list`` needs a quorum, so it is the proof of health."""
    try:
        row = _settled_status(member, timeout, here, hurried)
    except CommandExecutionError as err:
        return {"healthy": False, "error": str(err)}
    if row["leader_id"] in ("", "0") and not row["learner"]:
        # It would wait in vain for the member list, and whoever asks with it.
        return {**row, "healthy": False, "error": "it has no leader"}
    try:
        # A learner answers no member list: it is not healthy until it has been promoted.
        listed = [] if row["learner"] else etcd_ha_client.members(member, timeout, here)
    except etcd_ha_etcdctl.EtcdctlError as err:
        return {**row, "healthy": False, "error": str(err)}
    healthy = bool(listed) and row["leader_id"] not in ("", "0")
    found = {**row, "members": listed, "healthy": healthy}
    if listed and "CORRUPT" in row["alarms"]:
        found.update(_of_corruption(member, row, listed))
    return found


def _of_corruption(member, row, listed):
    """With the alarm CORRUPT: whether this member's data is the wrong one, by all hashes."""
    try:
        rows = etcd_ha_client.hashes(member, listed, HASH_TIMEOUT)
    except etcd_ha_etcdctl.EtcdctlError as err:
        return {"disputed": str(err)}
    found = etcd_ha_hashes.verdict(listed, rows)
    if not found.right:
        return {"disputed": etcd_ha_hashes.words(listed, rows)}
    if row["member_id"] in found.odd:
        told = f"its data differs from the others' ({etcd_ha_hashes.words(listed, rows)})"
        return {"healthy": False, "corrupt": told}
    return {}


def _settled_status(member, timeout, here, hurried):
    """The member's status, after an election where one goes on.

    Peers that have just come back may yet elect one, so only who is in a hurry goes by the past.
    """
    deadline = None
    while True:
        row = etcd_ha_faces.status(member, timeout, here)[0]
        if row["leader_id"] not in ("", "0"):
            return row
        if deadline is None:
            began = _leaderless_since() if hurried else time.monotonic()
            deadline = began + min(timeout, ELECTION)
        if time.monotonic() > deadline:
            return row
        time.sleep(0.2)


def _leaderless_since():
    """When the member lost its leader (seconds of the monotonic clock); now where nothing tells."""
    told = etcd_ha_journal.leaderless_since(_journal(boot=True, lines=500, form="short-monotonic"))
    now = time.monotonic()
    return now if told is None else min(told, now)


def _busy():
    """What changes this host at this moment, as ``function jid``.

    As ``saltutil.running`` has it; that module brings salt-ssh along, which takes longer to load
    than all else here.
    """
    jobs = salt.utils.minion.running(__opts__)
    return [f"{j['fun']} {j['jid']}" for j in jobs if j["fun"].startswith(CHANGING)]


def _policies_in_force():
    """The hash of the signing policies that this minion would sign by now."""
    return etcd_ha_host.policies_digest(
        copy.deepcopy(__pillar__.get("x509_signing_policies") or {})
    )


def _verify_members(balancer, minions, timeout, fresh):
    if "backends" not in balancer:
        raise CommandExecutionError(
            "this balancer was set up by an older release of the formula, so its own view of the "
            "members is not known here. Run salt-run state.orchestrate etcd_ha.orch"
        )
    wanted = list(minions) or list(dict.fromkeys(one["minion"] for one in balancer["backends"]))
    began = time.monotonic()
    down = etcd_ha_host_balancer.Watch(balancer, fresh=fresh).wait(wanted, timeout)
    if down:
        told = "; ".join(f"{minion}: {why}" for minion, why in down.items())
        raise CommandExecutionError(
            f"the balancer {__grains__['id']} does not see every member up after {timeout:g} s: "
            f"{told}. Look at: salt-run etcd_ha.status, and at journalctl -u {balancer['kind']}"
        )
    return dict.fromkeys(wanted, round(time.monotonic() - began, 3))


def _verify_endpoint(member, endpoint, cluster, timeout):
    key, value = f"/etcd_ha/verify/{cluster}", secrets.token_hex(8)
    began, reason = time.monotonic(), ""
    while time.monotonic() - began < timeout:
        tried = time.monotonic()
        try:
            put = etcd_ha_client.etcdctl(member, ["put", key], 5, endpoint, stdin=value)
            got = etcd_ha_client.etcdctl(member, ["get", key, "--print-value-only"], 5, endpoint)
            if put.code == 0 and got.out.strip() == value:
                etcd_ha_client.etcdctl(member, ["del", key], 5, endpoint)
                return round(time.monotonic() - tried, 3)
            reason = (put.err or got.err).strip()[-300:] or f"read {got.out.strip()[:80]!r}"
        except etcd_ha_etcdctl.EtcdctlError as err:
            reason = str(err)
        time.sleep(0.3)
    raise CommandExecutionError(
        f"a put and a get through {endpoint} failed for {timeout:g} s: {reason}. "
        "Look at the balancer's log and at: salt-run etcd_ha.status"
    )
