"""Who may do what: the pillar read or refused, and the difference to what etcd has, planned."""

import dataclasses

import etcd_ha_access
import etcd_ha_planner
import etcd_ha_topology
import pytest
from etcd_ha_access import ANOTHER, NONE, ONE, Access, Live, Range
from etcd_ha_topology import PillarError
from test_planner import blank, change, healthy, wanted

KEY = "etcd_ha:clusters:main:access"
APP = {"permissions": [{"prefix": "/app/", "access": "readwrite"}]}
IN_FORCE = Live(
    True,
    {"app": ("app",), "root": ("root",)},
    {"app": {Range.prefix("/app/"): "readwrite"}, "root": {}},
)


def managed(pillar, defaults, **access):
    """The shipped cluster with these settings of ``access``."""
    given = {"enabled": True, "users": {"app": {"roles": ["app"]}}, "roles": {"app": APP}}
    pillar["clusters"]["main"]["access"] = {**given, **access}
    return etcd_ha_topology.read(pillar, defaults)["main"]


def telling(cluster, live):
    """Hosts in sync whose first member tells this."""
    return change(healthy(cluster), "etcd1.example.com", access=live.data())


def titles(plan):
    return [step.title.partition(": ")[2] for step in plan.steps]


TURNED_ON = "authentication is to be on, and clients without a user are refused from then on"


# The pillar


@pytest.mark.parametrize(
    ("access", "key", "says"),
    [
        ({"enabled": "yes"}, f"{KEY}:enabled", "true, false, or null"),
        ({"users": {"a:b": {}}}, f"{KEY}:users:a:b", "not a user's name"),
        ({"users": {"-a": {}}}, f"{KEY}:users:-a", "not a user's name"),
        ({"users": {"app": {"role": ["x"]}}}, f"{KEY}:users:app:role", "did you mean 'roles'"),
        ({"users": {"app": {"roles": "app"}}}, f"{KEY}:users:app:roles", "write [app]"),
        ({"users": {"app": {"roles": ["no"]}}}, f"{KEY}:users:app:roles", "define it there"),
        ({"users": {"etcd1": {}}}, f"{KEY}:users:etcd1", "name of a member"),
        ({"users": {"root": {"roles": ["app"]}}, "roles": {"app": APP}}, f"{KEY}:users:root", "no"),
        ({"users": {"app": {"password": ""}}}, f"{KEY}:users:app:password", "is empty"),
        ({"users": {"app": {"password": 7}}}, f"{KEY}:users:app:password", "no text"),
        ({"users": {"app": {"password": "x" * 73}}}, f"{KEY}:users:app:password", "72 bytes"),
        ({"roles": {"root": APP}}, f"{KEY}:roles:root", "etcd's own role"),
        ({"roles": {"app": {"permissions": "x"}}}, f"{KEY}:roles:app:permissions", "a list"),
        (
            {"roles": {"app": {"permissions": [{"prefix": "/a", "access": "rw"}]}}},
            f"{KEY}:roles:app:permissions:0:access",
            "read or write or readwrite",
        ),
        (
            {"roles": {"app": {"permissions": [{"access": "read"}]}}},
            f"{KEY}:roles:app:permissions:0",
            "one of prefix and key",
        ),
        (
            {"roles": {"app": {"permissions": [{"prefix": 5, "access": "read"}]}}},
            f"{KEY}:roles:app:permissions:0:prefix",
            "quoted",
        ),
        (
            {"roles": {"app": {"permissions": [{"key": "b", "range_end": "a", "access": "read"}]}}},
            f"{KEY}:roles:app:permissions:0:range_end",
            "after the key",
        ),
        (
            {"roles": {"app": {"permissions": [*APP["permissions"], *APP["permissions"]]}}},
            f"{KEY}:roles:app:permissions:1",
            "keep one",
        ),
    ],
)
def test_a_fault_is_named_with_its_key_and_its_cure(pillar, defaults, access, key, says):
    pillar["clusters"]["main"]["access"] = access
    with pytest.raises(PillarError) as caught:
        etcd_ha_topology.read(pillar, defaults)
    assert [f for f in caught.value.faults if f.startswith(key) and says in f], caught.value


