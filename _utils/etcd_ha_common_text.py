"""Lists in a sentence: what may be long is shown by its first few, and the rest is counted."""

from collections.abc import Iterable

# How many a sentence names where nothing else is said.
NAMED = 3


def few(things: Iterable[object], most: int = NAMED, between: str = ", ") -> str:
    """The first ``most`` of them, and how many more there are: ``a, b, c and 62 more``."""
    found = [str(one) for one in things]
    shown, more = between.join(found[:most]), len(found) - most
    if more <= 0:
        return shown
    return f"{shown}{between if between != ', ' else ' '}and {more} more"
