"""Every etcd on this host, whoever set it up: those that run, and those that could be started.

Reads only. Whose they are is decided elsewhere (etcd_ha_host_foreign), here is told what they are.
"""

import dataclasses
import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import etcd_ha_common_files
import etcd_ha_common_process
import etcd_ha_etcd_settings
import etcd_ha_host_processes
import etcd_ha_host_units
import etcd_ha_log
import etcd_ha_machine
import etcd_ha_release
from etcd_ha_common_files import Unreadable
from etcd_ha_common_process import ProgramError
from etcd_ha_etcd_settings import Settings

# Seconds for a program to tell its version.
VERSION_TIMEOUT = 5


def found(
    places: Collection[str] = (),
    logs: Collection[str] = (),
    ports: Collection[int] = (),
    root: str = "/",
    proc: str = "/proc",
) -> list[dict[str, Any]]:
    """Every etcd on this host, and every other program that listens at one of these ports.

    ``places`` are data directories that may hold data although nothing on the host names them, and
    ``logs`` where the write-ahead logs of these may be, if they are not with the data.

    Each is a dict of ``kind`` (``process``, ``unit``, ``data``, ``listener``, or ``files`` for a
    directory to be etcd's that holds something else), ``pid`` (0 where it does not run),
    ``program``, ``version``, ``user``, ``cwd``, ``words``, ``environment``, ``container``,
    ``unit``, ``unit_files``, ``by_formula`` (whether the formula wrote the unit), ``enabled``
    (whether a stopped one starts at boot), ``config_file``,
    ``name``, ``data_dir``, ``wal_dir``, ``clients`` and ``peers`` (URLs as configured), ``ports``
    (as they are listened at, or would be), ``proxy``, ``same`` (which of
    ``places`` and ``logs`` are its directories too, by links), ``holds_data``, ``cluster_id``,
    ``member_id`` (hex text) and ``fault`` (what cannot be known of it, and why).
    """
    units = {unit.name: unit for unit in etcd_ha_host_units.etcds(root)}
    processes = etcd_ha_host_processes.etcds(proc)
    rows = []
    for process in processes:
        try:
            rows.append(_running(process, units, [*places, *logs], root, proc))
        except (FileNotFoundError, ProcessLookupError):
            # It has ended meanwhile, as test restores do; its unit and data are seen anyway.
            continue
        except (OSError, ValueError, Unreadable) as err:
            told = f"PID {process.pid} cannot be inspected: {err}"
            ports_of = [2379, 2380] if process.shares_network else []
            rows.append(
                row(
                    "process",
                    pid=process.pid,
                    program=process.program,
                    user=process.user,
                    unit=process.unit,
                    container=process.container,
                    ports=ports_of,
                    holds_data=True,
                    fault=told,
                )
            )
    running = {one["unit"] for one in rows}
    rows += [_stopped(unit, root) for unit in units.values() if unit.name not in running]
    rows += _data(places, logs, rows, root)
    for one in rows:
        one["same"] = _same(one, [*places, *logs], root)
    own = {process.pid for process in processes}
    for port, process in etcd_ha_host_processes.listeners(ports, proc):
        if process.pid not in own:
            rows.append(_listener(port, process))
    return rows


def content(data_dir: str, wal_dir: str = "") -> dict[str, Any]:
    """What lies in a data directory: ``holds_data``, ``cluster_id``, ``member_id``, ``fault``."""
    return _content(Settings(data_dir=data_dir, wal_dir=wal_dir), "/", "")


def row(kind: str, **values: Any) -> dict[str, Any]:
    """What is told of each, without what is not known."""
    made: dict[str, Any] = {"kind": kind, "pid": 0, "by_formula": False, "holds_data": False}
    made |= {"enabled": False}
    made |= dict.fromkeys(("program", "version", "user", "cwd", "container", "unit"), "")
    made |= dict.fromkeys(("config_file", "name", "data_dir", "wal_dir", "fault", "proxy"), "")
    made |= {"words": [], "environment": {}, "unit_files": [], "clients": [], "peers": []}
    return {**made, "ports": [], "same": [], "cluster_id": "", "member_id": "", **values}


def _same(one: Mapping[str, Any], places: Sequence[str], root: str) -> list[str]:
    """Which of the places are this etcd's directories under another name, or lie within them."""
    held = [f"{path}/" for path in _real_dirs(one, root)]
    named = {one["data_dir"], one["wal_dir"]}
    real = {place: f"{_real(root, place)}/" for place in places if place not in named}
    return [
        place
        for place, path in real.items()
        if any(path.startswith(own) or own.startswith(path) for own in held)
    ]


