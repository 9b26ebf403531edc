#!/usr/bin/env python3
"""Reads from an etcd binary which flags it knows, for the corpus beside this file.

    test/etcd_flags/read.py /path/to/etcd          prints them
    test/etcd_flags/read.py --write /path/to/etcd  writes VERSION.txt beside this file

Its `--help` names most. What that leaves out is asked for by name: etcd ends with "flag provided
but not defined" where it does not know a flag. Asked for are all flags of the formula's table, of
whichever line, with `experimental-` and without. Behind `gates:` stand the feature gates.
"""

import argparse
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "_utils"))

import etcd_ha_etcd_flags  # noqa: E402

_HELP = re.compile(r"^\s+--([a-z][a-z0-9-]+)", re.M)
_GATE = re.compile(r"^\s+([A-Z][A-Za-z0-9]+)=true\|false", re.M)
# Flags that etcd accepts and ignores (``ignored`` in etcdmain/config.go).
IGNORED = ("cluster-active-size", "cluster-remove-delay", "cluster-sync-interval", "config")
IGNORED += ("force", "max-result-buffer", "max-retry-attempts", "peer-heartbeat-interval")
IGNORED += ("peer-election-timeout", "retry-interval", "snapshot", "v", "vmodule")
# They end the program, and are no settings.
_NO_SETTING = ("help",)


def said(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout + done.stderr


def version(binary):
    return re.search(r"etcd Version: ([0-9.]+)", said(binary, "--version"))[1]


def flags(binary):
    """Every flag that the binary knows, sorted."""
    helped = set(_HELP.findall(said(binary, "--help")))
    table = set(etcd_ha_etcd_flags.FLAGS)
    plain = {name.removeprefix("experimental-") for name in table | helped}
    asked = helped | table | plain | {f"experimental-{name}" for name in plain}
    return sorted(name for name in asked - {*_NO_SETTING, *IGNORED} if knows(binary, name))


def knows(binary, flag):
    # A value that no kind of flag takes: what it knows it does not set, and it starts nothing.
    told = said(binary, "--version", f"--{flag}=\x01")
    return "not defined" not in told


def gates(binary):
    """The feature gates that its help names, sorted."""
    return sorted(set(_GATE.findall(said(binary, "--help"))))


def text(binary):
    lines = [f"# etcd {version(binary)}: read by read.py", *flags(binary)]
    return "\n".join([*lines, *(f"gates:{name}" for name in gates(binary))]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("binary")
    given = parser.parse_args()
    found = text(given.binary)
    if given.write:
        (HERE / f"{version(given.binary)}.txt").write_text(found)
    else:
        print(found, end="")


if __name__ == "__main__":
    main()
