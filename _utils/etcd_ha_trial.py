"""A test restore: what etcd itself finds in a snapshot once it runs on it, in a directory aside.

https://etcd.io/docs/v3.6/op-guide/recovery/
"""

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass

import etcd_ha_client
import etcd_ha_common_files
import etcd_ha_common_process
import etcd_ha_etcdctl
from etcd_ha_common_process import ANY_CODE, ProgramError

# What a restore and etcd's start write beside the data: the log is allocated in parts of 64 MB
# (server/storage/wal/wal.go, SegmentSizeBytes), one in use and one in advance.
BESIDE_DATA = 160 << 20
# A path in an URL is refused before 3.7 ("must be host:port"), so the sockets' names look like
# hosts and ports; they are made in the directory in which etcd was started.
CLIENT_SOCKET, PEER_SOCKET = "client:1", "peer:1"


class TrialError(ValueError):
    """The snapshot cannot be restored, or it could not be found out; the text says why."""


@dataclass(frozen=True)
class Content:
    """What etcd found in a snapshot: its revision, and how many keys live at it."""

    revision: int
    keys: int


def in_the_background() -> list[str]:
    """The words before a program that shall not disturb etcd, nor outlive whoever started it."""
    words = {"setpriv": ["--pdeathsig", "KILL"], "ionice": ["-c", "3"], "nice": ["-n", "19"]}
    return [one for name, more in words.items() if shutil.which(name) for one in (name, *more)]


def restore_program() -> str:
    """What restores: etcdutl from 3.6 on alone, etcdctl in 3.4, which has no etcdutl."""
    found = etcd_ha_client.program("etcdutl")
    return found if os.path.exists(found) else etcd_ha_client.program("etcdctl")


def opened(path: str, scratch: str, pki: Mapping[str, str], timeout: float) -> Content:
    """Restore a snapshot into ``scratch``, start etcd on it, and count its keys.

    ``scratch`` is a directory that is made and removed again. etcd listens on sockets in there
    alone, which root alone can reach. ``pki`` are root's ``ETCDCTL_*`` variables and, where there
    is TLS, ``CERT`` and ``KEY`` of the member: with authentication on, etcd answers root's
    certificate alone. ``timeout`` (seconds) is for all of it. Raises TrialError.
    """
    deadline = time.monotonic() + timeout
    etcd_ha_common_files.make_directory(scratch, 0o700, fresh=True)
    try:
        _restore(path, scratch, deadline)
        return _counted(scratch, pki, deadline)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _restore(path: str, scratch: str, deadline: float) -> None:
    command = [*in_the_background(), restore_program(), "snapshot", "restore", path]
    command.append(f"--data-dir={scratch}/data")
    try:
        done = etcd_ha_common_process.run(
            command,
            _left(deadline),
            codes=ANY_CODE,
            environment={"HOME": scratch},
            folder=scratch,
        )
    except ProgramError as err:
        raise TrialError(f"the test restore did not end: {err}") from err
    if done.code:
        raise TrialError(f"the test restore failed: {_last(done.err or done.out)}")


def _counted(scratch: str, pki: Mapping[str, str], deadline: float) -> Content:
    command = [*in_the_background(), etcd_ha_client.program("etcd"), *_flags(scratch, pki)]
    with open(f"{scratch}/log", "wb") as log:
        try:
            with etcd_ha_common_process.started(
                command, environment={"HOME": scratch}, folder=scratch, stdout=log, stderr=log
            ) as process:
                return _first_answer(scratch, pki, deadline, process)
        except ProgramError as err:
            raise TrialError(f"etcd could not be started on the restored data: {err}") from err


def _first_answer(
    scratch: str,
    pki: Mapping[str, str],
    deadline: float,
    process: "etcd_ha_common_process.Process[bytes]",
) -> Content:
    """Ask until etcd answers, ends by itself, or the time is over."""
    while True:
        found, told = _asked(scratch, pki, _left(deadline))
        if found:
            return found
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            with open(f"{scratch}/log", encoding="utf-8", errors="replace") as file:
                told = _last(file.read()) if ended else told
            raise TrialError(f"etcd did not open the restored data: {told}")
        time.sleep(0.2)


def _flags(scratch: str, pki: Mapping[str, str]) -> list[str]:
    scheme = "unixs" if "CERT" in pki else "unix"
    flags = {
        "name": "default",
        "data-dir": f"{scratch}/data",
        "listen-client-urls": f"{scheme}://{CLIENT_SOCKET}",
        "advertise-client-urls": "http://localhost:1",
        "listen-peer-urls": f"unix://{PEER_SOCKET}",
        "logger": "zap",
        "log-level": "warn",
    }
    if "CERT" in pki:
        flags |= {"cert-file": pki["CERT"], "key-file": pki["KEY"]}
        flags |= {"trusted-ca-file": pki["ETCDCTL_CACERT"], "client-cert-auth": "true"}
    return [f"--{name}={value}" for name, value in flags.items()]


def _asked(scratch: str, pki: Mapping[str, str], left: float) -> tuple[Content | None, str]:
    """The content, or why there is no answer yet."""
    variables = {name: value for name, value in pki.items() if name.startswith("ETCDCTL_")}
    scheme = "unixs" if "CERT" in pki else "unix"
    variables["ETCDCTL_ENDPOINTS"] = f"{scheme}://{CLIENT_SOCKET}"
    if "CERT" in pki:
        # The certificate names the member's address, and this is a socket in our own directory.
        variables["ETCDCTL_INSECURE_SKIP_TLS_VERIFY"] = "true"
    command = ["get", "", "--prefix", "--keys-only", "--limit=1", "--consistency=s", "-w", "json"]
    if not os.path.exists(f"{scratch}/{CLIENT_SOCKET}"):
        return None, "it does not listen yet"
    try:
        program = etcd_ha_client.program("etcdctl")
        limit = min(30.0, left)
        done = etcd_ha_etcdctl.call(command, variables, program, limit, folder=scratch)
        answer = done.json()
        found = Content(etcd_ha_etcdctl.revision(answer), etcd_ha_etcdctl.count(answer))
    except etcd_ha_etcdctl.EtcdctlError as err:
        return None, str(err)
    return found, ""


def _left(deadline: float) -> float:
    return max(1.0, deadline - time.monotonic())


def _last(text: str) -> str:
    """The last line that says something; of zap's JSON its error and message."""
    lines = [line for line in text.splitlines() if line.strip()] or ["it said nothing"]
    try:
        row = json.loads(lines[-1])
        return " ".join(str(row[key]) for key in ("msg", "error") if key in row)[-300:]
    except (ValueError, TypeError, RecursionError):
        return lines[-1][-300:]
