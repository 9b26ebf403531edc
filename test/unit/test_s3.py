"""The store for backups: what rclone is told, how, and what becomes of its answers."""

import hashlib
import json
import os

import etcd_ha_s3
import pytest
from etcd_ha_backup import Backup
from programs import program

# A folder in the place of a bucket; it notes down how it was called.
RCLONE = """
folder = os.environ["HOME"]
with open(f"{folder}/calls", "a") as log:
    log.write(json.dumps([sys.argv[1:], dict(os.environ)]) + "\\n")
command, *words = sys.argv[1:]
fault = open(f"{folder}/fault").read() if os.path.exists(f"{folder}/fault") else ""
at = lambda word: f"{folder}/bucket/" + word.partition(":")[2].replace("/", "_")
if fault == "refuse":
    sys.stderr.write("2026/11/24 10:22:59 ERROR : Attempt 1/2 failed\\n"
                     "2026/11/24 10:22:59 Failed to copyto: Forbidden: Forbidden\\n"
                     "\\tstatus code: 403, request id: AB\\ncaused by: nobody\\n")
    sys.exit(1)
if fault == "hang":
    time.sleep(60)
if command == "obscure":
    print("veiled-" + sys.stdin.read()[::-1])
elif command == "lsjson":
    if not os.listdir(f"{folder}/bucket"):
        sys.exit(3)
    sizes = {n: os.path.getsize(f"{folder}/bucket/{n}") for n in os.listdir(f"{folder}/bucket")}
    print(json.dumps([{"Name": n.rpartition("_")[2], "Size": size} for n, size in sizes.items()]))
elif command == "copyto":
    source, target = (at(w) if w.startswith(("store:", "sealed:")) else w for w in words)
    data = open(source, "rb").read()
    if fault == "flip":
        data = bytes([data[0] ^ 1]) + data[1:]
    if fault == "cut":
        data = data[:100]
    open(target, "wb").write(data)
elif command == "rcat":
    open(at(words[0]), "wb").write(sys.stdin.buffer.read())
elif command == "cat":
    sys.stdout.buffer.write(open(at(words[0]), "rb").read())
elif command == "deletefile":
    os.unlink(at(words[0]))
"""
S3 = {
    "bucket": "etcd-backups",
    "prefix": "etcd_ha",
    "endpoint": "https://s3.example.com",
    "region": "eu-west-1",
    "provider": "Other",
    "credentials_file": None,
    "server_side_encryption": "AES256",
    "kms_key": None,
    "ca_certificate": "/etc/ca.crt",
    "timeout": 20,
}
SECRETS = {"access_key": "planted-access", "secret_key": "planted-secret"}
SEALED = {**SECRETS, "encryption_password": "planted-password"}


class Bucket:
    def __init__(self, folder):
        self.folder = folder
        (folder / "bucket").mkdir()
        program(folder, "rclone", RCLONE)

    def files(self):
        return sorted(os.listdir(self.folder / "bucket"))

    def fails(self, how):
        (self.folder / "fault").write_text(how)

    def calls(self):
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    found = Bucket(tmp_path)
    really = etcd_ha_s3._flags
    home = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    monkeypatch.setattr(etcd_ha_s3, "_flags", lambda s3: {**really(s3), **home})
    monkeypatch.setenv("PATH", home["PATH"])
    monkeypatch.setattr(etcd_ha_s3.etcd_ha_trial, "in_the_background", lambda: [])
    return found


@pytest.fixture
def backup(tmp_path):
    data = bytes(range(256)) * 16
    path = tmp_path / "x.db"
    sha256 = hashlib.sha256(data)
    path.write_bytes(data + sha256.digest())
    found = Backup(
        "main-20261124T120000Z-r7",
        "main",
        "2026-11-24T12:00:00Z",
        7,
        True,
        len(data) + 32,
        3,
        sha256.hexdigest(),
    )
    return str(path), found


