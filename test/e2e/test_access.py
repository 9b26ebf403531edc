"""Users, roles and authentication: in force by the orchestrate, and no hindrance to it after."""

import copy
import json
import time

import pytest
from changing import FIVE, KEPT_PKI, PKI, THREE, Load
from extent import each_release, only_in_all
from lab_command import AS_A_STEP, DOMAIN, MEMBERS, minions
from test_authority import CHECK_TOO, OWN, own_ca

# Made up for the lab; the load's clients come with it.
USER = {"name": "app", "password": "lab-password-1"}
ACCESS = {
    "enabled": True,
    "users": {
        "app": {"roles": ["everything"], "password": USER["password"]},
        "lab": {"roles": ["lab"], "password": "lab-password-2"},
        "cert": {"roles": ["lab"]},
    },
    "roles": {
        "everything": {"permissions": [{"prefix": "", "access": "readwrite"}]},
        "lab": {
            "permissions": [
                {"prefix": "/lab/", "access": "readwrite"},
                {"key": "/motd", "access": "read"},
            ]
        },
    },
}
CHECK = {
    "ca": f"{PKI}/ca.crt",
    "certificate": f"{PKI}/check.crt",
    "key": f"{PKI}/check.key",
}
STEP = "main: users, roles and authentication as the pillar has them"


def changed_access(**more):
    """ACCESS with other users or roles."""
    found = copy.deepcopy(ACCESS)
    for kind, values in more.items():
        if isinstance(values, dict):
            found[kind] |= values
        else:
            found[kind] = values
    return found


def status(lab, host="etcd1"):
    minion = f"{host}.{DOMAIN}"
    return lab.ask(minion, "etcd_ha_auth.status")[minion]


def as_user(lab, name, password, *argv, host="etcd1"):
    """etcdctl as a user with a password, by a certificate that is no user's."""
    script = (
        "set -a; . /etc/etcd/etcdctl.env; "
        "ETCDCTL_CERT=/etc/etcd/pki/peer.crt; ETCDCTL_KEY=/etc/etcd/pki/peer.key; "
        f'ETCDCTL_USER={name}; ETCDCTL_PASSWORD={password}; exec etcdctl "$@"'
    )
    return lab.exec(host, "sh", "-c", script, "sh", *argv)


def is_in_force(lab):
    """Whoever has a user may do what its roles say, and nobody else may do anything."""
    found = status(lab)
    assert found["enabled"] is True
    assert found["users"]["app"] == ["everything"] and found["users"]["root"] == ["root"]
    assert found["roles"]["lab"] == ["readwrite /lab/*", "read /motd"]
    assert as_user(lab, "lab", "lab-password-2", "put", "/lab/1", "x").code == 0
    for user, password, key in (
        ("lab", "lab-password-2", "/other"),
        ("lab", "lab-password-2", "/motd"),
        ("lab", "wrong", "/lab/1"),
        ("cert", "anything", "/lab/1"),
    ):
        done = as_user(lab, user, password, "put", key, "y")
        assert done.code != 0 and ("denied" in done.text or "failed" in done.text), done.text
    lab.put("/root", "by certificate")


def through(lab, path, body=None, headers=None):
    """What the balancer's own certificate gets: status and text."""
    wanted = {**CHECK, "host": lab.address("lb"), "port": 2379, "path": path, "body": body}
    wanted["headers"] = headers or {}
    told = lab.probe("lb", "tls", json.dumps(wanted))
    return told.get("status"), told.get("body", told.get("error"))


@each_release()
def test_a_new_cluster_has_it_from_its_first_run(changed, version):
    if not changed.obtainable(version):
        pytest.fail(f"the mirror cannot get {version} on this machine")
    changed.begin(THREE, version=version, access=ACCESS)
    is_in_force(changed.lab)
    changed.settled()
    code, text = through(changed.lab, "/health?exclude=NOSPACE")
    assert code == 200, text
    for path, body in (
        ("/v3/kv/range", '{"key": "AA==", "range_end": "AA=="}'),
        ("/v3/kv/put", '{"key": "AAA=", "value": "AA=="}'),
    ):
        # To a request with the header Accept etcd says that the user's name is empty. Without one
        # it takes the member's own certificate for the client's, and that name is no user's
        # (AuthInfoFromTLS in server/auth/store.go).
        code, text = through(changed.lab, path, body)
        assert code == 403 and "permission denied" in text, (code, text)
        code, text = through(changed.lab, path, body, {"Accept": "application/json"})
        assert code == 400 and "user name is empty" in text, (code, text)
    health = changed.lab.ask(minions(*THREE, "lb"), "etcd_ha.health")
    assert len(health) == 4
    assert all(one["healthy"] for one in health.values()), health


