"""Starting etcd's unit, and why it did not start or does not stay."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import etcd_ha_common_systemd
import etcd_ha_etcd_log
from etcd_ha_common_process import ProgramError
from etcd_ha_common_systemd import Unit

# Lines of a start that are read, at most; etcd writes some hundred of them in a start.
LINES = 1000
# Starts by systemd (Restart=on-failure) within one wait after which no other one is waited for.
STARTS = 3
# Seconds between two calls of what is done beside a start.
BESIDE = 2


class StartError(RuntimeError):
    """etcd did not start, or does not stay; the text says why, as its own log has it."""


def start(verb: str, unit: str, timeout: float, beside: "Callable[[], None] | None" = None) -> None:
    """Start or restart etcd; with Type=notify it returns once a quorum was joined.

    ``verb`` is systemctl's, ``timeout`` in seconds. ``beside`` is called every other second until
    then; it must not raise. Raises StartError.
    """
    since, began = time.time(), time.monotonic()
    try:
        with _repeated(beside):
            etcd_ha_common_systemd.systemctl(verb, unit, timeout=timeout + 10)
    except ProgramError as err:
        took = time.monotonic() - began
        raise StartError(_sentence(unit, took, timeout, why(unit, since) or str(err))) from err


@contextlib.contextmanager
def _repeated(work: "Callable[[], None] | None") -> Iterator[None]:
    """Have this done again and again beside what is done meanwhile."""
    ended = threading.Event()

    def repeat() -> None:
        while work is not None and not ended.wait(BESIDE):
            work()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _sentence(unit: str, took: float, timeout: float, told: str) -> str:
    head = f"{unit} ended by itself in its start"
    if took >= timeout:
        head = f"{unit} was not ready after {took:.0f} s (start_timeout is {timeout:g} s)"
    return f"{head}: {told.rstrip('.')}. Look at: journalctl -u {unit}"


def why(unit: str, since: float) -> str:
    """Why the present start of a unit failed, in the decisive words of its log.

    The journal is that of the unit's present run; where systemd has just begun another one, of its
    runs since ``since`` (seconds since 1970). Empty where no log helps.
    """
    try:
        found = etcd_ha_common_systemd.unit(unit)
        own = etcd_ha_common_systemd.journal(unit, invocation=found.invocation, lines=LINES)
        told = etcd_ha_etcd_log.decisive(own) if found.invocation else ""
        if told:
            return told
        lines = etcd_ha_common_systemd.journal(unit, lines=LINES, form="short-unix", boot=True)
    except ProgramError as err:
        return f"its log cannot be read ({err})"
    return etcd_ha_etcd_log.decisive(etcd_ha_etcd_log.since(lines, since))


class Watched:
    """A unit during a wait: whether it has ended by itself meanwhile, or does so repeatedly."""

    def __init__(self, unit: str) -> None:
        self._unit, self._since = unit, time.time()
        self._runs: set[str] = set()

    def check(self) -> Unit:
        """Raise StartError where there is nothing to wait for any more."""
        found = etcd_ha_common_systemd.unit(self._unit)
        self._runs.add(found.invocation)
        if found.is_up and len(self._runs) < STARTS:
            return found
        what = "has ended by itself" if not found.is_up else "ends by itself again and again"
        told = why(self._unit, self._since) or f"systemd calls its result {found.result}"
        raise StartError(
            f"{self._unit} {what}: {told.rstrip('.')}. Look at: journalctl -u {self._unit}"
        )
