"""Which CA a host trusts: none simply takes another's place, and a fault is a failed state."""

import os

import etcd_ha_machine
import pytest
from faces import load
from salt.exceptions import CommandExecutionError
from test_pem import key, pem, signed


def authority(name):
    own = key()
    return pem(signed(name, own.public_key(), name, own))


@pytest.fixture(scope="module")
def two():
    return authority("one CA"), authority("another CA")


@pytest.fixture
def trust(tmp_path):
    def made(wanted, test=False, **more):
        def policy(name, ca_server=None):
            return {"signing_cert": wanted} if wanted else {}

        salt = {"x509.get_signing_policy": policy}
        states = load("_states/etcd_ha_ca", salt=salt, opts={"test": test})
        more = {"ca_server": "ca.example.com", "policy": "p", **more}
        return states.trusted("x", str(tmp_path / "ca.crt"), **more)

    made.file = tmp_path / "ca.crt"
    return made


def test_another_ca_never_simply_takes_the_former_one_s_place(trust, two):
    trust.file.write_text(two[0])
    told = trust(two[1])
    assert told["result"] is True and told["changes"] == {}
    assert "the orchestrate alone" in told["comment"]
    assert trust.file.read_text() == two[0]
    assert trust(two[1], phase="")["result"] is True and trust.file.read_text() == two[1]


def test_the_first_ca_is_written(trust, two):
    assert trust(two[0], test=True)["result"] is None
    told = trust(two[0])
    assert told["result"] is True and list(told["changes"]) == [str(trust.file)]


def test_a_policy_that_is_not_there_is_told(trust):
    told = trust("")
    assert told["result"] is False and "no signing policy p" in told["comment"]


def test_what_the_disk_refuses_is_a_failed_state(trust, two, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(etcd_ha_machine, "write_text", refuse)
    told = trust(two[0])
    assert told["result"] is False and told["changes"] == {}
    trust.file.write_text(two[0])
    trust.file.chmod(0o600)
    monkeypatch.setattr(os, "chown", refuse)
    foreseen = trust(two[0], test=True)
    assert foreseen["result"] is None and "would be root's" in foreseen["comment"]
    told = trust(two[0])
    assert told["result"] is False and told["changes"] == {} and "Read-only" in told["comment"]


def test_a_ca_without_a_common_name_is_called_by_its_cluster(tmp_path):
    (tmp_path / "ca.crt").write_text("")
    read = {"x509.read_certificate": lambda path: {"subject": {"O": "Example"}}}
    names = load("_modules/etcd_ha_ca", salt=read)
    assert names.common_name("main", [str(tmp_path)]) == "etcd main CA"

    def fails(path):
        raise CommandExecutionError("no PEM")

    names.__salt__["x509.read_certificate"] = fails
    with pytest.raises(CommandExecutionError, match=r"ca\.crt, cannot be read.*backup"):
        names.common_name("main", [str(tmp_path)])


def test_a_backup_that_is_not_there_is_no_fault_of_the_master(tmp_path, monkeypatch):
    module = load("_modules/etcd_ha_backup", opts={"master": "192.168.200.10"})
    monkeypatch.setattr(module, "_settings", lambda: {"directory": str(tmp_path)})
    pem_text = "-----BEGIN CERTIFICATE-----\n"
    with pytest.raises(CommandExecutionError, match=r"there is no backup .* see salt-run"):
        module.send("main-20261124T101500Z-r4711", None, 4510, pem_text, "token", 3)


def test_a_ca_is_not_put_aside_where_another_one_has_no_room(tmp_path, monkeypatch):
    module = load("_modules/etcd_ha_ca")
    monkeypatch.setattr(etcd_ha_machine, "MARK_FILE", str(tmp_path / "host.json"))
    for name in ("ca.key", "ca.crt"):
        (tmp_path / name).write_text(name)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(etcd_ha_machine, "write_bytes", full)
        with pytest.raises(CommandExecutionError, match=r"find no room in .* Make room there"):
            module.set_aside(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"ca.key", "ca.crt"}
    folder = module.set_aside(str(tmp_path))
    assert sorted(os.listdir(folder)) == ["ca.crt", "ca.key"]
    assert not (tmp_path / ".room").exists()


def test_an_empty_key_is_none_unless_there_is_a_certificate(tmp_path):
    module = load("_modules/etcd_ha_ca")
    assert module.needs_key(str(tmp_path)) is True
    (tmp_path / "ca.key").touch()
    assert module.needs_key(str(tmp_path)) is True
    (tmp_path / "ca.crt").touch()
    assert module.needs_key(str(tmp_path)) is False
    (tmp_path / "ca.crt").unlink()
    (tmp_path / "ca.key").write_text("key")
    assert module.needs_key(str(tmp_path)) is False
