"""A pillar judged without a host: all its faults, and what is allowed but rarely meant.

The rules are those of ``etcd_ha_topology``, by which every plan and state reads the pillar. What is
encrypted stands for itself: its form cannot be known where nobody has the key.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import etcd_ha_plain
import etcd_ha_topology

# What a value that PGP encrypted begins with: salt/renderers/gpg.py, GPG_HEADER.
_ENCRYPTED = "-----BEGIN PGP MESSAGE-----"
# A secret whose place is known, and not what it is: allowed where a secret is.
_STAND_IN = "sdb://encrypted/value"


@dataclass(frozen=True)
class Checked:
    """The clusters of a pillar that are right, every fault, and notes as a plan tells them."""

    clusters: tuple[str, ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]


def check(pillar: object, defaults: Mapping[str, Any]) -> Checked:
    """Judge what the ``etcd_ha`` key holds; ``defaults`` is the content of defaults.yaml."""
    endless = etcd_ha_plain.faults(pillar, "etcd_ha")
    if endless:
        return Checked((), tuple(endless), ())
    try:
        found = etcd_ha_topology.read_each(_decrypted(pillar), defaults)
    except etcd_ha_topology.PillarError as err:
        return Checked((), tuple(dict.fromkeys(err.faults)), ())
    faults: dict[str, None] = {}
    for name in found.faults:
        faults |= dict.fromkeys(found.error(name).faults)
    clusters = found.clusters.values()
    notes = dict.fromkeys(note for one in clusters for note in etcd_ha_topology.warnings(one))
    return Checked(tuple(found.clusters), tuple(faults), tuple(notes))


def _decrypted(value: Any) -> Any:
    """The same, with a stand-in for each secret that is encrypted.

    Certificates and keys (``tls:files``) stay: they are taken as PEM text, which it is.
    """
    if isinstance(value, Mapping):
        return {key: part if key == "files" else _decrypted(part) for key, part in value.items()}
    if isinstance(value, str) and value.lstrip().startswith(_ENCRYPTED):
        return _STAND_IN
    return value
