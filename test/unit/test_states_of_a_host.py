"""The states of a host: what they changed is what they tell, and what fails is a failed state."""

import dataclasses
import os

import etcd_ha_client
import etcd_ha_common_systemd
import etcd_ha_faces
import etcd_ha_host_hidden
import etcd_ha_host_kept
import etcd_ha_host_owner
import etcd_ha_host_tls_files
import etcd_ha_machine
import etcd_ha_mark
import etcd_ha_progress
import pytest
import systemd_units
import tls_corpus
from etcd_ha_common_process import ProgramError
from faces import load
from salt.exceptions import CommandExecutionError, SaltInvocationError
from systemd_units import DOWN, UP

# The journal of every unit here.
LAST = '9999999999.5 etcd1 etcd[7]: {"level":"fatal","msg":"the last line"}'


def refusing(verb=""):
    """A systemd that carries out every order but those with this verb (without one: none)."""

    def systemctl(*words, **_):
        if not verb or verb in words:
            raise ProgramError(["systemctl", *words], "exit code 1: no", 1)

    return systemctl


@pytest.fixture
def member(tmp_path, monkeypatch):
    """``running`` on a host whose unit is in these states, one call after the other."""

    def made(units, test=False, serves=True, systemctl=lambda *_, **__: None, **salt):
        systemd_units.told(monkeypatch, *units)
        environment = {
            "ETCD_NAME": "etcd1",
            "ETCD_DATA_DIR": str(tmp_path / "data"),
            "ETCD_INITIAL_ADVERTISE_PEER_URLS": "https://192.168.200.52:2380",
        }
        monkeypatch.setattr(etcd_ha_common_systemd, "systemctl", systemctl)
        monkeypatch.setattr(etcd_ha_common_systemd, "journal", lambda *_, **__: LAST)
        monkeypatch.setattr(etcd_ha_machine, "process_environment", lambda pid: environment)
        monkeypatch.setattr(etcd_ha_machine, "pending", lambda *_: [])
        monkeypatch.setattr(etcd_ha_host_hidden, "look", lambda *_: {})
        monkeypatch.setattr(etcd_ha_progress, "FOLDER", str(tmp_path / "restore"))
        for name in ("RESTORE", "RECOVER", "CLOSED"):
            monkeypatch.setattr(etcd_ha_progress, name, str(tmp_path / "restore" / name))
        log = tmp_path / "data" / "member" / "wal"
        log.mkdir(parents=True, exist_ok=True)
        (log / "0.wal").write_text("log")
        own = {"cluster_id": "c1", "member_id": "m1"}
        monkeypatch.setattr(etcd_ha_faces, "member", dict)
        monkeypatch.setattr(etcd_ha_faces, "status", lambda *_: [own])
        monkeypatch.setattr(etcd_ha_client, "serving_endpoint", lambda: "")
        states = load("_states/etcd_ha", opts={"test": test})
        monkeypatch.setattr(states, "BOOTSTRAP_FILE", str(tmp_path / "bootstrap.env"))
        states.__salt__ = {
            "etcd_ha.local_health": lambda: {"healthy": serves},
            "etcd_ha.reason_to_stay": lambda: "",
            "etcd_ha.move_leader": lambda *_: "",
            "etcd_ha.facts": lambda: {"etcd": {}},
            "etcd_ha.refusal": lambda: "",
            "etcd_ha_member.enter": lambda *_, **__: {"keep": True, "initial_cluster": ""},
            "etcd_ha_member.promote": lambda *_: {"promoted": False, "lag": 0},
            "etcd_ha_member.update": lambda *_: False,
            "etcd_ha_member.set_aside": lambda *_: ["/aside"],
            **salt,
        }

        def run(action, **more):
            more = {"record": str(tmp_path / "main.json"), "start_timeout": 1, **more}
            told = states.running(
                "x", "etcd.service", "main", environment, "/opt/etcd", action=action, **more
            )
            return told

        return run

    return made


def failing(*_, **__):
    raise CommandExecutionError("etcd refuses. Look at: journalctl -u etcd")


