"""What the lab reads from the machine it runs on, and what it does where it finds leftovers."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "lab"))

from etcd_ha_lab import base, config, hosts, limits, machine, packages
from etcd_ha_lab.ui import LabError

TARGETS = """\
http://mirror.test/debian|bookworm|main|Debian
http://mirror.test/debian|bookworm-updates|main|Debian
http://mirror.test/debian-security|bookworm-security|main|Debian
http://vendor.test/apt|bookworm|main|A Vendor
"""


@pytest.fixture
def bookworm(monkeypatch):
    monkeypatch.setattr(machine, "run", lambda *_, **__: TARGETS)
    monkeypatch.setattr(machine, "codename", lambda: "bookworm")
    monkeypatch.setattr(machine, "distribution", lambda: "debian")


def test_the_hosts_packages_come_from_the_machines_own_mirrors(bookworm):
    assert machine.apt_lines("bookworm") == [
        "deb http://mirror.test/debian bookworm main",
        "deb http://mirror.test/debian bookworm-updates main",
        "deb http://mirror.test/debian-security bookworm-security main",
    ]


def test_another_suite_comes_from_the_same_mirrors(bookworm):
    assert "deb http://mirror.test/debian-security trixie-security main" in machine.apt_lines(
        "trixie"
    )


def test_sid_has_no_security_and_no_updates(bookworm):
    assert machine.apt_lines("sid") == ["deb http://mirror.test/debian sid main"]


def test_a_machine_without_its_own_source_is_told_so(bookworm, monkeypatch):
    vendor = "http://vendor.test/apt|bookworm|main|A Vendor\n"
    monkeypatch.setattr(machine, "run", lambda *_, **__: vendor)
    with pytest.raises(LabError, match="no source for bookworm"):
        machine.apt_lines("bookworm")


def test_a_failing_command_shows_its_last_words():
    with pytest.raises(LabError, match=r"ended with 3:\n    oh dear"):
        machine.run("sh", "-c", "echo oh dear >&2; exit 3")


def test_a_failing_logged_command_names_its_log(tmp_path):
    with pytest.raises(LabError, match=r"(?s)oh dear.*all of it: .*log"):
        machine.run("sh", "-c", "echo oh dear; exit 3", log=tmp_path / "log")


def test_another_recipe_makes_another_tree(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "architecture", lambda: "amd64")
    before = base.choose("trixie", "3008.3").key
    assert before.startswith("trixie-amd64-salt3008.3-")
    changed = tmp_path / "packages.py"
    changed.write_text(Path(packages.__file__).read_text() + "# changed\n")
    monkeypatch.setattr(packages, "__file__", str(changed))
    assert base.choose("trixie", "3008.3").key != before


class TestInotifyLimit:
    @pytest.fixture
    def limit(self, tmp_path, monkeypatch):
        monkeypatch.setattr(limits, "LIMIT", tmp_path / "limit")
        monkeypatch.setattr(limits, "BEFORE", tmp_path / "before")
        monkeypatch.setattr(limits, "in_use", lambda: 60)
        for module in (limits, config):
            monkeypatch.setattr(module, "RUN", tmp_path / "run")
        monkeypatch.setattr(limits, "labs", config.labs)
        limits.LIMIT.write_text("128\n")
        return limits.LIMIT

    def add(self, lab, *hosts):
        for name in hosts:
            config.Places(lab).host(name).mkdir(parents=True)

    def test_a_limit_with_room_is_left_alone(self, limit):
        self.add("lab", "master", "etcd1", "etcd2")
        limits.make_room()
        assert limit.read_text() == "128\n"
        assert not limits.BEFORE.exists()

    def test_a_limit_without_room_is_raised_and_set_back(self, limit, tmp_path):
        self.add("lab", *(f"etcd{n}" for n in range(9)))
        limits.make_room()
        assert limit.read_text() == str(limits.ROOMY)
        shutil.rmtree(tmp_path / "run/lab")
        limits.restore()
        assert limit.read_text() == "128"

    def test_hosts_of_other_labs_count_before_they_boot(self, limit):
        for lab in ("one", "two", "three"):
            self.add(lab, "master", "etcd1", "etcd2")
        limits.make_room()
        assert limit.read_text() == str(limits.ROOMY)

    def test_it_stays_while_another_lab_runs(self, limit):
        self.add("lab", *(f"etcd{n}" for n in range(9)))
        limits.make_room()
        limits.restore()
        assert limit.read_text() == str(limits.ROOMY)


def test_an_index_names_every_package_with_its_sum(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "run", lambda *_, **__: "Package: x\nVersion: 1\n")
    (tmp_path / "x_1_all.deb").write_bytes(b"deb")
    assert packages.index(tmp_path) == 1
    text = (tmp_path / "Packages").read_text()
    assert "Filename: ./x_1_all.deb\nSize: 3\nSHA256: " in text
    assert " Packages.gz" in (tmp_path / "Release").read_text()


def test_a_hosts_leftovers_of_nspawn_are_found_and_no_other_labs(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "NSPAWN", tmp_path)
    for name in ("etcdha-one-etcd1", "etcdha-one-lb", "etcdha-one2-etcd1", "somebody"):
        (tmp_path / "unix-export" / name).mkdir(parents=True)
    (tmp_path / "locks").mkdir()
    found = hosts.leftovers(config.Places("one"))
    assert [folder.name for folder in found] == ["etcdha-one-etcd1", "etcdha-one-lb"]
    hosts.remove_leftover(found[0])
    assert [folder.name for folder in hosts.leftovers(config.Places("one"))] == ["etcdha-one-lb"]
