"""Run the core of the end-to-end tests on every system and Salt, and write the table of the README.

    .venv/bin/python test/e2e/matrix.py                     all of it, about half an hour a row
    .venv/bin/python test/e2e/matrix.py --only trixie       one system, or one Salt, or both
    .venv/bin/python test/e2e/matrix.py --table             the README anew from the last results

The results are in matrix.json beside this file; the README's table is made from them, and from
nothing else. A row that was not run this time keeps its results and their date.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LAB, RESULTS, README = ROOT / "test/lab/lab", HERE / "matrix.json", ROOT / "README.md"
BEGIN, END = "<!-- make matrix writes this table -->\n", "<!-- the end of it -->\n"
SYSTEMS = {"bullseye": "Debian 11", "bookworm": "Debian 12", "trixie": "Debian 13"}
SALTS = ("3008.3", "3007.15")
ROWS = [(suite, salt) for suite in SYSTEMS for salt in SALTS]
# Seconds for a base tree that is built for the first time, and for all tests of a row.
UP_TIMEOUT, ROW_TIMEOUT = 1800, 7200
_VERSION = re.compile(r"\[(\d+\.\d+\.\d+)\]")


def main():
    arguments = parser().parse_args()
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    wanted = asked(arguments.only or ())
    failed = False
    for suite, salt in [] if arguments.table else wanted:
        row = run(suite, salt)
        failed = (
            failed or bool(row["reason"]) or not all(c["passed"] for c in row["cells"].values())
        )
        rows = [one for one in rows if (one["suite"], one["salt"]) != (suite, salt)] + [row]
        # After each row: a run that is ended loses nothing.
        RESULTS.write_text(json.dumps(ordered(rows), indent=1) + "\n")
        README.write_text(written(README.read_text(), ordered(rows)))
    README.write_text(written(README.read_text(), ordered(rows)))
    print(table(ordered(rows)))
    return 1 if failed else 0


def asked(only):
    """The rows of these systems and these Salts; of all of a kind of which none is named."""
    suites = [suite for suite in SYSTEMS if suite in only] or list(SYSTEMS)
    salts = [salt for salt in SALTS if salt in only] or list(SALTS)
    return [(suite, salt) for suite, salt in ROWS if suite in suites and salt in salts]


def parser():
    found = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    choices = [*SYSTEMS, *SALTS]
    found.add_argument("--only", action="append", choices=choices, help="a system, or a Salt")
    found.add_argument("--table", action="store_true", help="run nothing, write the README anew")
    return found


def run(suite, salt):
    """One row: the core on these hosts with this Salt, in a lab of its own."""
    print(f"{SYSTEMS[suite]}, Salt {salt}", flush=True)
    environment = {
        **os.environ,
        "ETCD_HA_E2E": "all",
        "ETCD_HA_LAB": "matrix",
        "ETCD_HA_LAB_KEEP": "1",
        "ETCD_HA_LAB_SUITE": suite,
        "ETCD_HA_LAB_SALT": salt,
    }
    row = {"suite": suite, "salt": salt, "date": str(datetime.date.today())}
    try:
        up = [LAB, "up", "--hosts", "3", "--suite", suite, "--salt", salt]
        done = subprocess.run(
            up, env=environment, timeout=UP_TIMEOUT, stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["the lab does not come up"]
            return {
                **row,
                "cells": {},
                "reason": next((x for x in lines if "lab:" in x), lines[-1]),
            }
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder) / "core.xml"
            words = ["-m", "pytest", HERE / "test_core.py", "-m", "core", f"--junitxml={report}"]
            subprocess.run(
                [sys.executable, *words],
                cwd=ROOT,
                env=environment,
                timeout=ROW_TIMEOUT,
                check=False,
            )
            return {**row, "cells": cells(report.read_text()), "reason": ""}
    except subprocess.TimeoutExpired as err:
        return {**row, "cells": {}, "reason": f"it did not end within {err.timeout:.0f} s"}
    finally:
        subprocess.run([LAB, "down"], env=environment, check=False)


def cells(report):
    """etcd release -> {passed, seconds, told} from pytest's own report (JUnit XML)."""
    found = {}
    for case in ElementTree.fromstring(report).iter("testcase"):
        version = _VERSION.search(case.get("name", ""))
        if not version:
            continue
        new = {"passed": True, "seconds": 0.0, "told": [], "ran": 0}
        cell = found.setdefault(version[1], new)
        cell["ran"] += case.find("skipped") is None
        cell["seconds"] = round(cell["seconds"] + float(case.get("time", 0)), 1)
        for kind in ("failure", "error", "skipped"):
            if (told := case.find(kind)) is not None:
                cell["passed"] = False
                first = (told.get("message") or kind).partition("\n")[0]
                cell["told"].append(f"{kind}: {case.get('name')}: {first[:200]}")
    return found


def ordered(rows):
    """In the order of ROWS; what is no row any more is left out."""
    return sorted(
        (row for row in rows if (row["suite"], row["salt"]) in ROWS),
        key=lambda row: ROWS.index((row["suite"], row["salt"])),
    )


def table(rows):
    """The table as Markdown."""
    if not rows:
        return "It has not been run on this release yet: `make matrix`.\n"
    versions = sorted({v for row in rows for v in row["cells"]}, key=lambda v: v.split("."))
    lines = [
        f"| Hosts | Salt | {' | '.join(f'etcd {version}' for version in versions)} | Run |",
        "|---|---|" + "---|" * (len(versions) + 1),
    ]
    for row in rows:
        told = [said(row["cells"].get(version), row["reason"]) for version in versions]
        head = f"{SYSTEMS[row['suite']]} | {row['salt']}"
        lines.append(f"| {head} | {' | '.join(told)}{' |' if told else ''} {row['date']} |")
    return "\n".join(lines) + "\n"


def said(cell, reason):
    """One cell in words."""
    if cell is None:
        return f"not run: {reason.replace('|', '/')}" if reason else "not run"
    if cell["passed"]:
        return f"pass, {cell['seconds']:.0f} s"
    only_skipped = all(one.startswith("skipped") for one in cell["told"])
    if not only_skipped:
        return f"**fail**, {cell['seconds']:.0f} s"
    # What this system cannot have is an older release to come from.
    return f"pass, {cell['seconds']:.0f} s, no way up" if cell.get("ran") else "not to be had"


def written(readme, rows):
    """The README with this table between its markers."""
    before, found, rest = readme.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise SystemExit(f"{README.name} has lost its markers: {BEGIN.strip()} and {END.strip()}")
    return f"{before}{BEGIN}{table(rows)}{END}{after}"


if __name__ == "__main__":
    sys.exit(main())
