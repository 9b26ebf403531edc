"""The campaign's clients: they write, read, compare-and-swap, delete and watch, and tell all of it.

Runs on the machine, in the lab's network, so that no fault of a host is one of theirs. They reach
the cluster through its balancers alone, by etcd's HTTP gateway over mutual TLS. Each request and
each watch event is a line of JSON in the file ``out`` (history.py says what it holds).

What they do is told by the file ``control``, read ten times a second: ``era`` (keys and watchers of
their own, anew behind a restore), ``paused``, ``finish`` (read all keys once more, see that the
watchers have come to the end of this era) and ``stop``. When they have come to where it asks for,
the file ``told`` repeats what they read.

- Registers: a few keys at a time, each used for so many operations by all clients and then left for
  a new one, so that its history stays short enough to be checked.
- Ledgers: each key is written once, so that a lost one is plain to see.
- Watchers: all keys of the era, resumed behind what they saw last.
"""

import base64
import http.client
import itertools
import json
import os
import random
import ssl
import sys
import threading
import time

KINDS, WEIGHTS = ("put", "get", "cas", "delete"), (30, 35, 28, 7)
# etcd answers these before, or instead of, doing anything.
REFUSALS = ("database space exceeded", "too many requests", "permission denied")
WATCH_SILENCE = 4.0


class Refused(Exception):
    """An answer that is no success; ``certain``: nothing was done."""

    def __init__(self, text):
        super().__init__(text)
        self.certain = any(word in text for word in REFUSALS)


def coded(text):
    return base64.b64encode(text.encode()).decode()


def plain(text):
    return base64.b64decode(text or "").decode()


def field(mapping, name, default=None):
    """A field as either form of the gateway's JSON has it: mod_revision, modRevision."""
    first, *rest = name.split("_")
    other = first + "".join(word.title() for word in rest)
    return mapping.get(name, mapping.get(other, default))


class Recorder:
    """The file with the history."""

    def __init__(self, path):
        self.file, self.lock = open(path, "a", encoding="utf-8"), threading.Lock()  # noqa: SIM115

    def tell(self, what, **row):
        with self.lock:
            self.file.write(json.dumps({"what": what, **row}) + "\n")
            self.file.flush()


class Certificates:
    """TLS with the newest certificates that can be read; with those of before while there are none.

    The hosts' own files are looked at where the machine sees them; a host that is off has none.
    """

    def __init__(self, folders):
        self.folders, self.stamp, self.context = folders, None, None
        self.lock = threading.Lock()

    def get(self):
        with self.lock:
            for folder in self.folders:
                names = [f"{folder}/{name}" for name in ("ca.crt", "check.crt", "check.key")]
                try:
                    stamp = (folder, *(os.stat(name).st_mtime_ns for name in names))
                    if stamp != self.stamp:
                        made = ssl.create_default_context(cafile=names[0])
                        made.load_cert_chain(names[1], names[2])
                        self.stamp, self.context = stamp, made
                    break
                except (OSError, ssl.SSLError):
                    continue
            if self.context is None:
                raise OSError("there are no certificates yet")
            return self.context


class Connection:
    """A connection through one balancer, or through the next one where that fails."""

    def __init__(self, wanted, certificates, turn=0):
        self.wanted, self.certificates, self.turn, self.made = wanted, certificates, turn, None

    def open(self, timeout=None):
        """Raises OSError where no balancer lets it in; nothing was asked then."""
        if self.made is not None:
            return self.made
        endpoints = self.wanted["endpoints"]
        for left in reversed(range(len(endpoints))):
            host, port = endpoints[self.turn % len(endpoints)]
            made = http.client.HTTPSConnection(
                host,
                port,
                timeout=timeout or self.wanted["timeout"],
                context=self.certificates.get(),
            )
            try:
                made.connect()
                self.made = made
                return made
            except OSError:
                self.turn += 1
                if not left:
                    raise
        raise OSError("no balancer")

    def ask(self, path, body):
        self.made.request("POST", path, json.dumps(body))
        answer = self.made.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise Refused(text[:200].decode(errors="replace"))
        return json.loads(text)

    def drop(self):
        if self.made is not None:
            self.made.close()
        self.made = None


