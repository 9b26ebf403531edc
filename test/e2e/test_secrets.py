"""Planted secrets are nowhere to be found after all that the formula does, failures too.

Looked through: what every command printed, the master's job cache and event bus, the logs of master
and minions at level debug, their journals, and the command lines that were seen on every host.
"""

import copy
import secrets

import pytest
from changing import THREE
from extent import only_in_all
from lab_command import DOMAIN, HOSTS, PROBES, PYTHON, minions

EVERYWHERE = ("master", *HOSTS)
FOLDER = "/var/tmp/etcd_ha_secrets"
EVENTS = f"{FOLDER}/events"
# Where a secret must not be; on the master also the job cache.
PLACES = (FOLDER, "/var/log")
JOBS = "/var/cache/salt/master/jobs"
DEBUG = "log_level_logfile: debug\n"


class Watch:
    """What is written and run on all hosts while a test goes on."""

    def __init__(self, lab):
        self.lab, self.printed = lab, []

    def __enter__(self):
        for host in EVERYWHERE:
            role = "master" if host == "master" else "minion"
            self.lab.write(host, f"/etc/salt/{role}.d/debug.conf", DEBUG)
            self.lab.exec(host, "systemctl", "restart", f"salt-{role}").ok()
            self.lab.exec(host, "sh", "-c", f"rm -rf {FOLDER}; mkdir -p {FOLDER}").ok()
            source = (PROBES / "commands_seen.py").read_text()
            self.lab.write(host, f"{FOLDER}/commands_seen.py", source)
            watch = (PYTHON, f"{FOLDER}/commands_seen.py", f"{FOLDER}/stop", f"{FOLDER}/commands")
            self._begin(host, "etcd-ha-commands", *watch)
        script = f"exec salt-run state.event > {EVENTS} 2>&1"
        self._begin("master", "etcd-ha-events", "sh", "-c", script)
        self.lab.wait_for_minions(*HOSTS)
        return self

    def __exit__(self, *_):
        for host in EVERYWHERE:
            role = "master" if host == "master" else "minion"
            units = "etcd-ha-commands etcd-ha-events"
            script = f"touch {FOLDER}/stop; systemctl stop {units} 2>/dev/null; "
            script += f"rm -f /etc/salt/{role}.d/debug.conf; systemctl restart salt-{role}"
            self.lab.exec(host, "sh", "-c", script).ok()
        self.lab.wait_for_minions(*HOSTS)
        for host in EVERYWHERE:
            self.lab.exec(host, "rm", "-rf", FOLDER).ok()

    def _begin(self, host, unit, *argv):
        self.lab.exec(host, "systemd-run", "--quiet", "--collect", f"--unit={unit}", *argv).ok()

    def see(self, done):
        """Keep what a command printed; hands the command back."""
        self.printed.append(done.text)
        return done

    def found(self, text):
        """The places that hold this text."""
        places = [f"printed by command {n}" for n, said in enumerate(self.printed) if text in said]
        for host in EVERYWHERE:
            # The text comes by stdin: in an argument it would be seen.
            where = " ".join((*PLACES, JOBS) if host == "master" else PLACES)
            script = (
                f"cat > {FOLDER}.wanted; journalctl --no-pager -o cat > {FOLDER}/journal; "
                f"grep -rlaF -f {FOLDER}.wanted {where}; rm {FOLDER}.wanted"
            )
            done = self.lab.exec(host, "sh", "-c", script, stdin=text)
            places += [f"{host}:{line}" for line in done.out.splitlines()]
        return places


def key_material(lab):
    """A line of each private key that lies on the hosts."""
    found = {}
    for host in HOSTS:
        script = (
            "for f in /etc/etcd/pki/*.key /etc/etcd/pki/next/*.key /etc/etcd/main/*.key "
            '/etc/pki/etcd_ha/main/*.key; do [ -f "$f" ] && echo "$f $(sed -n 2p "$f")"; done; true'
        )
        for line in lab.exec(host, "sh", "-c", script).ok().out.splitlines():
            path, _, text = line.partition(" ")
            found[f"{host}:{path}"] = text
    return found


def access(passwords, **more):
    users = {name: {"roles": ["app"], "password": text} for name, text in passwords.items()}
    role = {"permissions": [{"prefix": "/app/", "access": "readwrite"}]}
    return {"enabled": True, "users": {**users, **more}, "roles": {"app": role}}


def backup(access_key, secret_key, password, **more):
    """A store that nobody serves: it is configured, and each upload fails."""
    s3 = {
        "endpoint": "https://127.0.0.1:9",
        "bucket": "etcd-backups",
        "access_key": access_key,
        "secret_key": secret_key,
        "encryption_password": password,
        "timeout": 20,
        **more,
    }
    return {"schedule": "daily", "s3": s3}


@pytest.fixture
def watched(changed):
    changed.begin(THREE)
    with Watch(changed.lab) as watch:
        yield changed, watch


