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
class Pair:
    """A certificate of a host: the one in use and, where the user brings it, the one that waits.

    ``same`` says that none waits. ``faults`` are those of the one that waits, ``live_faults`` of
    the one in use.
    """

    purpose: str
    certificate: str
    source: str = ""
    placed: bool = True
    same: bool = True
    faults: tuple[str, ...] = ()
    live_faults: tuple[str, ...] = ()
    # What the latter are about, as etcd_ha_common_certificate_checks names it.
    live_kinds: tuple[str, ...] = ()
    fingerprint: str = ""
    ends: str = ""

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Pair":
        """Read one row of the facts."""
        return cls(
            str(found["purpose"]),
            str(found["certificate"]),
            str(found["source"]),
            bool(found["placed"]),
            bool(found["same"]),
            tuple(found["faults"]),
            tuple(found["live_faults"]),
            tuple(found["live_kinds"]),
            str(found["fingerprint"]),
            str(found["ends"]),
        )


@dataclass(frozen=True)
class Observed:
    """What one host's facts say; hosts that did not answer are not in the planner's mapping."""

    minion: str
    digest: str = ""
    # What the last converge was made from: the hashes ``settings`` (of the pillar), ``source`` (of
    # the formula's states) and ``modules``; an older formula did not write down all of them.
    applied: Mapping[str, str] = field(default_factory=dict)
    changed_files: tuple[str, ...] = ()
    active: bool = False
    healthy: bool = False
    # Of a member that serves no client of ours: its metrics port says that it reaches a quorum.
    voting: bool = False
    has_data: bool = False
    # What hides the data that etcd uses from its path, as etcd_ha_host_hidden.look tells it. Older
    # modules do not tell it.
    hidden: Mapping[str, str] = field(default_factory=dict)
    # Why the data must not be started from: etcd cannot use it, it differs, it was given up.
    corrupt: str = ""
    # How its last start in this boot ended by itself; empty where it did not.
    failing: str = ""
    # What an examination of the data that is there has found, as etcd_ha_host_examine.told has it.
    examined: Mapping[str, Any] = field(default_factory=dict)
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
    # That and why its member is stopped on purpose, in words.
    paused: str = ""
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
    # Files of CAs that hold no certificate: path -> that in words.
    broken_authorities: Mapping[str, str] = field(default_factory=dict)
    # Who may do what, as etcd_ha_access.Live reads it; None where it was not told.
    access: Mapping[str, Any] | None = None
    # The host's certificates that the master asked for.
    pairs: tuple[Pair, ...] = ()
    # How far its clock is ahead of the master's: seconds at least, and at most.
    clock: tuple[float, float] | None = None
    # Every etcd on the host, whoever set it up, as etcd_ha_host_etcds.found tells it.
    etcds: tuple[Mapping[str, Any], ...] = ()
    # Variables of etcd that a drop-in sets, as etcd_ha_host_overrides.found tells them.
    overrides: tuple[Mapping[str, Any], ...] = ()
    # Directories in which no data can be, such as a link that leads nowhere: path -> why.
    unusable: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Observed":
        """Read the mapping that ``etcd_ha.facts`` returns."""
        etcd = facts.get("etcd") or {}
        return cls(
            minion=str(facts.get("minion", "")),
            digest=str(facts.get("digest", "")),
            applied=facts.get("applied") or {},
            changed_files=tuple(facts.get("changed_files", ())),
            active=bool(etcd.get("active")),
            healthy=bool(etcd.get("healthy")),
            voting=bool(etcd.get("voting")),
            has_data=bool(etcd.get("has_data")),
            hidden=etcd.get("hidden") or {},
            corrupt=str(etcd.get("corrupt", "")),
            failing=str(etcd.get("failing", "")),
            examined=etcd.get("examined") or {},
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
            paused=str(facts.get("paused", "")),
            balancer_healthy=bool((facts.get("balancer") or {}).get("healthy")),
            holds_address=bool((facts.get("balancer") or {}).get("holds_address")),
            balancer_of=str((facts.get("balancer") or {}).get("cluster", "")),
            policies=str(facts.get("policies", "")),
            ca=str(facts.get("ca", "")),
            trust=Trust.of(etcd.get("trust")),
            access=facts.get("access"),
            pairs=tuple(map(Pair.of, facts.get("pairs", ()))),
            clock=facts.get("ahead"),
            etcds=tuple(facts.get("etcds", ())),
            overrides=tuple(facts.get("overrides", ())),
            unusable=facts.get("unusable") or {},
            balancer_trust=Trust.of((facts.get("balancer") or {}).get("trust")),
            authorities={
                path: Bundle(
                    frozenset(one["certificates"]), frozenset(one["authorities"]), one["days_left"]
                )
                for path, one in (facts.get("authorities") or {}).items()
                if not one.get("error")
            },
            broken_authorities={
                path: str(one["error"])
                for path, one in (facts.get("authorities") or {}).items()
                if one.get("error")
            },
        )


@dataclass(frozen=True)
class Wanted:
    """What the master knows beside the cluster itself.

    ``managed`` are the members of the last converge, minion -> {name, peer_url, member_id}: only
    these may be taken out of the cluster because the pillar no longer names them. ``balancers`` are
    the balancers of the last converge, ``cluster_id`` is the cluster's (hex text; empty where it
    is not known). ``settings`` are the hashes of what the pillar says of each host, ``formula``
    those of the formula's ``source`` (its states) and ``modules``.
    """

    digests: Mapping[str, str]
    policies: Mapping[str, str] = field(default_factory=dict)
    recorded: bool = False
    managed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    balancers: tuple[str, ...] = ()
    cluster_id: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    formula: Mapping[str, str] = field(default_factory=dict)
    # Hosts without facts: minion -> why, as a sentence goes on after the host's name.
    silent: Mapping[str, str] = field(default_factory=dict)
