"""Wait on a host for a moment of its state, and end the minion in it, or make all stand still.

``moment`` is the path that is new or another when the moment has come, ``etcd`` for the end of the
etcd that runs, or a number of seconds. ``then`` is ``kill`` (the minion and all that it runs dies
and is started again) or ``stand`` (the minion and etcd stand still, for the power to be cut).
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

wanted = json.loads(sys.argv[1])
SLICE = "/sys/fs/cgroup/system.slice"


def processes(unit):
    try:
        with open(f"{SLICE}/{unit}.service/cgroup.procs", encoding="utf-8") as file:
            return [int(line) for line in file]
    except OSError:
        return []


def look(moment):
    """What is another once the moment has come."""
    if isinstance(moment, (int, float)):
        return time.monotonic() - began > moment if began else False
    if moment == "etcd":
        return processes("etcd")
    try:
        found = os.lstat(moment)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def send(unit, what):
    """Until all of the unit have it: a process may just be making another one."""
    had = set()
    while new := set(processes(unit)) - had:
        for pid in new:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, what)
        had |= new


began = 0.0
before, came = look(wanted["moment"]), False
began = time.monotonic()
while not came and time.monotonic() < began + wanted["seconds"]:
    came = look(wanted["moment"]) != before
    time.sleep(0.002)
if came and wanted["then"] == "stand":
    send("salt-minion", signal.SIGSTOP)
    send("etcd", signal.SIGSTOP)
elif came:
    send("salt-minion", signal.SIGKILL)
    subprocess.run(["systemctl", "restart", "salt-minion"], check=True)
print(json.dumps({"came": came, "seconds": time.monotonic() - began}))
