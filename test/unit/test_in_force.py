"""What a highstate makes of a host: what is in force stays, whatever the pillar says by now."""

import copy
import json
import os
import re

import etcd_ha_host
import etcd_ha_host_in_force
import etcd_ha_topology
import pytest
from etcd_ha_host_in_force import EMPTY, PARTS, RecordError, comment, held, recorded
from etcd_ha_topology import PillarError
from faces import ROOT, load
from odd_values import places
from test_mutated_pillars import FULL

MEMBER, BALANCER, CA = "etcd1.example.com", "lb.example.com", "ca.example.com"
HOSTS = (MEMBER, "etcd2.example.com", BALANCER, CA)
MAIN = ("clusters", "main")
# What a highstate takes from the pillar at once; everything else waits for the orchestrate.
AT_ONCE = (*MAIN, "backup")


def described(pillar, defaults, minion, step=None):
    clusters = etcd_ha_topology.read(copy.deepcopy(pillar), defaults).values()
    return etcd_ha_host.describe(minion, clusters, "amd64", step)


def in_force(pillar, defaults, minion, **step):
    return recorded(None, described(pillar, defaults, minion, step))


def kept(host):
    """What states make of a host, without what they only say, and without rules that are added."""
    return {part: host[part] for part in PARTS if part != "firewall"}


def changed(pillar, path, value):
    found = copy.deepcopy(pillar)
    where = found
    for key in path[:-1]:
        where = where.setdefault(key, {}) if isinstance(where, dict) else where[key]
    where[path[-1]] = value
    return found


# Every key of the pillar


OTHER = {
    "token": "other",
    "user": "etcd2",
    "group": "etcd2",
    "data_dir": "/srv/etcd",
    "wal_dir": "/srv/other",
    "config_dir": "/etc/etcd2",
    "kind": "nginx",
    "source": "pillar",
    "algo": "rsa",
    "keysize": 384,
    "bind": "192.168.200.56",
    "schedule": "weekly",
    "directory": "/var/backups/other",
    "version": "3.6.13",
    "address": "192.168.200.99",
    "minion": BALANCER,
    "access": "write",
    "prefix": "/other/",
    "mode": "revision",
    "retention": "2h",
    "bucket": "other",
    "log-level": "warn",
    "auth-token": "jwt",
    "feature-gates": "",
    "url": "https://other/etcd",
    "dir": "/srv/releases",
    "3.5": "3.5.32",
}


def edits():
    """One change for each place of the full pillar: another value of its kind, or without it."""
    for path in places(FULL):
        if not path:
            continue
        value = FULL
        for key in path:
            value = value[key]
        yield path, "dropped", None
        if isinstance(value, bool):
            yield path, "other", not value
        elif isinstance(value, int):
            yield path, "other", value + 1
        elif isinstance(value, str):
            yield path, "other", OTHER.get(path[-1], f"{value}x")
        elif isinstance(value, list):
            yield path, "other", value[:1]


def edited(path, how, value):
    if how == "other":
        return changed(FULL, path, value)
    found = copy.deepcopy(FULL)
    where = found
    for key in path[:-1]:
        where = where[key]
    del where[path[-1]]
    return found


def test_an_edit_of_any_key_changes_nothing_that_is_in_force(defaults):
    wanted = {m: described(FULL, defaults, m) for m in HOSTS}
    records = {m: recorded(None, wanted[m]) for m in HOSTS}
    before = {m: kept(held(records[m], wanted[m])) for m in HOSTS}
    good = {}
    for path, how, value in edits():
        try:
            clusters = etcd_ha_topology.read(edited(path, how, value), defaults).values()
        except PillarError:
            continue
        good[path, how] = {m: etcd_ha_host.describe(m, clusters, "amd64") for m in HOSTS}
    seen = dict.fromkeys(("pending", "at once", "the same"), 0)
    for (path, how), after in good.items():
        for minion in HOSTS:
            edit = path, how, minion
            found, old = held(records[minion], after[minion]), dict(before[minion])
            new = kept(found)
            if path[:3] == AT_ONCE and old["member"]:
                seen["at once"] += new != old
                old["member"], new["member"] = (
                    {**one["member"], "backup": None} for one in (old, new)
                )
            assert new == old, edit
            # Whatever the orchestrate would change is said.
            own, held_to = (etcd_ha_host.digest(one, "s") for one in (after[minion], found))
            assert bool(found["pending"]) is (own != held_to), (edit, found["pending"])
            seen["pending" if found["pending"] else "the same"] += 1
    print(f"\n{len(good)} edits of the pillar, on {len(HOSTS)} hosts each: {seen}")
    assert len(good) > 80 and seen["pending"] > 100 and seen["at once"] > 5


