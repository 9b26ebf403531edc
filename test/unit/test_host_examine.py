"""What an examination makes of how far etcd comes; how it really comes is test/e2e's to show."""

import dataclasses
import json
import os
import time
import types

import etcd_ha_common_local_http
import etcd_ha_data
import etcd_ha_database
import etcd_ha_host_copy
import etcd_ha_host_examine
import etcd_ha_host_sandbox
import etcd_ha_log
import pytest
from etcd_ha_common_errors import Failed
from etcd_ha_host_examine import DAMAGED, DIFFERS, READABLE, UNPROVEN, Subject, Verdict
from etcd_ha_host_sandbox import State

RUNS, PANIC = State(True), State(False, code=2)
HASHED = {"header": {"revision": 61}, "hash": 1504648670, "compact_revision": -1}


class Host:
    """A host whose etcd comes as far as a test says: a script for each start."""

    def __init__(self, place):
        self.place, self.done, self.starts, self.now = place, [], [], 0.0
        # For each start: the states that are seen, what it has applied, its hash, its log.
        self.scripts = []
        self.meanwhile = lambda: None

    def hold(self):
        self.done.append("hold")

    def release(self):
        self.done.append("release")

    def stop(self):
        self.done.append("stop")

    def start(self, text):
        self.starts.append(text)
        self.script = dict(self.scripts[len(self.starts) - 1])
        copy = self.place / "examining"
        (copy / "log").write_text(self.script.get("log", ""))
        (copy / etcd_ha_host_examine.METRICS).touch()
        self.meanwhile()

    def state(self):
        states = self.script["states"]
        return states.pop(0) if len(states) > 1 else states[0]

    def get(self, path, url, timeout, body=None):
        if url == "/metrics":
            if "applied" not in self.script:
                raise ConnectionRefusedError(111, "refused")
            applied = self.script["applied"]
            now = applied.pop(0) if len(applied) > 1 else applied[0]
            return 200, f"etcd_server_proposals_applied_total {now}\n"
        assert json.loads(body) == {"revision": 0}
        found = self.script.get("hash", HASHED)
        if isinstance(found, Exception):
            raise found
        return 200, json.dumps(found)


@pytest.fixture
def host(tmp_path, monkeypatch):
    place = tmp_path / "etcd"
    (place / "member" / "snap").mkdir(parents=True)
    (place / "member" / "wal").mkdir()
    (place / "member" / "snap" / "db").write_bytes(b"d" * 100)
    made = Host(place)
    for name in ("hold", "release", "stop", "start", "state"):
        monkeypatch.setattr(etcd_ha_host_sandbox, name, getattr(made, name))
    monkeypatch.setattr(etcd_ha_host_sandbox, "host_namespace", lambda: "net:[1]")
    monkeypatch.setattr(etcd_ha_common_local_http, "get", made.get)
    monkeypatch.setattr(etcd_ha_data, "give", lambda *owner: None)
    # Not the module itself, whose clock everything here goes by.
    clock = types.SimpleNamespace(
        monotonic=lambda: made.now,
        sleep=lambda seconds: setattr(made, "now", made.now + seconds),
        strftime=time.strftime,
        gmtime=time.gmtime,
    )
    monkeypatch.setattr(etcd_ha_host_examine, "time", clock)
    monkeypatch.setattr(etcd_ha_host_examine, "VERDICT", str(tmp_path / "examined" / "v.json"))
    return made


def subject(host, **more):
    program = host.place.parent / "program"
    program.write_text("")
    program.chmod(0o755)
    found = Subject(str(host.place), "", str(program), "3.6.14", ("etcd", "etcd"))
    return dataclasses.replace(found, **more)


def examined(host, *scripts, timeout=60, **more):
    host.scripts = list(scripts)
    return etcd_ha_host_examine.examine(subject(host, **more), timeout)


def fine(**more):
    return {"states": [RUNS], "applied": [68], **more}


def ending(state=PANIC, log="panic: page 3 already freed\n", **more):
    return {"states": [RUNS, state], "log": log, **more}


