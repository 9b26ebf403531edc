"""Every place of nested data, and the same data with something odd in one of them."""

import copy


def places(value, path=()):
    """The keys and numbers that lead to each place, beginning with the whole."""
    yield path
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    for key, part in inner:
        yield from places(part, (*path, key))


def with_odd(value, path, odd):
    """A copy that has ``odd`` in this place."""
    if not path:
        return odd
    value = copy.deepcopy(value)
    where = value
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = odd
    return value
