"""What a log of etcd says of a start that failed: the lines that decide, in few words.

The last lines are rarely those: after a panic they are Go's stack frames, after a fatal record
systemd's own. Text is only quoted here; nothing is concluded from it about data.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

# Characters of what is quoted, at most.
LONGEST = 600
# What a fatal record of zap has beside its message, in the order in which it helps.
_FIELDS = ("error", "reason", "err", "environment-variable", "path", "address")
# What etcd says before any error of its start, whatever it is.
_EMPTY = ("discovery failed",)
# What follows from any end.
_AFTER = ("etcdserver: server stopped", "etcdserver: request cancelled", "context canceled")
# Levels of zap, worst first, and of the old capnslog, whose letter stands before the package.
_FATAL = ("fatal", "panic", "dpanic")
_CAPNSLOG = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ ([CEWNIDT]) \| (.*)$")
# Seconds, host, program and process, message.
_STAMPED = re.compile(r"^(\d{1,12}\.\d{1,9}) \S+ [^:\[\s]+(?:\[\d+\])?: (.*)$")
# Go's own ends: a panic, a signal in Go code, a fault that the runtime throws.
_GO = re.compile(r"^(panic: |fatal error: |unexpected fault address |runtime: out of memory)")
_FRAME = re.compile(
    r"^(goroutine \d+|\s|created by |[\w./*()\-]+\.[\w.*()\-]+\(.*\)$|\[signal |exit status )"
)
# systemd's lines on a unit that did not come up; the second group is the reason.
_SYSTEMD = re.compile(
    r"(?:Failed at step (\w+)|Main process exited, (.*)|Failed to load environment files: (.*)|"
    r"(Assertion failed.*)|start operation (timed out)|Failed to set up mount namespacing: (.*))"
)
_TIMED_OUT = "start operation timed out"
_EXITED = "Main process exited, code=exited"
# What flag parsing of Go and etcd says before there is a logger.
_USAGE = re.compile(
    r"flag provided but not defined: \S+|invalid value .* for flag .*|"
    r"error verifying flags,? ?.*|conflicting environment variable .*|unknown shorthand flag.*"
)


def decisive(log: str) -> str:
    """Why a start failed, as its log says it: the last panic, or else the last fatal record.

    ``log`` are the lines of one start, oldest first, as ``journalctl -o cat`` has them. Where
    neither is there: what systemd says, or the last error; empty where nothing helps.
    """
    lines = log.splitlines()
    finders = (_panic, _last_fatal, _usage, _before_exit, _not_ready, _systemd, _last_error)
    return next((_short(told) for told in (find(lines) for find in finders) if told), "")


def since(log: str, begin: float) -> str:
    """The lines from a time on (seconds since 1970), of a log with times before its lines.

    ``log`` is as ``journalctl -o short-unix`` prints it; the lines come without what is before
    their messages.
    """
    found = (_STAMPED.match(line) for line in log.splitlines())
    return "\n".join(one[2] for one in found if one and float(one[1]) >= begin)


def _panic(lines: Sequence[str]) -> str:
    """Go's own word on its end; of a panic after a fatal record of zap, that record."""
    starts = [number for number, line in enumerate(lines) if _GO.match(line)]
    if not starts:
        return ""
    # Several lines belong to one end: "unexpected fault address" and "fatal error" after it.
    first = next((n for n in reversed(starts) if n == 0 or n - 1 not in starts), starts[-1])
    words: list[str] = []
    for line in lines[first:]:
        if words and (_FRAME.match(line) or not line.strip()):
            break
        words.append(line.strip())
    told = " ".join(words)
    record = _record_before(lines[:first])
    if record and record["level"] in _FATAL:
        return _words(record)
    return told


def _record_before(lines: Sequence[str]) -> "dict[str, Any] | None":
    return next(_records(reversed(lines)), None)


def _records(lines: "Iterator[str] | Sequence[str]") -> Iterator[dict[str, Any]]:
    """The records of zap, and those of capnslog in the same form."""
    for line in lines:
        old = _CAPNSLOG.match(line)
        if old:
            level = {"C": "fatal", "E": "error", "W": "warn"}.get(old[1], "info")
            yield {"level": level, "msg": old[2]}
        elif line.startswith("{"):
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict) and isinstance(found.get("level"), str):
                yield found


def _last_fatal(lines: Sequence[str]) -> str:
    return next((_words(one) for one in _records(lines[::-1]) if one["level"] in _FATAL), "")


def _last_error(lines: Sequence[str]) -> str:
    """The last record that tells an error, or else the last of that level."""
    found = [one for one in _records(lines) if one["level"] in ("error", "warn")]
    told = [one for one in found if one.get("error") and one["error"] not in _AFTER]
    return _words((told or found)[-1]) if found else ""


def _usage(lines: Sequence[str]) -> str:
    found = [_USAGE.search(line) for line in lines]
    return next((one[0] for one in reversed(found) if one), "")


def _before_exit(lines: Sequence[str]) -> str:
    """The error that etcd told as a warning right before it ended: of a setting that is no good."""
    ends = [number for number, line in enumerate(lines) if _EXITED in line]
    record = _record_before(lines[: ends[-1]]) if ends else None
    told = record and record["level"] in ("warn", "error") and record.get("error")
    return _words(record) if record and told else ""


def _not_ready(lines: Sequence[str]) -> str:
    """What etcd complained of, or else did last, in a start that systemd ended for its time.

    etcd says READY once it has joined the quorum, so systemd's own line tells nothing of the cause;
    what comes after that line is etcd's orderly end.
    """
    ends = [number for number, line in enumerate(lines) if _TIMED_OUT in line]
    if not ends:
        return ""
    before = lines[: ends[0]]
    record = _record_before(before)
    told = _last_error(before) or (_words(record) if record else "")
    return f"{_TIMED_OUT}; the last that etcd told until then: {told}" if told else ""


def _systemd(lines: Sequence[str]) -> str:
    for line in reversed(lines):
        found = _SYSTEMD.search(line)
        if found:
            return line.strip()
    return ""


def _words(record: dict[str, Any]) -> str:
    """A record's message, and what it has beside it that helps."""
    more = [f"{name}: {_plain(record[name])}" for name in _FIELDS if record.get(name)]
    message = _plain(record.get("msg", ""))
    if message in _EMPTY and more:
        return "; ".join(more).removeprefix("error: ")
    return "; ".join([message, *more]) if message else "; ".join(more)


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    # A stack is of use to etcd's developers alone.
    return " ".join(text.split("\ngoroutine ")[0].split())


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 60]} ... {text[-55:]}"
