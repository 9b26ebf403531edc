#!/usr/bin/python3
"""The figures of the formula as ratios within one run: `make bench`.

Absolute seconds differ from machine to machine; each figure is set against something that was
measured beside it on the same hosts. The modules are synced to the master beforehand, as the
README asks of everyone once; to the minions the first converge syncs them itself. Times are taken
inside the hosts (all share one clock), so that the lab's own command is in none of them.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAB = ROOT / "test" / "lab" / "lab"
SCRIPTS = pathlib.Path(__file__).parent
PYTHON = "/usr/bin/python3"
MEMBERS = ("etcd1", "etcd2", "etcd3")
ORCHESTRATE = ["salt-run", "state.orchestrate", "etcd_ha.orch", "--out=json"]
PING = ["salt", "*", "test.ping", "--out=json", "--static"]
HEALTH = ["salt", "*", "etcd_ha.health", "--out=json", "--static"]

# name -> (what, against what, the highest ratio that is good)
LIMITS = {
    "first converge": ("orchestrate on blank hosts", "3 blank etcd started by hand", 4.5),
    "second converge": ("orchestrate, nothing to do", "salt '*' test.ping", 4.0),
    "health": ("salt '*' etcd_ha.health", "salt '*' test.ping", 1.15),
    "balancer": ("put p50 through the balancer", "put p50 direct to the leader", 1.25),
}


class BenchError(Exception):
    """What stops the bench; the text says why."""


def say(text):
    print(f"[{time.monotonic() - BEGAN:6.1f} s] {text}", file=sys.stderr, flush=True)


def lab(*argv, check=True):
    done = subprocess.run(
        [str(LAB), *argv], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if check and done.returncode != 0:
        told = (done.stdout + done.stderr)[-3000:]
        raise BenchError(f"lab {' '.join(argv)[:200]} ended with {done.returncode}:\n{told}")
    return done.stdout


def script(host, name, **wanted):
    """Run one of this folder's in-host scripts; returns the JSON that it prints."""
    source = (SCRIPTS / f"{name}.py").read_text()
    return json.loads(lab("exec", host, PYTHON, "-c", source, json.dumps(wanted)))


def timed(argv):
    """Run a command on the master: its seconds, what it printed, and that with its errors."""
    found = script("master", "in_timed", argv=argv)
    if found["code"] != 0:
        raise BenchError(f"{' '.join(argv)} ended with {found['code']}:\n{found['text'][-3000:]}")
    return found["seconds"], found["out"], found["text"]


# The floor: what three etcd take when all that they need lies there already


def floor():
    """Start three blank etcd by hand in parallel; seconds until the last of them is healthy.

    They are the very ones that the converge starts: same release, units and certificates. Only what
    prepares, secures and checks is left out.
    """
    everywhere("in_blank")
    found = everywhere("in_floor")
    return max(row["healthy"] for row in found) - min(row["began"] for row in found)


