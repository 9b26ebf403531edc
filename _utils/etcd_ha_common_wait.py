"""Waiting for something with a bound: the one loop, and the one sentence when it did not come."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


class TimedOut(RuntimeError):
    """It did not come in time; the text says what was waited for, how long, and what was seen."""


class Deadline:
    """An end for several waits together, in seconds from now."""

    def __init__(self, seconds: float, clock: "Callable[[], float] | None" = None) -> None:
        self.seconds = seconds
        self._clock = clock or time.monotonic
        self._end = self._clock() + seconds

    def left(self, least: float = 0.0) -> float:
        """Seconds that are left; never less than ``least``, for a last attempt."""
        return max(least, self._end - self._clock())

    def is_over(self) -> bool:
        return self._clock() >= self._end


def until(
    what: str,
    seconds: "float | Deadline",
    look: Callable[[], "tuple[Found | None, str]"],
    pause: float = 0.3,
    sleep: "Callable[[float], None] | None" = None,
) -> Found:
    """Look again and again until there is something; it is returned.

    ``look`` returns it (anything but None), or None and what it has seen instead (text). ``what``
    says in words what is waited for. Raises TimedOut; what ``look`` raises ends the wait, too.
    It looks once at least.
    """
    deadline = seconds if isinstance(seconds, Deadline) else Deadline(seconds)
    while True:
        found, seen = look()
        if found is not None:
            return found
        if deadline.is_over():
            told = f" ({seen})" if seen else ""
            raise TimedOut(f"waited {deadline.seconds:g} s for {what}{told}")
        (sleep or time.sleep)(min(pause, deadline.left(0.01)))
