"""Certificates as somebody may make them who has a CA's key: whatever they say, signed well."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

USES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
CA_DIR = "/etc/pki/etcd_ha/main"


class Authority:
    """A CA whose key is known."""

    def __init__(self, certificate, key):
        self.text = certificate
        self.certificate = x509.load_pem_x509_certificate(certificate.encode())
        self.key = serialization.load_pem_private_key(key.encode(), None)

    @classmethod
    def stolen(cls, lab, host="ca", folder=CA_DIR):
        """The CA of a lab, read by root on its host."""
        return cls(
            *(lab.exec(host, "cat", f"{folder}/ca.{end}").ok().out for end in ("crt", "key"))
        )

    @classmethod
    def strange(cls):
        """A CA that nobody trusts."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "etcd main CA")])
        made = _built(name, name, key.public_key(), 0, 10)
        made = made.add_extension(x509.BasicConstraints(True, None), critical=True)
        return cls(_pem(made.sign(key, hashes.SHA256())), _key_text(key))

    def issue(self, name, names=(), uses=("server", "client"), began=1, ends=10):
        """A certificate and its key as PEM; it began and ends so many days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = _built(subject, self.certificate.subject, key.public_key(), began, ends)
        made = made.add_extension(x509.BasicConstraints(False, None), critical=True)
        made = made.add_extension(
            x509.ExtendedKeyUsage([USES[use] for use in uses]), critical=False
        )
        if names:
            alternative = x509.SubjectAlternativeName([_name(one) for one in names])
            made = made.add_extension(alternative, critical=False)
        return _pem(made.sign(self.key, hashes.SHA256())), _key_text(key)


def put(lab, host, pair, ca, folder="/tmp/forged"):
    """Lay a pair and a CA's certificate on a host; the paths, as the ``tls`` probe takes them."""
    paths = {"certificate": f"{folder}/crt", "key": f"{folder}/key", "ca": f"{folder}/ca"}
    for path, text in zip(paths.values(), (*pair, ca), strict=True):
        lab.write(host, path, text)
    return paths


def _built(subject, issuer, key, began, ends):
    now, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - began * day)
        .not_valid_after(now + ends * day)
    )


def _name(text):
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_text(key):
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(
        serialization.Encoding.PEM, form, serialization.NoEncryption()
    ).decode()
