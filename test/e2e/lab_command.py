"""``test/lab/lab`` from Python: each call is one command that a person could type."""

import base64
import contextlib
import copy
import functools
import json
import os
import pathlib
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMAND = ROOT / "test" / "lab" / "lab"
PROBES = pathlib.Path(__file__).parent / "probes"
PYTHON = "/usr/bin/python3"
MEMBERS = ("etcd1", "etcd2", "etcd3")
HOSTS = (*MEMBERS, "lb", "ca")
DOMAIN = "example.com"
# An argument of state.apply: outside the orchestrate a state keeps what is in force.
AS_A_STEP = 'pillar={"etcd_ha_step": {"action": "none"}}'


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    argv: tuple
    code: int
    out: str
    err: str
    took: float

    @property
    def text(self):
        return f"{self.out}\n{self.err}"

    def ok(self):
        """The command itself, after a check that it passed."""
        assert self.code == 0, f"{' '.join(self.argv)}\nended with {self.code}\n{self.text}"
        return self


def minions(*hosts):
    """Salt's target for these hosts alone."""
    return ",".join(f"{host}.{DOMAIN}" for host in hosts)


# Seconds after which a step is named with what it took.
SLOW = 15


class Orchestrated:
    """What one orchestrate did, by state id."""

    def __init__(self, done):
        self.done = done
        self.code = done.code
        self.text = done.text
        self.states = _states(done.out)
        for name, state in self.states.items():
            if state.get("duration", 0) > SLOW * 1000:
                print(f"    {state['duration'] / 1000:.1f} s of it: {name}")
                _tell_slow_hosts(state)

    @property
    def changes(self):
        """State id -> changes, of those states that changed something."""
        return {name: state["changes"] for name, state in self.states.items() if state["changes"]}

    def ok(self):
        # What a function raised on a minion stands in the changes.
        failed = [
            f"{name}: {state['comment']} {json.dumps(state['changes'])[:2000]}"
            for name, state in self.states.items()
            if state["result"] is False
        ]
        assert self.code == 0 and not failed, "\n".join([*failed, self.text[-6000:]])
        return self

    def refused(self, *words):
        """The run ended with an error that holds each of these words."""
        assert self.code != 0, f"it should have been refused:\n{self.text}"
        for word in words:
            assert word in self.text, f"{word!r} is not in:\n{self.text}"
        return self


def _tell_slow_hosts(state):
    """Where the time of a slow step went: on each host its first and last state, and the slowest.

    What is missing between the step's own begin or end and theirs is Salt's, not the states'.
    """
    answers = (state.get("changes") or {}).get("ret")
    for minion, states in answers.items() if isinstance(answers, dict) else ():
        rows = [r for r in states.values() if isinstance(r, dict)] if _is_run(states) else []
        if rows:
            times = [row.get("start_time", "?") for row in rows]
            slow = max(rows, key=lambda row: row.get("duration", 0))
            took, name = slow.get("duration", 0) / 1000, slow.get("__id__")
            said = f"states from {min(times)} to {max(times)}, the slowest {took:.1f} s: {name}"
            print(f"      {minion} (the step began {state.get('start_time')}): {said}")


def _is_run(states):
    return isinstance(states, dict) and any("_|-" in key for key in states)