@only_in_all
def test_planted_secrets_are_found_nowhere(watched):
    changed, watch = watched
    lab, etcd1 = changed.lab, f"etcd1.{DOMAIN}"
    # The lab's spare hosts are in no pillar, and have no modules yet.
    everyone = minions(*HOSTS)
    planted = {f"password {n}": f"planted-{secrets.token_hex(8)}" for n in range(9)}
    first, second, wrong, stored, long, *of_store, in_store = planted.values()
    vault = "etcdpasswords:\n  driver: yaml\n  files: [/root/passwords.yaml]\n"
    lab.write("etcd1", "/etc/salt/minion.d/sdb.conf", vault)
    lab.write("etcd1", "/root/passwords.yaml", f"app: {stored}\ns3: {in_store}\n")

    def run(*argv):
        return watch.see(lab.salt_run(*argv))

    def orch(*argv):
        return watch.see(lab.orch(*argv).done)

    # Turned on, twice, and by a highstate on every host.
    changed.ask_for(THREE, access=access({"app": first}))
    run("etcd_ha.plan").ok()
    orch("test=True")
    orch().ok()
    orch().ok()
    watch.see(lab.salt(everyone, "state.apply", "etcd_ha", timeout=300)).ok()
    # Another password; a certificate alone; and a password again.
    changed.ask_for(THREE, access=access({"app": second}))
    run("etcd_ha.plan").ok()
    orch().ok()
    changed.ask_for(THREE, access=access({}, app={"roles": ["app"]}))
    orch().ok()
    changed.ask_for(THREE, access=access({"app": second}))
    watch.see(lab.salt(etcd1, "state.apply", "etcd_ha.access", "-l", "debug")).ok()
    # All functions and states, with the places of passwords.
    key = "etcd_ha:clusters:main:access:users:app:password"
    watch.see(lab.salt(etcd1, "etcd_ha_auth.set_user", "app", "[app]", f"password_pillar={key}"))
    for function in ("status", "observed", "wanted"):
        watch.see(lab.salt(etcd1, f"etcd_ha_auth.{function}")).ok()
    uri = "password=sdb://etcdpasswords/app"
    done = lab.salt_call("etcd1", "etcd_ha_auth.set_user", "app", "[app]", uri, "-l", "debug")
    watch.see(done).ok()
    single = ("state.single", "etcd_ha.user_present", "app", "roles=[app]", uri, "-l", "debug")
    watch.see(lab.salt_call("etcd1", *single)).ok()
    run("etcd_ha.status", "-l", "debug")
    # Failures: bad passwords, a role that is not there, a place that is none, etcd away.
    for bad in (f"{wrong} with a blank", long * 5, [wrong], {"of": wrong}):
        changed.ask_for(THREE, access=access({"app": bad}))
        assert run("etcd_ha.plan").code != 0
        assert orch().code != 0
        watch.see(lab.salt(etcd1, "state.apply", "etcd_ha.access"))
        watch.see(lab.salt(etcd1, "state.apply", "etcd_ha"))
    for users in (wrong, [{"name": "app", "password": wrong}], {"app": wrong}):
        changed.ask_for(THREE, access={"enabled": True, "users": users})
        assert run("etcd_ha.plan").code != 0
    changed.ask_for(THREE, access=access({"app": wrong}))
    watch.see(lab.salt(etcd1, "etcd_ha_auth.set_user", "app", "[gone]", f"password_pillar={key}"))
    lab.exec("etcd1", "systemctl", "stop", "etcd").ok()
    watch.see(lab.salt(etcd1, "state.apply", "etcd_ha.access"))
    lab.exec("etcd1", "systemctl", "start", "etcd").ok()
    changed.ask_for(THREE, access=access({"app": second}))
    orch().ok()
    # Backups and the secrets of their store, which does not answer; the last one by sdb.
    kept = {"access": access({"app": second})}
    changed.ask_for(THREE, **kept, backup=backup(*of_store))
    run("etcd_ha.plan").ok()
    orch("test=True")
    orch().ok()
    assert watch.see(lab.orch(command="backup").done).code != 0, "nobody serves that store"
    sdb = "sdb://etcdpasswords/s3"
    changed.ask_for(THREE, **kept, backup=backup(of_store[0], sdb, of_store[2]))
    for sls in ("etcd_ha.backup", "etcd_ha"):
        # The minion that runs does not know of that sdb yet.
        watch.see(lab.salt_call("etcd1", "state.apply", sls, "-l", "debug")).ok()
    kept_there = lab.exec("etcd1", "cat", "/etc/etcd/backup.secrets").ok().out
    assert in_store in kept_there and of_store[2] in kept_there, "it is not what was looked for"
    for argv in (
        ("verify", "none"),
        ("listing", "s3=True"),
        ("take",),
        ("prune",),
        ("fetch", "none"),
    ):
        watch.see(lab.salt(etcd1, f"etcd_ha_backup.{argv[0]}", *argv[1:], "-l", "debug"))
    run("etcd_ha.backups", "-l", "debug")
    lab.exec("etcd1", "systemctl", "start", "etcd_ha-backup.service")
    changed.ask_for(THREE, **kept, backup=backup(*of_store[:2], [of_store[2]]))
    assert run("etcd_ha.plan").code != 0
    assert orch().code != 0
    changed.ask_for(THREE, **kept)
    orch().ok()
    # Keys: new ones for every host.
    watch.see(lab.orch(command="rotate_ca").done).ok()
    planted |= key_material(lab)
    assert len(planted) > 9 + 9, planted.keys()
    leaks = {name: watch.found(text) for name, text in planted.items()}
    assert {name: places for name, places in leaks.items() if places} == {}


@only_in_all
def test_a_leak_would_be_found(watched):
    """The search can fail: this secret is given where none belongs."""
    changed, watch = watched
    lab, planted = changed.lab, f"leaked-{secrets.token_hex(8)}"
    command = f"echo {planted}; sleep 0.5"
    watch.see(lab.salt(f"etcd1.{DOMAIN}", "cmd.run", command)).ok()
    lab.exec("etcd2", "logger", copy.copy(planted)).ok()
    found = watch.found(planted)
    for place in (
        "printed by command 0",
        f"master:{EVENTS}",
        f"master:{JOBS}",
        "master:/var/log/salt/master",
        "etcd1:/var/log/salt/minion",
        f"etcd1:{FOLDER}/commands",
        f"etcd2:{FOLDER}/journal",
    ):
        assert [one for one in found if one.startswith(place)], (place, found)
