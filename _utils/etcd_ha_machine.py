"""Reading what a machine really has: its unit, its running etcd, its files."""

import contextlib
import errno
import grp
import http.client
import json
import os
import pwd
import re
import socket
import ssl
import stat
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

import etcd_ha_common_files
import etcd_ha_host_places
from etcd_ha_common_files import Malformed
from etcd_ha_common_systemd import Unit

MARK_FILE = "/var/lib/etcd_ha/host.json"
# When a certificate ends, as Salt tells it (UTC).
TIME = "%Y-%m-%d %H:%M:%S"


def sha256_file(path: str) -> str:
    """The sha256 of a file, or an empty text where there is none; raises Unreadable."""
    return etcd_ha_common_files.sha256(path)


def read_json(path: str) -> dict[str, Any]:
    """A JSON mapping from a file; empty where the file is missing or broken.

    For those alone to whom a broken file is as good as none. Raises Unreadable where it cannot be
    read at all.
    """
    try:
        return etcd_ha_common_files.mapping(path) or {}
    except Malformed:
        return {}


def write_json(path: str, value: Mapping[str, Any]) -> None:
    """Write a JSON file in one step, readable by root alone."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n", 0o600)


def write_text(path: str, text: str, mode: int) -> None:
    """Write a text file in one step; see ``write_bytes``."""
    write_bytes(path, text.encode(), mode)


def write_bytes(path: str, content: bytes, mode: int) -> None:
    """Write a file in one step, so that no half one is ever read, whatever ends meanwhile."""
    folder = os.path.dirname(path)
    etcd_ha_common_files.make_directory(folder, 0o755)
    temporary = f"{path}.tmp"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        # On a full disk it would take what room there is left.
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
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
    for parent, files in etcd_ha_common_files.below(folder):
        for name in files:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                _sync(path, os.O_RDONLY)
        sync_folder(parent)
    sync_folder(os.path.dirname(folder))


def holds_data(folders: Iterable[str], logs: Iterable[str]) -> bool:
    """Whether a member's data is in one of these folders, and its log there or in one of ``logs``.

    etcd makes its folders before its log, and starts as if it had no data while there is none. A
    log that moves into its data lies beside its place there. Raises Unreadable where that cannot
    be seen.
    """
    held = [one for one in folders if etcd_ha_common_files.is_directory(f"{one}/member")]
    inside = [f"{folder}/member/wal" for folder in held]
    places = [*inside, *map(on_its_way, inside), *logs]
    return bool(held) and any(holds_log(place) for place in places)


def holds_log(place: str) -> bool:
    """Whether a write-ahead log is there; a directory without any file of one is none."""
    return any(name.endswith(".wal") for name in etcd_ha_common_files.names(place))


def on_its_way(folder: str) -> str:
    """Where a directory is while it moves to a new place: on the file system of that one."""
    return etcd_ha_host_places.aside(folder, "moving")


def is_secret(name: str) -> bool:
    """Whether a variable of this name may hold a secret; etcd itself has none that does."""
    return re.search("PASS|SECRET|CREDENTIAL", name) is not None


def process_environment(pid: int) -> dict[str, str]:
    """The ``ETCD_*`` variables that a process was started with; none where it has ended."""
    entries = (_of_process(pid, "environ") or "").split("\0")
    pairs = dict(entry.partition("=")[::2] for entry in entries if "=" in entry)
    return {
        name: value
        for name, value in pairs.items()
        if name.startswith("ETCD_") and not is_secret(name)
    }


def process_program(pid: int) -> str:
    """The path of the program that a process runs; empty where it has ended."""
    try:
        with etcd_ha_common_files.reading(f"/proc/{pid}/exe"):
            return os.readlink(f"/proc/{pid}/exe")
    except (*etcd_ha_common_files.ABSENT, ProcessLookupError):
        return ""


def owner_of(pid: int) -> dict[str, str] | None:
    """As whom a process runs (``user``, ``group``); None where it does not, or has no names."""
    text = _of_process(pid, "status") if pid else None
    # proc_pid_status(5): real, effective, saved and file system ids.
    ids = dict(re.findall(r"^(Uid|Gid):\t\d+\t(\d+)\t", text or "", re.MULTILINE))
    try:
        user = pwd.getpwuid(int(ids["Uid"])).pw_name
        return {"user": user, "group": grp.getgrgid(int(ids["Gid"])).gr_name}
    except KeyError:
        return None


def _of_process(pid: int, name: str) -> str | None:
    """A file of a process, None where it has ended."""
    try:
        return etcd_ha_common_files.text(f"/proc/{pid}/{name}")
    except ProcessLookupError:
        return None


# Read at the start alone; certificates and keys are read at every handshake
# (client/pkg/transport/listener.go of etcd).
READ_ONCE = ("ETCD_TRUSTED_CA_FILE", "ETCD_PEER_TRUSTED_CA_FILE")


def pending(unit: Unit, program: str) -> list[str]:
    """What is on disk but not yet in the running process: ``unit``, ``program``, ``trust``.

    By times, not by content: nobody saw what a process has read that systemd started by itself. A
    file whose time lies in the future counts as newer, since it may be; see ``put_times_right``.
    """
    if not unit.pid:
        return []
    runs, reasons = process_program(unit.pid), []
    if not runs:
        # It has ended meanwhile, and starts with what is on disk.
        return []
    if unit.stale or _written(unit.path) > unit.started:
        reasons.append("unit")
    if program and os.path.realpath(program) != runs:
        reasons.append("program")
    environment = process_environment(unit.pid)
    if any(_written(environment.get(one, "")) > unit.started for one in READ_ONCE):
        reasons.append("trust")
    return reasons


def _written(path: str) -> int:
    """When a file was written (seconds since 1970), 0 where there is none."""
    if not path:
        return 0
    try:
        with etcd_ha_common_files.reading(path):
            return int(os.stat(path).st_mtime)
    except etcd_ha_common_files.ABSENT:
        return 0


def put_times_right(unit_file: str, environment: Mapping[str, str]) -> list[str]:
    """Give files that a start is about to read the present time, if theirs lies in the future.

    A clock that was ahead and was put back leaves such files. They would be newer than every
    process (``pending``), and each run would restart the member until their time has come. What
    starts now has read them. The caller reloads systemd: it compares the unit's time, too.

    Returns the files. One that cannot be changed stays as it is: a start matters more.
    """
    now, found = int(time.time()), []
    for path in (unit_file, *(environment.get(one, "") for one in READ_ONCE)):
        if _written(path) > now:
            with contextlib.suppress(OSError):
                os.utime(path, (now, now))
                found.append(path)
    return list(dict.fromkeys(found))


def read_text(path: str) -> str:
    """A file's text, empty where there is none; raises Unreadable where it cannot be read."""
    return etcd_ha_common_files.text(path) or ""


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
    """Which files are no longer as the states left them; raises Unreadable."""
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


