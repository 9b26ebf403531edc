"""A highstate between an edit of the pillar and the orchestrate; a member stopped on purpose."""

import pytest
from extent import only_in_all
from lab_command import MEMBERS, differences, minions
from test_drift import Writer

IN_FORCE = "/var/lib/etcd_ha/in_force/host.json"
SERVING = ("lb", *MEMBERS)


def pending(states):
    """What a state run on a host says of what waits."""
    (told,) = [
        s["comment"] for s in states.values() if s.get("__id__", "").startswith("what is in")
    ]
    return told


def highstate(lab, *hosts):
    """The states of a highstate on these hosts, none of which fails: minion -> states."""
    done = lab.apply(minions(*hosts))
    for minion, states in done.items():
        assert isinstance(states, dict), (minion, states)
        failed = [s for s in states.values() if s["result"] is not True]
        assert not failed, (minion, failed)
    return done


def changes(done):
    return {m: s for m, states in done.items() for s in states.values() if s["changes"]}


@pytest.fixture
def moved(converged):
    """The pillar has another client port; afterwards the shipped one is in force again."""
    converged.put("/highstate", "before")
    converged.change_pillar(lambda cluster: cluster.update(ports={"client": 3379}))
    yield converged
    converged.write_pillar(converged.shipped)
    converged.orch().ok()
    assert converged.orch().ok().changes == {}


def test_another_port_and_a_highstate_cut_nobody_off(moved):
    """The nightly highstate came between the edit and the orchestrate, and every client was out."""
    before = moved.fingerprint(SERVING)
    with Writer(moved, "/highstate/pending/") as writer:
        done = highstate(moved, *SERVING, "ca")
        for host in SERVING:
            told = pending(done[f"{host}.example.com"])
            assert told.startswith("pending: ") and "etcd_ha.orch" in told, (host, told)
        assert changes(done) == {}
        assert differences(before, moved.fingerprint(SERVING)) == {}
        moved.orch().ok()
        found = highstate(moved, *SERVING)
        assert all("nothing is pending" in pending(states) for states in found.values())
    assert writer.check() < 5
    assert not writer.result.get("failed"), writer.result
    assert ":3379" in moved.exec("lb", "cat", "/etc/haproxy/haproxy.cfg").ok().out
    assert moved.get("/highstate") == "before"


DAMAGE = {
    "etcd1": "echo '# by hand' >> /etc/systemd/system/etcd.service; rm /etc/etcd/etcdctl.env",
    "etcd2": "rm /etc/default/etcd; systemctl stop etcd",
    "lb": "rm /etc/haproxy/haproxy.cfg",
}


@only_in_all
def test_a_highstate_puts_back_what_is_in_force(converged):
    """What is damaged comes back as it is in force, also while the pillar says something else."""
    paths = ("/etc/systemd/system/etcd.service", "/etc/etcd/etcdctl.env", "/etc/default/etcd")
    paths += ("/etc/haproxy/haproxy.cfg",)

    def sums():
        script = f"for f in {' '.join(paths)}; do test ! -e $f || sha256sum $f; done"
        return {host: converged.exec(host, "sh", "-c", script).ok().out for host in SERVING}

    before, ran = sums(), converged.processes()
    converged.change_pillar(lambda cluster: cluster.update(options={"heartbeat-interval": 150}))
    try:
        for host, script in DAMAGE.items():
            converged.exec(host, "sh", "-c", script).ok()
        assert sums() != before
        highstate(converged, *SERVING)
        assert sums() == before
        converged.wait_healthy("etcd2")
        for host in ("etcd1", "etcd3"):
            assert converged.process(host) == ran[host], f"{host} was restarted"
        assert converged.orch("test=True").code == 0
    finally:
        converged.write_pillar(converged.shipped)
        converged.orch().ok()


