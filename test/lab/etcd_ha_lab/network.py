"""Network namespaces: one with the bridge (and the mirror on it), one for each host.

Nothing stands in the machine's own namespace, so that its network stays as it is.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from .config import MIRROR_ADDRESS, PREFIX_LENGTH, RUN, Host, Places, labs
from .machine import run

BRIDGE = "switch"

# `ip netns` mounts this folder on itself and never undoes it; the mark says that we were the first.
NAMESPACES = Path("/run/netns")
OURS = RUN / "netns.ours"


def batch(netns: str, *commands: str) -> None:
    """Several `ip` commands in a namespace, as one process."""
    run("ip", "-n", netns, "-batch", "-", input="\n".join(commands) + "\n")


def create_switch(places: Places) -> None:
    if not os.path.ismount(NAMESPACES):
        OURS.touch()
    run("ip", "netns", "add", places.switch)
    batch(
        places.switch,
        "link set lo up",
        # No spanning tree and no delay: a port forwards from its first packet on.
        f"link add {BRIDGE} type bridge forward_delay 0 mcast_snooping 0",
        f"address add {MIRROR_ADDRESS}/{PREFIX_LENGTH} dev {BRIDGE}",
        f"link set {BRIDGE} up",
    )


def connect(places: Places, host: Host) -> None:
    """A namespace for the host, with a wire from its eth0 to a port of the switch."""
    netns = places.netns(host.name)
    run("ip", "netns", "add", netns)
    run("ip", "-n", places.switch, "link", "add", "name", host.name, "type", "veth",
        "peer", "name", "eth0", "netns", netns)  # fmt: skip
    batch(
        places.switch,
        f"link set dev {host.name} master {BRIDGE}",
        f"link set dev {host.name} up",
    )
    batch(
        netns,
        "link set lo up",
        f"address add {host.address}/{PREFIX_LENGTH} dev eth0",
        "link set eth0 up",
    )


def disconnect(places: Places, name: str) -> None:
    """Remove a host's namespace; its wire goes with it."""
    if places.netns(name) in namespaces(places):
        run("ip", "netns", "delete", places.netns(name))
    # The kernel takes a namespace down later; the port must be free at once.
    subprocess.run(
        ["ip", "-n", places.switch, "link", "delete", "dev", name], stderr=subprocess.DEVNULL
    )


def namespaces(places: Places) -> list[str]:
    """All namespaces of this lab, whoever made them."""
    listed = [line.split()[0] for line in run("ip", "netns", "list").splitlines() if line.strip()]
    return [n for n in listed if n == places.switch or n.startswith(f"{places.switch}-")]


def remove_all(places: Places) -> None:
    for netns in namespaces(places):
        run("ip", "netns", "delete", netns)


def unmount_namespaces() -> None:
    """Undo what `ip netns` did to the machine, once no lab and nobody else has a namespace."""
    if OURS.exists() and not labs() and not any(NAMESPACES.iterdir()):
        subprocess.run(["umount", NAMESPACES], stderr=subprocess.DEVNULL)
        OURS.unlink()


def set_port(places: Places, name: str, up: bool) -> None:
    """Plug a host in, or pull its plug."""
    run("ip", "-n", places.switch, "link", "set", "dev", name, "up" if up else "down")


def unplugged(places: Places) -> set[str]:
    """Names of the hosts whose plug is pulled."""
    links = json.loads(run("ip", "-n", places.switch, "-json", "link", "show", "type", "veth"))
    return {link["ifname"] for link in links if "UP" not in link["flags"]}


def drop(places: Places, pairs: list[tuple[str, str]]) -> None:
    """Drop the packets of each (source address, target address), and of no other pair."""
    rules = "\n".join(f"    ip saddr {source} ip daddr {target} drop" for source, target in pairs)
    chains = "\n".join(
        f"  chain {hook} {{\n    type filter hook {hook} priority 0;\n{rules}\n  }}"
        for hook in ("forward", "input", "output")
    )
    table = f"table bridge cuts\ndelete table bridge cuts\ntable bridge cuts {{\n{chains}\n}}\n"
    run("ip", "netns", "exec", places.switch, "nft", "-f", "-", input=table)
