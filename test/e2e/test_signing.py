"""What the CA signs when a host that was taken over asks for it by itself."""

import datetime
import json

import pytest
from cryptography import x509
from lab_command import DOMAIN

KEY = "/tmp/own.key"


def request(lab, host, policy, **wanted):
    """Ask the CA from a host as its root could: the command, ended."""
    if lab.exec(host, "test", "-f", KEY).code:
        lab.salt_call(host, "x509.create_private_key", "algo=ec", f"path={KEY}").ok()
    asked = {"ca_server": f"ca.{DOMAIN}", "signing_policy": policy, "private_key": KEY, **wanted}
    pairs = [f"{name}={json.dumps(value)}" for name, value in asked.items()]
    return lab.salt_call(host, "x509.create_certificate", *pairs, "--out=json")


def signed(lab, host, policy, **wanted):
    done = request(lab, host, policy, **wanted).ok()
    return x509.load_pem_x509_certificate(json.loads(done.out)["local"].encode())


def policy_of(host, purpose):
    return f"etcd_ha_main_{purpose}_{host}.{DOMAIN}"


@pytest.mark.parametrize("purpose", ["server", "peer", "admin"])
def test_another_minion_s_policy_is_refused(converged, purpose):
    done = request(converged, "lb", policy_of("etcd1", purpose))
    assert done.code != 0 and "BEGIN CERTIFICATE" not in done.out, done.text
    assert "minion not permitted to use specified signing policy" in done.text


def test_a_policy_that_nobody_has_is_refused(converged):
    done = request(converged, "lb", policy_of("lb", "admin"))
    assert done.code != 0 and "BEGIN CERTIFICATE" not in done.out, done.text
    assert "signing_policy must be specified and defined" in done.text


def test_no_other_name_than_the_policy_s_is_signed(converged):
    certificate = signed(
        converged,
        "lb",
        policy_of("lb", "check"),
        CN="root",
        subjectAltName=[f"DNS:etcd1.{DOMAIN}"],
        basicConstraints="critical, CA:true",
        extendedKeyUsage="serverAuth",
        days_valid=36500,
    )
    assert certificate.subject.rfc4514_string() == f"OU=balancer-lb.{DOMAIN}"
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert constraints.ca is False
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert f"etcd1.{DOMAIN}" not in names.get_values_for_type(x509.DNSName)
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [use.dotted_string for use in uses] == ["1.3.6.1.5.5.7.3.2"]
    assert lifetime(certificate) <= datetime.timedelta(days=366)


def test_no_other_part_is_added_to_the_subject(converged):
    certificate = signed(converged, "lb", policy_of("lb", "check"), O="system:masters")
    assert "system:masters" not in certificate.subject.rfc4514_string()


def test_a_certificate_lasts_no_longer_than_the_policy_says(converged):
    """``not_after`` in a request wins over ``days_valid`` of a policy that is silent on it."""
    certificate = signed(converged, "lb", policy_of("lb", "check"), not_after="2126-01-01 00:00:00")
    assert lifetime(certificate) <= datetime.timedelta(days=366)


def lifetime(certificate):
    return certificate.not_valid_after_utc - certificate.not_valid_before_utc
