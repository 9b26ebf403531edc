"""Whether acknowledged writes are there: on every member in the end, and behind a restore.

What a member holds is key -> (value, the revision at which it was written).
"""

from collections.abc import Iterable, Mapping

from chaos.history import FAILED, UNKNOWN, Operation, Violation

Held = Mapping[str, tuple[str, int]]


def check(operations: Iterable[Operation], held: Mapping[str, Held]) -> list[Violation]:
    """Every member holds, key by key, what was written last; ``held`` is host -> what it holds."""
    written = _by_key(operations)
    found = []
    for host, holds in sorted(held.items()):
        for key, writes in written.items():
            problem = _wrong(writes, holds.get(key))
            if problem:
                found.append(Violation("acknowledged write lost", f"{host}: {key}: {problem}"))
        for key in sorted(holds.keys() - written.keys()):
            found.append(Violation("value from nowhere", f"{host} holds {key}: nobody wrote it"))
    return [*found, *_different(held)]


def _by_key(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    """Writes by key, each key's by revision; those of unknown outcome, without one, first."""
    found: dict[str, list[Operation]] = {}
    for one in operations:
        if one.kind in ("put", "cas", "delete"):
            found.setdefault(one.key, []).append(one)
    for writes in found.values():
        writes.sort(key=lambda one: one.revision if one.wrote else 0)
    return found


def _wrong(writes: list[Operation], holds: tuple[str, int] | None) -> str:
    """What is wrong with a key that holds this; empty where it may."""
    acknowledged = [one for one in writes if one.wrote]
    last = acknowledged[-1] if acknowledged else None
    unknown = [one for one in writes if one.outcome == UNKNOWN]
    if holds is None:
        gone = last is None or last.kind == "delete"
        may_be_deleted = any(one.kind == "delete" for one in unknown)
        return "" if gone or may_be_deleted else f"nothing is held, and acknowledged was {last}"
    value, revision = holds
    writer = next((one for one in writes if one.value == value and one.kind != "delete"), None)
    if writer is None or writer.outcome == FAILED:
        return f"{value} is held, which nobody has written"
    if writer.wrote and writer.revision != revision:
        return f"{value} is held with r{revision}, and it was {writer}"
    if last is not None and revision < last.revision:
        return f"{value} of r{revision} is held, and acknowledged was {last}"
    if last is not None and last.kind == "delete" and revision == last.revision:
        return f"{value} is held after {last}"
    return ""


def _different(held: Mapping[str, Held]) -> list[Violation]:
    """Members that do not hold the same."""
    hosts = sorted(held)
    found = []
    for host in hosts[1:]:
        first, other = dict(held[hosts[0]]), dict(held[host])
        keys = sorted(k for k in first.keys() | other.keys() if first.get(k) != other.get(k))
        for key in keys:
            told = f"{key}: {hosts[0]} holds {first.get(key)}, {host} holds {other.get(key)}"
            found.append(Violation("members differ", told))
    return found


def check_cut(
    operations: Iterable[Operation], holds: Held, at_least: int, at_most: int = 0
) -> list[Violation]:
    """What a restore or a recovery left is all of the past up to one revision, and nothing else.

    ``at_least`` is the revision that must be there, as a backup's; ``at_most`` (0: none) the newest
    that may. Whoever holds one acknowledged write holds all that came before it.
    """
    found = []
    written = _by_key(operations)
    reached = max([at_least, *(revision for _, revision in holds.values())])
    for key, (value, revision) in sorted(holds.items()):
        if at_most and revision > at_most:
            told = f"{key} of r{revision} is there, and only r{at_most} was kept"
            found.append(Violation("restore went too far", told))
        if key not in written:
            found.append(Violation("value from nowhere", f"{key} = {value}: nobody wrote it"))
    for key, writes in written.items():
        past = [one for one in writes if not one.wrote or one.revision <= reached]
        problem = _wrong(past, holds.get(key))
        if problem:
            told = f"{key}: all up to r{reached} should be there, but {problem}"
            found.append(Violation("backed up write lost", told))
    return found
