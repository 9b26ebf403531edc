"""What a state run outside the orchestrate renders: what is in force, whatever the pillar says."""

from __future__ import annotations

import copy

import etcd_ha_host
import etcd_ha_host_in_force
import etcd_ha_host_leaves
import etcd_ha_host_record
import etcd_ha_machine
import etcd_ha_topology
import pytest
import yaml
from compiled import FORMULA
from test_render import BALANCER, CA, MEMBER, main, sound, with_address

HARMLESS = {
    "group.present",
    "user.present",
    "etcd_ha.installed",
    "pkg.installed",
    "etcd_ha.in_force",
    "etcd_ha_firewall.cleared",
}


@pytest.fixture(autouse=True)
def blank(tmp_path, monkeypatch):
    """A host of its own for what the formula remembers, with sound certificates."""
    monkeypatch.setattr(etcd_ha_host_in_force, "FILE", str(tmp_path / "in_force" / "host.json"))
    monkeypatch.setattr(etcd_ha_host_record, "FOLDER", str(tmp_path))
    monkeypatch.setattr(etcd_ha_machine, "MARK_FILE", str(tmp_path / "host.json"))
    monkeypatch.setattr(etcd_ha_host_leaves, "fault", lambda *_: "")
    monkeypatch.setattr(etcd_ha_host_in_force, "is_missing", lambda ca: False)


def clusters(pillar):
    defaults = yaml.safe_load((FORMULA / "etcd_ha" / "defaults.yaml").read_text())
    settings = yaml.safe_load((FORMULA / "etcd_ha" / "os" / "Debian.yaml").read_text())["settings"]
    return etcd_ha_topology.read(copy.deepcopy(pillar["etcd_ha"]), defaults, settings).values()


def put_in_force(minion, pillar):
    described = etcd_ha_host.describe(minion, clusters(pillar), "amd64")
    etcd_ha_host_in_force.write(etcd_ha_host_in_force.recorded(None, described))


def shown(compiled):
    """What the states of a run would write and start."""
    left_out = ("etcd_ha.in_force", "etcd_ha.applied")
    chunks = [c for c in compiled.chunks if f"{c['state']}.{c['fun']}" not in left_out]
    return chunks, compiled.texts


@pytest.mark.parametrize("minion", [MEMBER, BALANCER, CA])
@pytest.mark.parametrize("method", ["archive", "package"])
def test_a_host_without_a_record_gets_accounts_and_packages_only(
    compile_states, pillar, minion, method
):
    main(pillar)["install"] = {"method": method}
    main(pillar)["firewall"] = {"enabled": True, "kind": "nftables"}
    compiled = sound(compile_states(minion, pillar, by_orch=False))
    held_back = {"file.symlink", "file.exists"} if method == "package" else set()
    assert set(compiled.functions()) <= HARMLESS | held_back
    host = compiled.one("etcd_ha.in_force")["host"]
    assert "not in force here yet" in etcd_ha_host_in_force.comment(host["pending"])
    assert bool(compiled.of("user.present")) is (minion == MEMBER)


@pytest.mark.parametrize("by_orch", [False, True])
@pytest.mark.parametrize("runs", [False, True])
def test_a_member_that_runs_keeps_its_directories(
    compile_states, pillar, monkeypatch, by_orch, runs
):
    """What is given to another user under it ends it, on all hosts in the same minute."""
    main(pillar).update(user="before", group="before", wal_dir="/srv/log")
    put_in_force(MEMBER, pillar)
    main(pillar).update(user="after", group="after")
    former = {"user": "before", "group": "before"}
    monkeypatch.setattr(etcd_ha_machine, "owner_of", lambda pid: former if runs else None)
    compiled = sound(compile_states(MEMBER, pillar, by_orch=by_orch))
    folders = [
        c for c in compiled.of("file.directory") if c["name"] in ("/var/lib/etcd", "/srv/log")
    ]
    wanted = "after" if by_orch and not runs else "before"
    assert {c["user"] for c in folders if "user" in c} == {wanted}
    (running,) = compiled.of("etcd_ha.running")
    assert running["user"] == ("after" if by_orch else "before")


@pytest.mark.parametrize("minion", [MEMBER, BALANCER, CA])
def test_a_step_is_refused_where_the_host_has_another_pillar_than_the_plan(
    compile_states, pillar, minion
):
    """A pillar cache, a top file that gives some hosts another one: all passed, for nothing."""
    planned = {minion: etcd_ha_host.pillar_digest(minion, clusters(pillar), "amd64")}

    def other(stage=None):
        compiled = sound(compile_states(minion, pillar, settings=planned, stage=stage))
        return compiled.one("etcd_ha.in_force")["host"]["other_pillar"]

    assert not other()
    # A step that keeps a release is of the same pillar.
    assert not other({"version": "3.5.33"})
    main(pillar)["options"] = {"heartbeat-interval": 150}
    main(pillar)["balancer"] = {"port": 3379}
    assert other() is (minion != CA)