class State:
    """What the control file asks for, and what all clients share."""

    def __init__(self, wanted):
        self.wanted = wanted
        self.control = {"era": 0, "paused": True}
        self.lock = threading.Lock()
        # Slot -> [generation, operations so far]; (key) -> the value that somebody saw last.
        self.slots, self.last, self.keys = {}, {}, set()
        self.numbers = itertools.count(1)
        self.busy = 0
        # Watcher -> (era, last revision that it was told).
        self.reached = {}

    @property
    def stopping(self):
        return bool(self.control.get("stop"))

    def read(self):
        try:
            with open(self.wanted["control"], encoding="utf-8") as file:
                self.control = json.load(file)
        except (OSError, ValueError):
            pass

    def works(self):
        """Enter that a client begins an operation; its era, or None where it is to wait."""
        with self.lock:
            control = self.control
            if any(control.get(word) for word in ("paused", "finish", "stop")):
                return None
            self.busy += 1
            return control["era"]

    def rests(self):
        with self.lock:
            self.busy -= 1

    def key(self, era, slot):
        with self.lock:
            generation, used = self.slots.get((era, slot), (0, 0))
            if used >= self.wanted["operations_per_key"]:
                generation, used = generation + 1, 0
            self.slots[era, slot] = (generation, used + 1)
            key = f"{self.wanted['prefix']}e{era}/r{slot}.{generation}"
            self.keys.add((era, key))
            return key

    def value(self, client):
        with self.lock:
            return f"{client}.{next(self.numbers)}"


def request(kind, key, value=None, expected=None):
    """Path and body of an operation."""
    name = coded(key)
    if kind == "get":
        return "/v3/kv/range", {"key": name}
    if kind == "put":
        return "/v3/kv/put", {"key": name, "value": coded(value)}
    if kind == "delete":
        return "/v3/kv/deleterange", {"key": name, "prev_kv": True}
    compare = {"key": name, "result": "EQUAL"}
    if expected is None:
        compare |= {"target": "VERSION", "version": "0"}
    else:
        compare |= {"target": "VALUE", "value": coded(expected)}
    return "/v3/kv/txn", {
        "compare": [compare],
        "success": [{"request_put": {"key": name, "value": coded(value)}}],
        "failure": [{"request_range": {"key": name}}],
    }


def answered(kind, answer):
    """What an answer says: found, modified, succeeded, revision."""
    told = {"revision": int(answer["header"]["revision"])}
    rows = answer.get("kvs", [])
    if kind == "delete":
        told["succeeded"] = int(answer.get("deleted", 0)) > 0
        rows = field(answer, "prev_kvs") or []
    elif kind == "cas":
        told["succeeded"] = bool(answer.get("succeeded"))
        if not told["succeeded"]:
            one = (answer.get("responses") or [{}])[0]
            rows = (field(one, "response_range") or {}).get("kvs", [])
    if rows:
        told["found"] = plain(rows[0].get("value"))
        told["modified"] = int(field(rows[0], "mod_revision"))
    return told


def perform(connection, recorder, client, kind, key, value=None, expected=None):
    """One operation, recorded; what its answer says, or None where there was none."""
    path, body = request(kind, key, value, expected)
    row = {"client": client, "kind": kind, "key": key, "value": value, "expected": expected}
    began, told, outcome = time.monotonic(), {}, "failed"
    try:
        connection.open()
        outcome = "unknown"
        told = answered(kind, connection.ask(path, body))
        outcome = "ok"
    except Refused as why:
        outcome = "failed" if why.certain else "unknown"
        connection.drop()
    except (OSError, ValueError, KeyError, http.client.HTTPException):
        connection.drop()
    ended = time.monotonic() if outcome != "unknown" else None
    recorder.tell("operation", **row, began=began, ended=ended, outcome=outcome, **told)
    return told if outcome == "ok" else None


def register(state, recorder, certificates, number):
    """Reads, writes, swaps and deletes of the keys that all clients share."""
    client, chance = f"c{number}", random.Random(f"{state.wanted['seed']}/{number}")
    connection = Connection(state.wanted, certificates, number)
    while not state.stopping:
        era = state.works()
        if era is None:
            time.sleep(0.05)
            continue
        try:
            key = state.key(era, chance.randrange(state.wanted["slots"]))
            kind = chance.choices(KINDS, WEIGHTS)[0]
            value = state.value(client) if kind in ("put", "cas") else None
            expected = state.last.get(key) if kind == "cas" else None
            told = perform(connection, recorder, client, kind, key, value, expected)
            if told is not None:
                wrote = kind == "put" or (kind == "cas" and told["succeeded"])
                state.last[key] = value if wrote else told.get("found")
        finally:
            state.rests()
        # What cannot be done now is not tried a hundred times a second.
        time.sleep(chance.uniform(0.3, 1) * state.wanted["pause"] * (1 if told is not None else 5))


def ledger(state, recorder, certificates, number):
    """Keys that are written once; one that was not acknowledged is left as it is."""
    client, connection = f"l{number}", Connection(state.wanted, certificates, number)
    for count in itertools.count():
        era = state.works()
        while era is None:
            if state.stopping:
                return
            time.sleep(0.05)
            era = state.works()
        try:
            key = f"{state.wanted['prefix']}e{era}/{client}/{count:06d}"
            told = perform(connection, recorder, client, "put", key, state.value(client))
        finally:
            state.rests()
        time.sleep(state.wanted["pause"] * (1 if told is not None else 5))


