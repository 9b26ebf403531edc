"""What the planner is told: each host's facts, and what the master knows beside the pillar."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from etcd_ha_pem import Bundle


@dataclass(frozen=True)
class Trust:
    """What a host makes of TLS: the CA certificates that it trusts, and who signed its own.

    All are hashes, as etcd_ha_pem makes them.
    """

    certificates: frozenset[str] = frozenset()
    signers: frozenset[str] = frozenset()

    @classmethod
    def of(cls, found: Mapping[str, Any] | None) -> "Trust | None":
        """Read a mapping of the facts; None where the host has no certificates."""
        if not found:
            return None
        return cls(frozenset(found["certificates"]), frozenset(found["signers"]))


@dataclass(frozen=True)
class Observed:
    """What one host's facts say; hosts that did not answer are not in the planner's mapping."""

    minion: str
    digest: str = ""
    changed_files: tuple[str, ...] = ()
    active: bool = False
    healthy: bool = False
    has_data: bool = False
    corrupt: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    running: Mapping[str, str] = field(default_factory=dict)
    pending: tuple[str, ...] = ()
    days_left: int | None = None
    installed: str = ""
    version: str = ""
    cluster_id: str = ""
    member_id: str = ""
    leader: bool = False
    learner: bool = False
    revision: int = 0
    # Bytes of the database's file, and of what is used in it.
    db_size: int = 0
    db_in_use: int = 0
    # The alarms of the whole cluster, as this member tells them.
    alarms: tuple[str, ...] = ()
    # With the alarm CORRUPT: why nobody can tell whose data is wrong.
    disputed: str = ""
    members: tuple[Mapping[str, Any], ...] = ()
    # The command that was begun on this host and not ended: ``restore`` or ``recover``.
    restoring: str = ""
    balancer_healthy: bool = False
    # Whether this balancer holds the virtual address now.
    holds_address: bool = False
    # The cluster of the balancer that the last converge left here.
    balancer_of: str = ""
    policies: str = ""
    # The CA minion, or the source, of the certificates that the last converge left here.
    ca: str = ""
    trust: Trust | None = None
    balancer_trust: Trust | None = None
    # The CA certificates that were asked for: path -> what the file holds.
    authorities: Mapping[str, Bundle] = field(default_factory=dict)
    # Who may do what, as etcd_ha_access.Live reads it; None where it was not told.
    access: Mapping[str, Any] | None = None
    # Every etcd on the host, whoever set it up, as etcd_ha_host_etcds.found tells it.
    etcds: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Observed":
        """Read the mapping that ``etcd_ha.facts`` returns."""
        etcd = facts.get("etcd") or {}
        return cls(
            minion=str(facts.get("minion", "")),
            digest=str(facts.get("digest", "")),
            changed_files=tuple(facts.get("changed_files", ())),
            active=bool(etcd.get("active")),
            healthy=bool(etcd.get("healthy")),
            has_data=bool(etcd.get("has_data")),
            corrupt=str(etcd.get("corrupt", "")),
            record=etcd.get("record") or {},
            running=etcd.get("environment") or {},
            pending=tuple(etcd.get("pending", ())),
            days_left=facts.get("days_left"),
            installed=str(etcd.get("installed", "")),
            version=str(etcd.get("version", "")),
            cluster_id=str(etcd.get("cluster_id", "")),
            member_id=str(etcd.get("member_id", "")),
            leader=bool(etcd.get("leader")),
            learner=bool(etcd.get("learner")),
            revision=int(etcd.get("revision", 0)),
            db_size=int(etcd.get("db_size", 0)),
            db_in_use=int(etcd.get("db_in_use", 0)),
            alarms=tuple(etcd.get("alarms", ())),
            disputed=str(etcd.get("disputed", "")),
            members=tuple(etcd.get("members", ())),
            restoring=str(facts.get("restoring", "")),
            balancer_healthy=bool((facts.get("balancer") or {}).get("healthy")),
            holds_address=bool((facts.get("balancer") or {}).get("holds_address")),
            balancer_of=str((facts.get("balancer") or {}).get("cluster", "")),
            policies=str(facts.get("policies", "")),
            ca=str(facts.get("ca", "")),
            trust=Trust.of(etcd.get("trust")),
            access=facts.get("access"),
            etcds=tuple(facts.get("etcds", ())),
            balancer_trust=Trust.of((facts.get("balancer") or {}).get("trust")),
            authorities={
                path: Bundle(
                    frozenset(one["certificates"]), frozenset(one["authorities"]), one["days_left"]
                )
                for path, one in (facts.get("authorities") or {}).items()
            },
        )


@dataclass(frozen=True)
class Wanted:
    """What the master knows beside the cluster itself.

    ``managed`` are the members of the last converge, minion -> {name, peer_url, member_id}: only
    these may be taken out of the cluster because the pillar no longer names them. ``balancers`` are
    the balancers of the last converge, ``cluster_id`` is the cluster's (hex text; empty where it
    is not known).
    """

    digests: Mapping[str, str]
    policies: Mapping[str, str] = field(default_factory=dict)
    recorded: bool = False
    managed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    balancers: tuple[str, ...] = ()
    cluster_id: str = ""