def test_a_start_that_failed_is_no_change(member):
    run = member([DOWN], systemctl=refusing("start"))
    told = run("none")
    assert told["result"] is False and told["changes"] == {}
    assert "journalctl" in told["comment"] and "the last line" in told["comment"]


def test_a_restart_that_was_refused_is_no_change(member):
    run = member([UP], **{"etcd_ha.reason_to_stay": lambda: "only 1 is healthy"})
    told = run("restart", restart_before=200)
    assert told["result"] is False and told["changes"] == {}


def test_what_happened_before_the_failure_is_told(member):
    run = member([DOWN, UP], **{"etcd_ha_member.promote": failing})
    told = run("restart")
    assert told["result"] is False and set(told["changes"]) == {"enabled", "unit"}
    again = member([UP, dataclasses.replace(UP, pid=8)], **{"etcd_ha_member.promote": failing})
    assert set(again("restart", restart_before=200)["changes"]) == {"process"}


def test_data_that_was_set_aside_is_told_though_the_member_failed(member):
    enter = {"keep": False, "initial_cluster": "etcd1=https://192.168.200.52:2380"}
    enter |= {"cluster_id": "c1", "member_id": "m1"}
    run = member(
        [DOWN],
        systemctl=refusing("restart"),
        **{"etcd_ha_member.enter": lambda *_, **__: enter},
    )
    told = run("join")
    assert told["result"] is False and told["changes"]["data"]["new"] == ["/aside"]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), SaltInvocationError("name is ''")]
)
def test_whatever_goes_wrong_is_a_failed_state(member, error):
    def fails(*_, **__):
        raise error

    told = member([UP], **{"etcd_ha_member.update": fails})("restart")
    assert told["result"] is False and str(error) in told["comment"]
    told = member([DOWN], **{"etcd_ha.facts": failing})("join")
    assert told["result"] is False and "etcd refuses" in told["comment"]


@pytest.mark.parametrize("test", [True, False])
def test_a_member_that_does_not_serve_is_told_to_be_started_anew(member, test):
    health = iter([{"healthy": False}])
    run = member([UP], test, **{"etcd_ha.local_health": lambda: next(health, {"healthy": True})})
    told = run("join")
    assert told["result"] is (None if test else True)
    assert told["changes"] == {"process": {"old": "does not serve", "new": "started anew"}}


def test_what_the_cluster_was_told_is_a_change(member):
    promoted = {"promoted": True, "lag": 0}
    run = member(
        [UP],
        **{"etcd_ha_member.promote": lambda *_: promoted, "etcd_ha_member.update": lambda *_: True},
    )
    told = run("restart")
    assert set(told["changes"]) == {"member", "ETCD_INITIAL_ADVERTISE_PEER_URLS"}
    assert run("restart")["result"] is True


# Whose it is


def test_somebody_else_s_etcd_is_left_alone(member, tmp_path):
    for action in ("none", "restart", "join", "bootstrap", "hold"):
        run = member([UP], **{"etcd_ha.refusal": lambda: "an etcd is in the way"})
        told = run(action)
        assert (told["result"], told["changes"]) == (False, {})
        assert told["comment"] == "an etcd is in the way"
    assert not (tmp_path / "main.json").exists()


def record(tmp_path):
    return etcd_ha_machine.read_json(str(tmp_path / "main.json"))


def test_the_record_holds_the_ids_that_etcd_tells(member, tmp_path):
    assert member([UP])("restart")["result"] is True
    found = record(tmp_path)
    assert (found["state"], found["cluster_id"], found["member_id"]) == ("bootstrapped", "c1", "m1")
    assert found["data_dir"] == str(tmp_path / "data")


def test_a_highstate_writes_no_record(member, tmp_path):
    assert member([UP])("none")["result"] is True
    assert member([DOWN, UP])("none")["result"] is True
    assert record(tmp_path) == {}


