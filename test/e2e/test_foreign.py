"""An etcd that somebody else made stays as it is; ours is known as ours whatever record is lost."""

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from extent import only_in_all, only_in_all_case
from foreign import (
    CONFIG,
    CONFIG_MAIN,
    FLAGS,
    HOWTO,
    KUBESPRAY,
    OTHER,
    PACKAGE,
    Theirs,
    each,
    whole,
)
from lab_command import DOMAIN, MEMBERS, differences, minions

RECORD = "/var/lib/etcd_ha/main.json"
KEPT = "/var/lib/etcd_ha/kept"
BANK = "/var/cache/salt/master/etcd_ha/clusters"
CONFIRMED = "pillar=" + json.dumps({"confirm": "main"})
# What is said of each host.
REFUSED = ("did not set up", "etcd_ha.orch.adopt", "Nothing was changed")
USERS_FILE = "/run/of_the_user"
USERS_STATES = {
    "/srv/salt/top.sls": {"base": {"*": ["etcd_ha", "of_the_user"]}},
    "/srv/salt/of_the_user.sls": {USERS_FILE: {"file.managed": [{"contents": "here"}]}},
}
LAYOUTS = {one.name: one for one in (HOWTO, FLAGS, CONFIG, CONFIG_MAIN, PACKAGE, KUBESPRAY)}
CASES = [
    ("howto", "running"),
    only_in_all_case("howto", "stopped"),
    only_in_all_case("flags", "running"),
    only_in_all_case("flags", "stopped"),
    only_in_all_case("config", "running"),
    only_in_all_case("config", "stopped"),
    only_in_all_case("config-main", "running"),
    only_in_all_case("config-main", "stopped"),
    only_in_all_case("package", "running"),
    only_in_all_case("package", "stopped"),
    only_in_all_case("kubespray", "running"),
    only_in_all_case("kubespray", "stopped"),
]


# Clusters of others


@pytest.mark.parametrize(("name", "state"), CASES)
def test_a_cluster_of_somebody_else_stays_as_it_is(fresh, name, state):
    """Refused by each command and by highstate, again and again; a reboot shows what is left."""
    for path, content in USERS_STATES.items():
        fresh.write("master", path, json.dumps(content))
    theirs = Theirs(fresh, LAYOUTS[name]).build()
    serving = theirs.serving()
    if state == "stopped":
        theirs.stop()
    before, processes = whole(fresh), theirs.processes()

    told = fresh.salt_run("etcd_ha.plan")
    assert told.code == 1, told.text
    said_of_each_host(theirs, processes, told.text)
    for run in refusals(fresh):
        said_of_each_host(theirs, processes, run.refused().text)
        assert run.changes == {}, run.changes
    # No host at all has been touched, the blank balancer and the CA neither.
    unchanged(before, whole(fresh))
    assert theirs.processes() == processes

    for words in ((), ("etcd_ha",)):
        highstate_refuses(theirs, processes, *words)
    unchanged(before, whole(fresh, MEMBERS))
    assert theirs.processes() == processes

    fresh.fault("etcd1", "kill")
    fresh.fault("etcd1", "heal")
    if state == "stopped":
        theirs.start()
    else:
        assert {**theirs.processes(), "etcd1": None} == {**processes, "etcd1": None}
    assert theirs.serving_again() == serving
    unchanged(before, whole(fresh, MEMBERS))


def refusals(lab):
    """The orchestrate twice, and each command that could do harm."""
    yield lab.orch()
    commands = ("", "recover", "restore", "remove_cluster")

    def run(command):
        return lab.orch(*([CONFIRMED] if command else []), command=command)

    with ThreadPoolExecutor() as pool:
        yield from pool.map(run, commands)


def said_of_each_host(theirs, processes, text):
    for host in theirs.hosts:
        said_of(theirs, host, processes[host], text)
    for words in REFUSED:
        assert words in text, f"{words!r} is not in:\n{text}"


def said_of(theirs, host, process, text):
    """Host, data and what runs there are named."""
    for words in (f"{host}.{DOMAIN}", theirs.data(host)):
        assert words in text, f"{words!r} is not in:\n{text}"
    pid = re.search(r"^MainPID=(\d+)$", process, re.MULTILINE)[1]
    named = theirs.layout.unit in text or (pid != "0" and re.search(rf"\b{pid}\b", text))
    assert named, f"neither {theirs.layout.unit} nor the PID {pid} is in:\n{text}"


