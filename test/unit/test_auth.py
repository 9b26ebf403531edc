"""Users, roles and passwords by way of etcdctl: what is called, and what must not be seen."""

import base64
import importlib.util
import json
import pathlib

import etcd_ha_auth
import etcd_ha_client
import etcd_ha_machine
import pytest
from etcd_ha_access import Live, Range
from etcd_ha_etcdctl import Answer
from salt.exceptions import CommandExecutionError, SaltInvocationError

ROOT = pathlib.Path(__file__).parents[2]
SECRET, OTHER = "planted-S3cret:#$'\"\\", "another-planted-one"
OFF, ON = False, True
TYPES = {"read": 0, "write": 1, "readwrite": 2}


class Etcd:
    """etcdctl and the auth store behind it, as far as the formula uses them."""

    def __init__(self, enabled=OFF, line="3.6"):
        self.enabled, self.line = enabled, line
        self.users, self.passwords, self.roles = {}, {}, {}
        self.calls = []

    def run(self, arguments, stdin, more):
        self.calls.append(arguments)
        if "ETCDCTL_USER" in more and self.enabled:
            user, password = more["ETCDCTL_USER"], more["ETCDCTL_PASSWORD"]
            if user in self.users and self.passwords.get(user) is None:
                told = "auth: authentication failed, password was given for no password user"
                return Answer(2, "", f"Error: {told}")
            if self.passwords.get(user) != password:
                told = "etcdserver: authentication failed, invalid user ID or password"
                return Answer(2, "", f"Error: {told}")
        words = [word for word in arguments if not word.startswith("-") and word != "json"]
        method = getattr(self, "_".join(words[:2]).replace("-", "_"))
        try:
            found = method(arguments, words[2:], stdin)
        except LookupError as err:
            return Answer(1, "", f'{{"level":"warn"}}\nError: etcdserver: {err.args[0]}')
        return found if isinstance(found, Answer) else Answer(0, json.dumps(found or {}), "")

    def auth_status(self, *_):
        if self.line == "3.4":
            return Answer(0, "USAGE:\n  etcdctl auth <enable or disable>\n", "")
        return {"enabled": True} if self.enabled else {}

    def auth_enable(self, *_):
        if "root" not in self.users.get("root", ()):
            raise LookupError("root user does not have root role")
        self.enabled = ON

    def auth_disable(self, *_):
        self.enabled = OFF

    def user_list(self, *_):
        return {"users": sorted(self.users)}

    def user_get(self, _, words, __):
        if words[0] not in self.users:
            raise LookupError("user name not found")
        return {"roles": sorted(self.users[words[0]])}

    def user_add(self, arguments, words, stdin):
        self.users[words[0]] = set()
        without = "--no-password" in arguments
        self.passwords[words[0]] = None if without else stdin.removesuffix("\n")

    def user_passwd(self, _, words, stdin):
        if self.passwords[words[0]] is not None:
            self.passwords[words[0]] = stdin.removesuffix("\n")

    def user_delete(self, _, words, __):
        if words[0] == "root" and self.enabled:
            raise LookupError("invalid auth management")
        del self.users[words[0]]

    def user_grant_role(self, _, words, __):
        if words[1] not in self.roles:
            raise LookupError("role name not found")
        self.users[words[0]].add(words[1])

    def user_revoke_role(self, _, words, __):
        self.users[words[0]].discard(words[1])

    def role_list(self, *_):
        return {"roles": sorted(self.roles)}

    def role_get(self, _, words, __):
        def coded(part):
            return base64.b64encode(part).decode()

        rows = []
        for one, access in self.roles[words[0]].items():
            row = {"permType": TYPES[access], "key": coded(one.key), "range_end": coded(one.end)}
            rows.append({name: value for name, value in row.items() if value})
        return {"perm": rows}

    def role_add(self, _, words, __):
        self.roles[words[0]] = {}

    def role_delete(self, _, words, __):
        del self.roles[words[0]]

    @staticmethod
    def range(arguments, keys):
        if "--prefix" in arguments:
            return Range.prefix(keys[0])
        return Range(keys[0].encode(), keys[1].encode() if len(keys) > 1 else b"")

    def role_grant_permission(self, arguments, words, _):
        role, access, *keys = words
        self.roles[role][self.range(arguments, keys)] = access

    def role_revoke_permission(self, arguments, words, _):
        role, *keys = words
        del self.roles[role][self.range(arguments, keys)]


