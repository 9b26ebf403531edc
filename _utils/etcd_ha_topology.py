"""The pillar's ``etcd_ha`` key as typed clusters: merging of settings and every fault at once.

Settings merge in this order, later wins: defaults.yaml, the operating system's file, ``etcd_ha``,
the cluster, the member. The result is complete: whoever reads a Member or a Cluster needs no
default of its own.
"""

import copy
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import etcd_ha_access
import etcd_ha_arguments
import etcd_ha_backup
import etcd_ha_common_addresses
import etcd_ha_common_dns
import etcd_ha_etcd_known_holes
import etcd_ha_maintenance
import etcd_ha_options
import etcd_ha_paths
import etcd_ha_pillar_balance
import etcd_ha_pillar_names
import etcd_ha_plain
import etcd_ha_release
import etcd_ha_virtual

Settings = dict[str, Any]

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")
# A common name is no longer (RFC 5280, ub-common-name).
_NAME = re.compile(r"(?=.{1,64}$)[A-Za-z0-9][A-Za-z0-9_.-]*")
_NAMED = "use letters, digits, '.', '_' and '-', a letter or digit first, 64 characters at most"
_RESERVED = "a name that other hosts or programs use"
# A cluster's name stands in its CA's: "etcd NAME CA".
_LONGEST_CLUSTER = 56
_USER = re.compile(r"^[a-z_][a-z0-9_-]{0,31}$")

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "install:method": ("archive", "package"),
    "tls:source": ("salt", "files", "pillar"),
    "tls:algo": ("ec", "rsa"),
    "tls:minimum_version": ("TLS1.2", "TLS1.3"),
    "tls:ca:change": ("whole", "issue", "trust"),
    "balancer:kind": ("haproxy", "nginx"),
    "firewall:kind": ("auto", "nftables", "firewalld", "ufw"),
}
_PORTS = (
    "ports:client",
    "ports:peer",
    "ports:metrics",
    "ports:transfer",
    "balancer:port",
    "balancer:stats:port",
    "backup:master:port",
)
# Those that etcd listens on itself.
_OF_ETCD = ("ports:client", "ports:peer", "ports:metrics")
_POSITIVE = (
    "tls:days_valid",
    "tls:days_remaining",
    "tls:keysize",
    "tls:ca:days_valid",
    "tls:ca:days_remaining",
    "balancer:check_interval",
    "balancer:check_timeout",
    "balancer:idle_timeout",
    "start_timeout",
    "backup:max_age",
    "backup:timeout",
    "backup:s3:timeout",
)
_UNITS: Mapping[str, str] = {
    **dict.fromkeys(("tls:days_valid", "tls:days_remaining"), "days"),
    **dict.fromkeys(("tls:ca:days_valid", "tls:ca:days_remaining"), "days"),
    **dict.fromkeys(("balancer:check_interval", "balancer:check_timeout"), "seconds"),
    **dict.fromkeys(("balancer:idle_timeout", "start_timeout", "backup:timeout"), "seconds"),
    "tls:keysize": "bits",
    "backup:max_age": "hours",
    "backup:s3:timeout": "seconds",
}
# The most that may be, where what reads it takes no more, or nobody can mean it: days of a
# certificate, seconds of HAProxy (its timers are milliseconds in 31 bits), seconds and hours.
_MOST: Mapping[str, int] = {
    "tls:days_valid": 36500,
    "tls:days_remaining": 36500,
    "tls:ca:days_valid": 36500,
    "tls:ca:days_remaining": 36500,
    "balancer:check_interval": 3600,
    "balancer:check_timeout": 3600,
    "balancer:idle_timeout": 2147483,
    "start_timeout": 86400,
    "backup:max_age": 87600,
    "backup:timeout": 604800,
    "backup:s3:timeout": 604800,
}
_BOOLEANS = (
    "tls:enabled",
    "tls:trust_store",
    "balancer:stats:enabled",
    "firewall:enabled",
    "backup:master:enabled",
    "host:hosts_file",
    "host:hostname",
    "remove_unknown",
    "purge",
    "access:remove_unknown",
)
_PATHS = (
    "data_dir",
    "wal_dir",
    "config_dir",
    "install:dir",
    "install:bin_dir",
    "tls:ca:dir",
    "backup:directory",
    "backup:master:directory",
    "backup:s3:credentials_file",
    "backup:s3:ca_certificate",
)
_USERS = ("user", "group")
_FREE = frozenset(
    {
        "options",
        "install:checksum",
        "tls:files",
        "upgrade:through",
        "access:users",
        "access:roles",
    }
)
_OPTIONAL = frozenset(
    {
        "wal_dir",
        "install:checksum",
        "tls:ca:minion",
        "tls:ca:common_name",
        "tls:ca:organization",
        "balancer:package",
        *(f"balancer:virtual_address:{name}" for name in ("address", "prefix_length", "interface")),
        "access:enabled",
        "backup:schedule",
        "backup:master:address",
        *(f"backup:s3:{name}" for name in etcd_ha_backup.S3_OPTIONAL),
    }
)
_CERTIFICATES = ("ca", "server", "peer", "client")
# The balancer's own, else it uses "client".
_CHECK = "check"
_PARTS = ("certificate", "key")
_MEMBER_ONLY = ("address", "name")
_CLUSTER_ONLY = ("members", "load_balancers", "token", "renamed_from")
# Where one cluster's hosts must agree: these may not be set for a single member.
_CLUSTER_WIDE = (
    "version",
    "tls",
    "balancer",
    "firewall",
    "backup",
    "host",
    "start_timeout",
    "remove_unknown",
    "purge",
    "upgrade",
    "maintenance",
    "access",
)

