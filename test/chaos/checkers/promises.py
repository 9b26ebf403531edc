"""Whether what the formula did to its members kept the planner's promises.

Not the planner is asked, but what was seen: the steps as the master's event bus told them, and the
members as a stranger found them twice a second. The promises (README, docs/orchestrate.md):

- No step takes down a member that serves unless the healthy voters left are a quorum.
- No step takes a member out unless the healthy voters left are a quorum of the voters left; so the
  last copy of the data is never given away.
- One member at a time.
- No second bootstrap; one cluster id until a restore or a recovery was asked for.
- Who is stopped for good is no voter any more.

A step is judged by the best of what was seen from some seconds before it until it had its effect:
its own gate looks at any moment in between. Where a fault of the campaign's own came just before
it, the formula could not know; and where nobody was told whether it did anything, a fault may have
been what was seen. Such steps are not judged, and counted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from chaos.history import Violation

# Seconds before a step in which its gate must have found what it needs.
BEFORE = 4.0
# Below this many voters a restart costs the quorum, and the plan says so.
ENOUGH = 3
# While it is lost, returns of minions wait, and come late.
MASTER = "master"


@dataclass(frozen=True)
class Sample:
    """The members at one moment: who votes, who serves, and as which clusters."""

    at: float
    voters: frozenset[str]
    healthy: frozenset[str]
    clusters: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Deed:
    """A step of the formula on one host.

    ``kind`` is ``restart``, ``join`` (also in the place of a member that is taken out), ``remove``,
    ``retire``, ``bootstrap`` or ``defragment``. ``changed`` is whether it did anything, None where
    nobody was told. One ``job`` on several hosts is one step.
    """

    at: float
    ended: float | None
    kind: str
    host: str
    changed: bool | None = True
    job: str = ""


@dataclass(frozen=True)
class Trouble:
    """A fault of the campaign on a host, until it was healed."""

    at: float
    ended: float
    host: str


@dataclass
class Judged:
    """The violations, and how many steps were judged or could not be."""

    violations: list[Violation] = field(default_factory=list)
    judged: int = 0
    unjudged: int = 0


def check(
    samples: Sequence[Sample],
    deeds: Iterable[Deed],
    troubles: Sequence[Trouble] = (),
    cuts: Sequence[float] = (),
) -> Judged:
    """``cuts`` are the moments at which a restore or a recovery was asked for."""
    found = Judged()
    done = sorted((d for d in deeds if d.changed is not False), key=lambda deed: deed.at)
    for deed in done:
        window = _until_effect(deed, samples)
        until = float("inf") if deed.ended is None else deed.ended
        disturbed = any(t.at <= until and t.ended >= deed.at - BEFORE for t in troubles)
        surprised = any(deed.at - BEFORE <= t.at <= deed.at for t in troubles)
        if deed.kind == "bootstrap":
            found.judged += 1
            found.violations += _second(deed, samples, cuts)
        elif deed.kind == "defragment":
            continue
        elif not window or surprised or (deed.changed is None and disturbed):
            found.unjudged += 1
        else:
            found.judged += 1
            found.violations += _costs(deed, window)
    found.violations += _at_once(done, [t for t in troubles if t.host == MASTER])
    found.violations += _other_clusters(samples, cuts)
    return found


def quorum(voters: int) -> int:
    return voters // 2 + 1


def _until_effect(deed: Deed, samples: Sequence[Sample]) -> list[Sample]:
    """What was seen from before a step until its host was down or out."""
    until = deed.at if deed.ended is None else deed.ended
    found: list[Sample] = []
    for sample in samples:
        if not deed.at - BEFORE <= sample.at <= until:
            continue
        down = deed.kind == "restart" and deed.host not in sample.healthy
        if sample.at > deed.at and found and (down or deed.host not in sample.voters):
            break
        found.append(sample)
    return found


def _costs(deed: Deed, window: Sequence[Sample]) -> list[Violation]:
    """Whether no moment in the window allowed this step."""
    if any(_is_safe(deed, sample) for sample in window):
        return []
    last = window[-1]
    told = (
        f"{deed.kind} of {deed.host} at {deed.at:.1f}: voters {', '.join(sorted(last.voters))}; "
        f"healthy {', '.join(sorted(last.healthy)) or 'none'}"
    )
    rule = "a voter is stopped for good" if deed.kind == "retire" else "a step costs the quorum"
    return [Violation(rule, told)]


def _is_safe(deed: Deed, sample: Sample) -> bool:
    left = sample.voters - {deed.host}
    fit = len(sample.healthy & left)
    if deed.kind == "retire" or deed.host not in sample.voters:
        return deed.host not in sample.voters
    if deed.kind == "restart":
        serves = deed.host in sample.healthy and len(sample.voters) >= ENOUGH
        return not serves or fit >= quorum(len(sample.voters))
    if deed.kind == "join" and deed.host in sample.healthy:
        # It serves and is only looked at, or promoted; it is not taken out.
        return True
    return fit >= quorum(len(left))


def _second(deed: Deed, samples: Sequence[Sample], cuts: Sequence[float]) -> list[Violation]:
    since = max((cut for cut in cuts if cut <= deed.at), default=float("-inf"))
    lived = [s for s in samples if since <= s.at < deed.at - BEFORE and s.healthy]
    if not lived:
        return []
    told = f"at {deed.at:.1f} on {deed.host}; it had served at {lived[0].at:.1f}"
    return [Violation("a second bootstrap", told)]


def _at_once(deeds: Sequence[Deed], blind: Sequence[Trouble]) -> list[Violation]:
    """Members that are worked on at the same time, by steps of their own.

    ``blind`` is when returns came late: how long a step of then took is not known.
    """
    found, last = [], None
    for deed in (d for d in deeds if d.kind in ("restart", "join", "remove", "defragment")):
        if last is not None and _overlap(last, deed) and not _touches(last, blind):
            told = f"{last.kind} of {last.host} until {last.ended:.1f}, "
            told += f"{deed.kind} of {deed.host} from {deed.at:.1f} on"
            found.append(Violation("two members at once", told))
        if last is None or (deed.ended or deed.at) >= (last.ended or last.at):
            last = deed
    return found


def _touches(deed: Deed, times: Sequence[Trouble]) -> bool:
    return any(t.at <= (deed.ended or deed.at) and t.ended >= deed.at for t in times)


def _overlap(first: Deed, second: Deed) -> bool:
    same = first.host == second.host or (first.job == second.job != "")
    return not same and first.ended is not None and second.at < first.ended


def _other_clusters(samples: Sequence[Sample], cuts: Sequence[float]) -> list[Violation]:
    """Between two cuts one cluster id serves; after a cut the next one takes its place, once."""
    found = []
    for era, since in enumerate([float("-inf"), *cuts]):
        until = cuts[era] if era < len(cuts) else float("inf")
        ids: list[str] = []
        for sample in samples:
            if since <= sample.at < until:
                ids += [one for one in sorted(sample.clusters) if [one] != ids[-1:]]
        allowed = 2 if era else 1
        if len(ids) > allowed:
            told = f"{' -> '.join(ids[:6])} between two restores"
            found.append(Violation("another cluster", told))
    return found
