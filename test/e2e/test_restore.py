"""A backup onto all members: on every release, onto new hosts, and what goes wrong meanwhile."""

import json
import threading
import time

import pytest
from changing import THREE
from extent import each_release, only_in_all
from interrupting import SALT_PYTHON

RELEASES = ("3.4.23", "3.5.33", "3.6.14", "3.7.1")
BUMP = 1_000_000_000
KEPT = "/root/kept.db"
STAGED = "/var/lib/etcd/restoring"
STEPS = ("prepare", "exchange", "start", "finish")


def confirmed(backup=KEPT, **more):
    return "pillar=" + json.dumps({"confirm": "main", "backup": backup, **more})


def restore(lab, backup=KEPT, *more, **options):
    run = lab.orch(confirmed(backup), *more, command="restore", **options)
    for name, state in run.states.items():
        print(f"    {name}: {state['result']}")
    return run


def written(ground, count=50):
    """Keys, a snapshot with them on etcd2, and a key and a deletion after it; its revision."""
    lab = ground.lab
    script = f"for n in $(seq {count}); do etcdctl put /kept/$n $n; done >/dev/null"
    lab.exec("etcd1", "sh", "-c", f"set -a; . /etc/etcd/etcdctl.env; set +a; {script}").ok()
    # The test before may have left it.
    lab.etcdctl("etcd1", "del", "/later").ok()
    lab.etcdctl("etcd2", "snapshot", "save", KEPT, endpoint=lab.own("etcd2")).ok()
    revision = json.loads(lab.etcdctl("etcd1", "get", "/kept/1", "-w", "json").ok().out)["header"]
    lab.put("/later", "lost")
    lab.etcdctl("etcd1", "del", "/kept/7").ok()
    return int(revision["revision"])


def is_restored(ground, count=50):
    """What the backup held, on each member; what came after it is gone; all is in sync."""
    lab = ground.lab
    for host in ground.hosts:
        at = lab.own(host)
        done = lab.etcdctl(host, "get", "--prefix", "/kept/", "--keys-only", endpoint=at).ok()
        assert len(done.out.split()) == count, host
        assert lab.get("/later", host=host, endpoint=at) == ""
    lab.put("/after", "1")
    assert lab.get("/after", endpoint=lab.through_balancer()) == "1"
    ground.settled()
    for host in ground.hosts:
        left = lab.exec(host, "sh", "-c", f"ls -d {STAGED} /var/lib/etcd_ha/restore/held").out
        assert left.strip() == "", left


def revision(lab):
    done = lab.etcdctl("etcd1", "get", "/kept/1", "-w", "json").ok()
    return int(json.loads(done.out)["header"]["revision"])


@each_release(RELEASES)
def test_on_every_release(changed, version):
    """The same keys on all, nothing later, a higher revision, and an old member stays out."""
    if not changed.obtainable(version):
        pytest.fail(f"the mirror cannot get etcd {version} on this machine")
    changed.begin(THREE, version=version)
    told = written(changed)
    old = cluster_id(changed)
    run = restore(changed.lab).ok()
    print(f"  RESTORED {version} in {run.done.took:.1f} s")
    is_restored(changed)
    assert revision(changed.lab) >= told + (0 if version.startswith("3.4.") else BUMP)
    assert cluster_id(changed) != old
    for host in THREE:
        aside = changed.lab.exec(host, "sh", "-c", "ls -d /var/lib/etcd.replaced-*/member").ok().out
        assert aside.strip()


def cluster_id(ground):
    done = ground.lab.etcdctl("etcd1", "endpoint", "status", "-w", "json").ok()
    return json.loads(done.out)[0]["Status"]["header"]["cluster_id"]


def test_under_test_it_changes_nothing(changed):
    changed.begin()
    written(changed)
    run = restore(changed.lab, KEPT, "test=True")
    assert "lay the data of kept beside" in run.text and "close lb" in run.text
    assert changed.get("/later") == "lost"
    changed.same()


