"""The master's ``peer`` setting: who may ask the CA, and who may do more."""

import etcd_ha_peers
import pytest

ETCD1, LB = "etcd1.example.com", "lb.example.com"
NEEDED = ["etcd_ha_ca.sign", "x509.sign_remote_certificate"]
README = {r"etcd1\.example\.com$": NEEDED}


def test_the_readme_s_setting_is_enough_and_no_more():
    assert etcd_ha_peers.may_ask(README, ETCD1)
    assert not etcd_ha_peers.may_ask(README, LB)
    assert etcd_ha_peers.notes(README, [ETCD1, LB]) == []


@pytest.mark.parametrize("functions", [[".*"], ["x509.*"], ["test.ping"], ["cmd.run", "x509.*"]])
def test_more_than_that_is_noted(functions):
    peer = {**README, "etcd.*": functions}
    told = etcd_ha_peers.notes(peer, [ETCD1, LB])
    assert len(told) == len(functions)
    assert all(ETCD1 in note and LB not in note for note in told)


def test_an_escaped_name_is_the_same_function():
    peer = {".*": [r"x509\.sign_remote_certificate$", r"etcd_ha_ca\.sign$"]}
    assert etcd_ha_peers.may_ask(peer, ETCD1) and etcd_ha_peers.notes(peer, [ETCD1]) == []


def test_what_is_no_list_grants_nothing():
    assert etcd_ha_peers.granted({".*": None, "etcd": "x509.*"}, ETCD1) == []
    assert etcd_ha_peers.granted({".*": [{"G@os:Debian": ["test.ping"]}]}, ETCD1) == []


def test_a_host_that_may_not_ask_is_named_with_its_cure(cluster):
    told = etcd_ha_peers.refusal(README, cluster)
    cure = "peer:\n  etcd2\\.example\\.com$:" + "".join(f"\n    - {one}" for one in NEEDED)
    assert "does not let etcd2.example.com ask" in told and told.endswith(cure)
    assert etcd_ha_peers.refusal({".*": NEEDED}, cluster) == ""


@pytest.mark.parametrize("lacking", NEEDED)
def test_one_of_the_two_functions_is_not_enough(cluster, lacking):
    peer = {".*": [one for one in NEEDED if one != lacking]}
    assert not etcd_ha_peers.may_ask(peer, ETCD1)
    assert lacking in etcd_ha_peers.refusal(peer, cluster)


def test_own_certificates_need_no_leave(cluster):
    cluster.settings["tls"]["source"] = "files"
    assert etcd_ha_peers.refusal({}, cluster) == ""
