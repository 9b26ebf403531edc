"""Balancers that somebody else configured: what is theirs, and what only a package brought."""

import hashlib
import os

import etcd_ha_host_etcds
import etcd_ha_host_kept
import etcd_ha_host_proxies
import etcd_ha_host_units
import pytest
import systemd_units
import yaml
from faces import ROOT
from systemd_units import DOWN, UP
from test_host_units import write


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host with an haproxy whose configuration is this text; the package's is "default"."""
    paths = {name: str(tmp_path / f"{name}.cfg") for name in etcd_ha_host_proxies.CONFIGS}
    digest = hashlib.md5(b"default", usedforsecurity=False).hexdigest()
    lines = [f" {path} {digest}" for path in paths.values()]
    (tmp_path / "status").write_text("Package: x\nConffiles:\n" + "\n".join(lines) + "\n")
    monkeypatch.setattr(etcd_ha_host_proxies, "CONFIGS", paths)
    monkeypatch.setattr(etcd_ha_host_proxies, "DPKG", str(tmp_path / "status"))
    lines += [f" {tmp_path}/sites/{one} {digest}" for one in ("default", "shop")]
    (tmp_path / "status").write_text("Conffiles:\n" + "\n".join(lines) + "\n")
    monkeypatch.setattr(etcd_ha_host_proxies, "SITES", (str(tmp_path / "sites"),))

    def made(text, name="haproxy", unit=UP, files=()):
        systemd_units.told(monkeypatch, unit)
        (tmp_path / f"{name}.cfg").write_text(text)
        known = {paths[name]: "0" * 64} if files else {}
        return [row["unit"] for row in etcd_ha_host_proxies.found(known)]

    return made


def test_what_serves_others_is_found(host):
    assert host("frontend www") == ["haproxy.service"]
    assert host("frontend www", unit=systemd_units.unit(file_state="enabled")) == [
        "haproxy.service"
    ]


def test_what_neither_runs_nor_will_is_not(host):
    assert host("frontend www", unit=DOWN) == []


def test_the_package_s_own_serves_nobody(host, tmp_path):
    assert host("default") == [] and host("default", "nginx") == []


DEBIAN = """[Service]
EnvironmentFile=-/etc/default/haproxy
Environment="CONFIG=@" "PIDFILE=/run/haproxy.pid" "EXTRAOPTS=-S /run/haproxy-master.sock"
ExecStart=/usr/sbin/haproxy -Ws -f $CONFIG -p $PIDFILE $EXTRAOPTS
"""
RED_HAT = """[Service]
Environment="CONFIG=@" "CFGDIR=/etc/haproxy/conf.d"
EnvironmentFile=-/etc/default/haproxy
ExecStart=/usr/sbin/haproxy -Ws -f $CONFIG -f $CFGDIR $OPTIONS
"""


@pytest.fixture
def started(host, tmp_path, monkeypatch):
    """The files that a plan names, where HAProxy is started by this unit with these variables."""

    def made(text, unit=DEBIAN, variables="", state=UP, site="", files=()):
        root = tmp_path / "root"
        write(root, "/lib/systemd/system/haproxy.service", unit.replace("@", str(own)))
        write(root, "/etc/default/haproxy", variables)
        (root / "etc/haproxy/conf.d").mkdir(parents=True, exist_ok=True)
        write(root, "/etc/haproxy/conf.d/README", "none of HAProxy's")
        if site:
            write(root, "/etc/haproxy/conf.d/web.cfg", site)
        systemd_units.told(monkeypatch, state)
        own.write_text(text)
        known = {str(own): "0" * 64} if files else {}
        rows = etcd_ha_host_proxies.found(known, str(root))
        return [os.path.basename(row["config_file"]) for row in rows]

    own = tmp_path / "haproxy.cfg"
    return made