@pytest.mark.parametrize("words", [{}, {"confirm": "another"}])
def test_without_the_cluster_s_name_it_does_nothing(changed, words):
    changed.begin()
    run = changed.lab.orch("pillar=" + json.dumps(words), command="restore")
    run.refused("so its name is asked for", "confirm", "main")
    assert run.changes == {}
    changed.same()


def test_a_bit_flipped_in_the_backup_is_found_before_anything_stops(changed):
    changed.begin()
    written(changed)
    flip = f"printf '\\377' | dd of={KEPT} bs=1 seek=9000 conv=notrunc"
    changed.lab.exec("etcd2", "sh", "-c", flip).ok()
    restore(changed.lab).refused("the snapshot's own hash is wrong", "no other is known")
    assert changed.get("/later") == "lost"
    changed.same()


@only_in_all
def test_watchers_are_told_that_the_past_is_gone(changed):
    changed.begin(version="3.6.14")
    told = written(changed)
    restore(changed.lab).ok()
    watch = ("timeout", "10", "sh", "-c")
    script = f"set -a; . /etc/etcd/etcdctl.env; set +a; etcdctl watch /kept/1 --rev={told}"
    done = changed.lab.exec("etcd1", *watch, script)
    assert "required revision has been compacted" in done.text
    is_restored(changed)
    # Once more, of the same backup: the revision goes on from what the cluster has reached.
    reached = revision(changed.lab)
    restore(changed.lab).ok()
    assert revision(changed.lab) > reached + BUMP - 100
    is_restored(changed)


@pytest.mark.parametrize("host", ["etcd1", "etcd2"])
@only_in_all
def test_a_full_disk_stops_it_before_anything_else(changed, host):
    """On the member that has the file, and on one that has not; with room it goes on."""
    changed.begin()
    written(changed)
    changed.lab.fault(host, "fill", "--leave", str(20 * 1024**2))
    try:
        restore(changed.lab).refused("room")
        assert changed.get("/later") == "lost"
    finally:
        changed.lab.fault(host, "heal")
    restore(changed.lab).ok()
    is_restored(changed)


