"""Whether watchers were told of all that happened, in its order, and once.

etcd promises that events are ordered by revision, never told twice, and that none of a sequence is
left out; a stream that broke is resumed behind the last revision.
https://etcd.io/docs/v3.6/learning/api_guarantees/#watch-apis
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from chaos.history import FAILED, Operation, Violation, WatchEvent


@dataclass
class Watched:
    """What one watcher was told, and which revisions it must have been told of."""

    name: str
    events: list[WatchEvent] = field(default_factory=list)
    # First and last revision of each stretch without a gap.
    stretches: list[list[int]] = field(default_factory=list)

    def covers(self, revision: int) -> bool:
        return any(first <= revision <= last for first, last in self.stretches)


def check(
    operations: Iterable[Operation],
    watched: Iterable[WatchEvent],
    wanted: Iterable[tuple[str, int]] = (),
) -> list[Violation]:
    """``wanted`` is, for each watcher, the revision that it had to reach in the end."""
    everyone, found = {}, []
    for row in watched:
        one = everyone.setdefault(row.watcher, Watched(row.watcher))
        found += _follow(one, row)
    writes = [one for one in operations if one.kind in ("put", "cas", "delete")]
    for one in everyone.values():
        found += _missing(one, [w for w in writes if w.wrote])
        found += _strange(one, writes)
    found += _different(list(everyone.values()))
    for name, revision in wanted:
        last = (
            max((row.revision for row in everyone[name].events), default=0)
            if (name in everyone)
            else 0
        )
        if last < revision:
            told = f"watcher {name} was told up to r{last}, and r{revision} had long been written"
            found.append(Violation("watch is stuck", told))
    return found


def _follow(one: Watched, row: WatchEvent) -> list[Violation]:
    """Enter one more line of a watcher's recording."""
    last = one.stretches[-1][1] if one.stretches else 0
    if row.kind == "opened":
        if not one.stretches or row.revision > last + 1:
            # Told of no gap by etcd, it is the client's own beginning, or its fault.
            fault = bool(one.stretches)
            one.stretches.append([row.revision, row.revision - 1])
            if fault:
                told = f"watcher {one.name} went on at r{row.revision} after r{last}"
                return [Violation("watch gap", told)]
        return []
    if row.kind == "compacted":
        one.stretches.append([row.revision + 1, max(row.revision, last)])
        return []
    told = f"watcher {one.name}: r{row.revision} ({row.key}) came after r{last}"
    if one.events and row.revision == one.events[-1].revision:
        return [Violation("watch event twice", told)]
    if row.revision <= last:
        again = any(row.revision == other.revision for other in one.events)
        return [Violation("watch event twice" if again else "watch out of order", told)]
    one.stretches[-1][1] = row.revision
    one.events.append(row)
    return []


def _missing(one: Watched, acknowledged: Sequence[Operation]) -> list[Violation]:
    told = {row.revision for row in one.events}
    return [
        Violation("watch event missing", f"watcher {one.name} was not told of {write}")
        for write in acknowledged
        if one.covers(write.revision) and write.revision not in told
    ]


def _strange(one: Watched, writes: Sequence[Operation]) -> list[Violation]:
    """Events of what nobody wrote, or other than it was written."""
    found = []
    by_revision = {write.revision: write for write in writes if write.wrote}
    possible = {(w.key, w.value) for w in writes if w.outcome != FAILED and w.kind != "delete"}
    deleted = {write.key for write in writes if write.kind == "delete"}
    for row in one.events:
        shown = f"watcher {one.name}: r{row.revision} {row.key} = {row.value}"
        write = by_revision.get(row.revision)
        if write is not None:
            value = None if write.kind == "delete" else write.value
            if (row.key, row.value) != (write.key, value):
                found.append(Violation("watch event altered", f"{shown}, and it was {write}"))
        elif row.value is None:
            if row.key not in deleted:
                found.append(Violation("watch event from nowhere", f"{shown}: nobody deleted it"))
        elif (row.key, row.value) not in possible:
            found.append(Violation("watch event from nowhere", f"{shown}: nobody wrote it"))
    return found


def _different(everyone: Sequence[Watched]) -> list[Violation]:
    """What one was told, each other must have been told too, where it watched then."""
    found = []
    for one in everyone:
        for other in everyone:
            if one is other:
                continue
            told = {row.revision: row for row in other.events}
            for row in one.events:
                if not other.covers(row.revision):
                    continue
                seen = told.get(row.revision)
                shown = f"r{row.revision}: {one.name} {row.key} = {row.value}"
                if seen is None:
                    text = f"{shown}, and {other.name} was not told of it"
                    found.append(Violation("watchers differ", text))
                elif (seen.key, seen.value) != (row.key, row.value):
                    text = f"{shown}, {other.name} {seen.key} = {seen.value}"
                    found.append(Violation("watchers differ", text))
    return found
