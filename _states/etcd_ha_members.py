"""
The cluster as its members see it, as states: who is a member, whether all is well, which alarms.

The pillar is the better place to say who is a member: the orchestrate then also installs, starts,
balances and retires it. These are for members that this formula does not run, and for orchestrates
of your own. Run them on one member that stays.
"""

import time

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_arguments
import etcd_ha_client
import etcd_ha_etcdctl
from salt.exceptions import CommandExecutionError, SaltInvocationError

# Beside _states/etcd_ha.py: Salt puts the functions of both under this name.
__virtualname__ = "etcd_ha"


def __virtual__():
    return __virtualname__


def member_present(name, peer_url, member=None, voter=True, timeout=30):
    """
    The cluster's member list has this member, reached at this peer URL, as a voter in the end.

    One that is missing is added as a learner: without a vote it cannot cost the quorum. Start it
    then, with ``initial-cluster-state: existing`` and the ``initial-cluster`` of the comment; the
    next run makes it a voter, once it is at most 500 entries of the log behind.

    name
        The member's name (text), or a sentence for people where ``member`` is given.

    peer_url
        The peer URL that it advertises (text).

    member : None
        The member's name (text); by default ``name``.

    voter : True
        False leaves it a learner (bool).

    timeout : 30
        Seconds (int or float) to wait for etcd, and for a learner that started to catch up.

    .. code-block:: yaml

        the member in the other building takes part:
          etcd_ha.member_present:
            - member: etcd4
            - peer_url: https://192.168.210.64:2380
    """
    refused = etcd_ha_arguments.refused(locals(), member="name?")
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    wanted, done = member or name, {}
    try:
        listed = __salt__["etcd_ha.members"]()
        if not listed:
            raise CommandExecutionError(_NO_MEMBER)
        entry = _entry(listed, wanted, peer_url)
        ret["changes"] = _difference(entry, wanted, peer_url, voter)
        if not ret["changes"]:
            return {**ret, "comment": _as_wanted(entry, wanted, voter)}
        fault = "" if entry else etcd_ha_arguments.fault({"name": wanted})
        if fault:
            raise SaltInvocationError(f"{fault}, or the name under member. Nothing was changed")
        if __opts__["test"]:
            return {**ret, "result": None, "comment": f"{wanted} would be changed"}
        return {**ret, "comment": _enter(entry, wanted, peer_url, voter, timeout, done)}
    except (CommandExecutionError, SaltInvocationError) as err:
        made = {key: ret["changes"][key] for key in done}
        return {**ret, "result": False, "changes": made, "comment": str(err)}


def member_absent(name, member=None, timeout=30):
    """
    The cluster's member list does not have this member.

    It is taken out only where the voters left are a healthy quorum; if it leads, it hands over
    first. Its etcd then ends by itself; its data stays.

    name
        The member's name, its id (as ``etcdctl member list`` has it) or its peer URL (text), or a
        sentence for people where ``member`` is given. One that was added and has not started has
        no name.

    member : None
        The member's name, id or peer URL (text); by default ``name``.

    timeout : 30
        Seconds (int or float) to wait for etcd.

    .. code-block:: yaml

        the member in the other building has left:
          etcd_ha.member_absent:
            - member: etcd4
    """
    refused = etcd_ha_arguments.refused(locals(), member="text?")
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    wanted = member or name
    try:
        listed = __salt__["etcd_ha.members"]()
        if not listed:
            raise CommandExecutionError(_NO_MEMBER)
        entry = next((m for m in listed if wanted in (m["name"], m["id"], *m["peer_urls"])), None)
        if entry is None:
            return {**ret, "comment": f"{wanted} is no member"}
        if entry["id"] == __salt__["etcd_ha.status"]()["member_id"]:
            raise CommandExecutionError(
                f"{wanted} is the member of this minion: run this state on another one that stays"
            )
        reason = __salt__["etcd_ha_member.reason_to_keep"](entry["id"])
        if reason:
            raise CommandExecutionError(reason)
        ret["changes"] = {wanted: {"old": _words(entry), "new": "absent"}}
        if __opts__["test"]:
            return {**ret, "result": None, "comment": f"{wanted} would be taken out of the list"}
        __salt__["etcd_ha_member.remove"](entry["id"], entry["name"], timeout)
    except (CommandExecutionError, SaltInvocationError) as err:
        return {**ret, "result": False, "changes": {}, "comment": str(err)}
    return {**ret, "comment": f"{wanted} was taken out of the list"}


def healthy(name, everyone=False, timeout=60):
    """
    The etcd of this minion, or every member of its cluster, is healthy and no alarm is raised.

    Changes nothing: a gate for your own states and orchestrates.

    name
        A sentence for people.

    everyone : False
        Whether all members must be (bool), not just this minion's.

    timeout : 60
        Seconds (int or float) to wait for it; 0 looks once. So does ``test=True``, where the result
        is None if it is not healthy by then.

    .. code-block:: yaml

        etcd is healthy before the application starts:
          etcd_ha.healthy:
            - everyone: True
            - timeout: 120
    """
    refused = etcd_ha_arguments.refused(locals(), timeout="seconds or 0")
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": "healthy"}
    deadline = time.monotonic() + (0 if __opts__["test"] else float(timeout))
    while True:
        fault = _fault(everyone)
        if not fault:
            return ret
        if time.monotonic() >= deadline:
            break
        time.sleep(0.5)
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"not healthy by now ({fault}); would be awaited"}
    return {**ret, "result": False, "comment": f"not healthy after {timeout} s: {fault}"}


