"""What the last converge left on a host, as it can be relied on.

The file is root's and is written in one step; what is of another form all the same (a disk that
errs, a hand) counts as missing as a whole. The next converge then looks at everything, and writes
it anew.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import etcd_ha_machine

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


def read() -> dict[str, Any]:
    """The mark of this host; empty where there is none that can be relied on."""
    found = etcd_ha_machine.read_json(etcd_ha_machine.MARK_FILE)
    return found if is_sound(found) else {}


def is_sound(mark: Mapping[str, Any]) -> bool:
    """Whether everything in a mark is of the form in which the states write it."""
    balancer = mark.get("balancer")
    return (
        isinstance(mark.get("digest", ""), str)
        and isinstance(mark.get("source", ""), str)
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
