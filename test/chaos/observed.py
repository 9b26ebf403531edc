"""From the observer's and the listener's lines to what the checker of promises looks at."""

import json
from collections.abc import Iterable
from typing import Any

from chaos.checkers.promises import Deed, Sample

# Seconds after which what a member told last is no news any more.
STALE = 1.5
# The formula's functions that take a member down or out.
FUNCTIONS = {
    "etcd_ha_member.remove": "remove",
    "etcd_ha_member.retire": "retire",
    "etcd_ha_maintenance.defragment": "defragment",
}
ACTIONS = ("restart", "join", "bootstrap")


def rows(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The lines' objects; one that was cut off is left out."""
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def samples(lines: Iterable[str]) -> list[Sample]:
    """One sample for each line of the observer, of what was known by then."""
    latest: dict[str, dict[str, Any]] = {}
    found = []
    for row in rows(lines):
        latest[row["host"]] = row
        now = {h: r for h, r in latest.items() if row["at"] - r["at"] <= STALE and r["healthy"]}
        told = max(now.values(), key=lambda r: r["at"], default=None)
        if told is None:
            voters = found[-1].voters if found else frozenset()
        else:
            voters = frozenset(m["name"] for m in told["members"] if not m["learner"])
        clusters = frozenset(r["cluster"] for r in now.values())
        found.append(Sample(row["at"], voters, frozenset(now), clusters))
    return found


def leader(lines: Iterable[str]) -> str:
    """Who led last, as the leader itself told."""
    led = [row["host"] for row in rows(lines) if row["healthy"] and row["leader"]]
    return led[-1] if led else ""


def deeds(lines: Iterable[str]) -> list[Deed]:
    """The formula's steps, one for each host that was asked."""
    jobs: dict[str, dict[str, Any]] = {}
    ends: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows(lines):
        if row["what"] == "job":
            jobs[row["jid"]] = row
        elif row["what"] == "return":
            ends[row["jid"], row["host"]] = row
    found = []
    for jid, job in jobs.items():
        kind = FUNCTIONS.get(job["fun"]) or job["action"]
        if job["fun"] not in FUNCTIONS and kind not in ACTIONS:
            continue
        for host in job["hosts"]:
            end = ends.get((jid, host))
            # A member is taken out by another one that speaks for the cluster.
            target = job["member"] if kind == "remove" else host
            found.append(
                Deed(
                    job["at"],
                    end["at"] if end else None,
                    kind,
                    target,
                    end["changed"] if end else None,
                    jid,
                )
            )
    return found
