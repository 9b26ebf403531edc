"""How etcd's last start on this host has ended: by its own doing, or because somebody ended it.

systemd keeps that of the last process of a unit, for as long as this boot lasts: a member that was
stopped, or whose host was booted, has not failed.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import etcd_ha_common_systemd
import etcd_ha_etcd_log
import etcd_ha_host_sandbox
from etcd_ha_common_errors import Failed

UNIT = "etcd.service"
_SHOWN = ("ActiveState", "NRestarts", "ExecMainCode", "ExecMainStatus", "InvocationID")
# Lines of its log that are looked at for its last words: Go prints a stack behind these.
_LINES = 400
# Seconds for which it must run to be left alone; a start that fails takes less, and so does the
# pause before the next one.
STEADY = 4
# What etcd ends with by a panic (Go's runtime); by a faulty setting it ends with 1.
PANIC = 2


class EndError(Failed):
    """It cannot be known how the unit has ended; the text says why."""


@dataclass(frozen=True)
class End:
    """The end of the last start: ``code`` is its exit code, ``signal`` what ended it; else None."""

    code: int | None = None
    signal: int | None = None
    invocation: str = ""

    @property
    def by_itself(self) -> bool:
        """Whether etcd ended by its own doing. What systemd could not start was no etcd yet."""
        if self.signal is not None:
            return self.signal in etcd_ha_host_sandbox.OWN_SIGNALS
        return self.code not in (None, 0) and self.code not in etcd_ha_host_sandbox.SYSTEMD

    @property
    def words(self) -> str:
        """The end in words, without what etcd said."""
        if self.signal is not None:
            return f"it was ended by signal {self.signal}"
        return f"it ended by itself with exit code {self.code}"


def look(patience: float = 5) -> End:
    """How etcd's unit has ended; raises an error where that cannot be known.

    One that systemd has started again by itself is waited for, ``patience`` seconds at most: it
    will have ended again by then, or it waits for its peers.
    """
    deadline = time.monotonic() + patience
    while True:
        found = etcd_ha_host_sandbox.properties(UNIT, _SHOWN)
        ended = parse(found)
        again = found["ActiveState"] == "activating" and found["NRestarts"] not in ("", "0")
        if not again or ended.code is not None or ended.signal is not None:
            return ended
        if time.monotonic() > deadline:
            return ended
        time.sleep(0.1)


def stays(seconds: int = STEADY) -> bool:
    """Whether etcd runs, and not just for the moment before it ends once more.

    Some causes end it after it has told systemd that it is ready, such as a missing certificate.
    """
    for _ in range(seconds):
        if not etcd_ha_common_systemd.unit(UNIT).active:
            return False
        time.sleep(1)
    return etcd_ha_common_systemd.unit(UNIT).active


def parse(found: Mapping[str, str]) -> End:
    """Read the properties of the unit; raises EndError where one is missing or no number."""
    try:
        code, status = int(found["ExecMainCode"]), int(found["ExecMainStatus"])
        invocation = found["InvocationID"]
    except (KeyError, ValueError) as err:
        raise EndError(f"systemctl show {UNIT} does not tell how it ended ({err!r})") from err
    # CLD_EXITED; CLD_KILLED and CLD_DUMPED; 0 where it runs, or has not run in this boot.
    if code == 1:
        return End(code=status, invocation=invocation)
    return End(signal=status, invocation=invocation) if code else End(invocation=invocation)


def quoted(invocation: str) -> str:
    """What etcd itself said as it ended, of this start alone; for people, nothing goes by it."""
    if not invocation:
        return ""
    try:
        said = etcd_ha_common_systemd.journal(UNIT, invocation=invocation, lines=_LINES)
    except Failed as err:
        return f"(its log cannot be read: {err})"
    return line(etcd_ha_etcd_log.decisive(said))


def line(text: str) -> str:
    """A quotation as one line of printable text, for plans and facts."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
