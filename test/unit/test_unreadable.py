"""What cannot be read is not absent: each reader, with each way in which a disk fails."""

import builtins
import errno
import json
import os
import types

import etcd_ha_client
import etcd_ha_common_files
import etcd_ha_data
import etcd_ha_host_etcds
import etcd_ha_host_kept
import etcd_ha_host_move_data
import etcd_ha_host_proxies
import etcd_ha_host_record
import etcd_ha_host_tls_files
import etcd_ha_host_units
import etcd_ha_machine
import etcd_ha_mark
import etcd_ha_progress
import etcd_ha_survivor
import pytest
import systemd_units
from etcd_ha_common_errors import Failed
from etcd_ha_common_files import Malformed, Unreadable
from etcd_ha_master import RECORDS, Master
from faces import load
from salt.exceptions import CommandExecutionError

# A disk that errs, a right that is missing, a mount of NFS or FUSE whose server is gone.
ERRORS = [errno.EIO, errno.EACCES, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.ENOMEM]
NO_MAPPING = ["", "{", '{"state": "boot', "[]", "null", "5", "\0" * 64, '{"a": "\xff']


@pytest.fixture
def broken(monkeypatch):
    """Have every access to this path, and to what is below it, end with this error."""

    def made(path, number):
        for module, name in (
            (os, "stat"),
            (os, "lstat"),
            (os, "listdir"),
            (os, "scandir"),
            (os, "open"),
            (os, "readlink"),
            (builtins, "open"),
        ):
            monkeypatch.setattr(module, name, failing(getattr(module, name), str(path), number))

    return made


def failing(real, path, number):
    def guard(one, *args, **more):
        if isinstance(one, str) and (one == path or one.startswith(f"{path}/")):
            raise OSError(number, os.strerror(number), one)
        return real(one, *args, **more)

    return guard


READERS = {
    name: getattr(etcd_ha_common_files, name)
    for name in (
        "exists",
        "lexists",
        "is_directory",
        "is_file",
        "names",
        "text",
        "sha256",
        "mapping",
    )
}
ABSENT = {"names": [], "text": None, "sha256": "", "mapping": None}


@pytest.mark.parametrize("name", READERS)
def test_only_what_is_not_there_is_absent(tmp_path, name):
    (tmp_path / "file").write_text("{}")
    for path in (tmp_path / "absent", tmp_path / "file" / "below", tmp_path / "no" / "such"):
        assert READERS[name](str(path)) == ABSENT.get(name, False)


@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize("name", READERS)
def test_whatever_else_happens_is_an_error_that_names_the_path(tmp_path, broken, name, number):
    broken(tmp_path / "x", number)
    with pytest.raises(Unreadable, match=f"{tmp_path}/x cannot be read: {os.strerror(number)}"):
        READERS[name](str(tmp_path / "x"))


def test_links(tmp_path):
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    assert etcd_ha_common_files.lexists(str(tmp_path / "gone"))
    assert not etcd_ha_common_files.exists(str(tmp_path / "gone"))
    with pytest.raises(Unreadable, match="Too many levels"):
        etcd_ha_common_files.exists(str(tmp_path / "loop"))


@pytest.mark.parametrize("content", NO_MAPPING)
def test_half_a_record_is_broken_and_not_absent(tmp_path, content):
    (tmp_path / "x").write_text(content, encoding="latin-1")
    with pytest.raises(Malformed, match=f"{tmp_path}/x is broken"):
        etcd_ha_common_files.mapping(str(tmp_path / "x"))


