"""From what should be and what is, to the steps between them, or a refusal with its reason.

All knowledge that keeps quorum and data safe lives here. No I/O, no Salt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import etcd_ha_environment
from etcd_ha_topology import Cluster, Member


@dataclass(frozen=True)
class Observed:
    """What one host's facts say; hosts that did not answer are not in the planner's mapping."""

    minion: str
    digest: str = ""
    changed_files: tuple[str, ...] = ()
    active: bool = False
    healthy: bool = False
    has_data: bool = False
    record: Mapping[str, Any] = field(default_factory=dict)
    running: Mapping[str, str] = field(default_factory=dict)
    pending: tuple[str, ...] = ()
    days_left: int | None = None
    version: str = ""
    cluster_id: str = ""
    leader: bool = False
    learner: bool = False
    revision: int = 0
    members: tuple[Mapping[str, Any], ...] = ()
    balancer_healthy: bool = False
    policies: str = ""

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
            record=etcd.get("record") or {},
            running=etcd.get("environment") or {},
            pending=tuple(etcd.get("pending", ())),
            days_left=facts.get("days_left"),
            version=str(etcd.get("version", "")),
            cluster_id=str(etcd.get("cluster_id", "")),
            leader=bool(etcd.get("leader")),
            learner=bool(etcd.get("learner")),
            revision=int(etcd.get("revision", 0)),
            members=tuple(etcd.get("members", ())),
            balancer_healthy=bool((facts.get("balancer") or {}).get("healthy")),
            policies=str(facts.get("policies", "")),
        )


@dataclass(frozen=True)
class Step:
    """One Salt state of the orchestrate: what, where, and why."""

    title: str
    kind: str
    targets: tuple[str, ...]
    sls: tuple[str, ...] = ()
    action: str = "none"
    why: str = ""
    disruptive: bool = False


@dataclass(frozen=True)
class Plan:
    """The way from what is to what should be; with a refusal there are no steps."""

    cluster: str
    summary: str
    steps: tuple[Step, ...] = ()
    refusal: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """What the master knows beside the cluster itself."""

    digests: Mapping[str, str]
    policies: Mapping[str, str] = field(default_factory=dict)
    recorded: bool = False


def quorum(voters: int) -> int:
    """How many of the voters must agree."""
    return voters // 2 + 1


def plan(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> Plan:
    """The steps that make the cluster as wanted, each safe at the moment it is taken."""
    refusal = _refusal(cluster, observed, wanted)
    summary = summarize(cluster, observed)
    if refusal:
        return Plan(cluster.name, summary, refusal=refusal)
    if not _was_bootstrapped(cluster, observed, wanted):
        return Plan(cluster.name, summary, _bootstrap(cluster, observed, wanted))
    return _converge(cluster, observed, wanted, summary)


def summarize(cluster: Cluster, observed: Mapping[str, Observed]) -> str:
    """One line for people: members, leader, health, revision."""
    seen = [(m, observed[m.minion]) for m in cluster.members if m.minion in observed]
    count = f"{len(cluster.members)} member{'s' if len(cluster.members) != 1 else ''}"
    if not any(host.has_data for _, host in seen):
        return f"{count}, not bootstrapped"
    leader = next((member.name for member, host in seen if host.leader), "none")
    healthy = sum(host.healthy for _, host in seen)
    state = "healthy" if healthy == len(cluster.members) else f"{healthy} healthy"
    revision = max((host.revision for _, host in seen), default=0)
    return f"{count}, leader {leader}, {state}, revision {revision}"


def _was_bootstrapped(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> bool:
    hosts = [observed[m.minion] for m in cluster.members if m.minion in observed]
    return wanted.recorded or any(
        host.record.get("state") == "bootstrapped" or host.healthy for host in hosts
    )


def _refusal(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> str:
    """The first reason why nothing may be done, or an empty text."""
    hosts = {m.minion: observed[m.minion] for m in cluster.members if m.minion in observed}
    foreign = _foreign(cluster, hosts)
    if foreign:
        return foreign
    missing = [minion for minion in cluster.hosts if minion not in observed]
    if missing:
        return (
            f"{', '.join(missing)} did not answer. Bring it back (salt-run manage.status; "
            "salt-key -L shows whether its key is accepted) and run again"
        )
    if not _was_bootstrapped(cluster, observed, wanted):
        return _bootstrap_refusal(hosts)
    return _running_refusal(cluster, hosts)


def _foreign(cluster: Cluster, hosts: Mapping[str, Observed]) -> str:
    for minion, host in hosts.items():
        owner = host.record.get("cluster", cluster.name)
        if owner != cluster.name:
            return (
                f"{minion} holds a member of the cluster {owner}, not of {cluster.name}. It is not "
                f"touched; take it out of {owner} first, or correct the pillar"
            )
    ids = {host.cluster_id: minion for minion, host in hosts.items() if host.cluster_id}
    if len(ids) > 1:
        told = ", ".join(f"{minion} is in {found}" for found, minion in sorted(ids.items()))
        return f"the members belong to different clusters ({told}); nothing is touched"
    return ""


def _bootstrap_refusal(hosts: Mapping[str, Observed]) -> str:
    for minion, host in hosts.items():
        if host.has_data and host.record.get("state") != "bootstrapping":
            return (
                f"{minion} already holds etcd data that this formula did not make. Nothing is "
                "touched: move that data directory aside if it is not needed, or set another "
                "data_dir"
            )
    return ""


def _running_refusal(cluster: Cluster, hosts: Mapping[str, Observed]) -> str:
    lost = [minion for minion, host in hosts.items() if not host.has_data]
    voters = len(hosts)
    if len(lost) == voters:
        return (
            f"{cluster.name} was bootstrapped once, but no member holds data any more. It is not "
            "bootstrapped again by itself: restore a backup, or remove the records "
            f"(/var/lib/etcd_ha/{cluster.name}.json on the members and, on the master, "
            f"salt-run etcd_ha.forget {cluster.name}) if the data is not needed"
        )
    if voters - len(lost) < quorum(voters):
        return (
            f"{', '.join(lost)} lost their data and the others are no quorum; "
            "restore a backup, or recover from the surviving member"
        )
    if lost:
        return (
            f"{', '.join(lost)} lost its data. It must be removed from the member list and added "
            "again as a learner; this release does not plan that yet"
        )
    down = [minion for minion, host in hosts.items() if not host.healthy]
    if voters - len(down) < quorum(voters) and not all(not host.active for host in hosts.values()):
        active = [minion for minion in down if hosts[minion].active]
        if active and len(active) == len(down):
            return (
                f"{cluster.name} has no quorum: {', '.join(down)} run but are not healthy. Look at "
                "journalctl -u etcd there; nothing is restarted while quorum is lost"
            )
    return _difference(cluster, hosts)


def _difference(cluster: Cluster, hosts: Mapping[str, Observed]) -> str:
    """Changes that this planner can recognise and must not attempt."""
    listed = next((host.members for host in hosts.values() if host.members), ())
    if listed:
        urls = {url for member in listed for url in member.get("peer_urls", ())}
        ours = {cluster.peer_url(member) for member in cluster.members}
        if urls - ours:
            return (
                f"the cluster has members with peer URLs that the pillar does not know "
                f"({', '.join(sorted(urls - ours))}); removing or moving members is not planned yet"
            )
        if ours - urls:
            return (
                f"the pillar has members that the cluster does not know "
                f"({', '.join(sorted(ours - urls))}); adding members is not planned yet"
            )
    moved = _moved_data(cluster, hosts)
    if moved:
        return moved
    for minion, host in hosts.items():
        if host.version and host.version != cluster.version:
            return (
                f"{minion} runs etcd {host.version}, the pillar says {cluster.version}; "
                "changing the version of a running cluster is not planned yet"
            )
    return ""


def _moved_data(cluster: Cluster, hosts: Mapping[str, Observed]) -> str:
    """A member that starts on another, empty directory is a member that lost its data."""
    for member in cluster.members:
        running = hosts[member.minion].running
        wanted = etcd_ha_environment.variables(cluster, member)
        for variable, key in (("ETCD_DATA_DIR", "data_dir"), ("ETCD_WAL_DIR", "wal_dir")):
            old, new = running.get(variable, ""), wanted.get(variable, "")
            if running and old != new:
                return (
                    f"{member.minion} keeps its data with {key} {old or 'unset'}, the pillar says "
                    f"{new or 'unset'}; moving the data of a running member is not planned yet. "
                    f"Set {key} back"
                )
    return ""


def _stale(
    cluster: Cluster,
    minions: Sequence[str],
    observed: Mapping[str, Observed],
    wanted: Wanted,
) -> list[str]:
    return [
        minion
        for minion in minions
        if observed[minion].digest != wanted.digests.get(minion)
        or observed[minion].changed_files
        or _expires(cluster, observed[minion])
    ]


def _expires(cluster: Cluster, host: Observed) -> bool:
    """Whether a certificate that the cluster's CA signed is inside its renewal window."""
    if cluster.ca_minion is None or host.days_left is None:
        return False
    return host.days_left <= int(cluster.settings["tls"]["days_remaining"])


