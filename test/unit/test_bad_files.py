"""Files that hold something else than they should: told in a sentence, or a reason for caution."""

import collections
import datetime
import json
import pathlib
import random
import struct
import time

import etcd_files
import etcd_ha_backup
import etcd_ha_backup_files
import etcd_ha_backup_job
import etcd_ha_client
import etcd_ha_common_certificate_checks as checks
import etcd_ha_common_process
import etcd_ha_database
import etcd_ha_environment
import etcd_ha_etcd_log
import etcd_ha_etcdctl
import etcd_ha_host_record
import etcd_ha_journal
import etcd_ha_log
import etcd_ha_machine
import etcd_ha_mark
import etcd_ha_pem
import etcd_ha_progress
import etcd_ha_release
import etcd_ha_s3
import etcd_ha_snapshot
import etcd_ha_survivor
import pytest
from etcd_ha_common_process import Done, ProgramError, ProgramMissing, ProgramTimeout, TooMuchOutput
from hypothesis import given, settings
from hypothesis import strategies as st

MARK = {
    "digest": "0" * 64,
    "source": "1" * 64,
    "files": {"/etc/default/etcd": "2" * 64},
    "expires": {"/etc/etcd/pki/server.crt": "2027-01-02 03:04:05"},
    "member": {
        "cluster": "main",
        "name": "etcd1",
        "unit": "etcd.service",
        "data_dir": "/var/lib/etcd",
        "config_dir": "/etc/etcd",
        "ca": "ca.example.com",
    },
    "balancer": {
        "cluster": "main",
        "kind": "haproxy",
        "url": "https://192.168.200.56:2379",
        "ca": None,
        "certificate": None,
        "key": None,
    },
}
NO_JSON = ["", "{", "null", "5", '"x"', "[]", "NaN", "\0", "[" * 100_000, "{" * 10, "größe"]
BYTES = [b"", b"\xff\xfe\x00", b"\x80" * 100, bytes(range(256)), b"\0" * 4096]
ODD = [None, 5, 1.5, True, "", "x", "9999-99-99 99:99:99", [], ["x"], {}, {"x": 5}, {"x": None}]

TRIED = collections.Counter()


@pytest.fixture(scope="module", autouse=True)
def counted():
    yield
    print(f"\nodd files tried: {sum(TRIED.values())}: {dict(sorted(TRIED.items()))}")


def places(value, path=()):
    yield path
    for key, part in value.items() if isinstance(value, dict) else ():
        yield from places(part, (*path, key))


def with_odd(value, path, odd):
    if not path:
        return odd
    return {**value, path[0]: with_odd(value[path[0]], path[1:], odd)}


# The mark


@pytest.fixture
def mark_file(tmp_path, monkeypatch):
    path = tmp_path / "host.json"
    monkeypatch.setattr(etcd_ha_machine, "MARK_FILE", str(path))
    return path


def test_a_good_mark_is_read(mark_file):
    mark_file.write_text(json.dumps(MARK))
    assert etcd_ha_mark.read() == MARK
    mark_file.write_text("{}")
    assert etcd_ha_mark.read() == {}


@pytest.mark.parametrize("text", NO_JSON, ids=lambda text: text[:10])
def test_a_mark_that_is_none_counts_as_missing(mark_file, text):
    mark_file.write_text(text)
    assert etcd_ha_mark.read() == {}


def test_a_mark_with_anything_odd_counts_as_missing_or_is_usable(mark_file):
    """The functions that lean on it get what they index, or nothing."""
    for path in places(MARK):
        for odd in ODD:
            mark_file.write_text(json.dumps(with_odd(MARK, path, odd)))
            found = etcd_ha_mark.read()
            TRIED["mark"] += 1
            etcd_ha_machine.changed_files(found.get("files", {}))
            etcd_ha_machine.days_left(found.get("expires", {}))
            for part, names in (("member", "cluster config_dir ca"), ("balancer", "cluster kind")):
                assert all(isinstance(found[part][n], str) for n in names.split() if part in found)