def _real_dirs(one: Mapping[str, Any], root: str) -> list[str]:
    """An etcd's directories without links; those that only its container has are none of them.

    ``/proc/PID/root`` is a link that resolves to this host's own root.
    """
    paths = [one[key] for key in ("data_dir", "wal_dir") if one[key]]
    return [_real(root, path) for path in paths if not path.startswith("/proc/")]


def _running(
    process: etcd_ha_host_processes.Process,
    units: Mapping[str, etcd_ha_host_units.Unit],
    places: Sequence[str],
    root: str,
    proc: str,
) -> dict[str, Any]:
    inside = f"{proc}/{process.pid}/root"
    settings = etcd_ha_etcd_settings.read(
        process.words, process.environment, process.cwd, lambda path: _text(f"{inside}{path}")
    )
    unit = units.get(process.unit)
    # What listens in a network of its own is in nobody's way; what leads there is seen by itself.
    shares = process.shares_network
    ports = etcd_ha_host_processes.listening(process.pid, proc) if shares else []
    if process.container:
        data = _outside(settings.data_dir, inside, places)
        log = _outside(settings.wal_dir, inside, places)
        settings, root = dataclasses.replace(settings, data_dir=data, wal_dir=log), "/"
    made = row(
        "process",
        pid=process.pid,
        program=process.program,
        version=_version(process.program, process.container),
        user=process.user,
        cwd=process.cwd,
        words=etcd_ha_etcd_settings.shown_words(process.words),
        environment=etcd_ha_etcd_settings.shown_variables(process.environment),
        container=process.container,
        unit=process.unit,
        unit_files=list(unit.files) if unit else [],
        by_formula=unit.ours if unit else False,
        **_settings(settings),
        **_content(settings, root, process.fault or settings.fault),
    )
    # Before it has joined others, etcd does not listen to clients yet.
    listened = dict.fromkeys(port for _, port in ports)
    made["ports"] = list(dict.fromkeys([*listened, *(settings.ports if shares else ())]))
    return made


def _outside(path: str, inside: str, places: Sequence[str]) -> str:
    """A container's directory as the host sees it: one of ``places`` where that is the same."""
    if not path:
        return ""
    for place in places:
        try:
            if os.path.samefile(f"{inside}{path}", place):
                return place
        except etcd_ha_common_files.ABSENT:
            continue
    return f"{inside}{path}"


def _stopped(unit: etcd_ha_host_units.Unit, root: str) -> dict[str, Any]:
    settings = etcd_ha_etcd_settings.read(
        unit.words, unit.environment, unit.cwd, lambda path: _text(f"{root.rstrip('/')}{path}")
    )
    # Where our own unit has its data is known without its files, which may be lost.
    fault = "" if unit.ours else unit.fault or settings.fault
    odd = [one for one in (settings.data_dir, settings.wal_dir) if re.search("[%$\"';`]", one)]
    if odd and not unit.ours:
        fault = fault or f"{unit.files[0]} does not say plainly where {odd[0]} is"
    if unit.container:
        fault = fault or f"{unit.container} starts it, so its data directory is unknown"
    return row(
        "unit",
        program=unit.program,
        version=_version(unit.program, unit.container),
        user=unit.user or "root",
        cwd=unit.cwd,
        words=etcd_ha_etcd_settings.shown_words(unit.words),
        environment=etcd_ha_etcd_settings.shown_variables(unit.environment),
        container=unit.container,
        unit=unit.name,
        unit_files=list(unit.files),
        by_formula=unit.ours,
        enabled=unit.enabled,
        ports=list(settings.ports),
        **_settings(settings),
        **_content(settings, root, fault),
    )


def _data(
    places: Collection[str],
    logs: Collection[str],
    rows: Sequence[Mapping[str, Any]],
    root: str,
) -> list[dict[str, Any]]:
    """Data in one of these directories that no process and no unit names."""
    known = {path for one in rows for path in _real_dirs(one, root)}
    result = []
    for place in places:
        if _real(root, place) in known:
            continue
        base = root.rstrip("/")
        # A directory of a log may be made beforehand, before the log has moved to it.
        holds_log = etcd_ha_machine.holds_log
        apart = [log for log in logs if not holds_log(f"{base}{place}/member/wal")]
        log = next((one for one in apart if holds_log(f"{base}{one}")), "")
        settings = Settings(data_dir=place, wal_dir=log)
        there = _content(settings, root, "")
        if there["holds_data"]:
            result.append(row("data", **{**_settings(settings), "name": ""}, **there))
        elif others := _others(f"{base}{place}"):
            told = f"it contains {', '.join(others[:3])}"
            result.append(row("files", data_dir=place, holds_data=True, fault=told))
    return result


