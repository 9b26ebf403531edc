"""A whole lab: up, down, reset, status."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import (
    artifacts,
    base,
    cgroups,
    hosts,
    limits,
    machine,
    mirror,
    mounts,
    network,
    pillar,
    salt,
)
from .config import DEFAULT_DISK, DEFAULT_SALT, DOMAIN, Host, Places, host_names
from .ui import LabError, say, step, table


@dataclass
class Record:
    """What a lab was made of. It is written last of all in `up`: without it, a lab is a wreck."""

    suite: str
    salt: str
    key: str
    disk: str
    etcd: str
    hosts: list[str] = field(default_factory=list)

    @property
    def minions(self) -> list[str]:
        return [name for name in self.hosts if name != "master"]

    @property
    def base(self) -> base.Base:
        """The tree that the lab came up with, even if the recipe has changed since."""
        return base.Base(self.suite, self.salt, self.key)


def read(places: Places) -> Record | None:
    try:
        return Record(**json.loads(places.record.read_text()))
    except FileNotFoundError:
        return None


def require(places: Places) -> Record:
    record = read(places)
    if not record:
        raise LabError("the lab is down: `lab up` first")
    return record


def require_host(places: Places, name: str) -> Host:
    record = require(places)
    if name not in record.hosts:
        raise LabError(f"this lab has no host '{name}': it has {', '.join(record.hosts)}")
    return Host(name)


def _save(places: Places, record: Record) -> None:
    unfinished = places.record.with_suffix(".new")
    unfinished.write_text(json.dumps(asdict(record), indent=2) + "\n")
    unfinished.rename(places.record)


@contextmanager
def locked(places: Places) -> Iterator[None]:
    """One change of a lab at a time; the second waits for the first."""
    places.lock.parent.mkdir(parents=True, exist_ok=True)
    with places.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another call is changing this lab: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prepare(suite: str | None, salt_version: str) -> tuple[base.Base, str]:
    """Get what stays cached: the tools, the base tree, and etcd in the default version."""
    machine.require_tools()
    tree = base.choose(suite, salt_version)
    with ThreadPoolExecutor() as both:
        # They wait for different things: one for packages, one for the compiler.
        tree_ready = both.submit(base.prepare, tree)
        etcd_ready = both.submit(artifacts.default_version)
        tree_ready.result()
        return tree, etcd_ready.result()


def up(
    places: Places,
    members: int = 3,
    balancers: int = 1,
    suite: str | None = None,
    salt_version: str | None = None,
    disk: str = DEFAULT_DISK,
) -> Record:
    """Bring a lab up, or add what is missing to one that is up."""
    wanted = host_names(members, balancers)
    with locked(places):
        machine.require_tools()
        record = read(places)
        if record and not _alive(places, record):
            say("the last lab did not end in order: cleaning up after it")
            record = None
        if record is None:
            tear_down(places)
            tree, etcd = prepare(suite, salt_version or DEFAULT_SALT)
            record = Record(tree.suite, tree.salt, tree.key, disk, etcd)
        elif (suite or record.suite, salt_version or record.salt) != (record.suite, record.salt):
            raise LabError(
                f"the lab is up with {record.suite} and Salt {record.salt}: `lab down` first"
            )
        missing = [name for name in wanted if name not in record.hosts]
        if not missing:
            say(f"the lab is up already: {', '.join(record.hosts)}")
            return record
        _add(places, record, missing)
    return record


def _alive(places: Places, record: Record) -> bool:
    """A lab is alive while its mirror and its namespaces are there; hosts may be off by a fault."""
    return (
        record.base.ready
        and places.switch in network.namespaces(places)
        and mirror.is_up(places)
        and all(mounts.below(places.disk(name)) for name in record.hosts)
    )


def _add(places: Places, record: Record, names: list[str]) -> None:
    fresh = not record.hosts
    if fresh:
        with step("network and mirror"):
            places.state.mkdir(parents=True, exist_ok=True)
            network.create_switch(places)
            mirror.start(places)
        if not pillar.write(places, record.etcd):
            say("there is no pillar.example yet, so the lab's pillar is empty")
    with step("keys"):
        salt.make_keys(places, names)
    record.hosts += names
    with step(f"started {', '.join(names)}"):
        _start(places, record, names)
    if not fresh:
        for name in names:
            salt.accept(places, name)
    minions = [name for name in names if name != "master"]
    with step(f"{len(minions)} minions answer"):
        mirror.wait(places)
        salt.wait_for(places, minions)
    _save(places, record)


def _start(
    places: Places, record: Record, names: Sequence[str], images: Mapping[str, Path] | None = None
) -> None:
    """Blank disks or these images, then boots: the master first, for the others wait for it."""
    for name in names:
        places.host(name).mkdir(parents=True, exist_ok=True)
    limits.make_room()
    for name in sorted(names, key=lambda name: name != "master"):
        host = Host(name)
        if image := (images or {}).get(name):
            hosts.recreate(places, host, record.base.tree, image)
        else:
            hosts.create(places, host, record.base.tree, record.disk)
        salt.configure(places, host, record.minions, record.salt)
        hosts.boot(places, host)
    hosts.wait_on(places, names)


def reset(places: Places, names: Sequence[str] = (), saved: str = "") -> None:
    """Give hosts (default: all, the master too) blank disks and boot them again.

    With `saved` those that were saved under that name get the disks of then.
    """
    with locked(places):
        record = require(places)
        names = [require_host(places, name).name for name in names] or list(record.hosts)
        images = _saved(places, saved) if saved else {}
        from . import faults

        with step(f"reset {', '.join(names)}"):
            for name in names:
                faults.clear(places, name)
                hosts.discard(places, name)
            _start(places, record, names, images)
        with step("minions answer"):
            minions = record.minions if "master" in names else names
            on = [name for name in minions if hosts.first_process(places, name)]
            salt.wait_for(places, on)


def save(places: Places, name: str) -> None:
    """Keep the disks of all hosts under a name; all stand still for that moment.

    What each has written is kept; what a program has in memory is not, as after a power loss.
    """
    with locked(places):
        record = require(places)
        folder = places.saved(name)
        groups = [cgroups.of_host(places, host) for host in record.hosts]
        # Off or frozen by a fault: the disks of such a moment are no use to anybody.
        hosts.require_running(places, record.hosts)
        with step(f"saved {', '.join(record.hosts)} as {name}"):
            shutil.rmtree(folder, ignore_errors=True)
            try:
                for group in groups:
                    cgroups.freeze(group, True)
                for host in record.hosts:
                    mounts.flush(places.disk(host))
                    mounts.copy(places.image(host), folder / f"{host}.img")
            finally:
                for group in groups:
                    cgroups.freeze(group, False)
            for image in folder.iterdir():
                mounts.mend(image)


def _saved(places: Places, name: str) -> dict[str, Path]:
    """Host -> its disk as it was saved under this name."""
    images = {image.stem: image for image in places.saved(name).glob("*.img")}
    if not images:
        raise LabError(f"nothing is saved as {name}: `lab save {name}` first")
    return images


def down(places: Places) -> None:
    """End a lab and prove that nothing of it is left."""
    with locked(places), step("the lab is down: no process, mount, namespace or cgroup is left"):
        tear_down(places)


def tear_down(places: Places) -> None:
    """Remove everything that bears this lab's name, whether or not a record speaks of it."""
    top = cgroups.of_lab(places)
    cgroups.end(top)
    for shadow in cgroups.shadows(places):
        cgroups.remove(shadow)
    mounts.detach(places.state)
    for folder in hosts.leftovers(places):
        hosts.remove_leftover(folder)
    network.remove_all(places)
    shutil.rmtree(places.state, ignore_errors=True)
    shutil.rmtree(places.disks, ignore_errors=True)
    limits.restore()
    network.unmount_namespaces()
    if left := remains(places):
        raise LabError("the lab left something behind:\n    " + "\n    ".join(left))


