"""Members that run on data which their path does not lead to: named, and left alone."""

import json
import time

from extent import only_in_all
from lab_command import DOMAIN, MEMBERS, minions

DATA = "/var/lib/etcd"
SAID = (f"is hidden below the mount at {DATA}", "do not reboot the host", f"umount {DATA}")


def entries(lab, hosts):
    return {host: lab.exec(host, "ls", "-A", DATA).ok().out.split() for host in hosts}


def highstate(lab, hosts):
    """What a state run says that is expected to fail: minion -> its results."""
    patient = ("--out=json", "--static", "-t", "60")
    done = lab.salt(minions(*hosts), "state.apply", "etcd_ha", *patient)
    return json.loads(done.out)


def over(lab, hosts):
    for host in hosts:
        lab.exec(host, "mount", "-t", "tmpfs", "-o", "size=64m", "over", DATA).ok()


def uncovered(lab, hosts):
    for host in hosts:
        lab.exec(host, "umount", DATA).ok()


# etcd ends by itself within half a minute ("failed to purge snap file"): only a quick machine sees
# it run meanwhile.
@only_in_all
def test_a_mount_over_the_data_of_a_member_that_runs_changes_nothing(converged):
    lab, host = converged, "etcd2"
    lab.put("/hidden", "below")
    before = lab.processes()
    over(lab, [host])
    try:
        run = lab.orch().refused(*SAID, f"{host}.{DOMAIN}: the data that etcd uses in {DATA}")
        assert run.changes == {}
        for minion, states in highstate(lab, [host]).items():
            failed = [one for one in states.values() if one["result"] is False]
            assert failed and all(word in failed[0]["comment"] for word in SAID), minion
            assert not [one for one in states.values() if one["changes"]], minion
        assert not any(entries(lab, [host]).values())
        assert {**lab.processes(), host: ""} == {**before, host: ""}
    finally:
        uncovered(lab, [host])
    lab.wait_healthy(host)
    assert lab.orch().ok().changes == {}
    assert lab.get("/hidden", host=host, endpoint=lab.own(host)) == "below"


@only_in_all
def test_a_mount_over_the_data_of_all_members_loses_nothing(converged):
    """Whether etcd runs or has ended by then: nobody is bootstrapped, replaced or given up."""
    lab = converged
    lab.put("/hidden", "below")
    before = ids(lab)
    over(lab, MEMBERS)
    try:
        for _ in range(2):
            run = lab.orch().refused("mount")
            assert run.changes == {}
            assert "its data is gone" not in run.text and "Traceback" not in run.text
            ended(lab)
        run = lab.orch().refused("Look at the mounts of each member first")
        assert run.changes == {}
    finally:
        uncovered(lab, MEMBERS)
    run = lab.orch().ok()
    assert not any(f'"main: {what}' in run.text for what in ("replace", "bootstrap")), run.text
    assert ids(lab) == before
    for host in MEMBERS:
        assert lab.get("/hidden", host=host, endpoint=lab.own(host)) == "below"


def ids(lab):
    rows = json.loads(lab.etcdctl("etcd1", "member", "list", "-w", "json").ok().out)["members"]
    return {row["name"]: row["ID"] for row in rows}


def ended(lab, seconds=90):
    """Wait until etcd has ended by itself on all members."""
    deadline = time.monotonic() + seconds
    while set(lab.processes().values()) != {"0"}:
        assert time.monotonic() < deadline, "etcd runs on without its directory"
        time.sleep(2)


@only_in_all
def test_files_that_were_deleted_under_a_member_come_back_by_a_replacement(sacrificed):
    lab = sacrificed
    lab.put("/deleted", "kept by the others")
    before = lab.processes()
    lab.exec("etcd2", "rm", "-rf", f"{DATA}/member").ok()
    run = lab.orch().refused("that were deleted", "do not reboot", "etcd_ha.orch.replace")
    assert run.changes == {} and lab.processes() == before
    asked = {"confirm": "main", "member": "etcd2"}
    lab.orch(f"pillar={json.dumps(asked)}", command="replace").ok()
    after = lab.processes()
    assert after["etcd2"] != before["etcd2"]
    assert {**after, "etcd2": ""} == {**before, "etcd2": ""}
    assert lab.get("/deleted", host="etcd2", endpoint=lab.own("etcd2")) == "kept by the others"
    assert lab.orch().ok().changes == {}
