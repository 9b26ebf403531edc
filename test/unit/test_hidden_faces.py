"""What a host says and does while its etcd runs on data that its path does not lead to."""

import etcd_ha_client
import etcd_ha_common_systemd
import etcd_ha_faces
import etcd_ha_host_etcds
import etcd_ha_host_hidden
import etcd_ha_host_record
import etcd_ha_machine
import etcd_ha_told
import pytest
from etcd_ha_observed import Observed
from faces import load
from systemd_units import DOWN, UP
from test_states_of_a_host import member, refusing  # noqa: F401

MOUNT = {"kind": "mount", "path": "/var/lib/etcd", "by": "/var/lib/etcd"}
DELETED = {"kind": "deleted", "path": "/var/lib/etcd", "by": ""}


@pytest.fixture
def host(tmp_path, monkeypatch):
    """etcd_ha on a host with a member; ``looked`` are the processes that were looked at."""
    module = load("_modules/etcd_ha", opts={}, grains={"id": "etcd1.example.com"})
    module.looked, module.found, module.unit = [], {}, UP
    record = {"cluster": "main", "data_dir": str(tmp_path), "wal_dir": "", "member_id": "a"}
    environment = {"ETCD_DATA_DIR": str(tmp_path)}
    monkeypatch.setattr(etcd_ha_host_record, "read", lambda: record)
    monkeypatch.setattr(etcd_ha_client, "configured", dict)
    monkeypatch.setattr(etcd_ha_client, "mark", dict)
    monkeypatch.setattr(etcd_ha_client, "trust", lambda _: None)
    monkeypatch.setattr(etcd_ha_faces, "unit", lambda _: module.unit)
    monkeypatch.setattr(etcd_ha_machine, "process_environment", lambda _: environment)
    monkeypatch.setattr(etcd_ha_machine, "pending", lambda *_: [])
    row = etcd_ha_host_etcds.row("process", unit="etcd.service")
    monkeypatch.setattr(etcd_ha_host_etcds, "found", lambda *_: [{**row, "pid": module.unit.pid}])
    monkeypatch.setattr(module.etcd_ha_host_foreign, "refusal", lambda *_: "")
    monkeypatch.setattr(module.etcd_ha_host_proxies, "with_ours", lambda *_: [])
    monkeypatch.setattr(module.etcd_ha_host_proxies, "found", lambda *_: [])
    monkeypatch.setattr(module, "_own_clusters", list)
    monkeypatch.setattr(module, "_installed_for", lambda _: "3.6.14")
    monkeypatch.setattr(module, "_unusable", lambda _: {})

    def look(pid, environment):
        module.looked.append((pid, environment["ETCD_DATA_DIR"]))
        return module.found

    monkeypatch.setattr(etcd_ha_host_hidden, "look", look)
    return module


def test_a_process_that_holds_its_data_counts_as_one_with_data(host, tmp_path):
    assert host._etcd_facts({}, [], 5, False)["has_data"] is False
    host.found = MOUNT
    told = host._etcd_facts({}, [], 5, False)
    assert (told["has_data"], told["hidden"]) == (True, MOUNT)
    assert host.looked == [(7, str(tmp_path))] * 2
    assert etcd_ha_told.FACTS.kinds["etcd"](told)
    assert Observed.of({"minion": "x", "etcd": told}).hidden == MOUNT


def test_the_ids_are_those_of_the_process_and_not_of_what_lies_at_its_path(host):
    """Such as a disk with the data of another cluster, mounted over it."""
    found = etcd_ha_host_etcds.row("process", pid=7, unit="etcd.service")
    found |= {"cluster_id": "c9", "member_id": "m9"}
    live = {"cluster_id": "c1", "member_id": "m1"}

    def ids(etcd):
        told = host._with_ids(found, etcd)
        return told["cluster_id"], told["member_id"]

    assert ids({**live, "hidden": {}}) == ("c9", "m9") == ids(live)
    assert ids({**live, "hidden": MOUNT}) == ("c1", "m1")
    assert ids({"hidden": MOUNT}) == ("", "")


def test_older_modules_tell_nothing_of_it_and_odd_ones_are_refused():
    assert Observed.of({"minion": "x", "etcd": {"active": True}}).hidden == {}
    kind = etcd_ha_told.FACTS.kinds["etcd"]
    assert kind({"hidden": {}}) and kind({"hidden": DELETED})
    assert not kind({"hidden": {"kind": "mount"}}) and not kind({"hidden": "x"})
    assert not kind({"hidden": {**MOUNT, "by": 1}})


def test_where_nothing_runs_nothing_is_looked_at(host):
    host.unit, host.found = DOWN, MOUNT
    assert host._etcd_facts({}, [], 5, False)["hidden"] == {} and host.looked == []
    assert host._refusal() == ""


@pytest.mark.parametrize("kind", ["mount", "moved", "unmounted", "unknown"])
def test_a_state_run_changes_nothing_where_the_directory_is_another_one(host, kind):
    host.found = {**MOUNT, "kind": kind}
    told = host._refusal()
    assert "Do not restart etcd" in told and told.endswith("Nothing was changed by this")


def test_where_files_were_deleted_a_replacement_can_still_be_prepared(host):
    host.found = DELETED
    assert host._refusal() == ""


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize("action", ["none", "restart", "join", "begin", "bootstrap"])
@pytest.mark.parametrize("found", [MOUNT, DELETED], ids=lambda one: one["kind"])
def test_no_state_restarts_or_replaces_it(member, monkeypatch, found, action, test):  # noqa: F811
    run = member([UP], test=test, systemctl=refusing())
    monkeypatch.setattr(etcd_ha_host_hidden, "look", lambda *_: found)
    told = run(action, restart_before=200)
    assert told["result"] is False and told["changes"] == {}
    assert "Do not restart etcd" in told["comment"]
    assert "etcd.service is left as it is" in told["comment"]


def test_one_that_is_stopped_is_started_as_ever(member, monkeypatch):  # noqa: F811
    orders = []
    monkeypatch.setattr(etcd_ha_common_systemd, "reset_failed", lambda _: None)
    run = member([DOWN, UP], systemctl=lambda *words, **_: orders.append(words[0]))
    assert run("none")["result"] is True and "enable" in orders