def test_a_bootstrap_is_written_down_before_there_is_data(member, tmp_path):
    run = member([DOWN], systemctl=refusing("start"))
    assert run("bootstrap")["result"] is False
    found = record(tmp_path)
    assert (found["state"], found["data_dir"]) == ("bootstrapping", str(tmp_path / "data"))


def test_a_join_is_written_down_before_there_is_data(member, tmp_path):
    enter = {"keep": False, "initial_cluster": "x", "cluster_id": "c2", "member_id": "m2"}
    run = member(
        [DOWN],
        systemctl=refusing("restart"),
        **{"etcd_ha_member.enter": lambda *_, **__: enter},
    )
    assert run("join")["result"] is False
    assert (record(tmp_path)["cluster_id"], record(tmp_path)["member_id"]) == ("c2", "m2")


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A database of root's in a member's directory; ``given`` is what was asked for."""
    given = []
    path = str(tmp_path / "data" / "member" / "snap" / "db")
    places = [(str(tmp_path / "data"), "member")]

    def give(asked):
        given.extend(asked)
        return [path]

    monkeypatch.setattr(etcd_ha_host_owner, "wrong", lambda asked: [path] * (asked == places))
    monkeypatch.setattr(etcd_ha_host_owner, "give", give)
    return given, {"old": f"another user: {path}", "new": "etcd's user"}


@pytest.mark.parametrize("action", ["none", "restart", "join", "begin"])
def test_a_stopped_member_s_files_become_etcd_s_user_s(member, foreign, action):
    given, change = foreign
    told = member([DOWN, UP])(action)
    assert told["result"] is True and told["changes"]["owner"] == change and len(given) == 1


@pytest.mark.parametrize("action", ["none", "restart", "join"])
def test_files_that_would_become_etcd_s_user_s_are_told_in_a_test(member, foreign, action):
    given, change = foreign
    told = member([DOWN], test=True)(action)
    assert told["result"] is None and told["changes"]["owner"] == change and given == []


def test_files_that_became_etcd_s_user_s_are_told_though_the_start_failed(member, foreign):
    told = member([DOWN], systemctl=refusing("start"))("none")
    assert told["result"] is False and told["changes"] == {"owner": foreign[1]}


def test_files_that_cannot_be_given_to_etcd_s_user_start_nothing(member, monkeypatch):
    def fails(_):
        raise etcd_ha_host_owner.OwnerError("chown -R 900:900 /d, then run again")

    monkeypatch.setattr(etcd_ha_host_owner, "give", fails)
    orders = []
    told = member([DOWN], systemctl=lambda *words, **_: orders.append(words[0]))("restart")
    assert told["result"] is False and told["comment"] == "chown -R 900:900 /d, then run again"
    assert "start" not in orders and told["changes"] == {}


@pytest.mark.parametrize(
    ("units", "action", "reloads"),
    [([UP], "restart", True), ([DOWN, UP], "none", True), ([UP], "none", False)],
)
def test_a_start_puts_times_of_the_future_right_before_systemd_reads_them(
    member, monkeypatch, units, action, reloads
):
    """Otherwise the member would be restarted in every run."""
    seen = []
    monkeypatch.setattr(
        etcd_ha_machine, "put_times_right", lambda path, _: seen.append("times") or [path]
    )
    run = member(units, systemctl=lambda *words, **_: seen.append(words[0]))
    told = run(action, **({"restart_before": 200} if action == "restart" else {}))
    assert told["result"] is True, told
    assert ("check the clock" in told["comment"]) is reloads
    assert seen[:2] == (["times", "daemon-reload"] if reloads else [])


def test_the_files_of_a_running_member_are_not_looked_at(member, foreign):
    told = member([UP])("restart")
    assert told["result"] is True and told["changes"] == {} and foreign[0] == []


# Copies of what others left


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(etcd_ha_host_kept, "FOLDER", str(tmp_path / "kept"))
    monkeypatch.setattr(etcd_ha_machine, "MARK_FILE", str(tmp_path / "host.json"))
    return lambda *paths, test=False: load("_states/etcd_ha", opts={"test": test}).kept(
        "x", [str(path) for path in paths]
    )


def copies(tmp_path):
    return [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]


def test_what_others_left_is_kept_once(kept, tmp_path):
    file = tmp_path / "etcd.service"
    file.write_text("[Service]\nExecStart=/usr/bin/etcd\n")
    file.chmod(0o640)
    assert kept(file, test=True)["result"] is None and copies(tmp_path) == []
    assert set(kept(file)["changes"]) == {str(file)}
    (copy,) = copies(tmp_path)
    assert copy.read_text() == file.read_text() and copy.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700
    assert kept(file)["changes"] == {} and len(copies(tmp_path)) == 1


def test_the_content_behind_a_link_is_kept(kept, tmp_path):
    """A state writes to where the link leads."""
    (tmp_path / "theirs.conf").write_text("theirs")
    (tmp_path / "etcd").symlink_to("theirs.conf")
    assert kept(tmp_path / "etcd")["changes"]
    (copy,) = copies(tmp_path)
    assert copy.read_text() == "theirs" and not copy.is_symlink()
    assert kept(tmp_path / "etcd")["changes"] == {}


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_what_is_ours_is_not_kept(kept, tmp_path, umask):
    before = os.umask(umask)
    try:
        marked, headed = tmp_path / "marked", tmp_path / "headed"
        marked.write_text("a")
        headed.write_text("# Kept by Salt (etcd_ha). More.\n")
        (tmp_path / "mask").symlink_to("/dev/null")
        mark = {"digest": "d", "files": {str(marked): "0" * 64}}
        etcd_ha_machine.write_json(str(tmp_path / "host.json"), mark)
        assert kept(marked, headed, tmp_path / "mask", tmp_path / "absent")["changes"] == {}
        assert copies(tmp_path) == []
    finally:
        os.umask(before)


def test_a_program_of_others_is_kept_where_a_link_takes_its_place(host, tmp_path, monkeypatch):
    monkeypatch.setattr(etcd_ha_host_kept, "FOLDER", str(tmp_path / "kept"))
    release, bin_dir = tmp_path / "etcd" / "3.6.14", tmp_path / "bin"
    for folder in (release, bin_dir):
        folder.mkdir(parents=True)
        (folder / "etcd").write_text(folder.name)
        (folder / "etcd").chmod(0o755)
    current = str(tmp_path / "etcd" / "current")
    told = host().switched("x", str(release), current, str(bin_dir), ["etcd"])
    assert told["result"] is True and "kept" in told["comment"]
    assert [copy.read_text() for copy in copies(tmp_path)] == ["bin"]
    assert (bin_dir / "etcd").read_text() == "3.6.14"
    # From one release of ours to the next, nothing is.
    other = tmp_path / "etcd" / "3.6.15"
    other.mkdir()
    (other / "etcd").write_text("x")
    (other / "etcd").chmod(0o755)
    assert host().switched("x", str(other), current, str(bin_dir), ["etcd"])["result"] is True
    assert len(copies(tmp_path)) == 1


# Files


@pytest.fixture
def host(tmp_path):
    """The states on a host with root's files belonging to who runs the test."""

    def made(test=False, **salt):
        ids = {"file.user_to_uid": lambda name: os.getuid(), "file.group_to_gid": lambda n: 0}
        ids["x509.create_private_key"] = lambda **_: "key"
        ids["etcd_ha.refusal"] = lambda: ""
        ids["etcd_ha.wanted_digest"] = ids["etcd_ha.modules_digest"] = lambda: "hash"
        return load("_states/etcd_ha", opts={"test": test}, salt={**ids, **salt})

    made.folder = tmp_path
    return made


