"""What this formula has left on a host that has no part in any cluster any more.

Only what is the formula's own: files whose first line says so, certificates in its own directories,
links to its own releases. Never data: data directories that were set aside, backups, snapshots,
copies of what others left (``kept``) and a CA's key stay, and so do users and packages.

It is told by what lies there, not by the mark of the last converge: a host that was retired has
none.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import etcd_ha_common_files
import etcd_ha_environment
import etcd_ha_host_units
import etcd_ha_machine
import etcd_ha_release

PROGRAMS = ("etcd", "etcdctl", "etcdutl")
# The names of pairs that the formula makes or copies (etcd_ha_certificates).
_PURPOSES = ("server", "peer", "admin", "client", "check")
_OF_PKI = (
    "ca.crt",
    "check.pem",
    "virtual_address.json",
    *(f"{purpose}.{kind}" for purpose in _PURPOSES for kind in ("crt", "key")),
)
_OF_CONFIG = ("etcdctl.env", "backup.json", "backup.secrets")
_ANCHOR = re.compile(r"etcd_ha_[A-Za-z0-9_.-]+\.crt")
_PROGRAM = re.compile(r"^ExecStart=(/\S+)/current/etcd$", re.MULTILINE)
HOSTS_BEGIN = "# etcd_ha: hosts of the etcd cluster, kept by Salt"
HOSTS_END = "# etcd_ha: end"


@dataclass(frozen=True)
class Places:
    """Where this formula writes on a host; all absolute paths."""

    unit: str
    environment: str
    # Files that are removed where their first line says whose they are.
    marked: tuple[str, ...]
    # Files and folders that are the formula's whatever is in them.
    own: tuple[str, ...]
    config_dirs: tuple[str, ...]
    # Where a balancer's configuration lies: one folder a cluster.
    balancer_dir: str
    install_dirs: tuple[str, ...]
    bin_dirs: tuple[str, ...]
    # Of the system's trust store.
    anchors: str
    hosts: str


@dataclass(frozen=True)
class Left:
    """What is there, in the order in which it goes: last what tells where the rest is."""

    paths: tuple[str, ...]
    # Folders that go where nothing else is in them.
    folders: tuple[str, ...]
    # Whether the hosts file has the formula's block.
    block: bool

    def __bool__(self) -> bool:
        return bool(self.paths or self.block)


def left(places: Places) -> Left:
    """What of this formula is on this host."""
    environment = _own_environment(places.environment)
    config_dirs = _distinct([*places.config_dirs, *_config_dirs(environment)])
    folders = [f"{one}/pki" for one in config_dirs] + _balancer_folders(places.balancer_dir)
    releases = _distinct([*places.install_dirs, *_install_dirs(places.unit)])
    found = [
        *_links(places.bin_dirs, releases),
        *(path for one in releases for path in _releases(one)),
        *(path for folder in folders for path in _of_pki(folder)),
        *(f"{one}/{name}" for one in config_dirs for name in _OF_CONFIG),
        *_anchors(places.anchors),
        *(path for path in places.marked if is_ours(path)),
        *places.own,
        *(path for path in (places.environment, places.unit) if is_ours(path)),
    ]
    there = [path for path in _distinct(found) if etcd_ha_common_files.lexists(path)]
    emptied = [*folders, *config_dirs, *releases]
    text = etcd_ha_common_files.text(places.hosts) or ""
    return Left(tuple(there), tuple(emptied), without_block(text) != text)


def is_ours(path: str) -> bool:
    """Whether a file's first line says that this formula wrote it; a link is nobody's content."""
    if not etcd_ha_common_files.lexists(path) or os.path.islink(path):
        return False
    text = etcd_ha_common_files.text(path) if etcd_ha_common_files.is_file(path) else ""
    first = (text or "").partition("\n")[0]
    return first.startswith((etcd_ha_host_units.OURS, "# Kept by Salt (etcd_ha."))


def without_block(text: str) -> str:
    """The hosts file without the formula's block; the same where it has none, or half of one."""
    lines = text.splitlines(keepends=True)
    marks = [line.strip() for line in lines]
    if HOSTS_BEGIN not in marks or HOSTS_END not in marks[marks.index(HOSTS_BEGIN) :]:
        return text
    begin = marks.index(HOSTS_BEGIN)
    end = marks.index(HOSTS_END, begin)
    return "".join(lines[:begin] + lines[end + 1 :])


def data_dirs(places: Places) -> tuple[list[str], list[str]]:
    """Where the member's data and log would be, by the environment that is still there."""
    environment = _own_environment(places.environment)
    folders = [environment[one] for one in ("ETCD_DATA_DIR",) if environment.get(one)]
    return folders, [environment[one] for one in ("ETCD_WAL_DIR",) if environment.get(one)]


def _own_environment(path: str) -> Mapping[str, str]:
    if not is_ours(path):
        return {}
    return etcd_ha_environment.parse_file(etcd_ha_machine.read_text(path))


def _config_dirs(environment: Mapping[str, str]) -> list[str]:
    ca = environment.get("ETCD_TRUSTED_CA_FILE", "")
    return [os.path.dirname(os.path.dirname(ca))] if ca.endswith("/pki/ca.crt") else []


def _install_dirs(unit: str) -> list[str]:
    if not is_ours(unit):
        return []
    return _PROGRAM.findall(etcd_ha_machine.read_text(unit))


def _releases(folder: str) -> list[str]:
    """The link to the release in use, and each release; another file in the folder stays."""
    names = etcd_ha_common_files.names(folder)
    found = [name for name in names if etcd_ha_release.is_version(name)]
    current = f"{folder}/current"
    links = [current] if os.path.islink(current) else []
    return [*links, *(f"{folder}/{name}" for name in found if _is_release(f"{folder}/{name}"))]


def _is_release(folder: str) -> bool:
    names = etcd_ha_common_files.names(folder)
    return bool(names) and set(names) <= {*PROGRAMS}


def _links(bin_dirs: Iterable[str], releases: Iterable[str]) -> list[str]:
    """Links to the formula's own releases: another file of that name is somebody else's."""
    paths = [f"{folder}/{name}" for folder in bin_dirs for name in PROGRAMS]
    places = tuple(f"{one}/current/" for one in releases)
    return [one for one in paths if os.path.islink(one) and os.readlink(one).startswith(places)]


def _balancer_folders(folder: str) -> list[str]:
    """The folders of clusters whose balancer this host was."""
    own = ("check.key", "check.pem", "virtual_address.json")
    return [
        f"{folder}/{name}"
        for name in etcd_ha_common_files.names(folder)
        if etcd_ha_common_files.is_directory(f"{folder}/{name}")
        and any(etcd_ha_common_files.exists(f"{folder}/{name}/{one}") for one in own)
    ]


def _of_pki(folder: str) -> list[str]:
    return [f"{folder}/next", *(f"{folder}/{name}" for name in _OF_PKI)]


def _anchors(folder: str) -> list[str]:
    """Links of ours in the system's trust store."""
    return [
        f"{folder}/{name}"
        for name in etcd_ha_common_files.names(folder)
        if _ANCHOR.fullmatch(name) and os.path.islink(f"{folder}/{name}")
    ]


def _distinct(paths: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(path for path in paths if path))
