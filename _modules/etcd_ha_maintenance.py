"""
The space of this minion's etcd and the alarms of its cluster: compact, defragment, disarm.

The orchestrate calls these; each looks at the live cluster again before it acts, and each may be
called again after an interruption.

:depends: etcdctl, which the formula installs on members
"""

import os
import time

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_client
import etcd_ha_data
import etcd_ha_etcdctl
import etcd_ha_faces
import etcd_ha_hashes
import etcd_ha_machine
import etcd_ha_report
import etcd_ha_space
from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "etcd_ha_maintenance"

# Seconds for a member's hash: it reads its whole database.
HASH_TIMEOUT = 60


def __virtual__():
    return __virtualname__


def compact(timeout=300):
    """
    Drop all revisions of the keys but the present one, in the whole cluster.

    Whoever watches from an older revision is told so (``required revision has been compacted``) and
    reads anew. https://etcd.io/docs/v3.6/op-guide/maintenance/ ("History compaction")

    timeout : 300
        Seconds (int or float) to wait until the pages are free on disk.

    Returns a dict: ``revision`` (int), the one that was compacted to.

    Raises CommandExecutionError when etcd refuses or does not answer, or no member is configured.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_maintenance.compact
    """
    etcd_ha_faces.sound(locals())
    revision = _own()["revision"]
    command = ["compact", str(revision), "--physical", f"--command-timeout={timeout}s"]
    done = _call(command, timeout + 10)
    # Done before, in a run that was interrupted, or by the cluster itself.
    if done.code != 0 and "has been compacted" not in done.err:
        raise CommandExecutionError(
            f"etcd did not compact: {done.err.strip()[-300:]}. Look at: salt-run etcd_ha.status, "
            "and run it again"
        )
    return {"revision": revision}


def defragment(successor="", timeout=None):
    """
    Defragment the database of the etcd on this minion, after handing leadership over.

    It stands still meanwhile, so with three or more voters it is not begun unless the others are a
    quorum, nor in any case while the disk has no room for the copy that etcd makes. The end is
    waited for: healthy again and close to the leader.

    successor
        The name of the member that shall lead (text), if this one does; without it the most
        advanced one.

    timeout : None
        Seconds (int or float) for the defragmentation; by default by the size of the database: a
        minute, and a second for each 10 MiB.

    Returns a dict: ``before``, ``after``, ``freed`` and ``in_use`` (text, such as ``1.5 GiB``),
    ``bytes_freed`` (int; below 0 where it grew meanwhile) and ``seconds`` (float).

    Raises CommandExecutionError when it may not be begun, fails, or the member does not recover.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_maintenance.defragment
    """
    etcd_ha_faces.sound(locals(), timeout="seconds?")
    before = _own()
    reason = __salt__["etcd_ha.reason_to_stay"]() or _no_room(before["db_in_use"])
    if reason:
        raise CommandExecutionError(f"the database was not defragmented: {reason}")
    if before["leader"]:
        __salt__["etcd_ha.move_leader"](successor)
    seconds = timeout or etcd_ha_space.patience(before["db_size"])
    began = time.monotonic()
    done = _call(["defrag", f"--command-timeout={seconds}s"], seconds + 10)
    took = time.monotonic() - began
    if done.code != 0:
        raise CommandExecutionError(
            f"the defragmentation failed: {(done.err or done.out).strip()[-300:]}. Look at: "
            "journalctl -u etcd"
        )
    _wait_healthy(60)
    __salt__["etcd_ha_member.promote"]()
    after = _own()
    freed = before["db_size"] - after["db_size"]
    return {
        "before": etcd_ha_report.size(before["db_size"]),
        "after": etcd_ha_report.size(after["db_size"]),
        "freed": etcd_ha_report.size(max(0, freed)),
        "in_use": etcd_ha_report.size(after["db_in_use"]),
        "bytes_freed": freed,
        "seconds": round(took, 2),
    }


