"""The virtual address: what is refused, what keepalived is told, who holds it."""

import json

import etcd_ha_arguments
import etcd_ha_certificates
import etcd_ha_environment
import etcd_ha_host
import etcd_ha_report
import etcd_ha_topology
import etcd_ha_virtual
import pytest

ADDRESS = "192.168.200.50"
LB, LB2 = "lb.example.com", "lb2.example.com"


@pytest.fixture
def shared(pillar):
    """A pillar with two balancers behind one address."""
    main = pillar["clusters"]["main"]
    main["load_balancers"][LB2] = {"address": "192.168.200.57"}
    main["balancer"] = {"virtual_address": {"address": ADDRESS}}
    return pillar


def read(pillar, defaults):
    return etcd_ha_topology.read(pillar, defaults)["main"]


def described(pillar, defaults, minion=LB):
    return etcd_ha_host.describe(minion, [read(pillar, defaults)], "amd64")


WRONG = [
    ({"address": "192.168.200.999"}, "virtual_address:address is '192.168.200.999'"),
    ({"address": "127.0.0.5"}, "virtual_address:address is '127.0.0.5'"),
    ({"address": "0.0.0.0"}, "virtual_address:address is '0.0.0.0'"),
    ({"address": "224.0.0.18"}, "virtual_address:address is '224.0.0.18'"),
    ({"address": 50}, "virtual_address:address is 50"),
    ({"address": "192.168.200.52"}, "which is etcd1.example.com's own"),
    ({"address": "192.168.200.57"}, "which is lb2.example.com's own"),
    ({"address": "fd00::50"}, "IPv4 or IPv6"),
    ({"prefix_length": 33}, "virtual_address:prefix_length is 33; give a number from 1 to 32"),
    ({"prefix_length": "24"}, "virtual_address:prefix_length is '24'"),
    ({"interface": "eth0; reboot"}, "virtual_address:interface is 'eth0; reboot'"),
    ({"interface": "a-name-that-is-too-long"}, "virtual_address:interface"),
    ({"router_id": 0}, "virtual_address:router_id is 0"),
    ({"router_id": 256}, "virtual_address:router_id is 256"),
    ({"router_id": True}, "virtual_address:router_id is True"),
    ({"advert_interval": 0}, "virtual_address:advert_interval is 0"),
    ({"advert_interval": 41}, "virtual_address:advert_interval is 41"),
    ({"check_interval": 1.5}, "virtual_address:check_interval is 1.5"),
    ({"adress": ADDRESS}, "did you mean 'address'"),
]


@pytest.mark.parametrize(("values", "told"), WRONG)
def test_what_is_wrong_is_refused_by_its_key(shared, defaults, values, told):
    shared["clusters"]["main"]["balancer"]["virtual_address"].update(values)
    with pytest.raises(etcd_ha_topology.PillarError) as refused:
        read(shared, defaults)
    assert [fault for fault in refused.value.faults if told in fault], refused.value.faults


def test_an_address_needs_a_balancer(shared, defaults):
    shared["clusters"]["main"]["load_balancers"] = {}
    with pytest.raises(etcd_ha_topology.PillarError, match="no load balancer to hold it"):
        read(shared, defaults)


def test_balancers_must_listen_where_clients_come(shared, defaults):
    shared["clusters"]["main"]["balancer"]["bind"] = "192.168.200.56"
    with pytest.raises(etcd_ha_topology.PillarError, match="nobody listens at that address"):
        read(shared, defaults)


def test_two_clusters_do_not_share_an_address(shared, defaults):
    other = {
        "version": "3.6.14",
        "members": {"red1.example.com": {"address": "192.168.200.70"}},
        "load_balancers": {"redlb.example.com": {"address": "192.168.200.71"}},
        "tls": {"ca": {"minion": "ca.example.com"}},
        "balancer": {"virtual_address": {"address": ADDRESS}},
    }
    shared["clusters"]["red"] = other
    with pytest.raises(etcd_ha_topology.PillarError, match="which main has already"):
        read(shared, defaults)
    other["balancer"]["virtual_address"]["address"] = "192.168.200.52"
    with pytest.raises(etcd_ha_topology.PillarError, match="which main has already"):
        read(shared, defaults)
    other["balancer"]["virtual_address"]["address"] = "192.168.200.72"
    assert read(shared, defaults).virtual_address == ADDRESS


