"""Whether a certificate, its key and its CA can be used: each fault by name, from PEM text alone.

Three programs read these files: etcd (Go), HAProxy (OpenSSL) and this formula (Python). A pair is
good if all three accept it, so the strictest of them decides:

- Go reads no common name as a host's name, and wants the extended key usage in the whole chain
  (crypto/x509/verify.go); it takes the first certificate of a file as the leaf (tls.X509KeyPair).
- OpenSSL trusts a chain only up to its root, and Debian's refuses RSA keys below 2048 bits and
  SHA-1 (security level 2).
- Python 3.13 sets VERIFY_X509_STRICT (https://docs.python.org/3/whatsnew/3.13.html#ssl): the checks
  of check_extensions in OpenSSL's crypto/x509/x509_vfy.c.
"""

import binascii
import ipaddress
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Which of the three files a fault is in.
CERTIFICATE, KEY, CA = "certificate", "key", "ca"
# What a fault is about, where that decides how it is cured.
TIME, FILE, MATCH = "time", "file", "match"
USES = {
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
}
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
# The largest that Go takes in a handshake (maxRSAKeySize of crypto/tls), and as an exponent.
_SMALLEST_RSA, _LARGEST_RSA = 2048, 8192
_LARGEST_EXPONENT = 2**31 - 1
_STRONG = ("sha256", "sha384", "sha512")
# What a private key's file holds whose key Go cannot parse: the object identifiers of RSASSA-PSS,
# and of the prime field in a curve's explicit parameters.
_OF_PSS = bytes.fromhex("06092a864886f70d01010a")
_OF_PARAMETERS = bytes.fromhex("06072a8648ce3d0101")


def _pss_form(hashed: int, salt: int) -> bytes:
    """RSASSA-PSS with a hash of SHA-2, by the end of its identifier, and MGF1 with the same one."""
    sha = bytes.fromhex(f"300d0609608648016503040{hashed:03x}0500")
    mask = bytes.fromhex("a11c301a06092a864886f70d010108") + sha
    return _OF_PSS + bytes.fromhex("3034a00f") + sha + mask + bytes.fromhex(f"a2030201{salt:02x}")


# SHA-256, SHA-384 and SHA-512 (RFC 4055).
_PSS_FORMS = (_pss_form(0x201, 32), _pss_form(0x202, 48), _pss_form(0x203, 64))
_BLOCK = re.compile(
    rb"^-----BEGIN ([A-Z0-9 ]+)-----[ \t\r]*$(.*?)^-----END \1-----[ \t\r]*$", re.M | re.S
)
_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_TIME = "%Y-%m-%d %H:%M:%S"
# Nobody's chain is longer; a file of a whole trust store is no chain.
_LONGEST = 10


@dataclass(frozen=True)
class Need:
    """What a certificate must say to serve its purpose; ``names`` as OpenSSL writes them."""

    uses: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    # The common name that it must have; empty where any will do.
    common_name: str = ""
    # Whether it must have no common name.
    nameless: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Need":
        """Read the form in which it is handed to minions."""
        return cls(
            tuple(given.get("uses", ())),
            tuple(given.get("names", ())),
            str(given.get("common_name", "")),
            bool(given.get("nameless", False)),
        )

    def told(self) -> dict[str, Any]:
        """The form in which it is handed to minions."""
        return {
            "uses": list(self.uses),
            "names": list(self.names),
            "common_name": self.common_name,
            "nameless": self.nameless,
        }


@dataclass(frozen=True)
class Fault:
    """What is wrong with one file of a pair, and what it must be."""

    part: str
    words: str
    # What of it: TIME, FILE (it is missing or no PEM), MATCH (of key and certificate), or another.
    kind: str = ""


class _Unreadable(Exception):
    """A file is not what it must be; the text says why, and what helps."""


def faults(
    certificate: bytes, key: bytes, ca: bytes, need: Need, now: datetime
) -> tuple[Fault, ...]:
    """All that is wrong with a pair of PEM files, where the CAs of a third one are trusted."""
    found: list[Fault] = []
    chain = _read(found, CERTIFICATE, _certificates, certificate)
    private = _read(found, KEY, _private_key, key)
    trusted = _read(found, CA, _certificates, ca)
    if chain:
        found += [Fault(CERTIFICATE, words, TIME) for words in _of_time(chain[0], now, "it")]
        found += [Fault(CERTIFICATE, words) for words in _of_leaf(chain[0], need)]
    if chain and private:
        found += _of_match(chain, private)
    if chain and trusted:
        found += _of_chain(chain, trusted, need, now)
    return tuple(dict.fromkeys(found))


