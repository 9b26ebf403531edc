"""Balancers on this host that somebody else configured, and that run or would at the next boot.

A balancer of this formula has its program's one configuration to itself. Where that serves others,
taking it would cut them off.
"""

import hashlib
import itertools
import os
from collections.abc import Callable, Mapping
from typing import Any

import etcd_ha_common_files
import etcd_ha_common_process
import etcd_ha_common_systemd
import etcd_ha_host_etcds
import etcd_ha_host_kept
import etcd_ha_host_units
import etcd_ha_machine
from etcd_ha_common_process import ProgramError, ProgramMissing

# Service -> its configuration, as etcd_ha/os/*.yaml have them on every operating system.
CONFIGS: Mapping[str, str] = {
    "haproxy": "/etc/haproxy/haproxy.cfg",
    "nginx": "/etc/nginx/nginx.conf",
    "keepalived": "/etc/keepalived/keepalived.conf",
}
# Where the distribution's nginx.conf has more sites; that of the package itself serves nobody.
SITES = ("/etc/nginx/sites-enabled", "/etc/nginx/conf.d", "/etc/nginx/default.d")
DPKG = "/var/lib/dpkg/status"


def found(files: Mapping[str, str], root: str = "/") -> list[dict[str, Any]]:
    """Each of them, as ``etcd_ha_host_etcds`` tells what it finds; ``files`` are the mark's."""
    rows = []
    for name, path in CONFIGS.items():
        foreign = bool(etcd_ha_host_kept.foreign([path], files))
        packaged = foreign and _serves_nobody(name, path)
        beside = _beside(name, path, root)
        # Where the host gives it another file, nothing would read ours.
        elsewhere = bool(beside) and not any(map(_is(path), beside))
        ours = not foreign and etcd_ha_common_files.exists(path)
        others = [one for one in beside if not _is(path)(one)]
        read = path if foreign and not packaged else next(iter(others), "")
        if not read or (ours and not elsewhere):
            continue
        unit = etcd_ha_common_systemd.unit(f"{name}.service")
        if unit.is_up or unit.enabled or elsewhere:
            rows.append(
                etcd_ha_host_etcds.row(
                    "proxy",
                    pid=unit.pid,
                    unit=f"{name}.service",
                    config_file=others[0] if elsewhere else read,
                )
            )
    return rows


def _is(path: str) -> Callable[[str], bool]:
    """Whether another path leads to the same file."""
    return lambda other: os.path.realpath(other) == os.path.realpath(path)


def _beside(name: str, path: str, root: str) -> list[str]:
    """The files that HAProxy is started with (``-f``): a unit's variables may name several.

    Of a directory it reads what ends in ``.cfg``. Nothing where its unit names no file.
    """
    if name != "haproxy":
        return []
    try:
        words = etcd_ha_host_units.started_words(f"{name}.service", root)
    except ValueError:
        # A quote that is never closed: systemd starts nothing by this unit either.
        return []
    result = []
    for option, value in itertools.pairwise(words):
        if option != "-f" or not value.startswith("/"):
            continue
        there = value if value == path else os.path.join(root, value.lstrip("/"))
        if not etcd_ha_common_files.is_directory(there):
            result.append(there)
            continue
        names = etcd_ha_common_files.names(there)
        result += [f"{there.rstrip('/')}/{one}" for one in names if one.endswith(".cfg")]
    return result


def with_ours(rows: list[dict[str, Any]], files: Mapping[str, str]) -> list[dict[str, Any]]:
    """The same rows; who listens by a configuration of this formula's is ``by_formula``."""
    ours = {
        f"{name}.service"
        for name, path in CONFIGS.items()
        if etcd_ha_common_files.exists(path) and not etcd_ha_host_kept.foreign([path], files)
    }
    return [{**one, "by_formula": one["by_formula"] or one["unit"] in ours} for one in rows]


def _serves_nobody(name: str, path: str) -> bool:
    """Whether this is the package's own configuration, as it was installed."""
    if not _is_packaged(path):
        return False
    folders = [folder for folder in SITES if etcd_ha_common_files.is_directory(folder)]
    sites = [f"{folder}/{one}" for folder in folders for one in etcd_ha_common_files.names(folder)]
    return name != "nginx" or all(_is_packaged(os.path.realpath(one)) for one in sites)


def _is_packaged(path: str) -> bool:
    """Whether a file is as its package brought it; not where no package has it.

    Raises ProgramError where rpm cannot tell.
    """
    if etcd_ha_common_files.exists(DPKG):
        lines = etcd_ha_machine.read_text(DPKG).splitlines()
        known = {line.split()[1] for line in lines if line.startswith(f" {path} ")}
    else:
        known = _of_rpm(path)
    try:
        with etcd_ha_common_files.reading(path):
            content = etcd_ha_machine.read_regular(path)
    except etcd_ha_common_files.ABSENT:
        return False
    return bool(known & {_md5(content), hashlib.sha256(content).hexdigest()})


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _of_rpm(path: str) -> set[str]:
    command = ["rpm", "-q", "--queryformat", "[%{FILENAMES} %{FILEDIGESTS}\\n]", "-f", path]
    try:
        # 1: no package has this file.
        done = etcd_ha_common_process.run(command, 10, codes=(0, 1))
        if done.code and "not owned by any package" not in done.out:
            raise ProgramError(command, done.words(), done.code)
    except ProgramMissing:
        # Neither dpkg nor rpm: nothing was installed by a package.
        return set()
    pairs = [line.split() for line in done.out.splitlines()]
    return {pair[1] for pair in pairs if len(pair) == 2 and pair[0] == path}
