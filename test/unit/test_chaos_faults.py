"""Faults strike whom the schedule means, never more at once than may be, and are undone."""

import pathlib
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))

from chaos import faults
from chaos.faults import Injector
from chaos.operations import Operations
from chaos.schedule import Fault, State

THREE = ("etcd1", "etcd2", "etcd3")
FIVE = (*THREE, "etcd4", "etcd5")


class Observer:
    """Members that serve, but for those that a test names."""

    def __init__(self, leader="etcd1"):
        self.led, self.down = leader, set()

    def leader(self, hosts):
        return self.led if self.led in hosts else ""

    def healthy(self, hosts):
        return set(hosts) - self.down


class Done:
    def __init__(self, out="", code=0):
        self.out, self.text, self.code, self.took = out, out, code, 1.0

    def ok(self):
        return self


class Lab:
    """Keeps what it is asked for; a fault that a test names fails."""

    def __init__(self, broken="none"):
        self.calls, self.broken, self.out, self.code = [], broken, "/var/lib/etcd\n", 0

    def fault(self, host, kind, *more):
        self.calls.append((host, kind, *more))
        assert kind != self.broken, f"{kind} does not work"

    def exec(self, host, *argv, **more):
        self.calls.append((host, "exec", argv[-1]))
        return Done(self.out, self.code)

    def address(self, host):
        return {"lb": "198.18.0.51"}.get(host, "198.18.0.11")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(faults, "PATIENCE", 0.2)


def injector(members=THREE, lab=None):
    made = Injector(lab or Lab(), Observer())
    made.members = members
    return made


def fault(kind="cut", who="follower", lasts=0.0, spot=0.0):
    return Fault(kind, who, 0.0, lasts, spot)


def struck(made, *given):
    made.begin(given, made.members)
    made.wait()
    return [host for _, host, _ in made.told]


def test_the_leader_and_followers_are_found_at_the_moment():
    assert struck(injector(), fault(who="leader")) == ["etcd1"]
    assert struck(injector(), fault(spot=0.0)) == ["etcd2"]
    assert struck(injector(), fault(spot=0.99)) == ["etcd3"]
    made = injector()
    made.observer.led = "etcd3"
    assert struck(made, fault(who="leader")) == ["etcd3"]


def test_no_second_member_is_struck_while_one_is_in_trouble():
    made = injector()
    made.in_trouble["etcd2"] = 0.0
    assert struck(made, fault()) == []
    assert made.skipped == {"cut": 1} and made.lab.calls == []


def test_of_five_two_may_be_in_trouble():
    made = injector(FIVE)
    made.in_trouble["etcd2"] = 0.0
    assert struck(made, fault()) == ["etcd3"]
    made = injector(FIVE)
    made.in_trouble |= {"etcd2": 0.0, "etcd3": 0.0}
    assert struck(made, fault()) == []


@pytest.mark.parametrize("trouble", ["another is in trouble", "another does not serve"])
def test_a_disk_is_destroyed_only_while_all_are_well(trouble):
    made = injector(FIVE)
    if trouble == "another is in trouble":
        made.in_trouble["etcd5"] = 0.0
    else:
        made.observer.down = {"etcd5"}
    assert struck(made, fault("wipe")) == []
    assert made.skipped == {"wipe": 1}


def test_who_was_healed_is_in_trouble_until_it_serves(monkeypatch):
    monkeypatch.setattr(faults, "PATIENCE", 3)
    made = injector()
    made.observer.down = {"etcd2"}
    assert struck(made, fault()) == ["etcd2"]
    assert "etcd2" in made.in_trouble and made.troubles == []
    made.observer.down = set()
    deadline = time.monotonic() + 3
    while made.in_trouble and time.monotonic() < deadline:
        time.sleep(0.05)
    ((began, ended, host),) = made.troubles
    assert host == "etcd2" and began < ended


@pytest.mark.parametrize(
    "kind", ["power", "power_hard", "freeze", "cut", "deaf", "mute", "fill", "flip_wal", "flip_db"]
)
def test_what_was_done_is_undone_even_where_it_failed(kind):
    made = injector()
    struck(made, fault(kind))
    assert made.lab.calls[-1] == ("etcd2", "heal", "--no-wait")
    assert made.done == {kind: 1} and made.problems == []
    word = made.lab.calls[-2][1]
    made = injector(lab=Lab(broken=word))
    struck(made, fault(kind))
    assert made.lab.calls[-1] == ("etcd2", "heal", "--no-wait")
    assert made.done == {} and len(made.problems) == 1 and "does not work" in made.problems[0]


def test_one_direction_is_cut_at_the_one_who_shall_not_hear():
    deaf, mute = injector(), injector()
    struck(deaf, fault("deaf"))
    struck(mute, fault("mute"))
    words = ("cut", "--from", "etcd1", "--from", "etcd3", "--one-way")
    assert deaf.lab.calls[0] == ("etcd2", *words)
    assert mute.lab.calls[:2] == [
        (other, "cut", "--from", "etcd2", "--one-way") for other in ("etcd1", "etcd3")
    ]


def test_bits_are_flipped_while_the_host_is_off():
    made = injector()
    struck(made, fault("flip_db", spot=0.25))
    kinds = [call[1] for call in made.lab.calls]
    assert kinds == ["exec", "kill", "flip", "heal"]
    assert made.lab.calls[2][2:] == ("--data", "/var/lib/etcd/member/snap/db", "--spot", 0.25)


# How commands end


def ended(out, code, **more):
    lab = Lab()
    lab.out, lab.code = out, code
    operations = Operations(lab, ["lb"])
    outcome = operations.run(**more)
    return outcome, [one.rule for one in operations.violations]


FAILED = (
    '{"m": {"a_|-b_|-c_|-d": {"__run_num__": 0, "__id__": "x", "result": false, "changes": {}}}}'
)
TRACEBACK = "Traceback (most recent call last):\n  File ..."


def test_a_command_that_is_refused_is_no_violation():
    outcome, rules = ended(FAILED, 1)
    assert not outcome.passed and rules == []


def test_a_failure_with_the_exit_code_of_a_success_is_one():
    assert ended(FAILED, 0)[1] == ["a failure passed as success"]


def test_a_traceback_is_one_unless_the_master_itself_was_lost():
    assert ended(TRACEBACK, 1)[1] == ["a traceback"]
    assert ended(TRACEBACK, 1, master_is_lost=True)[1] == []


def test_a_command_that_never_passes_is_one():
    lab = Lab()
    lab.out, lab.code = "refused", 1
    operations = Operations(lab, ["lb"])
    assert not operations.settle()
    assert [one.rule for one in operations.violations] == ["it does not come to its end"]


def test_the_pillar_of_a_state_names_its_members_and_balancers(tmp_path):
    lab = Lab()
    lab.shipped = {"clusters": {"main": {"version": "3.6.14", "members": {}}}}
    written = []
    lab.write_pillar = written.append
    state = State(members=5, version="3.7.1").having("options", {"heartbeat-interval": 120})
    Operations(lab, ["lb", "lb2"]).ask_for(state)
    cluster = written[0]["clusters"]["main"]
    assert len(cluster["members"]) == 5 and cluster["version"] == "3.7.1"
    assert cluster["load_balancers"]["lb2.example.com"] == {"address": "198.18.0.52"}
    assert cluster["options"] == {"heartbeat-interval": 120}
