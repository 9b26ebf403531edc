"""The campaign's own programs beside the lab: clients, the observer, the listener on the master."""

import json
import os
import pathlib
import subprocess
import sys
import threading
import time

from lab_command import COMMAND, PYTHON, ROOT

sys.path.insert(0, str(ROOT / "test" / "lab"))

from etcd_ha_lab.config import Places

HERE = pathlib.Path(__file__).parent
SALT_PYTHON = "/opt/saltstack/salt/bin/python"
PKI = "etc/etcd/main"


def client_pki(lab, balancers):
    """Where the machine sees the balancers' own certificates, which the clients use here."""
    places = Places(lab.name)
    return [str(places.root(name) / PKI) for name in balancers]


def in_network(lab, program, wanted, **more):
    """Start one of this folder's programs in the lab's network, as nobody's neighbour."""
    words = [str(COMMAND), "client", PYTHON, str(HERE / program), json.dumps(wanted)]
    return started(lab, words, **more)


def started(lab, words, **more):
    """In a session of its own: who interrupts the campaign lets it end in order."""
    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, env=lab.environment, start_new_session=True, **more
    )


class Clients:
    """The clients, and what they are asked for."""

    def __init__(self, lab, folder, seed, endpoints, balancers, **more):
        self.lab, self.control = lab, folder / "control.json"
        self.told, self.error = folder / "told.json", folder / "clients.err"
        self.asked = {"era": 0, "paused": True}
        self.wanted = {
            "endpoints": endpoints,
            "pki": client_pki(lab, balancers),
            "prefix": "/chaos/",
            "seed": seed,
            "control": str(self.control),
            "told": str(self.told),
            "out": str(folder / "history.jsonl"),
            "clients": 4,
            "ledgers": 1,
            "watchers": 2,
            "slots": 4,
            "operations_per_key": 150,
            "pause": 0.04,
            "timeout": 2.0,
            **more,
        }

    def prefix(self, era):
        return f"{self.wanted['prefix']}e{era}/"

    def __enter__(self):
        self._write()
        self.errors = open(self.error, "w", encoding="utf-8")
        self.run = in_network(self.lab, "client.py", self.wanted, stderr=self.errors)
        return self

    def __exit__(self, *_):
        self.asked = {**self.asked, "stop": True}
        self._write()
        self.run.wait(timeout=60)
        self.errors.close()

    def ask(self, seconds=120, **asked):
        """Have the clients come to this; returns once they have."""
        self.asked = {"era": self.asked["era"], **asked}
        self._write()
        deadline = time.monotonic() + seconds
        while self._heard() != self.asked:
            if self.run.poll() is not None:
                raise AssertionError(f"the clients have ended: {self.error.read_text()[-2000:]}")
            if time.monotonic() > deadline:
                raise AssertionError(f"the clients did not come to {self.asked}")
            time.sleep(0.1)

    def _write(self):
        unfinished = self.control.with_suffix(".new")
        unfinished.write_text(json.dumps(self.asked))
        os.replace(unfinished, self.control)

    def _heard(self):
        try:
            return json.loads(self.told.read_text())
        except (OSError, ValueError):
            return None


class Lines:
    """A program whose lines are kept in a file, and looked at as they come."""

    def __init__(self, path):
        self.path, self.lock = path, threading.Lock()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.end()
        self.thread.join(timeout=30)

    def _follow(self):
        with open(self.path, "a", encoding="utf-8") as file:
            while not self.stopping.is_set():
                with self.begin() as run:
                    for line in run.stdout:
                        file.write(line)
                        file.flush()
                        self.see(line)
                # The master may be off: then it has nothing to tell until it is back.
                self.stopping.wait(1)

    def begin(self):
        raise NotImplementedError

    def end(self):
        raise NotImplementedError

    def see(self, line):
        """One more line has come."""


class Observer(Lines):
    """What each member tells twice a second."""

    def __init__(self, lab, folder, members, balancers):
        super().__init__(folder / "members.jsonl")
        self.lab, self.latest = lab, {}
        self.stop = folder / "observer.stop"
        self.stop.unlink(missing_ok=True)
        self.wanted = {
            "members": members,
            "port": 2379,
            "pki": client_pki(lab, balancers),
            "interval": 0.5,
            "stop": str(self.stop),
        }

    def begin(self):
        told = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        return in_network(self.lab, "observer.py", self.wanted, **told)

    def end(self):
        self.stop.touch()

    def see(self, line):
        try:
            row = json.loads(line)
        except ValueError:
            return
        with self.lock:
            self.latest[row["host"]] = row

    def healthy(self, hosts):
        """Those of these members that served a moment ago."""
        now = time.monotonic()
        with self.lock:
            rows = dict(self.latest)
        return {h for h in hosts if h in rows and rows[h]["healthy"] and now - rows[h]["at"] < 3}

    def leader(self, hosts):
        with self.lock:
            rows = dict(self.latest)
        led = [h for h in hosts if rows.get(h, {}).get("healthy") and rows[h]["leader"]]
        return led[0] if led else ""


class Listener(Lines):
    """The formula's jobs, as the master's bus tells them; begun anew when the master is back."""

    STOP = "/run/etcd_ha-listener.stop"

    def __init__(self, lab, folder):
        super().__init__(folder / "steps.jsonl")
        self.lab = lab

    def begin(self):
        if not self.stopping.is_set():
            self.lab.exec("master", "rm", "-f", self.STOP)
        source = (HERE / "listener.py").read_text()
        words = [str(COMMAND), "exec", "master", SALT_PYTHON, "-c", source]
        told = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        return started(self.lab, words, **told)

    def end(self):
        self.lab.exec("master", "touch", self.STOP)