def test_a_mark_that_lacks_a_part_of_a_member_counts_as_missing(mark_file):
    for name in MARK["member"]:
        less = {key: value for key, value in MARK["member"].items() if key != name}
        mark_file.write_text(json.dumps({**MARK, "member": less}))
        assert etcd_ha_mark.read() == {}


# The record of a bootstrap, and what a restore wrote down


@pytest.mark.parametrize("content", [*[text.encode() for text in NO_JSON], *BYTES, b'{"state": 5}'])
def test_a_record_that_cannot_be_read_still_forbids_a_bootstrap(tmp_path, monkeypatch, content):
    (tmp_path / "main.json").write_bytes(content)
    monkeypatch.setattr(etcd_ha_machine, "MARK_FILE", str(tmp_path / "host.json"))
    monkeypatch.setattr(etcd_ha_host_record, "FOLDER", str(tmp_path))
    found = etcd_ha_host_record.read()
    assert found == {"cluster": "main", "state": "bootstrapped"}
    TRIED["record"] += 1


@pytest.fixture
def progress(tmp_path, monkeypatch):
    for name in ("RESTORE", "RECOVER", "CLOSED"):
        monkeypatch.setattr(etcd_ha_progress, name, str(tmp_path / f"{name.lower()}.json"))
    return tmp_path


@pytest.mark.parametrize("name", ["restore", "recover", "closed"])
@pytest.mark.parametrize(
    "content", [*[t.encode() for t in NO_JSON], *BYTES, b'{"phase": "x"}', b'{"phase": 5}', b"{}"]
)
def test_progress_that_cannot_be_read_is_of_something_begun(progress, name, content):
    path = progress / f"{name}.json"
    path.write_bytes(content)
    assert etcd_ha_progress.read(str(path)) == {}
    assert etcd_ha_progress.unfinished() == ("recover" if name == "recover" else "restore")
    TRIED["progress"] += 1


def test_nothing_was_begun_where_there_is_no_file(progress):
    assert etcd_ha_progress.unfinished() == ""


@pytest.mark.parametrize("phase", ["x", 5, None, ["done"], {}])
def test_a_phase_that_is_none_was_never_passed(phase):
    assert not etcd_ha_progress.has_passed({"token": "t", "phase": phase}, "t", "staged")


# The environment files


@pytest.mark.parametrize("content", [*BYTES, b"A", b"=", b'A="', b'A="x', b"A=\\", b"# x", b'"="'])
def test_an_environment_file_is_read_line_by_line(tmp_path, monkeypatch, content):
    path = tmp_path / "etcd"
    path.write_bytes(content + b'\nETCD_NAME="etcd1"\nETCD_LISTEN_CLIENT_URLS="http://[::1"\n')
    monkeypatch.setattr(etcd_ha_client, "ENVIRONMENT_FILE", str(path))
    assert etcd_ha_client.configured()["ETCD_NAME"] == "etcd1"
    assert etcd_ha_etcdctl.read_environment(str(path))["ETCD_NAME"] == "etcd1"
    (tmp_path / "etcdctl.env").write_bytes(
        content + b'\nETCDCTL_ENDPOINTS="http://[x,http://b:1"\n'
    )
    assert etcd_ha_client.others({"config_dir": str(tmp_path)}) == "http://[x,http://b:1"
    TRIED["environment"] += 1


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(text=st.text())
def test_any_text_is_an_environment_file(text):
    found = etcd_ha_environment.parse_file(text)
    assert all(isinstance(value, str) for value in found.values())


# Backups


SIDECAR = {
    "name": "main-20261124T101500Z-r4711",
    "cluster": "main",
    "when": "2026-11-24T10:15:00Z",
    "revision": 4711,
    "verified": True,
    "size": 32,
    "keys": 3,
    "sha256": "0" * 64,
    "version": "3.6.14",
    "member": "etcd1",
    "members": ["etcd1"],
    "cluster_id": "a",
}


