"""Unknown is not no: each public function, with each program that it runs failing in each way.

Whatever it returns or raises then must name the cause. Nothing may be reported as stopped, empty or
absent because nobody could tell.
"""

import os
import tempfile

import etcd_ha_common_process
import pytest
import salt.exceptions
import systemd_units
from etcd_ha_common_process import Done, ProgramError, ProgramMissing, ProgramTimeout
from salt.exceptions import CommandExecutionError, SaltInvocationError
from test_bad_arguments import arguments, face, functions, sealed  # noqa: F401

# Fault -> what of it must be said.
FAULTS = {
    "missing": ("planted", "is not installed"),
    "exits 1": ("planted",),
    "hangs": ("planted", "no answer within"),
    # A snapshot that was not made is missed as a file.
    "another form": ("planted", "the answer lacks", "No such file"),
}
# Where nothing is lost, because what is missing is what was asked for.
NOT_THERE = {("firewalld", "firewall-cmd"): "firewalld does not run"}
# Functions to which what a program prints is nothing, since its exit code is the whole answer.
BY_CODE = {
    ("readdress", "etcdctl"),
    ("leave_v2", "etcdutl"),
    # Orders to systemd; of a schedule, whether it is understood.
    ("timer_kept", "systemctl"),
    ("timer_kept", "systemd-analyze"),
    ("schedule_understood", "systemd-analyze"),
    # A log may hold any text; what decides nothing is not quoted, and where to look is said.
    ("promote", "journalctl"),
    # Its lists may hold any names.
    ("firewalld", "firewall-cmd"),
}


def failing(command, codes, fault):
    """What becomes of a program with this fault."""
    if fault == "missing":
        raise ProgramMissing(command, "planted")
    if fault == "hangs":
        raise ProgramTimeout(command, "planted")
    if fault == "another form":
        return Done(0, "planted nonsense\n", "")
    if 1 not in codes:
        raise ProgramError(command, "exit code 1: planted", 1)
    return Done(1, "", "Error: planted")


@pytest.fixture
def programs(sealed, monkeypatch, tmp_path):  # noqa: F811
    """The programs that were run; ``broken`` is the one that fails, and how."""
    ran, broken = [], {}
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def run(command, *_, codes=(0,), **__):
        name = os.path.basename(command[0])
        ran.append(name)
        if name in broken:
            return failing(list(command), codes, broken[name])
        if name == "systemctl" and "show" in command:
            return Done(0, systemd_units.shown(systemd_units.DOWN), "")
        if name == "systemd-analyze":
            return Done(0, "Next elapse: never\n", "")
        if name == "ip":
            return Done(0, "[]", "")
        if 1 not in codes:
            raise ProgramError(list(command), "exit code 1: refused", 1)
        return Done(1, "", "Error: refused")

    monkeypatch.setattr(etcd_ha_common_process, "run", run)
    monkeypatch.setattr(etcd_ha_common_process, "started", run)
    ran.clear()
    return ran, broken


def told(function, given):
    """All that comes of a call, as text."""
    try:
        return repr(function(**given))
    except (CommandExecutionError, SaltInvocationError, salt.exceptions.NotImplemented) as err:
        return f"error: {err}"


TRIED = []


@pytest.mark.parametrize(("path", "name"), functions())
def test_a_program_that_fails_is_named_with_its_cause(face, programs, tmp_path, path, name):  # noqa: F811
    ran, broken = programs
    function, given = arguments(face(path), name)
    told(function, given)
    for program in sorted(set(ran)):
        for fault, causes in FAULTS.items():
            if fault == "another form" and (name, program) in BY_CODE:
                continue
            broken.clear()
            broken[program] = fault
            # What an earlier call has left is not to be found right by this one.
            for left in (tmp_path / "file", tmp_path / "main.json"):
                left.unlink(missing_ok=True)
            function, given = arguments(face(path), name)
            found = told(function, given)
            TRIED.append((path, name, program, fault))
            if fault == "missing" and (name, program) in NOT_THERE:
                causes = (NOT_THERE[name, program],)
            assert any(one in found for one in causes), (program, fault, found[:600])


def test_enough_was_tried():
    """Each module and state that runs programs is among those that were seen to run one."""
    assert {"systemctl", "etcdctl", "etcdutl", "firewall-cmd"} <= {one[2] for one in TRIED} or (
        not TRIED
    )
