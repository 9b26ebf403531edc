"""Starts that fail are told by the decisive words, and a unit that has ended is not waited for."""

import threading
import time

import etcd_ha_common_systemd
import etcd_ha_common_wait
import etcd_ha_host_start
import pytest
import systemd_units
from etcd_ha_common_process import ProgramError
from systemd_units import DOWN, UP, unit

FATAL = '{"level":"fatal","msg":"listener failed","error":"bind: address already in use"}\n'
FRAMES = "goroutine 1 [running]:\nmain.main()\n\t/x.go:3\n"


@pytest.fixture
def journal(monkeypatch):
    """Hand out the log of a run, and what stands in the journal of all; tells what was asked."""
    asked = []

    def given(own="", everything=""):
        def read(name, *, invocation="", form="cat", **more):
            asked.append(invocation)
            return everything if form == "short-unix" else own if invocation else "of another run"

        monkeypatch.setattr(etcd_ha_common_systemd, "journal", read)
        return asked

    return given


def refuse(monkeypatch):
    def systemctl(*words, **_):
        raise ProgramError(["systemctl", *words], "exit code 1: Job failed", 1)

    monkeypatch.setattr(etcd_ha_common_systemd, "systemctl", systemctl)


def test_the_present_run_s_log_decides_and_not_its_last_lines(monkeypatch, journal):
    refuse(monkeypatch)
    systemd_units.told(monkeypatch, unit(state="failed", invocation="5" * 32))
    asked = journal(own=FATAL + FRAMES)
    with pytest.raises(etcd_ha_host_start.StartError) as err:
        etcd_ha_host_start.start("start", "etcd.service", 120)
    told = str(err.value)
    assert told.startswith("etcd.service ended by itself in its start: listener failed; error:")
    assert told.endswith("address already in use. Look at: journalctl -u etcd.service")
    assert "goroutine" not in told and asked == ["5" * 32]


def test_where_systemd_has_begun_another_run_the_one_before_tells(monkeypatch, journal):
    """It starts anew after a second; that run has logged nothing yet."""
    systemd_units.told(monkeypatch, unit(state="activating", pid=8, invocation="6" * 32))
    journal(own="Starting etcd.service\n", everything=f"100.5 etcd1 etcd[7]: {FATAL}")
    told = etcd_ha_host_start.why("etcd.service", 100)
    assert told == "listener failed; error: bind: address already in use"
    assert etcd_ha_host_start.why("etcd.service", 101) == ""


def test_without_a_word_in_the_log_systemd_s_stands(monkeypatch, journal):
    refuse(monkeypatch)
    systemd_units.told(monkeypatch, DOWN)
    journal()
    with pytest.raises(etcd_ha_host_start.StartError, match="Job failed"):
        etcd_ha_host_start.start("start", "etcd.service", 120)


def test_a_log_that_cannot_be_read_is_said(monkeypatch):
    def read(*_, **__):
        raise ProgramError(["journalctl"], "it is not there")

    systemd_units.told(monkeypatch, DOWN)
    monkeypatch.setattr(etcd_ha_common_systemd, "journal", read)
    assert "cannot be read" in etcd_ha_host_start.why("etcd.service", 0)


def test_who_has_ended_is_not_waited_for(monkeypatch, journal):
    journal(own=FATAL)
    watched = etcd_ha_host_start.Watched("etcd.service")
    systemd_units.told(monkeypatch, UP)
    assert watched.check() == UP
    systemd_units.told(monkeypatch, unit(state="failed", invocation="5" * 32))
    with pytest.raises(etcd_ha_host_start.StartError, match="has ended by itself: listener failed"):
        watched.check()


def test_who_ends_again_and_again_is_not_waited_for(monkeypatch, journal):
    """systemd starts it anew each time, so it is never seen as stopped."""
    journal(own=FATAL)
    watched = etcd_ha_host_start.Watched("etcd.service")
    runs = [unit(pid=n, state="activating", invocation=str(n) * 32) for n in (1, 2, 3)]
    systemd_units.told(monkeypatch, *runs)
    watched.check()
    watched.check()
    with pytest.raises(etcd_ha_host_start.StartError, match="again and again: listener failed"):
        watched.check()


# Waiting


def test_until_returns_what_it_finds():
    looks = iter([(None, "a"), (None, "b"), (0, "")])
    assert etcd_ha_common_wait.until("it", 9, lambda: next(looks), sleep=lambda _: None) == 0


def test_until_says_what_it_waited_for_and_what_it_saw():
    now = [0.0]
    deadline = etcd_ha_common_wait.Deadline(2, lambda: now[0])

    def sleep(seconds):
        now[0] += seconds

    with pytest.raises(etcd_ha_common_wait.TimedOut) as err:
        etcd_ha_common_wait.until("the moon", deadline, lambda: (None, "clouds"), 0.5, sleep)
    assert str(err.value) == "waited 2 s for the moon (clouds)"
    assert 2 <= now[0] < 2.6
    assert deadline.left() == 0 and deadline.left(5) == 5


def test_several_waits_share_one_end():
    now = [0.0]
    deadline = etcd_ha_common_wait.Deadline(10, lambda: now[0])
    now[0] = 9
    assert deadline.left() == 1 and not deadline.is_over()


def test_what_is_done_beside_a_start_is_done_until_it_ends(monkeypatch):
    """In a cluster in which nobody writes, a member waits for an entry of the log."""
    monkeypatch.setattr(etcd_ha_host_start, "BESIDE", 0.01)
    enough = threading.Event()
    calls = []

    def beside():
        calls.append(1)
        if len(calls) == 3:
            enough.set()

    monkeypatch.setattr(
        etcd_ha_common_systemd, "systemctl", lambda *_, **__: enough.wait(5) or pytest.fail("not")
    )
    etcd_ha_host_start.start("start", "etcd.service", 5, beside)
    told = len(calls)
    time.sleep(0.05)
    assert len(calls) == told >= 3
