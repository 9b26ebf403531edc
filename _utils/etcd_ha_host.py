"""What one minion has to be: the one mapping that every state of the formula renders from.

Pure: clusters in, plain data out. Jinja prints it and decides nothing.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import etcd_ha_backup_host
import etcd_ha_certificates
import etcd_ha_common_addresses
import etcd_ha_desired_certificates
import etcd_ha_environment
import etcd_ha_host_balancer
import etcd_ha_host_record
import etcd_ha_pillar_balance
import etcd_ha_plain
import etcd_ha_release
import etcd_ha_virtual
from etcd_ha_certificates import Certificate
from etcd_ha_topology import Balancer, Cluster, Member, bracketed

ACTIONS = ("none", "bootstrap", "restart", "begin", "join", "hold")
UNIT = "etcd.service"
ENVIRONMENT_FILE = "/etc/default/etcd"
BOOTSTRAP_FILE = "/run/etcd_ha/bootstrap.env"
BUNDLE = "check.pem"
BALANCER_CONFIG_DIR = "/etc/etcd"
VRRP = "VRRP of the balancers"


def describe(
    minion: str, clusters: Iterable[Cluster], arch: str, step: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Everything that this minion is in these clusters.

    ``step`` is what the orchestrate hands over: ``action``, ``successor``, ``endpoints``, the
    ``stage`` where a member shall not be as the pillar says yet, and ``leads_to`` where a balancer
    shall know more endpoints of members than the pillar's.

    Returns ``{minion, action, successor, endpoints, trust, restart_before, pairs, former, clusters,
    entries, hostname, member, balancer, authorities, firewall}`` and what a state run outside the
    orchestrate has otherwise (``etcd_ha_host_in_force.held``): ``keeps``, ``phase``, ``issuing``
    (the certificates that the states may exchange), ``coming``, ``cleared``, ``pending`` and
    ``pillar_secrets``. ``member`` and ``balancer`` are None where the minion is none.
    """
    clusters = [cluster for cluster in clusters if minion in cluster.hosts]
    step = step or {}
    stage = step.get("stage") or {}
    action = step.get("action", "none")
    member = balancer = None
    firewall: dict[str, Any] | None = None
    serving = None
    for cluster in clusters:
        the_member, the_balancer = cluster.member(minion), cluster.balancer(minion)
        if the_member:
            member = _member(*_staged(cluster, the_member, stage), arch, stage)
        if the_balancer:
            version = stage.get("version") or cluster.version
            staged = dataclasses.replace(cluster, version=version)
            balancer = _balancer(staged, the_balancer, step.get("leads_to") or {})
        if the_member or the_balancer:
            serving = cluster
            firewall = _firewall(cluster, the_member, the_balancer)
    trust = stage.get("trust", "")
    return {
        "minion": minion,
        "action": action if action in ACTIONS else "none",
        "successor": step.get("successor", ""),
        "endpoints": step.get("endpoints", ""),
        "trust": trust,
        "restart_before": step.get("restart_before", 0),
        # Whether certificates that users bring may take the place of those in use.
        "pairs": step.get("pairs", "keep"),
        "former": {cluster.name: cluster.former for cluster in clusters if cluster.former},
        "clusters": [cluster.name for cluster in clusters],
        "entries": _entries(serving) if serving else [],
        "hostname": _hostname(serving, minion),
        "member": member,
        "balancer": balancer,
        "authorities": [_authority(c) for c in clusters if c.ca_minion == minion],
        "firewall": firewall,
        "keeps": False,
        "prepares": bool(step.get("prepares")),
        "phase": trust,
        # While all only learn to trust another CA, or the CA gives no answer, certificates stay as
        # they are.
        "issuing": []
        if trust in ("both", "held")
        else [one["certificate"] for one in leaves(member, balancer)],
        "coming": {"member": None, "balancer": None},
        "cleared": not clusters,
        "pending": [],
        "pillar_secrets": True,
    }


