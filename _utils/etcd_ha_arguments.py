"""What a public function may be given, by the names of its parameters: one table for all faces.

A function of Salt's takes whatever somebody types, or a state's YAML makes of it. What is of
another kind is told in a sentence before anything is done; and nothing that reaches a program can
be taken there for an option, or stands in a path or a unit as more than itself.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import etcd_ha_backup
import etcd_ha_paths
import etcd_ha_plain
import etcd_ha_release

# A week: no call of the formula waits for longer.
LONGEST = 7 * 86400
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")
# A cluster's name, a purpose and a minion id (etcd_ha_certificates.policy_name).
_POLICY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,383}")
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?|[A-Za-z0-9_.-]+(:[0-9]{1,5})?")
_ADDRESS = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:-]{0,252}")
_ID = re.compile(r"[0-9a-f]{1,16}")
_HASH = re.compile(r"[0-9a-f]{64}")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 4096 and value.isprintable()


def _is_seconds(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return 0 < value <= LONGEST


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_port(value: Any) -> bool:
    return _is_whole(value) and bool(0 < value < 65536)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _is_url(value: object) -> bool:
    """An URL of etcd's: a scheme, a host and a port, and nothing behind them."""
    if not isinstance(value, str) or not value.startswith(("http://", "https://")):
        return False
    place = value.partition("://")[2].removesuffix("/")
    try:
        port = urlsplit(value).port
    except ValueError:
        return False
    return _HOST.fullmatch(place) is not None and port != 0


def is_link(value: object) -> bool:
    """Where a file can be fetched from; without what an URL may not hold."""
    if not _is_text(value) or re.search(r"[\s\"'\\<>^`{|}]", str(value)):
        return False
    return re.match(r"(https?|file|salt)://[^-]", str(value)) is not None


def _is_path(value: object) -> bool:
    return _is_text(value) and str(value).startswith("/") and ".." not in str(value).split("/")


def _is_own_folder(value: object) -> bool:
    """A directory that may be moved away or closed as a whole."""
    wrong = etcd_ha_paths.fault(value, etcd_ha_paths.LONGEST_BELOW)
    return not wrong and value not in etcd_ha_paths.SHARED


def _is_list(value: object, one: Callable[[object], bool]) -> bool:
    return isinstance(value, (list, tuple)) and all(one(item) for item in value)


def _is_address(value: object) -> bool:
    try:
        ipaddress.ip_network(value if isinstance(value, str) and "%" not in value else "")
    except ValueError:
        return False
    return True


def _is_rule(value: object) -> bool:
    """A rule of a firewall: ``{port, sources, why}``; VRRP has no port, and says 0."""
    if not isinstance(value, Mapping) or value.get("protocol", "tcp") not in ("tcp", "vrrp"):
        return False
    lowest = 0 if value.get("protocol") == "vrrp" else 1
    return (
        _is_whole(value.get("port"))
        and lowest <= value["port"] <= (65535 if lowest else 0)
        and _is_list(value.get("sources"), _is_address)
        and _is_text(value.get("why"))
        and re.fullmatch(r"[A-Za-z0-9 _.-]{1,100}", value["why"]) is not None
    )


def _is_places(value: object) -> bool:
    """minion -> [data directory, the log's directory or an empty text]."""
    return isinstance(value, Mapping) and all(
        isinstance(pair, (list, tuple))
        and len(pair) == 2
        and _is_path(pair[0])
        and (pair[1] == "" or _is_path(pair[1]))
        for pair in value.values()
    )


def _is_variables(value: object) -> bool:
    """The environment of a member: names and texts of one line, and the names that it must have."""
    return (
        isinstance(value, Mapping)
        and set(value) >= _NEEDED
        and all(
            isinstance(name, str)
            and re.fullmatch(r"[A-Z][A-Z0-9_]*", name)
            and isinstance(text, str)
            and (not text or text.isprintable())
            for name, text in value.items()
        )
    )


_NEEDED = {"ETCD_NAME", "ETCD_DATA_DIR"}


