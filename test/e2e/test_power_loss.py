"""All members lose their power at once, and with it what was not yet on their disks.

With fsync nothing that was acknowledged is lost. The same clients and checkers find what an etcd
without fsync loses: so they would find it in the formula, too.
"""

import json
import pathlib
import sys
import time

from changing import THREE
from extent import only_in_all

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from chaos.checkers import acknowledged, linearizable
from chaos.history import read
from chaos.operations import Operations
from chaos.programs import Clients

DROP_IN = "/etc/systemd/system/etcd.service.d/unsafe.conf"
UNSAFE = f"""
    mkdir -p $(dirname {DROP_IN})
    printf '[Service]\\nEnvironment=ETCD_UNSAFE_NO_FSYNC=true\\n' > {DROP_IN}
    systemctl daemon-reload
    systemctl restart etcd
"""
# Shorter than the half minute after which the kernel writes by itself.
SECONDS = 8


def power_is_lost_under_load(ground, folder):
    """The clients' history until the power was lost, and what each member holds afterwards."""
    lab = ground.lab
    for host in THREE:
        # The formula's files are on the disk by now: what counts here is etcd's.
        lab.exec(host, "sync").ok()
    endpoints = [[lab.address("lb"), 2379]]
    with Clients(lab, folder, 1, endpoints, ["lb"], prefix=f"/power/{folder.name}/") as clients:
        clients.ask(era=1)
        time.sleep(SECONDS)
        for host in THREE:
            lab.fault(host, "kill", "--drop-cache")
        clients.ask(era=1, paused=True)
    for host in THREE:
        lab.fault(host, "heal", "--no-wait")
    lab.wait_for_minions(*THREE)
    history = read((folder / "history.jsonl").read_text().splitlines())
    assert sum(one.wrote for one in history.operations) > 100
    operations = Operations(lab, ["lb"])
    operations.ground.hosts = THREE
    prefix = clients.prefix(1)
    return history.operations, lambda: {host: operations.held(host, prefix) for host in THREE}


@only_in_all
def test_with_fsync_nothing_is_lost(changed, tmp_path):
    changed.begin(THREE)
    made, held = power_is_lost_under_load(changed, tmp_path)
    for host in THREE:
        changed.lab.wait_healthy(host, seconds=90)
    assert acknowledged.check(made, held()) == []
    assert linearizable.check(made) == []
    assert changed.lab.orch().ok()
    changed.settled()


@only_in_all
def test_without_fsync_the_checkers_find_what_is_lost(changed, tmp_path):
    changed.begin(THREE)
    for host in THREE:
        changed.lab.exec(host, "sh", "-c", UNSAFE).ok()
        changed.lab.wait_healthy(host, seconds=60)
    made, held = power_is_lost_under_load(changed, tmp_path)
    try:
        for host in THREE:
            changed.lab.wait_healthy(host, seconds=60)
        found = {one.rule for one in acknowledged.check(made, held())}
    except AssertionError as err:
        # Or nothing is left that starts: then all is lost.
        found = {"acknowledged write lost"}
        print(f"  the cluster did not come back: {json.dumps(str(err)[-300:])}")
    assert "acknowledged write lost" in found, found
