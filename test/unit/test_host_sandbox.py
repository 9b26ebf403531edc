"""The unit in which etcd runs on a copy: hardened, alone, and no second incarnation."""

import os
import pathlib
import re
import shlex
import subprocess

import etcd_ha_host_sandbox
import pytest
from etcd_ha_host_sandbox import State

ROOT = pathlib.Path(__file__).resolve().parents[2]
OWN = os.readlink("/proc/self/ns/net")


def text(command=("/opt/etcd/etcd", "--name=a"), namespace="net:[1]"):
    return etcd_ha_host_sandbox.unit_text(
        list(command),
        ("etcd", "etcd"),
        ["/d/examining", "/w/examining"],
        ["/d/member"],
        namespace,
        90,
    )


def lines(found):
    return [line for line in found.splitlines() if "=" in line and not line.startswith("#")]


def test_it_is_as_hardened_as_etcd_s_own_unit():
    """A line that the one gets, the other gets too."""
    unit = (ROOT / "etcd_ha" / "unit" / "etcd.service.jinja").read_text()
    own = unit[unit.index("UMask=") : unit.index("[Install]")]
    wanted = [line for line in lines(own) if not line.startswith("ReadWritePaths=")]
    assert lines(etcd_ha_host_sandbox.HARDENING) == wanted
    assert set(wanted) <= set(lines(text()))


def test_it_has_no_network_and_sees_the_copy_alone():
    found = lines(text())
    assert "PrivateNetwork=yes" in found and "IPAddressDeny=any" in found
    assert "ReadWritePaths=/d/examining /w/examining" in found
    assert "InaccessiblePaths=-/d/member" in found and "Restart=no" in found
    assert "RuntimeMaxSec=90" in found, "an interrupted run leaves nothing behind for ever"


def started(namespace, *command):
    """Run what the unit starts, as systemd does: its words without quotes and escapes."""
    (line,) = [one for one in lines(text(command, namespace)) if one.startswith("ExecStart=")]
    words = shlex.split(re.sub("([$%])\\1", "\\1", line.removeprefix("ExecStart=")))
    done = subprocess.run(
        words, capture_output=True, text=True, env={"ETCD_NAME": "x", "PATH": "/bin:/usr/bin"}
    )
    return done.returncode, done.stdout


def test_nothing_is_started_in_the_host_s_own_network():
    assert started(OWN, "/bin/echo", "etcd") == (etcd_ha_host_sandbox.NO_NAMESPACE, "")
    assert started("net:[1]", "/bin/echo", "etcd") == (0, "etcd\n")


def test_a_program_that_is_missing_is_told_from_one_that_failed():
    assert started("net:[1]", "/nowhere/etcd")[0] in etcd_ha_host_sandbox.NO_PROGRAM


def test_no_variable_of_the_manager_reaches_etcd():
    assert "ETCD_NAME" not in started("net:[1]", "/usr/bin/env")[1]


@pytest.mark.parametrize("word", ["a b", "100%", "$HOME", 'say "x"', "back\\slash"])
def test_words_reach_it_as_they_are(word):
    assert started("net:[1]", "/bin/echo", word) == (0, f"{word}\n")


@pytest.mark.parametrize(
    "state, by_itself",
    [
        (State(False, code=1), True),
        (State(False, code=2), True),
        (State(False, code=0), False),
        (State(False, code=77), False),
        (State(False, code=127), False),
        (State(False, code=203), False),
        (State(False, code=226), False),
        (State(False, signal=9), False),
        (State(False, signal=15), False),
        (State(False, signal=6), True),
        (State(False, signal=7), True),
        (State(True), False),
    ],
)
def test_only_its_own_end_counts(state, by_itself):
    assert state.by_itself is by_itself


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """Where its files are, and what systemctl is told."""
    for name in ("HELD", "DROP_IN", "UNIT_FILE"):
        path = tmp_path / "run" / name / pathlib.Path(getattr(etcd_ha_host_sandbox, name)).name
        monkeypatch.setattr(etcd_ha_host_sandbox, name, str(path))
    said = []
    monkeypatch.setattr(
        etcd_ha_host_sandbox, "systemctl", lambda *words, timeout=60: said.append(words)
    )
    monkeypatch.setattr(
        etcd_ha_host_sandbox.etcd_ha_common_systemd,
        "reset_failed",
        lambda name: said.append(("reset-failed", name)),
    )
    return said


def test_the_unit_is_stopped_then_held_and_released_whole(systemd):
    """One that is started again and again must not run into the drop-in: its end is quoted."""
    etcd_ha_host_sandbox.hold()
    drop_in = pathlib.Path(etcd_ha_host_sandbox.DROP_IN)
    assert drop_in.read_text() == f"[Unit]\nAssertPathExists=!{etcd_ha_host_sandbox.HELD}\n"
    assert os.path.exists(etcd_ha_host_sandbox.HELD)
    stop = ("stop", "etcd.service")
    assert systemd == [stop, ("daemon-reload",), stop]
    etcd_ha_host_sandbox.start(text())
    assert etcd_ha_host_sandbox.is_left()
    etcd_ha_host_sandbox.release()
    assert not etcd_ha_host_sandbox.is_left() and not drop_in.parent.exists()
    assert systemd[-3:] == [
        ("stop", etcd_ha_host_sandbox.NAME),
        ("reset-failed", etcd_ha_host_sandbox.NAME),
        ("daemon-reload",),
    ]
    systemd.clear()
    etcd_ha_host_sandbox.release()
    assert systemd == [], "where nothing is left, nothing is done"


def test_drop_ins_of_others_stay(systemd):
    etcd_ha_host_sandbox.hold()
    other = pathlib.Path(etcd_ha_host_sandbox.DROP_IN).parent / "mine.conf"
    other.write_text("[Unit]\n")
    etcd_ha_host_sandbox.release()
    assert other.exists()
