"""What a balancer makes of the members, asked on its own host.

HAProxy tells what its checks say (its statistics socket); nginx has no checks of its own. Beside it
each member is asked here and now as HAProxy's check asks it, so that a member that has just stopped
to answer is known before a check interval is over.
"""

import contextlib
import csv
import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Any

import etcd_ha_common_wait
from etcd_ha_common_wait import TimedOut

# In /run itself: HAProxy makes it as root, and packages differ in the folders that they have there.
SOCKET = "/run/etcd_ha_haproxy.sock"
# What a check of HAProxy says of a member that passed it.
PASSED = ("L7OK", "L7OKC")
# Seconds for one look at HAProxy's statistics, and characters that are read of them.
_PATIENCE, _MOST = 5.0, 1 << 20
# Seconds that a check may take beside its interval, on a busy host.
_MARGIN = 1.0
# Of the metrics, which tell when a member's process began.
_METRICS = 8 << 20


class Watch:
    """Looks at the members of one balancer until they are up, or a time is over.

    ``balancer`` is the balancer's part of the host's mark (``etcd_ha_host.mark``). Without
    ``fresh`` a check of HAProxy that passed counts whenever the member's process began.
    """

    def __init__(self, balancer: Mapping[str, Any], path: str = SOCKET, fresh: bool = True) -> None:
        self.balancer, self.path, self.fresh = balancer, path, fresh
        self.began = time.monotonic()
        # Endpoint -> since when the member's process runs there, by this host's clock.
        self.since: dict[str, float] = {}

    def wait(self, minions: Sequence[str], timeout: float) -> dict[str, str]:
        """Member -> why it is not up; empty as soon as all are, at the latest after ``timeout`` s.

        A member that moves has several endpoints: one of them is enough.
        """
        down: dict[str, str] = {}

        def look() -> tuple[bool | None, str]:
            down.clear()
            down.update(self._down(minions))
            return (None if down else True), ""

        # Who is not up by then is returned, each with its reason.
        with contextlib.suppress(TimedOut):
            etcd_ha_common_wait.until("all to be up", timeout, look, 0.1)
        return down

    def _down(self, minions: Sequence[str]) -> dict[str, str]:
        wanted = [one for one in self.balancer["backends"] if one["minion"] in minions]
        told = self._statistics() if self.balancer["kind"] == "haproxy" else None
        with ThreadPoolExecutor(max(1, len(wanted))) as each:
            found = list(each.map(lambda one: self._fault(one, told), wanted))
        down: dict[str, str] = {}
        for minion in minions:
            faults = [
                fault for one, fault in zip(wanted, found, strict=True) if one["minion"] == minion
            ]
            if not faults:
                down[minion] = "this balancer does not know it"
            elif all(faults):
                down[minion] = "; ".join(dict.fromkeys(faults))
        return down

    def _fault(self, backend: Mapping[str, str], told: Mapping[str, Any] | str | None) -> str:
        """Why a backend is not up, or an empty text."""
        fault = self._probe(backend["endpoint"])
        if fault or told is None:
            return fault
        if isinstance(told, str):
            return told
        row = told.get(backend["name"])
        if row is None:
            return "HAProxy does not know it; look at: systemctl status haproxy"
        says = f"HAProxy says {row['status']} ({row['check_status']} {row['last_chk']})".strip()
        if not row["status"].startswith("UP") or row["check_status"] not in PASSED:
            return says
        if not self.fresh or self._is_fresh(backend["endpoint"], row):
            return ""
        return f"{says}, from before its start"

    def _is_fresh(self, endpoint: str, row: Mapping[str, str]) -> bool:
        """Whether a check has passed since the member's process began."""
        if endpoint not in self.since:
            self.since[endpoint] = self._started(endpoint)
        age = time.monotonic() - self.since[endpoint]
        changed = float(row["lastchg"]) if row["lastchg"].isdigit() else float("inf")
        # It came up after that start, or has been up for longer than it takes to check again.
        return changed + 1 < age or age > float(self.balancer["check_interval"]) + _MARGIN

    def _started(self, endpoint: str) -> float:
        """When the process at an endpoint began, by this host's clock; now, where nobody tells.

        Both times of the answer are the member's, so that it does not matter whether clocks agree.
        """
        try:
            answer, headers = self._ask(endpoint, "GET", "/metrics", "", _METRICS)
            times = [
                float(line.split()[1])
                for line in answer[1].splitlines()
                if line.startswith("process_start_time_seconds ")
            ]
            there = parsedate_to_datetime(headers).timestamp()
            return time.monotonic() - max(0.0, there - times[0])
        except (OSError, ValueError, TypeError, IndexError):
            return self.began

    def _probe(self, endpoint: str) -> str:
        """What HAProxy's checks would find there now: why it is not up, or an empty text."""
        for check in self.balancer["checks"]:
            try:
                (code, body), _ = self._ask(
                    endpoint, check["method"], check["path"], check["body"], _MOST
                )
            except OSError as err:
                return f"{check['method']} {check['path']} at {endpoint}: {err}"
            if not _is_expected(check["expect"], code, body):
                told = " ".join(body.split())[:200]
                return f"{check['method']} {check['path']} at {endpoint}: HTTP {code} {told}"
        return ""

    def _ask(
        self, endpoint: str, method: str, path: str, body: str, most: int
    ) -> tuple[tuple[int, str], str]:
        """Status code and body, and the member's own time; raises OSError."""
        host, _, port = endpoint.rpartition(":")
        host, timeout = host.strip("[]"), float(self.balancer["check_timeout"]) + _MARGIN
        connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
        if self.balancer["ca"]:
            context = self._context()
            connection = http.client.HTTPSConnection(
                host, int(port), timeout=timeout, context=context
            )
        headers = {"Host": "etcd", "Connection": "close"}
        headers |= {"Content-Type": "application/json"} if body else {}
        try:
            connection.request(method, path, body=body or None, headers=headers)
            answer = connection.getresponse()
            text = answer.read(most).decode("utf-8", "replace")
            return (answer.status, text), answer.headers.get("Date", "")
        except http.client.HTTPException as err:
            raise OSError(f"it does not speak HTTP there: {err!r}") from err
        finally:
            connection.close()

    def _context(self) -> ssl.SSLContext:
        """TLS as HAProxy's checks speak it; whose certificate it is, HAProxy itself looks at."""
        context = ssl.create_default_context(cafile=self.balancer["ca"])
        context.check_hostname = False
        # HAProxy's library does not ask for what newer Pythons do.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.load_cert_chain(self.balancer["certificate"], self.balancer["key"])
        return context

    def _statistics(self) -> dict[str, dict[str, str]] | str:
        """HAProxy's servers by name, or why it does not tell."""
        try:
            return statistics(_asked(self.path, "show stat"), f"members_{self.balancer['cluster']}")
        except OSError as err:
            return (
                f"HAProxy does not answer at {self.path} ({err}); look at: systemctl status haproxy"
            )