@only_in_all
def test_it_is_turned_on_in_a_cluster_that_is_in_use(changed):
    """The clients have their user before; users and roles alone refuse nobody."""
    changed.begin(THREE)
    changed.change(THREE, "users", access=changed_access(enabled=None))
    assert status(changed.lab)["enabled"] is False
    changed.ask_for(THREE, access=ACCESS)
    plan = changed.lab.salt_run("etcd_ha.plan").ok().text
    assert "authentication is to be on, and clients without a user are refused" in plan
    assert status(changed.lab)["enabled"] is False, "a plan changes nothing"
    tried = changed.lab.orch("test=True")
    assert status(changed.lab)["enabled"] is False, tried.text
    run = changed.lab.orch().ok()
    assert next(iter(run.states)) == STEP, list(run.states)
    is_in_force(changed.lab)
    changed.settled()


@only_in_all
def test_only_what_differs_is_changed_and_told(changed):
    changed.begin(THREE, access=ACCESS)
    lab, minion = changed.lab, f"etcd1.{DOMAIN}"
    other = {"permissions": [{"prefix": "/lab/", "access": "read"}]}
    users = {"lab": {"roles": ["lab"], "password": "lab-password-3"}}
    changed.ask_for(THREE, access=changed_access(users=users, roles={"lab": other}))
    assert "role lab; another password for lab" in lab.salt_run("etcd_ha.plan").ok().text
    # As a step of the orchestrate: a highstate leaves what is in force.
    access = ("state.apply", "etcd_ha.access", AS_A_STEP)
    assert not any(one["changes"] for one in lab.ask(minion, *access[:2])[minion].values())
    told = lab.ask(minion, *access, "test=True")[minion]
    done = lab.ask(minion, *access)[minion]
    changes = [
        {one["__id__"]: one["changes"] for one in run.values() if one["changes"]}
        for run in (told, done)
    ]
    assert (
        changes[0]
        == changes[1]
        == {
            "main: the role lab has the pillar's permissions": {
                "/lab/*": {"old": "readwrite", "new": "read"},
                "/motd": {"old": "read", "new": "none"},
            },
            "main: the user lab has the pillar's roles": {
                "password": {"old": "another", "new": "the one that is wanted"}
            },
        }
    )
    assert as_user(lab, "lab", "lab-password-3", "get", "/lab/1").code == 0
    assert as_user(lab, "lab", "lab-password-3", "put", "/lab/1", "z").code != 0
    changed.settled()


@only_in_all
def test_what_was_changed_by_hand_is_put_right_and_the_unknown_only_when_asked(changed):
    changed.begin(THREE, access=ACCESS)
    lab = changed.lab
    for command in (
        ("role", "add", "guest"),
        ("user", "add", "guest", "--no-password"),
        ("user", "grant-role", "guest", "guest"),
        ("user", "revoke-role", "lab", "lab"),
        ("user", "delete", "cert"),
    ):
        lab.etcdctl("etcd1", *command, endpoint=lab.own("etcd1")).ok()
    lab.orch().ok()
    is_in_force(lab)
    assert "guest" in status(lab)["users"] and "cert" in status(lab)["users"]
    changed.ask_for(THREE, access=changed_access(remove_unknown=True))
    lab.orch().ok()
    found = status(lab)
    assert "guest" not in found["users"] and "guest" not in found["roles"]
    changed.settled()


@only_in_all
def test_between_certificate_and_password(changed):
    """etcd itself can do neither; it says that it has."""
    changed.begin(THREE, access=ACCESS)
    lab = changed.lab
    users = {"cert": {"roles": ["lab"], "password": "lab-password-4"}, "lab": {"roles": ["lab"]}}
    changed.ask_for(THREE, access=changed_access(users=users))
    lab.orch().ok()
    assert as_user(lab, "cert", "lab-password-4", "get", "/lab/1").code == 0
    assert "no password user" in as_user(lab, "lab", "lab-password-2", "get", "/lab/1").text
    changed.settled()