def alarm_absent(name, alarm=None):
    """
    An alarm of the cluster is disarmed, once nothing speaks for it any more; no other one is.

    NOSPACE stays while a database is not below its quota, CORRUPT while members hold different
    data. To get there: ``etcd_ha.orch.recover_space`` and ``etcd_ha.orch``.

    name
        ``NOSPACE`` or ``CORRUPT``, or a sentence for people where ``alarm`` is given.

    alarm : None
        ``NOSPACE`` or ``CORRUPT`` (text); by default ``name``.

    .. code-block:: yaml

        etcd takes writes again:
          etcd_ha.alarm_absent:
            - alarm: NOSPACE
    """
    refused = etcd_ha_arguments.refused(locals(), alarm="any?")
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    wanted = alarm or name
    try:
        if wanted not in etcd_ha_etcdctl.ALARMS.values():
            raise SaltInvocationError(f"alarm is {wanted!r}; use NOSPACE or CORRUPT")
        raised = [a for a in __salt__["etcd_ha_maintenance.alarms"]() if a["alarm"] == wanted]
        if not raised:
            return {**ret, "comment": f"{wanted} is not raised"}
        reason = __salt__["etcd_ha_maintenance.reason_for"](wanted)
        if reason:
            raise CommandExecutionError(f"the alarm {wanted} stays: {reason}")
        ret["changes"] = {wanted: {"old": "raised", "new": "absent"}}
        if __opts__["test"]:
            return {**ret, "result": None, "comment": f"{wanted} would be disarmed"}
        __salt__["etcd_ha_maintenance.disarm"](wanted)
    except (CommandExecutionError, SaltInvocationError) as err:
        return {**ret, "result": False, "changes": {}, "comment": str(err)}
    return {**ret, "comment": f"{wanted} was disarmed"}


_NO_MEMBER = "no etcd member runs on this minion: run this state on a member, after the orchestrate"


def _entry(listed, name, peer_url):
    """A member's entry: by its name, or by its address where it has not started yet."""
    by_name = next((m for m in listed if m["name"] == name), None)
    by_url = next((m for m in listed if peer_url in m["peer_urls"]), None)
    if by_url and by_url["name"] not in ("", name):
        raise SaltInvocationError(
            f"{peer_url} is the peer URL of {by_url['name']}; give {name} one of its own"
        )
    if by_url and by_name and by_url != by_name:
        raise SaltInvocationError(
            f"{peer_url} is the peer URL of a member that was added and never started; take it out "
            f"first: etcd_ha.member_absent with member: {by_url['id']}"
        )
    return by_name or by_url


def _difference(entry, name, peer_url, voter):
    if entry is None:
        return {name: {"old": "absent", "new": f"learner at {peer_url}"}}
    changes = {}
    if entry["peer_urls"] != [peer_url]:
        changes["peer_url"] = {"old": ", ".join(entry["peer_urls"]), "new": peer_url}
    if voter and entry["learner"] and entry["started"]:
        changes["role"] = {"old": "learner", "new": "voter"}
    return changes


def _as_wanted(entry, name, voter):
    if not entry["started"]:
        return f"{name} was added, and has not started yet: start it, then run again"
    if not voter and not entry["learner"]:
        return f"{name} is a voter already, and etcd makes no learner of one"
    return f"{name} is a member ({_words(entry)})"


def _words(entry):
    role = "learner" if entry["learner"] else "voter"
    return f"{role} at {', '.join(entry['peer_urls'])}"


def _enter(entry, name, peer_url, voter, timeout, done):
    """Make the member list have it; a comment for people. ``done`` gets each change once made."""
    if entry is None:
        cluster = __salt__["etcd_ha_member.add"](name, peer_url, timeout)
        return (
            f"{name} was added as a learner. Start it with initial-cluster-state existing and "
            f"initial-cluster {cluster}; then run again, which makes it a voter"
        )
    if entry["peer_urls"] != [peer_url]:
        __salt__["etcd_ha_member.readdress"](entry["id"], peer_url, timeout)
        done["peer_url"] = True
    if voter and entry["learner"] and entry["started"]:
        __salt__["etcd_ha_member.admit"](entry["id"], timeout)
        return f"{name} is a voter now"
    return f"{name} is reached at {peer_url} now"


def _fault(everyone):
    """What is wrong at this moment; empty where all is well."""
    try:
        own = __salt__["etcd_ha.health"]()
    except (CommandExecutionError, SaltInvocationError) as err:
        return str(err)
    # It sets the exit code of a call by hand; a state has its own result.
    __context__.pop("retcode", None)
    if own["role"] == "none":
        return _NO_MEMBER
    if not own["healthy"] or not everyone:
        return own.get("error", "")
    if own["role"] != "member":
        return "only a member can tell of all others: run this state there"
    try:
        listed = __salt__["etcd_ha.members"]()
        urls = etcd_ha_client.advertised(listed)
        fit = etcd_ha_client.healthy(etcd_ha_client.member_on_disk(), 10, urls)
    except (CommandExecutionError, etcd_ha_etcdctl.EtcdctlError) as err:
        return str(err)
    sick = [etcd_ha_etcdctl.called(m) for m in listed if not fit & set(m["client_urls"])]
    if not sick:
        return ""
    return f"{', '.join(sick)} does not answer, or has no quorum. Look at: journalctl -u etcd there"
