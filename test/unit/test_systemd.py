"""Units as systemd 247 to 257 tells them, and everything else that may come in the answer's place.

``systemd_answers`` holds what real releases printed: ``== CALL``, its output, ``rc CODE``. Its
``take.sh``, run by root on a host that is of no use, takes them from another release.
"""

import dataclasses
import pathlib
import re

import etcd_ha_backup
import etcd_ha_backup_job
import etcd_ha_common_process
import etcd_ha_common_systemd
import etcd_ha_data
import etcd_ha_faces
import pytest
import systemd_units
from etcd_ha_common_process import Done, ProgramError, ProgramMissing, ProgramTimeout
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import program
from salt.exceptions import CommandExecutionError

FOLDER = pathlib.Path(__file__).parent / "systemd_answers"
RELEASES = sorted(path.stem for path in FOLDER.glob("*.txt"))


def answers(release):
    """Call -> (output, exit code)."""
    text = (FOLDER / f"{release}.txt").read_text()
    found = re.findall(r"^== (.*)\n((?:.*\n)*?)rc (\d+)$", text, re.M)
    return {call: (out, int(code)) for call, out, code in found}


ANSWERS = {release: answers(release) for release in RELEASES}
# What each unit of the corpus was made to be: active, enabled, is_up, exists, and whether it has a
# process and a time at which it was started.
UNITS = {
    "running.service": (True, True, True, True, True, True),
    "failed.service": (False, False, False, True, False, True),
    "killed.service": (False, False, False, True, False, True),
    "missing.service": (False, False, False, True, False, True),
    "restarting.service": (False, False, True, True, False, True),
    "starting.service": (False, False, True, True, True, True),
    "stopping.service": (False, False, True, True, True, True),
    "reloading.service": (True, False, True, True, True, True),
    "ended.service": (True, False, True, True, False, True),
    "timedout.service": (False, False, False, True, False, True),
    "stopped.service": (False, False, False, True, False, False),
    "orphan.service": (True, False, True, False, True, True),
    "stale.service": (True, False, True, True, True, True),
    "template@x.service": (True, False, True, True, True, True),
    "masked.service": (False, False, False, True, False, False),
    "nope.service": (False, False, False, False, False, False),
    "stopped.timer": (True, True, True, True, False, False),
    "dbus.socket": (True, False, True, True, False, False),
    "multi-user.target": (True, False, True, True, False, False),
    "-.mount": (True, False, True, True, False, False),
    "system.slice": (True, False, True, True, False, False),
    "init.scope": (True, False, True, True, False, False),
}
RESULTS = {"failed": "exit-code", "killed": "signal", "timedout": "timeout", "running": "success"}


@pytest.fixture
def says(monkeypatch):
    """Have every program print this, and end with this exit code."""

    def made(out, code=0, err=""):
        def run(command, timeout, *, codes=(0,), **_):
            if code not in codes:
                raise ProgramError(command, f"exit code {code}: {err or out}", code)
            return Done(code, out, err)

        monkeypatch.setattr(etcd_ha_common_process, "run", run)
        return etcd_ha_common_systemd

    return made


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("release", RELEASES)
def test_a_unit_is_what_this_release_says(says, release, name):
    found = says(*ANSWERS[release][name]).unit(name)
    facts = found.active, found.enabled, found.is_up, found.exists
    assert (*facts, found.pid > 0, found.started > 0) == UNITS[name]
    assert found.result == RESULTS.get(name.partition(".")[0], found.result)
    assert found.stale is (name == "stale.service")
    ran = found.started > 0 or name in ("stopped.timer", "dbus.socket", "multi-user.target")
    assert bool(found.invocation) is ran


@pytest.mark.parametrize("release", RELEASES)
def test_a_time_is_utc(says, release):
    out, _ = ANSWERS[release]["running.service"]
    day, time = re.search(r"Timestamp=Mon 2026-11-(\d\d) (\d\d:\d\d:\d\d) UTC", out).groups()
    hours, minutes, seconds = map(int, time.split(":"))
    midnight = 1795996800 + 86400 * (int(day) - 30)
    assert says(out).unit("running.service").started == midnight + 3600 * hours + 60 * minutes + (
        seconds
    )


@pytest.mark.parametrize("text", ["", "n/a", "[not set]", "0"])
def test_never_started_is_written_in_several_ways(says, text):
    out = systemd_units.shown(systemd_units.DOWN).replace("Timestamp=", f"Timestamp={text}")
    assert says(out).unit("etcd.service").started == 0


WHOLE = systemd_units.shown(systemd_units.UP)
LINES = WHOLE.splitlines(keepends=True)


