"""
Keys of etcd as states, for seed data: what has to be there before the first client comes.

Run them on one member; every member sees the same keys. They are read and written by root's admin
certificate. A value reaches etcdctl by its standard input alone.
"""

from collections.abc import Mapping

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_arguments
import etcd_ha_client
import etcd_ha_etcdctl
import etcd_ha_faces
import etcd_ha_keys
from salt.exceptions import CommandExecutionError, SaltInvocationError

# Beside _states/etcd_ha.py: Salt puts the functions of both under this name.
__virtualname__ = "etcd_ha"


def __virtual__():
    return __virtualname__


def key_present(
    name, value=None, value_pillar=None, secret=False, replace=True, key=None, timeout=10
):
    """
    A key has this value.

    name
        The key (text), or a sentence for people where ``key`` is given.

    value : None
        The value (text; numbers are written as text).

    value_pillar : None
        Where the value stands in the pillar instead (text, colon-separated), so that it stands in
        no SLS file.

    secret : False
        Whether the value must not be shown in ``changes`` (bool). With ``value_pillar`` it never
        is.

    replace : True
        False leaves a key that is there as it is, whatever its value (bool): a seed alone.

    key : None
        The key (text); by default ``name``.

    timeout : 10
        Seconds (int or float) for each call of etcdctl.

    .. code-block:: yaml

        the first configuration of the application is there:
          etcd_ha.key_present:
            - key: /app/config/mode
            - value: active
            - replace: False

        /app/config/token:
          etcd_ha.key_present:
            - value_pillar: app:token
    """
    refused = etcd_ha_arguments.refused(locals(), key="any?", value="value")
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    key, hidden = key or name, secret or value_pillar is not None
    try:
        wanted = _wanted(key, value, value_pillar)
        old = _pairs(etcd_ha_keys.get(key), timeout).get(key)
    except (CommandExecutionError, SaltInvocationError) as err:
        return {**ret, "result": False, "comment": str(err)}
    if old == wanted.encode():
        return {**ret, "comment": f"{key} has this value"}
    if old is not None and not replace:
        return {**ret, "comment": f"{key} is there and keeps its value (replace: False)"}
    ret["changes"] = {
        key: {
            "old": etcd_ha_keys.shown(old, hidden),
            "new": etcd_ha_keys.shown(wanted.encode(), hidden),
        }
    }
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"{key} would be written"}
    try:
        command, stdin = etcd_ha_keys.put(key, wanted)
        _call(command, timeout, stdin)
    except CommandExecutionError as err:
        return {**ret, "result": False, "changes": {}, "comment": str(err)}
    return {**ret, "comment": f"{key} was written"}


def key_absent(name, prefix=False, key=None, timeout=10):
    """
    A key is not there, or none that begins so.

    name
        The key (text), or a sentence for people where ``key`` is given.

    prefix : False
        Whether all keys that begin with it are meant (bool).

    key : None
        The key (text); by default ``name``.

    timeout : 10
        Seconds (int or float) for each call of etcdctl.

    .. code-block:: yaml

        nothing of the former application is left:
          etcd_ha.key_absent:
            - key: /old-app/
            - prefix: True
    """
    refused = etcd_ha_arguments.refused(locals(), key="any?")
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    key = key or name
    fault = etcd_ha_keys.key_fault(key)
    if fault:
        return {**ret, "result": False, "comment": f"{fault}. Nothing was deleted"}
    try:
        found = list(_pairs(etcd_ha_keys.list_keys(key, prefix), timeout))
    except CommandExecutionError as err:
        return {**ret, "result": False, "comment": str(err)}
    what = f"keys below {key}" if prefix else key
    if not found:
        return {**ret, "comment": f"{what}: not there"}
    ret["changes"] = {"deleted": etcd_ha_keys.named(found)}
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"{what}: {len(found)} would be deleted"}
    try:
        _call(etcd_ha_keys.delete(key, prefix), timeout)
    except CommandExecutionError as err:
        return {**ret, "result": False, "changes": {}, "comment": str(err)}
    return {**ret, "comment": f"{what}: {len(found)} deleted"}


def _wanted(key, value, value_pillar):
    """The value as text."""
    fault = etcd_ha_keys.key_fault(key)
    if fault:
        raise SaltInvocationError(f"{fault}. Nothing was written")
    if (value is None) == (value_pillar is None):
        raise SaltInvocationError(f"{key}: give either value or value_pillar")
    if value is not None:
        found, where = value, "value"
    else:
        found, where = _from_pillar(value_pillar), f"the pillar's {value_pillar}"
    if isinstance(found, bool) or not isinstance(found, (str, int, float)):
        # Not the value itself: it may be secret.
        raise SaltInvocationError(
            f"{key}: {where} is a {type(found).__name__}; give text (quote true, false and lists)"
        )
    try:
        return str(found)
    except ValueError:
        # Python writes out no whole number beyond some thousand digits.
        raise SaltInvocationError(f"{key}: {where} is a huge number; quote it") from None


def _from_pillar(path):
    """A value of the pillar. (Salt 3008's pillar.get returns asterisks in its place.)"""
    found = __pillar__
    for part in path.split(":"):
        if not isinstance(found, Mapping) or part not in found:
            raise SaltInvocationError(
                f"the pillar of {__grains__['id']} has no {path}; assign it to this minion"
            )
        found = found[part]
    return found


def _pairs(command, timeout):
    with etcd_ha_faces.told(etcd_ha_etcdctl.EtcdctlError, cure=etcd_ha_faces.HEALTH):
        return etcd_ha_keys.pairs(_call(command, timeout).json())


def _call(command, timeout, stdin=None):
    member = etcd_ha_client.member_on_disk()
    if member is None:
        raise CommandExecutionError(
            "no etcd member is configured here: run this state on a member, after the orchestrate"
        )
    here = etcd_ha_client.serving_endpoint()
    with etcd_ha_faces.told(etcd_ha_etcdctl.EtcdctlError, cure=etcd_ha_faces.HEALTH):
        done = etcd_ha_client.etcdctl(member, command, timeout, here, stdin)
    if done.code != 0:
        said = done.err.strip().splitlines()[-1:] or ["no reason given"]
        raise CommandExecutionError(
            f"etcdctl {command[0]}: {said[0]}. Look at: salt-run etcd_ha.status"
        )
    return done
