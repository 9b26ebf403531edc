"""What is asked for once beside the pillar, and a cluster's other name."""

from changing import KEPT_PKI, PKI, THREE, Load
from extent import only_in_all


@only_in_all
def test_all_members_are_restarted_one_by_one(changed):
    changed.begin(THREE)
    changed.lead("etcd2")
    before = changed.processes()
    run = changed.run(THREE, "restart", command="restart")
    after = changed.processes()
    assert all(before[host] != after[host] for host in THREE), (before, after)
    steps = [step for step in run.states if "restart (" in step]
    assert len(steps) == 3 and "etcd2: move leadership to" in steps[-1], steps


def renamed(changed, **more):
    changed.lab.write_pillar(changed.pillar(THREE, name="prod", **more))


@only_in_all
def test_another_name(changed):
    """Nobody is restarted; records, the CA and the balancers' certificates move over."""
    lab = changed.lab
    changed.begin(THREE)
    before = changed.processes()
    renamed(changed)
    lab.orch().refused("holds a member of the cluster main", "renamed_from: main")
    renamed(changed, renamed_from="main")
    # The balancers' own certificates move with the name: clients have others.
    lab.exec("lb", "sh", "-c", f"rm -rf {KEPT_PKI}; cp -a {PKI} {KEPT_PKI}").ok()
    with Load(lab, "/renamed/", pki=KEPT_PKI) as load:
        lab.orch().ok()
    load.check(THREE)
    assert changed.processes() == before
    assert lab.orch().ok().changes == {}
    for host, gone, there in (
        ("ca", "/etc/pki/etcd_ha/main", "/etc/pki/etcd_ha/prod/ca.key"),
        ("lb", "/etc/etcd/main", "/etc/etcd/prod/check.key"),
        ("etcd1", "/var/lib/etcd_ha/main.json", "/var/lib/etcd_ha/prod.json"),
    ):
        assert lab.exec(host, "test", "-e", gone).code != 0, (host, gone)
        assert lab.exec(host, "test", "-e", there).code == 0, (host, there)
    renamed(changed)
    assert "in sync, nothing to do" in lab.orch().ok().text
    assert changed.processes() == before and changed.get("/begin") == "kept"


def test_a_cluster_is_removed_when_its_name_is_said(changed):
    lab = changed.lab
    changed.begin(THREE)
    lab.orch(command="remove_cluster").refused("its name is asked for")
    lab.orch("pillar={'confirm': 'other'}", command="remove_cluster").refused("asked for")
    assert changed.get("/begin") == "kept"
    dry = lab.orch("pillar={'confirm': 'main'}", "test=True", command="remove_cluster")
    assert dry.code == 0 and changed.get("/begin") == "kept", dry.text
    lab.orch("pillar={'confirm': 'main'}", command="remove_cluster").ok()
    for host in THREE:
        changed.is_retired(host)
        assert lab.exec(host, "test", "-e", "/var/lib/etcd_ha/main.json").code != 0
    assert lab.exec("lb", "systemctl", "is-active", "haproxy").out.strip() == "inactive"
    saved = "ls /var/lib/etcd_ha/snapshots/main-before-removal-*.db"
    assert [host for host in THREE if lab.exec(host, "sh", "-c", saved).code == 0]
    plan = lab.salt_run("etcd_ha.plan")
    assert "not bootstrapped" in plan.text and "refused" not in plan.text
