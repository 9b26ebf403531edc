"""Two balancers with one address: who holds it, what moves it, and what clients see of that."""

import time

import pytest
from changing import THREE, Load
from extent import only_in_all
from lab_command import DOMAIN

BALANCERS = ("lb", "lb2")
# The keepalived of a balancer that fails is told within 0.5 to 4 s (docs/balancer.md); beside that
# a client needs its own timeout to notice.
LONGEST_FAILOVER = 8
CHECK = "/usr/libexec/keepalived/etcd_ha_check"


class Shared:
    """A cluster of three behind two balancers with one address."""

    def __init__(self, ground):
        self.ground, self.lab = ground, ground.lab
        self.lab.grow_balancers(2)
        self.address = f"{ground.network}.99"

    def settings(self, names=BALANCERS, **balancer):
        hosts = {f"{name}.{DOMAIN}": {"address": self.lab.address(name)} for name in names}
        virtual = {"virtual_address": {"address": self.address}}
        return {"load_balancers": hosts, "balancer": {**virtual, **balancer}}

    def begin(self, **balancer):
        self.ground.begin(THREE, **self.settings(**balancer))
        self.wait_for_one()
        return self

    def ask_for(self, names=BALANCERS, **balancer):
        self.ground.ask_for(THREE, **self.settings(names, **balancer))

    def holders(self, names=BALANCERS):
        """The balancers that have the address on an interface, of those that are on."""
        found = []
        for name in names:
            done = self.lab.exec(name, "ip", "-o", "address", "show", "to", self.address)
            found += [name] if done.code == 0 and self.address in done.out else []
        return found

    def wait_for_one(self, names=BALANCERS, seconds=30):
        """The one balancer that holds the address, once it is one."""
        deadline = time.monotonic() + seconds
        while len(found := self.holders(names)) != 1:
            assert time.monotonic() < deadline, f"the address is held by {found}"
            time.sleep(0.3)
        return found[0]

    def load(self, name):
        """Clients of the address on a member's host, as an application's host would have them."""
        pki = "/etc/etcd/pki"
        return Load(
            self.lab, f"/{name}/", pki=pki, client="etcd1", leaf="admin", address=self.address
        )

    def other(self, name):
        return next(one for one in BALANCERS if one != name)

    def heal(self, name):
        self.lab.fault(name, "heal")
        self.lab.wait_for_minions(name)


@pytest.fixture
def shared(changed):
    return Shared(changed).begin()


@pytest.fixture
def at_the_end(shared):
    """After a fault all is as the pillar says again, without a converge."""
    yield shared
    shared.wait_for_one()
    answers = shared.lab.ask("lb*", "etcd_ha.health")
    assert all(answer["healthy"] for answer in answers.values()), answers
    shared.ground.settled()


def failover(shared, name, fault, longest=LONGEST_FAILOVER):
    """Do this to the holder under load; who holds the address afterwards, and the longest gap."""
    before = shared.wait_for_one()
    with shared.load(name) as load:
        time.sleep(2)
        fault(before)
        time.sleep(longest + 2)
    load.check(THREE, longest=longest)
    print(f"  FAILOVER {name}: {load.result['longest_gap']:.2f} s without an acknowledged write")
    return before


# What there is


def test_one_balancer_holds_it_and_everybody_is_told(shared):
    lab, holder = shared.lab, shared.wait_for_one()
    answers = lab.ask("lb*", "etcd_ha.health")
    told = {minion.partition(".")[0]: one["holds_address"] for minion, one in answers.items()}
    assert told == {name: name == holder for name in BALANCERS}
    last = lab.salt_run("etcd_ha.status").ok().out
    assert f"{shared.address} is held by {holder}.{DOMAIN}" in last, last
    urls = lab.salt_run("etcd_ha.endpoints", "main").ok().out
    assert shared.address in urls and lab.address("lb") not in urls
    lab.put("virtual", "address", endpoint=f"https://{shared.address}:2379")
    assert lab.get("virtual", host="etcd2") == "address"
    shared.ground.same()


def test_a_highstate_changes_nothing(shared):
    before = shared.wait_for_one()
    for states in shared.lab.apply("lb*").values():
        assert not [s for s in states.values() if s["changes"] or s["result"] is not True]
    assert shared.wait_for_one() == before
    shared.ground.same()


def test_the_check_runs_as_nobody_much(shared):
    lab = shared.lab
    for name in BALANCERS:
        modes = lab.exec(name, "stat", "-c", "%a %U", "/etc/etcd/main/check.key", CHECK).ok().out
        assert modes.split() == ["400", "etcd_ha_check", "755", "root"]
        done = lab.exec(name, "setpriv", "--reuid=etcd_ha_check", "--regid=etcd_ha_check",
                        "--clear-groups", CHECK, "/etc/etcd/main/virtual_address.json")  # fmt: skip
        assert done.code == 0, done.text
        journal = lab.exec(name, "journalctl", "-u", "keepalived", "--no-pager", "-o", "cat").out
        assert "SECURITY VIOLATION" not in journal.upper(), journal[-2000:]
    shared.ground.same()