def test_one_balancer_is_allowed_but_noted(shared, defaults):
    del shared["clusters"]["main"]["load_balancers"][LB2]
    notes = etcd_ha_topology.warnings(read(shared, defaults))
    assert any("nobody takes the address over" in note for note in notes)


def test_clients_are_given_the_one_address_and_a_run_is_verified_by_all(shared, defaults):
    cluster = read(shared, defaults)
    assert etcd_ha_report.client_urls(cluster) == [f"https://{ADDRESS}:2379"]
    assert etcd_ha_report.verified_urls(cluster) == [
        f"https://{ADDRESS}:2379",
        "https://192.168.200.56:2379",
        "https://192.168.200.57:2379",
    ]
    assert f"--etcd-servers=https://{ADDRESS}:2379" in etcd_ha_report.consumer(
        cluster, "kube-apiserver"
    )


def test_without_one_all_is_as_before(cluster):
    assert etcd_ha_report.verified_urls(cluster) == etcd_ha_report.client_urls(cluster)
    found = etcd_ha_host.describe(LB, [cluster], "amd64")["balancer"]
    assert found["virtual"] is None and found["nonlocal"] is None
    assert found["listens"] == ["*:2379"]
    assert found["endpoints"] == [found["url"]] == ["https://192.168.200.56:2379"]
    assert [leaf["owner"] for leaf in found["pki"]["leaves"]] == ["root"]


def test_members_certificates_name_the_address(shared, defaults):
    cluster = read(shared, defaults)
    policies = etcd_ha_certificates.policies([cluster], "ca.example.com")
    having = {name for name, one in policies.items() if f"IP:{ADDRESS}" in one["subjectAltName"]}
    assert having == {f"etcd_ha_main_server_{m.minion}" for m in cluster.members}


def test_the_first_balancer_comes_first_and_each_knows_the_others(shared, defaults):
    one = described(shared, defaults, LB)["balancer"]["virtual"]
    two = described(shared, defaults, LB2)["balancer"]["virtual"]
    assert one["priority"] > two["priority"] > 0
    assert (one["own"], one["peers"]) == ("192.168.200.56", ["192.168.200.57"])
    assert (two["own"], two["peers"]) == ("192.168.200.57", ["192.168.200.56"])
    assert one["with_length"] == two["with_length"] == f"{ADDRESS}/32"
    asked = json.loads(two["settings_text"])
    assert asked["own"] == "https://127.0.0.1:2379"
    assert asked["others"] == ["https://192.168.200.56:2379"]
    assert asked["key"] == "/etc/etcd/main/check.key"
    # Longer than the check itself may take, or keepalived would end it in the midst.
    looks = 2 * asked["timeout"] + asked["pause"] + 2 * asked["others_timeout"]
    assert two["check_timeout"] >= looks - asked["others_timeout"]


def test_many_balancers_all_have_a_priority_that_vrrp_knows(shared, defaults):
    main = shared["clusters"]["main"]
    main["load_balancers"] = {f"lb{n}.example.com": f"10.0.0.{n}" for n in range(1, 41)}
    found = [
        described(shared, defaults, minion)["balancer"]["virtual"]["priority"]
        for minion in main["load_balancers"]
    ]
    assert found == sorted(found, reverse=True) and found[0] <= 254 and found[-1] == 1


def test_the_check_s_key_is_its_user_s_alone(shared, defaults):
    (leaf,) = described(shared, defaults)["balancer"]["pki"]["leaves"]
    assert (leaf["owner"], leaf["group"]) == (etcd_ha_virtual.USER,) * 2
    member = described(shared, defaults, "etcd1.example.com")["member"]
    assert {leaf["owner"] for leaf in member["pki"]["leaves"]} == {"root", "etcd"}


