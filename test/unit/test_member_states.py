"""States for keys, members and alarms: honest changes, nothing under test=True, no value shown."""

import base64
import json

import etcd_ha_client
import etcd_ha_etcdctl
import etcd_ha_keys
import pytest
from faces import load
from salt.exceptions import CommandExecutionError

SECRET = "hunter2"


class Store:
    """etcd's keys behind etcdctl; ``seen`` are all arguments, ``fails`` a command's error."""

    def __init__(self, **held):
        self.held, self.seen, self.fails = dict(held), [], {}

    def ctl(self, member, command, timeout, endpoints=None, stdin=None):
        self.seen.append(list(command))
        verb, options, (key, *value) = command[0], command[1:], command[command.index("--") + 1 :]
        if verb in self.fails:
            return etcd_ha_etcdctl.Answer(1, "", f'{{"level":"warn"}}\nError: {self.fails[verb]}')
        if verb == "put":
            self.held[key] = value[0] if value else stdin
            return etcd_ha_etcdctl.Answer(0, "OK", "")
        found = [k for k in self.held if k == key or ("--prefix" in options and k.startswith(key))]
        if verb == "del":
            for one in found:
                del self.held[one]
            return etcd_ha_etcdctl.Answer(0, str(len(found)), "")
        code = base64.b64encode
        kvs = [
            {"key": code(k.encode()).decode(), "value": code(self.held[k].encode()).decode()}
            for k in found
        ]
        return etcd_ha_etcdctl.Answer(0, json.dumps({"kvs": kvs} if kvs else {}), "")

    @property
    def changes(self):
        return [command for command in self.seen if command[0] in ("put", "del")]


@pytest.fixture
def keys(monkeypatch):
    """The states on a member whose etcd holds these keys."""

    def made(test=False, **held):
        store = Store(**held)
        monkeypatch.setattr(etcd_ha_client, "etcdctl", store.ctl)
        monkeypatch.setattr(etcd_ha_client, "member_on_disk", lambda: {"config_dir": "/nowhere"})
        monkeypatch.setattr(etcd_ha_client, "serving_endpoint", lambda: "https://c1")
        module = load("_states/etcd_ha_keys", opts={"test": test}, pillar={"app": {"t": SECRET}})
        module.store = store
        return module

    return made


# Keys


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize(
    ("held", "more", "old", "new"),
    [
        ({}, {"value": "1"}, None, "1"),
        ({"/a": "1"}, {"value": "2"}, "1", "2"),
        ({"/a": "1"}, {"value": "1"}, "1", None),
        ({"/a": "1"}, {"value": 1}, "1", None),
        ({"/a": "1"}, {"value": "2", "replace": False}, "1", None),
        ({}, {"value": "2", "replace": False}, None, "2"),
        ({}, {"value": ""}, None, ""),
        ({"/a": ""}, {"value": ""}, "", None),
    ],
)
def test_a_key_gets_its_value(keys, test, held, more, old, new):
    module = keys(test, **held)
    ret = module.key_present("/a", **more)
    changed = new is not None
    assert ret["changes"] == ({"/a": {"old": old, "new": new}} if changed else {})
    assert ret["result"] is (None if test and changed else True)
    assert bool(module.store.changes) is (changed and not test)
    assert module.store.held.get("/a") == (new if changed and not test else held.get("/a"))


@pytest.mark.parametrize("more", [{"value": SECRET, "secret": True}, {"value_pillar": "app:t"}])
@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize("held", [{}, {"/a": "former-" + SECRET}])
def test_a_secret_is_in_no_return_and_no_argument(keys, more, test, held):
    module = keys(test, **held)
    ret = module.key_present("/a", **more)
    assert SECRET not in json.dumps(ret) and SECRET not in json.dumps(module.store.seen)
    assert ret["changes"]["/a"]["new"] == etcd_ha_keys.HIDDEN
    assert test or module.store.held["/a"] == SECRET