# What is built on them


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host whose files are all below a folder, each there and good."""
    for module, name, path in (
        (etcd_ha_machine, "MARK_FILE", "state/host.json"),
        (etcd_ha_host_record, "FOLDER", "state"),
        (etcd_ha_progress, "RESTORE", "restore/restore.json"),
        (etcd_ha_progress, "RECOVER", "restore/recover.json"),
        (etcd_ha_progress, "CLOSED", "restore/closed.json"),
        (etcd_ha_client, "ENVIRONMENT_FILE", "etcd.env"),
        (etcd_ha_client, "UNIT_FILE", "etcd.service"),
        (etcd_ha_host_kept, "FOLDER", "kept"),
        (etcd_ha_host_proxies, "DPKG", "status"),
    ):
        monkeypatch.setattr(module, name, f"{tmp_path}/{path}")
    for folder in ("state", "restore", "data/member/wal", "data/member/snap", "units"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    record = {"cluster": "main", "state": "bootstrapped", "data_dir": f"{tmp_path}/data"}
    (tmp_path / "state" / "main.json").write_text(json.dumps(record))
    (tmp_path / "state" / "host.json").write_text("{}")
    (tmp_path / "data/member/wal/0.wal").write_text("log")
    (tmp_path / "etcd.env").write_text('ETCD_NAME="etcd1"\n')
    (tmp_path / "haproxy.cfg").write_text("frontend www\n")
    (tmp_path / "status").write_text("Package: x\n")
    return tmp_path


def moved(host):
    environment = {"ETCD_DATA_DIR": f"{host}/new"}
    return etcd_ha_host_move_data.moves({}, {"data_dir": f"{host}/data"}, environment)


PROBES = {
    "whether there is data": (
        "data",
        lambda host: etcd_ha_machine.holds_data([f"{host}/data"], []),
    ),
    "how far the data goes": ("data", lambda host: etcd_ha_survivor.evidence(f"{host}/data")),
    "where the data was": ("data", moved),
    "how large the data is": ("data/member", lambda host: etcd_ha_data.size(f"{host}/data")),
    "how much room there is": ("data", lambda host: etcd_ha_data.free(f"{host}/data")),
    "what others left": ("data", lambda host: etcd_ha_host_etcds._others(f"{host}/data")),
    "the host's records": ("state", lambda host: etcd_ha_host_record.read()),
    "the host's record": ("state/main.json", lambda host: etcd_ha_host_record.read()),
    "the mark": ("state/host.json", lambda host: etcd_ha_mark.read()),
    "whether a restore was begun": ("restore", lambda host: etcd_ha_progress.unfinished()),
    "how far it came": (
        "restore/restore.json",
        lambda host: etcd_ha_progress.read(etcd_ha_progress.RESTORE),
    ),
    "whether this is a member": ("etcd.env", lambda host: etcd_ha_client.configured()),
    "whether it is one by its files": ("etcd.env", lambda host: etcd_ha_client.member_on_disk()),
    "where its programs are": ("etcd.service", lambda host: etcd_ha_client.program("nothing")),
    "whom it trusts": ("ca.crt", lambda host: etcd_ha_client.trust(f"{host}/ca.crt")),
    "which CAs there are": ("ca.crt", lambda host: etcd_ha_client.authorities([f"{host}/ca.crt"])),
    "whether a former CA is trusted": (
        "ca.crt",
        lambda host: etcd_ha_client.bears_former(f"{host}/ca.crt"),
    ),
    "what changed": (
        "etcd.env",
        lambda host: etcd_ha_machine.changed_files({f"{host}/etcd.env": "0"}),
    ),
    "whose a file is": (
        "haproxy.cfg",
        lambda host: etcd_ha_host_kept.foreign([f"{host}/haproxy.cfg"], {}),
    ),
    "whether a package brought it": (
        "haproxy.cfg",
        lambda host: etcd_ha_host_proxies._is_packaged(f"{host}/haproxy.cfg"),
    ),
    "what packages brought": (
        "status",
        lambda host: etcd_ha_host_proxies._is_packaged(f"{host}/haproxy.cfg"),
    ),
    "which units there are": (
        "etc/systemd/system",
        lambda host: etcd_ha_host_units.etcds(str(host)),
    ),
}


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_that_cannot_read_is_an_error(host, broken, probe, number):
    path, ask = PROBES[probe]
    broken(host / path, number)
    with pytest.raises(Failed, match=f"{host}/{path}.*{os.strerror(number)}"):
        ask(host)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_process_that_cannot_be_looked_at_is_an_error(broken, number):
    broken("/proc/4711", number)
    for ask in (etcd_ha_machine.process_environment, etcd_ha_machine.process_program):
        with pytest.raises(Failed, match=r"/proc/4711/.* cannot be read"):
            ask(4711)
    with pytest.raises(Failed):
        etcd_ha_machine.pending(systemd_units.unit(pid=4711), "/usr/bin/etcd")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESRCH])
def test_one_that_has_ended_has_nothing(broken, number):
    broken("/proc/4711", number)
    assert etcd_ha_machine.process_environment(4711) == {}
    assert etcd_ha_machine.process_program(4711) == ""
    assert etcd_ha_machine.pending(systemd_units.unit(pid=4711), "/usr/bin/etcd") == []


def test_units_that_lead_nowhere_are_none(host):
    folder = host / "etc" / "systemd" / "system"
    folder.mkdir(parents=True)
    (folder / "loop.service").symlink_to("loop.service")
    (folder / "dir.service").mkdir()
    os.mkfifo(folder / "pipe.service")
    (folder / "gone.service").symlink_to("/nowhere")
    assert etcd_ha_host_units.etcds(str(host)) == []


# Records that are broken


@pytest.mark.parametrize("content", NO_MAPPING)
def test_a_broken_record_speaks_against_a_bootstrap(host, content):
    (host / "state" / "main.json").write_text(content, encoding="latin-1")
    assert etcd_ha_host_record.read() == {"cluster": "main", "state": "bootstrapped"}
    assert etcd_ha_host_record.of(f"{host}/state/main.json")["state"] == "bootstrapped"


@pytest.mark.parametrize("content", [*NO_MAPPING, '{"member": 5}', '{"balancer": {}}'])
def test_who_asks_what_a_host_is_is_told_that_nobody_knows(host, content):
    """The converge goes on, and writes the mark anew; no balancer is left open meanwhile."""
    (host / "state" / "host.json").write_text(content, encoding="latin-1")
    assert etcd_ha_client.mark() == {}
    module, member = load("_modules/etcd_ha"), load("_modules/etcd_ha_member")
    restore = load("_modules/etcd_ha_restore")
    for ask in (
        module.health,
        module.status,
        module.members,
        module.endpoints,
        module.certificates,
        lambda: module.verify(["https://10.0.0.1:2379"], "main"),
        lambda: member.retire_balancer("main"),
        lambda: restore._close_balancer("main", "t"),
    ):
        with pytest.raises(CommandExecutionError, match=r"host\.json is broken, so it is unknown"):
            ask()


def test_a_host_without_a_mark_has_no_part(host):
    (host / "state" / "host.json").unlink()
    assert load("_modules/etcd_ha").health()["role"] == "none"
    assert load("_modules/etcd_ha_member").retire_balancer("main") == {"stopped": False}


@pytest.mark.parametrize("name", ["RESTORE", "RECOVER"])
def test_broken_progress_is_neither_begun_anew_nor_passed_over(host, name):
    path = getattr(etcd_ha_progress, name)
    etcd_ha_progress.refuse_broken(path)
    with open(path, "w") as file:
        file.write('{"phase": "exch')
    assert etcd_ha_progress.unfinished()
    with pytest.raises(Failed, match="so it is unknown how far"):
        etcd_ha_progress.refuse_broken(path)


# The master's record


class Cache:
    """Salt's cache with this record; an exception is raised."""

    def __init__(self, found, there):
        self.found, self.there = found, there

    def fetch(self, bank, key):
        assert bank == RECORDS
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def contains(self, bank, key):
        return self.there


