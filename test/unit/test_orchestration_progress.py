"""What the orchestrate says while its steps run, from the events that Salt fires."""

import threading

import etcd_ha_orchestration_progress
from etcd_ha_orchestration_progress import EVERY, Follower, Progress

ONE, TWO = "one.example.com", "two.example.com"
RESTART = {
    "id": "main: restart two",
    "kind": "state",
    "targets": [ONE, TWO],
    "cluster": "main",
}
MOVE = {
    "id": "main: make one the leader",
    "kind": "function",
    "function": "etcd_ha_member.lead",
    "targets": [ONE],
    "cluster": "main",
}
VERIFY = {"id": "main: verify", "kind": "verify", "targets": [ONE], "cluster": "main"}
AGAIN = {"id": "main: plan again", "kind": "again", "targets": [], "cluster": "main"}
STATE_BEGINS = ("salt/run/20261130/args", {"type": "state", "name": "main: restart two", "tgt": 0})
FUNCTION_BEGINS = (
    "salt/run/20261130/args",
    {"type": "function", "name": "etcd_ha_member.lead", "tgt": [ONE]},
)


def runner(name, **kwargs):
    return ("salt/run/1/args", {"type": "runner", "name": name, "kwargs": kwargs})


def test_each_step_is_named_as_it_begins():
    progress = Progress([MOVE, RESTART, VERIFY, AGAIN])
    assert progress.line(FUNCTION_BEGINS, 0.0) == "main: make one the leader"
    assert progress.line(STATE_BEGINS, 1.0) == "main: restart two"
    assert progress.line(runner("etcd_ha.verify", cluster="other"), 2.0) == ""
    assert progress.line(runner("etcd_ha.verify", cluster="main"), 2.0) == "main: verify"
    again = runner("state.orchestrate", mods="etcd_ha.orch", pillar={"cluster": "main"})
    assert progress.line(again, 3.0) == "main: plan again"


def test_a_step_is_named_once():
    progress = Progress([RESTART])
    assert progress.line(STATE_BEGINS, 0.0)
    assert progress.line(STATE_BEGINS, 1.0) == ""


def test_events_of_others_say_nothing():
    progress = Progress([RESTART, MOVE])
    for event in (
        ("salt/job/1/new", {"minions": [ONE, TWO]}),
        ("salt/auth", {"id": ONE}),
        ("salt/run/1/args", {"type": "state", "name": "another orchestrate's step"}),
        ("salt/run/1/args", {"type": "function", "name": "etcd_ha_member.lead", "tgt": [TWO]}),
        ("salt/run/1/args", {"type": "function", "name": "etcd_ha_member.lead"}),
        ("salt/run/1/args", {}),
        ("", {}),
    ):
        assert progress.line(event, 0.0) == "", event
    assert progress.still(1000.0) == ""


def test_a_long_step_says_of_whom_it_waits():
    progress = Progress([RESTART])
    progress.line(STATE_BEGINS, 100.0)
    assert progress.still(100.0 + EVERY - 1) == ""
    assert progress.still(100.0 + EVERY) == "main: restart two: still at work after 20 s"
    progress.line(("salt/job/77/new", {"minions": [TWO, ONE]}), 121.0)
    progress.line(("salt/job/78/new", {"minions": [TWO, ONE]}), 121.0)
    progress.line(("salt/job/77/ret/" + ONE, {"id": ONE}), 122.0)
    progress.line(("salt/job/78/ret/" + TWO, {"id": TWO}), 122.0)
    assert progress.still(123.0) == "", "said a moment ago"
    said = progress.still(100.0 + 2 * EVERY)
    assert said == f"main: restart two: still at work after 40 s, waiting for {TWO}"


def test_the_next_step_is_waited_for_by_itself():
    progress = Progress([RESTART, VERIFY])
    progress.line(STATE_BEGINS, 0.0)
    progress.line(("salt/job/77/new", {"minions": [TWO, ONE]}), 1.0)
    progress.line(runner("etcd_ha.verify", cluster="main"), 5.0)
    assert progress.still(5.0 + EVERY) == "main: verify: still at work after 20 s"


def started(follower, rows, events):
    """The lines, once the events have ended."""
    lines, ended = [], threading.Event()

    def listen():
        yield from events
        ended.set()

    follower.start(rows, listen, lines.append)
    assert ended.wait(10)
    return lines


def test_a_thread_says_them_with_the_time():
    (line,) = started(Follower(), [RESTART], [None, STATE_BEGINS, None])
    assert line[2] == line[5] == ":" and line.endswith("  main: restart two")


def test_a_later_plan_takes_over():
    follower, goes_on, seen = Follower(), threading.Event(), threading.Event()
    lines = []

    def first():
        assert goes_on.wait(10)
        yield STATE_BEGINS
        seen.set()

    follower.start([RESTART], first, lines.append)
    assert len(started(follower, [MOVE], [FUNCTION_BEGINS])) == 1
    goes_on.set()
    assert not seen.wait(0.3), "the first one has ended at its next event"
    assert lines == []


def test_lines_that_cannot_be_had_stop_nothing(monkeypatch):
    warned, done = [], threading.Event()

    def warning(words, *about):
        warned.append(words % about)
        done.set()

    def broken():
        raise OSError("no socket")
        yield

    monkeypatch.setattr(etcd_ha_orchestration_progress.log, "warning", warning)
    Follower().start([RESTART], broken, print)
    assert done.wait(10)
    assert "no socket" in warned[0]


def test_nothing_is_followed_where_there_are_no_steps():
    def listen():
        raise AssertionError("nobody is to listen")

    Follower().start([], listen, print)
    assert etcd_ha_orchestration_progress.FOLLOWER