def _stale_authority(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> bool:
    minion = cluster.ca_minion
    if minion is None:
        return False
    known = wanted.policies.get(minion, "")
    return bool(_stale(cluster, [minion], observed, wanted)) or observed[minion].policies != known


def _prepare(cluster: Cluster, targets: Sequence[str]) -> Step:
    return Step(
        title=f"{cluster.name}: prepare {names(targets)}",
        kind="state",
        targets=tuple(targets),
        sls=("etcd_ha.prepare",),
        why=f"users, directories, etcd {cluster.version} beside what is there, the CA",
    )


def _verify(cluster: Cluster) -> Step:
    where = "every balancer" if cluster.balancers else "the members"
    return Step(
        title=f"{cluster.name}: verify a put and a get through {where}",
        kind="verify",
        targets=(cluster.members[0].minion,),
        why="a client's whole path is what counts",
    )


def _bootstrap(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted
) -> tuple[Step, ...]:
    together = tuple(
        dict.fromkeys([m.minion for m in cluster.members] + [b.minion for b in cluster.balancers])
    )
    started = names([member.minion for member in cluster.members])
    # What takes long on a balancer (its packages) runs beside the members' start, not before it.
    first = [m for m in cluster.hosts if cluster.member(m) or m == cluster.ca_minion]
    return (
        _prepare(cluster, first),
        Step(
            title=f"{cluster.name}: bootstrap {started} together, the balancers beside them",
            kind="state",
            targets=together,
            sls=("etcd_ha",),
            action="bootstrap",
            why="a majority must start inside one election window; no member holds data",
        ),
        _verify(cluster),
    )


def _converge(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted, summary: str
) -> Plan:
    steps: list[Step] = []
    members = [member.minion for member in cluster.members]
    stale = set(_stale(cluster, members, observed, wanted))
    changes = {m.minion: _changes(cluster, m, observed[m.minion]) for m in cluster.members}
    stopped = {minion for minion in members if not observed[minion].active}
    sick = {minion for minion in members if not observed[minion].healthy}
    # A changed formula may change the unit too, which only the host itself can tell.
    restarts = {m for m in members if changes[m] or observed[m].pending} | (stale - stopped)
    touched = stale | stopped | sick | restarts
    balancers = [balancer.minion for balancer in cluster.balancers]
    proxies = [
        minion
        for minion in balancers
        if minion in _stale(cluster, balancers, observed, wanted)
        or not observed[minion].balancer_healthy
    ]
    authority = _stale_authority(cluster, observed, wanted)
    prepared = [m for m in cluster.hosts if m in touched or m in proxies]
    if authority and cluster.ca_minion not in prepared:
        prepared.append(str(cluster.ca_minion))
    if prepared:
        steps.append(_prepare(cluster, prepared))
    all_down = len(stopped) == len(members)
    if all_down:
        steps.append(_start_all(cluster, members))
    else:
        order = sorted(touched, key=lambda m: (m not in sick, observed[m].leader, members.index(m)))
        healthy = set(members) - sick
        for minion in order:
            refusal = _gate(cluster, minion, healthy, restarts)
            if refusal:
                return Plan(cluster.name, summary, refusal=refusal)
            member = next(m for m in cluster.members if m.minion == minion)
            steps.append(_configure(cluster, member, observed[minion], changes[minion]))
            healthy.add(minion)
    if proxies:
        steps.append(
            Step(
                title=f"{cluster.name}: configure the balancer {names(proxies)}",
                kind="state",
                targets=tuple(proxies),
                sls=("etcd_ha",),
                why="its configuration differs from the pillar's, or its path to the cluster fails",
            )
        )
    if steps:
        steps.append(_verify(cluster))
    return Plan(cluster.name, summary, tuple(steps))


def _changes(cluster: Cluster, member: Member, host: Observed) -> dict[str, dict[str, str]]:
    """The variables that make a restart of a running member necessary."""
    if not host.active:
        return {}
    wanted = etcd_ha_environment.variables(cluster, member)
    return etcd_ha_environment.needs_restart(dict(host.running), wanted)


def _gate(cluster: Cluster, minion: str, healthy: set[str], restarts: set[str]) -> str:
    """Why this member must not be restarted now, or an empty text.

    One or two members cannot lose one and keep a quorum: there a restart is what was asked for,
    and it is announced in the step's title.
    """
    voters = len(cluster.members)
    if minion not in restarts or voters < 3:
        return ""
    if len(healthy - {minion}) < quorum(voters):
        return (
            f"{minion} cannot be restarted: only {len(healthy - {minion})} of {voters} members "
            f"would stay healthy, and {quorum(voters)} are needed. Heal the others first"
        )
    return ""


def _start_all(cluster: Cluster, members: Sequence[str]) -> Step:
    return Step(
        title=f"{cluster.name}: start {names(members)} together",
        kind="state",
        targets=tuple(members),
        sls=("etcd_ha",),
        action="restart",
        why="all members hold data and none runs",
    )


def _configure(
    cluster: Cluster, member: Member, host: Observed, changes: Mapping[str, Mapping[str, str]]
) -> Step:
    role = "leader" if host.leader else "follower"
    told = ", ".join(
        f"{variable} {change['old'] or 'unset'} -> {change['new'] or 'unset'}"
        for variable, change in changes.items()
    )
    if not host.active:
        what = f"{member.name}: start it, then wait until it is healthy"
    elif changes:
        away = "move leadership away, " if host.leader and len(cluster.members) > 1 else ""
        down = " (clients wait meanwhile)" if len(cluster.members) < 3 else ""
        what = f"{member.name}: {away}apply {told}, restart ({role}){down}, then wait"
    elif not host.healthy:
        what = f"{member.name}: apply its configuration and wait until it is healthy"
    elif host.pending:
        what = f"{member.name}: restart it for its new {' and '.join(host.pending)} ({role})"
    else:
        what = f"{member.name}: apply its configuration, restart only if it must ({role})"
    return Step(
        title=f"{cluster.name}: {what}",
        kind="state",
        targets=(member.minion,),
        sls=("etcd_ha",),
        action="restart",
        why=_why(cluster, host),
        disruptive=host.active,
    )


def _why(cluster: Cluster, host: Observed) -> str:
    if host.changed_files:
        return f"{', '.join(host.changed_files)} changed on the host"
    if _expires(cluster, host):
        return f"a certificate expires in {host.days_left} days"
    return "the pillar or the formula changed"


def names(minions: Sequence[str]) -> str:
    """A list of hosts as a person says it: the first labels, where these tell them apart."""
    short = [minion.split(".")[0] for minion in minions]
    shown = short if len(set(short)) == len(set(minions)) else list(minions)
    return ", ".join(dict.fromkeys(shown))


def text(plans: Sequence[Plan]) -> str:
    """All plans in words."""
    lines = []
    for one in plans:
        lines.append(f"{one.cluster}: {one.summary}")
        lines += [f"  note: {warning}" for warning in one.warnings]
        if one.refusal:
            lines.append(f"  refused: {one.refusal}.")
        elif not one.steps:
            lines.append("  in sync, nothing to do")
        for number, step in enumerate(one.steps, 1):
            lines.append(f"  {number}. {step.title.partition(': ')[2]}")
            if step.why:
                lines.append(f"       because: {step.why}")
    return "\n".join(lines)
