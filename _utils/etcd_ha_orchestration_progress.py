"""Lines while an orchestrate runs: which step begins, and of which hosts it waits.

``state.orchestrate`` shows nothing until all steps have passed. Salt fires an event as each state
of it begins (``salt/run/JID/args``), as a job goes out to minions (``salt/job/JID/new``), and as
each minion has answered (``salt/job/JID/ret/MINION``):
https://docs.saltproject.io/en/latest/topics/event/master_events.html
"""

import atexit
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import etcd_ha_orchestration_end
from etcd_ha_common_text import few

# Seconds after which a step that still runs is named again.
EVERY = 20.0
# Seconds in which the result of an orchestrate that has ended is here; Ctrl-C brings none.
END_TIMEOUT = 2.0
# What a step that runs on the master alone is called in its event.
_RUNNERS = {
    "verify": "etcd_ha.verify",
    "remember": "etcd_ha.remember",
    "forget": "etcd_ha.forget",
    "again": "state.orchestrate",
}

Event = tuple[str, Mapping[str, Any]]

log = logging.getLogger(__name__)


@dataclass
class _Running:
    title: str
    hosts: frozenset[str]
    began: float
    said: float
    job: str = ""
    answered: set[str] = field(default_factory=set)


class Progress:
    """What the master's events say of the steps of one plan; ``now`` are seconds of any clock."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = list(rows)
        self._running: _Running | None = None
        # The id of the orchestrate that runs these steps, once one has begun.
        self.job = ""

    def line(self, event: Event, now: float) -> str:
        """What an event has to say to people; "" where it is nothing new."""
        tag, data = event
        parts = tag.split("/")
        if parts[:2] == ["salt", "run"] and parts[-1] == "args":
            return self._begins(parts[2], data, now)
        if parts[:2] == ["salt", "job"] and self._running:
            self._follow(parts, data)
        return ""

    def still(self, now: float) -> str:
        """What still runs, where that was not said for a while; else ""."""
        one = self._running
        if not one or now - one.said < EVERY:
            return ""
        one.said = now
        waited = sorted(one.hosts - one.answered) if one.job else []
        of = f", waiting for {few(waited)}" if waited else ""
        return f"{one.title}: still at work after {now - one.began:.0f} s{of}"

    def _begins(self, job: str, data: Mapping[str, Any], now: float) -> str:
        row = next((row for row in self._rows if _is(row, data)), None)
        if row is None:
            return ""
        self._rows.remove(row)
        self.job = job
        title = str(row.get("title", row["id"]))
        self._running = _Running(title, frozenset(row.get("targets", ())), now, now)
        return title

    def _follow(self, parts: Sequence[str], data: Mapping[str, Any]) -> None:
        one = self._running
        assert one
        if parts[3:] == ["new"] and not one.job and set(data.get("minions", ())) == one.hosts:
            one.job = parts[2]
        elif parts[3:4] == ["ret"] and parts[2] == one.job:
            one.answered.add(str(data.get("id", "")))


def _is(row: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """Whether this event is of this step, by what saltmod and saltutil fire."""
    kind, name = row["kind"], data.get("name")
    if data.get("type") == "state":
        return bool(kind == "state" and name == row.get("title", row["id"]))
    if data.get("type") == "function":
        same = kind == "function" and name == row["function"]
        return bool(same and _list(data.get("tgt")) == list(row["targets"]))
    if data.get("type") != "runner" or name != _RUNNERS.get(kind):
        return False
    kwargs = data.get("kwargs") or {}
    asked = kwargs.get("cluster") or (kwargs.get("pillar") or {}).get("cluster")
    return bool(asked == row["cluster"])


def _list(targets: Any) -> list[Any]:
    return list(targets) if isinstance(targets, Iterable) else []


def follow(
    progress: Progress,
    events: Iterator[Event | None],
    tell: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Say each line as it comes; ``events`` gives None where none came for a moment, and ends."""
    for event in events:
        now = clock()
        said = progress.line(event, now) if event else ""
        said = said or progress.still(now)
        if said:
            tell(f"{time.strftime('%H:%M:%S')}  {said}")


class Follower:
    """One thread that follows the steps of the plan that runs now; a later plan takes it over.

    ``at_exit`` has a function called as the process ends: once Salt has printed all states, a
    summary of them is what people see last.
    """

    def __init__(self, at_exit: Callable[[Callable[[], None]], Any] | None = None) -> None:
        self._ended = threading.Event()
        self._at_exit = at_exit
        self._progress = Progress(())
        self._returned: Any = None
        self._has_returned = threading.Event()

    def start(
        self,
        rows: Sequence[Mapping[str, Any]],
        listen: Callable[[], Iterator[Event | None]],
        tell: Callable[[str], None],
    ) -> None:
        """Follow these rows from now on. The process's end is the thread's end."""
        if not rows:
            return
        self._ended.set()
        self._ended = ended = threading.Event()
        self._progress = progress = Progress(rows)
        if self._at_exit:
            self._at_exit(lambda: self.end(tell))
            self._at_exit = None

        def run() -> None:
            try:
                follow(progress, self._heard(_while(listen(), ended)), tell)
            except Exception as err:
                # These lines are a help; the orchestrate does without them.
                log.warning("the steps cannot be shown as they run: %r", err)

        threading.Thread(target=run, name="etcd_ha progress", daemon=True).start()

    def end(self, tell: Callable[[str], None], wait: float = END_TIMEOUT) -> None:
        """Show the summary of the orchestrate whose steps were followed; nothing without one."""
        if self._progress.job and self._has_returned.wait(wait):
            told = etcd_ha_orchestration_end.summary(self._returned)
            if told:
                tell(f"\n{told}")

    def _heard(self, events: Iterator[Event | None]) -> Iterator[Event | None]:
        """The same events; the one with the result of the orchestrate is kept."""
        for event in events:
            yield event
            job = self._progress.job
            if event and job and event[0] == f"salt/run/{job}/ret":
                self._returned = event[1].get("return")
                self._has_returned.set()


def _while(events: Iterator[Event | None], ended: threading.Event) -> Iterator[Event | None]:
    for event in events:
        if ended.is_set():
            return
        yield event


# Salt loads a runner anew for an orchestrate within an orchestrate; this file it imports once.
FOLLOWER = Follower(atexit.register)