@pytest.fixture
def etcd():
    """A cluster with root and a user whose password is known."""
    found = Etcd()
    found.users = {"root": {"root"}, "app": {"app"}}
    found.passwords = {"root": None, "app": SECRET}
    found.roles = {"root": {}, "app": {Range.prefix("/app/"): "readwrite"}}
    return found


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def module(etcd, monkeypatch):
    """The execution module in front of that cluster, on a member whose pillar has passwords."""
    found = load(ROOT / "_modules" / "etcd_ha_auth.py")
    found.__pillar__ = {
        "secrets": {
            "app": SECRET,
            "other": OTHER,
            "blank": "two words",
            "stored": "sdb://vault/app",
            "lost": "sdb://vault/lost",
        }
    }
    found.__grains__ = {"id": "etcd1.example.com"}
    found.__salt__ = {
        "sdb.get": {"sdb://vault/app": SECRET}.get,
        "x509.read_certificate": lambda path: {"subject": {"CN": found.admin}},
    }
    found.admin = "root"

    def etcdctl(member, arguments, timeout, endpoints, stdin, more):
        return etcd.run(arguments, stdin, more)

    monkeypatch.setattr(etcd_ha_client, "etcdctl", etcdctl)
    monkeypatch.setattr(etcd_ha_client, "member_on_disk", lambda: {"config_dir": "/etc/etcd"})
    monkeypatch.setattr(etcd_ha_client, "serving_endpoint", lambda: "https://127.0.0.1:2379")
    monkeypatch.setattr(etcd_ha_client, "configured", lambda: {"ETCD_CLIENT_CERT_AUTH": "true"})
    monkeypatch.setattr(etcd_ha_client, "environment", lambda _: {"ETCDCTL_CERT": "admin.crt"})
    monkeypatch.setattr(etcd_ha_machine, "read_text", lambda _: "")
    yield found
    words = [word for call in etcd.calls for word in call]
    assert not [word for word in words if SECRET in word or OTHER in word]


@pytest.mark.parametrize("line", ["3.4", "3.5"])
@pytest.mark.parametrize("enabled", [OFF, ON])
def test_whether_it_is_on_is_found_out_by_every_etcdctl(etcd, line, enabled):
    etcd.enabled, etcd.line = enabled, line
    assert etcd_ha_auth.enabled(etcd.run) is enabled


def test_what_is_there(etcd):
    assert etcd_ha_auth.live(etcd.run) == Live(
        False,
        {"app": ("app",), "root": ("root",)},
        {"app": {Range.prefix("/app/"): "readwrite"}, "root": {}},
    )


@pytest.mark.parametrize(
    ("user", "password", "says"),
    [
        ("app", SECRET, ""),
        ("app", "wrong", "another"),
        ("app", None, "one"),
        ("root", None, ""),
        ("root", SECRET, "none, by certificate alone"),
    ],
)
def test_a_password_is_tried(etcd, user, password, says):
    etcd.enabled = ON
    assert etcd_ha_auth.password_differs(etcd.run, user, password) == says


def test_a_refusal_is_etcdctl_s_own_word_without_its_log(etcd):
    with pytest.raises(etcd_ha_auth.AuthError) as caught:
        etcd_ha_auth.set_user(etcd.run, "app", None, [], ["no"])
    assert str(caught.value) == "etcdctl user grant-role failed: etcdserver: role name not found"


# The module


def test_a_new_user(module, etcd):
    changes = module.set_user("new", ["app"], password_pillar="secrets:app")
    assert changes == {
        "user": {"old": "absent", "new": "present"},
        "password": {"old": "none", "new": "the one that is wanted"},
        "roles": {"old": [], "new": ["app"]},
    }
    assert (etcd.users["new"], etcd.passwords["new"]) == ({"app"}, SECRET)


def test_a_user_as_wanted_is_not_touched(module, etcd):
    etcd.enabled = ON
    assert module.set_user("app", ["app"], password_pillar="secrets:app") == {}
    assert module.set_user("app", ["app"], password_pillar="secrets:stored") == {}
    assert module.set_user("app", ["app"], password="sdb://vault/app") == {}
    assert module.set_user("root") == {}


def test_another_password_is_set_and_not_told(module, etcd):
    etcd.enabled = ON
    changes = module.set_user("app", ["app"], password_pillar="secrets:other")
    assert changes == {"password": {"old": "another", "new": "the one that is wanted"}}
    assert etcd.passwords["app"] == OTHER


