"""What a restore or a recovery has done on this host, kept where a power loss leaves it.

It lies beside the data directory's record, not in it. Each step looks here first, so that the same
command goes on where it was interrupted, and nothing else starts etcd meanwhile.
"""

import os
from collections.abc import Mapping
from typing import Any

import etcd_ha_machine

FOLDER = "/var/lib/etcd_ha/restore"
# etcd's unit does not start while this file is here.
HELD = f"{FOLDER}/held"
RESTORE = f"{FOLDER}/restore.json"
RECOVER = f"{FOLDER}/recover.json"
CLOSED = f"{FOLDER}/closed.json"

# Of a restore, in their order; one that is only staged has changed nothing yet.
PHASES = ("staged", "exchanging", "exchanged", "started", "done")


def unfinished() -> str:
    """``restore`` or ``recover`` where one has begun to change this host; else empty."""
    restore = etcd_ha_machine.read_json(RESTORE).get("phase", "done")
    if restore not in ("staged", "done") or os.path.exists(CLOSED):
        return "restore"
    recover = etcd_ha_machine.read_json(RECOVER).get("phase", "done")
    return "recover" if recover != "done" else ""


def read(path: str) -> dict[str, Any]:
    """What was written down, empty where nothing was."""
    return etcd_ha_machine.read_json(path)


def has_passed(progress: Mapping[str, Any], token: str, phase: str) -> bool:
    """Whether the restore of this token has been through a phase."""
    if progress.get("token") != token:
        return False
    return PHASES.index(str(progress.get("phase", "staged"))) >= PHASES.index(phase)


def write(path: str, progress: Mapping[str, Any], phase: str) -> dict[str, Any]:
    """Write down that a phase is reached."""
    os.makedirs(FOLDER, mode=0o700, exist_ok=True)
    found = {**progress, "phase": phase}
    etcd_ha_machine.write_json(path, found)
    return found


def hold() -> None:
    """Have etcd not start here, whoever asks."""
    os.makedirs(FOLDER, mode=0o700, exist_ok=True)
    etcd_ha_machine.write_text(HELD, "a restore is under way\n", 0o600)


def release() -> None:
    """Let etcd start here again."""
    remove(HELD)


def remove(path: str) -> None:
    """Remove a file that may not be there."""
    if os.path.lexists(path):
        os.unlink(path)
        etcd_ha_machine.sync_folder(os.path.dirname(path))
