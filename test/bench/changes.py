#!/usr/bin/python3
"""What clients see of each planned change: `make bench-changes`.

The changes are those of the end-to-end tests, with the same clients meanwhile
(test/e2e/changing.py). All hosts share one machine, and on a busy one that bounds the gap. So
beside each stands what the same clients see in the same run while the same orchestrate runs under
test=True (the same work, no change; in the first run alone), and by how much a sleeping process
overslept. Where a gap is over its bar, its parts are told. A change whose verdict no further run
can turn (three gaps of five on one side of the bar decide their median) is not run again.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import statistics
import sys
import time
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "test" / "e2e"), str(pathlib.Path(__file__).parent)]

from bench import table  # noqa: E402
from changing import FIVE, KEPT_PKI, PKI, SEVEN, THREE, Ground, Load  # noqa: E402
from lab_command import DOMAIN, Lab  # noqa: E402
from test_authority import OWN, own_ca  # noqa: E402
from test_changes import OPTION, PLACE, PORTS, corrupts_its_log  # noqa: E402

PLAIN = {"tls": {"enabled": False}}
NGINX = {"balancer": {"kind": "nginx"}}
OLDEST, OLDER, NEWER = ({"version": one} for one in ("3.4.23", "3.6.14", "3.7.1"))
CA = {"minion": f"ca.{DOMAIN}"}
NAMES = {"tls": {"ca": CA, "names": ["etcd.example.com"]}}
LATE = {"tls": {"ca": CA, "days_valid": 800, "days_remaining": 799}}
RENAMED = {"name": "prod", "renamed_from": "main"}
OTHERS = ("etcd1", "etcd2", "etcd4")
PARTS = ("paused", "connected", "failed", "answered")
# Milliseconds, in the median of the runs.
LONGEST_GAP = 50


def nothing(ground):
    """The pillar's change is all that happens."""


def leads_and_leaves(ground):
    ground.lead("etcd5")


def is_wiped(ground):
    ground.lab.fault("etcd4", "wipe")
    ground.lab.wait_for_minions("etcd4")


def is_corrupt(ground):
    corrupts_its_log(ground.lab, "etcd3")


def is_dead(ground):
    ground.lab.fault("etcd3", "kill")


def comes_back(ground):
    ground.lab.fault("etcd3", "heal")
    ground.lab.wait_for_minions("etcd3")


def has_own_certificates(ground):
    own_ca(ground.lab)


def keeps_certificates(ground):
    """A rename takes the balancers' own along, which the clients use here."""
    script = f"rm -rf {KEPT_PKI}; cp -a {PKI} {KEPT_PKI}"
    ground.lab.exec("lb", "sh", "-c", script).ok()


def moves(ground):
    """The member that leads, and the balancer: both have their new addresses already."""
    ground.lead("etcd3")
    ground.moved["etcd3"] = ground.give_address("etcd3", 83)
    ground.give_address("lb", 84)


def moves_back(ground):
    del ground.moved["etcd3"]


def new_address(ground):
    tls = {"ca": CA, "names": [ground.lab.address("lb")]}
    address = f"{ground.network}.84"
    return {"load_balancers": {f"lb.{DOMAIN}": {"address": address}}, "tls": tls}


@dataclass(frozen=True)
class Change:
    """From what to what; ``happens`` before the clients start, ``afterwards`` once all is done.

    ``new`` may be a function of the ground; ``command`` runs in place of the plain orchestrate.
    """

    before: tuple = THREE
    after: tuple = THREE
    old: dict = field(default_factory=dict)
    new: object = field(default_factory=dict)
    command: str = ""
    schemes: tuple = ("https",)
    pki: str = PKI
    happens: object = nothing
    afterwards: object = nothing


