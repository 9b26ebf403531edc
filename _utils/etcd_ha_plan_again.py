"""When an orchestrate that plans again for what is left is to stop.

Some plans end by planning again: what is left is known only once their steps have passed. Each plan
hands over what it and those before it had left (``Earlier``), so there is no file to go stale. What
is left twice in a row, although all steps have passed, will be left a third time: then it stops and
says what, and it stops in any case after so many plans or so long a time.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from etcd_ha_common_text import few
from etcd_ha_steps import Plan

# Plans of one orchestrate for one cluster. The longest way known takes four.
MOST = 8
# Seconds after the first of them in which another one may begin: members' data may be large.
LONGEST = 4 * 3600


@dataclasses.dataclass(frozen=True)
class Earlier:
    """What this orchestrate has planned for a cluster before: since when, and what was left."""

    began: int
    left: tuple[str, ...] = ()

    @staticmethod
    def of(found: Mapping[str, Any] | None, now: int) -> "Earlier":
        """From what the plan before has handed over; None where there was none."""
        if not found:
            return Earlier(now)
        return Earlier(int(found["began"]), tuple(found["left"]))

    def handed(self, plan: Plan) -> dict[str, Any]:
        """What the next plan is to know."""
        return {"began": self.began, "left": [*self.left, left(plan)]}


def left(plan: Plan) -> str:
    """A hash of what a plan has to do, and why."""
    rows = [(step.title, step.kind, list(step.targets), step.why) for step in plan.steps]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def bounded(plan: Plan, earlier: Earlier, now: int) -> Plan:
    """The plan, or a refusal where it would plan again without coming nearer, or for too long."""
    if plan.refusal or not any(step.kind == "again" for step in plan.steps):
        return plan
    why = _why(plan, earlier, now)
    if not why:
        return plan
    refusal = (
        f"{why}. Left is: {_told(plan)}. Nothing more was done. Look at what keeps that from its "
        f"end (salt-run etcd_ha.status), fix it, and see what is left then: salt-run etcd_ha.plan "
        f"cluster={plan.cluster}"
    )
    return dataclasses.replace(plan, steps=(), refusal=refusal)


def _why(plan: Plan, earlier: Earlier, now: int) -> str:
    if earlier.left and earlier.left[-1] == left(plan):
        return (
            "all steps of the plan before have passed, and the same is left as before, so planning "
            "again does not come nearer"
        )
    if len(earlier.left) >= MOST:
        return f"this run has planned {len(earlier.left)} times, which is as often as one may"
    if now - earlier.began > LONGEST:
        hours = (now - earlier.began) / 3600
        return f"this run has planned again for {hours:.1f} h, and {LONGEST // 3600} h is the most"
    return ""


def _told(plan: Plan) -> str:
    """What is left in words: the first steps, each with its reason."""
    steps = [step for step in plan.steps if step.kind != "again"]
    told = [
        f"{step.title.partition(': ')[2]}{f' (because: {step.why})' if step.why else ''}"
        for step in steps
    ]
    return few(told, between="; ")
