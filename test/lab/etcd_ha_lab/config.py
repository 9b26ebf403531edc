"""Names, addresses and places. Everything that another file could guess wrong stands here once."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .ui import LabError

DOMAIN = "example.com"
DEFAULT_SALT = "3008.3"
DEFAULT_DISK = "8G"

# The benchmarking range (RFC 2544): it clashes with nobody's own network.
NETWORK = "198.18.0"
PREFIX_LENGTH = 24
MIRROR_ADDRESS = f"{NETWORK}.1"
MASTER_ADDRESS = f"{NETWORK}.2"
CA_ADDRESS = f"{NETWORK}.3"
MIRROR_URL = f"http://{MIRROR_ADDRESS}"

MAX_MEMBERS = 30
MAX_BALANCERS = 30

RUN = Path("/run/etcd_ha_lab")
CHECKOUT = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "etcd_ha"


@dataclass(frozen=True)
class Host:
    """One host of a lab: its short name and the address that follows from it."""

    name: str

    @property
    def fqdn(self) -> str:
        """Full name, which is also the minion id."""
        return f"{self.name}.{DOMAIN}"

    @property
    def address(self) -> str:
        return address_of(self.name)

    @property
    def is_master(self) -> bool:
        return self.name == "master"


def address_of(name: str) -> str:
    """The fixed address of a host: etcdN is .(10+N), lb is .51, lbN is .(50+N)."""
    fixed = {"master": MASTER_ADDRESS, "ca": CA_ADDRESS, "mirror": MIRROR_ADDRESS}
    if name in fixed:
        return fixed[name]
    member = re.fullmatch(r"etcd([1-9]\d*)", name)
    if member and int(member[1]) <= MAX_MEMBERS:
        return f"{NETWORK}.{10 + int(member[1])}"
    balancer = re.fullmatch(r"lb([2-9]|[1-9]\d+)?", name)
    if balancer and int(balancer[1] or 1) <= MAX_BALANCERS:
        return f"{NETWORK}.{50 + int(balancer[1] or 1)}"
    raise LabError(
        f"there is no host '{name}': hosts are master, ca, etcd1..etcd{MAX_MEMBERS}, lb, lb2.."
    )


def short_name(name: str) -> str:
    """Accept `etcd1.example.com` wherever `etcd1` is meant."""
    return name.removesuffix(f".{DOMAIN}")


def host_names(members: int, balancers: int) -> list[str]:
    """All hosts of a lab, the master first because the others wait for it."""
    if not 0 <= members <= MAX_MEMBERS:
        raise LabError(f"--hosts must be 0..{MAX_MEMBERS}, not {members}")
    if not 0 <= balancers <= MAX_BALANCERS:
        raise LabError(f"--balancers must be 0..{MAX_BALANCERS}, not {balancers}")
    etcd = [f"etcd{n}" for n in range(1, members + 1)]
    lbs = ["lb" if n == 1 else f"lb{n}" for n in range(1, balancers + 1)]
    return ["master", "ca", *etcd, *lbs]


@dataclass(frozen=True)
class Places:
    """Where a lab of a given name keeps things. A second lab has another name and shares none."""

    lab: str

    def __post_init__(self) -> None:
        # No dash: `a` must never be the prefix of another lab's network namespaces.
        if not re.fullmatch(r"[a-z][a-z0-9]{0,15}", self.lab):
            raise LabError(f"ETCD_HA_LAB must be 1..16 of a-z and 0-9, not '{self.lab}'")

    @property
    def state(self) -> Path:
        return RUN / self.lab

    @property
    def disks(self) -> Path:
        """Disk images live on the machine's real disk, for etcd waits for every fsync."""
        return Path("/var/lib/etcd_ha_lab") / self.lab

    def saved(self, name: str) -> Path:
        """Folder of the disks that were saved under a name."""
        if not re.fullmatch(r"[a-z0-9]{1,32}", name):
            raise LabError(f"disks are saved under a name of 1..32 of a-z and 0-9, not '{name}'")
        return self.disks / "saved" / name

    @property
    def lock(self) -> Path:
        # Beside the state directory, for `down` removes that one.
        return RUN / f"{self.lab}.lock"

    @property
    def record(self) -> Path:
        return self.state / "lab.json"

    @property
    def keys(self) -> Path:
        return self.state / "keys"

    @property
    def pillar(self) -> Path:
        return self.state / "pillar"

    @property
    def corrupt(self) -> Path:
        """Artifacts here are served instead of the cached ones."""
        return self.state / "mirror"

    @property
    def cuts(self) -> Path:
        return self.state / "cuts.json"

    def host(self, name: str) -> Path:
        return self.state / "hosts" / name

    def root(self, name: str) -> Path:
        return self.host(name) / "root"

    def disk(self, name: str) -> Path:
        return self.host(name) / "disk"

    def image(self, name: str) -> Path:
        return self.disks / f"{name}.img"

    @property
    def switch(self) -> str:
        """Network namespace that holds the bridge and the mirror."""
        return f"etcdha-{self.lab}"

    def netns(self, name: str) -> str:
        return f"etcdha-{self.lab}-{name}"


def labs() -> list[str]:
    """Names of the labs that are up, or that were and left something."""
    return [path.name for path in RUN.iterdir() if path.is_dir()] if RUN.is_dir() else []


def current_lab() -> Places:
    return Places(os.environ.get("ETCD_HA_LAB", "lab"))
