"""The check that keepalived runs: real sockets, real TLS, and the moments that decide."""

import ast
import contextlib
import datetime
import importlib.util
import ipaddress
import json
import pathlib
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SOURCE = pathlib.Path(__file__).parents[2] / "etcd_ha" / "balancer" / "check_path.py"
# Everything else of the formula runs on Salt's Python, this on the host's own (Debian 11: 3.9).
OLDEST_PYTHON = (3, 9)
SPEC = importlib.util.spec_from_file_location("check_path", SOURCE)
check = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(check)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A certificate that is its own CA, for 127.0.0.1: ca, certificate, key."""
    folder, key = tmp_path_factory.mktemp("pki"), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "check")])
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return {"ca": f"{folder}/crt", "certificate": f"{folder}/crt", "key": f"{folder}/key"}


@contextlib.contextmanager
def served(answer, pki=None):
    """A balancer that gives this answer (None: it accepts and says nothing); its URL."""
    server = socket.create_server(("127.0.0.1", 0))
    held = []

    def serve():
        while True:
            try:
                plain, _ = server.accept()
                held.append(plain)
                if answer is None:
                    continue
                if pki:
                    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pki["ca"])
                    context.verify_mode = ssl.CERT_REQUIRED
                    context.load_cert_chain(pki["certificate"], pki["key"])
                    plain = context.wrap_socket(plain, server_side=True)
                plain.recv(1000)
                plain.sendall(answer)
                plain.close()
            except OSError:
                if server.fileno() < 0:
                    return

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"{'https' if pki else 'http'}://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.close()
        for one in held:
            one.close()


OK = b"HTTP/1.1 200 OK\r\n\r\n"
SICK = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"


def free_url():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def settings(own, *others, **more):
    empty = {"ca": None, "certificate": None, "key": None}
    seconds = {"timeout": 0.3, "others_timeout": 0.3, "pause": 0.05}
    return {**empty, **seconds, "own": own, "others": list(others), **more}


def test_a_path_that_works_may_hold_it():
    with served(OK) as own:
        assert check.may_hold(settings(own))


def test_a_program_that_is_gone_may_not_even_if_nobody_is_better():
    assert not check.may_hold(settings(free_url()))
    with served(SICK) as other:
        assert not check.may_hold(settings(free_url(), other))


@pytest.mark.parametrize("answer", [SICK, None, b"", b"nonsense 200\r\n"[:9]])
def test_a_path_that_leads_nowhere_gives_it_to_one_that_leads_on(answer):
    with served(answer) as own, served(OK) as other:
        assert not check.may_hold(settings(own, free_url(), other))


@pytest.mark.parametrize("answer", [SICK, None])
def test_without_a_quorum_it_stays_where_it_is(answer):
    with served(answer) as own, served(SICK) as other:
        assert check.may_hold(settings(own, other))
        assert check.may_hold(settings(own, free_url()))
        assert check.may_hold(settings(own))


def test_a_reload_of_a_moment_does_not_move_it(monkeypatch):
    """The second look finds it well again."""
    looks = iter([False, True])
    monkeypatch.setattr(check, "_look", lambda settings: next(looks))
    assert check.may_hold(settings("http://127.0.0.1:1"))


def test_it_ends_in_time_where_nobody_answers():
    with served(None) as own, served(None) as other:
        began = time.monotonic()
        assert check.may_hold(settings(own, other))
        assert time.monotonic() - began < 2


def test_mutual_tls_is_spoken_and_verified(pki, tmp_path):
    with served(OK, pki) as own:
        assert check.may_hold(settings(own, **pki))
        # By another name than the certificate's, and without a certificate of its own.
        assert check.path_by(own.replace("127.0.0.1", "localhost"), {**pki}, 1) == check.LOST
    with served(OK) as plain, served(OK, pki) as other:
        own = plain.replace("http:", "https:")
        assert not check.may_hold(settings(own, other, **pki))


@pytest.mark.parametrize("answer", [OK, None])
def test_the_exit_code_is_what_keepalived_reads(tmp_path, answer):
    """As a program of its own, by whatever Python; the template's first line is replaced."""
    program, told = tmp_path / "check", tmp_path / "settings.json"
    program.write_text(SOURCE.read_text().replace("{{ python }}", sys.executable))
    program.chmod(0o755)
    with served(OK) as other, served(answer) as own:
        told.write_text(json.dumps(settings(own, other)))
        done = subprocess.run([program, told], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0 if answer else 1, "")


def test_it_is_written_for_the_oldest_python_of_a_host():
    ast.parse(SOURCE.read_text(), feature_version=OLDEST_PYTHON)


def test_the_oldest_python_would_refuse_a_newer_word():
    newer = SOURCE.read_text() + "\nmatch sys.argv:\n    case [one]:\n        main(one)\n"
    with pytest.raises(SyntaxError):
        ast.parse(newer, feature_version=OLDEST_PYTHON)
