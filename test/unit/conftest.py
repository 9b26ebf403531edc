"""What the unit tests share: the shipped defaults, and a small valid pillar."""

import copy
import pathlib
import sys

import hypothesis
import pytest
import yaml
from good_pillar import PILLAR

# A loaded machine is no fault of the code.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


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


@pytest.fixture(autouse=True)
def no_thread_for_a_plan(monkeypatch):
    """Plans are made here without a master, so there are no events to follow."""
    import etcd_ha_orchestration_progress

    monkeypatch.setattr(etcd_ha_orchestration_progress.FOLLOWER, "start", lambda *words: None)
