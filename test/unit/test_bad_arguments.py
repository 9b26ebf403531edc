"""Every public function with every argument that it cannot have: a sentence, and nothing done.

The table of functions is made from the faces themselves: a new function is tried as soon as it is
there, and fails here until ``GOOD`` has an example of each of its parameters.
"""

import builtins
import collections
import copy
import inspect
import json
import os
import shutil
import tempfile

import etcd_ha_arguments
import etcd_ha_client
import etcd_ha_common_process
import etcd_ha_data
import etcd_ha_delivery
import etcd_ha_etcdctl
import etcd_ha_host
import etcd_ha_host_in_force
import etcd_ha_host_kept
import etcd_ha_host_paused
import etcd_ha_host_record
import etcd_ha_machine
import etcd_ha_minions
import etcd_ha_peers
import etcd_ha_progress
import etcd_ha_topology
import pytest
import salt.cache
import salt.exceptions
import salt.utils.http
import systemd_units
import yaml
from clock import ahead
from etcd_ha_common_process import Done, ProgramError
from etcd_ha_master import Master
from faces import ROOT, load
from good_pillar import PILLAR
from salt.exceptions import CommandExecutionError, SaltInvocationError
from test_docs import FACES, public_functions

ITSELF = []
ITSELF.append(ITSELF)

STRANGE = {
    "None": None,
    "True": True,
    "0": 0,
    "-1": -1,
    "a huge number": 10**30,
    "5000 digits": 1 << 20000,
    "3.14": 3.14,
    "nan": float("nan"),
    "inf": float("inf"),
    "nothing": "",
    "a blank": " ",
    "an option": "--help",
    "a short option": "-rf",
    "two words": "a b",
    "two lines": "a\nExecStart=/bin/id",
    "NUL": "a\0b",
    "a substitution": "$(touch /pwned)",
    "backticks": "`touch /pwned`",
    "a second command": "x; touch /pwned",
    "a template": "{{ salt['cmd.run']('id') }}",
    "a way out": "../../../etc/passwd",
    "half a character": "\ud800",
    "a long text": "x" * 100_000,
    "bytes": b"x",
    "an empty list": [],
    "a list of an option": ["--help"],
    "a list of nothing": [None],
    "a list of lists": [[["x"]]],
    "a list in itself": ITSELF,
    "an empty mapping": {},
    "a mapping": {"--help": None, 5: object()},
    "a set": {1},
    "an object": object(),
    "a zone": "fe80::1%x\n bind *:1",
    "an URL of an option": "https://--help",
    "an URL with a path": "https://a:1/x y",
}