@pytest.mark.parametrize("minion", [MEMBER, BALANCER, CA])
def test_what_is_in_force_is_what_the_orchestrate_rendered(compile_states, pillar, minion):
    main(pillar)["firewall"] = {"enabled": True, "kind": "nftables"}
    with_address(pillar)
    put_in_force(minion, pillar)
    by_orch = sound(compile_states(minion, pillar))
    found = sound(compile_states(minion, pillar, by_orch=False))
    assert found.texts == by_orch.texts
    known = {c["__id__"] for c in found.chunks}
    if minion == MEMBER:
        running = [one.one("etcd_ha.running") for one in (found, by_orch)]
        assert [{**one, "order": 0} for one in running] == [{**running[0], "order": 0}] * 2
    # Certificates in use, and a CA that is there, are left alone.
    assert {c["__id__"] for c in by_orch.chunks} - known == {
        c["__id__"]
        for c in by_orch.chunks
        if c["state"] == "x509" or c["fun"] in ("key_made", "asked", "pair_in_use")
    }


EDITS = {
    "ports": {"client": 3379, "peer": 3380},
    "options": {"heartbeat-interval": 150},
    "data_dir": "/srv/etcd",
    "user": "other",
    "version": "3.6.13",
    "balancer": {"kind": "nginx", "check_interval": 5},
    "tls": {"enabled": False},
    "host": {"hosts_file": False},
    "install": {"method": "package"},
    "start_timeout": 60,
}


@pytest.mark.parametrize("minion", [MEMBER, BALANCER])
def test_an_edit_of_the_pillar_changes_no_file(compile_states, pillar, minion):
    """All at once; test_in_force.py edits each key by itself."""
    put_in_force(minion, pillar)
    before = shown(sound(compile_states(minion, pillar, by_orch=False)))
    main(pillar).update(EDITS)
    main(pillar)["members"][MEMBER]["address"] = "192.168.200.99"
    assert shown(sound(compile_states(minion, pillar, by_orch=False))) == before


def test_backups_follow_the_pillar_at_once(compile_states, pillar):
    put_in_force(MEMBER, pillar)
    main(pillar)["backup"] = {"schedule": "daily", "keep": {"last": 9}}
    compiled = sound(compile_states(MEMBER, pillar, by_orch=False))
    assert compiled.one("etcd_ha_backup.timer_kept")["schedule"] == "daily"
    assert '"last": 9' in compiled.one("file.managed", name="/etc/etcd/backup.json")["contents"]
    assert compiled.one("etcd_ha.in_force")["host"]["pending"] == []


def test_a_lost_ca_is_not_made_anew(compile_states, pillar, monkeypatch):
    put_in_force(CA, pillar)
    monkeypatch.setattr(etcd_ha_host_in_force, "is_missing", lambda ca: True)
    compiled = sound(compile_states(CA, pillar, by_orch=False))
    assert not [c for c in compiled.chunks if c["state"] == "x509"]
    assert not [c for c in compiled.chunks if "ca.key" in str(c.get("name"))]
    (told,) = compiled.one("etcd_ha.in_force")["host"]["pending"]
    assert "no new one is made" in told and "backup" in told


def test_a_record_that_is_no_good_stops_everything_here(compile_states, pillar):
    put_in_force(MEMBER, pillar)
    with open(etcd_ha_host_in_force.FILE, "w") as file:
        file.write("{")
    compiled = sound(compile_states(MEMBER, pillar, by_orch=False))
    assert set(compiled.functions()) == {"etcd_ha.in_force"}
    assert "cannot be read" in compiled.one("etcd_ha.in_force")["host"]["pending"][0]


def test_what_the_last_release_of_the_formula_left_is_not_touched(compile_states, pillar):
    """It recorded nothing: only the orchestrate knows what is in force."""
    made = {"cluster": "main", "state": "bootstrapped", "data_dir": "/var/lib/etcd"}
    etcd_ha_machine.write_json(etcd_ha_host_record.path("main"), made)
    compiled = sound(compile_states(MEMBER, pillar, by_orch=False))
    assert set(compiled.functions()) == {"etcd_ha.in_force"}


def test_a_member_that_left_the_pillar_keeps_its_rules(compile_states, pillar):
    main(pillar)["firewall"] = {"enabled": True, "kind": "nftables"}
    put_in_force(MEMBER, pillar)
    before = compile_states(MEMBER, pillar, by_orch=False).texts["/etc/nftables.d/etcd_ha.nft"]
    del main(pillar)["members"][MEMBER]
    compiled = sound(compile_states(MEMBER, pillar, by_orch=False))
    assert compiled.one("etcd_ha.running")["action"] == "hold"
    assert compiled.texts["/etc/nftables.d/etcd_ha.nft"] == before


def test_the_ca_of_a_removed_cluster_stays_as_it_is(compile_states, pillar):
    """Its pillar has no policy any more, which is no fault then."""
    put_in_force(CA, pillar)
    pillar["etcd_ha"]["clusters"] = {}
    pillar["x509_signing_policies"] = {}
    compiled = sound(compile_states(CA, pillar, "etcd_ha", by_orch=False))
    assert not compiled.of("etcd_ha.policies_loaded")
    assert compiled.of("etcd_ha.key_kept")


def test_access_is_left_to_the_orchestrate(compile_states, pillar):
    main(pillar)["access"] = {"enabled": False}
    compiled = sound(compile_states(MEMBER, pillar, "etcd_ha.access", by_orch=False))
    assert set(compiled.functions()) == {"test.succeed_without_changes"}
