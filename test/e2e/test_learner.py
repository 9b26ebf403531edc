"""A learner takes no clients' requests, so HAProxy keeps it out, whatever the version of etcd.

From 3.6 on the checks are the same.
"""

import csv
import json
import time

from extent import each_release
from lab_command import MEMBERS

STATS = "http://127.0.0.1:8404/;csv"


def wanted(version):
    def change(cluster):
        cluster["version"] = version
        cluster.setdefault("balancer", {})["stats"] = {"enabled": True}

    return change


def seen_by_the_balancer(lab):
    """Member -> UP or DOWN, in HAProxy's own words."""
    script = f"import urllib.request as r; print(r.urlopen('{STATS}').read().decode())"
    lines = lab.exec("lb", "/usr/bin/python3", "-c", script).ok().out.lstrip("# ").splitlines()
    return {
        row["svname"]: row["status"] for row in csv.DictReader(lines) if row["svname"] in MEMBERS
    }


def wait_for(lab, expected, seconds=20):
    deadline = time.monotonic() + seconds
    while (seen := seen_by_the_balancer(lab)) != expected and time.monotonic() < deadline:
        time.sleep(0.5)
    assert seen == expected


def member_id(lab, name):
    # At one endpoint: by default etcdctl asks all in turn, and a learner refuses.
    command = ("member", "list", "--write-out=json")
    listed = lab.etcdctl("etcd1", *command, endpoint=lab.own("etcd1")).ok()
    (found,) = [m for m in json.loads(listed.out)["members"] if m.get("name") == name]
    return f"{found['ID']:x}", found["peerURLs"][0]


def becomes_a_learner(lab, host):
    """Remove a member and let it join again, as one that learns only."""
    number, peer_url = member_id(lab, host)
    lab.exec(host, "systemctl", "stop", "etcd").ok()
    lab.etcdctl("etcd1", "member", "remove", number, endpoint=lab.own("etcd1")).ok()
    lab.exec(host, "find", "/var/lib/etcd", "-mindepth", "1", "-delete").ok()
    new = ("member", "add", host, "--learner", f"--peer-urls={peer_url}")
    deadline = time.monotonic() + 20
    # Voters must have been connected to each other for five seconds before etcd takes a new one.
    while lab.etcdctl("etcd1", *new, endpoint=lab.own("etcd1")).code != 0:
        assert time.monotonic() < deadline
        time.sleep(1)
    # etcd without its log starts only where it is handed its first start.
    first = "/run/etcd_ha/bootstrap.env"
    lab.write(host, first, "ETCD_INITIAL_CLUSTER_STATE=existing\n")
    lab.exec(host, "systemctl", "start", "etcd").ok()
    lab.exec(host, "rm", first).ok()


@each_release(("3.4.23", "3.5.33", "3.6.14"), usual="")
def test_a_learner_is_kept_out(fresh, version):
    lab = fresh
    lab.run("mirror", "get", version, timeout=600).ok()
    lab.change_pillar(wanted(version))
    lab.orch().ok()
    wait_for(lab, dict.fromkeys(MEMBERS, "UP"))

    becomes_a_learner(lab, "etcd3")
    told = lab.etcdctl("etcd3", "get", "x", endpoint=lab.own("etcd3"))
    assert told.code != 0 and "not supported for learner" in told.text
    # One that was down comes up after one good check: several in a row must all have failed.
    for _ in range(6):
        seen = seen_by_the_balancer(lab)
        assert seen["etcd3"].startswith("DOWN") and "/" not in seen["etcd3"], seen
        time.sleep(1)
    assert {seen["etcd1"], seen["etcd2"]} == {"UP"}
    for count in range(6):
        lab.put("learner", str(count))

    promote = ("member", "promote", member_id(lab, "etcd3")[0])
    lab.etcdctl("etcd1", *promote, endpoint=lab.own("etcd1")).ok()
    wait_for(lab, dict.fromkeys(MEMBERS, "UP"))
