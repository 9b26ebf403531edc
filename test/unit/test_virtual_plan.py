"""Balancers that share an address: configured one by one, and none that left keeps it."""

import dataclasses

import etcd_ha_planner
import etcd_ha_topology
import pytest
import systemd_units
from etcd_ha_observed import Observed
from faces import load
from systemd_units import DOWN, UP
from test_planner import DIGEST, OURS, change, healthy, wanted

ADDRESS = "192.168.200.50"
LB, LB2, LB3 = "lb.example.com", "lb2.example.com", "lb3.example.com"


@pytest.fixture
def shared(pillar, defaults):
    main = pillar["clusters"]["main"]
    main["load_balancers"].update({LB2: "192.168.200.57", LB3: "192.168.200.58"})
    main["balancer"] = {"virtual_address": {"address": ADDRESS}}
    return etcd_ha_topology.read(pillar, defaults)["main"]


def titles(cluster, hosts, balancers=(LB, LB2, LB3)):
    known = dataclasses.replace(wanted(cluster), balancers=balancers)
    plan = etcd_ha_planner.plan(cluster, hosts, known)
    assert not plan.refusal, plan.refusal
    return [step.title.partition(": ")[2] for step in plan.steps]


def stale(hosts, *minions, holder=""):
    for minion in minions:
        values = {"digest": "old", "holds_address": minion == holder, "balancer_of": "main"}
        hosts = change(hosts, minion, **values)
    return hosts


@pytest.mark.parametrize("holder", [LB, LB2, LB3])
def test_who_holds_the_address_is_configured_last(shared, holder):
    short = holder.partition(".")[0]
    found = titles(shared, stale(healthy(shared), LB, LB2, LB3, holder=holder))
    others = [name for name in ("lb", "lb2", "lb3") if name != short]
    assert found[1:-1] == [
        *(f"configure the balancer {name}" for name in others),
        f"see that {', '.join(others)} can take {ADDRESS} over",
        f"configure the balancer {short}",
    ]


def test_the_first_time_nobody_holds_it(shared):
    found = titles(shared, stale(healthy(shared), LB, LB2, LB3))
    assert found[1:-1] == [f"configure the balancer {name}" for name in ("lb", "lb2", "lb3")]


def test_the_holder_alone_waits_for_nobody(shared):
    """The others may be down: that must not keep its configuration from it."""
    found = titles(shared, stale(healthy(shared), LB2, holder=LB2))
    assert found[1:-1] == ["configure the balancer lb2"]


def test_without_an_address_all_are_configured_at_once(shared):
    shared.settings["balancer"]["virtual_address"]["address"] = None
    found = titles(shared, stale(healthy(shared), LB, LB2, LB3, holder=LB))
    assert found[1:-1] == ["configure the balancer lb, lb2, lb3"]


def left(shared, **values):
    """A cluster in sync, and a balancer that the pillar has dropped."""
    hosts = {one: host for one, host in healthy(shared).items() if one != LB3}
    for minion in (LB, LB2):
        hosts = change(hosts, minion, balancer_of="main")
    kept = tuple(b for b in shared.balancers if b.minion != LB3)
    gone = Observed(LB3, DIGEST, balancer_healthy=True, balancer_trust=OURS, **values)
    return dataclasses.replace(shared, balancers=kept), {**hosts, LB3: gone}


def test_a_balancer_that_left_is_stopped_before_the_others_forget_it(shared):
    cluster, hosts = left(shared, balancer_of="main", holds_address=True)
    found = titles(cluster, stale(hosts, LB, LB2))
    begun = [
        f"see that lb, lb2 can take {ADDRESS} over",
        "stop the balancer lb3",
        "configure the balancer lb",
        "configure the balancer lb2",
    ]
    assert found[1:-1] == begun


def test_one_that_alone_serves_stays_until_another_one_can(shared):
    cluster, hosts = left(shared, balancer_of="main", holds_address=True)
    for minion in (LB, LB2):
        hosts = change(hosts, minion, balancer_healthy=False)
    assert titles(cluster, hosts)[1:-1] == [
        "configure the balancer lb",
        "configure the balancer lb2",
        f"see that lb, lb2 can take {ADDRESS} over",
        "stop the balancer lb3",
    ]


def test_one_that_does_not_hold_the_address_is_stopped_at_once(shared):
    cluster, hosts = left(shared, balancer_of="main")
    assert "stop the balancer lb3" in titles(cluster, hosts)
    assert not [title for title in titles(cluster, hosts) if "take" in title]


