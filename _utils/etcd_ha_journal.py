"""What a member's own log tells: since when it has no leader. It is no word on its data.

The lines are those of systemd's journal, the oldest first.
"""

import re

# What raft logs of an election, and of its end (raft/node.go, raft/raft.go); another start of etcd
# is the end of all that was before it.
ELECTING = (" lost leader ", " is starting a new election at term ")
ELECTED = (" elected leader ", " changed leader from ", "starting an etcd server")


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
