"""What YAML can bring and no setting may be, and how an error tells of it.

An anchor of YAML can hold itself, or make billions of values of a few lines; an escape can write
half a character, or one that ends a line only for some readers. All that is refused before anybody
looks at single settings. https://yaml.org/spec/1.1/#id868524
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

# The pillar itself is 8 levels deep.
DEEPEST = 16
# Values in all, and characters in one of them.
MOST, LONGEST = 100_000, 65_536
# Characters of an error's sentence; what is longer loses its middle.
SENTENCE = 400

# Control characters, the line ends that only some readers know, halves of characters, and what is
# no character at all. A tab and a line's end may stand in text such as a certificate.
_STRANGE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]"
)
# A user and a password in an URL.
_USER_INFO = re.compile(r"(?<=://)[^/@\s'\"]*@")
_PEM = re.compile(r"-----BEGIN .*?(-----END [A-Z ]*-----|$)", re.S)


def faults(value: object, key: str) -> list[str]:
    """What cannot be any setting, at whatever place below ``key``: a sentence for each."""
    found = []
    for count, (here, one, depth) in enumerate(_walk(value, key)):
        if count >= MOST:
            return [
                f"{key} holds more than {MOST} values; does an anchor (&name, *name) repeat itself?"
            ]
        wrong = _fault(one, depth)
        found += [f"{here} {wrong}"] if wrong else []
    return found


def _walk(value: object, key: str) -> Iterator[tuple[str, object, int]]:
    """Each value with its key and its depth, and each key as a value; no deeper than is allowed."""
    waiting: list[tuple[str, object, int]] = [(key, value, 0)]
    while waiting:
        here, one, depth = waiting.pop()
        yield here, one, depth
        inner: list[tuple[str, object, int]] = []
        if depth <= DEEPEST and isinstance(one, Mapping):
            for name, part in one.items():
                place = f"{here}:{_key(name)}"
                yield place, name, depth
                inner.append((place, part, depth + 1))
        elif depth <= DEEPEST and isinstance(one, (list, tuple)):
            inner = [(f"{here}:{number}", part, depth + 1) for number, part in enumerate(one)]
        waiting += reversed(inner)


def _key(name: object) -> str:
    return name[:SENTENCE] if isinstance(name, str) else type(name).__name__


def _fault(value: object, depth: int) -> str:
    if depth > DEEPEST:
        return f"lies {depth} levels deep; does an anchor (&name) hold itself (*name)?"
    if isinstance(value, str):
        return _text_fault(value)
    if isinstance(value, int):
        return "is a number beyond 64 bits; give a smaller one" if abs(value) >> 64 else ""
    if value is None or isinstance(value, (Mapping, list, tuple, float)):
        return ""
    return f"is a {type(value).__name__}, which no setting is; quote it as text"


def _text_fault(text: str) -> str:
    if len(text) > LONGEST:
        return f"is {len(text)} characters long, and {LONGEST} are allowed at most"
    strange = _STRANGE.search(text)
    if strange is None:
        return ""
    return (
        f"holds the character U+{ord(strange[0]):04X}; leave it out, no setting has any use of it"
    )


class Quiet(dict[Any, Any]):
    """A mapping that errors do not write out: in a wrong place it may hold passwords."""

    def __repr__(self) -> str:
        return "a mapping"


def quiet(value: Any) -> Any:
    """The same pillar, whose mappings are such; once ``faults`` has found none."""
    if isinstance(value, Mapping):
        return Quiet({name: quiet(part) for name, part in value.items()})
    return [quiet(part) for part in value] if isinstance(value, (list, tuple)) else value


def holds_user(url: object) -> bool:
    """Whether an URL holds a user or a password."""
    return isinstance(url, str) and _USER_INFO.search(url) is not None


def brief(sentence: str) -> str:
    """A sentence that tells of a value, on one line and short, without key or password."""
    found = _USER_INFO.sub("***@", _PEM.sub("PEM text", sentence))
    if len(found) > SENTENCE:
        # The key stands at its beginning, the cure at its end.
        found = f"{found[: SENTENCE // 2]} ... {found[-SENTENCE // 2 :]}"
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in found)


def shown(value: object) -> str:
    """A value as a sentence tells it; nothing of it where it may be large or a key."""
    if isinstance(value, (str, bool, float)) or value is None:
        return brief(repr(value if not isinstance(value, str) else value[: SENTENCE * 2]))
    if isinstance(value, int):
        return repr(value) if not abs(value) >> 64 else "a huge number"
    return f"a {type(value).__name__}"
