"""A client that writes and one that reads through one endpoint all the time, as applications would.

Each key is put with its own value until it is acknowledged, on a persistent connection that is
opened anew after an error. The reader asks for the key that was acknowledged last: one that is not
there is a stale read, and so is a revision older than the one before. Prints counts as JSON, ends
when the file that it was given is there.

With two ``schemes`` a new connection is opened by the one that served last, or by the other where
that one does not serve: so do clients that know two endpoints. A first failure is retried at once,
a second one after a pause.

With a ``user`` each connection begins by giving its name and password: etcd's HTTP gateway then
hands out a token, which a member that was restarted does not know any more.

The longest gap between two acknowledgements is told with its parts, in seconds: ``paused`` (the
client's own), ``connected`` (TCP and TLS), ``failed`` (waits that ended in an error) and
``answered`` (the wait for the acknowledgement that ended the gap).
"""

import base64
import functools
import http.client
import json
import os
import ssl
import sys
import threading
import time

wanted = json.loads(sys.argv[1])
PAUSE = 0.01
PARTS = ("paused", "connected", "failed", "answered")


class Client:
    """One persistent connection; ``parts`` counts where its time goes."""

    def __init__(self):
        self.turn, self.connection, self.headers = 0, None, {}
        self.parts = dict.fromkeys(PARTS, 0.0)

    def ask(self, path, body):
        """The answer's JSON; raises OSError for all that is no success."""
        with self._part("connected"):
            if self.connection is None:
                self.connection = self._connect()
                self._log_in()
        began, part = time.monotonic(), "failed"
        try:
            found = self._answer(path, body)
            part = "answered"
        finally:
            self.parts[part] += time.monotonic() - began
        return found

    def pause(self, seconds):
        with self._part("paused"):
            time.sleep(seconds)

    def drop(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def _part(self, name):
        return Part(self.parts, name)

    def _answer(self, path, body):
        self.connection.request("POST", path, json.dumps(body), self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise OSError(f"{answer.status} {text[:150].decode(errors='replace')}")
        return json.loads(text)

    def _log_in(self):
        self.headers = {}
        if wanted.get("user"):
            token = self._answer("/v3/auth/authenticate", wanted["user"])["token"]
            self.headers = {"Authorization": token}

    def _connect(self):
        schemes = wanted["schemes"]
        for left in reversed(range(len(schemes))):
            try:
                connection = self._made(schemes[self.turn % len(schemes)])
                connection.connect()
                if len(schemes) > 1:
                    serves(connection)
                return connection
            except (OSError, http.client.HTTPException):
                self.turn += 1
                if not left:
                    raise

    def _made(self, scheme):
        host, port = wanted["host"], wanted["port"]
        if scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=wanted["timeout"])
        # Where TLS comes later, the files are not there yet: that is an error like another.
        files = (wanted["ca"], wanted["certificate"], wanted["key"])
        context = trusting(files, tuple(os.stat(file).st_mtime for file in files))
        return http.client.HTTPSConnection(host, port, timeout=wanted["timeout"], context=context)


def serves(connection):
    """Raise OSError where this connection is of no use: TLS and plain HTTP may share a port."""
    connection.request("GET", "/version")
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        connection.close()
        raise OSError(f"{answer.status} to /version")


class Part:
    """The time in its block counts as a part of the gap."""

    def __init__(self, parts, name):
        self.parts, self.name = parts, name

    def __enter__(self):
        self.began = time.monotonic()

    def __exit__(self, *_):
        self.parts[self.name] += time.monotonic() - self.began


@functools.lru_cache(maxsize=8)
def trusting(files, _):
    """The files, read once for each of their states: an application keeps them in memory too."""
    ca, certificate, key = files
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(certificate, key)
    return context


def coded(text):
    return base64.b64encode(text.encode()).decode()


def key(number):
    return coded(f"{wanted['prefix']}{number:06d}")


acknowledged, stopped = 0, False


def read(result):
    client, revision = Client(), 0
    while not stopped:
        last = acknowledged - 1
        if last >= 0:
            try:
                answer = client.ask("/v3/kv/range", {"key": key(last)})
            except (OSError, ValueError, http.client.HTTPException):
                result["reads_failed"] += 1
                client.drop()
            else:
                result["reads"] += 1
                found = int(answer["header"]["revision"])
                held = answer.get("kvs", [{}])[0].get("value")
                if held != coded(str(last)) or found < revision:
                    result["stale_reads"] += 1
                revision = max(revision, found)
        time.sleep(4 * PAUSE)


def lateness(result):
    """By how much this machine lets a process oversleep: a part of each gap that is not etcd's."""
    while not stopped:
        began = time.monotonic()
        time.sleep(PAUSE)
        result["late"] = max(result["late"], time.monotonic() - began - PAUSE)


result = {"reads": 0, "reads_failed": 0, "stale_reads": 0, "late": 0.0}
threads = [threading.Thread(target=one, args=(result,)) for one in (read, lateness)]
for thread in threads:
    thread.start()
client, errors, failed, failed_again, row = Client(), [], 0, 0, 0
gaps = []
began = last = time.monotonic()
ends = began + wanted["seconds"]
while time.monotonic() < ends and not os.path.exists(wanted["stop"]):
    number = acknowledged
    try:
        client.ask("/v3/kv/put", {"key": key(number), "value": coded(str(number))})
    except (OSError, ValueError, http.client.HTTPException) as err:
        failed, row = failed + 1, row + 1
        failed_again += row == 2
        errors.append(f"{time.monotonic() - began:.3f} s: {type(err).__name__}: {err}")
        client.drop()
        if row > 1:
            client.pause(PAUSE)
        continue
    now = time.monotonic()
    gaps.append({"gap": now - last, "at": now - began, **client.parts})
    client.parts = dict.fromkeys(PARTS, 0.0)
    last, row, acknowledged = now, 0, number + 1
    client.pause(PAUSE)
gaps.append({"gap": time.monotonic() - last, "at": last - began, **client.parts})
stopped = True
for thread in threads:
    thread.join()
gaps.sort(key=lambda one: -one["gap"])
result |= {"acknowledged": acknowledged, "failed": failed, "failed_again": failed_again}
result |= {"longest_gap": gaps[0]["gap"], "gaps": gaps[:5], "errors": errors[-10:]}
result |= {"seconds": time.monotonic() - began}
print(json.dumps(result))
