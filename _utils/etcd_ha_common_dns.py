"""Which names a certificate can bear as DNS names, and what stands there for one that it cannot.

A minion id may be what no DNS name is. Salt's x509 states put each DNS name through the library
``idna`` (salt/utils/x509.py, ``_parse_general_names``), which refuses a ``_``, a label that begins
or ends with ``-``, ``--`` in a label's third and fourth place but for punycode (RFC 5891, 4.2.3.1),
and more than 63 characters in a label or 253 in all (RFC 1035, 2.3.4). Go, and so etcd, would take
a ``_`` (crypto/x509/verify.go, ``validHostname``), but nobody would have signed it.
"""

import hashlib
import ipaddress
import re

# A requirement of Salt's own.
import idna

LONGEST, LONGEST_LABEL = 253, 63
# Below it are names that only the formula's own certificates bear; they resolve nowhere.
ZONE = "etcd-ha.internal"
_STRANGE = re.compile(r"[^A-Za-z0-9.-]")


def fault(name: str) -> str:
    """Why no certificate can bear this as a DNS name, as the end of a sentence; empty if one can.

    name
        The name (text), without a dot at its end.
    """
    strange = _STRANGE.search(name)
    if strange is not None:
        return f"a DNS name has letters, digits, '-' and '.' alone, and no {strange[0]!r}"
    if len(name) > LONGEST:
        return f"a DNS name has {LONGEST} characters at most"
    if _is_address(name):
        return "it is an IP address"
    return next((wrong for label in name.split(".") if (wrong := _label_fault(label))), "")


def _label_fault(label: str) -> str:
    if not 0 < len(label) <= LONGEST_LABEL:
        return f"each part of a DNS name has 1 to {LONGEST_LABEL} characters"
    if label[0] == "-" or label[-1] == "-":
        return f"no part of a DNS name begins or ends with '-', as {label!r} does"
    if label[2:4] == "--" and not _is_punycode(label):
        return (
            "'--' in the third and fourth place is for internationalized names alone, so "
            f"{label!r} is no part of a DNS name"
        )
    return ""


def _is_punycode(label: str) -> bool:
    if label[:4].lower() != "xn--":
        return False
    try:
        idna.ulabel(label.lower())
    except UnicodeError:
        # IDNAError is one.
        return False
    return True


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def stand_in(name: str) -> str:
    """The DNS name by which certificates know a host: its own name, or a made one of its alone.

    name
        The host's minion id (text).
    """
    return f"{digest(name)}.{ZONE}" if fault(name) else name


def digest(name: str) -> str:
    """What stands for a name that is too long or too odd: 32 hex digits, always the same ones.

    name
        The name (text).
    """
    return hashlib.sha256(name.encode()).hexdigest()[:32]