def watcher(state, recorder, certificates, number):
    """All keys of an era from its begin on, resumed behind the last revision that was told."""
    while not state.stopping:
        era = state.control["era"]
        if state.control.get("paused") or not era:
            time.sleep(0.05)
            continue
        name, last = f"w{number}.{era}", None
        connection = Connection(state.wanted, certificates, number)
        while not state.stopping and state.control["era"] == era:
            try:
                connection.open(WATCH_SILENCE)
                if last is None:
                    last = _present(connection) if number else 1
                last = _watch(state, recorder, connection, name, era, last)
            except (Refused, OSError, ValueError, KeyError, http.client.HTTPException):
                time.sleep(0.2)
            connection.drop()


def _present(connection):
    """The store's revision now, from which a watcher begins that does not want the past."""
    answer = connection.ask("/v3/kv/range", {"key": coded("/"), "limit": "1"})
    return int(answer["header"]["revision"])


def _watch(state, recorder, connection, name, era, last):
    """One stream, until it ends or the era does; the last revision that it told."""
    prefix = f"{state.wanted['prefix']}e{era}/"
    asked = {"key": coded(prefix), "range_end": coded(prefix[:-1] + "0")}
    asked["start_revision"] = str(last + 1)
    connection.made.request("POST", "/v3/watch", json.dumps({"create_request": asked}))
    stream = connection.made.getresponse()
    if stream.status != 200:
        raise Refused(stream.read(200).decode(errors="replace"))
    recorder.tell("watch", watcher=name, kind="opened", revision=last + 1)
    while not state.stopping and state.control["era"] == era:
        try:
            line = stream.readline()
        except OSError:
            return last
        if not line:
            return last
        told = json.loads(line)
        if "result" not in told:
            return last
        result = told["result"]
        gone = int(field(result, "compact_revision", 0))
        if gone:
            recorder.tell("watch", watcher=name, kind="compacted", revision=gone)
            return max(last, gone)
        if result.get("canceled"):
            return last
        for event in result.get("events", ()):
            one = event["kv"]
            value = None if event.get("type") == "DELETE" else plain(one.get("value"))
            last = int(field(one, "mod_revision"))
            row = {"revision": last, "key": plain(one["key"]), "value": value}
            recorder.tell("watch", watcher=name, kind="event", **row)
        state.reached[name] = last
    return last


def finish(state, recorder, certificates, era):
    """Read each key of the era once more, and see that each watcher comes to its end."""
    connection = Connection(state.wanted, certificates)
    with state.lock:
        keys = sorted(key for of, key in state.keys if of == era)
    for key in keys:
        for _ in range(20):
            if perform(connection, recorder, "last", "get", key) is not None:
                break
            time.sleep(0.5)
    marker, told = f"{state.wanted['prefix']}e{era}/end", None
    for _ in range(40):
        # Each try has a key of its own, as a ledger's.
        marker = f"{state.wanted['prefix']}e{era}/end/{next(state.numbers)}"
        told = perform(connection, recorder, "last", "put", marker, state.value("last"))
        if told is not None:
            break
        time.sleep(0.5)
    if told is None:
        return
    names = [f"w{number}.{era}" for number in range(state.wanted["watchers"])]
    for name in names:
        recorder.tell("reach", watcher=name, revision=told["revision"])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if all(state.reached.get(name, 0) >= told["revision"] for name in names):
            return
        time.sleep(0.1)


def say(state, **told):
    """Let the campaign know that all is as the control file asked."""
    path = state.wanted["told"]
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(told, file)
    os.replace(f"{path}.new", path)


def main():
    wanted = json.loads(sys.argv[1])
    state, recorder = State(wanted), Recorder(wanted["out"])
    certificates = Certificates(wanted["pki"])
    works = [(register, n) for n in range(wanted["clients"])]
    works += [(ledger, n) for n in range(wanted["ledgers"])]
    works += [(watcher, n) for n in range(wanted["watchers"])]
    for work, number in works:
        arguments = (state, recorder, certificates, number)
        threading.Thread(target=work, args=arguments, daemon=True).start()
    said = None
    while not state.stopping:
        state.read()
        if state.control != said and (not state.control.get("paused") or not state.busy):
            if state.control.get("finish"):
                if state.busy:
                    time.sleep(0.1)
                    continue
                finish(state, recorder, certificates, state.control["era"])
            said = dict(state.control)
            say(state, **said)
        time.sleep(0.1)
    # Watchers and clients end with what they are at.
    time.sleep(wanted["timeout"])


if __name__ == "__main__":
    main()
