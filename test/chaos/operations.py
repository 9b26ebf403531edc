"""The formula's operations of a round, as a person at the master would give them."""

import base64
import json
import re
import subprocess
from dataclasses import dataclass, field

from changing import EVERYONE, Ground
from lab_command import DOMAIN, Orchestrated

from chaos.history import Violation
from chaos.schedule import State

# The orchestrate as a unit of its own, so that a fault can end it with the master.
UNIT = "etcd-ha-operation"
COMMANDS = ("restart", "backup", "defrag", "rotate_ca", "restore", "recover")
PATIENCE = 420
BACKUPS = "/var/backups/etcd_ha"
# How often a command is given again before it counts as one that does not come to its end.
TRIES = 5


@dataclass
class Outcome:
    """How one command ended."""

    command: str
    code: int
    seconds: float
    text: str = field(repr=False, default="")
    changed: bool = False

    @property
    def passed(self):
        return self.code == 0


def members_of(state: State):
    return EVERYONE[: state.members]


class Operations:
    """The pillar in force, and the commands; ``violations`` are those that their ends show."""

    def __init__(self, lab, balancers, folder=None):
        """What commands print is kept in ``folder``, each in a file of its own."""
        self.lab, self.ground, self.balancers = lab, Ground(lab), balancers
        self.outcomes, self.violations, self.folder = [], [], folder

    def ask_for(self, state: State):
        """Write the pillar of a state."""
        addresses = {"lb": self.lab.address("lb")}
        network, _, last = addresses["lb"].rpartition(".")
        addresses["lb2"] = f"{network}.{int(last) + 1}"
        named = {f"{name}.{DOMAIN}": {"address": addresses[name]} for name in self.balancers}
        settings = {"version": state.version, "load_balancers": named, **dict(state.settings)}
        self.ground.ask_for(members_of(state), **settings)

    def run(self, command="", master_is_lost=False, **words):
        """Give one command, and look at how it ends."""
        sls = f"etcd_ha.orch.{command}" if command else "etcd_ha.orch"
        asked = [f"pillar={json.dumps(words)}"] if words else []
        started = ("systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--unit={UNIT}")
        surroundings = ("--setenv=HOME=/root", "--setenv=LANG=C.UTF-8")
        salt = (*surroundings, "salt-run", "state.orchestrate", sls, *asked, "--out=json")
        try:
            done = self.lab.exec("master", *started, *salt, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return self._hangs(sls)
        run = Orchestrated(done)
        failed = [name for name, state in run.states.items() if state["result"] is False]
        outcome = Outcome(command or "converge", done.code, done.took, done.text)
        outcome.changed = bool(run.changes)
        if failed and done.code == 0:
            told = f"{sls} ended with 0, though this failed: {'; '.join(failed)}"
            self.violations.append(Violation("a failure passed as success", told))
        # A master that dies may well leave a traceback of Salt's own.
        if "Traceback (most recent call last)" in done.text and not master_is_lost:
            at = done.text.index("Traceback (most recent call last)")
            self.violations.append(Violation("a traceback", done.text[at : at + 1500]))
        self.outcomes.append(outcome)
        if self.folder is not None:
            name = f"{len(self.outcomes):03d}-{outcome.command}.log"
            (self.folder / name).write_text(done.text)
        print(f"  {'passed' if outcome.passed else 'ended with an error'}: {sls}", flush=True)
        return outcome

    def _hangs(self, sls):
        self.lab.exec("master", "systemctl", "kill", "-s", "KILL", UNIT)
        self.violations.append(Violation("it hangs", f"{sls} did not end within {PATIENCE} s"))
        self.outcomes.append(Outcome(sls.removeprefix("etcd_ha.orch").strip("."), -1, PATIENCE))
        return self.outcomes[-1]

    def until_passed(self, command="", tries=TRIES, **words):
        """Give a command again until it passes; a violation if it never does."""
        for _ in range(tries):
            last = self.run(command, **words)
            if last.passed:
                return last
        told = f"{command or 'the orchestrate'} {tries} times:\n{comments(last.text)}"
        self.violations.append(Violation("it does not come to its end", told))
        return last

    def settle(self):
        """All is healed: the orchestrate passes, and then has nothing to do."""
        if not self.until_passed().passed:
            return False
        again = self.run()
        if again.passed and not again.changed:
            return True
        told = f"a second orchestrate still had something to do:\n{comments(again.text)}"
        self.violations.append(Violation("it does not settle", told))
        return False

    # What lies on members

    def backups(self, members):
        """Names of the verified backups on these members, and the revision of each."""
        script = f"grep -l '\"verified\": true' {BACKUPS}/*.json 2>/dev/null"
        found = {}
        for host in members:
            done = self.lab.exec(host, "sh", "-c", script)
            for path in done.out.split():
                name = path.rpartition("/")[2].removesuffix(".json")
                revision = re.search(r"-r(\d+)$", name)
                if revision:
                    found[name] = int(revision[1])
        return found

    def held(self, host, prefix):
        """What a member itself holds below a prefix: key -> (value, revision)."""
        at = f"https://{self.ground.address(host)}:2379"
        words = ("get", "--prefix", prefix, "--consistency=s", "-w", "json")
        rows = json.loads(self.lab.etcdctl(host, *words, endpoint=at).ok().out).get("kvs", [])
        return {plain(row["key"]): (plain(row["value"]), row["mod_revision"]) for row in rows}

    def revision(self, host):
        done = self.lab.etcdctl(host, "get", "/none", "-w", "json").ok()
        return int(json.loads(done.out)["header"]["revision"])


def plain(coded):
    return base64.b64decode(coded).decode()


def comments(text):
    """The plan and what failed, without the rest of a long output."""
    lines = [line.strip() for line in text.splitlines()]
    told = [line for line in lines if '"comment"' in line and "requisite failed" not in line]
    return "\n".join([*lines[:25], *told])[-3000:]
