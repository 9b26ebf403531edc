"""A cluster in which nobody writes: what a member waits for does not come by itself."""

import json

# More than 5,000 entries, after which etcd proposes nothing until it has applied some, and which
# the leader keeps no more of: a member that comes anew is sent a snapshot.
ENTRIES = 8000


def test_a_member_without_data_joins_though_nobody_writes(sacrificed):
    """With the snapshot alone it would not say READY: etcd counts it with the next entry."""
    lab = sacrificed
    lab.put_many(ENTRIES)
    asked = json.dumps({"confirm": "main", "member": "etcd2"})
    run = lab.orch(f"pillar={asked}", command="replace")
    run.ok()
    told = lab.exec("etcd2", "journalctl", "-u", "etcd", "--no-pager", "-o", "cat").ok().out
    # Otherwise this would show nothing.
    assert "applied snapshot" in told
    lab.wait_healthy("etcd2")
    assert lab.orch().ok().changes == {}
