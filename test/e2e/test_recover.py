"""Quorum is lost: the cluster goes on from the newest survivor; nothing else is ever forced."""

import json
import re

import pytest
from changing import FIVE, THREE
from extent import ALL, each_release, only_in_all
from lab_command import DOMAIN

RELEASES = ("3.4.23", "3.5.33", "3.6.14", "3.7.1")
CRASHED = pytest.mark.skipif(not ALL, reason="a crash of all is in ETCD_HA_E2E=all alone")
WIPE = "systemctl stop etcd; rm -rf /var/lib/etcd/member"


def recover(lab, *more, **words):
    told = "pillar=" + json.dumps({"confirm": "main", **words})
    run = lab.orch(told, *more, command="recover")
    for name, state in run.states.items():
        print(f"    {name}: {state['result']}")
    return run


def write(lab, prefix, count):
    script = f"for n in $(seq {count}); do etcdctl put {prefix}$n $n; done >/dev/null"
    lab.exec("etcd1", "sh", "-c", f"set -a; . /etc/etcd/etcdctl.env; set +a; {script}").ok()


def holds(lab, host, prefix, count):
    at = lab.own(host) if host in THREE else None
    done = lab.etcdctl(host, "get", "--prefix", prefix, "--keys-only", endpoint=at).ok()
    return len(done.out.split()) == count


def wiped(lab, *hosts):
    for host in hosts:
        lab.exec(host, "sh", "-c", WIPE).ok()


@each_release(RELEASES)
@pytest.mark.parametrize("end", ["runs", pytest.param("crashed", marks=CRASHED)])
def test_two_of_three_lost_their_data(changed, version, end):
    if not changed.obtainable(version):
        pytest.fail(f"the mirror cannot get etcd {version} on this machine")
    changed.begin(THREE, version=version)
    lab = changed.lab
    write(lab, "/kept/", 50)
    if end == "crashed":
        # All at once, as a power loss does it: the database is ahead of the log's own word.
        for host in THREE:
            lab.exec(host, "sh", "-c", "systemctl kill -s KILL etcd; systemctl stop etcd").ok()
    wiped(lab, "etcd2", "etcd3")
    lab.orch().refused("etcd_ha.orch.recover")
    run = recover(lab).ok()
    print(f"  RECOVERED {version} ({end}) in {run.done.took:.1f} s")
    assert "KEEPS UP TO" in run.text
    for host in THREE:
        assert holds(lab, host, "/kept/", 50)
    write(lab, "/after/", 50)
    for host in THREE:
        assert holds(lab, host, "/after/", 50)
    changed.settled()
    aside = lab.exec("etcd1", "sh", "-c", "ls -d /var/lib/etcd.recovered-*/member").ok().out
    assert aside.strip()
    left = lab.exec(
        "etcd1", "sh", "-c", "grep -rs FORCE /etc/default/etcd /run/etcd_ha /etc/systemd"
    )
    assert left.code != 0


@only_in_all
def test_hosts_that_are_gone_must_be_named(changed):
    changed.begin()
    lab = changed.lab
    write(lab, "/named/", 20)
    lost = [f"{host}.{DOMAIN}" for host in ("etcd2", "etcd3")]
    try:
        for host in ("etcd2", "etcd3"):
            lab.fault(host, "kill")
        recover(lab).refused("did not answer", '"lost": ["etcd2.example.com", "etcd3.example.com"]')
        run = recover(lab, lost=lost).ok()
        assert "stays out" in run.text
        assert holds(lab, "etcd1", "/named/", 20)
        lab.put("/after", "1")
    finally:
        for host in ("etcd2", "etcd3"):
            lab.fault(host, "heal")
    lab.wait_for_minions("etcd2", "etcd3")
    # They come back with their old data and start: the new cluster must not heed them.
    assert lab.get("/after", endpoint=lab.own("etcd1")) == "1"
    wiped(lab, "etcd2", "etcd3")
    lab.orch().ok()
    changed.settled()
    assert lab.get("/after", host="etcd3", endpoint=lab.own("etcd3")) == "1"


@only_in_all
def test_the_newest_of_two_survivors_is_found(changed):
    """Of five, three are lost; of the two left, one was cut off before the last writes."""
    changed.begin(FIVE)
    lab = changed.lab
    write(lab, "/kept/", 10)
    lab.exec("etcd1", "systemctl", "stop", "etcd").ok()
    lab.etcdctl("etcd2", "put", "/newest", "1").ok()
    wiped(lab, "etcd3", "etcd4", "etcd5")
    run = recover(lab).ok()
    assert any("force etcd2" in name for name in run.states), run.states.keys()
    assert lab.get("/newest", endpoint=lab.own("etcd1")) == "1"
    changed.settled()


