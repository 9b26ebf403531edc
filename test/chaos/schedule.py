"""The schedule of a campaign: from a seed to rounds of one operation and the faults beside it.

Each round is drawn by a generator of its own (seed and number), so that the rounds of a seed are
the same however many are asked for. What is in force (members, release, whether there is a backup)
is followed as the operations mean to leave it: the campaign converges to it at the end of a round.

How much may fail at once is what the formula promises to survive: no round has more members in
trouble at the same time than a quorum can spare, only one disk in it is destroyed, and then nobody
else is in trouble; unless the round means to lose quorum, and to recover it.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

# Faults of a member that pass with its data intact.
PASSING = (
    *("etcd_kill", "minion_kill", "power", "freeze", "cut", "deaf", "mute", "flap", "fill"),
    "power_hard",
)
# Faults after which a member's data is gone or wrong.
DESTRUCTIVE = ("wipe", "new_disk", "flip_wal", "flip_db")
# Faults of others than members.
AROUND = ("balancer", "master", "master_kill")
KINDS = (*PASSING, *DESTRUCTIVE, *AROUND)
# What cannot be done in the lab, and why; the report says so.
IMPOSSIBLE = {
    "clock": "no namespace has a wall clock of its own, and the machine's stays as it is; what a "
    "process sees of a jump forward is seen after a freeze",
}
# Faults that are over at once.
SHORT = ("etcd_kill", "minion_kill", "wipe", "master_kill")

OPERATIONS = (
    *("converge", "option", "data_dir", "compaction", "grow", "shrink", "restart", "upgrade"),
    *("downgrade", "backup", "defrag", "rotate_ca", "restore", "recover", "blackout"),
)
# Operations in which the cluster is meant to be without quorum for a while.
LOSING = ("restore", "recover", "blackout")
WEIGHTS = {
    **dict.fromkeys(OPERATIONS, 2),
    **{"converge": 4, "option": 3, "restart": 3, "recover": 1, "blackout": 1, "restore": 1},
}
RELEASES = ("3.5.33", "3.6.14", "3.7.1")
THREE, FIVE = 3, 5
# Seconds.
LONGEST_FAULT = 10.0
LATEST_FAULT = 12.0


@dataclass(frozen=True)
class Fault:
    """One fault: what, on whom, how long after the operation's begin, and for how long.

    ``who`` is ``leader``, ``follower`` or the name of a host; ``spot`` (0 to 1) chooses among
    followers, bytes and the like.
    """

    kind: str
    who: str
    at: float
    lasts: float
    spot: float

    @property
    def over(self) -> float:
        return self.at + self.lasts

    @property
    def troubles_member(self) -> bool:
        return self.kind not in AROUND

    @property
    def destroys(self) -> bool:
        return self.kind in DESTRUCTIVE


@dataclass(frozen=True)
class State:
    """What the pillar asks for."""

    members: int = THREE
    version: str = "3.6.14"
    settings: tuple[tuple[str, Any], ...] = ()
    backed_up: bool = False

    def having(self, name: str, value: Any) -> "State":
        """The same with one setting of the cluster; None takes it away."""
        kept = [(key, one) for key, one in self.settings if key != name]
        return replace(self, settings=tuple(kept + ([(name, value)] if value is not None else [])))


@dataclass(frozen=True)
class Round:
    """One operation with the faults beside it. ``state`` is what is in force in the end."""

    number: int
    operation: str
    state: State
    faults: tuple[Fault, ...] = ()
    # With ``recover`` and ``blackout``: who is lost, as numbers of members in their order.
    lost: tuple[int, ...] = ()

    def __str__(self) -> str:
        told = [f"round {self.number}: {self.operation}"]
        told += [f"{f.kind} {f.who} at {f.at:.1f} s for {f.lasts:.1f} s" for f in self.faults]
        if self.lost:
            told.append(f"lost: members {', '.join(str(n + 1) for n in self.lost)}")
        return "; ".join(told)


@dataclass(frozen=True)
class Limits:
    """What a campaign draws from."""

    kinds: Sequence[str] = KINDS
    operations: Sequence[str] = OPERATIONS
    releases: Sequence[str] = RELEASES
    balancers: int = 2
    largest: int = FIVE


@dataclass
class Schedule:
    """The rounds of a seed, one after the other, without end."""

    seed: int
    limits: Limits = field(default_factory=Limits)
    state: State = field(default_factory=State)

    def __iter__(self) -> Iterator[Round]:
        number = 0
        while True:
            number += 1
            made = self.round(number)
            self.state = made.state
            yield made

    def round(self, number: int) -> Round:
        """The round of this number, from the state that is in force now."""
        chance = random.Random(f"{self.seed}/{number}")
        operation = self._operation(chance)
        state, lost = self._after(chance, operation)
        # Fewer may fail while members join or leave than with all of them.
        fewest = min(self.state.members, state.members)
        alone = operation in ("recover", "blackout")
        faults = () if alone else self._faults(chance, operation, fewest)
        return Round(number, operation, state, faults, lost)

    def _operation(self, chance: random.Random) -> str:
        able = [one for one in self.limits.operations if self._can(one)]
        return chance.choices(able, [WEIGHTS[one] for one in able])[0]

    def _can(self, operation: str) -> bool:
        at = self._release()
        return {
            "grow": self.state.members < self.limits.largest,
            "shrink": self.state.members > THREE,
            "upgrade": at + 1 < len(self.limits.releases),
            # From 3.6 on, by one line.
            "downgrade": at > 0 and not self.state.version.startswith(("3.4.", "3.5.")),
            "restore": self.state.backed_up,
        }.get(operation, True)

    def _release(self) -> int:
        return list(self.limits.releases).index(self.state.version)

    def _after(self, chance: random.Random, operation: str) -> tuple[State, tuple[int, ...]]:
        """What is in force after an operation, and whom it loses."""
        state = self.state
        if operation in ("grow", "shrink"):
            state = replace(state, members=self.limits.largest if operation == "grow" else THREE)
        elif operation in ("upgrade", "downgrade"):
            step = 1 if operation == "upgrade" else -1
            state = replace(state, version=self.limits.releases[self._release() + step])
        elif operation == "backup":
            state = replace(state, backed_up=True)
        elif operation == "option":
            options = {"heartbeat-interval": chance.randrange(100, 151, 10)}
            state = state.having("options", options)
        elif operation == "data_dir":
            moved = dict(state.settings).get("data_dir")
            state = state.having("data_dir", None if moved else "/var/lib/etcd-moved")
        elif operation == "compaction":
            mode = {"mode": "periodic", "retention": f"{chance.randrange(1, 6)}h"}
            state = state.having("maintenance", {"compaction": mode})
        lost: tuple[int, ...] = ()
        if operation in ("recover", "blackout"):
            majority = state.members // 2 + 1
            count = majority if operation == "recover" else state.members
            lost = tuple(sorted(chance.sample(range(state.members), count)))
        return state, lost

    def _faults(self, chance: random.Random, operation: str, members: int) -> tuple[Fault, ...]:
        """So many faults as may be, each drawn until it fits beside the others."""
        faults: list[Fault] = []
        for _ in range(chance.choice((1, 1, 2, 2, 3))):
            for _ in range(20):
                one = self._fault(chance)
                if not too_much([*faults, one], operation, members, self.limits):
                    faults.append(one)
                    break
        return tuple(sorted(faults, key=lambda fault: fault.at))

    def _fault(self, chance: random.Random) -> Fault:
        kind = chance.choice(list(self.limits.kinds))
        if kind in ("master", "master_kill"):
            who = "master"
        elif kind == "balancer":
            who = "lb" if chance.random() < 0.5 or self.limits.balancers < 2 else "lb2"
        else:
            who = chance.choice(("leader", "follower", "follower"))
        at = round(chance.uniform(0, LATEST_FAULT), 1)
        lasts = 0.0 if kind in SHORT else round(chance.uniform(2, LONGEST_FAULT), 1)
        return Fault(kind, who, at, lasts, round(chance.random(), 3))


# A member needs so many seconds after a fault to serve again.
RECOVERY = 10.0


def too_much(faults: Sequence[Fault], operation: str, members: int, limits: Limits) -> str:
    """Why these faults are more than the formula promises to survive; empty where they are not."""
    of_members = [fault for fault in faults if fault.troubles_member]
    destroyed = [fault for fault in faults if fault.destroys]
    if destroyed and len(of_members) > 1:
        return "a disk is destroyed while another member is in trouble"
    if destroyed and operation in LOSING:
        return "a disk is destroyed in an operation that gives up the present data"
    # The operation itself takes members down, one at a time, where it finds that it may.
    spare = (members - 1) // 2
    for fault in of_members:
        at_once = [o for o in of_members if o.at < fault.over + RECOVERY and fault.at < o.over]
        if len(at_once) > spare:
            return f"{len(at_once)} members are in trouble at once, and {spare} may be"
    balancers = [fault for fault in faults if fault.kind == "balancer"]
    for fault in balancers:
        at_once = [o for o in balancers if o.at < fault.over + RECOVERY and fault.at < o.over]
        if len({one.who for one in at_once}) >= max(limits.balancers, 2):
            return "all balancers are lost at once"
    named = [fault.who for fault in faults if fault.who.startswith(("lb", "master"))]
    if len(named) != len(set(named)):
        return "a host is in trouble twice"
    return ""