def test_an_etcd_that_serves_its_metrics_and_its_hash_can_read_the_data(host):
    found = examined(host, fine())
    assert (found.verdict, found.index, found.revision) == (READABLE, 68, 61)
    assert found.hash == "59af1dde" and found.compact_revision == -1
    assert host.done == ["release", "hold", "release"], "held meanwhile, and released in any case"
    assert not (host.place / "examining").exists()


def test_it_is_waited_until_it_has_applied_what_is_committed(host, monkeypatch):
    monkeypatch.setattr(etcd_ha_log, "reach", lambda folder: etcd_ha_log.Reach(commit=68))
    assert examined(host, fine(applied=[*range(30, 68), 68])).index == 68


def test_our_own_reader_is_never_believed_against_etcd(host, monkeypatch):
    monkeypatch.setattr(etcd_ha_log, "reach", lambda folder: etcd_ha_log.Reach(commit=1 << 40))
    assert examined(host, fine()).verdict == READABLE


def test_an_etcd_that_ends_by_itself_cannot_and_says_why(host):
    found = examined(host, ending(), fine())
    assert (found.verdict, found.words) == (DAMAGED, "panic: page 3 already freed")
    assert len(host.starts) == 2 and "control" in host.starts[1] and "stop" in host.done


def test_one_that_ends_when_it_reads_all_its_keys_cannot(host):
    lost = ConnectionResetError(104, "reset")
    script = {"states": [RUNS, PANIC], "applied": [68], "hash": lost, "log": "fatal error: fault\n"}
    found = examined(host, script, fine())
    assert (found.verdict, found.words) == (DAMAGED, "fatal error: fault")


def test_a_program_that_runs_without_data_no_better_proves_nothing(host):
    found = examined(host, ending(), ending(log="flag provided but not defined: -x\n"))
    assert found.verdict == UNPROVEN
    assert "without any data either" in found.words and "not defined" in found.words


def test_a_host_that_has_filled_up_proves_nothing(host, monkeypatch):
    free = iter([1 << 40])
    monkeypatch.setattr(etcd_ha_data, "free", lambda folder: next(free, 0))
    found = examined(host, ending(), fine())
    assert found.verdict == UNPROVEN and "was full" in found.words


def test_data_of_a_newer_etcd_is_not_damaged(host, monkeypatch):
    monkeypatch.setattr(etcd_ha_database, "wrote", lambda path: ("3.7.0",))
    found = examined(host, ending(log="cluster cannot be downgraded\n"), fine())
    assert found.verdict == UNPROVEN and "of etcd 3.7.0, and 3.6.14 is older" in found.words


def test_data_of_an_older_etcd_may_be_damaged(host, monkeypatch):
    monkeypatch.setattr(etcd_ha_database, "wrote", lambda path: ("3.5.0",))
    assert examined(host, ending(), fine()).verdict == DAMAGED


@pytest.mark.parametrize(
    "script, words",
    [
        (ending(State(False, code=77)), "no network namespace of its own"),
        (ending(State(False, code=203)), "could not be started"),
        (ending(State(False, code=127)), "could not be started"),
        (ending(State(False, signal=9)), "signal 9"),
        ({"states": [RUNS]}, "does not answer"),
    ],
)
def test_what_is_no_word_of_etcd_s_proves_nothing(host, script, words):
    found = examined(host, script, fine())
    assert found.verdict == UNPROVEN and words in found.words
    assert len(host.starts) == 1


def test_without_room_or_program_nothing_is_copied(host, monkeypatch):
    found = examined(host, program="/nowhere/etcd")
    assert found.verdict == UNPROVEN and "/nowhere/etcd is missing" in found.words
    monkeypatch.setattr(etcd_ha_data, "free", lambda folder: 1 << 20)
    found = examined(host)
    assert found.verdict == UNPROVEN and "MiB are needed" in found.words
    assert host.starts == [] and not (host.place / "examining").exists()


def test_data_that_was_written_to_meanwhile_proves_nothing(host):
    host.meanwhile = lambda: (host.place / "member" / "snap" / "db").write_bytes(b"e" * 101)
    found = examined(host, fine())
    assert found.verdict == UNPROVEN and "written to meanwhile" in found.words


