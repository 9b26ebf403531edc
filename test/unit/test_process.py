"""Programs are run in one place, which has no way to ignore a failure by accident."""

import ast
import os
import pathlib
import time

import etcd_ha_common_process
import pytest
from etcd_ha_common_errors import Failed
from etcd_ha_common_process import (
    ANY_CODE,
    Done,
    ProgramError,
    ProgramMissing,
    ProgramTimeout,
    TooMuchOutput,
)
from programs import program
from salt.exceptions import CommandExecutionError

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUNNER = "_utils/etcd_ha_common_process.py"
SOURCES = {
    str(path.relative_to(ROOT)): path
    for kind in ("_utils", "_modules", "_states", "_runners", "etcd_ha")
    for path in ROOT.glob(f"{kind}/**/*.py")
}
MODULES = {"subprocess", "pty", "multiprocessing"}
OF_OS = {"system", "popen", "fork", "forkpty", "startfile"}
OF_ASYNCIO = {"create_subprocess_exec", "create_subprocess_shell"}


def breaches(tree):
    """What in a file starts programs: names and lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named = {alias.name.partition(".")[0] for alias in node.names}
            yield from ((node.lineno, name) for name in named & MODULES)
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").partition(".")[0]
            if module in MODULES:
                yield node.lineno, module
            if module == "os":
                found = {alias.name for alias in node.names}
                yield from ((node.lineno, f"os.{name}") for name in found if starts(name))
        elif isinstance(node, ast.Attribute):
            if node.attr in OF_ASYNCIO or node.attr == "__import__":
                yield node.lineno, node.attr
            elif isinstance(node.value, ast.Name) and node.value.id == "os" and starts(node.attr):
                yield node.lineno, f"os.{node.attr}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # __salt__["cmd.run_all"], also where it is named before it is called.
            if node.value.startswith(("cmd.", "cmdmod.")) and " " not in node.value:
                yield node.lineno, node.value
            if node.value in MODULES:
                yield node.lineno, node.value


def starts(name):
    return name in OF_OS or name.startswith(("exec", "spawn", "posix_spawn"))


@pytest.mark.parametrize("name", SOURCES)
def test_nobody_else_runs_programs(name):
    found = sorted(set(breaches(ast.parse(SOURCES[name].read_text()))))
    assert name == RUNNER or found == [], "run programs by etcd_ha_common_process"
    assert name != RUNNER or found, "this test looks at the wrong file"


@pytest.mark.parametrize(
    "text",
    [
        "import subprocess",
        "from subprocess import run",
        "import subprocess as harmless",
        "import os\nos.system('x')",
        "import os\nos.popen('x')",
        "import os\nos.execv('x', [])",
        "import os\nos.posix_spawn('x', [], {})",
        "from os import system as harmless",
        "def f():\n    return __salt__['cmd.run_all'](['x'])",
        "ask = 'cmd.retcode'",
        "import importlib\nimportlib.import_module('subprocess')",
        "import asyncio\nasyncio.create_subprocess_exec('x')",
        "import pty\npty.spawn('x')",
    ],
)
def test_a_breach_is_seen(text):
    assert list(breaches(ast.parse(text)))


@pytest.mark.parametrize("text", ["import os\nos.environ", "'run cmd.run by hand'", "x.system()"])
def test_what_is_none_is_not(text):
    assert not list(breaches(ast.parse(text)))


# What comes of a program


def sh(source, timeout=20.0, **more):
    return etcd_ha_common_process.run(["sh", "-c", source], timeout, **more)


def test_an_answer_is_its_code_and_its_words():
    assert sh("echo a; echo b >&2") == Done(0, "a\n", "b\n")
    assert sh("exit 3", codes=(0, 3)).code == 3
    assert sh("exit 255", codes=ANY_CODE).code == 255


@pytest.mark.parametrize("codes", [(0,), (0, 2), ()])
def test_an_exit_code_that_was_not_named_is_an_error_with_its_cause(codes):
    with pytest.raises(
        ProgramError, match=r"sh -c .* failed: exit code 1: no such thing"
    ) as caught:
        sh("echo first >&2; echo no such thing >&2; exit 1", codes=codes)
    assert (caught.value.code, caught.value.command[0]) == (1, "sh")
    assert caught.value.reason == "exit code 1: no such thing"


def test_even_success_is_one_where_only_failure_is_an_answer():
    with pytest.raises(ProgramError, match="exit code 0: it printed nothing"):
        sh("true", codes=(1,))


@pytest.mark.parametrize("codes", [(0,), ANY_CODE])
def test_a_program_that_was_killed_has_given_no_answer(codes):
    with pytest.raises(ProgramError, match="it was killed by signal 9"):
        sh("echo '{}'; kill -9 $$", codes=codes)


def test_what_is_not_there_is_missing():
    with pytest.raises(ProgramMissing, match="nowhere is not installed on this host"):
        etcd_ha_common_process.run(["nowhere"], 5)
    with pytest.raises(ProgramMissing):
        etcd_ha_common_process.run(["/nowhere/etcd"], 5)


def test_what_is_there_and_cannot_be_started_is_not_missing(tmp_path):
    """Who does something else where a program is missing must not do so by mistake."""
    plain, script = tmp_path / "plain", tmp_path / "script"
    plain.write_text("x")
    script.write_text("#!/nowhere/python\n")
    script.chmod(0o755)
    (tmp_path / "link").symlink_to("gone")
    cases = {plain: "Permission denied", script: "interpreter", tmp_path / "link": "broken link"}
    cases[tmp_path] = "Permission denied"
    for path, told in cases.items():
        with pytest.raises(ProgramError, match=told) as caught:
            etcd_ha_common_process.run([str(path)], 5)
        assert type(caught.value) is ProgramError
    with pytest.raises(ProgramError, match=r"there is no directory .*/gone"):
        sh("true", folder=str(tmp_path / "gone"))
    with pytest.raises(ProgramError, match="cannot be started"):
        etcd_ha_common_process.run(["sh", "a\0b"], 5)


@pytest.mark.parametrize("source", ["exec sleep 60", "exec >&- 2>&-; sleep 60", "sleep 9 & exit"])
def test_what_hangs_is_ended_and_an_error(source):
    began = time.monotonic()
    with pytest.raises(ProgramTimeout, match=r"within 0\.3 s"):
        sh(source, 0.3)
    assert time.monotonic() - began < 10


def test_what_hangs_is_dead_afterwards(tmp_path):
    with pytest.raises(ProgramTimeout):
        sh(f"echo $$ > {tmp_path}/pid; exec sleep 60", 1)
    assert not os.path.exists(f"/proc/{(tmp_path / 'pid').read_text().strip()}")


def test_what_never_stops_talking_is_ended():
    with pytest.raises(TooMuchOutput, match="it printed more than 1 MiB"):
        sh("exec yes", limit=1 << 20)


def test_one_that_cannot_be_ended_is_not_waited_for(monkeypatch):
    """A process that waits for a dead disk ignores its kill."""
    monkeypatch.setattr(etcd_ha_common_process, "_REAP", 0.1)
    real = etcd_ha_common_process.Process.kill
    monkeypatch.setattr(etcd_ha_common_process.Process, "kill", lambda self: None)
    kept = []
    init = etcd_ha_common_process.Process.__init__

    def remembered(self, *args, **more):
        kept.append(self)
        init(self, *args, **more)

    monkeypatch.setattr(etcd_ha_common_process.Process, "__init__", remembered)
    began = time.monotonic()
    with pytest.raises(ProgramTimeout):
        sh("exec sleep 60", 0.1)
    assert time.monotonic() - began < 20
    real(kept[0])
    kept[0].wait()


def test_the_environment_is_what_was_given_beside_a_path_and_no_language(monkeypatch):
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", "planted")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    lines = sh("env", environment={"A": "1"}).out.splitlines()
    names = {line.partition("=")[0] for line in lines} - {"PWD", "SHLVL", "_", "OLDPWD"}
    assert names == {"A", "PATH", "LC_ALL"} and "LC_ALL=C" in lines
    assert "PATH=/x:/bin" in sh("/usr/bin/env", environment={"PATH": "/x:/bin"}).out


def test_input_folder_and_odd_bytes(tmp_path):
    assert sh("cat", stdin="größe").out == "größe"
    assert sh("pwd", folder=str(tmp_path)).out.strip() == os.path.realpath(tmp_path)
    assert sh("printf '\\377'").out == "\ufffd"
    assert sh("cat", 5).out == "", "it reads nothing of ours"
    assert sh("exec <&-; true", stdin="x" * 10**6).code == 0


def test_errors_contain_no_secret():
    given = {"RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY": "planted-1", "PASSWORD": "planted-2"}
    source = "echo $RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY $PASSWORD $(cat) bad >&2; exit 1"
    with pytest.raises(ProgramError) as caught:
        sh(source, environment=given, stdin="planted-3\n")
    assert "planted" not in str(caught.value) and "bad" in str(caught.value)


def test_errors_are_those_that_salt_shows_as_a_sentence():
    for kind in (ProgramMissing, ProgramTimeout, TooMuchOutput):
        assert issubclass(kind, ProgramError)
    assert issubclass(ProgramError, Failed) and issubclass(Failed, CommandExecutionError)
    long = ProgramError(["etcdctl", "x" * 10_000], "no")
    assert len(str(long)) < 300 and str(long).endswith("failed: no")


def test_words_are_the_last_that_it_said():
    assert Done(1, "a\nb\n", "").words() == "b"
    assert Done(1, "a", "warning\n  the cause  \n\n").words() == "the cause"
    assert Done(1, "\n", " ").words() == "it printed nothing"
    assert len(Done(1, "", "x" * 9999).words()) < 400


# What runs beside


def test_what_runs_beside_is_gone_at_the_end(tmp_path):
    with (
        open(tmp_path / "log", "wb") as log,
        etcd_ha_common_process.started(
            ["sh", "-c", "echo up; pwd; exec sleep 60"], folder=str(tmp_path), stdout=log
        ) as process,
    ):
        assert process.poll() is None
        deadline = time.monotonic() + 20
        while (tmp_path / "log").read_text().count("\n") < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert process.returncode == -9
    assert (tmp_path / "log").read_text().splitlines() == ["up", os.path.realpath(tmp_path)]


def test_also_where_its_caller_fails():
    started = etcd_ha_common_process.started(["sleep", "60"])
    with pytest.raises(KeyError), started as process:
        raise KeyError("x")
    assert process.returncode == -9


def test_one_that_cannot_be_started_is_an_error():
    with pytest.raises(ProgramMissing), etcd_ha_common_process.started(["nowhere"]):
        pytest.fail("it was")


def test_a_program_of_a_test_is_run(tmp_path):
    path = program(tmp_path, "etcd", "print('etcd Version: 3.6.14')")
    assert etcd_ha_common_process.run([path], 20).out == "etcd Version: 3.6.14\n"
