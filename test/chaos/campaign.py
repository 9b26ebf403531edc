#!/usr/bin/python3
"""A random schedule of faults against random operations, with clients meanwhile: `make chaos`.

    .venv/bin/python test/chaos/campaign.py --minutes 30
    .venv/bin/python test/chaos/campaign.py --seed 4711 --operations 12
    .venv/bin/python test/chaos/campaign.py --judge build/chaos/4711

Each round is one operation of the formula and the faults beside it (schedule.py). Then all is
healed, and the orchestrate must settle. What clients, members and the master's bus told is kept in
build/chaos/SEED, judged at the end (verdict.py), and reported; exit code 1 on any violation.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import time
from dataclasses import asdict

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "test"), str(ROOT / "test" / "e2e")]

from lab_command import Lab  # noqa: E402

from chaos import schedule, verdict  # noqa: E402
from chaos.faults import Injector  # noqa: E402
from chaos.history import Violation  # noqa: E402
from chaos.operations import Operations, members_of  # noqa: E402
from chaos.programs import Clients, Listener, Observer  # noqa: E402
from chaos.schedule import IMPOSSIBLE, KINDS, OPERATIONS, Limits, Schedule, State  # noqa: E402

FOLDER = ROOT / "build" / "chaos"
BALANCERS = ("lb", "lb2")


class Campaign:
    """The rounds of a schedule in one lab, and what is recorded of them."""

    def __init__(self, lab, folder, limits, seed, state, **clients):
        self.lab, self.folder, self.seed, self.state = lab, folder, seed, state
        self.schedule = Schedule(seed, limits, state)
        self.balancers = BALANCERS[: limits.balancers]
        self.operations = Operations(lab, self.balancers, folder)
        self.largest = limits.largest
        ground = self.operations.ground
        everyone = members_of(State(members=self.largest))
        addresses = {host: ground.address(host) for host in everyone}
        self.observer = Observer(lab, folder, addresses, self.balancers)
        self.listener = Listener(lab, folder)
        self.injector = Injector(lab, self.observer)
        first = lab.address("lb")
        network, _, last = first.rpartition(".")
        endpoints = [[f"{network}.{int(last) + n}", 2379] for n in range(limits.balancers)]
        # A cluster may have seen another campaign before.
        clients = {"prefix": f"/chaos/{int(time.time())}/", **clients}
        self.clients = Clients(lab, folder, seed, endpoints, self.balancers, **clients)
        self.rounds, self.cuts, self.violations = [], [], []
        # The keys of one era have one past; a restore ends it. Backup -> (era, revision).
        self.eras, self.era, self.backups = [], 1, {}

    @property
    def hosts(self):
        return ["master", "ca", *members_of(State(members=self.largest)), *self.balancers]

    def run(self, minutes=None, operations=None):
        """So many rounds, or as many as begin in so many minutes; then the verdict."""
        began = time.monotonic()
        self.operations.ask_for(self.state)
        if not self.operations.settle():
            raise SystemExit("the cluster could not be brought up: see above")
        with self.observer, self.listener, self.clients:
            try:
                self.clients.ask(era=self.era)
                self._rounds(began, minutes, operations)
                self._end_of_era()
            except (AssertionError, subprocess.TimeoutExpired) as err:
                # What was recorded until then is judged all the same.
                self.violations.append(Violation("the campaign itself failed", str(err)[-3000:]))
        return self._verdict(time.monotonic() - began)

    def _rounds(self, began, minutes, operations):
        try:
            for one in self.schedule:
                late = minutes is not None and time.monotonic() - began > minutes * 60
                if late or (operations is not None and one.number > operations):
                    return
                if not self._round(one):
                    return
        except KeyboardInterrupt:
            print("\ninterrupted: all is healed, and what was recorded is judged", flush=True)
            self._heal()

    # A round

    def _round(self, one):
        """One operation with its faults; False where the cluster did not come back."""
        print(f"\n{one}", flush=True)
        began, self.state = time.monotonic(), one.state
        self.rounds.append({"told": str(one), "operation": one.operation, "began": began})
        self.operations.ask_for(one.state)
        special = getattr(self, f"_{one.operation}", None)
        if special is not None:
            special(one)
        else:
            self._beside(one, self._command(one.operation))
        self._heal()
        settled = self.operations.settle()
        self._note_backups()
        if one.operation in ("restore", "recover"):
            self._begin_era()
        self.rounds[-1]["seconds"] = time.monotonic() - began
        return settled

    def _command(self, operation):
        return operation if operation in ("restart", "backup", "defrag", "rotate_ca") else ""

    def _beside(self, one, command, **words):
        """The operation with the round's faults beside it, until all of them are undone."""
        self.injector.begin(one.faults, self._members())
        lost = any(fault.who == "master" for fault in one.faults)
        self.operations.run(command, master_is_lost=lost, **words)
        self.injector.wait()

    def _members(self):
        """The members that the cluster has by now, whatever the pillar asks for."""
        with self.observer.lock:
            rows = [row for row in self.observer.latest.values() if row["healthy"]]
        names = {m["name"] for row in rows for m in row["members"] if not m["learner"]}
        return sorted(names) or members_of(self.state)

    def _heal(self):
        try:
            self.injector.heal_all(self.hosts)
        except AssertionError as err:
            self.violations.append(Violation("a host did not come back", str(err)))

    # Operations that give something up on purpose

    def _blackout(self, one):
        """All members lose their power, and come back with all that was acknowledged."""
        hosts = [members_of(one.state)[number] for number in one.lost]
        over = self.injector.trouble_all(hosts)
        for host in hosts:
            self.lab.fault(host, "kill")
        for host in hosts:
            self.lab.fault(host, "heal", "--no-wait")
        self.injector.done["blackout"] += 1
        self._heal()
        over()

    def _restore(self, one):
        """The newest backup; what came after it is given up, and nothing else."""
        there = self.operations.backups(members_of(self.state))
        if not there:
            # What the schedule had meant to be there did not come about, or left with its member.
            self.operations.until_passed("backup")
            self._note_backups()
            there = self.operations.backups(members_of(self.state))
        self._end_of_era()
        name = max(there, key=lambda known: known.rpartition("-r")[0])
        era, revision = self.backups[name]
        self.cuts.append(time.monotonic())
        asked = {"confirm": "main", "backup": name}
        self._beside(one, "restore", **asked)
        self._heal()
        self.operations.until_passed("restore", **asked)
        self._compare(era, revision, revision)

    def _recover(self, one):
        """A majority loses its data: the orchestrate refuses, and recover keeps all there was."""
        self._end_of_era()
        members = members_of(one.state)
        revision = self.operations.revision(members[0])
        over = self.injector.trouble_all(members)
        for number in one.lost:
            host = members[number]
            self.lab.fault(host, "wipe", "--data", self.injector.data_of(host))
        self.injector.done["majority wiped"] += 1
        self.cuts.append(time.monotonic())
        told = self.operations.run()
        if told.passed or "etcd_ha.orch.recover" not in told.text:
            why = "the orchestrate did not refuse a lost quorum with the command that recovers it"
            self.violations.append(
                Violation("a lost quorum passed", f"{why}:\n{told.text[-1500:]}")
            )
        self.operations.until_passed("recover", confirm="main")
        over()
        self._compare(self.era, revision, 0)

    def _compare(self, era, at_least, at_most):
        """What is there of an era behind a cut."""
        host = members_of(self.state)[0]
        try:
            everything = self.operations.held(host, self.clients.wanted["prefix"])
        except AssertionError as err:
            self.violations.append(Violation("nothing is served after it", str(err)[-800:]))
            return
        holds = {k: one for k, one in everything.items() if k.startswith(self.clients.prefix(era))}
        later = [self.clients.prefix(number) for number in range(era + 1, self.era + 1)]
        for key in sorted(everything):
            if key.startswith(tuple(later)):
                told = f"{key} is of era {self.era}, and a backup of era {era} was restored"
                self.violations.append(Violation("restore went too far", told))
        kept = next(one for one in self.eras if one["number"] == era)
        kept["cuts"].append({"holds": holds, "at_least": at_least, "at_most": at_most})

    # Eras

    def _end_of_era(self):
        """The clients come to an end, and what each member holds is kept."""
        if any(one["number"] == self.era for one in self.eras):
            return
        self.clients.ask(era=self.era, finish=True, seconds=180)
        held = {}
        for host in self._members():
            with contextlib.suppress(AssertionError):
                held[host] = self.operations.held(host, self.clients.prefix(self.era))
        if not held:
            why = f"no member could tell what it holds at the end of era {self.era}"
            self.violations.append(Violation("nothing is served at the end", why))
        self.eras.append({"number": self.era, "held": held, "cuts": []})
        self.clients.ask(era=self.era, paused=True)

    def _begin_era(self):
        self.era += 1
        self.clients.ask(era=self.era)

    def _note_backups(self):
        for name, revision in self.operations.backups(members_of(self.state)).items():
            self.backups.setdefault(name, (self.era, revision))

    # The end

    def _verdict(self, seconds):
        violations = [*self.violations, *self.operations.violations]
        violations += [
            Violation("the campaign itself failed", problem) for problem in self.injector.problems
        ]
        recorded = {
            "seed": self.seed,
            "seconds": seconds,
            "prefix": self.clients.wanted["prefix"],
            "rounds": self.rounds,
            "faults": dict(self.injector.done),
            "skipped": dict(self.injector.skipped),
            "struck": self.injector.told,
            "impossible": IMPOSSIBLE,
            "operations": [
                {"command": o.command, "code": o.code, "seconds": o.seconds}
                for o in self.operations.outcomes
            ],
            "troubles": self.injector.troubles,
            "cuts": self.cuts,
            "eras": self.eras,
            "violations": [asdict(one) for one in violations],
        }
        (self.folder / "campaign.json").write_text(json.dumps(recorded, indent=1))
        return told(self.folder)