@pytest.mark.parametrize("secrets", [SECRETS, SEALED])
def test_it_is_there_and_comes_back_whole(bucket, backup, secrets, tmp_path):
    path, known = backup
    store = etcd_ha_s3.Store("main", S3, secrets)
    assert store.listing() == []
    store.put(path, known)
    assert store.listing() == [known]
    store.fetch(known.name, str(tmp_path / "back.db"))
    assert (tmp_path / "back.db").read_bytes() == (tmp_path / "x.db").read_bytes()
    store.remove(known)
    assert bucket.files() == []


def test_no_secret_is_in_an_argument_vector(bucket, backup):
    path, known = backup
    store = etcd_ha_s3.Store("main", S3, SEALED)
    store.put(path, known)
    for words, environment in bucket.calls():
        assert "planted" not in json.dumps(words)
        assert environment["RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY"] == "planted-secret"
        assert "planted-password" not in json.dumps(environment)
    sealed = bucket.calls()[-1][1]
    assert sealed["RCLONE_CONFIG_SEALED_REMOTE"] == "store:etcd-backups/etcd_ha/main"
    assert sealed["RCLONE_CONFIG_SEALED_PASSWORD"] == "veiled-drowssap-detnalp"
    assert sealed["RCLONE_CONFIG_STORE_SERVER_SIDE_ENCRYPTION"] == "AES256"
    assert sealed["RCLONE_CA_CERT"] == "/etc/ca.crt" and sealed["RCLONE_CONFIG"] == "/dev/null"


def test_without_keys_the_host_s_own_rights_count(bucket, backup):
    etcd_ha_s3.Store("main", {**S3, "credentials_file": "/root/.aws/credentials"}, {}).listing()
    environment = bucket.calls()[0][1]
    assert environment["RCLONE_CONFIG_STORE_ENV_AUTH"] == "true"
    assert environment["RCLONE_CONFIG_STORE_SHARED_CREDENTIALS_FILE"] == "/root/.aws/credentials"
    assert "RCLONE_CONFIG_STORE_ACCESS_KEY_ID" not in environment


@pytest.mark.parametrize("fault", ["flip", "cut"])
def test_what_comes_back_otherwise_has_no_sidecar_and_does_not_count(bucket, backup, fault):
    path, known = backup
    store = etcd_ha_s3.Store("main", S3, SECRETS)
    bucket.fails(fault)
    with pytest.raises(etcd_ha_s3.S3Error, match="run it again"):
        store.put(path, known)
    assert [b.verified for b in store.listing()] == [False]


def test_a_store_that_refuses_says_why_without_numbers_of_requests(bucket, backup):
    path, known = backup
    store = etcd_ha_s3.Store("main", S3, SECRETS)
    bucket.fails("refuse")
    with pytest.raises(etcd_ha_s3.S3Error) as caught:
        store.put(path, known)
    told = str(caught.value)
    assert told == (
        "s3://etcd-backups/etcd_ha/main: Failed to copyto: Forbidden: Forbidden caused by: nobody"
    )


def test_a_store_that_stands_still_is_given_up(bucket, backup):
    path, known = backup
    store = etcd_ha_s3.Store("main", {**S3, "timeout": 1}, SECRETS)
    bucket.fails("hang")
    with pytest.raises(etcd_ha_s3.S3Error, match=r"within 1 s.*backup:s3:timeout"):
        store.put(path, known)


def test_without_rclone_the_cure_is_told(bucket, monkeypatch):
    monkeypatch.setattr(etcd_ha_s3, "PROGRAM", "/nowhere/rclone")
    with pytest.raises(etcd_ha_s3.S3Error, match="not installed here"):
        etcd_ha_s3.Store("main", S3, SECRETS).listing()


def test_the_file_of_secrets_reads_back(tmp_path):
    path = tmp_path / "secrets"
    path.write_text(etcd_ha_s3.secrets_text(SEALED))
    assert etcd_ha_s3.read_secrets(str(path)) == SEALED
    assert etcd_ha_s3.read_secrets(str(tmp_path / "none")) == {}
