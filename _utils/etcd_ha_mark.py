"""What the last converge left on a host, as it can be relied on.

The file is root's and is written in one step; what is of another form all the same (a disk that
errs, a hand) counts as missing as a whole to the next converge, which looks at everything and
writes it anew. For everybody else it is an error.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import etcd_ha_common_files
import etcd_ha_machine
import etcd_ha_pem
from etcd_ha_common_errors import Failed
from etcd_ha_common_files import Malformed

# What stands in each part.
_MEMBER = {"cluster": str, "name": str, "unit": str, "data_dir": str, "config_dir": str, "ca": str}
_BALANCER = {
    "cluster": str,
    "kind": str,
    "url": str,
    "ca": (str, type(None)),
    "certificate": (str, type(None)),
    "key": (str, type(None)),
}
_KINDS = ("haproxy", "nginx")
# What a converge was made from: the hashes of the pillar's settings for this host, of the formula's
# states and of its modules. Marks of an older formula have the second alone.
MADE_FROM = ("settings", "source", "modules")


def read() -> dict[str, Any]:
    """The mark of this host; empty where there is none that can be relied on.

    For the converge, which writes it anew. Raises Unreadable where it cannot be read at all.
    """
    found = etcd_ha_machine.read_json(etcd_ha_machine.MARK_FILE)
    return found if is_sound(found) else {}


def refuse_broken() -> None:
    """Raise Failed where a mark is there and cannot be relied on: what this host is, is unknown."""
    try:
        found = etcd_ha_common_files.mapping(etcd_ha_machine.MARK_FILE)
    except Malformed:
        sound = False
    else:
        sound = found is None or is_sound(found)
    if not sound:
        raise Failed(
            f"{etcd_ha_machine.MARK_FILE} is broken, so it is unknown what this host is. An "
            "orchestrate writes it again: salt-run state.orchestrate etcd_ha.orch. On a host that "
            "is in no cluster any more, remove that file"
        )


def made_from(mark: Mapping[str, Any]) -> dict[str, str]:
    """What the last converge was made from, as far as the mark has it."""
    return {name: mark[name] for name in MADE_FROM if name in mark}


def held(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """The mark of a run that could not look at certificates: not all is as the pillar wants it."""
    made = {name: old.get(name, "") for name in ("digest", *MADE_FROM)}
    known = old.get("files", {})
    files = {
        path: known.get(path, "") if etcd_ha_pem.is_of_a_pair(path) else one
        for path, one in new["files"].items()
    }
    return {**new, **made, "files": {path: one for path, one in files.items() if one}}


def is_sound(mark: Mapping[str, Any]) -> bool:
    """Whether everything in a mark is of the form in which the states write it."""
    balancer = mark.get("balancer")
    return (
        isinstance(mark.get("digest", ""), str)
        and all(isinstance(mark.get(name, ""), str) for name in MADE_FROM)
        and _is_of_texts(mark.get("files", {}))
        and _is_of_texts(mark.get("expires", {}))
        and all(_is_time(one) for one in mark.get("expires", {}).values())
        and _has("member" not in mark, mark.get("member"), _MEMBER)
        and _has("balancer" not in mark, balancer, _BALANCER)
        and (balancer is None or balancer["kind"] in _KINDS)
        and (balancer is None or isinstance(balancer.get("virtual_address", ""), str))
    )


def _is_time(text: str) -> bool:
    try:
        datetime.strptime(text, etcd_ha_machine.TIME)
    except ValueError:
        return False
    return True


def _is_of_texts(found: object) -> bool:
    return isinstance(found, Mapping) and all(isinstance(one, str) for one in found.values())


def _has(missing: bool, found: object, form: Mapping[str, Any]) -> bool:
    if missing:
        return True
    return isinstance(found, Mapping) and all(
        isinstance(found.get(name), kind) for name, kind in form.items()
    )
