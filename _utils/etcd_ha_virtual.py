"""One address in front of several balancers, kept by keepalived (VRRP): its settings, its holder.

Unicast between the balancers, and no password: VRRPv3 has none, and keepalived's own documentation
advises against the passwords of VRRPv2, which travel in plain text (keepalived.conf(5),
"authentication"). Adverts of others than the balancers are dropped (``vrrp_check_unicast_src``).

Pure but for ``addresses``, which asks the kernel. Nothing here knows etcd_ha_topology, which
imports it.
"""

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import etcd_ha_common_addresses
import etcd_ha_common_process
from etcd_ha_common_process import ProgramError

USER = "etcd_ha_check"
"""Who runs the check; the certificate that it shows is readable by this user alone."""

# SELinux admits keepalived to run what lies there, and to nothing else (keepalived_selinux(8)).
CHECK = "/usr/libexec/keepalived/etcd_ha_check"
NONLOCAL = "/etc/sysctl.d/30-etcd_ha.conf"
FIRST_PRIORITY, PRIORITY_STEP = 250, 10

# Seconds that the check gives another balancer, and that it waits before it looks again.
OTHERS_TIMEOUT, PAUSE = 1, 0.5

_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}")
# VRRPv3 counts hundredths of a second in 12 bits (RFC 5798, 5.2.7).
_LONGEST_ADVERT = 40


def faults(settings: Mapping[str, Any], bind: object, key: str) -> list[str]:
    """What is wrong with the values, each with its key; nothing where the address is not set."""
    address = settings["address"]
    if address is None:
        return []
    found = _address(address)
    if found is None or found.is_unspecified or found.is_multicast or found.is_loopback:
        meant = etcd_ha_common_addresses.address_meant(address)
        cure = f" alone: {meant}" if meant and found is None else " at which clients come"
        length = " (the length of its network is prefix_length)" if "/" in str(address) else ""
        return [f"{key}:address is {address!r}; give the IP address{cure}{length}"]
    result = []
    if bind not in ("*", address):
        result.append(
            f"{key}:address is {address!r}, but balancer:bind is {bind!r}, where nobody listens at "
            "that address; leave bind at '*', or set it to the virtual address"
        )
    longest, length = found.max_prefixlen, settings["prefix_length"]
    if length is not None and not (_is_int(length) and 1 <= length <= longest):
        result.append(f"{key}:prefix_length is {length!r}; give a number from 1 to {longest}")
    interface = settings["interface"]
    if interface is not None and not (
        isinstance(interface, str) and _INTERFACE.fullmatch(interface)
    ):
        result.append(f"{key}:interface is {interface!r}; give its name, such as eth0")
    router = settings["router_id"]
    if not (_is_int(router) and 1 <= router <= 255):
        result.append(f"{key}:router_id is {router!r}; give a number from 1 to 255")
    advert = settings["advert_interval"]
    if not (_is_number(advert) and 0.1 <= advert <= _LONGEST_ADVERT):
        result.append(
            f"{key}:advert_interval is {advert!r}; give seconds from 0.1 to {_LONGEST_ADVERT}"
        )
    check = settings["check_interval"]
    if not (_is_int(check) and 1 <= check <= 60):
        result.append(f"{key}:check_interval is {check!r}; give whole seconds from 1 to 60")
    return result


def misplaced(
    address: str, balancers: Mapping[str, str], members: Mapping[str, str], key: str
) -> list[str]:
    """Faults of the address among a cluster's hosts; both mappings are minion -> address."""
    if not balancers:
        return [
            f"{key}:address is {address!r}, but there is no load balancer to hold it; name at "
            "least one under load_balancers (two, for one to take over)"
        ]
    result = [
        f"{key}:address is {address!r}, which is {minion}'s own; give an address of its own, that "
        "no host has"
        for minion, own in {**members, **balancers}.items()
        if _address(own) == _address(address)
    ]
    family = ipaddress.ip_address(address).version
    result += [
        f"{key}:address is {address!r}, but {minion} is reached at {own!r}; VRRP needs both of one "
        "kind, IPv4 or IPv6"
        for minion, own in balancers.items()
        if ipaddress.ip_address(own).version != family
    ]
    return result