# So many faults fit on a screen or two.
_TOLD = 100


class PillarError(ValueError):
    """The pillar is wrong; ``faults`` holds one sentence a fault, each with its key."""

    def __init__(self, faults: Iterable[str], cluster: str = "") -> None:
        self.faults = [etcd_ha_plain.brief(fault) for fault in faults]
        told = [f"  - {fault}" for fault in self.faults[:_TOLD]]
        told += [f"  - and {len(self.faults) - _TOLD} more"] if len(self.faults) > _TOLD else []
        head = "The pillar under etcd_ha is not right"
        if cluster:
            head = f"The pillar under etcd_ha:clusters:{cluster} is not right"
        super().__init__(f"{head}, so nothing was changed:\n" + "\n".join(told))


@dataclass(frozen=True)
class Read:
    """The clusters of a pillar that are right, and the faults of each of the others."""

    clusters: Mapping[str, "Cluster"]
    faults: Mapping[str, tuple[str, ...]]
    # Which minions each cluster that is not right names as its members and balancers.
    hosts: Mapping[str, frozenset[str]]

    def error(self, name: str) -> PillarError:
        """What is wrong with one cluster."""
        return PillarError(self.faults[name], name)

    def known_to(self, minion: str) -> Mapping[str, "Cluster"]:
        """The clusters that are right; raises PillarError where it cannot be known what this is.

        A host of a faulty cluster, or one that no other cluster has: it may be the CA of that one.
        """
        known = any(minion in cluster.hosts for cluster in self.clusters.values())
        named = [name for name, hosts in self.hosts.items() if not known or minion in hosts]
        if named:
            raise PillarError(fault for name in named for fault in self.faults[name])
        return self.clusters


@dataclass(frozen=True)
class Member:
    """One etcd member: where it runs, and every setting that holds there."""

    minion: str
    name: str
    address: str
    settings: Settings = field(compare=False, repr=False, default_factory=dict)

    def url(self, scheme: str, port: int) -> str:
        """An URL on this member's address; IPv6 addresses are bracketed."""
        return f"{scheme}://{bracketed(self.address)}:{port}"


@dataclass(frozen=True)
class Balancer:
    """One load balancer of a cluster."""

    minion: str
    address: str


@dataclass(frozen=True)
class Cluster:
    """One cluster as the pillar wants it."""

    name: str
    version: str
    token: str
    members: tuple[Member, ...]
    balancers: tuple[Balancer, ...]
    settings: Settings = field(compare=False, repr=False, default_factory=dict)
    # The name that the cluster had before, while it is being renamed.
    former: str = ""

    @property
    def tls(self) -> bool:
        """Whether peers and clients speak TLS."""
        return bool(self.settings["tls"]["enabled"])

    @property
    def scheme(self) -> str:
        """``https``, or ``http`` where TLS is off."""
        return "https" if self.tls else "http"

    @property
    def ca_minion(self) -> str | None:
        """The minion that signs certificates, or None where the user brings them."""
        if self.tls and self.settings["tls"]["source"] == "salt":
            return str(self.settings["tls"]["ca"]["minion"])
        return None

    @property
    def authority(self) -> str:
        """Who signs the members' certificates: a CA minion, or the user; empty without TLS."""
        if not self.tls:
            return ""
        return self.ca_minion or str(self.settings["tls"]["source"])

    @property
    def virtual_address(self) -> str:
        """The one address of all balancers, empty where there is none."""
        return str(self.settings["balancer"]["virtual_address"]["address"] or "")

    @property
    def virtual_url(self) -> str:
        """Where clients reach the cluster at the virtual address, empty where there is none."""
        port = self.settings["balancer"]["port"]
        address = self.virtual_address
        return f"{self.scheme}://{bracketed(address)}:{port}" if address else ""

    @property
    def balancer_addresses(self) -> dict[str, str]:
        """Balancer minion -> its own address, in the pillar's order."""
        return {balancer.minion: balancer.address for balancer in self.balancers}

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every minion that has a part in this cluster, members first, each once."""
        names = [member.minion for member in self.members]
        names += [balancer.minion for balancer in self.balancers]
        names += [self.ca_minion] if self.ca_minion else []
        return tuple(dict.fromkeys(names))

    def member(self, minion: str) -> Member | None:
        """The member that runs on this minion, if any."""
        return next((m for m in self.members if m.minion == minion), None)

    def balancer(self, minion: str) -> Balancer | None:
        """The balancer that runs on this minion, if any."""
        return next((b for b in self.balancers if b.minion == minion), None)

    def peer_url(self, member: Member) -> str:
        """What the member advertises to its peers."""
        return member.url(self.scheme, member.settings["ports"]["peer"])

    def client_url(self, member: Member) -> str:
        """What the member advertises to clients."""
        return member.url(self.scheme, member.settings["ports"]["client"])

    def balancer_url(self, balancer: Balancer) -> str:
        """Where clients reach the cluster through this balancer."""
        port = self.settings["balancer"]["port"]
        return f"{self.scheme}://{bracketed(balancer.address)}:{port}"


def bracketed(address: str) -> str:
    """The address as it stands in an URL."""
    return f"[{address}]" if ":" in address else address


def merge(*layers: Mapping[str, Any] | None) -> Settings:
    """Merge settings, later wins; mappings merge key by key, all else is replaced."""
    result: Settings = {}
    for layer in layers:
        for key, value in (layer or {}).items():
            below = result.get(key)
            if isinstance(value, Mapping) and isinstance(below, Mapping):
                result[key] = merge(below, value)
            else:
                result[key] = copy.deepcopy(value)
    return result


def read(
    pillar: object, defaults: Mapping[str, Any], os_settings: Mapping[str, Any] | None = None
) -> dict[str, Cluster]:
    """All clusters of the pillar's ``etcd_ha`` key, by name; raises PillarError with all faults."""
    found = read_each(pillar, defaults, os_settings)
    if found.faults:
        faults = (fault for faults in found.faults.values() for fault in faults)
        raise PillarError(dict.fromkeys(faults))
    return dict(found.clusters)


