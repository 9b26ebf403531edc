"""An S3 server in the lab's network: versitygw, built by Go from the module proxy.

`test/lab/s3-build` pins it, and its go.sum verifies it. No distribution that the lab runs on has an
S3 server to install, so a machine without Go has none, and says so.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path

from . import artifacts, cgroups, machine
from .config import CACHE, MIRROR_ADDRESS, Places
from .ui import LabError, step

NAME, PORT, BUCKET = "s3", 9000, "etcd-backups"
RECIPE = Path(__file__).resolve().parents[1] / "s3-build"
PACKAGE = "github.com/versity/versitygw/cmd/versitygw"
PROGRAM = CACHE / "s3" / "versitygw"


def program() -> Path:
    """The server, built once for each recipe."""
    recipe = (RECIPE / "go.mod").read_text()
    known = PROGRAM.with_suffix(".mod")
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    with (PROGRAM.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if PROGRAM.exists() and known.exists() and known.read_text() == recipe:
            return PROGRAM
        try:
            go = artifacts.find_go()
        except artifacts.SourceMissing as why:
            raise LabError(f"no S3 server can be had here: {why}") from None
        with step("  an S3 server, built from the Go module proxy's sources"):
            machine.run(go, "build", "-ldflags", "-s -w", "-o", PROGRAM, PACKAGE,
                        log=PROGRAM.with_suffix(".log"), cwd=RECIPE,
                        env=artifacts.go_environment())  # fmt: skip
        known.write_text(recipe)
    return PROGRAM


def start(places: Places) -> dict[str, str]:
    """Have it serve, with what it served before; returns what a client needs to know."""
    server, home = program(), _home(places)
    stop(places)
    (_data(places) / BUCKET).mkdir(parents=True, exist_ok=True)
    known = _known(places) or _made(places)
    own = cgroups.create(cgroups.of_host(places, NAME))
    environment = {**os.environ, "ROOT_ACCESS_KEY": known["access_key"],
                   "ROOT_SECRET_KEY": known["secret_key"]}  # fmt: skip
    with (home / "log").open("ab") as log:
        subprocess.Popen(
            ["ip", "netns", "exec", places.switch, str(server),
             "--port", f"{MIRROR_ADDRESS}:{PORT}", "--cert", str(home / "s3.crt"),
             "--key", str(home / "s3.key"), "posix", str(_data(places))],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: cgroups.join(own),
        )  # fmt: skip
    _wait(places)
    return known


def stop(places: Places) -> None:
    """Gone, as a store that is down; what it held stays."""
    cgroups.end(cgroups.of_host(places, NAME))


def freeze(places: Places, frozen: bool) -> None:
    """Slow beyond all patience: connections stay open, and nobody answers."""
    own = cgroups.of_host(places, NAME)
    if not cgroups.processes(own):
        raise LabError("the S3 server is not up: `lab s3 start` first")
    cgroups.freeze(own, frozen)


def files(places: Places) -> list[str]:
    """What lies in the bucket, as the server keeps it: a file an object."""
    top = _data(places) / BUCKET
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_file())


def folder(places: Places) -> Path:
    """Where the bucket's files lie on this machine."""
    return _data(places) / BUCKET


def _home(places: Places) -> Path:
    if not places.state.is_dir():
        raise LabError("the lab is down: `lab up` first")
    home = places.state / "s3"
    home.mkdir(mode=0o700, exist_ok=True)
    return home


def _data(places: Places) -> Path:
    # On the machine's real disk: it keeps what it knows of objects in extended attributes.
    return places.disks / "s3"


def _known(places: Places) -> dict[str, str]:
    record = _home(places) / "s3.json"
    return json.loads(record.read_text()) if record.exists() else {}


def _made(places: Places) -> dict[str, str]:
    """Keys and a certificate of this lab's own."""
    home = _home(places)
    machine.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:prime256v1", "-nodes", "-days", "7", "-subj", "/CN=lab s3",
                "-addext", f"subjectAltName=IP:{MIRROR_ADDRESS}",
                "-keyout", home / "s3.key", "-out", home / "s3.crt", umask=0o077)  # fmt: skip
    known = {
        "endpoint": f"https://{MIRROR_ADDRESS}:{PORT}",
        "bucket": BUCKET,
        "access_key": f"lab{secrets.token_hex(8)}",
        "secret_key": secrets.token_hex(20),
        "certificate": (home / "s3.crt").read_text(),
    }
    record = home / "s3.json"
    record.touch(mode=0o600)
    record.write_text(json.dumps(known) + "\n")
    return known


def _wait(places: Places, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    probe = ("ip", "netns", "exec", places.switch, "ss", "-Hltn", "sport", "=", f":{PORT}")
    while not machine.run(*probe).strip():
        if time.monotonic() > deadline:
            raise LabError(f"the S3 server did not start: see {places.state / 's3/log'}")
        time.sleep(0.05)


def empty(places: Places) -> None:
    """A blank bucket."""
    shutil.rmtree(_data(places), ignore_errors=True)
    (_data(places) / BUCKET).mkdir(parents=True)