def test_no_value_is_ever_an_argument(keys):
    module = keys()
    module.key_present("/a", value="--not-a-flag")
    assert module.store.held["/a"] == "--not-a-flag"
    assert module.store.changes == [["put", "--", "/a"]]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, "give either value or value_pillar"),
        ({"value": "1", "value_pillar": "app:t"}, "give either value or value_pillar"),
        ({"value": True}, "value is a bool"),
        ({"value": [SECRET]}, "value is a list"),
        ({"value_pillar": "app:x"}, "has no app:x"),
        ({"value_pillar": "app"}, "the pillar's app is a dict"),
    ],
)
def test_what_is_no_value_is_told_and_nothing_written(keys, more, says):
    module = keys()
    ret = module.key_present("/a", **more)
    assert ret["result"] is False and says in ret["comment"]
    assert SECRET not in ret["comment"] and module.store.seen == []


@pytest.mark.parametrize("key", ["", None, 7, "a\0b"])
def test_what_is_no_key_is_told_before_anything_is_deleted(keys, key):
    module = keys()
    for ret in (module.key_absent(key, prefix=True), module.key_present(key, value="1")):
        assert ret["result"] is False and ret["changes"] == {}
    assert module.store.seen == []


@pytest.mark.parametrize("test", [True, False])
def test_a_key_and_a_prefix_are_deleted(keys, test):
    held = {"/a": "1", "/a/b": "2", "/a/c": "3"}
    module = keys(test, **held)
    ret = module.key_absent("/a/", prefix=True)
    assert ret["changes"] == {"deleted": ["/a/b", "/a/c"]}
    assert ret["result"] is (None if test else True)
    assert sorted(module.store.held) == (sorted(held) if test else ["/a"])
    ret = module.key_absent("gone", key="/x")
    assert ret["result"] is True and ret["changes"] == {}


def test_many_keys_are_counted_and_no_value_is_told(keys):
    module = keys(**{f"/k/{n:03}": SECRET for n in range(150)})
    ret = module.key_absent("/k/", prefix=True)
    assert len(ret["changes"]["deleted"]) == 101
    assert ret["changes"]["deleted"][-1] == "and 50 more" and SECRET not in json.dumps(ret)
    assert "150 deleted" in ret["comment"]


def test_a_refusal_of_etcd_is_no_change(keys):
    module = keys(**{"/a": "1"})
    module.store.fails = {"put": "etcdserver: mvcc: database space exceeded", "del": "denied"}
    for ret in (module.key_present("/a", value="2"), module.key_absent("/a")):
        assert ret["result"] is False and ret["changes"] == {}
    assert "database space exceeded" in module.key_present("/a", value="2")["comment"]


def test_a_minion_without_etcd_says_where_to_run_it(keys, monkeypatch):
    module = keys()
    monkeypatch.setattr(etcd_ha_client, "member_on_disk", lambda: None)
    assert "run this state on a member" in module.key_present("/a", value="1")["comment"]
    assert "run this state on a member" in module.key_absent("/a")["comment"]


def test_bytes_that_are_no_text_are_told_by_their_number():
    assert etcd_ha_keys.shown(b"\xff\xfe", False) == "(2 bytes that are no text)"
    assert etcd_ha_keys.shown(b"\xff\xfe", True) == etcd_ha_keys.HIDDEN


# Members


def entry(name, url="https://p", learner=False, started=True):
    return {
        "id": f"id-{name}",
        "name": name if started else "",
        "peer_urls": [url],
        "client_urls": [f"https://{name}"] if started else [],
        "learner": learner,
        "started": started,
    }


@pytest.fixture
def members():
    """The states on etcd1, which has this member list; ``done`` is what was called."""

    def made(*listed, test=False, keep="", **more):
        done = []

        def call(name, answer=None):
            def called(*arguments, **_):
                done.append((name, arguments[0] if arguments else None))
                return answer

            return called

        salt = {
            "etcd_ha.members": lambda: list(listed),
            "etcd_ha.status": lambda: {"member_id": "id-etcd1"},
            "etcd_ha_member.reason_to_keep": lambda _: keep,
            "etcd_ha_member.add": call("add", "etcd1=https://p1,etcd4=https://p4"),
            "etcd_ha_member.readdress": call("readdress", True),
            "etcd_ha_member.admit": call("admit", {"lag": 0}),
            "etcd_ha_member.remove": call("remove", True),
            **more,
        }
        module = load("_states/etcd_ha_members", salt=salt, opts={"test": test})
        module.done = done
        return module

    return made


