"""Which releases have known holes, and what a plan says of them."""

import copy
import re

import etcd_ha_etcd_known_holes as holes
import etcd_ha_release
import etcd_ha_stages
import etcd_ha_topology
import pytest
from good_pillar import PILLAR


@pytest.mark.parametrize(
    ("version", "says", "safe"),
    [
        ("3.4.30", "watches lose events", "3.4.44"),
        ("3.5.16", "applied in part", "3.5.33"),
        ("3.5.32", "watch all keys behind it", "3.5.33"),
        ("3.6.4", "damaged by a defragmentation", "3.6.14"),
        ("3.7.0", "GHSA-6vch-q96h-7gc3", "3.7.1"),
    ],
)
def test_a_release_with_holes_is_noted_with_the_one_to_use(version, says, safe):
    note = holes.note(version, "KEY")
    assert note.startswith(f"KEY is {version}, which has known holes: ") and says in note
    assert f"Use {safe} or newer, see https://" in note
    assert holes.note(safe, "KEY") == ""


@pytest.mark.parametrize("version", [*etcd_ha_stages.NEWEST.values(), "3.6.14", "3.5.33", "x", ""])
def test_others_are_not_noted(version):
    assert holes.note(version, "KEY") == ""


def test_a_distribution_s_package_may_have_fixes_of_its_own():
    assert "Your distribution" in holes.note("3.4.23", "KEY", packaged=True)
    assert "Your distribution" not in holes.note("3.4.23", "KEY")


def test_the_plan_says_so_once(defaults):
    pillar = copy.deepcopy(PILLAR)
    pillar["clusters"]["main"]["version"] = "3.6.8"
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    (note,) = etcd_ha_topology.warnings(cluster)
    assert note.startswith("etcd_ha:clusters:main:version is 3.6.8, which has known holes: ")


def test_the_shipped_release_has_none(cluster):
    assert etcd_ha_topology.warnings(cluster) == []


@pytest.mark.parametrize("hole", holes.HOLES, ids=lambda hole: hole.what)
def test_a_hole_has_a_source_and_releases_that_may_run(hole):
    assert hole.source.startswith("https://") and hole.fixed
    assert set(hole.fixed) <= set(etcd_ha_release.LINES)
    for line, patch in hole.fixed.items():
        # Fixed before the oldest release that may run: nobody can have it any more.
        oldest = etcd_ha_release.OLDEST_SAFE.get(tuple(map(int, line.split("."))), 0)
        assert patch > oldest
        assert etcd_ha_release.parse(f"{line}.{patch}") <= etcd_ha_release.parse(
            etcd_ha_stages.NEWEST[line]
        )
    assert re.fullmatch(r"[a-z][^.;]+", hole.what)


def test_the_newest_known_releases_are_of_each_line():
    assert tuple(etcd_ha_stages.NEWEST) == etcd_ha_release.LINES
    assert etcd_ha_stages.NEWEST["3.6"] == "3.6.16" and etcd_ha_stages.NEWEST["3.7"] == "3.7.3"