def test_nothing_is_left_where_the_host_fails(host, monkeypatch):
    def start(text):
        raise Failed("systemctl start failed")

    monkeypatch.setattr(etcd_ha_host_sandbox, "start", start)
    with pytest.raises(Failed):
        examined(host, fine())
    assert host.done[-1] == "release" and not (host.place / "examining").exists()


def test_progress_is_told(host):
    told = []
    host.scripts = [fine()]
    etcd_ha_host_examine.examine(subject(host), 60, told.append)
    assert any("copied 0 of 0 MiB" in one for one in told), told
    assert any("without a network" in one for one in told), told


# A verdict counts for the data that it was found on


def test_a_verdict_counts_for_this_data_and_release_alone(host):
    found = examined(host, ending(), fine())
    etcd_ha_host_examine.write(found)
    place = str(host.place)
    assert etcd_ha_host_examine.read(place, "", "3.6.14") == found
    assert os.stat(etcd_ha_host_examine.VERDICT).st_mode & 0o777 == 0o600
    assert etcd_ha_host_examine.read(place, "", "3.6.15") is None
    (host.place / "member" / "snap" / "db").write_bytes(b"d" * 100)
    assert etcd_ha_host_examine.read(place, "", "3.6.14") is None
    assert etcd_ha_host_examine.read(f"{place}/nowhere", "", "3.6.14") is None


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "sound"},
        {"index": "7"},
        {"revision": None},
        {"words": 7},
        {"more": ""},
        {"identity": []},
        {"compact_revision": True},
    ],
)
def test_a_verdict_of_another_form_is_none(change):
    found = dataclasses.asdict(Verdict(READABLE))
    assert etcd_ha_host_examine.of(found) == Verdict(READABLE)
    assert etcd_ha_host_examine.of({**found, **change}) is None
    assert etcd_ha_host_examine.of({}) is None


def test_only_what_was_proven_makes_data_unusable():
    assert etcd_ha_host_examine.unusable(None) == ""
    for verdict, unusable in ((READABLE, False), (UNPROVEN, False), (DAMAGED, True)):
        found = etcd_ha_host_examine.unusable(Verdict(verdict, "why"))
        assert bool(found) is unusable and found.endswith("why" if unusable else "")
    assert etcd_ha_host_examine.unusable(Verdict(DIFFERS, "why")) == "why"


# Beside the others


LISTED = [{"id": str(n), "name": f"etcd{n}", "learner": False} for n in (1, 2, 3)]


def row(member, hash, compact=-1):
    return {"member_id": str(member), "hash": hash, "compact_revision": compact}


@pytest.mark.parametrize(
    "rows, verdict, compared",
    [
        ([row(1, "aa"), row(3, "aa")], READABLE, "same"),
        ([row(1, "aa")], READABLE, "same"),
        ([row(1, "bb"), row(3, "bb")], DIFFERS, ""),
        ([row(1, "bb")], READABLE, "not comparable"),
        ([row(1, "aa"), row(3, "bb")], READABLE, "same"),
        ([row(1, "bb", 5), row(3, "bb", 5)], READABLE, "not comparable"),
        ([], READABLE, "not comparable"),
    ],
)
def test_only_a_majority_with_another_hash_makes_it_the_wrong_one(rows, verdict, compared):
    own = Verdict(READABLE, hash="aa", revision=61, compact_revision=-1)
    found = etcd_ha_host_examine.compared(own, LISTED, rows)
    assert found.verdict == verdict and found.compared.startswith(compared)


def test_what_cannot_be_read_is_not_compared():
    for own in (Verdict(DAMAGED, hash="aa"), Verdict(READABLE)):
        assert etcd_ha_host_examine.compared(own, LISTED, [row(1, "b"), row(3, "b")]) == own


# A log that has lost what it confirmed


