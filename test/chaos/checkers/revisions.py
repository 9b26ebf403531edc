"""Whether etcd's own revisions tell one story, over all keys at once and in linear time.

etcd promises strict serializability: every write gets a revision of its own, and who begins after
another has ended sees a store that is as new at least.
https://etcd.io/docs/v3.6/learning/api_guarantees/
"""

from collections.abc import Iterable

from chaos.history import FAILED, OK, Operation, Violation


def check(operations: Iterable[Operation]) -> list[Violation]:
    """Revisions used twice, going back in time, or told of other values than were written."""
    everyone = list(operations)
    answered = [one for one in everyone if one.outcome == OK and one.ended is not None]
    return [*_used_twice(answered), *_gone_back(answered), *_told_wrong(everyone, answered)]


def _used_twice(answered: list[Operation]) -> list[Violation]:
    found, writers = [], {}
    for one in answered:
        if not one.wrote:
            continue
        other = writers.setdefault(one.revision, one)
        if other is not one:
            told = f"r{one.revision} is that of {other} and of {one}"
            found.append(Violation("revision used twice", told))
    return found


def _gone_back(answered: list[Operation]) -> list[Violation]:
    """Each operation against the newest revision that had been told before it began."""
    found = []
    ended = sorted(answered, key=lambda one: one.ended)
    newest, at = None, 0
    for one in sorted(answered, key=lambda one: one.began):
        while at < len(ended) and ended[at].ended < one.began:
            if newest is None or ended[at].revision > newest.revision:
                newest = ended[at]
            at += 1
        if newest is None:
            continue
        if one.revision < newest.revision or (one.wrote and one.revision == newest.revision):
            told = f"{one} began after {newest} had ended"
            found.append(Violation("revision gone back", told))
    return found


def _told_wrong(everyone: list[Operation], answered: list[Operation]) -> list[Violation]:
    """What was read must have been written, by then, with that revision."""
    found = []
    writers = {(w.key, w.value): w for w in everyone if w.kind in ("put", "cas")}
    for one in answered:
        if not one.read or one.found is None:
            continue
        writer = writers.get((one.key, one.found))
        if writer is None:
            found.append(Violation("value from nowhere", f"nobody wrote what {one} was told"))
        elif writer.outcome == FAILED or writer.began > one.ended:
            found.append(Violation("value from nowhere", f"{one} was told of {writer}"))
        elif writer.wrote and writer.revision != one.modified:
            told = f"{one} was told r{one.modified}, and it was {writer}"
            found.append(Violation("revision told wrong", told))
        elif one.modified > one.revision:
            found.append(Violation("revision told wrong", f"{one} was told r{one.modified}"))
    return found
