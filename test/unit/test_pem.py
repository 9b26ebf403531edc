"""Certificates as hashes, and whose signature they bear."""

import datetime

import etcd_ha_pem
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def key():
    return ec.generate_private_key(ec.SECP256R1())


def signed(name, public_key, by, by_key, days=30):
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name.from_rfc4514_string(f"CN={name}"))
        .issuer_name(x509.Name.from_rfc4514_string(f"CN={by}"))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=days, hours=1))
        .sign(by_key, hashes.SHA256())
    )


def pem(*certificates):
    return "".join(c.public_bytes(serialization.Encoding.PEM).decode() for c in certificates)


def key_text(private):
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


@pytest.fixture(scope="module")
def made():
    """Two CAs of the same name, the first one's renewed certificate, and leaves of both."""
    one, two = key(), key()
    return {
        "key of one": one,
        "one": pem(signed("CA", one.public_key(), "CA", one)),
        "renewed": pem(signed("CA", one.public_key(), "CA", one, days=60)),
        "two": pem(signed("CA", two.public_key(), "CA", two)),
        "leaf of one": pem(signed("leaf", key().public_key(), "CA", one)),
        "leaf of two": pem(signed("leaf", key().public_key(), "CA", two)),
    }


def test_a_renewed_certificate_is_of_the_same_ca(made):
    one, renewed = etcd_ha_pem.bundle(made["one"]), etcd_ha_pem.bundle(made["renewed"])
    assert one.authorities == renewed.authorities
    assert one.certificates != renewed.certificates
    assert (one.days_left, renewed.days_left) == (30, 60)


def test_a_ca_of_the_same_name_with_another_key_is_another_one(made):
    one, two = etcd_ha_pem.bundle(made["one"]), etcd_ha_pem.bundle(made["two"])
    assert not one.authorities & two.authorities


def test_the_signer_is_found_among_all_that_are_trusted(made):
    both = etcd_ha_pem.united(made["two"], made["one"])
    for leaf, ca in (("leaf of one", "one"), ("leaf of two", "two")):
        (wanted,) = etcd_ha_pem.bundle(made[ca]).authorities
        assert etcd_ha_pem.signer(made[leaf], both) == wanted
        assert etcd_ha_pem.same(etcd_ha_pem.of_signer(made[leaf], both), made[ca])
    assert etcd_ha_pem.signer(made["leaf of one"], made["two"]) == ""


def test_the_signer_is_found_through_a_chain(made):
    root, middle = key(), key()
    between = signed("middle", middle.public_key(), "root", root)
    leaf = signed("leaf", key().public_key(), "middle", middle)
    top = pem(signed("root", root.public_key(), "root", root))
    (wanted,) = etcd_ha_pem.bundle(top).authorities
    assert etcd_ha_pem.signer(pem(leaf, between), top) == wanted


def test_a_pair_fits_or_says_why_not(made):
    one = key()
    leaf = pem(signed("leaf", one.public_key(), "CA", made["key of one"]))
    assert etcd_ha_pem.misfit(leaf, key_text(one), made["one"]) == ""
    assert "another one's" in etcd_ha_pem.misfit(leaf, key_text(key()), made["one"])
    assert "did not sign it" in etcd_ha_pem.misfit(leaf, key_text(one), made["two"])
    assert "cannot be read" in etcd_ha_pem.misfit(leaf, "no key", made["one"])
    assert "cannot be read" in etcd_ha_pem.misfit("", key_text(one), made["one"])


def test_a_union_has_each_once_the_newer_first(made):
    text = etcd_ha_pem.united(made["two"], made["one"] + made["two"])
    assert text.count("BEGIN CERTIFICATE") == 2
    (two,) = etcd_ha_pem.bundle(made["two"]).authorities
    assert etcd_ha_pem.is_first(two, text)
    assert not etcd_ha_pem.is_first(two, made["one"] + made["two"])


@pytest.mark.parametrize("text", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAA\n"])
def test_what_is_no_certificate_is_a_value_error(text):
    with pytest.raises(ValueError):
        etcd_ha_pem.bundle(text)
    assert etcd_ha_pem.signer(text, text) == ""
