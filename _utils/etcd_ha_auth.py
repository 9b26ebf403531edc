"""etcd's users and roles by way of etcdctl, from 3.4 to 3.7: its calls, and what it answers.

Passwords go to ``user add`` and ``user passwd`` by stdin. To try one, etcdctl gets it in its
environment, which on Linux root alone can read of a process of root's (/proc/PID/environ, 0400).
"""

import secrets
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import etcd_ha_access
import etcd_ha_etcdctl
from etcd_ha_access import ANOTHER, NONE, ONE, ROOT, Live, Permissions, Range
from etcd_ha_etcdctl import Answer, EtcdctlError

# etcdctl's arguments, what it reads, and variables beside those of root's etcdctl.
Run = Callable[[list[str], str | None, Mapping[str, str]], Answer]

# authpb.Permission.Type; etcdctl's JSON leaves 0 out.
_TYPES: Mapping[int, str] = {0: "read", 1: "write", 2: "readwrite"}
# server/auth/store.go, ErrNoPasswordUser and ErrAuthFailed.
_WITHOUT = "password was given for no password user"
_WRONG = "invalid user ID or password"


class AuthError(RuntimeError):
    """etcd refused; the text is its own."""


class Halfway(AuthError):
    """etcd refused what is done in several calls; what the earlier ones did stays.

    ``now`` is what there is by then: a user's roles or a role's permissions, None where there is no
    such user or role. ``password`` is whether a user has got the wanted one.
    """

    def __init__(self, why: Exception, now: Any, password: bool = False) -> None:
        super().__init__(str(why))
        self.now, self.password = now, password


def _said(answer: Answer) -> str:
    """etcdctl's own word for a failure, without the lines of its log."""
    lines = [line.strip() for line in f"{answer.err}\n{answer.out}".splitlines() if line.strip()]
    errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    return (errors or lines or [f"exit code {answer.code}"])[-1][-300:]


def _do(run: Run, verb: str, *names: str, flags: str = "", stdin: str | None = None) -> Answer:
    answer = run(_command(verb, flags, *names), stdin, {})
    if answer.code != 0:
        raise AuthError(f"etcdctl {verb} failed: {_said(answer)}")
    return answer


def _command(verb: str, flags: str, *names: str) -> list[str]:
    """Names behind ``--``: etcd lets one begin with a dash, and others may have made it."""
    return [*verb.split(), *flags.split(), *(["--", *names] if names else [])]


def _json(run: Run, verb: str, *names: str) -> Mapping[str, Any]:
    return etcd_ha_etcdctl.table(_do(run, verb, *names, flags="-w json").json())


# What is there


def enabled(run: Run) -> bool:
    """Whether etcd asks who its clients are."""
    try:
        # Since 3.5: an etcdctl of 3.4 answers with its usage and exit code 0, an etcd of 3.4 that
        # a newer etcdctl asks knows no such call.
        return etcd_ha_etcdctl.flag(_json(run, "auth status"), "enabled")
    except (AuthError, EtcdctlError):
        return try_password(run, "etcd_ha-nobody", secrets.token_hex(8)) != "off"


def users(run: Run) -> dict[str, tuple[str, ...]]:
    """Each user's roles."""
    names = sorted(etcd_ha_etcdctl.texts(_json(run, "user list"), "users"))

    def roles(name: str) -> tuple[str, ...]:
        return tuple(sorted(etcd_ha_etcdctl.texts(_json(run, "user get", name), "roles")))

    return dict(zip(names, _at_once(roles, names), strict=True))


def roles(run: Run) -> dict[str, Permissions]:
    """Each role's permissions; those of root are not told by etcd."""
    names = sorted(etcd_ha_etcdctl.texts(_json(run, "role list"), "roles"))

    def held(name: str) -> Permissions:
        found = _json(run, "role get", name).get("perm")
        return _permissions(etcd_ha_etcdctl.rows(found, "perm"))

    return dict(zip(names, _at_once(held, names), strict=True))


def _at_once(ask: Callable[[str], Any], names: list[str]) -> Iterable[Any]:
    with ThreadPoolExecutor(4) as each:
        return list(each.map(ask, names))


def _permissions(rows: Iterable[Mapping[str, Any]]) -> dict[Range, str]:
    coded, found = etcd_ha_etcdctl.coded, {}
    for row in rows:
        kind = etcd_ha_etcdctl.number(row, "permType")
        if kind not in _TYPES:
            raise EtcdctlError(f"etcd tells a permission of a kind that is not known: {kind}")
        found[Range(coded(row, "key"), coded(row, "range_end"))] = _TYPES[kind]
    return found


def live(run: Run) -> Live:
    """Whether authentication is on, and who may do what."""
    return Live(enabled(run), users(run), roles(run))


