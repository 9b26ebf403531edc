"""What a member's own log proves: that an election will bring no leader."""

import etcd_ha_journal
import pytest


def test_no_phrase_of_a_log_judges_data():
    """etcd itself does, on a copy: etcd_ha_host_examine."""
    assert not hasattr(etcd_ha_journal, "corruption")


LOST = "raft.node: 6eff lost leader 97a5 at term 2"
FOUND = "raft.node: 6eff elected leader 97a5 at term 3"
TRIED = "6eff is starting a new election at term 2"
OTHER = "raft.node: 6eff changed leader from 97a5 to 24b7 at term 4"
ASKED = "6eff no leader at term 2; dropping index reading msg"


def log(*said):
    """Lines as journalctl -o short-monotonic shows them; the first is of second 10."""
    shown = enumerate(said, 10)
    return "\n".join(f'[{n:5d}.250000] etcd1 etcd[623]: {{"msg":"{text}"}}' for n, text in shown)


@pytest.mark.parametrize(
    ("said", "since"),
    [
        ([LOST], 10.25),
        ([FOUND, LOST, ASKED, TRIED, TRIED], 11.25),
        # Older lines are gone: it has been without one since the first try at least.
        ([ASKED, TRIED, ASKED, TRIED], 11.25),
        ([LOST, TRIED, FOUND], None),
        ([LOST, OTHER], None),
        ([LOST, TRIED, FOUND, LOST], 13.25),
        ([LOST, TRIED, "starting an etcd server"], None),
        ([LOST, "starting an etcd server", TRIED], 12.25),
        ([ASKED], None),
        ([], None),
    ],
)
def test_since_when_there_is_no_leader(said, since):
    assert etcd_ha_journal.leaderless_since(log(*said)) == since


def test_a_line_without_its_time_proves_nothing():
    assert etcd_ha_journal.leaderless_since(LOST + "\n" + log(TRIED)) == 10.25
    assert etcd_ha_journal.leaderless_since(LOST) is None