@pytest.mark.parametrize("missing", range(len(LINES)))
def test_an_answer_that_lacks_a_property_is_an_error(says, missing):
    name = LINES[missing].partition("=")[0]
    systemd = says("".join(LINES[:missing] + LINES[missing + 1 :]))
    with pytest.raises(ProgramError, match=f"the answer lacks {name}"):
        systemd.unit("etcd.service")


@pytest.mark.parametrize("size", range(0, len(WHOLE) - len("success\n"), 3))
def test_an_answer_that_was_cut_is_an_error(says, size):
    with pytest.raises(ProgramError, match=r"^systemctl show .* failed: "):
        says(WHOLE[:size]).unit("etcd.service")


ODD = [
    ("ActiveState", ""),
    ("ActiveState", "aktiv"),
    ("ActiveState", "unknown"),
    ("LoadState", ""),
    ("LoadState", "geladen"),
    ("NeedDaemonReload", ""),
    ("NeedDaemonReload", "nein"),
    ("NeedDaemonReload", "true"),
    ("MainPID", ""),
    ("MainPID", "-1"),
    ("MainPID", "7x"),
    ("MainPID", "9" * 5000),
    ("InvocationID", "zz"),
    ("FragmentPath", "etc/systemd"),
    ("UnitFileState", "ENABLED?"),
    ("SubState", "läuft"),
    ("Result", "0"),
    ("ExecMainStartTimestamp", "@1796000000"),
    ("ExecMainStartTimestamp", "Mo 2026-11-30 08:06:18 UTC"),
    ("ExecMainStartTimestamp", "Mon 2026-11-30 08:06:18 CET"),
    ("ExecMainStartTimestamp", "Mon 30.11.2026 08:06:18 UTC"),
    ("ExecMainStartTimestamp", "Mon 2026-13-30 08:06:18 UTC"),
    ("ExecMainStartTimestamp", "yesterday"),
]


