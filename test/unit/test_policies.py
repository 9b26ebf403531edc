"""Each certificate has a policy of its own that leaves its asker nothing to choose."""

import etcd_ha_certificates
import etcd_ha_topology

PINNED = {
    "minions",
    "subject",
    "subjectAltName",
    "basicConstraints",
    "keyUsage",
    "extendedKeyUsage",
    "days_valid",
    "signing_private_key",
    "signing_cert",
}


def test_a_policy_serves_one_minion_and_pins_everything(cluster):
    policies = etcd_ha_certificates.policies([cluster], "ca.example.com")
    assert len(policies) == 3 * 3 + 1
    for policy in policies.values():
        assert policy.keys() >= PINNED
        assert policy["basicConstraints"] == "critical, CA:false"
        assert not set("*?[]@") & set(policy["minions"])


def test_a_request_can_add_neither_lifetime_nor_names_nor_extensions(cluster):
    import salt.utils.x509 as x509

    policy = etcd_ha_certificates.policies([cluster], "ca.example.com")[
        "etcd_ha_main_admin_etcd1.example.com"
    ]
    greedy = {
        "not_after": "2126-01-01 00:00:00",
        "O": "system:masters",
        "subject": "CN=mallory",
        "nameConstraints": "critical, permitted;DNS:x",
        "subjectAltName": ["DNS:etcd2.example.com"],
        "days_valid": 9999,
    }
    merged = x509.merge_signing_policy(policy, dict(greedy))
    assert merged["subject"] == "CN=root"
    assert merged["not_after"] is None and merged["nameConstraints"] is None
    assert merged["days_valid"] == 365 and merged["subjectAltName"] == ["DNS:root"]
    known = set(x509.EXTENSIONS_OID) & set(x509.CERT_EXTS)
    assert known <= set(policy), "Salt knows an extension that the policy leaves open"


def test_more_names_stand_in_the_server_certificates_alone(pillar, defaults):
    pillar["clusters"]["main"]["tls"]["names"] = ["etcd.example.com", "192.168.200.99", "fd00::9"]
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    added = {"DNS:etcd.example.com", "IP:192.168.200.99", "IP:fd00::9"}
    for name, policy in etcd_ha_certificates.policies([cluster], "ca.example.com").items():
        expected = added if "_server_" in name else set()
        assert added & set(policy["subjectAltName"]) == expected, name


def test_a_subject_cannot_be_broken_out_of(pillar, defaults):
    pillar["clusters"]["main"]["tls"]["ca"]["organization"] = "Acme, Inc.+O=x"
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    policy = next(iter(etcd_ha_certificates.policies([cluster], "ca.example.com").values()))
    assert policy["subject"] == "CN=etcd1,O=Acme\\, Inc.\\+O\\=x"


def test_no_minion_can_have_another_ones_names(cluster):
    policies = etcd_ha_certificates.policies([cluster], "ca.example.com")
    for policy in policies.values():
        if policy["minions"] != "etcd1.example.com":
            assert "IP:192.168.200.52" not in policy["subjectAltName"]
            assert "DNS:etcd1.example.com" not in policy["subjectAltName"]


def test_servers_are_clients_too_and_balancers_are_not_servers(cluster):
    policies = etcd_ha_certificates.policies([cluster], "ca.example.com")
    server = policies["etcd_ha_main_server_etcd1.example.com"]
    check = policies["etcd_ha_main_check_lb.example.com"]
    assert server["extendedKeyUsage"] == "serverAuth, clientAuth"
    assert check["extendedKeyUsage"] == "clientAuth"
    # A common name would be a user of etcd's, and keep it from etcd's HTTP gateway.
    assert check["subject"] == "OU=balancer-lb.example.com"
    assert {"IP:192.168.200.56", "IP:127.0.0.1", "IP:192.168.200.52"} <= set(
        server["subjectAltName"]
    )


def test_a_ca_signs_for_its_own_clusters_only(pillar, defaults):
    clusters = etcd_ha_topology.read(pillar, defaults)
    assert etcd_ha_certificates.policies(clusters.values(), "other.example.com") == {}
