"""etcd in a unit of its own on a copy of its data, without any way to its peers.

A second incarnation of a member that reaches the others would be a disaster. So the unit has a
network namespace of its own, and what is started in it compares that with the host's before it
becomes etcd: systemd passes over PrivateNetwork where the kernel or a container does not allow it.
Sockets in the file system are reached all the same, and are all that etcd listens on.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import etcd_ha_common_process
import etcd_ha_common_systemd
import etcd_ha_machine
from etcd_ha_common_errors import Failed
from etcd_ha_common_systemd import systemctl

NAME = "etcd_ha-examine.service"
FOLDER = "/run/systemd/system"
UNIT_FILE = f"{FOLDER}/{NAME}"
# Seconds for the stop of etcd's unit, which may take its time.
_LONGEST = 300
# While this file is there, etcd's own unit does not start: a restart would tear the copy.
HELD = "/run/etcd_ha/examining"
DROP_IN = f"{FOLDER}/etcd.service.d/50-etcd_ha-examine.conf"
# What the wrapper ends with where it is in the host's own network namespace.
NO_NAMESPACE = 77
# What a shell ends with where it cannot start a program, and systemd where it cannot set a unit up.
NO_PROGRAM = (126, 127)
SYSTEMD = range(200, 246)
# By what a process may be ended without anybody's doing: ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS.
OWN_SIGNALS = (4, 5, 6, 7, 8, 11, 31)
# The same hardening as etcd's own unit has (etcd_ha/unit/etcd.service.jinja).
HARDENING = """\
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateMounts=yes
PrivateUsers=yes
PrivateIPC=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
"""
# $0 is the host's namespace. Nothing of the manager's environment reaches etcd, which would take
# a variable for a setting.
_WRAPPER = (
    'own="$(readlink /proc/self/ns/net)" && [ -n "$own" ] && [ "$own" != "$0" ] '
    f"|| exit {NO_NAMESPACE}; "
    'exec env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/nonexistent "$@"'
)


class SandboxError(Failed):
    """The unit could not be set up, or not be looked at; the text says why."""


@dataclass(frozen=True)
class State:
    """What has become of it: ``code`` is its exit code, ``signal`` what ended it; else None."""

    running: bool
    code: int | None = None
    signal: int | None = None

    @property
    def by_itself(self) -> bool:
        """Whether what ran has ended by its own doing, and had been started at all."""
        if self.signal is not None:
            return self.signal in OWN_SIGNALS
        own = self.code not in (None, 0, NO_NAMESPACE, *NO_PROGRAM)
        return own and self.code not in SYSTEMD


def unit_text(
    command: Sequence[str],
    owner: tuple[str, str],
    folders: Sequence[str],
    closed: Sequence[str],
    namespace: str,
    longest: int,
) -> str:
    """The unit's file. It runs in the first of ``folders``, and may write in these alone.

    ``closed`` are directories that it must not see at all, ``namespace`` is the host's own network
    namespace as ``/proc/1/ns/net`` names it, ``longest`` are seconds after which it is ended.
    """
    words = ["/bin/sh", "-c", _WRAPPER, namespace, *command]
    return f"""\
# Made by etcd_ha for an examination of a member's data, and removed after it.
[Unit]
Description=etcd on a copy of its data, without a network
[Service]
Type=simple
User={owner[0]}
Group={owner[1]}
WorkingDirectory={folders[0]}
ExecStart={" ".join(map(_quoted, words))}
RemainAfterExit=yes
Restart=no
KillSignal=SIGKILL
RuntimeMaxSec={longest}
LimitNOFILE=65536
OOMScoreAdjust=500
StandardOutput=file:{folders[0]}/log
StandardError=file:{folders[0]}/log
PrivateNetwork=yes
IPAddressDeny=any
ReadWritePaths={" ".join(folders)}
InaccessiblePaths={" ".join(f"-{one}" for one in closed)}
{HARDENING}"""


def _quoted(word: str) -> str:
    """A word as ExecStart takes it for itself: no specifier, no variable."""
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"'


def host_namespace() -> str:
    """The network namespace of this host. Raises SandboxError where it cannot be read."""
    try:
        return os.readlink("/proc/1/ns/net")
    except OSError as err:
        raise SandboxError(f"the host's own network namespace cannot be read: {err}") from err


def hold() -> None:
    """Stop etcd's unit, and have nobody start it before ``release``; it is lost at a reboot.

    It is stopped first: a unit that systemd starts again and again would run into the drop-in, and
    what is kept of its last start would be that instead of etcd's own end.
    """
    systemctl("stop", "etcd.service", timeout=_LONGEST)
    etcd_ha_machine.write_text(HELD, "etcd_ha examines the data of this member\n", 0o644)
    etcd_ha_machine.write_text(DROP_IN, f"[Unit]\nAssertPathExists=!{HELD}\n", 0o644)
    systemctl("daemon-reload")
    systemctl("stop", "etcd.service", timeout=_LONGEST)


def start(text: str) -> None:
    """Start a unit of this text; ``hold`` comes before."""
    etcd_ha_machine.write_text(UNIT_FILE, text, 0o644)
    systemctl("daemon-reload")
    systemctl("start", NAME)


def state() -> State:
    """What has become of what was started."""
    shown = ("ActiveState", "SubState", "ExecMainPID", "ExecMainCode", "ExecMainStatus")
    found = properties(NAME, shown)
    code, status = int(found["ExecMainCode"]), int(found["ExecMainStatus"])
    if code == 0:
        if found["ActiveState"] not in ("active", "activating"):
            raise SandboxError(f"{NAME} is {found['ActiveState']}, and has started nothing")
        return State(True)
    # CLD_EXITED; else CLD_KILLED or CLD_DUMPED.
    return State(False, code=status) if code == 1 else State(False, signal=status)


def stop() -> None:
    """End what was started, so that another one can be."""
    systemctl("stop", NAME)
    etcd_ha_common_systemd.reset_failed(NAME)


def release() -> None:
    """Undo all of it, also what an interrupted examination has left; etcd's unit stays as it is."""
    left = [path for path in (UNIT_FILE, DROP_IN, HELD) if os.path.lexists(path)]
    if not left:
        return
    if UNIT_FILE in left:
        stop()
    for path in left:
        os.unlink(path)
    folder = os.path.dirname(DROP_IN)
    # Drop-ins of others may lie there, too.
    if os.path.isdir(folder) and not os.listdir(folder):
        os.rmdir(folder)
    systemctl("daemon-reload")


def is_left() -> bool:
    """Whether an examination goes on here, or was interrupted."""
    return any(os.path.lexists(path) for path in (UNIT_FILE, DROP_IN, HELD))


def properties(unit: str, names: Sequence[str]) -> dict[str, str]:
    """These properties of a unit, as systemd tells them; raises SandboxError without one."""
    command = ["systemctl", "show", f"--property={','.join(names)}", "--", unit]
    done = etcd_ha_common_process.run(command, etcd_ha_common_systemd.BRIEF)
    found = dict(line.partition("=")[::2] for line in done.out.splitlines())
    lacking = [name for name in names if name not in found]
    if lacking:
        raise SandboxError(f"systemctl show {unit} does not tell {', '.join(lacking)}")
    return found
