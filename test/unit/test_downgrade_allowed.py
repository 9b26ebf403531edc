"""A cluster is told once that it may go down, however often a run begins anew."""

import importlib.util
import pathlib
from types import SimpleNamespace

import pytest

MODULE = pathlib.Path(__file__).parents[2] / "_modules" / "etcd_ha_member.py"
REFUSED = "Error: etcdserver: invalid downgrade target version"


@pytest.fixture
def member(monkeypatch):
    """The module over a cluster of this version, whose etcdctl refuses."""
    spec = importlib.util.spec_from_file_location("etcd_ha_member", MODULE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "_member", dict)
    refused = SimpleNamespace(code=1, err=REFUSED, out="")
    monkeypatch.setattr(module.etcd_ha_client, "etcdctl", lambda *_: refused)

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