def pair(host, test=False, **salt):
    folder = str(host.folder)
    return host(test, **salt).pair_in_use(
        "x",
        f"{folder}/a.crt",
        f"{folder}/a.key",
        f"{folder}/new.crt",
        f"{folder}/new.key",
        f"{folder}/ca.crt",
        "etcd",
        "etcd",
    )


def test_a_pair_that_is_yet_to_come_is_told_in_the_same_words(host, monkeypatch):
    monkeypatch.setattr(etcd_ha_host_tls_files, "faults", lambda *_: [])
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    (host.folder / "a.crt").write_text("old")
    foreseen = pair(host, test=True)
    assert foreseen["result"] is None and "would be put in use" in foreseen["comment"]
    for name in ("new.crt", "new.key"):
        (host.folder / name).write_text("new")
    assert pair(host, test=True)["changes"] == foreseen["changes"]
    done = pair(host)
    assert done["result"] is True and done["changes"] == foreseen["changes"]


def test_a_pair_that_is_missing_says_what_to_do(host):
    told = pair(host)
    assert told["result"] is False and "run again" not in told["name"]
    assert "come first" in told["comment"] and told["changes"] == {}


@pytest.mark.parametrize("unknown", ["file.user_to_uid", "file.group_to_gid"])
def test_a_pair_for_nobody_is_a_failed_state(host, monkeypatch, unknown):
    monkeypatch.setattr(etcd_ha_host_tls_files, "faults", lambda *_: [])
    for name in ("new.crt", "new.key"):
        (host.folder / name).write_text("new")
    told = pair(host, **{unknown: lambda name: ""})
    assert told["result"] is False and "no user etcd or no group etcd" in told["comment"]
    assert not (host.folder / "a.key").exists()
    foreseen = pair(host, test=True, **{unknown: lambda name: ""})
    assert foreseen["result"] is None, "the user may be made by an earlier state"


