"""
etcd's own users, roles and authentication as states, on a member.

They are ``etcd_ha.user_present`` and so on: Salt puts the functions of files with one virtual name
together.
"""

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_arguments
import etcd_ha_faces
from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "etcd_ha"


def __virtual__():
    return __virtualname__


def user_present(name, user=None, roles=(), password_pillar=None, password=None):
    """
    A user is there, with these roles and this password.

    Without a password it comes by a certificate with its name as common name. While authentication
    is off, etcd tries no password: that of a user that is there is then set again by each run.

    name
        A sentence for people, or the user.

    user : None
        The user (text), where it is not the name.

    roles : ()
        The roles that it shall have (list of text); others are revoked.

    password_pillar : None
        The pillar key (text) that holds its password, or the ``sdb://`` URI of it.

    password : None
        The ``sdb://`` URI (text) of its password; the password itself would stand in logs.

    .. code-block:: yaml

        the user app reads and writes below /app/:
          etcd_ha.user_present:
            - user: app
            - roles: [app]
            - password_pillar: secrets:etcd:app
    """
    refused = etcd_ha_arguments.refused(locals(), user="text?")
    if refused:
        return refused
    asked = {"roles": list(roles or ()), "password_pillar": password_pillar, "password": password}
    return _state(name, "etcd_ha_auth.set_user", user or name, "is as it should be", **asked)


def user_absent(name, user=None):
    """
    There is no such user.

    name
        A sentence for people, or the user.

    user : None
        The user (text), where it is not the name.

    .. code-block:: yaml

        nobody comes as the user guest:
          etcd_ha.user_absent:
            - user: guest
    """
    refused = etcd_ha_arguments.refused(locals(), user="text?")
    if refused:
        return refused
    return _state(name, "etcd_ha_auth.remove_user", user or name, "is not there")


def role_present(name, role=None, permissions=()):
    """
    A role is there, with these permissions and no others.

    name
        A sentence for people, or the role.

    role : None
        The role (text), where it is not the name.

    permissions : ()
        A list of mappings: ``access`` (``read``, ``write`` or ``readwrite``) and either ``prefix``
        (text; empty for every key) or ``key``, with ``range_end`` for a range.

    .. code-block:: yaml

        the role app is for the keys below /app/:
          etcd_ha.role_present:
            - role: app
            - permissions:
              - {prefix: /app/, access: readwrite}
              - {key: /shared/motd, access: read}
    """
    refused = etcd_ha_arguments.refused(locals(), role="text?")
    if refused:
        return refused
    asked = {"permissions": permissions}
    return _state(name, "etcd_ha_auth.set_role", role or name, "is as it should be", **asked)


def role_absent(name, role=None):
    """
    There is no such role; users that have it lose it.

    name
        A sentence for people, or the role.

    role : None
        The role (text), where it is not the name.

    .. code-block:: yaml

        the role guest is gone:
          etcd_ha.role_absent:
            - role: guest
    """
    refused = etcd_ha_arguments.refused(locals(), role="text?")
    if refused:
        return refused
    return _state(name, "etcd_ha_auth.remove_role", role or name, "is not there")


def auth_enabled(name):
    """
    etcd asks who its clients are, and lets them do what their roles say.

    It is turned on only where root's certificate on this member gets in afterwards.

    name
        A sentence for people.

    .. code-block:: yaml

        etcd asks who its clients are:
          etcd_ha.auth_enabled:
            - require:
              - etcd_ha: the user app reads and writes below /app/
    """
    return _state(name, "etcd_ha_auth.enable", None, "authentication is on")


def auth_disabled(name):
    """
    Whoever has a certificate of the cluster's CA may do everything.

    name
        A sentence for people.

    .. code-block:: yaml

        etcd lets everyone in who has a certificate:
          etcd_ha.auth_disabled: []
    """
    return _state(name, "etcd_ha_auth.disable", None, "authentication is off")


def _state(name, function, subject, fine, **asked):
    """Run a function that returns its changes, or only tells them under test=True."""
    ret = {"name": name, "result": True, "changes": {}}
    ret["comment"] = f"{subject} {fine}" if subject else fine
    arguments = [subject] if subject else []
    try:
        ret["changes"] = __salt__[function](*arguments, test=__opts__["test"], **asked)
    except CommandExecutionError as err:
        made = (err.info or {}).get("changes", {})
        return {**ret, "result": False, "changes": made, "comment": err.strerror_without_changes}
    except SaltInvocationError as err:
        return {**ret, "result": False, "comment": str(err)}
    return etcd_ha_faces.changed(ret, __opts__["test"])
