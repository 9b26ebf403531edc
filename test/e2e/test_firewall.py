"""The opt-in firewall on real hosts: nftables on etcd1 and the balancer, firewalld on etcd2, ufw on
etcd3, each as ``kind: auto`` finds it.

firewalld and ufw refuse what no rule admits, so that the cluster forms at all shows that ours do.
"""

import json

import pytest
from extent import only_in_all
from lab_command import AS_A_STEP, MEMBERS, minions

CA = "198.18.0.3"
CLIENT, PEER = 2379, 2380
THEIRS = 5000
REACH = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def reaches(target):
    try:
        socket.create_connection(target, 2).close()
    except OSError:
        return False
    return True
targets = [tuple(target) for target in json.loads(sys.argv[1])]
with ThreadPoolExecutor(len(targets)) as each:
    print(json.dumps(list(each.map(reaches, targets))))
"""


@pytest.fixture
def guarded(fresh):
    """Blank hosts with firewalls that their owner switched on, with rules of his own."""
    for host in (*MEMBERS, "lb"):
        assert fresh.exec(host, "nft", "list", "ruleset").ok().out == "", (
            "a reset left rules behind"
        )
    fresh.exec("etcd1", "nft", "add", "table", "inet", "theirs").ok()
    script = (
        "apt-get -q -y install firewalld >/dev/null && "
        f"for kept in '' --permanent; do firewall-cmd $kept --add-port={THEIRS}/tcp; done"
    )
    fresh.exec("etcd2", "sh", "-c", script).ok()
    script = (
        "apt-get -q -y install ufw >/dev/null && ufw allow 22/tcp && "
        f"ufw allow from {CA} to any port {THEIRS} proto tcp && ufw --force enable"
    )
    fresh.exec("etcd3", "sh", "-c", script).ok()
    # Connections from before are new to a firewall that tracks them from now on: idle ones, such as
    # a minion's to its master, are dropped until the minion speaks first.
    for host in ("etcd2", "etcd3"):
        fresh.exec(host, "systemctl", "restart", "salt-minion").ok()
    fresh.wait_for_minions(*MEMBERS, "lb", "ca")
    return fresh


def set_firewall(lab, **settings):
    lab.change_pillar(lambda cluster: cluster.update(firewall=settings))


def reached(lab, host, *ports):
    """Which of these the host reaches: {(host, port), ...}."""
    targets = [(name, port) for name, port in ports if name != host]
    argument = json.dumps([(lab.address(name), port) for name, port in targets])
    done = lab.exec(host, "/usr/bin/python3", "-c", REACH, argument).ok()
    return {target for target, open_ in zip(targets, json.loads(done.out), strict=True) if open_}


def each(port, *hosts):
    return {(host, port) for host in hosts}


EVERY_PORT = [*((m, p) for m in MEMBERS for p in (CLIENT, PEER)), ("lb", CLIENT)]


def unchanged(lab):
    assert lab.orch().ok().changes == {}
    answers = lab.apply(minions(*MEMBERS, "lb"))
    assert len(answers) == 4
    changed = {
        (minion, name): state["changes"]
        for minion, states in answers.items()
        for name, state in states.items()
        if state["changes"] or not state["result"]
    }
    assert changed == {}


def theirs_are_there(lab):
    assert "table inet theirs" in lab.exec("etcd1", "nft", "list", "tables").out
    for kept in ((), ("--permanent",)):
        done = lab.exec("etcd2", "firewall-cmd", *kept, "--zone=public", "--list-ports")
        assert f"{THEIRS}/tcp" in done.out
    rules = lab.exec("etcd3", "ufw", "show", "added").out
    assert "ufw allow 22/tcp" in rules
    assert f"ufw allow from {CA} to any port {THEIRS} proto tcp" in rules


def ours(lab):
    """Host -> the rules of the formula that are in force."""
    table = lab.exec("etcd1", "nft", "list", "table", "inet", "etcd_ha")
    policy = lab.exec("etcd2", "firewall-cmd", "--policy=etcd_ha", "--list-rich-rules")
    kept = lab.exec("etcd2", "firewall-cmd", "--permanent", "--policy=etcd_ha", "--list-rich-rules")
    added = lab.exec("etcd3", "ufw", "show", "added").out
    assert policy.out.strip() == (kept.out.strip() if kept.code == 0 else "")
    return {
        "etcd1": table.out if table.code == 0 else "",
        "etcd2": policy.out.strip() if policy.code == 0 else "",
        "etcd3": "\n".join(line for line in added.splitlines() if "etcd_ha" in line),
    }


def well(lab):
    for host in MEMBERS:
        lab.wait_healthy(host)
    lab.put("firewall", "open to those who may")
    assert lab.get("firewall", host="etcd3", endpoint=lab.through_balancer()).startswith("open")


@only_in_all
def test_all_three_firewalls_over_their_life(guarded):
    lab = guarded
    set_firewall(lab, enabled=True, client_networks=[CA])
    lab.orch().ok()
    well(lab)
    assert all(ours(lab).values())
    theirs_are_there(lab)

    # Peers for members alone; clients for balancers, members and the named network.
    for host in MEMBERS:
        assert reached(lab, host, *EVERY_PORT) == {t for t in EVERY_PORT if t[0] != host}
    to_clients = each(CLIENT, *MEMBERS)
    assert reached(lab, "lb", *EVERY_PORT) == to_clients
    assert reached(lab, "ca", *EVERY_PORT) == to_clients | each(CLIENT, "lb")
    assert reached(lab, "master", *EVERY_PORT) == set()
    unchanged(lab)

    # Where everything else is open, ours alone keep strangers out, and theirs open nothing of ours.
    lab.exec("etcd2", "firewall-cmd", "--set-default-zone=trusted").ok()
    lab.exec("etcd3", "sh", "-c", "ufw default allow incoming && ufw allow from 198.18.0.0/24").ok()
    assert reached(lab, "master", *EVERY_PORT) == set()
    assert reached(lab, "ca", *EVERY_PORT) == to_clients | each(CLIENT, "lb")

    # A client network that is named no longer; first as a test, which changes nothing.
    before = ours(lab)
    set_firewall(lab, enabled=True, client_networks=[])
    told = lab.apply(minions(*MEMBERS), "test=True")
    for minion, states in told.items():
        foretold = [s for s in states.values() if s["result"] is None and s["changes"]]
        assert foretold, f"{minion} foretells no change"
    assert ours(lab) == before
    lab.orch().ok()
    after = ours(lab)
    assert all(CA in text for text in before.values())
    assert not any(CA in text for text in after.values())
    assert reached(lab, "ca", *EVERY_PORT) == set()
    well(lab)
    theirs_are_there(lab)
    unchanged(lab)

    # Switched off: nothing of it is left, and what is not ours stays.
    set_firewall(lab, enabled=False)
    lab.orch().ok()
    assert not any(ours(lab).values())
    assert reached(lab, "master", *EVERY_PORT) == set(EVERY_PORT)
    theirs_are_there(lab)
    well(lab)
    unchanged(lab)


@only_in_all
def test_a_rule_of_the_owner_in_our_place_is_named_and_kept(guarded):
    lab = guarded
    lab.exec("etcd3", "ufw", "allow", f"{CLIENT}/tcp").ok()
    set_firewall(lab, enabled=True)
    lab.salt("etcd3.example.com", "saltutil.sync_all").ok()
    done = lab.salt("etcd3.example.com", "state.apply", "etcd_ha.firewall", AS_A_STEP)
    assert done.code != 0
    assert "ufw delete allow proto tcp from any to any port 2379" in done.text
    rules = lab.exec("etcd3", "ufw", "show", "added").out
    assert f"ufw allow {CLIENT}/tcp" in rules and "etcd_ha" not in rules
