"""Names, addresses and places of the lab."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "lab"))

from etcd_ha_lab import config
from etcd_ha_lab.ui import LabError, size, table


def test_hosts_of_the_default_lab_start_with_the_master():
    assert config.host_names(3, 1) == ["master", "ca", "etcd1", "etcd2", "etcd3", "lb"]


def test_further_balancers_are_numbered_from_two():
    assert config.host_names(0, 3) == ["master", "ca", "lb", "lb2", "lb3"]


def test_no_two_hosts_share_an_address():
    names = config.host_names(config.MAX_MEMBERS, config.MAX_BALANCERS)
    addresses = {config.address_of(name) for name in names} | {config.MIRROR_ADDRESS}
    assert len(addresses) == len(names) + 1


@pytest.mark.parametrize(("members", "balancers"), [(-1, 1), (31, 1), (3, 31), (3, -1)])
def test_a_number_of_hosts_without_addresses_is_refused(members, balancers):
    with pytest.raises(LabError, match="must be"):
        config.host_names(members, balancers)


@pytest.mark.parametrize("name", ["etcd0", "etcd31", "lb1", "lb31", "db1", "", "etcd01", "lb02"])
def test_a_host_that_cannot_be_is_refused(name):
    with pytest.raises(LabError, match="there is no host"):
        config.address_of(name)


def test_a_minion_id_stands_for_its_host():
    assert config.short_name("etcd1.example.com") == "etcd1"
    assert config.short_name("etcd1") == "etcd1"


@pytest.mark.parametrize("name", ["", "a-b", "A", "1a", "a/b", "..", "a" * 17])
def test_a_lab_name_that_could_reach_into_another_lab_is_refused(name):
    with pytest.raises(LabError, match="ETCD_HA_LAB"):
        config.Places(name)


def test_columns_of_a_table_line_up():
    assert table(("a", "b"), [("long", "x"), ("s", "y")]) == "a     b\nlong  x\ns     y"


def test_sizes_are_for_people():
    assert [size(12), size(2048), size(3 * 1024**2)] == ["12 B", "2.0 KiB", "3.0 MiB"]