# In such an order, and with each way back after its way there, that few need blank hosts first.
CHANGES = {
    "all lines up": Change(old=OLDEST, new=NEWER),
    "one line down": Change(old=NEWER, new=OLDER),
    "one line up": Change(old=OLDER, new=NEWER),
    "option": Change(new=OPTION),
    "option back": Change(old=OPTION),
    "tls off": Change(new=PLAIN, schemes=("https", "http")),
    "tls on": Change(old=PLAIN, schemes=("http", "https")),
    "data directory": Change(new=PLACE),
    "data directory back": Change(old=PLACE),
    "ports": Change(new=PORTS),
    "ports back": Change(old=PORTS),
    "nginx": Change(new=NGINX),
    "haproxy": Change(old=NGINX),
    "names in certificates": Change(new=NAMES),
    "renewed certificates": Change(old=NAMES, new=LATE),
    "new key of the CA": Change(old=LATE, new=LATE, command="rotate_ca"),
    "own certificates": Change(happens=has_own_certificates, new={"tls": OWN}),
    "own certificates back": Change(old={"tls": OWN}),
    "restart": Change(command="restart"),
    "rename": Change(happens=keeps_certificates, new=RENAMED, pki=KEPT_PKI),
    "addresses": Change(happens=moves, new=new_address, afterwards=moves_back),
    "one to three": Change(("etcd1",)),
    "three to five": Change(after=FIVE),
    "wiped": Change(FIVE, FIVE, happens=is_wiped),
    "corrupt": Change(FIVE, FIVE, happens=is_corrupt),
    "five to seven": Change(FIVE, SEVEN),
    "seven to five": Change(SEVEN, FIVE),
    "five to three": Change(FIVE, THREE, happens=leads_and_leaves),
    "dead": Change(THREE, OTHERS, happens=is_dead, afterwards=comes_back),
}


def say(text):
    print(f"[{time.monotonic() - BEGAN:6.1f} s] {text}", file=sys.stderr, flush=True)


# Measuring


def measure(ground, names, runs, log):
    """name -> the samples of its runs; a run that failed says why."""
    samples = {name: [] for name in names}
    for number in range(1, runs + 1):
        for name in (name for name in names if not decided(samples[name], runs)):
            with contextlib.redirect_stdout(log):
                print(f"== {name}, run {number}", flush=True)
                found = one_run(ground, CHANGES[name], f"{name}-{number}", number == 1)
                samples[name].append(found)
            say(f"run {number} of {runs}: {name}: {told(samples[name][-1])}")
    return samples


def decided(samples, runs):
    """Whether no further run can turn what the median of so many gaps is: over its bar, or not."""
    gaps = [one["gap"] for one in samples if not one["failure"]]
    high = sum(gap > LONGEST_GAP for gap in gaps)
    return max(high, len(gaps) - high) > runs // 2


def one_run(ground, change, name, first):
    prefix, failure = f"{name.replace(' ', '-')}-{int(time.time())}", ""
    ground.load, run, control = None, None, None
    try:
        ground.begin(change.before, **change.old)
        change.happens(ground)
        try:
            ground.ask_for(change.after, **settings(ground, change))
            if first:
                control = without_a_change(ground, change, f"{prefix}-test")
            asked = {"schemes": change.schemes, "longest": None, "pki": change.pki}
            run = ground.run(change.after, prefix, command=change.command, **asked)
        finally:
            change.afterwards(ground)
    except (AssertionError, OSError) as err:
        failure = str(err)[-2000:]
        print(failure, flush=True)
    return sample(ground.load, run, control, failure)


def settings(ground, change):
    return change.new(ground) if callable(change.new) else change.new


def without_a_change(ground, change, prefix):
    """The longest gap, in seconds, that clients see while the plan runs and changes nothing."""
    with Load(ground.lab, f"/{prefix}/", change.schemes, pki=change.pki) as load:
        ground.lab.orch("test=True", command=change.command)
    return load.result["longest_gap"]


def sample(load, run, control, failure):
    """One run's figures; times in milliseconds, but the whole change's in seconds."""
    found = load.result if load else {}
    if failure and not found:
        return {"failure": failure}
    return {
        "failure": failure,
        "gap": found["longest_gap"] * 1000,
        "control": control * 1000 if control is not None else None,
        "late": found["late"] * 1000,
        "parts": {part: found["gaps"][0][part] * 1000 for part in PARTS},
        "failed": found["failed"],
        "failed_again": found["failed_again"],
        "stale": found["stale_reads"],
        "lost": load.lost,
        "errors": found["errors"],
        "seconds": run.done.took if run else None,
        "load": os.getloadavg()[0],
    }