HOST = "etcd1.example.com"
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def good(folder, host):
    """An example of each parameter, by its name; of a few by function and name."""
    return {
        "access": False,
        "hours": 4,
        "hurried": True,
        "action": "none",
        "address": "192.168.200.10",
        "alarm": "NOSPACE",
        "algo": "ec",
        "also": [],
        "archive": "etcd.tar.gz",
        "authorities": [f"{folder}/ca.crt"],
        "backup": "main-20261124T101500Z-r4711",
        "balancers": ["lb.example.com"],
        "minions": ["etcd1.example.com"],
        "speaker": "etcd1.example.com",
        "bin_dir": f"{folder}/bin",
        "ca": f"{folder}/ca.crt",
        "ca_server": "ca.example.com",
        "certificate": f"{folder}/a.crt",
        "checksum": "0" * 64,
        "client_urls": ["https://192.168.200.62:2379"],
        "cluster": "main",
        "command": "converge",
        "confirm": "main",
        "consumer": "patroni",
        "corrupt": False,
        "current": f"{folder}/current",
        "cluster_id": "cdf818194e3a8c32",
        "data": False,
        "data_dir": f"{folder}/data",
        "data_dirs": [f"{folder}/data"],
        "defaults": {},
        "detailed_exitcode": False,
        "dir": f"{folder}/3.6.14",
        "directories": [str(folder)],
        "directory": f"{folder}/ca",
        "earlier": {"began": 1764000000, "left": ["0" * 64]},
        "endpoints": "https://192.168.200.62:2379",
        "environment": {
            "ETCD_NAME": "etcd1",
            "ETCD_DATA_DIR": f"{folder}/data",
            "ETCD_INITIAL_ADVERTISE_PEER_URLS": "https://192.168.200.52:2380",
        },
        "everyone": False,
        "file": f"{folder}/etcd_ha.sls",
        "files": [f"{folder}/a.crt"],
        "fit": True,
        "folder": "etcd",
        "folders": [f"{folder}/data"],
        "former": "old",
        "fresh": False,
        "given": [],
        "group": "etcd",
        "host": host,
        "kept": False,
        "key": f"{folder}/a.key",
        "leaves": [{"policy": "p", "key": f"{folder}/a.key", "certificate": f"{folder}/new.crt"}],
        "not_before": "2026-11-24 10:15:00",
        "requests": {"etcd_ha_main_server_etcd1.example.com": PEM},
        "keys": 5,
        "keysize": 256,
        "kinds": ["ufw"],
        "lost": ["etcd3.example.com"],
        "member": "etcd1",
        "member_id": "8211f1d0f64f3269",
        "members": {},
        "minion": HOST,
        "name": "etcd4",
        "need": {"uses": ["serverAuth"], "names": ["IP:192.168.200.52"], "nameless": False},
        "new": f"{folder}/new",
        "new_certificate": f"{folder}/b.crt",
        "new_key": f"{folder}/b.key",
        "old": f"{folder}/old",
        "pairs": {},
        "password": None,
        "password_pillar": None,
        "path": f"{folder}/file",
        "peer_urls": ["https://192.168.200.62:2380"],
        "peer_url": "https://192.168.200.64:2380",
        "permissions": [{"prefix": "/a", "access": "read"}],
        "phase": "",
        "pillar": None,
        "places": {HOST: [f"{folder}/data", ""]},
        "policy": "etcd_ha_main_server_x",
        "port": 4510,
        "ports": [2379],
        "haproxy_on": ["lb.example.com"],
        "prefix": False,
        "program": f"{folder}/etcd",
        "programs": ["etcd"],
        "purge": False,
        "reason": "disk swap",
        "record": f"{folder}/main.json",
        "release": "3.6.14",
        "replace": True,
        "restart_before": 0,
        "revision": 5,
        "role": "app",
        "roles": ["app"],
        "rules": [{"port": 2380, "sources": ["192.168.200.52"], "why": "etcd peers"}],
        "s3": False,
        "schedule": "daily",
        "secret": False,
        "sha256": "0" * 64,
        "source": HOST,
        "start_timeout": 3,
        "successor": "etcd2",
        "sums_url": "https://mirror/SHA256SUMS",
        "survivor": "",
        "take": True,
        "test": False,
        "timeout": 3,
        "token": "main-restored-1",
        "unit": "etcd.service",
        "until": "",
        "url": "https://mirror/etcd.tar.gz",
        "usable": False,
        "user": "app",
        "value": "1",
        "value_pillar": None,
        "version": "3.6.14",
        "voter": True,
        "wal_dir": "",
        "wal_dirs": [f"{folder}/wal"],
        "wanted": None,
        "whole": False,
        "why": "removed",
        ("verify", "endpoints"): ["https://192.168.200.56:2379"],
        ("verify", "name"): "main-20261124T101500Z-r4711",
        ("fetch", "name"): "main-20261124T101500Z-r4711",
        ("send", "name"): "main-20261124T101500Z-r4711",
        ("send", "certificate"): PEM,
        ("trusted", "source"): None,
        ("applied", "source"): "0" * 64,
        ("key_present", "key"): "/app/a",
        ("key_absent", "key"): "/app/a",
        ("signing_policies", "pillar"): PILLAR,
    }


class Touched(BaseException):
    """Something outside of the test's own folder would have been changed."""


def functions():
    return [
        pytest.param(face, name, id=f"{face.partition('/')[0]}.{name}")
        for face in FACES
        for name in public_functions(face)
    ]


TRIED = collections.Counter()


