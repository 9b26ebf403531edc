"""The lab's pillar: the shipped `pillar.example` with the lab's addresses and mirror in it.

Text is replaced, not parsed: comments stay, and what the demo runs is the file that people copy.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from .config import CHECKOUT, DOMAIN, MIRROR_URL, Places, address_of

EXAMPLE = CHECKOUT / "pillar.example"

# Addresses that pillar.example uses -> the lab's host.
ADDRESSES = {
    "192.168.200.52": "etcd1",
    "192.168.200.62": "etcd2",
    "192.168.200.63": "etcd3",
    "192.168.200.56": "lb",
}

# Where upstream's releases are -> the mirror, which has the same layout.
UPSTREAM_URL = re.compile(r"https://[^\s'\"]+/releases/download")

# The releases to pass through that the mirror can give (test/lab/etcd-build has their recipes),
# where the formula knows newer ones.
THROUGH = {"3.5": "3.5.33", "3.6": "3.6.14"}
_THROUGH_DEFAULT = re.compile(r"^( *)# upgrade:\n *#   through: \{\}$", re.MULTILINE)

# The formula ships the pillar file with the CA minion's signing policies.
SIGNING_POLICIES_SLS = "etcd_ha_signing_policies"

TOP = f"""\
base:
  # All minions, and the runner's own view of the pillar (master.{DOMAIN}_master).
  '*':
    - etcd_ha
  'ca.{DOMAIN}':
    - ignore_missing: true
    - {SIGNING_POLICIES_SLS}
"""


def adapt(text: str, version: str | None = None) -> str:
    """Replace the example's addresses, upstream's URL, the releases to pass through and, if given,
    the etcd version.
    """
    for address, host in ADDRESSES.items():
        text = re.sub(rf"(?<![\d.]){re.escape(address)}(?![\d.])", address_of(host), text)
    text = UPSTREAM_URL.sub(f"{MIRROR_URL}/etcd", text)
    through = ", ".join(f"'{line}': {release}" for line, release in THROUGH.items())
    text = _THROUGH_DEFAULT.sub(rf"\g<1>upgrade:\n\g<1>  through: {{{through}}}", text)
    if version:
        text = re.sub(r"^(\s*version:\s*)['\"]?\d+\.\d+\.\d+['\"]?", rf"\g<1>{version}", text,
                      flags=re.MULTILINE)  # fmt: skip
    return text


def write(places: Places, version: str | None, example: Path = EXAMPLE) -> bool:
    """Write top.sls and etcd_ha.sls into the lab's pillar; False where there is no example yet."""
    places.pillar.mkdir(parents=True, exist_ok=True)
    if not example.exists():
        return False
    (places.pillar / "top.sls").write_text(TOP)
    (places.pillar / "etcd_ha.sls").write_text(adapt(example.read_text(), version))
    for path in (places.pillar, *places.pillar.iterdir()):
        _give_to_caller(path)
    return True


def _give_to_caller(path: Path) -> None:
    """Who called sudo may edit the pillar without it."""
    if "SUDO_UID" in os.environ:
        os.chown(path, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]),
                 follow_symlinks=False)  # fmt: skip
