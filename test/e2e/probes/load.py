"""A client that writes and one that reads through one endpoint all the time, as applications would.

Each key is put with its own value until it is acknowledged, on a persistent connection that is
opened anew after an error. The reader asks for the key that was acknowledged last: one that is not
there is a stale read, and so is a revision older than the one before. Prints counts as JSON, ends
when the file that it was given is there.

``schemes`` are taken in turn: after an error the next one is tried.
"""

import base64
import http.client
import json
import os
import ssl
import sys
import threading
import time

wanted = json.loads(sys.argv[1])
PAUSE = 0.01


class Client:
    """One persistent connection."""

    def __init__(self):
        self.turn, self.connection = 0, None

    def ask(self, path, body):
        """The answer's JSON; raises OSError for all that is no success."""
        if self.connection is None:
            self.connection = self._connect()
        self.connection.request("POST", path, json.dumps(body))
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise OSError(f"{answer.status} {text[:150].decode(errors='replace')}")
        return json.loads(text)

    def drop(self):
        if self.connection is not None:
            self.connection.close()
        self.connection, self.turn = None, self.turn + 1

    def _connect(self):
        host, port = wanted["host"], wanted["port"]
        if wanted["schemes"][self.turn % len(wanted["schemes"])] == "http":
            return http.client.HTTPConnection(host, port, timeout=3)
        # Where TLS comes later, the files are not there yet: that is an error like another.
        context = ssl.create_default_context(cafile=wanted["ca"])
        context.load_cert_chain(wanted["certificate"], wanted["key"])
        return http.client.HTTPSConnection(host, port, timeout=3, context=context)


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
client, errors, failed, failed_again, row, longest = Client(), [], 0, 0, 0, 0.0
began = last = time.monotonic()
ends = began + wanted["seconds"]
while time.monotonic() < ends and not os.path.exists(wanted["stop"]):
    number = acknowledged
    try:
        client.ask("/v3/kv/put", {"key": key(number), "value": coded(str(number))})
    except (OSError, ValueError, http.client.HTTPException) as err:
        failed, row = failed + 1, row + 1
        failed_again += row == 2
        errors.append(f"{time.monotonic() - began:.2f} s: {type(err).__name__}: {err}")
        client.drop()
        time.sleep(2 * PAUSE)
        continue
    now = time.monotonic()
    longest, last, row, acknowledged = max(longest, now - last), now, 0, number + 1
    time.sleep(PAUSE)
longest, stopped = max(longest, time.monotonic() - last), True
for thread in threads:
    thread.join()
result |= {"acknowledged": acknowledged, "failed": failed, "failed_again": failed_again}
result |= {"longest_gap": longest, "seconds": time.monotonic() - began, "errors": errors[-10:]}
print(json.dumps(result))
