"""What PEM text says of certificates: which ones it holds, and whose signature they bear.

A CA is known here by its subject and its public key together, since that is what a certificate
signed by it is verified with: a CA certificate that was renewed with the same key is the same CA.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


@dataclass(frozen=True)
class Bundle:
    """The certificates in a file of CAs, and the CAs that they are; both as hashes."""

    certificates: frozenset[str] = frozenset()
    authorities: frozenset[str] = frozenset()
    # Until the first of them ends.
    days_left: int | None = None


def is_of_a_pair(path: str) -> bool:
    """Whether a file is a certificate or a key, by the names that the formula gives them."""
    return path.endswith((".crt", ".key"))


def bundle(text: str) -> Bundle:
    """Read a file of CAs; raises ValueError where it is no PEM."""
    found, now = _read(text), datetime.now(timezone.utc)
    return Bundle(
        frozenset(_fingerprint(one) for one in found),
        frozenset(_authority(one) for one in found),
        min((one.not_valid_after_utc - now).days for one in found),
    )


def signer(leaf: str, trusted: str) -> str:
    """Which of the trusted CAs signed this certificate, or its chain; empty where none did."""
    try:
        chain, authorities = _read(leaf), _read(trusted)
        return next((_authority(ca) for one in chain for ca in authorities if _signed(one, ca)), "")
    except ValueError:
        return ""


def signers(leaves: Iterable[str], trusted: str) -> frozenset[str]:
    """The CAs that signed these certificates, of those that are trusted."""
    return frozenset(signer(leaf, trusted) for leaf in leaves) - {""}


def is_first(authority: str, trusted: str) -> bool:
    """Whether this CA is the first of a file; ``united`` puts a newer one before the former."""
    return bool(found := _read(trusted)) and _authority(found[0]) == authority


def is_leaf(served: bytes, text: str) -> bool:
    """Whether a certificate (DER) is the first one of a PEM text."""
    return _read(text)[0].public_bytes(Encoding.DER) == served


def of_signer(leaf: str, trusted: str) -> str:
    """The certificates in ``trusted`` of the one CA that signed this certificate."""
    wanted = signer(leaf, trusted)
    return joined([one for one in _read(trusted) if _authority(one) == wanted])


def misfit(leaf: str, key: str, trusted: str) -> str:
    """Why a certificate cannot be used with this key where these CAs are trusted; else empty."""
    try:
        certificate = _read(leaf)[0]
        private = serialization.load_pem_private_key(key.encode(), None)
        own = certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as err:
        return f"it or its key cannot be read ({err})"
    if own != private.public_key():
        return "its key is another one's"
    if not signer(leaf, trusted):
        return "the CA that is trusted here did not sign it"
    return ""


def united(first: str, second: str) -> str:
    """The certificates of both texts, each once."""
    return joined([*_read(first), *_read(second)])


def same(first: str, second: str) -> bool:
    """Whether both texts hold the same certificates, in whatever order."""
    return bundle(first).certificates == bundle(second).certificates


def joined(certificates: Sequence[x509.Certificate]) -> str:
    """PEM text of these certificates, each once."""
    unique = {_fingerprint(one): one for one in certificates}
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in unique.values())


def _read(text: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(text.encode())


def _fingerprint(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def _authority(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except UnsupportedAlgorithm as err:
        raise ValueError(f"a certificate has a key of a kind that is not known: {err}") from None
    return hashlib.sha256(certificate.subject.public_bytes() + key).hexdigest()


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
