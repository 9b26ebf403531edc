"""Who may do what in a cluster: the pillar's ``access``, what etcd has, and how they differ.

Passwords never come here: a user has one or has none. https://etcd.io/docs/v3.6/op-guide/authentication/
"""

import base64
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ROOT = "root"
# What is to become of a user's password, by how it is (etcd_ha_auth.password_differs).
ANOTHER, ONE, NONE = "another", "one", "none, by certificate alone"
_PASSWORDS: Mapping[str, str] = {
    ANOTHER: "another password for {}",
    ONE: "no password any more for {}, by certificate alone",
    NONE: "a password for {}, who has none",
}
ACCESS: tuple[str, ...] = ("read", "write", "readwrite")
# etcd stores at most what bcrypt can tell apart: its newer releases refuse more, older ones pass
# over the rest (golang.org/x/crypto/bcrypt, ErrPasswordTooLong).
LONGEST_PASSWORD = 72

# A colon would end the name on etcdctl's command line (etcdctl/ctlv3/command/user_command.go).
_NAME = re.compile(r"(?=.{1,128}$)[A-Za-z0-9_][A-Za-z0-9_.@+-]*")
# Bytes of a key: it is an argument of etcdctl, and Linux takes 128 KiB for each.
LONGEST_KEY = 32768
_USER_KEYS = ("roles", "password")
_ROLE_KEYS = ("permissions",)
_PERMISSION_KEYS = ("prefix", "key", "range_end", "access")
# Where a range ends that has no end; etcd's "\0" (etcdserverpb.RangeRequest.range_end).
_NO_END = b"\0"


@dataclass(frozen=True, order=True)
class Range:
    """The keys from ``key`` to before ``end``; the one key where ``end`` is empty."""

    key: bytes
    end: bytes = b""

    @classmethod
    def prefix(cls, text: str) -> "Range":
        """All keys that begin so; every key for an empty text."""
        if not text:
            return cls(_NO_END, _NO_END)
        return cls(text.encode(), prefix_end(text.encode()))

    def arguments(self) -> list[str]:
        """How etcdctl takes it: flags, ``--``, then ``KEY`` or ``KEY END``."""
        key = self.key.decode("utf-8", "surrogateescape")
        if self == Range(_NO_END, _NO_END):
            return ["--prefix", "--", ""]
        if self.end == _NO_END:
            return ["--from-key", "--", key]
        if self.end and self.end == prefix_end(self.key):
            return ["--prefix", "--", key]
        return ["--", key] + ([self.end.decode("utf-8", "surrogateescape")] if self.end else [])

    def __str__(self) -> str:
        key, end = (part.decode("utf-8", "backslashreplace") for part in (self.key, self.end))
        if self == Range(_NO_END, _NO_END):
            return "every key"
        if self.end == _NO_END:
            return f"{key} and every key after it"
        if self.end and self.end == prefix_end(self.key):
            return f"{key}*"
        return f"{key} to before {end}" if self.end else key


def prefix_end(prefix: bytes) -> bytes:
    """The first key behind all that begin so (client/v3/op.go, getPrefix)."""
    for at in range(len(prefix) - 1, -1, -1):
        if prefix[at] < 0xFF:
            return prefix[:at] + bytes([prefix[at] + 1])
    return _NO_END


Permissions = Mapping[Range, str]


@dataclass(frozen=True)
class Access:
    """What the pillar wants; ``enabled`` is None where authentication is left as it is."""

    enabled: bool | None = None
    users: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    roles: Mapping[str, Permissions] = field(default_factory=dict)
    remove_unknown: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Access":
        """Read a cluster's complete ``access`` settings, once ``faults`` has found none."""
        users = {n: tuple(sorted(set(u.get("roles") or ()))) for n, u in settings["users"].items()}
        if settings["enabled"] or ROOT in users:
            users[ROOT] = (ROOT,)
        roles = {n: permissions(r.get("permissions") or ()) for n, r in settings["roles"].items()}
        return cls(settings["enabled"], users, roles, settings["remove_unknown"])

    @property
    def managed(self) -> bool:
        """Whether the pillar says anything of who may do what."""
        return self.enabled is not None or bool(self.users or self.roles or self.remove_unknown)


