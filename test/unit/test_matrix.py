"""The README's matrix is what the last run has told, and nothing else."""

import importlib.util
import json
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("matrix", ROOT / "test" / "e2e" / "matrix.py")
matrix = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(matrix)

REPORT = """<testsuites><testsuite>
<testcase name="test_a_release[3.4.23]" time="10.5"/>
<testcase name="test_a_release[3.5.33]" time="20.0">
<failure message="assert 1&#10;more"/></testcase>
<testcase name="test_the_way_up_to_a_release[3.5.33]" time="5.2"/>
<testcase name="test_a_release[3.7.1]" time="0.1"><skipped message="cannot be had"/></testcase>
<testcase name="test_a_release[3.6.14]" time="30"/>
<testcase name="test_the_way_up_to_a_release[3.6.14]" time="0.1"><skipped message="no"/></testcase>
<testcase name="test_of_something_else" time="9"/>
</testsuite></testsuites>"""


def row(suite, salt, **values):
    return {"suite": suite, "salt": salt, "date": "2026-11-24", "reason": "", "cells": {}, **values}


def test_a_report_is_read_by_release():
    found = matrix.cells(REPORT)
    assert found["3.4.23"] == {"passed": True, "seconds": 10.5, "told": [], "ran": 1}
    assert (found["3.5.33"]["passed"], found["3.5.33"]["seconds"]) == (False, 25.2)
    assert found["3.5.33"]["told"] == ["failure: test_a_release[3.5.33]: assert 1"]
    assert set(found) == {"3.4.23", "3.5.33", "3.6.14", "3.7.1"}


def test_the_table_says_what_passed_what_failed_and_what_was_not_run():
    rows = [
        row("bookworm", "3008.3", cells=matrix.cells(REPORT)),
        row("trixie", "3007.15", reason="lab: no | Salt"),
    ]
    lines = matrix.table(rows).splitlines()
    assert lines[0] == (
        "| Hosts | Salt | etcd 3.4.23 | etcd 3.5.33 | etcd 3.6.14 | etcd 3.7.1 | Run |"
    )
    passed = ["Debian 12", "3008.3", "pass, 10 s"]
    first = [*passed, "**fail**, 25 s", "pass, 30 s, no way up", "not to be had", "2026-11-24"]
    assert lines[2] == f"| {' | '.join(first)} |"
    assert lines[3].count("not run: lab: no / Salt") == 4
    assert {line.count("|") for line in lines} == {8}


def test_rows_are_in_order_and_former_ones_are_left_out():
    names = ("trixie", "bookworm", "bullseye")
    rows = [row("buster", "3006.1"), *(row(name, "3008.3") for name in names)]
    assert [one["suite"] for one in matrix.ordered(rows)] == ["bullseye", "bookworm", "trixie"]


def test_the_readme_holds_the_last_results():
    text = (ROOT / "README.md").read_text()
    results = matrix.RESULTS
    rows = json.loads(results.read_text()) if results.exists() else []
    assert matrix.written(text, matrix.ordered(rows)) == text, (
        "run .venv/bin/python test/e2e/matrix.py --table"
    )


def test_a_readme_without_markers_is_not_written():
    with pytest.raises(SystemExit, match="lost its markers"):
        matrix.written("# no markers", [])


def test_one_row_is_asked_for_by_its_system_and_its_salt():
    assert matrix.asked(()) == matrix.ROWS
    assert matrix.asked(("trixie",)) == [("trixie", "3008.3"), ("trixie", "3007.15")]
    assert matrix.asked(("trixie", "3007.15")) == [("trixie", "3007.15")]
