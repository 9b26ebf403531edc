"""What ``pillar='{...}'`` asks an orchestrate for: a word that it does not know stops it.

Salt merges that pillar into the master's own, so a misspelt word would be one more key that nobody
looks at, and the command would act on everything, or on the newest backup. And a key of that name
in the master's own pillar, such as ``backup`` of another formula, asks for nothing.
"""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

# The words of each command; "confirm" names the cluster a second time.
TAKES = {
    "converge": ("cluster",),
    "restart": ("cluster", "member"),
    "replace": ("cluster", "confirm", "member"),
    "rotate_ca": ("cluster",),
    "defrag": ("cluster",),
    "recover_space": ("cluster",),
    "remove_cluster": ("cluster", "confirm"),
    "restore": ("cluster", "confirm", "backup"),
    "recover": ("cluster", "confirm", "lost", "survivor"),
    "backup": ("cluster",),
}
WORDS = tuple(dict.fromkeys(word for words in TAKES.values() for word in words))
# What a word that is given without a value would have meant.
_EMPTY = {
    "cluster": "for all clusters",
    "backup": "for the newest verified one",
    "member": "for all members",
    "lost": "if no member is lost",
    "survivor": "to go on from the newest one",
}
# How like another word one is that was surely meant to be it.
_LIKE = 0.7


def given(
    command: str,
    names: Collection[str],
    values: Mapping[str, Any],
    own: Mapping[str, Any],
) -> dict[str, Any]:
    """The values that the command line gave; raises ValueError with what is wrong, and the cure.

    ``names`` are all keys of the pillar that the orchestrate sees, ``values`` those of its words (a
    mapping without its content), ``own`` the master's pillar without what the command line gave.
    """
    takes = TAKES.get(command, ())
    told = [_unknown(name, command, takes) for name in sorted(names) if name not in own]
    asked = [word for word in takes if word in names and not _is_own(word, values, own)]
    told += [_empty(word, values) for word in asked]
    faults = [fault for fault in told if fault]
    if faults:
        ended = [fault if fault.endswith("?") else f"{fault}." for fault in faults]
        raise ValueError(f"{' '.join(ended)} Nothing was changed")
    return {word: values[word] for word in asked}


def _is_own(word: str, values: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    value = values.get(word)
    if word not in own:
        return False
    return value == own[word] or (isinstance(value, Mapping) and isinstance(own[word], Mapping))


def _unknown(name: str, command: str, takes: Collection[str]) -> str:
    """What is wrong with a key; other ones of a converge may be those of a site's orchestrate."""
    if name in takes or name.startswith("etcd_ha"):
        return ""
    near = difflib.get_close_matches(name, takes, n=1, cutoff=_LIKE)
    if command == "converge" and not near and name not in WORDS:
        return ""
    meant = f"; did you mean {near[0]}?" if near else f". It takes {' and '.join(takes)}"
    return f"{name} is no word of {orchestrate(command)}{meant}"


def _empty(word: str, values: Mapping[str, Any]) -> str:
    value = values.get(word)
    if isinstance(value, Mapping):
        return f"{word} is a mapping. Give text"
    if value not in ("", None, []):
        return ""
    if word in _EMPTY:
        return f"{word} is given without a value. Leave it out {_EMPTY[word]}, or give one"
    return f"{word} is given without a value"


def orchestrate(command: str) -> str:
    """The orchestrate of a command, as it is called."""
    return "etcd_ha.orch" if command == "converge" else f"etcd_ha.orch.{command}"