@pytest.mark.parametrize(
    "users",
    [
        {"app": "planted secret"},
        {"app": {"password": "planted secret"}},
        {"app": {"password": ["planted secret"]}},
        ["planted secret"],
        "planted secret",
        [{"name": "app", "password": "planted secret"}],
    ],
)
def test_a_fault_never_tells_a_password(pillar, defaults, users):
    pillar["clusters"]["main"]["access"] = {"users": users}
    with pytest.raises(PillarError) as caught:
        etcd_ha_topology.read(pillar, defaults)
    assert "planted" not in str(caught.value) and f"{KEY}:users" in str(caught.value)


def test_without_tls_authentication_is_refused(pillar, defaults):
    pillar["clusters"]["main"]["tls"] = {"enabled": False}
    with pytest.raises(PillarError, match="without TLS"):
        managed(pillar, defaults)
    assert managed(pillar, defaults, enabled=False).settings["access"]["enabled"] is False


def test_an_uri_of_a_password_is_looked_up_on_the_member_alone(pillar, defaults):
    users = {"app": {"password": "sdb://vault/secret/etcd app"}}
    assert managed(pillar, defaults, users=users)


def test_the_pillar_says_nothing_by_default(cluster):
    assert not Access.of(cluster.settings["access"]).managed


def test_root_is_there_wherever_authentication_is_wanted(pillar, defaults):
    found = Access.of(managed(pillar, defaults).settings["access"])
    assert found.users == {"app": ("app",), "root": ("root",)}
    found = Access.of(managed(pillar, defaults, enabled=None).settings["access"])
    assert found.users == {"app": ("app",)}


# Ranges


@pytest.mark.parametrize(
    ("one", "end", "arguments", "words"),
    [
        (Range.prefix("/app/"), b"/app0", ["--prefix", "--", "/app/"], "/app/*"),
        (Range.prefix(""), b"\0", ["--prefix", "--", ""], "every key"),
        (Range(b"/one"), b"", ["--", "/one"], "/one"),
        (Range(b"/a", b"/c"), b"/c", ["--", "/a", "/c"], "/a to before /c"),
        (Range(b"/k", b"\0"), b"\0", ["--from-key", "--", "/k"], "/k and every key after it"),
        (Range.prefix("-x"), b"-y", ["--prefix", "--", "-x"], "-x*"),
    ],
)
def test_a_range_as_etcdctl_and_people_have_it(one, end, arguments, words):
    assert (one.end, one.arguments(), str(one)) == (end, arguments, words)


def test_a_prefix_of_last_bytes_has_no_end():
    assert etcd_ha_access.prefix_end(b"\xff\xff") == b"\0"
    assert etcd_ha_access.prefix_end(b"a\xff") == b"b"


def test_facts_carry_ranges_of_any_bytes():
    live = Live(True, {"a": ("r",)}, {"r": {Range(b"\xff\0", b"\0"): "write"}}, {"a": ONE}, ("b",))
    assert Live.of(live.data()) == live


# What differs


@pytest.mark.parametrize(
    ("live", "says"),
    [
        ({"enabled": False}, [TURNED_ON]),
        ({"users": {"root": ("root",)}}, ["user app"]),
        ({"users": {"app": (), "root": ("root",)}}, ["user app"]),
        ({"users": {"app": ("app",)}}, ["user root"]),
        ({"roles": {"root": {}}}, ["role app"]),
        ({"roles": {"app": {Range.prefix("/app/"): "read"}}}, ["role app"]),
        ({"passwords": {"app": ANOTHER}}, ["another password for app"]),
        ({"passwords": {"app": ONE}}, ["no password any more for app, by certificate alone"]),
        ({"passwords": {"app": NONE}}, ["a password for app, who has none"]),
        ({"users": {**IN_FORCE.users, "guest": ()}}, []),
    ],
)
def test_what_differs_is_named(pillar, defaults, live, says):
    wanted_access = Access.of(managed(pillar, defaults).settings["access"])
    assert etcd_ha_access.differences(wanted_access, IN_FORCE) == []
    found = dataclasses.replace(IN_FORCE, **live)
    assert etcd_ha_access.differences(wanted_access, found) == says


def test_the_unknown_are_named_where_the_pillar_asks_for_it(pillar, defaults):
    access = Access.of(managed(pillar, defaults, remove_unknown=True).settings["access"])
    users = {**IN_FORCE.users, "guest": ("old",)}
    live = dataclasses.replace(IN_FORCE, users=users, roles={**IN_FORCE.roles, "old": {}})
    assert etcd_ha_access.unknown(access, live) == (["guest"], ["old"])
    assert etcd_ha_access.differences(access, live) == [
        "user guest is unknown",
        "role old is unknown",
    ]