@dataclass(frozen=True)
class Live:
    """What etcd has, as one member tells it.

    ``passwords`` has the users whose password is not the pillar's, and how it is; ``named`` those
    for whom the pillar of that member has a password at all.
    """

    enabled: bool
    users: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    roles: Mapping[str, Permissions] = field(default_factory=dict)
    passwords: Mapping[str, str] = field(default_factory=dict)
    named: tuple[str, ...] = ()

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Live":
        """Read what ``data`` has written."""
        return cls(
            bool(facts["enabled"]),
            {name: tuple(roles) for name, roles in facts["users"].items()},
            {name: _from_rows(rows) for name, rows in facts["roles"].items()},
            dict(facts.get("passwords", {})),
            tuple(facts.get("named", ())),
        )

    def data(self) -> dict[str, Any]:
        """Plain data, for a minion's facts."""
        return {
            "enabled": self.enabled,
            "users": {name: list(roles) for name, roles in self.users.items()},
            "roles": {name: _rows(found) for name, found in self.roles.items()},
            "passwords": dict(self.passwords),
            "named": list(self.named),
        }


def permissions(listed: Iterable[Mapping[str, str]]) -> dict[Range, str]:
    """The pillar's list of permissions by their range."""
    return {_range(one): one["access"] for one in listed}


def _range(one: Mapping[str, str]) -> Range:
    if "prefix" in one:
        return Range.prefix(one["prefix"])
    return Range(one["key"].encode(), one.get("range_end", "").encode())


def _rows(found: Permissions) -> list[list[str]]:
    def coded(part: bytes) -> str:
        return base64.b64encode(part).decode()

    return [[coded(one.key), coded(one.end), access] for one, access in sorted(found.items())]


def _from_rows(rows: Iterable[Sequence[str]]) -> dict[Range, str]:
    decode = base64.b64decode
    return {Range(decode(key), decode(end)): access for key, end, access in rows}


# How they differ


def told(found: Permissions) -> list[str]:
    """Permissions in words, such as ``readwrite /app/*``."""
    return [f"{access} {one}" for one, access in sorted(found.items())]


def role_changes(present: Permissions | None, wanted: Permissions) -> dict[str, dict[str, str]]:
    """How a role differs: range -> {old, new}; ``role`` where there is none yet."""
    changes = {} if present is not None else {"role": {"old": "absent", "new": "present"}}
    for one in sorted({*(present or {}), *wanted}):
        old, new = (present or {}).get(one, "none"), wanted.get(one, "none")
        if old != new:
            changes[str(one)] = {"old": old, "new": new}
    return changes


def unknown(wanted: Access, live: Live) -> tuple[list[str], list[str]]:
    """The users and the roles that etcd has and the pillar does not name; none unless it asks."""
    if not wanted.remove_unknown:
        return [], []
    users = set(live.users) - set(wanted.users) - {ROOT}
    return sorted(users), sorted(set(live.roles) - set(wanted.roles) - {ROOT})


def differences(wanted: Access, live: Live) -> list[str]:
    """How etcd differs from the pillar, a few words for each user and role."""
    if not wanted.managed:
        return []
    found = [f"role {n}" for n in sorted(wanted.roles) if _role_differs(wanted, live, n)]
    for name, roles in sorted(wanted.users.items()):
        if live.users.get(name) != tuple(sorted(roles)):
            found.append(f"user {name}")
        elif name in live.passwords:
            found.append(_PASSWORDS[live.passwords[name]].format(name))
    users, roles_left = unknown(wanted, live)
    found += [f"user {name} is unknown" for name in users]
    found += [f"role {name} is unknown" for name in roles_left]
    if wanted.enabled is not None and wanted.enabled != live.enabled:
        refused = ", and clients without a user are refused from then on"
        found.append(f"authentication is to be {'on' + refused if wanted.enabled else 'off'}")
    return found


def _role_differs(wanted: Access, live: Live, name: str) -> bool:
    return bool(role_changes(live.roles.get(name), wanted.roles[name]))


# The pillar's faults


def password_fault(password: object) -> str:
    """Why etcd could not keep this password as it is, or an empty text; never the password."""
    if not isinstance(password, str) or not password:
        return "is empty or no text"
    # etcdctl reads it up to the first blank (fmt.Scanf in user_command.go).
    if not password.isprintable() or any(letter.isspace() for letter in password):
        return "holds a blank or a character that cannot be printed, which etcdctl cannot take"
    if len(password.encode()) > LONGEST_PASSWORD:
        return f"is longer than {LONGEST_PASSWORD} bytes, and etcd takes no more"
    return ""


