"""What a member's own log tells: whether its data is of use, and since when it has no leader.

The lines are those of systemd's journal, the oldest first.
"""

import re
from collections.abc import Mapping

# What etcd logs when it cannot use its own data; server/storage/wal, .../snap, .../corrupt.go.
CORRUPTION: Mapping[str, str] = {
    "crc mismatch": "its log or snapshot is corrupt (crc mismatch)",
    "checksum mismatch": "its data differs from the others' (checksum mismatch)",
    "found data inconsistency with peers": "its data differs from the others'",
    "failed to recover v3 backend from snapshot": "its database is missing or corrupt",
    "invalid database": "its database is corrupt",
    "page is not freelist": "its database is corrupt",
    "file size too small": "its database is corrupt",
    "raft log corrupted, truncated, or lost": "its log has lost entries that it once confirmed",
    "wal: file not found": "its log is missing",
    "permanently removed from the cluster": "it was taken out of the member list",
}

# What a damaged record can look like besides, but said of other things too: it counts only where
# etcd ended by it. server/storage/wal/wal.go, walpb/record.pb.go.
FATAL_CORRUPTION: Mapping[str, str] = {
    '"error":"proto: ': "its log or snapshot is corrupt (a record cannot be decoded)",
    "unexpected block type": "its log is corrupt (a record of no known type)",
    "wal: slice bounds out of range": "its log is corrupt (entries are missing)",
    "wal: snapshot mismatch": "its log and its snapshots do not fit together",
    "wal: conflicting metadata found": "its log is of another member",
}

# What raft logs of an election, and of its end (raft/node.go, raft/raft.go); another start of etcd
# is the end of all that was before it.
ELECTING = (" lost leader ", " is starting a new election at term ")
ELECTED = (" elected leader ", " changed leader from ", "starting an etcd server")


def corruption(log: str) -> str:
    """Why etcd cannot use its data, from the last lines of its log; empty if it does not say so.

    The last two starts count: systemd may just have begun another one.
    """
    last = "".join(log.split("starting an etcd server")[-2:])
    ends = "".join(line for line in last.splitlines() if '"level":"fatal"' in line)
    said = [why for text, why in CORRUPTION.items() if text in last]
    said += [why for text, why in FATAL_CORRUPTION.items() if text in ends]
    return said[0] if said else ""


def leaderless_since(log: str) -> float | None:
    """Since when, at least, the member has had no leader; None where its log does not say that.

    ``log`` are its last lines with the seconds since the machine's start before each (journalctl
    -o short-monotonic).
    """
    since = None
    for line in log.splitlines():
        if any(text in line for text in ELECTED):
            since = None
        elif since is None and any(text in line for text in ELECTING):
            found = re.match(r"\[\s*(\d{1,12}\.\d{1,9})\]", line)
            since = float(found[1]) if found else None
    return since
