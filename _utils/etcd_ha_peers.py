"""Whom the master lets call what on other minions: its ``peer`` setting, read as Salt reads it.

Keys are regular expressions on the id of the minion that asks, matched at its beginning alone
(salt.daemons.masterapi, ``RemoteFuncs.minion_pub``); values are expressions on functions.
"""

import re
from collections.abc import Iterable, Mapping

from etcd_ha_topology import Cluster

# All of a host's certificates at once, and one by one as they are renewed.
NEEDED = ("etcd_ha_ca.sign", "x509.sign_remote_certificate")


def granted(peer: Mapping[str, object], minion: str) -> list[str]:
    """The functions, as expressions, that a minion may call on others."""
    found: list[str] = []
    for pattern, functions in peer.items():
        if re.match(pattern, minion) and isinstance(functions, list):
            found += [one for one in functions if isinstance(one, str)]
    return found


def may_ask(peer: Mapping[str, object], minion: str) -> bool:
    """Whether a minion may ask a CA for its certificates."""
    given = granted(peer, minion)
    return all(any(re.match(one, needed) for one in given) for needed in NEEDED)


def refusal(peer: Mapping[str, object], cluster: Cluster) -> str:
    """Why not every host can ask the CA; without that each request would only time out."""
    hosts = [*(m.minion for m in cluster.members), *(b.minion for b in cluster.balancers)]
    for minion in hosts if cluster.ca_minion is not None else ():
        if not may_ask(peer, minion):
            return (
                f"the master does not let {minion} ask for certificates. Add to the master's "
                "configuration and restart salt-master:\n"
                f"peer:\n  {re.escape(minion)}$:" + "".join(f"\n    - {one}" for one in NEEDED)
            )
    return ""


def notes(peer: Mapping[str, object], minions: Iterable[str]) -> list[str]:
    """What more than that these minions may call on others: a host that is taken over may, too."""
    found: dict[str, list[str]] = {}
    for minion in minions:
        for function in granted(peer, minion):
            if function.rstrip("$").replace("\\", "") not in NEEDED:
                found.setdefault(function, []).append(minion)
    return [
        f"the master's peer setting lets {', '.join(who)} call {function} on other minions, and "
        f"so whoever takes such a host over; the formula needs {' and '.join(NEEDED)} alone"
        for function, who in found.items()
    ]
