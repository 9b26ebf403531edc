"""Histories of a store that is right, with clients at once and answers that got lost.

A store with revisions takes each operation at one moment between its invocation and its response.
What the clients record of it is linearizable by construction; ``plant_*`` then break one promise
each.
"""

import dataclasses
import random

from chaos.history import FAILED, OK, UNKNOWN, Operation, WatchEvent


class Store:
    """Keys with a revision, as etcd has them, and all that happened."""

    def __init__(self, revision=1):
        self.revision, self.held, self.events = revision, {}, []

    def take(self, one):
        """An operation's effect at its moment, and its answer."""
        value, modified = self.held.get(one.key, (None, 0))
        told = {"outcome": OK}
        if one.kind == "get":
            told |= {"found": value, "modified": modified}
        elif one.kind == "put":
            self._write(one.key, one.value)
        elif one.kind == "delete":
            told |= {"succeeded": value is not None, "found": value, "modified": modified}
            if value is not None:
                self._write(one.key, None)
        elif value == one.expected:
            self._write(one.key, one.value)
        else:
            told |= {"succeeded": False, "found": value, "modified": modified}
        return dataclasses.replace(one, revision=self.revision, **told)

    def _write(self, key, value):
        self.revision += 1
        self.events.append((self.revision, key, value))
        if value is None:
            del self.held[key]
        else:
            self.held[key] = (value, self.revision)


def history(seed, clients=4, operations=60, keys=2, lost=0.1, store=None):
    """What clients record of a right store: (operations, the store afterwards).

    ``lost`` is how often an answer does not come; half of those operations have an effect all the
    same, maybe long after the client has gone on.
    """
    chance = random.Random(seed)
    store = store or Store()
    free = [0.0] * clients
    numbers, last, made = iter(range(10**6)), {}, []
    plans = []
    for _ in range(operations):
        client = chance.randrange(clients)
        began = free[client] + chance.uniform(0, 0.02)
        ended = began + chance.uniform(0.001, 0.03)
        free[client] = ended
        moment, outcome = chance.uniform(began, ended), OK
        if chance.random() < lost:
            outcome = chance.choice((UNKNOWN, UNKNOWN, FAILED))
            late = chance.choice((0.0, 0.0, chance.uniform(0, 0.3)))
            moment = None if outcome == FAILED or chance.random() < 0.5 else moment + late
        plans.append((moment, began, ended, outcome, f"c{client}"))
    planned = sorted((p for p in plans if p[0] is not None), key=lambda p: p[0])
    for moment, began, ended, outcome, client in planned:
        one = _drawn(chance, client, began, ended, keys, numbers, last)
        taken = store.take(one)
        last[one.key] = store.held.get(one.key, (None, 0))[0]
        made.append(taken if outcome == OK else _unanswered(one))
        del moment
    for moment, began, ended, outcome, client in plans:
        if moment is None:
            one = _drawn(chance, client, began, ended, keys, numbers, last)
            told = dataclasses.replace(one, outcome=FAILED)
            made.append(told if outcome == FAILED else _unanswered(one))
    return made, store


def _drawn(chance, client, began, ended, keys, numbers, last):
    key = f"k{chance.randrange(keys)}"
    kind = chance.choices(("put", "get", "cas", "delete"), (30, 35, 25, 10))[0]
    value = f"v{next(numbers)}" if kind in ("put", "cas") else None
    # Most swaps expect what is there, as clients that read before do.
    expected = last.get(key) if chance.random() < 0.7 else chance.choice((None, "v0"))
    return Operation(
        client, kind, key, began, ended, value=value, expected=expected if kind == "cas" else None
    )


def _unanswered(one):
    return dataclasses.replace(one, outcome=UNKNOWN, ended=None)


def watched(store, chance, names=("w1", "w2"), first=1):
    """What watchers of a right store record, with streams that break and are resumed."""
    found = []
    for name in names:
        start = first if name == names[0] else chance.randrange(first, store.revision + 1)
        found.append(WatchEvent(name, "opened", start + 1))
        last = start
        for revision, key, value in store.events:
            if revision <= start:
                continue
            if chance.random() < 0.1:
                found.append(WatchEvent(name, "opened", last + 1))
            found.append(WatchEvent(name, "event", revision, key, value))
            last = revision
    return found