def read_each(
    pillar: object, defaults: Mapping[str, Any], os_settings: Mapping[str, Any] | None = None
) -> Read:
    """Each cluster of the pillar by itself: what is wrong with one does not stop the others.

    There may be none: the last one was removed, and its hosts have no part any more.

    Raises PillarError with what is wrong beside the clusters, which holds for all of them.
    """
    if not isinstance(pillar, Mapping) or not pillar:
        raise PillarError(
            [
                "etcd_ha is missing or empty; copy pillar.example into your pillar and assign it "
                "to the hosts and to the master's own id (<master id>_master). Where the last "
                "cluster was removed, leave clusters: {} under it"
            ]
        )
    faults = etcd_ha_plain.faults(pillar, "etcd_ha")
    if faults:
        raise PillarError(faults)
    told = etcd_ha_plain.quiet(pillar)
    clusters_pillar = told.get("clusters")
    if not isinstance(clusters_pillar, Mapping):
        raise PillarError(
            [
                f"etcd_ha:clusters is {clusters_pillar!r}; name each cluster under it, or write "
                "{} where the last one was removed"
            ]
        )
    common = {key: value for key, value in told.items() if key != "clusters"}
    faults += _shape(common, defaults, "etcd_ha", extra=("clusters",))
    clusters: dict[str, Cluster] = {}
    # Those of which the hosts and the balancers' settings are known, whatever else is wrong.
    described: list[Cluster] = []
    doubtful = _doubtful(common, defaults, ())
    base = merge(defaults, os_settings, _without(common, doubtful))
    wrong: dict[str, list[str]] = {}
    for name, wanted in clusters_pillar.items():
        cluster, found = _cluster(name, wanted, base, defaults, doubtful)
        if cluster and "balancer" not in _sections(found, f"etcd_ha:clusters:{name}"):
            described.append(cluster)
        if cluster and not found:
            clusters[cluster.name] = cluster
        else:
            wrong[str(name)] = found
    hosts = {str(name): _named(wanted) for name, wanted in clusters_pillar.items()}
    for name, fault in (
        *etcd_ha_pillar_names.shared_hosts(hosts),
        *_shared_addresses(described),
    ):
        wrong.setdefault(name, []).append(fault)
    for one in described:
        if one.former in clusters_pillar:
            wrong.setdefault(one.name, []).append(
                f"etcd_ha:clusters:{one.name}:renamed_from is {one.former!r}, which the pillar has "
                "as a cluster of its own; a cluster is moved to its new name, not copied"
            )
    if faults:
        raise PillarError([*faults, *(fault for found in wrong.values() for fault in found)])
    right = {name: cluster for name, cluster in clusters.items() if name not in wrong}
    told_faults = {name: tuple(dict.fromkeys(found)) for name, found in wrong.items()}
    return Read(right, told_faults, {name: frozenset(hosts[name]) for name in wrong})


def warnings(cluster: Cluster) -> list[str]:
    """What is allowed but rarely meant, one sentence each."""
    found = []
    count = len(cluster.members)
    key = f"etcd_ha:clusters:{cluster.name}"
    if count == 1:
        found.append(
            f"{key}:members has 1 member, which tolerates no failure: whenever it restarts, "
            "clients wait. Use 3"
        )
    elif count % 2 == 0:
        found.append(
            f"{key}:members has {count} members, which tolerate {(count - 1) // 2} failures, the "
            f"same as {count - 1}. Use {count + 1}"
        )
    part = _part(cluster, cluster.ca_minion or "")
    if part:
        found.append(
            f"{key}:tls:ca:minion is {cluster.ca_minion}, which is a {part} too: whoever takes "
            "over that host can sign certificates for every other one. Use another host for the CA"
        )
    if not cluster.tls:
        found.append(f"{key}:tls:enabled is false: anyone who reaches a port reads and writes all")
    if cluster.virtual_address and len(cluster.balancers) == 1:
        found.append(
            f"{key}:balancer:virtual_address has one balancer: nobody takes the address over"
        )
    packaged = cluster.settings["install"]["method"] == "package"
    holes = etcd_ha_etcd_known_holes.note(cluster.version, f"{key}:version", packaged)
    found += [holes] if holes else []
    for member in cluster.members:
        found += etcd_ha_options.warnings(
            cluster.version, member.settings["options"], f"{key}:options"
        )
    return list(dict.fromkeys(found))


def _part(cluster: Cluster, minion: str) -> str:
    """What a host is in this cluster beside what else it may be; empty where nothing."""
    if cluster.member(minion):
        return "member"
    return "load balancer" if cluster.balancer(minion) else ""


