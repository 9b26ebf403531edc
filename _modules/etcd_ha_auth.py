"""
etcd's own users, roles and authentication, as root's certificate on this member may change them.

A password is never an argument here: a function is told where it lies, so that neither the
command, nor a log, nor the job's return holds it.

:depends: etcdctl, which the formula installs on members
"""

import copy

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_access
import etcd_ha_auth
import etcd_ha_client
import etcd_ha_etcdctl
import etcd_ha_faces
import etcd_ha_plain
import etcd_ha_topology
import salt.pillar
import salt.utils.files
import salt.utils.yaml
from etcd_ha_common_text import few
from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "etcd_ha_auth"

_CURE = "Where root is not let in see docs/access.md, else journalctl -u etcd"


def __virtual__():
    return __virtualname__


def status():
    """
    Whether authentication is on, and the users and roles that etcd has.

    Returns a dict: ``enabled`` (bool), ``users`` (name -> list of roles), and ``roles`` (name ->
    list of text such as ``readwrite /app/*``).

    Raises CommandExecutionError when etcd does not answer, or does not take this host for root.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_auth.status
    """
    return etcd_ha_auth.in_words(_live())


def set_user(user, roles=(), password_pillar=None, password=None, test=False):
    """
    Make a user, or give it other roles or another password.

    A user without a password comes by a certificate with its name as common name. Where a user
    with a password is to have none, or the other way round, it is made anew: etcd has no other way.
    While authentication is off, etcd tries no password, so that of a user that is there is set
    again each time.

    user
        Its name (text).

    roles : ()
        The roles that it shall have (list of text); others are revoked. ``root`` has the role
        ``root`` alone, whatever stands here.

    password_pillar : None
        The pillar key (text, with colons) that holds its password, or the ``sdb://`` URI of it.

    password : None
        The ``sdb://`` URI (text) of its password; never the password itself.

    test : False
        Only tell what would change (bool).

    Returns the changes (dict): ``user``, ``roles`` and ``password``, each ``{old, new}`` where it
    differs; never a password. Empty where nothing does.

    Raises SaltInvocationError for a name or a password that etcd could not keep, and for a pillar
    key that is not there; CommandExecutionError when a role is missing, a password cannot be
    fetched, or etcd refuses. What was changed by then stands in the error (``info:changes``).

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_auth.set_user app '[app]' password=sdb://etcd_secrets/main:app
    """
    etcd_ha_faces.sound(locals())
    _check_name(user, "user")
    secret, run = _secret(password_pillar, password), _run()
    with _told():
        found = etcd_ha_auth.live(run)
        present, wanted = found.users.get(user), sorted(set(roles or ()))
        if user == etcd_ha_access.ROOT:
            wanted = [etcd_ha_access.ROOT]
        lacking = sorted(set(wanted) - set(found.roles) - {etcd_ha_access.ROOT})
        # Under test=True the state that would make it has not.
        if lacking and not test:
            raise CommandExecutionError(
                f"etcd has no role {few(lacking)}, which {user} is to have: make it first "
                "(etcd_ha.role_present). Nothing was changed"
            )
        changes, anew = _user_changes(run, user, found, wanted, secret)
        if anew:
            _refuse_new_root(user, found)
        if test or not changes:
            return changes
        how = "anew" if anew else "password" if "password" in changes else ""
        try:
            etcd_ha_auth.set_user(run, user, secret, present, wanted, how)
        except etcd_ha_auth.Halfway as err:
            raise _halfway(err, _user_made(err, present, changes)) from err
    return changes


def remove_user(user, test=False):
    """
    Take a user out of etcd.

    user
        Its name (text).

    test : False
        Only tell what would change (bool).

    Returns the changes (dict): ``user`` with ``old`` and ``new``; empty where there is no such
    user.

    Raises CommandExecutionError when etcd refuses, and for root while authentication is on.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_auth.remove_user app
    """
    etcd_ha_faces.sound(locals())
    run = _run()
    with _told():
        if user not in etcd_ha_auth.users(run):
            return {}
        _refuse_without_root(run, user)
        if not test:
            etcd_ha_auth.remove_user(run, user)
    return {"user": {"old": "present", "new": "absent"}}