@pytest.mark.parametrize(("name", "value"), ODD)
def test_a_value_of_another_form_is_an_error_that_names_it(says, name, value):
    out = re.sub(f"^{name}=.*$", f"{name}={value}", WHOLE, flags=re.M)
    with pytest.raises(ProgramError, match=name):
        says(out).unit("etcd.service")


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(text=st.text(), at=st.integers(0, len(WHOLE)), size=st.integers(0, 40))
def test_any_answer_is_a_unit_or_an_error(text, at, size):
    found = dict(line.partition("=")[::2] for line in LINES)
    spoilt = WHOLE[:at] + text + WHOLE[at + size :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(etcd_ha_common_process, "run", lambda *_, **__: Done(0, spoilt, ""))
        try:
            unit = etcd_ha_common_systemd.unit("etcd.service")
        except ProgramError:
            return
    values = dict(line.partition("=")[::2] for line in spoilt.splitlines() if "=" in line)
    assert set(found) <= set(values)
    assert unit.state == values["ActiveState"] and str(unit.pid) == values["MainPID"].lstrip(
        "0"
    ) + ("" if unit.pid else "0")


@pytest.mark.parametrize(
    "err",
    [
        "Failed to connect to bus: No such file or directory",
        "System has not been booted with systemd as init system (PID 1). Can't operate.",
        "systemctl: unrecognized option '--timestamp=unix'",
        "Failed to get properties: Connection timed out",
    ],
)
def test_a_failure_is_no_stopped_unit(says, err):
    """So it was with --timestamp=unix on systemd below 251: exit code 1, and no output."""
    with pytest.raises(ProgramError, match=re.escape(err)):
        says("", 1, err).unit("etcd.service")
    with pytest.raises(CommandExecutionError, match=r"Try: systemctl status etcd\.service"):
        etcd_ha_faces.unit("etcd.service")


def test_the_options_are_those_that_every_release_knows(monkeypatch):
    ran = []

    def run(command, timeout, **more):
        ran.append((command, more))
        return Done(0, WHOLE, "")

    monkeypatch.setattr(etcd_ha_common_process, "run", run)
    etcd_ha_common_systemd.unit("etcd.service")
    ((command, more),) = ran
    assert command[:2] == ["systemctl", "show"] and command[3:] == ["--", "etcd.service"]
    assert [word.partition("=")[0] for word in command[2:] if word[0] == "-"] == [
        "--property",
        "--",
    ]
    assert more["environment"]["TZ"] == "UTC"


# By a real program


@pytest.fixture
def systemctl(tmp_path, monkeypatch):
    """A systemctl that is this Python text; without any there is no such program."""

    def made(source=None):
        folder = tmp_path / "bin"
        folder.mkdir()
        if source is not None:
            program(folder, "systemctl", source)
        variables = {**etcd_ha_common_process.ENVIRONMENT, "PATH": str(folder)}
        monkeypatch.setattr(etcd_ha_common_process, "ENVIRONMENT", variables)

    return made


@pytest.mark.parametrize(
    ("source", "kind", "told"),
    [
        (None, ProgramMissing, "systemctl is not installed"),
        ("sys.stderr.write('refused'); sys.exit(1)", ProgramError, "exit code 1: refused"),
        ("time.sleep(60)", ProgramTimeout, "within 1 s"),
        ("os.kill(os.getpid(), 9)", ProgramError, "killed by signal 9"),
        (
            f"print({WHOLE!r}); sys.stdout.flush(); os.kill(os.getpid(), 11)",
            ProgramError,
            "signal 11",
        ),
        ("pass", ProgramError, "the answer lacks"),
        ("print('Aktiv: ja')", ProgramError, "the answer lacks"),
    ],
)
def test_whatever_happens_to_systemctl_is_an_error_with_its_cause(systemctl, source, kind, told):
    systemctl(source)
    with pytest.raises(kind, match=told):
        etcd_ha_common_systemd.unit("etcd.service", timeout=1 if kind is ProgramTimeout else 30)


def test_a_sound_one_is_read_whatever_the_caller_s_language_is(systemctl, monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    wanted = {"LC_ALL": "C", "TZ": "UTC"}
    systemctl(f"assert {wanted!r}.items() <= os.environ.items(); print({WHOLE!r})")
    assert etcd_ha_common_systemd.unit("etcd.service") == systemd_units.UP


# Orders


@pytest.mark.parametrize("order", ["stop", "disable", "reset-failed"])
@pytest.mark.parametrize("release", RELEASES)
def test_an_order_that_was_refused_is_an_error(says, release, order):
    out, code = ANSWERS[release][f"{order} nope"]
    assert code != 0
    with pytest.raises(ProgramError, match=r"nope\.service"):
        says(out, code).systemctl(order, "nope.service")


@pytest.mark.parametrize(
    ("unit", "error", "raises"),
    [
        (systemd_units.DOWN, ProgramError(["systemctl"], "not loaded", 1), False),
        (systemd_units.unit(state="failed"), ProgramError(["systemctl"], "denied", 1), True),
        (systemd_units.DOWN, ProgramTimeout(["systemctl"], "hangs"), True),
        (systemd_units.DOWN, ProgramMissing(["systemctl"], "gone"), True),
    ],
)
def test_only_a_unit_that_has_not_failed_needs_no_reset(monkeypatch, unit, error, raises):
    def refuse(*_, **__):
        raise error

    systemd_units.told(monkeypatch, unit)
    monkeypatch.setattr(etcd_ha_common_systemd, "systemctl", refuse)
    if raises:
        with pytest.raises(ProgramError):
            etcd_ha_common_systemd.reset_failed("etcd.service")
    else:
        etcd_ha_common_systemd.reset_failed("etcd.service")


@pytest.mark.parametrize("unit", [systemd_units.UP, systemd_units.unit(state="activating")])
def test_a_stop_that_systemd_does_not_answer_is_not_taken_for_done(monkeypatch, unit):
    def fails(*_, **__):
        raise ProgramTimeout(["systemctl"], "hangs")

    systemd_units.told(monkeypatch, unit)
    monkeypatch.setattr(etcd_ha_common_systemd, "systemctl", fails)
    with pytest.raises(ProgramTimeout):
        etcd_ha_data.stop(1)
    monkeypatch.setattr(etcd_ha_common_systemd, "unit", fails)
    with pytest.raises(ProgramTimeout):
        etcd_ha_data.stop(1)


def test_a_unit_that_runs_while_its_file_is_gone_is_stopped(monkeypatch):
    said = []
    orphan = dataclasses.replace(systemd_units.UP, loaded="not-found")
    systemd_units.told(monkeypatch, orphan, orphan, systemd_units.NOT_FOUND)
    monkeypatch.setattr(etcd_ha_common_systemd, "systemctl", lambda *w, **_: said.append(w[0]))
    etcd_ha_data.stop(5)
    assert said == ["stop"]
    etcd_ha_data.stop(5)
    assert said == ["stop"], "what is not there is not stopped"


# Schedules


@pytest.mark.parametrize("release", RELEASES)
def test_a_schedule_s_times_are_read_from_every_release(says, release):
    """From 254 on it is "Iteration #2", and was "Iter. #2" before."""
    systemd = says(*ANSWERS[release]["calendar"])
    assert etcd_ha_backup.intervals(systemd.calendar("*-*-* 02:30:00")) == [86400.0] * 5


@pytest.mark.parametrize("release", RELEASES)
def test_a_schedule_that_is_none_is_an_error_by_its_code(says, release):
    with pytest.raises(ProgramError, match="Failed to parse") as caught:
        says(*ANSWERS[release]["calendar bad"]).calendar("dayly")
    assert caught.value.code == 1


@pytest.mark.parametrize("text", ["", "Next", "Naechster Lauf: Mo", "Next elapse: Mon 30.11.2026"])
def test_times_of_another_form_are_an_error_and_a_backup_is_due(says, text):
    told = []
    says(text)
    with pytest.raises(ValueError, match="it printed"):
        etcd_ha_backup.intervals(text)
    assert etcd_ha_backup_job._interval("daily", told.append) == 0.0
    assert len(told) == 1 and "counts as due" in told[0]


def test_a_schedule_that_never_comes_again_has_no_interval():
    assert etcd_ha_backup.intervals("Normalized form: 2020-01-01\n    Next elapse: never\n") == []


# The journal


@pytest.mark.parametrize("release", RELEASES)
def test_a_journal_is_empty_only_where_nothing_was_logged(says, release):
    assert says(*ANSWERS[release]["journal none"]).journal("nope.service") == ""
    assert "status=1" in says(*ANSWERS[release]["journal failed"]).journal("failed.service")
    with pytest.raises(ProgramError, match="no such boot"):
        says("", 1, "no such boot").journal("etcd.service", boot=True)


def test_what_is_asked_of_the_journal(monkeypatch):
    ran = []
    monkeypatch.setattr(
        etcd_ha_common_process,
        "run",
        lambda command, *_, **__: ran.append(command) or Done(0, "", ""),
    )
    etcd_ha_common_systemd.journal("a.service", lines=5)
    etcd_ha_common_systemd.journal("a.service", invocation="5" * 32, boot=True, form="json")
    common = ["journalctl", "--no-pager", "--quiet", "-n"]
    assert ran[0] == [*common, "5", "-o", "cat", "-u", "a.service"]
    one = "5" * 32
    matches = [f"_SYSTEMD_INVOCATION_ID={one}", "+", f"INVOCATION_ID={one}"]
    assert ran[1] == [*common, "100", "-o", "json", "-b", *matches]


# As systemd 252 prints them; 247 to 257 differ in the last column, and in its blanks.
MOUNTS = """\
proc-sys-fs-binfmt_misc.automount static   -
data.automount                    enabled  enabled
data.mount                        static   -
srv-a\\x2db-c\\x20d.mount       generated -
-.mount                           generated -
mnt-\\xc3\\xa4.mount             enabled
mnt-off.mount                     masked   enabled
mnt-now.mount                     masked-runtime disabled
"""


# What stands in each answer that is whole.
ALWAYS = "basic.target static -\n"


def listing(monkeypatch, text):
    calls = []

    def run(command, timeout, **_):
        calls.append(command)
        return Done(0, text, "")

    monkeypatch.setattr(etcd_ha_common_process, "run", run)
    return calls


def test_mount_points_are_read_from_the_names_of_units(monkeypatch):
    calls = listing(monkeypatch, MOUNTS + ALWAYS)
    assert etcd_ha_common_systemd.mount_points() == {
        "/proc/sys/fs/binfmt_misc": "proc-sys-fs-binfmt_misc.automount",
        "/data": "data.mount",
        "/srv/a-b/c d": r"srv-a\x2db-c\x20d.mount",
        "/": "-.mount",
        "/mnt/ä": r"mnt-\xc3\xa4.mount",
    }
    (command,) = calls
    assert {"*.mount", "*.automount"} < set(command), "of all unit files it takes ten times as long"
    listing(monkeypatch, ALWAYS)
    assert etcd_ha_common_systemd.mount_points() == {}
    listing(monkeypatch, "")
    with pytest.raises(ProgramError, match=r"the answer lacks basic\.target"):
        etcd_ha_common_systemd.mount_points()


@pytest.mark.parametrize(
    "text", ["data.mount\n", "data.service enabled\n", "0 unit files listed.\n"]
)
def test_mount_units_of_another_form_are_an_error(monkeypatch, text):
    listing(monkeypatch, ALWAYS + text)
    with pytest.raises(ProgramError, match="a line of the answer"):
        etcd_ha_common_systemd.mount_points()
