"""Changes of the pillar on a cluster in use: each by one orchestrate, with clients meanwhile.

Each test says what has to be in force first; the order is such that the test before has left it so.
"""

from concurrent.futures import ThreadPoolExecutor

from changing import FIVE, THREE, Load

# What the tests start from where they do not change it.
OPTION = {"options": {"heartbeat-interval": 120}}
PLACE = {"data_dir": "/var/lib/etcd-moved"}
PORTS = {"ports": {"client": 2479, "peer": 2480, "metrics": 2481}, "balancer": {"port": 2379}}

ORCHESTRATE = "echo $$ > /run/orch.pid; exec salt-run state.orchestrate etcd_ha.orch"
A_LEARNER_IS_LISTED = "{ etcdctl member list | grep -q true$; }"


def lines(changed, *wanted):
    """Those very releases, or a failure that says what the machine lacks."""
    found = changed.obtainable(*wanted)
    assert found == list(wanted), f"{', '.join(wanted)} are needed, the mirror has {found}"
    return found


def killed_once(changed, host, until):
    """Begin to converge, and kill salt-run on the master as soon as ``until`` is true on a host."""
    lab = changed.lab
    lab.exec("master", "rm", "-f", "/run/orch.pid").ok()
    with ThreadPoolExecutor(1) as beside:
        run = beside.submit(lab.exec, "master", "sh", "-c", ORCHESTRATE)
        loop = f"set -a; . /etc/etcd/etcdctl.env; until {until}; do sleep 0.02; done"
        came = lab.exec(host, "timeout", "120", "sh", "-c", loop)
        lab.exec("master", "sh", "-c", "kill -KILL $(cat /run/orch.pid)").ok()
        assert came.code == 0, f"the moment to kill never came:\n{run.result().text}"
        assert run.result().code != 0, f"it had ended before:\n{run.result().text}"


def again(changed):
    """What the interruption left is finished by the same command, at once."""
    run = changed.lab.orch()
    for step in run.states:
        print(f"    {step}")
    run.ok()
    changed.settled()
    return run


def test_an_upgrade_through_all_lines(changed):
    """From 3.4 to 3.7 by one change of the pillar, or as far as this machine's mirror goes."""
    oldest, *_, newest = changed.releases()
    changed.begin(THREE, version=oldest)
    run = changed.change(THREE, "upgrade", version=newest)
    assert changed.versions() == {newest}
    assert any("snapshot" in step for step in run.states), list(run.states)
    saved = "ls /var/lib/etcd_ha/snapshots/main-before-*.db"
    found = [host for host in THREE if changed.lab.exec(host, "sh", "-c", saved).code == 0]
    assert len(found) == 1, "one member holds the snapshot"


def test_a_downgrade_by_one_line(changed):
    older, newer = lines(changed, "3.6.14", "3.7.1")
    changed.begin(THREE, version=newer)
    run = changed.change(THREE, "downgrade", version=older)
    assert any("allow the downgrade" in step for step in run.states), list(run.states)
    assert changed.versions() == {older}


def test_tls_is_taken_off(changed):
    changed.begin(THREE)
    changed.change(THREE, "plain", schemes=("https", "http"), tls={"enabled": False})
    for member in changed.members():
        urls = member["peerURLs"] + member["clientURLs"]
        assert all(url.startswith("http://") for url in urls), member


def test_tls_is_put_on(changed):
    changed.begin(THREE, tls={"enabled": False})
    changed.change(THREE, "tls", schemes=("http", "https"))
    for member in changed.members():
        urls = member["peerURLs"] + member["clientURLs"]
        assert all(url.startswith("https://") for url in urls), member
    refused = changed.lab.probe("ca", "plain", changed.lab.address("etcd1"), 2379, "/health", "")
    assert refused.get("status") != 200, refused


def test_three_members_become_five(changed):
    changed.begin(THREE)
    run = changed.change(FIVE, "grow")
    assert len([step for step in run.states if "as a learner" in step]) == 2, list(run.states)
    balanced = changed.lab.exec("lb", "cat", "/etc/haproxy/haproxy.cfg").ok().out
    assert all(host in balanced for host in FIVE)


def test_a_wiped_host_is_replaced(changed):
    changed.begin(FIVE)
    before = {member["name"]: member["ID"] for member in changed.members()}
    changed.lab.fault("etcd4", "wipe")
    changed.lab.wait_for_minions("etcd4")
    run = changed.change(FIVE, "wiped")
    assert any("replace etcd4" in step for step in run.states), list(run.states)
    replaced_alone(changed, before, "etcd4")


def test_a_member_with_a_corrupt_log_is_replaced(changed):
    changed.begin(FIVE)
    before = {member["name"]: member["ID"] for member in changed.members()}
    corrupts_its_log(changed.lab, "etcd3")
    run = changed.change(FIVE, "corrupt")
    assert any("replace etcd3" in step for step in run.states), list(run.states)
    replaced_alone(changed, before, "etcd3")
    aside = changed.lab.exec("etcd3", "sh", "-c", "ls -d /var/lib/etcd.replaced-*/member").out
    assert aside.strip(), "what is left of its data is kept"


