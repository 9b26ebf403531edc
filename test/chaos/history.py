"""What a campaign records, and how it is read back: one JSON object a line.

Times are seconds of the machine's monotonic clock, which all hosts of the lab share.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

OK, FAILED, UNKNOWN = "ok", "failed", "unknown"
WRITES = ("put", "cas", "delete")


@dataclass(frozen=True)
class Violation:
    """A promise that was broken: which one, and what shows it."""

    rule: str
    text: str


@dataclass(frozen=True)
class Operation:
    """One request of a client, from its invocation to its response.

    ``outcome`` is ``ok``, ``failed`` (it certainly did nothing) or ``unknown`` (it may take effect
    at any time from ``began`` on). ``value`` is what a put or cas writes, ``expected`` what a cas
    wants to find (None: no key). ``found`` is what a get, a cas that did not succeed, or a delete
    that did was told of the key before; ``modified`` its revision. ``succeeded`` is the answer of a
    cas, and of a delete whether there was a key. ``revision`` is the store's, as the answer has it.
    """

    client: str
    kind: str
    key: str
    began: float
    ended: float | None = None
    outcome: str = OK
    value: str | None = None
    expected: str | None = None
    found: str | None = None
    modified: int = 0
    succeeded: bool = True
    revision: int = 0

    @property
    def wrote(self) -> bool:
        """Whether it is known to have changed its key."""
        return self.outcome == OK and self.kind in WRITES and self.succeeded

    @property
    def read(self) -> bool:
        """Whether its answer tells what the key held before."""
        told = self.succeeded if self.kind == "delete" else not self.succeeded
        return self.outcome == OK and (self.kind == "get" or (self.kind != "put" and told))

    def __str__(self) -> str:
        end = "..." if self.ended is None else f"{self.ended:.3f}"
        told = f"{self.kind} {self.key}"
        if self.kind == "cas":
            told += f" {self.expected} -> {self.value}"
        elif self.kind == "put":
            told += f" {self.value}"
        answer = self.outcome
        if self.outcome == OK and (self.read or not self.succeeded):
            answer = f"found {self.found}"
        return f"[{self.began:.3f}..{end}] {self.client}: {told} = {answer} (r{self.revision})"


@dataclass(frozen=True)
class WatchEvent:
    """What a watcher was told, in the order in which it was told.

    ``kind`` is ``opened`` (a stream from ``revision`` on), ``event`` (``value`` None: the key was
    deleted) or ``compacted`` (all up to ``revision`` is gone, and it goes on behind it).
    """

    watcher: str
    kind: str
    revision: int
    key: str = ""
    value: str | None = None


@dataclass(frozen=True)
class Recorded:
    """The clients' part of a campaign."""

    operations: tuple[Operation, ...] = ()
    watched: tuple[WatchEvent, ...] = ()
    # Watcher -> the revision that it had to reach by the end of its time.
    wanted: tuple[tuple[str, int], ...] = ()


def read(lines: Iterable[str]) -> Recorded:
    """Read what client.py wrote; a last line that was cut off is left out."""
    operations, watched, wanted = [], [], []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        what = row.pop("what")
        if what == "operation":
            operations.append(Operation(**row))
        elif what == "watch":
            watched.append(WatchEvent(**row))
        elif what == "reach":
            wanted.append((row["watcher"], row["revision"]))
    return Recorded(tuple(operations), tuple(watched), tuple(wanted))