@pytest.mark.parametrize(
    ("address", "others", "loopback", "sysctl"),
    [
        (ADDRESS, {}, "127.0.0.1", "net.ipv4.ip_nonlocal_bind"),
        (
            "fd00::50",
            {LB: "fd00::56", LB2: "fd00::57"},
            "[::1]",
            "net.ipv6.ip_nonlocal_bind",
        ),
    ],
)
def test_balancers_may_listen_at_the_address_alone(
    shared, defaults, address, others, loopback, sysctl
):
    main = shared["clusters"]["main"]
    main["balancer"].update(bind=address, virtual_address={"address": address})
    main["load_balancers"].update(others)
    found = described(shared, defaults)["balancer"]
    place = f"[{address}]" if ":" in address else address
    assert found["listens"] == [f"{place}:2379", f"{loopback}:2379"]
    assert found["nonlocal"] == sysctl
    # Whoever asked the address itself would ask the balancer that holds it.
    assert found["url"] == f"https://{loopback}:2379"
    assert found["endpoints"] == [f"https://{place}:2379"]
    assert json.loads(found["virtual"]["settings_text"])["others"] == []
    assert etcd_ha_report.verified_urls(read(shared, defaults)) == [f"https://{place}:2379"]


def test_the_mark_knows_what_is_to_be_taken_away(shared, defaults):
    mark = etcd_ha_host.mark(described(shared, defaults), "digest", {})
    assert mark["balancer"]["virtual_address"] == ADDRESS
    assert mark["balancer"]["endpoints"] == [
        f"https://{ADDRESS}:2379",
        "https://192.168.200.56:2379",
    ]


def test_the_firewall_states_take_every_rule_of_a_balancer(shared, defaults):
    shared["clusters"]["main"]["firewall"] = {"enabled": True}
    rules = described(shared, defaults)["firewall"]["rules"]
    assert rules[-1]["protocol"] == "vrrp"
    assert etcd_ha_arguments.fault({"rules": rules}) == ""
    for wrong in ({"protocol": "tcp"}, {"port": 112}, {"protocol": "udp"}):
        assert "rules is" in etcd_ha_arguments.fault({"rules": [{**rules[-1], **wrong}]})


def test_vrrp_passes_between_balancers_alone(shared, defaults):
    shared["clusters"]["main"]["firewall"] = {"enabled": True}
    rules = described(shared, defaults)["firewall"]["rules"]
    (vrrp,) = [rule for rule in rules if rule["protocol"] == "vrrp"]
    assert (vrrp["port"], vrrp["sources"]) == (0, ["192.168.200.57"])
    (clients,) = [rule for rule in rules if rule["port"] == 2379]
    assert "192.168.200.57" in clients["sources"], "they ask each other whether they could hold it"
    of_member = described(shared, defaults, "etcd1.example.com")["firewall"]["rules"]
    assert {rule["protocol"] for rule in of_member} == {"tcp"}


IP = """[
 {"ifname": "lo", "addr_info": [{"family": "inet", "local": "127.0.0.1"}]},
 {"ifname": "eth0", "addr_info": [
   {"family": "inet", "local": "192.168.200.56", "prefixlen": 24},
   {"family": "inet6", "local": "fd00:0:0::56"}, {"family": "inet"}]},
 {"ifname": "down0"}]"""


def test_the_interface_is_the_one_with_the_address():
    found = etcd_ha_virtual.parse_addresses(IP)
    assert etcd_ha_virtual.interface_of("192.168.200.56", found) == "eth0"
    assert etcd_ha_virtual.interface_of("fd00::56", found) == "eth0"
    assert etcd_ha_virtual.interface_of("192.168.200.57", found) == ""


@pytest.mark.parametrize(
    "text",
    ["", "[", "{}x", '{"ifname": 5}', "[5]", '[{"addr_info": [{"local": "10.0.0.1"}]}]', "null"],
)
def test_what_is_no_list_of_addresses_is_an_error_and_no_empty_one(text):
    with pytest.raises(ValueError, match="no list of addresses"):
        etcd_ha_virtual.parse_addresses(text)


