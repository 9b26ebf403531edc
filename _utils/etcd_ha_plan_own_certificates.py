"""Certificates in a plan: users' own that wait to be put in use, bad ones, and those that cut off.

A pair that waits is put in use on one member after the other, each seen by handshakes before the
next. A bad one stops all but the healing of what is down, and the pair in use stays. Where members
do not answer because of their certificates, good ones are put in place first: nothing else helps.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import etcd_ha_common_certificate_checks as checks
import etcd_ha_desired_certificates
import etcd_ha_drift
import etcd_ha_parts
import etcd_ha_plain
import etcd_ha_stages
import etcd_ha_trust
from etcd_ha_common_text import few
from etcd_ha_observed import Observed, Pair
from etcd_ha_stages import Stage
from etcd_ha_steps import Plan, Refused, Step, names
from etcd_ha_topology import Cluster

# What the cluster's own CA mends by a new certificate; nothing else of its is ever a reason to.
_MENDED_BY_RENEWAL = frozenset({checks.TIME, checks.FILE, checks.MATCH})
# Faults that a refusal names; the others are counted.
_MOST = 8


def with_pillar(
    cluster: Cluster, observed: Mapping[str, Observed], now: datetime | None = None
) -> Mapping[str, Observed]:
    """The hosts with what the pillar's own certificates mean for them (tls:source: pillar)."""
    if not cluster.tls or cluster.settings["tls"]["source"] != "pillar":
        return observed
    moment = now or datetime.now(timezone.utc)
    found = dict(observed)
    for minion in (m for m in cluster.hosts if m in observed):
        pairs = [_of_pillar(cluster, minion, one, moment) for one in observed[minion].pairs]
        found[minion] = dataclasses.replace(observed[minion], pairs=tuple(pairs))
    return found


def _of_pillar(cluster: Cluster, minion: str, pair: Pair, now: datetime) -> Pair:
    files: Mapping[str, Any] = cluster.settings["tls"]["files"]
    name = "client" if pair.purpose == "admin" else pair.purpose
    name = "client" if name == "check" and "check" not in files else name
    certificate, key = (files[name][part].encode() for part in ("certificate", "key"))
    ca = files["ca"]["certificate"].encode()
    need = etcd_ha_desired_certificates.needed(cluster, pair.purpose, minion)
    key_of = {checks.CERTIFICATE: f"{name}:certificate", checks.KEY: f"{name}:key"}
    faults = [
        f"tls:files:{key_of.get(one.part, 'ca:certificate')} in the pillar {one.words}"
        for one in checks.faults(certificate, key, ca, need, now)
    ]
    same = pair.placed and checks.fingerprint(certificate) == pair.fingerprint
    source = f"tls:files:{name} in the pillar"
    return dataclasses.replace(pair, source=source, same=same, faults=tuple(faults))


# Bad ones


def waiting(host: Observed) -> list[Pair]:
    """The certificates of the user's that are not the ones in use."""
    return [pair for pair in host.pairs if not pair.same]


def refusal(cluster: Cluster, observed: Mapping[str, Observed]) -> str:
    """Why certificates that wait cannot be put in use, on every host; empty where they can."""
    each = [
        [
            f"{names([minion])}: {etcd_ha_plain.brief(fault)}"
            for fault in _unique(f for pair in waiting(observed[minion]) for f in pair.faults)
        ]
        for minion in cluster.hosts
        if minion in observed
    ]
    # One of each host first, so that each host is named.
    found = [one for rank in itertools.zip_longest(*each) for one in rank if one]
    if not found:
        return ""
    return (
        f"certificates of {cluster.name} cannot be used. {few(found, _MOST, '; ')}. Nothing "
        "was changed, and the certificates in use stay. Correct these files, and run again"
    )


def refuse_bad(cluster: Cluster, observed: Mapping[str, Observed]) -> None:
    """Stop where a certificate that waits would cut its host off."""
    why = refusal(cluster, observed)
    if why:
        raise Refused(why)


def keeping(plan: Plan, observed: Mapping[str, Observed]) -> Plan:
    """The plan, with the certificates in use kept on every host for which bad ones wait."""
    bad = {m for m, host in observed.items() if any(pair.faults for pair in waiting(host))}
    steps = [
        dataclasses.replace(step, keeps_pairs=True) if bad & set(step.targets) else step
        for step in plan.steps
    ]
    return dataclasses.replace(plan, steps=tuple(steps))


def notes(cluster: Cluster, observed: Mapping[str, Observed]) -> tuple[str, ...]:
    """What is wrong with certificates in use for which no other ones wait."""
    there = [minion for minion in cluster.hosts if minion in observed]
    return tuple(
        f"{names([minion])}: in use, and not as it should be: {etcd_ha_plain.brief(fault)}"
        for minion in there
        for fault in _unique(
            fault for pair in observed[minion].pairs if pair.same for fault in pair.live_faults
        )
    )


def _unique(found: Any) -> list[str]:
    return list(dict.fromkeys(found))


# Good ones, one member after the other


def why(host: Observed) -> str:
    """The reason for a step that puts certificates in use; empty where none wait."""
    pairs = waiting(host)
    if not pairs:
        return ""
    sources = ", ".join(_unique(pair.source for pair in pairs))
    return f"another certificate than the one in use is in {sources}"


