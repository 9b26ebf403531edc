"""The steps from a cluster with quorum to the pillar's.

The order of a convergence, and why:

1. start what is stopped, restart what is sick: the more healthy members, the safer the rest
2. take dead members out that the pillar no longer names
3. to another CA: all trust both, then all have certificates from the new one; a member that lost
   its data leaves the list for so long, since it can get no certificate that the others trust, and
   members that leave do so before the new certificates, which they would not trust
4. replace members that lost their data: out of the list, in again as a learner
5. from plain to TLS or back: all members serve both, and the balancers change over
6. balancers: where members are going to serve clients elsewhere, both places. Then join new
   members, one by one, each as a learner that is promoted once it has caught up;
   balancers: new members in, leaving members out; then take out healthy members that the pillar no
   longer names. All of that on the present release, since members that leave are not upgraded
7. one release after the other, the leader last; then to the one transport that is wanted
8. restart members one by one where anything else differs, or the old CA is trusted still;
   balancers last
"""

import dataclasses
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import etcd_ha_drift
import etcd_ha_environment
import etcd_ha_membership
import etcd_ha_parts
import etcd_ha_release
import etcd_ha_stages
import etcd_ha_trust
from etcd_ha_membership import Entry, Match, Membership, quorum
from etcd_ha_observed import Observed, Wanted
from etcd_ha_stages import Stage
from etcd_ha_steps import Refused, Step, names
from etcd_ha_topology import Cluster

# Phases in which a host bears certificates of the old CA.
_OLD_BEARERS = (etcd_ha_trust.KEPT, etcd_ha_trust.BOTH)