@pytest.mark.parametrize(
    ("holders", "told"),
    [
        ((LB2,), f"{ADDRESS} is held by {LB2}"),
        ((LB, LB2), "at once: they do not hear each other"),
        ((), "is held by nobody"),
    ],
)
def test_status_says_who_holds_it(shared, defaults, holders, told):
    facts = {
        minion: {"balancer": {"healthy": True, "holds_address": minion in holders}}
        for minion in (LB, LB2)
    }
    assert told in etcd_ha_report.status(read(shared, defaults), facts).text.splitlines()[-1]


def test_status_names_who_could_not_be_asked(shared, defaults):
    facts = {LB: {"balancer": {"healthy": True, "holds_address": False}}}
    assert f"({LB2} did not answer)" in etcd_ha_report.status(read(shared, defaults), facts).text


# The peer port


def test_only_a_peer_s_certificate_opens_the_peer_port(cluster):
    variables = etcd_ha_environment.variables(cluster, cluster.members[0])
    name = variables["ETCD_PEER_CERT_ALLOWED_HOSTNAME"]
    for policy, wanted in etcd_ha_certificates.policies([cluster], "ca.example.com").items():
        is_peer = policy.startswith("etcd_ha_main_peer_")
        assert (f"DNS:{name}" in wanted["subjectAltName"]) is is_peer, policy


def test_while_a_ca_is_exchanged_it_stays_as_it_is(cluster):
    member = cluster.members[0]
    assert etcd_ha_environment.PEER_NAME not in etcd_ha_environment.variables(
        cluster, member, peer_name=""
    )
    kept = etcd_ha_environment.variables(cluster, member, peer_name="peer.old")
    assert kept[etcd_ha_environment.PEER_NAME] == "peer.old"
    stage = {"trust": "both", "peer_name": ""}
    described = etcd_ha_host.describe(member.minion, [cluster], "amd64", {"stage": stage})
    assert etcd_ha_environment.PEER_NAME not in described["member"]["environment"]


def test_a_host_whose_ca_is_being_exchanged_is_as_it_should_be(cluster):
    """Otherwise an exchange that waits for the user would be planned again and again."""
    minion = cluster.members[0].minion
    final = etcd_ha_host.describe(minion, [cluster], "amd64")
    stage = {"trust": "issued", "peer_name": ""}
    waiting = etcd_ha_host.describe(minion, [cluster], "amd64", {"stage": stage})
    assert waiting["member"]["environment_text"] != final["member"]["environment_text"]
    assert etcd_ha_host.digest(waiting, "s") == etcd_ha_host.digest(final, "s")
    other = dict(final, member={**final["member"], "environment": {"ETCD_NAME": "x"}})
    assert etcd_ha_host.digest(other, "s") != etcd_ha_host.digest(final, "s")


@pytest.mark.parametrize("option", ["peer-cert-allowed-cn", "peer-cert-allowed-hostname"])
def test_the_user_s_own_choice_of_peers_counts(pillar, defaults, option):
    """Both at once would keep etcd from starting."""
    pair = {"certificate": "/root/a.crt", "key": "/root/a.key"}
    files = {"ca": {"certificate": "/root/ca.crt"}, "server": pair, "peer": pair, "client": pair}
    pillar["clusters"]["main"]["tls"] = {"source": "files", "files": files}
    pillar["clusters"]["main"]["options"] = {option: "mine"}
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    found = etcd_ha_environment.variables(cluster, cluster.members[0])
    named = {name: value for name, value in found.items() if "PEER_CERT_ALLOWED" in name}
    assert list(named.values()) == ["mine"]


def test_certificates_of_the_user_have_no_such_name(pillar, defaults):
    pair = {"certificate": "/root/a.crt", "key": "/root/a.key"}
    files = {"ca": {"certificate": "/root/ca.crt"}, "server": pair, "peer": pair, "client": pair}
    pillar["clusters"]["main"]["tls"] = {"source": "files", "files": files}
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    for asked in (None, "peer.old"):
        found = etcd_ha_environment.variables(cluster, cluster.members[0], peer_name=asked)
        assert etcd_ha_environment.PEER_NAME not in found
