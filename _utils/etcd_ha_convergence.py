"""The steps from a cluster with quorum to the pillar's.

The order of a convergence, and why:

1. set up balancers that no run came to yet, where members serve already; start what is stopped,
   restart what is sick: the more healthy members, the safer the rest
2. stop balancers, and take dead members out, that the pillar no longer names
3. to another CA: all trust both, then all have certificates from the new one; a member that lost
   its data leaves the list for so long, since it can get no certificate that the others trust, and
   members that leave do so before the new certificates, which they would not trust
4. replace members that lost their data: out of the list, in again as a learner; where etcd raised
   CORRUPT, disarm it once all hold the same
5. from plain to TLS or back: all members serve both, and the balancers change over
6. balancers: where members are going to serve clients elsewhere, both places. Then join new
   members, one by one, each as a learner that is promoted once it has caught up;
   balancers: new members in, leaving members out; then take out healthy members that the pillar no
   longer names. All of that on the present release, since members that leave are not upgraded
7. one release after the other, the leader last; then to the one transport that is wanted
8. restart members one by one where anything else differs, or the old CA is trusted still;
   balancers last
9. users, roles and authentication. Where it is to be off, that comes first: on a member without
   TLS there is no certificate by which root could turn it off
"""

import dataclasses
from collections.abc import Mapping, Sequence

import etcd_ha_drift
import etcd_ha_exchange
import etcd_ha_parts
import etcd_ha_pem
import etcd_ha_plan_examine
import etcd_ha_plan_foreign
import etcd_ha_plan_hidden
import etcd_ha_plan_own_certificates
import etcd_ha_plan_paused
import etcd_ha_plan_silent
import etcd_ha_release
import etcd_ha_space
import etcd_ha_stages
import etcd_ha_trust
import etcd_ha_upkeep
from etcd_ha_access import Access, differences
from etcd_ha_common_text import few
from etcd_ha_course import Course
from etcd_ha_etcdctl import called
from etcd_ha_membership import Entry, quorum
from etcd_ha_plan_silent import Waits
from etcd_ha_stages import Stage
from etcd_ha_steps import Refused, Step, names


