"""
A member that is stopped on purpose, and held stopped: for work on its host.

They are ``etcd_ha.pause`` and so on: Salt puts the functions of files with one virtual name
together.
"""

import time
from datetime import datetime, timezone

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_client
import etcd_ha_common_systemd
import etcd_ha_common_wait
import etcd_ha_data
import etcd_ha_etcdctl
import etcd_ha_faces
import etcd_ha_host_hidden
import etcd_ha_host_in_force
import etcd_ha_host_paused
import etcd_ha_host_record
import etcd_ha_membership
import etcd_ha_progress
from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "etcd_ha"

# Seconds in which the others must have gone on without this member.
SETTLE = 10


def __virtual__():
    return __virtualname__


def pause(reason, until="", hours=0, timeout=60):
    """
    Stop the member on this minion, and hold it stopped until an end: for work on its host.

    Nothing starts, upgrades or changes it meanwhile: no highstate, no orchestrate, no backup timer,
    no reboot. At the end the host starts it by itself. ``salt-run etcd_ha.pause`` does the same
    from the master. Leadership is moved away first. Where it is paused already, the reason and the
    end are replaced.

    reason
        Why (text), for those who look at the cluster meanwhile.

    until : ""
        When the pause ends (text), such as ``2026-12-01 06:00``: UTC, or with an offset such as
        ``+01:00``; 90 days from now at most.

    hours : 0
        Instead of that: how long it lasts (hours, int or float).

    timeout : 60
        Seconds (int or float) for etcd to stop.

    Returns a dict: ``cluster``, ``member``, ``reason``, ``since`` and ``until`` (text; times in
    UTC).

    Raises CommandExecutionError, and changes nothing, where the other members could not form a
    quorum without this one or that cannot be known, where this minion holds no member of this
    formula, where its data is out of reach of its path, and where a restore has begun here.
    SaltInvocationError for a wrong end.

    CLI Example:

    .. code-block:: bash

        salt etcd2.example.com etcd_ha.pause reason="disk swap" hours=4
        salt etcd2.example.com etcd_ha.pause reason="disk swap" until="2026-12-01 06:00"
    """
    etcd_ha_faces.sound(locals())
    now = datetime.now(timezone.utc)
    try:
        ends = etcd_ha_host_paused.end(until, hours, now)
    except etcd_ha_host_paused.PauseError as err:
        raise SaltInvocationError(f"{err}. Nothing was done") from err
    record = _own_record()
    old = etcd_ha_host_paused.read()
    unit = etcd_ha_common_systemd.unit(etcd_ha_host_paused.UNIT)
    if not old or unit.is_up:
        _refuse_hidden(unit, record)
        _refuse_loss(record)
    since = old.get("since") or now.strftime(etcd_ha_host_paused.TIME)
    found = {"cluster": record["cluster"], "member": etcd_ha_faces.member()["name"]}
    found |= {"reason": reason, "since": since, "until": ends}
    try:
        etcd_ha_host_paused.keep(found)
        etcd_ha_common_systemd.systemctl("daemon-reload")
        # Anew, so that it goes by the new end.
        etcd_ha_common_systemd.systemctl("enable", etcd_ha_host_paused.TIMER)
        etcd_ha_common_systemd.systemctl("restart", etcd_ha_host_paused.TIMER)
        if unit.is_up:
            _stop(record, timeout)
        _end_if_over(found)
    except (CommandExecutionError, etcd_ha_data.DataError, OSError) as err:
        if old:
            raise CommandExecutionError(f"the pause was not changed as a whole: {err}") from err
        _lift()
        _start()
        raise CommandExecutionError(f"the member was not paused, and runs: {err}") from err
    return found


def resume(timeout=120):
    """
    End the pause of the member on this minion: start it, and wait until it is healthy.

    timeout : 120
        Seconds (int or float) to wait for it.

    Returns a dict: ``resumed`` (bool; False where it was not paused, and nothing was done) and
    ``was`` (text: the pause in words).

    Raises CommandExecutionError where the member does not become healthy; it is not paused any
    more then.

    CLI Example:

    .. code-block:: bash

        salt etcd2.example.com etcd_ha.resume
    """
    etcd_ha_faces.sound(locals())
    found = etcd_ha_host_paused.read()
    if not _lift():
        return {"resumed": False, "was": ""}
    deadline = etcd_ha_common_wait.Deadline(timeout)
    with etcd_ha_faces.told(etcd_ha_data.DataError):
        etcd_ha_data.start(timeout)

    def look():
        health = __salt__["etcd_ha.local_health"]()
        return (True if health["healthy"] else None), health.get("error", "no answer")

    try:
        etcd_ha_common_wait.until("etcd to be healthy", deadline, look, 0.5)
    except etcd_ha_common_wait.TimedOut as err:
        raise CommandExecutionError(
            f"the pause has ended, but etcd is not healthy: {err}. See salt-run etcd_ha.plan"
        ) from err
    return {"resumed": True, "was": etcd_ha_host_paused.words(found) if found else ""}