def _cluster(
    name: object,
    wanted: object,
    base: Settings,
    defaults: Mapping[str, Any],
    doubtful: frozenset[str],
) -> tuple[Cluster | None, list[str]]:
    """A cluster as far as its hosts are right, and all its faults.

    ``doubtful`` are the sections that are wrong for all.
    """
    key = f"etcd_ha:clusters:{name}"
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > _LONGEST_CLUSTER:
        return None, [
            f"{key}: {name!r} is not a name; use letters, digits, '.', '_' and '-', "
            f"{_LONGEST_CLUSTER} characters at most"
        ]
    taken = etcd_ha_pillar_names.taken_by_files(name)
    if taken:
        return None, [f"{key}: {taken}"]
    if not isinstance(wanted, Mapping):
        return None, [f"{key} is {wanted!r}; it must be a mapping with members"]
    own = {k: v for k, v in wanted.items() if k not in _CLUSTER_ONLY}
    faults = _shape(own, defaults, key, extra=_CLUSTER_ONLY)
    doubtful |= _doubtful(own, defaults, _CLUSTER_ONLY)
    settings = _canonical(merge(base, _without(own, doubtful)))
    faults += _beside(_values(settings, key), key, doubtful)
    token = wanted.get("token", name)
    if not isinstance(token, str) or not _NAME.fullmatch(token):
        faults.append(f"{key}:token is {token!r}; {_NAMED}")
    former = wanted.get("renamed_from")
    former = "" if former is None else former
    if not isinstance(former, str) or (former and not _NAME.fullmatch(former)):
        faults.append(f"{key}:renamed_from is {former!r}; give the name that the cluster had")
        former = ""
    wrong = _hosts_faults(wanted, key)
    faults += wrong
    if wrong:
        return None, faults + _access_faults(settings, (), key, doubtful)
    members, wrong = _members(wanted["members"], settings, defaults, key, faults)
    faults += wrong + _access_faults(settings, members, key, doubtful)
    balancers = tuple(
        Balancer(minion, _address(data))
        for minion, data in (wanted.get("load_balancers") or {}).items()
    )
    release = settings["version"]
    version = "" if etcd_ha_release.fault(release) else str(etcd_ha_release.parse(release))
    cluster = Cluster(name, version, token, members, balancers, settings, former)
    return cluster, faults + _relations(cluster, key, doubtful | _sections(faults, key))


def _sections(faults: Iterable[str], key: str) -> frozenset[str]:
    """The sections below ``key``, also those of a single member, that these faults are of."""
    found = []
    for fault in faults:
        if fault.startswith(f"{key}:"):
            name, *below = re.split("[: ]", fault.removeprefix(f"{key}:"), maxsplit=3)
            found.append(below[1] if name == "members" and len(below) > 1 else name)
    return frozenset(found)


def _doubtful(
    wanted: Mapping[Any, Any], known: Mapping[str, Any], extra: Iterable[str]
) -> frozenset[str]:
    """The sections with a key or a mapping that is wrong: what they say beside it is not known."""
    return frozenset(name for name in wanted if _shape({name: wanted[name]}, known, "", extra))


# Addresses that stand in files as they are, and are compared with those of hosts.
_ADDRESSES = ("balancer:bind", "balancer:stats:address", "balancer:virtual_address:address")


def _canonical(settings: Settings) -> Settings:
    """The settings, whose addresses are in their canonical form; changed in place."""
    for path in _ADDRESSES:
        *parts, last = path.split(":")
        place = _at(settings, ":".join(parts))
        if isinstance(place[last], str):
            place[last] = etcd_ha_common_addresses.canonical(place[last])
    return settings


def _without(wanted: Mapping[str, Any], sections: Iterable[str]) -> Settings:
    return {name: value for name, value in wanted.items() if name not in sections}


def _beside(faults: Iterable[str], key: str, doubtful: Iterable[str]) -> list[str]:
    """Those of the faults below ``key`` that are of other sections than these."""
    places = tuple(f"{key}:{name}{end}" for name in doubtful for end in ": ")
    return [fault for fault in faults if not fault.startswith(places)]


def _access_faults(
    settings: Settings, members: Iterable[Member], key: str, doubtful: Iterable[str]
) -> list[str]:
    found = etcd_ha_access.faults(
        settings["access"],
        settings["tls"]["enabled"] is not False,
        [member.name for member in members],
        f"{key}:access",
    )
    return _beside(found, key, doubtful)


def _members(
    wanted: Mapping[str, Any],
    settings: Settings,
    defaults: Mapping[str, Any],
    key: str,
    known: Iterable[str],
) -> tuple[tuple[Member, ...], list[str]]:
    """The members that are right, and the faults of the others beside the cluster's ``known``."""
    faults: list[str] = []
    told = {fault.removeprefix(key) for fault in known}
    members = []
    short = [minion.split(".")[0] for minion in wanted]
    for minion, data in wanted.items():
        data = data if isinstance(data, Mapping) else {"address": data}
        own = {k: v for k, v in data.items() if k not in _MEMBER_ONLY}
        where = f"{key}:members:{minion}"
        wrong = [
            f"{where}:{k} cannot be set for one member; set it at {key}:{k} for the whole cluster"
            for k in own
            if k in _CLUSTER_WIDE
        ]
        wrong += _shape(
            {k: v for k, v in own.items() if k not in _CLUSTER_WIDE}, defaults, where, _MEMBER_ONLY
        )
        if not wrong:
            merged = merge(settings, own)
            found = _values(merged, where) if own else []
            wrong += [fault for fault in found if fault.removeprefix(where) not in told]
            first = minion.split(".")[0]
            name = data.get("name", first if short.count(first) == 1 else minion)
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                made = "" if "name" in data else ", as the minion id has it"
                wrong.append(f"{where}:name is {name!r}{made}; {_NAMED}")
            elif etcd_ha_pillar_names.reserved(name):
                wrong.append(f"{where}:name is {name!r}, {_RESERVED}; give the member another one")
            else:
                members.append(Member(minion, name, _address(data), merged))
        faults += wrong
    return tuple(members), faults


def _address(data: object) -> str:
    address = data["address"] if isinstance(data, Mapping) else data
    return etcd_ha_common_addresses.canonical(str(address))