def leaves(*parts: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """All certificates of a host's parts (``member``, ``balancer``)."""
    return [leaf for part in parts if part and part["pki"] for leaf in part["pki"]["leaves"]]


def _staged(cluster: Cluster, member: Member, stage: Mapping[str, str]) -> tuple[Cluster, Member]:
    """The member as it shall be for the time being; see ``etcd_ha_stages``."""
    settings = dict(member.settings)
    if stage.get("data_dir"):
        settings["data_dir"] = stage["data_dir"]
        settings["wal_dir"] = stage.get("wal_dir", "").rpartition("/")[0] or None
    return (
        dataclasses.replace(cluster, version=stage.get("version") or cluster.version),
        dataclasses.replace(member, settings=settings),
    )


def unfit(minion: str, clusters: Iterable[Cluster], arch: str) -> str:
    """Why this minion cannot be what these clusters want, with the cure; empty where it can.

    Whoever plans asks first: ``describe`` raises ValueError for such a host.
    """
    for cluster in clusters:
        member = cluster.member(minion)
        if member is None or member.settings["install"]["method"] != "archive":
            continue
        try:
            etcd_ha_release.architecture(arch)
        except ValueError as err:
            return etcd_ha_plain.brief(
                f"{minion} cannot be a member of {cluster.name}: {err} for it "
                f"(etcd_ha:clusters:{cluster.name}:members:{minion}), or another host"
            )
    return ""


def record_file(cluster: str) -> str:
    """The mark, outside the data directory, that this cluster was bootstrapped once."""
    return etcd_ha_host_record.path(cluster)


OS_FILES = ("Debian", "Ubuntu", "RedHat", "Fedora", "Suse")


def os_file(os: str, os_family: str) -> str:
    """The file of the operating system's data, from the ``os`` and ``os_family`` grains."""
    for name in (os, os_family):
        if name in OS_FILES:
            return f"etcd_ha/os/{name}.yaml"
    raise ValueError(
        f"the operating system {os} (family {os_family}) is not supported; "
        f"use one of {', '.join(OS_FILES)}"
    )


# What a step says, or what was: a host is none of it.
_PASSING = (
    *("action", "successor", "endpoints", "trust", "restart_before", "pairs", "former"),
    *("keeps", "prepares", "phase", "issuing", "coming", "cleared", "pending", "pillar_secrets"),
    *("not_before", "other_pillar", "owner"),
)


def digest(host: Mapping[str, Any], source: str) -> str:
    """One hash of all that a host should be; ``source`` is the hash of the formula's states."""
    wanted = {key: host[key] for key in host if key not in _PASSING}
    if wanted["member"]:
        # Missing while a CA is exchanged; whether it has to come is seen in the running process.
        # In one order: a state's arguments come sorted, the master's description does not.
        variables = dict(sorted(wanted["member"]["environment"].items()))
        variables.pop(etcd_ha_environment.PEER_NAME, None)
        text = etcd_ha_environment.file_text(variables)
        given = {"environment": variables, "environment_text": text}
        wanted["member"] = {**wanted["member"], **given}
        # The host's own business, which the master does not know.
        wanted["member"].pop("places", None)
    text = json.dumps([wanted, source], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def pillar_digest(minion: str, clusters: Iterable[Cluster], arch: str) -> str:
    """One hash of all that a pillar says of a host; empty where the host cannot be that."""
    clusters = list(clusters)
    if unfit(minion, clusters, arch):
        return ""
    return digest(describe(minion, clusters, arch), "")


def policies_digest(policies: Mapping[str, Any]) -> str:
    """One hash of the formula's signing policies, whatever else the minion signs."""
    ours = {name: value for name, value in policies.items() if name.startswith("etcd_ha_")}
    if not ours:
        return ""
    return hashlib.sha256(json.dumps(ours, sort_keys=True).encode()).hexdigest()


def certificates(host: Mapping[str, Any]) -> list[str]:
    """The files of all leaves of a host that its CA signed, and so renews."""
    parts = [part for part in (host["member"], host["balancer"]) if part and part["pki"]]
    signed = [part["pki"] for part in parts if part["pki"]["ca_server"]]
    return [leaf["certificate"] for pki in signed for leaf in pki["leaves"]]


def mark(host: Mapping[str, Any], digest: str, files: Mapping[str, str]) -> dict[str, Any]:
    """What is written down on a host once its states have all passed; holds no secret."""
    member, balancer = host["member"], host["balancer"]
    result: dict[str, Any] = {"digest": digest, "files": dict(files)}
    if member:
        result["member"] = {
            key: member[key] for key in ("cluster", "name", "unit", "data_dir", "config_dir", "ca")
        }
    if balancer:
        pki = balancer["pki"]
        result["balancer"] = {
            "cluster": balancer["cluster"],
            "kind": balancer["kind"],
            "url": balancer["url"],
            "endpoints": balancer["endpoints"],
            "virtual_address": (balancer["virtual"] or {}).get("address", ""),
            **{key: balancer[key] for key in ("checks", "check_interval", "check_timeout")},
            "backends": balancer["backends"],
            "ca": pki["ca_certificate"] if pki else None,
            "certificate": f"{pki['dir']}/check.crt" if pki else None,
            "key": f"{pki['dir']}/check.key" if pki else None,
        }
    return result


def marked_certificates(mark: Mapping[str, Any]) -> list[dict[str, str]]:
    """Whose and what for the certificates are that a host's mark names: cluster, purpose, path."""
    owners = {}
    if "member" in mark:
        owners[f"{mark['member']['config_dir']}/pki"] = mark["member"]["cluster"]
    if mark.get("balancer", {}).get("ca"):
        owners[mark["balancer"]["ca"].rpartition("/")[0]] = mark["balancer"]["cluster"]
    found = []
    for path in sorted(mark.get("files", {})):
        folder, _, name = path.rpartition("/")
        if name.endswith(".crt"):
            # What is no member's and no balancer's is a CA's: its folder is the cluster's name.
            cluster = owners.get(folder, folder.rpartition("/")[2])
            found.append({"cluster": cluster, "purpose": name[: -len(".crt")], "path": path})
    return found


def _hostname(cluster: Cluster | None, minion: str) -> str | None:
    return minion if cluster is not None and cluster.settings["host"]["hostname"] else None


def _entries(cluster: Cluster) -> list[dict[str, Any]]:
    """/etc/hosts: every member and balancer, by minion id and by member name."""
    if not cluster.settings["host"]["hosts_file"]:
        return []
    names: dict[str, list[str]] = {}
    for member in cluster.members:
        names.setdefault(member.address, []).extend([member.minion, member.name])
    for balancer in cluster.balancers:
        names.setdefault(balancer.address, []).append(balancer.minion)
    return [{"address": a, "names": list(dict.fromkeys(n))} for a, n in names.items()]


def _certificate(
    cluster: Cluster, leaf: Certificate, pki: str, owner: str, group: str
) -> dict[str, Any]:
    tls = cluster.settings["tls"]
    return {
        "purpose": leaf.purpose,
        "policy": leaf.policy,
        "ca_server": cluster.ca_minion,
        "certificate": f"{pki}/{leaf.purpose}.crt",
        "key": f"{pki}/{leaf.purpose}.key",
        "owner": owner,
        "group": group,
        "algo": tls["algo"],
        "keysize": tls["keysize"],
        "days_valid": tls["days_valid"],
        "days_remaining": tls["days_remaining"],
        "common_name": leaf.common_name,
        # The policy on the CA has them; here they make a host stale whose certificate lacks one.
        "names": list(leaf.names),
        "need": etcd_ha_desired_certificates.needed(cluster, leaf.purpose, leaf.minion).told(),
    }


def pairs(cluster: Cluster, minion: str) -> list[dict[str, Any]]:
    """The certificates of a host with their keys, for ``etcd_ha.facts`` to look at.

    Where each lies in use (``certificate``, ``key``, ``ca``), what it must say (``need``), and
    where it comes from if the user brings it in files (``new_certificate``, ``new_key``,
    ``new_ca``).
    """
    member, balancer = cluster.member(minion), cluster.balancer(minion)
    found = []
    if member:
        leaves = etcd_ha_certificates.of_member(cluster, member)
        found.append(_pki(cluster, leaves, etcd_ha_environment.pki_dir(member), "", ""))
    if balancer:
        leaves = etcd_ha_certificates.of_balancer(cluster, balancer)
        found.append(_pki(cluster, leaves, f"{BALANCER_CONFIG_DIR}/{cluster.name}", "", ""))
    return [_pair(pki, leaf) for pki in found if pki for leaf in pki["leaves"]]


def _pair(pki: Mapping[str, Any], leaf: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: leaf[name] for name in ("purpose", "certificate", "key", "need")}
    row["ca"] = pki["ca_certificate"]
    if pki["source"] == "files":
        own = pki["files"][leaf["purpose"]]
        row |= {"new_certificate": own["certificate"], "new_key": own["key"]}
        row["new_ca"] = pki["files"]["ca"]["certificate"]
    return row


def _pki(
    cluster: Cluster, leaves: tuple[Certificate, ...], folder: str, user: str, group: str
) -> dict[str, Any] | None:
    """The certificates of a host, or None without TLS; the admin's belong to root alone."""
    if not cluster.tls:
        return None
    tls = cluster.settings["tls"]
    # The one who decides on the virtual address shows the balancer's certificate, and is not root.
    checker = (etcd_ha_virtual.USER,) * 2 if cluster.virtual_address else ("root", "root")
    roots = {"admin": ("root", "root"), "check": checker}
    owners = {leaf.purpose: roots.get(leaf.purpose, (user, group)) for leaf in leaves}
    return {
        "dir": folder,
        "source": tls["source"],
        "ca_server": cluster.ca_minion,
        "ca_policy": leaves[0].policy,
        "ca_certificate": f"{folder}/ca.crt",
        "owner": user,
        "group": group,
        "trust_store": tls["trust_store"],
        "trust_name": f"etcd_ha_{cluster.name}",
        "leaves": [_certificate(cluster, leaf, folder, *owners[leaf.purpose]) for leaf in leaves],
        "files": _own_files(tls, leaves) if tls["source"] != "salt" else {},
    }


def _own_files(
    tls: Mapping[str, Any], leaves: tuple[Certificate, ...]
) -> dict[str, dict[str, Any]]:
    """Where the user's own certificates come from; ``name`` is their key under ``tls:files``.

    Root's admin certificate is the "client" pair, and so is the balancer's where it has no "check"
    pair of its own. PEM text out of the pillar stands here as its hash alone: this mapping is
    written to logs and shown to people, and a changed hash is a change.
    """
    names = {leaf.purpose: leaf.purpose for leaf in leaves} | {"ca": "ca"}
    shared = ("admin",) if tls["files"].get("check") else ("admin", "check")
    names |= {purpose: "client" for purpose in shared if purpose in names}
    result = {}
    for purpose, name in names.items():
        parts = tls["files"].get(name, {})
        if tls["source"] == "pillar":
            parts = {k: hashlib.sha256(v.encode()).hexdigest() for k, v in parts.items()}
        result[purpose] = {"name": name, **parts}
    return result


def _member(
    cluster: Cluster, member: Member, arch: str, stage: Mapping[str, str]
) -> dict[str, Any]:
    settings, transport = member.settings, stage.get("transport")
    peer_name = stage.get("peer_name", "") if stage.get("trust") else None
    environment = etcd_ha_environment.variables(cluster, member, transport, peer_name)
    user, group = settings["user"], settings["group"]
    return {
        "cluster": cluster.name,
        "name": member.name,
        "version": cluster.version,
        "user": user,
        "group": group,
        "data_dir": settings["data_dir"],
        "wal_dir": settings["wal_dir"],
        # Where links lead to on the host, which alone can tell; see etcd_ha.host.
        "places": {"data_dir": settings["data_dir"], "wal_dir": settings["wal_dir"]},
        "config_dir": settings["config_dir"],
        "install": _install(cluster, member, arch),
        "ca": cluster.authority,
        "environment": environment,
        "environment_text": etcd_ha_environment.file_text(environment),
        "client_text": etcd_ha_environment.file_text(
            etcd_ha_environment.client_variables(cluster, member, transport)
        ),
        "unit": UNIT,
        # bbolt locks its whole file, and etcd ends where it may not.
        "locks_memory": any(
            environment.get(name) == "true" for name in etcd_ha_environment.MEMORY_LOCKS
        ),
        "transfer": {
            "port": settings["ports"]["transfer"],
            "members": [
                {"minion": m.minion, "address": m.address, "names": [m.minion, m.name]}
                for m in cluster.members
            ],
        },
        "start_timeout": settings["start_timeout"],
        "record": record_file(cluster.name),
        "backup": etcd_ha_backup_host.describe(cluster, member),
        "pki": _pki(
            cluster,
            etcd_ha_certificates.of_member(cluster, member),
            etcd_ha_environment.pki_dir(member),
            user,
            group,
        ),
    }


def _install(cluster: Cluster, member: Member, arch: str) -> dict[str, Any]:
    install = member.settings["install"]
    version = etcd_ha_release.parse(cluster.version)
    # etcdutl came with 3.5 (CHANGELOG-3.5.md); older releases do without it.
    programs = ["etcd", "etcdctl"]
    programs += ["etcdutl"] if version >= etcd_ha_release.Version(3, 5, 0) else []
    result = {
        "method": install["method"],
        "packages": install["packages"],
        "programs": programs,
        "bin_dir": install["bin_dir"],
        "dir": f"{install['dir']}/{cluster.version}",
        "current": f"{install['dir']}/current",
        "program": "/usr/bin/etcd",
    }
    if install["method"] == "archive":
        name = etcd_ha_release.architecture(arch)
        folder = etcd_ha_release.folder(cluster.version, name)
        result |= {
            "program": f"{result['current']}/etcd",
            "folder": folder,
            "archive": f"{folder}.tar.gz",
            "url": etcd_ha_release.archive_url(install["url"], cluster.version, name),
            "sums_url": etcd_ha_release.checksums_url(install["url"], cluster.version),
            "checksum": etcd_ha_release.pinned(install["checksum"], name),
        }
    return result


def _balancer(
    cluster: Cluster, balancer: Balancer, leads_to: Mapping[str, Iterable[str]]
) -> dict[str, Any]:
    settings = cluster.settings["balancer"]
    stats = settings["stats"]
    # Where members move, an endpoint in two is closed, and has the fewest connections, or is the
    # one of a client's address: by turns a client of HAProxy comes from each of these to one that
    # is open. nginx itself leaves a closed one out for a while.
    moving = settings["kind"] == "haproxy" and bool(leads_to)
    balance = "roundrobin" if moving else settings["balance"]
    leaves = etcd_ha_certificates.of_balancer(cluster, balancer)
    pki = _pki(cluster, leaves, f"{BALANCER_CONFIG_DIR}/{cluster.name}", "root", "root")
    virtual = etcd_ha_virtual.describe(
        settings["virtual_address"], cluster.balancer_addresses, balancer.minion
    )
    shared = bool(virtual) and settings["bind"] == cluster.virtual_address
    # At an address that another host may hold, nobody can be sure to reach this balancer.
    own = _loopback_url(cluster) if shared else cluster.balancer_url(balancer)
    return {
        "cluster": cluster.name,
        "kind": settings["kind"],
        "package": settings["package"],
        "listens": _listens(settings, balancer.address, shared),
        "nonlocal": _nonlocal(cluster.virtual_address) if shared else None,
        "url": own,
        "endpoints": [url for url in (cluster.virtual_url, "" if shared else own) if url],
        "virtual": {**virtual, **_check(cluster, balancer, pki, shared)} if virtual else None,
        "tls": cluster.tls,
        "checks": _checks(cluster.version),
        "socket": etcd_ha_host_balancer.SOCKET,
        "check_interval": settings["check_interval"],
        "check_timeout": settings["check_timeout"],
        "idle_timeout": settings["idle_timeout"],
        "stats": {
            "enabled": stats["enabled"],
            "listen": f"{bracketed(stats['address'])}:{stats['port']}",
        },
        "balance": balance,
        "balance_lines": etcd_ha_pillar_balance.lines(settings["kind"], balance),
        "backends": [row for one in cluster.members for row in _backends(one, leads_to)],
        "pki": pki,
        # HAProxy's certificate and key in one file; nginx checks nobody.
        "bundle": f"{pki['dir']}/{BUNDLE}" if pki and settings["kind"] == "haproxy" else None,
        "record": record_file(cluster.name),
    }


def _check(
    cluster: Cluster, balancer: Balancer, pki: Mapping[str, Any] | None, shared: bool
) -> dict[str, Any]:
    """The check that decides whether a balancer may hold the virtual address, and its settings."""
    settings = cluster.settings["balancer"]
    # Balancers that listen at the virtual address alone cannot be asked by each other.
    others = [] if shared else [cluster.balancer_url(b) for b in cluster.balancers if b != balancer]
    asked = etcd_ha_virtual.check_settings(
        _loopback_url(cluster), others, pki, settings["check_timeout"]
    )
    return {
        "settings": check_settings_file(cluster.name),
        "settings_text": json.dumps(asked, indent=1, sort_keys=True) + "\n",
        "check_timeout": etcd_ha_virtual.longest_check(len(others), settings["check_timeout"]),
    }


def check_settings_file(cluster: str) -> str:
    """Where the check of a balancer's path is told whom to ask."""
    return f"{BALANCER_CONFIG_DIR}/{cluster}/virtual_address.json"


def _loopback_url(cluster: Cluster) -> str:
    port = cluster.settings["balancer"]["port"]
    return f"{cluster.scheme}://{_loopback(cluster.virtual_address)}:{port}"


def _loopback(address: str) -> str:
    return "[::1]" if ":" in address else "127.0.0.1"


def _nonlocal(address: str) -> str:
    """The kernel's setting that lets a balancer listen at an address that it does not hold."""
    return f"net.{'ipv6' if ':' in address else 'ipv4'}.ip_nonlocal_bind"


def _backends(member: Member, leads_to: Mapping[str, Iterable[str]]) -> list[dict[str, str]]:
    """Where a balancer finds a member: where the pillar has it, and where it is until then."""
    coming = f"{bracketed(member.address)}:{member.settings['ports']['client']}"
    present = [one for one in leads_to.get(member.minion, ()) if one != coming]
    names = [member.name, *(f"{member.name}_until_moved_{n}" for n in range(1, len(present) + 1))]
    host = etcd_ha_certificates.host_name(member.minion)
    return [
        {"name": name, "minion": member.minion, "endpoint": endpoint, "host": host}
        for name, endpoint in zip(names, [coming, *present], strict=True)
    ]


def _listens(settings: Mapping[str, Any], address: str, shared: bool) -> list[str]:
    """Every place where the balancer listens; at a shared address it is checked by loopback."""
    kind, bind, port = settings["kind"], settings["bind"], settings["port"]
    found = [_listen(kind, bind, address, port)]
    return [*found, f"{_loopback(bind)}:{port}"] if shared else found


def _listen(kind: str, bind: str, address: str, port: int) -> str:
    """Where the balancer listens, in its own words; ``*`` means IPv6 too where it lives there."""
    if bind != "*":
        return f"{bracketed(bind)}:{port}"
    if ":" in address:
        return f"[::]:{port} " + ("v4v6" if kind == "haproxy" else "ipv6only=off")
    return f"*:{port}"


# What a learner refuses, whoever asks, and what it says (etcd's api/v3rpc/interceptor.go).
_FOR_VOTERS = {
    "method": "POST",
    "path": "/v3/kv/range",
    "body": '{"key":"AA==","count_only":true}',
    "expect": '! string "not supported for learner"',
}


def _checks(version: str) -> list[dict[str, str]]:
    """What tells that a member can serve clients: HTTP requests, and what HAProxy is to expect.

    NOSPACE, which every member raises at once, must not empty the balancer. A learner must not be
    in it. From 3.6 on /readyz says both (https://github.com/etcd-io/etcd/pull/19086). 3.5 knows
    ``non_learner`` from 3.5.19 on alone, 3.4 never, and while 3.4 is upgraded to 3.5 both answer to
    the same checks. So there /health, which a learner answers with 200, is followed by a read that
    a learner refuses. Under authentication voters refuse it too, but in other words; for that the
    check's certificate has no common name (etcd_ha_certificates.of_balancer).
    """
    healthy = {"method": "GET", "body": "", "expect": "status 200"}
    if etcd_ha_release.parse(version) >= etcd_ha_release.Version(3, 6, 0):
        return [{**healthy, "path": "/readyz"}]
    return [{**healthy, "path": "/health?exclude=NOSPACE"}, _FOR_VOTERS]


def _authority(cluster: Cluster) -> dict[str, Any]:
    tls = cluster.settings["tls"]
    return {
        "cluster": cluster.name,
        "dir": etcd_ha_certificates.authority_dir(cluster),
        "common_name": tls["ca"]["common_name"],
        "organization": tls["ca"]["organization"],
        "algo": tls["algo"],
        "keysize": tls["keysize"],
        "days_valid": tls["ca"]["days_valid"],
        "days_remaining": tls["ca"]["days_remaining"],
    }


def _plain(network: str) -> str:
    """A network as firewalls print it: compressed, and a single address without its length."""
    found = etcd_ha_common_addresses.network(network)
    if found is None:
        raise ValueError(f"{network!r} is no network")
    return str(found.network_address if found.num_addresses == 1 else found)


def _firewall(
    cluster: Cluster, member: Member | None, balancer: Balancer | None
) -> dict[str, Any] | None:
    """Who may reach what: ``{kind, rules: [{port, protocol, sources, why}]}``, or None when off.

    ``port`` is 0 where the protocol, VRRP, has none.
    """
    settings: Mapping[str, Any] = cluster.settings["firewall"]
    if not settings["enabled"]:
        return None
    networks = [_plain(network) for network in settings["client_networks"]]
    peers = [other.address for other in cluster.members]
    proxies = [other.address for other in cluster.balancers]
    # Balancers that share an address ask each other whether they could hold it.
    asking = proxies if cluster.virtual_address else []
    rules = []
    if member:
        ports = member.settings["ports"]
        rules.append({"port": ports["peer"], "sources": peers, "why": "etcd peers"})
        rules.append(
            {
                "port": ports["client"],
                "sources": list(dict.fromkeys(peers + proxies + networks)),
                "why": "etcd clients",
            }
        )
        # Open to peers alone, and listened on only while a backup is brought to all of them.
        rules.append({"port": ports["transfer"], "sources": peers, "why": "etcd backups"})
        # It listens on loopback, and stays closed should that ever change.
        rules.append({"port": ports["metrics"], "sources": [], "why": "etcd metrics"})
    if balancer:
        rules.append(
            {
                "port": cluster.settings["balancer"]["port"],
                "sources": list(dict.fromkeys(peers + asking + networks)),
                "why": "etcd clients of the balancer",
            }
        )
    if balancer and cluster.virtual_address:
        sources = [address for address in proxies if address != balancer.address]
        rules.append({"port": 0, "protocol": "vrrp", "sources": sources, "why": VRRP})
    return {"kind": settings["kind"], "rules": [{"protocol": "tcp", **rule} for rule in rules]}