@pytest.fixture(scope="module", autouse=True)
def counted():
    yield
    print(f"\narguments tried: {sum(TRIED.values())}, by outcome: {dict(sorted(TRIED.items()))}")


@pytest.fixture
def sealed(tmp_path, monkeypatch):
    """A host on which nothing can be done: all programs fail, and are looked at."""
    seen = []

    def ran(command, *_, codes=(0,), **more):
        seen.append((list(command), more))
        if command[:2] == ["systemctl", "show"]:
            return Done(0, systemd_units.shown(systemd_units.DOWN), "")
        if 1 not in codes:
            raise ProgramError(command, "exit code 1: Error: refused", 1)
        return Done(1, "", "Error: refused")

    monkeypatch.setattr(etcd_ha_common_process, "run", ran)
    monkeypatch.setattr(etcd_ha_common_process, "started", ran)
    ahead(monkeypatch, etcd_ha_client, etcd_ha_data, etcd_ha_machine)
    for module, names in (
        (os, "rename replace unlink remove mkdir makedirs rmdir chmod chown symlink link open"),
        (shutil, "rmtree copytree move chown copy2"),
        (tempfile, "mkdtemp"),
    ):
        for name in names.split():
            guarded(monkeypatch, module, name, tmp_path)
    guarded_open(monkeypatch, tmp_path)
    for module, name, path in (
        (etcd_ha_machine, "MARK_FILE", "state/host.json"),
        (etcd_ha_progress, "FOLDER", "state/restore"),
        (etcd_ha_progress, "HELD", "state/restore/held"),
        (etcd_ha_progress, "RESTORE", "state/restore/restore.json"),
        (etcd_ha_progress, "RECOVER", "state/restore/recover.json"),
        (etcd_ha_progress, "CLOSED", "state/restore/closed.json"),
        (etcd_ha_host_record, "FOLDER", "state"),
        (etcd_ha_host_kept, "FOLDER", "state/kept"),
        (etcd_ha_host_in_force, "FILE", "state/in_force/host.json"),
        (etcd_ha_host_paused, "FILE", "state/paused/member.json"),
        (etcd_ha_host_paused, "UNITS", "units"),
        (etcd_ha_host, "BOOTSTRAP_FILE", "bootstrap.env"),
        (etcd_ha_client, "ENVIRONMENT_FILE", "etcd.env"),
    ):
        monkeypatch.setattr(module, name, f"{tmp_path}/{path}")
    environment = f'ETCD_NAME="etcd1"\nETCD_DATA_DIR="{tmp_path}/data"\n'
    environment += 'ETCD_LISTEN_CLIENT_URLS="https://127.0.0.1:2379"\n'
    (tmp_path / "etcd.env").write_text(environment)
    member = {"cluster": "main", "name": "etcd1", "config_dir": str(tmp_path), "ca": "x"}
    member |= {"unit": "etcd.service", "data_dir": f"{tmp_path}/data"}
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "host.json").write_text(json.dumps({"member": member}))
    monkeypatch.setattr(etcd_ha_client, "member_on_disk", lambda: dict(member))
    monkeypatch.setattr(etcd_ha_machine, "get", refused_by_network)
    monkeypatch.setattr(etcd_ha_machine, "post_often", refused_by_network)
    monkeypatch.setattr(etcd_ha_machine, "shake_hands", refused_by_network)
    monkeypatch.setattr(etcd_ha_delivery, "send", refused_by_network)
    monkeypatch.setattr(salt.utils.http, "query", lambda *a, **k: {"error": "refused"})
    monkeypatch.setattr(etcd_ha_data, "free", lambda folder: 1 << 40)
    return seen


def refused_by_network(*_, **__):
    raise ConnectionRefusedError("refused")


def guarded(monkeypatch, module, name, folder):
    real = getattr(module, name)

    def guard(*paths, **more):
        if name == "open" and not (len(paths) > 1 and paths[1] & (os.O_WRONLY | os.O_RDWR)):
            return real(*paths, **more)
        touched = [p for p in (*paths[:2], more.get("dir")) if isinstance(p, str)]
        if any(not path.startswith(str(folder)) for path in touched):
            raise Touched(f"{module.__name__}.{name}{touched}")
        return real(*paths, **more)

    monkeypatch.setattr(module, name, guard)