def highstate_refuses(theirs, processes, *words):
    """One state says why; nothing else of the formula ran; the user's own states did."""
    lab = theirs.lab
    each(MEMBERS, lambda host: lab.exec(host, "rm", "-f", USERS_FILE).ok())
    for minion, states in applied(lab, *words).items():
        host = minion.partition(".")[0]
        assert isinstance(states, dict), f"{minion}: {states}"
        users = [key for key in states if USERS_FILE in key]
        assert bool(users) is not bool(words), states
        assert all(states.pop(key)["result"] for key in users)
        ran = [one for one in states.values() if one.get("__state_ran__", True)]
        assert [one["result"] for one in ran] == [False], f"{minion}: {ran}"
        assert not any(one["changes"] for one in states.values()), f"{minion}: {states}"
        said_of(theirs, host, processes[host], f"{minion} {ran[0]['comment']}")
        for fragment in REFUSED:
            assert fragment in ran[0]["comment"], ran[0]["comment"]


def applied(lab, *words, target=""):
    """A highstate, or ``state.apply`` of this: minion -> its states, of those that failed too."""
    target = target or minions(*MEMBERS)
    done = lab.salt(target, "state.apply", *words, "--out=json", "--static", "-t", "60")
    return json.loads(done.out[done.out.index("{") :])


def unchanged(before, after):
    found = differences({host: before[host] for host in after}, after)
    told = {
        host: {path: (before[host].get(path), after[host].get(path)) for path in paths}
        for host, paths in found.items()
    }
    assert not found, (
        f"hosts with an etcd of somebody else were changed: {json.dumps(told, indent=1)}"
    )


@only_in_all
def test_an_etcd_that_is_none_of_our_business_is_noted(fresh):
    """Other ports, paths, unit and user on a member's host: our cluster is made beside it."""
    theirs = Theirs(fresh, OTHER).build()
    serving, processes = theirs.serving(), theirs.processes()
    before = whole(fresh, theirs.hosts)["etcd1"]
    noted(fresh, theirs)
    fresh.orch().ok()
    noted(fresh, theirs)
    again = fresh.orch().ok()
    assert again.changes == {}, again.changes
    states = applied(fresh, "etcd_ha", target=f"etcd1.{DOMAIN}")[f"etcd1.{DOMAIN}"]
    assert all(one["result"] for one in states.values()), states
    assert theirs.serving() == serving
    assert theirs.processes() == processes
    now = whole(fresh, theirs.hosts)["etcd1"]
    own = {path for path in before if "/other" in path or "other-etcd" in path}
    assert len(own) > 10
    assert {path: now.get(path) for path in own} == {path: before[path] for path in own}


def noted(lab, theirs):
    told = lab.salt_run("etcd_ha.plan").ok().out
    notes = [line for line in told.splitlines() if "note:" in line]
    named = [line for line in notes if theirs.layout.unit in line or theirs.data("etcd1") in line]
    assert named and "etcd1" in named[0], told


LEFT = {
    "etcd1": {
        "/etc/systemd/system/etcd.service": ("[Service]\nExecStart=/usr/local/bin/etcd\n", "640"),
        "/etc/default/etcd": ("ETCD_NAME=theirs\n", "600"),
        # A script in the place of etcd could start one anywhere: that would be refused.
        "/usr/local/bin/etcd": ("theirs\n", "755"),
        "/usr/local/bin/etcdctl": ("#!/bin/sh\nexit 1\n", "700"),
    },
    "lb": {"/etc/haproxy/haproxy.cfg": ("# theirs\nglobal\n  maxconn 77\n", "640")},
}