def _shape(
    wanted: Mapping[str, Any],
    known: Mapping[str, Any],
    key: str,
    extra: Iterable[str],
    path: str = "",
) -> list[str]:
    """Unknown keys and mappings that are none (or the other way round), against the defaults."""
    faults = []
    for name, value in wanted.items():
        here, inner = f"{key}:{name}", f"{path}:{name}".lstrip(":")
        if name not in known:
            names = [*known, *(extra if not path else ())]
            near = difflib.get_close_matches(str(name), names, n=1)
            cure = (
                f"did you mean {near[0]!r}?" if near else f"allowed are: {', '.join(sorted(names))}"
            )
            faults.append(f"{here} is not a setting of etcd_ha; {cure}")
        elif isinstance(known[name], Mapping):
            if not isinstance(value, Mapping):
                # Among users it may be a password.
                secret = here.split(":")[-2:-1] == ["access"] or inner in ("tls:files", "backup:s3")
                shown = "is none" if secret else f"is {value!r}"
                faults.append(f"{here} {shown}; it must be a mapping")
            elif inner not in _FREE:
                faults += _shape(value, known[name], here, extra, inner)
        elif isinstance(value, Mapping) and inner not in _FREE:
            faults.append(f"{here} is a mapping; it must be a single value")
        elif value is None and inner not in _OPTIONAL:
            faults.append(f"{here} is empty; give a value or leave the key out")
    return faults


def _at(settings: Mapping[str, Any], path: str) -> Any:
    value: Any = settings
    for part in path.split(":"):
        value = value[part]
    return value


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _values(settings: Settings, key: str) -> list[str]:
    """Faults of the values of complete settings, each with its key."""
    faults = []
    wrong_version = etcd_ha_release.fault(settings["version"])
    if settings["version"] is None:
        faults.append(
            f"{key}:version is missing; name the release of etcd in full, such as version: 3.6.14"
        )
    elif wrong_version:
        faults.append(f"{key}:version: {wrong_version}")
    for path, choices in _CHOICES.items():
        if _at(settings, path) not in choices:
            faults.append(f"{key}:{path} is {_at(settings, path)!r}; use {' or '.join(choices)}")
    for path in _PORTS:
        value = _at(settings, path)
        if not _is_int(value) or not 1 <= value <= 65535:
            faults.append(f"{key}:{path} is {value!r}; a port is a number from 1 to 65535")
        elif path in _OF_ETCD and value < 1024:
            faults.append(
                f"{key}:{path} is {value}, which is root's alone; etcd does not run as root. Give "
                "a port from 1024 to 65535"
            )
    for path in _POSITIVE:
        value = _at(settings, path)
        if not _is_int(value) or value < 1:
            faults.append(
                f"{key}:{path} is {value!r}; give a whole number above 0, in {_UNITS[path]}"
            )
        elif value > _MOST.get(path, value):
            faults.append(f"{key}:{path} is {value}; give {_MOST[path]} at most")
    for path in _BOOLEANS:
        if not isinstance(_at(settings, path), bool):
            faults.append(f"{key}:{path} is {_at(settings, path)!r}; use true or false")
    for path in _PATHS:
        value = _at(settings, path)
        if value is None and path in _OPTIONAL:
            continue
        wrong = etcd_ha_paths.fault(value)
        if wrong:
            faults.append(f"{key}:{path} is {value!r}; {wrong}")
    for path in _USERS:
        value = settings[path]
        if not isinstance(value, str) or not _USER.fullmatch(value):
            faults.append(f"{key}:{path} is {value!r}; give the name of a system user or group")
        elif value == "root":
            faults.append(f"{key}:{path} is 'root'; etcd needs none of its rights, give it its own")
    faults += etcd_ha_paths.faults(settings, key)
    faults += _port_clashes(settings, key)
    faults += _install_faults(settings["install"], key)
    faults += _through_faults(settings["upgrade"]["through"], key)
    faults += _tls_faults(settings["tls"], key)
    faults += _network_faults(settings, key)
    faults += etcd_ha_virtual.faults(
        settings["balancer"]["virtual_address"],
        settings["balancer"]["bind"],
        f"{key}:balancer:virtual_address",
    )
    faults += etcd_ha_maintenance.faults(settings["maintenance"], f"{key}:maintenance")
    faults += etcd_ha_backup.faults(settings["backup"], f"{key}:backup")
    if not wrong_version:
        faults += etcd_ha_options.check(
            str(settings["version"]), settings["options"], f"{key}:options", settings
        )
        faults += etcd_ha_maintenance.option_faults(settings["options"], f"{key}:options")
    return faults


def _port_clashes(settings: Settings, key: str) -> list[str]:
    ports = settings["ports"]
    faults = []
    names = list(ports)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            if ports[first] == ports[second]:
                faults.append(
                    f"{key}:ports:{second} is {ports[second]!r}, as is {first}; give each its own"
                )
    return faults


def _install_faults(install: Settings, key: str) -> list[str]:
    faults = []
    url = install["url"]
    if not etcd_ha_arguments.is_link(url):
        faults.append(f"{key}:install:url is {url!r}; give an URL with upstream's layout below it")
    elif etcd_ha_plain.holds_user(url):
        faults.append(
            f"{key}:install:url holds a user or password, which job caches and events would show. "
            "Give a mirror that asks for none, or one on the master's file server (salt://...)"
        )
    checksum = install["checksum"]
    hashes = list(checksum.values()) if isinstance(checksum, Mapping) else [checksum]
    if isinstance(checksum, Mapping):
        arches = set(etcd_ha_release.ARCHITECTURES.values())
        faults += [
            f"{key}:install:checksum:{arch}: no such architecture; use {', '.join(sorted(arches))}"
            for arch in checksum
            if arch not in arches
        ]
    if any(value is not None and not etcd_ha_release.is_sha256(value) for value in hashes):
        faults.append(
            f"{key}:install:checksum is {checksum!r}; "
            "give a sha256 (64 hex digits), or one per architecture"
        )
    packages = install["packages"]
    if not isinstance(packages, list) or not all(_is_package(one) for one in packages):
        faults.append(f"{key}:install:packages is {packages!r}; give a list of package names")
    return faults


