"""What systemd knows of a unit, and orders to it. Whatever is not understood is an error.

Written for systemd 247 to 257: no option that a release of these refuses (``--timestamp`` is from
251), no locale, and times in UTC.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import NoReturn

import etcd_ha_common_process
from etcd_ha_common_process import ProgramError, ProgramMissing, ProgramTimeout

# Seconds for systemd to answer a question.
BRIEF = 10.0
_ALL_UNITS = (
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "FragmentPath",
    "NeedDaemonReload",
    "InvocationID",
)
# A timer or a mount has none of these.
_SERVICES = ("MainPID", "ExecMainStartTimestamp", "Result")
# UnitLoadState and UnitActiveState of systemd (src/basic/unit-def.h).
_LOADED = ("stub", "loaded", "not-found", "bad-setting", "error", "merged", "masked")
_STATES = (
    "active",
    "reloading",
    "inactive",
    "failed",
    "activating",
    "deactivating",
    "maintenance",
    "refreshing",
)
_OTHERS = (
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "slice",
    "scope",
)
_TIME = re.compile(r"[A-Z][a-z]{2} ([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8})(?:\.[0-9]+)? UTC")
_NO_TIME = ("", "n/a", "0", "[not set]")
_UTC: Mapping[str, str] = {"TZ": "UTC", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}


@dataclass(frozen=True)
class Unit:
    """A unit as systemd has it at this moment."""

    name: str
    # LoadState: ``loaded``, ``not-found``, ``masked``, ...
    loaded: str
    # ActiveState: ``active``, ``inactive``, ``failed``, ``activating``, ...
    state: str
    sub_state: str
    # UnitFileState: ``enabled``, ``disabled``, ``static``, ...; empty where there is no file.
    file_state: str
    # Its unit file; empty where there is none.
    path: str
    # Of its main process; 0 where none runs.
    pid: int
    # When its main process was last started (seconds since 1970); 0 where it never was.
    started: int
    # Whether the unit's files were changed since systemd has read them.
    stale: bool
    # The id of its present or last run (hex text); empty where it has not run since the boot.
    invocation: str
    # How its last run ended: ``success``, ``exit-code``, ``signal``, ``timeout``, ...
    result: str

    @property
    def exists(self) -> bool:
        """Whether there is a unit of this name."""
        return self.loaded != "not-found"

    @property
    def active(self) -> bool:
        """Whether it runs. One that reloads its configuration does."""
        return self.state in ("active", "reloading", "refreshing")

    @property
    def enabled(self) -> bool:
        """Whether it starts at boot."""
        return self.file_state == "enabled"

    @property
    def is_up(self) -> bool:
        """Whether it runs, ends just now, or is about to start once more by itself."""
        return bool(self.pid) or self.active or self.state in ("activating", "deactivating")


def unit(name: str, timeout: float = BRIEF) -> Unit:
    """A unit as systemd has it, also one that does not exist; ``timeout`` in seconds.

    Raises ProgramError where systemd does not answer, or answers in a form that is not known.
    """
    _, dot, kind = name.rpartition(".")
    names = _ALL_UNITS if dot and kind in _OTHERS else _ALL_UNITS + _SERVICES
    command = ["systemctl", "show", f"--property={','.join(names)}", "--", name]
    told = ["systemctl", "show", name]
    try:
        done = etcd_ha_common_process.run(command, timeout, environment=_UTC)
    except ProgramError as err:
        # Without the list of properties, which says nothing to people.
        raise type(err)(told, err.reason, err.code) from None
    found = dict(line.partition("=")[::2] for line in done.out.splitlines() if "=" in line)
    missing = [one for one in names if one not in found]
    if missing:
        raise ProgramError(told, f"the answer lacks {', '.join(missing)}")
    return _Answer(told, found).unit(name)


_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_MASKED = ("masked", "masked-runtime")
# A unit of systemd's own that every host has: an answer without it is not whole.
_ALWAYS = "basic.target"


def mount_points(timeout: float = BRIEF) -> dict[str, str]:
    """Where file systems are to be mounted by units, mounted or not: path -> the unit's name.

    systemd takes the path from the unit's name (systemd.mount(5)). Masked units are left out. They
    are asked for by pattern: with ``--type`` systemd finds the state of every unit file, and
    systemctl drops the other types afterwards, which takes ten times as long. Raises ProgramError.
    """
    command = ["systemctl", "list-unit-files", "--plain", "--full", "--no-legend", "--no-pager"]
    done = etcd_ha_common_process.run(
        [*command, "*.mount", "*.automount", _ALWAYS], timeout, environment=_UTC
    )
    rows = {words[0]: words[1:] for words in map(str.split, done.out.splitlines()) if words}
    if rows.pop(_ALWAYS, None) is None:
        raise ProgramError(command[:2], f"the answer lacks {_ALWAYS}")
    found: dict[str, str] = {}
    for name, rest in rows.items():
        stem, _, kind = name.rpartition(".")
        if kind not in ("mount", "automount") or not rest:
            line = " ".join([name, *rest])
            raise ProgramError(command[:2], f"a line of the answer is {line[:80]!r}")
        if rest[0] not in _MASKED and (kind == "mount" or _path_of(stem) not in found):
            found[_path_of(stem)] = name
    return found


def manager_environment(timeout: float = BRIEF) -> str:
    """What the service manager gives to each unit that it starts, a line a variable.

    ``systemctl set-environment`` and ``systemd.setenv=`` of the kernel's command line set them, and
    no file has them (systemctl(1), show-environment). Raises ProgramError.
    """
    command = ["systemctl", "show-environment"]
    return etcd_ha_common_process.run(command, timeout, environment=_UTC).out


def _path_of(stem: str) -> str:
    """The path that is written in a unit's name (systemd-escape --path)."""
    plain = _ESCAPED.sub(lambda one: chr(int(one[1], 16)), stem.replace("-", "/"))
    # Each byte of a name that is not ASCII is written on its own.
    return f"/{plain}".replace("//", "/").encode("latin-1", "replace").decode("utf-8", "replace")


