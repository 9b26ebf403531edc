"""The rules in the words of ufw and firewalld."""

import xml.etree.ElementTree as ElementTree

import etcd_ha_firewall as firewall
import pytest
from etcd_ha_firewall import UfwRule

PEERS = {"port": 2380, "sources": ["10.0.0.1", "10.0.0.2"], "why": "etcd peers"}
CLIENTS = {"port": 2379, "sources": ["10.0.0.1", "fd00::/64"], "why": "etcd clients"}
RULES = [PEERS, CLIENTS]

OURS = b"etcd_ha: etcd peers".hex()
USER_RULES = f"""\
*filter
### tuple ### allow tcp 2380 0.0.0.0/0 any 10.0.0.1 in comment={OURS}
-A ufw-user-input -p tcp --dport 2380 -s 10.0.0.1 -j ACCEPT

### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in
-A ufw-user-input -p tcp --dport 22 -j ACCEPT

### tuple ### allow udp 53 0.0.0.0/0 any 10.0.0.0/8 in
### tuple ### limit tcp 22 10.0.0.5 any 0.0.0.0/0 OpenSSH - in
"""


class Ufw:
    """What ufw does with its rules, as read from 0.36.2 by running it."""

    def __init__(self, rules=()):
        self.found = {4: list(rules), 6: []}

    def call(self, commands):
        for words in commands:
            verb, action, _, _, _, source, _, _, _, port, *comment = words
            rule = UfwRule(action, port, source, comment[1] if comment else "")
            families = (4, 6) if source == "any" else (6,) if ":" in source else (4,)
            for family in families:
                present = self.found[family]
                if verb == "prepend":
                    assert rule.place not in [other.place for other in present], "replaces a rule"
                    present.insert(0, rule)
                else:
                    present[:] = [o for o in present if (o.action, o.place) != (action, rule.place)]

    def converge(self, rules):
        self.call(firewall.ufw_commands(rules, self.found))
        return self.found


def wanted(rules):
    return {family: firewall.ufw_wanted(rules, family) for family in (4, 6)}


def same(found, rules):
    """Ours are the wanted ones, and each port is closed behind all that open it."""
    for family, present in found.items():
        ours = [rule for rule in present if rule.ours]
        assert set(ours) == set(firewall.ufw_wanted(rules, family))
        for rule in rules:
            of_port = [o.action for o in ours if o.port == str(rule["port"])]
            assert of_port[-1] == "deny" and "deny" not in of_port[:-1]


def test_ufw_s_own_file_is_read():
    ours, ssh, dns, limited = firewall.ufw_parse(USER_RULES)
    assert ours == UfwRule("allow", "2380", "10.0.0.1", "etcd_ha: etcd peers") and ours.ours
    assert (ssh.source, ssh.port, ssh.ours, ssh.other) == ("any", "22", False, ())
    assert dns.other and limited.other


def test_the_first_converge_adds_all_in_front_of_others():
    theirs = UfwRule("allow", "22", "any")
    ufw = Ufw([theirs])
    found = ufw.converge(RULES)
    same(found, RULES)
    assert found[4][-1] == theirs
    assert firewall.ufw_commands(RULES, found) == []


def test_nobody_is_shut_out_while_one_who_may_is_added():
    ufw = Ufw()
    ufw.converge([PEERS])
    more = {**PEERS, "sources": [*PEERS["sources"], "10.0.0.3"]}
    commands = firewall.ufw_commands([more], ufw.found)
    assert [words[:2] for words in commands] == [["prepend", "allow"]]
    same(ufw.converge([more]), [more])


def test_what_is_no_longer_wanted_goes_and_theirs_stay():
    theirs = UfwRule("allow", "2379", "10.9.0.0/16")
    ufw = Ufw([theirs])
    ufw.converge(RULES)
    less = [{**CLIENTS, "sources": ["fd00::/64"]}]
    same(ufw.converge(less), less)
    assert ufw.converge([]) == {4: [theirs], 6: []}