# Violations. Each takes what is right and breaks it, or gives None where it has nothing to break.


def _known(operations, *kinds):
    return [o for o in operations if o.outcome == OK and o.kind in kinds]


def _changed(operations, old, **what):
    return [dataclasses.replace(o, **what) if o is old else o for o in operations]


def plant_stale_read(operations, chance):
    """A read is told a value that had been overwritten before the read began."""
    writes = [o for o in _known(operations, "put", "cas") if o.wrote]
    reads = _known(operations, "get")
    chance.shuffle(reads)
    for read in reads:
        before = [w for w in writes if w.key == read.key and w.ended < read.began]
        old = [w for w in before if any(v.began > w.ended for v in before if v is not w)]
        if old:
            write = chance.choice(old)
            return _changed(operations, read, found=write.value, modified=write.revision)
    return None


def plant_lost_update(operations, chance):
    """A put was acknowledged, and a later read, with nothing in between, finds no such key."""
    end = max(o.ended or o.began for o in operations) + 1
    alone = [o for o in _known(operations, "put") if _is_last(operations, o)]
    if not alone:
        return None
    write = chance.choice(alone)
    read = Operation("c9", "get", write.key, end, end + 0.01, revision=10**6)
    return [*operations, read]


def _is_last(operations, write):
    """Whether nobody can have written or deleted the key after this write."""
    for other in operations:
        if other is write or other.key != write.key or other.kind == "get":
            continue
        if other.outcome == UNKNOWN or (other.outcome == OK and other.ended > write.began):
            return False
    return True


def plant_both_swaps_win(operations, chance):
    """Two clients swap the same value, and both are told that they did."""
    won = [o for o in _known(operations, "cas") if o.succeeded and o.expected is not None]
    if not won:
        return None
    first = chance.choice(won)
    second = dataclasses.replace(
        first, client="c9", value="second", ended=first.ended + 0.001, revision=first.revision
    )
    return [*operations, second]


def plant_resurrection(operations, chance):
    """After a delete was acknowledged, and nothing written since, a read finds the old value."""
    gone = [o for o in _known(operations, "delete") if o.succeeded and _is_last(operations, o)]
    if not gone:
        return None
    delete = chance.choice(gone)
    before = [
        o
        for o in _known(operations, "put", "cas")
        if o.key == delete.key and o.wrote and o.revision < delete.revision
    ]
    if not before:
        return None
    write = max(before, key=lambda o: o.revision)
    end = max(o.ended or o.began for o in operations) + 1
    told = {"found": write.value, "modified": write.revision, "revision": 10**6}
    return [*operations, Operation("c9", "get", delete.key, end, end + 0.01, **told)]


def plant_read_of_nothing_written(operations, chance):
    """A read is told a value that nobody ever wrote."""
    reads = _known(operations, "get")
    return reads and _changed(operations, chance.choice(reads), found="from nowhere", modified=1)


def plant_read_of_the_future(operations, chance):
    """A read is told a value before its write began."""
    writes = [o for o in _known(operations, "put") if o.wrote]
    pairs = [
        (read, write)
        for read in _known(operations, "get")
        for write in writes
        if read.key == write.key and read.ended < write.began
    ]
    if not pairs:
        return None
    read, write = chance.choice(pairs)
    return _changed(operations, read, found=write.value, modified=write.revision)


def plant_refused_write_seen(operations, chance):
    """A write that certainly did nothing is read."""
    refused = [o for o in operations if o.outcome == FAILED and o.kind == "put"]
    if not refused:
        return None
    write = chance.choice(refused)
    end = max(o.ended or o.began for o in operations) + 1
    told = {"found": write.value, "modified": 10**5, "revision": 10**6}
    return [*operations, Operation("c9", "get", write.key, end, end + 0.01, **told)]


def plant_delete_denied(operations, chance):
    """A delete is told that there was no key, where one had just been read."""
    end = max(o.ended or o.began for o in operations) + 1
    there = [o for o in _known(operations, "put") if _is_last(operations, o)]
    if not there:
        return None
    key = chance.choice(there).key
    told = {"succeeded": False, "revision": 10**6}
    return [*operations, Operation("c9", "delete", key, end, end + 0.01, **told)]


