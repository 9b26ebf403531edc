"""The core of the formula on one etcd release each: what ``make matrix`` runs on every system.

Bootstrap, nothing to do, a change under load, a lost member, a backup and its restore; and the way
up from the line before.
"""

import json

import pytest
from changing import THREE
from extent import only_in_all
from lab_command import minions

pytestmark = pytest.mark.core
VERSIONS = ("3.4.23", "3.5.33", "3.6.14", "3.7.1")
# Release -> the one of the line before.
BEFORE = dict(zip(VERSIONS[1:], VERSIONS, strict=False))


@pytest.fixture
def core(changed):
    """The ground, where these releases can be had."""

    def begun(*versions):
        missing = set(versions) - set(changed.obtainable(*versions))
        if missing:
            pytest.skip(f"etcd {', '.join(sorted(missing))} cannot be had on this machine")
        changed.begin(THREE, version=versions[0])
        return changed

    return begun


def in_sync(changed):
    """Neither the orchestrate nor a highstate has anything to do."""
    changed.settled()
    for minion, states in changed.lab.apply(minions(*THREE, "lb", "ca")).items():
        rows = [s for s in states.values() if s["changes"] or s["result"] is not True]
        assert not rows, (minion, rows)


@only_in_all
@pytest.mark.parametrize("version", VERSIONS)
def test_a_release(core, version):
    changed = core(version)
    lab, name = changed.lab, f"core-{version}"
    in_sync(changed)
    assert changed.versions() == {version}
    changed.change(THREE, name, version=version, options={"heartbeat-interval": 120})
    lab.fault("etcd3", "wipe", "--data", "/var/lib/etcd")
    changed.run(THREE, f"{name}-wiped")
    lab.put("/before", "kept")
    lab.orch(command="backup", timeout=600).ok()
    lab.put("/after", "gone")
    lab.orch("pillar=" + json.dumps({"confirm": "main"}), command="restore", timeout=600).ok()
    assert lab.get("/before", host="etcd2") == "kept"
    assert lab.get("/after", host="etcd2") == ""
    in_sync(changed)


@only_in_all
@pytest.mark.parametrize("version", VERSIONS[1:])
def test_the_way_up_to_a_release(core, version):
    changed = core(BEFORE[version], version)
    changed.change(THREE, f"up-{version}", version=version)
    assert changed.versions() == {version}
    in_sync(changed)