def guarded_open(monkeypatch, folder):
    real = builtins.open

    def guard(file, mode="r", *args, **more):
        inside = not isinstance(file, str) or file.startswith(str(folder))
        if set(mode) & set("wax+") and not inside:
            raise Touched(f"open {file}")
        return real(file, mode, *args, **more)

    monkeypatch.setattr(builtins, "open", guard)


class Salt(dict):
    """``__salt__``: what is asked by the faces, all of it without a deed."""

    def __init__(self, seen, host):
        super().__init__()
        self.seen = seen
        os_data = yaml.safe_load((ROOT / "etcd_ha" / "os" / "Debian.yaml").read_text())["os"]
        self.answers = {
            "etcd_ha.version": {"installed": "3.6.14", "running": ""},
            "etcd_ha.host": host,
            "etcd_ha.wanted_host": host,
            "etcd_ha.refusal": "",
            "etcd_ha.os_data": os_data,
            "etcd_ha.etcds": [],
            "etcd_ha.local_health": {"healthy": False, "error": "refused"},
            "etcd_ha.health": {"role": "member", "healthy": False, "error": "refused"},
            "etcd_ha.facts": {"etcd": {}},
            "etcd_ha.members": [],
            "etcd_ha.reason_to_stay": "refused",
            "etcd_ha.wanted_digest": "",
            "etcd_ha_auth.observed": {},
            "etcd_ha_maintenance.alarms": [],
            "file.user_to_uid": os.getuid(),
            "file.group_to_gid": os.getgid(),
            "x509.create_private_key": "key",
            "etcd_ha.modules_digest": "0" * 64,
        }

    def __contains__(self, name):
        return True

    def __missing__(self, name):
        def call(*arguments, **more):
            if name.startswith("cmd."):
                assert isinstance(arguments[0], list) and more.get("python_shell") is False
                self.seen.append((arguments[0], more))
                return {"retcode": 1, "stdout": "", "stderr": "refused"}
            if name == "cp.cache_file":
                return str(ROOT / arguments[0].removeprefix("salt://"))
            if name in self.answers:
                return copy.deepcopy(self.answers[name])
            if name.startswith(("etcd_ha_auth.", "etcd_ha_member.", "etcd_ha_maintenance.")):
                raise CommandExecutionError("refused by the test")
            if name.startswith(("x509.", "sdb.", "cp.", "publish.")):
                raise CommandExecutionError("refused by the test")
            raise AssertionError(f"{name} is asked")

        return call


class Cache(dict):
    def __init__(self, *_, **__):
        super().__init__()

    def store(self, bank, key, value):
        self.named(key)

    def fetch(self, bank, key):
        self.named(key)
        return {}

    def contains(self, bank, key):
        self.named(key)
        return False

    flush = fetch

    @staticmethod
    def named(key):
        """It is a file's name in the master's cache."""
        assert isinstance(key, str) and "/" not in key and key not in ("", ".", ".."), key


def lone_master(monkeypatch):
    """A master whom nobody answers."""
    monkeypatch.setattr(Master, "check_own_modules", lambda self: None)
    monkeypatch.setattr(Master, "source_digest", lambda self: "0" * 64)
    monkeypatch.setattr(Master, "modules_digest", lambda self: "0" * 64)
    monkeypatch.setattr(etcd_ha_peers, "refusal", lambda *_: "")
    monkeypatch.setattr(etcd_ha_minions, "facts", lambda *_: etcd_ha_minions.Facts({}))
    monkeypatch.setattr(etcd_ha_minions, "ask", lambda *_, **__: {})
    monkeypatch.setattr(etcd_ha_minions, "connected", lambda master, wanted: list(wanted))
    monkeypatch.setattr(etcd_ha_minions, "sync", lambda *_: None)


