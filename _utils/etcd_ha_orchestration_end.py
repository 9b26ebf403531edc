"""The last lines of an orchestrate: its steps with how long each took, and what became of it.

Salt's own output of the states is long, and what people look for is somewhere in it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import etcd_ha_report

# The words by which Salt's state compiler says that a state was not run (salt/state.py).
_NOT_RUN = "One or more requisite failed"
_RESULT = ": result"


def summary(returned: Any) -> str:
    """What ``state.orchestrate`` returned, as a table; empty for a dry run, or another form."""
    found = _states(returned)
    rows = list(_rows(found))
    if any(state.get("result") is None for _, state in [*rows, *found]):
        return ""
    cells = [(_word(state), _time(state), _title(state)) for _, state in rows]
    lines = [etcd_ha_report.table(("RESULT", "TIME", "STEP"), cells)] if cells else []
    failed = [_title(state) for _, state in rows if _word(state) == "failed"]
    lines += [_sentence(state, failed) for kind, state in found if kind == "test"]
    return "\n".join(lines)


def _states(returned: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """Each state with its module, in the order in which they ran."""
    data = returned.get("data") if isinstance(returned, Mapping) else None
    if not isinstance(data, Mapping) or len(data) != 1:
        return []
    (states,) = data.values()
    if not isinstance(states, Mapping):
        # Its SLS did not render: Salt's output is short then.
        return []
    found = [
        (str(key).partition("_|-")[0], state)
        for key, state in states.items()
        if isinstance(state, Mapping)
    ]
    return sorted(found, key=lambda one: int(one[1].get("__run_num__", 0)))


def _rows(states: list[tuple[str, Mapping[str, Any]]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The steps, and below one that planned again those of its plan."""
    for kind, state in states:
        if kind != "salt":
            continue
        yield kind, state
        changes = state.get("changes")
        if state.get("name") == "state.orchestrate" and isinstance(changes, Mapping):
            yield from _rows(_states(changes.get("return")))


def _title(state: Mapping[str, Any]) -> str:
    return str(state.get("__id__", state.get("name", "?")))


def _word(state: Mapping[str, Any]) -> str:
    if state.get("result"):
        return "ok"
    return "not run" if str(state.get("comment", "")).startswith(_NOT_RUN) else "failed"


def _time(state: Mapping[str, Any]) -> str:
    """How long a step took; Salt tells it in milliseconds."""
    told = state.get("duration")
    if _word(state) == "not run" or not isinstance(told, (int, float)):
        return "-"
    seconds = told / 1000
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _sentence(state: Mapping[str, Any], failed: list[str]) -> str:
    """What became of a cluster, by the state that says so."""
    title, comment = _title(state), str(state.get("comment", ""))
    if title.endswith(_RESULT):
        cluster = title.removesuffix(_RESULT)
        if comment.startswith(_NOT_RUN):
            own = [one for one in failed if one.startswith(f"{cluster}: ")]
            step = own[-1].partition(": ")[2] if own else "see above"
            return f"{cluster}: failed at: {step}"
        return f"{cluster}: {comment}"
    # A step is a title; a refusal is said by its comment, and by nothing else.
    return title if state.get("result") and not comment else f"{title}: {comment}"