def fingerprint(certificate: bytes) -> str:
    """The SHA-256 of the first certificate in a file; empty where there is none."""
    leaf = _first(certificate)
    return leaf.fingerprint(hashes.SHA256()).hex() if leaf else ""


def validity(certificate: bytes) -> tuple[str, str]:
    """From when and until when the first certificate in a file is valid (UTC), or empty texts."""
    leaf = _first(certificate)
    if leaf is None:
        return "", ""
    return _when(leaf.not_valid_before_utc), _when(leaf.not_valid_after_utc)


def _first(text: bytes) -> x509.Certificate | None:
    try:
        return _certificates(text)[0]
    except _Unreadable:
        return None


def _read(found: list[Fault], part: str, reader: Any, text: bytes) -> Any:
    try:
        return reader(text)
    except _Unreadable as err:
        found.append(Fault(part, str(err), FILE))
        return None


# Files


def _blocks(text: bytes, wanted: str) -> list[tuple[str, bytes]]:
    """The PEM blocks of a file, (label, whole block); raises where it is another kind of file."""
    if not text.strip():
        raise _Unreadable(f"is empty; it must hold {wanted} as PEM text")
    if text.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise _Unreadable(
            "begins with a byte order mark, which hides its first block; save it as plain text"
        )
    if b"-----BEGIN " not in text:
        kind = "DER or PKCS #12" if text[:1] == b"\x30" else "something else"
        raise _Unreadable(
            f"is {kind}, and must be PEM text (for DER: openssl x509 or pkey -inform der)"
        )
    found = [(m[1].decode(), m[0]) for m in _BLOCK.finditer(text)]
    if len(found) != len(_BEGIN.findall(text)):
        raise _Unreadable(
            "has a PEM block that is cut off, or does not begin and end on lines of its own; copy "
            "the file again"
        )
    return found


def _certificates(text: bytes) -> list[x509.Certificate]:
    blocks = _blocks(text, "certificates")
    if any(label.endswith("PRIVATE KEY") for label, _ in blocks):
        raise _Unreadable(
            "holds a private key, and everybody may read certificates; keep the key in its own file"
        )
    chosen = [block for label, block in blocks if label == "CERTIFICATE"]
    if not chosen:
        labels = ", ".join(sorted({label for label, _ in blocks}))
        raise _Unreadable(f"holds {labels} alone; it must hold PEM blocks of the kind CERTIFICATE")
    return [_certificate(number, block) for number, block in enumerate(chosen, 1)]


def _certificate(number: int, block: bytes) -> x509.Certificate:
    try:
        found = x509.load_pem_x509_certificate(block)
        # Read lazily: what is damaged inside shows only here.
        _ = found.extensions, found.subject, found.issuer
        return found
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, binascii.Error) as err:
        raise _Unreadable(f"is damaged: its certificate {number} cannot be read ({err})") from None


def _private_key(text: bytes) -> Any:
    blocks = [one for one in _blocks(text, "a private key") if one[0].endswith("PRIVATE KEY")]
    if not blocks:
        raise _Unreadable("holds no private key; it must hold the one of the certificate as PEM")
    if len(blocks) > 1:
        raise _Unreadable(f"holds {len(blocks)} private keys; keep the one of the certificate")
    label, block = blocks[0]
    if "ENCRYPTED" in label or b"Proc-Type: 4,ENCRYPTED" in block:
        raise _Unreadable(
            "is encrypted, and nobody can enter its passphrase when etcd starts; decrypt it: "
            "openssl pkey -in FILE -out NEW"
        )
    if label.startswith("OPENSSH"):
        raise _Unreadable("is a key of OpenSSH's; it must be PKCS #8, PKCS #1 or SEC 1 as PEM")
    try:
        found = serialization.load_pem_private_key(block, None)
        odd = _odd_key(block)
    except (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error) as err:
        raise _Unreadable(f"is damaged: it cannot be read ({err})") from None
    if odd:
        raise _Unreadable(odd)
    return found