class Lab:
    """One lab. ``state`` says what it is like: down, blank, converged or dirty."""

    def __init__(self, name):
        self.name = name
        self.environment = {**os.environ, "ETCD_HA_LAB": name}
        self.keep = bool(os.environ.get("ETCD_HA_LAB_KEEP"))
        self.state = "down"
        self.hosts = len(MEMBERS)
        # Another distribution release or Salt than the lab's own choice.
        asked = (("--suite", "ETCD_HA_LAB_SUITE"), ("--salt", "ETCD_HA_LAB_SALT"))
        pairs = ((option, os.environ.get(name)) for option, name in asked)
        self.recipe = [word for pair in pairs if pair[1] for word in pair]
        self.shipped = {}
        # Name of what `save` has kept -> its members and balancers.
        self.saved = {}

    # The lab itself

    def run(self, *argv, stdin=None, timeout=300):
        words = tuple(str(word) for word in argv)
        began = time.monotonic()
        done = subprocess.run(
            [str(COMMAND), *words],
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment,
            check=False,
        )
        took = time.monotonic() - began
        # A probe's source is told by its first line.
        told = " ".join(word.partition("\n")[0] for word in words)
        print(f"  {took:6.1f} s  lab {told[:110]}{'...' if len(told) > 110 else ''}", flush=True)
        return Done(words, done.returncode, done.stdout, done.stderr, took)

    def up(self):
        done = self.run("up", "--hosts", len(MEMBERS), *self.recipe, timeout=900).ok()
        self.state = "dirty" if "up already" in done.text else "blank"
        self.run("pillar").ok()
        self.sync_master()
        self.shipped = yaml.safe_load(self.pillar_file.read_text())["etcd_ha"]

    def grow(self, hosts=5):
        """Have this many hosts for members; the new ones are blank."""
        if self.hosts < hosts:
            self.run("up", "--hosts", hosts, timeout=900).ok()
            self.hosts = hosts

    def grow_balancers(self, balancers=2):
        """Have this many balancers: lb, lb2, ...; the new ones are blank."""
        words = ("up", "--hosts", self.hosts, "--balancers", balancers)
        self.run(*words, timeout=900).ok()

    def reset(self):
        done = self.run("reset", timeout=300)
        for host in HOSTS if done.code else ():
            journal = ("journalctl", "-u", "salt-minion", "-n", "15", "--no-pager", "-o", "cat")
            print(f"{host}:\n{self.exec(host, *journal).text}")
        done.ok()

    def sync_master(self):
        """What the README asks of everyone once; the minions are synced by the orchestrate."""
        self.salt_run("saltutil.sync_all").ok()

    def down(self):
        self.run("down", timeout=120).ok()
        self.state = "down"

    def become_blank(self):
        if self.state != "blank":
            self.reset()
            self.sync_master()
            self.state = "blank"
        self.write_pillar(self.shipped)

    def become_converged(self):
        self.write_pillar(self.shipped)
        if self.state == "converged":
            return
        if not self.as_saved("converged"):
            self.become_blank()
            self.orch().ok()
            self.save("converged")
        self.state = "converged"

    def save(self, name):
        """Keep the hosts as they are, for the next test that wants this pillar in force."""
        self.run("save", name).ok()
        (cluster,) = json.loads(self.pillar_file.read_text())["etcd_ha"]["clusters"].values()
        self.saved[name] = [*cluster["members"], *cluster["load_balancers"]]
        self.wait_all_healthy(name)

    def as_saved(self, name):
        """Have the hosts as they were saved under this name, booted anew; whether there are."""
        if name in self.saved:
            self.run("reset", "--saved", name).ok()
            self.wait_all_healthy(name)
        return name in self.saved

    def wait_all_healthy(self, name, seconds=90):
        """Wait until each member and balancer of what was saved says of itself that it is well."""
        target = ",".join(self.saved[name])
        deadline = time.monotonic() + seconds
        while (done := self.salt(target, "etcd_ha.health")).code and time.monotonic() < deadline:
            time.sleep(0.2)
        done.ok()

    # Hosts

    def exec(self, host, *argv, **more):
        return self.run("exec", host, *argv, **more)

    def said(self, host, lines=25):
        """The last lines of a member's log, each cut to what fits a report."""
        journal = ("journalctl", "-u", "etcd", "-n", lines, "--no-pager", "-o", "short-precise")
        return "\n".join(line[:400] for line in self.exec(host, *journal).text.splitlines())

    def probe(self, host, name, *argv, **more):
        """Run one of probes/*.py in a host by its own Python; returns what it prints as JSON."""
        source = (PROBES / f"{name}.py").read_text()
        done = self.exec(host, PYTHON, "-c", source, *argv, **more).ok()
        return json.loads(done.out)

    def follow(self, host, python, name, *argv):
        """Run one of probes/*.py in a host, and yield its lines as it prints them."""
        source = (PROBES / f"{name}.py").read_text()
        command = [str(COMMAND), "exec", host, python, "-c", source, *argv]
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        ) as run:
            yield from run.stdout
            told = run.stderr.read()
        assert run.returncode == 0, f"{name} on {host} ended with {run.returncode}\n{told}"

    def write(self, host, path, text):
        coded = base64.b64encode(text.encode()).decode()
        script = "umask 077; mkdir -p $(dirname $1); echo $2 | base64 -d > $1"
        self.exec(host, "sh", "-c", script, "sh", path, coded).ok()

    def fault(self, host, kind, *more):
        return self.run("fault", host, kind, *more).ok()

    def address(self, host):
        cluster = self.shipped["clusters"]["main"]
        everyone = {**cluster["members"], **cluster["load_balancers"]}
        if f"{host}.{DOMAIN}" not in everyone:
            # A host that the shipped pillar does not have, such as lb2 or ca.
            listed = [line.split() for line in self.run("addresses").ok().out.splitlines()]
            return next(address for address, _, name in listed if name == host)
        return everyone[f"{host}.{DOMAIN}"]["address"]

    def fingerprint(self, hosts=HOSTS):
        """All that the formula could have changed on these hosts: host -> path -> what it is."""
        with ThreadPoolExecutor() as each:
            found = each.map(lambda host: self.probe(host, "fingerprint"), hosts)
            return dict(zip(hosts, found, strict=True))

    # Salt

    def salt(self, target, *argv, **more):
        kind = ["-L"] if "," in target else []
        return self.run("salt", *kind, target, *argv, **more)

    def ask(self, target, *argv, **more):
        """A Salt command's answers: minion -> value."""
        patient = ("--out=json", "--static", "-t", "60")
        return json.loads(self.salt(target, *argv, *patient, **more).ok().out)

    def salt_call(self, host, *argv):
        return self.run("salt-call", host, *argv)

    def salt_run(self, *argv, **more):
        return self.run("salt-run", *argv, **more)

    def orch(self, *argv, timeout=600, command=""):
        """The orchestrate, or one of the commands beside it such as ``rotate_ca``."""
        sls = f"etcd_ha.orch.{command}" if command else "etcd_ha.orch"
        return Orchestrated(
            self.salt_run("state.orchestrate", sls, *argv, "--out=json", timeout=timeout)
        )

    def apply(self, target="*", *argv):
        """``state.apply etcd_ha``: minion -> state id -> result."""
        return self.ask(target, "state.apply", "etcd_ha", *argv)

    def wait_for_minions(self, *hosts, seconds=60):
        ids = minions(*hosts)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            done = self.salt(ids, "test.ping", "--out=json", "--static", "-t", "5")
            try:
                answers = json.loads(done.out)
            except ValueError:
                answers = {}
            if sum(value is True for value in answers.values()) == len(hosts):
                return
            time.sleep(0.5)
        raise AssertionError(f"{ids} did not come back within {seconds} s")

    # The pillar

    @functools.cached_property
    def pillar_file(self):
        folder = self.run("pillar-dir").ok().out.strip()
        return pathlib.Path(folder) / "etcd_ha.sls"

    def write_pillar(self, etcd_ha):
        # JSON is YAML, and holds nothing that Jinja would read.
        self.pillar_file.write_text(json.dumps({"etcd_ha": etcd_ha}, indent=1))

    def change_pillar(self, change):
        """Put another pillar in force: ``change`` gets the shipped cluster and alters it."""
        wanted = copy.deepcopy(self.shipped)
        change(wanted["clusters"]["main"])
        self.write_pillar(wanted)
        return wanted

    @contextlib.contextmanager
    def another_ca(self, host):
        """Have this host get the signing policies too, so that the pillar may name it as CA."""
        top = self.pillar_file.parent / "top.sls"
        before = top.read_text()
        top.write_text(before + f"  '{host}.{DOMAIN}':\n    - etcd_ha_signing_policies\n")
        try:
            yield
        finally:
            top.write_text(before)

    # etcd

    def etcdctl(self, host, *argv, endpoint=None):
        """etcdctl as root on a member uses it, at one endpoint or at all."""
        # A flag beside the variable of the same meaning is fatal in etcdctl.
        at = f"ETCDCTL_ENDPOINTS={endpoint}; " if endpoint else ""
        script = f'set -a; . /etc/etcd/etcdctl.env; {at}set +a; exec etcdctl "$@"'
        return self.exec(host, "sh", "-c", script, "sh", *argv)

    def put_many(self, count, host="etcd1"):
        """Have this many entries of the log in a few seconds, by one member's gateway."""
        self.probe(host, "entries", count, self.own(host))

    def through_balancer(self):
        return f"https://{self.address('lb')}:2379"

    def put(self, key, value, host="etcd1", endpoint=None):
        self.etcdctl(host, "put", key, value, endpoint=endpoint or self.through_balancer()).ok()

    def get(self, key, host="etcd1", endpoint=None):
        done = self.etcdctl(host, "get", key, "--print-value-only", endpoint=endpoint).ok()
        return done.out.strip()

    def own(self, host):
        """A member's own endpoint."""
        return f"https://{self.address(host)}:2379"

    def healthy(self, host):
        return self.etcdctl(host, "endpoint", "health", endpoint=self.own(host)).code == 0

    def process(self, host):
        """The process id of the formula's etcd: another one after a restart, 0 where none runs."""
        ask = ("systemctl", "show", "-p", "MainPID", "--value", "etcd")
        return self.exec(host, *ask).ok().out.strip()

    def processes(self, hosts=MEMBERS):
        return {host: self.process(host) for host in hosts}

    def variables(self, host):
        """The environment of the etcd that runs there."""
        script = "tr '\\0' '\\n' < /proc/$(systemctl show -p MainPID --value etcd)/environ"
        lines = self.exec(host, "sh", "-c", script).ok().out.splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def wait_healthy(self, host, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.healthy(host):
                return
            time.sleep(0.3)
        raise AssertionError(f"etcd on {host} was not healthy within {seconds} s")


def _states(out):
    """The states in salt-run's JSON, in the order in which they ran."""
    try:
        found = json.loads(out[out.index("{") :])
    except ValueError:
        return {}
    while isinstance(found, dict) and found:
        values = [value for value in found.values() if isinstance(value, dict)]
        if any("__run_num__" in value for value in values):
            break
        found = found["data"] if "data" in found else next(iter(values), None)
    states = {}
    for key, value in sorted((found or {}).items(), key=lambda item: item[1].get("__run_num__", 0)):
        states[value.get("__id__", key)] = value
    return states


def differences(before, after):
    """host -> what is not as it was."""
    found = {}
    for host, old in before.items():
        new = after[host]
        changed = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
        if changed:
            found[host] = sorted(changed)
    return found
