"""Each certificate has a policy of its own that leaves its asker nothing to choose."""

import etcd_ha_certificates
import etcd_ha_topology

PINNED = {
    "minions",
    "CN",
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
    assert {"IP:192.168.200.56", "IP:127.0.0.1", "IP:192.168.200.52"} <= set(
        server["subjectAltName"]
    )


def test_a_ca_signs_for_its_own_clusters_only(pillar, defaults):
    clusters = etcd_ha_topology.read(pillar, defaults)
    assert etcd_ha_certificates.policies(clusters.values(), "other.example.com") == {}