@pytest.fixture
def backups(tmp_path):
    (tmp_path / f"{SIDECAR['name']}.db").write_bytes(b"x" * 32)
    return tmp_path


def listing(folder):
    return etcd_ha_backup_files.listing(str(folder), "main")


def test_a_backup_with_its_sidecar_is_verified(backups):
    (backups / f"{SIDECAR['name']}.json").write_text(json.dumps(SIDECAR))
    assert listing(backups) == [etcd_ha_backup.Backup.of(SIDECAR)]


@pytest.mark.parametrize("content", [*[text.encode() for text in NO_JSON], *BYTES])
def test_a_sidecar_that_is_none_verifies_nothing(backups, content):
    (backups / f"{SIDECAR['name']}.json").write_bytes(content)
    assert [one.verified for one in listing(backups)] == [False]


def test_a_sidecar_with_anything_odd_verifies_nothing_or_is_usable(backups):
    for name in SIDECAR:
        for odd in ODD:
            (backups / f"{SIDECAR['name']}.json").write_text(json.dumps({**SIDECAR, name: odd}))
            for one in listing(backups):
                TRIED["sidecar"] += 1
                assert one.name == SIDECAR["name"] and isinstance(one.revision, int)
                assert one.taken and json.dumps(one.sidecar)


@pytest.mark.parametrize(
    "name",
    [
        "../main-20261124T101500Z-r1.db",
        "main-20261124T101500Z-r.db",
        "main-99999999T999999Z-r1.db",
        "main-20261124T101500Z-r" + "9" * 200 + ".db",
        "-20261124T101500Z-r1.db",
        "a\nb-20261124T101500Z-r1.db",
        "main-\uff12\uff10261124T101500Z-r1.db",
    ],
)
def test_a_name_that_is_no_backup_s_is_passed_over(name):
    assert etcd_ha_backup.Backup.named(name.removesuffix(".db")) is None


@pytest.mark.parametrize("text", [*NO_JSON, "{}", '{"cluster": 5}', '{"directory": "/x"}'])
def test_settings_of_backups_that_are_none_name_the_cure(tmp_path, text):
    (tmp_path / "backup.json").write_text(text)
    with pytest.raises(etcd_ha_backup_job.JobError, match=r"etcd_ha\.orch"):
        etcd_ha_backup_job.settings(str(tmp_path / "backup.json"))


S3 = {
    "bucket": "abc",
    "prefix": "etcd_ha",
    "provider": "Other",
    "region": "us-east-1",
    "endpoint": None,
    "credentials_file": None,
    "server_side_encryption": None,
    "kms_key": None,
    "ca_certificate": None,
    "timeout": 5,
}


@pytest.fixture
def store(monkeypatch):
    """A store in which rclone says this to a list, and that of a sidecar."""

    def made(listed, sidecar="{}"):
        def run(command, *_, **__):
            return Done(0, listed if "lsjson" in command else sidecar, "")

        monkeypatch.setattr(etcd_ha_common_process, "run", run)
        return etcd_ha_s3.Store("main", S3, {})

    return made


NAMED = [
    {"Name": f"{SIDECAR['name']}.db", "Size": 32},
    {"Name": f"{SIDECAR['name']}.json", "Size": 1},
]


@pytest.mark.parametrize(
    "text",
    [
        *[text for text in NO_JSON if text != "[]"],
        "<html>",
        "[5]",
        "[{}]",
        '[{"Name": 5, "Size": 1}]',
        '[{"Name": "a", "Size": "1"}]',
        '[{"Name": "a", "Size": null}]',
        '{"Name": "a"}',
        '[{"Name": ["a"], "Size": 1}]',
    ],
)
def test_a_list_of_rclone_s_that_is_none_is_told(store, text):
    with pytest.raises(etcd_ha_s3.S3Error, match="something else than a list of files"):
        store(text).listing()
    TRIED["lsjson"] += 1


