"""Whose data is right: the majority's, never etcd's first suspect."""

import etcd_ha_client
import etcd_ha_etcdctl
import etcd_ha_hashes
import etcd_ha_report
import pytest
from faces import load


def listed(*learners, count=3):
    return [
        {
            "id": f"id{n}",
            "name": f"etcd{n}",
            "learner": n in learners,
            "peer_urls": [f"https://p{n}"],
            "client_urls": [f"https://c{n}"],
            "started": True,
        }
        for n in range(1, count + 1)
    ]


def told(*hashes, compacted=5):
    return [
        {"member_id": f"id{n}", "hash": found, "revision": 9, "compact_revision": compacted}
        for n, found in enumerate(hashes, 1)
        if found
    ]


@pytest.mark.parametrize(
    ("hashes", "right", "odd", "silent", "agreed"),
    [
        (("a", "a", "a"), "a", set(), set(), True),
        (("a", "a", "b"), "a", {"id3"}, set(), False),
        # One that says nothing is no proof of anything, but a majority is one without it.
        (("a", "a", ""), "a", set(), {"id3"}, False),
        (("a", "b", ""), "", set(), {"id3"}, False),
        (("a", "b", "c"), "", set(), set(), False),
        (("a", "", ""), "", set(), {"id2", "id3"}, False),
    ],
)
def test_three_members(hashes, right, odd, silent, agreed):
    found = etcd_ha_hashes.verdict(listed(), told(*hashes))
    assert (found.right, found.odd, found.silent, found.agreed) == (right, odd, silent, agreed)


def test_two_members_that_differ_have_no_right_one():
    found = etcd_ha_hashes.verdict(listed(count=2), told("a", "b"))
    assert found.right == "" and found.odd == frozenset()


def test_a_learner_has_no_say_and_need_not_tell():
    found = etcd_ha_hashes.verdict(listed(4, count=4), told("a", "a", "a"))
    assert found.agreed
    # Two voters that agree with a learner are no majority of four voters.
    assert etcd_ha_hashes.verdict(listed(3), told("a", "b", "b")).right == ""


def test_hashes_of_different_compactions_are_not_compared():
    rows = told("a", "a") + told("", "", "b", compacted=7)
    assert not etcd_ha_hashes.comparable(rows) and etcd_ha_hashes.comparable(told("a", "b"))


class Etcd:
    """Three members that answer etcdctl as the real ones of 3.4 to 3.7 do."""

    def __init__(self, *hashes, alarm=False, compacting=0, refuses_revision=False, leader=1):
        self.hashes, self.alarm, self.compacting = hashes, alarm, compacting
        self.refuses_revision, self.leader, self.calls = refuses_revision, leader, []

    def ctl(self, member, command, timeout, endpoints=None, stdin=None, path=""):
        self.calls.append(list(command))
        urls = (endpoints or "https://c1").split(",")
        numbers = [int(url[-1]) for url in urls]
        if command[:2] == ["endpoint", "status"]:
            return self.answer([self._status(n) for n in numbers])
        if command[:2] == ["endpoint", "hashkv"]:
            return self._hash(numbers[0], int(command[2].removeprefix("--rev=")))
        if command[:2] == ["member", "list"]:
            return self.answer({"members": [{"ID": n, "name": f"etcd{n}"} for n in (1, 2, 3)]})
        return etcd_ha_etcdctl.Answer(0, "", "")

    def answer(self, document):
        import json

        return etcd_ha_etcdctl.Answer(0, json.dumps(document), "")

    def _status(self, n):
        errors = ["memberID:3  alarm:CORRUPT"] if self.alarm else []
        header = {"member_id": n, "revision": 9 + n, "cluster_id": 1}
        status = {"header": header, "leader": self.leader, "errors": errors, "version": "3.7.1"}
        return {"Endpoint": f"https://c{n}", "Status": status}

    def _hash(self, n, revision):
        if not self.hashes[n - 1]:
            return etcd_ha_etcdctl.Answer(1, "null", "Error: no answer")
        if revision and self.refuses_revision:
            return etcd_ha_etcdctl.Answer(1, "[]", "Error: required revision has been compacted")
        compacted = 5 + (n == 1 and self.compacting > 0)
        self.compacting -= n == 3
        header = {"member_id": n, "revision": 20}
        found = {"header": header, "hash": self.hashes[n - 1], "compact_revision": compacted}
        return self.answer([{"Endpoint": f"https://c{n}", "HashKV": found}])


@pytest.fixture
def asked(monkeypatch):
    """Have etcdctl be answered by such a cluster."""

    def answered(*hashes, **more):
        etcd = Etcd(*hashes, **more)
        monkeypatch.setattr(etcd_ha_client, "etcdctl", etcd.ctl)
        monkeypatch.setattr(etcd_ha_client.time, "sleep", lambda _: None)
        return etcd

    return answered


IDS = [{**one, "id": str(n)} for n, one in enumerate(listed(), 1)]


def test_all_are_asked_at_one_revision_that_each_has(asked):
    etcd = asked(7, 7, 8)
    rows = etcd_ha_client.hashes({}, IDS, 10)
    assert [row["hash"] for row in rows] == ["00000007", "00000007", "00000008"]
    asks = [call[2] for call in etcd.calls if call[1] == "hashkv"]
    assert asks == ["--rev=10"] * 3