@pytest.mark.parametrize("minion", HOSTS)
def test_with_the_pillar_in_force_a_highstate_is_what_the_orchestrate_was(defaults, minion):
    wanted = described(FULL, defaults, minion)
    found = held(in_force(FULL, defaults, minion), wanted)
    assert found["pending"] == [] and found["action"] == "none"
    assert etcd_ha_host.digest(found, "s") == etcd_ha_host.digest(wanted, "s")
    assert comment(found["pending"]).startswith("nothing is pending")


# What is different from host to host


def test_balancers_lead_to_where_members_are(pillar, defaults):
    record = in_force(pillar, defaults, BALANCER)
    new = changed(pillar, (*MAIN, "ports"), {"client": 3379})
    found = held(record, described(new, defaults, BALANCER))
    endpoints = [one["endpoint"] for one in found["balancer"]["backends"]]
    assert all(one.endswith(":2379") for one in endpoints)
    told = comment(found["pending"])
    assert told.startswith("pending: ") and "balancer.backends" in told
    assert "salt-run state.orchestrate etcd_ha.orch" in told


def test_balancers_lead_to_both_places_while_members_move(pillar, defaults):
    """A highstate in the middle of a change keeps what the orchestrate's last step wrote."""
    new = changed(pillar, (*MAIN, "ports"), {"client": 3379})
    record = in_force(new, defaults, BALANCER, leads_to={MEMBER: ["192.168.200.52:2379"]})
    found = held(record, described(new, defaults, BALANCER))
    places_led_to = [one["endpoint"] for one in found["balancer"]["backends"]]
    assert {"192.168.200.52:2379", "192.168.200.52:3379"} <= set(places_led_to)
    assert found["pending"]


@pytest.mark.parametrize("minion", [MEMBER, BALANCER])
def test_firewalls_admit_who_needs_etcd_now_and_who_will(pillar, defaults, minion):
    on = changed(pillar, (*MAIN, "firewall"), {"enabled": True, "client_networks": ["10.1.0.0/16"]})
    record = in_force(on, defaults, minion)
    new = changed(on, (*MAIN, "ports"), {"client": 3379})
    new = changed(new, (*MAIN, "firewall", "client_networks"), ["10.2.0.0/16"])
    new = changed(new, (*MAIN, "members", MEMBER, "address"), "192.168.200.99")
    present, coming = record["firewall"], described(new, defaults, minion)["firewall"]
    found = held(record, described(new, defaults, minion))["firewall"]
    admitted = {(r["port"], one) for r in found["rules"] for one in r["sources"]}
    for rules in (present, coming):
        assert {(r["port"], one) for r in rules["rules"] for one in r["sources"]} <= admitted
    assert len({(r["port"], r["protocol"]) for r in found["rules"]}) == len(found["rules"])


@pytest.mark.parametrize(("present", "coming"), [(False, True), (True, False)])
def test_a_firewall_is_turned_on_and_off_by_the_orchestrate(pillar, defaults, present, coming):
    old = changed(pillar, (*MAIN, "firewall"), {"enabled": present})
    new = changed(pillar, (*MAIN, "firewall"), {"enabled": coming})
    record = in_force(old, defaults, MEMBER)
    found = held(record, described(new, defaults, MEMBER))
    assert found["firewall"] == record["firewall"] and found["pending"]


