"""etcdctl's JSON as plain data, and its failures as sentences."""

import json

import etcd_ha_client
import etcd_ha_common_files
import etcd_ha_etcdctl
import pytest
from faces import load


def test_ids_stay_exact_beyond_what_a_float_holds():
    number = 17237436991929493444
    assert etcd_ha_etcdctl.hex_id(number) == "ef37ad9dc622a7c4"
    answer = etcd_ha_etcdctl.Answer(0, f'{{"members": [{{"ID": {number}}}]}}', "")
    assert etcd_ha_etcdctl.members(answer.json())[0]["id"] == "ef37ad9dc622a7c4"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"id": "8e9e", "name": "etcd3", "peer_urls": ["https://p3"]}, "etcd3"),
        (
            {"id": "8e9e", "name": "", "peer_urls": ["https://p3"]},
            "the unstarted member at https://p3",
        ),
        ({"id": "8e9e", "name": "", "peer_urls": []}, "the unstarted member 8e9e"),
    ],
)
def test_a_member_without_a_name_is_called_by_its_address(entry, words):
    assert etcd_ha_etcdctl.called(entry) == words


def test_an_unstarted_member_has_no_name():
    found = etcd_ha_etcdctl.members({"members": [{"ID": 1, "peerURLs": ["https://a:2380"]}]})
    assert found == [
        {
            "id": "1",
            "name": "",
            "peer_urls": ["https://a:2380"],
            "client_urls": [],
            "learner": False,
            "started": False,
        }
    ]


def test_status_knows_the_leader():
    row = {
        "Endpoint": "https://a:2379",
        "Status": {
            "header": {"cluster_id": 10, "member_id": 11, "revision": 5, "raft_term": 2},
            "leader": 11,
            "version": "3.6.14",
            "raftIndex": 9,
            "raftAppliedIndex": 8,
        },
    }
    found = etcd_ha_etcdctl.status([row])[0]
    assert found["leader"] is True
    assert (found["cluster_id"], found["revision"], found["raft_index"]) == ("a", 5, 9)


@pytest.mark.parametrize("out", ["", "<html>502</html>", '{"members": [', "null nonsense"])
def test_what_is_no_json_is_told_as_such(out):
    with pytest.raises(etcd_ha_etcdctl.EtcdctlError, match="gave no JSON"):
        etcd_ha_etcdctl.Answer(1, out, "").json()


def test_a_hanging_etcdctl_ends_in_time(tmp_path):
    program = tmp_path / "etcdctl"
    program.write_text("#!/bin/sh\nexec sleep 30\n")
    program.chmod(0o755)
    with pytest.raises(etcd_ha_etcdctl.EtcdctlError, match=r"no answer within 0\.2 s"):
        etcd_ha_etcdctl.call(["endpoint", "health"], {}, str(program), timeout=0.2)


def test_a_missing_etcdctl_names_the_cure():
    with pytest.raises(etcd_ha_etcdctl.EtcdctlError, match="etcd_ha"):
        etcd_ha_etcdctl.call(["version"], {}, "/nowhere/etcdctl")


def test_nothing_secret_stands_in_the_arguments(tmp_path):
    program = tmp_path / "etcdctl"
    program.write_text('#!/bin/sh\necho "$@"\nenv | grep -c ^ETCDCTL_KEY=\n')
    program.chmod(0o755)
    answer = etcd_ha_etcdctl.call(["get", "a"], {"ETCDCTL_KEY": "/k"}, str(program))
    assert answer.out == "get a\n1\n"


def test_endpoints_that_hang_leave_time_for_the_others(monkeypatch):
    asked = []

    def answer(member, command, timeout, endpoints=None, path=""):
        asked.append(float(command[-1].removeprefix("--command-timeout=").removesuffix("s")))
        return etcd_ha_etcdctl.Answer(0, "[]", "")

    monkeypatch.setattr(etcd_ha_client, "etcdctl", answer)
    # status asks one after the other, health all at once.
    etcd_ha_client.status({}, 10, "https://a:2379,https://b:2379,https://c:2379,https://d:2379")
    etcd_ha_client.healthy({}, 10, "https://a:2379,https://b:2379")
    assert 4 * asked[0] < 10 and asked[1] < 10


@pytest.mark.parametrize(
    ("errors", "alarms"),
    [
        ([], []),
        (["memberID:11485097469768974640 alarm:NOSPACE "], ["NOSPACE"]),
        # 3.7 sets one blank more, and 3.4 and 3.5 raise CORRUPT for nobody.
        (["memberID:1  alarm:NOSPACE", "memberID:2  alarm:NOSPACE", "alarm:CORRUPT "], None),
    ],
)
def test_status_tells_the_alarms_of_every_release(errors, alarms):
    row = {"Endpoint": "e", "Status": {"header": {}, "errors": errors}}
    expected = ["CORRUPT", "NOSPACE"] if alarms is None else alarms
    assert etcd_ha_etcdctl.status([row])[0]["alarms"] == expected


