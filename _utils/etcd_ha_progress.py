"""What a restore or a recovery has done on this host, kept where a power loss leaves it.

It lies beside the data directory's record, not in it. Each step looks here first, so that the same
command goes on where it was interrupted, and nothing else starts etcd meanwhile.
"""

import os
from collections.abc import Mapping
from typing import Any

import etcd_ha_common_files
import etcd_ha_machine
from etcd_ha_common_errors import Failed

FOLDER = "/var/lib/etcd_ha/restore"
# etcd's unit does not start while this file is here.
HELD = f"{FOLDER}/held"
RESTORE = f"{FOLDER}/restore.json"
RECOVER = f"{FOLDER}/recover.json"
CLOSED = f"{FOLDER}/closed.json"

# Of a restore, in their order; one that is only staged has changed nothing yet.
PHASES = ("staged", "exchanging", "exchanged", "started", "done")
# What each file holds, where it holds it, by examples of its kind.
FORMS: Mapping[str, Mapping[str, object]] = {
    "restore.json": {
        "token": "",
        "sha256": "",
        "source": "",
        "revision": 0,
        "keys": 0,
        "aside": [],
    },
    "recover.json": {"way": "", "date": "", "aside": []},
    "closed.json": {"service": "", "token": ""},
}
NEEDED: Mapping[str, tuple[str, ...]] = {
    "restore.json": ("token",),
    "recover.json": ("way", "date"),
    "closed.json": ("service",),
}


def unfinished() -> str:
    """``restore`` or ``recover`` where one has begun to change this host; else empty."""
    if _phase(RESTORE) not in ("staged", "done") or etcd_ha_common_files.exists(CLOSED):
        return "restore"
    return "recover" if _phase(RECOVER) != "done" else ""


def _phase(path: str) -> str:
    """The phase that was written down; a file that cannot be read is of something begun."""
    if not etcd_ha_common_files.exists(path):
        return "done"
    return str(read(path).get("phase", "unreadable"))


def read(path: str) -> dict[str, Any]:
    """What was written down, empty where nothing was, or nothing that can be relied on.

    ``unfinished`` and ``refuse_broken`` tell the two apart. Raises Unreadable where it cannot be
    read at all.
    """
    found = etcd_ha_machine.read_json(path)
    form = FORMS.get(os.path.basename(path), {})
    sound = all(
        isinstance(found.get(name, default), type(default)) for name, default in form.items()
    )
    known = found.get("phase") in (*PHASES, "copied", "closed")
    whole = all(name in found for name in NEEDED.get(os.path.basename(path), ()))
    return found if sound and known and whole else {}


def refuse_broken(path: str) -> None:
    """Raise Failed where something was written down that cannot be relied on."""
    if etcd_ha_common_files.exists(path) and not read(path):
        raise Failed(
            f"{path} is broken, so it is unknown how far the restore or recovery came here. Look "
            f"at the data beside it ({FOLDER}, and *.replaced-* or *.recovered-* beside the data "
            "directory). To begin anew, move that file away and run the command again"
        )


def has_passed(progress: Mapping[str, Any], token: str, phase: str) -> bool:
    """Whether the restore of this token has been through a phase."""
    if progress.get("token") != token:
        return False
    reached = progress.get("phase", "staged")
    return reached in PHASES and PHASES.index(reached) >= PHASES.index(phase)


def write(path: str, progress: Mapping[str, Any], phase: str) -> dict[str, Any]:
    """Write down that a phase is reached."""
    etcd_ha_common_files.make_directory(FOLDER, 0o700)
    found = {**progress, "phase": phase}
    etcd_ha_machine.write_json(path, found)
    return found


def hold() -> None:
    """Have etcd not start here, whoever asks."""
    etcd_ha_common_files.make_directory(FOLDER, 0o700)
    etcd_ha_machine.write_text(HELD, "a restore is under way\n", 0o600)


def release() -> None:
    """Let etcd start here again."""
    remove(HELD)


def remove(path: str) -> None:
    """Remove a file that may not be there."""
    if etcd_ha_common_files.lexists(path):
        os.unlink(path)
        etcd_ha_machine.sync_folder(os.path.dirname(path))
