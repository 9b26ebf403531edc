"""Firewall rules in the words of ufw and firewalld: what is wanted, what is there, what differs.

Pure: text in, commands out. Rules are the ones of ``etcd_ha_host``: ``{port, protocol, sources,
why}``; without ``protocol`` it is TCP, and VRRP has no port.
"""

import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

# ufw keeps a comment with each rule: this one tells ours from everybody else's.
MARK = "etcd_ha: "
POLICY = "etcd_ha"
NFT_TABLE = "/etc/nftables.d/etcd_ha.nft"
NFT_UNIT = "etcd_ha-firewall.service"
UFW_CONFIG = "/etc/ufw/ufw.conf"
UFW_DEFAULTS = "/etc/default/ufw"
UFW_RULES = {4: "/etc/ufw/user.rules", 6: "/etc/ufw/user6.rules"}
FIREWALLD_POLICY = f"/etc/firewalld/policies/{POLICY}.xml"

# By its number, as a host may lack /etc/protocols. ufw takes names alone, and this one from 0.36.2.
VRRP, VRRP_NUMBER = "vrrp", 112

_ANYWHERE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True)
class UfwRule:
    """One rule of ufw; ``source`` is "any" where everybody is meant."""

    action: str
    port: str
    source: str
    comment: str = ""
    # Whatever else a rule may say (another protocol, direction, target ...); ours say nothing.
    other: tuple[str, ...] = ()
    protocol: str = "tcp"

    @property
    def ours(self) -> bool:
        return self.comment.startswith(MARK)

    @property
    def place(self) -> tuple[str, str, str, tuple[str, ...]]:
        """ufw has one rule at most of these; another action replaces it."""
        return self.protocol, self.port, self.source, self.other

    @property
    def words(self) -> list[str]:
        port = [] if self.port == "any" else ["port", self.port]
        return [self.action, "proto", self.protocol, "from", self.source, "to", "any", *port]

    def __str__(self) -> str:
        return " ".join(self.words)


def ufw_enabled(config: str) -> bool:
    """Whether ufw is switched on, from its ufw.conf."""
    return bool(re.search(r"^ENABLED=[\"']?yes", config, re.I | re.M))


def ufw_families(defaults: str) -> tuple[int, ...]:
    """The address families that ufw rules, from its defaults."""
    return (4,) if re.search(r"^IPV6=[\"']?no", defaults, re.I | re.M) else (4, 6)


def ufw_parse(text: str) -> list[UfwRule]:
    """The rules of ufw's own file (user.rules, user6.rules), in the order in which they apply.

    Each stands there as ``### tuple ### ACTION PROTOCOL PORT TO PORT FROM in [comment=HEX]``.
    """
    rules = []
    for line in text.splitlines():
        if not line.startswith("### tuple ### "):
            continue
        words = line.removeprefix("### tuple ### ").split()
        comment = ""
        if words[-1].startswith("comment="):
            comment = binascii.unhexlify(words.pop().removeprefix("comment=")).decode()
        if len(words) < 7:
            continue
        action, protocol, port, target, source_port, source, *rest = words
        known = protocol == "tcp" or (protocol, port) == (VRRP, "any")
        plain = known and (source_port, *rest) == ("any", "in") and target in _ANYWHERE
        rules.append(
            UfwRule(
                action,
                port,
                "any" if source in _ANYWHERE else source,
                comment,
                () if plain else (protocol, target, source_port, *rest),
                protocol if plain else "tcp",
            )
        )
    return rules


def ufw_wanted(rules: Iterable[Mapping[str, Any]], family: int) -> list[UfwRule]:
    """Our rules of one family, in order: for each port who may, then that nobody else may."""
    wanted = []
    for rule in rules:
        port, why = str(rule["port"] or "any"), MARK + rule["why"]
        protocol = rule.get("protocol", "tcp")
        for source in rule["sources"]:
            if (":" in source) == (family == 6):
                wanted.append(UfwRule("allow", port, source, why, protocol=protocol))
        wanted.append(UfwRule("deny", port, "any", f"{why}, nobody else", protocol=protocol))
    return wanted