def try_password(run: Run, user: str, password: str) -> str:
    """What etcd makes of it: ``right``, ``wrong``, ``without`` (the user has none), or ``off``.

    While authentication is off, no password can be tried: etcdctl passes over it. Of a user that
    there is not this then says ``off``, of others ``right``.
    """
    answer = run(
        _command("user get", "-w json", user),
        None,
        {"ETCDCTL_USER": user, "ETCDCTL_PASSWORD": password},
    )
    told = f"{answer.err}\n{answer.out}"
    if _WITHOUT in told:
        return "without"
    if _WRONG in told:
        return "wrong"
    if "authentication is not enabled" in told or "user name not found" in told:
        return "off"
    if answer.code != 0:
        raise AuthError(f"etcd did not say whether a password of {user} is right: {_said(answer)}")
    # An exit code of 0 alone is no answer of etcd's: so ends whatever has etcdctl's name.
    etcd_ha_etcdctl.table(answer.json())
    return "right"


def password_differs(run: Run, user: str, password: str | None) -> str:
    """How a user's password is while authentication is on, where not as wanted; else empty.

    That is ``ANOTHER``, ``ONE`` or ``NONE`` of etcd_ha_access.

    ``password`` is None for a user by certificate alone.
    """
    found = try_password(run, user, secrets.token_hex(8) if password is None else password)
    if password is None:
        return "" if found in ("without", "off") else ONE
    return {"wrong": ANOTHER, "without": NONE}.get(found, "")


# What is done


def add_user(run: Run, user: str, password: str | None) -> None:
    """Make a user, by certificate alone without a password."""
    if password is None:
        _do(run, "user add", user, flags="--no-password")
    else:
        _do(run, "user add", user, flags="--interactive=false", stdin=f"{password}\n")


def set_password(run: Run, user: str, password: str) -> None:
    """Give a user that has a password another one."""
    _do(run, "user passwd", user, flags="--interactive=false", stdin=f"{password}\n")


def set_user(
    run: Run,
    user: str,
    password: str | None,
    present: Iterable[str] | None,
    wanted: Iterable[str],
    how: str = "",
) -> None:
    """Make a user with these roles, or change one that is there; raises Halfway.

    ``how`` is what becomes of a user that is there: ``anew`` takes it out first, ``password`` gives
    it another one. etcd can give no password to a user without one, and take none away: ``user
    passwd`` says that it has, and has not (server/auth/store.go, UserChangePassword).
    """
    now = None if present is None else sorted(present)
    given = False
    try:
        if now is not None and how == "anew":
            remove_user(run, user)
            now = None
        if now is None:
            add_user(run, user, password)
            now, given = [], True
        elif how == "password" and password is not None:
            set_password(run, user, password)
            given = True
        for role in sorted(set(wanted) - set(now)):
            _do(run, "user grant-role", user, role)
            now = sorted([*now, role])
        for role in sorted(set(now) - set(wanted)):
            _do(run, "user revoke-role", user, role)
            now = [one for one in now if one != role]
    except (AuthError, EtcdctlError) as err:
        raise Halfway(err, now, given) from err


def remove_user(run: Run, user: str) -> None:
    """Take a user out."""
    _do(run, "user delete", user)


def set_role(run: Run, role: str, present: Permissions | None, wanted: Permissions) -> None:
    """Make a role, grant what lacks or is otherwise, then revoke what is too much; raises Halfway.

    A range that is there with other rights is granted anew, which changes them.
    """
    now = None if present is None else dict(present)
    try:
        if now is None:
            _do(run, "role add", role)
            now = {}
        for one, access in sorted(wanted.items()):
            if now.get(one) != access:
                _with_range(run, "role grant-permission", one, role, access)
                now[one] = access
        for one in sorted(set(now) - set(wanted)):
            _with_range(run, "role revoke-permission", one, role)
            del now[one]
    except (AuthError, EtcdctlError) as err:
        raise Halfway(err, now) from err


def _with_range(run: Run, verb: str, one: Range, *words: str) -> None:
    """A range's own flags, then the words and its keys, which may begin with a dash as well."""
    keys = one.arguments()
    at = keys.index("--")
    _do(run, verb, *words, *keys[at + 1 :], flags=" ".join(keys[:at]))


def remove_role(run: Run, role: str) -> None:
    """Take a role out; users that have it lose it."""
    _do(run, "role delete", role)


def enable(run: Run) -> None:
    """Have etcd ask who its clients are; it refuses unless root has the role root."""
    _do(run, "auth enable")


def disable(run: Run) -> None:
    """Let everyone in whose certificate is of the cluster's CA."""
    _do(run, "auth disable")


def may_do_all(found: Live, user: str) -> bool:
    """Whether a user has the role root."""
    return ROOT in found.users.get(user, ())


def in_words(found: Live) -> dict[str, Any]:
    """What is there, for people."""
    return {
        "enabled": found.enabled,
        "users": {name: list(held) for name, held in found.users.items()},
        "roles": {
            name: ["everything"] if name == ROOT else etcd_ha_access.told(held)
            for name, held in found.roles.items()
        },
    }