ONE = entry("etcd1", "https://p1")


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize(
    ("present", "voter", "does", "changes"),
    [
        (None, True, ["add"], ["etcd4"]),
        (entry("etcd4", "https://p4"), True, [], []),
        (entry("etcd4", "https://old"), True, ["readdress"], ["peer_url"]),
        (entry("etcd4", "https://p4", learner=True), True, ["admit"], ["role"]),
        (entry("etcd4", "https://old", learner=True), True, ["readdress", "admit"], None),
        (entry("etcd4", "https://p4", learner=True), False, [], []),
        # Added and never started: only its own start helps.
        (entry("etcd4", "https://p4", learner=True, started=False), True, [], []),
    ],
)
def test_a_member_is_in_the_list(members, test, present, voter, does, changes):
    module = members(ONE, *([present] if present else []), test=test)
    ret = module.member_present("etcd4", "https://p4", voter=voter)
    assert [name for name, _ in module.done] == ([] if test else does)
    assert ret["result"] is (None if test and does else True)
    if changes is not None:
        assert list(ret["changes"]) == changes


def test_a_new_one_is_told_how_to_start(members):
    ret = members(ONE).member_present("etcd4", "https://p4")
    assert "etcd1=https://p1,etcd4=https://p4" in ret["comment"]


def test_a_place_in_the_list_is_not_taken_from_another(members):
    module = members(ONE)
    ret = module.member_present("etcd4", "https://p1")
    assert ret["result"] is False and "is the peer URL of etcd1" in ret["comment"]
    unstarted = entry("x", "https://p4", started=False)
    module = members(ONE, entry("etcd4", "https://old"), unstarted)
    ret = module.member_present("etcd4", "https://p4")
    assert ret["result"] is False and "member: id-x" in ret["comment"] and module.done == []


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize("by", ["etcd4", "id-etcd4", "https://p4"])
def test_a_member_leaves(members, test, by):
    module = members(ONE, entry("etcd4", "https://p4"), test=test)
    ret = module.member_absent("a sentence", member=by)
    assert ret["changes"] == {by: {"old": "voter at https://p4", "new": "absent"}}
    assert ret["result"] is (None if test else True)
    assert module.done == ([] if test else [("remove", "id-etcd4")])


def test_not_this_one_itself_nor_one_that_the_quorum_needs(members):
    module = members(ONE)
    ret = module.member_absent("etcd1")
    assert ret["result"] is False and "run this state on another one" in ret["comment"]
    module = members(ONE, entry("etcd4"), keep="1 of the 1 members left", test=True)
    ret = module.member_absent("etcd4")
    assert ret["result"] is False and ret["changes"] == {} and module.done == []


def test_one_that_is_none_is_absent(members):
    ret = members(ONE).member_absent("etcd9")
    assert ret["result"] is True and ret["changes"] == {}


def test_outside_a_cluster_all_say_where_to_run_them(members):
    module = members(**{"etcd_ha.health": lambda: {"role": "none", "healthy": True}})
    for ret in (
        module.member_present("etcd4", "https://p4"),
        module.member_absent("etcd4"),
        module.healthy("all is well", timeout=0),
    ):
        assert ret["result"] is False and "run this state on a member" in ret["comment"]


# Health and alarms


