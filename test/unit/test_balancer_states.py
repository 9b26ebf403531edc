"""What a balancer keeps: HAProxy's certificate and its key in one file."""

import stat

import etcd_ha_pem
import pytest
from faces import load

SECRET = "planted-secret"


@pytest.fixture
def host(tmp_path, monkeypatch):
    """The state on a host with a pair of which nothing is wrong."""
    monkeypatch.setattr(etcd_ha_pem, "misfit", lambda *_: "")
    for name, text in {"check.crt": "leaf\n", "check.key": f"{SECRET}\n", "ca.crt": "ca"}.items():
        (tmp_path / name).write_text(text)

    def made(test=False):
        names = {"certificate": "check.crt", "key": "check.key", "ca": "ca.crt"}
        return load("_states/etcd_ha_balancer", opts={"test": test}).bundle_kept(
            "x",
            path=str(tmp_path / "check.pem"),
            **{key: str(tmp_path / name) for key, name in names.items()},
        )

    made.folder, made.bundle = tmp_path, tmp_path / "check.pem"
    return made


def test_both_are_in_one_file_that_root_alone_reads(host):
    foreseen = host(test=True)
    assert foreseen["result"] is None and not host.bundle.exists()
    done = host()
    assert done["result"] is True and done["changes"] == foreseen["changes"]
    assert host.bundle.read_text() == f"leaf\n{SECRET}\n"
    assert stat.S_IMODE(host.bundle.stat().st_mode) == 0o600
    assert SECRET not in str(done)
    assert host()["changes"] == {}


@pytest.mark.parametrize("spoil", ["another pair", "a mode that others can read"])
def test_what_is_another_is_written_again(host, spoil):
    host()
    if spoil == "another pair":
        (host.folder / "check.crt").write_text("renewed\n")
    else:
        host.bundle.chmod(0o644)
    assert host()["changes"]
    assert host.bundle.read_text().startswith((host.folder / "check.crt").read_text())
    assert stat.S_IMODE(host.bundle.stat().st_mode) == 0o600


def test_a_pair_that_does_not_fit_leaves_the_former_one(host, monkeypatch):
    host()
    before = host.bundle.read_text()
    (host.folder / "check.key").write_text("another\n")
    monkeypatch.setattr(etcd_ha_pem, "misfit", lambda *_: "its key is another one's")
    told = host()
    assert told["result"] is False and "its key is another one's" in told["comment"]
    assert told["changes"] == {} and host.bundle.read_text() == before


def test_a_missing_pair_is_foreseen_and_else_a_failure(host):
    (host.folder / "check.key").unlink()
    assert host(test=True)["result"] is None
    told = host()
    assert told["result"] is False and "check.key is missing" in told["comment"]


def test_a_file_that_cannot_be_read_is_told(host):
    (host.folder / "check.crt").write_bytes(b"\xff\xfe")
    told = host()
    assert told["result"] is False and "was not written" in told["comment"]
