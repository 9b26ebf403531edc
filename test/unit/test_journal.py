"""What a member's own log proves: damage, and that an election will bring no leader."""

import etcd_ha_journal
import pytest

STARTED = '{"level":"info","msg":"starting an etcd server"}\n'


@pytest.mark.parametrize(
    "said",
    [
        '{"level":"fatal","msg":"discovery failed","error":"proto: wrong wireType = 3"}',
        '{"level":"fatal","msg":"failed to open WAL","error":"unexpected block type 88"}',
        '{"level":"fatal","msg":"failed to read WAL","error":"wal: slice bounds out of range"}',
        '{"level":"fatal","msg":"failed to open WAL","error":"walpb: crc mismatch: expected: 1"}',
        '{"level":"panic","msg":"Was the raft log corrupted, truncated, or lost?"}',
    ],
)
def test_an_end_by_damaged_data_is_told(said):
    assert "log" in etcd_ha_journal.corruption(STARTED + said)


def test_what_a_peer_sent_is_no_damage_of_our_own():
    log = STARTED + '{"level":"warn","msg":"lost stream","error":"proto: wrong wireType = 3"}\n'
    log += '{"level":"fatal","msg":"listen failed","error":"address already in use"}\n'
    assert etcd_ha_journal.corruption(log) == ""


def test_damage_before_the_last_two_starts_is_past():
    damaged = STARTED + '{"level":"fatal","error":"walpb: crc mismatch"}\n'
    assert etcd_ha_journal.corruption(damaged + STARTED)
    assert etcd_ha_journal.corruption(damaged + STARTED + STARTED) == ""


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
