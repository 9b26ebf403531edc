"""What etcdctl may say instead of an answer: all of it is a sentence, none of it a zero."""

import collections
import json
import time
import tracemalloc

import etcd_ha_auth
import etcd_ha_client
import etcd_ha_common_process
import etcd_ha_etcdctl
import etcd_ha_keys
import etcd_ha_machine
import etcd_ha_trial
import pytest
from clock import ahead
from etcd_ha_common_process import TooMuchOutput
from etcd_ha_etcdctl import Answer, EtcdctlError
from faces import load
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_values import places, with_odd
from programs import program
from salt.exceptions import CommandExecutionError

ID = 17237436991929493444
HEADER = {"cluster_id": 10, "member_id": ID, "revision": 5, "raft_term": 2}
STATUS = {
    "Endpoint": "https://a:2379",
    "Status": {
        "header": HEADER,
        "version": "3.6.14",
        "leader": ID,
        "dbSize": 20480,
        "raftIndex": 9,
        "raftAppliedIndex": 9,
        "errors": ["memberID:1 alarm:NOSPACE"],
        "isLearner": False,
    },
}
MEMBER = {
    "ID": ID,
    "name": "etcd1",
    "peerURLs": ["https://a:2380"],
    "clientURLs": ["https://a:2379"],
}
PAIR = {"key": "L2E=", "value": "MQ=="}
# A good answer of each kind, and who reads it.
ANSWERS = {
    "member list": ({"header": HEADER, "members": [MEMBER]}, etcd_ha_etcdctl.members),
    "status": ([STATUS], etcd_ha_etcdctl.status),
    "health": (
        [{"endpoint": "a", "health": True, "took": "1ms", "error": ""}],
        etcd_ha_etcdctl.health,
    ),
    "alarms": (
        {"header": HEADER, "alarms": [{"memberID": ID, "alarm": 1}]},
        etcd_ha_etcdctl.alarms,
    ),
    "hashes": (
        [{"Endpoint": "a", "HashKV": {"header": HEADER, "hash": 1, "compact_revision": 2}}],
        etcd_ha_etcdctl.hashes,
    ),
    "keys": ({"header": HEADER, "kvs": [PAIR], "count": 1}, etcd_ha_keys.pairs),
    "count": ({"header": HEADER, "count": 3}, etcd_ha_etcdctl.count),
    "revision": ({"header": HEADER}, etcd_ha_etcdctl.revision),
    "users": ({"users": ["a"]}, None),
    "user": ({"roles": ["a"]}, None),
    "roles": ({"roles": ["a"]}, None),
    "role": ({"perm": [{"permType": 2, "key": "L2E=", "range_end": "L2I="}]}, None),
    "auth status": ({"enabled": True, "authRevision": 3}, None),
}
NO_JSON = [
    "",
    "\n",
    "null nonsense",
    '{"members": [',
    '[{"Endpoint": "a"',
    "<html><body>502 Bad Gateway</body></html>",
    "HTTP/1.1 200 OK\r\n\r\n{}",
    "NaN",
    "[NaN]",
    '{"count": Infinity}',
    "-Infinity",
    '{"members": [{"ID": NaN}]}',
    "[" * 100_000,
    '{"a":' * 50_000,
    "9" * 10_000,
    '{"count": ' + "9" * 5000 + "}",
    "'single'",
    "{members: []}",
    '{"a": 1,}',
    "\ufeff{}",
    "{}{}",
    "\0",
    "\ufffd\ufffd\ufffd",
    "USAGE:\n  etcdctl auth <enable or disable>\n",
]
# In the place of a good value.
ODD = [
    None, True, 0, -1, 1.5, 1e300, 2**64, 10**30, "", "x", "-1", "1e5", "9" * 30, "\0", "größe",
    [], [None], [1], ["x"], [[]], {}, {"a": 1}, [{}], [{"ID": "x"}], "=", "AAA", "L2E",
]  # fmt: skip

TRIED = collections.Counter()


@pytest.fixture(scope="module", autouse=True)
def counted():
    yield
    print(f"\nanswers of etcdctl tried: {sum(TRIED.values())}: {dict(sorted(TRIED.items()))}")


