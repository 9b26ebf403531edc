"""A cluster is told once that it may go down, however often a run begins anew."""

import importlib.util
import pathlib
from types import SimpleNamespace

import etcd_ha_client
import pytest

MODULE = pathlib.Path(__file__).parents[2] / "_modules" / "etcd_ha_member.py"
REFUSED = "Error: etcdserver: invalid downgrade target version"


def stored(monkeypatch, module, *versions):
    """A member of 3.7 tells these storage versions, one after the other, and then the last."""
    told = list(versions)

    def status(*_):
        found = told.pop(0) if len(told) > 1 else told[0]
        return [{"endpoint": "https://etcd1", "version": "3.7.1", "storage_version": found}]

    monkeypatch.setattr(module.etcd_ha_client, "status", status)


@pytest.fixture
def member(monkeypatch):
    """The module over a cluster of this version, whose etcdctl refuses."""
    spec = importlib.util.spec_from_file_location("etcd_ha_member", MODULE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.etcd_ha_faces, "member", dict)
    refused = SimpleNamespace(code=1, err=REFUSED, out="")
    monkeypatch.setattr(module.etcd_ha_client, "etcdctl", lambda *_, **__: refused)
    monkeypatch.setattr(module.etcd_ha_client, "serving_endpoint", lambda: "https://own")
    monkeypatch.setattr(module.etcd_ha_client, "advertised", lambda _: "https://own")
    monkeypatch.setattr(module, "_listed", lambda *_: [])
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    stored(monkeypatch, module, "3.6.0")

    def at(version):
        monkeypatch.setattr(module, "_cluster_version", lambda: version)
        return module

    return at


def test_a_cluster_that_has_gone_down_is_not_told_again(member):
    assert member("3.6.0").allow_downgrade("3.6.14") is True


@pytest.mark.parametrize("version", ["3.7.0", "3.60.0", "unknown"])
def test_a_refusal_is_told(member, version):
    module = member(version)
    with pytest.raises(module.CommandExecutionError, match="invalid downgrade target"):
        module.allow_downgrade("3.6.14")


def test_the_older_release_waits_until_the_database_can_be_read_by_it(member, monkeypatch):
    """Seen in the lab: 3.6.14 ended with: version "3.7.0" is not supported."""
    module = member("3.6.0")
    stored(monkeypatch, module, "3.7.0", "3.7.0", "3.6.0")
    assert module.allow_downgrade("3.6.14") is True
    assert module.ready_for("3.6.14") == "3.6.0"


@pytest.mark.parametrize("late", ["3.7.0", ""])
def test_a_database_that_stays_too_new_stops_the_downgrade(member, monkeypatch, late):
    module = member("3.6.0")
    stored(monkeypatch, module, late)
    for gate in (module.allow_downgrade, module.ready_for):
        with pytest.raises(module.CommandExecutionError, match="must not be started"):
            gate("3.6.14", timeout=0.1)


def test_an_upgrade_waits_for_no_database(member, monkeypatch):
    module = member("3.6.0")
    stored(monkeypatch, module, "3.5.0")
    assert module.ready_for("3.6.14") == "3.6.0"


def test_the_newest_etcdctl_asks_since_an_older_one_is_in_use_on_the_way_down(
    monkeypatch, tmp_path
):
    """Else a downgrade that was interrupted before a restart would never be gone on with."""
    for release in ("3.5.33", "3.6.14", "3.6.9"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "etcdctl").write_text("")
    (tmp_path / "3.7.0").mkdir()
    (tmp_path / "current").symlink_to(tmp_path / "3.5.33")
    client = etcd_ha_client
    monkeypatch.setattr(client, "program", lambda name: f"{tmp_path}/current/{name}")
    assert client.newest("etcdctl") == f"{tmp_path}/3.6.14/etcdctl"
    monkeypatch.setattr(client, "program", lambda name: f"/usr/bin/{name}")
    assert client.newest("etcdctl") == "/usr/bin/etcdctl"