def _odd_key(block: bytes) -> str:
    """Why Go cannot parse a key that OpenSSL can: the forms of crypto/x509/pkcs8.go and sec1.go."""
    text = b"".join(one for one in block.splitlines()[1:-1] if b":" not in one)
    inside = binascii.a2b_base64(text)
    if _OF_PSS in inside:
        return "is an RSASSA-PSS key, which etcd cannot read; it must be a plain RSA or ECDSA key"
    if _OF_PARAMETERS in inside:
        return (
            "has its curve as explicit parameters, which etcd cannot read; it must name the curve "
            "(openssl ec -param_enc named_curve)"
        )
    return ""


def _of_match(chain: Sequence[x509.Certificate], private: Any) -> Iterator[Fault]:
    own = _public(private.public_key())
    if own == _public(chain[0].public_key()):
        return
    if any(own == _public(one.public_key()) for one in chain[1:]):
        yield Fault(
            CERTIFICATE,
            "has its certificates in the wrong order: the one of the key must be the first, then "
            "the CA that signed it, and so on",
        )
    else:
        words = "does not match the certificate; it must be the key it was made with"
        yield Fault(KEY, words, MATCH)


def _public(key: Any) -> bytes:
    found: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return found


# The certificate itself


def _of_leaf(leaf: x509.Certificate, need: Need) -> Iterator[str]:
    yield from _of_strength(leaf, "it", by_others=True)
    yield from _of_uses(leaf, need.uses, "it")
    yield from _of_names(leaf, need)
    usage = _extension(leaf, x509.KeyUsage)
    if usage and not usage.value.digital_signature:
        yield "lacks the key usage digitalSignature, which TLS needs"
    if usage and usage.value.key_cert_sign and not _is_authority(leaf):
        yield "has the key usage keyCertSign, but is no CA; issue it without"


def _of_time(one: x509.Certificate, now: datetime, what: str) -> Iterator[str]:
    if one.not_valid_before_utc > now:
        yield (
            f"is not valid yet: {what} begins on {_when(one.not_valid_before_utc)} UTC, and this "
            f"host's clock says {_when(now)}"
        )
    if one.not_valid_after_utc <= now:
        yield (
            f"has expired: {what} ended on {_when(one.not_valid_after_utc)} UTC, and this host's "
            f"clock says {_when(now)}"
        )


def _of_strength(one: x509.Certificate, what: str, by_others: bool) -> Iterator[str]:
    """Keys and signatures that etcd or Debian's OpenSSL refuse."""
    yield from _of_key(one, what)
    if by_others:
        yield from _of_signature(one, what)


def _of_key(one: x509.Certificate, what: str) -> Iterator[str]:
    key = one.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        exponent = key.public_numbers().e
        if not _SMALLEST_RSA <= key.key_size <= _LARGEST_RSA:
            yield (
                f"has an RSA key of {key.key_size} bits; {what} needs {_SMALLEST_RSA} or more, up "
                f"to {_LARGEST_RSA}"
            )
        if exponent > _LARGEST_EXPONENT:
            yield f"has an RSA key with the public exponent {exponent}; {what} needs 65537"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in _CURVES:
            yield f"has a key on {key.curve.name}; {what} needs one on P-256, P-384 or P-521"
    elif not isinstance(key, ed25519.Ed25519PublicKey):
        yield f"has a key of a kind that etcd does not know; {what} needs RSA, ECDSA or Ed25519"
        return
    # As others than Python write the same key: Go reads it in this one form.
    if _public(key) not in one.tbs_certificate_bytes:
        yield (
            "has its key in a form that etcd cannot read, such as RSASSA-PSS or a curve with "
            f"explicit parameters; {what} needs a plain RSA key, or a key on a named curve"
        )


def _of_signature(one: x509.Certificate, what: str) -> Iterator[str]:
    """Signatures that Go verifies: getSignatureAlgorithmFromAI of crypto/x509/x509.go."""
    try:
        hashed = one.signature_hash_algorithm
    except UnsupportedAlgorithm:
        yield "is signed in a way that is not known; it must be signed with SHA-256 or better"
        return
    if hashed is not None and hashed.name not in _STRONG:
        name = hashed.name.upper()
        yield f"is signed with {name}; {what} must be signed with SHA-256, SHA-384 or SHA-512"
    elif _is_odd_pss(one):
        yield (
            f"is signed by RSASSA-PSS in a way that etcd cannot verify; {what} needs a salt as "
            "long as the hash, and MGF1 with the same hash (openssl -sigopt "
            "rsa_pss_saltlen:digest), or PKCS #1 v1.5"
        )


