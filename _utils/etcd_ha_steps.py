"""Steps and plans: what the orchestrate runs, and how it is told to people."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LONGEST_ID = 255
"""Characters of a state's ID. In a rendered SLS it is a key of YAML, which has 1,024 at most:
"mapping values are not allowed in this context" (yaml/scanner.py, ``stale_possible_simple_keys``,
and libyaml's scanner, which Salt's salt/utils/yamlloader.py prefers). A file's name has 255."""


@dataclass(frozen=True)
class Step:
    """One Salt state of the orchestrate: what, where, and why.

    ``kind`` is ``state`` (``sls`` on the targets) or ``function`` (``function`` with
    ``arguments``), ``verify``, ``seen`` (by the balancers ``targets``: the members in
    ``arguments``), ``forget`` or ``again``. ``action``, ``stage``, ``successor``,
    ``endpoints``, ``restart_before``, ``leads_to`` and ``keeps_pairs`` reach the states as the
    pillar ``etcd_ha_step``.
    """

    title: str
    kind: str
    targets: tuple[str, ...]
    sls: tuple[str, ...] = ()
    action: str = "none"
    stage: Mapping[str, str] = field(default_factory=dict)
    successor: str = ""
    endpoints: str = ""
    restart_before: int = 0
    leads_to: Mapping[str, Sequence[str]] = field(default_factory=dict)
    # Whether the certificates in use stay, whatever the user's files hold.
    keeps_pairs: bool = False
    function: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    disruptive: bool = False
    # What does not fit into the title, a line each.
    details: Sequence[str] = ()


@dataclass(frozen=True)
class Plan:
    """The way from what is to what should be; with a refusal there are no steps.

    ``nothing`` says what a command has found that has nothing to do; a converge says "in sync".
    ``waits`` is what is left for a later run, since it needs a host without facts.
    """

    cluster: str
    summary: str
    steps: tuple[Step, ...] = ()
    refusal: str = ""
    warnings: tuple[str, ...] = ()
    nothing: str = ""
    waits: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether all that is to be done can be done now."""
        return not self.refusal and not self.waits


class Refused(Exception):
    """Planning stops: the text says why, and what helps."""


def state_id(title: str) -> str:
    """A sentence as a state's ID: one line, and no longer than it may be.

    title
        The sentence (text). What is too long, or not printable, is cut, with a hash that tells it
        from others with the same beginning.
    """
    line = "".join(one if one.isprintable() else " " for one in title)
    if line == title and len(line) <= LONGEST_ID:
        return line
    end = f"... ({hashlib.sha256(title.encode()).hexdigest()[:8]})"
    return line[: LONGEST_ID - len(end)] + end


def names(minions: Sequence[str]) -> str:
    """A list of hosts as a person says it: the first labels, where these tell them apart."""
    short = [minion.split(".")[0] for minion in minions]
    shown = short if len(set(short)) == len(set(minions)) else list(minions)
    return ", ".join(dict.fromkeys(shown))


def installing(steps: Sequence[Step]) -> list[Step]:
    """Those that bring a release of etcd to their hosts; functions take what is there."""
    return [step for step in steps if {"etcd_ha", "etcd_ha.prepare"} & set(step.sls)]


def idle(plans: Sequence[Plan]) -> list[dict[str, str]]:
    """What the orchestrate says of each cluster for which a command has nothing to do."""
    return [
        {"id": state_id(f"{one.cluster}: nothing is done"), "why": one.nothing}
        for one in plans
        if one.nothing and not one.steps and not one.refusal
    ]


def data(plans: Sequence[Plan]) -> dict[str, Any]:
    """All plans as a program reads them: cluster -> what ``text`` says of it."""
    return {
        one.cluster: {
            "summary": one.summary,
            "in_sync": one.sound and not one.steps,
            "refusal": one.refusal,
            "nothing": one.nothing,
            "steps": [
                {
                    "title": step.title.partition(": ")[2],
                    "because": step.why,
                    "details": list(step.details),
                    "kind": step.kind,
                    "minions": list(step.targets),
                    "disruptive": step.disruptive,
                }
                for step in one.steps
            ],
            "waits": list(one.waits),
            "notes": list(one.warnings),
        }
        for one in plans
    }


def text(plans: Sequence[Plan]) -> str:
    """All plans in words."""
    lines = []
    for one in plans:
        lines.append(f"{one.cluster}: {one.summary}")
        lines += [f"  note: {warning}" for warning in one.warnings]
        if one.refusal:
            lines.append(f"  refused: {one.refusal}.")
        elif not one.steps:
            lines.append(f"  {one.nothing or 'in sync, nothing to do'}")
        for number, step in enumerate(one.steps, 1):
            lines.append(f"  {number}. {step.title.partition(': ')[2]}")
            if step.why:
                lines.append(f"       because: {step.why}")
            lines += [f"       {detail}" for detail in step.details]
        lines += [f"  waits: {what}" for what in one.waits]
    return "\n".join(lines)