def test_a_paused_member_stays_stopped_and_comes_back(converged):
    lab = converged
    words = ("cluster=main", "member=etcd2")
    done = lab.salt_run("etcd_ha.pause", *words, "reason=disk swap", "hours=4").ok()
    assert "is stopped until" in done.out
    try:
        assert lab.exec("etcd2", "systemctl", "is-active", "etcd").out.strip() == "inactive"
        told = lab.salt_run("etcd_ha.pause", "main", "etcd3", "reason=too", "hours=1")
        assert told.code == 1 and "needed for a quorum" in told.text
        assert "etcd2 is paused until" in lab.salt_run("etcd_ha.status").ok().out
        highstate(lab, "etcd2")
        run = lab.orch().ok()
        assert "nothing is done with it" in run.text and run.changes == {}
        assert lab.exec("etcd2", "systemctl", "start", "etcd").code != 0
        lab.fault("etcd2", "kill")
        lab.fault("etcd2", "heal")
        lab.wait_for_minions("etcd2")
        assert lab.exec("etcd2", "systemctl", "is-active", "etcd").out.strip() == "inactive"
        lab.put("/paused", "meanwhile")
        done = lab.salt_run("etcd_ha.resume", *words).ok()
        assert "runs again, and is healthy" in done.out
        assert lab.get("/paused", host="etcd2", endpoint=lab.own("etcd2")) == "meanwhile"
        # The end of a pause, without Salt.
        lab.salt_run("etcd_ha.pause", *words, "reason=short", "hours=0.002").ok()
        lab.wait_healthy("etcd2", seconds=60)
        assert lab.ask("etcd2*", "etcd_ha.paused") == {"etcd2.example.com": {}}
    finally:
        lab.salt_run("etcd_ha.resume", *words)
    assert lab.orch().ok().changes == {}


@only_in_all
def test_a_highstate_on_reinstalled_hosts_makes_no_ca_and_starts_nothing(sacrificed):
    lab = sacrificed
    before = lab.exec("etcd1", "sha256sum", "/etc/etcd/pki/ca.crt").ok().out
    lab.run("reset", "ca", "etcd3").ok()
    lab.wait_for_minions("ca", "etcd3")
    lab.salt(minions("ca", "etcd3"), "saltutil.sync_all").ok()
    done = highstate(lab, "ca", "etcd3", "etcd1", "lb")
    for host in ("ca", "etcd3"):
        assert "is not in force here yet" in pending(done[f"{host}.example.com"])
    assert lab.exec("ca", "test", "-e", "/etc/pki/etcd_ha").code != 0
    assert lab.exec("etcd3", "test", "-e", "/etc/default/etcd").code != 0
    assert lab.exec("etcd3", "test", "-x", "/opt/etcd/3.6.14/etcd").code == 0
    assert lab.exec("etcd1", "sha256sum", "/etc/etcd/pki/ca.crt").ok().out == before
    # The CA is gone: the orchestrate says how another one is made.
    lab.orch().refused("the CA of main is gone", "etcd_ha.orch.rotate_ca")
    highstate(lab, "ca")
    lab.orch().refused("the CA of main is gone", "etcd_ha.orch.rotate_ca")


@only_in_all
def test_firewall_rules_are_added_and_none_is_removed_before_the_orchestrate(converged):
    lab = converged
    on = {"enabled": True, "kind": "nftables"}
    lab.change_pillar(lambda cluster: cluster.update(firewall=on))
    try:
        lab.orch().ok()
        lab.change_pillar(lambda cluster: cluster.update(firewall=on, ports={"client": 3379}))
        highstate(lab, *SERVING)
        rules = lab.exec("etcd1", "nft", "list", "table", "inet", "etcd_ha").ok().out
        for port in ("2379", "3379"):
            assert f"tcp dport {port} accept" in rules, rules
        lab.put("/firewall", "pending")
        # Set back: the orchestrate removes what a highstate added.
        lab.change_pillar(lambda cluster: cluster.update(firewall=on))
        lab.orch().ok()
        rules = lab.exec("etcd1", "nft", "list", "table", "inet", "etcd_ha").ok().out
        assert "3379" not in rules
    finally:
        lab.write_pillar(lab.shipped)
        lab.orch().ok()
        highstate(lab, *SERVING)
