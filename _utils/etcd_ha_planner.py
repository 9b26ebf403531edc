"""From what should be and what is, to the steps between them, or a refusal with its reason.

The order of a convergence, and why:

1. start what is stopped, restart what is sick: the more healthy members, the safer the rest
2. take dead members out that the pillar no longer names
3. replace members that lost their data: out of the list, in again as a learner
4. from plain to TLS or back: all members serve both, and the balancers change over
5. join new members, one by one, each as a learner that is promoted once it has caught up;
   balancers: new members in, leaving members out; then take out healthy members that the pillar no
   longer names. All of that on the present release, since members that leave are not upgraded
6. one release after the other, the leader last; then to the one transport that is wanted
7. restart members one by one where anything else differs; balancers last

No I/O, no Salt.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import etcd_ha_environment
import etcd_ha_membership
import etcd_ha_release
import etcd_ha_stages
from etcd_ha_membership import Entry, Match, Membership, quorum
from etcd_ha_observed import Observed, Wanted
from etcd_ha_stages import Stage
from etcd_ha_steps import Plan, Refused, Step, names
from etcd_ha_topology import Cluster, Member


def plan(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> Plan:
    """The steps that make the cluster as wanted, each safe at the moment it is taken."""
    summary = summarize(cluster, observed)
    try:
        steps = _steps(cluster, observed, wanted)
    except Refused as why:
        return Plan(cluster.name, summary, refusal=str(why))
    return Plan(cluster.name, summary, tuple(steps))


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


def _steps(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> list[Step]:
    _refuse_foreign(cluster, observed)
    _refuse_silent(cluster, observed)
    if not _was_bootstrapped(cluster, observed, wanted):
        _refuse_strange_data(cluster, observed)
        return _bootstrap(cluster)
    listed = etcd_ha_membership.live(cluster, observed)
    if not listed:
        return _regain_quorum(cluster, observed, wanted)
    return _Convergence(cluster, observed, wanted, listed).steps()


def _was_bootstrapped(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> bool:
    hosts = [observed[m.minion] for m in cluster.members if m.minion in observed]
    return wanted.recorded or any(
        host.record.get("state") == "bootstrapped" or host.healthy for host in hosts
    )


# What is never touched


def _refuse_foreign(cluster: Cluster, observed: Mapping[str, Observed]) -> None:
    hosts = {m.minion: observed[m.minion] for m in cluster.members if m.minion in observed}
    for minion, host in hosts.items():
        owner = host.record.get("cluster", cluster.name)
        if owner != cluster.name:
            raise Refused(
                f"{minion} holds a member of the cluster {owner}, not of {cluster.name}. It is not "
                f"touched; take it out of {owner} first, or correct the pillar"
            )
    ids = {host.cluster_id: minion for minion, host in hosts.items() if host.cluster_id}
    if len(ids) > 1:
        told = ", ".join(f"{minion} is in {found}" for found, minion in sorted(ids.items()))
        raise Refused(f"the members belong to different clusters ({told}); nothing is touched")


def _refuse_silent(cluster: Cluster, observed: Mapping[str, Observed]) -> None:
    missing = [minion for minion in cluster.hosts if minion not in observed]
    if missing:
        raise Refused(
            f"{', '.join(missing)} did not answer. Bring it back (salt-run manage.status; "
            "salt-key -L shows whether its key is accepted) and run again"
        )


def _refuse_strange_data(cluster: Cluster, observed: Mapping[str, Observed]) -> None:
    for member in cluster.members:
        host = observed[member.minion]
        if host.has_data and host.record.get("state") != "bootstrapping":
            _refuse_data_of(member.minion)


def _refuse_data_of(minion: str) -> None:
    raise Refused(
        f"{minion} already holds etcd data that this formula did not make. Nothing is "
        "touched: move that data directory aside if it is not needed, or set another "
        "data_dir"
    )


# A cluster that is not there yet, or that does not answer


def _bootstrap(cluster: Cluster) -> list[Step]:
    together = tuple(
        dict.fromkeys([m.minion for m in cluster.members] + [b.minion for b in cluster.balancers])
    )
    started = names([member.minion for member in cluster.members])
    # What takes long on a balancer (its packages) runs beside the members' start, not before it.
    first = [m for m in cluster.hosts if cluster.member(m) or m == cluster.ca_minion]
    return [
        _prepare(cluster, first, etcd_ha_stages.final(cluster)),
        Step(
            title=f"{cluster.name}: bootstrap {started} together, the balancers beside them",
            kind="state",
            targets=together,
            sls=("etcd_ha",),
            action="bootstrap",
            why="a majority must start inside one election window; no member holds data",
        ),
        _verify(cluster),
    ]


def _regain_quorum(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted
) -> list[Step]:
    """No member is healthy: start together what is stopped, where that can be a quorum."""
    members = [member.minion for member in cluster.members]
    gone = [m for m in wanted.managed if cluster.member(m) is None]
    if any(m not in observed or observed[m].has_data for m in gone):
        raise Refused(
            f"{cluster.name} has no quorum, and {', '.join(gone)}, which the pillar no longer "
            "names, may still be a part of it. Name it in the pillar again until the cluster is "
            "healthy, then take it out"
        )
    lost = [m for m in members if not observed[m].has_data or observed[m].corrupt]
    learners = [m for m in members if observed[m].learner]
    holding = [m for m in members if m not in lost and m not in learners]
    voters = max(len(members), len(wanted.managed)) - len(learners)
    if not holding:
        raise Refused(
            f"{cluster.name} was bootstrapped once, but no member holds data any more. It is not "
            "bootstrapped again by itself: restore a backup, or remove the records "
            f"(/var/lib/etcd_ha/{cluster.name}.json on the members and, on the master, "
            f"salt-run etcd_ha.forget {cluster.name}) if the data is not needed"
        )
    if len(holding) < quorum(voters):
        raise Refused(
            f"{', '.join(lost) or 'the members that are gone'} lost their data and the others are "
            "no quorum; restore a backup, or recover from the surviving member"
        )
    stopped = [minion for minion in holding if not observed[minion].active]
    if not stopped:
        raise Refused(_no_quorum(cluster, holding))
    stages = {_stage(cluster, observed[minion]) for minion in stopped}
    steps = [_prepare(cluster, _prepared(cluster, observed, wanted, stopped), None)]
    for stage in sorted(stages, key=str):
        targets = [m for m in stopped if _stage(cluster, observed[m]) == stage]
        why = "all members hold data and none runs" if stopped == members else "no quorum runs"
        steps.append(
            Step(
                title=f"{cluster.name}: start {names(targets)} together",
                kind="state",
                targets=tuple(targets),
                sls=("etcd_ha",),
                action="restart",
                stage=_handed(cluster, stage),
                why=why,
            )
        )
    whole = stopped == members and not gone
    if stages == {etcd_ha_stages.final(cluster)} and whole:
        return [*steps, _verify(cluster)]
    return [*steps, _again(cluster)]


# A cluster that answers


class _Convergence:
    """The steps from a cluster with quorum to the pillar's, entered one after the other."""

    def __init__(
        self,
        cluster: Cluster,
        observed: Mapping[str, Observed],
        wanted: Wanted,
        listed: tuple[Entry, ...],
    ) -> None:
        self.cluster, self.observed, self.wanted = cluster, observed, wanted
        self.match: Match = etcd_ha_membership.match(cluster, observed, wanted, listed)
        self.members = {m.minion: m for m in cluster.members}
        self.ids = {minion: str(entry["id"]) for minion, entry in self.match.kept.items()}
        self.membership = Membership(
            {str(entry["id"]): entry for entry in listed},
            {self.ids[m] for m in self.ids if observed[m].healthy}
            | {str(e["id"]) for e in self.match.leaving if self._leaving_is_healthy(e)},
        )
        # A member that has not been touched yet has no stage here: its facts count.
        self.applied: dict[str, Stage] = {}
        self.leader = next((m for m in self.ids if observed[m].leader), "")
        self.balanced_for = ""
        self.taken: list[Step] = []

    def steps(self) -> list[Step]:
        """All steps; raises Refused at the first one that would cost quorum or data."""
        self._refuse_unknown()
        self._refuse_strange()
        self._refuse_versions()
        self._heal()
        dead = [e for e in self.match.leaving if str(e["id"]) not in self.membership.healthy]
        self._remove(dead)
        self._replace()
        ways = self._ways()
        if "both" in ways:
            self._pass(transport="both")
        leaving = [e for e in self.match.leaving if e not in dead]
        if self.match.absent or leaving:
            self._pass()
            self._join(self.match.absent, self._present_stage(ways))
        if self.match.absent or leaving or ways:
            self._balance(self._oldest())
        self._remove(leaving)
        self._change_release()
        if ways:
            self._pass(transport=self.cluster.scheme)
        self._pass()
        self._balance(self.cluster.version)
        if not self.taken and not _stale_authority(self.cluster, self.observed, self.wanted):
            return []
        first = self._first_stage()
        touched = [m for m in self.cluster.hosts if any(m in step.targets for step in self.taken)]
        prepared = _prepared(self.cluster, self.observed, self.wanted, touched)
        return [_prepare(self.cluster, prepared, first), *self.taken, _verify(self.cluster)]

    # Refusals

    def _refuse_unknown(self) -> None:
        if not self.match.unknown:
            return
        told = ", ".join(
            f"{entry.get('name') or 'unstarted'} at {', '.join(entry.get('peer_urls', ()))}"
            for entry in self.match.unknown
        )
        key = f"etcd_ha:clusters:{self.cluster.name}"
        raise Refused(
            f"the cluster has members that neither the pillar nor the last converge knows "
            f"({told}). Name them under {key}:members, or set {key}:remove_unknown: true to "
            "take them out"
        )

    def _refuse_strange(self) -> None:
        if not any(self.observed[m].healthy for m in self.match.kept):
            raise Refused(
                f"none of the pillar's members of {self.cluster.name} is healthy in the cluster "
                "that runs. Keep at least one of its present members, let the new ones join, and "
                "take the old ones out in a second run"
            )
        for minion in self.match.absent:
            host = self.observed[minion]
            if host.healthy:
                raise Refused(
                    f"{minion} runs etcd, but the cluster's member list does not have it. Stop it "
                    "there if it is not needed, then run again"
                )
            if host.has_data and not host.record:
                _refuse_data_of(minion)

    def _refuse_versions(self) -> None:
        for minion in self.match.kept:
            now = _version(self.cluster, self.observed[minion])
            fault = etcd_ha_stages.downgrade_fault(now, self.cluster.version)
            if fault:
                raise Refused(f"{minion}: {fault}")
            changes = now != self.cluster.version
            if changes and self.members[minion].settings["install"]["method"] == "package":
                raise Refused(
                    f"{minion} has etcd {now} from a package, the pillar says "
                    f"{self.cluster.version}. A package replaces the running program on all hosts "
                    "at once: set install:method: archive to change the version"
                )

    # 1. what is down or sick, and holds data

    def _heal(self) -> None:
        kept = [m for m in self.match.kept if not self._must_rejoin(m)]
        stopped = [m for m in kept if not self.observed[m].active]
        sick = [m for m in kept if self.observed[m].active and not self.observed[m].healthy]
        voters = self.membership.voters
        fit = (self.membership.healthy | {self.ids[m] for m in stopped}) & voters
        if sick and len(fit) < quorum(len(voters)):
            raise Refused(_no_quorum(self.cluster, sick))
        for minion in stopped + sick:
            stage = _stage(self.cluster, self.observed[minion])
            self._take(minion, stage)

    # 2. and 7. members that the pillar no longer names

    def _remove(self, leaving: Sequence[Entry]) -> None:
        for entry in sorted(leaving, key=self._leads):
            one = str(entry["id"])
            name = entry.get("name") or f"the unstarted member at {entry['peer_urls'][0]}"
            voter = not entry.get("learner")
            allowed = self.membership.can_remove(one) if voter else self.membership.has_quorum
            if not allowed:
                left = self.membership.voters - {one}
                fit = len(self.membership.healthy & left)
                raise Refused(
                    f"{name} cannot be taken out: {fit} of the {len(left)} members left "
                    f"would be healthy, and {quorum(len(left))} are needed. Heal or add "
                    "others first"
                )
            minion = etcd_ha_membership.minion_of(entry, self.wanted, self.observed, self.cluster)
            self.membership.remove(one)
            self._add_removal(entry, name, minion)

    def _add_removal(self, entry: Entry, name: str, minion: str | None) -> None:
        away = "move leadership away, " if self._leads(entry) else ""
        self.taken.append(
            Step(
                title=f"{self.cluster.name}: {away}take {name} out of the member list",
                kind="function",
                targets=(self._speaker(),),
                function="etcd_ha_member.remove",
                arguments={"member_id": str(entry["id"]), "name": entry.get("name", "")},
                why="the pillar no longer names it",
                disruptive=True,
            )
        )
        if minion is None:
            return
        self.taken.append(
            Step(
                title=f"{self.cluster.name}: stop {name} and set its data aside on {minion}",
                kind="function",
                targets=(minion,),
                function="etcd_ha_member.retire",
                arguments={"cluster": self.cluster.name},
                why="it is no longer a member; nothing is deleted",
            )
        )

    # 3. members whose data is gone

    def _must_rejoin(self, minion: str) -> bool:
        host, entry = self.observed[minion], self.match.kept[minion]
        return (
            not host.has_data
            or bool(host.corrupt)
            or not entry.get("started", True)
            or bool(entry.get("learner"))
        )

    def _replace(self) -> None:
        again = [m for m in self.match.kept if self._must_rejoin(m)]
        # etcd takes one learner at a time: those that are ones already come first.
        for minion in sorted(again, key=lambda m: not self.match.kept[m].get("learner")):
            self._rejoin(minion)

    def _rejoin(self, minion: str) -> None:
        host, entry, one = self.observed[minion], self.match.kept[minion], self.ids[minion]
        voter = not entry.get("learner")
        lost = entry.get("started", True) and (not host.has_data or bool(host.corrupt))
        if lost and voter and not self.membership.can_remove(one):
            raise Refused(
                f"{minion} lost its data and the others are no quorum; restore a backup, or "
                "recover from the surviving member"
            )
        if lost or not voter:
            self.membership.remove(one)
        if lost:
            why = host.corrupt or "its data is gone"
            what = f"replace {entry.get('name')}: out of the list, in again as a learner"
        elif host.has_data:
            why, what = "it is a learner still", f"promote {entry.get('name')} once caught up"
        else:
            why = "it was added to the list, but never started"
            what = f"start {self.members[minion].name} and let it catch up"
        stage = self._present_stage([]) if lost or not host.has_data else self._now(minion)
        self._add_join(minion, what, why, stage)

    # 4., 6. and 7. rolling changes

    def _running(self) -> list[str]:
        """The pillar's members that run by now, in the pillar's order."""
        return [m for m in self.members if m in self.ids]

    def _ways(self) -> list[str]:
        now = (self._now(m).transport for m in self._running())
        return etcd_ha_stages.transports(now, self.cluster.scheme)

    def _oldest(self) -> str:
        releases = [self._now(m).version for m in self._running()]
        return min(releases, key=etcd_ha_release.parse)

    def _change_release(self) -> None:
        running, goal = self._running(), self.cluster.version
        releases = {self._now(m).version for m in running}
        if releases == {goal}:
            return
        oldest, newest = self._oldest(), max(releases, key=etcd_ha_release.parse)
        down = etcd_ha_stages.is_downgrade(newest, goal)
        path = [goal] if down else etcd_ha_stages.versions(oldest, goal, self._through())
        self._before_release(newest if down else oldest, down)
        for version in path:
            if not down and etcd_ha_stages.leaves_v2(oldest, version):
                self._leave_v2(running)
            self._pass(version=version, down=down)

    def _pass(self, version: str = "", transport: str = "", down: bool = False) -> None:
        """Bring all to one release or transport; with neither, to all else that differs."""
        running = self._running()
        for minion in sorted(running, key=lambda m: (m == self.leader, running.index(m))):
            now = self._now(minion)
            stage = Stage(version or now.version, transport or now.transport)
            newer = etcd_ha_release.parse(now.version) > etcd_ha_release.parse(stage.version)
            if version and newer and not down:
                continue
            if stage != now or (not version and not transport and self._differs(minion, stage)):
                self._gate(minion)
                self._take(minion, stage)

    def _before_release(self, now: str, down: bool) -> None:
        goal = self.cluster.version
        self.taken.append(
            Step(
                title=f"{self.cluster.name}: take a snapshot of {now} and verify it",
                kind="function",
                targets=(self._speaker(),),
                function="etcd_ha_member.snapshot",
                arguments={"cluster": self.cluster.name, "name": f"before-{goal}"},
                why=f"before the {'downgrade' if down else 'upgrade'} to {goal}",
            )
        )
        if down:
            self.taken.append(
                Step(
                    title=f"{self.cluster.name}: tell etcd to allow the downgrade to {goal}",
                    kind="function",
                    targets=(self._speaker(),),
                    function="etcd_ha_member.allow_downgrade",
                    arguments={"version": goal},
                    why="etcd refuses an older release otherwise",
                )
            )

    def _leave_v2(self, running: Sequence[str]) -> None:
        older = [m for m in running if etcd_ha_stages.has_v2(self._now(m).version)]
        if older:
            self.taken.append(
                Step(
                    title=f"{self.cluster.name}: see that 3.6 can read the log of {names(older)}",
                    kind="function",
                    targets=tuple(older),
                    function="etcd_ha_member.leave_v2",
                    why="it does not start over what 3.4 or the v2 store left in it",
                )
            )

    # 5. new members

    def _join(self, absent: Sequence[str], stage: Stage) -> None:
        for minion in absent:
            self._add_join(
                minion,
                f"add {self.members[minion].name} as a learner, promote it once caught up",
                "the pillar names a new member",
                stage,
            )

    def _add_join(self, minion: str, what: str, why: str, stage: Stage) -> None:
        is_voter = self.ids.get(minion) in self.membership.voters
        if not is_voter and not self.membership.can_promote():
            raise Refused(
                f"{minion} cannot join: {len(self.membership.healthy & self.membership.voters)} of "
                f"{len(self.membership.voters)} members are healthy, and one more voter would "
                "leave no quorum. Heal the others first"
            )
        self.taken.append(
            Step(
                title=f"{self.cluster.name}: {what}",
                kind="state",
                targets=(minion,),
                sls=("etcd_ha",),
                action="join",
                stage=_handed(self.cluster, stage),
                endpoints=self._endpoints(),
                why=why,
            )
        )
        self.membership.join(self.ids.setdefault(minion, f"new {minion}"))
        self.applied[minion] = stage

    # Balancers

    def _balance(self, version: str) -> None:
        """Configure the balancers; while members are older, with the checks that these know."""
        balancers = [balancer.minion for balancer in self.cluster.balancers]
        stale = _stale(self.cluster, balancers, self.observed, self.wanted)
        proxies = [m for m in balancers if m in stale or not self.observed[m].balancer_healthy]
        if self.balanced_for == version or not proxies:
            return
        self.balanced_for = version
        self.taken.append(
            Step(
                title=f"{self.cluster.name}: configure the balancer {names(proxies)}",
                kind="state",
                targets=tuple(proxies),
                sls=("etcd_ha",),
                stage=_handed(self.cluster, Stage(version, self.cluster.scheme)),
                why="its configuration differs from the pillar's, or its path to the cluster fails",
            )
        )

    # What a member is now, and what a step makes of it

    def _now(self, minion: str) -> Stage:
        return self.applied.get(minion) or _stage(self.cluster, self.observed[minion])

    def _present_stage(self, ways: Sequence[str]) -> Stage:
        """What a member joins with: no newer than the others, so that it fits all of them."""
        others = [self._now(m) for m in self.match.kept if not self._must_rejoin(m)]
        version = min((one.version for one in others), key=etcd_ha_release.parse)
        spoken = {one.transport for one in others}
        plain = not ways and len(spoken) == 1
        return Stage(version, spoken.pop() if plain else "both")

    def _first_stage(self) -> Stage | None:
        """The release to lay beside the running one before the first step."""
        return next((Stage(**step.stage) for step in self.taken if step.stage), None)

    def _differs(self, minion: str, stage: Stage) -> bool:
        """Whether a member that runs has to be touched for more than release and transport."""
        if minion in self.applied:
            return False
        return (
            bool(_changes(self.cluster, self.members[minion], self.observed[minion], stage))
            or bool(self.observed[minion].pending)
            or minion in _stale(self.cluster, [minion], self.observed, self.wanted)
        )

    def _gate(self, minion: str) -> None:
        """Refuse a restart that would cost the quorum.

        One or two voters cannot lose one and keep a quorum: there a restart is what was asked for,
        and it is announced in the step's title.
        """
        one, voters = self.ids[minion], len(self.membership.voters)
        if voters >= 3 and not self.membership.can_spare(one):
            fit = len((self.membership.healthy & self.membership.voters) - {one})
            raise Refused(
                f"{minion} cannot be restarted: only {fit} of {voters} members "
                f"would stay healthy, and {quorum(voters)} are needed. Heal the others first"
            )

    def _take(self, minion: str, stage: Stage) -> None:
        self.taken.append(self._configure(minion, stage))
        if minion == self.leader:
            self.leader = self._successor(minion) or minion
        self.applied[minion] = stage
        self.membership.healthy.add(self.ids[minion])

    def _successor(self, minion: str) -> str:
        """Who leads next: a healthy voter that has been through its own restart, if any has."""
        fit = self.membership.healthy & self.membership.voters
        able = [m for m, one in self.ids.items() if one in fit and m != minion]
        return min(able, key=lambda m: m not in self.applied, default="")

    def _configure(self, minion: str, stage: Stage) -> Step:
        member, host = self.members[minion], self.observed[minion]
        leads = minion == self.leader
        successor = self._successor(minion) if leads else ""
        disruptive = host.active or minion in self.applied
        return Step(
            title=f"{self.cluster.name}: {member.name}: {self._words(minion, stage, successor)}",
            kind="state",
            targets=(minion,),
            sls=("etcd_ha",),
            action="restart",
            stage=_handed(self.cluster, stage),
            successor=self.members[successor].name if successor else "",
            why=_why(self.cluster, host),
            disruptive=disruptive,
        )

    def _words(self, minion: str, stage: Stage, successor: str) -> str:
        """What happens to a member, as its step's title says it."""
        host, now, fresh = self.observed[minion], self._now(minion), minion not in self.applied
        away = f"move leadership to {self.members[successor].name}, " if successor else ""
        down = " (clients wait meanwhile)" if len(self.membership.voters) < 3 else ""
        role = f"({'leader' if minion == self.leader else 'follower'}){down}"
        changes = _changes(self.cluster, self.members[minion], host, stage) if fresh else {}
        if not host.active and fresh:
            return "start it, then wait until it is healthy"
        if now.version != stage.version:
            lower = etcd_ha_stages.is_downgrade(now.version, stage.version)
            word = "downgrade" if lower else "upgrade"
            versions = f"{now.version} -> {stage.version}"
            return f"{away}{word} {versions} {role}, then wait until it has caught up"
        if now.transport != stage.transport:
            ways = f"{_spoken(now)} -> {_spoken(stage)}"
            return f"{away}speak {ways}, restart {role}, then wait"
        if changes:
            return f"{away}apply {_told(changes)}, restart {role}, then wait"
        if not host.healthy:
            return "apply its configuration and wait until it is healthy"
        if host.pending:
            return f"{away}restart it for its new {' and '.join(host.pending)} {role}"
        return f"apply its configuration, restart only if it must {role}"

    def _leads(self, entry: Entry) -> bool:
        return any(h.leader and h.member_id == entry["id"] for h in self.observed.values())

    def _leaving_is_healthy(self, entry: Entry) -> bool:
        minion = etcd_ha_membership.minion_of(entry, self.wanted, self.observed, self.cluster)
        return minion is not None and self.observed[minion].healthy

    def _speaker(self) -> str:
        """The member that acts for the cluster: healthy, stays, and does not lead if possible."""
        staying = [m for m in self.ids if self.ids[m] in self.membership.healthy]
        able = [m for m in staying if self.observed[m].healthy] or staying
        return min(able, key=lambda m: self.observed[m].leader)

    def _endpoints(self) -> str:
        """Where the healthy voters serve clients now, as etcdctl takes it."""
        fit = [e for one, e in self.membership.entries.items() if one in self.membership.healthy]
        return ",".join(url for entry in fit for url in entry.get("client_urls", ()))

    def _through(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.cluster.settings["upgrade"]["through"]
        return found


def _no_quorum(cluster: Cluster, sick: Sequence[str]) -> str:
    return (
        f"{cluster.name} has no quorum: {', '.join(sick)} run but are not healthy. Look at "
        "journalctl -u etcd there; nothing is restarted while quorum is lost"
    )


# Parts of steps


def _version(cluster: Cluster, host: Observed) -> str:
    """The release that a member runs, or last ran."""
    return host.version or host.installed or cluster.version


def _stage(cluster: Cluster, host: Observed) -> Stage:
    """What a member runs, or would run if it were started as it is."""
    way = etcd_ha_stages.transport(host.running) or cluster.scheme
    return Stage(_version(cluster, host), way)


def _handed(cluster: Cluster, stage: Stage) -> Mapping[str, str]:
    """The stage as the states take it; empty for the pillar's own."""
    return {} if stage == etcd_ha_stages.final(cluster) else stage.pillar()


def _at(cluster: Cluster, stage: Stage) -> Cluster:
    return dataclasses.replace(cluster, version=stage.version)


def _changes(
    cluster: Cluster, member: Member, host: Observed, stage: Stage
) -> dict[str, dict[str, str]]:
    """The variables that make a restart of a running member necessary."""
    if not host.active:
        return {}
    wanted = etcd_ha_environment.variables(_at(cluster, stage), member, stage.transport)
    return etcd_ha_environment.needs_restart(dict(host.running), wanted)


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


def _prepared(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted, touched: Sequence[str]
) -> list[str]:
    """Who is prepared before the first step: whoever is touched, and the CA where it must learn."""
    authority = cluster.ca_minion if _stale_authority(cluster, observed, wanted) else None
    return [m for m in cluster.hosts if m in touched or m == authority]


def _prepare(cluster: Cluster, targets: Sequence[str], stage: Stage | None) -> Step:
    version = stage.version if stage else cluster.version
    return Step(
        title=f"{cluster.name}: prepare {names(targets)}",
        kind="state",
        targets=tuple(targets),
        sls=("etcd_ha.prepare",),
        stage=_handed(cluster, stage) if stage else {},
        why=f"users, directories, etcd {version} beside what is there, the CA",
    )


def _verify(cluster: Cluster) -> Step:
    where = "every balancer" if cluster.balancers else "the members"
    return Step(
        title=f"{cluster.name}: verify a put and a get through {where}",
        kind="verify",
        targets=(cluster.members[0].minion,),
        why="a client's whole path is what counts",
    )


def _again(cluster: Cluster) -> Step:
    return Step(
        title=f"{cluster.name}: plan again for what is left",
        kind="again",
        targets=(),
        why="only a cluster that answers can tell who its members are",
    )


def _told(changes: Mapping[str, Mapping[str, str]]) -> str:
    return ", ".join(
        f"{variable} {change['old'] or 'unset'} -> {change['new'] or 'unset'}"
        for variable, change in changes.items()
    )


def _spoken(stage: Stage) -> str:
    return "http and https" if stage.transport == "both" else stage.transport


def _why(cluster: Cluster, host: Observed) -> str:
    if host.changed_files:
        return f"{', '.join(host.changed_files)} changed on the host"
    if _expires(cluster, host):
        return f"a certificate expires in {host.days_left} days"
    return "the pillar or the formula changed"
