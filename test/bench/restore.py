#!/usr/bin/python3
"""How long clients wait for a restore and for a recovery: `make bench-restore`.

Each is timed from the command to the first write through the balancer, beside the floor in the
same run: etcd's own commands by hand, in parallel on all hosts, without a check and with the file
on each of them already (ours still has to bring it there). The bar is twice the floor and three
seconds.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from bench import LAB, MEMBERS, ROOT, BenchError, everywhere, lab, say, script, table

KEPT = "/root/bench.db"
PKI = "/etc/etcd/main"
ONE_MEMBER = "set -a; . /etc/etcd/etcdctl.env; set +a; ETCDCTL_ENDPOINTS=https://127.0.0.1:2379"
CONFIRMED = {"confirm": "main"}


def etcdctl(host, words):
    return lab(
        "exec", host, "sh", "-c", f"set -a; . /etc/etcd/etcdctl.env; set +a; etcdctl {words}"
    )


def cluster_id():
    rows = json.loads(etcdctl("etcd1", "endpoint status -w json"))
    return str(rows[0]["Status"]["header"]["cluster_id"])


def balancer():
    listed = [line.split("\t") for line in lab("addresses").splitlines() if line]
    return next(address for address, _, name in listed if name == "lb")


class FirstWrite:
    """A client that waits for the first write; ``at`` is its time."""

    def __init__(self, cluster=""):
        self.wanted = {"address": balancer(), "ca": f"{PKI}/ca.crt", "seconds": 300}
        self.wanted |= {"certificate": f"{PKI}/check.crt", "key": f"{PKI}/check.key"}
        self.wanted["cluster"] = cluster
        self.found = None
        self.thread = threading.Thread(target=self._wait)

    def _wait(self):
        try:
            self.found = script("lb", "in_first_write", **self.wanted)
        except BenchError as why:
            self.found = {"error": str(why)}

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.thread.join()

    def seconds(self, began):
        if "at" not in (self.found or {}):
            raise BenchError(f"no write passed: {self.found}")
        return self.found["at"] - began


def orchestrate(command, **words):
    told = "pillar=" + json.dumps({**CONFIRMED, **words})
    began = time.time()
    done = lab("salt-run", "state.orchestrate", f"etcd_ha.orch.{command}", told, check=False)
    say(f"{command}: {where_the_time_went(done)}; in all {time.time() - began:.1f} s")
    return began, done


def where_the_time_went(told):
    """The steps of an orchestrate that took half a second or more, out of what it printed."""
    found = re.findall(r"^ +ID: (.+?)\n.*?^ +Duration: ([0-9.]+) ms", told, re.M | re.S)
    return "; ".join(f"{float(ms) / 1000:.1f} s {name}" for name, ms in found if float(ms) > 500)


def filled(keys, size):
    """A converged cluster with so many keys, and its snapshot on every member."""
    lab("reset")
    lab("salt-run", "saltutil.sync_all")
    lab("salt-run", "state.orchestrate", "etcd_ha.orch")
    took = script("etcd1", "in_fill", keys=keys, bytes=size)["seconds"]
    say(f"{keys} keys of {size >> 20} MiB in all were written in {took:.0f} s")
    # Of one member: etcdctl takes a snapshot from none where several are named.
    words = f"snapshot save {KEPT} --command-timeout=600s"
    lab("exec", "etcd2", "sh", "-c", f"{ONE_MEMBER} etcdctl {words}")


def brought_to_all():
    """For the floor alone: the file lies on each member before the clock starts."""
    coded = lab("exec", "etcd2", "sh", "-c", f"gzip -1 < {KEPT} | base64 -w0")
    for host in ("etcd1", "etcd3"):
        lab_stdin(host, f"base64 -d | gzip -d > {KEPT}", coded)


def lab_stdin(host, words, text):
    command = [str(LAB), "exec", host, "sh", "-c", words]
    subprocess.run(command, input=text, text=True, check=True, capture_output=True)


def restore():
    with FirstWrite(cluster_id()) as write:
        began, told = orchestrate("restore", backup=KEPT)
    return checked(write, began, told)


def restore_by_hand(number):
    with FirstWrite(cluster_id()) as write:
        found = everywhere("in_by_hand", what="restore", snapshot=KEPT, token=str(number))
    return write.seconds(min(row["began"] for row in found))


def recover():
    quorum_is_lost()
    with FirstWrite() as write:
        began, told = orchestrate("recover")
    return checked(write, began, told)


def recover_by_hand():
    quorum_is_lost()
    with FirstWrite() as write:
        found = script("etcd1", "in_by_hand", what="recover")
    return write.seconds(found["began"])


def quorum_is_lost():
    for host in MEMBERS[1:]:
        lab("exec", host, "sh", "-c", "systemctl kill -s KILL etcd; systemctl stop etcd")
        lab("exec", host, "rm", "-rf", "/var/lib/etcd/member")
    time.sleep(4)


def checked(write, began, told):
    try:
        return write.seconds(began)
    except BenchError as why:
        raise BenchError(f"{why}\n{told[-3000:]}") from why


def measure(runs, keys, size):
    samples = {"restore": ([], []), "recovery": ([], [])}
    for number in range(1, runs + 1):
        filled(keys, size)
        samples["restore"][0].append(restore())
        samples["recovery"][0].append(recover())
        brought_to_all()
        samples["restore"][1].append(restore_by_hand(number))
        samples["recovery"][1].append(recover_by_hand())
        told = ", ".join(f"{n} {o[-1]:.1f} s (floor {f[-1]:.1f})" for n, (o, f) in samples.items())
        say(f"run {number} of {runs}: {told}")
    return samples


def figures(samples):
    found = {}
    for name, (ours, floor) in samples.items():
        bar = 2 * statistics.median(floor) + 3
        mean = statistics.median(ours)
        found[name] = {"seconds": mean, "floor": statistics.median(floor), "bar": bar}
        found[name] |= {"good": mean <= bar, "samples": ours, "floors": floor}
    return found


def show(found):
    heads = ("FIGURE", "SECONDS", "FLOOR", "BAR", "")
    rows = [
        (
            n,
            *(f"{one[k]:.1f}" for k in ("seconds", "floor", "bar")),
            "good" if one["good"] else "OVER",
        )
        for n, one in found.items()
    ]
    print(table(heads, rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="how often (default: %(default)s)")
    parser.add_argument("--keys", type=int, default=100_000, help="(default: %(default)s)")
    parser.add_argument("--mib", type=int, default=1024, help="size of them (default: %(default)s)")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "bench-restore.json")
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    parser.add_argument(
        "--strict", action="store_true", help="exit code 1 where one is over its bar"
    )
    wanted = parser.parse_args()
    os.environ.setdefault("ETCD_HA_LAB", "bench")
    try:
        lab("up", "--hosts", str(len(MEMBERS)))
        found = figures(measure(wanted.runs, wanted.keys, wanted.mib << 20))
    except BenchError as why:
        print(f"bench: {why}", file=sys.stderr)
        return 1
    finally:
        if not wanted.keep:
            lab("down", check=False)
    wanted.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"keys": wanted.keys, "mib": wanted.mib, "cores": os.cpu_count(), "figures": found}
    wanted.out.write_text(json.dumps(result, indent=1) + "\n")
    show(found)
    print(f"\nas data: {wanted.out}")
    return 0 if all(one["good"] for one in found.values()) or not wanted.strict else 1


if __name__ == "__main__":
    sys.exit(main())