def alarms():
    """
    The alarms that are raised in the cluster of this minion's etcd.

    Returns a list of dicts: ``alarm`` (``NOSPACE`` or ``CORRUPT``) and ``member_id`` (hex text,
    empty where etcd names nobody).

    Raises CommandExecutionError when etcd does not answer.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_maintenance.alarms
    """
    with etcd_ha_faces.told(etcd_ha_etcdctl.EtcdctlError, cure=etcd_ha_faces.LOG):
        return etcd_ha_client.alarms(etcd_ha_faces.member(), 10, etcd_ha_client.serving_endpoint())


def reason_for(alarm):
    """
    Why an alarm must stay for now.

    NOSPACE stays while a database is not below its quota, CORRUPT while members hold different
    data. A member that cannot tell keeps it, too.

    alarm
        ``NOSPACE`` or ``CORRUPT`` (text).

    Returns text; empty where nothing speaks for it any more.

    Raises CommandExecutionError when etcd does not answer.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_maintenance.reason_for NOSPACE
    """
    etcd_ha_faces.sound(locals())
    _refuse_unknown(alarm)
    with etcd_ha_faces.told(etcd_ha_etcdctl.EtcdctlError, cure=etcd_ha_faces.HEALTH):
        here = etcd_ha_client.serving_endpoint()
        listed = etcd_ha_client.members(etcd_ha_faces.member(), 10, here)
        if alarm == etcd_ha_space.CORRUPT:
            return _difference(listed)
        return _lack_of_space(listed)


def disarm(alarm):
    """
    Disarm one kind of alarm in the whole cluster, once nothing speaks for it any more.

    ``etcdctl alarm disarm`` disarms all kinds (AlarmDisarm in client/v3/maintenance.go), so the
    HTTP gateway is asked, which takes one. With etcd's own users it refuses a certificate; then
    etcdctl is asked, but for NOSPACE only while there is no CORRUPT.

    alarm
        ``NOSPACE`` or ``CORRUPT`` (text).

    Returns the list of what was disarmed: dicts with ``alarm`` and ``member_id`` (hex text); empty
    where it was not raised.

    Raises CommandExecutionError when a reason for the alarm is left, or etcd refuses.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_maintenance.disarm NOSPACE
    """
    etcd_ha_faces.sound(locals())
    _refuse_unknown(alarm)
    raised = [one for one in alarms() if one["alarm"] == alarm]
    if not raised:
        return []
    reason = reason_for(alarm)
    if reason:
        raise CommandExecutionError(f"the alarm {alarm} stays: {reason}")
    for one in raised:
        try:
            _disarm_one(one)
        except OSError as err:
            _disarm_all(alarm, str(err))
            break
    left = [one for one in alarms() if one["alarm"] == alarm]
    if left:
        raise CommandExecutionError(
            f"the alarm {alarm} was disarmed, and is raised again: the cluster still has a reason "
            "for it. Look at: journalctl -u etcd"
        )
    return raised


def _own():
    """What the etcd on this minion says of itself."""
    here = etcd_ha_client.serving_endpoint()
    return etcd_ha_faces.status(etcd_ha_faces.member(), 10, here)[0]


def _call(command, seconds):
    with etcd_ha_faces.told(etcd_ha_etcdctl.EtcdctlError, cure=etcd_ha_faces.LOG):
        here = etcd_ha_client.serving_endpoint()
        return etcd_ha_client.etcdctl(etcd_ha_faces.member(), command, seconds, here)


def _refuse_unknown(alarm):
    if alarm not in (etcd_ha_space.NOSPACE, etcd_ha_space.CORRUPT):
        raise SaltInvocationError(f"alarm is {alarm!r}; use NOSPACE or CORRUPT")