# What the formula itself leaves in a data directory that is a mount point, and what no file is.
_OWN = re.compile(
    r"(removed|replaced|recovered|moved)-[0-9-]+|restoring|examining|moving|\.?trying(\.used)?"
    r"|member(\.tmp)?|lost\+found"
)


def _others(folder: str) -> list[str]:
    """What lies in a directory that is to be etcd's, and is not: whose it is, is not known."""
    names = [n for n in etcd_ha_common_files.names(folder) if not _OWN.fullmatch(n)]
    return [name for name in names if not _is_empty(f"{folder}/{name}")]


def _is_empty(path: str) -> bool:
    """Whether this is a directory with nothing in it."""
    if os.path.islink(path) or not etcd_ha_common_files.is_directory(path):
        return False
    return not etcd_ha_common_files.names(path)


def _listener(port: int, process: etcd_ha_host_processes.Process) -> dict[str, Any]:
    return row(
        "listener",
        pid=process.pid,
        program=process.program,
        user=process.user,
        unit=process.unit,
        container=process.container,
        ports=[port],
    )


def _settings(settings: Settings) -> dict[str, Any]:
    return {
        "name": settings.name,
        "config_file": settings.config_file,
        "data_dir": settings.data_dir,
        "wal_dir": settings.wal_dir,
        "clients": list(settings.clients),
        "peers": list(settings.peers),
        "proxy": settings.proxy,
    }


def _content(settings: Settings, root: str, fault: str) -> dict[str, Any]:
    """Whether there is data, and whose by its own word; with a fault there may be some."""
    if fault:
        return {"holds_data": True, "cluster_id": "", "member_id": "", "fault": fault}
    base = root.rstrip("/")
    data = f"{base}{settings.data_dir}/member"
    log = f"{base}{settings.wal_dir}" if settings.wal_dir else f"{data}/wal"
    content = {"holds_data": False, "cluster_id": "", "member_id": "", "fault": ""}
    if not settings.data_dir:
        return content
    try:
        held = _holds(data, log)
    except OSError as err:
        return {**content, "holds_data": True, "fault": f"{settings.data_dir}: {err.strerror}"}
    if not held:
        return content
    try:
        cluster, member = etcd_ha_log.identity(log)
    except etcd_ha_log.LogError as err:
        return {**content, "holds_data": True, "fault": str(err)}
    return {**content, "holds_data": True, "cluster_id": cluster, "member_id": member}


def _holds(data: str, log: str) -> bool:
    """Whether there is a database or a log: folders alone are left of a start cut short."""
    try:
        os.stat(f"{data}/snap/db")
        return True
    except (FileNotFoundError, NotADirectoryError):
        pass
    try:
        return any(name.endswith(".wal") for name in os.listdir(log))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _real(root: str, path: str) -> str:
    return os.path.realpath(f"{root.rstrip('/')}{path}")


def _version(program: str, container: str) -> str:
    """The release of a program, empty where it is not known; only an etcd of this host is run."""
    folder = os.path.basename(os.path.dirname(os.path.realpath(program)))
    if etcd_ha_release.is_version(folder):
        return folder
    if container or not _is_binary(program) or not _is_roots(program):
        return ""
    try:
        done = etcd_ha_common_process.run([program, "--version"], VERSION_TIMEOUT)
    except ProgramError:
        # It is for people alone: whose an etcd is, is decided by its ids.
        return ""
    return etcd_ha_release.told(done.out)


def _is_roots(program: str) -> bool:
    """Whether nobody but root could have put this program there; no other one is run, as root."""
    path = os.path.realpath(program)
    while True:
        found = os.stat(path)
        if found.st_uid != 0 or found.st_mode & 0o022:
            return False
        if path == "/":
            return True
        path = os.path.dirname(path)


def _is_binary(program: str) -> bool:
    """Whether this is an etcd that can be asked; a script of that name may start anything."""
    if not os.path.isabs(program) or not etcd_ha_etcd_settings.is_program(program):
        return False
    try:
        with open(program, "rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def _text(path: str) -> str:
    found = etcd_ha_machine.read_regular(path, etcd_ha_etcd_settings.LONGEST)
    return found.decode("utf-8", "replace")