def test_a_host_that_left_the_pillar_stays_what_it_is(pillar, defaults):
    record = in_force(pillar, defaults, MEMBER)
    new = copy.deepcopy(pillar)
    del new["clusters"]["main"]["members"][MEMBER]
    found = held(record, described(new, defaults, MEMBER), ["member"])
    assert kept(found) == kept(record) and found["pending"] and not found["cleared"]
    # A member that was taken out of the list while its host was away cannot start any more.
    assert found["action"] == "hold"
    assert held(record, described(pillar, defaults, MEMBER), ["member"])["action"] == "none"


def test_a_cluster_under_a_new_name_keeps_the_old_one(pillar, defaults):
    record = in_force(pillar, defaults, MEMBER)
    new = {"clusters": {"prod": {**pillar["clusters"]["main"], "renamed_from": "main"}}}
    found = held(record, described(new, defaults, MEMBER), ["member"])
    assert found["member"]["cluster"] == "main" and found["former"] == {}
    # The secrets of its backups stand under the new name in the pillar.
    assert found["pillar_secrets"] is False


# Hosts without a record


@pytest.mark.parametrize("minion", [MEMBER, BALANCER, CA])
def test_on_a_new_host_nothing_is_in_force(pillar, defaults, minion):
    wanted = described(pillar, defaults, minion)
    found = held(None, wanted)
    assert {part: found[part] for part in PARTS} == dict(EMPTY)
    assert found["coming"] == {"member": wanted["member"], "balancer": wanted["balancer"]}
    assert "is not in force here yet" in comment(found["pending"])
    assert not found["cleared"] and found["issuing"] == []


@pytest.mark.parametrize("part", ["member", "balancer"])
def test_on_a_host_whose_record_is_lost_nothing_is_touched(pillar, defaults, part):
    minion = {"member": MEMBER, "balancer": BALANCER}[part]
    found = held(None, described(pillar, defaults, minion), [part])
    assert found[part] is None and found["coming"][part] is None
    assert "no record says" in comment(found["pending"])


def test_a_record_that_is_no_good_is_not_no_record(pillar, defaults):
    found = held(None, described(pillar, defaults, MEMBER), (), "it cannot be read")
    assert found["coming"] == {"member": None, "balancer": None} and not found["cleared"]
    assert "it cannot be read" in comment(found["pending"])


def test_rules_of_a_host_without_a_part_are_cleared_as_ever(pillar, defaults):
    assert held(None, described(pillar, defaults, "stranger"))["cleared"]
    entries = [{"address": "192.168.200.52", "names": ["etcd1.example.com"]}]
    record = {**EMPTY, "firewall": {"kind": "auto", "rules": []}, "entries": entries}
    found = held(record, described(pillar, defaults, "stranger"))
    assert found["cleared"] and found["firewall"] is None
    # What was in force on it once is no reason to wait for the orchestrate, which has no step here.
    assert found["entries"] == [] and found["pending"] == []


def test_what_was_prepared_is_in_force_and_the_rest_is_coming(pillar, defaults):
    step = {"prepares": True}
    record = recorded(None, described(pillar, defaults, MEMBER, step))
    assert record["entries"] and record["member"] is None and record["clusters"] == []
    found = held(record, described(pillar, defaults, MEMBER))
    assert found["coming"]["member"] and found["member"] is None
    # A host that is nothing but a CA is complete once it is prepared.
    assert recorded(None, described(pillar, defaults, CA, step))["clusters"] == ["main"]


def test_preparing_a_member_leaves_what_is_in_force(pillar, defaults):
    old = in_force(pillar, defaults, MEMBER)
    new = changed(pillar, (*MAIN, "ports"), {"client": 3379})
    new = changed(new, (*MAIN, "members", "etcd2.example.com", "address"), "192.168.200.99")
    record = recorded(old, described(new, defaults, MEMBER, {"prepares": True}))
    assert record["member"] == old["member"] and record["entries"] != old["entries"]


def test_a_newer_formula_fills_in_what_the_record_lacks(pillar, defaults):
    record = in_force(pillar, defaults, MEMBER)
    del record["member"]["start_timeout"], record["member"]["install"]["current"]
    variables = dict(record["member"]["environment"])
    del record["member"]["environment"]["ETCD_INITIAL_CLUSTER_TOKEN"]
    found = held(record, described(pillar, defaults, MEMBER))["member"]
    assert found["start_timeout"] == 120 and found["install"]["current"] == "/opt/etcd/current"
    # But no variable of etcd's: these are what is in force.
    assert set(variables) - set(found["environment"]) == {"ETCD_INITIAL_CLUSTER_TOKEN"}


