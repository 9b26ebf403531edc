"""Full databases, full disks, and members that hold other data than the rest."""

import json
import time

import pytest
from changing import THREE, Load
from extent import RELEASES, SHIPPED, each_release, only_in_all, only_in_all_case

MIB = 1024**2
SMALL = {"defragment": {"minimum_size": 4 * MIB, "fragmentation": 30}}
QUOTA = {"options": {"quota-backend-bytes": 24 * MIB}}
# A value's bytes are changed in the file that the running etcd has mapped: it serves them so.
# (Only a database's first two pages have checksums.)
FLIP = """
import os, re
path, flipped = "/var/lib/etcd/member/snap/db", 0
held = open(path, "rb").read()
number = os.open(path, os.O_RDWR)
for one in re.finditer(b"sound-value", held):
    # A page may be used for something else by now.
    if os.pread(number, 11, one.start()) == b"sound-value":
        flipped += os.pwrite(number, b"other-value", one.start()) == 11
print(flipped)
"""


def of_release(changed, version, **settings):
    """Three members of this release."""
    if not changed.obtainable(version):
        pytest.fail(f"the mirror cannot get {version} on this machine")
    if version != SHIPPED:
        settings["version"] = version
    changed.begin(THREE, **settings)


def write(changed, prefix, count, kib=500):
    """So many keys of so many KiB each; stops at the first that etcd refuses, whose text it is."""
    script = f"""
        set -a; . /etc/etcd/etcdctl.env; set +a
        for number in $(seq {count}); do
            head -c {kib * 768} /dev/urandom | base64 -w 0 | etcdctl put {prefix}$number || exit 7
        done
    """
    done = changed.lab.exec("etcd1", "sh", "-c", script, timeout=300)
    assert done.code in (0, 7), done.text
    return done.text if done.code else ""


def compact(changed):
    row = rows(changed)["etcd1"]
    changed.lab.etcdctl("etcd1", "compact", str(row["header"]["revision"]), "--physical").ok()


def flip(changed, host):
    """Have this member hold another value than the others, whether it runs or not."""
    assert int(changed.lab.exec(host, "/usr/bin/python3", "-c", FLIP).ok().out) > 0


def flip_running(changed, host):
    """The same, until a member that writes meanwhile has it."""
    for _ in range(10):
        changed.lab.exec(host, "/usr/bin/python3", "-c", FLIP).ok()
        done = changed.lab.etcdctl(
            host, "get", "/sound", "--consistency=s", endpoint=changed.lab.own(host)
        )
        if "other-value" in done.out:
            return
    raise AssertionError(f"{host} still holds what the others hold: {done.text}")


def ids(changed):
    return {member["name"]: member["ID"] for member in changed.members()}


def replaced(changed, before):
    """The members that have another id now."""
    after = ids(changed)
    return {name for name in before if before[name] != after[name]}


def rows(changed):
    """Member -> its status."""
    found = {}
    for host in THREE:
        done = changed.lab.etcdctl(
            host, "endpoint", "status", "-w", "json", endpoint=changed.lab.own(host)
        )
        found[host] = json.loads(done.ok().out)[0]["Status"]
    return found


def alarms(changed):
    done = changed.lab.etcdctl("etcd1", "alarm", "list", "-w", "json").ok()
    return [one["alarm"] for one in json.loads(done.out).get("alarms", [])]


def await_alarm(changed, number, seconds=60):
    deadline = time.monotonic() + seconds
    while number not in alarms(changed):
        assert time.monotonic() < deadline, f"etcd did not raise the alarm {number}"
        time.sleep(0.5)


@only_in_all
@pytest.mark.parametrize("version", RELEASES)
def test_databases_are_defragmented_where_it_pays_the_leader_last(changed, version):
    of_release(changed, version, maintenance=SMALL)
    changed.lead("etcd2")
    write(changed, "/big/", 60)
    changed.lab.etcdctl("etcd1", "del", "--prefix", "/big/").ok()
    compact(changed)
    before = rows(changed)
    assert all(row["dbSize"] > 20 * MIB for row in before.values()), before
    dry = changed.lab.orch("test=True", command="defrag")
    assert dry.code == 0 and rows(changed)["etcd1"]["dbSize"] == before["etcd1"]["dbSize"]
    run = changed.run(THREE, f"defrag-{version}", command="defrag")
    steps = [step for step in run.states if "defragment" in step]
    assert len(steps) == 3 and "etcd2: move leadership to" in steps[-1], steps
    told = json.dumps(run.changes)
    assert "bytes_freed" in told and "before" in told, told
    after = rows(changed)
    assert all(row["dbSize"] < 4 * MIB for row in after.values()), after
    again = changed.lab.orch(command="defrag").ok()
    assert list(again.states) == ["main: nothing is done"], again.text
    assert again.changes == {} and "nothing to defragment: 3 healthy members" in again.text


@only_in_all
@each_release()
def test_a_full_database_takes_writes_again(changed, version):
    of_release(changed, version, **QUOTA)
    assert "database space exceeded" in write(changed, "/old/first/", 600, kib=60)
    await_alarm(changed, 1)
    health = changed.lab.salt("etcd1*", "etcd_ha.health")
    assert health.code != 0 and "etcd_ha.orch.recover_space" in health.text
    plan = changed.lab.orch().ok()
    assert "alarm NOSPACE" in plan.text and "etcd_ha.orch.recover_space" in plan.text
    # What is free inside comes back once; in the end the keys themselves fill it.
    refused = changed.lab.orch(command="recover_space")
    for turn in range(4):
        if refused.code:
            break
        write(changed, f"/old/{turn}/", 600, kib=60)
        await_alarm(changed, 1)
        refused = changed.lab.orch(command="recover_space")
    assert refused.code != 0 and "Delete keys, or raise" in refused.text
    assert set(alarms(changed)) == {1}
    changed.lab.etcdctl("etcd1", "del", "--prefix", "/old").ok()
    run = changed.lab.orch(command="recover_space").ok()
    assert [step for step in run.states if "disarm NOSPACE" in step], list(run.states)
    assert alarms(changed) == []
    changed.lab.put("/after", "written")
    assert "nothing to recover: " in changed.lab.orch(command="recover_space").ok().text
    changed.settled()


