"""The corpus of pillars in ``bad_pillars/``, read as its files' heads say."""

import copy
import pathlib

import etcd_ha_topology
import salt.utils.yaml
from good_pillar import PILLAR

FOLDER = pathlib.Path(__file__).parent / "bad_pillars"
KEY = "etcd_ha:clusters:main"


def rows(name, columns):
    """The lines of a file of the corpus, each split into so many columns."""
    lines = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    found = [line.split(" | ", columns - 1) for line in lines if line and line[0] != "#"]
    assert all(len(row) == columns for row in found), [r for r in found if len(r) != columns]
    return found


def laid_over(text, key="", pillar=PILLAR):
    """A good pillar with this YAML over it, as Salt reads it."""
    change = salt.utils.yaml.safe_load(text)
    assert isinstance(change, dict), f"no mapping: {text}"
    good = copy.deepcopy(pillar)
    if not key.startswith("etcd_ha"):
        return etcd_ha_topology.merge(good, {"clusters": {"main": change}})
    if "clusters" in change:
        good["clusters"] |= change["clusters"]
        return good
    return etcd_ha_topology.merge(good, change)


def whole(key):
    """A key of the corpus as an error tells it."""
    return key if key.startswith("etcd_ha") else f"{KEY}:{key}"