def everywhere(name, **wanted):
    """An in-host script on all members at once: what each printed."""
    source = (SCRIPTS / f"{name}.py").read_text()
    running = [
        subprocess.Popen(
            [str(LAB), "exec", host, PYTHON, "-c", source, json.dumps({"host": host, **wanted})],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        for host in MEMBERS
    ]
    outputs = [one.communicate()[0] for one in running]
    if any(one.returncode for one in running):
        raise BenchError(f"{name} failed on a member:\n{outputs}")
    return [json.loads(text) for text in outputs]


# The four figures


def measure(runs, writes):
    samples = {name: ([], []) for name in LIMITS}
    steps = []
    for number in range(1, runs + 1):
        lab("reset")
        lab("salt-run", "saltutil.sync_all")
        seconds, out, text = timed(ORCHESTRATE)
        samples["first converge"][0].append(seconds)
        steps.append(step_times(out, text, seconds))
        for _ in range(2):
            timed(PING)
        in_turns(samples)
        found = put_times(writes)
        samples["balancer"][0].append(found["balancer"])
        samples["balancer"][1].append(found["direct"])
        samples["first converge"][1].append(floor())
        told = ", ".join(f"{name} {ratio(samples[name], -1):.2f}" for name in LIMITS)
        say(f"run {number} of {runs}: {told}")
    return samples, steps


def in_turns(samples):
    """What a warm cluster costs against a ping, one after the other so that noise hits both."""
    for _ in range(3):
        ping, *_ = timed(PING)
        health, *_ = timed(HEALTH)
        samples["health"][0].append(health)
        samples["health"][1].append(ping)
        again, out, _ = timed(ORCHESTRATE)
        changed = [name for name, state in states(out).items() if state["changes"]]
        if changed:
            raise BenchError(f"the second converge was not without changes: {changed}")
        samples["second converge"][0].append(again)
        samples["second converge"][1].append(ping)


def put_times(writes):
    """p50 of a put, direct to the leader and through the balancer, from a member that follows."""
    status = json.loads(lab("exec", "etcd1", "sh", "-c", ETCDCTL_STATUS))
    leading = next(
        row["Endpoint"]
        for row in status
        if row["Status"]["leader"] == row["Status"]["header"]["member_id"]
    )
    client = next(row["Endpoint"] for row in status if row["Endpoint"] != leading)
    listed = [line.split("\t") for line in lab("addresses").splitlines() if line]
    host = next(name for address, _, name in listed if f"//{address}:" in client)
    balancer = next(address for address, _, name in listed if name == "lb")
    return script(
        host, "in_puts", direct=leading, balancer=f"https://{balancer}:2379", writes=writes
    )


ETCDCTL_STATUS = "set -a; . /etc/etcd/etcdctl.env; set +a; etcdctl endpoint status -w json"


# Where the time goes


def states(out):
    """The states in an orchestrate's JSON, in order."""
    found = json.loads(out[out.index("{") :])
    while found:
        values = [value for value in found.values() if isinstance(value, dict)]
        if any("__run_num__" in value for value in values):
            break
        found = found["data"] if "data" in found else next(iter(values), None)
    rows = sorted((found or {}).items(), key=lambda row: row[1].get("__run_num__", 0))
    return {value.get("__id__", name): value for name, value in rows}


def step_times(out, text, seconds):
    """Each step with its seconds, its slowest host, and that host's slowest states."""
    rows, known = [], 0.0
    for name, state in states(out).items():
        took = float(str(state.get("duration", 0)).split()[0]) / 1000
        known += took
        rows.append({"step": name, "seconds": took, **slowest_host(state)})
    told = re.search(r"\(planned in ([0-9.]+) s\)", text)
    planned = float(told[1]) if told else 0.0
    rows.insert(0, row("observe and plan, modules synced first where they are old", planned))
    return [row("salt-run itself: start, render, end", seconds - known - planned), *rows]


def row(step, seconds):
    return {"step": step, "seconds": seconds, "host": "", "states": []}


def slowest_host(state):
    answers = state.get("changes", {}).get("ret", {})
    best = {"host": "", "host_seconds": 0.0, "states": []}
    for minion, done in answers.items() if isinstance(answers, dict) else ():
        if not isinstance(done, dict):
            continue
        times = [
            (float(str(one.get("duration", 0)).split()[0]) / 1000, one.get("__id__", key))
            for key, one in done.items()
            if isinstance(one, dict)
        ]
        total = sum(took for took, _ in times)
        if total > best["host_seconds"]:
            top = sorted(times, reverse=True)[:5]
            best = {"host": minion, "host_seconds": total, "states": top}
    return best


# Telling it


def ratio(pair, index=None):
    if index is None:
        return statistics.median(pair[0]) / statistics.median(pair[1])
    return pair[0][index] / pair[1][index]


def table(heads, rows):
    lines = [[str(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()  # noqa: B905
        for line in lines
    )


def report(samples, steps):
    """The result as data: medians, ratios, limits, and the step times of the median run."""
    figures = {}
    for name, (what, against, limit) in LIMITS.items():
        measured, base = samples[name]
        figures[name] = {
            "what": what,
            "against": against,
            "median": statistics.median(measured),
            "base": statistics.median(base),
            "ratio": ratio(samples[name]),
            "limit": limit,
            "samples": measured,
            "base_samples": base,
        }
        figures[name]["good"] = figures[name]["ratio"] <= limit
    converges = samples["first converge"][0]
    middle = converges.index(statistics.median_low(converges))
    return {"figures": figures, "steps": steps[middle], "cores": os.cpu_count()}


def seconds(value):
    return f"{value * 1000:.2f} ms" if value < 0.1 else f"{value:.2f} s"


def show(result):
    rows = [
        (
            one["what"],
            seconds(one["median"]),
            one["against"],
            seconds(one["base"]),
            f"{one['ratio']:.2f}",
            f"{one['limit']:.2f}",
            "good" if one["good"] else "too slow",
        )
        for one in result["figures"].values()
    ]
    heads = ("MEASURED", "MEDIAN", "AGAINST", "MEDIAN", "RATIO", "AT MOST", "")
    print(f"\n{table(heads, rows)}\n\nWhere the first converge's time goes (median run):")
    lines = []
    for one in result["steps"]:
        lines.append((one["step"], f"{one['seconds']:.2f}", one["host"]))
        if one["host"]:
            waits = one["seconds"] - one["host_seconds"]
            lines.append(("    Salt: publish, render, wait for answers", f"{waits:.2f}", ""))
        lines += [(f"    {name}", f"{took:.2f}", "") for took, name in one["states"]]
    print(table(("STEP", "SECONDS", "SLOWEST HOST"), lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="how often (default: %(default)s)")
    parser.add_argument(
        "--writes", type=int, default=600, help="puts on each path a run (default: %(default)s)"
    )
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "bench.json")
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    parser.add_argument(
        "--strict", action="store_true", help="exit code 1 where a figure is over its limit"
    )
    wanted = parser.parse_args()
    os.environ.setdefault("ETCD_HA_LAB", "bench")
    try:
        lab("up", "--hosts", str(len(MEMBERS)))
        say("the lab is up")
        result = report(*measure(wanted.runs, wanted.writes))
    except BenchError as why:
        print(f"bench: {why}", file=sys.stderr)
        return 1
    finally:
        if not wanted.keep:
            lab("down", check=False)
    wanted.out.parent.mkdir(parents=True, exist_ok=True)
    wanted.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)
    print(f"\nas data: {wanted.out}")
    good = all(one["good"] for one in result["figures"].values())
    return 0 if good or not wanted.strict else 1


BEGAN = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