@pytest.mark.parametrize("family", [4, 6])
def test_a_rule_that_closes_a_port_comes_back_behind_those_that_open_it(family):
    ufw = Ufw()
    ufw.converge(RULES)
    ufw.found[family] = [r for r in ufw.found[family] if r.action == "allow"]
    same(ufw.converge(RULES), RULES)


def test_rules_out_of_order_are_put_in_order():
    ufw = Ufw()
    ufw.converge(RULES)
    ufw.found[4].reverse()
    same(ufw.converge(RULES), RULES)


def test_a_rule_of_theirs_in_our_place_is_a_conflict():
    theirs = [UfwRule("allow", "2379", "any"), UfwRule("allow", "2380", "10.0.0.1", "mine")]
    elsewhere = [UfwRule("allow", "2379", "10.0.0.1", other=("udp", "0.0.0.0/0", "any", "in"))]
    found = {4: [*theirs, *elsewhere], 6: []}
    assert firewall.ufw_conflicts(RULES, found) == theirs


def test_ufw_s_settings():
    assert firewall.ufw_enabled("# x\nENABLED=yes\n")
    assert not firewall.ufw_enabled("ENABLED=no\n") and not firewall.ufw_enabled("")
    assert firewall.ufw_families("IPV6=no") == (4,)
    assert firewall.ufw_families("IPV6=yes") == firewall.ufw_families("") == (4, 6)


def test_firewalld_lets_in_before_it_drops():
    rules = firewall.rich_rules([CLIENTS])
    assert rules == [
        'rule priority="-100" family="ipv4" source address="10.0.0.1" '
        'port port="2379" protocol="tcp" accept',
        'rule priority="-100" family="ipv6" source address="fd00::/64" '
        'port port="2379" protocol="tcp" accept',
        'rule priority="100" port port="2379" protocol="tcp" drop',
    ]


def test_the_policy_holds_the_same_rules():
    policy = ElementTree.fromstring(firewall.policy_xml(RULES))
    assert policy.attrib == {"priority": "-100", "target": "CONTINUE"}
    assert len(policy.findall("rule")) == len(firewall.rich_rules(RULES))
    assert [z.get("name") for z in policy.iter() if z.tag.endswith("-zone")] == ["ANY", "HOST"]


VRRP = {"port": 0, "protocol": "vrrp", "sources": ["10.0.0.8"], "why": "VRRP of the balancers"}


def test_vrrp_has_no_port():
    assert firewall.rich_rules([VRRP]) == [
        'rule priority="-100" family="ipv4" source address="10.0.0.8" protocol value="112" accept',
        'rule priority="100" protocol value="112" drop',
    ]
    policy = ElementTree.fromstring(firewall.policy_xml([VRRP]))
    assert [one.get("value") for one in policy.iter("protocol")] == ["112", "112"]
    words = firewall.ufw_commands([VRRP], {4: [], 6: []})
    assert ["prepend", "allow", "proto", "vrrp", "from", "10.0.0.8", "to", "any"] in [
        one[:8] for one in words
    ]
    assert not [one for one in words if "port" in one]


def test_vrrp_in_ufw_s_own_file_is_known_again():
    comment = b"etcd_ha: VRRP of the balancers".hex()
    text = f"### tuple ### allow vrrp any 0.0.0.0/0 any 10.0.0.8 in comment={comment}\n"
    (rule,) = firewall.ufw_parse(text)
    assert rule == firewall.ufw_wanted([VRRP], 4)[0]
    deny = firewall.ufw_wanted([VRRP], 4)[1]
    assert firewall.ufw_commands([VRRP], {4: [rule, deny]}) == []
    theirs = UfwRule("allow", "any", "10.0.0.8", protocol="vrrp")
    assert firewall.ufw_conflicts([VRRP], {4: [theirs]}) == [theirs]
