"""Whether a history is linearizable: each operation took effect at one moment of its time.

Each key is a register of its own, and a history is linearizable if that of each key is (locality:
Herlihy and Wing, "Linearizability", 1990). Per key it is the search of Wing and Gong ("Testing and
Verifying Concurrent Objects", 1993): take any operation that nobody precedes, apply it, go on; go
back where the answers do not fit. Lowe ("Testing for linearizability", 2017) remembers which sets
of operations, with which state, were met before, and so never walks from them again.

An operation of unknown outcome may take effect at any time after its invocation, so it never has
to be before another one. All values are written once at most; so a write of unknown outcome whose
value nobody saw need not be looked at (without it the same answers fit), and one whose value was
seen took effect before the first who saw it had its answer.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from chaos.history import FAILED, OK, UNKNOWN, Operation, Violation

# How many (operations, state) are remembered for one key before the search gives up and says so.
LIMIT = 2_000_000


class Undecided(Exception):
    """The search was given up."""


def check(operations: Iterable[Operation], limit: int = LIMIT) -> list[Violation]:
    """The keys whose history is not linearizable, and those that could not be decided."""
    found = []
    for key, own in sorted(by_key(operations).items()):
        try:
            stuck = search(relevant(own), limit)
        except Undecided:
            told = f"{key}: {len(own)} operations were too many to decide; use each key less long"
            found.append(Violation("linearizability undecided", told))
            continue
        if stuck is not None:
            found.append(Violation("not linearizable", f"{key}: {stuck}"))
    return found


def by_key(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    """The operations that can have had an effect or an answer, by their key."""
    found: dict[str, list[Operation]] = {}
    for one in operations:
        if one.outcome != FAILED and not (one.kind == "get" and one.outcome == UNKNOWN):
            found.setdefault(one.key, []).append(one)
    return found


def relevant(operations: Sequence[Operation]) -> list[Operation]:
    """Without writes of unknown outcome whose value nobody saw; the others with an end, if any."""
    values = [one.value for one in operations if one.kind in ("put", "cas")]
    if len(set(values)) != len(values):
        return list(operations)
    seen = _seen(operations)
    kept = []
    for one in operations:
        if one.outcome == UNKNOWN and one.kind != "delete":
            if one.value not in seen:
                continue
            if seen[one.value] < math.inf:
                one = dataclasses.replace(one, ended=seen[one.value])
        kept.append(one)
    return kept


def _seen(operations: Sequence[Operation]) -> dict[str | None, float]:
    """Value -> until when it had been written, by the first answer that tells of it."""
    seen: dict[str | None, float] = {}

    def note(value: str | None, by: float) -> None:
        seen[value] = min(by, seen.get(value, math.inf))

    unknown = [one for one in operations if one.outcome == UNKNOWN and one.kind == "cas"]
    for one in operations:
        if one.outcome == OK and one.ended is not None:
            if one.read:
                note(one.found, one.ended)
            elif one.kind == "cas":
                note(one.expected, one.ended)
    # A cas of unknown outcome that did happen has seen what it expected.
    fresh = True
    while fresh:
        fresh = False
        for one in unknown:
            if one.value in seen and one.expected not in seen:
                note(one.expected, seen[one.value])
                fresh = True
    return seen


_IMPOSSIBLE = object()


def apply(state: str | None, one: Operation) -> object:
    """The register after an operation, or _IMPOSSIBLE where its answer does not fit the state."""
    known = one.outcome == OK
    if one.kind == "get":
        return state if state == one.found else _IMPOSSIBLE
    if one.kind == "put":
        return one.value
    if one.kind == "delete":
        fits = state is not None and state == one.found if one.succeeded else state is None
        return None if fits or not known else _IMPOSSIBLE
    if not known:
        return one.value if state == one.expected else state
    if one.succeeded:
        return one.value if state == one.expected else _IMPOSSIBLE
    return state if state != one.expected and state == one.found else _IMPOSSIBLE


class _Entry:
    """An invocation (``match`` is its response) or a response, in a list by time."""

    __slots__ = ("after", "before", "bit", "match", "one")

    def __init__(self, one: Operation | None, bit: int = 0) -> None:
        self.one, self.bit = one, bit
        self.before: _Entry | None = None
        self.after: _Entry | None = None
        self.match: _Entry | None = None


def _listed(operations: Sequence[Operation]) -> _Entry:
    """The head of the list; what happens at the same time counts as concurrent."""
    rows = []
    for number, one in enumerate(operations):
        call, response = _Entry(one, 1 << number), _Entry(one)
        call.match = response
        ended = math.inf if one.ended is None else one.ended
        rows += [(one.began, 0, number, call), (max(ended, one.began), 1, number, response)]
    rows.sort(key=lambda row: row[:3])
    head = last = _Entry(None)
    for *_, entry in rows:
        last.after, entry.before = entry, last
        last = entry
    return head


def _lift(call: _Entry) -> None:
    for entry in (call, call.match):
        entry.before.after = entry.after
        if entry.after is not None:
            entry.after.before = entry.before


def _put_back(call: _Entry) -> None:
    for entry in (call.match, call):
        entry.before.after = entry
        if entry.after is not None:
            entry.after.before = entry


def search(operations: Sequence[Operation], limit: int = LIMIT) -> str | None:
    """None where the history of one key is linearizable, or where the longest try ended."""
    head = _listed(operations)
    state: str | None = None
    done, taken, seen = 0, [], set()
    best, told = -1, ""
    entry = head.after
    while head.after is not None:
        if entry.match is not None:
            new = apply(state, entry.one)
            if new is not _IMPOSSIBLE and (done | entry.bit, new) not in seen:
                seen.add((done | entry.bit, new))
                if len(seen) > limit:
                    raise Undecided
                taken.append((entry, state))
                state, done = new, done | entry.bit
                _lift(entry)
                entry = head.after
            else:
                entry = entry.after
            continue
        # A response whose invocation was not taken: all that could come before it was tried.
        if len(taken) > best:
            best = len(taken)
            held = "no value" if state is None else f"the value {state}"
            last = f", written or read by {taken[-1][0].one}" if taken else ""
            told = f"{entry.one} does not fit {held}{last}"
        if not taken:
            return told
        entry, state = taken.pop()
        done ^= entry.bit
        _put_back(entry)
        entry = entry.after
    return None