@only_in_all
def test_only_a_data_directory_is_left(changed):
    """On blank hosts, with a master that knows nothing; it belongs to root as a copy would."""
    changed.begin()
    lab = changed.lab
    write(lab, "/kept/", 30)
    lab.exec("etcd2", "systemctl", "stop", "etcd").ok()
    script = "tar -C /var/lib/etcd -c member | gzip | base64 -w0"
    coded = lab.exec("etcd2", "sh", "-c", script).ok().out
    lab.become_blank()
    changed.ask_for(THREE)
    unpack = "mkdir -p /var/lib/etcd; base64 -d | tar -C /var/lib/etcd --no-same-owner -xz"
    lab.exec("etcd2", "sh", "-c", unpack, stdin=coded).ok()
    # Nobody knows whose it is: a person says so.
    told = recover(lab).refused("did not set up", "etcd_ha.claim").text
    claimed = re.search(r"cluster_id=[0-9a-f]+", told)[0]
    lab.salt_run("etcd_ha.claim", "cluster=main", claimed, "confirm=main").ok()
    recover(lab).ok()
    for host in THREE:
        assert holds(lab, host, "/kept/", 30)
    changed.settled()


@pytest.mark.parametrize("what", ["member/wal", "member/snap/db"])
@only_in_all
def test_a_survivor_whose_files_are_broken_is_passed_over(changed, what):
    """A bit flipped in the log, or in the database: the other survivor is taken."""
    changed.begin(FIVE)
    lab = changed.lab
    write(lab, "/kept/", 30)
    wiped(lab, "etcd3", "etcd4", "etcd5")
    for host in ("etcd1", "etcd2"):
        lab.exec(host, "systemctl", "stop", "etcd").ok()
    path = f"/var/lib/etcd/{what}"
    zero = f"f=$(ls -d {path}/*.wal 2>/dev/null | tail -n 1); f=${{f:-{path}}}; "
    lab.exec(
        "etcd1", "sh", "-c", f"{zero} dd if=/dev/urandom of=$f bs=4096 count=8 conv=notrunc"
    ).ok()
    # Whether etcd can read it is not for our readers to say.
    recover(lab).refused("etcd_ha_member.examine")
    told = lab.salt_call("etcd1", "etcd_ha_member.examine", "main").ok().out
    assert "damaged" in told, told
    run = recover(lab).ok()
    assert any("force etcd2" in name for name in run.states), run.states.keys()
    for host in FIVE:
        assert holds(lab, host, "/kept/", 30)
    changed.settled()


@only_in_all
def test_a_cluster_with_a_quorum_is_refused(changed):
    changed.begin()
    recover(changed.lab).refused("has a quorum", "etcd_ha.orch")
    changed.lab.exec("etcd3", "systemctl", "stop", "etcd").ok()
    recover(changed.lab).refused("has a quorum")
    changed.lab.exec("etcd2", "systemctl", "stop", "etcd").ok()
    recover(changed.lab).refused("are a quorum once they run")
    changed.lab.orch().ok()
    changed.settled()


@only_in_all
def test_it_goes_on_after_the_minion_was_killed(changed):
    """In the midst of the forced start: nothing of it is left once the same command has ended."""
    changed.begin()
    lab = changed.lab
    write(lab, "/kept/", 20)
    wiped(lab, "etcd2", "etcd3")
    kill = (
        "(for n in $(seq 1200); do [ -e /run/etcd_ha/bootstrap.env ] && break; sleep 0.02; done; "
        "systemctl kill -s KILL salt-minion) >/dev/null 2>&1 &"
    )
    lab.exec("etcd1", "sh", "-c", kill).ok()
    recover(lab)
    lab.exec("etcd1", "sh", "-c", "systemctl restart salt-minion").ok()
    lab.wait_for_minions("etcd1")
    lab.orch().refused("recover of main was begun")
    recover(lab).ok()
    gone = lab.exec("etcd1", "test", "-e", "/run/etcd_ha/bootstrap.env")
    assert gone.code != 0
    for host in THREE:
        assert holds(lab, host, "/kept/", 20)
    changed.settled()