def test_a_compaction_meanwhile_is_waited_for(asked):
    asked(7, 7, 7, compacting=2)
    assert etcd_ha_client.hashes({}, IDS, 10)


def test_and_not_without_end(asked):
    asked(7, 7, 7, compacting=1000)
    with pytest.raises(etcd_ha_etcdctl.EtcdctlError, match="compacting"):
        etcd_ha_client.hashes({}, IDS, 10)


def test_where_all_have_just_compacted_the_present_revision_is_compared(asked):
    asked(7, 7, 8, refuses_revision=True)
    rows = etcd_ha_client.hashes({}, IDS, 10)
    assert etcd_ha_hashes.verdict(IDS, rows).odd == {"3"}


def test_members_that_say_nothing_leave_the_others(asked):
    asked(7, 7, None)
    assert etcd_ha_hashes.verdict(IDS, etcd_ha_client.hashes({}, IDS, 10)).silent == {"3"}
    asked(None, None, None)
    with pytest.raises(etcd_ha_etcdctl.EtcdctlError, match="no member told"):
        etcd_ha_client.hashes({}, IDS, 10)


@pytest.fixture
def module(monkeypatch):
    found = load("_modules/etcd_ha")
    monkeypatch.setattr(etcd_ha_client, "members", lambda *_: IDS)
    return found


@pytest.mark.parametrize(
    ("hashes", "here", "corrupt"),
    [((7, 7, 8), 3, True), ((7, 7, 8), 1, False), ((8, 7, 7), 3, False), ((8, 7, 7), 1, True)],
)
def test_the_alarm_accuses_nobody_the_hashes_do(asked, module, hashes, here, corrupt):
    """etcd names member 3 in all four cases; where 1, the leader, is wrong, so it is said."""
    asked(*hashes, alarm=True)
    found = module._live_facts({}, 5, f"https://c{here}")
    assert found["alarms"] == ["CORRUPT"]
    assert bool(found.get("corrupt")) is corrupt and found["healthy"] is not corrupt
    assert not found.get("disputed")


def test_without_a_majority_nobody_is_accused_and_it_is_told(asked, module):
    asked(7, 8, 9, alarm=True)
    found = module._live_facts({}, 5, "https://c1")
    assert not found.get("corrupt") and "etcd2 00000008" in found["disputed"]
    asked(None, None, None, alarm=True)
    assert "no member told" in module._live_facts({}, 5, "https://c1")["disputed"]


def test_without_the_alarm_no_database_is_read(asked, module):
    etcd = asked(7, 7, 8)
    assert module._live_facts({}, 5, "https://c1")["healthy"]
    assert not [call for call in etcd.calls if "hashkv" in call]


@pytest.fixture
def member(monkeypatch):
    found = load("_modules/etcd_ha_member")
    monkeypatch.setattr(etcd_ha_client, "members", lambda *_: IDS)
    return found


def test_data_is_thrown_away_only_where_the_others_are_a_majority_that_agrees(asked, member):
    entry = IDS[2]
    asked(7, 7, 8)
    member._refuse_disagreeing({}, "https://c1,https://c2", entry)
    asked(7, 8, 8)
    with pytest.raises(member.CommandExecutionError, match="it is not clear whose is wrong"):
        member._refuse_disagreeing({}, "https://c1,https://c2", entry)
    asked(7, None, 7)
    with pytest.raises(member.CommandExecutionError, match="keeps its place"):
        member._refuse_disagreeing({}, "https://c1,https://c2", entry)


def test_and_not_while_a_member_leads_whose_data_is_wrong_too(asked, member, monkeypatch):
    five = [{**one, "id": str(n)} for n, one in enumerate(listed(count=5), 1)]
    monkeypatch.setattr(etcd_ha_client, "members", lambda *_: five)
    asked(8, 7, 7, 7, 9, leader=1)
    with pytest.raises(member.CommandExecutionError, match="keeps its place"):
        member._refuse_disagreeing({}, "https://c1,https://c2,https://c3,https://c4", five[4])
    asked(8, 7, 7, 7, 9, leader=2)
    member._refuse_disagreeing({}, "https://c1,https://c2,https://c3,https://c4", five[4])


@pytest.mark.parametrize(
    ("right", "rows", "sound", "says"),
    [
        ("a", (("a", False), ("a", False)), True, "ok"),
        ("a", (("a", False), ("b", True)), False, "differs"),
        ("", (("a", False), ("b", False)), False, "No majority holds the same"),
        ("a", (("a", False), ("", False)), False, "no answer"),
    ],
)
def test_people_are_told_in_a_table(cluster, right, rows, sound, says):
    members = [
        {"name": f"etcd{n}", "member_id": str(n), "hash": found, "differs": differs}
        for n, (found, differs) in enumerate(rows, 1)
    ]
    report = etcd_ha_report.hashes(cluster, {"agree": sound, "right": right, "members": members})
    assert report.sound is sound and says in report.text


def test_a_cluster_that_cannot_be_asked_is_not_sound(cluster):
    for answer in (None, {}, "Traceback\nno quorum"):
        report = etcd_ha_report.hashes(cluster, answer)
        assert not report.sound and "could not be compared" in report.text