def set_role(role, permissions=(), test=False):
    """
    Make a role, or give it other permissions.

    role
        Its name (text).

    permissions : ()
        A list of dicts: ``access`` (``read``, ``write`` or ``readwrite``) and either ``prefix``
        (text; empty for every key) or ``key``, with ``range_end`` for a range. Others are revoked.

    test : False
        Only tell what would change (bool).

    Returns the changes (dict): range -> ``{old, new}``, and ``role`` where there was none; empty
    where nothing differs.

    Raises SaltInvocationError for permissions that are none and for the role root,
    CommandExecutionError when etcd refuses. What was changed by then stands in the error
    (``info:changes``).

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_auth.set_role app '[{prefix: /app/, access: readwrite}]'
    """
    etcd_ha_faces.sound(locals())
    _check_name(role, "role")
    if role == etcd_ha_access.ROOT:
        raise SaltInvocationError("root is etcd's own role and may do everything; leave it alone")
    faults = etcd_ha_plain.faults(permissions, "permissions") or etcd_ha_access.permission_faults(
        list(permissions or ()), f"role {role}"
    )
    if faults:
        raise SaltInvocationError("; ".join(faults))
    run, wanted = _run(), etcd_ha_access.permissions(permissions or ())
    with _told():
        present = etcd_ha_auth.roles(run).get(role)
        changes = etcd_ha_access.role_changes(present, wanted)
        if test or not changes:
            return changes
        try:
            etcd_ha_auth.set_role(run, role, present, wanted)
        except etcd_ha_auth.Halfway as err:
            made = {} if err.now is None else etcd_ha_access.role_changes(present, err.now)
            raise _halfway(err, made) from err
    return changes


def remove_role(role, test=False):
    """
    Take a role out of etcd; users that have it lose it.

    role
        Its name (text).

    test : False
        Only tell what would change (bool).

    Returns the changes (dict): ``role`` with ``old`` and ``new``; empty where there is no such
    role.

    Raises CommandExecutionError when etcd refuses, and for root while authentication is on.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_auth.remove_role app
    """
    etcd_ha_faces.sound(locals())
    run = _run()
    with _told():
        if role not in etcd_ha_auth.roles(run):
            return {}
        _refuse_without_root(run, role)
        if not test:
            etcd_ha_auth.remove_role(run, role)
    return {"role": {"old": "present", "new": "absent"}}


def enable(test=False):
    """
    Turn authentication on, once it is certain that root's certificate here gets in afterwards.

    The user root with the role root is made where it is missing, by certificate alone.

    test : False
        Only tell what would change (bool).

    Returns the changes (dict): ``authentication``, and ``root`` where that user or its role is
    made, each ``{old, new}``; empty where it is on.

    Raises CommandExecutionError where this member asks clients for no certificate, or where the
    name in root's certificate is that of no user with the role root: it would lock everyone out.
    Also when etcd refuses.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_auth.enable
    """
    etcd_ha_faces.sound(locals())
    run, name = _run(), _admin_name()
    with _told():
        found = etcd_ha_auth.live(run)
        if found.enabled:
            return {}
        root = etcd_ha_access.ROOT
        changes = {"authentication": {"old": "off", "new": "on"}}
        if not etcd_ha_auth.may_do_all(found, root):
            changes[root] = {"old": list(found.users.get(root, ())) or "absent", "new": [root]}
        if name != root and not etcd_ha_auth.may_do_all(found, name):
            raise CommandExecutionError(
                f"authentication was not turned on: the certificate of root's etcdctl has the name "
                f"{name!r}, and no such user has the role root, so that nobody could turn it off "
                "again. Give that user the role root first (access:users), or use a client "
                "certificate with the common name root"
            )
        if not test:
            _make_root(run, found)
            try:
                etcd_ha_auth.enable(run)
            except (etcd_ha_auth.AuthError, etcd_ha_etcdctl.EtcdctlError) as err:
                made = {name: change for name, change in changes.items() if name == root}
                raise _halfway(err, made) from err
    return changes


def disable(test=False):
    """
    Turn authentication off: whoever has a certificate of the cluster's CA may do everything.

    test : False
        Only tell what would change (bool).

    Returns the changes (dict): ``authentication`` with ``old`` and ``new``; empty where it is off.

    Raises CommandExecutionError when etcd refuses.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_auth.disable
    """
    etcd_ha_faces.sound(locals())
    run = _run()
    with _told():
        if not etcd_ha_auth.enabled(run):
            return {}
        if not test:
            etcd_ha_auth.disable(run)
    return {"authentication": {"old": "on", "new": "off"}}


def wanted():
    """
    What the pillar's ``access`` wants of this minion's cluster, for the states; never a password.

    Returns a dict: ``cluster`` (text), ``enabled`` (bool or None), ``roles`` (list of ``{role,
    permissions}``), ``users`` (list of ``{user, roles, password_pillar}``), and ``unknown_users``
    and ``unknown_roles``, which ``remove_unknown`` takes out (lists of text).

    Raises CommandExecutionError with every fault of the pillar, where this is no member, and with
    ``remove_unknown`` when etcd does not answer.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_auth.wanted
    """
    name, settings = _settings(__pillar__)
    access = etcd_ha_access.Access.of(settings)
    users, roles = etcd_ha_access.unknown(access, _live()) if access.remove_unknown else ([], [])
    return {
        "cluster": name,
        "enabled": access.enabled,
        "roles": [
            {"role": role, "permissions": list(settings["roles"][role].get("permissions", ()))}
            for role in sorted(access.roles)
        ],
        "users": [
            {
                "user": user,
                "roles": list(access.users[user]),
                "password_pillar": _password_key(__pillar__, name, user),
            }
            for user in sorted(access.users)
        ],
        "unknown_users": users,
        "unknown_roles": roles,
    }