@only_in_all
def test_a_cluster_with_authentication_converges_as_any_other(changed):
    """Members come and go, options change, all restart; a user's clients do not notice."""
    changed.begin(THREE, access=ACCESS)
    changed.user = USER
    changed.change(FIVE, "auth-grow", access=ACCESS)
    changed.change(THREE, "auth-shrink", access=ACCESS)
    changed.change(THREE, "auth-option", access=ACCESS, options={"heartbeat-interval": 110})
    changed.run(THREE, "auth-restart", command="restart")
    changed.lab.exec("etcd2", "systemctl", "stop", "etcd").ok()
    changed.lab.exec("etcd2", "rm", "-rf", "/var/lib/etcd/member").ok()
    changed.run(THREE, "auth-replace")
    is_in_force(changed.lab)


@only_in_all
def test_a_cluster_takes_another_name_with_authentication_on(changed):
    """Users and roles are etcd's and know no cluster's name: nobody is touched for them."""
    changed.begin(THREE, access=ACCESS)
    changed.user = USER
    lab, before = changed.lab, changed.processes()
    # The balancers' own certificates move with the name: clients have others.
    lab.exec("lb", "sh", "-c", f"rm -rf {KEPT_PKI}; cp -a {PKI} {KEPT_PKI}").ok()
    changed.ask_for(THREE, name="prod", renamed_from="main", access=ACCESS)
    run = changed.run(THREE, "auth-rename", pki=KEPT_PKI)
    assert not [step for step in run.states if "authentication" in step], list(run.states)
    assert changed.processes() == before
    is_in_force(lab)
    # Under the new name, too, what differs is put right.
    lab.etcdctl("etcd1", "user", "revoke-role", "lab", "lab", endpoint=lab.own("etcd1")).ok()
    changed.ask_for(THREE, name="prod", access=ACCESS)
    assert STEP.replace("main", "prod") in lab.orch().ok().states
    is_in_force(lab)
    changed.settled()


@only_in_all
def test_a_member_takes_another_name_with_authentication_on(changed):
    """It restarts alone, with the id that it had; its certificates bear the new name."""
    changed.begin(THREE, access=ACCESS)
    lab, before = changed.lab, changed.processes()
    ids = {member["ID"] for member in changed.members()}
    members = {f"{host}.{DOMAIN}": {"address": changed.address(host)} for host in THREE}
    members[f"etcd3.{DOMAIN}"]["name"] = "third"
    changed.ask_for(THREE, access=ACCESS, members=members)
    with Load(lab, "/auth-member/", user=USER) as load:
        lab.orch().ok()
    load.check(THREE)
    after = changed.processes()
    assert [host for host in THREE if after[host] != before[host]] == ["etcd3"]
    found = changed.members()
    assert {member["ID"] for member in found} == ids
    assert {member["name"] for member in found} == {"etcd1", "etcd2", "third"}, found
    assert lab.orch().ok().changes == {}
    is_in_force(lab)


@only_in_all
def test_another_ca_comes_with_authentication_on(changed):
    changed.begin(THREE, access=ACCESS)
    changed.user = USER
    changed.run(THREE, "auth-ca", command="rotate_ca")
    is_in_force(changed.lab)


@only_in_all
def test_of_your_own_certificates_the_balancers_have_one_that_opens_no_key(changed):
    """On 3.5, where a balancer tells a learner by a read, which no named certificate may try."""
    lab, version = changed.lab, "3.5.16"
    changed.begin(THREE, version=version)
    own_ca(lab)
    changed.ask_for(THREE, version=version, tls=OWN, access=ACCESS)
    lab.orch().refused("tls:files:check is missing", "of their own, without a common name")
    changed.ask_for(THREE, version=version, tls=CHECK_TOO, access=ACCESS)
    lab.orch().ok()
    is_in_force(lab)
    changed.settled()
    body = '{"key": "AA==", "range_end": "AA=="}'
    code, text = through(lab, "/v3/kv/range", body, {"Accept": "application/json"})
    assert code == 400 and "user name is empty" in text, (code, text)


@only_in_all
def test_an_upgrade_through_all_lines_with_authentication_on(changed):
    oldest, *_, newest = changed.releases()
    changed.begin(THREE, version=oldest, access=ACCESS)
    changed.user = USER
    changed.change(THREE, "auth-upgrade", version=newest, access=ACCESS)
    assert changed.versions() == {newest}
    is_in_force(changed.lab)


