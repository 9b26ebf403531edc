"""From a campaign's recordings to its verdict: all checkers, and what they looked at, counted.

``judge`` reads a folder alone, so that a campaign can be judged again long after it has run.
"""

import json
import pathlib
from collections import Counter
from dataclasses import asdict, dataclass, field

from chaos import observed
from chaos.checkers import acknowledged, linearizable, promises, revisions, watches
from chaos.history import Operation, Recorded, Violation, read

# How many violations of a rule are told in full.
TOLD = 5


@dataclass
class Verdict:
    """What was found, and how much was looked at."""

    violations: list[Violation] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)

    @property
    def sound(self) -> bool:
        return not self.violations

    def rules(self) -> Counter:
        return Counter(one.rule for one in self.violations)


def judge(folder: pathlib.Path) -> Verdict:
    """All that a campaign in this folder recorded."""
    campaign = json.loads((folder / "campaign.json").read_text())
    history = read(_lines(folder / "history.jsonl"))
    found = Verdict([Violation(**one) for one in campaign["violations"]])
    _clients(found, history, campaign)
    _steps(found, folder, campaign)
    return found


def _lines(path: pathlib.Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _clients(found: Verdict, history: Recorded, campaign: dict) -> None:
    counts = found.counts
    counts["requests"] = len(history.operations)
    for outcome, number in Counter(one.outcome for one in history.operations).items():
        counts[f"requests {outcome}"] = number
    counts["watch events"] = sum(row.kind == "event" for row in history.watched)
    counts["streams opened"] = sum(row.kind == "opened" for row in history.watched)
    for era in campaign["eras"]:
        number, prefix = era["number"], f"{campaign['prefix']}e{era['number']}/"
        own = [one for one in history.operations if one.key.startswith(prefix)]
        seen = [row for row in history.watched if row.watcher.endswith(f".{number}")]
        wanted = [one for one in history.wanted if one[0].endswith(f".{number}")]
        counts["keys checked"] += len(linearizable.by_key(own))
        counts["acknowledged writes"] += sum(one.wrote for one in own)
        found.violations += linearizable.check(own)
        found.violations += revisions.check(own)
        found.violations += watches.check(own, seen, wanted)
        found.violations += _era(counts, own, era, bool(wanted))


def _era(counts: Counter, own: list[Operation], era: dict, ended: bool) -> list[Violation]:
    """What members held at the end of an era, and what was left of it behind a cut."""
    found = []
    if not ended:
        told = f"era {era['number']}: the clients could not write at its end"
        found.append(Violation("no end of an era", told))
    held = {host: _pairs(keys) for host, keys in era["held"].items()}
    counts["members compared"] += len(held)
    found += acknowledged.check(own, held)
    for cut in era["cuts"]:
        counts["restores compared"] += 1
        holds = _pairs(cut["holds"])
        found += acknowledged.check_cut(own, holds, cut["at_least"], cut["at_most"])
    return found


def _pairs(keys: dict) -> dict[str, tuple[str, int]]:
    return {key: (value, revision) for key, (value, revision) in keys.items()}


def _steps(found: Verdict, folder: pathlib.Path, campaign: dict) -> None:
    samples = observed.samples(_lines(folder / "members.jsonl"))
    heard = _lines(folder / "steps.jsonl")
    deeds = observed.deeds(heard)
    troubles = [promises.Trouble(*one) for one in campaign["troubles"]]
    judged = promises.check(samples, deeds, troubles, campaign["cuts"])
    found.violations += judged.violations
    found.counts["members sampled"] = len(samples)
    found.counts["steps on members"] = len(deeds)
    found.counts["steps judged"] = judged.judged
    found.counts["steps not judged"] = judged.unjudged
    jobs = sum(row["what"] == "job" for row in observed.rows(heard))
    found.counts["jobs heard"] = jobs
    if not samples or not jobs:
        what = "no member" if not samples else "no job of the master's"
        found.violations.append(Violation("nothing was recorded", f"{what} was seen"))


def report(campaign: dict, found: Verdict) -> dict:
    """The campaign's own figures and the verdict, for the JSON file."""
    kept = ("seed", "seconds", "rounds", "faults", "skipped", "impossible", "operations")
    return {
        **{key: campaign[key] for key in kept},
        "counts": dict(found.counts),
        "violations": [asdict(one) for one in found.violations],
    }


def text(campaign: dict, found: Verdict) -> str:
    """The report for people."""
    lines = [
        f"campaign of seed {campaign['seed']}: {len(campaign['rounds'])} rounds in "
        f"{campaign['seconds']:.0f} s"
    ]
    lines += [f"  {one['told']}" for one in campaign["rounds"]]
    faults = {kind: f"{n}" for kind, n in sorted(campaign["faults"].items())}
    for kind, number in campaign["skipped"].items():
        faults[kind] = f"{faults.get(kind, 0)} (and {number} without a turn)"
    lines += ["", *_table("FAULT", "TIMES", faults.items())]
    ends = Counter()
    for one in campaign["operations"]:
        ends[one["command"], "passed" if one["code"] == 0 else "ended with an error"] += 1
    rows = [(f"{command}, {end}", str(n)) for (command, end), n in sorted(ends.items())]
    lines += ["", *_table("COMMAND", "TIMES", rows)]
    rows = [(name, str(number)) for name, number in found.counts.items()]
    rows.append(("violations", str(len(found.violations))))
    lines += ["", *_table("CHECKED", "NUMBER", rows), ""]
    lines += [f"not done here: {kind}: {why}" for kind, why in campaign["impossible"].items()]
    shown: Counter = Counter()
    for one in found.violations:
        shown[one.rule] += 1
        if shown[one.rule] <= TOLD:
            lines.append(f"VIOLATION {one.rule}: {one.text}")
    lines += [
        f"VIOLATION {rule}: {number - TOLD} more of them in report.json"
        for rule, number in shown.items()
        if number > TOLD
    ]
    return "\n".join(lines)


def _table(first: str, second: str, rows) -> list[str]:
    rows = [(first, second), *rows]
    width = max(len(row[0]) for row in rows)
    return [f"  {name:<{width}}  {value}" for name, value in rows]
