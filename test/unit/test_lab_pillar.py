"""The lab's pillar is pillar.example with other addresses, and nothing else is touched."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "lab"))

import yaml
from etcd_ha_lab import pillar
from etcd_ha_lab.config import Places, address_of

EXAMPLE = """\
# A comment about 192.168.200.52.
etcd_ha:
  clusters:
    main:
      version: "3.6.14"
      members:
        etcd1.example.com: {address: 192.168.200.52}
        etcd3.example.com: {address: 192.168.200.63}
      load_balancers:
        lb.example.com: {address: 192.168.200.56}
      install:
        url: https://releases.example.net/etcd-io/etcd/releases/download
      tls:
        # minimum_version: TLS1.2
      other: [1192.168.200.52, 192.168.200.521, 192.168.200.52.1]
"""


def test_addresses_are_the_labs():
    text = pillar.adapt(EXAMPLE)
    assert f"etcd1.example.com: {{address: {address_of('etcd1')}}}" in text
    assert f"etcd3.example.com: {{address: {address_of('etcd3')}}}" in text
    assert f"lb.example.com: {{address: {address_of('lb')}}}" in text


def test_what_only_looks_like_an_address_stays():
    line = "other: [1192.168.200.52, 192.168.200.521, 192.168.200.52.1]"
    assert line in pillar.adapt(EXAMPLE)


def test_releases_come_from_the_mirror():
    assert "url: http://198.18.0.1/etcd\n" in pillar.adapt(EXAMPLE)


def test_upgrades_pass_through_releases_that_the_mirror_can_give():
    """The formula knows newer ones, which the mirror has no recipe for."""
    text = pillar.adapt(pillar.EXAMPLE.read_text())
    wanted = yaml.safe_load(text)["etcd_ha"]["clusters"]["main"]
    assert wanted["upgrade"]["through"] == pillar.THROUGH
    recipes = Path(__file__).parents[1] / "lab" / "etcd-build"
    assert all((recipes / release).is_dir() for release in pillar.THROUGH.values())


def test_the_version_is_replaced_where_it_is_etcds_and_only_on_demand():
    assert 'version: "3.6.14"' in pillar.adapt(EXAMPLE)
    text = pillar.adapt(EXAMPLE, "3.5.30")
    assert "      version: 3.5.30\n" in text
    assert "# minimum_version: TLS1.2" in text


def test_every_address_of_the_shipped_example_has_a_host():
    """An address that the table misses would send the demo into nowhere."""
    text = pillar.adapt(pillar.EXAMPLE.read_text())
    settings = [line.split("#")[0] for line in text.splitlines()]
    assert not [line for line in settings if "192.168." in line]
    assert "198.18.0.11" in text


def test_without_an_example_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(Places, "pillar", tmp_path / "pillar")
    assert not pillar.write(Places("unit"), None, tmp_path / "missing")
    assert not list((tmp_path / "pillar").iterdir())


def test_an_example_becomes_two_files(tmp_path, monkeypatch):
    monkeypatch.setattr(Places, "pillar", tmp_path / "pillar")
    (tmp_path / "example").write_text(EXAMPLE)
    assert pillar.write(Places("unit"), None, tmp_path / "example")
    assert "etcd_ha_signing_policies" in (tmp_path / "pillar/top.sls").read_text()
    assert "198.18.0.11" in (tmp_path / "pillar/etcd_ha.sls").read_text()


def test_the_pillar_belongs_to_who_called_sudo(monkeypatch, tmp_path):
    monkeypatch.delenv("SUDO_UID", raising=False)
    given = {}
    monkeypatch.setattr(pillar.os, "chown", lambda path, *who, **_: given.update({path.name: who}))
    monkeypatch.setattr(Places, "pillar", tmp_path / "pillar")
    (tmp_path / "pillar.example").write_text(EXAMPLE)
    pillar.write(Places("lab"), None, tmp_path / "pillar.example")
    assert given == {}
    monkeypatch.setenv("SUDO_UID", "1000")
    monkeypatch.setenv("SUDO_GID", "1001")
    pillar.write(Places("lab"), None, tmp_path / "pillar.example")
    assert given == dict.fromkeys(("pillar", "top.sls", "etcd_ha.sls"), (1000, 1001))
