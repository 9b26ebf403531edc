"""A host whose programs are too old is refused by name; one of which nothing is known is not."""

import etcd_ha_host_programs as programs
import etcd_ha_topology
import pytest
from etcd_ha_common_process import Done, ProgramError

MEMBER, BALANCER, CA = "etcd1.example.com", "lb.example.com", "ca.example.com"


@pytest.fixture
def made(pillar, defaults):
    """The good cluster, with these settings of its balancers."""

    def read(**balancer):
        pillar["clusters"]["main"]["balancer"] = balancer
        return etcd_ha_topology.read(pillar, defaults)["main"]

    return read


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ("HA-Proxy version 1.8.27-493ce0b 2020/11/06 - https://haproxy.org/", "1.8.27-493ce0b"),
        ("HA-Proxy version 2.2.9-2+deb11u6 2023/12/23 - https://x/\nStatus:", "2.2.9-2+deb11u6"),
        ("HAProxy version 3.0.11-1+deb13u2 2025/10/03 - https://x/", "3.0.11-1+deb13u2"),
        ("no such thing", ""),
    ],
)
def test_haproxy_tells_its_version_in_two_ways(told, version):
    assert programs.haproxy_version(told) == version


@pytest.mark.parametrize("odd", ["", "planted nonsense", "HAProxy version unknown"])
def test_a_haproxy_that_names_no_version_is_an_error(monkeypatch, odd):
    """Otherwise the release that a package would bring counts in its place."""
    monkeypatch.setattr(programs.shutil, "which", lambda *_, **__: "/usr/sbin/haproxy")
    monkeypatch.setattr(programs.etcd_ha_common_process, "run", lambda *_, **__: Done(0, odd, ""))
    with pytest.raises(ProgramError, match="it names no version"):
        programs.haproxy()


@pytest.mark.parametrize("version", ["1.8.27-5.el8", "2.0.33-0ubuntu0.1", "1:2.1.9"])
def test_an_old_haproxy_is_refused_with_the_cure(made, version):
    why = programs.too_old(BALANCER, [made()], {"systemd": "252", "haproxy": version})
    assert BALANCER in why and version in why
    assert "needs 2.2" in why and "etcd_ha:clusters:main:balancer:kind to nginx" in why


@pytest.mark.parametrize("version", ["2.2.9-2+deb11u6", "1:2.4.0", "3.0.11", "10.0", ""])
def test_a_newer_or_an_unknown_one_is_not(made, version):
    assert not programs.too_old(BALANCER, [made()], {"haproxy": version})


def test_nginx_and_members_need_no_haproxy(made):
    old = {"haproxy": "1.8.27"}
    assert not programs.too_old(BALANCER, [made(kind="nginx")], old)
    assert not programs.too_old(MEMBER, [made()], old)


def test_an_old_systemd_is_refused_where_units_of_the_formula_run(made):
    for minion in (MEMBER, BALANCER):
        why = programs.too_old(minion, [made()], {"systemd": "239"})
        assert minion in why and "systemd 239" in why and "247" in why
    assert not programs.too_old(MEMBER, [made()], {"systemd": "247"})
    assert not programs.too_old(CA, [made()], {"systemd": "239"})


def test_only_haproxy_of_the_distribution_is_asked_for(made):
    assert programs.haproxy_on([made()]) == [BALANCER]
    assert programs.haproxy_on([made(kind="nginx")]) == []
    assert programs.haproxy_on([made(package="haproxy24")]) == []