@pytest.mark.parametrize("kill", ["orchestrate", "master"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("delay", [0, 0.8], ids=["at its end", "in the next one"])
@only_in_all
def test_a_run_is_killed_at_each_step(changed, step, kill, delay):
    """What had begun ends on the hosts; the same command then ends the whole, and nothing else."""
    changed.begin()
    written(changed)
    wanted = {"after": f"etcd_ha_restore.{step}", "kill": kill, "delay": delay, "seen": []}
    if step == "finish":
        # What comes after it, a put and a get, takes a tenth of a second.
        wanted["delay"] = delay / 16
    wanted["ask"] = ["etcd_ha.orch.restore", confirmed()]
    lines = list(changed.lab.follow("master", SALT_PYTHON, "followed", json.dumps(wanted)))
    assert json.loads(lines[-1])["killed"], lines[-1][-2000:]
    changed.lab.wait_for_minions(*THREE, "lb")
    if step in ("exchange", "start") and not delay:
        changed.lab.orch().refused("restore of main was begun and not ended")
    restore(changed.lab).ok()
    is_restored(changed)


@pytest.mark.parametrize("step", ["exchange", "start"])
@only_in_all
def test_a_host_loses_its_power_in_the_midst(changed, step):
    """It comes back without starting what is half restored; the second run ends well."""
    changed.begin()
    written(changed)
    cut = threading.Thread(target=power_off_at, args=(changed.lab, "etcd3", step))
    cut.start()
    restore(changed.lab)
    cut.join()
    changed.lab.fault("etcd3", "heal")
    changed.lab.wait_for_minions("etcd3")
    restore(changed.lab).ok()
    is_restored(changed)


def power_off_at(lab, host, step):
    phase = {"exchange": "exchanging", "start": "exchanged"}[step]
    script = (
        "for n in $(seq 1200); do grep -qs "
        f'\'"phase": "{phase}"\' /var/lib/etcd_ha/restore/restore.json && exit 0; '
        "sleep 0.02; done; exit 1"
    )
    lab.exec(host, "sh", "-c", script)
    lab.fault(host, "kill")


@only_in_all
def test_no_member_starts_by_itself_while_it_is_held(changed):
    changed.begin()
    written(changed)
    hold = "mkdir -p /var/lib/etcd_ha/restore; touch /var/lib/etcd_ha/restore/held"
    changed.lab.exec("etcd3", "sh", "-c", f"{hold}; systemctl stop etcd").ok()
    done = changed.lab.exec("etcd3", "systemctl", "start", "etcd")
    assert done.code != 0
    changed.lab.exec(
        "etcd3", "sh", "-c", "rm -r /var/lib/etcd_ha/restore; systemctl start etcd"
    ).ok()
    changed.lab.wait_healthy("etcd3")
    changed.same()


@only_in_all
def test_the_balancer_is_closed_until_all_is_counted(changed):
    """A backup said to hold other keys than it does: nobody gets to see what came of it."""
    changed.begin()
    written(changed)
    sidecar = json.dumps({"keys": 3, "verified": True, "when": "2026-11-24T00:00:00Z"})
    changed.lab.write("etcd2", KEPT.replace(".db", ".json"), sidecar)
    restore(changed.lab).refused("is said to hold 3")
    assert changed.get("/later") == "lost"
    changed.same()


@only_in_all
def test_the_file_goes_to_members_alone(changed):
    """Who listens on the port of the transfer, and when: nobody before and after."""
    changed.begin()
    written(changed)
    restore(changed.lab).ok()
    for host in THREE:
        listening = changed.lab.exec(host, "ss", "-ltnH", "sport = :2382")
        assert listening.out.strip() == ""
    is_restored(changed)


@pytest.mark.parametrize(
    "settings",
    [
        {"tls": {"enabled": False}},
        {"wal_dir": "/srv/wal"},
        {"firewall": {"enabled": True, "kind": "nftables"}},
        {"balancer": {"kind": "nginx"}},
    ],
    ids=lambda one: next(iter(one)),
)
@only_in_all
def test_clusters_of_other_kinds(changed, settings):
    changed.begin(**settings)
    lab = changed.lab
    lab.etcdctl("etcd1", "put", "/kept/1", "1").ok()
    save = ("snapshot", "save", KEPT)
    scheme = "http" if "tls" in settings else "https"
    lab.etcdctl("etcd2", *save, endpoint=f"{scheme}://{lab.address('etcd2')}:2379").ok()
    lab.etcdctl("etcd1", "put", "/later", "lost").ok()
    restore(lab).ok()
    assert changed.get("/kept/1") == "1" and changed.get("/later") == ""
    changed.settled()


@only_in_all
def test_onto_new_hosts_from_nothing(changed):
    """The datacentre burned: blank hosts, a master without a record, other hosts than before."""
    changed.begin()
    written(changed)
    lab = changed.lab
    coded = lab.exec("etcd2", "base64", "-w0", KEPT).ok().out
    lab.become_blank()
    hosts = ("etcd3", "etcd4", "etcd5")
    changed.ask_for(hosts)
    lab.exec("etcd4", "sh", "-c", f"umask 077; base64 -d > {KEPT}", stdin=coded).ok()
    began = time.monotonic()
    restore(lab, timeout=600).ok()
    print(f"  ONTO NEW HOSTS in {time.monotonic() - began:.1f} s")
    for host in hosts:
        at = f"https://{changed.address(host)}:2379"
        done = lab.etcdctl(host, "get", "--prefix", "/kept/", "--keys-only", endpoint=at).ok()
        assert len(done.out.split()) == 50
    changed.settled()


@only_in_all
def test_after_a_majority_lost_its_data(changed):
    """The refusal names the command; it works where nothing runs."""
    changed.begin()
    written(changed)
    for host in ("etcd1", "etcd3"):
        changed.lab.exec(host, "sh", "-c", "systemctl stop etcd; rm -rf /var/lib/etcd/member").ok()
    changed.lab.orch().refused("etcd_ha.orch.restore", "etcd_ha.orch.recover")
    restore(changed.lab).ok()
    is_restored(changed)
