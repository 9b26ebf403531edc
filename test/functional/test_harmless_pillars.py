"""Pillars that look dangerous: Salt makes of them the same states as of plain ones."""

from __future__ import annotations

import json

import etcd_ha_environment
import etcd_ha_topology
import pytest
import salt.utils.yaml
import yaml
from compiled import FORMULA

MEMBER, BALANCER, CA = "etcd1.example.com", "lb.example.com", "ca.example.com"
CORPUS = FORMULA / "test" / "unit" / "bad_pillars" / "harmless.txt"
LINES = [line for line in CORPUS.read_text(encoding="utf-8").splitlines() if line[:1] not in "#"]
# The sections of which a balancer, or a CA, is made too.
OTHERS = {
    BALANCER: ("balancer", "load_balancers", "firewall", "members", "tls"),
    CA: ("tls",),
}
# What a state is told by, as text: YAML must not read something else there.
TEXTS = ("cluster", "user", "group", "gid", "ca_server", "signing_policy", "schedule", "action")


def laid_over(pillar, text):
    change = salt.utils.yaml.safe_load(text)
    return {"etcd_ha": etcd_ha_topology.merge(pillar["etcd_ha"], {"clusters": {"main": change}})}


def cases():
    for line in LINES:
        text = line.split(" | ", 2)[2]
        sections = salt.utils.yaml.safe_load(text)
        yield pytest.param(MEMBER, text)
        for minion, of in OTHERS.items():
            if set(sections) & set(of):
                yield pytest.param(minion, text)


CASES = list(cases())


@pytest.fixture(scope="module", autouse=True)
def counted():
    yield
    print(f"\nharmless pillars: {len(CASES)} compiled by Salt")


@pytest.mark.parametrize(("minion", "text"), CASES)
def test_states_are_told_what_the_pillar_says(compile_states, pillar, minion, text):
    wanted = laid_over(pillar, text)
    main = etcd_ha_topology.read(wanted["etcd_ha"], defaults())["main"]
    where = main.ca_minion if minion == CA else minion
    compiled = compile_states(where, wanted)
    assert compiled.errors == [] and compiled.chunks and compiled.unresolved() == []
    for chunk in compiled.chunks:
        for name in TEXTS:
            assert isinstance(chunk.get(name, ""), str), (chunk["__id__"], name, chunk[name])
        assert isinstance(chunk["name"], str), chunk["__id__"]
    if minion == MEMBER:
        told(compiled, main)
    if minion == CA:
        signing = compiled.of("x509.certificate_managed")[0]
        assert signing.get("O") == main.settings["tls"]["ca"]["organization"]


def told(compiled, main):
    """The member's states have its own words, whatever YAML might make of them."""
    member = main.member(MEMBER)
    running = compiled.one("etcd_ha.running")
    assert running["cluster"] == main.name
    assert compiled.one("user.present")["name"] == member.settings["user"]
    assert compiled.one("group.present")["name"] == member.settings["group"]
    for leaf in compiled.of("x509.certificate_managed"):
        assert leaf["ca_server"] == main.ca_minion
    backup = json.loads(compiled.one("file.managed", name="/etc/etcd/backup.json")["contents"])
    assert backup["keep"] == main.settings["backup"]["keep"]
    text = compiled.file("/etc/default/etcd")
    assert etcd_ha_environment.parse_file(text) == running["environment"]
    assert running["environment"] == etcd_ha_environment.variables(main, member)


def defaults():
    settings = yaml.safe_load((FORMULA / "etcd_ha" / "defaults.yaml").read_text())
    own = yaml.safe_load((FORMULA / "etcd_ha" / "os" / "Debian.yaml").read_text())["settings"]
    return etcd_ha_topology.merge(settings, own)


def test_a_name_without_quotes_is_seen():
    """What this file looks for: a group of this name is no text any more."""
    assert yaml.safe_load("- group: on\n- cluster: 123\n") == [{"group": True}, {"cluster": 123}]


def test_the_corpus_is_where_it_is_looked_for():
    assert CORPUS.is_file() and len(CASES) > 100
