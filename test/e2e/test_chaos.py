"""A short fault campaign of a fixed seed: `make chaos` runs others, and longer (test/chaos)."""

import json
import pathlib
import sys

import pytest
from changing import THREE
from extent import only_in_all

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from chaos.campaign import Campaign, folder_of
from chaos.schedule import AROUND, Limits, State

SEED = 20261124
# What takes seconds, so that several rounds fit into the time.
KINDS = ("etcd_kill", "minion_kill", "power", "freeze", "cut", "deaf", "flap", "wipe", *AROUND)
OPERATIONS = ("converge", "option", "restart", "backup", "defrag")
# Rounds begin for so long; with the last one's end it is about two minutes.
MINUTES = 1.2


@pytest.mark.chaos
@only_in_all
def test_a_short_campaign_breaks_no_promise(changed):
    changed.begin(THREE)
    version = changed.lab.shipped["clusters"]["main"]["version"]
    limits = Limits(KINDS, OPERATIONS, (version,), balancers=1, largest=3)
    folder = folder_of(SEED)
    sound = Campaign(changed.lab, folder, limits, SEED, State(version=version)).run(MINUTES)
    report = json.loads((folder / "report.json").read_text())
    assert sound, json.dumps(report["violations"], indent=1)[:6000]
    counts = report["counts"]
    assert report["rounds"] and sum(report["faults"].values()) > 0, report
    assert counts["requests ok"] > 500 and counts["acknowledged writes"] > 100, counts
    assert counts["watch events"] > 100 and counts["members compared"] == 3, counts
