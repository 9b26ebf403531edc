"""The processes of this host that are an etcd, and what listens at ports, as /proc tells.

proc(5). A container's processes are seen too, each with the files that it sees itself
(``/proc/PID/root``).
"""

import os
import pwd
import re
import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import etcd_ha_common_files
import etcd_ha_etcd_settings

# A word of a cgroup's path that names who runs a container.
_CONTAINER = re.compile(
    r"/(kubepods|docker|libpod|lxc|lxc\.payload)[^/]*/|"
    r"(docker|libpod|crio|cri-containerd)-[0-9a-f]{12,}\.scope"
)
# Programs that run scripts.
_INTERPRETERS = re.compile(r"(ba|da|z|k|c|tc|)sh|busybox|python[0-9.]*|perl.*")
# State of a listening socket (include/net/tcp_states.h).
_LISTEN = "0A"
# The most of a command line or an environment that is read, in bytes.
_LARGEST = 1 << 20


@dataclass(frozen=True)
class Process:
    """A process that is an etcd, or that listens at a port."""

    pid: int
    program: str = ""
    words: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    cwd: str = ""
    user: str = ""
    unit: str = ""
    container: str = ""
    # Whether its ports are the host's.
    shares_network: bool = True
    # What of it cannot be read, and why.
    fault: str = ""


@dataclass(frozen=True)
class OpenFile:
    """A file that a process has open: what it is, whatever has become of its name."""

    # Its last name, as the process sees it.
    path: str
    device: int
    inode: int
    # How many names it has; 0 for one that was deleted.
    links: int
    # The device that is mounted where it is (``8:1``); empty where none is any more.
    mounted: str


def open_files(pid: int, endings: tuple[str, ...], proc: str = "/proc") -> list[OpenFile]:
    """The files with such names that a process has open; none where it has ended.

    Raises Unreadable where that cannot be seen.
    """
    found = []
    devices = mounted(str(pid), proc)
    for name in etcd_ha_common_files.names(f"{proc}/{pid}/fd"):
        link = f"{proc}/{pid}/fd/{name}"
        try:
            with etcd_ha_common_files.reading(link):
                path = os.readlink(link).removesuffix(" (deleted)")
                if not path.endswith(endings):
                    continue
                held = os.stat(link)
        except (*etcd_ha_common_files.ABSENT, ProcessLookupError):
            continue
        told = etcd_ha_common_files.text(f"{proc}/{pid}/fdinfo/{name}") or ""
        mount = re.search(r"^mnt_id:\s*(\d+)$", told, re.M)
        device = devices.get(mount[1], "") if mount else ""
        found.append(OpenFile(path, held.st_dev, held.st_ino, held.st_nlink, device))
    return found


def mounted(pid: str, proc: str = "/proc") -> dict[str, str]:
    """The file systems that a process (``self``: this one) has mounted: mount id -> device."""
    try:
        table = etcd_ha_common_files.text(f"{proc}/{pid}/mountinfo") or ""
    except ProcessLookupError:
        return {}
    rows = (line.split(" ") for line in table.splitlines())
    return {row[0]: row[2] for row in rows if len(row) > 4}


def etcds(proc: str = "/proc") -> list[Process]:
    """All processes that are an etcd, by PID; one that ends meanwhile is not there."""
    found = []
    for pid in pids(proc):
        try:
            program, words = _program(proc, pid)
            if program:
                found.append(_process(proc, pid, program, words))
        except (FileNotFoundError, ProcessLookupError, NotADirectoryError):
            continue
    return found


def pids(proc: str = "/proc") -> list[int]:
    """All processes."""
    return sorted(int(name) for name in os.listdir(proc) if name.isdigit())


def listening(pid: int, proc: str = "/proc") -> list[tuple[str, int]]:
    """Where a process listens: addresses and TCP ports."""
    held = _sockets(proc, pid)
    return sorted({(a, p) for a, p, inode in _listening(f"{proc}/{pid}/net") if inode in held})


def listeners(ports: Collection[int], proc: str = "/proc") -> list[tuple[int, Process]]:
    """Who listens at these TCP ports of the host; PID 0 where no process can be found."""
    inodes = {inode: port for _, port, inode in _listening(f"{proc}/net") if port in ports}
    found: dict[tuple[int, int], Process] = {}
    left = set(inodes)
    for pid in pids(proc) if left else ():
        try:
            held = _sockets(proc, pid) & left
            if held:
                process = _process(proc, pid, _link(f"{proc}/{pid}/exe"), [])
                found |= {(inodes[one], pid): process for one in held}
        except (FileNotFoundError, ProcessLookupError, NotADirectoryError):
            continue
        left -= held
        if not left:
            break
    found |= {(inodes[one], 0): Process(0) for one in left}
    return [(port, process) for (port, _), process in sorted(found.items(), key=lambda p: p[0])]