def test_while_it_is_off_a_password_is_set_anew_since_none_can_be_tried(module, etcd):
    """By making the user anew: one without a password would keep none."""
    etcd.passwords["app"] = None
    changes = module.set_user("app", ["app"], password_pillar="secrets:app")
    assert set(changes) == {"password"}
    assert (etcd.users["app"], etcd.passwords["app"]) == ({"app"}, SECRET)


@pytest.mark.parametrize(
    ("before", "key", "after"), [(SECRET, None, None), (None, "secrets:app", SECRET)]
)
def test_between_certificate_and_password_a_user_is_made_anew(module, etcd, before, key, after):
    etcd.enabled, etcd.passwords["app"] = ON, before
    assert set(module.set_user("app", ["app"], password_pillar=key)) == {"password"}
    assert (etcd.users["app"], etcd.passwords["app"]) == ({"app"}, after)
    assert module.set_user("app", ["app"], password_pillar=key) == {}


def test_roles_are_granted_and_revoked(module, etcd):
    etcd.roles["new"] = {}
    assert module.set_user("app", ["new"]) == {"roles": {"old": ["app"], "new": ["new"]}}
    assert etcd.users["app"] == {"new"} and module.set_user("app", ["new"]) == {}


def test_root_is_not_made_anew_while_it_is_on(module, etcd):
    etcd.enabled = ON
    with pytest.raises(CommandExecutionError, match="access:enabled: false"):
        module.set_user("root", password_pillar="secrets:app")
    assert etcd.users["root"] == {"root"}


def test_test_mode_tells_and_touches_nothing(module, etcd):
    assert module.set_user("new", ["app"], test=True)
    assert module.set_user("app", [], test=True) == {"roles": {"old": ["app"], "new": []}}
    assert module.set_role("new", test=True)
    # Of a role that an earlier state would make.
    assert module.set_user("other", ["new"], test=True)
    assert module.remove_user("app", test=True) and module.remove_role("app", test=True)
    assert module.enable(test=True)
    assert set(etcd.users) == {"root", "app"} and set(etcd.roles) == {"root", "app"}
    assert not etcd.enabled and etcd.users["app"] == {"app"}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"password": SECRET}, "must be the sdb:// URI"),
        ({"password_pillar": "secrets:gone"}, "has no secrets:gone"),
        ({"password_pillar": "secrets:blank"}, "holds a blank"),
        ({"password_pillar": "secrets:lost"}, "was not found"),
        ({"password_pillar": "a", "password": "sdb://b"}, "not both"),
    ],
)
def test_a_password_that_cannot_be_is_told_by_its_place_alone(module, etcd, asked, says):
    with pytest.raises((SaltInvocationError, CommandExecutionError), match=says) as caught:
        module.set_user("app", ["app"], **asked)
    assert SECRET not in str(caught.value) and "two words" not in str(caught.value)


def test_a_role_is_made_and_changed_by_what_differs_alone(module, etcd):
    read = [{"prefix": "/app/", "access": "read"}, {"key": "/motd", "access": "read"}]
    assert module.set_role("app", read) == {
        "/app/*": {"old": "readwrite", "new": "read"},
        "/motd": {"old": "none", "new": "read"},
    }
    assert module.set_role("app", read) == {}
    assert module.set_role("app", read[:1]) == {"/motd": {"old": "read", "new": "none"}}
    assert etcd.roles["app"] == {Range.prefix("/app/"): "read"}


def test_what_is_gone_is_gone(module, etcd):
    assert module.remove_user("app") and module.remove_role("app")
    assert module.remove_user("app") == {} and module.remove_role("app") == {}
    assert "app" not in etcd.users and "app" not in etcd.roles


def test_it_is_turned_on_with_root_and_off_again(module, etcd):
    del etcd.users["root"], etcd.roles["root"]
    changes = module.enable()
    assert changes["authentication"] == {"old": "off", "new": "on"} and "root" in changes
    assert etcd.enabled and etcd.passwords["root"] is None and module.enable() == {}
    assert module.disable() and not etcd.enabled and module.disable() == {}


