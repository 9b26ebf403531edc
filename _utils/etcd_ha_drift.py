"""What differs between a host and the pillar, and what a host is for the time being."""

import dataclasses
from collections.abc import Mapping, Sequence

import etcd_ha_environment
import etcd_ha_pem
import etcd_ha_stages
import etcd_ha_trust
from etcd_ha_access import Access, Live
from etcd_ha_common_text import few
from etcd_ha_observed import Observed, Wanted
from etcd_ha_stages import Stage
from etcd_ha_steps import Refused
from etcd_ha_topology import Cluster, Member

# Characters of changed settings for which the title of a step has room.
TITLE = 45


def release(cluster: Cluster, host: Observed) -> str:
    """The release that a member runs, or last ran."""
    return host.version or host.installed or cluster.version


def stage(cluster: Cluster, observed: Mapping[str, Observed], minion: str) -> Stage:
    """What a member runs, or would run if it were started as it is."""
    host = observed[minion]
    way = etcd_ha_stages.transport(host.running) or cluster.scheme
    if not cluster.tls or way == "http":
        return Stage(release(cluster, host), way)
    if etcd_ha_trust.is_held(cluster, observed):
        return Stage(release(cluster, host), way, etcd_ha_trust.HELD)
    authority = etcd_ha_trust.authority(cluster, observed, minion)
    return Stage(release(cluster, host), way, etcd_ha_trust.phase(host.trust, authority))


def starting(cluster: Cluster, observed: Mapping[str, Observed], minion: str) -> Stage:
    """How a stopped member is started among others: as it is, and trusting the present CA too."""
    found = stage(cluster, observed, minion)
    kept = found.trust == etcd_ha_trust.KEPT
    return dataclasses.replace(found, trust=etcd_ha_trust.BOTH) if kept else found


def handed(cluster: Cluster, stage: Stage) -> Mapping[str, str]:
    """The stage as the states take it; empty for the pillar's own."""
    return {} if stage == etcd_ha_stages.final(cluster) else stage.pillar()


def _at(cluster: Cluster, stage: Stage) -> Cluster:
    return dataclasses.replace(cluster, version=stage.version)


def changes(
    cluster: Cluster, member: Member, host: Observed, stage: Stage
) -> dict[str, dict[str, str]]:
    """The variables that make a restart of a running member necessary."""
    if not host.active:
        return {}
    exchanged = stage.trust != etcd_ha_trust.ALONE
    peer_name = host.running.get(etcd_ha_environment.PEER_NAME, "") if exchanged else None
    wanted = etcd_ha_environment.variables(_at(cluster, stage), member, stage.transport, peer_name)
    return etcd_ha_environment.needs_restart(dict(host.running), wanted)


def stale(
    cluster: Cluster,
    minions: Sequence[str],
    observed: Mapping[str, Observed],
    wanted: Wanted,
) -> list[str]:
    return [
        minion
        for minion in minions
        if observed[minion].digest != wanted.digests.get(minion)
        or _changed(cluster, observed, minion)
    ]


def _changed(cluster: Cluster, observed: Mapping[str, Observed], minion: str) -> bool:
    """Whether files need work; certificates do not as long as nobody can be asked for others."""
    host = observed[minion]
    if etcd_ha_trust.is_held(cluster, observed):
        return any(not etcd_ha_pem.is_of_a_pair(path) for path in host.changed_files)
    another = any(not pair.same for pair in host.pairs)
    return bool(host.changed_files) or another or expires(cluster, host)


def expires(cluster: Cluster, host: Observed) -> bool:
    """Whether a certificate that the cluster's CA signed is inside its renewal window."""
    if cluster.ca_minion is None or host.days_left is None:
        return False
    return host.days_left < int(cluster.settings["tls"]["days_remaining"])


def stale_authority(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> bool:
    minion = cluster.ca_minion
    if minion is None or minion not in observed:
        return False
    known = wanted.policies.get(minion, "")
    return (
        bool(stale(cluster, [minion], observed, wanted))
        or observed[minion].policies != known
        or etcd_ha_trust.is_to_be_made(cluster, observed)
    )


def prepared(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted, touched: Sequence[str]
) -> list[str]:
    """Who is prepared before the first step: whoever is touched, and the CA where it must learn."""
    authority = cluster.ca_minion if stale_authority(cluster, observed, wanted) else None
    return [m for m in cluster.hosts if m in touched or m == authority]


def told(changes: Mapping[str, Mapping[str, str]]) -> str:
    """Changed settings as the title of a step names them, which is one line: values if short."""
    found = ", ".join(_each(changes))
    if len(found) <= TITLE:
        return found
    return next(iter(changes)) if len(changes) == 1 else f"{len(changes)} settings"


def details(changes: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Every changed setting, a line each, where the title has no room for them."""
    found = _each(changes)
    return found if len(", ".join(found)) > TITLE else []


def _each(changes: Mapping[str, Mapping[str, str]]) -> list[str]:
    return [
        f"{variable} {change['old'] or 'unset'} -> {change['new'] or 'unset'}"
        for variable, change in changes.items()
    ]


def trusted(stage: Stage) -> str:
    """What a change to this phase of another CA means for a member."""
    return {
        etcd_ha_trust.BOTH: "trust the new CA beside the old one",
        etcd_ha_trust.ISSUED: "take certificates from the new CA",
        etcd_ha_trust.ALONE: "trust the new CA alone",
    }.get(stage.trust, "")


def spoken(stage: Stage) -> str:
    return "http and https" if stage.transport == "both" else stage.transport


def access(cluster: Cluster, observed: Mapping[str, Observed]) -> Live | None:
    """Who may do what, as the first member tells that can; None where the pillar leaves it."""
    if not Access.of(cluster.settings["access"]).managed:
        return None
    hosts = [observed[m.minion] for m in cluster.members if m.minion in observed]
    told = [(host.minion, host.access) for host in hosts if host.access]
    for minion, found in told:
        if "error" in found:
            raise Refused(f"{minion} cannot tell who may do what in etcd: {found['error']}")
    lives = {minion: Live.of(found) for minion, found in told}
    _refuse_lacking_passwords(cluster, lives)
    return next(iter(lives.values()), None)


def _refuse_lacking_passwords(cluster: Cluster, lives: Mapping[str, Live]) -> None:
    """Without its password a user would be made one that comes by certificate alone."""
    users: Mapping[str, Mapping[str, object]] = cluster.settings["access"]["users"]
    named = {name for name, user in users.items() if "password" in user}
    named |= {name for live in lives.values() for name in live.named}
    for minion, live in lives.items():
        lacking = sorted(named - set(live.named))
        if lacking:
            raise Refused(
                f"the pillar of {minion} has no password of {few(lacking)}, and that of "
                "another host has: assign the pillar file with the passwords to all members"
            )
