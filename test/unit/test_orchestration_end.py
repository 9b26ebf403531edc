"""What people see last of an orchestrate: its steps, how long each took, and the result."""

import logging
import sys

import etcd_ha_master
import pytest
from etcd_ha_orchestration_end import summary
from etcd_ha_orchestration_progress import Follower

NOT_RUN = "One or more requisite failed: etcd_ha.orch.main: restart etcd2"


def state(title, ms, result=True, comment="", name="", **more):
    return {
        "__id__": title,
        "name": name or title,
        "duration": ms,
        "result": result,
        "comment": comment,
        "changes": {},
        **more,
    }


def returned(*states):
    """What ``state.orchestrate`` returns of steps and, by their titles, of other states."""
    found = {}
    for number, one in enumerate(states):
        said = ("result", "refused", "pillar says", "is done")
        kind = "test" if one["__id__"].endswith(said) else "salt"
        found[f"{kind}_|-{one['__id__']}_|-x_|-y"] = {**one, "__run_num__": number}
    return {"data": {"m_master": dict(reversed(found.items()))}, "outputter": "highstate"}


RESULT = state("main: result", 1, comment="all 2 steps were taken")


def test_steps_with_their_times_and_a_sentence():
    steps = (state("main: prepare etcd1", 6321.7), state("main: bootstrap etcd1", 134_200))
    assert summary(returned(*steps, RESULT)).splitlines() == [
        "RESULT  TIME        STEP",
        "ok      6.3 s       main: prepare etcd1",
        "ok      2 min 14 s  main: bootstrap etcd1",
        "main: all 2 steps were taken",
    ]


def test_the_sentence_of_a_failed_run_names_the_step():
    steps = (
        state("main: prepare etcd1", 2000),
        state("main: restart etcd2", 3000, False, "Run failed on minions: etcd2"),
        state("main: verify", 0.1, False, NOT_RUN),
        state("other: restart etcd2", 1000),
    )
    ends = (state("main: result", 0.1, False, NOT_RUN), state("other: result", 1, comment="done"))
    assert summary(returned(*steps, *ends)).splitlines()[2:] == [
        "failed   3.0 s  main: restart etcd2",
        "not run  -      main: verify",
        "ok       1.0 s  other: restart etcd2",
        "main: failed at: restart etcd2",
        "other: done",
    ]


def test_the_steps_of_a_plan_that_was_made_again_are_below_it():
    inner = returned(
        state("main: restart etcd2", 500, False, "x"), state("main: result", 0, False, NOT_RUN)
    )
    again = state("main: plan again for what is left", 900, False, name="state.orchestrate")
    again["changes"] = {"return": inner}
    told = summary(returned(again, state("main: result", 0, False, NOT_RUN))).splitlines()
    assert [line.split("  ")[-1].strip() for line in told] == [
        "STEP",
        "main: plan again for what is left",
        "main: restart etcd2",
        "main: failed at: restart etcd2",
    ]


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (
            [state("main: the plan is refused", 1, False, "no quorum")],
            "main: the plan is refused: no quorum",
        ),
        ([state("Every cluster is as its pillar says", 1)], "Every cluster is as its pillar says"),
    ],
)
def test_without_steps_there_is_the_sentence_alone(states, told):
    assert summary(returned(*states)) == told


@pytest.mark.parametrize(
    "odd",
    [
        None,
        "VALUE_TRIMMED",
        {},
        {"data": {"m_master": ["Rendering SLS failed"]}},
        {"data": {"m_master": {"salt_|-a": "VALUE_TRIMMED"}}},
        {"data": "VALUE_TRIMMED"},
        returned(state("main: prepare etcd1", 1, None)),
    ],
)
def test_a_dry_run_and_what_salt_has_cut_say_nothing(odd):
    assert summary(odd) == ""


STEP = {"id": "main: verify", "kind": "verify", "targets": [], "cluster": "main"}
BEGINS = {"type": "runner", "name": "etcd_ha.verify", "kwargs": {"cluster": "main"}}


@pytest.mark.parametrize("job", ["1", "2"])
def test_it_is_shown_as_the_process_ends_by_the_event_of_its_own_orchestrate(job):
    lines, at_exit = [], []
    follower = Follower(at_exit.append)

    def listen():
        yield "salt/run/1/args", BEGINS
        yield f"salt/run/{job}/ret", {"return": returned(state("main: verify", 1), RESULT)}

    follower.start([STEP], listen, lines.append)
    # A plan with nothing to do, planned again within it, has no thread of its own.
    follower.start([], listen, lines.append)
    (end,) = at_exit
    follower.end(lines.append, 5.0 if job == "1" else 0.1)
    assert ("main: all 2 steps were taken" in lines[-1]) is (job == "1"), lines
    assert callable(end)


def test_a_run_without_a_step_is_not_waited_for():
    Follower().end(lambda line: pytest.fail(line), 60)


@pytest.mark.parametrize(
    ("name", "level", "line", "shown"),
    [
        ("salt.state", logging.ERROR, "{'out': 'highstate'" + "x" * 5000, False),
        ("salt.state", logging.ERROR, "{'return': 'etcd2 did not answer'}", True),
        ("salt.state", logging.ERROR, "No changes made" + "x" * 5000, True),
        ("salt.state", logging.WARNING, "{" + "x" * 5000, True),
        ("salt.minion", logging.ERROR, "{" + "x" * 5000, True),
    ],
)
def test_the_console_is_spared_what_a_failed_step_returned(monkeypatch, name, level, line, shown):
    console, file = logging.StreamHandler(sys.stderr), logging.NullHandler()
    monkeypatch.setattr(logging.root, "handlers", [console, file])
    etcd_ha_master.quiet_console()
    etcd_ha_master.quiet_console()
    assert len(console.filters) == 1 and file.filters == []
    record = logging.LogRecord(name, level, "x.py", 1, line, None, None)
    assert bool(console.filter(record)) is shown