def test_it_is_not_turned_on_where_it_would_lock_everyone_out(module, etcd, monkeypatch):
    module.admin = "somebody"
    with pytest.raises(CommandExecutionError, match="'somebody', and no such user has the role"):
        module.enable()
    etcd.users["somebody"] = {"root"}
    assert not etcd.enabled and module.enable() and etcd.enabled
    monkeypatch.setattr(etcd_ha_client, "configured", dict)
    with pytest.raises(CommandExecutionError, match="asks clients for no certificate"):
        module.enable()


def test_status_is_for_people(module, etcd):
    assert module.status() == {
        "enabled": False,
        "users": {"app": ["app"], "root": ["root"]},
        "roles": {"app": ["readwrite /app/*"], "root": ["everything"]},
    }


# What the planner and the states are told


@pytest.fixture
def member(module, pillar, defaults, monkeypatch):
    """The module on a member of the shipped cluster, whose own pillar has the password."""
    access = {"enabled": True, "users": {"app": {"roles": ["app"], "password": SECRET}}}
    access["roles"] = {
        "app": {"permissions": [{"prefix": "/app/", "access": "readwrite"}]},
        "empty": {},
    }
    pillar["clusters"]["main"]["access"] = access
    module.__pillar__ = {"etcd_ha": pillar}
    monkeypatch.setattr(module, "_defaults", lambda: defaults)
    monkeypatch.setattr(module, "_compiled_pillar", lambda: module.__pillar__)
    return module


def test_the_planner_hears_whose_password_is_another(member, etcd):
    etcd.enabled = ON
    assert (member.observed()["passwords"], member.observed()["named"]) == ({}, ["app"])
    etcd.passwords["app"] = OTHER
    told = member.observed()
    assert told["passwords"] == {"app": "another"} and SECRET not in json.dumps(told)


def test_the_planner_hears_why_it_cannot_be_told(member, etcd, monkeypatch):
    monkeypatch.setattr(etcd, "user_list", lambda *_: Answer(1, "", "Error: permission denied"))
    assert "permission denied" in member.observed()["error"]


def test_the_states_are_told_the_place_of_a_password(member, etcd):
    told = member.wanted()
    key = "etcd_ha:clusters:main:access:users:app:password"
    assert told["users"] == [
        {"user": "app", "roles": ["app"], "password_pillar": key},
        {"user": "root", "roles": ["root"], "password_pillar": None},
    ]
    assert [one["role"] for one in told["roles"]] == ["app", "empty"]
    assert SECRET not in json.dumps(told)
    member.set_user("app", ["app"], password_pillar=key)
    assert etcd.passwords["app"] == SECRET


# The states


@pytest.fixture
def states(module):
    found = load(ROOT / "_states" / "etcd_ha_access.py")
    found.__opts__ = {"test": False}
    names = ("set_user", "remove_user", "set_role", "remove_role", "enable", "disable")
    found.__salt__ = {f"etcd_ha_auth.{name}": getattr(module, name) for name in names}
    return found


def test_a_state_tells_its_changes_once(states, etcd):
    first = states.user_present("new", roles=["app"])
    again = states.user_present("new", roles=["app"])
    assert (first["result"], first["comment"]) == (True, "changed") and first["changes"]
    assert (again["result"], again["changes"]) == (True, {})
    assert again["comment"] == "new is as it should be"


def test_a_state_under_test_tells_what_it_would(states, etcd):
    states.__opts__["test"] = True
    found = states.auth_enabled("etcd asks who its clients are")
    assert found["result"] is None and found["changes"] and not etcd.enabled
    assert states.auth_disabled("open")["result"] is True


def test_a_state_fails_with_the_reason_and_no_changes(states, etcd):
    found = states.user_present("new", roles=["no"])
    assert found["result"] is False and "no role no, which new is to have" in found["comment"]
    assert found["changes"] == {} and "new" not in etcd.users


def refuse(monkeypatch, etcd, name, after=0):
    """Have etcd refuse this call once it has taken so many of them."""
    inner, taken = getattr(etcd, name), []

    def refusing(*asked):
        if len(taken) >= after:
            raise LookupError("request timed out")
        taken.append(asked)
        return inner(*asked)

    monkeypatch.setattr(etcd, name, refusing)


ADDED = {"old": "absent", "new": "present"}


