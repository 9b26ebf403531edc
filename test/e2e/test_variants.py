"""Other clusters than the shipped one, each from blank hosts by the same orchestrate."""

import copy
import json

from extent import only_in_all
from lab_command import DOMAIN, MEMBERS


def minion(host):
    return f"{host}.{DOMAIN}"


@only_in_all
def test_nginx_as_the_balancer(fresh):
    fresh.change_pillar(lambda cluster: cluster.setdefault("balancer", {}).update(kind="nginx"))
    fresh.orch().ok()
    assert fresh.exec("lb", "systemctl", "is-active", "nginx").out.strip() == "active"
    assert fresh.exec("lb", "systemctl", "is-active", "haproxy").out.strip() != "active"
    fresh.put("nginx", "serves")
    assert fresh.get("nginx", endpoint=fresh.through_balancer()) == "serves"
    fresh.exec("etcd3", "systemctl", "stop", "etcd").ok()
    for number in range(6):
        fresh.put("nginx", str(number))
    fresh.exec("etcd3", "systemctl", "start", "etcd").ok()
    fresh.wait_healthy("etcd3")
    assert fresh.orch().ok().changes == {}
    answers = fresh.apply()
    assert not [s for states in answers.values() for s in states.values() if s["changes"]]


@only_in_all
def test_the_distribution_s_package(fresh):
    done = fresh.exec("etcd1", "apt-cache", "policy", "etcd-server").ok()
    candidate = next(line for line in done.out.splitlines() if "Candidate:" in line)
    version = candidate.split(":", 1)[1].strip().partition("+")[0].partition("-")[0]

    def package(cluster):
        cluster["version"] = version
        cluster["install"] = {"method": "package"}

    fresh.change_pillar(package)
    fresh.orch().ok()
    for host in MEMBERS:
        script = "readlink /proc/$(systemctl show -p MainPID --value etcd)/exe; etcd --version"
        told = fresh.exec(host, "sh", "-c", script).ok().out
        assert "/usr/bin/etcd" in told and f"etcd Version: {version}" in told, told
        owner = fresh.exec(host, "dpkg", "-S", "/usr/bin/etcd").ok().out
        assert owner.startswith("etcd-server"), owner
    fresh.put("package", "serves")
    assert fresh.get("package", host="etcd3") == "serves"
    assert fresh.orch().ok().changes == {}


@only_in_all
def test_plain_http(fresh):
    fresh.change_pillar(lambda cluster: cluster.update(tls={"enabled": False}))
    run = fresh.orch().ok()
    assert "anyone who reaches a port reads and writes all" in run.text
    body = json.dumps({"key": "cGxhaW4=", "value": "aHR0cA=="})
    put = fresh.probe("ca", "plain", fresh.address("lb"), 2379, "/v3/kv/put", body)
    assert put.get("status") == 200, put
    got = fresh.etcdctl("etcd2", "get", "plain", "--print-value-only").ok()
    assert got.out.strip() == "http"
    for host in MEMBERS:
        assert fresh.exec(host, "sh", "-c", "ls /etc/etcd/pki/*").code != 0
    # The CA minion has no part here, so the orchestrate has not synced the modules to it.
    health = fresh.salt(",".join(map(minion, (*MEMBERS, "lb"))), "etcd_ha.health")
    assert health.code == 0, health.text
    assert fresh.orch().ok().changes == {}


def two_clusters(shipped):
    """red on etcd1 behind the balancer, blue on etcd2 and etcd3, one CA minion for both."""
    wanted = copy.deepcopy(shipped)
    main = wanted["clusters"].pop("main")
    members = main["members"]
    red = {**main, "members": {minion("etcd1"): members[minion("etcd1")]}}
    blue = {**main, "members": {minion(name): members[minion(name)] for name in MEMBERS[1:]}}
    blue.pop("load_balancers")
    wanted["clusters"] = {"red": red, "blue": blue}
    return wanted


def an_admin_is_nobody_in_the_other_cluster(lab, host, other):
    """Each cluster has a CA of its own: neither side takes the other's certificate."""
    told = lab.etcdctl(host, "get", "whose", endpoint=lab.own(other))
    assert told.code != 0 and "certificate signed by unknown authority" in told.text, told.text
    # An admin who trusts the other cluster all the same: now it is the server that refuses.
    pki, trusted = "/etc/etcd/pki", "/tmp/other.crt"
    lab.write(host, trusted, lab.exec(other, "cat", f"{pki}/ca.crt").ok().out)

    def ask(server, ca):
        wanted = {"host": lab.address(server), "port": 2379, "ca": ca}
        wanted |= {"certificate": f"{pki}/admin.crt", "key": f"{pki}/admin.key"}
        return lab.probe(host, "tls", json.dumps(wanted))

    refused = ask(other, trusted)
    assert "alert unknown ca" in refused.get("error", ""), refused
    assert ask(host, f"{pki}/ca.crt").get("status") == 200, "the certificate itself is good"


def test_two_clusters_on_one_master(fresh):
    fresh.write_pillar(two_clusters(fresh.shipped))
    fresh.orch("pillar={cluster: red}").ok()
    assert fresh.exec("etcd2", "test", "-e", "/etc/default/etcd").code != 0, "blue was not asked"
    fresh.orch().ok()
    assert fresh.orch().ok().changes == {}

    def names(host):
        done = fresh.etcdctl(host, "member", "list", "-w", "json").ok()
        return {member["name"] for member in json.loads(done.out)["members"]}

    assert names("etcd1") == {"etcd1"}
    assert names("etcd2") == names("etcd3") == {"etcd2", "etcd3"}
    fresh.put("whose", "red")
    fresh.etcdctl("etcd2", "put", "whose", "blue").ok()
    assert fresh.get("whose", host="etcd1") == "red"
    assert fresh.get("whose", host="etcd3") == "blue"
    for host, other in (("etcd1", "etcd2"), ("etcd2", "etcd1")):
        an_admin_is_nobody_in_the_other_cluster(fresh, host, other)
    table = fresh.salt_run("etcd_ha.status").ok().out
    assert "red" in table and "blue" in table