def _is_need(value: object) -> bool:
    """What a certificate must say, as etcd_ha_common_certificate_checks.Need has it."""
    return (
        isinstance(value, Mapping)
        and set(value) <= {"uses", "names", "common_name", "nameless"}
        and _is_list(value.get("uses", []), lambda use: use in ("serverAuth", "clientAuth"))
        and _is_list(value.get("names", []), _is_alternative)
        and isinstance(value.get("common_name", ""), str)
        and isinstance(value.get("nameless", False), bool)
    )


def _is_alternative(value: object) -> bool:
    kind, _, text = value.partition(":") if isinstance(value, str) else ("", "", "")
    if kind == "IP":
        return _is_address(text) and "/" not in text
    return kind == "DNS" and _is_name(text)


def _is_pair(value: object) -> bool:
    """One certificate of a host as the master asks for it."""
    files = ("certificate", "key", "ca")
    return (
        isinstance(value, Mapping)
        and value.get("purpose") in ("server", "peer", "admin", "check")
        and _is_need(value.get("need"))
        and all(_is_path(value.get(name)) for name in files)
        and all(_is_path(value[f"new_{n}"]) for n in files if f"new_{n}" in value)
    )


def _is_policy(value: object) -> bool:
    return isinstance(value, str) and _POLICY.fullmatch(value) is not None


def _is_leaf(value: object) -> bool:
    """A certificate that a host asks its CA for."""
    return (
        isinstance(value, Mapping)
        and _is_policy(value.get("policy"))
        and all(_is_path(value.get(name)) for name in ("certificate", "key"))
    )


def _is_requests(value: object) -> bool:
    """policy -> a public key in PEM, or an empty text."""
    return isinstance(value, Mapping) and all(
        _is_policy(policy) and (key == "" or (isinstance(key, str) and "-----BEGIN " in key))
        for policy, key in value.items()
    )


def _is_earlier(value: object) -> bool:
    """What an orchestrate has planned before, as etcd_ha_plan_again.Earlier hands it over."""
    return (
        isinstance(value, Mapping)
        and set(value) == {"began", "left"}
        and _is_whole(value["began"])
        and value["began"] < 1 << 40
        and _is_list(value["left"], lambda one: isinstance(one, str) and bool(_HASH.fullmatch(one)))
        and len(value["left"]) <= 1000
    )


