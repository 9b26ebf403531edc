"""docs/highstate.md: no line without its test."""

import ast
import re

from faces import ROOT
from test_docs import tables

PAGE = ROOT / "docs" / "highstate.md"
TESTS = {path.name: path for path in ROOT.glob("test/*/test_*.py")}


def lines():
    """What the page says of a highstate and of a pause, and the test that it names for it."""
    for heads, rows in tables(PAGE.read_text()):
        if heads[-1] == "Test":
            yield from ((row[0], row[1].strip("`")) for row in rows)


def test_each_line_names_a_test_that_there_is():
    said = list(lines())
    assert len(said) > 30
    for what, named in said:
        assert re.fullmatch(r"test_\w+\.py::test_\w+", named), (what, named)
        file, _, test = named.partition("::")
        assert file in TESTS, (what, named)
        tree = ast.parse(TESTS[file].read_text())
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert test in names, (what, named)


def test_no_list_stands_outside_of_the_tables():
    """A promise in a list would have no column for its test."""
    assert not re.search(r"^ *[-*] ", PAGE.read_text(), re.M)
