"""
The data of this member: whether etcd can read it, whether it is right, and giving it up.

The orchestrate calls these where etcd does not start by its own doing, and where an operator has
asked for a member's replacement. Salt puts them under ``etcd_ha_member``.

:depends: systemd; etcd and etcdctl, which the formula installs on members
"""

import dataclasses
import logging
import os
import time

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_client
import etcd_ha_common_systemd
import etcd_ha_data
import etcd_ha_etcdctl
import etcd_ha_faces
import etcd_ha_hashes
import etcd_ha_host_ended
import etcd_ha_host_examine
import etcd_ha_host_record
import etcd_ha_membership
import etcd_ha_plan_examine
from salt.exceptions import CommandExecutionError

__virtualname__ = "etcd_ha_member"

log = logging.getLogger(__name__)

# Seconds for a member's hash: it reads its whole database.
HASH_TIMEOUT = 60


def __virtual__():
    return __virtualname__


def examine(cluster, endpoints="", timeout=1800):
    """
    Have etcd itself judge the data of this member, on a copy of it without a network.

    For a member that does not start. Its unit is stopped and held meanwhile, and stays stopped. The
    data is copied (into ``examining`` in its own directory, removed afterwards), and the same
    program is started on the copy as etcd's user, in the unit ``etcd_ha-examine``. The data itself
    is not touched. What was found is kept in ``/var/lib/etcd_ha/examined/verdict.json`` and counts
    for this data alone.

    cluster
        The name of the cluster (text).

    endpoints
        Client URLs of the members that run (text, comma-separated), with whose data this one's is
        compared where it can be read.

    timeout : 1800
        Seconds (int or float) for all of it.

    Returns a dict: ``verdict`` (text: ``readable``, ``damaged``, ``differs`` from the majority's
    data, or ``runs`` where etcd has started meanwhile and nothing was done), ``words`` (text: why),
    ``index`` and ``revision`` (int: how far the data goes), ``compared`` (text: ``same``, or why it
    could not be compared) and ``seconds`` (float).

    Raises CommandExecutionError where it cannot be told whether the data is damaged: no room for
    the copy, no network namespace, no program, no answer in time. It says how to decide.

    CLI Example:

    .. code-block:: bash

        salt etcd2.example.com etcd_ha_member.examine main
    """
    etcd_ha_faces.sound(locals())
    began, member = time.monotonic(), _member(cluster)
    if etcd_ha_host_ended.stays():
        return {"verdict": "runs", "words": "etcd runs here", "index": 0, "revision": 0}
    ended = etcd_ha_host_ended.look()
    subject = _subject(member)
    with etcd_ha_host_examine.alone():
        found = etcd_ha_host_examine.examine(subject, float(timeout), log.info)
    if found.verdict == etcd_ha_host_examine.READABLE:
        found = etcd_ha_host_examine.shortened(found, subject, ended.code)
        found = etcd_ha_host_examine.misplaced(found, subject)
        found = _compared(member, found, endpoints)
    found = dataclasses.replace(found, invocation=ended.invocation)
    etcd_ha_host_examine.write(found)
    if found.verdict == etcd_ha_host_examine.UNPROVEN:
        raise CommandExecutionError(
            f"it cannot be told whether the data of {member['name']} is damaged: {found.words}. "
            "Nothing was changed. Remove this cause and run it again, or, if the other members are "
            "a quorum, have it rebuilt from them on your word: "
            f"{etcd_ha_plan_examine.replacing(cluster, __grains__['id'])}"
        )
    told = dataclasses.asdict(found)
    shown = {key: told[key] for key in ("verdict", "words", "index", "revision", "compared")}
    return {**shown, "seconds": round(time.monotonic() - began, 1)}


def compare(cluster, timeout=120):
    """
    See that this member, which serves again, has the data that the majority has.

    Where it has not, it is stopped and marked to be replaced, which the next orchestrate does.

    cluster
        The name of the cluster (text).

    timeout : 120
        Seconds (int or float) for each member to read its keys.

    Returns a dict: ``agree`` (bool: True; None where it cannot be compared) and ``words`` (text:
    the hashes, or why there are none).

    Raises CommandExecutionError where its data differs.

    CLI Example:

    .. code-block:: bash

        salt etcd2.example.com etcd_ha_member.compare main
    """
    etcd_ha_faces.sound(locals())
    member, here = _member(cluster), etcd_ha_client.serving_endpoint()
    with etcd_ha_faces.told(etcd_ha_etcdctl.EtcdctlError, cure=etcd_ha_faces.LOG):
        own = etcd_ha_faces.status(member, 10, here)[0]["member_id"]
        listed = etcd_ha_client.members(member, 10, here)
    try:
        rows = etcd_ha_client.hashes(member, listed, float(timeout))
    except etcd_ha_etcdctl.EtcdctlError as err:
        return {"agree": None, "words": str(err)}
    found, words = etcd_ha_hashes.verdict(listed, rows), etcd_ha_hashes.words(listed, rows)
    if not found.right:
        return {"agree": None, "words": f"no majority holds the same: {words}"}
    if own not in found.odd:
        return {"agree": True, "words": words}
    _give_up(member, etcd_ha_host_examine.DIFFERS, f"its keys differ from the majority's: {words}")
    raise CommandExecutionError(
        f"the keys of {member['name']} differ from the majority's ({words}), so it was stopped. "
        "Run the orchestrate again: it replaces this member"
    )