# Each kind: what is good, and how the error says so.
KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "seconds": (_is_seconds, f"give seconds above 0, {LONGEST} at most"),
    "seconds or 0": (
        lambda v: _is_seconds(v) or (_is_whole(v) and v == 0),
        f"give seconds from 0 on, {LONGEST} at most",
    ),
    "hours": (
        lambda v: isinstance(v, (int, float)) and not isinstance(v, bool) and 0 <= v <= 2160,
        "give hours from 0 on, 2160 at most",
    ),
    "whole": (_is_whole, "give a whole number from 0 on"),
    "port": (lambda v: _is_whole(v) and 0 < v < 65536, "give a port from 1 to 65535"),
    "ports": (
        lambda v: _is_list(v, _is_port),
        "give a list of ports from 1 to 65535",
    ),
    "bool": (lambda v: isinstance(v, bool), "give true or false"),
    "text": (_is_text, "give text of one line"),
    "name": (_is_name, "give a name of letters, digits, '.', '_' and '-'"),
    "names": (lambda v: _is_list(v, _is_name) and bool(v), "give a list of names"),
    "names or none": (lambda v: _is_list(v, _is_name), "give a list of names"),
    "texts": (lambda v: _is_list(v, _is_text), "give a list of texts"),
    "url": (_is_url, "give an URL such as https://192.168.200.52:2380"),
    "urls": (
        lambda v: isinstance(v, str) and all(map(_is_url, v.split(","))),
        "give URLs such as https://192.168.200.52:2379, with commas between them",
    ),
    "list of urls": (
        lambda v: _is_list(v, _is_url) and bool(v),
        "give a list of URLs such as [https://192.168.200.52:2379]",
    ),
    "list of urls or none": (
        lambda v: _is_list(v, _is_url),
        "give a list of URLs such as [https://192.168.200.52:2379]",
    ),
    "link": (is_link, "give an URL such as https://mirror.example.com/etcd"),
    "id": (
        lambda v: _is_whole(v) or (isinstance(v, str) and _ID.fullmatch(v) is not None),
        "give the id as etcdctl member list has it, such as 8211f1d0f64f3269",
    ),
    "version": (etcd_ha_release.is_version, "give a full version such as 3.6.14"),
    "path": (_is_path, "give an absolute path"),
    "paths": (lambda v: _is_list(v, _is_path), "give a list of absolute paths"),
    "folder": (_is_own_folder, "give the absolute path of a directory that is etcd's alone"),
    "folders": (
        lambda v: _is_list(v, _is_own_folder),
        "give a list of absolute paths of directories that are etcd's alone",
    ),
    "place": (
        lambda v: _is_path(v) or (is_link(v) and v.startswith("salt://")),
        "give an absolute path, or one that begins with salt://",
    ),
    "sha256": (
        lambda v: isinstance(v, str) and _HASH.fullmatch(v) is not None,
        "give a sha256 (64 hex digits)",
    ),
    "hosts": (
        lambda v: _is_name(v) or _is_list(v, _is_name),
        "give a list of minion ids",
    ),
    "host": (
        lambda v: isinstance(v, Mapping) and {"member", "balancer"} <= set(v),
        "give the mapping that etcd_ha.host returns",
    ),
    "mapping": (lambda v: isinstance(v, Mapping), "give a mapping"),
    "need": (_is_need, "give {uses: [serverAuth, clientAuth], names: [IP:192.168.200.52]}"),
    "pairs": (
        lambda v: isinstance(v, Mapping) and all(_is_list(rows, _is_pair) for rows in v.values()),
        "give minion ids with what etcd_ha_host.pairs returns for each",
    ),
    "places": (_is_places, "give minion ids with two directories each"),
    "variables": (_is_variables, "give a mapping of ETCD_NAME and so on to texts"),
    "action": (
        lambda v: v in ("none", "bootstrap", "restart", "begin", "join", "hold"),
        "use none, bootstrap, restart, begin, join or hold",
    ),
    "address": (
        lambda v: isinstance(v, str) and _ADDRESS.fullmatch(v) is not None,
        "give a host's name or IP address",
    ),
    # What it may be is told by the state itself, which does not show it.
    "value": (lambda v: True, ""),
    "any": (lambda v: isinstance(v, str), "give text"),
    "alarm": (lambda v: v in ("NOSPACE", "CORRUPT"), "use NOSPACE or CORRUPT"),
    "pem": (lambda v: isinstance(v, str) and "-----BEGIN " in v, "give PEM text"),
    "list": (lambda v: isinstance(v, (list, tuple)), "give a list"),
    "leaves": (
        lambda v: _is_list(v, _is_leaf),
        "give a list such as {policy: NAME, key: /etc/a.key, certificate: /etc/a.crt}",
    ),
    "requests": (_is_requests, "give policies, each with a public key in PEM or an empty text"),
    "moment": (
        lambda v: (
            isinstance(v, str) and re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", v) is not None
        ),
        "give a time in UTC, such as 2026-12-31 23:59:59",
    ),
    "schedule": (
        lambda v: isinstance(v, str) and re.fullmatch(etcd_ha_backup.SCHEDULE, v) is not None,
        "give a time as systemd's OnCalendar has it, such as daily",
    ),
    "rules": (
        lambda v: _is_list(v, _is_rule),
        "give a list of rules such as {port: 2380, sources: [192.168.200.52], why: etcd peers}",
    ),
    "earlier": (_is_earlier, "leave it out: the orchestrate hands it over to itself"),
    "key kind": (lambda v: v in ("ec", "rsa"), "use ec or rsa"),
    "firewalls": (
        lambda v: _is_list(v, lambda one: one in ("nftables", "firewalld", "ufw")),
        "give a list of nftables, firewalld and ufw",
    ),
}

