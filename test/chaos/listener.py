"""What the master's event bus tells of the formula's jobs, as lines of JSON; runs on the master.

Only names and times are written: of a job its function, hosts and the step's action; of a return
whether it changed a member. Nothing else of what minions return leaves the master.
"""

import json
import os
import sys
import time

import salt.config
import salt.utils.event

STOP = "/run/etcd_ha-listener.stop"


def tell(**what):
    print(json.dumps({"at": time.monotonic(), **what}), flush=True)


def short(minion):
    return minion.partition(".")[0]


def words(arguments):
    """The named arguments of a job."""
    named = [one for one in arguments or () if isinstance(one, dict) and "__kwarg__" in one]
    return named[-1] if named else {}


def step(given):
    pillar = given.get("pillar")
    return (pillar or {}).get("etcd_ha_step") or {} if isinstance(pillar, dict) else {}


def changed(data):
    """Whether a member was started, restarted, taken in or out; None where it is not told."""
    answer = data.get("return")
    if not str(data["fun"]).startswith("state."):
        return None if data.get("retcode") or answer is False else True
    if not isinstance(answer, dict):
        return None
    for name, state in answer.items():
        if name.startswith("etcd_ha_|-") and name.endswith("_|-running"):
            if not set(state.get("changes") or {}) - {"enabled"}:
                return False
            if state.get("result") is not False:
                return True
            # What a failed state calls its changes is what it was about to do.
            return False if "was not restarted" in state.get("comment", "") else None
    return False


def main():
    opts = salt.config.client_config("/etc/salt/master")
    with salt.utils.event.get_master_event(opts, opts["sock_dir"], listen=True) as bus:
        bus.connect_pub(timeout=20)
        tell(what="listening")
        while not os.path.exists(STOP):
            event = bus.get_event(wait=1, full=True)
            if event is None:
                continue
            tag, data = event["tag"].split("/"), event["data"]
            if tag[:2] != ["salt", "job"] or len(tag) < 4:
                continue
            if tag[3] == "new":
                given = words(data.get("arg"))
                tell(
                    what="job",
                    jid=data["jid"],
                    fun=str(data["fun"]),
                    hosts=[short(one) for one in data.get("minions", ())],
                    action=str(step(given).get("action", "")),
                    member=str(given.get("name", "")),
                )
            elif tag[3] == "ret":
                host = short(data["id"])
                tell(what="return", jid=data["jid"], host=host, changed=changed(data))


if __name__ == "__main__":
    sys.exit(main())
