"""Balancers on this host that somebody else configured, and that run or would at the next boot.

A balancer of this formula has its program's one configuration to itself. Where that serves others,
taking it would cut them off.
"""

import hashlib
import os
import subprocess
from collections.abc import Mapping
from typing import Any

import etcd_ha_host_etcds
import etcd_ha_host_kept
import etcd_ha_machine
import etcd_ha_program

# Service -> its configuration, as etcd_ha/os/*.yaml have them on every operating system.
CONFIGS: Mapping[str, str] = {
    "haproxy": "/etc/haproxy/haproxy.cfg",
    "nginx": "/etc/nginx/nginx.conf",
    "keepalived": "/etc/keepalived/keepalived.conf",
}
# Where the distribution's nginx.conf has more sites; that of the package itself serves nobody.
SITES = ("/etc/nginx/sites-enabled", "/etc/nginx/conf.d", "/etc/nginx/default.d")
DPKG = "/var/lib/dpkg/status"


def found(files: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each of them, as ``etcd_ha_host_etcds`` tells what it finds; ``files`` are the mark's."""
    rows = []
    for name, path in CONFIGS.items():
        if not etcd_ha_host_kept.foreign([path], files) or _serves_nobody(name, path):
            continue
        unit = etcd_ha_machine.unit(f"{name}.service")
        if unit["active"] or unit["enabled"]:
            rows.append(
                etcd_ha_host_etcds.row(
                    "proxy",
                    pid=unit["pid"],
                    unit=f"{name}.service",
                    config_file=path,
                )
            )
    return rows


def with_ours(rows: list[dict[str, Any]], files: Mapping[str, str]) -> list[dict[str, Any]]:
    """The same rows; who listens by a configuration of this formula's is ``by_formula``."""
    ours = {
        f"{name}.service"
        for name, path in CONFIGS.items()
        if os.path.exists(path) and not etcd_ha_host_kept.foreign([path], files)
    }
    return [{**one, "by_formula": one["by_formula"] or one["unit"] in ours} for one in rows]


def _serves_nobody(name: str, path: str) -> bool:
    """Whether this is the package's own configuration, as it was installed."""
    if not _is_packaged(path):
        return False
    folders = [folder for folder in SITES if os.path.isdir(folder)]
    sites = [f"{folder}/{one}" for folder in folders for one in os.listdir(folder)]
    return name != "nginx" or all(_is_packaged(os.path.realpath(one)) for one in sites)


def _is_packaged(path: str) -> bool:
    """Whether a file is as its package brought it; not where nobody can tell."""
    if os.path.exists(DPKG):
        lines = etcd_ha_machine.read_text(DPKG).splitlines()
        known = {line.split()[1] for line in lines if line.startswith(f" {path} ")}
    else:
        known = _of_rpm(path)
    try:
        content = etcd_ha_machine.read_regular(path)
    except OSError:
        return False
    return bool(known & {_md5(content), hashlib.sha256(content).hexdigest()})


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _of_rpm(path: str) -> set[str]:
    command = ["rpm", "-q", "--queryformat", "[%{FILENAMES} %{FILEDIGESTS}\\n]", "-f", path]
    try:
        done = etcd_ha_program.run(command, dict(os.environ), 10)
    except (OSError, subprocess.TimeoutExpired, etcd_ha_program.TooMuch):
        return set()
    pairs = [line.split() for line in done.out.splitlines()]
    return {pair[1] for pair in pairs if len(pair) == 2 and pair[0] == path}