@pytest.fixture
def face(sealed, tmp_path, monkeypatch, defaults):
    """Call with a face's path: the face with nothing behind it."""
    clusters = etcd_ha_topology.read(copy.deepcopy(PILLAR), defaults)
    host = etcd_ha_host.describe(HOST, clusters.values(), "amd64")
    host["member"]["data_dir"] = f"{tmp_path}/data"
    host["member"]["record"] = f"{tmp_path}/main.json"
    monkeypatch.setattr(salt.cache, "Cache", Cache)

    def made(path):
        module = load(
            path.removesuffix(".py"),
            salt=Salt(sealed, host),
            opts={"test": False, "extension_modules": str(tmp_path), "id": HOST, "master": "m"},
            pillar={"etcd_ha": copy.deepcopy(PILLAR)},
            grains={"id": HOST, "os": "Debian", "os_family": "Debian", "osarch": "amd64"},
            context={"etcd_ha_pillar": PILLAR, "etcd_ha_yaml_etcd_ha/defaults.yaml": defaults},
        )
        ahead(monkeypatch, module)
        for name in ("BOOTSTRAP_FILE", "SNAPSHOTS"):
            if hasattr(module, name):
                setattr(module, name, f"{tmp_path}/{name}")
        if path.startswith("_runners"):
            lone_master(monkeypatch)
        if hasattr(module, "_compiled_pillar"):
            module._compiled_pillar = lambda: {"etcd_ha": copy.deepcopy(PILLAR)}
        module.good = {**good(tmp_path, host), "defaults": defaults}
        return module

    return made


def parameters(function):
    """Its parameters; ``kwargs`` is what Salt itself adds of who asks (``__pub_id``)."""
    found = inspect.signature(function).parameters.values()
    return [one.name for one in found if one.kind is not inspect.Parameter.VAR_KEYWORD]


def arguments(module, name):
    """The function, and an example of each of its parameters."""
    function = getattr(module, name)
    given = {}
    for parameter in parameters(function):
        known = module.good.get((name, parameter), module.good.get(parameter, KeyError))
        assert known is not KeyError, f"{name}: give GOOD an example of {parameter}"
        given[parameter] = copy.deepcopy(known)
    return function, given


def outcome(function, given):
    """What becomes of a call; anything but an answer or a sentence of Salt's own is raised."""
    try:
        found = function(**given)
    except (CommandExecutionError, SaltInvocationError, salt.exceptions.NotImplemented) as err:
        told = str(err)
        assert len(told) > 10 and len(told) < 5000 and "Traceback" not in told, told
        return "refused" if isinstance(err, SaltInvocationError) else "failed"
    if isinstance(found, dict) and "comment" in found and "result" in found:
        assert found["result"] in (True, False, None) and isinstance(found["changes"], dict)
        return "state failed" if found["result"] is False else "state passed"
    return "returned"


def harmless(seen):
    """No program was given a word that it takes for an option, or that no program can be given."""
    for command, more in seen:
        assert all(isinstance(word, str) and "\0" not in word for word in command), command
        assert not more.get("shell"), command
        options = command[1 : command.index("--") if "--" in command else None]
        assert not {"--help", "-rf", "--x"} & set(options), command
        assert not any(len(word.encode("utf-8", "replace")) > 100_000 for word in command)


@pytest.mark.parametrize(("path", "name"), functions())
def test_a_good_call_comes_to_its_end(face, sealed, path, name):
    """The ground of the next test: on this sealed host, good arguments raise nothing odd."""
    function, given = arguments(face(path), name)
    outcome(function, given)
    harmless(sealed)


@pytest.mark.parametrize(("path", "name"), functions())
def test_a_strange_argument_is_a_sentence_and_no_deed(face, sealed, path, name):
    function, given = arguments(face(path), name)
    for parameter in given:
        for what, value in STRANGE.items():
            sealed.clear()
            try:
                TRIED[outcome(function, {**copy.deepcopy(given), parameter: value})] += 1
                harmless(sealed)
            except (Exception, Touched) as err:
                raise AssertionError(f"{name}({parameter} = {what}): {err!r}") from err