@pytest.mark.parametrize(
    ("user", "asked", "refused", "after", "made"),
    [
        ("new", {"roles": ["app"]}, "user_add", 0, {}),
        ("new", {"roles": ["app"]}, "user_grant_role", 0, {"user", "password"}),
        ("new", {"roles": ["app", "two"]}, "user_grant_role", 1, {"user", "password", "roles"}),
        (
            "app",
            {"roles": ["two"], "password_pillar": "secrets:app"},
            "user_revoke_role",
            0,
            {"roles"},
        ),
        ("app", {"password_pillar": "secrets:other"}, "user_revoke_role", 0, {"password"}),
        ("app", {"roles": ["app"]}, "user_delete", 0, {}),
        # It was to be made anew, without a password.
        ("app", {"roles": ["app"]}, "user_add", 0, {"user", "roles"}),
        ("app", {"roles": ["app"]}, "user_grant_role", 0, {"password", "roles"}),
    ],
)
def test_a_user_s_state_that_ends_halfway_tells_what_was_done(
    states, etcd, monkeypatch, user, asked, refused, after, made
):
    etcd.enabled, etcd.roles["two"] = ON, {}
    before = {name: sorted(held) for name, held in etcd.users.items()}
    refuse(monkeypatch, etcd, refused, after)
    found = states.user_present(user, **asked)
    assert found["result"] is False and set(found["changes"]) == set(made)
    assert "request timed out. Where root is not let in" in found["comment"]
    assert "Additional info" not in found["comment"]
    now = sorted(etcd.users.get(user, ()))
    if "roles" in made:
        assert found["changes"]["roles"] == {"old": before.get(user, []), "new": now}
    else:
        assert now == before.get(user, [])
    if "user" in made:
        there = {True: "present", False: "absent"}
        told = {"old": there[user in before], "new": there[user in etcd.users]}
        assert found["changes"]["user"] == told
    assert SECRET not in json.dumps(found) and OTHER not in json.dumps(found)


@pytest.mark.parametrize(
    ("role", "refused", "after", "made"),
    [
        ("new", "role_add", 0, {}),
        ("new", "role_grant_permission", 0, {"role": ADDED}),
        (
            "new",
            "role_grant_permission",
            1,
            {"role": ADDED, "/a": {"old": "none", "new": "read"}},
        ),
        (
            "app",
            "role_revoke_permission",
            0,
            {"/a": {"old": "none", "new": "read"}, "/b": {"old": "none", "new": "write"}},
        ),
    ],
)
def test_a_role_s_state_that_ends_halfway_tells_what_was_done(
    states, etcd, monkeypatch, role, refused, after, made
):
    refuse(monkeypatch, etcd, refused, after)
    asked = [{"key": "/a", "access": "read"}, {"key": "/b", "access": "write"}]
    found = states.role_present(role, permissions=asked)
    assert (found["result"], found["changes"]) == (False, made)
    assert "request timed out" in found["comment"]


@pytest.mark.parametrize(
    ("refused", "made"),
    [
        ("role_add", {}),
        ("user_add", {"role root": ADDED}),
        ("user_grant_role", {"root": {"old": "absent", "new": []}, "role root": ADDED}),
        ("auth_enable", {"root": {"old": "absent", "new": ["root"]}}),
    ],
)
def test_root_that_was_made_before_etcd_refused_is_told(states, etcd, monkeypatch, refused, made):
    del etcd.users["root"], etcd.roles["root"]
    refuse(monkeypatch, etcd, refused)
    found = states.auth_enabled("on")
    assert (found["result"], found["changes"]) == (False, made)
    assert "request timed out" in found["comment"] and not etcd.enabled


def test_each_state_does_what_it_says(states, etcd):
    assert states.role_present("a role", role="new", permissions=[])["changes"]
    assert states.user_absent("nobody", user="app")["changes"]
    assert states.role_absent("no role", role="app")["changes"]
    assert states.auth_enabled("on")["changes"] and etcd.enabled
    assert states.auth_disabled("off")["changes"] and not etcd.enabled
    assert set(etcd.users) == {"root"} and set(etcd.roles) == {"root", "new"}


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize("function", ["remove_user", "remove_role"])
def test_root_stays_while_it_is_on_and_a_test_says_so(module, etcd, function, test):
    etcd.users["root"], etcd.roles["root"], etcd.enabled = {"root"}, {}, ON
    with pytest.raises(CommandExecutionError, match="root stays while authentication is on"):
        getattr(module, function)("root", test=test)
    assert "root" in etcd.users and "root" in etcd.roles
    etcd.enabled = OFF
    assert getattr(module, function)("root", test=test)