def recorded(found, there):
    master = Master({}, {})
    master.__dict__["cache"] = Cache(found, there)
    return master.record(types.SimpleNamespace(name="main", former=None))


@pytest.mark.parametrize(
    "found", [{}, None, [], "main", 5, OSError(5, "Input/output error"), ValueError("msgpack")]
)
def test_a_record_that_the_master_cannot_read_is_not_none(found):
    with pytest.raises(CommandExecutionError, match="the master's record of main cannot be read"):
        recorded(found, True)


def test_a_cluster_that_was_never_bootstrapped_has_no_record():
    assert recorded({}, False) == {}
    assert recorded({"cluster": "main"}, True) == {"cluster": "main"}


# States


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_no_new_ca_is_made_where_nobody_knows_whether_there_is_one(tmp_path, broken, number):
    states = load("_states/etcd_ha")
    key, certificate = f"{tmp_path}/pki/ca.key", f"{tmp_path}/pki/ca.crt"
    assert states.key_kept("x", key, certificate)["comment"] == "there is no CA yet"
    broken(tmp_path / "pki", number)
    told = states.key_kept("x", key, certificate)
    assert told["result"] is False and "it is unknown whether there is a CA" in told["comment"]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("kept", {"files": ["X/a"]}),
        ("applied", {"host": {"member": None, "balancer": None}, "files": ["X/a"]}),
        (
            "pair_in_use",
            {
                "certificate": "X/a",
                "key": "X/b",
                "new_certificate": "X/c",
                "new_key": "X/d",
                "ca": "X/e",
                "user": "etcd",
                "group": "etcd",
            },
        ),
        ("renamed", {"old": "X/a", "new": "X/b"}),
    ],
)
def test_a_state_that_cannot_read_is_a_failed_one_and_no_traceback(tmp_path, broken, name, given):
    broken(tmp_path / "x", errno.EIO)

    def at(value):
        if isinstance(value, list):
            return [at(one) for one in value]
        return value.replace("X", f"{tmp_path}/x") if isinstance(value, str) else value

    function = getattr(load("_states/etcd_ha"), name)
    told = function("x", **{key: at(value) for key, value in given.items()})
    assert told["result"] is False and told["changes"] == {}
    assert f"{tmp_path}/x" in told["comment"] and "Input/output error" in told["comment"]