@only_in_all
def test_before_3_6_a_learner_is_kept_out_with_authentication_on_too(changed):
    """The check of it passes etcd's gateway, since its certificate has no common name."""
    version = next(v for v in changed.releases() if v.startswith("3.5"))
    changed.begin(THREE, version=version, access=ACCESS)
    lab = changed.lab
    lab.exec("etcd3", "systemctl", "stop", "etcd").ok()
    (entry,) = [m for m in changed.members() if m["name"] == "etcd3"]
    own = lab.own("etcd1")
    lab.etcdctl("etcd1", "member", "remove", f"{entry['ID']:x}", endpoint=own).ok()
    peer = lab.own("etcd3").replace("2379", "2380")
    add = ("member", "add", "etcd3", "--learner", f"--peer-urls={peer}")
    # etcd takes none until the others have been connected for 5 s.
    deadline = time.monotonic() + 20
    while (done := lab.etcdctl("etcd1", *add, endpoint=own)).code and time.monotonic() < deadline:
        time.sleep(1)
    told = done.ok().out
    (listed,) = [line for line in told.splitlines() if line.startswith("ETCD_INITIAL_CLUSTER=")]
    script = (
        "rm -rf /var/lib/etcd/member; mkdir -p /run/etcd_ha; echo "
        f"'{listed}' > /run/etcd_ha/bootstrap.env; systemctl start etcd"
    )
    lab.exec("etcd3", "sh", "-c", script).ok()
    # A voter says that it is not permitted (403), a learner that it takes nothing (503).
    wanted = {**CHECK, "host": lab.address("lb"), "port": 2379, "count": 20}
    assert lab.probe("lb", "connections", json.dumps(wanted)) == {"403": 20}
    lab.orch().ok()
    changed.settled()


@only_in_all
def test_a_lost_certificate_of_root_s_is_signed_anew(changed):
    changed.begin(THREE, access=ACCESS)
    lab = changed.lab
    for host in MEMBERS:
        script = "rm /etc/etcd/pki/admin.* /etc/etcd/pki/next/admin.*"
        lab.exec(host, "sh", "-c", script).ok()
        lab.orch().ok()
    is_in_force(lab)
    changed.settled()


@only_in_all
def test_tls_is_taken_off_only_with_authentication(changed):
    changed.begin(THREE, access=ACCESS)
    changed.ask_for(THREE, access=ACCESS, tls={"enabled": False})
    changed.lab.orch().refused("access:enabled is true without TLS")
    off = changed_access(enabled=False)
    changed.ask_for(THREE, access=off, tls={"enabled": False})
    run = changed.lab.orch().ok()
    assert STEP in list(run.states)[:2], list(run.states)
    changed.settled()


@only_in_all
def test_a_password_that_cannot_be_is_refused_before_anything_changes(changed):
    changed.begin(THREE, access=ACCESS)
    users = {"app": {"roles": ["everything"], "password": "two words"}}
    changed.ask_for(THREE, access=changed_access(users=users))
    refused = changed.lab.orch().refused("access:users:app:password", "holds a blank")
    assert "two words" not in refused.text
    users = {"app": {"roles": ["everything"], "password": "sdb://nowhere/app"}}
    changed.ask_for(THREE, access=changed_access(users=users))
    changed.lab.orch().refused("cannot tell who may do what", "was not found")
    is_in_force(changed.lab)


@only_in_all
def test_it_does_not_lock_the_formula_out(changed):
    """Root's certificate with a name that is no user's: nothing is turned on."""
    changed.begin(THREE)
    lab, minion = changed.lab, f"etcd1.{DOMAIN}"
    pki = "/etc/etcd/pki"
    other = "for end in crt key; do cp admin.$end /root; cp server.$end admin.$end; done"
    lab.exec("etcd1", "sh", "-c", f"cd {pki}; {other}").ok()
    done = lab.salt(minion, "etcd_ha_auth.enable")
    assert done.code != 0 and "authentication was not turned on" in done.text, done.text
    lab.exec("etcd1", "sh", "-c", f"cp /root/admin.crt /root/admin.key {pki}").ok()
    assert status(lab)["enabled"] is False
    changed.same()