# What moves it


@only_in_all
def test_a_balancer_s_program_is_stopped(at_the_end):
    shared, lab = at_the_end, at_the_end.lab
    before = failover(
        shared, "stopped", lambda name: lab.exec(name, "systemctl", "stop", "haproxy").ok()
    )
    assert shared.wait_for_one() == shared.other(before)
    lab.exec(before, "systemctl", "start", "haproxy").ok()
    time.sleep(10)
    assert shared.holders() == [shared.other(before)], "a balancer that comes back moved it"


@only_in_all
def test_a_balancer_s_program_is_killed_and_comes_back_by_itself(at_the_end):
    shared, lab = at_the_end, at_the_end.lab
    kill = ("systemctl", "kill", "--signal=KILL", "haproxy")
    failover(shared, "killed", lambda name: lab.exec(name, *kill).ok())


@only_in_all
def test_a_host_loses_its_power(at_the_end):
    shared = at_the_end
    before = failover(shared, "power", lambda name: shared.lab.fault(name, "kill"))
    assert shared.wait_for_one([shared.other(before)]) == shared.other(before)
    shared.heal(before)
    time.sleep(10)
    assert shared.holders() == [shared.other(before)]


@only_in_all
def test_a_host_stands_still_and_goes_on(at_the_end):
    shared = at_the_end
    before = failover(shared, "frozen", lambda name: shared.lab.fault(name, "freeze"))
    assert shared.wait_for_one([shared.other(before)])
    with shared.load("thawed") as load:
        time.sleep(1)
        shared.heal(before)
        time.sleep(6)
    # Both hold it for a moment; then the one that comes first in the pillar does.
    load.check(THREE, longest=LONGEST_FAILOVER)
    shared.wait_for_one()


@only_in_all
def test_a_balancer_is_cut_off_from_the_members(at_the_end):
    """Its program runs and VRRP passes: only the path tells."""
    shared, lab = at_the_end, at_the_end.lab

    def cut(name):
        words = [word for member in THREE for word in ("--from", member)]
        lab.fault(name, "cut", *words)

    # The clients are on etcd1, which the holder is cut off from as well.
    before = failover(shared, "cut", cut, longest=LONGEST_FAILOVER + 4)
    assert shared.wait_for_one() == shared.other(before)
    shared.heal(before)


@only_in_all
def test_keepalived_is_stopped_and_the_converge_starts_it(shared):
    before = failover(
        shared,
        "keepalived",
        lambda name: shared.lab.exec(name, "systemctl", "stop", "keepalived").ok(),
    )
    assert shared.wait_for_one() == shared.other(before)
    answers = shared.lab.ask("lb*", "etcd_ha.health")
    assert answers[f"{before}.{DOMAIN}"]["healthy"] is False
    run = shared.lab.orch().ok()
    assert [step for step in run.states if f"configure the balancer {before}" in step]
    assert shared.wait_for_one() == shared.other(before)
    shared.ground.settled()


@only_in_all
def test_keepalived_is_killed(at_the_end):
    """What it leaves on the interface goes when it is started again."""
    shared = at_the_end
    kill = ("systemctl", "kill", "--signal=KILL", "keepalived")
    failover(shared, "killed-keepalived", lambda name: shared.lab.exec(name, *kill).ok())


@only_in_all
def test_without_a_quorum_it_stays_where_it_is(at_the_end):
    shared, lab = at_the_end, at_the_end.lab
    before = shared.wait_for_one()
    for host in THREE[1:]:
        lab.exec(host, "systemctl", "stop", "etcd").ok()
    for _ in range(5):
        time.sleep(3)
        assert shared.holders() == [before]
    for host in THREE[1:]:
        lab.exec(host, "systemctl", "start", "--no-block", "etcd").ok()
    for host in THREE:
        lab.wait_healthy(host)
    assert shared.holders() == [before]
    endpoint = f"https://{shared.address}:2379"
    deadline = time.monotonic() + 10
    while lab.etcdctl("etcd1", "put", "again", "there", endpoint=endpoint).code:
        assert time.monotonic() < deadline, "the balancer did not find the members again"
        time.sleep(0.3)


# What a converge does to it


@only_in_all
@pytest.mark.parametrize("first", BALANCERS)
def test_a_changed_configuration_moves_it_once_at_most(shared, first):
    """Whoever holds it comes last, also where that is the first one of the pillar."""
    if shared.wait_for_one() != first:
        holder = shared.wait_for_one()
        shared.lab.exec(holder, "systemctl", "restart", "keepalived").ok()
        deadline = time.monotonic() + 20
        while shared.holders() != [first]:
            assert time.monotonic() < deadline, shared.holders()
            time.sleep(0.3)
    interval = {"lb": 3, "lb2": 4}[first]
    shared.ask_for(check_interval=interval)
    with shared.load(f"configured-{first}") as load:
        run = shared.lab.orch()
    run.ok()
    titles = [step for step in run.states if "configure the balancer" in step]
    assert titles[-1].endswith(first) and len(titles) == 2, titles
    load.check(THREE, longest=2)
    assert shared.wait_for_one() == first
    shared.ground.settled()


