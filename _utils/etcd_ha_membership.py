"""The cluster's own member list against the pillar's: who stays, joins, is replaced, or leaves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from etcd_ha_observed import Observed, Wanted
from etcd_ha_topology import Cluster, Member

Entry = Mapping[str, Any]


def quorum(voters: int) -> int:
    """How many of the voters must agree."""
    return voters // 2 + 1


@dataclass
class Membership:
    """Voters and health as the plan goes on: each step's effect is entered before the next."""

    entries: dict[str, Entry] = field(default_factory=dict)
    healthy: set[str] = field(default_factory=set)

    @property
    def voters(self) -> set[str]:
        """The ids of the members that vote."""
        return {key for key, entry in self.entries.items() if not entry.get("learner")}

    @property
    def has_quorum(self) -> bool:
        """Whether the cluster can write."""
        return len(self.healthy & self.voters) >= quorum(len(self.voters))

    def can_spare(self, one: str) -> bool:
        """Whether the cluster works while this member is down for a moment."""
        return len((self.healthy & self.voters) - {one}) >= quorum(len(self.voters))

    def can_remove(self, one: str) -> bool:
        """Whether the voters left are healthy enough to be a quorum of themselves.

        The removal itself needs a quorum of the present voters, too.
        """
        left = self.voters - {one}
        if not left:
            return False
        return self.has_quorum and len(self.healthy & left) >= quorum(len(left))

    def can_promote(self) -> bool:
        """Whether one more voter, itself healthy, leaves a quorum."""
        voters = len(self.voters) + 1
        return self.has_quorum and len(self.healthy & self.voters) + 1 >= quorum(voters)

    def remove(self, one: str) -> None:
        """Enter that a member was taken out of the list."""
        self.entries.pop(one, None)
        self.healthy.discard(one)

    def join(self, one: str) -> None:
        """Enter that a member has joined, caught up and been promoted."""
        self.entries[one] = {"id": one, "learner": False, "started": True}
        self.healthy.add(one)


@dataclass(frozen=True)
class Match:
    """Which entry of the member list is which member of the pillar's."""

    kept: Mapping[str, Entry]
    absent: tuple[str, ...]
    leaving: tuple[Entry, ...]
    unknown: tuple[Entry, ...]
    # Of the pillar's members without facts.
    silent: tuple[Entry, ...] = ()


def own(cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted) -> dict[str, Observed]:
    """The hosts that have or had a part in this cluster; what others say is of another one."""
    names = {cluster.name, cluster.former} - {""}
    known = {*cluster.hosts, *wanted.managed, *wanted.balancers}
    return {
        minion: host
        for minion, host in observed.items()
        if minion in known or host.record.get("cluster") in names or host.balancer_of in names
    }


def live(cluster: Cluster, observed: Mapping[str, Observed]) -> tuple[Entry, ...]:
    """The member list as a healthy member tells it; empty when none does."""
    everyone = [observed[m.minion] for m in cluster.members if m.minion in observed]
    everyone += [host for minion, host in observed.items() if cluster.member(minion) is None]
    return next((tuple(host.members) for host in everyone if host.healthy and host.members), ())


def match(
    cluster: Cluster, observed: Mapping[str, Observed], wanted: Wanted, listed: tuple[Entry, ...]
) -> Match:
    """Match by member id, else by peer address, else by name."""
    free = {str(entry.get("id", number)): entry for number, entry in enumerate(listed)}
    kept: dict[str, Entry] = {}
    for same in (_same_id, _same_address, _same_name):
        for member in cluster.members:
            host = observed.get(member.minion)
            if member.minion in kept or host is None:
                continue
            for key, entry in free.items():
                if same(cluster, member, host, entry):
                    kept[member.minion] = free.pop(key)
                    break
    silent = []
    for member in (m for m in cluster.members if m.minion not in observed):
        for key, entry in list(free.items()):
            if _is_of(cluster, member, entry):
                silent.append(free.pop(key))
    managed = list(wanted.managed.values())
    leaving = [entry for entry in free.values() if is_managed(entry, managed)]
    unknown = [entry for entry in free.values() if entry not in leaving]
    if cluster.settings["remove_unknown"]:
        leaving, unknown = leaving + unknown, []
    absent = tuple(
        m.minion for m in cluster.members if m.minion not in kept and m.minion in observed
    )
    return Match(kept, absent, tuple(leaving), tuple(unknown), tuple(silent))


def minion_of(
    entry: Entry, wanted: Wanted, observed: Mapping[str, Observed], cluster: Cluster
) -> str | None:
    """The minion that runs a member which the pillar no longer names, if it answered."""
    for minion, host in observed.items():
        if cluster.member(minion) is None and host.member_id == entry.get("id") != "":
            return minion
    for minion, known in wanted.managed.items():
        if minion in observed and _is_known_as(entry, known) and cluster.member(minion) is None:
            return minion
    return None


def _same_id(cluster: Cluster, member: Member, host: Observed, entry: Entry) -> bool:
    return bool(host.member_id) and host.member_id == entry.get("id")


def _is_of(cluster: Cluster, member: Member, entry: Entry) -> bool:
    """Whether an entry is of a member whose host says nothing of it."""
    addresses = {_address(url) for url in entry.get("peer_urls", ())}
    return member.name == entry.get("name") or _address(cluster.peer_url(member)) in addresses


def _same_address(cluster: Cluster, member: Member, host: Observed, entry: Entry) -> bool:
    return _address(cluster.peer_url(member)) in {_address(u) for u in entry.get("peer_urls", ())}


def _same_name(cluster: Cluster, member: Member, host: Observed, entry: Entry) -> bool:
    return member.name == entry.get("name")


def _address(url: str) -> str:
    """Host and port: a change from http to https is no other member."""
    return urlsplit(url).netloc


def _is_known_as(entry: Entry, known: Mapping[str, str]) -> bool:
    addresses = {_address(url) for url in entry.get("peer_urls", ())}
    return known.get("name") == entry.get("name") or _address(known["peer_url"]) in addresses


def is_managed(entry: Entry, managed: list[Mapping[str, str]]) -> bool:
    """Whether this is a member of the last converge."""
    return any(_is_known_as(entry, known) for known in managed)
