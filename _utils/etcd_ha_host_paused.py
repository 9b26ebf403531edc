"""A member that is stopped on purpose: why, until when, and what keeps it stopped.

While the file lies here, a drop-in of etcd's unit keeps it from starting, after a reboot too. A
timer of systemd's ends the pause, without Salt.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import etcd_ha_machine

FOLDER = "/var/lib/etcd_ha/paused"
FILE = f"{FOLDER}/member.json"
UNITS = "/etc/systemd/system"
UNIT = "etcd.service"
TIMER, SERVICE = "etcd_ha-resume.timer", "etcd_ha-resume.service"
# Days that a pause may last.
LONGEST = 90
TIME = "%Y-%m-%dT%H:%M:%SZ"
FIELDS = ("cluster", "member", "reason", "since", "until")
_HEAD = "# Kept by Salt (etcd_ha.pause); etcd_ha.resume removes it.\n"


class PauseError(ValueError):
    """A pause cannot be as it is asked for; the text says why."""


def drop_in() -> str:
    """The file that keeps etcd's unit from starting."""
    return f"{UNITS}/{UNIT}.d/etcd_ha-paused.conf"


def end(until: str, hours: float, now: datetime) -> str:
    """When a pause ends (text, UTC), from one of the two ways in which it is asked for."""
    if bool(until) is bool(hours):
        raise PauseError(
            'say until when, either until="2026-12-01 06:00" (UTC, or with an offset such as '
            "+01:00) or hours=4"
        )
    found = _time(until) if until else now + timedelta(hours=_hours(hours))
    if found <= now:
        raise PauseError(f"the end of the pause, {found.strftime(TIME)}, has passed already")
    if found > now + timedelta(days=LONGEST):
        raise PauseError(
            f"a pause lasts {LONGEST} days at most. Take the member out of the pillar instead"
        )
    return found.strftime(TIME)


def _hours(hours: float) -> float:
    if not math.isfinite(hours) or not 0 < hours <= 24 * LONGEST:
        raise PauseError(f"hours is {hours}; give more than 0, {24 * LONGEST} at most")
    return hours


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as err:
        raise PauseError(
            f"until is {text!r}; give a time such as 2026-12-01 06:00 (UTC, or with an offset such "
            "as +01:00)"
        ) from err
    if found.tzinfo is None:
        found = found.replace(tzinfo=timezone.utc)
    return found.astimezone(timezone.utc)


def read() -> dict[str, str]:
    """The pause of this host's member, also one that has ended; empty where there is none.

    One that cannot be read holds the member all the same, without an end.
    """
    try:
        with open(FILE, encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as err:
        return _unreadable(str(err))
    if not is_sound(found):
        return _unreadable("it is not as etcd_ha.pause wrote it")
    return {name: found[name] for name in FIELDS}


def is_sound(found: Any) -> bool:
    """Whether this is a pause as it is written here."""
    if not isinstance(found, dict) or not all(
        isinstance(found.get(name), str) and found[name].isprintable() for name in FIELDS
    ):
        return False
    try:
        return all(bool(datetime.strptime(found[name], TIME)) for name in ("since", "until"))
    except ValueError:
        return False


def _unreadable(why: str) -> dict[str, str]:
    told = f"{FILE} cannot be read ({why}); etcd_ha.resume removes it"
    return {"cluster": "", "member": "", "reason": told, "since": "", "until": ""}


def has_ended(pause: Mapping[str, str], now: datetime) -> bool:
    """Whether the end of a pause has passed; never of one that cannot be read."""
    if not pause or not pause["until"]:
        return False
    return datetime.strptime(pause["until"], TIME).replace(tzinfo=timezone.utc) <= now


def words(pause: Mapping[str, str]) -> str:
    """A pause in a sentence: ``paused until END (REASON)``."""
    until = f" until {pause['until']}" if pause["until"] else ""
    return f"paused{until} ({pause['reason']})"


def in_effect(now: datetime | None = None) -> str:
    """That this host's member is paused now, in words; empty where it is not, or no more."""
    found = read()
    if not found or has_ended(found, now or datetime.now(timezone.utc)):
        return ""
    return words(found)


def keep(pause: Mapping[str, str]) -> None:
    """Write a pause down, with what keeps etcd from starting and what ends it."""
    # The drop-in comes first: without it a file would promise what a reboot breaks.
    etcd_ha_machine.write_text(drop_in(), f"{_HEAD}[Unit]\nAssertPathExists=!{FILE}\n", 0o644)
    etcd_ha_machine.write_text(f"{UNITS}/{SERVICE}", _service(), 0o644)
    etcd_ha_machine.write_text(f"{UNITS}/{TIMER}", _timer(pause["until"]), 0o644)
    etcd_ha_machine.write_json(FILE, pause)


def _files() -> tuple[str, ...]:
    enabled = f"{UNITS}/timers.target.wants/{TIMER}"
    return FILE, drop_in(), enabled, f"{UNITS}/{TIMER}", f"{UNITS}/{SERVICE}"


def lift() -> list[str]:
    """Remove what keeps etcd from starting; the paths that were there."""
    there = [path for path in _files() if os.path.lexists(path)]
    for path in there:
        os.unlink(path)
        etcd_ha_machine.sync_folder(os.path.dirname(path))
    return there


def _service() -> str:
    # Its own files go last: systemd ends a list of commands whose unit is gone when it reloads.
    holds, own = (FILE, drop_in()), [one for one in _files() if one not in (FILE, drop_in())]
    return (
        f"{_HEAD}[Unit]\nDescription=The pause of the etcd member on this host has ended\n\n"
        f"[Service]\nType=oneshot\nExecStart=rm -f {' '.join(holds)}\n"
        f"ExecStart=systemctl daemon-reload\nExecStart=systemctl start --no-block {UNIT}\n"
        f"ExecStart=rm -f {' '.join(own)}\n"
    )


def _timer(until: str) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.strptime(until, TIME))
    return (
        f"{_HEAD}[Unit]\nDescription=When the pause of the etcd member on this host ends\n\n"
        f"[Timer]\nOnCalendar={when}\nPersistent=true\nAccuracySec=1s\n\n"
        "[Install]\nWantedBy=timers.target\n"
    )