@only_in_all
def test_nothing_of_others_is_overwritten_without_a_copy(fresh):
    """What a removed etcd has left, without data, and a balancer's former configuration."""
    script = "mkdir -p $(dirname $1); cat > $1; chmod $2 $1"
    for host, files in LEFT.items():
        for path, (text, mode) in files.items():
            fresh.exec(host, "sh", "-c", script, "sh", path, mode, stdin=text).ok()
    fresh.orch().ok()
    fresh.put("/after", "the bootstrap")
    for host, files in LEFT.items():
        for path, (text, mode) in files.items():
            look = f"for f in {KEPT}/*{path}; do stat -c %a $f; cat $f; done"
            found = fresh.exec(host, "sh", "-c", look).out
            assert found == f"{mode}\n{text}", f"{host}: of {path} there is {found!r}"
            theirs = hashlib.sha256(text.encode()).hexdigest()
            now = fresh.exec(host, "sha256sum", path).ok().out.split()[0]
            assert now != theirs, f"{host}: {path} is still theirs"
    assert fresh.orch().ok().changes == {}


@only_in_all
def test_a_highstate_writes_no_record_of_a_bootstrap(fresh):
    fresh.salt("*", "saltutil.sync_all").ok()
    for minion, states in applied(fresh, "etcd_ha", target="*").items():
        assert isinstance(states, dict), f"{minion}: {states}"
    for host in MEMBERS:
        found = fresh.exec(host, "sh", "-c", f"cat {RECORD} || true").ok().out
        assert "bootstrapped" not in found, f"{host}: {found}"
    assert "bootstrap etcd1, etcd2, etcd3 together" in fresh.salt_run("etcd_ha.plan").ok().out


# Our own cluster


@pytest.fixture
def own(converged):
    """Our cluster with a key in it; a test that fails leaves it for nobody."""
    converged.put("/own", "kept")
    converged.state = "dirty"
    return converged


def settled(lab):
    """In sync, nothing lost, and each record holds the ids that etcd itself says."""
    again = lab.orch().ok()
    assert again.changes == {}, again.changes
    found = ids(lab)
    masters = masters_record(lab)
    for host in MEMBERS:
        cluster, member = found[host]
        record = json.loads(lab.exec(host, "cat", RECORD).ok().out)
        assert record["state"] == "bootstrapped", record
        assert is_id(record["cluster_id"], cluster) and is_id(record["member_id"], member), record
        assert names(masters, cluster) and names(masters, member), masters
        assert lab.get("/own", host=host, endpoint=lab.own(host)) == "kept"
    lab.state = "converged"


def ids(lab):
    """Host -> the ids of its cluster and of its member, as etcd has them."""
    rows = json.loads(lab.etcdctl("etcd1", "endpoint", "status", "-w", "json").ok().out)
    heads = {row["Endpoint"]: row["Status"]["header"] for row in rows}
    owned = {host: heads[lab.own(host)] for host in MEMBERS}
    return {host: (head["cluster_id"], head["member_id"]) for host, head in owned.items()}


def is_id(told, number):
    """Whether an id is this one, in etcd's hexadecimal form or as a number."""
    return str(told) in (f"{number:x}", f"{number:016x}", str(number))


def names(text, number):
    return f"{number:x}" in text or str(number) in text


def masters_record(lab):
    return lab.salt_run("cache.fetch", "etcd_ha/clusters", "main", "--out=json").ok().out


def lose_records(lab, *hosts):
    each(hosts, lambda host: lab.exec(host, "rm", RECORD).ok())


def lose_the_master_s(lab):
    lab.exec("master", "rm", "-r", BANK).ok()
    found = masters_record(lab)
    assert "etcd1" not in found, found


def test_lost_records_of_hosts_are_written_again(own):
    """Of one host the record, of another one all that the formula keeps there."""
    before = own.processes()
    lose_records(own, "etcd1")
    own.exec("etcd2", "rm", "-r", "/var/lib/etcd_ha").ok()
    told = own.salt_run("etcd_ha.plan").ok().out
    assert "record" in told and "etcd1" in told and "etcd2" in told, told
    run = own.orch().ok()
    assert run.changes, run.text
    assert own.processes() == before
    settled(own)


@only_in_all
def test_the_lost_record_of_the_master_is_written_again(own):
    before = own.processes()
    lose_the_master_s(own)
    own.orch().ok()
    assert own.processes() == before
    settled(own)