def ufw_conflicts(
    rules: Sequence[Mapping[str, Any]], found: Mapping[int, Sequence[UfwRule]]
) -> list[UfwRule]:
    """Rules that are not ours and stand where ours belong: ufw would replace them, or refuse."""
    taken = []
    for family, present in found.items():
        places = {rule.place for rule in ufw_wanted(rules, family)}
        taken += [rule for rule in present if not rule.ours and rule.place in places]
    return list(dict.fromkeys(taken))


def ufw_commands(
    rules: Sequence[Mapping[str, Any]], found: Mapping[int, Sequence[UfwRule]]
) -> list[list[str]]:
    """What to call ufw with, in order, so that our rules are the wanted ones.

    The first rule that matches wins, so ours stand in front of all others: an "allow" for the whole
    company's network must not open the peer port.
    """
    delete: list[UfwRule] = []
    add: list[UfwRule] = []
    wanted = {family: ufw_wanted(rules, family) for family in found}
    ours = {family: [rule for rule in present if rule.ours] for family, present in found.items()}
    for family, present in ours.items():
        delete += [rule for rule in present if rule not in wanted[family]]
    for port in dict.fromkeys(str(rule["port"] or "any") for rule in rules):
        afresh = any(not _closed(port, wanted[family], ours[family]) for family in found)
        for family in found:
            of_port = [rule for rule in wanted[family] if rule.port == port]
            present = [rule for rule in ours[family] if rule in of_port]
            delete += present if afresh else []
            add += of_port if afresh else [rule for rule in of_port if rule not in present]
    # Each is put in front of all others: what is to come first is added last.
    return [
        *(["delete", *rule.words] for rule in _once(delete)),
        *(["prepend", *rule.words, "comment", rule.comment] for rule in _once(reversed(add))),
    ]


def _once(rules: Iterable[UfwRule]) -> list[UfwRule]:
    """One command serves both families where everybody is meant."""
    return list(dict.fromkeys(rules))


def _closed(port: str, wanted: Sequence[UfwRule], ours: Sequence[UfwRule]) -> bool:
    """The rule that closes a port is there, behind all that open it."""
    present = [rule for rule in ours if rule.port == port and rule in wanted]
    return bool(present) and present[-1].action == "deny"


def rich_rules(rules: Iterable[Mapping[str, Any]]) -> list[str]:
    """The rules in firewalld's rich language, as it prints them itself."""
    result = []
    for rule in rules:
        port = f'port port="{rule["port"]}" protocol="tcp"'
        if not rule["port"]:
            port = f'protocol value="{VRRP_NUMBER}"'
        for source in rule["sources"]:
            family = "ipv6" if ":" in source else "ipv4"
            address = f'family="{family}" source address="{source}"'
            result.append(f'rule priority="-100" {address} {port} accept')
        # A higher number comes later; without a family it holds for both.
        result.append(f'rule priority="100" {port} drop')
    return result


def policy_xml(rules: Iterable[Mapping[str, Any]]) -> str:
    """A policy of firewalld that holds our rules: for all zones, before their own rules."""
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        '<policy priority="-100" target="CONTINUE">',
        "  <short>etcd_ha</short>",
        "  <description>Who may reach etcd; kept by Salt.</description>",
        '  <ingress-zone name="ANY"/>',
        '  <egress-zone name="HOST"/>',
    ]
    for rule in rules:
        port = f'<port port="{rule["port"]}" protocol="tcp"/>'
        if not rule["port"]:
            port = f'<protocol value="{VRRP_NUMBER}"/>'
        for source in rule["sources"]:
            family = "ipv6" if ":" in source else "ipv4"
            lines.append(
                f'  <rule priority="-100" family="{family}">'
                f"<source address={quoteattr(source)}/>{port}<accept/></rule>"
            )
        lines.append(f'  <rule priority="100">{port}<drop/></rule>')
    return "\n".join([*lines, "</policy>"]) + "\n"