# The record on disk


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "in_force" / "host.json"
    monkeypatch.setattr(etcd_ha_host_in_force, "FILE", str(path))
    return path


def test_the_record_is_read_as_it_was_written(file, pillar, defaults):
    assert etcd_ha_host_in_force.read() is None
    record = in_force(pillar, defaults, MEMBER)
    etcd_ha_host_in_force.write(record)
    assert etcd_ha_host_in_force.read() == record
    assert file.stat().st_mode & 0o777 == 0o600


SPOILED = {
    "no JSON": lambda text: text[:-20],
    "a list": lambda text: "[]",
    "another form": lambda text: text.replace('"form": 1', '"form": 2'),
    "changed by hand": lambda text: text.replace(":2379", ":3379"),
    "without a host": lambda text: '{"form": 1}',
    "empty": lambda text: "",
    "deep": lambda text: "[" * 100000,
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_record_is_an_error_with_its_cause(file, pillar, defaults, how):
    etcd_ha_host_in_force.write(in_force(pillar, defaults, MEMBER))
    file.write_text(SPOILED[how](file.read_text()))
    with pytest.raises(RecordError, match=re.escape(str(file))):
        etcd_ha_host_in_force.read()


def test_a_part_that_was_retired_is_forgotten(file, pillar, defaults):
    etcd_ha_host_in_force.forget("balancer")
    assert not file.exists()
    etcd_ha_host_in_force.write(in_force(pillar, defaults, BALANCER))
    etcd_ha_host_in_force.forget("balancer")
    assert etcd_ha_host_in_force.read()["balancer"] is None
    etcd_ha_host_in_force.forget()
    assert etcd_ha_host_in_force.read() is None


def test_the_record_holds_no_secret(defaults):
    for minion in HOSTS:
        assert "planted-secret" not in json.dumps(in_force(FULL, defaults, minion))


# What could go past the record


def test_states_read_the_pillar_through_the_one_mapping_alone():
    """An SLS that looked into the pillar would bring an edit of it to a host at once."""
    known = {
        # The hash of the formula's states, handed over by the orchestrate.
        "applied/init.sls": 1,
        # Whether the CA signs for anybody: what its policies are is Salt's own matter.
        "authority/init.sls": 1,
        # PEM text, which only stands where its hash is the one in force (etcd_ha_host_leaves).
        "certificates/pillar.sls": 1,
    }
    found = {}
    for path in (ROOT / "etcd_ha").rglob("*"):
        if path.suffix in (".sls", ".jinja") and "orch" not in path.parts:
            uses = re.findall(r"pillar\.get|pillar\[|pillar\.\w+\(", path.read_text())
            if uses:
                found[str(path.relative_to(ROOT / "etcd_ha"))] = len(uses)
    assert found == known


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_record_is_root_s_alone_whatever_the_umask_is(tmp_path, monkeypatch, umask):
    path = tmp_path / "in_force" / "host.json"
    monkeypatch.setattr(etcd_ha_host_in_force, "FILE", str(path))
    before = os.umask(umask)
    try:
        etcd_ha_host_in_force.write(EMPTY)
    finally:
        os.umask(before)
    assert [one.stat().st_mode & 0o777 for one in (path.parent, path)] == [0o700, 0o600]


@pytest.mark.parametrize("test", [False, True])
def test_nothing_is_recorded_of_another_pillar_than_the_plan_s(
    pillar, defaults, tmp_path, monkeypatch, test
):
    monkeypatch.setattr(etcd_ha_host_in_force, "FILE", str(tmp_path / "host.json"))
    states = load("_states/etcd_ha", opts={"test": test})
    host = described(pillar, defaults, "etcd1.example.com", {})
    ret = states.in_force("x", {**host, "other_pillar": True})
    assert ret["result"] is False and ret["changes"] == {}
    assert "salt-run pillar.clear_pillar_cache" in ret["comment"] and not list(tmp_path.iterdir())