def _no_room(in_use):
    """Why the disk here cannot take the copy that a defragmentation makes; empty where it can."""
    folder = f"{_running().get('ETCD_DATA_DIR', '')}/member/snap"
    try:
        found = os.statvfs(folder)
    except OSError as err:
        return f"it cannot be seen how much room there is in {folder}: {err.strerror}"
    fault = etcd_ha_space.room_fault(in_use, found.f_bavail * found.f_frsize)
    lacks = etcd_ha_data.inodes_fault(folder, 1)
    if lacks:
        return f"{lacks}, and run again"
    return f"{folder}: {fault}. Make room there, and run again" if fault else ""


def _running():
    """The variables that the etcd here was started with."""
    pid = etcd_ha_faces.unit("etcd.service").pid
    return etcd_ha_machine.process_environment(pid) or etcd_ha_client.configured()


def _wait_healthy(seconds):
    deadline, health = time.monotonic() + seconds, {}
    while time.monotonic() < deadline:
        health = __salt__["etcd_ha.local_health"]()
        if health["healthy"]:
            return
        time.sleep(0.3)
    raise CommandExecutionError(
        f"the database was defragmented, but etcd is not healthy after {seconds} s "
        f"({health.get('error', 'no answer')}). Look at: journalctl -u etcd"
    )


def _difference(listed):
    """Why CORRUPT must stay."""
    rows = etcd_ha_client.hashes(etcd_ha_faces.member(), listed, HASH_TIMEOUT)
    if etcd_ha_hashes.verdict(listed, rows).agreed:
        return ""
    told = etcd_ha_hashes.words(listed, rows)
    return f"not all members hold the same ({told}). Run salt-run etcd_ha.plan"


def _lack_of_space(listed):
    """Why NOSPACE must stay."""
    urls = etcd_ha_client.advertised(listed)
    rows = etcd_ha_client.status(etcd_ha_faces.member(), 10 * len(listed), urls)
    silent = {one["id"] for one in listed} - {row["member_id"] for row in rows}
    if silent:
        names = ", ".join(etcd_ha_etcdctl.called(m) for m in listed if m["id"] in silent)
        return (
            f"{names} does not answer, and its database may be full. Run salt-run "
            "state.orchestrate etcd_ha.orch, which heals or replaces it, or take it out of the "
            "pillar"
        )
    full = etcd_ha_space.too_large(rows, etcd_ha_space.quota(_running()))
    if full:
        return (
            f"{', '.join(full)}. Delete keys, or raise options:quota-backend-bytes and run "
            "etcd_ha.orch; then run etcd_ha.orch.recover_space again"
        )
    return ""


def _disarm_one(one):
    pki, url = etcd_ha_client.environment(etcd_ha_faces.member()), etcd_ha_client.serving_endpoint()
    files = tuple(pki.get(f"ETCDCTL_{name}") for name in ("CACERT", "CERT", "KEY"))
    body = etcd_ha_space.deactivation(one["alarm"], one["member_id"])
    etcd_ha_machine.post_often(f"{url}/v3/maintenance/alarm", files, body, 1)


def _disarm_all(alarm, why):
    others = {one["alarm"] for one in alarms()} - {alarm}
    if etcd_ha_space.CORRUPT in others:
        raise CommandExecutionError(
            f"{alarm} was not disarmed: etcd would disarm CORRUPT with it ({why}). Run salt-run "
            "state.orchestrate etcd_ha.orch first, which replaces the member whose data is wrong"
        )
    done = _call(["alarm", "disarm"], 20)
    if done.code != 0:
        raise CommandExecutionError(
            f"etcd did not disarm {alarm}: {done.err.strip()[-300:]}. Look at: "
            "salt-run etcd_ha.status, and run it again"
        )
    if etcd_ha_space.CORRUPT in done.out and alarm != etcd_ha_space.CORRUPT:
        raise CommandExecutionError(
            "etcd raised CORRUPT in the very moment in which its alarms were disarmed, so that is "
            "disarmed as well. Compare the members now: salt-run etcd_ha.hash_kv"
        )
