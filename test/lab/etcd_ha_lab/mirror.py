"""The artifact mirror of a lab: upstream's own layout below /etcd, packages below /apt."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import artifacts, cgroups
from .config import CACHE, MIRROR_ADDRESS, Places
from .machine import run
from .ui import LabError, size, table

NAME = "mirror"


def start(places: Places) -> None:
    own = cgroups.create(cgroups.of_host(places, NAME))
    server = Path(__file__).with_name("mirror_server.py")
    with (places.state / "mirror.log").open("ab") as log:
        subprocess.Popen(
            ["ip", "netns", "exec", places.switch, sys.executable, str(server), MIRROR_ADDRESS,
             str(places.corrupt), str(CACHE)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: cgroups.join(own),
        )  # fmt: skip


def is_up(places: Places) -> bool:
    """True while the mirror accepts connections (seen from its own namespace)."""
    listening = run("ip", "netns", "exec", places.switch, "ss", "-Hltn", "sport", "=", ":80")
    return bool(listening.strip()) and bool(cgroups.processes(cgroups.of_host(places, NAME)))


def wait(places: Places, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not is_up(places):
        if time.monotonic() > deadline:
            raise LabError(f"the mirror did not start: see {places.state / 'mirror.log'}")
        time.sleep(0.05)


def listing(places: Places) -> str:
    """What the mirror has: version, architecture, source, size, sha256."""
    rows = [
        (
            artifact.version,
            artifact.architecture,
            artifact.source,
            size(artifact.size),
            "corrupt" if is_corrupt(places, artifact.version) else "good",
            artifact.sha256,
        )
        for artifact in artifacts.cached()
    ]
    if not rows:
        return "The mirror has no etcd yet: `lab mirror get` fetches the default version."
    return table(("version", "arch", "source", "size", "served", "sha256"), rows)


def is_corrupt(places: Places, version: str) -> bool:
    return (places.corrupt / f"etcd/v{version}").is_dir()


def corrupt(places: Places, version: str, how: str) -> Path:
    """Serve a spoiled archive in place of a good one. The cached one stays as it is."""
    artifact = artifacts.find(version)
    if not artifact:
        raise LabError(f"the mirror has no etcd {version}: `lab mirror get {version}` first")
    if not places.state.is_dir():
        raise LabError("the lab is down: `lab up` first")
    spoiled = places.corrupt / "etcd" / f"v{version}" / artifact.archive.name
    spoiled.parent.mkdir(parents=True, exist_ok=True)
    if how == "missing-sums":
        (spoiled.parent / "SHA256SUMS").write_text("")
        return spoiled.parent / "SHA256SUMS"
    shutil.copy(artifact.archive, spoiled)
    if how == "truncate":
        os.truncate(spoiled, artifact.size // 2)
    else:
        with spoiled.open("r+b") as file:
            file.seek(artifact.size // 2)
            byte = file.read(1)[0]
            file.seek(artifact.size // 2)
            file.write(bytes([byte ^ 1]))
    return spoiled


def restore(places: Places, version: str | None) -> None:
    """Serve the good archives again (all of them without a version)."""
    spoiled = places.corrupt / "etcd"
    shutil.rmtree(spoiled / f"v{version}" if version else spoiled, ignore_errors=True)