def listens(url: str, timeout: float = 2.0) -> bool:
    """Whether something takes connections there; a host that does not answer counts as gone.

    Raises OSError where nobody asked that host: this one could not (no route, no address for the
    name, a rule against it, no more sockets). Then nothing is known of it.
    """
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 443), timeout).close()
    except (ConnectionResetError, ConnectionAbortedError):
        return True
    except (ConnectionRefusedError, TimeoutError):
        return False
    except OSError as err:
        if err.errno in (errno.EHOSTUNREACH, errno.EHOSTDOWN):
            return False
        raise
    return True


def shake_hands(url: str, ca: str, pair: tuple[str, str], timeout: float = 5.0) -> bytes:
    """A TLS handshake that trusts this CA (PEM text) alone; raises OSError where it fails.

    ``pair`` are the files of this client's own certificate and key. Returns the certificate that
    was served (DER).
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
        return connection.getpeercert(binary_form=True) or b""


def get(
    url: str,
    ca: str | None,
    certificate: str | None,
    key: str | None,
    timeout: float = 5.0,
    most: int = _ANSWER,
) -> tuple[int, str]:
    """HTTP GET over mutual TLS: status code and so many bytes of the body; raises OSError."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    connection = _connection(parts.scheme, host, port, (ca, certificate, key), timeout)
    try:
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read(most).decode("utf-8", "replace")
    except http.client.HTTPException as err:
        raise OSError(f"{url} did not speak HTTP: {err!r}") from err
    finally:
        connection.close()
