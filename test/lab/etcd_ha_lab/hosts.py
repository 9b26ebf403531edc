"""Hosts: a blank disk, a boot, a power loss, and a command inside."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from . import cgroups, mounts, network
from .config import CHECKOUT, DOMAIN, MASTER_ADDRESS, Host, Places
from .ui import LabError

# What a host may do beyond nspawn's own list: everything about its own network.
CAPABILITIES = "CAP_NET_ADMIN,CAP_NET_RAW,CAP_NET_BIND_SERVICE"

NSPAWN = Path("/run/systemd/nspawn")
# Of its own network a host may also set the kernel's options.
NSPAWN_SETTINGS = {
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
}

ENVIRONMENT = (
    "HOME=/root",
    "LANG=C.UTF-8",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)


def mount(places: Places, host: Host, base: Path) -> None:
    """Make a host's file tree visible, with whatever its disk holds."""
    mounts.attach(places.image(host.name), places.disk(host.name))
    if not os.path.ismount(places.root(host.name)):
        mounts.overlay(base, places.disk(host.name), places.root(host.name))


def write(root: Path, name: str, text: str, mode: int = 0o644) -> None:
    """Write a file into a host's tree, never readable to others for a moment if mode forbids it."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)


def name_it(places: Places, host: Host) -> None:
    """What makes a blank disk this host and no other."""
    root = places.root(host.name)
    write(root, "etc/hostname", f"{host.name}\n")
    write(root, "etc/machine-id", hashlib.md5(places.netns(host.name).encode()).hexdigest() + "\n")
    names = [
        "127.0.0.1 localhost",
        "::1 localhost ip6-localhost ip6-loopback",
        f"{host.address} {host.fqdn} {host.name}",
    ]
    # Nothing of the other hosts: to name them is the formula's work.
    if host.is_master:
        names[-1] += " salt"
    else:
        names.append(f"{MASTER_ADDRESS} master.{DOMAIN} master salt")
    write(root, "etc/hosts", "\n".join(names) + "\n")


def boot(places: Places, host: Host) -> None:
    """Switch a host on. Returns at once; its systemd goes on by itself."""
    _remove_leftovers(places, host.name)
    own = cgroups.create(cgroups.of_host(places, host.name))
    argv = [
        "systemd-nspawn",
        "--quiet",
        f"--directory={places.root(host.name)}",
        f"--machine={places.netns(host.name)}",
        f"--hostname={host.name}",
        f"--network-namespace-path=/run/netns/{places.netns(host.name)}",
        f"--capability={CAPABILITIES}",
        "--register=no",
        "--keep-unit",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        *(_master_binds(places) if host.is_master else ()),
        "--boot",
    ]
    with (places.host(host.name) / "console.log").open("ab") as console:
        subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            env={**os.environ, **NSPAWN_SETTINGS},
            start_new_session=True,
            preexec_fn=lambda: cgroups.join(own),
        )


def _master_binds(places: Places) -> list[str]:
    """The checkout's formula, live and read-only, and a pillar that the machine can write."""
    # Folders one by one: Salt's file server walks its roots once a minute, and the whole checkout
    # may hold a virtual environment and thousands of git objects.
    folders = sorted(f.name for f in CHECKOUT.iterdir() if f.is_dir() and _is_formula(f.name))
    binds = [f"--bind-ro={CHECKOUT / name}:/srv/formula/{name}" for name in folders]
    return [*binds, f"--bind={places.pillar}:/srv/pillar"]


def _is_formula(folder: str) -> bool:
    return not folder.startswith(".") and folder not in ("build", "docs", "test")


def first_process(places: Places, name: str) -> int | None:
    """The machine's number for a host's PID 1, or None while it is off."""
    payload = cgroups.of_host(places, name) / "payload"
    for folder in (payload / "init.scope", payload):
        for pid in cgroups.processes(folder):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            numbers = next((r for r in status.splitlines() if r.startswith("NSpid:")), "").split()
            if len(numbers) > 2 and numbers[-1] == "1":
                return pid
    return None