def describe(
    settings: Mapping[str, Any], balancers: Mapping[str, str], minion: str
) -> dict[str, Any] | None:
    """What keepalived is on one balancer, for its configuration; None where there is no address.

    ``balancers`` is minion -> address, in the pillar's order: of two that hold the address at once,
    the first one keeps it.

    Returns ``{address, with_length, interface, router_id, priority, advert_interval, own, peers,
    check_interval, user, check}``; ``interface`` is None where it is to be found on the host.
    """
    if settings["address"] is None:
        return None
    place = list(balancers).index(minion)
    longest = ipaddress.ip_address(settings["address"]).max_prefixlen
    return {
        "address": settings["address"],
        "with_length": f"{settings['address']}/{settings['prefix_length'] or longest}",
        "interface": settings["interface"],
        "router_id": settings["router_id"],
        "priority": max(1, FIRST_PRIORITY - PRIORITY_STEP * place),
        "advert_interval": settings["advert_interval"],
        "own": balancers[minion],
        "peers": [address for other, address in balancers.items() if other != minion],
        "check_interval": settings["check_interval"],
        "user": USER,
        "check": CHECK,
    }


def check_settings(
    own: str, others: Sequence[str], pki: Mapping[str, Any] | None, timeout: int
) -> dict[str, Any]:
    """The check's settings file: URLs, paths of certificates, seconds; it holds no secret."""
    files: dict[str, str | None] = {"ca": None, "certificate": None, "key": None}
    if pki:
        files = {
            "ca": pki["ca_certificate"],
            "certificate": f"{pki['dir']}/check.crt",
            "key": f"{pki['dir']}/check.key",
        }
    return {
        **files,
        "own": own,
        "others": list(others),
        "timeout": timeout,
        "others_timeout": OTHERS_TIMEOUT,
        "pause": PAUSE,
    }


def longest_check(others: int, timeout: int) -> int:
    """Seconds after which keepalived gives the check up: two looks, and one at each other."""
    return 2 * timeout + others * OTHERS_TIMEOUT + 2


def addresses() -> dict[str, str]:
    """Every address of this host -> its interface; raises ProgramError."""
    command = ["ip", "-json", "address", "show"]
    done = etcd_ha_common_process.run(command, 10)
    try:
        return parse_addresses(done.out)
    except ValueError as err:
        raise ProgramError(command, str(err)) from err


def parse_addresses(text: str) -> dict[str, str]:
    """Read what ``ip -json address show`` printed: address -> interface.

    Raises ValueError where it is something else: each host has an interface at least.
    """
    try:
        return {
            _plain(entry["local"]): link["ifname"]
            for link in json.loads(text)
            for entry in link.get("addr_info", ())
            if "local" in entry
        }
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        told = text.strip()[:80]
        raise ValueError(f"it printed no list of addresses, but {told!r}") from None


def interface_of(address: str, found: Mapping[str, str]) -> str:
    """The interface that has an address, empty where none has."""
    return found.get(_plain(address), "")


def told(address: str, holders: Sequence[str], silent: Sequence[str]) -> str:
    """Who holds the address, as a status says it, and what helps where that is not one."""
    if len(holders) == 1:
        return f"{address} is held by {holders[0]}"
    if holders:
        return (
            f"{address} is held by {' and '.join(holders)} at once: they do not hear each other. "
            "Let VRRP (IP protocol 112) pass between the balancers"
        )
    unknown = f" ({', '.join(silent)} did not answer)" if silent else ""
    return (
        f"{address} is held by nobody{unknown}. Look at journalctl -u keepalived on the balancers"
    )


_address = etcd_ha_common_addresses.parsed
_plain = etcd_ha_common_addresses.canonical


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