def test_one_that_is_stopped_already_needs_nothing(shared):
    cluster, hosts = left(shared)
    assert titles(cluster, hosts) == []


def test_one_that_serves_another_cluster_by_now_is_left_alone(shared):
    cluster, hosts = left(shared, balancer_of="red")
    assert titles(cluster, hosts) == []


def test_one_that_does_not_answer_stops_nothing(shared):
    cluster, hosts = left(shared, balancer_of="main")
    del hosts[LB3]
    assert titles(cluster, hosts) == []


def test_a_renamed_cluster_s_balancer_is_ours(shared):
    cluster, hosts = left(shared, balancer_of="old")
    assert "stop the balancer lb3" in titles(dataclasses.replace(cluster, former="old"), hosts)


# On the balancer itself


def module(monkeypatch, health):
    face = load("_modules/etcd_ha_virtual", salt={"etcd_ha.health": lambda: next(health)})
    monkeypatch.setattr(face.time, "sleep", lambda seconds: None)
    return face


def test_fit_waits_until_it_is(monkeypatch):
    fine = {"healthy": True, "virtual_address": ADDRESS}
    face = module(monkeypatch, iter([{"healthy": False, "error": "no path"}, fine]))
    assert face.fit() == ADDRESS


def test_fit_says_what_is_wrong(monkeypatch):
    face = module(monkeypatch, iter([{"healthy": False, "error": "no path"}]))
    with pytest.raises(face.CommandExecutionError, match=r"no path\. The one that holds it"):
        face.fit(timeout=1e-9)


def test_an_address_that_is_on_no_interface_says_what_to_correct(monkeypatch):
    face = load("_modules/etcd_ha_virtual")
    monkeypatch.setattr(face.etcd_ha_virtual, "addresses", lambda: {"10.0.0.1": "eth1"})
    assert face.interface("10.0.0.1") == "eth1"
    with pytest.raises(face.CommandExecutionError, match="virtual_address:interface"):
        face.interface("10.0.0.2")


def test_what_is_left_of_an_address_is_known(monkeypatch):
    data = {"keepalived": {"service": "keepalived"}}
    face = load("_modules/etcd_ha_virtual", salt={"etcd_ha.os_data": lambda: data})
    mark = {"cluster": "main", "virtual_address": ADDRESS}
    monkeypatch.setattr(face.etcd_ha_client, "mark", lambda: {"balancer": mark})
    found = face.former()
    assert found["address"] == ADDRESS
    assert found["settings"] == "/etc/etcd/main/virtual_address.json"
    assert found["drop_in"] == "/etc/systemd/system/keepalived.service.d/etcd_ha.conf"
    monkeypatch.setattr(face.etcd_ha_client, "mark", lambda: {"balancer": {"cluster": "main"}})
    assert face.former() == {}


@pytest.fixture
def balancer(monkeypatch):
    """The health of a balancer whose path works."""
    face = load("_modules/etcd_ha")
    monkeypatch.setattr(face, "_path_health", lambda mark, timeout: {"healthy": True})
    monkeypatch.setattr(face, "os_data", lambda: {"keepalived": {"service": "keepalived"}})
    monkeypatch.setattr(face.etcd_ha_virtual, "addresses", lambda: {ADDRESS: "eth0"})
    systemd_units.told(monkeypatch, UP)
    return face


def test_health_knows_who_holds_the_address(balancer, monkeypatch):
    mark = {"virtual_address": ADDRESS}
    found = balancer._balancer_health(mark, 5)
    assert found == {"healthy": True, "virtual_address": ADDRESS, "holds_address": True}
    monkeypatch.setattr(balancer.etcd_ha_virtual, "addresses", dict)
    assert balancer._balancer_health(mark, 5)["holds_address"] is False
    assert balancer._balancer_health({}, 5) == {"healthy": True}


def test_without_keepalived_a_balancer_is_not_healthy(balancer, monkeypatch):
    systemd_units.told(monkeypatch, DOWN)
    found = balancer._balancer_health({"virtual_address": ADDRESS}, 5)
    assert found["healthy"] is False and "journalctl -u keepalived" in found["error"]


def test_endpoints_of_a_balancer_begin_with_the_shared_one(balancer, monkeypatch):
    mark = {"url": "own", "endpoints": ["shared", "own"]}
    monkeypatch.setattr(balancer.etcd_ha_client, "mark", lambda: {"balancer": mark})
    assert balancer.endpoints() == ["shared", "own"]
    # What a converge before this one has left.
    del mark["endpoints"]
    assert balancer.endpoints() == ["own"]