def power_off(places: Places, name: str) -> None:
    """Power loss: everything ends at once, the disk stays as it is."""
    cgroups.end(cgroups.of_host(places, name))
    mounts.detach(places.root(name))
    _remove_leftovers(places, name)


def _remove_leftovers(places: Places, name: str) -> None:
    for folder in leftovers(places):
        if folder.name == places.netns(name):
            remove_leftover(folder)


def leftovers(places: Places) -> list[Path]:
    """What nspawn keeps on the machine for each host, and had no time to remove.

    From systemd 256 on it refuses to boot a host whose `unix-export` folder is there.
    """
    return sorted(NSPAWN.glob(f"*/{places.switch}-*"))


def remove_leftover(folder: Path) -> None:
    mounts.detach(folder)
    shutil.rmtree(folder, ignore_errors=True)


def discard(places: Places, name: str) -> None:
    """Throw a host's disk away, and its network, which holds firewall rules and tracked flows."""
    power_off(places, name)
    network.disconnect(places, name)
    mounts.detach(places.host(name))
    places.image(name).unlink(missing_ok=True)
    shutil.rmtree(places.host(name), ignore_errors=True)


def create(places: Places, host: Host, base: Path, disk_size: str) -> None:
    """A host with a blank disk and a network, switched off."""
    places.host(host.name).mkdir(parents=True, exist_ok=True)
    mounts.create_disk(places.image(host.name), disk_size)
    if places.netns(host.name) not in network.namespaces(places):
        network.connect(places, host)
    mount(places, host, base)
    name_it(places, host)


def recreate(places: Places, host: Host, base: Path, image: Path) -> None:
    """A host with a copy of this disk, which was a host of the same name's, switched off."""
    places.host(host.name).mkdir(parents=True, exist_ok=True)
    mounts.copy(image, places.image(host.name))
    network.connect(places, host)
    mount(places, host, base)


def entry(places: Places, name: str, argv: Sequence[str]) -> list[str]:
    """The words that run a command inside a host."""
    pid = first_process(places, name)
    if pid is None:
        raise LabError(f"{name} is off: `lab fault {name} heal` switches it on")
    if cgroups.is_frozen(cgroups.of_host(places, name)):
        raise LabError(f"{name} is frozen: `lab fault {name} heal` lets it go on")
    terminal = f"TERM={os.environ.get('TERM', 'dumb')}"
    inside = ["/usr/bin/env", "-i", "-C", "/root", *ENVIRONMENT, terminal, *argv]
    return ["nsenter", "-t", str(pid), "-a", *inside]


def enter_cgroup(places: Places, name: str) -> None:
    """A command inside a host shares its fate: it freezes and it ends with the host."""
    cgroups.join(cgroups.create(cgroups.of_host(places, name) / "exec"))


def execute(places: Places, name: str, argv: Sequence[str]) -> None:
    """Become a command inside a host; its exit code is ours."""
    words = entry(places, name, argv)
    enter_cgroup(places, name)
    os.execvp(words[0], words)


def output(places: Places, name: str, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command inside a host and hand its result back."""
    return subprocess.run(
        entry(places, name, argv),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: enter_cgroup(places, name),
    )


def require_running(places: Places, names: Sequence[str]) -> None:
    """Raise with the last words of a host that ended by itself."""
    for name in names:
        if not cgroups.is_populated(cgroups.of_host(places, name)):
            console = (places.host(name) / "console.log").read_text(errors="replace")
            tail = "\n    ".join(console.strip().splitlines()[-4:])
            raise LabError(f"{name} did not boot; its console said last:\n    {tail}")


def wait_on(places: Places, names: Sequence[str], seconds: float = 20) -> None:
    """Wait until each host's PID 1 is there."""
    deadline = time.monotonic() + seconds
    for name in names:
        while first_process(places, name) is None:
            require_running(places, [name])
            if time.monotonic() > deadline:
                raise LabError(
                    f"{name} did not boot: its console is in {places.host(name)}/console.log"
                )
            time.sleep(0.01)