def test_alarms_name_a_member_or_nobody():
    document = {"alarms": [{"memberID": 17237436991929493444, "alarm": 1}, {"alarm": 2}]}
    assert etcd_ha_etcdctl.alarms(document) == [
        {"member_id": "ef37ad9dc622a7c4", "alarm": "NOSPACE"},
        {"member_id": "", "alarm": "CORRUPT"},
    ]
    assert etcd_ha_etcdctl.alarms({"header": {}}) == []


def test_no_answer_is_null_from_3_6_on():
    assert etcd_ha_etcdctl.status(None) == [] == etcd_ha_etcdctl.hashes(None)


HEALTHY = {"endpoint": "a", "health": True, "took": "1ms"}
ALARMED = {"endpoint": "b", "health": False, "error": "Active Alarm(s): NOSPACE CORRUPT "}
DEAD = {"endpoint": "c", "health": False, "error": "context deadline exceeded"}


def answered(monkeypatch, row, alarms=()):
    def answer(member, command, timeout, endpoints=None, path=""):
        numbers = {"NOSPACE": 1, "CORRUPT": 2}
        raised = {"alarms": [{"memberID": 1, "alarm": numbers[one]} for one in alarms]}
        document = raised if command[0] == "alarm" else [row]
        return etcd_ha_etcdctl.Answer(0, json.dumps(document), "")

    monkeypatch.setattr(etcd_ha_client, "etcdctl", answer)
    member = {"cluster": "main", "name": "etcd1"}
    monkeypatch.setattr(etcd_ha_client, "mark", lambda: {"member": member})
    monkeypatch.setattr(etcd_ha_client, "member_on_disk", lambda: member)
    monkeypatch.setattr(etcd_ha_client, "serving_endpoint", lambda: "a")
    return load("_modules/etcd_ha")


@pytest.mark.parametrize(
    ("row", "alarms", "for_people", "votes"),
    [
        (HEALTHY, (), True, True),
        (ALARMED, ("NOSPACE", "CORRUPT"), False, True),
        # 3.4 calls it healthy.
        (HEALTHY, ("NOSPACE",), False, True),
        (DEAD, (), False, False),
    ],
)
def test_an_alarm_concerns_people_but_not_the_quorum(monkeypatch, row, alarms, for_people, votes):
    module = answered(monkeypatch, row, alarms)
    assert module.local_health()["healthy"] is votes
    assert etcd_ha_client.healthy({}, 5, "a") == ({row["endpoint"]} if votes else set())
    health = module.health()
    assert health["healthy"] is for_people and ("retcode" in module.__context__) is not for_people
    for alarm in alarms:
        assert f"{alarm}: run salt-run state.orchestrate etcd_ha.orch" in health["error"]
    for told in (health, module.local_health()):
        assert ("took" in told) is told["healthy"] and ("error" in told) is not told["healthy"]
    if not votes:
        assert "journalctl -u etcd" in health["error"]


@pytest.mark.parametrize("said", ["null", "[]", "nonsense"])
def test_health_without_an_answer_has_its_usual_form(monkeypatch, said):
    module = answered(monkeypatch, HEALTHY)
    answer = etcd_ha_etcdctl.Answer(1, said, "")
    monkeypatch.setattr(etcd_ha_client, "etcdctl", lambda *_, **__: answer)
    told = module.local_health()
    assert set(told) == {"role", "cluster", "name", "healthy", "alarms", "error"}
    assert told["alarms"] == [] and told["error"].endswith("journalctl -u etcd")
    assert "index out of range" not in told["error"]


def test_programs_are_found_where_the_unit_has_them(monkeypatch, tmp_path):
    """With another ``install:bin_dir`` there is no link at the usual places."""
    unit = tmp_path / "etcd.service"
    monkeypatch.setattr(etcd_ha_client, "UNIT_FILE", str(unit))
    usual = ("/usr/local/bin/etcd_ha_no", "/usr/bin/etcd_ha_no")
    assert etcd_ha_client.program("etcd_ha_no") == "etcd_ha_no"
    unit.write_text(f"[Service]\nExecStart={tmp_path}/etcd\n")
    assert etcd_ha_client.program("etcd_ha_no") == "etcd_ha_no"
    (tmp_path / "etcd_ha_no").write_text("")
    assert etcd_ha_client.program("etcd_ha_no") == f"{tmp_path}/etcd_ha_no"
    exists = etcd_ha_common_files.exists
    monkeypatch.setattr(etcd_ha_common_files, "exists", lambda path: path in usual or exists(path))
    assert etcd_ha_client.program("etcd_ha_no") == usual[0]
