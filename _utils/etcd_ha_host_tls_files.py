"""The certificate files of a host: what users bring, what is in use, and whether each can be used.

A pair that comes from somewhere is tried twice before it takes the place of the one in use: by what
its texts say (etcd_ha_common_certificate_checks), and by a TLS handshake with itself in memory, the
way etcd, its peers and its clients will shake hands with it.
"""

import errno
import os
import ssl
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import etcd_ha_common_certificate_checks as checks
import etcd_ha_common_files
import etcd_ha_machine
from etcd_ha_common_certificate_checks import Need

# No file of PEM text is larger; one of a whole trust store is less than a quarter of it.
_MOST = 1 << 20
# What lies there can be seen, and is no file of that kind.
_NO_FILE = (errno.EINVAL, errno.EFBIG, errno.EISDIR, errno.ENXIO)
# Messages of a handshake: TLS 1.3 with client certificates takes three.
_TURNS = 20
_FLAGS = {
    "server": (ssl.PROTOCOL_TLS_SERVER, "clientAuth"),
    "client": (ssl.PROTOCOL_TLS_CLIENT, "serverAuth"),
}


def faults(
    certificate: str, key: str, ca: str, need: Need, now: datetime | None = None
) -> list[str]:
    """All that is wrong with a pair of files under this file of CAs, each with its path."""
    return [words for words, _ in _judged(certificate, key, ca, need, now)]


def _judged(
    certificate: str, key: str, ca: str, need: Need, now: datetime | None = None
) -> list[tuple[str, str]]:
    """Each fault as a sentence, and of which kind it is."""
    found: list[tuple[str, str]] = []
    paths = {checks.CERTIFICATE: certificate, checks.KEY: key, checks.CA: ca}
    texts = {}
    for part, path in paths.items():
        try:
            texts[part] = _content(path)
        except OSError as err:
            words = f"{path} cannot be read ({err.strerror or err}); put the file there"
            found.append((words, checks.FILE))
    found += [(words, "") for words in _open_to_all(key)]
    if len(texts) < len(paths):
        return found
    told = checks.faults(
        texts[checks.CERTIFICATE],
        texts[checks.KEY],
        texts[checks.CA],
        need,
        now or datetime.now(timezone.utc),
    )
    found += [(f"{paths[one.part]} {one.words}", one.kind) for one in told]
    if not told:
        found += [(words, "") for words in _rehearsed(certificate, key, ca, need)]
    return found


def facts(row: Mapping[str, Any]) -> dict[str, Any]:
    """What one pair of this host is like: the one in use and, where users bring it, theirs.

    ``row`` is one of etcd_ha_host.pairs. ``same`` says whether both are the same files; without a
    source it is true. ``faults`` are the source's, ``live_faults`` those of the pair in use, each a
    sentence, and ``live_kinds`` what these are about (TIME, FILE, MATCH). ``fingerprint``
    (SHA-256), ``begins`` and ``ends`` (UTC) are the source's certificate, or the one in use where
    there is no source.
    """
    need = Need.of(row["need"])
    live = row["certificate"], row["key"], row["ca"]
    source = row.get("new_certificate", ""), row.get("new_key", ""), row.get("new_ca", "")
    placed = all(map(etcd_ha_common_files.exists, live[:2]))
    same = not source[0] or is_same((source[0], live[0]), (source[1], live[1]))
    text = _given(source[0]) if source[0] else _text(live[0])
    begins, ends = checks.validity(text)
    live_faults = _judged(*live, need) if placed else []
    return {
        "purpose": row["purpose"],
        "certificate": live[0],
        "source": source[0],
        "placed": placed,
        "same": same,
        "faults": faults(*source, need) if source[0] else [],
        "live_faults": [words for words, _ in live_faults],
        "live_kinds": sorted({kind for _, kind in live_faults if kind}),
        "fingerprint": checks.fingerprint(text),
        "begins": begins,
        "ends": ends,
    }


def _content(path: str) -> bytes:
    found = etcd_ha_machine.read_regular(path, _MOST + 1)
    if len(found) > _MOST:
        raise OSError(errno.EFBIG, f"it is larger than {_MOST} bytes", path)
    return found


def _given(path: str) -> bytes:
    """What users bring; where it cannot be read, that is among the pair's faults."""
    try:
        return _content(path)
    except OSError:
        return b""


def _text(path: str) -> bytes:
    """What is in use; nothing where it is absent, or something that no certificate is.

    Raises Unreadable for all else: it may be the very same as what users bring.
    """
    try:
        with etcd_ha_common_files.reading(path):
            try:
                return _content(path)
            except OSError as err:
                if err.errno not in _NO_FILE:
                    raise
    except etcd_ha_common_files.ABSENT:
        pass
    return b""


def is_same(*pairs: tuple[str, str]) -> bool:
    """Whether the two files of each of these pairs are there and hold the same.

    The first of each is what users bring, the second what is in use; raises Unreadable where that
    is there and cannot be read.
    """
    texts = [(_given(first), _text(second)) for first, second in pairs]
    return all(bool(one) and one == other for one, other in texts)


def _open_to_all(key: str) -> list[str]:
    try:
        mode = os.stat(key).st_mode & 0o777
    except etcd_ha_common_files.ABSENT:
        # That it is not there is said beside this.
        return []
    except OSError as err:
        return [f"{key}: whether others can read it is unknown ({err.strerror or err}); see dmesg"]
    if not mode & 0o007:
        return []
    return [
        f"{key} can be read by everybody on the host (mode {mode:04o}); make it root's: "
        f"chmod 0600 {key}"
    ]


# A handshake of a pair with itself


def _rehearsed(certificate: str, key: str, ca: str, need: Need) -> list[str]:
    """Why a handshake fails in which both sides have this pair; empty where it passes."""
    name = need.names[0].partition(":")[2] if need.names and "serverAuth" in need.uses else None
    try:
        server = _context("server", certificate, key, ca, need.uses)
        client = _context("client", certificate, key, ca, need.uses, name is not None)
        _shake(server, client, name)
    except ssl.SSLError as err:
        why = getattr(err, "verify_message", "") or err.reason or str(err)
        return [f"{certificate} cannot be used: a TLS handshake with it fails ({why})"]
    return []


def _context(
    side: str, certificate: str, key: str, ca: str, uses: Sequence[str], by_name: bool = False
) -> ssl.SSLContext:
    """One side; it verifies the other one for the purpose, where the pair is to have that."""
    protocol, theirs = _FLAGS[side]
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = by_name
    context.verify_mode = ssl.CERT_REQUIRED if theirs in uses else ssl.CERT_NONE
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, key, password=lambda: b"")
    return context


def _shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(_TURNS):
        waiting = [side for side in sides if not _is_done(side)]
        if not waiting:
            return
    raise ssl.SSLError(1, "it does not end")


def _is_done(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