@pytest.mark.parametrize(
    "text", [*NO_JSON, "{}", '{"name": 5}', json.dumps({**SIDECAR, "size": "x"})]
)
def test_a_sidecar_in_s3_verifies_a_backup_or_nothing(store, text):
    (found,) = store(json.dumps(NAMED), text).listing()
    assert found.verified is (text.startswith('{"name": "main')) and found.size == 32


def test_another_backup_s_sidecar_verifies_nothing(store):
    other = {**SIDECAR, "name": "main-20261125T101500Z-r4712"}
    (found,) = store(json.dumps(NAMED), json.dumps(other)).listing()
    assert found.verified is False and found.name == SIDECAR["name"]


@pytest.mark.parametrize("error", [ProgramTimeout, ProgramMissing, ProgramError, TooMuchOutput])
def test_an_rclone_that_cannot_be_used_is_told(monkeypatch, error):
    def run(command, *_, **__):
        raise error(command, "planted")

    monkeypatch.setattr(etcd_ha_common_process, "run", run)
    with pytest.raises(etcd_ha_s3.S3Error):
        etcd_ha_s3.Store("main", S3, {}).listing()


@pytest.mark.parametrize("content", [*[t.encode() for t in NO_JSON], *BYTES, b'{"access_key": 5}'])
def test_a_file_of_secrets_that_is_none_is_told_without_it(tmp_path, content):
    (tmp_path / "secrets").write_bytes(content)
    with pytest.raises(etcd_ha_s3.S3Error, match=r"etcd_ha\.orch") as caught:
        etcd_ha_s3.read_secrets(str(tmp_path / "secrets"))
    assert caught.value.__cause__ is None


# Releases, units, logs


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(text=st.text())
def test_any_text_is_a_list_of_checksums_that_lacks_ours(text):
    with pytest.raises(ValueError, match="does not list"):
        etcd_ha_release.listed(text, "etcd.tar.gz")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "etcd Version: ",
        "etcd Version: 3",
        "etcd Version: " + "9" * 5000,
        "sh: 1: not found",
        "etcd Version: x.y.z",
        "\ufffd",
    ],
)
def test_a_version_that_is_none_is_empty(text):
    assert etcd_ha_release.told(text) == ""


def test_a_version_has_a_packager_s_suffix_or_none():
    assert etcd_ha_release.told("etcd Version: 3.5.16+dfsg-1\nGit SHA: x") == "3.5.16"
    assert etcd_ha_release.told("etcd Version: 3.6.14\n") == "3.6.14"


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(text=st.text())
def test_any_journal_is_quoted_or_passed_over(text):
    assert isinstance(etcd_ha_etcd_log.decisive(text), str)
    assert etcd_ha_journal.leaderless_since(text) is None


# Certificates


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n" + "QUJD" * 5000 + "\n-----END CERTIFICATE-----\n",
        "\ud800",
        "\0" * 100,
    ],
)
def test_what_is_no_certificate_is_a_value_error(text):
    with pytest.raises(ValueError):
        etcd_ha_pem.bundle(text)
    assert etcd_ha_pem.signer(text, text) == ""
    raw = text.encode("utf-8", "surrogatepass")
    found = checks.faults(
        raw, raw, raw, checks.Need(), datetime.datetime.now(datetime.timezone.utc)
    )
    assert {one.part for one in found} == {checks.CERTIFICATE, checks.KEY, checks.CA}


# What etcd itself wrote: bits flipped, cut off


def broken(content, seed):
    """Some bytes changed, or something cut off."""
    chance = random.Random(seed)
    found = bytearray(content)
    for _ in range(chance.choice([1, 1, 3, 20])):
        at = chance.randrange(len(found))
        found[at] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, found[at] ^ (1 << chance.randrange(8))])
    if chance.random() < 0.3:
        del found[chance.randrange(len(found)) :]
    return bytes(found)


