"""A campaign's recordings are judged as a whole, also long after it has run."""

import json
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "lab"))

from chaos import campaign, verdict
from chaos.schedule import KINDS
from etcd_ha_lab import faults, mounts
from etcd_ha_lab.ui import LabError

PREFIX = "/chaos/"
MEMBERS = ("etcd1", "etcd2", "etcd3")


def put(key, value, revision, at):
    row = {"what": "operation", "client": "c1", "kind": "put", "key": f"{PREFIX}e1/{key}"}
    return {**row, "value": value, "began": at, "ended": at + 0.5, "revision": revision}


def event(key, value, revision):
    row = {"what": "watch", "watcher": "w0.1", "kind": "event", "revision": revision}
    return {**row, "key": f"{PREFIX}e1/{key}", "value": value}


def recordings():
    """Those of a small campaign that is sound: file -> its lines, and campaign.json's content."""
    history = [
        put("a", "1", 5, 1),
        put("b", "2", 6, 2),
        {"what": "watch", "watcher": "w0.1", "kind": "opened", "revision": 2},
        event("a", "1", 5),
        event("b", "2", 6),
        {"what": "reach", "watcher": "w0.1", "revision": 6},
    ]
    listed = [{"name": name, "learner": False} for name in MEMBERS]
    seen = {"healthy": True, "cluster": "a", "leader": False, "members": listed}
    members = [{"at": at + 0.1, "host": host, **seen} for at in range(8) for host in MEMBERS]
    job = {"what": "job", "fun": "state.sls", "hosts": ["etcd2"], "member": ""}
    steps = [
        {"at": 5.0, "jid": "1", "action": "restart", **job},
        {"at": 6.0, "what": "return", "jid": "1", "host": "etcd2", "changed": True},
    ]
    held = {f"{PREFIX}e1/a": ["1", 5], f"{PREFIX}e1/b": ["2", 6]}
    told = {
        **{"seed": 7, "seconds": 60.0, "prefix": PREFIX, "faults": {"cut": 2}, "skipped": {}},
        **{"rounds": [{"told": "round 1: restart; cut leader at 1.0 s for 4.0 s"}], "cuts": []},
        **{"impossible": {"clock": "it is shared"}, "troubles": [], "violations": []},
        "operations": [{"command": "restart", "code": 0, "seconds": 9.0}],
        "eras": [{"number": 1, "held": {host: dict(held) for host in MEMBERS}, "cuts": []}],
    }
    return {"history": history, "members": members, "steps": steps}, told


def judged(folder, lines, told):
    for name, rows in lines.items():
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text)
    (folder / "campaign.json").write_text(json.dumps(told))
    return verdict.judge(folder)


def test_a_sound_campaign_is_sound_and_its_figures_are_told(tmp_path, capsys):
    lines, told = recordings()
    found = judged(tmp_path, lines, told)
    assert found.violations == []
    wanted = {"requests": 2, "watch events": 2, "keys checked": 2, "steps judged": 1}
    assert {name: found.counts[name] for name in wanted} == wanted
    assert campaign.main(["--judge", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for text in ("seed 7", "cut", "restart, passed", "violations", "not done here: clock"):
        assert text in shown
    assert json.loads((tmp_path / "report.json").read_text())["violations"] == []


def without_b_on_one_member(lines, told):
    del told["eras"][0]["held"]["etcd2"][f"{PREFIX}e1/b"]


def without_an_event(lines, told):
    lines["history"] = [row for row in lines["history"] if row != event("a", "1", 5)]


def with_a_stale_read(lines, told):
    read = {"what": "operation", "client": "c2", "kind": "get", "key": f"{PREFIX}e1/a"}
    lines["history"].append({**read, "began": 3, "ended": 4, "found": None, "revision": 6})


def with_a_member_down_beside_the_restart(lines, told):
    lines["members"] = [row for row in lines["members"] if row["host"] != "etcd3"]


def without_an_end(lines, told):
    lines["history"] = [row for row in lines["history"] if row["what"] != "reach"]


def with_nothing_heard(lines, told):
    lines["steps"] = []


def with_a_backup_that_lacks_a_write(lines, told):
    cut = {"holds": {f"{PREFIX}e1/b": ["2", 6]}, "at_least": 6, "at_most": 6}
    told["eras"][0]["cuts"] = [cut]


def with_what_the_campaign_saw_itself(lines, told):
    told["violations"] = [{"rule": "it hangs", "text": "etcd_ha.orch"}]


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (without_b_on_one_member, "acknowledged write lost"),
        (without_an_event, "watch event missing"),
        (with_a_stale_read, "not linearizable"),
        (with_a_member_down_beside_the_restart, "a step costs the quorum"),
        (without_an_end, "no end of an era"),
        (with_nothing_heard, "nothing was recorded"),
        (with_a_backup_that_lacks_a_write, "backed up write lost"),
        (with_what_the_campaign_saw_itself, "it hangs"),
    ],
)
def test_each_kind_of_violation_is_in_the_verdict(tmp_path, spoil, rule, capsys):
    lines, told = recordings()
    spoil(lines, told)
    assert rule in judged(tmp_path, lines, told).rules()
    assert campaign.main(["--judge", str(tmp_path)]) == 1
    assert f"VIOLATION {rule}" in capsys.readouterr().out