def _program(proc: str, pid: int) -> tuple[str, list[str]]:
    """The etcd that a process is, and the words behind its name; empty where it is another."""
    words = _strings(f"{proc}/{pid}/cmdline")
    try:
        path = _link(f"{proc}/{pid}/exe")
    except PermissionError:
        # Its command line can be read by everybody.
        path = words[0] if words else ""
    except FileNotFoundError:
        # A thread of the kernel has none.
        return "", []
    named = words[:1] if words and words[0].endswith("/etcd") else []
    is_shell = not etcd_ha_etcd_settings.is_program(path) and _interprets(path)
    if etcd_ha_etcd_settings.is_program(path) or (named and not is_shell):
        return path, words[1:]
    return "", []


def _interprets(path: str) -> bool:
    """Whether a program runs scripts: its first word is the script's name, not its own."""
    return _INTERPRETERS.fullmatch(path_name(path)) is not None


def path_name(path: str) -> str:
    """A program's own name, also where its file is gone by now."""
    return os.path.basename(path.removesuffix(" (deleted)"))


def _process(proc: str, pid: int, program: str, words: list[str]) -> Process:
    groups = _text(f"{proc}/{pid}/cgroup")
    strings, cwd, fault = [], "", ""
    try:
        cwd, strings = _link(f"{proc}/{pid}/cwd"), _strings(f"{proc}/{pid}/environ")
    except PermissionError as err:
        fault = f"PID {pid} cannot be inspected: {err.strerror}"
    pairs = (one.partition("=") for one in strings)
    container = _container(proc, pid, groups)
    return Process(
        pid=pid,
        program=program.removesuffix(" (deleted)"),
        words=tuple(words),
        environment={key: value for key, _, value in pairs if key.startswith("ETCD_")},
        cwd=cwd,
        user=_user(os.stat(f"{proc}/{pid}").st_uid),
        # Of a container's own systemd, it is none of the host's.
        unit="" if container else _unit(groups),
        container=container,
        shares_network=_is_same(proc, pid, "net"),
        fault=fault,
    )


def _unit(groups: str) -> str:
    """The system's service that a process belongs to, by its control group."""
    paths = [line.split(":", 2)[2] for line in groups.splitlines() if line.count(":") >= 2]
    for path in paths:
        names = [name for name in path.split("/") if name.endswith(".service")]
        if names and not any(name.startswith("user@") for name in names):
            return names[-1]
    return ""


def _container(proc: str, pid: int, groups: str) -> str:
    """What a process is contained by; empty where it is one of the host's own."""
    known = _CONTAINER.search(_below_own(proc, groups))
    if known:
        return known[1] or known[2]
    return "" if _is_same(proc, pid, "pid") else "another PID namespace"


def _below_own(proc: str, groups: str) -> str:
    """The control groups of a process as this host sees them: it may be a container itself."""
    try:
        own = _text(f"{proc}/1/cgroup")
    except OSError:
        return groups
    paths = [line.split(":", 2)[-1].removesuffix("/init.scope") for line in own.splitlines()]
    for path in sorted(filter(None, set(paths)), key=len, reverse=True):
        groups = groups.replace(f":{path}/", ":/") if path != "/" else groups
    return groups


def _is_same(proc: str, pid: int, kind: str) -> bool:
    """Whether a process is in this one's own namespace of a kind; so too where that is not told."""
    try:
        own, its = (os.readlink(f"{proc}/{one}/ns/{kind}") for one in ("self", pid))
    except OSError:
        return True
    return own == its


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _link(path: str) -> str:
    return os.readlink(path)


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(_LARGEST)


def _strings(path: str) -> list[str]:
    """Texts that end with a null byte each."""
    return [one for one in _text(path).split("\0") if one]


def _sockets(proc: str, pid: int) -> set[str]:
    """The inodes of a process's sockets; none where it may not be looked at."""
    found: set[str] = set()
    try:
        names = os.listdir(f"{proc}/{pid}/fd")
    except PermissionError:
        return found
    for name in names:
        try:
            target = os.readlink(f"{proc}/{pid}/fd/{name}")
        except (FileNotFoundError, PermissionError):
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


def _listening(net: str) -> Iterator[tuple[str, int, str]]:
    """Address, port and inode of each listening TCP socket of a network namespace."""
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        try:
            lines = _text(f"{net}/{name}").splitlines()[1:]
        except FileNotFoundError:
            # A kernel without IPv6.
            continue
        for words in (line.split() for line in lines):
            if len(words) > 9 and words[3] == _LISTEN:
                address, _, port = words[1].partition(":")
                yield _address(address, family), int(port, 16), words[9]


def _address(text: str, family: int) -> str:
    """An address as /proc writes it: 32 bits each in the machine's own order of bytes."""
    raw = b"".join(struct.pack("=I", int(text[n : n + 8], 16)) for n in range(0, len(text), 8))
    return socket.inet_ntop(family, raw)