# The program itself


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("time.sleep(60)", "no answer within 0.4 s"),
        # It closes both, and goes on.
        ("os.close(1); os.close(2); time.sleep(60)", "no answer within 0.4 s"),
        ("print('{', flush=True); time.sleep(60)", "no answer within 0.4 s"),
        # It says something now and then, and has no end.
        ("while True: print('.', flush=True); time.sleep(0.05)", "no answer within 0.4 s"),
        ("if os.fork() == 0: time.sleep(3)", "no answer within 0.4 s"),
    ],
)
def test_a_program_that_hangs_is_ended(tmp_path, source, says):
    path, began = program(tmp_path, "etcdctl", source), time.monotonic()
    with pytest.raises(EtcdctlError, match=says):
        etcd_ha_etcdctl.call(["endpoint", "health"], {}, path, timeout=0.4)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_program_that_never_stops_talking_is_ended(tmp_path, monkeypatch, stream):
    monkeypatch.setattr(etcd_ha_common_process, "LIMIT", 1)
    path = program(tmp_path, "etcdctl", f"while True: sys.{stream}.write('x' * 65536)")
    tracemalloc.start()
    with pytest.raises(TooMuchOutput, match="more than 4 MiB"):
        etcd_ha_common_process.run([path], 20, limit=4 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


def test_etcdctl_s_own_words_are_bounded(tmp_path, monkeypatch):
    def much(*_, **__):
        raise TooMuchOutput(["etcdctl"], "it said more than 64 MiB")

    monkeypatch.setattr(etcd_ha_common_process, "run", much)
    with pytest.raises(EtcdctlError, match="etcdctl get gave no answer: it said more than 64 MiB"):
        etcd_ha_etcdctl.call(["get", ""], {})


def test_a_program_that_does_not_read_is_no_fault(tmp_path):
    path = program(tmp_path, "etcdctl", "os.close(0); print('{}')")
    assert etcd_ha_etcdctl.call(["put", "a"], {}, path, 20, stdin="x" * 10**6).json() == {}


def test_what_it_shall_read_reaches_it_whole(tmp_path):
    path = program(tmp_path, "etcdctl", "print(len(sys.stdin.buffer.read()))")
    text = "größe" * 300_000
    assert int(etcd_ha_etcdctl.call(["put"], {}, path, 20, stdin=text).out) == len(text.encode())


def test_what_is_no_text_is_shown_as_such(tmp_path):
    path = program(tmp_path, "etcdctl", "os.write(1, b'\\xff\\xfe{}'); os.write(2, b'\\x80')")
    answer = etcd_ha_etcdctl.call(["get"], {}, path, 20)
    assert answer.out == "\ufffd\ufffd{}" and answer.err == "\ufffd"
    with pytest.raises(EtcdctlError, match="gave no JSON"):
        answer.json()


@pytest.mark.parametrize("argument", ["a\0b", "\ud800", "x" * (1 << 20)])
def test_an_argument_that_no_program_can_be_given(tmp_path, argument):
    path = program(tmp_path, "etcdctl", "print('{}')")
    with pytest.raises(EtcdctlError, match="cannot be started"):
        etcd_ha_etcdctl.call(["get", argument], {}, path, 20)


def test_a_program_that_may_not_be_run_is_told(tmp_path):
    (tmp_path / "etcdctl").write_text("no program")
    with pytest.raises(EtcdctlError, match="cannot be started"):
        etcd_ha_etcdctl.call(["get"], {}, str(tmp_path / "etcdctl"), 20)


# What it says


@pytest.mark.parametrize("text", NO_JSON, ids=lambda text: repr(text[:30]))
@pytest.mark.parametrize("code", [0, 1])
def test_what_is_no_json_is_one_sentence(text, code):
    with pytest.raises(EtcdctlError, match="gave no JSON") as caught:
        Answer(code, text, "").json()
    assert len(str(caught.value)) < 600 and str(caught.value).isprintable()
    TRIED["no JSON"] += 1


def read(name, document):
    """Read it as its reader does; the answers about users by way of etcd_ha_auth."""
    reader = ANSWERS[name][1]
    if reader is not None:
        return reader(document)

    def run(arguments, stdin, more):
        found = document if " ".join(arguments[:2]) == CALLS[name] else plain(arguments)
        return Answer(0, json.dumps(found), "")

    ask = etcd_ha_auth.users if "user" in name else etcd_ha_auth.roles
    return etcd_ha_auth.enabled(run) if name == "auth status" else ask(run)


CALLS = {
    "users": "user list",
    "user": "user get",
    "roles": "role list",
    "role": "role get",
    "auth status": "auth status",
}


def plain(arguments):
    verb = " ".join(arguments[:2])
    return next((ANSWERS[name][0] for name, one in CALLS.items() if one == verb), {})


def kinds(found):
    """The kinds of all that is in an answer, which its users rely on."""
    if isinstance(found, dict):
        return {str(key): kinds(value) for key, value in found.items()}
    if isinstance(found, (list, tuple)):
        return [kinds(one) for one in found[:1]]
    return type(found).__name__


def fits(got, form):
    """The same kinds, where there is something at all; a mapping may have other keys."""
    if isinstance(form, dict):
        return isinstance(got, dict) and all(fits(got[k], form[k]) for k in got if k in form)
    if isinstance(form, list):
        return isinstance(got, list) and all(fits(one, form[0]) for one in got if form)
    return got == form


@pytest.mark.parametrize("name", ANSWERS)
def test_a_good_answer_is_read(name):
    assert read(name, ANSWERS[name][0])


@pytest.mark.parametrize("name", ANSWERS)
def test_an_odd_value_is_told_or_read_as_what_it_is(name):
    document = ANSWERS[name][0]
    form = kinds(read(name, document))
    for path in places(document):
        for odd in ODD:
            try:
                found = read(name, with_odd(document, path, odd))
            except EtcdctlError as err:
                TRIED["another form"] += 1
                assert len(str(err)) < 700 and str(err).isprintable()
                continue
            TRIED["read"] += 1
            assert fits(kinds(found), form), (path, odd, found)


WORDS = [key for document, _ in ANSWERS.values() for path in places(document) for key in path]
WORDS = sorted({key for key in WORDS if isinstance(key, str)})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(WORDS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(document=JSON)
def test_any_json_is_an_answer_or_a_sentence(document):
    for name in ANSWERS:
        try:
            read(name, document)
            TRIED["read"] += 1
        except EtcdctlError:
            TRIED["another form"] += 1


def test_two_ids_that_are_missing_are_no_leader():
    assert etcd_ha_etcdctl.status([{"Endpoint": "a", "Status": {}}])[0]["leader"] is False


# Who relies on it


@pytest.fixture
def asked(monkeypatch):
    """The module of a member whose etcdctl says this."""

    def made(path, answer):
        def say(member, arguments, *_, **__):
            return Answer(0, answer, "") if isinstance(answer, str) else answer(arguments)

        member = {"cluster": "main", "name": "etcd1", "config_dir": "/nowhere", "ca": ""}
        monkeypatch.setattr(etcd_ha_client, "etcdctl", say)
        monkeypatch.setattr(etcd_ha_client, "mark", lambda: {"member": member})
        monkeypatch.setattr(etcd_ha_client, "member_on_disk", lambda: member)
        monkeypatch.setattr(etcd_ha_client, "serving_endpoint", lambda *a: "https://a:2379")
        monkeypatch.setattr(etcd_ha_client, "others", lambda m: "https://b:2379")
        module = load(path)
        ahead(monkeypatch, module, etcd_ha_client, step=5)
        return module

    return made


CALLERS = [
    ("_modules/etcd_ha", "health", ()),
    ("_modules/etcd_ha", "local_health", ()),
    ("_modules/etcd_ha", "reason_to_stay", ()),
    ("_modules/etcd_ha", "move_leader", ()),
    ("_modules/etcd_ha", "status", ()),
    ("_modules/etcd_ha", "members", ()),
    ("_modules/etcd_ha", "hash_kv", ()),
    ("_modules/etcd_ha", "version", ()),
    ("_modules/etcd_ha", "verify", (["https://a:2379"], "main")),
    ("_modules/etcd_ha_member", "enter", ("etcd4", "https://d:2380", False)),
    ("_modules/etcd_ha_member", "promote", ()),
    ("_modules/etcd_ha_member", "update", ("https://a:2380",)),
    ("_modules/etcd_ha_member", "remove", ("ef37ad9dc622a7c4",)),
    ("_modules/etcd_ha_member", "reason_to_keep", ("ef37ad9dc622a7c4",)),
    ("_modules/etcd_ha_member", "add", ("etcd4", "https://d:2380")),
    ("_modules/etcd_ha_member", "admit", ("ef37ad9dc622a7c4",)),
    ("_modules/etcd_ha_maintenance", "compact", ()),
    ("_modules/etcd_ha_maintenance", "alarms", ()),
    ("_modules/etcd_ha_maintenance", "reason_for", ("NOSPACE",)),
    ("_modules/etcd_ha_maintenance", "disarm", ("NOSPACE",)),
    ("_modules/etcd_ha_auth", "status", ()),
    ("_modules/etcd_ha_auth", "set_user", ("app",)),
    ("_modules/etcd_ha_auth", "remove_user", ("app",)),
    ("_modules/etcd_ha_auth", "set_role", ("app", [{"prefix": "/a", "access": "read"}])),
    ("_modules/etcd_ha_auth", "remove_role", ("app",)),
    ("_modules/etcd_ha_auth", "disable", ()),
    ("_states/etcd_ha_keys", "key_present", ("/a", "1")),
    ("_states/etcd_ha_keys", "key_absent", ("/a",)),
]
SAID = [*NO_JSON, "null", "{}", "[]", "0", '""', "true", "[[]]", "[{}]", '[{"Status": 5}]']
SAID += ['{"members": {}}', '{"members": [5]}', '{"alarms": "x"}', '{"users": "abc"}']
SAID += ['{"kvs": [{"key": "=", "value": 5}]}', '{"header": [], "members": null}']
SAID += [json.dumps(document) for document, _ in ANSWERS.values()]


@pytest.mark.parametrize(("path", "name", "given"), CALLERS, ids=lambda value: str(value)[:30])
def test_a_function_tells_it_in_a_sentence(asked, path, name, given, monkeypatch):
    for said in SAID:
        module = asked(path, said)
        try:
            found = getattr(module, name)(*given)
        except CommandExecutionError as err:
            TRIED["function failed"] += 1
            assert 10 < len(str(err)) < 1500
            continue
        TRIED["function answered"] += 1
        if name in ("health", "local_health") and said in NO_JSON:
            assert found["healthy"] is False and "gave no JSON" in found["error"]
        if path.startswith("_states"):
            assert found["result"] is False or said.startswith(("{", "null")), (said, found)


def test_a_zero_is_never_made_of_another_form(asked):
    """A page of a proxy is no empty member list, after which a member would be added anew."""
    for said in ("[]", '{"members": {}}', '"x"'):
        module = asked("_modules/etcd_ha_member", said)
        with pytest.raises(CommandExecutionError, match="does not tell its members"):
            module.enter("etcd4", "https://d:2380", False)


@pytest.mark.parametrize(
    "body",
    ["", "{}", "[]", "5", '{"etcdcluster": "not_decided"}', '{"etcdcluster": 5}', "[" * 10**5],
)
def test_a_cluster_s_version_that_is_none_is_waited_for(asked, body, monkeypatch):
    module = asked("_modules/etcd_ha_member", "{}")
    monkeypatch.setattr(etcd_ha_machine, "get", lambda *a, **k: (200, body))
    monkeypatch.setattr(module, "_wait_for_storage", lambda *a: None)
    with pytest.raises(CommandExecutionError, match="the cluster's version is unknown"):
        module.ready_for("3.6.14")


@pytest.mark.parametrize("said", [*NO_JSON, "[]", "{}", '{"header": {"revision": "x"}}'])
def test_a_trial_takes_nothing_for_a_count(tmp_path, monkeypatch, said):
    (tmp_path / etcd_ha_trial.CLIENT_SOCKET).touch()
    monkeypatch.setattr(etcd_ha_etcdctl, "call", lambda *a, **k: Answer(0, said, ""))
    found, why = etcd_ha_trial._asked(str(tmp_path), {}, 1)
    assert found is None and why
