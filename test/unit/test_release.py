"""Versions, archive names and checksums."""

import etcd_ha_release
import pytest


def test_versions_compare_as_numbers():
    assert etcd_ha_release.parse("3.10.0") > etcd_ha_release.parse("v3.9.12")


@pytest.mark.parametrize("text", ["3.6", 3.6, None, "3.6.14-rc.0", "latest", "", "3.6.14\n"])
def test_what_is_no_full_version_is_refused(text):
    assert "not a full etcd version" in (etcd_ha_release.fault(text) or "")


@pytest.mark.parametrize("text", ["3.4.21", "3.5.5", "3.3.27", "4.0.0"])
def test_versions_that_lose_data_or_are_unknown_are_refused(text):
    assert etcd_ha_release.fault(text)


@pytest.mark.parametrize("text", ["3.4.22", "3.5.6", "3.6.14", "v3.7.1"])
def test_good_versions_pass(text):
    assert etcd_ha_release.fault(text) is None


def test_the_layout_is_upstreams():
    assert etcd_ha_release.archive_url("https://m/etcd/", "3.6.14", "arm64") == (
        "https://m/etcd/v3.6.14/etcd-v3.6.14-linux-arm64.tar.gz"
    )


def test_the_listed_hash_is_that_of_the_very_file():
    sums = f"{'a' * 64}  etcd-v3.6.14-linux-amd64.tar.gz.asc\n{'b' * 64} *x.tar.gz\n"
    assert etcd_ha_release.listed(sums, "x.tar.gz") == "b" * 64
    with pytest.raises(ValueError, match="does not list"):
        etcd_ha_release.listed(sums, "etcd-v3.6.14-linux-amd64.tar.gz")


def test_an_unknown_architecture_is_refused():
    with pytest.raises(ValueError, match="riscv64"):
        etcd_ha_release.architecture("riscv64")
