"""Reading what a machine really has: its unit, its running etcd, its files."""

import contextlib
import errno
import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import stat
import subprocess
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

MARK_FILE = "/var/lib/etcd_ha/host.json"
# When a certificate ends, as Salt tells it (UTC).
TIME = "%Y-%m-%d %H:%M:%S"
SHOWN = (
    "ActiveState",
    "SubState",
    "UnitFileState",
    "MainPID",
    "NeedDaemonReload",
    "FragmentPath",
    "ExecMainStartTimestamp",
)


def sha256_file(path: str) -> str:
    """The sha256 of a file, or an empty text where there is none."""
    found = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                found.update(block)
    except OSError:
        return ""
    return found.hexdigest()


def read_json(path: str) -> dict[str, Any]:
    """A JSON mapping from a file; empty where the file is missing or broken."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: str, value: Mapping[str, Any]) -> None:
    """Write a JSON file in one step, readable by root alone."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n", 0o600)


def write_text(path: str, text: str, mode: int) -> None:
    """Write a file in one step, so that no half one is ever read, whatever ends meanwhile."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    temporary = f"{path}.tmp"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(folder)


def sync_folder(path: str) -> None:
    """Have what was renamed in a folder outlive a power loss."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: str, flags: int) -> None:
    number = os.open(path, flags)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def sync_tree(folder: str) -> None:
    """Have a directory and all in it outlive a power loss.

    os.sync would wait for whatever else this machine has written, too.
    """
    for parent, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                _sync(path, os.O_RDONLY)
        sync_folder(parent)
    sync_folder(os.path.dirname(folder))


def holds_data(folders: Iterable[str], logs: Iterable[str]) -> bool:
    """Whether a member's data is in one of these folders, and its log there or in one of ``logs``.

    etcd makes its folders before its log, and starts as if it had no data while there is none.
    """
    held = [folder for folder in folders if os.path.isdir(f"{folder}/member")]
    places = [f"{folder}/member/wal" for folder in held] + list(logs)
    return bool(held) and any(os.path.isdir(place) for place in places)


def on_its_way(folder: str) -> str:
    """Where a directory is while it moves to a new place."""
    return f"{folder}.moving"


