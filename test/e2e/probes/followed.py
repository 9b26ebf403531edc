"""The orchestrate as the master's event bus tells it, killed as soon as a wanted step has ended.

Salt 3008.3 fires no ``state_events`` for an orchestrate, but it tells each step that begins
(``salt/run/JID/args``), the job that it becomes (``salt/job/JID/new``), and each minion's return:
with the last of these the step has ended. Both are printed as lines of JSON.

``after`` is ``progress`` for a kill after the first step that no run before has ended (``seen``), a
part of a title for one after the first step of such a title, or empty for none. ``kill`` is what
ends: the ``orchestrate`` alone, or the whole ``master`` with it. ``delay`` is how much later, in
seconds: by then the next step is under way.
"""

import json
import os
import signal
import subprocess
import sys
import time

import salt.config
import salt.utils.event

wanted = json.loads(sys.argv[1])
# The convergence, or another of the formula's commands with its words.
ASKED = wanted.get("ask", ["etcd_ha.orch"])
ORCHESTRATE = ["salt-run", "state.orchestrate", *ASKED, "--out=json"]
OUTPUT = "/run/etcd_ha-orchestrate.out"


def tell(**what):
    print(json.dumps(what), flush=True)


class Steps:
    """The step under way: its title, and whose returns it waits for."""

    def __init__(self):
        self.title, self.function, self.job, self.missing, self.good = "", "", "", set(), True

    def ended(self, tag, data):
        """The title of the step that ends with this event, and whether it ended well."""
        if tag.count("/") < 3:
            return None
        kind, job, *words = tag.split("/")[1:]
        if (kind, words) == ("run", ["args"]):
            self._begin(data)
        elif kind == "run" and words == ["ret"] and data["fun"] == self.function:
            return self.title, data["success"]
        elif kind == "job" and words == ["new"] and data["fun"] == self.function:
            self.job, self.missing, self.good = job, set(data["minions"]), True
            tell(acts=data["minions"], step=self.title)
        elif kind == "job" and words[:1] == ["ret"] and job == self.job:
            self.missing.discard(data["id"])
            self.good = self.good and data.get("retcode", 0) == 0
            if not self.missing:
                self.job = ""
                return self.title, self.good
        return None

    def _begin(self, data):
        self.title, self.job = data["name"], ""
        if data["type"] == "function":
            self.title += f" {data['tgt']} {data['args'].get('kwarg')}"
            self.function = data["name"]
        elif data["type"] == "state":
            self.function = "state.sls"
        else:
            self.function = f"runner.{data['name']}"


def is_wanted(title):
    if wanted["after"] == "progress":
        # Each plan begins with it anew: behind it nothing is nearer to the goal.
        return ": prepare " not in title and title not in wanted["seen"]
    return bool(wanted["after"]) and wanted["after"] in title


def kill(run):
    """End it now, or with it the master; False where it had come to its end by then."""
    time.sleep(wanted["delay"])
    if run.poll() is not None:
        return False
    if wanted["kill"] == "master":
        subprocess.run(["systemctl", "kill", "-s", "KILL", "salt-master"], check=True)
    os.killpg(run.pid, signal.SIGKILL)
    return True


def follow(bus, run):
    """Tell what happens until the orchestrate has ended or is killed; whether it was killed."""
    steps = Steps()
    while True:
        over = run.poll() is not None
        event = bus.get_event(wait=0.1, full=True)
        if event is None and over:
            return False
        ended = steps.ended(event["tag"], event["data"]) if event else None
        if ended:
            tell(ended=ended[0], good=ended[1])
            if ended[1] and is_wanted(ended[0]):
                return kill(run)


opts = salt.config.client_config("/etc/salt/master")
with salt.utils.event.get_master_event(opts, opts["sock_dir"], listen=True) as listening:
    listening.connect_pub(timeout=10)
    with open(OUTPUT, "wb") as output:
        running = subprocess.Popen(
            ORCHESTRATE,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    killed = follow(listening, running)
code = running.wait()
if killed and wanted["kill"] == "master":
    subprocess.run(["systemctl", "restart", "salt-master"], check=True)
with open(OUTPUT, encoding="utf-8", errors="replace") as output:
    tell(killed=killed, code=code, text=output.read())