def told(one):
    if "gap" not in one:
        return f"failed: {one['failure'].strip().splitlines()[-1][:200]}"
    control = "-" if one["control"] is None else f"{one['control']:.0f}"
    return (
        f"gap {one['gap']:.0f} ms (without a change {control}, overslept "
        f"{one['late']:.0f}), {one['failed']} failed, {one['failed_again']} again, "
        f"{one['lost']} lost, load {one['load']:.1f}"
    )


# Telling it


def figures(samples):
    """The figures of one change: medians, but the worst run's where zero is the bar."""
    whole = [one for one in samples if not one["failure"]]
    result = {"runs": len(whole), "broken": len(samples) - len(whole), "samples": samples}
    if not whole:
        return {**result, "over": ["did not end"]}
    for key in ("gap", "late", "failed", "seconds", "load"):
        result[key] = statistics.median(one[key] for one in whole)
    result["control"] = next((one["control"] for one in whole if one["control"]), float("nan"))
    for key in ("failed_again", "lost", "stale"):
        result[key] = max(one[key] for one in whole)
    result["longest"] = max(one["gap"] for one in whole)
    result["parts"] = min(whole, key=lambda one: abs(one["gap"] - result["gap"]))["parts"]
    result["over"] = over(result)
    return result


def over(found):
    """Which of a change's figures are over their bars."""
    bars = {"gap": LONGEST_GAP, "failed_again": 0, "lost": 0, "stale": 0, "broken": 0}
    return [name.replace("_", " ") for name, bar in bars.items() if found[name] > bar]


def show(result):
    heads = ("CHANGE", "RUNS", "GAP ms", "LONGEST", "WITHOUT", "OVERSLEPT", "FAILED", "AGAIN")
    rows = []
    for name, one in result["changes"].items():
        if "gap" not in one:
            rows.append((name, 0, *["-"] * 8, "did not end"))
            continue
        cells = [f"{one[key]:.0f}" for key in ("gap", "longest", "control", "late", "failed")]
        cells += [one["failed_again"], one["lost"], f"{one['seconds']:.0f}"]
        rows.append((name, one["runs"], *cells, ", ".join(one["over"]) or "good"))
    print(f"\n{table((*heads, 'LOST', 'SECONDS', 'OVER ITS BAR'), rows)}")
    print(
        "\nGAP, OVERSLEPT, FAILED and SECONDS are medians; WITHOUT is the gap while the same "
        "orchestrate changed nothing; LONGEST, AGAIN (failed also when retried once) and LOST are "
        f"the worst run's. Bars: a gap of {LONGEST_GAP} ms, none failed again, none lost."
    )
    for name, one in result["changes"].items():
        if "gap" in one["over"]:
            parts = ", ".join(f"{part} {one['parts'][part]:.0f}" for part in PARTS)
            print(f"  {name}: the gap's parts, in ms: {parts}")


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="how often (default: %(default)s)")
    parser.add_argument(
        "--only",
        action="append",
        choices=list(CHANGES),
        metavar="NAME",
        help=f"this change alone; may be given again. {', '.join(CHANGES)}",
    )
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "bench-changes.json")
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    parser.add_argument(
        "--strict", action="store_true", help="exit code 1 where a figure is over its bar"
    )
    return parser.parse_args()


def main():
    wanted = options()
    lab = Lab(os.environ.setdefault("ETCD_HA_LAB", "bench"))
    names = [name for name in CHANGES if name in (wanted.only or CHANGES)]
    wanted.out.parent.mkdir(parents=True, exist_ok=True)
    with open(wanted.out.with_suffix(".log"), "w", encoding="utf-8") as log:
        try:
            with contextlib.redirect_stdout(log):
                lab.up()
                lab.grow(7)
            say(f"the lab is up; what happens is in {log.name}")
            samples = measure(Ground(lab), names, wanted.runs, log)
        finally:
            if not wanted.keep:
                with contextlib.redirect_stdout(log):
                    lab.run("down", timeout=120)
    found = {name: figures(rows) for name, rows in samples.items()}
    when = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    result = {"when": when, "cores": os.cpu_count(), "bar": LONGEST_GAP, "changes": found}
    wanted.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)
    print(f"\nas data: {wanted.out}")
    good = not any(one["over"] for one in found.values())
    return 0 if good or not wanted.strict else 1


BEGAN = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
