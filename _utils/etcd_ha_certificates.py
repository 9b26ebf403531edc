"""Which certificates a cluster needs, and the signing policies that pin each of them."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import etcd_ha_common_addresses
import etcd_ha_common_dns
from etcd_ha_topology import Balancer, Cluster, Member

# A member's server certificate is also a client's: etcd's HTTP gateway dials its own client port
# with it (https://github.com/etcd-io/etcd/issues/9785).
BOTH_USES = "serverAuth, clientAuth"
CLIENT_USE = "clientAuth"
# Each peer certificate has this name beside its host's, and no other one has it: it opens the peer
# port (etcd_ha_environment). It resolves nowhere, and stays when a cluster is renamed.
PEER_NAME = f"peer.{etcd_ha_common_dns.ZONE}"


@dataclass(frozen=True)
class Certificate:
    """One leaf: who may have it, what it says, where it lies on its host."""

    purpose: str
    minion: str
    policy: str
    common_name: str
    uses: str
    names: tuple[str, ...]
    # What stands in the place of the common name where there is none.
    unit: str = ""


# RFC 5280, ub-organizational-unit-name.
_LONGEST_UNIT = 64
# Seconds by which a new certificate is valid before it is made: so much may clocks differ.
BACKDATED = 300


def backdated(now: float) -> str:
    """From when on a certificate is valid that is made now (seconds since 1970), as Salt takes it.

    A host whose clock is behind the others' would find it not yet valid otherwise.
    """
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now - BACKDATED))


def authority_dir(cluster: Cluster) -> str:
    """The directory of the cluster's CA on the CA minion."""
    return f"{cluster.settings['tls']['ca']['dir']}/{cluster.name}"


def authority_dirs(cluster: Cluster) -> list[str]:
    """Where the CA lies, and where it lay under the cluster's former name."""
    folder = cluster.settings["tls"]["ca"]["dir"]
    return [f"{folder}/{name}" for name in (cluster.name, cluster.former) if name]


def policy_name(cluster: Cluster, purpose: str, minion: str) -> str:
    """The signing policy of one certificate: a policy serves one minion and one purpose."""
    return f"etcd_ha_{cluster.name}_{purpose}_{minion}"


def of_member(cluster: Cluster, member: Member) -> tuple[Certificate, ...]:
    """The server, peer and admin certificates of a member."""
    balancers = [f"IP:{balancer.address}" for balancer in cluster.balancers]
    balancers += _names(*(balancer.minion for balancer in cluster.balancers))
    balancers += [f"IP:{cluster.virtual_address}"] if cluster.virtual_address else []
    own = [f"IP:{member.address}", f"DNS:{host_name(member.minion)}", *_names(member.name)]
    local = ["IP:127.0.0.1", "IP:::1", "DNS:localhost"]
    others = [alternative_name(name) for name in cluster.settings["tls"]["names"]]
    return (
        _certificate(
            cluster,
            "server",
            member.minion,
            member.name,
            BOTH_USES,
            own + local + balancers + others,
        ),
        _certificate(
            cluster,
            "peer",
            member.minion,
            member.name,
            BOTH_USES,
            [*own, f"DNS:{PEER_NAME}"],
        ),
        _certificate(cluster, "admin", member.minion, "root", CLIENT_USE, []),
    )


def host_name(minion: str) -> str:
    """The DNS name of a member's host in its certificates, by which balancers know it.

    That is its minion id, or what stands for one that no DNS name can be: such an id is right for
    Salt, and the host is reached by its address anyhow.
    """
    return etcd_ha_common_dns.stand_in(minion)


def _names(*names: str) -> list[str]:
    """Those that a certificate can bear as DNS names; nobody depends on the others."""
    return [f"DNS:{name}" for name in names if not etcd_ha_common_dns.fault(name)]


def alternative_name(name: str) -> str:
    """An address or a DNS name as OpenSSL writes it among a certificate's alternative names."""
    address = etcd_ha_common_addresses.parsed(name)
    return f"DNS:{name}" if address is None else f"IP:{address}"


