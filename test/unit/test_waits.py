"""Every wait of the formula has a bound and says what it waits for. A new one is added here."""

import ast
import inspect
import pathlib
import re

import pytest
import yaml
from faces import load

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = [
    path
    for folder in ("_utils", "_modules", "_states", "_runners", "etcd_ha/balancer")
    for path in sorted((ROOT / folder).glob("*.py"))
]
# file, function: its bound as the code has it, and words of what it says when the time is over.
WAITS = {
    ("etcd_ha_common_wait", "until"): ("deadline", "waited"),
    ("etcd_ha_backup_job", "scheduled"): ("turn * TURN", "no backup was taken"),
    ("etcd_ha_client", "hashes"): ("COMPARISONS", "the members are compacting"),
    ("etcd_ha_data", "stop"): ("deadline", "etcd did not stop"),
    ("etcd_ha_trial", "_first_answer"): ("deadline", "etcd did not open the restored data"),
    ("etcd_ha_transfer", "fetch"): ("deadline", "nothing could be fetched"),
    # Who asks goes on in any case.
    ("etcd_ha_transfer", "answers"): ("deadline", ""),
    ("etcd_ha_minions", "_wait_until_idle"): ("BUSY_TIMEOUT", "is still changed by an earlier run"),
    # Until an election is over, or the answer stands as it is.
    ("etcd_ha", "_settled_status"): ("deadline", ""),
    ("etcd_ha", "_verify_endpoint"): ("timeout", "a put and a get through"),
    ("etcd_ha_member", "promote"): ("deadline", "has not caught up"),
    ("etcd_ha_member", "admit"): ("deadline", "was not made a voter"),
    ("etcd_ha_member", "ready_for"): ("deadline", "must not be started yet"),
    ("etcd_ha_member", "_wait_for_storage"): ("deadline", "is not readable for etcd"),
    ("etcd_ha_member", "_try"): ("deadline", "failed"),
    ("etcd_ha_maintenance", "_wait_healthy"): ("deadline", "is not healthy after"),
    ("etcd_ha_virtual", "fit"): ("ends", "cannot take the virtual address over"),
    ("etcd_ha_restore", "_alone"): ("deadline", "etcd does not answer"),
    ("etcd_ha_restore", "_count"): ("deadline", "cannot be counted"),
    ("etcd_ha_members", "healthy"): ("deadline", "not healthy after"),
    ("etcd_ha_member", "_refused_handshake"): ("deadline", "{url} ({why})"),
    ("etcd_ha_host_examine", "_watched"): ("watch.left()", "did not come to an end with it"),
    # One pause, for a process that ends a moment after its connection.
    ("etcd_ha_host_examine", "_hashed"): ("_SETTLED", "did not read all its keys in time"),
    # What is there by then is told.
    ("etcd_ha_host_ended", "look"): ("deadline", ""),
    # So many looks, a second apart.
    ("etcd_ha_host_ended", "stays"): ("range(seconds)", ""),
    # What is raised at the end is why the members left would be no quorum.
    ("etcd_ha_pause", "_stop"): ("deadline", ""),
    # One pause between two looks.
    ("check_path", "may_hold"): ("pause", ""),
}


def waiting():
    """Each function that sleeps: (file, function) -> its source."""
    found = {}
    for path in FILES:
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and any(map(is_sleep, ast.walk(node))):
                found[path.stem, node.name] = ast.get_source_segment(text, node)
    return found


def is_sleep(node):
    called = node.func if isinstance(node, ast.Call) else None
    if isinstance(called, ast.BoolOp):
        called = called.values[-1]
    return getattr(called, "attr", getattr(called, "id", "")) == "sleep"


FOUND = waiting()


def test_every_wait_is_in_the_table():
    assert set(FOUND) == set(WAITS)


@pytest.mark.parametrize("wait", WAITS, ids=".".join)
def test_a_wait_has_a_bound_and_says_what_for(wait):
    bound, words = WAITS[wait]
    assert bound in FOUND[wait]
    assert words in " ".join(FOUND[wait].replace('"', "").split())


def test_nothing_loops_for_ever():
    """``while True`` without a way out by itself."""
    for wait, text in FOUND.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.While) and isinstance(node.test, ast.Constant):
                ends = [one for one in ast.walk(node) if isinstance(one, (ast.Raise, ast.Break))]
                ends += [one for one in ast.walk(node) if isinstance(one, ast.Return)]
                assert ends, wait


# How long people watch a run that says nothing before they end it (seconds).
PATIENCE = 420
# What systemd gives a unit to stop, where nobody has set it otherwise.
STOP = 90
# Functions of a plan that may take longer, and by what.
LONG = {
    "etcd_ha_member.snapshot": "the whole database is read and written",
    "etcd_ha_member.leave_v2": "etcd's own check reads the whole log",
    "etcd_ha_member.examine": "the data is copied, and read whole; its title says so",
    "etcd_ha_maintenance.defragment": "the database is written anew",
    "etcd_ha_restore.prepare": "the backup is brought here and its keys are counted",
    "etcd_ha_restore.start": "as long as start_timeout, and what comes before it in turn",
    "etcd_ha_restore.force": "as long as start_timeout, and its keys are counted",
}


def step_functions():
    """Each function that a plan has as a step, with the most that it waits by default."""
    found = {}
    for path in sorted((ROOT / "_utils").glob("etcd_ha_*.py")):
        for name in re.findall(r'\bfunction="(etcd_ha\w*\.\w+)"', path.read_text()):
            found[name] = waits_at_most(*name.split("."))
    # Those that are named in pieces.
    for module, names in (
        ("etcd_ha_maintenance", "compact disarm defragment"),
        ("etcd_ha_restore", "prepare exchange start finish stop force"),
    ):
        for name in names.split():
            found[f"{module}.{name}"] = waits_at_most(module, name)
    return found


def waits_at_most(virtual, name):
    for path in sorted((ROOT / "_modules").glob("*.py")):
        module = load(f"_modules/{path.stem}")
        if module.__virtualname__ == virtual and hasattr(module, name):
            given = inspect.signature(getattr(module, name)).parameters.get("timeout")
            # None: by the size of the data.
            return float("inf") if given and given.default is None else given and given.default
    raise AssertionError(f"no module has {virtual}.{name}")


def test_no_step_of_a_plan_waits_longer_than_people_do():
    """Or it is known why; a new one is looked at here."""
    found = step_functions()
    assert len(found) > 10
    assert {name for name, most in found.items() if (most or 0) > PATIENCE} <= set(LONG)


def test_nor_does_the_start_of_a_member():
    """Entering, stopping, starting, and all that comes after the start under one deadline."""
    own = yaml.safe_load((ROOT / "etcd_ha" / "defaults.yaml").read_text())
    start = own["start_timeout"]
    states, member = load("_states/etcd_ha"), load("_modules/etcd_ha_member")
    enter = inspect.signature(member.enter).parameters["timeout"].default
    ready = inspect.signature(member.ready_for).parameters["timeout"].default
    assert max(enter, ready) + STOP + start + start + states.BRIEF <= PATIENCE
    # One deadline, handed on: else each wait would add its own.
    text = inspect.getsource(states.running)
    assert text.count("etcd_ha_common_wait.Deadline(start_timeout)") == 1
    assert text.count('__salt__["etcd_ha_member.promote"](endpoints, settled.left(BRIEF))') == 2
    assert "_wait_healthy(unit, settled)" in text