def observed():
    """
    What etcd has, for the planner, and whose password is not the pillar's; never a password.

    The pillar is compiled anew for it: that in a minion's memory may be older than its files.

    Returns a dict: ``enabled`` (bool), ``users`` and ``roles`` (dicts), ``passwords`` (name -> how
    it is in etcd, of those that are not the pillar's), ``named`` (list of those who have one in
    this minion's pillar); or ``error`` (text) alone. It raises nothing.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_auth.observed
    """
    try:
        found, run = _live(), _run()
        pillar = _compiled_pillar()
        name, settings = _settings(pillar)
        keys = {user: _password_key(pillar, name, user) for user in sorted(settings["users"])}
        secrets = {user: _resolved(key, pillar) for user, key in keys.items()}
        with _told():
            tried = set(secrets) & set(found.users) if found.enabled else ()
            how = {u: etcd_ha_auth.password_differs(run, u, secrets[u]) for u in sorted(tried)}
    except (CommandExecutionError, SaltInvocationError) as err:
        return {"error": str(err)}
    wrong = {user: old for user, old in how.items() if old}
    return {**found.data(), "passwords": wrong, "named": [u for u, key in keys.items() if key]}


def _compiled_pillar():
    compiled = salt.pillar.get_pillar(
        __opts__,
        __grains__,
        __opts__["id"],
        __opts__.get("saltenv"),
        pillarenv=__opts__.get("pillarenv"),
    ).compile_pillar()
    if compiled.get("_errors"):
        raise CommandExecutionError(f"the pillar of {__opts__['id']} does not render")
    return compiled


def _settings(pillar):
    """The name of this minion's cluster, and its complete ``access``."""
    with etcd_ha_faces.told(etcd_ha_topology.PillarError):
        read = etcd_ha_topology.read_each(copy.deepcopy(pillar.get("etcd_ha")), _defaults())
        clusters = read.known_to(__grains__["id"])
    for name, cluster in clusters.items():
        if cluster.member(__grains__["id"]):
            return name, cluster.settings["access"]
    raise CommandExecutionError(
        f"{__grains__['id']} is no member of a cluster: ask a member for its users and roles"
    )


def _defaults():
    cached = __salt__["cp.cache_file"]("salt://etcd_ha/defaults.yaml")
    if not cached:
        raise CommandExecutionError(
            "salt://etcd_ha/defaults.yaml is not there: add the formula to the master's file_roots"
        )
    with salt.utils.files.fopen(cached, encoding="utf-8") as file:
        return salt.utils.yaml.safe_load(file)


def _password_key(pillar, cluster, user):
    """The pillar key that holds a user's password; None where it has none."""
    places = (f"etcd_ha:clusters:{cluster}", "etcd_ha")
    keys = [f"{place}:access:users:{user}:password" for place in places]
    return next((key for key in keys if _at(pillar, key) is not None), None)


def _at(pillar, key):
    """A value of the pillar as it is: ``pillar.get`` masks it from Salt 3008 on."""
    value = pillar
    for part in key.split(":"):
        if not hasattr(value, "get") or value.get(part) is None:
            return None
        value = value.get(part)
    return value


def _secret(key, uri):
    """The password that is meant, None where there is none; errors name its place alone."""
    if uri and not str(uri).startswith("sdb://"):
        raise SaltInvocationError(
            "password must be the sdb:// URI of the password: arguments stand in logs and in the "
            "job cache. Put the password into the pillar, and name its key by password_pillar"
        )
    if key and uri:
        raise SaltInvocationError("give password_pillar or password, not both")
    return _looked_up(uri, uri) if uri else _resolved(key, __pillar__)


def _resolved(key, pillar):
    if not key:
        return None
    value = _at(pillar, key)
    if value is None:
        raise SaltInvocationError(
            f"the pillar of {__grains__['id']} has no {key}: assign the pillar file with the "
            "passwords to the members"
        )
    return _looked_up(value, key)


