"""The package repository of the hosts: what they install, and all that it depends on.

apt on this machine downloads it against the base tree, so that a host finds whatever it lacks.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
from datetime import datetime, timezone
from pathlib import Path

from . import machine
from .config import MIRROR_URL
from .ui import LabError, say

# Each by itself, for no host installs all of them.
WANTED = (
    ("haproxy",),
    ("nginx", "libnginx-mod-stream"),
    ("ufw",),
    ("firewalld",),
    ("keepalived",),
    ("etcd-server", "etcd-client"),
    ("curl",),
    ("rclone",),
)


def source_line(key: str) -> str:
    """The hosts' only apt source. It is trusted because it has no key: it never leaves the lab."""
    return f"deb [trusted=yes] {MIRROR_URL}/apt/{key} ./\n"


def download(chroot: list[str], root: Path, to: Path, log: Path) -> int:
    """Download all wanted packages into `to` and index them; returns how many there are."""
    for wanted in WANTED:
        try:
            machine.run(*chroot, "apt-get", "-q", "-y", "--download-only", "install", *wanted,
                        log=log)  # fmt: skip
        except LabError:
            say(f"  {' and '.join(wanted)}: not to be had in this suite, so no host can install it")
    to.mkdir(parents=True)
    for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        shutil.move(package, to / package.name)
    return index(to)


def index(folder: Path) -> int:
    """Write Packages and Release of a flat repository; returns the number of packages."""
    stanzas = [_stanza(package) for package in sorted(folder.glob("*.deb"))]
    plain = "\n".join(stanzas).encode()
    files = {"Packages": plain, "Packages.gz": gzip.compress(plain, mtime=0)}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    sums = [
        f" {hashlib.sha256(content).hexdigest()} {len(content)} {name}"
        for name, content in files.items()
    ]
    date = datetime.now(timezone.utc).strftime("%a, %d %b %Y %H:%M:%S UTC")
    head = ["Origin: etcd_ha lab", "Suite: lab", f"Date: {date}", "SHA256:"]
    (folder / "Release").write_text("\n".join([*head, *sums]) + "\n")
    return len(stanzas)


def _stanza(package: Path) -> str:
    control = machine.run("dpkg-deb", "--field", package).rstrip("\n")
    content = package.read_bytes()
    return (
        f"{control}\nFilename: ./{package.name}\nSize: {len(content)}\n"
        f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
    )


def preload_index(tree: Path, folder: Path, key: str) -> None:
    """Put the index where apt keeps it, so that a host installs without an update first."""
    lists = tree / "var/lib/apt/lists"
    shutil.rmtree(lists, ignore_errors=True)
    (lists / "partial").mkdir(parents=True)
    prefix = f"{MIRROR_URL.removeprefix('http://')}/apt/{key}/./".replace("/", "_")
    for name in ("Packages", "Release"):
        shutil.copy(folder / name, lists / f"{prefix}{name}")
