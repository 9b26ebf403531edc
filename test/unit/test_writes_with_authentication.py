"""The writes that bring a log over to 3.6: by the gateway, or by etcdctl where it is closed."""

import importlib.util
import pathlib

import etcd_ha_client
import etcd_ha_etcdctl
import etcd_ha_machine
import pytest
from etcd_ha_etcdctl import Answer

MEMBER = pathlib.Path(__file__).parents[2] / "_modules" / "etcd_ha_member.py"
CLOSED = "https://127.0.0.1:2379/v3/kv/put answered 400: CommonName of client sending a request"


@pytest.fixture
def calls(monkeypatch):
    """etcdctl's calls; ``calls.answer`` is what it says."""

    class Calls(list):
        answer = Answer(0, "OK", "")

    found = Calls()

    def etcdctl(member, arguments, timeout, endpoints):
        found.append(arguments)
        return found.answer

    monkeypatch.setattr(etcd_ha_client, "etcdctl", etcdctl)
    monkeypatch.setattr(etcd_ha_client, "member_on_disk", lambda: {"config_dir": "/etc/etcd"})
    monkeypatch.setattr(etcd_ha_client, "serving_endpoint", lambda: "https://127.0.0.1:2379")
    return found


@pytest.fixture
def member():
    spec = importlib.util.spec_from_file_location("etcd_ha_member", MEMBER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gateway(monkeypatch, error=None):
    def post_often(url, files, body, times):
        if error:
            raise OSError(error)

    monkeypatch.setattr(etcd_ha_machine, "post_often", post_often)


def test_an_open_gateway_takes_them_all(member, calls, monkeypatch):
    gateway(monkeypatch)
    member._write_often(5)
    assert calls == []


def test_a_closed_one_is_passed_by(member, calls, monkeypatch):
    gateway(monkeypatch, CLOSED)
    member._write_often(5)
    assert calls == [["put", "/etcd_ha/upgrade", "1"]] * 5


def test_no_other_failure_is(member, calls, monkeypatch):
    gateway(monkeypatch, "answered 503: no leader")
    with pytest.raises(OSError, match="no leader"):
        member._write_often(5)
    assert calls == []


def test_a_put_that_fails_is_told(member, calls, monkeypatch):
    gateway(monkeypatch, CLOSED)
    calls.answer = Answer(1, "", "Error: etcdserver: permission denied")
    with pytest.raises(etcd_ha_etcdctl.EtcdctlError, match="permission denied"):
        member._write_often(5)