KEYS = [(etcd_files.revision(n), etcd_files.key_value(b"/%d" % n)) for n in range(2, 20)]
TOLD = {b"consistent_index": struct.pack(">Q", 41), b"storageVersion": b"3.6.0"}


def test_a_broken_database_is_told_and_read_in_no_time(tmp_path):
    """Also one whose pages lead in a circle, or to a page that the file does not have."""
    content = pathlib.Path(etcd_files.database(tmp_path / "good", KEYS, TOLD)).read_bytes()
    path, began = tmp_path / "db", time.monotonic()
    for seed in range(1500):
        path.write_bytes(broken(content, seed))
        for read in (etcd_ha_database.content, etcd_ha_database.count_keys):
            try:
                read(str(path))
                TRIED["database read"] += 1
            except etcd_ha_database.DatabaseError as err:
                TRIED["database refused"] += 1
                assert "is no database of etcd's" in str(err)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("target", [4, 5, 1 << 40])
def test_pages_that_lead_in_a_circle_are_seen(tmp_path, target):
    path = pathlib.Path(etcd_files.database(tmp_path / "db", KEYS, TOLD))
    content = bytearray(path.read_bytes())
    # Both children of the branch page lead to one page: to itself, twice to a leaf, or nowhere.
    at = 4 * etcd_files.PAGE
    content[at : at + etcd_files.PAGE] = etcd_files.branch(4, [(b"a", target)] * 40)
    path.write_bytes(content)
    with pytest.raises(etcd_ha_database.DatabaseError):
        etcd_ha_database.count_keys(str(path))


def test_a_broken_log_is_told_or_read_in_no_time(tmp_path):
    folder = tmp_path / "wal"
    etcd_files.log(
        folder,
        [etcd_files.metadata(1, 2), *(etcd_files.entry(2, n) for n in range(1, 30))],
        [etcd_files.metadata(1, 2), etcd_files.state(2, 29), etcd_files.snapshot(9, 2)],
    )
    names, began = sorted(folder.iterdir()), time.monotonic()
    good = [path.read_bytes() for path in names]
    for seed in range(1000):
        for path, content in zip(names, good, strict=True):
            path.write_bytes(broken(content, seed))
        try:
            etcd_ha_log.reach(str(folder))
            TRIED["log read"] += 1
        except etcd_ha_log.LogError:
            TRIED["log refused"] += 1
    assert time.monotonic() - began < 20


def test_a_number_without_an_end_is_no_reason_to_wait(tmp_path):
    folder, began = tmp_path / "wal", time.monotonic()
    folder.mkdir()
    size = 8 << 20
    (folder / "0-0.wal").write_bytes(struct.pack("<Q", size) + b"\xff" * size)
    with pytest.raises(etcd_ha_log.LogError):
        etcd_ha_log.reach(str(folder))
    assert time.monotonic() - began < 10


def test_evidence_of_what_is_broken_is_its_fault(tmp_path):
    place = tmp_path / "member"
    (place / "snap").mkdir(parents=True)
    (place / "snap" / "db").write_bytes(b"x" * 9000)
    etcd_files.log(place / "wal", [etcd_files.metadata(1, 2)])
    assert "is no database" in etcd_ha_survivor.evidence(str(tmp_path))["fault"]
    (place / "wal" / f"{9:016x}-{9:016x}.wal").mkdir()
    assert "cannot be read" in etcd_ha_survivor.evidence(str(tmp_path))["fault"]


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 511, 512 + 31])
def test_a_snapshot_that_is_cut_off_is_told(tmp_path, size):
    path = tmp_path / "x.db"
    path.write_bytes(b"x" * size)
    with pytest.raises(ValueError, match=r"cut off|corrupt"):
        etcd_ha_snapshot.verified_hash(str(path))