OURS = f"{etcd_ha_host_units.OURS}\n"
MORE = 'EXTRAOPTS="-f /etc/haproxy/conf.d -S /run/x.sock"'


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({}, []),
        ({"variables": MORE}, []),
        ({"variables": MORE, "site": "frontend web"}, ["web.cfg"]),
        ({"unit": RED_HAT}, []),
        ({"unit": RED_HAT, "site": "frontend web"}, ["web.cfg"]),
        ({"unit": RED_HAT, "site": "frontend web", "state": DOWN}, []),
        ({"variables": "CONFIG=/etc/haproxy/site.cfg"}, ["site.cfg"]),
        ({"variables": "CONFIG=/etc/haproxy/site.cfg", "state": DOWN}, ["site.cfg"]),
        ({"unit": DEBIAN.replace("-f $CONFIG", "$OPTIONS")}, []),
        ({"unit": DEBIAN.replace('"CONFIG', "'CONFIG")}, []),
        ({"unit": f"{DEBIAN}Environment='X\n", "variables": "CONFIG=/x.cfg"}, ["x.cfg"]),
        ({"unit": f"{DEBIAN}ExecStart=/bin/x 'y\n", "variables": "CONFIG=/x.cfg"}, []),
    ],
)
def test_what_haproxy_serves_beside_the_package_s_file_is_others_(started, more, named):
    """Its sites live on the `defaults` of the file that the formula would replace."""
    assert started("default", **more) == named


def test_the_file_of_others_is_named_as_ever(started):
    assert started("frontend www", variables=MORE, site="frontend web") == ["haproxy.cfg"]
    assert started("frontend www", state=DOWN) == []


@pytest.mark.parametrize("files", [(), (1,)])
def test_beside_our_own_file_the_user_may_have_more_but_not_another(started, files):
    text = "changed by hand" if files else OURS
    assert started(text, variables=MORE, site="frontend web", files=files) == []
    elsewhere = "CONFIG=/etc/haproxy/site.cfg"
    assert started(text, variables=elsewhere, files=files) == ["site.cfg"]


def test_a_link_to_the_file_is_the_file(started, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link.cfg").symlink_to(tmp_path / "haproxy.cfg")
    assert started("default", variables="CONFIG=/link.cfg") == []


def test_a_drop_in_that_names_another_file_counts(started, tmp_path):
    drop_in = "/etc/systemd/system/haproxy.service.d/x.conf"
    write(tmp_path / "root", drop_in, "[Service]\nEnvironment=CONFIG=/srv/h.cfg\n")
    assert started("default") == ["h.cfg"]


def test_the_sites_of_nginx_are_others_(host, tmp_path):
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "default").write_text("default")
    assert host("default", "nginx") == []
    (tmp_path / "sites" / "default").write_text("server_name shop.example.com")
    assert host("default", "nginx") == ["nginx.service"]


@pytest.mark.parametrize("text", [f"{etcd_ha_host_units.OURS}; more.\n", "changed by hand"])
def test_what_the_formula_wrote_is_its_own(host, text):
    assert host(text, files=not text.startswith("#")) == []


def test_where_they_lie_is_the_same_on_every_system():
    for path in (ROOT / "etcd_ha" / "os").glob("*.yaml"):
        os = yaml.safe_load(path.read_text())["os"]
        found = {name: os[name]["config"] for name in etcd_ha_host_proxies.CONFIGS}
        assert found == etcd_ha_host_proxies.CONFIGS
        assert all(os[name]["service"] == name for name in found)


def test_a_copy_is_no_harm(tmp_path):
    assert etcd_ha_host_kept.foreign([str(tmp_path / "absent")], {}) == []


def test_what_listens_by_our_configuration_is_ours(host):
    host(f"{etcd_ha_host_units.OURS}\n")
    rows = [etcd_ha_host_etcds.row("listener", unit=f"{n}.service") for n in ("haproxy", "nginx")]
    told = etcd_ha_host_proxies.with_ours(rows, {})
    assert [one["by_formula"] for one in told] == [True, False]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_copies_are_root_s_alone_whatever_the_umask_is(tmp_path, monkeypatch, umask):
    monkeypatch.setattr(etcd_ha_host_kept, "FOLDER", str(tmp_path / "state" / "kept"))
    theirs = tmp_path / "etc" / "haproxy" / "haproxy.cfg"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    theirs.chmod(0o640)
    before = os.umask(umask)
    try:
        (copy,) = etcd_ha_host_kept.keep([str(theirs)], {}).values()
    finally:
        os.umask(before)
    assert os.stat(copy).st_mode & 0o7777 == 0o640
    folder = os.path.dirname(copy)
    while folder != str(tmp_path / "state"):
        assert os.stat(folder).st_mode & 0o7777 == 0o700, folder
        folder = os.path.dirname(folder)
