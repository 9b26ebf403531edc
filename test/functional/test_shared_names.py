"""Several files under one name: Salt's own loader finds the functions of all of them."""

from __future__ import annotations

import copy

import etcd_ha_client
import etcd_ha_etcdctl
import pytest
import salt.loader

RUNNERS = ["plan", "steps", "status", "certificates", "hash_kv", "endpoints"]
RUNNERS += ["backup", "backup_steps", "backups", "claim", "remember", "forget", "pause", "resume"]
RUNNERS += ["verify"]


@pytest.fixture(scope="module")
def opts(minion_opts):
    found = copy.deepcopy(minion_opts)
    found["id"] = "etcd1.example.com"
    found["grains"] = {"id": "etcd1.example.com", "os": "Debian", "os_family": "Debian"}
    return found


@pytest.mark.parametrize(
    "name",
    [
        "etcd_ha.alarm_absent",
        "etcd_ha.healthy",
        "etcd_ha.installed",
        "etcd_ha.key_absent",
        "etcd_ha.key_present",
        "etcd_ha.member_absent",
        "etcd_ha.member_present",
        "etcd_ha.running",
    ],
)
def test_whichever_is_asked_for_first(opts, name):
    modules = salt.loader.minion_mods(opts)
    states = salt.loader.states(opts, modules, salt.loader.utils(opts), None)
    assert name in states
    # Then the others are there as well.
    assert "etcd_ha.running" in states and "etcd_ha.key_present" in states


@pytest.mark.parametrize("name", ["plan", "status", "backup", "forget"])
def test_the_runner_s_too(opts, name):
    utils = salt.loader.utils(opts)
    assert f"etcd_ha.{name}" in salt.loader.runner(opts, utils=utils)
    # As salt-run does it, which loads all of them first.
    found = {one for one in salt.loader.runner(opts, utils=utils) if one.startswith("etcd_ha")}
    assert found == {f"etcd_ha.{one}" for one in RUNNERS}


def test_a_value_of_the_pillar_is_the_value_not_its_mask(opts, monkeypatch):
    """Salt 3008's pillar.get gives asterisks, and its __pillar__ is no dict."""
    found, written = copy.deepcopy(opts), []

    def etcdctl(member, command, timeout, endpoints=None, stdin=None):
        written.append(stdin)
        return etcd_ha_etcdctl.Answer(0, "{}", "")

    monkeypatch.setattr(etcd_ha_client, "etcdctl", etcdctl)
    monkeypatch.setattr(etcd_ha_client, "member_on_disk", lambda: {"config_dir": "/nowhere"})
    monkeypatch.setattr(etcd_ha_client, "serving_endpoint", lambda: "https://c1")
    found["pillar"] = {"app": {"token": "hunter2"}}
    modules = salt.loader.minion_mods(found)
    states = salt.loader.states(found, modules, salt.loader.utils(found), None)
    ret = states["etcd_ha.key_present"]("/a", value_pillar="app:token")
    assert ret["result"] is True and "hunter2" not in str(ret)
    assert written == [None, "hunter2"]