@only_in_all
def test_where_all_records_are_lost_a_person_claims_the_cluster(own):
    before = own.processes()
    lose_records(own, *MEMBERS)
    lose_the_master_s(own)
    told = own.salt_run("etcd_ha.plan")
    assert told.code == 1, told.text
    found = re.search(
        r"salt-run etcd_ha\.claim cluster=main cluster_id=(\w+) confirm=main", told.text
    )
    assert found, told.text
    cluster, _ = ids(own)["etcd1"]
    assert is_id(found[1], cluster), (found[1], f"{cluster:x}")
    assert own.orch().refused("etcd_ha.claim", found[1]).changes == {}

    def claim(cluster_id, *more):
        return own.salt_run("etcd_ha.claim", "cluster=main", f"cluster_id={cluster_id}", *more)

    wrong = claim(f"{cluster ^ 1:x}", "confirm=main")
    assert wrong.code != 0, wrong.text
    for unconfirmed in (claim(found[1]), claim(found[1], "confirm=other")):
        assert unconfirmed.code != 0 and "confirm=main" in unconfirmed.text, unconfirmed.text
    assert own.salt_run("etcd_ha.plan").code == 1
    claim(found[1], "confirm=main").ok()
    own.orch().ok()
    assert own.processes() == before
    settled(own)


@only_in_all
@pytest.mark.parametrize("stopped", [only_in_all_case("etcd2"), "etcd2 etcd3"])
def test_stopped_members_without_a_record_are_healed(own, stopped):
    hosts = stopped.split()
    before = ids(own)
    each(hosts, lambda host: own.exec(host, "systemctl", "stop", "etcd").ok())
    lose_records(own, *hosts)
    own.orch().ok()
    assert ids(own) == before
    settled(own)


@only_in_all
def test_all_members_stopped_and_two_without_a_record(own):
    before = ids(own)
    each(MEMBERS, lambda host: own.exec(host, "systemctl", "stop", "etcd").ok())
    lose_records(own, "etcd2", "etcd3")
    own.orch().ok()
    assert ids(own) == before
    settled(own)


@only_in_all
def test_all_members_stopped_and_one_record_left(own):
    """Nobody can say then whose the other two are: a person does."""
    before = ids(own)
    each(MEMBERS, lambda host: own.exec(host, "systemctl", "stop", "etcd").ok())
    lose_records(own, "etcd2", "etcd3")
    lose_the_master_s(own)
    cluster_id = f"{before['etcd1'][0]:x}"
    assert own.orch().refused("etcd_ha.claim", cluster_id).changes == {}
    words = ("cluster=main", f"cluster_id={cluster_id}", "confirm=main")
    own.salt_run("etcd_ha.claim", *words).ok()
    own.orch().ok()
    assert ids(own) == before
    settled(own)


@only_in_all
def test_a_rebuilt_root_disk_beside_data_that_is_left(own):
    """The data lay on a disk of its own; the new system has other numbers for its users."""
    before = ids(own)
    own.exec("etcd2", "systemctl", "stop", "etcd").ok()
    packed = own.exec("etcd2", "sh", "-c", "tar -C /var/lib -cz etcd | base64").ok().out
    own.run("reset", "etcd2").ok()
    own.put("/meanwhile", "written")
    unpack = "base64 -d | tar -C /var/lib -xz && chown -R 4711:4711 /var/lib/etcd"
    own.exec("etcd2", "sh", "-c", unpack, stdin=packed).ok()
    own.orch().ok()
    assert ids(own) == before
    at = own.own("etcd2")
    assert own.get("/meanwhile", host="etcd2", endpoint=at) == "written"
    aside = own.exec("etcd2", "sh", "-c", "ls -d /var/lib/etcd.*").out
    assert not aside, f"its data was set aside: {aside}"
    settled(own)


@only_in_all
def test_a_rebuilt_root_disk_while_no_other_member_runs(own):
    """The master's record alone says whose the data is."""
    before = ids(own)
    each(MEMBERS, lambda host: own.exec(host, "systemctl", "stop", "etcd").ok())
    packed = own.exec("etcd2", "sh", "-c", "tar -C /var/lib -cz etcd | base64").ok().out
    own.run("reset", "etcd2").ok()
    unpack = "base64 -d | tar -C /var/lib -xz && chown -R 4711:4711 /var/lib/etcd"
    own.exec("etcd2", "sh", "-c", unpack, stdin=packed).ok()
    own.orch().ok()
    assert ids(own) == before
    settled(own)
