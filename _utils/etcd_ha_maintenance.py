"""The pillar's ``maintenance`` settings: what is wrong with them, and what etcd makes of them.

https://etcd.io/docs/v3.6/op-guide/maintenance/#auto-compaction
"""

import re
from collections.abc import Mapping
from typing import Any

import etcd_ha_options

MODES = ("periodic", "revision", "none")
_MODE, _RETENTION = "ETCD_AUTO_COMPACTION_MODE", "ETCD_AUTO_COMPACTION_RETENTION"
# Go's durations, without those below a second: etcd would do nothing but compact.
_DURATION = re.compile(r"([0-9]+(\.[0-9]+)?[smh])+", re.ASCII)
# Of the numbers that etcd reads in 64 bits.
_BEYOND = 2**63


def faults(maintenance: Mapping[str, Any], key: str) -> list[str]:
    """All faults of the values, each a sentence that begins with its pillar key."""
    compaction = maintenance["compaction"]
    found = _percent_fault(maintenance["quota_warning"], f"{key}:quota_warning")
    defragment = maintenance["defragment"]
    found += _percent_fault(defragment["fragmentation"], f"{key}:defragment:fragmentation")
    size = defragment["minimum_size"]
    if not _is_whole(size) or not 0 <= size < _BEYOND:
        found.append(f"{key}:defragment:minimum_size is {size!r}; give a number of bytes")
    mode, retention = compaction["mode"], compaction["retention"]
    if mode not in MODES:
        found.append(f"{key}:compaction:mode is {mode!r}; use {' or '.join(MODES)}")
    elif mode == "periodic" and not _is_duration(retention):
        found.append(
            f"{key}:compaction:retention is {retention!r}; with mode periodic give a time with its "
            "unit, such as 30m or 8h (mode: none switches the compaction off)"
        )
    elif mode == "revision" and not (_is_whole(retention) and 0 < retention < _BEYOND):
        found.append(
            f"{key}:compaction:retention is {retention!r}; with mode revision give the number of "
            "revisions to keep, such as 10000 (mode: none switches the compaction off)"
        )
    return found


def option_faults(options: Mapping[str, object], key: str) -> list[str]:
    """What is wrong with the user's own options for the compaction, which take our settings' place.

    etcd's default for the retention is 0: the mode alone would switch the compaction off.
    """
    mode, retention = "auto-compaction-mode", "auto-compaction-retention"
    if mode not in options or retention in options:
        return []
    return [
        f"{key}:{mode} is set without {retention}, so etcd would compact nothing. Set "
        "maintenance:compaction instead, or both options"
    ]


def variables(maintenance: Mapping[str, Any], options: Mapping[str, object]) -> dict[str, str]:
    """The variables of the automatic compaction; the user's own ``options`` take its place."""
    compaction = maintenance["compaction"]
    if compaction["mode"] == "none" or any(str(o).startswith("auto-compaction-") for o in options):
        return {}
    return {_MODE: str(compaction["mode"]), _RETENTION: str(compaction["retention"])}


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_duration(value: object) -> bool:
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        return False
    return any(digit in value for digit in "123456789") and not etcd_ha_options.is_too_long(value)


def _percent_fault(value: object, key: str) -> list[str]:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100:
        return []
    return [f"{key} is {value!r}; give a whole number from 1 to 100, in percent"]