def purposes(host: Observed) -> str:
    """Which certificates wait, as a step's title says it."""
    *first, last = _unique(pair.purpose for pair in waiting(host)) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def handshakes(
    cluster: Cluster, minion: str, others: Sequence[str], client_urls: Sequence[str], peer_url: str
) -> Step:
    """The step that sees the member's certificates from itself and from these hosts."""
    name = next(m.name for m in cluster.members if m.minion == minion)
    targets = tuple(dict.fromkeys([minion, *others]))
    return Step(
        title=f"{cluster.name}: {name}: see that {names(targets)} accept its certificates",
        kind="function",
        targets=targets,
        function="etcd_ha_member.handshakes",
        arguments={"client_urls": list(client_urls), "peer_urls": [peer_url]},
        why="the next member follows only once this one is reached with its new certificates",
    )


# Members that are cut off by their certificates


def cut_off(cluster: Cluster, observed: Mapping[str, Observed]) -> list[str]:
    """The members that run and do not answer, and whose certificates explain it."""
    if not cluster.tls:
        return []
    found = []
    for minion in (m.minion for m in cluster.members if m.minion in observed):
        host = observed[minion]
        plain = etcd_ha_stages.transport(host.running) == "http"
        if host.active and not host.healthy and not plain and _explains(cluster, host):
            found.append(minion)
    return found


def _explains(cluster: Cluster, host: Observed) -> bool:
    if cluster.ca_minion is not None:
        kinds = {kind for pair in host.pairs for kind in pair.live_kinds}
        return bool(kinds & _MENDED_BY_RENEWAL)
    good = [pair for pair in waiting(host) if not pair.faults]
    return bool(good) or any(pair.live_faults for pair in host.pairs)


def reconnect(cluster: Cluster, observed: Mapping[str, Observed], cut: Sequence[str]) -> list[Step]:
    """Good certificates for members that theirs cut off, one after the other; then plan again.

    Nothing is restarted by that: etcd serves a new certificate from the next handshake on.
    """
    _refuse_without_good(cluster, observed, cut)
    steps: list[Step] = []
    if cluster.ca_minion is not None:
        steps.append(etcd_ha_parts.prepare(cluster, [*cut, cluster.ca_minion], None))
    for minion in cut:
        host, member = observed[minion], cluster.member(minion)
        assert member is not None
        stage = _stage(cluster, observed, minion)
        steps.append(
            Step(
                title=f"{cluster.name}: {member.name}: put certificates in place that work",
                kind="state",
                targets=(minion,),
                sls=("etcd_ha.certificates",),
                stage=etcd_ha_drift.handed(cluster, stage),
                why=_cause(host),
            )
        )
        if host.active and cluster.ca_minion is None and stage.trust == etcd_ha_trust.ALONE:
            url = cluster.client_url(member)
            steps.append(handshakes(cluster, minion, (), [url], cluster.peer_url(member)))
    return [*steps, etcd_ha_parts.again(cluster)]


def _stage(cluster: Cluster, observed: Mapping[str, Observed], minion: str) -> Stage:
    """As the member is; a CA that it does not know yet is trusted beside the one it knows."""
    now = etcd_ha_drift.stage(cluster, observed, minion)
    of_another = now.trust in (etcd_ha_trust.KEPT, etcd_ha_trust.BOTH)
    trust = etcd_ha_trust.ISSUED if of_another else etcd_ha_trust.ALONE
    return dataclasses.replace(now, trust=trust)


def _cause(host: Observed) -> str:
    faults = _unique(fault for pair in host.pairs for fault in pair.live_faults)
    if not faults:
        return why(host)
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    return f"{etcd_ha_plain.brief(faults[0])}{more}"


def _refuse_without_good(
    cluster: Cluster, observed: Mapping[str, Observed], cut: Sequence[str]
) -> None:
    """Where the user's own are to be in place: they must be there first."""
    if cluster.ca_minion is not None:
        return
    refuse_bad(cluster, observed)
    bad = [
        f"{names([minion])}: {etcd_ha_plain.brief(fault)}"
        for minion in cut
        for fault in _unique(
            fault for pair in observed[minion].pairs if pair.same for fault in pair.live_faults
        )
    ]
    if bad:
        raise Refused(
            f"{names(cut)} run, but their certificates cut them off. {few(bad, _MOST, '; ')}. Put "
            "good ones where tls:files says, and run again: they come into use one after the "
            "other. No data is lost, and nothing has to be recovered"
        )


# Clocks

# Seconds by which the clocks of two hosts may differ before a plan names them.
_APART = 2.0


def clock_notes(cluster: Cluster, observed: Mapping[str, Observed]) -> tuple[str, ...]:
    """Hosts whose clocks differ from the master's or from each other's by more than is good.

    Each is known within the time that its answer took: only what is sure to be too much is named.
    """
    known = {m: observed[m].clock for m in cluster.hosts if m in observed}
    bounds = {minion: pair for minion, pair in known.items() if pair is not None}
    found = []
    for minion, (least, most) in bounds.items():
        if least > _APART:
            found.append(f"the clock of {names([minion])} is {least:.1f} s or more ahead of the ")
        elif most < -_APART:
            found.append(f"the clock of {names([minion])} is {-most:.1f} s or more behind the ")
    if found:
        return tuple(f"{one}master's{_CURE}" for one in found)
    if not bounds:
        return ()
    first = max(bounds, key=lambda minion: bounds[minion][0])
    last = min(bounds, key=lambda minion: bounds[minion][1])
    apart = bounds[first][0] - bounds[last][1]
    if apart <= _APART:
        return ()
    told = (
        f"the clock of {names([first])} is {apart:.1f} s or more ahead of that of {names([last])}"
    )
    return (f"{told}{_CURE}",)


_CURE = ": certificates, leases and logs go by it. Look at: timedatectl (System clock synchronized)"