# What the parameters are, wherever they have this name; ``?`` where None or an empty text will do.
PARAMETERS: Mapping[str, str] = {
    "access": "bool",
    "action": "action",
    "address": "address?",
    "alarm": "alarm",
    "algo": "key kind",
    "also": "texts",
    "archive": "name",
    "authorities": "paths?",
    "backup": "text?",
    "balancers": "names or none",
    "bin_dir": "path",
    "ca": "path",
    "ca_server": "name?",
    "certificate": "path",
    "checksum": "sha256?",
    "client_urls": "list of urls",
    "cluster": "name",
    "cluster_id": "id",
    "command": "name",
    "confirm": "name?",
    "consumer": "name?",
    "corrupt": "bool",
    "current": "path",
    "data": "bool",
    "data_dir": "folder",
    "data_dirs": "paths?",
    "defaults": "mapping",
    "detailed_exitcode": "bool",
    "dir": "path",
    "directories": "paths",
    "directory": "folder",
    "earlier": "earlier?",
    "endpoints": "urls?",
    "environment": "variables",
    "everyone": "bool",
    "file": "text",
    "files": "paths",
    "fit": "bool",
    "folder": "name",
    "folders": "folders",
    "former": "name?",
    "fresh": "bool",
    "given": "list",
    "group": "name",
    "host": "host",
    "hours": "hours",
    "hurried": "bool",
    "haproxy_on": "names or none",
    "kept": "bool",
    "key": "path",
    "keys": "whole?",
    "keysize": "whole",
    "kinds": "firewalls",
    "leaves": "leaves",
    "lost": "hosts?",
    "member": "name?",
    "member_id": "id",
    "members": "mapping?",
    "minions": "names or none",
    "minion": "name",
    "name": "name",
    "need": "need?",
    "new": "path",
    "new_certificate": "path",
    "new_key": "path",
    "not_before": "moment?",
    "old": "path",
    "pairs": "pairs?",
    "password": "text?",
    "password_pillar": "text?",
    "path": "path",
    "peer_url": "url",
    "peer_urls": "list of urls",
    "permissions": "list?",
    "phase": "name?",
    "pillar": "text?",
    "places": "places",
    "policy": "text?",
    "port": "port",
    "ports": "ports",
    "prefix": "bool",
    "program": "path",
    "programs": "names",
    "purge": "bool",
    "reason": "text",
    "record": "path",
    "release": "version?",
    "replace": "bool",
    "requests": "requests",
    "restart_before": "whole",
    "revision": "whole",
    "role": "text",
    "roles": "texts?",
    "rules": "rules",
    "s3": "bool",
    "schedule": "schedule",
    "secret": "bool",
    "sha256": "sha256?",
    "source": "name?",
    "speaker": "name?",
    "start_timeout": "seconds",
    "successor": "name?",
    "sums_url": "link",
    "survivor": "name?",
    "take": "bool",
    "test": "bool",
    "timeout": "seconds",
    "token": "name",
    "unit": "name",
    "until": "text?",
    "url": "link",
    "usable": "bool",
    "user": "text",
    "value_pillar": "text?",
    "version": "version",
    "voter": "bool",
    "wal_dir": "path?",
    "wal_dirs": "paths?",
    "wanted": "text?",
    "whole": "bool",
    "why": "name",
}


# Never told, whatever it is.
_SECRET = ("certificate", "password", "token")


def fault(given: Mapping[str, object], **kinds: str) -> str:
    """What is wrong with a function's arguments, in a sentence; empty where nothing is.

    ``given`` are its parameters and their values; ``kinds`` are of those that mean something else
    than elsewhere.
    """
    found = [
        _one(name, value, kinds.get(name) or PARAMETERS[name]) for name, value in given.items()
    ]
    return "; ".join(one for one in found if one)


def refused(given: Mapping[str, object], **kinds: str) -> dict[str, object] | None:
    """The return of a state of which an argument is no good; None where all are.

    ``given`` are the state's ``locals()`` at its beginning, which are its parameters.
    """
    found = fault(given, **{"name": "any", **kinds})
    if not found:
        return None
    comment = f"{found}. Nothing was changed"
    return {"name": given["name"], "result": False, "changes": {}, "comment": comment}


def _one(name: str, value: object, kind: str) -> str:
    if kind.endswith("?") and (value is None or value == ""):
        return ""
    good, cure = KINDS[kind.removesuffix("?")]
    if good(value):
        return ""
    told = "is not what it should be" if name in _SECRET else f"is {etcd_ha_plain.shown(value)}"
    return f"{name} {told}; {cure}"
