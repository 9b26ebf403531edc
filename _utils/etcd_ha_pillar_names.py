"""Names in the pillar that are somebody else's already, or that the hosts cannot be called.

Pure texts: a cluster's name, minion ids, and the members' names.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

import etcd_ha_common_dns

# What lies beside the clusters' own files: /var/lib/etcd_ha/host.json, and the certificates of a
# member in /etc/etcd/pki, where a balancer has those of a cluster in /etc/etcd/NAME.
_FILES = ("host", "pki")
# A certificate with this common name is etcd's root.
_ROOT = "root"
# RFC 6761, 6.3, and what distributions' /etc/hosts have.
_LOCAL = re.compile(r"(.*\.)?localhost(\..*)?|ip6-(localhost|loopback)", re.I)
# HOST_NAME_MAX of Linux.
_LONGEST_HOSTNAME = 64


def taken_by_files(cluster: str) -> str:
    """Why a cluster cannot have this name, as the end of a sentence; empty where it can."""
    if cluster not in _FILES:
        return ""
    return "the formula has a file or directory of its own with this name; give it another one"


def reserved(name: str) -> bool:
    """Whether /etc/hosts or a certificate must not call a host so: the name is others'."""
    lower = name.lower()
    zone = etcd_ha_common_dns.ZONE
    return (
        name == _ROOT
        or _LOCAL.fullmatch(name) is not None
        or lower == zone
        or lower.endswith(f".{zone}")
    )


def clashes(
    members: Mapping[str, str], balancers: Iterable[str], authority: str, key: str
) -> list[str]:
    """Names of one cluster that two of its hosts would share, each fault with its key.

    DNS and /etc/hosts do not tell upper case from lower (RFC 4343), so neither may names of hosts.

    members
        minion id -> name of the member.

    balancers
        The minion ids of the load balancers.

    authority
        The minion id of the CA, or an empty text.

    key
        The cluster's key in the pillar.
    """
    groups = [("members", minion) for minion in members]
    groups += [("load_balancers", minion) for minion in balancers]
    groups += [("tls:ca:minion", authority)] if authority else []
    hosts: dict[str, str] = {}
    faults = []
    for group, minion in groups:
        other = hosts.setdefault(minion.lower(), minion)
        if other != minion:
            where = f"{key}:{group} is {minion!r}, which"
            if group != "tls:ca:minion":
                where = f"{key}:{group}:{minion}"
            faults.append(f"{where} {alike(other)}")
    return faults + _name_clashes(members, hosts, key)


def alike(other: str) -> str:
    """The end of a fault of a name that only its case tells from another one."""
    return (
        f"differs from {other} in upper and lower case alone, which DNS and /etc/hosts do not tell "
        "apart; give each host a name of its own"
    )


def _name_clashes(members: Mapping[str, str], hosts: Mapping[str, str], key: str) -> list[str]:
    names: dict[str, str] = {}
    faults = []
    for minion, name in members.items():
        where = f"{key}:members:{minion}:name is {name!r}"
        first = names.setdefault(name.lower(), minion)
        owner = hosts.get(name.lower(), minion)
        if first != minion and members[first] == name:
            faults.append(f"{where}, which is {first}'s; give each member a name of its own")
        elif first != minion:
            faults.append(f"{where}, which {alike(members[first])}")
        elif owner != minion and owner.lower() != minion.lower():
            faults.append(f"{where}, which is the minion id of another host; set another name")
    return faults


def hostname_fault(minion: str) -> str:
    """Why a host cannot be called by its minion id, as the end of a sentence; empty if it can."""
    if len(minion) > _LONGEST_HOSTNAME:
        return (
            f"{minion} is longer than {_LONGEST_HOSTNAME} characters, and no host can be called so"
        )
    # systemd drops other characters (hostname_is_valid in src/basic/hostname-util.c).
    if re.search(r"[^A-Za-z0-9.-]", minion):
        return f"{minion} has a character that no host's name may have"
    return ""


def shared_hosts(hosts: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Each cluster that has a host in common with another one, with the fault of both.

    hosts
        The clusters' names -> the minion ids of their members and balancers.
    """
    owners: dict[str, tuple[str, str]] = {}
    faults = []
    for cluster, minions in hosts.items():
        for minion in minions:
            owner, other = owners.setdefault(minion.lower(), (cluster, minion))
            if owner == cluster:
                continue
            fault = f"etcd_ha:clusters:{cluster}: {minion} "
            if minion == other:
                fault += f"belongs to {owner} already; a minion serves one cluster"
            else:
                fault += f"of this cluster {alike(f'{other} of {owner}')}"
            faults += [(owner, fault), (cluster, fault)]
    return faults
