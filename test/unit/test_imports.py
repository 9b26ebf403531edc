"""Imports go one way, and the logic knows no Salt but where its file says so."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
UTILS = {path.stem: path for path in (ROOT / "_utils").glob("*.py")}
FACES = [path for kind in ("modules", "states", "runners") for path in ROOT.glob(f"_{kind}/*.py")]
# The file of _utils that any other one may import although it knows one name of Salt's.
ERRORS = "etcd_ha_common_errors"
# The files of _utils that may know Salt; all but ERRORS are for the faces alone.
SALTED = {"etcd_ha_faces", "etcd_ha_master", "etcd_ha_minions", ERRORS}
DUNDERS = {f"__{n}__" for n in ("salt", "opts", "pillar", "grains", "context", "utils", "states")}


def imported(tree):
    """The names of all modules that are imported somewhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def of_salt(tree):
    return any(name.partition(".")[0] == "salt" for name in imported(tree))


def inside(tree):
    """The lines of imports that do not stand at the top of a file."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    return [node.lineno for node in nodes if node not in tree.body]


@pytest.mark.parametrize("name", UTILS)
def test_logic_knows_no_salt(name):
    tree = ast.parse(UTILS[name].read_text())
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert of_salt(tree) is (name in SALTED)
    assert used & DUNDERS == set()
    if name not in SALTED:
        assert (SALTED - {ERRORS}) & set(imported(tree)) == set()


def test_the_errors_know_one_name_of_salt_alone():
    """Whatever imports them is still free of dunders, loaders and options."""
    tree = ast.parse(UTILS[ERRORS].read_text())
    nodes = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    names = [(node.module, name.name) for node in nodes for name in node.names]
    assert names == [("salt.exceptions", "CommandExecutionError")]


@pytest.mark.parametrize("path", [*FACES, *UTILS.values()], ids=lambda path: str(path.stem))
def test_imports_stand_at_the_top(path):
    """Salt has _utils on the path only while it loads a face."""
    assert inside(ast.parse(path.read_text())) == []


@pytest.mark.parametrize("name", UTILS)
def test_annotations_are_no_text(name):
    """Dataclasses with those fail in Salt's loader of utils."""
    assert "__future__" not in set(imported(ast.parse(UTILS[name].read_text())))


def test_no_file_of_the_runner_is_called_like_one_of_the_logic():
    """Where Salt loads runners without the path of utils, one would be imported for the other."""
    assert {path.stem for path in ROOT.glob("_runners/*.py")} & set(UTILS) == set()


def test_a_breach_is_seen():
    tree = ast.parse("import os\nfrom salt.exceptions import X\ndef f():\n    import salt.utils\n")
    assert of_salt(tree) and inside(tree) == [4]
    assert not of_salt(ast.parse("import saltless"))