def paused():
    """
    The pause of the member on this minion.

    Returns a dict: ``cluster``, ``member``, ``reason``, ``since``, ``until`` (text; times in UTC)
    and ``ended`` (bool: the end has passed, and whatever runs next starts the member). Empty where
    it is not paused.

    CLI Example:

    .. code-block:: bash

        salt 'etcd*' etcd_ha.paused
    """
    found = etcd_ha_host_paused.read()
    ended = etcd_ha_host_paused.has_ended(found, datetime.now(timezone.utc))
    return {**found, "ended": ended} if found else {}


def _own_record():
    """The record of the member here, which this formula set up."""
    refused = __salt__["etcd_ha.refusal"]()
    if refused:
        raise CommandExecutionError(refused)
    record = etcd_ha_host_record.read()
    if record.get("state") != "bootstrapped" or not etcd_ha_client.configured():
        raise CommandExecutionError("this minion holds no member of a cluster, so none is paused")
    begun = etcd_ha_progress.unfinished()
    if begun:
        raise CommandExecutionError(
            f"a {begun} was begun on this host and not ended. Nothing was done; end it first: "
            f"salt-run state.orchestrate etcd_ha.orch.{begun}"
        )
    return record


def _refuse_hidden(unit, record):
    """Stop where the data that etcd has open is not what its next start would find."""
    found = etcd_ha_host_hidden.of_process(unit.pid)
    if found:
        name = etcd_ha_faces.member()["name"]
        told = etcd_ha_host_hidden.words(found, record["cluster"], name, ())
        raise CommandExecutionError(f"{told}. It was not paused")


def _refuse_loss(record, stopped=False):
    """Stop where the others have no quorum without this member, or nobody knows."""
    member = etcd_ha_faces.member()
    running = not stopped and etcd_ha_common_systemd.unit(etcd_ha_host_paused.UNIT).pid
    here = etcd_ha_client.serving_endpoint() if running else etcd_ha_client.others(member)
    try:
        voters = [m for m in etcd_ha_client.members(member, 10, here) if not m["learner"]]
        others = [m for m in voters if m["id"] != record["member_id"]]
        fit = [one["name"] for one in etcd_ha_client.fit(member, others)]
    except etcd_ha_etcdctl.EtcdctlError as err:
        raise CommandExecutionError(
            f"whether the other members are a quorum cannot be known ({err}), so this one is not "
            "paused. Look at: salt-run etcd_ha.status"
        ) from err
    needed = etcd_ha_membership.quorum(len(voters))
    if len(fit) < needed:
        raise CommandExecutionError(
            f"without this member {len(fit)} of {len(voters)} members would be healthy, and "
            f"{needed} are needed for a quorum, so it is not paused. Resume or heal the others "
            "first: salt-run etcd_ha.status"
        )


def _stop(record, timeout):
    """Stop etcd after moving leadership away; raises where the others cannot go on without it."""
    if __salt__["etcd_ha.local_health"]()["healthy"]:
        __salt__["etcd_ha.move_leader"]()
    etcd_ha_data.stop(timeout)
    # Two pauses at the same moment have both seen a quorum that neither leaves.
    deadline = time.monotonic() + SETTLE
    while True:
        try:
            _refuse_loss(record, stopped=True)
            return
        except CommandExecutionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def _end_if_over(pause):
    """End a pause that was over before all was in place: systemd forgets a time in the past."""
    if etcd_ha_host_paused.has_ended(pause, datetime.now(timezone.utc)):
        etcd_ha_common_systemd.systemctl("start", etcd_ha_host_paused.SERVICE)


def _lift():
    """Remove the pause's files; whether there were any."""
    if etcd_ha_common_systemd.unit(etcd_ha_host_paused.TIMER).active:
        etcd_ha_common_systemd.systemctl("stop", etcd_ha_host_paused.TIMER)
    found = etcd_ha_host_paused.lift()
    if found:
        etcd_ha_common_systemd.systemctl("daemon-reload")
    return bool(found)


def _start():
    """Start etcd again; an error of its own is told by whoever looks next."""
    record = etcd_ha_host_in_force.read() or {}
    timeout = (record.get("member") or {}).get("start_timeout", 120)
    with etcd_ha_faces.told(etcd_ha_data.DataError):
        etcd_ha_data.start(timeout)