@only_in_all
def test_it_is_switched_off_and_on_again(shared):
    lab = shared.lab
    shared.ground.ask_for(THREE, load_balancers=shared.settings()["load_balancers"])
    lab.orch().ok()
    assert shared.holders() == []
    for name in BALANCERS:
        script = (
            "systemctl is-active keepalived; systemctl is-enabled keepalived; "
            f"ls {CHECK} /etc/keepalived/keepalived.conf /etc/etcd/main/virtual_address.json; "
            "id etcd_ha_check; stat -c %U /etc/etcd/main/check.key"
        )
        done = lab.exec(name, "sh", "-c", script)
        assert done.out.split() == ["inactive", "disabled", "root"], done.text
        lab.put("still", "serves", endpoint=f"https://{lab.address(name)}:2379")
    names = lab.exec("etcd1", "openssl", "x509", "-in", "/etc/etcd/pki/server.crt", "-noout",
                     "-ext", "subjectAltName").ok().out  # fmt: skip
    assert shared.address not in names
    assert lab.orch().ok().changes == {}
    shared.ask_for()
    lab.orch().ok()
    shared.wait_for_one()
    shared.ground.settled()


@only_in_all
@pytest.mark.parametrize("leaves", BALANCERS)
def test_a_balancer_that_leaves_gives_it_up(shared, leaves):
    stays = shared.other(leaves)
    shared.ask_for([stays])
    # The clients go by the address, and it comes to the one that stays.
    with shared.load(f"left-{leaves}") as load:
        run = shared.lab.orch()
    run.ok()
    assert [step for step in run.states if f"stop the balancer {leaves}" in step], run.states
    load.check(THREE, longest=LONGEST_FAILOVER)
    assert shared.holders() == [stays]
    for service in ("haproxy", "keepalived"):
        assert shared.lab.exec(leaves, "systemctl", "is-active", service).out.strip() == "inactive"
    again = shared.lab.orch().ok()
    assert again.changes == {}, again.text
    shared.ask_for()
    shared.lab.orch().ok()
    shared.ground.settled()


@only_in_all
@pytest.mark.parametrize("kind", ["haproxy", "nginx"])
def test_balancers_that_listen_at_the_address_alone(changed, kind):
    shared = Shared(changed)
    shared.begin(kind=kind, bind=shared.address)
    lab, before = shared.lab, shared.wait_for_one()
    listening = lab.exec(before, "ss", "-Hltn", "sport", "=", ":2379").ok().out
    places = {line.split()[3] for line in listening.splitlines()}
    assert places == {f"{shared.address}:2379", "127.0.0.1:2379"}, places
    lab.put("bound", kind, endpoint=f"https://{shared.address}:2379")
    failover(shared, f"bound-{kind}", lambda name: lab.exec(name, "systemctl", "stop", kind).ok())
    assert shared.wait_for_one() == shared.other(before)
    lab.exec(before, "systemctl", "start", kind).ok()
    answers = lab.ask("lb*", "etcd_ha.health")
    assert all(answer["healthy"] for answer in answers.values()), answers
    shared.ground.settled()


@only_in_all
def test_vrrp_passes_the_formula_s_firewall_and_no_stranger_s_does(changed):
    shared = Shared(changed)
    firewall = {"enabled": True, "kind": "nftables"}
    shared.ground.begin(THREE, **shared.settings(), firewall=firewall)
    holder = shared.wait_for_one()
    rules = shared.lab.exec(holder, "nft", "list", "table", "inet", "etcd_ha").ok().out
    assert "l4proto 112" in rules or "l4proto vrrp" in rules, rules
    time.sleep(8)
    assert shared.holders() == [holder], "they do not hear each other"
    shared.ground.settled()


@only_in_all
def test_a_stranger_s_adverts_are_not_believed(shared):
    """A host of the same network that claims a higher priority takes nothing away."""
    holder = shared.wait_for_one()
    target = shared.lab.address(holder)
    for _ in range(3):
        shared.lab.probe("ca", "advert", target, shared.address, "51", "255", "20")
        assert shared.holders() == [holder]
    # The same advert from the other balancer is believed: the probe can do harm.
    other = shared.other(holder)
    shared.lab.exec(other, "systemctl", "stop", "keepalived").ok()
    shared.lab.probe(other, "advert", target, shared.address, "51", "255", "20")
    moved = shared.holders() != [holder]
    shared.lab.exec(other, "systemctl", "start", "keepalived").ok()
    assert moved, "the probe's adverts are none"
    shared.wait_for_one()
    shared.ground.settled()
