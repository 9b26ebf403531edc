"""A backup on its way to the master, over real sockets."""

import hashlib
import socket
import ssl
import threading

import etcd_ha_delivery as delivery
import pytest

BLOCKS = 5000


@pytest.fixture
def snapshot(tmp_path):
    data = bytes(range(256)) * 2 * BLOCKS
    path = tmp_path / "snapshot.db"
    path.write_bytes(data + hashlib.sha256(data).digest())
    return path


@pytest.fixture
def inbox(snapshot, tmp_path):
    data = snapshot.read_bytes()
    sha256 = data[-32:].hex()
    with delivery.waiting(0, str(tmp_path / "arrived.db"), len(data), sha256) as found:
        yield found


def send(inbox, path, **changed):
    told = {"certificate": inbox.certificate, "token": inbox.token, **changed}
    return delivery.send(str(path), ("127.0.0.1", inbox.port), timeout=20, **told)


def test_it_arrives_whole_and_root_s_alone(inbox, snapshot, tmp_path):
    assert send(inbox, snapshot) == snapshot.stat().st_size
    arrived = tmp_path / "arrived.db"
    assert arrived.read_bytes() == snapshot.read_bytes()
    assert arrived.stat().st_mode & 0o777 == 0o600
    assert inbox.problem == ""


def test_another_file_of_that_size_is_not_kept_and_the_right_one_may_still_come(
    inbox, snapshot, tmp_path
):
    other = tmp_path / "other.db"
    data = bytes(512 * BLOCKS)
    other.write_bytes(data + hashlib.sha256(data).digest())
    with pytest.raises(OSError):
        send(inbox, other)
    assert "another snapshot" in inbox.problem
    assert not list(tmp_path.glob("arrived*"))
    send(inbox, snapshot)
    assert inbox.problem == ""


def test_a_file_that_ends_early_is_not_kept(inbox, snapshot, tmp_path):
    half = tmp_path / "half.db"
    half.write_bytes(snapshot.read_bytes()[:-4096])
    with pytest.raises(OSError):
        # The sender has said all, and waits for a word that does not come.
        send_and_hang_up(inbox, half)
    assert not list(tmp_path.glob("arrived*"))


def send_and_hang_up(inbox, path):
    context = ssl.create_default_context(cadata=inbox.certificate)
    with (
        socket.create_connection(("127.0.0.1", inbox.port), 5) as plain,
        context.wrap_socket(plain, server_hostname="etcd_ha") as connection,
    ):
        connection.sendall(inbox.token.encode() + path.read_bytes())
        connection.unwrap().close()
    raise ConnectionError("hung up")


def test_who_has_not_the_token_writes_nothing(inbox, snapshot, tmp_path):
    with pytest.raises(OSError):
        send(inbox, snapshot, token="0" * 64)
    assert "token" in inbox.problem and not list(tmp_path.glob("arrived*"))


def test_the_sender_trusts_no_other_certificate(inbox, snapshot, tmp_path):
    other, _ = delivery._identity()
    with pytest.raises(ssl.SSLError):
        send(inbox, snapshot, certificate=other)
    assert not list(tmp_path.glob("arrived*"))


def test_whoever_only_connects_does_not_block_the_right_one(inbox, snapshot, monkeypatch):
    monkeypatch.setattr(delivery, "_HELLO", 0.5)
    with socket.create_connection(("127.0.0.1", inbox.port), 5):
        sender = threading.Thread(target=send, args=(inbox, snapshot))
        sender.start()
        sender.join(15)
    assert not sender.is_alive() and inbox.problem == ""


def test_nothing_waits_afterwards(snapshot, tmp_path):
    with delivery.waiting(0, str(tmp_path / "a.db"), 544, "00") as inbox:
        port = inbox.port
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), 2)
