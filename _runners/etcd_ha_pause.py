"""
Members that are stopped on purpose, from the master: for work on their hosts.
"""

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_faces
import etcd_ha_master
import etcd_ha_minions
import etcd_ha_told
from salt.exceptions import CommandExecutionError, SaltInvocationError

# Beside _runners/etcd_ha.py: Salt puts the functions of all under this name.
__virtualname__ = "etcd_ha"


def __virtual__():
    return __virtualname__


def pause(cluster, member, reason, until="", hours=0, timeout=60, data=False):
    """
    Stop a member and hold it stopped until an end: for work on its host.

    Nothing starts, upgrades or changes it meanwhile: no highstate, no orchestrate, no backup timer,
    no reboot of its host. At the end its host starts it by itself. Leadership is moved away first.

    cluster
        The name of the cluster (text).

    member
        The member's name or its minion id (text).

    reason
        Why (text), for those who look at the cluster meanwhile.

    until : ""
        When the pause ends (text), such as ``2026-12-01 06:00``: UTC, or with an offset such as
        ``+01:00``; 90 days from now at most.

    hours : 0
        Instead of that: how long it lasts (hours, int or float).

    timeout : 60
        Seconds (int or float) for etcd to stop.

    data : False
        Data instead of text (bool); ``salt-run --out=json`` (or ``yaml``, ``raw``, ``pprint``)
        returns it by itself.

    Returns text, as data ``{cluster, member, reason, until}`` (text) or ``{error, retcode}``. It
    fails with exit code 1, and nothing is changed, where the other members could not form a quorum
    without this one or that cannot be known, for a wrong argument, and where the member's host does
    not answer.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.pause cluster=main member=etcd2 reason="disk swap" hours=4
        salt-run etcd_ha.pause main etcd2 reason="disk swap" until="2026-12-01 06:00"
    """
    given = locals()

    def paused(master):
        etcd_ha_faces.sound(given, member="name")
        asked = {"reason": reason, "until": until, "hours": hours, "timeout": timeout}
        fault = etcd_ha_told.pause_fault
        name, found = _asked(master, cluster, member, "etcd_ha.pause", asked, fault)
        told = (
            f"{name} of {cluster} is stopped until {found['until']} ({found['reason']}). To end "
            f"that before: salt-run etcd_ha.resume cluster={cluster} member={name}"
        )
        kept = {key: found[key] for key in ("reason", "until")}
        return etcd_ha_master.Answer(told, {"cluster": cluster, "member": name, **kept})

    return etcd_ha_master.answer(__opts__, __context__, data, paused)


def resume(cluster, member, timeout=120, data=False):
    """
    End the pause of a member: start it, and wait until it is healthy.

    cluster
        The name of the cluster (text).

    member
        The member's name or its minion id (text).

    timeout : 120
        Seconds (int or float) to wait for it.

    data : False
        Data instead of text (bool); ``salt-run --out=json`` (or ``yaml``, ``raw``, ``pprint``)
        returns it by itself.

    Returns text, as data ``{cluster, member, resumed}`` (text, text, bool: whether it was paused)
    or ``{error, retcode}``. It fails with exit code 1 where the member does not become healthy (its
    pause has ended then), for a wrong argument, and where its host does not answer.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.resume cluster=main member=etcd2
    """
    given = locals()

    def resumed(master):
        etcd_ha_faces.sound(given, member="name")
        asked, fault = {"timeout": timeout}, etcd_ha_told.resume_fault
        name, found = _asked(master, cluster, member, "etcd_ha.resume", asked, fault)
        told = f"{name} of {cluster} was not paused. Nothing was done"
        if found["resumed"]:
            told = f"{name} of {cluster} runs again, and is healthy. Next: salt-run etcd_ha.plan"
        kept = {"cluster": cluster, "member": name, "resumed": found["resumed"]}
        return etcd_ha_master.Answer(told, kept)

    return etcd_ha_master.answer(__opts__, __context__, data, resumed)


def _asked(master, cluster, member, function, arguments, fault):
    """The member's name, and what its host answers; raises where it refuses or says nothing."""
    members = master.clusters(cluster)[cluster].members
    found = next((m for m in members if member in (m.name, m.minion)), None)
    if found is None:
        raise SaltInvocationError(
            f"{cluster} has no member {member!r}; it has {', '.join(m.name for m in members)}"
        )
    minion = found.minion
    there = etcd_ha_minions.connected(master, [minion])
    etcd_ha_minions.sync(master, [m for m in there if not _knows(master, m)])
    answer = etcd_ha_minions.ask(master, there, function, kwarg=arguments).get(minion)
    if answer is None:
        raise CommandExecutionError(
            f"{minion} did not answer, so it is not known what it did. See: salt-run etcd_ha.status"
        )
    told = answer.get("ret")
    wrong = fault(told)
    if wrong:
        raise CommandExecutionError(f"{minion}: {wrong.removeprefix('ERROR: ')}")
    return found.name, told


def _knows(master, minion):
    """Whether a minion has the formula's modules of now."""
    known = master.cache.fetch(etcd_ha_minions.SYNCED, minion) or {}
    return known.get("digest") == master.modules_digest()
