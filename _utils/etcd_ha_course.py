"""What a cluster is as its plan goes on: members, health, leader, and what each step makes of it.

The steps are entered one after the other, each with its effect, so that the gates of the next one
look at the cluster as it will be by then. Which steps, and in which order: etcd_ha_convergence.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import etcd_ha_drift
import etcd_ha_environment
import etcd_ha_membership
import etcd_ha_parts
import etcd_ha_plan_examine
import etcd_ha_plan_hidden
import etcd_ha_plan_own_certificates
import etcd_ha_plan_paused
import etcd_ha_plan_reasons
import etcd_ha_plan_silent
import etcd_ha_release
import etcd_ha_space
import etcd_ha_stages
import etcd_ha_trust
from etcd_ha_etcdctl import called
from etcd_ha_membership import Entry, Match, Membership, quorum
from etcd_ha_observed import Observed, Wanted
from etcd_ha_stages import Stage
from etcd_ha_steps import Refused, Step, names
from etcd_ha_topology import Cluster


class Course:
    """The cluster in the course of its plan, and the steps taken so far."""

    def __init__(
        self,
        cluster: Cluster,
        observed: Mapping[str, Observed],
        wanted: Wanted,
        listed: tuple[Entry, ...],
    ) -> None:
        self.cluster, self.observed, self.wanted = cluster, observed, wanted
        self.paused = etcd_ha_plan_paused.minions(cluster, observed)
        # Who runs on data that its next start would not find.
        self.hidden = etcd_ha_plan_hidden.minions(cluster, observed)
        self.match: Match = self._without_paused(
            etcd_ha_membership.match(cluster, observed, wanted, listed)
        )
        # Who is paused counts as a voter that is down, and is no step's target.
        self.members = {m.minion: m for m in cluster.members if m.minion not in self.paused}
        self.ids = {minion: str(entry["id"]) for minion, entry in self.match.kept.items()}
        self.membership = Membership(
            {str(entry["id"]): entry for entry in listed},
            {self.ids[m] for m in self.ids if observed[m].healthy}
            | {str(e["id"]) for e in self.match.leaving if self.leaving_is_healthy(e)},
        )
        # A member that has not been touched yet has no stage here: its facts count.
        self.applied: dict[str, Stage] = {}
        self.leader = next((m for m in self.ids if observed[m].leader), "")
        self.balanced_for = ("", "")
        # Balancers that were set up before members were healed, and for what.
        self.led: dict[str, tuple[str, str]] = {}
        self.proxy_trust: dict[str, str] = {}
        self.taken: list[Step] = []
        # Members whose new certificates have been seen by others.
        self.seen: set[str] = set()
        # The member whose step came last, if no balancer has been asked for it yet.
        self.last_touched = ""
        # What is left for a later run, since it needs a host without facts, or one that is paused.
        self.waits: list[str] = []

    def _without_paused(self, match: Match) -> Match:
        if not self.paused:
            return match
        return dataclasses.replace(
            match,
            kept={minion: one for minion, one in match.kept.items() if minion not in self.paused},
            absent=tuple(minion for minion in match.absent if minion not in self.paused),
            leaving=tuple(
                one
                for one in match.leaving
                if etcd_ha_membership.minion_of(one, self.wanted, self.observed, self.cluster)
                not in self.paused
            ),
        )

    def now(self, minion: str) -> Stage:
        return self.applied.get(minion) or etcd_ha_drift.stage(self.cluster, self.observed, minion)

    def differs(self, minion: str, stage: Stage) -> bool:
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

    def running(self) -> list[str]:
        """The pillar's members that run by now, in the pillar's order."""
        return [m for m in self.members if m in self.ids]

    def leader_last(self) -> list[str]:
        running = self.running()
        return sorted(running, key=lambda m: (m == self.leader, running.index(m)))

    def oldest(self) -> str:
        releases = [self.now(m).version for m in self.running()]
        if not releases:
            raise Refused(etcd_ha_parts.nobody_left(self.cluster))
        return min(releases, key=etcd_ha_release.parse)

    def must_rejoin(self, minion: str) -> bool:
        host, entry = self.observed[minion], self.match.kept[minion]
        return (
            not host.has_data
            or bool(host.corrupt)
            or not entry.get("started", True)
            or bool(entry.get("learner"))
        )

    def present_stage(self, ways: Sequence[str]) -> Stage:
        """What a member joins with: no newer than the others, so that it fits all of them."""
        kept = [m for m in self.match.kept if not self.must_rejoin(m)]
        return self.joining_stage(kept, ways)

    def joining_stage(self, kept: Sequence[str], ways: Sequence[str]) -> Stage:
        """What a member joins with beside these."""
        others = [self.now(m) for m in kept]
        if not others:
            raise Refused(etcd_ha_parts.nobody_left(self.cluster))
        version = min((one.version for one in others), key=etcd_ha_release.parse)
        spoken = {one.transport for one in others}
        plain = not ways and len(spoken) == 1
        way = spoken.pop() if plain else "both"
        exchanged = any(one.trust for one in others) and way != "http"
        return Stage(version, way, etcd_ha_trust.ISSUED if exchanged else etcd_ha_trust.ALONE)

    def first_stage(self) -> Stage | None:
        """The release to lay beside the running one before the first step."""
        return next((Stage(**step.stage) for step in self.taken if step.stage), None)

    def gate(self, minion: str) -> None:
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
                f"{etcd_ha_plan_paused.words(self.cluster, self.observed)}"
            )

    def take(self, minion: str, stage: Stage) -> None:
        self.enter(minion, stage, self.configured(minion, stage))

    def enter(self, minion: str, stage: Stage, step: Step) -> None:
        """Enter a member's step, and what it makes of the cluster."""
        if step.kind == "state":
            self.look_at_last()
            self.last_touched = minion
        self.taken.append(step)
        if minion == self.leader:
            self.leader = self.successor(minion) or minion
        self.applied[minion] = stage
        self.serves(minion, stage)

    def see_certificates(self, minion: str, stage: Stage) -> None:
        """After certificates that the user brought: the next member waits for handshakes."""
        waited = etcd_ha_plan_own_certificates.waiting(self.observed[minion])
        # Between plain and TLS peers are reached in plain still.
        if not waited or stage.transport != "https" or minion in self.seen:
            return
        self.seen.add(minion)
        entry = self.membership.entries[self.ids[minion]]
        urls = [url for url in entry.get("client_urls", ()) if url.startswith("https://")]
        fit = [m for m in self.running() if m != minion and self.observed[m].healthy]
        fit = fit[:1] + [m for m in self.proxies() if self.observed[m].balancer_healthy][:1]
        peer_url = self.cluster.peer_url(self.members[minion])
        self.taken.append(
            etcd_ha_plan_own_certificates.handshakes(self.cluster, minion, fit, urls, peer_url)
        )

    def look_at_last(self) -> None:
        """Before another member is touched, have the balancers see the one before it up.

        Who is not well itself cannot tell: its own step comes after the members'.
        """
        able = [m for m in self.proxies() if m in self.observed and self._sees(m)]
        if able and self.last_touched:
            self.taken.append(etcd_ha_parts.seen(self.cluster, able, self.last_touched))
        self.last_touched = ""

    def _sees(self, minion: str) -> bool:
        return self.observed[minion].balancer_healthy

    def serves(self, minion: str, stage: Stage) -> None:
        """Enter that a member is healthy, and where it serves clients from now on."""
        one, member = self.ids[minion], self.members[minion]
        found = etcd_ha_environment.variables(
            dataclasses.replace(self.cluster, version=stage.version), member, stage.transport
        )
        urls = found["ETCD_ADVERTISE_CLIENT_URLS"].split(",")
        self.membership.entries[one] = {**self.membership.entries[one], "client_urls": urls}
        self.membership.healthy.add(one)

    def successor(self, minion: str) -> str:
        """Who leads next: a healthy voter that has been through its own restart, if any has."""
        fit = self.membership.healthy & self.membership.voters
        able = [m for m, one in self.ids.items() if one in fit and m != minion]
        return min(able, key=lambda m: m not in self.applied, default="")

    def next_leader(self, minion: str) -> str:
        """Who leads after this member's restart; empty where it does not lead."""
        return self.successor(minion) if minion == self.leader else ""

    def handing_to(self, successor: str) -> str:
        return f"move leadership to {self.members[successor].name}, " if successor else ""

    def role_of(self, minion: str) -> str:
        down = " (clients wait meanwhile)" if len(self.membership.voters) < 3 else ""
        return f"({'leader' if minion == self.leader else 'follower'}){down}"

    def configured(self, minion: str, stage: Stage) -> Step:
        member, host = self.members[minion], self.observed[minion]
        successor = self.next_leader(minion)
        disruptive = host.active or minion in self.applied
        fresh = minion not in self.applied
        changes = etcd_ha_drift.changes(self.cluster, member, host, stage) if fresh else {}
        told = etcd_ha_drift.told(changes)
        words = self._words(minion, stage, successor, told)
        return Step(
            title=f"{self.cluster.name}: {member.name}: {words}",
            kind="state",
            targets=(minion,),
            sls=("etcd_ha",),
            action="restart",
            stage=etcd_ha_drift.handed(self.cluster, stage),
            successor=self.members[successor].name if successor else "",
            why=etcd_ha_plan_examine.why_start(self.cluster, minion, host)
            or etcd_ha_plan_reasons.of_member(
                self.cluster, host, self.wanted, self.now(minion), stage, fresh
            ),
            disruptive=disruptive,
            details=etcd_ha_drift.details(changes) if told in words else [],
        )

    def _words(self, minion: str, stage: Stage, successor: str, changes: str) -> str:
        """What happens to a member, as its step's title says it; ``changes`` of its settings."""
        host, now, fresh = self.observed[minion], self.now(minion), minion not in self.applied
        away, role = self.handing_to(successor), self.role_of(minion)
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
            return f"{away}apply {changes}, restart {role}, then wait"
        if not host.healthy:
            return "apply its configuration and wait until it is healthy"
        waited = etcd_ha_plan_own_certificates.purposes(host) if fresh else ""
        if waited and not host.pending:
            return f"put its new {waited} certificates in use {role}"
        if host.pending:
            return f"{away}restart it for its new {' and '.join(host.pending)} {role}"
        return f"apply its configuration, restart only if it must {role}"

    def take_out(self, leaving: Sequence[Entry]) -> None:
        for entry in sorted(leaving, key=self.leads):
            one = str(entry["id"])
            name = called(entry)
            voter = not entry.get("learner")
            allowed = self.membership.can_remove(one) if voter else self.membership.has_quorum
            if not allowed:
                left = self.membership.voters - {one}
                fit = len(self.membership.healthy & left)
                raise Refused(
                    f"{name} cannot be taken out: {fit} of the {len(left)} members left "
                    f"would be healthy, and {quorum(len(left))} are needed. Heal or add "
                    f"others first{etcd_ha_plan_paused.words(self.cluster, self.observed)}"
                )
            minion = etcd_ha_membership.minion_of(entry, self.wanted, self.observed, self.cluster)
            self.membership.remove(one)
            self.add_removal(entry, name, minion)

    def add_removal(
        self,
        entry: Entry,
        name: str,
        minion: str | None,
        why: str = "",
    ) -> None:
        away = "move leadership away, " if self.leads(entry) else ""
        self.taken.append(
            Step(
                title=f"{self.cluster.name}: {away}take {name} out of the member list",
                kind="function",
                targets=(self.speaker(),),
                function="etcd_ha_member.remove",
                arguments={"member_id": str(entry["id"]), "name": entry.get("name", "")},
                why=why or self._why_out(entry),
                disruptive=True,
            )
        )
        if minion is not None:
            self.add_retirement(name, minion)

    def _why_out(self, entry: Entry) -> str:
        if etcd_ha_membership.is_managed(entry, list(self.wanted.managed.values())):
            return "the pillar no longer names it"
        return "neither the pillar nor the last converge knows it, and remove_unknown is set"

    def add_retirement(self, name: str, minion: str) -> None:
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

    def cannot_replace(self, minion: str) -> str:
        return (
            f"{minion} lost its data and the others have no quorum; recover from the surviving "
            f"member ({etcd_ha_parts.asked(self.cluster, 'recover')}), or restore a backup "
            f"({etcd_ha_parts.asked(self.cluster, 'restore')})"
        )

    def leads(self, entry: Entry) -> bool:
        return any(h.leader and h.member_id == entry["id"] for h in self.observed.values())

    def leaving_is_healthy(self, entry: Entry) -> bool:
        minion = etcd_ha_membership.minion_of(entry, self.wanted, self.observed, self.cluster)
        host = self.observed[minion] if minion is not None else None
        return host is not None and (host.healthy or host.voting)

    def speaker(self) -> str:
        """The member that acts for the cluster: healthy, stays, and does not lead if possible."""
        staying = [m for m in self.ids if self.ids[m] in self.membership.healthy]
        able = [m for m in staying if self.observed[m].healthy] or staying
        if not able:
            raise Refused(etcd_ha_parts.nobody_left(self.cluster))
        return min(able, key=lambda m: self.observed[m].leader)

    def endpoints(self) -> str:
        """Where the healthy voters serve clients now, as etcdctl takes it."""
        fit = [e for one, e in self.membership.entries.items() if one in self.membership.healthy]
        return ",".join(url for entry in fit for url in entry.get("client_urls", ()))

    # Balancers

    def proxies(self) -> list[str]:
        return [b.minion for b in self.cluster.balancers if b.minion in self.observed]

    @property
    def is_held(self) -> bool:
        """Whether certificates stay as they are, since the CA gives no facts."""
        return etcd_ha_trust.is_held(self.cluster, self.observed)

    def need(self, what: str, authority: bool = False, balancers: bool = False) -> None:
        """End the plan here where this needs the CA or the balancers, and they give no facts."""
        silent = etcd_ha_plan_silent.balancers(self.cluster, self.observed) if balancers else []
        # A balancer's configuration goes by the phase of its CA.
        if (authority or (balancers and self.cluster.balancers)) and self.is_held:
            silent.append(etcd_ha_plan_silent.authority(self.cluster, self.observed))
        if silent:
            raise etcd_ha_plan_silent.Waits(
                etcd_ha_plan_silent.waits(what, list(dict.fromkeys(silent)), self.wanted)
            )

    def verify(self) -> Step:
        silent = etcd_ha_plan_silent.all_of(self.cluster, self.observed)
        apart = [*self.paused, *self._waiting()]
        return etcd_ha_parts.verify(self.cluster, silent, apart)

    def _waiting(self) -> list[str]:
        """Members that join in a later run, since this plan waits: no balancer knows them yet."""
        taken = {minion for step in self.taken for minion in step.targets}
        absent = [m for m in self.members if m not in self.ids and m not in taken]
        return absent if self.waits else []

    def proxy_phase(self, minion: str) -> str:
        if not self.cluster.tls:
            return etcd_ha_trust.ALONE
        if self.is_held:
            return etcd_ha_trust.HELD
        wanted = etcd_ha_trust.authority(self.cluster, self.observed, minion)
        return etcd_ha_trust.phase(self.observed[minion].balancer_trust, wanted)

    def speaks_tls(self, minion: str) -> bool:
        return self.cluster.tls and self.now(minion).transport != "http"

    def trust_meanwhile(self) -> str:
        """What balancers trust while members still are in different phases."""
        if self.is_held:
            return etcd_ha_trust.HELD
        phases = {self.now(m).trust for m in self.running()}
        return next((p for p in (etcd_ha_trust.BOTH, etcd_ha_trust.ISSUED) if p in phases), "")

    def trust_at_the_end(self) -> str:
        paused = self.is_held or etcd_ha_trust.change_goes(self.cluster) != etcd_ha_trust.WHOLE
        return self.trust_meanwhile() if paused else etcd_ha_trust.ALONE

    def stale_proxies(self, trust: str) -> list[str]:
        """The balancers that have to be configured."""
        stale = etcd_ha_drift.stale(self.cluster, self.proxies(), self.observed, self.wanted)
        # With that alarm no member is healthy to a balancer, whatever its configuration is.
        full = etcd_ha_space.is_full(self.observed)
        return [
            m
            for m in self.proxies()
            if m in stale
            or not (full or self.observed[m].balancer_healthy)
            or self.proxy_trust.get(m, self.proxy_phase(m)) != trust
        ]

    def balance_ahead(self) -> None:
        """Before members serve clients elsewhere, have the balancers know both places.

        Otherwise fewer are left to a balancer with each that moves, and none after the last one.
        """
        if self.away_from_home():
            self.need("lead it to the members' new endpoints", balancers=True)
            trust = self.trust_meanwhile()
            self.configure_balancers(self.stale_proxies(trust), self.oldest(), trust)

    def away_from_home(self) -> dict[str, list[str]]:
        """Where the pillar's healthy members serve clients now, if not all do where it says.

        minion -> host:port
        """
        fit = [m for m in self.running() if self.ids[m] in self.membership.healthy]
        urls = {m: self.membership.entries[self.ids[m]].get("client_urls", ()) for m in fit}
        found = {
            m: list(dict.fromkeys(urlsplit(url).netloc for url in given))
            for m, given in urls.items()
            if given
        }
        home = all(places == [self.endpoint(m)] for m, places in found.items())
        return {} if home else found

    def endpoint(self, minion: str) -> str:
        """Where the pillar has a member serve clients, as host:port."""
        return urlsplit(self.cluster.client_url(self.members[minion])).netloc

    def balance(self, version: str, trust: str) -> None:
        """Configure the balancers; while members are older, with the checks that these know."""
        if self.balanced_for == (version, trust):
            return
        self.balanced_for = (version, trust)
        stale = [m for m in self.stale_proxies(trust) if self.led.get(m) != (version, trust)]
        if stale and self.is_held:
            silent = [etcd_ha_plan_silent.authority(self.cluster, self.observed)]
            what = f"configure the balancer {names(stale)}"
            self.waits.append(etcd_ha_plan_silent.waits(what, silent, self.wanted))
            return
        self.configure_balancers(stale, version, trust)

    def configure_balancers(self, proxies: Sequence[str], version: str, trust: str) -> None:
        """Configure balancers, all at once unless they share an address.

        Then one after the other, who holds the address last, and only once the others could take
        it over: so it moves once at most.
        """
        if not self.cluster.virtual_address or len(proxies) < 2:
            self._configure_together(proxies, version, trust)
            return
        holders = [m for m in proxies if self.observed[m].holds_address]
        others = [m for m in proxies if m not in holders]
        for minion in others:
            self._configure_together([minion], version, trust)
        if holders and others:
            self.taken.append(etcd_ha_parts.fit(self.cluster, others, self.cluster.virtual_address))
        for minion in holders:
            self._configure_together([minion], version, trust)

    def _configure_together(self, proxies: Sequence[str], version: str, trust: str) -> None:
        if not proxies:
            return
        stage = Stage(version, self.cluster.scheme, trust)
        exchanged = [self.proxy_trust.get(m, self.proxy_phase(m)) != trust for m in proxies]
        words = f": {etcd_ha_drift.trusted(stage)}" if any(exchanged) else ""
        self.proxy_trust |= dict.fromkeys(proxies, trust)
        what = f"configure the balancer {names(proxies)}"
        hosts = [self.observed[minion] for minion in proxies]
        why = etcd_ha_plan_reasons.of_balancers(self.cluster, hosts, self.wanted, exchanged)
        present = self.away_from_home()
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
