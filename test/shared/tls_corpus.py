"""Certificates as people bring them, made when the tests run: good ones, and each way to be bad."""

import dataclasses
import datetime
import functools
import ipaddress
import pathlib
import subprocess
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime.now(datetime.timezone.utc)
HOUR, DAY = datetime.timedelta(hours=1), datetime.timedelta(days=1)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
# RSA keys take long to make: each size once.
_RSA = {}


def key(kind="p256"):
    """A new private key: p256, p384, p521, p224, ed25519, or rsa with its size."""
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind.startswith("rsa"):
        size = int(kind[3:])
        if size not in _RSA:
            _RSA[size] = rsa.generate_private_key(public_exponent=65537, key_size=size)
        return _RSA[size]
    curves = {"p224": ec.SECP224R1, "p256": ec.SECP256R1, "p384": ec.SECP384R1}
    return ec.generate_private_key({**curves, "p521": ec.SECP521R1}[kind]())


def pem(*certificates):
    """PEM text of certificates."""
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def key_pem(private, form="pkcs8", password=None):
    """PEM text of a key: pkcs8, or traditional (PKCS #1, SEC 1)."""
    forms = serialization.PrivateFormat
    return private.private_bytes(
        serialization.Encoding.PEM,
        forms.PKCS8 if form == "pkcs8" else forms.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption(),
    )


def names(*texts):
    """Alternative names from ``IP:`` and ``DNS:`` texts."""
    return [
        x509.IPAddress(ipaddress.ip_address(text[3:]))
        if text.startswith("IP:")
        else x509.DNSName(text[4:])
        for text in texts
    ]


def usage(**true):
    """A keyUsage with these bits."""
    bits = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{bit: true.get(bit, False) for bit in bits})


@dataclasses.dataclass
class Authority:
    """A CA, or a way to make one that lacks something."""

    name: str = "our own CA"
    kind: str = "p256"
    # The CA above it; None for a root.
    above: "Authority | None" = None
    begins: datetime.datetime = NOW - DAY
    ends: datetime.datetime = NOW + 300 * DAY
    constraints: bool = True
    critical: bool = True
    is_ca: bool = True
    pathlen: int | None = None
    usage: x509.KeyUsage | None = dataclasses.field(
        default_factory=lambda: usage(key_cert_sign=True, crl_sign=True)
    )
    ski: bool = True
    aki: bool = True
    uses: tuple = ()
    hashed: hashes.HashAlgorithm | None = None

    def __post_init__(self):
        self.key = key(self.kind)
        self.certificate = self._made()

    @property
    def subject(self):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])

    def _made(self):
        signer = self.above or self
        builder = _builder(self.subject, signer.subject, self.key, self.begins, self.ends)
        if self.constraints:
            limits = x509.BasicConstraints(self.is_ca, self.pathlen if self.is_ca else None)
            builder = builder.add_extension(limits, self.critical)
        if self.usage:
            builder = builder.add_extension(self.usage, True)
        if self.uses:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(self.uses)), False)
        if self.ski:
            found = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
            builder = builder.add_extension(found, False)
        if self.above and self.aki:
            builder = builder.add_extension(self.above.identifier(), False)
        return _signed(builder, signer.key, self.hashed)

    def identifier(self):
        """The authorityKeyIdentifier of what it signs."""
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())

    def leaf(self, own=None, subject="CN=x", san=(), uses=(SERVER, CLIENT), **more):
        """A certificate of this CA; ``own`` is its private key."""
        own = own or key()
        given = {"begins": NOW - HOUR, "ends": NOW + 30 * DAY, "aki": True, "hashed": None}
        given |= {"usage": usage(digital_signature=True, key_encipherment=True)}
        given |= {"constraints": True, "ca": False, **more}
        name = x509.Name.from_rfc4514_string(subject)
        builder = _builder(name, self.subject, own, given["begins"], given["ends"])
        if given["constraints"]:
            builder = builder.add_extension(x509.BasicConstraints(given["ca"], None), True)
        if given["usage"]:
            builder = builder.add_extension(given["usage"], True)
        if uses:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(uses)), False)
        if san:
            found = x509.SubjectAlternativeName(names(*san))
            # RFC 5280 4.2.1.6: critical where there is no subject.
            builder = builder.add_extension(found, not subject)
        if given["aki"]:
            aki = self.identifier() if given["aki"] is True else given["aki"]
            builder = builder.add_extension(aki, False)
        return _signed(builder, self.key, given["hashed"])


def _builder(subject, issuer, own, begins, ends):
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _signed(builder, private, hashed):
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return builder.sign(private, None)
    return builder.sign(private, hashed or hashes.SHA256())


_SHELL = """
set -e
cd "$1"
openssl genpkey $2 -out x.key
openssl genpkey $3 -out ca.key
openssl req -x509 -new -key ca.key -out ca.crt -subj /CN=ca -days 9 \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
openssl req -new -key x.key -out x.csr -subj /CN=etcd1
printf '%s\n' subjectAltName="$4" extendedKeyUsage=serverAuth,clientAuth \
  authorityKeyIdentifier=keyid > x.cnf
openssl x509 -req -in x.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 9 -out x.crt \
  -extfile x.cnf $5
"""
EC = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"
RSA = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"


@functools.cache
def by_openssl(san, own=EC, authority=EC, sign=""):
    """A pair that openssl's own program makes, since cryptography makes no such one.

    ``own`` and ``authority`` are options of ``openssl genpkey``, ``sign`` of ``openssl x509``.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = ["sh", "-c", _SHELL, "sh", folder, own, authority, ",".join(san), sign]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        return tuple(
            pathlib.Path(folder, name).read_bytes() for name in ("x.crt", "x.key", "ca.crt")
        )