class Convergence:
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
        self.balanced_for = ("", "")
        self.proxy_trust: dict[str, str] = {}
        self.taken: list[Step] = []

    def steps(self) -> list[Step]:
        """All steps; raises Refused at the first one that would cost quorum or data."""
        self._refuse_unknown()
        self._refuse_strange()
        self._refuse_versions()
        etcd_ha_trust.refuse_scattered(self.cluster, self.observed)
        self._heal()
        dead = [e for e in self.match.leaving if str(e["id"]) not in self.membership.healthy]
        self._remove(dead)
        leaving = [e for e in self.match.leaving if e not in dead]
        if self._exchange_authority(leaving):
            leaving = []
        self._replace()
        ways = self._ways()
        if not ways:
            self._balance_ahead()
        if "both" in ways:
            self._pass(transport="both")
        absent = [m for m in self.members if m not in self.ids]
        if absent or leaving:
            self._pass(keep_trust=True)
            self._join(absent, self._present_stage(ways))
        if absent or leaving or ways:
            self._balance(self._oldest(), self._trust_meanwhile())
        self._remove(leaving)
        self._change_release()
        if ways:
            self._pass(transport=self.cluster.scheme)
        self._pass()
        self._balance(self.cluster.version, self._trust_at_the_end())
        self._retire_leftovers()
        if not self.taken and not etcd_ha_drift.stale_authority(
            self.cluster, self.observed, self.wanted
        ):
            return []
        first = self._first_stage()
        touched = [m for m in self.cluster.hosts if any(m in step.targets for step in self.taken)]
        prepared = etcd_ha_drift.prepared(self.cluster, self.observed, self.wanted, touched)
        # Hosts that the pillar no longer names have nothing to prepare.
        before = [etcd_ha_parts.prepare(self.cluster, prepared, first)] if prepared else []
        return [*before, *self.taken, etcd_ha_parts.verify(self.cluster)]

    def restarts(self, before: int) -> list[Step]:
        """Restart each member whose process began before this time, the leader last."""
        if self.steps():
            raise Refused(etcd_ha_parts.not_in_sync(self.cluster, "restarted"))
        for minion in self._leader_last():
            self._gate(minion)
            now, successor = self._now(minion), self._next_leader(minion)
            away = self._away(successor)
            title = f"{self.cluster.name}: {self.members[minion].name}: {away}restart"
            step = dataclasses.replace(
                self._configure(minion, now),
                title=f"{title} {self._role(minion)}, then wait until it is healthy",
                why="etcd_ha.orch.restart asks for it",
                restart_before=before,
            )
            self._enter(minion, now, step)
        return [*self.taken, etcd_ha_parts.verify(self.cluster)]

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
                etcd_ha_parts.refuse_data_of(minion)

    def _refuse_versions(self) -> None:
        for minion in self.match.kept:
            now = etcd_ha_drift.release(self.cluster, self.observed[minion])
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
            raise Refused(etcd_ha_parts.no_quorum(self.cluster, sick))
        for minion in stopped + sick:
            stage = self._healing_stage(minion)
            self._take(minion, stage)

    def _healing_stage(self, minion: str) -> Stage:
        """As it is; but a member that was away while the CA was exchanged catches up with that."""
        now = self._now(minion)
        if now.trust not in _OLD_BEARERS:
            return now
        others = [m for m in self.ids if self.observed[m].healthy and self._speaks_tls(m)]
        dropped = any(self._now(m).trust == etcd_ha_trust.ALONE for m in others)
        # Members that leave are not touched any more: they may trust the former CA alone.
        known = bool(others) and all(self._knows_new(m) for m in others) and not self.match.leaving
        phase = etcd_ha_trust.ISSUED if dropped or known else etcd_ha_trust.BOTH
        return dataclasses.replace(now, trust=phase)

    # 2. and 6. members that the pillar no longer names

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

    def _add_removal(
        self,
        entry: Entry,
        name: str,
        minion: str | None,
        why: str = "the pillar no longer names it",
    ) -> None:
        away = "move leadership away, " if self._leads(entry) else ""
        self.taken.append(
            Step(
                title=f"{self.cluster.name}: {away}take {name} out of the member list",
                kind="function",
                targets=(self._speaker(),),
                function="etcd_ha_member.remove",
                arguments={"member_id": str(entry["id"]), "name": entry.get("name", "")},
                why=why,
                disruptive=True,
            )
        )
        if minion is not None:
            self._add_retirement(name, minion)

    def _add_retirement(self, name: str, minion: str) -> None:
        what = "delete its data" if self.cluster.settings["purge"] else "set its data aside"
        self.taken.append(
            Step(
                title=f"{self.cluster.name}: stop {name} and {what} on {minion}",
                kind="function",
                targets=(minion,),
                function="etcd_ha_member.retire",
                arguments={
                    "cluster": self.observed[minion].record.get("cluster", self.cluster.name),
                    "purge": self.cluster.settings["purge"],
                },
                why=f"it is no longer a member; {etcd_ha_parts.kept_data(self.cluster)}",
            )
        )

    def _retire_leftovers(self) -> None:
        """A removal that was interrupted: out of the list, but not yet stopped and set aside."""
        listed = {str(entry.get("name")) for entry in self.match.leaving}
        for minion, known in self.wanted.managed.items():
            host = self.observed.get(minion)
            if self.cluster.member(minion) or host is None or known["name"] in listed:
                continue
            if host.record and not host.healthy:
                self._add_retirement(str(known["name"]), minion)

    # 3. and 8. another CA

    def _exchange_authority(self, leaving: Sequence[Entry]) -> bool:
        """Have all trust both CAs, and bear certificates of the new one; the last pass drops it.

        Returns whether the members that leave are out of the list by then.
        """
        bearers = [m for m in self._running() if self._bears_old(m)]
        proxies = [m for m in self._proxies() if self._proxy_phase(m) in _OLD_BEARERS]
        if not bearers and not proxies:
            return False
        self._leave_for_now()
        self._trust_pass()
        unready = [m for m in self._proxies() if self._proxy_phase(m) == etcd_ha_trust.KEPT]
        self._configure_balancers(unready, self._oldest(), etcd_ha_trust.BOTH)
        if etcd_ha_trust.change_goes(self.cluster) == etcd_ha_trust.UP_TO_TRUST:
            self._refuse_to_join()
            return False
        self._remove(leaving)
        self._issue()
        self._configure_balancers(proxies, self._oldest(), etcd_ha_trust.ISSUED)
        return True

    def _refuse_to_join(self) -> None:
        """The CA signs with its new key alone, and who joins would bear what nobody bears yet."""
        absent = [minion for minion in self.members if minion not in self.ids]
        if absent:
            raise Refused(
                f"{names(absent)} cannot join while the CA is being exchanged and "
                f"etcd_ha:clusters:{self.cluster.name}:tls:ca:change is trust: set it to issue"
            )

    def _leave_for_now(self) -> None:
        """Members without data wait outside: nobody would trust their certificates yet."""
        for minion in [m for m in self._running() if self._must_rejoin(m)]:
            entry, one = self.match.kept[minion], self.ids[minion]
            if not entry.get("learner") and not self.membership.can_remove(one):
                raise Refused(self._cannot_replace(minion))
            self._add_removal(
                entry, self.members[minion].name, None, "it comes back under the new CA"
            )
            self.membership.remove(one)
            del self.ids[minion]

    def _trust_pass(self) -> None:
        for minion in self._leader_last():
            now = self._now(minion)
            if now.trust == etcd_ha_trust.KEPT or not self._knows_new(minion):
                self._gate(minion)
                self._take(minion, dataclasses.replace(now, trust=etcd_ha_trust.BOTH))

    def _issue(self) -> None:
        """New certificates for all members at once: nothing is restarted for them."""
        bearers = [m for m in self._running() if self._now(m).trust == etcd_ha_trust.BOTH]
        for now in sorted({self._now(m) for m in bearers}, key=str):
            stage = dataclasses.replace(now, trust=etcd_ha_trust.ISSUED)
            targets = [m for m in bearers if self._now(m) == now]
            self.taken.append(
                Step(
                    title=f"{self.cluster.name}: {names(targets)}: {etcd_ha_drift.trusted(stage)}",
                    kind="state",
                    targets=tuple(targets),
                    sls=("etcd_ha",),
                    stage=etcd_ha_drift.handed(self.cluster, stage),
                    why="all trust both CAs by now; nothing is restarted for a certificate",
                )
            )
            self.applied |= dict.fromkeys(targets, stage)
        self.taken.append(
            Step(
                title=f"{self.cluster.name}: see that every member serves a certificate of one CA",
                kind="function",
                targets=tuple(m for m in self._running() if self._speaks_tls(m)),
                function="etcd_ha_member.served_by_one_ca",
                why="the old CA is trusted until this has been seen",
            )
        )

    def _speaks_tls(self, minion: str) -> bool:
        return self.cluster.tls and self._now(minion).transport != "http"

    def _bears_old(self, minion: str) -> bool:
        return self._speaks_tls(minion) and self._now(minion).trust in _OLD_BEARERS

    def _knows_new(self, minion: str) -> bool:
        """Whether a member's process, and not its file alone, trusts the new CA."""
        if minion in self.applied:
            return self.applied[minion].trust != etcd_ha_trust.KEPT
        fresh = "trust" not in self.observed[minion].pending
        return not self._speaks_tls(minion) or (
            fresh and self._now(minion).trust != etcd_ha_trust.KEPT
        )

    def _proxies(self) -> list[str]:
        return [balancer.minion for balancer in self.cluster.balancers]

    def _proxy_phase(self, minion: str) -> str:
        if not self.cluster.tls:
            return etcd_ha_trust.ALONE
        wanted = etcd_ha_trust.authority(self.cluster, self.observed, minion)
        return etcd_ha_trust.phase(self.observed[minion].balancer_trust, wanted)

    def _trust_meanwhile(self) -> str:
        """What balancers trust while members still are in different phases."""
        phases = {self._now(m).trust for m in self._running()}
        return next((p for p in (etcd_ha_trust.BOTH, etcd_ha_trust.ISSUED) if p in phases), "")

    def _trust_at_the_end(self) -> str:
        paused = etcd_ha_trust.change_goes(self.cluster) != etcd_ha_trust.WHOLE
        return self._trust_meanwhile() if paused else etcd_ha_trust.ALONE

    # 4. members whose data is gone

    def _must_rejoin(self, minion: str) -> bool:
        host, entry = self.observed[minion], self.match.kept[minion]
        return (
            not host.has_data
            or bool(host.corrupt)
            or not entry.get("started", True)
            or bool(entry.get("learner"))
        )

    def _replace(self) -> None:
        again = [m for m in self.match.kept if m in self.ids and self._must_rejoin(m)]
        # etcd takes one learner at a time: those that are ones already come first.
        for minion in sorted(again, key=lambda m: not self.match.kept[m].get("learner")):
            self._rejoin(minion)

    def _rejoin(self, minion: str) -> None:
        host, entry, one = self.observed[minion], self.match.kept[minion], self.ids[minion]
        voter = not entry.get("learner")
        lost = entry.get("started", True) and (not host.has_data or bool(host.corrupt))
        if lost and voter and not self.membership.can_remove(one):
            raise Refused(self._cannot_replace(minion))
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

    def _cannot_replace(self, minion: str) -> str:
        return (
            f"{minion} lost its data and the others are no quorum; restore a backup, or "
            "recover from the surviving member"
        )

    # 5., 7. and 8. rolling changes

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

    def _leader_last(self) -> list[str]:
        running = self._running()
        return sorted(running, key=lambda m: (m == self.leader, running.index(m)))

    def _pass(
        self, version: str = "", transport: str = "", down: bool = False, keep_trust: bool = False
    ) -> None:
        """Bring all to one release or transport; with neither, to all else that differs."""
        kept = (
            keep_trust
            or version
            or transport
            or etcd_ha_trust.change_goes(self.cluster) != etcd_ha_trust.WHOLE
        )
        for minion in self._leader_last():
            now = self._now(minion)
            trust = now.trust if kept else etcd_ha_trust.ALONE
            stage = Stage(version or now.version, transport or now.transport, trust)
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
                stage=etcd_ha_drift.handed(self.cluster, stage),
                endpoints=self._endpoints(),
                why=why,
            )
        )
        self.membership.join(self.ids.setdefault(minion, f"new {minion}"))
        self.applied[minion] = stage
        self._serves(minion, stage)

    # Balancers

    def _stale_proxies(self, trust: str) -> list[str]:
        """The balancers that have to be configured."""
        stale = etcd_ha_drift.stale(self.cluster, self._proxies(), self.observed, self.wanted)
        return [
            m
            for m in self._proxies()
            if m in stale
            or not self.observed[m].balancer_healthy
            or self.proxy_trust.get(m, self._proxy_phase(m)) != trust
        ]

    def _balance_ahead(self) -> None:
        """Before members serve clients elsewhere, have the balancers know both places.

        Otherwise fewer are left to a balancer with each that moves, and none after the last one.
        """
        if self._away_from_home():
            trust = self._trust_meanwhile()
            self._configure_balancers(self._stale_proxies(trust), self._oldest(), trust)

    def _away_from_home(self) -> dict[str, list[str]]:
        """Where the pillar's healthy members serve clients now, if not all do where it says.

        minion -> host:port
        """
        fit = [m for m in self._running() if self.ids[m] in self.membership.healthy]
        urls = {m: self.membership.entries[self.ids[m]].get("client_urls", ()) for m in fit}
        found = {
            m: list(dict.fromkeys(urlsplit(url).netloc for url in given))
            for m, given in urls.items()
            if given
        }
        home = all(places == [self._endpoint(m)] for m, places in found.items())
        return {} if home else found

    def _endpoint(self, minion: str) -> str:
        """Where the pillar has a member serve clients, as host:port."""
        return urlsplit(self.cluster.client_url(self.members[minion])).netloc

    def _balance(self, version: str, trust: str) -> None:
        """Configure the balancers; while members are older, with the checks that these know."""
        if self.balanced_for == (version, trust):
            return
        self.balanced_for = (version, trust)
        self._configure_balancers(self._stale_proxies(trust), version, trust)

    def _configure_balancers(self, proxies: Sequence[str], version: str, trust: str) -> None:
        if not proxies:
            return
        stage = Stage(version, self.cluster.scheme, trust)
        exchanged = any(self.proxy_trust.get(m, self._proxy_phase(m)) != trust for m in proxies)
        words = f": {etcd_ha_drift.trusted(stage)}" if exchanged else ""
        self.proxy_trust |= dict.fromkeys(proxies, trust)
        what = f"configure the balancer {names(proxies)}"
        why = "its configuration differs from the pillar's, or its path to the cluster fails"
        present = self._away_from_home()
        if present:
            what = f"lead {names(proxies)} to the members' present and coming endpoints"
            why = "clients go on while one member after the other moves"
        self.taken.append(
            Step(
                title=f"{self.cluster.name}: {what}{words}",
                kind="state",
                targets=tuple(proxies),
                sls=("etcd_ha",),
                stage=etcd_ha_drift.handed(self.cluster, stage),
                leads_to=present,
                why=why,
            )
        )

    # What a member is now, and what a step makes of it

    def _now(self, minion: str) -> Stage:
        return self.applied.get(minion) or etcd_ha_drift.stage(self.cluster, self.observed, minion)

    def _present_stage(self, ways: Sequence[str]) -> Stage:
        """What a member joins with: no newer than the others, so that it fits all of them."""
        others = [self._now(m) for m in self.match.kept if not self._must_rejoin(m)]
        version = min((one.version for one in others), key=etcd_ha_release.parse)
        spoken = {one.transport for one in others}
        plain = not ways and len(spoken) == 1
        way = spoken.pop() if plain else "both"
        exchanged = any(one.trust for one in others) and way != "http"
        return Stage(version, way, etcd_ha_trust.ISSUED if exchanged else etcd_ha_trust.ALONE)

    def _first_stage(self) -> Stage | None:
        """The release to lay beside the running one before the first step."""
        return next((Stage(**step.stage) for step in self.taken if step.stage), None)

    def _differs(self, minion: str, stage: Stage) -> bool:
        """Whether a member that runs has to be touched for more than release and transport."""
        if minion in self.applied:
            return False
        return (
            bool(
                etcd_ha_drift.changes(
                    self.cluster, self.members[minion], self.observed[minion], stage
                )
            )
            or bool(self.observed[minion].pending)
            or minion in etcd_ha_drift.stale(self.cluster, [minion], self.observed, self.wanted)
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
        self._enter(minion, stage, self._configure(minion, stage))

    def _enter(self, minion: str, stage: Stage, step: Step) -> None:
        """Enter a member's step, and what it makes of the cluster."""
        self.taken.append(step)
        if minion == self.leader:
            self.leader = self._successor(minion) or minion
        self.applied[minion] = stage
        self._serves(minion, stage)

    def _serves(self, minion: str, stage: Stage) -> None:
        """Enter that a member is healthy, and where it serves clients from now on."""
        one, member = self.ids[minion], self.members[minion]
        found = etcd_ha_environment.variables(
            dataclasses.replace(self.cluster, version=stage.version), member, stage.transport
        )
        urls = found["ETCD_ADVERTISE_CLIENT_URLS"].split(",")
        self.membership.entries[one] = {**self.membership.entries[one], "client_urls": urls}
        self.membership.healthy.add(one)

    def _successor(self, minion: str) -> str:
        """Who leads next: a healthy voter that has been through its own restart, if any has."""
        fit = self.membership.healthy & self.membership.voters
        able = [m for m, one in self.ids.items() if one in fit and m != minion]
        return min(able, key=lambda m: m not in self.applied, default="")

    def _next_leader(self, minion: str) -> str:
        """Who leads after this member's restart; empty where it does not lead."""
        return self._successor(minion) if minion == self.leader else ""

    def _away(self, successor: str) -> str:
        return f"move leadership to {self.members[successor].name}, " if successor else ""

    def _role(self, minion: str) -> str:
        down = " (clients wait meanwhile)" if len(self.membership.voters) < 3 else ""
        return f"({'leader' if minion == self.leader else 'follower'}){down}"

    def _configure(self, minion: str, stage: Stage) -> Step:
        member, host = self.members[minion], self.observed[minion]
        successor = self._next_leader(minion)
        disruptive = host.active or minion in self.applied
        return Step(
            title=f"{self.cluster.name}: {member.name}: {self._words(minion, stage, successor)}",
            kind="state",
            targets=(minion,),
            sls=("etcd_ha",),
            action="restart",
            stage=etcd_ha_drift.handed(self.cluster, stage),
            successor=self.members[successor].name if successor else "",
            why=self._why(minion, stage),
            disruptive=disruptive,
        )

    def _why(self, minion: str, stage: Stage) -> str:
        if self._now(minion).trust == stage.trust:
            return etcd_ha_drift.why(self.cluster, self.observed[minion])
        if stage.trust == etcd_ha_trust.ALONE:
            return "all bear certificates of the new CA by now"
        return "another CA signs from now on; certificates of both are trusted at first"

    def _words(self, minion: str, stage: Stage, successor: str) -> str:
        """What happens to a member, as its step's title says it."""
        host, now, fresh = self.observed[minion], self._now(minion), minion not in self.applied
        away, role = self._away(successor), self._role(minion)
        changes = (
            etcd_ha_drift.changes(self.cluster, self.members[minion], host, stage) if fresh else {}
        )
        if not host.active and fresh:
            return "start it, then wait until it is healthy"
        if now.version != stage.version:
            lower = etcd_ha_stages.is_downgrade(now.version, stage.version)
            word = "downgrade" if lower else "upgrade"
            versions = f"{now.version} -> {stage.version}"
            return f"{away}{word} {versions} {role}, then wait until it has caught up"
        if now.transport != stage.transport:
            ways = f"{etcd_ha_drift.spoken(now)} -> {etcd_ha_drift.spoken(stage)}"
            return f"{away}speak {ways}, restart {role}, then wait"
        if now.trust != stage.trust:
            return f"{away}{etcd_ha_drift.trusted(stage)}, restart {role}, then wait"
        if changes:
            return f"{away}apply {etcd_ha_drift.told(changes)}, restart {role}, then wait"
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
