"""The status of all clusters: what one of them, or one host, has wrong hides no other."""

import etcd_ha_minions
import pytest
import salt.exceptions
from etcd_ha_master import Master
from faces import load


@pytest.fixture
def runner(cluster, monkeypatch):
    module = load("_runners/etcd_ha_overview")
    module.faults = {}
    found = {"main": cluster}
    silent = {"etcd2.example.com": "did not answer with its facts: etcd is malformed"}
    facts = etcd_ha_minions.Facts({}, silent, silent)
    monkeypatch.setattr(
        Master, "clusters_and_faults", lambda self, name=None: (found, module.faults)
    )
    monkeypatch.setattr(etcd_ha_minions, "facts", lambda *_: facts)
    return module


def test_a_host_without_facts_is_shown_with_its_cause(runner):
    with pytest.raises(salt.exceptions.NotImplemented) as told:
        runner.status()
    why = "etcd2.example.com did not answer with its facts: etcd is malformed"
    assert why in str(told.value).splitlines()


def test_a_fault_of_one_cluster_hides_no_other_one(runner):
    runner.faults["other"] = "etcd_ha:clusters:other:versoin is unknown"
    with pytest.raises(salt.exceptions.NotImplemented) as told:
        runner.status()
    assert "etcd1" in str(told.value) and str(told.value).endswith("versoin is unknown")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("_runners/etcd_ha_overview", "certificates"),
        ("_runners/etcd_ha_overview", "hash_kv"),
        ("_runners/etcd_ha_backups", "backups"),
    ],
)
def test_other_tables_show_a_faulty_cluster_beside_the_others(
    file, name, runner, monkeypatch, cluster
):
    runner.faults["other"] = "etcd_ha:clusters:other:versoin is unknown"
    monkeypatch.setattr(etcd_ha_minions, "connected", lambda master, named: list(named))
    monkeypatch.setattr(etcd_ha_minions, "ask", lambda *words: {})
    monkeypatch.setattr(etcd_ha_minions, "sync", lambda *words: None)
    module = load(file)
    with pytest.raises(salt.exceptions.NotImplemented) as told:
        getattr(module, name)()
    assert str(told.value).startswith("main"), told.value
    assert str(told.value).endswith("versoin is unknown")