@only_in_all
def test_a_larger_quota_is_applied_while_the_database_is_full(changed):
    changed.begin(THREE, **QUOTA)
    write(changed, "/keys", 200)
    await_alarm(changed, 1)
    larger = {"options": {"quota-backend-bytes": 64 * MIB}}
    changed.ask_for(THREE, **larger)
    changed.lab.orch().ok()
    changed.lab.orch(command="recover_space").ok()
    assert alarms(changed) == []
    changed.lab.put("/after", "written")
    changed.lab.etcdctl("etcd1", "del", "--prefix", "/keys").ok()
    changed.settled()


@each_release(usual="")
def test_all_members_hold_the_same(changed, version):
    of_release(changed, version)
    done = changed.lab.salt_run("etcd_ha.hash_kv").ok()
    assert done.out.count(" ok") == 3, done.text
    changed.same()


@only_in_all
@pytest.mark.parametrize("who", [only_in_all_case("follower"), "leader"])
def test_a_member_with_other_data_is_replaced_whomever_etcd_names(changed, who):
    """The leader's check names a sound follower where the leader itself is wrong."""
    changed.begin(THREE, options={"corrupt-check-time": "5s"})
    before = ids(changed)
    changed.lead("etcd2")
    odd = "etcd2" if who == "leader" else "etcd3"
    changed.lab.etcdctl("etcd1", "put", "/sound", "sound-value").ok()
    changed.load = Load(changed.lab, f"/corrupt-{who}/")
    with changed.load:
        time.sleep(3)
        flip_running(changed, odd)
        await_alarm(changed, 2)
        told = changed.lab.salt_run("etcd_ha.hash_kv")
        assert told.code == 1 and "differs" in told.text, told.text
        run = changed.lab.orch()
        time.sleep(3)
    run.ok()
    assert any(f"replace {odd}" in step for step in run.states), list(run.states)
    assert any("disarm CORRUPT" in step for step in run.states), list(run.states)
    changed.load.check(THREE, longest=None)
    assert alarms(changed) == []
    assert replaced(changed, before) == {odd}
    for host in THREE:
        found = changed.lab.get("/sound", host=host, endpoint=changed.lab.own(host))
        assert found == "sound-value", host
    aside = changed.lab.exec(odd, "sh", "-c", "ls -d /var/lib/etcd.replaced-*/member").out
    assert aside.strip(), "what it held is kept"
    changed.lab.salt_run("etcd_ha.hash_kv").ok()
    changed.settled()


@only_in_all
def test_a_member_that_differs_at_its_start_is_replaced(changed):
    changed.begin(THREE)
    before = ids(changed)
    changed.lab.etcdctl("etcd1", "put", "/sound", "sound-value").ok()
    time.sleep(1)
    changed.lab.exec("etcd3", "systemctl", "stop", "etcd").ok()
    flip(changed, "etcd3")
    changed.lab.exec("etcd3", "systemctl", "start", "--no-block", "etcd").ok()
    script = """
        for _ in $(seq 100); do
            journalctl -u etcd -n 100 --no-pager | grep -q 'data inconsistency' && exit 0
            sleep 0.2
        done
        exit 1
    """
    changed.lab.exec("etcd3", "sh", "-c", script).ok()
    run = changed.run(THREE, "differs-at-start")
    assert any("replace etcd3" in step for step in run.states), list(run.states)
    assert replaced(changed, before) == {"etcd3"}


@only_in_all
def test_a_sound_member_is_not_replaced_from_one_with_other_data(changed):
    """etcd1 is wrong and runs; etcd3 differs from it and does not start: that is no proof."""
    changed.begin(THREE)
    before = ids(changed)
    changed.lab.etcdctl("etcd1", "put", "/sound", "sound-value").ok()
    time.sleep(1)
    flip(changed, "etcd1")
    changed.lab.exec("etcd3", "systemctl", "restart", "--no-block", "etcd").ok()
    time.sleep(5)
    run = changed.lab.orch()
    assert replaced(changed, before) == set() and run.code != 0, run.text
    assert "it is not clear whose is wrong" in run.text, run.text


@only_in_all
def test_a_full_disk_stops_one_member_and_nobody_else(changed):
    changed.begin(THREE)
    changed.lab.fault("etcd3", "fill")
    try:
        with Load(changed.lab, "/disk-full/") as load:
            for number in range(40):
                write(changed, f"/fill{number}-", 10)
                if not changed.lab.healthy("etcd3"):
                    break
            assert not changed.lab.healthy("etcd3"), "200 MB should not have fitted"
        load.check(("etcd1", "etcd2"), longest=None)
        failed = changed.lab.orch()
        assert failed.code != 0, failed.text
    finally:
        changed.lab.fault("etcd3", "heal")
    changed.lab.wait_for_minions("etcd3")
    changed.lab.orch().ok()
    changed.lab.etcdctl("etcd1", "del", "--prefix", "/fill").ok()
    changed.settled()