def _is_package(name: object) -> bool:
    """A name alone: to a package manager what begins with a dash is an option."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _through_faults(through: object, key: str) -> list[str]:
    """``upgrade:through`` maps a minor line to the release of it to pass through."""
    if not isinstance(through, Mapping):
        return [f"{key}:upgrade:through is {through!r}; write a mapping such as '3.5': 3.5.33"]
    faults = []
    for line, version in through.items():
        where = f"{key}:upgrade:through:{line}"
        wrong = etcd_ha_release.fault(version)
        if wrong:
            faults.append(f"{where}: {wrong}")
        elif etcd_ha_release.parse(version).line != line:
            faults.append(f"{where} is {version!r}; give a release of that line, quoted: '3.5'")
    return faults


def _tls_faults(tls: Settings, key: str) -> list[str]:
    faults = _names_faults(tls["names"], tls["source"], f"{key}:tls:names")
    ca = tls["ca"]
    if tls["enabled"] is False:
        return faults
    if tls["source"] == "salt" and not (
        isinstance(ca["minion"], str) and _HOST.fullmatch(ca["minion"])
    ):
        faults.append(
            f"{key}:tls:ca:minion is {ca['minion']!r}; name the minion that shall be the CA, "
            "or bring your own certificates (tls:source: files or pillar)"
        )
    for owner, values in (("tls", tls), ("tls:ca", ca)):
        valid, remaining = values["days_valid"], values["days_remaining"]
        if _is_int(valid) and _is_int(remaining) and remaining >= valid:
            faults.append(
                f"{key}:{owner}:days_remaining is {remaining}; it must be below days_valid "
                f"({valid}), else every run renews"
            )
    for name in ("common_name", "organization"):
        if ca[name] is not None and not _is_line(ca[name]):
            faults.append(
                f"{key}:tls:ca:{name} is {ca[name]!r}; give text of one line, 64 characters at "
                "most (64 bytes, and some letters are several)"
            )
    sizes = {"ec": (256, 384, 521), "rsa": (2048, 3072, 4096)}.get(str(tls["algo"]), ())
    if sizes and tls["keysize"] not in sizes:
        allowed = " or ".join(map(str, sizes))
        faults.append(f"{key}:tls:keysize is {tls['keysize']!r}; {tls['algo']} takes {allowed}")
    if tls["source"] in ("files", "pillar"):
        faults += _own_certificates(tls["files"], tls["source"], key)
    return faults


def _names_faults(names: object, source: object, key: str) -> list[str]:
    """Faults of ``tls:names``; what the formula's own CA is to sign, Salt must be able to sign."""
    if not isinstance(names, list):
        return [f"{key} is {names!r}; give a list of IP addresses and DNS names"]
    faults = []
    for name in names:
        if etcd_ha_common_addresses.parsed(name):
            continue
        wrong = ""
        if not isinstance(name, str) or not _HOST.fullmatch(name):
            wrong = "give an IP address or a DNS name such as etcd.example.com"
        elif etcd_ha_pillar_names.reserved(name):
            wrong = f"that is {_RESERVED}; give an IP address or a DNS name of the cluster's own"
        elif source == "salt":
            wrong = etcd_ha_common_dns.fault(name)
            wrong += "; give an IP address or another name" if wrong else ""
        faults += [f"{key} has {name!r}; {wrong}"] if wrong else []
    return faults


def _own_certificates(files: Mapping[str, Any], source: str, key: str) -> list[str]:
    faults = []
    known = (*_CERTIFICATES, _CHECK)
    for name in (*_CERTIFICATES, *({_CHECK} & files.keys())):
        parts = ("certificate",) if name == "ca" else _PARTS
        given = files.get(name)
        for part in parts:
            value = given.get(part) if isinstance(given, Mapping) else None
            where = f"{key}:tls:files:{name}:{part}"
            if not isinstance(value, str) or not value:
                faults.append(f"{where} is missing; tls:source: {source} needs it")
            elif source == "files" and etcd_ha_paths.fault(value):
                # Never the value: it may be the key itself.
                faults.append(
                    f"{where} is not the absolute path of a PEM file in its plain form; give one "
                    "(tls:source: pillar takes the PEM text itself)"
                )
            elif source == "pillar" and "-----BEGIN " not in value:
                faults.append(f"{where} is no PEM text; put the PEM itself there")
        faults += [
            f"{key}:tls:files:{name}:{part} is not a setting of etcd_ha; use {' and '.join(parts)}"
            for part in (given if isinstance(given, Mapping) else ())
            if part not in parts
        ]
    faults += [
        f"{key}:tls:files:{name} is not a certificate of etcd_ha; use {', '.join(known)}"
        for name in files
        if name not in known
    ]
    return faults