def mark_for_replacement(cluster):
    """
    Stop this member, and mark its data as given up: the orchestrate rebuilds it from the others.

    Sound or not, its data is set aside then, and nothing of it is deleted.

    cluster
        The name of the cluster (text).

    Returns a dict: ``stopped`` (bool) and ``marked`` (bool; False where there is no data).

    Raises CommandExecutionError where the others have no quorum, or etcd does not stop.

    CLI Example:

    .. code-block:: bash

        salt etcd2.example.com etcd_ha_member.mark_for_replacement main
    """
    etcd_ha_faces.sound(locals())
    member = _member(cluster)
    ran = bool(etcd_ha_common_systemd.unit("etcd.service").pid)
    _refuse_without_others(member)
    if ran and __salt__["etcd_ha.local_health"]()["healthy"]:
        __salt__["etcd_ha.move_leader"]()
    marked = _give_up(member, etcd_ha_host_examine.GIVEN_UP, "its replacement was asked for")
    return {"stopped": ran, "marked": marked}


def _member(cluster):
    """The member of this host by its pillar; refused where somebody else's etcd is in the way."""
    return etcd_ha_faces.of_cluster(__salt__["etcd_ha.host"](), cluster)


def _subject(member):
    record = etcd_ha_host_record.read()
    places = etcd_ha_host_examine.places(etcd_ha_client.configured(), record)
    if places is None:
        raise CommandExecutionError(
            f"{__grains__['id']} holds no data to examine. Run: salt-run state.orchestrate "
            "etcd_ha.orch"
        )
    program = os.path.realpath(etcd_ha_client.program("etcd"))
    release = __salt__["etcd_ha.version"]()["installed"]
    if not release:
        raise CommandExecutionError(
            f"{program} does not tell its version (etcd --version), so nothing was examined. Run: "
            "salt-run state.orchestrate etcd_ha.orch"
        )
    owner = (member["user"], member["group"])
    ids = (record.get("cluster_id") or "", record.get("member_id") or "")
    return etcd_ha_host_examine.Subject(*places, program, release, owner, ids)


def _compared(member, found, endpoints):
    """The verdict, beside what the members that run hold at the same revision."""
    if found.verdict != etcd_ha_host_examine.READABLE or not found.hash:
        return found
    if not endpoints:
        return dataclasses.replace(found, compared="not compared: no other member runs")
    try:
        listed = etcd_ha_client.members(member, 10, endpoints)
        rows = etcd_ha_client.hashes_at(member, endpoints, found.revision, HASH_TIMEOUT)
    except etcd_ha_etcdctl.EtcdctlError as err:
        return dataclasses.replace(found, compared=f"not compared: {err}")
    return etcd_ha_host_examine.compared(found, listed, rows)


def _refuse_without_others(member):
    """Only where the others are a quorum is this one rebuilt from them."""
    others = etcd_ha_client.others(member)
    with etcd_ha_faces.told(etcd_ha_etcdctl.EtcdctlError, cure=etcd_ha_faces.HEALTH):
        listed = etcd_ha_client.members(member, 10, others) if others else []
        voters = [one for one in listed if not one["learner"]]
        own = {member["environment"]["ETCD_INITIAL_ADVERTISE_PEER_URLS"]}
        rest = [m for m in voters if not own & set(m["peer_urls"]) and m["name"] != member["name"]]
        fit = etcd_ha_client.fit(member, rest)
    needed = etcd_ha_membership.quorum(len(voters))
    if not listed or len(fit) < needed:
        raise CommandExecutionError(
            f"{len(fit)} of the other members are healthy, and {needed} of {len(voters)} are "
            f"needed for a quorum without {member['name']}. Nothing was stopped. "
            f"{etcd_ha_faces.HEALTH}"
        )


def _give_up(member, verdict, words):
    """Stop etcd and keep that its data is not to be used; whether there is any."""
    with etcd_ha_faces.told(etcd_ha_data.DataError):
        etcd_ha_data.stop(member["start_timeout"])
    places = etcd_ha_host_examine.places(etcd_ha_client.configured(), etcd_ha_host_record.read())
    if places is None:
        return False
    release = __salt__["etcd_ha.version"]()["installed"]
    etcd_ha_host_examine.write(etcd_ha_host_examine.given_up(verdict, words, *places, release))
    return True
