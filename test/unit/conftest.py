"""What the unit tests share: the shipped defaults, and a small valid pillar."""

import copy
import pathlib
import sys

import hypothesis
import pytest
import yaml

# A loaded machine is no fault of the code.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

PILLAR = {
    "clusters": {
        "main": {
            "version": "3.6.14",
            "members": {
                "etcd1.example.com": {"address": "192.168.200.52"},
                "etcd2.example.com": {"address": "192.168.200.62"},
                "etcd3.example.com": {"address": "192.168.200.63"},
            },
            "load_balancers": {"lb.example.com": {"address": "192.168.200.56"}},
            "tls": {"ca": {"minion": "ca.example.com"}},
        }
    }
}


@pytest.fixture(scope="session")
def defaults():
    return yaml.safe_load((ROOT / "etcd_ha" / "defaults.yaml").read_text())


@pytest.fixture
def pillar():
    return copy.deepcopy(PILLAR)


@pytest.fixture
def cluster(pillar, defaults):
    import etcd_ha_topology

    return etcd_ha_topology.read(pillar, defaults)["main"]
