"""What people and monitoring get to see: plain text and an exit code, by Salt's own commands."""

from __future__ import annotations

import datetime
import json
import pathlib
import subprocess
import sys

import etcd_ha_machine
import orchestrates
import pytest
import salt.loader
import yaml
from compiled import FORMULA
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@pytest.fixture
def salt_run(tmp_path):
    """``salt-run`` of a master that has the formula, but no pillar for it."""
    for kind in ("runners", "utils"):
        folder = tmp_path / "ext" / kind
        folder.mkdir(parents=True)
        for module in (FORMULA / f"_{kind}").glob("*.py"):
            (folder / module.name).symlink_to(module)
    (tmp_path / "cache" / "proc").mkdir(parents=True)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "etcd_ha").symlink_to(FORMULA / "etcd_ha")
    options = {
        "root_dir": str(tmp_path),
        "cachedir": str(tmp_path / "cache"),
        "pki_dir": str(tmp_path / "pki"),
        "sock_dir": str(tmp_path / "sock"),
        "extension_modules": str(tmp_path / "ext"),
        "log_file": "/dev/null",
        "file_roots": {"base": [str(tmp_path / "base")]},
        "pillar_roots": {"base": [str(tmp_path / "pillar")]},
    }
    (tmp_path / "master").write_text(json.dumps(options))
    program = pathlib.Path(sys.executable).parent / "salt-run"

    def run(*argv):
        return subprocess.run(
            [program, "-c", tmp_path, *argv], capture_output=True, text=True, check=False
        )

    return run


def test_a_refused_plan_is_plain_text_and_exit_code_1(salt_run):
    done = salt_run("etcd_ha.plan")
    assert done.returncode == 1
    assert done.stdout.startswith("The pillar under etcd_ha is not right, so nothing was changed:")
    assert "Traceback" not in done.stdout and "retcode" not in done.stdout


@pytest.mark.parametrize("function", ["plan", "status", "certificates", "backups", "endpoints"])
def test_what_is_refused_is_json_for_a_program_with_the_same_exit_code(salt_run, function):
    """By Salt itself: a runner knows of --out, and its mapping decides the exit code."""
    done = salt_run("--out=json", f"etcd_ha.{function}")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found["retcode"] == 1 and found["error"].startswith("The pillar under etcd_ha")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"confirm": "main", "bakcup": "x"}, "bakcup is no word of etcd_ha.orch.restore"),
        ({"confirm": "main", "backup": ""}, "backup is given without a value"),
    ],
)
def test_an_orchestrate_passes_no_word_over(salt_run, words, says):
    """By Salt itself: its runners see the pillar of the orchestrate that they are called in."""
    done = salt_run("state.orchestrate", "etcd_ha.orch.restore", f"pillar={json.dumps(words)}")
    assert done.returncode == 1 and says in done.stdout, done.stdout + done.stderr


def a_certificate(path, days):
    """A self-signed certificate at this path."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "etcd main CA")])
    began = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + datetime.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def test_a_minion_reads_its_certificates_by_salt_s_own_x509(minion_opts, tmp_path, monkeypatch):
    folder = tmp_path / "main"
    folder.mkdir()
    a_certificate(folder / "ca.crt", 31)
    (folder / "server.crt").write_text("no certificate")
    files = ("ca.crt", "ca.key", "server.crt", "gone.crt")
    mark = tmp_path / "host.json"
    mark.write_text(json.dumps({"files": {f"{folder}/{name}": "hash" for name in files}}))
    monkeypatch.setattr(etcd_ha_machine, "MARK_FILE", str(mark))
    opts = {**minion_opts, "id": "ca.example.com", "grains": {"id": "ca.example.com"}}
    told = salt.loader.minion_mods(opts)["etcd_ha.certificates"]()
    assert [one["purpose"] for one in told] == ["ca", "gone", "server"]
    ca, gone, broken = told
    assert ca == {
        "cluster": "main",
        "purpose": "ca",
        "path": f"{folder}/ca.crt",
        "subject": "CN=etcd main CA",
        "issuer": "CN=etcd main CA",
        "not_after": "2026-02-01 00:00:00",
    }
    assert gone["error"] == "the file is gone"
    assert broken["error"] and "not_after" not in broken


EMPTY = {"refusals": [], "steps": []}
SMALL = "nothing to defragment: the largest database is etcd1's: 12.0 MiB"


def rendered(plan, command="init"):
    """The states that an orchestrate makes of a plan: title -> (function, arguments)."""
    text = orchestrates.rendered(command, lambda *_, **__: plan, pillar={})
    states = {}
    for title, state in yaml.safe_load(text).items():
        ((function, given),) = state.items()
        states[title] = (function, {name: value for one in given for name, value in one.items()})
    return states


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (EMPTY, ("Every cluster is as its pillar says", None)),
        ({**EMPTY, "idle": []}, ("Every cluster is as its pillar says", None)),
        (
            {**EMPTY, "idle": [{"id": "main: nothing is done", "why": SMALL}]},
            ("main: nothing is done", SMALL),
        ),
    ],
)
def test_an_orchestrate_with_nothing_to_do_says_why_in_the_words_of_its_command(
    minion_opts, plan, told
):
    """A runner from before an update tells no ``idle``; what it refuses must be readable."""
    ((title, (function, given)),) = rendered(plan, "defrag").items()
    states = salt.loader.states(minion_opts, {}, salt.loader.utils(minion_opts), None)
    done = states[function](title, **given)
    assert done["result"] is True and done["changes"] == {}
    assert (title, given.get("comment")) == told and (not given or done["comment"] == told[1])


def test_each_cluster_is_a_chain_of_its_own_and_its_last_word_comes_last():
    step = {"kind": "function", "function": "x.y", "targets": ["a"], "arguments": {}}
    steps = [
        {**step, "id": "a: one", "cluster": "a", "after": ""},
        {**step, "id": "b: one", "cluster": "b", "after": ""},
        {**step, "id": "a: two", "cluster": "a", "after": "a: one"},
        {**step, "id": "b: two", "cluster": "b", "after": "b: one"},
    ]
    ends = [
        {"id": "a: result", "after": "a: two", "sound": True, "comment": "all 2 steps were taken"},
        {"id": "b: result", "after": "b: two", "sound": False, "comment": "waits: x: needs ca"},
        {"id": "d: result", "after": "", "sound": True, "comment": "in sync, nothing to do"},
    ]
    refusals = [{"id": "c: the plan is refused", "why": "no quorum"}]
    states = rendered({"refusals": refusals, "steps": steps, "idle": [], "ends": ends})
    required = {title: given.get("require", []) for title, (_, given) in states.items()}
    assert required == {
        "a: one": [],
        "b: one": [],
        "a: two": [{"salt": "a: one"}],
        "b: two": [{"salt": "b: one"}],
        "a: result": [{"salt": "a: two"}],
        "b: result": [{"salt": "b: two"}],
        "c: the plan is refused": [],
        "d: result": [],
    }
    # Whatever the master's own configuration says.
    assert {given["failhard"] for _, given in states.values()} == {False}
    last = {title for title, (_, given) in states.items() if given.get("order") == "last"}
    assert last == {"a: result", "b: result", "c: the plan is refused", "d: result"}
    functions = {title: function for title, (function, _) in states.items() if title in last}
    assert functions == {
        "a: result": "test.succeed_without_changes",
        "b: result": "test.fail_without_changes",
        "c: the plan is refused": "test.fail_without_changes",
        "d: result": "test.succeed_without_changes",
    }