def name_fault(name: object) -> str:
    """Why etcdctl could not take this name of a user or role, or an empty text."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return ""
    return "use letters, digits and the characters '_', '.', '@', '+', '-', at most 128 of them"


def faults(settings: Mapping[str, Any], tls: bool, members: Iterable[str], key: str) -> list[str]:
    """Faults of a cluster's ``access``, each with its key; values that may be secret are not told.

    ``members`` are the members' names: their certificates bear these as common names.
    """
    found = []
    enabled = settings["enabled"]
    if enabled is not None and not isinstance(enabled, bool):
        found.append(f"{key}:enabled is {enabled!r}; use true, false, or null to leave it as it is")
    if enabled is True and not tls:
        found.append(
            f"{key}:enabled is true without TLS, where anyone on the way reads the passwords; set "
            "tls:enabled: true, or access:enabled: false"
        )
    for name, user in settings["users"].items():
        found += _user_faults(name, user, settings["roles"], f"{key}:users:{name}")
        if name in members:
            found.append(
                f"{key}:users:{name} is the name of a member, whose certificates etcd would take "
                "for this user's; give the user another name"
            )
    for name, role in settings["roles"].items():
        found += _role_faults(name, role, f"{key}:roles:{name}")
    return found


def _user_faults(name: object, user: object, roles: Mapping[str, Any], key: str) -> list[str]:
    wrong = name_fault(name)
    if wrong:
        return [f"{key}: {name!r} is not a user's name; {wrong}"]
    if not isinstance(user, Mapping):
        return [f"{key} must be a mapping such as {{roles: [app]}}"]
    found = _unknown_keys(user, _USER_KEYS, key)
    given = user.get("roles", [])
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        found.append(f"{key}:roles is no list of names; write [app]")
        given = []
    found += [
        f"{key}:roles has {one!r}, which is not under access:roles; define it there"
        for one in given
        if one not in roles and one != ROOT
    ]
    if name == ROOT and set(given) - {ROOT}:
        found.append(f"{key}:roles: root has the role root and needs no other; leave roles out")
    if "password" in user:
        wrong = password_fault(user["password"])
        # Where it lies is told by an URI, and what it is only on the member.
        uri = isinstance(user["password"], str) and user["password"].startswith("sdb://")
        found += [f"{key}:password {wrong}"] if wrong and not uri else []
    return found


def _role_faults(name: object, role: object, key: str) -> list[str]:
    wrong = name_fault(name)
    if wrong:
        return [f"{key}: {name!r} is not a role's name; {wrong}"]
    if name == ROOT:
        return [f"{key}: root is etcd's own role and may do everything; leave it out"]
    if not isinstance(role, Mapping):
        return [f"{key} is {role!r}; write {{permissions: [{{prefix: /app/, access: read}}]}}"]
    found = _unknown_keys(role, _ROLE_KEYS, key)
    listed = role.get("permissions", [])
    if not isinstance(listed, list):
        return [*found, f"{key}:permissions is {listed!r}; it must be a list"]
    seen: set[Range] = set()
    for number, one in enumerate(listed):
        where = f"{key}:permissions:{number}"
        wrong_ones = _permission_faults(one, where)
        found += wrong_ones
        if not wrong_ones and _range(one) in seen:
            found.append(f"{where} is for {_range(one)}, which an earlier one is for; keep one")
        if not wrong_ones:
            seen.add(_range(one))
    return found


def permission_faults(listed: object, key: str) -> list[str]:
    """Faults of a role's list of permissions, each with its place."""
    return _role_faults("role", {"permissions": listed}, key)


def _permission_faults(one: object, key: str) -> list[str]:
    if not isinstance(one, Mapping):
        return [f"{key} is {one!r}; write {{prefix: /app/, access: readwrite}}"]
    found = _unknown_keys(one, _PERMISSION_KEYS, key)
    if one.get("access") not in ACCESS:
        found.append(f"{key}:access is {one.get('access')!r}; use {' or '.join(ACCESS)}")
    if ("prefix" in one) == ("key" in one):
        found.append(f"{key} needs one of prefix and key")
    if "range_end" in one and "key" not in one:
        found.append(f"{key}:range_end goes with key alone; a prefix has its own end")
    for name in ("prefix", "key", "range_end"):
        value = one.get(name, "x")
        if not isinstance(value, str) or (not value and name != "prefix") or "\0" in value:
            found.append(f"{key}:{name} is {value!r}; give text, quoted where it looks otherwise")
        elif len(value.encode("utf-8", "surrogatepass")) > LONGEST_KEY:
            found.append(f"{key}:{name} is longer than {LONGEST_KEY} bytes; give a shorter one")
    is_range = isinstance(one.get("key"), str) and isinstance(one.get("range_end"), str)
    if is_range and one["range_end"].encode() <= one["key"].encode():
        found.append(f"{key}:range_end is {one['range_end']!r}; it must come after the key")
    return found


def _unknown_keys(given: Mapping[Any, Any], known: Sequence[str], key: str) -> list[str]:
    found = []
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            cure = f"did you mean {near[0]!r}?" if near else f"allowed are: {', '.join(known)}"
            found.append(f"{key}:{name} is not a setting of etcd_ha; {cure}")
    return found