def test_what_the_disk_refuses_is_a_failed_state(host, monkeypatch):
    monkeypatch.setattr(etcd_ha_host_tls_files, "faults", lambda *_: [])
    folder = host.folder
    (folder / "file").write_text("")
    for name in ("new.crt", "new.key"):
        (folder / name).write_text("new")

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    release = {"url": "https://mirror/a", "sums_url": "https://mirror/b", "programs": ["etcd"]}
    release |= {"version": "3.6.14", "archive": "a.tar.gz", "folder": "a"}
    with monkeypatch.context() as context:
        for name in ("replace", "rename", "mkdir", "makedirs"):
            context.setattr(os, name, refuse)
        context.setattr(os, "access", lambda path, mode: "3.6.14" not in path)
        states = host()
        told = [
            states.installed("x", dir=f"{folder}/3.6.14", **release),
            states.switched("x", str(folder), f"{folder}/now", f"{folder}/bin", ["etcd"]),
            states.key_made("x", f"{folder}/new.key"),
            pair(host),
            states.renamed("x", f"{folder}/file", f"{folder}/other"),
        ]
    for one in told:
        assert one["result"] is False and one["changes"] == {}
        assert "Read-only file system" in one["comment"]


def test_links_that_were_put_in_use_are_told_though_one_failed(host, monkeypatch):
    folder = host.folder
    (folder / "etcd").write_text("")
    (folder / "etcd").chmod(0o755)
    (folder / "bin" / "etcd").mkdir(parents=True)
    told = host().switched("x", str(folder), f"{folder}/now", f"{folder}/bin", ["etcd"])
    assert told["result"] is False and "bin/etcd" in told["comment"]
    assert told["changes"] == {}, "the programs come before the link that they follow"


def test_a_key_that_cannot_be_made_is_a_failed_state(host):
    told = host(**{"x509.create_private_key": failing}).key_made("x", f"{host.folder}/a.key")
    assert told["result"] is False and told["changes"] == {}


def test_a_mark_that_cannot_be_written_is_a_failed_state(host, monkeypatch):
    wanted = {"member": None, "balancer": None}
    monkeypatch.setattr(etcd_ha_mark, "read", lambda: {})
    monkeypatch.setattr(etcd_ha_machine, "MARK_FILE", "/dev/null/host.json")
    told = host().applied("x", wanted)
    assert told["result"] is False and "nothing was written down" in told["comment"]


# Certificates that users bring: what is bad never takes the place of what works


def brought(host, files, name="new"):
    """A pair lies there as a file each."""
    for end, text in zip((".crt", ".key"), files, strict=False):
        (host.folder / f"{name}{end}").write_bytes(text)
        (host.folder / f"{name}{end}").chmod(0o600)