def told(folder):
    """Judge what lies in a folder, write the report, and print it; whether all is sound."""
    recorded = json.loads((folder / "campaign.json").read_text())
    found = verdict.judge(folder)
    report = verdict.report(recorded, found)
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{verdict.text(recorded, found)}\n\nkept in {folder}", flush=True)
    return found.sound


def folder_of(seed):
    """An empty folder for the recordings of a campaign."""
    folder = FOLDER / str(seed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def obtainable(ground, wanted):
    """The releases that this machine's mirror has, one line after the other without a hole."""
    found = ground.obtainable(*wanted)
    start = wanted.index("3.6.14") if "3.6.14" in found else wanted.index(found[-1])
    first = last = start
    while first > 0 and wanted[first - 1] in found:
        first -= 1
    while last + 1 < len(wanted) and wanted[last + 1] in found:
        last += 1
    return wanted[first : last + 1]


def parse(words):
    top = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    top.add_argument("--seed", type=int, help="of an earlier campaign (default: a new one)")
    top.add_argument("--minutes", type=float, help="begin rounds for so long (default: 20)")
    top.add_argument("--operations", type=int, help="so many rounds instead")
    top.add_argument("--faults", default=",".join(KINDS), help="only these kinds (default: all)")
    top.add_argument("--only", default=",".join(OPERATIONS), help="only these operations")
    top.add_argument("--members", type=int, choices=(3, 5), default=3, help="to begin with")
    top.add_argument("--balancers", type=int, choices=(1, 2), default=2)
    top.add_argument("--judge", type=pathlib.Path, help="judge what lies in this folder again")
    found = top.parse_args(words)
    for name, known in (("faults", KINDS), ("only", OPERATIONS)):
        given = tuple(word for word in getattr(found, name).split(",") if word)
        unknown = sorted(set(given) - set(known))
        if unknown or not given:
            top.error(f"--{name}: {', '.join(unknown) or 'nothing'}; there are {', '.join(known)}")
        setattr(found, name, given)
    if found.minutes is None and found.operations is None:
        found.minutes = 20.0
    return found


def replayed(found):
    """The command that runs the same schedule again."""
    words = [f"--seed {found.seed}"]
    words.append(f"--operations {found.operations}" if found.operations else
                 f"--minutes {found.minutes:g}")  # fmt: skip
    if found.faults != KINDS:
        words.append(f"--faults {','.join(found.faults)}")
    if found.only != OPERATIONS:
        words.append(f"--only {','.join(found.only)}")
    if found.members != 3:
        words.append(f"--members {found.members}")
    if found.balancers != 2:
        words.append(f"--balancers {found.balancers}")
    return f".venv/bin/python test/chaos/campaign.py {' '.join(words)}"


def main(words=None):
    found = parse(words)
    if found.judge:
        return 0 if told(found.judge) else 1
    if found.seed is None:
        found.seed = random.SystemRandom().randrange(10**6)
    print(f"seed {found.seed}; the same again: {replayed(found)}", flush=True)
    lab = Lab(os.environ.get("ETCD_HA_LAB", "chaos"))
    lab.up()
    try:
        sound = campaign(lab, found)
    finally:
        if not lab.keep:
            lab.down()
    print(f"the same schedule again: {replayed(found)}")
    return 0 if sound else 1


def campaign(lab, found, **clients):
    """Bring the lab to what the campaign needs, and run it; whether all is sound."""
    lab.run("up", "--hosts", 5, "--balancers", found.balancers, timeout=900).ok()
    lab.become_blank()
    lab.state = "dirty"
    operations = Operations(lab, BALANCERS[: found.balancers])
    releases = obtainable(operations.ground, list(schedule.RELEASES))
    version = "3.6.14" if "3.6.14" in releases else releases[-1]
    limits = Limits(found.faults, found.only, tuple(releases), found.balancers)
    state = State(found.members, version)
    run = Campaign(lab, folder_of(found.seed), limits, found.seed, state, **clients)
    return run.run(found.minutes, found.operations)


if __name__ == "__main__":
    sys.exit(main())