@pytest.mark.parametrize(
    "code, last, held, broken, verdict",
    [
        (2, 60, 68, False, DAMAGED),
        (2, 68, 68, True, DAMAGED),
        (2, 68, 68, False, READABLE),
        (1, 60, 68, True, READABLE),
        (None, 60, 68, True, READABLE),
    ],
)
def test_a_log_is_too_short_only_by_its_files_and_a_panic(
    host, monkeypatch, code, last, held, broken, verdict
):
    monkeypatch.setattr(etcd_ha_log, "reach", lambda folder: etcd_ha_log.Reach(last=last))
    monkeypatch.setattr(
        etcd_ha_database, "content", lambda path: etcd_ha_database.Content(index=held)
    )
    if broken:
        (host.place / "member" / "wal" / "1.wal.broken").write_bytes(b"")
    found = etcd_ha_host_examine.shortened(Verdict(READABLE), subject(host), code)
    assert found.verdict == verdict


@pytest.mark.parametrize("error", [etcd_ha_log.LogError, etcd_ha_database.DatabaseError])
def test_where_our_reader_fails_etcd_s_word_stands(host, monkeypatch, error):
    def fails(path):
        raise error("unreadable")

    monkeypatch.setattr(etcd_ha_log, "reach", lambda folder: etcd_ha_log.Reach(last=60))
    reader = (etcd_ha_log, "reach") if error is etcd_ha_log.LogError else None
    monkeypatch.setattr(*(reader or (etcd_ha_database, "content")), fails)
    found = etcd_ha_host_examine.shortened(Verdict(READABLE), subject(host), 2)
    assert found == Verdict(READABLE)


@pytest.mark.parametrize(
    "held, own, verdict",
    [
        (("c1", "m1"), ("c1", "m2"), UNPROVEN),
        (("c2", "m2"), ("c1", "m2"), UNPROVEN),
        (("c1", "m2"), ("c1", "m2"), READABLE),
        (("c1", "m1"), ("", ""), READABLE),
        (("c1", "m1"), ("c1", ""), READABLE),
        (None, ("c1", "m2"), READABLE),
    ],
)
def test_data_of_another_member_is_not_taken_for_this_one_s(host, monkeypatch, held, own, verdict):
    """It can be read, and would be that member once more; its record may be wrong just as well."""

    def identity(folder):
        if held is None:
            raise etcd_ha_log.LogError("unreadable")
        return held

    monkeypatch.setattr(etcd_ha_log, "identity", identity)
    found = etcd_ha_host_examine.misplaced(Verdict(READABLE), subject(host, ids=own))
    assert found.verdict == verdict
    assert etcd_ha_host_examine.unusable(found) == ""


# Where the data lies


def test_the_record_knows_better_than_the_pillar_where_the_data_is(tmp_path):
    configured = {"ETCD_DATA_DIR": str(tmp_path / "new"), "ETCD_WAL_DIR": "/w/wal"}
    record = {"data_dir": str(tmp_path / "old"), "wal_dir": ""}
    assert etcd_ha_host_examine.places(configured, record) is None
    (tmp_path / "new" / "member").mkdir(parents=True)
    assert etcd_ha_host_examine.places(configured, record) == (str(tmp_path / "new"), "/w")
    (tmp_path / "old" / "member").mkdir(parents=True)
    assert etcd_ha_host_examine.places(configured, record) == (str(tmp_path / "old"), "")
    assert etcd_ha_host_examine.places({}, {}) is None


def test_the_identity_is_taken_while_the_unit_is_held(host, monkeypatch):
    order = []
    monkeypatch.setattr(etcd_ha_host_sandbox, "hold", lambda: order.append("hold"))
    before = etcd_ha_host_copy.identity

    def identity(*places):
        order.append("identity")
        return before(*places)

    monkeypatch.setattr(etcd_ha_host_copy, "identity", identity)
    examined(host, fine())
    assert order[:2] == ["hold", "identity"]


def test_data_behind_a_link_that_etcd_must_not_write_through_is_not_called_readable(host, tmp_path):
    """Its copy would have no link."""
    os.rename(host.place / "member/wal", tmp_path / "elsewhere")
    (host.place / "member/wal").symlink_to(tmp_path / "elsewhere")
    found = examined(host, fine())
    assert found.verdict == UNPROVEN and "member/wal is a link to" in found.words
    assert "wal_dir" in found.words