def remains(places: Places) -> list[str]:
    """Everything of a lab that still exists on this machine."""
    top = cgroups.of_lab(places)
    return [
        *(f"process {pid}" for pid in cgroups.processes(top)),
        *(f"cgroup {folder}" for folder in (top, *cgroups.shadows(places)) if folder.exists()),
        *(f"mount {point}" for point in mounts.below(places.state)),
        *(f"folder {folder}" for folder in hosts.leftovers(places)),
        *(f"network namespace {name}" for name in network.namespaces(places)),
        *(f"loop device {name}" for name in mounts.loops(places)),
        *(f"folder {path}" for path in (places.state, places.disks) if path.exists()),
    ]


def status(places: Places) -> str:
    record = require(places)
    from . import faults

    connected = salt.connected(places)
    rows = []
    for name in record.hosts:
        host = Host(name)
        if name == "master":
            minion = "-"
        else:
            minion = "connected" if host.address in connected else "not connected"
        rows.append((name, host.address, host.fqdn, faults.state(places, name), minion))
    head = (
        f"lab '{places.lab}': {record.suite}, Salt {record.salt}, etcd {record.etcd} by default\n"
        f"pillar: {places.pillar}\n"
    )
    return head + table(("host", "address", f"id (*.{DOMAIN})", "state", "minion"), rows)