class Convergence(Course):
    """The steps from a cluster with quorum to the pillar's, entered one after the other."""

    # Of users and roles: before all else, and after it.
    access_steps: tuple[list[Step], list[Step]] = ([], [])
    # The whole plan where certificates that cannot be used wait.
    healing_alone: Sequence[Step] = ()

    def steps(self) -> list[Step]:
        """All steps; raises Refused at the first one that would cost quorum or data."""
        self._refuse_unknown()
        self._refuse_strange()
        self._refuse_versions()
        lowered = etcd_ha_space.shrunk_fault(self.cluster, self.observed)
        if lowered:
            raise Refused(lowered)
        etcd_ha_upkeep.refuse_disputed(self)
        due = [m for m in self.match.kept if etcd_ha_plan_examine.is_due(self.observed[m])]
        if due:
            return etcd_ha_plan_examine.steps(self.cluster, due, self.endpoints())
        self.renewals()
        try:
            self._phases()
        except Waits as why:
            self.waits.append(str(why))
        if self.healing_alone:
            return list(self.healing_alone)
        first, last = self.access_steps
        if not self.taken and not etcd_ha_drift.stale_authority(
            self.cluster, self.observed, self.wanted
        ):
            only = [*first, *last]
            return [*only, self.verify()] if only else []
        stage = self.first_stage()
        touched = [m for m in self.cluster.hosts if any(m in step.targets for step in self.taken)]
        prepared = etcd_ha_drift.prepared(self.cluster, self.observed, self.wanted, touched)
        # Hosts that the pillar no longer names have nothing to prepare.
        before = [etcd_ha_parts.prepare(self.cluster, prepared, stage)] if prepared else []
        return [*before, *first, *self.taken, *last, self.verify()]

    def _phases(self) -> None:
        """Enter all steps; ends early, by Waits, where the next one needs a host without facts."""
        self._lead_clients()
        self._heal()
        self._leave_hidden()
        scattered = etcd_ha_trust.scattered(self.cluster, self.observed)
        bad = etcd_ha_plan_own_certificates.refusal(self.cluster, self.observed)
        if scattered or bad:
            # Pairs of a CA that is not everywhere yet are not for use either, good as they are.
            self.healing_alone = self._healing_alone(scattered or bad, keeps_pairs=bool(scattered))
            return
        silent = etcd_ha_plan_silent.members(self.cluster, self.observed)
        if silent:
            raise Waits(etcd_ha_plan_silent.waits("all else", silent, self.wanted))
        if self.paused:
            self._wait_for_paused()
        leaving_balancers = self._leaving_balancers()
        if self._can_take_over(leaving_balancers):
            self._retire_balancers(leaving_balancers)
        self.access_steps = self._access()
        dead = [e for e in self.match.leaving if str(e["id"]) not in self.membership.healthy]
        if dead:
            self.need(f"take {self._named(dead)} out", balancers=True)
        self.take_out(dead)
        leaving = [e for e in self.match.leaving if e not in dead]
        if etcd_ha_exchange.exchange(self, leaving):
            leaving = []
        self._replace()
        etcd_ha_upkeep.clear_corruption(self)
        ways = self._ways()
        if ways:
            self.need(f"speak {self.cluster.scheme}", authority=True, balancers=True)
        else:
            self.balance_ahead()
        if "both" in ways:
            self._pass(transport="both")
        absent = [m for m in self.members if m not in self.ids]
        if absent:
            self.need(f"add {names(absent)}", authority=True, balancers=True)
        if leaving:
            self.need(f"take {self._named(leaving)} out", balancers=True)
        if absent or leaving:
            self._pass(keep_trust=True)
            self._join(absent, self.present_stage(ways))
        if absent or leaving or ways:
            self.balance(self.oldest(), self.trust_meanwhile())
        self.take_out(leaving)
        self._change_release()
        if ways:
            self._pass(transport=self.cluster.scheme)
        self._pass()
        self.balance(self.cluster.version, self.trust_at_the_end())
        if not self._can_take_over(leaving_balancers):
            self._retire_balancers(leaving_balancers)
        self._retire_leftovers()
        unseen = etcd_ha_plan_silent.balancers(self.cluster, self.observed)
        if unseen:
            what = f"see whether {names(unseen)} is as the pillar says"
            raise Waits(etcd_ha_plan_silent.waits(what, unseen, self.wanted))

    @staticmethod
    def _named(entries: Sequence[Entry]) -> str:
        return few(map(called, entries))

    def renewals(self) -> None:
        """What needs a CA that gives no facts, beside the steps of this plan."""
        if not self.is_held:
            return
        ca = [etcd_ha_plan_silent.authority(self.cluster, self.observed)]
        due = [
            minion
            for minion in self.cluster.hosts
            if minion in self.observed
            and (
                etcd_ha_drift.expires(self.cluster, self.observed[minion])
                or any(map(etcd_ha_pem.is_of_a_pair, self.observed[minion].changed_files))
            )
        ]
        if due:
            what = f"renew the certificates of {names(due)}"
            self.waits.append(etcd_ha_plan_silent.waits(what, ca, self.wanted))
        what = "see whether the CA and the certificates are as the pillar says"
        self.waits.append(etcd_ha_plan_silent.waits(what, ca, self.wanted))

    def restarts(self, before: int, only: str = "") -> list[Step]:
        """Restart each member whose process began before this time, the leader last.

        ``only`` is the one member (a minion) that is restarted, where not all are.
        """
        if self.steps():
            raise Refused(etcd_ha_parts.not_in_sync(self.cluster, "restarted"))
        for minion in self.leader_last():
            if only not in ("", minion):
                continue
            self.gate(minion)
            now, successor = self.now(minion), self.next_leader(minion)
            away = self.handing_to(successor)
            title = f"{self.cluster.name}: {self.members[minion].name}: {away}restart"
            step = dataclasses.replace(
                self.configured(minion, now),
                title=f"{title} {self.role_of(minion)}, then wait until it is healthy",
                why="etcd_ha.orch.restart asks for it",
                restart_before=before,
            )
            self.enter(minion, now, step)
        return [*self.taken, self.verify()]

    def replacement(self, minion: str) -> list[Step]:
        """Rebuild one member from the others, sound or not, where these are a quorum."""
        self._refuse_unknown()
        if minion not in self.ids:
            raise Refused(
                f"{minion} is not in the member list of {self.cluster.name}, so there is nothing "
                f"to replace. etcd_ha.orch adds it"
            )
        one, voters, name = self.ids[minion], self.membership.voters, self.members[minion].name
        fit = (self.membership.healthy & voters) - {one}
        if len(fit) < quorum(len(voters)):
            raise Refused(
                f"{minion} cannot be replaced: {len(fit)} of the other members are healthy, and "
                f"{quorum(len(voters))} of {len(voters)} are needed for a quorum without it. Heal "
                "the others first"
            )
        successor = self.next_leader(minion)
        self.taken.append(
            Step(
                title=f"{self.cluster.name}: {name}: {self.handing_to(successor)}stop it and give "
                f"its data up {self.role_of(minion)}",
                kind="function",
                targets=(minion,),
                function="etcd_ha_member.mark_for_replacement",
                arguments={"cluster": self.cluster.name},
                why="etcd_ha.orch.replace asks for it; its data is set aside, not deleted",
                disruptive=True,
            )
        )
        self.leader = successor or self.leader
        self.membership.remove(one)
        others = [m for m in self.match.kept if m != minion and not self.must_rejoin(m)]
        stage = self.joining_stage(others, [])
        what = f"replace {name}: out of the list, in again as a learner"
        self._add_join(minion, what, "the other members are a quorum and hold all data", stage)
        handed = Stage(**self.taken[-1].stage) if self.taken[-1].stage else None
        before = etcd_ha_parts.prepare(self.cluster, [minion], handed)
        return [before, *self.taken, self.verify()]

    # Refusals

    def _refuse_unknown(self) -> None:
        if not self.match.unknown:
            return
        told = few(
            f"{entry['name']} at {', '.join(entry['peer_urls'])}"
            if entry.get("name")
            else called(entry)
            for entry in self.match.unknown
        )
        key = f"etcd_ha:clusters:{self.cluster.name}"
        raise Refused(
            f"the cluster has members that neither the pillar nor the last converge knows "
            f"({told}). Name them under {key}:members, or set {key}:remove_unknown: true to "
            "take them out"
        )

    def _refuse_strange(self) -> None:
        if not any(self.observed[m].healthy or self.observed[m].voting for m in self.match.kept):
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
            unknown = host.has_data and not host.record
            if unknown and not etcd_ha_plan_foreign.is_known_data(host):
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

    # 1. balancers that no run came to yet; what is down or sick, and holds data

    def _lead_clients(self) -> None:
        """Set up balancers that are not, where members serve by now and others have to be healed.

        A bootstrap in which one member failed ends before them, and that member's start may fail
        again in each further run: it is no reason to serve nobody.
        """
        hosts = [self.observed[minion] for minion in self.proxies()]
        new = [h.minion for h in hosts if not h.balancer_of and not h.balancer_healthy]
        unfit = [m for m in self.match.kept if self.ids[m] not in self.membership.healthy]
        if not new or not unfit or not self._stays_as_it_is():
            return
        version, trust = self.oldest(), self.trust_at_the_end()
        self.configure_balancers(new, version, trust)
        self.led = dict.fromkeys(new, (version, trust))

    def _stays_as_it_is(self) -> bool:
        """Whether a quorum serves where and as the pillar says, with its members and its CA."""
        voters = self.membership.voters
        moves = self.match.leaving or self.match.absent or self._ways() or self.away_from_home()
        serves = len(self.membership.healthy & voters) >= quorum(len(voters))
        return serves and not moves and not self.is_held and not self.trust_meanwhile()

    def _heal(self) -> None:
        kept = [m for m in self.match.kept if m not in self.hidden and not self.must_rejoin(m)]
        stopped = [m for m in kept if not self.observed[m].active]
        sick = [m for m in kept if self.observed[m].active and not self.observed[m].healthy]
        voters = self.membership.voters
        deaf = {self.ids[m] for m in sick if self.observed[m].voting}
        fit = (self.membership.healthy | {self.ids[m] for m in stopped} | deaf) & voters
        if sick and len(fit) < quorum(len(voters)):
            paused = etcd_ha_plan_paused.words(self.cluster, self.observed)
            raise Refused(etcd_ha_parts.no_quorum(self.cluster, sick) + paused)
        for minion in stopped + sick:
            if self.ids[minion] in deaf:
                self._spare(minion, deaf)
            stage = etcd_ha_exchange.healing_stage(self, minion)
            self.take(minion, stage)
            if etcd_ha_plan_examine.is_readable(self.observed[minion]):
                self.taken.append(etcd_ha_plan_examine.compared(self.cluster, minion))

    def _leave_hidden(self) -> None:
        """End the plan where a member runs on data that its next start would not find.

        Who is down was started before. All else touches members, or would be undone by a reboot.
        """
        found = etcd_ha_plan_hidden.refusal(self.cluster, self.observed)
        if not found:
            return
        if not self.taken:
            raise Refused(found)
        raise Waits(f"all else: {found}")

    def _healing_alone(self, why: str, keeps_pairs: bool) -> list[Step]:
        """What is down comes up with the certificates in use; all else waits for good ones."""
        if not self.taken:
            raise Refused(why)
        touched = [m for step in self.taken for m in step.targets]
        prepare = etcd_ha_parts.prepare(self.cluster, touched, self.first_stage())
        healing = [dataclasses.replace(s, keeps_pairs=keeps_pairs) for s in (prepare, *self.taken)]
        return [*healing, etcd_ha_parts.again(self.cluster)]

    def _wait_for_paused(self) -> None:
        """End the plan where a change needs every member and one is paused."""
        stages = [etcd_ha_drift.stage(self.cluster, self.observed, m) for m in self.running()]
        change = etcd_ha_plan_paused.staged_change(self.cluster, stages)
        if not change:
            return
        if not self.taken:
            etcd_ha_plan_paused.refuse(self.cluster, self.observed, change)
        paused = etcd_ha_plan_paused.words(self.cluster, self.observed)
        raise Waits(f"{change}: needs every member{paused}")

    def _spare(self, minion: str, deaf: set[str]) -> None:
        """Refuse to restart a member that serves no client where its vote is needed meanwhile."""
        voters, one = self.membership.voters, self.ids[minion]
        left = ((self.membership.healthy | deaf) & voters) - {one}
        if one in voters and len(voters) >= 3 and len(left) < quorum(len(voters)):
            raise Refused(etcd_ha_parts.needed_vote(minion, len(left), len(voters)))

    # 2. balancers that the pillar no longer names

    def _leaving_balancers(self) -> list[str]:
        ours = {self.cluster.name, self.cluster.former} - {""}
        return [
            minion
            for minion in self.wanted.balancers
            if self.cluster.balancer(minion) is None
            and minion in self.observed
            and self.observed[minion].balancer_of in ours
        ]

    def _can_take_over(self, leaving: Sequence[str]) -> bool:
        """Whether leaving balancers can be stopped before those that stay are configured.

        So they should be where they hold a virtual address: the others take it over while they
        still hear that it is given up. Only where no other one serves, that has to wait.
        """
        held = self.cluster.virtual_address and any(self.observed[m].holds_address for m in leaving)
        return not held or any(self.observed[m].balancer_healthy for m in self.proxies())

    def _retire_balancers(self, leaving: Sequence[str]) -> None:
        """Stop balancers that have left, once another one can take their virtual address over."""
        silent = etcd_ha_plan_silent.balancers(self.cluster, self.observed)
        if leaving and silent:
            what = f"stop the balancer {names(leaving)}"
            self.waits.append(etcd_ha_plan_silent.waits(what, silent, self.wanted))
            return
        address = self.cluster.virtual_address
        if address and any(self.observed[m].holds_address for m in leaving):
            able = [m for m in self.proxies() if self.observed[m].balancer_healthy]
            self.taken.append(etcd_ha_parts.fit(self.cluster, able or self.proxies(), address))
        for minion in leaving:
            self.taken.append(
                Step(
                    title=f"{self.cluster.name}: stop the balancer {names([minion])}",
                    kind="function",
                    targets=(minion,),
                    function="etcd_ha_member.retire_balancer",
                    arguments={"cluster": self.observed[minion].balancer_of},
                    why="the pillar no longer names it",
                )
            )

    # 2. and 6. members that the pillar no longer names

    def _retire_leftovers(self) -> None:
        """A removal that was interrupted: out of the list, but not yet stopped and set aside."""
        listed = {str(entry.get("name")) for entry in self.match.leaving}
        for minion, known in self.wanted.managed.items():
            host = self.observed.get(minion)
            if self.cluster.member(minion) or host is None or known["name"] in listed:
                continue
            if minion in self.paused:
                continue
            if host.record and not host.healthy:
                self.add_retirement(str(known["name"]), minion)

    # 4. members whose data is gone

    def _replace(self) -> None:
        again = [m for m in self.match.kept if m in self.ids and self.must_rejoin(m)]
        if again:
            self.need(f"replace {names(again)}", authority=True)
        # etcd takes one learner at a time: those that are ones already come first. Then the leader,
        # whose data the others would get.
        for minion in sorted(again, key=self._turn_to_rejoin):
            self._rejoin(minion)

    def _turn_to_rejoin(self, minion: str) -> tuple[bool, bool]:
        return not self.match.kept[minion].get("learner"), minion != self.leader

    def _rejoin(self, minion: str) -> None:
        host, entry, one = self.observed[minion], self.match.kept[minion], self.ids[minion]
        # Who was added and has not started yet is in the list without a name.
        name = entry.get("name") or self.members[minion].name
        voter = not entry.get("learner")
        lost = entry.get("started", True) and (not host.has_data or bool(host.corrupt))
        if lost and voter and not self.membership.can_remove(one):
            raise Refused(self.cannot_replace(minion))
        if lost or not voter:
            self.membership.remove(one)
        if lost:
            first = host.record.get("state") == "bootstrapping"
            gone = "it holds no data: its first start failed" if first else "its data is gone"
            why = host.corrupt or gone
            what = f"replace {name}: out of the list, in again as a learner"
        elif host.has_data:
            why, what = "it is a learner still", f"promote {name} once caught up"
        else:
            why = "it was added to the list, but never started"
            what = f"start {name} and let it catch up"
        stage = self.present_stage([]) if lost or not host.has_data else self.now(minion)
        self._add_join(minion, what, why, stage)

    # 5., 7. and 8. rolling changes

    def _ways(self) -> list[str]:
        now = (self.now(m).transport for m in self.running())
        return etcd_ha_stages.transports(now, self.cluster.scheme)

    def _change_release(self) -> None:
        running, goal = self.running(), self.cluster.version
        releases = {self.now(m).version for m in running}
        if releases == {goal}:
            return
        oldest, newest = self.oldest(), max(releases, key=etcd_ha_release.parse)
        down = etcd_ha_stages.is_downgrade(newest, goal)
        path = [goal] if down else etcd_ha_stages.versions(oldest, goal, self._through())
        self._before_release(newest if down else oldest, down)
        for version in path:
            if not down and etcd_ha_stages.leaves_v2(oldest, version):
                self._leave_v2(running)
            self._pass(version=version, down=down)

    def _pass(
        self, version: str = "", transport: str = "", down: bool = False, keep_trust: bool = False
    ) -> None:
        """Bring all to one release or transport; with neither, to all else that differs."""
        kept = (
            keep_trust
            or version
            or transport
            or self.is_held
            or etcd_ha_trust.change_goes(self.cluster) != etcd_ha_trust.WHOLE
        )
        for minion in self.leader_last():
            now = self.now(minion)
            trust = now.trust if kept else etcd_ha_trust.ALONE
            if trust != now.trust:
                self.need("drop the former CA", balancers=True)
            stage = Stage(version or now.version, transport or now.transport, trust)
            newer = etcd_ha_release.parse(now.version) > etcd_ha_release.parse(stage.version)
            if version and newer and not down:
                continue
            if stage != now or (not version and not transport and self.differs(minion, stage)):
                self.gate(minion)
                self.take(minion, stage)
                self.see_certificates(minion, stage)

    def _before_release(self, now: str, down: bool) -> None:
        goal = self.cluster.version
        why = f"before the {'downgrade' if down else 'upgrade'} to {goal}"
        what = f"a snapshot of {now}"
        self.taken.append(etcd_ha_parts.snapshot(self.cluster, self.speaker(), what, goal, why))
        if down:
            self.taken.append(
                Step(
                    title=f"{self.cluster.name}: tell etcd to allow the downgrade to {goal}",
                    kind="function",
                    targets=(self.speaker(),),
                    function="etcd_ha_member.allow_downgrade",
                    arguments={"version": goal},
                    why="etcd refuses an older release otherwise",
                )
            )

    def _leave_v2(self, running: Sequence[str]) -> None:
        older = [m for m in running if etcd_ha_stages.has_v2(self.now(m).version)]
        if older:
            self.taken.append(
                Step(
                    title=f"{self.cluster.name}: see that 3.6 can read the log of {names(older)}",
                    kind="function",
                    targets=tuple(older),
                    function="etcd_ha_member.leave_v2",
                    why="it does not start on a log with records that only older releases read",
                )
            )

    # 9. who may do what

    def _access(self) -> tuple[list[Step], list[Step]]:
        """What comes before all else, and what after it; at most one of them is a step."""
        wanted = Access.of(self.cluster.settings["access"])
        live = etcd_ha_drift.access(self.cluster, self.observed)
        found = differences(wanted, live) if live else []
        if live is None or not found:
            return [], []
        step = etcd_ha_parts.access(self.cluster, self.speaker(), few(found, between="; "))
        return ([step], []) if live.enabled and wanted.enabled is False else ([], [step])

    # 6. new members

    def _join(self, absent: Sequence[str], stage: Stage) -> None:
        for minion in absent:
            self._add_join(
                minion,
                f"add {self.members[minion].name} as a learner, promote it once caught up",
                "the cluster's member list does not have it"
                if minion in self.wanted.managed
                else "the pillar names a new member",
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
                endpoints=self.endpoints(),
                why=why,
            )
        )
        self.membership.join(self.ids.setdefault(minion, f"new {minion}"))
        self.applied[minion] = stage
        self.serves(minion, stage)

    def _through(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.cluster.settings["upgrade"]["through"]
        return found