class _Answer:
    """The properties in one answer of ``systemctl show``, each read by its kind."""

    def __init__(self, command: list[str], found: Mapping[str, str]) -> None:
        self.command, self.found = command, found

    def unit(self, name: str) -> Unit:
        return Unit(
            name=name,
            loaded=self._one_of("LoadState", _LOADED),
            state=self._one_of("ActiveState", _STATES),
            sub_state=self._word("SubState"),
            file_state=self._word("UnitFileState"),
            path=self._path("FragmentPath"),
            pid=self._pid("MainPID"),
            started=self._time("ExecMainStartTimestamp"),
            stale=self._one_of("NeedDaemonReload", ("yes", "no")) == "yes",
            invocation=self._invocation("InvocationID"),
            result=self._word("Result"),
        )

    def _odd(self, name: str) -> NoReturn:
        raise ProgramError(self.command, f"{name} is {self.found[name][:80]!r}")

    def _one_of(self, name: str, known: tuple[str, ...]) -> str:
        return self.found[name] if self.found[name] in known else self._odd(name)

    def _word(self, name: str) -> str:
        value = self.found.get(name, "")
        return value if re.fullmatch("[a-z-]*", value) else self._odd(name)

    def _path(self, name: str) -> str:
        value = self.found[name]
        return value if not value or value.startswith("/") else self._odd(name)

    def _pid(self, name: str) -> int:
        value = self.found.get(name, "0")
        return int(value) if re.fullmatch("[0-9]{1,10}", value) else self._odd(name)

    def _invocation(self, name: str) -> str:
        value = self.found[name]
        return value if re.fullmatch("([0-9a-f]{32})?", value) else self._odd(name)

    def _time(self, name: str) -> int:
        value = self.found.get(name, "")
        if value in _NO_TIME:
            return 0
        match = _TIME.fullmatch(value)
        if match is None:
            self._odd(name)
        try:
            when = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S")
        except ValueError:
            self._odd(name)
        return int(when.replace(tzinfo=timezone.utc).timestamp())


def systemctl(*arguments: str, timeout: float = 60.0) -> None:
    """Give systemd an order, such as ``enable NAME``; ``timeout`` in seconds.

    Raises ProgramError where it was not carried out.
    """
    etcd_ha_common_process.run(["systemctl", *arguments], timeout, environment=_UTC)


def reset_failed(name: str) -> None:
    """Forget that a unit failed, and how often it was started; raises ProgramError."""
    try:
        systemctl("reset-failed", name)
    except (ProgramMissing, ProgramTimeout):
        raise
    except ProgramError:
        # Also the answer for a stopped unit that systemd has not in memory.
        if unit(name).state == "failed":
            raise


def calendar(schedule: str) -> str:
    """The next six times of an OnCalendar expression, as ``systemd-analyze calendar`` prints them.

    Times are in UTC. Raises ProgramError, with ``code`` where systemd refuses the expression.
    """
    command = ["systemd-analyze", "calendar", "--iterations=6", "--", schedule]
    return etcd_ha_common_process.run(command, 20, environment=_UTC).out


def journal(
    name: str,
    *,
    invocation: str = "",
    lines: int = 100,
    form: str = "cat",
    boot: bool = False,
    timeout: float = BRIEF,
) -> str:
    """The last ``lines`` of a unit's journal, in journalctl's output format ``form``.

    ``invocation`` limits it to one run of the unit (``Unit.invocation``): what its processes wrote,
    and what systemd wrote of it. ``boot`` limits it to the present boot. Empty where nothing was
    logged. Raises ProgramError where the journal cannot be read.
    """
    command = ["journalctl", "--no-pager", "--quiet", "-n", str(lines), "-o", form]
    command += ["-b"] if boot else []
    if invocation:
        command += [f"_SYSTEMD_INVOCATION_ID={invocation}", "+", f"INVOCATION_ID={invocation}"]
    else:
        command += ["-u", name]
    return etcd_ha_common_process.run(command, timeout, environment=_UTC).out