def _looked_up(value, place):
    if isinstance(value, str) and value.startswith("sdb://"):
        try:
            value = __salt__["sdb.get"](value)
        except Exception as err:  # sdb.get raises whatever its driver raises
            raise CommandExecutionError(
                f"the password at {place} could not be fetched ({type(err).__name__}): see "
                "salt-call sdb.get there"
            ) from None
        if value is None or str(value).startswith("sdb://"):
            raise CommandExecutionError(
                f"the password at {place} was not found: see that this minion's configuration has "
                "the sdb profile, and that the store has the password"
            )
    fault = etcd_ha_access.password_fault(value)
    if fault:
        raise SaltInvocationError(f"the password at {place} {fault}")
    return value


def _check_name(name, kind):
    fault = etcd_ha_access.name_fault(name)
    if fault:
        raise SaltInvocationError(f"{name!r} is not a {kind}'s name; {fault}")


def _user_changes(run, user, found, roles, secret):
    """How a user differs, and whether it has to be made anew."""
    present = found.users.get(user)
    new = etcd_ha_access.NONE if secret is None else "the one that is wanted"
    if present is None:
        return {
            "user": {"old": "absent", "new": "present"},
            "password": {"old": "none", "new": new},
            **({"roles": {"old": [], "new": roles}} if roles else {}),
        }, False
    changes, old = {}, ""
    if found.enabled:
        old = etcd_ha_auth.password_differs(run, user, secret)
    elif secret is not None:
        old = "none that can be tried while authentication is off"
    if old:
        changes["password"] = {"old": old, "new": new}
    if sorted(present) != roles:
        changes["roles"] = {"old": sorted(present), "new": roles}
    return changes, bool(old) and (secret is None or old.startswith("none"))


def _refuse_new_root(user, found):
    """Etcd keeps root while authentication is on, so that it cannot be made anew."""
    if user == etcd_ha_access.ROOT and found.enabled:
        raise CommandExecutionError(
            "root cannot be given its first password, or lose its only one, while authentication "
            "is on. Set access:enabled: false, run the orchestrate, and set it to true again"
        )


def _refuse_without_root(run, name):
    """Etcd keeps root while authentication is on; so says ``test=True``, too."""
    if name == etcd_ha_access.ROOT and etcd_ha_auth.enabled(run):
        raise CommandExecutionError(
            "root stays while authentication is on. Turn it off first: access:enabled: false and "
            "the orchestrate, or etcd_ha_auth.disable"
        )


def _make_root(run, found):
    root = etcd_ha_access.ROOT
    present = found.users.get(root)
    if root not in found.roles:
        etcd_ha_auth.set_role(run, root, None, {})
    try:
        etcd_ha_auth.set_user(run, root, None, present, [root])
    except etcd_ha_auth.Halfway as err:
        made = {}
        if err.now is not None and (present is None or sorted(present) != err.now):
            made[root] = {"old": "absent" if present is None else sorted(present), "new": err.now}
        if root not in found.roles:
            made["role root"] = {"old": "absent", "new": "present"}
        raise _halfway(err, made) from err


def _user_made(err, present, changes):
    """Those of a user's changes that were made before etcd refused."""
    made = {}
    if (present is None) != (err.now is None):
        states = {True: "absent", False: "present"}
        made["user"] = {"old": states[present is None], "new": states[err.now is None]}
    if err.password:
        made["password"] = changes["password"]
    if sorted(present or ()) != list(err.now or ()):
        made["roles"] = {"old": sorted(present or ()), "new": list(err.now or ())}
    return made


def _halfway(err, made):
    """The error of a change that ended halfway: Salt's own place for what was changed by then."""
    return CommandExecutionError(f"{err}. {_CURE}", info={"changes": made} if made else None)


def _admin_name():
    """The common name in the certificate of root's etcdctl, by which etcd knows it."""
    variables = etcd_ha_client.environment(etcd_ha_faces.member())
    configured = etcd_ha_client.configured()
    if configured.get("ETCD_CLIENT_CERT_AUTH") != "true" or "ETCDCTL_CERT" not in variables:
        raise CommandExecutionError(
            "authentication was not turned on: this member asks clients for no certificate. Set "
            "tls:enabled: true and run salt-run state.orchestrate etcd_ha.orch first"
        )
    return __salt__["x509.read_certificate"](variables["ETCDCTL_CERT"])["subject"].get("CN", "")


def _run():
    """etcdctl at this member's own endpoint, as root's certificate."""
    member, here = etcd_ha_faces.member(), etcd_ha_client.serving_endpoint()

    def run(arguments, stdin, more):
        return etcd_ha_client.etcdctl(member, arguments, 15, here, stdin, more)

    return run


def _live():
    with _told():
        return etcd_ha_auth.live(_run())


def _told():
    """What etcd refuses as an error of Salt's."""
    return etcd_ha_faces.told(
        etcd_ha_auth.AuthError,
        etcd_ha_etcdctl.EtcdctlError,
        cure=_CURE,
    )