def unit(name: str, timeout: float = 10.0) -> dict[str, Any]:
    """A systemd unit: active, state, enabled, pid, stale, path, started (seconds since 1970)."""
    try:
        done = subprocess.run(
            ["systemctl", "show", name, "--timestamp=unix", f"--property={','.join(SHOWN)}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return parse_unit("")
    return parse_unit(done.stdout)


def parse_unit(text: str) -> dict[str, Any]:
    """Read the ``Name=value`` lines of ``systemctl show``."""
    found = dict(line.partition("=")[::2] for line in text.splitlines())
    started, pid = found.get("ExecMainStartTimestamp", "").lstrip("@"), found.get("MainPID", "")
    return {
        "active": found.get("ActiveState") == "active",
        "state": found.get("ActiveState", "unknown"),
        "enabled": found.get("UnitFileState") == "enabled",
        "pid": _whole(pid),
        "stale": found.get("NeedDaemonReload") == "yes",
        "path": found.get("FragmentPath", ""),
        "started": _whole(started),
    }


def _whole(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,19}", text) else 0


def is_secret(name: str) -> bool:
    """Whether a variable of this name may hold a secret; etcd itself has none that does."""
    return re.search("PASS|SECRET|CREDENTIAL", name) is not None


def process_environment(pid: int) -> dict[str, str]:
    """The ``ETCD_*`` variables that a process was started with."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().decode("utf-8", "replace").split("\0")
    except OSError:
        return {}
    pairs = dict(entry.partition("=")[::2] for entry in entries if "=" in entry)
    return {
        name: value
        for name, value in pairs.items()
        if name.startswith("ETCD_") and not is_secret(name)
    }


def process_program(pid: int) -> str:
    """The path of the program that a process runs."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


# Read at the start alone; certificates and keys are read at every handshake
# (client/pkg/transport/listener.go of etcd).
READ_ONCE = ("ETCD_TRUSTED_CA_FILE", "ETCD_PEER_TRUSTED_CA_FILE")


def pending(unit: Mapping[str, Any], program: str) -> list[str]:
    """What is on disk but not yet in the running process: ``unit``, ``program``, ``trust``."""
    if not unit["pid"]:
        return []
    reasons = []
    if unit["stale"] or _written(unit["path"]) > unit["started"]:
        reasons.append("unit")
    if program and os.path.realpath(program) != process_program(unit["pid"]):
        reasons.append("program")
    environment = process_environment(unit["pid"])
    if any(_written(environment.get(one, "")) > unit["started"] for one in READ_ONCE):
        reasons.append("trust")
    return reasons


def _written(path: str) -> int:
    """When a file was written (seconds since 1970), 0 where there is none."""
    try:
        return int(os.stat(path).st_mtime) if path else 0
    except OSError:
        return 0


def read_text(path: str) -> str:
    """A file's text, empty where it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


def read_regular(path: str, most: int = -1) -> bytes:
    """The beginning of a regular file; raises OSError where it is none, or cannot be read.

    A pipe of somebody else's would be waited for without an end.
    """
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", path)
        return file.read(most)


def changed_files(files: Mapping[str, str]) -> list[str]:
    """Which files are no longer as the states left them."""
    return sorted(path for path, known in files.items() if sha256_file(path) != known)


def days_left(expires: Mapping[str, str], now: datetime | None = None) -> int | None:
    """Whole days until the first certificate ends, None without any; times are UTC."""
    if not expires:
        return None
    first = datetime.strptime(min(expires.values()), TIME)
    return (first.replace(tzinfo=timezone.utc) - (now or datetime.now(timezone.utc))).days


# Bytes of an answer over HTTP that are read at most.
_ANSWER = 65536


def post_often(
    url: str, files: tuple[str | None, str | None, str | None], body: str, times: int
) -> None:
    """POST the same JSON again and again over one connection; raises OSError at the first fault.

    ``files`` are the CA's certificate, and the client's certificate and key.
    """
    parts = urlsplit(url)
    connection = _connection(parts.scheme, parts.hostname or "", parts.port or 443, files, 10.0)
    try:
        for _ in range(times):
            connection.request("POST", parts.path, body)
            answer = connection.getresponse()
            told = answer.read(_ANSWER + 1).decode("utf-8", "replace")
            if len(told) > _ANSWER:
                raise OSError(f"{url} answered with more than {_ANSWER} bytes")
            if answer.status != 200:
                raise OSError(f"{url} answered {answer.status}: {told[:200]}")
    except http.client.HTTPException as err:
        raise OSError(f"{url} did not speak HTTP: {err!r}") from err
    finally:
        connection.close()


def _connection(
    scheme: str,
    host: str,
    port: int,
    files: tuple[str | None, str | None, str | None],
    timeout: float,
) -> http.client.HTTPConnection:
    ca, certificate, key = files
    if scheme != "https":
        return http.client.HTTPConnection(host, port, timeout=timeout)
    context = ssl.create_default_context(cafile=ca)
    if certificate:
        context.load_cert_chain(certificate, key)
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)


def shake_hands(url: str, ca: str, pair: tuple[str, str], timeout: float = 5.0) -> None:
    """A TLS handshake that trusts this CA (PEM text) alone; raises OSError where it fails.

    ``pair`` are the files of this client's own certificate and key.
    """
    parts = urlsplit(url)
    context = ssl.create_default_context(cadata=ca)
    context.load_cert_chain(*pair)
    address = parts.hostname or "", parts.port or 443
    with (
        socket.create_connection(address, timeout) as plain,
        context.wrap_socket(plain, server_hostname=address[0]) as connection,
    ):
        # In TLS 1.3 the server looks at our certificate after the client has done its part.
        connection.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            connection.recv(1)


def get(
    url: str, ca: str | None, certificate: str | None, key: str | None, timeout: float = 5.0
) -> tuple[int, str]:
    """HTTP GET over mutual TLS: status code and the start of the body; raises OSError."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    connection = _connection(parts.scheme, host, port, (ca, certificate, key), timeout)
    try:
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read(_ANSWER).decode("utf-8", "replace")
    except http.client.HTTPException as err:
        raise OSError(f"{url} did not speak HTTP: {err!r}") from err
    finally:
        connection.close()
