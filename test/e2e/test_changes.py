"""Changes of the pillar on a cluster in use: each by one orchestrate, with clients meanwhile.

Each test says what has to be in force first; the order is such that the test before has left it so.
"""

import pytest
from changing import FIVE, SEVEN, THREE
from extent import only_in_all, only_in_all_case
from lab_command import DOMAIN

# What the tests start from where they do not change it.
OPTION = {"options": {"heartbeat-interval": 120}}
PLACE = {"data_dir": "/var/lib/etcd-moved"}
PORTS = {"ports": {"client": 2479, "peer": 2480, "metrics": 2481}, "balancer": {"port": 2379}}


def lines(changed, *wanted):
    """Those very releases, or a failure that says what the machine lacks."""
    found = changed.obtainable(*wanted)
    assert found == list(wanted), f"{', '.join(wanted)} are needed, the mirror has {found}"
    return found


@only_in_all
def test_an_upgrade_through_all_lines(changed):
    """From 3.4 to 3.7 by one change of the pillar, or as far as this machine's mirror goes."""
    oldest, *_, newest = changed.releases()
    # It goes through the 3.5 that the lab's pillar names, whatever the mirror has else.
    changed.obtainable("3.5.33")
    changed.begin(THREE, version=oldest)
    run = changed.change(THREE, "upgrade", version=newest)
    assert changed.versions() == {newest}
    assert any("snapshot" in step for step in run.states), list(run.states)
    saved = "ls /var/lib/etcd_ha/snapshots/main-before-*.db"
    found = [host for host in THREE if changed.lab.exec(host, "sh", "-c", saved).code == 0]
    assert len(found) == 1, "one member holds the snapshot"


@pytest.mark.parametrize(
    ("older", "newer"), [("3.5.33", "3.6.14"), only_in_all_case("3.6.14", "3.7.1")]
)
@only_in_all
def test_a_downgrade_by_one_line(changed, older, newer):
    """To 3.5 too, whose etcdctl knows of no downgrade and is in use before its etcd runs."""
    lines(changed, older, newer)
    changed.begin(THREE, version=newer)
    run = changed.change(THREE, "downgrade", version=older)
    assert any("allow the downgrade" in step for step in run.states), list(run.states)
    assert changed.versions() == {older}


def test_an_upgrade_by_one_line(changed):
    older, newer = lines(changed, "3.5.33", "3.6.14")
    changed.begin(THREE, version=older)
    run = changed.change(THREE, "upgrade-one", version=newer)
    assert any("snapshot" in step for step in run.states), list(run.states)
    assert changed.versions() == {newer}


@only_in_all
def test_tls_is_taken_off(changed):
    changed.begin(THREE)
    changed.change(THREE, "plain", schemes=("https", "http"), tls={"enabled": False})
    for member in changed.members():
        urls = member["peerURLs"] + member["clientURLs"]
        assert all(url.startswith("http://") for url in urls), member


@only_in_all
def test_tls_is_put_on(changed):
    changed.begin(THREE, tls={"enabled": False})
    changed.change(THREE, "tls", schemes=("http", "https"))
    for member in changed.members():
        urls = member["peerURLs"] + member["clientURLs"]
        assert all(url.startswith("https://") for url in urls), member
    refused = changed.lab.probe("ca", "plain", changed.lab.address("etcd1"), 2379, "/health", "")
    assert refused.get("status") != 200, refused


@only_in_all
def test_certificates_are_renewed_inside_their_window(changed):
    """New certificates and keys, and nobody is restarted for them."""
    changed.begin(THREE)
    before, first = changed.processes(), certificates(changed)
    ca = {"minion": f"ca.{DOMAIN}"}
    changed.change(THREE, "renewed", tls={"ca": ca, "days_valid": 800, "days_remaining": 799})
    assert changed.processes() == before
    assert all(new != old for new, old in zip(certificates(changed), first, strict=True))


@only_in_all
def test_more_names_come_into_the_certificates_and_leave_them(changed):
    """A changed list of names, by itself: every server certificate is issued anew, no restart."""
    changed.begin(THREE)
    before, name = changed.processes(), "etcd.example.com"
    tls = {"ca": {"minion": f"ca.{DOMAIN}"}, "names": [name]}
    for wanted, run in ((tls, "names"), ({"ca": tls["ca"]}, "no-names")):
        changed.change(THREE, run, tls=wanted)
        shown = "openssl x509 -in /etc/etcd/pki/server.crt -noout -ext subjectAltName"
        for host in THREE:
            told = changed.lab.exec(host, "sh", "-c", shown).ok().out
            assert (f"DNS:{name}" in told) == ("names" in wanted), (host, told)
    assert changed.processes() == before


def certificates(changed):
    script = "cat /etc/etcd/pki/server.crt /etc/etcd/pki/peer.crt"
    return [changed.lab.exec(host, "sh", "-c", script).ok().out for host in THREE]


@only_in_all
def test_a_member_and_the_balancer_get_other_addresses(changed):
    """Peers, clients, certificates and the balancer follow; clients may still use its old one."""
    changed.begin(THREE)
    old, balancer = changed.lab.address("lb"), changed.give_address("lb", 84)
    changed.moved["etcd3"] = changed.give_address("etcd3", 83)
    tls = {"ca": {"minion": f"ca.{DOMAIN}"}, "names": [old]}
    settings = {"load_balancers": {f"lb.{DOMAIN}": {"address": balancer}}, "tls": tls}
    changed.lead("etcd3")
    changed.change(THREE, "moved-hosts", **settings)
    listed = {member["name"]: member for member in changed.members()}
    for urls in (listed["etcd3"]["peerURLs"], listed["etcd3"]["clientURLs"]):
        assert [changed.moved["etcd3"] in url for url in urls] == [True], urls
    for address in (old, balancer):
        told = changed.lab.etcdctl("etcd1", "get", "/begin", endpoint=f"https://{address}:2379")
        assert "kept" in told.ok().out, address