def statistics(text: str, backend: str) -> dict[str, dict[str, str]]:
    """The servers of one backend in the CSV of ``show stat``, by name."""
    rows = csv.DictReader(io.StringIO(text.lstrip("# ")))
    needed = ("pxname", "svname", "status", "check_status", "lastchg", "last_chk")
    found = {}
    for row in rows:
        if row.get("pxname") != backend or row.get("svname") in ("FRONTEND", "BACKEND"):
            continue
        kept = {name: str(row.get(name) or "") for name in needed}
        # While a check runs, the result before it stands behind a star.
        kept["check_status"] = kept["check_status"].removeprefix("* ")
        found[kept["svname"]] = kept
    return found


def _asked(path: str, command: str) -> str:
    """One command to HAProxy's socket, and its answer; raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(_PATIENCE)
        link.connect(path)
        link.sendall(f"{command}\n".encode())
        parts, size = [], 0
        while size < _MOST and (part := link.recv(65536)):
            parts.append(part)
            size += len(part)
    return b"".join(parts).decode("utf-8", "replace")


def _is_expected(expect: str, code: int, body: str) -> bool:
    """HAProxy's ``http-check expect``, as far as etcd_ha_host uses it."""
    kind, _, pattern = expect.removeprefix("! ").partition(" ")
    met = str(code) == pattern if kind == "status" else pattern.strip('"') in body
    return met is not expect.startswith("! ")