@pytest.mark.parametrize(
    ("own", "fit", "everyone", "result"),
    [
        (True, {"https://etcd1", "https://etcd2"}, True, True),
        (True, {"https://etcd1"}, True, False),
        (True, {"https://etcd1"}, False, True),
        (False, {"https://etcd1", "https://etcd2"}, True, False),
    ],
)
def test_health_is_awaited(members, monkeypatch, own, fit, everyone, result):
    health = {"role": "member", "healthy": own, "error": "an alarm is raised"}
    module = members(
        ONE,
        entry("etcd2"),
        **{"etcd_ha.health": lambda: health if not own else {"role": "member", "healthy": True}},
    )
    monkeypatch.setattr(etcd_ha_client, "healthy", lambda *_: fit)
    monkeypatch.setattr(etcd_ha_client, "member_on_disk", dict)
    ret = module.healthy("all is well", everyone=everyone, timeout=0.1)
    assert ret["result"] is result and ret["changes"] == {}
    if not result:
        assert ("etcd2 does not answer" if own else "an alarm is raised") in ret["comment"]


def test_under_test_it_is_looked_at_once(members, monkeypatch):
    module = members(
        test=True, **{"etcd_ha.health": lambda: {"role": "member", "healthy": False, "error": "x"}}
    )
    monkeypatch.setattr(module.time, "sleep", lambda _: pytest.fail("it waits"))
    ret = module.healthy("all is well")
    assert ret["result"] is None and "would be awaited" in ret["comment"]


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize(
    ("raised", "reason", "result", "changed"),
    [
        (["NOSPACE", "CORRUPT"], "", True, True),
        (["CORRUPT"], "", True, False),
        (["NOSPACE"], "a database is full", False, False),
    ],
)
def test_an_alarm_is_disarmed_once_nothing_speaks_for_it(
    members, test, raised, reason, result, changed
):
    called = []
    module = members(
        test=test,
        **{
            "etcd_ha_maintenance.alarms": lambda: [{"alarm": one} for one in raised],
            "etcd_ha_maintenance.reason_for": lambda _: reason,
            "etcd_ha_maintenance.disarm": called.append,
        },
    )
    ret = module.alarm_absent("etcd takes writes", alarm="NOSPACE")
    assert ret["result"] is (None if test and changed else result)
    assert bool(ret["changes"]) is changed and reason in ret["comment"]
    assert called == (["NOSPACE"] if changed and not test else [])


def test_a_misspelt_alarm_is_not_simply_absent(members):
    ret = members().alarm_absent("NOSPCE")
    assert ret["result"] is False and "use NOSPACE or CORRUPT" in ret["comment"]


def test_what_etcd_refuses_changes_nothing(members):
    def refuse(*_):
        raise CommandExecutionError("too many learner members in cluster")

    ret = members(ONE, **{"etcd_ha_member.add": refuse}).member_present("etcd4", "https://p4")
    assert ret["result"] is False and ret["changes"] == {} and "too many" in ret["comment"]


def refused(*_, **__):
    raise CommandExecutionError("etcd refuses")


def test_what_the_list_was_told_before_a_refusal_is_a_change(members):
    learner = entry("etcd4", "https://old", learner=True)
    module = members(ONE, learner, **{"etcd_ha_member.admit": refused})
    told = module.member_present("etcd4", "https://p4")
    assert told["result"] is False and set(told["changes"]) == {"peer_url"}
    module = members(ONE, learner, **{"etcd_ha_member.readdress": refused})
    assert module.member_present("etcd4", "https://p4")["changes"] == {}


@pytest.mark.parametrize("test", [True, False])
def test_a_sentence_is_no_new_member_s_name(members, test):
    module = members(ONE, test=test)
    told = module.member_present("the member in the other building", "https://p4")
    assert told["result"] is False and "under member" in told["comment"]
    assert module.done == [] and told["changes"] == {}


def test_health_that_cannot_be_asked_is_a_failed_state(members):
    told = members(ONE, **{"etcd_ha.health": refused}).healthy("x", timeout=0)
    assert told["result"] is False and "etcd refuses" in told["comment"]


def test_what_etcd_refuses_of_a_key_says_where_to_look(keys):
    states = keys()
    states.store.fails["put"] = "etcdserver: mvcc: database space exceeded"
    told = states.key_present("/a", value="1")
    assert told["result"] is False and "salt-run etcd_ha.status" in told["comment"]