@pytest.mark.parametrize(
    ("path", "name", "change"),
    [
        ("_modules/etcd_ha_member.py", "set_aside", {"folders": ["/etc"]}),
        ("_modules/etcd_ha_member.py", "set_aside", {"folders": ["/var/lib/../lib"]}),
        ("_modules/etcd_ha_member.py", "snapshot", {"name": "../../../tmp/x"}),
        ("_modules/etcd_ha_member.py", "snapshot", {"cluster": "/tmp/x"}),
        ("_modules/etcd_ha_ca.py", "set_aside", {"directory": "/"}),
        ("_modules/etcd_ha_backup.py", "verify", {"name": "../../x-20261124T101500Z-r1"}),
        ("_modules/etcd_ha_backup.py", "fetch", {"name": "../../x-20261124T101500Z-r1"}),
        ("_runners/etcd_ha_record.py", "remember", {"cluster": "../../../tmp/x"}),
        ("_runners/etcd_ha_record.py", "remember", {"former": "../x"}),
        ("_runners/etcd_ha_record.py", "forget", {"cluster": "../x"}),
        ("_runners/etcd_ha_backups.py", "backup", {"cluster": None}),
        ("_modules/etcd_ha_member.py", "enter", {"usable": "False"}),
        ("_modules/etcd_ha_auth.py", "set_user", {"password": "hunter2 planted"}),
    ],
)
def test_what_would_lead_astray_is_refused(face, sealed, path, name, change):
    function, given = arguments(face(path), name)
    with pytest.raises((SaltInvocationError, salt.exceptions.NotImplemented)) as caught:
        function(**{**given, **change})
    assert "hunter2" not in str(caught.value)
    assert sealed == []


@pytest.mark.parametrize(
    ("path", "name", "change"),
    [
        ("_states/etcd_ha.py", "running", {"action": "reboot"}),
        ("_states/etcd_ha.py", "installed", {"archive": "../../x"}),
        ("_states/etcd_ha_backup.py", "timer_kept", {"schedule": "daily\nExecStart=/bin/id"}),
        ("_states/etcd_ha_backup.py", "timer_kept", {"cluster": "x\nOnCalendar=*-*-*"}),
        (
            "_states/etcd_ha_firewall.py",
            "ufw",
            {"rules": [{"port": 1, "sources": ["any"], "why": "x"}]},
        ),
    ],
)
def test_a_state_fails_before_it_does_anything(face, sealed, path, name, change):
    function, given = arguments(face(path), name)
    ret = function(**{**given, **change})
    assert ret["result"] is False and ret["changes"] == {} and next(iter(change)) in ret["comment"]
    assert sealed == []


def test_an_id_of_digits_alone_is_a_number_on_the_command_line(face, monkeypatch):
    module = face("_modules/etcd_ha_member.py")
    entry = {"id": "1234567890123456", "name": "x", "learner": False, "client_urls": []}
    monkeypatch.setattr(etcd_ha_client, "members", lambda *a: [entry])
    with pytest.raises(CommandExecutionError, match="not taken out"):
        module.remove(1234567890123456)


def test_every_parameter_has_a_kind():
    for face_ in FACES:
        module = load(face_.removesuffix(".py"))
        for name in public_functions(face_):
            for parameter in parameters(getattr(module, name)):
                known = {*etcd_ha_arguments.PARAMETERS, "member", "value"}
                assert parameter in known, f"{face_}: {name}({parameter})"


def test_each_kind_can_tell_good_from_bad(tmp_path):
    """A kind that takes everything, or nothing, would prove nothing above."""
    for name, (is_good, _) in etcd_ha_arguments.KINDS.items():
        if name in ("value", "any", "mapping", "list"):
            continue
        assert sum(map(bool, (is_good(value) for value in STRANGE.values()))) < 12, name
    for name, value in good(tmp_path, {"member": None, "balancer": None}).items():
        if isinstance(name, str) and name in etcd_ha_arguments.PARAMETERS:
            assert etcd_ha_arguments.fault({name: value}) == "", name


def test_errors_of_etcdctl_are_shown_as_sentences(sealed):
    with pytest.raises(etcd_ha_etcdctl.EtcdctlError, match="gave no JSON"):
        etcd_ha_etcdctl.call(["get", "x"], {}).json()