def test_a_role_s_changes_tell_each_range():
    present = {Range.prefix("/a/"): "read", Range(b"/b"): "write"}
    new = {Range.prefix("/a/"): "readwrite"}
    assert etcd_ha_access.role_changes(present, new) == {
        "/a/*": {"old": "read", "new": "readwrite"},
        "/b": {"old": "write", "new": "none"},
    }
    assert etcd_ha_access.role_changes(None, {}) == {"role": {"old": "absent", "new": "present"}}


# The plan

STEP = "users, roles and authentication as the pillar has them"
VERIFY = "verify a put and a get through every balancer"


def test_a_cluster_whose_access_is_in_force_needs_no_step(pillar, defaults):
    cluster = managed(pillar, defaults)
    plan = etcd_ha_planner.plan(cluster, telling(cluster, IN_FORCE), wanted(cluster))
    assert (plan.refusal, plan.steps) == ("", ())


def test_a_difference_is_one_step_on_one_member(pillar, defaults):
    cluster = managed(pillar, defaults)
    live = dataclasses.replace(IN_FORCE, enabled=False, passwords={"app": ANOTHER})
    plan = etcd_ha_planner.plan(cluster, telling(cluster, live), wanted(cluster))
    assert titles(plan) == [STEP, VERIFY]
    step = plan.steps[0]
    assert (len(step.targets), step.sls) == (1, ("etcd_ha.access",))
    assert step.why == f"another password for app; {TURNED_ON}"


def test_it_comes_after_all_that_changes_members(pillar, defaults):
    cluster = managed(pillar, defaults)
    live = dataclasses.replace(IN_FORCE, users={})
    hosts = change(telling(cluster, live), "etcd2.example.com", digest="old")
    found = titles(etcd_ha_planner.plan(cluster, hosts, wanted(cluster)))
    assert found[-2:] == [STEP, VERIFY] and len(found) == 4


def test_off_comes_first(pillar, defaults):
    """Without TLS there is no certificate by which root could turn it off."""
    cluster = managed(pillar, defaults, enabled=False)
    hosts = change(telling(cluster, IN_FORCE), "etcd2.example.com", digest="old")
    found = titles(etcd_ha_planner.plan(cluster, hosts, wanted(cluster)))
    assert found.index(STEP) < next(i for i, t in enumerate(found) if t.startswith("etcd2"))
    assert found.count(STEP) == 1


def test_authentication_that_the_pillar_does_not_name_is_left_alone(cluster):
    hosts = telling(cluster, IN_FORCE)
    assert etcd_ha_planner.plan(cluster, hosts, wanted(cluster)).steps == ()


def test_a_bootstrap_ends_with_it(pillar, defaults):
    cluster = managed(pillar, defaults)
    plan = etcd_ha_planner.plan(cluster, blank(cluster), wanted(cluster, recorded=False))
    assert titles(plan)[-2:] == [STEP, VERIFY]


def test_a_member_that_is_not_let_in_is_a_refusal(pillar, defaults):
    cluster = managed(pillar, defaults)
    error = {"error": "etcdctl user list failed: etcdserver: permission denied"}
    hosts = change(healthy(cluster), "etcd1.example.com", access=error)
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert "cannot tell who may do what" in plan.refusal and "permission denied" in plan.refusal


def test_one_member_s_word_will_do(pillar, defaults):
    """The others may be down, or not healthy."""
    cluster = managed(pillar, defaults)
    hosts = change(healthy(cluster), "etcd3.example.com", access=IN_FORCE.data())
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert (plan.refusal, plan.steps) == ("", ())


@pytest.mark.parametrize("secret_on", ["etcd2.example.com", "the master"])
def test_a_member_whose_pillar_lacks_a_password_is_a_refusal(pillar, defaults, secret_on):
    """Otherwise that user would be made one that comes by certificate alone."""
    users = {"app": {"roles": ["app"]}}
    if secret_on == "the master":
        users["app"]["password"] = "sdb://vault/app"
    cluster = managed(pillar, defaults, users=users)
    hosts = telling(cluster, IN_FORCE)
    if secret_on in hosts:
        told = dataclasses.replace(IN_FORCE, named=("app",)).data()
        hosts = change(hosts, secret_on, access=told)
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert "the pillar of etcd1.example.com has no password of app" in plan.refusal