def _network_faults(settings: Settings, key: str) -> list[str]:
    faults = []
    networks = settings["firewall"]["client_networks"]
    if not isinstance(networks, list):
        meant = etcd_ha_common_addresses.network_meant(networks) or "10.1.0.0/16"
        networks, faults = [], [f"{key}:firewall:client_networks is no list; write [{meant}]"]
    for network in networks:
        if not etcd_ha_common_addresses.network(network):
            meant = etcd_ha_common_addresses.network_meant(network)
            cure = f"write a network such as {meant or '10.1.0.0/16'}"
            if meant:
                cure = f"write a network: {meant} is the one that this address is in"
            faults.append(f"{key}:firewall:client_networks has {network!r}; {cure}")
    for path in ("balancer:bind", "balancer:stats:address"):
        value = _at(settings, path)
        if value != "*" and not etcd_ha_common_addresses.parsed(value):
            faults.append(f"{key}:{path} is {value!r}; give an IP address{_alone(value)}")
    kind, balance = settings["balancer"]["kind"], settings["balancer"]["balance"]
    wrong = etcd_ha_pillar_balance.fault(kind, balance)
    if wrong:
        joint = ", " if wrong.startswith("which") else "; "
        faults.append(f"{key}:balancer:balance is {balance!r}{joint}{wrong}")
    package = settings["balancer"]["package"]
    if package is not None and not _is_package(package):
        faults.append(f"{key}:balancer:package is {package!r}; give the name of one package")
    stats = settings["balancer"]["stats"]
    if stats["enabled"] and not _is_loopback(stats["address"]):
        faults.append(
            f"{key}:balancer:stats:address is {stats['address']!r}; the statistics page has no "
            "password and stays on loopback (reach it by ssh -L)"
        )
    return faults


def _is_line(value: object) -> bool:
    """Text that may stand in a certificate's name."""
    # cryptography counts bytes in UTF-8 (NameAttribute in x509/name.py), as RFC 5280 lets it.
    return isinstance(value, str) and 0 < len(value.encode()) <= 64 and value.isprintable()


def _alone(value: object) -> str:
    """The address that stands in a text with more, as a cure goes on; empty where none does."""
    meant = etcd_ha_common_addresses.address_meant(value)
    return f" alone: {meant}" if meant else ""


def _is_loopback(value: object) -> bool:
    address = etcd_ha_common_addresses.parsed(value)
    return address is not None and address.is_loopback


def _hosts_faults(wanted: Mapping[str, Any], key: str) -> list[str]:
    """Faults of the member and balancer lists themselves."""
    faults = []
    members = wanted.get("members")
    balancers = wanted.get("load_balancers")
    if isinstance(members, list) and members:
        faults.append(f"{key}:members is a list; {_as_mapping(members)}")
    elif not isinstance(members, Mapping) or not members:
        faults.append(
            f"{key}:members is {members!r}; name at least one minion with its address, such as "
            f"{_EXAMPLE}"
        )
    if balancers is not None and not isinstance(balancers, Mapping):
        shown = "a list" if isinstance(balancers, list) else repr(balancers)
        faults.append(f"{key}:load_balancers is {shown}; {_as_mapping(balancers)}")
    seen: dict[str, str] = {}
    for group, hosts in (("members", members), ("load_balancers", balancers)):
        for minion, data in hosts.items() if isinstance(hosts, Mapping) else ():
            where = f"{key}:{group}:{minion}"
            if not isinstance(minion, str) or not _HOST.fullmatch(minion):
                faults.append(f"{where}: {minion!r} is not a minion id")
                continue
            if etcd_ha_pillar_names.reserved(minion):
                faults.append(f"{where}: {minion!r} is {_RESERVED}; give the host another id")
                continue
            if isinstance(data, Mapping) and "address" not in data:
                near = difflib.get_close_matches("address", [str(k) for k in data], n=1)
                hint = f"; is {near[0]!r} meant to be 'address'?" if near else ""
                faults.append(f"{where}:address is missing{hint}")
                continue
            if group == "load_balancers" and isinstance(data, Mapping):
                faults += [
                    f"{where}:{name} is not a setting of a load balancer; only address is"
                    for name in data
                    if name != "address"
                ]
            address = data.get("address") if isinstance(data, Mapping) else data
            faults += _address_faults(where, minion, address, seen)
    return faults


_EXAMPLE = "{etcd1.example.com: {address: 192.168.200.52}}"


def _as_mapping(hosts: object) -> str:
    """How hosts that were given in another form are to be written: by the first of them."""
    first = hosts[0] if isinstance(hosts, list) and hosts else None
    texts = [first] if isinstance(first, str) else []
    texts = [*first, *first.values()] if _is_map(first) else texts
    hosts_named = [one for one in texts if isinstance(one, str) and one not in _WORDS]
    names = [one for one in hosts_named if not etcd_ha_common_addresses.parsed(one)]
    minion = next((one for one in names if _HOST.fullmatch(one)), "etcd1.example.com")
    found = (etcd_ha_common_addresses.parsed(one) for one in hosts_named)
    address = next((str(one) for one in found if one), "192.168.200.52")
    return (
        "it maps minion ids to addresses: write each on a line of its own, without a dash, such as "
        f"{minion}: {{address: {address}}}"
    )


# Keys that people give the hosts in a list.
_WORDS = ("address", "host", "hostname", "id", "ip", "minion", "name")


def _address_faults(where: str, minion: str, address: object, seen: dict[str, str]) -> list[str]:
    parsed = etcd_ha_common_addresses.parsed(address)
    if parsed is None:
        cure = _alone(address) or " at which others reach it"
        return [f"{where}:address is {address!r}; give the IP address{cure}"]
    if parsed.version == 6 and parsed.is_link_local:
        # A socket cannot be bound to one without the name of an interface (RFC 4007, 6).
        return [
            f"{where}:address is {address!r}; that one is for a single link alone. Give the host's "
            "address of another kind, such as 2001:db8::11 or 10.0.0.11"
        ]
    if parsed.is_unspecified or parsed.is_multicast or str(parsed) == "255.255.255.255":
        return [f"{where}:address is {address!r}; that is no host's own address"]
    if parsed.is_loopback:
        return [f"{where}:address is {address!r}; a loopback address reaches no other host"]
    other = seen.setdefault(str(parsed), minion)
    if other != minion:
        return [f"{where}:address is {address!r}, which is {other}'s; give each host its own"]
    return []