def _is_odd_pss(one: x509.Certificate) -> bool:
    """Whether this is signed by RSASSA-PSS with other parameters than Go's three forms of it."""
    if one.signature_algorithm_oid.dotted_string != "1.2.840.113549.1.1.10":
        return False
    return not any(form in one.tbs_certificate_bytes for form in _PSS_FORMS)


def _of_uses(one: x509.Certificate, uses: Sequence[str], what: str) -> Iterator[str]:
    """Without the extension every use is allowed; with it, only those that it names."""
    found = _extension(one, x509.ExtendedKeyUsage)
    if found is None:
        return
    lacking = [use for use in uses if USES[use] not in found.value]
    if lacking:
        yield (
            f"lacks the extended key usage {' and '.join(lacking)}; {what} must have "
            f"{' and '.join(uses)}"
        )


def _of_names(leaf: x509.Certificate, need: Need) -> Iterator[str]:
    common = [str(one.value) for one in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if need.common_name and common != [need.common_name]:
        shown = ", ".join(common) or "none"
        yield f"has the common name {shown}; it must be {need.common_name}"
    if need.nameless and common:
        yield (
            f"has the common name {', '.join(common)}; it must have none, so that it is no user of "
            "etcd's"
        )
    lacking = [name for name in need.names if not _has_name(leaf, name)]
    if not lacking:
        return
    shown = ", ".join(lacking)
    texts = _alternative(leaf, x509.DNSName)
    if any(name.partition(":")[2] in texts for name in lacking if name.startswith("IP:")):
        yield (
            f"lacks the alternative names {shown}: it has addresses as DNS names, and they must be "
            "IP addresses (subjectAltName = IP:...)"
        )
    else:
        yield f"lacks the alternative names {shown} (subjectAltName); it must have them all"


def _has_name(leaf: x509.Certificate, name: str) -> bool:
    kind, _, text = name.partition(":")
    if kind == "IP":
        return ipaddress.ip_address(text) in _alternative(leaf, x509.IPAddress)
    return any(_covers(str(one), text) for one in _alternative(leaf, x509.DNSName))


def _covers(pattern: str, name: str) -> bool:
    """Whether a DNS name, or one with a ``*`` as its whole first label, stands for this one."""
    pattern, name = pattern.lower().rstrip("."), name.lower().rstrip(".")
    if pattern.startswith("*."):
        first, _, rest = name.partition(".")
        return bool(first) and rest == pattern[2:] and "." in rest
    return pattern == name


def _alternative(one: x509.Certificate, kind: Any) -> list[Any]:
    found = _extension(one, x509.SubjectAlternativeName)
    return list(found.value.get_values_for_type(kind)) if found else []


def _extension(one: x509.Certificate, kind: Any) -> Any:
    try:
        return one.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


# The chain up to a root


def _of_chain(
    chain: Sequence[x509.Certificate],
    trusted: Sequence[x509.Certificate],
    need: Need,
    now: datetime,
) -> Iterator[Fault]:
    if chain[0] in trusted and _signed(chain[0], chain[0]):
        return
    wrong = _disorder(chain)
    if wrong:
        yield Fault(CERTIFICATE, wrong)
        return
    path, why = _path(chain, trusted)
    if why:
        yield why
        return
    sent = len(chain) - 1
    for number, authority in enumerate(path[1:]):
        part = CERTIFICATE if number < sent and authority not in trusted else CA
        for words in _of_time(authority, now, _named(authority)):
            yield Fault(part, words, TIME)
        for words in _of_authority(authority, path[number], need):
            yield Fault(part, words)
    yield from (Fault(CERTIFICATE, words) for words in _identified(path[0], path[1]))


def _disorder(chain: Sequence[x509.Certificate]) -> str:
    """What is wrong with the order of the certificates in a file."""
    for one, signer in itertools.pairwise(chain):
        if _signed(one, signer):
            continue
        if any(_signed(one, other) for other in chain):
            return (
                "has its certificates in the wrong order: first the one of the key, then the CA "
                "that signed it, and so on"
            )
        return (
            f"holds {_named(signer)} behind {_named(one)}, which that CA did not sign; it must "
            "hold the certificate and the CAs between it and the root alone"
        )
    return ""


def _path(
    chain: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate]
) -> tuple[list[x509.Certificate], Fault | None]:
    """From the leaf to the root, or why there is no such path."""
    path = list(chain)
    anchored = any(one in trusted for one in chain[1:])
    while not _signed(path[-1], path[-1]):
        signer = next((one for one in trusted if _signed(path[-1], one)), None)
        if signer is None or len(path) > _LONGEST:
            return path, _unanchored(path[-1], trusted, anchored)
        anchored = True
        path.append(signer)
    if path[-1] in trusted:
        return path, None
    # A root that comes along with the certificate is trusted only if it is in the file of CAs.
    words = f"was signed under {_named(path[-1])}, which is not among the CAs in the CA file"
    return path, Fault(CERTIFICATE, f"{words}; it must be signed by one of them")


