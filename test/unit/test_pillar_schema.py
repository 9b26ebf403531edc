"""The schema of the pillar for editors: it is current, takes good pillars and refuses bad ones."""

import json
import re

import etcd_ha_topology
import jsonschema
import pillar_schema
import pytest
import yaml
from good_pillar import PILLAR
from pillar_corpus import laid_over, rows
from test_docs import leaves
from test_mutated_pillars import FULL

ROOT = pillar_schema.ROOT
REFUSED = rows("refused", 3)
# So much of what the formula refuses shows in an editor; relations between keys, and what only
# code can tell (addresses, shared directories, options by release) do not.
SHARE = 0.65
CHECKER = jsonschema.Draft7Validator(json.loads(pillar_schema.FILE.read_text()))


def told(pillar):
    """What the schema says of a pillar, as an editor has it: YAML's keys as text."""
    plain = json.loads(json.dumps({"etcd_ha": pillar}, default=str))
    return [error.message for error in CHECKER.iter_errors(plain)]


def test_the_schema_is_current():
    assert pillar_schema.FILE.read_text() == pillar_schema.text(), (
        "run .venv/bin/python test/unit/pillar_schema.py"
    )


def test_it_is_a_schema():
    jsonschema.Draft7Validator.check_schema(CHECKER.schema)


@pytest.mark.parametrize("text", [row[2] for row in rows("harmless", 3)])
def test_every_good_pillar_of_the_corpus_is_taken(text):
    assert told(laid_over(text)) == []


def test_other_good_pillars_are_taken():
    assert told(PILLAR) == [] and told(FULL) == []
    assert told({"clusters": {}}) == []


def test_the_shipped_example_is_taken_also_with_every_default_set(defaults):
    text = (ROOT / "pillar.example").read_text()
    assert told(yaml.safe_load(text)["etcd_ha"]) == []
    every = {**PILLAR["clusters"]["main"], **defaults, "version": "3.6.14"}
    every["tls"] = {**defaults["tls"], "ca": {**defaults["tls"]["ca"], "minion": "ca.example.com"}}
    assert told({"clusters": {"main": every}}) == []


def test_the_version_stands_with_the_cluster_or_for_all():
    main = {**PILLAR["clusters"]["main"], "version": "3.6.14"}
    other = {name: value for name, value in main.items() if name != "version"}
    assert told({"clusters": {"main": main}}) == []
    assert told({"clusters": {"main": other}, "version": "3.6.14"}) == []
    assert told({"clusters": {"main": other}}) and told({"clusters": {"main": main, "b": other}})


def test_files_of_a_pillar_may_hold_other_keys():
    assert list(CHECKER.iter_errors({"mine": {"a": 1}, "etcd_ha": {"clusters": {}}})) == []


def test_most_bad_pillars_of_the_corpus_are_refused():
    refused = [row for row in REFUSED if told(laid_over(row[2], row[0]))]
    print(f"\nof {len(REFUSED)} bad pillars the schema refuses {len(refused)}")
    assert len(refused) >= SHARE * len(REFUSED)


@pytest.mark.parametrize(
    "change",
    [
        "{versoin: 3.6.14}",
        "{version: 3.8.0}",
        "{version: null}",
        "{ports: {client: 80}}",
        "{tls: {algo: dsa}}",
        "{purge: 5}",
        "{data_dir: /var/lib/etcd/}",
        "{data_dir: /srv}",
        "{balancer: {balance: least_conn}}",
        "{options: {data-dir: /a}}",
        "{options: {force-new-cluster: true}}",
        "{options: {log-level: loud}}",
        "{members: {a: {address: 10.0.0.1, tls: {}}}}",
        "{access: {users: {a: {pasword: x}}}}",
    ],
)
def test_what_an_editor_must_show_is_refused(change, defaults):
    assert told(laid_over(change))
    with pytest.raises(etcd_ha_topology.PillarError):
        etcd_ha_topology.read(laid_over(change), defaults)


def test_every_setting_has_its_meaning(defaults):
    """Of the tables of docs/pillar.md, for an editor to show."""
    lacking = []
    for path, _ in leaves(defaults):
        found = CHECKER.schema["definitions"]["setting"]
        for part in path.split(":"):
            found = found.get("properties", found)
            found = found[part]
        lacking += [] if found.get("description") else [path]
    assert lacking == []
    shown = re.findall(r'"description": (".*")', pillar_schema.FILE.read_text())
    assert shown and not [one for one in shown if "](" in one or "`" in one]
