"""Whose certificates a host trusts and bears, against the CA that the pillar names.

A CA is exchanged in phases, so that at every moment each host trusts the certificate of each other:
all trust both CAs (``both``), then all take certificates from the new one (``issued``), then all
trust the new one alone (the empty text). etcd reads its CAs at its start alone, so the first and
the last phase restart each member; a new certificate is in use from the next handshake on
(client/pkg/transport/listener.go, ``GetCertificate`` and ``GetClientCertificate``).
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence

import etcd_ha_certificates
import etcd_ha_pem
from etcd_ha_observed import Observed, Trust
from etcd_ha_pem import Bundle
from etcd_ha_steps import Step, names
from etcd_ha_topology import Cluster

# The functions of steps by which a host leaves.
RETIRING = ("etcd_ha_member.retire", "etcd_ha_member.retire_balancer")
# What a host does with its CAs: as they are; both; both, with certificates from the new one.
KEPT, BOTH, ISSUED, ALONE = "kept", "both", "issued", ""
# As they are, and the CA is not asked: it is silent, so nobody knows which it is.
HELD = "held"
# Up to where the pillar lets the exchange go (tls:ca:change).
UP_TO_TRUST, UP_TO_ISSUE, WHOLE = "trust", "issue", "whole"


def authority_files(cluster: Cluster) -> list[str]:
    """Where the CA's own certificate lies on the CA, or on each host where the user brings it."""
    tls = cluster.settings["tls"]
    if not cluster.tls or tls["source"] == "pillar":
        return []
    if tls["source"] == "files":
        return [str(tls["files"]["ca"]["certificate"])]
    return [f"{folder}/ca.crt" for folder in etcd_ha_certificates.authority_dirs(cluster)]


def authority(cluster: Cluster, observed: Mapping[str, Observed], minion: str) -> Bundle:
    """The CA that this host shall trust; without certificates where they are yet to be made."""
    tls = cluster.settings["tls"]
    if tls["source"] == "pillar":
        return etcd_ha_pem.bundle(tls["files"]["ca"]["certificate"])
    host = observed.get(cluster.ca_minion or minion)
    held = host.authorities if host else {}
    found = next((held[path] for path in authority_files(cluster) if path in held), Bundle())
    if _ends_soon(cluster, found):
        return dataclasses.replace(found, certificates=frozenset())
    return found


def is_held(cluster: Cluster, observed: Mapping[str, Observed]) -> bool:
    """Whether the CA gives no facts, so that certificates stay as they are."""
    return cluster.ca_minion is not None and cluster.ca_minion not in observed


def is_to_be_made(cluster: Cluster, observed: Mapping[str, Observed]) -> bool:
    """Whether the CA's certificate is made or renewed as its host is prepared."""
    if cluster.ca_minion is None or is_held(cluster, observed):
        return False
    return not authority(cluster, observed, cluster.ca_minion).certificates


def _ends_soon(cluster: Cluster, found: Bundle) -> bool:
    if cluster.ca_minion is None or found.days_left is None:
        return False
    return found.days_left < int(cluster.settings["tls"]["ca"]["days_remaining"])


def scattered(cluster: Cluster, observed: Mapping[str, Observed]) -> str:
    """Where the user's own CA is missing, or another one than elsewhere; empty where it is right.

    It is the file that comes into use next: what is in use stays until it is the same everywhere.
    """
    if not cluster.tls or cluster.settings["tls"]["source"] != "files":
        return ""
    (path,) = authority_files(cluster)
    there = [minion for minion in cluster.hosts if minion in observed]
    held = {m: authority(cluster, observed, m).certificates for m in there}
    missing = [minion for minion, found in held.items() if not found]
    if missing:
        return (
            f"{path}, which tls:files:ca:certificate names, is no certificate on "
            f"{names(missing)}: put the CA's there"
        )
    if len(set(held.values())) > 1:
        first = held[there[0]]
        other = [minion for minion, found in held.items() if found != first]
        return (
            f"{path} on {names(other)} is not the same as on {names(there[:1])}: put the "
            "same CA's certificate on all hosts"
        )
    return ""


def phase(trust: Trust | None, wanted: Bundle) -> str:
    """How far a host is on its way to trust the wanted CA alone."""
    if trust is None or not trust.certificates:
        return ALONE
    knows = bool(wanted.certificates) and wanted.certificates <= trust.certificates
    if trust.signers - wanted.authorities:
        return BOTH if knows else KEPT
    return ALONE if trust.certificates == wanted.certificates else ISSUED


def under_way(cluster: Cluster, observed: Mapping[str, Observed]) -> bool:
    """Whether members still trust another CA than the pillar's, or beside it."""
    return bool(_phases(cluster, observed) - {ALONE})


def _phases(cluster: Cluster, observed: Mapping[str, Observed]) -> set[str]:
    if not cluster.tls or is_held(cluster, observed):
        return set()
    there = [m.minion for m in cluster.members if m.minion in observed]
    return {phase(observed[m].trust, authority(cluster, observed, m)) for m in there}


def notes(cluster: Cluster, observed: Mapping[str, Observed]) -> tuple[str, ...]:
    """That an exchange of the CA waits for the user, and what it waits for."""
    change, phases = change_goes(cluster), _phases(cluster, observed)
    key = f"etcd_ha:clusters:{cluster.name}:tls:ca:change"
    if change == UP_TO_TRUST and phases & {KEPT, BOTH}:
        return (
            f"{key} is trust: once all members trust both CAs, give clients the new CA, then set "
            "it to issue",
        )
    if change != WHOLE and phases - {ALONE}:
        return (
            f"{key} is {change}: the former CA stays trusted. Give clients certificates of the "
            "new one, then set it to whole",
        )
    return ()


def leaving_notes(cluster: Cluster, steps: Sequence[Step]) -> tuple[str, ...]:
    """That whoever leaves keeps keys that open the cluster, and what ends that."""
    leaving = [m for step in steps if step.function in RETIRING for m in step.targets]
    if not cluster.tls or not leaving:
        return ()
    asked = json.dumps({"cluster": cluster.name})
    how = f"salt-run state.orchestrate etcd_ha.orch.rotate_ca pillar='{asked}', once this is done"
    if cluster.ca_minion is None:
        how = "have another CA sign the certificates of those who stay"
    return (
        f"{names(leaving)} {'leave' if len(leaving) > 1 else 'leaves'} with certificates that open "
        f"{cluster.name} until they expire. To end that sooner: {how}",
    )


def change_goes(cluster: Cluster) -> str:
    """How far the pillar lets an exchange of the CA go."""
    return str(cluster.settings["tls"]["ca"]["change"])
