"""The program that the timer of backups starts, as one file for which no Salt cache is needed.

What Salt syncs to a minion lies in its cache, which ``saltutil.clear_cache`` empties at any time.
So the job and all that it imports of the formula are put into one archive, which Python runs as it
is, where root alone writes. It is replaced in one step: no start ever finds half of a new one.
"""

import functools
import hashlib
import io
import os
import re
import zipfile

# Where the first module of the archive is, and which function of it is the program.
JOB = "etcd_ha_backup_job"
FOLDER = "/usr/local/lib/etcd_ha"
PATH = f"{FOLDER}/backup.pyz"

_MAIN = f"""\
# Kept by Salt (etcd_ha): what the timer of backups runs.
import sys

import {JOB}

if __name__ == "__main__":
    sys.exit({JOB}.main(sys.argv[1:]))
"""
_IMPORT = re.compile(r"^(?:import|from) (etcd_ha\w*)", re.MULTILINE)
# One time for all, so that the same modules always make the same archive.
_WHEN = (1980, 1, 1, 0, 0, 0)


def modules(folder: str, first: str = JOB) -> dict[str, str]:
    """A module of the formula and all that it needs of the others: name -> source.

    Raises OSError where one of them is not in the folder.
    """
    found: dict[str, str] = {}
    waiting = [first]
    while waiting:
        name = waiting.pop()
        if name not in found:
            with open(f"{folder}/{name}.py", encoding="utf-8") as file:
                found[name] = file.read()
            waiting += _IMPORT.findall(found[name])
    return found


@functools.cache
def archive() -> bytes:
    """The program, of the modules that lie beside this one: the bytes of the file."""
    texts = {"__main__": _MAIN, **modules(os.path.dirname(os.path.abspath(__file__)))}
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as file:
        for name in sorted(texts):
            file.writestr(zipfile.ZipInfo(f"{name}.py", _WHEN), texts[name])
    return written.getvalue()


def sha256() -> str:
    """The hash of the program (hex text), by which a host with an older one is known."""
    return hashlib.sha256(archive()).hexdigest()