def _unanchored(
    last: x509.Certificate, trusted: Sequence[x509.Certificate], anchored: bool
) -> Fault:
    issuer = last.issuer.rfc4514_string() or "a CA without a name"
    if anchored:
        return Fault(
            CA,
            f"holds {_named(last)}, but not the root above it ({issuer}); add the root, since "
            "HAProxy trusts no chain that ends below one",
        )
    if any(one.subject == last.issuer for one in trusted):
        return Fault(
            CERTIFICATE,
            f"was signed by another CA than the one of the same name ({issuer}) in the CA file; it "
            "must be signed by that one",
        )
    return Fault(
        CERTIFICATE,
        f"was signed by {issuer}, which is neither behind it in the file nor in the CA file; "
        "append the intermediate CA that is missing, or have it signed by that CA",
    )


def _of_authority(one: x509.Certificate, below: x509.Certificate, need: Need) -> Iterator[str]:
    """What is wrong with a CA's certificate, which signed the one below it."""
    name = _named(one)
    is_root = _signed(one, one)
    yield from _of_strength(one, name, by_others=not is_root)
    yield from _of_uses(one, need.uses, name)
    for fault in _laxities(one):
        yield f"holds {name}, which {fault}; Python 3.13 and newer refuse such a CA"
    if not is_root and _key_id(one, x509.AuthorityKeyIdentifier) is None:
        yield (
            f"holds {name}, which lacks authorityKeyIdentifier; Python 3.13 and newer refuse such "
            "a CA"
        )
    constraints = _extension(one, x509.BasicConstraints)
    limit = constraints.value.path_length if constraints else None
    if limit == 0 and _is_authority(below):
        yield f"holds {name}, which may sign no other CA (pathlen:0), but signed {_named(below)}"


def _laxities(one: x509.Certificate) -> Iterator[str]:
    """What VERIFY_X509_STRICT asks of a CA, and this one does not have."""
    if one.version is not x509.Version.v3:
        yield "is a certificate of version 1"
        return
    constraints = _extension(one, x509.BasicConstraints)
    if constraints is None or not constraints.value.ca:
        yield "is no CA (basicConstraints = critical, CA:TRUE)"
    elif not constraints.critical:
        yield "has basicConstraints that are not critical"
    usage = _extension(one, x509.KeyUsage)
    if usage is None:
        yield "lacks keyUsage (keyUsage = critical, keyCertSign, cRLSign)"
    elif not usage.value.key_cert_sign:
        yield "has a keyUsage without keyCertSign"
    if _extension(one, x509.SubjectKeyIdentifier) is None:
        yield "lacks subjectKeyIdentifier (subjectKeyIdentifier = hash)"


def _identified(leaf: x509.Certificate, signer: x509.Certificate) -> Iterator[str]:
    """Whether the certificate says by which key it was signed, and says the right one."""
    named = _key_id(leaf, x509.AuthorityKeyIdentifier)
    own = _key_id(signer, x509.SubjectKeyIdentifier)
    if named is None:
        yield (
            "lacks authorityKeyIdentifier (authorityKeyIdentifier = keyid), without which Python "
            "3.13 and newer refuse it"
        )
    elif own is not None and named != own:
        yield f"names another key of its CA (authorityKeyIdentifier) than {_named(signer)} has"


def _key_id(one: x509.Certificate, kind: Any) -> bytes | None:
    found = _extension(one, kind)
    identifier: bytes | None = found.value.key_identifier if found else None
    return identifier


def _is_authority(one: x509.Certificate) -> bool:
    found = _extension(one, x509.BasicConstraints)
    return bool(found and found.value.ca)


def _signed(one: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _named(one: x509.Certificate) -> str:
    return one.subject.rfc4514_string() or "a certificate without a subject"


def _when(moment: datetime) -> str:
    return moment.strftime(_TIME)
