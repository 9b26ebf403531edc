"""Variables of etcd that reach the formula's unit from elsewhere than from the formula's file.

A drop-in may set them, and so may the service manager. Each restart brings them back, so that a
member would differ from the pillar for ever, and each run of the orchestrate would restart it.
systemd.exec(5): a variable of a file (EnvironmentFile) counts before one of Environment; of two
files the later one counts.
"""

import contextlib
import glob
import os
import re
import shlex
from collections.abc import Iterator
from typing import Any

import etcd_ha_common_files
import etcd_ha_host_units
import etcd_ha_machine

# The environment files of the unit itself.
OWN = ("/etc/default/etcd", "/run/etcd_ha/bootstrap.env")
_MANAGER = "systemd/system.conf"
# The place of a variable that no file sets.
MANAGER = "systemctl show-environment"
_FOLDERS = ("usr/lib", "run", "etc")

Row = dict[str, Any]


def found(root: str = "/", manager: str = "") -> list[Row]:
    """Each such variable: ``variable``, ``value`` (empty for a secret), ``file``, ``wins``.

    ``manager`` is what etcd_ha_common_systemd.manager_environment tells.
    ``wins`` says that it counts although the formula's file sets the variable too. A drop-in that
    takes the formula's file from the unit is told with ``EnvironmentFile`` as the variable.
    """
    rows: dict[str, Row] = {}
    defaults: dict[str, Row] = {}
    _set(defaults, MANAGER, _given(manager), wins=False)
    for path in _manager_files(root):
        for key, value in etcd_ha_host_units.assignments(path, "[Manager]"):
            if key == "DefaultEnvironment":
                _set(defaults, path, _pairs(value), wins=False)
    for path in etcd_ha_host_units.drop_ins(root):
        for key, value in etcd_ha_host_units.assignments(path, "[Service]"):
            _apply(rows, root, path, key, value)
    rows = {**defaults, **rows}
    return [rows[variable] for variable in sorted(rows)]


def _given(text: str) -> dict[str, str]:
    """The variables of ``systemctl show-environment``; a value may be quoted as for a shell."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        with contextlib.suppress(ValueError):
            # A quote without its end: the text as it is.
            value = "".join(shlex.split(value.removeprefix("$")))
        found[name] = value
    return found


def _manager_files(root: str) -> Iterator[str]:
    """The files of the service manager's own configuration, the later ones count."""
    for folder in _FOLDERS:
        yield os.path.join(root, folder, _MANAGER)
    chosen: dict[str, str] = {}
    for folder in (os.path.join(root, one, f"{_MANAGER}.d") for one in _FOLDERS):
        names = etcd_ha_common_files.names(folder)
        chosen |= {name: f"{folder}/{name}" for name in names if name.endswith(".conf")}
    yield from (chosen[name] for name in sorted(chosen))


def _apply(rows: dict[str, Row], root: str, path: str, key: str, value: str) -> None:
    """What one line of a drop-in does to the variables."""
    if key == "Environment" and value:
        _set(rows, path, _pairs(value), wins=False)
    elif key == "Environment":
        _forget(rows, wins=False)
    elif key == "UnsetEnvironment":
        _set(rows, path, dict.fromkeys(_pairs(value), ""), wins=True)
    elif key == "EnvironmentFile" and value:
        for file in _files(root, value):
            if f"/{os.path.relpath(file, root)}" in OWN:
                rows.pop(key, None)
            else:
                _set(rows, path, etcd_ha_host_units.variables(file), wins=True)
    elif key == "EnvironmentFile":
        _forget(rows, wins=True)
        rows[key] = {"variable": key, "value": "", "file": path, "wins": True}


def _set(rows: dict[str, Row], path: str, pairs: dict[str, str], *, wins: bool) -> None:
    for variable, value in pairs.items():
        held = rows.get(variable, {}).get("wins", False)
        if not re.fullmatch(r"ETCD_\w+", variable) or (held and not wins):
            continue
        shown = "" if etcd_ha_machine.is_secret(variable) else value
        rows[variable] = {"variable": variable, "value": shown, "file": path, "wins": wins}


def _forget(rows: dict[str, Row], *, wins: bool) -> None:
    """An empty setting takes back what drop-ins have set before."""
    for variable in [name for name, row in rows.items() if row["wins"] is wins]:
        del rows[variable]


def _pairs(text: str) -> dict[str, str]:
    """The variables of an Environment; a line that systemd cannot read sets none there either."""
    try:
        words = shlex.split(text)
    except ValueError:
        return {}
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def _files(root: str, value: str) -> list[str]:
    """The files of an EnvironmentFile that are there; it may have wildcards."""
    pattern = os.path.join(root, value.lstrip("-").lstrip("/"))
    return sorted(glob.glob(pattern)) if re.search(r"[*?\[]", pattern) else [pattern]