# The command's words


def test_the_same_schedule_is_told_as_a_command():
    words = ["--seed", "7", "--operations", "3", "--faults", "cut,power", "--balancers", "1"]
    told = campaign.replayed(campaign.parse(words))
    assert campaign.parse(told.split()[2:]) == campaign.parse(words)
    assert campaign.replayed(campaign.parse(["--seed", "1"])).endswith("--seed 1 --minutes 20")


@pytest.mark.parametrize("words", [["--faults", "earthquake"], ["--only", ""]])
def test_a_kind_that_there_is_not_is_refused_with_those_that_there_are(words, capsys):
    with pytest.raises(SystemExit):
        campaign.parse(words)
    assert "there are" in capsys.readouterr().err


def test_releases_have_no_hole():
    class Ground:
        def __init__(self, *found):
            self.found = found

        def obtainable(self, *wanted):
            return [one for one in wanted if one in self.found]

    wanted = ["3.5.33", "3.6.14", "3.7.1"]
    assert campaign.obtainable(Ground(*wanted), wanted) == wanted
    assert campaign.obtainable(Ground("3.6.14", "3.7.1"), wanted) == ["3.6.14", "3.7.1"]
    assert campaign.obtainable(Ground("3.5.33", "3.7.1"), wanted) == ["3.7.1"]


def test_each_kind_of_fault_can_be_done():
    from chaos.faults import Injector

    assert [kind for kind in KINDS if not hasattr(Injector, f"do_{kind}")] == []


# The lab's bits


def test_one_bit_is_flipped_where_the_file_is_not_blank(tmp_path):
    file = tmp_path / "0.wal"
    held = b"record" * 900 + bytes(1 << 20)
    for spot in (0.0, 0.3, 0.999, 1.0):
        file.write_bytes(held)
        place = faults.spoil(file, spot)
        now = file.read_bytes()
        assert place < 5400 and now[place] == held[place] ^ 0x10
        assert now[:place] == held[:place] and now[place + 1 :] == held[place + 1 :]


def test_a_blank_file_has_no_bit_to_spoil(tmp_path):
    file = tmp_path / "0.wal"
    file.write_bytes(bytes(9000))
    with pytest.raises(LabError, match="blank"):
        faults.spoil(file, 0.5)


def test_only_a_host_s_own_disk_is_ever_stopped(tmp_path, monkeypatch):
    """A folder that is no mount is a part of the machine's own file system."""
    stopped = []
    monkeypatch.setattr(mounts.fcntl, "ioctl", lambda *given: stopped.append(given))
    with pytest.raises(LabError, match="is no disk"):
        mounts.stop_writing(tmp_path)
    assert stopped == []


def test_a_kernel_that_does_not_stop_a_file_system_is_told():
    with pytest.raises(LabError, match="does not stop"):
        mounts.stop_writing(pathlib.Path("/proc"))


def test_a_clock_that_cannot_jump_says_why():
    with pytest.raises(LabError, match="share the machine's wall clock"):
        faults.clock(None, "etcd1")
