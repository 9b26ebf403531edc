"""``etcd_ha.verify`` on a balancer: of which cluster it is, also in the middle of a rename."""

import dataclasses

import etcd_ha_client
import etcd_ha_host_balancer
import etcd_ha_master
import etcd_ha_minions
import pytest
from faces import load
from salt.exceptions import CommandExecutionError

BACKENDS = [{"name": "etcd1", "minion": "e1", "endpoint": "10.0.0.1:2379"}]


@pytest.fixture
def verify(monkeypatch):
    """What a balancer answers that is still configured for ``main``."""
    mark = {"balancer": {"cluster": "main", "kind": "haproxy", "backends": BACKENDS}}
    monkeypatch.setattr(etcd_ha_client, "certain_mark", lambda: mark)
    monkeypatch.setattr(etcd_ha_host_balancer.Watch, "wait", lambda *_: {})
    return load("_modules/etcd_ha").verify


@pytest.mark.parametrize(("name", "former"), [("main", ""), ("prod", "main")])
def test_a_balancer_sees_the_members_of_its_cluster_under_either_name(verify, name, former):
    assert set(verify([], name, former=former)) == {"e1"}


@pytest.mark.parametrize("former", ["", "other"])
def test_a_balancer_of_another_cluster_says_so(verify, former):
    with pytest.raises(CommandExecutionError, match="a balancer of this cluster"):
        verify([], "prod", former=former)


@pytest.mark.parametrize("former", ["", "main"])
def test_the_runner_hands_the_former_name_on(cluster, monkeypatch, former):
    """A minion's own pillar may be older than the rename."""
    asked = []
    renamed = dataclasses.replace(cluster, name="prod", former=former)
    pillar = {"prod": renamed}, {}
    monkeypatch.setattr(etcd_ha_master.Master, "clusters_and_faults", lambda *_: pillar)
    monkeypatch.setattr(etcd_ha_minions, "connected", lambda _, those: list(those))
    monkeypatch.setattr(etcd_ha_minions, "ask", lambda *_, kwarg: asked.append(kwarg) or {})
    monkeypatch.setattr(etcd_ha_master, "tell", lambda *_: None)
    load("_runners/etcd_ha_verify").verify("prod", balancers=["lb"])
    assert asked[0].get("former", "") == former


@pytest.mark.parametrize("former", ["", "main"])
def test_an_orchestrate_names_the_former_name_and_no_pillar_is_compiled(monkeypatch, former):
    asked = []
    monkeypatch.setattr(etcd_ha_master.Master, "clusters_and_faults", lambda *_: 1 / 0)
    monkeypatch.setattr(etcd_ha_minions, "connected", lambda _, those: list(those))
    monkeypatch.setattr(etcd_ha_minions, "ask", lambda *_, kwarg: asked.append(kwarg) or {})
    monkeypatch.setattr(etcd_ha_master, "tell", lambda *_: None)
    load("_runners/etcd_ha_verify").verify("prod", balancers=["lb"], former=former)
    assert asked[0].get("former", "") == former