@only_in_all
def test_the_balancer_becomes_another_program(changed):
    changed.begin(THREE)
    changed.change(THREE, "nginx", balancer={"kind": "nginx"})
    for unit, state in (("nginx", "active"), ("haproxy", "inactive")):
        assert changed.lab.exec("lb", "systemctl", "is-active", unit).out.strip() == state


@only_in_all
def test_one_member_becomes_three(changed):
    changed.begin(("etcd1",))
    changed.change(THREE, "first")


@only_in_all
def test_three_members_become_five(changed):
    changed.begin(THREE)
    run = changed.change(FIVE, "grow")
    assert len([step for step in run.states if "as a learner" in step]) == 2, list(run.states)
    balanced = changed.lab.exec("lb", "cat", "/etc/haproxy/haproxy.cfg").ok().out
    assert all(host in balanced for host in FIVE)


@only_in_all
def test_a_wiped_host_is_replaced(changed):
    changed.begin(FIVE)
    before = {member["name"]: member["ID"] for member in changed.members()}
    changed.lab.fault("etcd4", "wipe")
    changed.lab.wait_for_minions("etcd4")
    run = changed.change(FIVE, "wiped")
    assert any("replace etcd4" in step for step in run.states), list(run.states)
    replaced_alone(changed, before, "etcd4")


@only_in_all
def test_a_member_with_a_corrupt_log_is_replaced(changed):
    changed.begin(FIVE)
    before = {member["name"]: member["ID"] for member in changed.members()}
    corrupts_its_log(changed.lab, "etcd3")
    run = changed.change(FIVE, "corrupt")
    # What to do is planned anew once etcd itself has judged the data, in a run within this one.
    assert any("examine etcd3" in step for step in run.states), list(run.states)
    assert "replace etcd3" in run.text
    replaced_alone(changed, before, "etcd3")
    aside = changed.lab.exec("etcd3", "sh", "-c", "ls -d /var/lib/etcd.replaced-*/member").out
    assert aside.strip(), "what is left of its data is kept"


def replaced_alone(changed, before, host):
    after = {member["name"]: member["ID"] for member in changed.members()}
    assert {name for name in before if before[name] != after[name]} == {host}, (before, after)


def corrupts_its_log(lab, host):
    # The middle of a long value: its record keeps its form, and its sum is another one.
    mark = "written to be damaged "
    lab.etcdctl(host, "put", "/damage", mark * 200).ok()
    script = f"""
        systemctl stop etcd
        log=$(LC_ALL=C grep -l -a '{mark}' /var/lib/etcd/member/wal/*.wal | tail -n 1)
        at=$(LC_ALL=C grep -a -b -o '{mark}' "$log" | sed -n '100s/:.*//p')
        printf XXXXXXXXXXXXXXXX | dd of="$log" bs=1 seek="$at" conv=notrunc
        systemctl start etcd --no-block
        for _ in $(seq 50); do
            journalctl -u etcd -b --no-pager | grep -q 'crc mismatch' && exit 0
            sleep 0.1
        done
        journalctl -u etcd -n 5 --no-pager
        exit 1
    """
    lab.exec(host, "sh", "-c", script).ok()


@only_in_all
def test_five_members_become_seven_and_five_again_without_their_data(changed):
    changed.lab.grow(7)
    changed.begin(FIVE)
    changed.change(SEVEN, "seven")
    changed.change(FIVE, "purged", purge=True)
    for host in set(SEVEN) - set(FIVE):
        changed.is_retired(host, purged=True)
    changed.ask_for(FIVE)
    changed.settled()


@only_in_all
def test_five_members_become_three_and_the_leader_leaves(changed):
    changed.begin(FIVE)
    changed.lead("etcd5")
    changed.change(THREE, "shrink")
    for host in set(FIVE) - set(THREE):
        changed.is_retired(host)


@only_in_all
def test_the_data_directory_moves(changed):
    changed.begin(THREE)
    changed.change(THREE, "moved", **PLACE)
    for host in THREE:
        there = changed.lab.exec(host, "test", "-d", f"{PLACE['data_dir']}/member")
        gone = changed.lab.exec(host, "test", "-e", "/var/lib/etcd/member")
        assert there.code == 0 and gone.code != 0, host


# The usual run changes a port in test_highstate_pending.py.
@only_in_all
def test_the_ports_change(changed):
    changed.begin(THREE, **PLACE)
    run = changed.change(THREE, "ports", **PLACE, **PORTS)
    assert any("present and coming endpoints" in step for step in run.states), list(run.states)
    for member in changed.members():
        assert member["clientURLs"][0].endswith(":2479"), member
        assert member["peerURLs"][0].endswith(":2480"), member


def test_a_dead_host_is_dropped_and_another_takes_its_place(changed):
    changed.begin(THREE, **PLACE, **PORTS)
    # That of a leader costs the clients an election, which is no matter of the change.
    changed.lead("etcd1")
    changed.lab.fault("etcd3", "kill")
    try:
        changed.change(("etcd1", "etcd2", "etcd4"), "dead", **PLACE, **PORTS)
    finally:
        changed.lab.fault("etcd3", "heal")
    changed.lab.wait_for_minions("etcd3")
    # It boots with the data of a member that is none any more: the next run stops it for good.
    run = changed.lab.orch().ok()
    assert "main: stop etcd3 and set its data aside" in run.text, run.text[-3000:]
    changed.settled()


@only_in_all
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