def in_force(host, authority):
    """A good pair is in use, and its CA is trusted; its files' contents."""
    files = tls_pair(authority)
    (host.folder / "ca.crt").write_bytes(files[2])
    brought(host, files, "a")
    return files


def tls_pair(authority, **more):
    own = tls_corpus.key()
    leaf = authority.leaf(own, san=("IP:10.0.0.1",), **more)
    pem = tls_corpus.pem
    return pem(leaf), tls_corpus.key_pem(own), pem(authority.certificate)


NEED = {"uses": ["serverAuth", "clientAuth"], "names": ["IP:10.0.0.1"]}


def use(host, test=False, **more):
    folder = str(host.folder)
    live = f"{folder}/a.crt", f"{folder}/a.key"
    new = f"{folder}/new.crt", f"{folder}/new.key"
    given = {"need": NEED, **more}
    return host(test).pair_in_use("x", *live, *new, f"{folder}/ca.crt", "etcd", "etcd", **given)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"ends": tls_corpus.NOW - tls_corpus.HOUR}, "has expired"),
        ({"begins": tls_corpus.NOW + tls_corpus.HOUR}, "is not valid yet"),
        ({"uses": (tls_corpus.SERVER,)}, "lacks the extended key usage clientAuth"),
        ({"aki": None}, "authorityKeyIdentifier"),
    ],
)
@pytest.mark.parametrize("kept", [False, True])
def test_a_bad_pair_never_takes_the_place_of_one_in_use(host, monkeypatch, wrong, says, kept):
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    authority = tls_corpus.Authority()
    before = in_force(host, authority)
    bad = {"begins": tls_corpus.NOW - 9 * tls_corpus.DAY, **wrong}
    brought(host, tls_pair(authority, **bad))
    told = use(host, kept=kept)
    assert told["result"] is kept and told["changes"] == {}
    assert str(host.folder / "new.crt") in told["comment"] and says in told["comment"]
    assert (host.folder / "a.crt").read_bytes() == before[0]
    assert bool(told.get("warnings")) is kept


def test_a_bad_pair_is_not_placed_on_a_blank_host_either(host):
    authority = tls_corpus.Authority()
    files = tls_pair(authority, ends=tls_corpus.NOW - tls_corpus.DAY / 1000)
    (host.folder / "ca.crt").write_bytes(files[2])
    brought(host, files)
    for kept in (False, True):
        told = use(host, kept=kept)
        assert told["result"] is False and "has expired" in told["comment"]
        assert not (host.folder / "a.crt").exists()


def test_a_highstate_leaves_a_good_pair_to_the_orchestrate(host, monkeypatch):
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    authority = tls_corpus.Authority()
    before, new = in_force(host, authority), tls_pair(authority)
    brought(host, new)
    for test in (True, False):
        told = use(host, test, kept=True)
        assert told["result"] is True and told["changes"] == {} and "pending" in told["comment"]
    assert (host.folder / "a.crt").read_bytes() == before[0]
    assert use(host)["result"] is True
    assert (host.folder / "a.crt").read_bytes() == new[0]
    assert (host.folder / "a.key").read_bytes() == new[1]
    assert "pending" not in use(host, kept=True)["comment"]


def test_the_first_pair_of_a_host_is_placed_by_whoever_comes_first(host, monkeypatch):
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    files = tls_pair(tls_corpus.Authority())
    (host.folder / "ca.crt").write_bytes(files[2])
    brought(host, files)
    assert use(host, kept=True)["result"] is True
    assert (host.folder / "a.crt").read_bytes() == files[0]


def test_a_source_that_is_gone_leaves_the_pair_in_use_to_a_highstate(host):
    before = in_force(host, tls_corpus.Authority())
    told = use(host, kept=True)
    assert told["result"] is True and "cannot be read" in told["comment"]
    assert use(host)["result"] is False
    assert (host.folder / "a.crt").read_bytes() == before[0]