def of_balancer(cluster: Cluster, balancer: Balancer) -> tuple[Certificate, ...]:
    """The balancer's certificate for health checks.

    Without a common name it is no user of etcd's. And it must have none: with authentication on,
    etcd's HTTP gateway answers no client that has one (server/embed/serve.go, accessController), so
    that a check of it could not tell learners from voters.
    """
    unit = f"balancer-{balancer.minion}"
    if etcd_ha_common_dns.fault(unit) or len(unit) > _LONGEST_UNIT:
        unit = f"balancer-{etcd_ha_common_dns.digest(balancer.minion)}"
    return (
        Certificate(
            "check",
            balancer.minion,
            policy_name(cluster, "check", balancer.minion),
            "",
            CLIENT_USE,
            (f"DNS:{unit}",),
            unit,
        ),
    )


def of_minion(cluster: Cluster, minion: str) -> tuple[Certificate, ...]:
    """Every certificate that this minion may have from this cluster's CA."""
    member, balancer = cluster.member(minion), cluster.balancer(minion)
    result = of_member(cluster, member) if member else ()
    return result + (of_balancer(cluster, balancer) if balancer else ())


def policies(clusters: Iterable[Cluster], ca_minion: str) -> dict[str, dict[str, Any]]:
    """``x509_signing_policies`` of one CA minion.

    All that a requester could choose is pinned here, since a policy overrides only what it names
    (Salt's documentation of ``x509_v2``, "Signing policies").
    """
    result: dict[str, dict[str, Any]] = {}
    for cluster in clusters:
        if cluster.ca_minion != ca_minion:
            continue
        for minion in cluster.hosts:
            for certificate in of_minion(cluster, minion):
                result[certificate.policy] = _policy(cluster, certificate)
    return result


def _certificate(
    cluster: Cluster, purpose: str, minion: str, common_name: str, uses: str, names: list[str]
) -> Certificate:
    policy = policy_name(cluster, purpose, minion)
    return Certificate(purpose, minion, policy, common_name, uses, tuple(dict.fromkeys(names)))


# A policy says for how long a certificate is valid from its signing on (days_valid), whatever the
# request says of its beginning: that one alone is left to the request (backdated).
# A policy overrides only what it names: what a requester could add is named, and unset by None
# (salt.utils.x509.merge_signing_policy and build_crt).
_UNSET = (
    "not_after",
    "serial_number",
    "csr",
    "issuerAltName",
    "authorityInfoAccess",
    "crlDistributionPoints",
    "certificatePolicies",
    "policyConstraints",
    "inhibitAnyPolicy",
    "nameConstraints",
    "noCheck",
    "tlsfeature",
    "nsComment",
    "nsCertType",
    "freshestCRL",
)


def _subject(certificate: Certificate, organization: str | None) -> str:
    """The whole subject as RFC 4514 text, which a request cannot add to."""
    name, unit = certificate.common_name, certificate.unit
    parts = [f"CN={_escaped(name)}" if name else f"OU={_escaped(unit)}"]
    parts += [f"O={_escaped(organization)}"] if organization else []
    return ",".join(parts)


def _escaped(value: str) -> str:
    """A value in RFC 4514's form (section 2.4): a leading "#" would begin hex digits."""
    for character in '\\",+<>;=':
        value = value.replace(character, "\\" + character)
    if value.endswith(" "):
        value = value[:-1] + "\\ "
    return "\\" + value if value.startswith(("#", " ")) else value


def _policy(cluster: Cluster, certificate: Certificate) -> dict[str, Any]:
    tls, folder = cluster.settings["tls"], authority_dir(cluster)
    names = list(certificate.names) or [f"DNS:{certificate.common_name}"]
    return {
        **dict.fromkeys(_UNSET),
        "minions": certificate.minion,
        "signing_private_key": f"{folder}/ca.key",
        "signing_cert": f"{folder}/ca.crt",
        "subject": _subject(certificate, tls["ca"]["organization"]),
        "subjectAltName": names,
        "basicConstraints": "critical, CA:false",
        "keyUsage": "critical, digitalSignature, keyEncipherment",
        "extendedKeyUsage": certificate.uses,
        "subjectKeyIdentifier": "hash",
        "authorityKeyIdentifier": "keyid",
        "days_valid": tls["days_valid"],
        "digest": "sha256",
        "copypath": f"{folder}/issued",
    }