# What was taken for "no"


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), False),
        (TimeoutError("timed out"), False),
        (OSError(errno.EHOSTUNREACH, "x"), False),
        (ConnectionResetError(errno.ECONNRESET, "x"), True),
    ],
)
def test_whether_somebody_listens_is_told_where_the_host_was_asked(monkeypatch, error, found):
    def refuses(*_):
        raise error

    monkeypatch.setattr(etcd_ha_machine.socket, "create_connection", refuses)
    assert etcd_ha_machine.listens("https://10.0.0.1:2379") is found


@pytest.mark.parametrize(
    "number", [errno.ENETUNREACH, errno.EPERM, errno.EACCES, errno.EMFILE, errno.EADDRNOTAVAIL]
)
def test_and_is_unknown_where_nobody_asked_it(monkeypatch, number):
    def refuses(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(etcd_ha_machine.socket, "create_connection", refuses)
    with pytest.raises(OSError, match=os.strerror(number)):
        etcd_ha_machine.listens("https://10.0.0.1:2379")


@pytest.mark.parametrize("content", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAA\n"])
def test_a_file_of_a_ca_without_one_is_no_absent_ca(host, content):
    path = host / "ca.crt"
    path.write_text(content)
    (row,) = etcd_ha_client.authorities([str(path)]).values()
    assert row["error"].startswith(f"{path} holds no certificate") and not row["authorities"]
    path.unlink()
    assert etcd_ha_client.authorities([str(path)]) == {}


@pytest.mark.parametrize(
    ("code", "body", "found"),
    [
        (200, '{"health":"true","reason":""}', True),
        (503, '{"health":"false","reason":"RAFT NO LEADER"}', False),
        (503, '{"health": "true"}', False),
        (200, "<html>welcome</html>", None),
        (404, "not found", None),
        (200, "", None),
    ],
)
def test_whether_it_reaches_a_quorum_is_etcds_own_word(monkeypatch, code, body, found):
    monkeypatch.setattr(etcd_ha_client, "_metrics_url", lambda timeout: "http://127.0.0.1:2381")
    monkeypatch.setattr(etcd_ha_machine, "get", lambda *_: (code, body))
    if found is None:
        with pytest.raises(Failed, match=r"reaches a quorum is unknown.*/health answers"):
            etcd_ha_client.votes()
    else:
        assert etcd_ha_client.votes() is found


class TestCertificatesInUse:
    """What is in use and cannot be read may be the very same as what users bring."""

    @pytest.fixture
    def pair(self, tmp_path):
        for name in ("new", "live"):
            (tmp_path / name).write_text("the same")
        return str(tmp_path / "new"), str(tmp_path / "live")

    def test_are_compared(self, pair):
        assert etcd_ha_host_tls_files.is_same(pair)

    @pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
    def test_an_unreadable_one_is_no_other_one(self, pair, monkeypatch, number):
        really = etcd_ha_machine.read_regular

        def read(path, most=-1):
            if path == pair[1]:
                raise OSError(number, os.strerror(number), path)
            return really(path, most)

        monkeypatch.setattr(etcd_ha_machine, "read_regular", read)
        with pytest.raises(Failed, match=f"{pair[1]} cannot be read"):
            etcd_ha_host_tls_files.is_same(pair)

    def test_what_is_absent_or_no_certificate_at_all_is_another_one(self, pair, tmp_path):
        (tmp_path / "live").unlink()
        assert not etcd_ha_host_tls_files.is_same(pair)
        (tmp_path / "live").mkdir()
        assert not etcd_ha_host_tls_files.is_same(pair)

    def test_a_key_of_unknown_rights_is_not_taken_for_a_closed_one(self, monkeypatch):
        def fails(path, *_, **__):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

        monkeypatch.setattr(os, "stat", fails)
        told = etcd_ha_host_tls_files._open_to_all("/x.key")
        monkeypatch.undo()
        assert len(told) == 1 and "is unknown" in told[0]