LINEARIZABILITY = (
    plant_stale_read,
    plant_lost_update,
    plant_both_swaps_win,
    plant_resurrection,
    plant_read_of_nothing_written,
    plant_read_of_the_future,
    plant_refused_write_seen,
    plant_delete_denied,
)


def plant_same_revision(operations, chance):
    writes = [o for o in operations if o.wrote]
    if len(writes) < 2:
        return None
    first, second = chance.sample(writes, 2)
    return _changed(operations, first, revision=second.revision)


def plant_revision_gone_back(operations, chance):
    """Somebody who began after a write had ended is told of an older store."""
    pairs = [
        (late, write)
        for write in operations
        if write.wrote
        for late in _known(operations, "get")
        if late.began > write.ended and late.found is None
    ]
    if not pairs:
        return None
    late, write = chance.choice(pairs)
    return _changed(operations, late, revision=write.revision - 1)


def plant_other_revision_told(operations, chance):
    reads = [o for o in _known(operations, "get") if o.found is not None]
    sure = {(o.key, o.value) for o in operations if o.wrote}
    reads = [o for o in reads if (o.key, o.found) in sure]
    if not reads:
        return None
    read = chance.choice(reads)
    return _changed(operations, read, modified=read.modified - 1)


REVISIONS = (plant_same_revision, plant_revision_gone_back, plant_other_revision_told)


def _events(seen):
    return [row for row in seen if row.kind == "event"]


def plant_event_missing(seen, chance, operations):
    sure = {o.revision for o in operations if o.wrote}
    by_watcher = {}
    for row in _events(seen):
        by_watcher.setdefault(row.watcher, []).append(row)
    inside = [r for rows in by_watcher.values() for r in rows[:-1] if r.revision in sure]
    if not inside:
        return None
    gone = chance.choice(inside)
    return [row for row in seen if row is not gone]


def plant_events_swapped(seen, chance, operations):
    places = [
        n
        for n in range(len(seen) - 1)
        if seen[n].kind == seen[n + 1].kind == "event" and seen[n].watcher == seen[n + 1].watcher
    ]
    if not places:
        return None
    n = chance.choice(places)
    return [*seen[:n], seen[n + 1], seen[n], *seen[n + 2 :]]


def plant_event_twice(seen, chance, operations):
    rows = _events(seen)
    if not rows:
        return None
    n = seen.index(chance.choice(rows))
    return [*seen[: n + 1], seen[n], *seen[n + 1 :]]


def plant_event_again_later(seen, chance, operations):
    """An event is told again after a few others, as by a stream that was resumed too early."""
    rows = [r for r in _events(seen) if r.watcher == seen[0].watcher]
    if len(rows) < 3:
        return None
    n = chance.randrange(len(rows) - 2)
    at = seen.index(rows[n + 2])
    return [*seen[: at + 1], rows[n], *seen[at + 1 :]]


def plant_event_altered(seen, chance, operations):
    sure = {o.revision for o in operations if o.wrote}
    rows = [row for row in _events(seen) if row.revision in sure]
    if not rows:
        return None
    old = chance.choice(rows)
    return [dataclasses.replace(r, value="another") if r is old else r for r in seen]


def plant_event_from_nowhere(seen, chance, operations):
    rows = _events(seen)
    if not rows:
        return None
    last = rows[-1]
    ghost = dataclasses.replace(last, revision=last.revision + 1, value="from nowhere")
    return [*seen, ghost]


def plant_gap_at_resuming(seen, chance, operations):
    """A stream is resumed behind what was never told."""
    rows = _events(seen)
    if not rows:
        return None
    last = rows[-1]
    return [*seen, WatchEvent(last.watcher, "opened", last.revision + 3)]


WATCHES = (
    plant_event_missing,
    plant_events_swapped,
    plant_event_twice,
    plant_event_again_later,
    plant_event_altered,
    plant_event_from_nowhere,
    plant_gap_at_resuming,
)
