"""IP addresses and networks as people write them, in the one form that everything else compares.

``2001:db8:0::0011`` is ``2001:db8::11`` (RFC 5952), and ``::ffff:10.0.0.5`` is ``10.0.0.5`` (RFC
4291, 2.5.5.2). The latter matters: Python prints it in one way up to 3.12 and in another from 3.13
on, so that a master and its minions would never agree.
"""

import ipaddress
import re

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_WITH_PORT = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<four>[^:]*)):[0-9]+")


def parsed(value: object) -> Address | None:
    """The address that this text is, or None.

    An address with a zone (``fe80::1%eth0``) is none here: a zone is of one host, and Python takes
    any text for one. Neither is a number, which Python takes for the address of that number.

    value
        Whatever the pillar holds.
    """
    try:
        found = ipaddress.ip_address(value if isinstance(value, str) and "%" not in value else "")
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def canonical(text: str) -> str:
    """An address in its canonical form; any other text as it is.

    text
        An IP address or a name.
    """
    found = parsed(text)
    return text if found is None else str(found)


def network(value: object) -> Network | None:
    """The network that this text is, or None; a single address is a network of its own.

    value
        Whatever the pillar holds.
    """
    return _network(value, strict=True)


def _network(value: object, strict: bool) -> Network | None:
    text = value if isinstance(value, str) and "%" not in value else ""
    try:
        found = ipaddress.ip_network(text, strict=strict)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(_MAPPED):
        four = int(found.network_address) & 0xFFFFFFFF
        return ipaddress.IPv4Network((four, found.prefixlen - 96))
    return found


def network_meant(value: object) -> str:
    """The network that an address with the length of its network lies in (``10.0.0.5/8``).

    value
        Whatever the pillar holds.

    Returns text, empty where that is not what was written.
    """
    found = _network(value, strict=False)
    return "" if found is None else str(found)


def address_meant(value: object) -> str:
    """The address that somebody wrote with a network's length, a port, brackets or blanks.

    value
        Whatever the pillar holds.

    Returns text, empty where nothing of that kind was written.
    """
    text = value.strip() if isinstance(value, str) else ""
    ported = _WITH_PORT.fullmatch(text)
    if ported:
        text = ported["six"] or ported["four"] or ""
    alone = parsed(text.partition("/")[0].removeprefix("[").removesuffix("]"))
    return "" if alone is None else str(alone)