def replaced_alone(changed, before, host):
    after = {member["name"]: member["ID"] for member in changed.members()}
    assert {name for name in before if before[name] != after[name]} == {host}, (before, after)


def corrupts_its_log(lab, host):
    said = "crc mismatch\\|failed to \\(read\\|open\\) WAL"
    script = f"""
        systemctl stop etcd
        log=$(ls /var/lib/etcd/member/wal/*.wal | tail -n 1)
        printf XXXXXXXXXXXXXXXX | dd of=$log bs=1 seek=600 conv=notrunc
        systemctl start etcd --no-block
        for _ in $(seq 50); do
            journalctl -u etcd -b --no-pager | grep -qi '{said}' && exit 0
            sleep 0.1
        done
        journalctl -u etcd -n 5 --no-pager
        exit 1
    """
    lab.exec(host, "sh", "-c", script).ok()


def test_a_killed_replacement_is_finished(changed):
    changed.begin(FIVE)
    changed.lab.fault("etcd5", "wipe", "--data", "/var/lib/etcd")
    with Load(changed.lab, "/killed-replacement/") as load:
        killed_once(changed, "etcd1", A_LEARNER_IS_LISTED)
        again(changed)
    load.check(FIVE)


def test_five_members_become_three_and_the_leader_leaves(changed):
    changed.begin(FIVE)
    changed.lead("etcd5")
    changed.change(THREE, "shrink")
    for host in set(FIVE) - set(THREE):
        changed.is_retired(host)


def test_the_data_directory_moves(changed):
    changed.begin(THREE)
    changed.change(THREE, "moved", **PLACE)
    for host in THREE:
        there = changed.lab.exec(host, "test", "-d", f"{PLACE['data_dir']}/member")
        gone = changed.lab.exec(host, "test", "-e", "/var/lib/etcd/member")
        assert there.code == 0 and gone.code != 0, host


def test_the_ports_change(changed):
    changed.begin(THREE, **PLACE)
    run = changed.change(THREE, "ports", **PLACE, **PORTS)
    assert any("present and coming endpoints" in step for step in run.states), list(run.states)
    for member in changed.members():
        assert member["clientURLs"][0].endswith(":2479"), member
        assert member["peerURLs"][0].endswith(":2480"), member


def test_a_dead_host_is_dropped_and_another_takes_its_place(changed):
    changed.begin(THREE, **PLACE, **PORTS)
    changed.lab.fault("etcd3", "kill")
    try:
        changed.change(("etcd1", "etcd2", "etcd4"), "dead", **PLACE, **PORTS)
    finally:
        changed.lab.fault("etcd3", "heal")
    changed.lab.wait_for_minions("etcd3")
    # It boots with the data of a member that is none any more: nothing comes of that.
    changed.settled()


def test_all_at_once(changed):
    """Another member, other ports and data directory again, another option, the next release."""
    older, newer = lines(changed, "3.6.14", "3.7.1")
    changed.begin(("etcd1", "etcd2", "etcd4"), version=older, **PLACE, **PORTS)
    changed.change(THREE, "all", version=newer, **OPTION)
    assert changed.versions() == {newer}
    script = "tr '\\0' '\\n' < /proc/$(systemctl show -p MainPID --value etcd)/environ"
    for host in THREE:
        environment = changed.lab.exec(host, "sh", "-c", script).ok().out
        assert "ETCD_HEARTBEAT_INTERVAL=120" in environment, host
        assert "ETCD_DATA_DIR=/var/lib/etcd\n" in environment, host


def test_a_killed_join_is_finished(changed):
    newest = changed.releases()[-1]
    changed.begin(THREE, version=newest, **OPTION)
    changed.ask_for(FIVE, version=newest, **OPTION)
    with Load(changed.lab, "/killed-join/") as load:
        killed_once(changed, "etcd1", A_LEARNER_IS_LISTED)
        again(changed)
    load.check(FIVE)


def test_a_killed_upgrade_is_finished(changed):
    older, newer = changed.releases()[-2:]
    changed.begin(THREE, version=older)
    changed.ask_for(THREE, version=newer)
    first = next(host for host in THREE if host != changed.leader())
    runs = f"readlink /proc/$(systemctl show -p MainPID --value etcd)/exe | grep -q {newer}"
    with Load(changed.lab, "/killed-upgrade/") as load:
        killed_once(changed, first, runs)
        run = again(changed)
    upgraded = [step for step in run.states if "upgrade" in step]
    # A step that was under way at the kill ends by itself; the leader's at least is left.
    assert len(upgraded) in (1, 2), f"nothing was left to do: {list(run.states)}"
    load.check(THREE)
    assert changed.versions() == {newer}