def _relations(cluster: Cluster, key: str, doubtful: frozenset[str]) -> list[str]:
    """Faults that show only when several settings of a cluster are known together.

    Where one of the sections that a relation is between is ``doubtful``, nothing is said of it.
    """
    return [
        fault
        for sections, relation in _RELATIONS
        if not doubtful & sections
        for fault in relation(cluster, key)
    ]


def _name_clashes(cluster: Cluster, key: str) -> list[str]:
    return etcd_ha_pillar_names.clashes(
        {member.minion: member.name for member in cluster.members},
        [balancer.minion for balancer in cluster.balancers],
        cluster.ca_minion or "",
        key,
    )


def _virtual_faults(cluster: Cluster, key: str) -> list[str]:
    if not cluster.virtual_address:
        return []
    return etcd_ha_virtual.misplaced(
        cluster.virtual_address,
        cluster.balancer_addresses,
        {m.minion: m.address for m in cluster.members},
        f"{key}:balancer:virtual_address",
    )


def _both_faults(cluster: Cluster, key: str) -> list[str]:
    """What a host that is a member and a balancer cannot have twice, or in two ways."""
    faults = []
    port = cluster.settings["balancer"]["port"]
    for balancer in cluster.balancers:
        both = cluster.member(balancer.minion)
        if both is None:
            continue
        for name, taken in both.settings["ports"].items():
            if taken == port:
                faults.append(
                    f"{key}:balancer:port is {port}, but {balancer.minion} is also a member whose "
                    f"{name} port that is; set another balancer:port"
                )
        if both.address != balancer.address:
            faults.append(
                f"{key}:load_balancers:{balancer.minion}:address is {balancer.address!r}, but as a "
                f"member it is {both.address!r}"
            )
    return faults


def _hostname_faults(cluster: Cluster, key: str) -> list[str]:
    if not cluster.settings["host"]["hostname"]:
        return []
    return [
        f"{key}:host:hostname is true, but {wrong}; set it to false"
        for minion in cluster.hosts
        if (wrong := etcd_ha_pillar_names.hostname_fault(minion))
    ]


def _check_faults(cluster: Cluster, key: str) -> list[str]:
    """With authentication on, "client" is root's, and no balancer may have what opens every key."""
    tls, enabled = cluster.settings["tls"], cluster.settings["access"]["enabled"]
    own = cluster.tls and tls["source"] in ("files", "pillar")
    if not own or not enabled or not cluster.balancers:
        return []
    files = tls["files"]
    if _CHECK in files and files[_CHECK] != files["client"]:
        return []
    if _CHECK in files:
        return [
            f"{key}:tls:files:{_CHECK} is the same as client, which is root's and opens every key; "
            "with access:enabled give the balancers a certificate without a common name"
        ]
    return [
        f"{key}:tls:files:{_CHECK} is missing; with access:enabled the balancers need a "
        "certificate of their own, without a common name, since tls:files:client is root's and "
        "opens every key"
    ]


def _stats_faults(cluster: Cluster, key: str) -> list[str]:
    """Where the statistics would share a port with what else listens on a balancer."""
    stats, port = cluster.settings["balancer"]["stats"], cluster.settings["balancer"]["port"]
    if not stats["enabled"]:
        return []
    both = [cluster.member(balancer.minion) for balancer in cluster.balancers]
    taken = {port: "balancer:port"}
    taken |= {p: f"ports:{n}" for m in both if m for n, p in m.settings["ports"].items()}
    if stats["port"] not in taken:
        return []
    other = taken[stats["port"]]
    return [f"{key}:balancer:stats:port is {stats['port']}, as is {other}; give it another one"]


_Relation = Callable[[Cluster, str], list[str]]
# The sections that each is between.
_RELATIONS: tuple[tuple[frozenset[str], _Relation], ...] = (
    (frozenset({"host", "tls"}), _hostname_faults),
    (frozenset({"balancer", "ports"}), _stats_faults),
    (frozenset({"tls", "access"}), _check_faults),
    (frozenset({"tls"}), _name_clashes),
    (frozenset({"balancer"}), _virtual_faults),
    (frozenset({"balancer", "ports"}), _both_faults),
)


def _named(wanted: object) -> tuple[str, ...]:
    """The minions that a cluster names as its members and balancers, whatever else is wrong."""
    groups = [wanted.get(one) for one in ("members", "load_balancers")] if _is_map(wanted) else []
    named = (str(minion) for group in groups if _is_map(group) for minion in group)
    return tuple(dict.fromkeys(named))


def _is_map(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _shared_addresses(clusters: Iterable[Cluster]) -> list[tuple[str, str]]:
    """Each cluster with an address that another one has too, with the fault of both."""
    owners: dict[str, tuple[str, str]] = {}
    faults = []
    for cluster in clusters:
        for address, where in _addresses(cluster).items():
            owner, place = owners.setdefault(address, (cluster.name, where))
            if owner != cluster.name:
                fault = (
                    f"etcd_ha:clusters:{cluster.name}:{where} is {address!r}, which {owner} has "
                    f"already ({place}); give each cluster addresses of its own"
                )
                faults += [(owner, fault), (cluster.name, fault)]
    return faults


def _addresses(cluster: Cluster) -> dict[str, str]:
    """Each address of a cluster -> the key below the cluster that has it."""
    found = {m.address: f"members:{m.minion}:address" for m in cluster.members}
    for balancer in cluster.balancers:
        found.setdefault(balancer.address, f"load_balancers:{balancer.minion}:address")
    if cluster.virtual_address:
        found.setdefault(cluster.virtual_address, "balancer:virtual_address:address")
    return found
