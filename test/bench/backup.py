#!/usr/bin/python3
"""What clients see of a backup while it runs: `make bench-backup`.

The same client puts through the balancer all the time; each backup is set against the seconds just
before it, in the same run on the same hosts. All hosts share one machine and one disk here, which
is the worst case: elsewhere a follower's backup burdens that follower alone.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "test" / "e2e"), str(pathlib.Path(__file__).parent)]

from bench import table  # noqa: E402
from lab_command import Lab  # noqa: E402

STOP = "/tmp/stop-puts"
QUIET = 10  # seconds without a backup, before each


def filled(lab, mebibytes):
    """A database of this size."""
    script = (
        "set -a; . /etc/etcd/etcdctl.env; set +a; "
        "head -c 768000 /dev/urandom | base64 -w 0 > /tmp/bulk; "
        f"for n in $(seq {mebibytes}); do etcdctl put /bulk/$n < /tmp/bulk > /dev/null || exit 1; "
        "done"
    )
    lab.exec("etcd1", "sh", "-c", script, timeout=1800).ok()


def measured(lab):
    """One backup: the seconds of each put before it and meanwhile, and its own seconds."""
    wanted = {"host": lab.address("lb"), "pki": "/etc/etcd/main", "seconds": 900, "stop": STOP}
    found = {}
    thread = threading.Thread(target=lambda: found.update(puts(lab, wanted)))
    lab.exec("lb", "rm", "-f", STOP).ok()
    thread.start()
    time.sleep(QUIET)
    began = time.time()
    lab.orch(command="backup", timeout=900).ok()
    ended = time.time()
    lab.exec("lb", "touch", STOP).ok()
    thread.join()
    series = found["series"]
    before = [took for at, took in series if at < began]
    meanwhile = [took for at, took in series if began <= at <= ended]
    return before, meanwhile, ended - began


def puts(lab, wanted):
    """What the client on the balancer saw."""
    source = (pathlib.Path(__file__).parent / "in_latency.py").read_text()
    argv = ("/usr/bin/python3", "-c", source, json.dumps(wanted))
    return json.loads(lab.exec("lb", *argv, timeout=1200).ok().out)


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


def main():
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--runs", type=int, default=3, help="backups (default: %(default)s)")
    asked.add_argument("--size", type=int, default=1024, help="MiB of data (default: %(default)s)")
    wanted = asked.parse_args()
    lab = Lab(os.environ.get("ETCD_HA_LAB", "bench"))
    lab.up()
    try:
        lab.become_converged()
        filled(lab, wanted.size)
        rows, ratios = [], []
        for number in range(wanted.runs):
            before, meanwhile, took = measured(lab)
            ratios.append(percentile(meanwhile, 0.99) / percentile(before, 0.99))
            rows.append(
                (
                    number + 1,
                    f"{took:.1f} s",
                    f"{percentile(before, 0.5):.1f} / {percentile(before, 0.99):.1f}",
                    f"{percentile(meanwhile, 0.5):.1f} / {percentile(meanwhile, 0.99):.1f}",
                    f"{max(meanwhile) * 1000:.0f}",
                    f"{ratios[-1]:.2f}",
                )
            )
        heads = (
            "run",
            "backup",
            "before p50 / p99 ms",
            "meanwhile p50 / p99 ms",
            "max ms",
            "p99 x",
        )
        print(f"a backup of {wanted.size} MiB, puts of 256 bytes through the balancer")
        print(table(heads, rows))
        print(f"p99 while a backup runs: {statistics.median(ratios):.2f} times that before it")
    finally:
        if not lab.keep:
            lab.down()


if __name__ == "__main__":
    main()
