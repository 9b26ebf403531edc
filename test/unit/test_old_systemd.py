"""What is asked of systemd can be asked of the oldest one that the formula runs on."""

import ast
import pathlib
import re
import shlex

import pytest
from systemd_versions import (
    MAY_BE_MISSING,
    NEWER_DIRECTIVES,
    OLDEST,
    OPTIONS,
    VERBS,
)

ROOT = pathlib.Path(__file__).resolve().parents[2]
CODE = sorted(p for folder in ("_utils", "_modules", "_states", "_runners")
              for p in (ROOT / folder).glob("*.py"))  # fmt: skip
TEXTS = [
    *sorted(p for p in (ROOT / "etcd_ha").rglob("*") if p.is_file() and p.suffix != ".pyc"),
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "pillar.example")),
]
# How the code calls them: a function of ours, or the program as the first of some words.
FUNCTIONS = {"systemctl": "systemctl", "journal": "journalctl", "journalctl": "journalctl"}
# A command within a text, up to what cannot belong to it.
COMMAND = re.compile(
    rf"\b({'|'.join(sorted(OPTIONS, key=len, reverse=True))})((?: +[^\s`'\"|;,()]+)+)"
)
DIRECTIVE = re.compile(r"^\s*([A-Z][A-Za-z0-9]+)=", re.MULTILINE)
DUE = ("CPUWeight", "IOWeight", "OOMScoreAdjust")
SECTION = re.compile(r"^\s*\[(Unit|Service|Timer|Install)\]\s*$", re.MULTILINE)


def words_of_code(tree):
    """(line, program, words) of each call that a module makes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", "")).lstrip("_")
            if called in FUNCTIONS:
                yield node.lineno, FUNCTIONS[called], [text(arg) for arg in node.args]
        if isinstance(node, (ast.List, ast.Tuple)) and node.elts:
            first = text(node.elts[0]).rpartition("/")[2]
            if first in OPTIONS:
                yield node.lineno, first, [text(one) for one in node.elts[1:]]


def text(node):
    """A constant, or the constant beginning of an f-string."""
    if isinstance(node, ast.JoinedStr):
        node = node.values[0] if node.values else node
    return str(node.value) if isinstance(node, ast.Constant) else ""


def words_of_text(content):
    """(line, program, words) of each command that a text names."""
    for found in COMMAND.finditer(content):
        try:
            words = shlex.split(found[2])
        except ValueError:
            words = found[2].split()
        yield content.count("\n", 0, found.start()) + 1, found[1], words


def faults(program, words):
    """Why the oldest systemd would refuse these words."""
    known = OPTIONS[program]
    for verb in (word for word in words if word in VERBS.get(program, {})):
        if VERBS[program][verb] > OLDEST:
            yield f"{program} {verb} is from systemd {VERBS[program][verb]}"
    for word in (word for word in words if re.match("--?[A-Za-z]", word)):
        option = word.rstrip(".:").partition("=")[0]
        since = known.get(word.rstrip(".:"), known.get(option))
        if since is None:
            yield f"{program} {option} is not in systemd_versions.py: look it up"
        elif since > OLDEST:
            yield f"{program} {word} is from systemd {since}"


def everything():
    """(place, fault) of the whole tree."""
    for path in CODE:
        content = path.read_text()
        tree = ast.parse(content)
        texts = (
            (node.lineno, program, words)
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            for _, program, words in words_of_text(node.value)
        )
        for line, program, words in (*words_of_code(tree), *texts):
            yield from ((f"{path.name}:{line}", why) for why in faults(program, words))
    for path in TEXTS:
        for line, program, words in words_of_text(path.read_text()):
            yield from ((f"{path.name}:{line}", why) for why in faults(program, words))


def test_no_option_is_newer_than_the_oldest_systemd():
    assert [f"{place}: {why}" for place, why in everything()] == []


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ('run(["systemctl", "show", name, "--timestamp=unix"])', "systemctl --timestamp=unix"),
        ('_systemctl("kill", f"--kill-whom={who}", unit)', "systemctl --kill-whom"),
        ('["journalctl", "-u", unit, "--invocation=0"]', "journalctl --invocation=0"),
        ('["/usr/bin/systemd-run", "--expand-environment=no", x]', "--expand-environment"),
        ('systemctl("list-paths")', "list-paths is from systemd 254"),
        ('systemctl("show", "--no-such-thing")', "look it up"),
        ('say("Look at: journalctl -u etcd -I")', "journalctl -I"),
    ],
)
def test_a_newer_one_is_found(code, why):
    tree = ast.parse(code)
    found = [one for _, program, words in words_of_code(tree) for one in faults(program, words)]
    found += [one for _, program, words in words_of_text(code) for one in faults(program, words)]
    assert any(why in one for one in found), found


def unit_texts():
    """(place, text) of everything that is a unit or a part of one."""
    for path in TEXTS:
        if path.suffix in (".jinja", ".sls", ".service"):
            content = path.read_text()
            if SECTION.search(content):
                yield path.name, content
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            value = getattr(node, "value", None)
            if isinstance(node, ast.Constant) and isinstance(value, str) and SECTION.search(value):
                yield f"{path.name}:{node.lineno}", value


def test_units_do_without_what_the_oldest_systemd_has_not():
    seen = list(unit_texts())
    assert len(seen) >= 4, seen
    newer = {
        f"{place}: {name} is from systemd {NEWER_DIRECTIVES[name]}"
        for place, content in seen
        for name in DIRECTIVE.findall(content)
        if NEWER_DIRECTIVES.get(name, 0) > OLDEST and name not in MAY_BE_MISSING
    }
    assert newer == set()


def test_what_may_be_missing_is_in_use():
    used = {name for _, content in unit_texts() for name in DIRECTIVE.findall(content)}
    assert set(MAY_BE_MISSING) <= used


def test_etcd_gets_its_due_beside_other_programs():
    """More than the default share, within what every systemd takes, and not unkillable.

    systemd.resource-control(5): weights are 1 to 10000, 100 by default (from 230 and 232 on);
    systemd.exec(5): OOMScoreAdjust is -1000 (never ended) to 1000.
    """
    text = (ROOT / "etcd_ha" / "unit" / "etcd.service.jinja").read_text()
    given = {key: int(re.search(rf"^{key}=(-?[0-9]+)$", text, re.M)[1]) for key in DUE}
    assert all(100 < given[name] <= 10000 for name in ("CPUWeight", "IOWeight"))
    assert -1000 < given["OOMScoreAdjust"] < 0
