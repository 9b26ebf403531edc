"""The state IDs of the orchestrates are short, whatever texts the pillar and the hosts have."""

import copy

import etcd_ha_planner
import etcd_ha_rows
import etcd_ha_topology
import orchestrates
import pytest
import salt.utils.yaml
import told_changes
from etcd_ha_observed import Observed
from etcd_ha_steps import LONGEST_ID, Plan, Step, idle, state_id, text
from etcd_ha_topology import merge

LABEL = "a" * 60
PATH = f"/srv/{'d' * 190}/{'e' * 59}"


def states(rows, plans=()):
    """The orchestrate's states as Salt reads them: ID -> arguments."""
    plan = {"refusals": [], "steps": etcd_ha_rows.chained(rows), "idle": idle(plans)}
    plan["ends"] = etcd_ha_rows.ends(plans, rows)
    opts = {"test": False}
    found = orchestrates.rendered("init", lambda *_, **__: plan, pillar={}, opts=opts)
    return salt.utils.yaml.safe_load(found)


def sound(ids):
    ids = list(ids)
    assert ids
    for one in ids:
        assert len(one) <= LONGEST_ID and one.isprintable(), one


def converge(pillar, change, defaults):
    """The plan from a pillar to the same with this change, and the cluster as it shall be."""
    before, after = (
        etcd_ha_topology.read({"clusters": {name: copy.deepcopy(one)}}, defaults)[name]
        for name, one in ((NAME, pillar), (NAME, merge(pillar, change)))
    )
    hosts = told_changes.in_sync(before)
    hosts = {**{minion: Observed(minion) for minion in after.hosts}, **hosts}
    plan = etcd_ha_planner.plan(after, hosts, told_changes.wanted(before, after))
    assert not plan.refusal, plan.refusal
    return plan, etcd_ha_rows.rows(after, plan.steps, "source")


NAME = "c" * 56
HUGE = {
    "version": "3.6.14",
    "members": {
        f"{LABEL}{n}.{LABEL}.{LABEL}.{LABEL}": {"address": f"10.0.0.{n}", "name": f"{LABEL}-{n}"}
        for n in range(1, 10)
    },
    "load_balancers": {f"{LABEL}b{n}.{LABEL}": {"address": f"10.0.1.{n}"} for n in range(1, 6)},
    "tls": {"ca": {"minion": f"{LABEL}ca.{LABEL}.{LABEL}"}},
}


@pytest.mark.parametrize(
    "change",
    [
        {"config_dir": PATH},
        {"data_dir": PATH},
        {"wal_dir": PATH},
        {"ports": {"client": 3379, "peer": 3380}},
        {"tls": {"enabled": False}},
        {"options": {"auth-token": "jwt,pub-key=" + "x" * 60_000}},
        {"options": {"cors": ["https://" + "h" * 200 + ":443"] * 20, "max-wals": 7}},
        {"version": "3.7.1"},
        {"balancer": {"port": 3379, "virtual_address": {"address": "10.0.1.99"}}},
        {"load_balancers": {f"{LABEL}b9.{LABEL}": {"address": "10.0.1.9"}}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_no_change_makes_an_id_too_long(change, defaults):
    plan, rows = converge(HUGE, change, defaults)
    found = states(rows, [plan])
    sound(found)
    assert set(found) >= {row["id"] for row in rows}
    assert len({row["id"] for row in rows}) == len(rows) == len(plan.steps)
    for row in rows:
        if row["kind"] == "state":
            (arguments,) = found[row["id"]].values()
            assert {"name": row["title"]} in arguments


def test_a_config_dir_of_115_characters_is_applied(pillar, defaults):
    """Nine variables lie in it, each with what it was: 1,024 characters are soon reached."""
    change = {"config_dir": "/etc/" + "e" * 110}
    plan, rows = converge(pillar["clusters"]["main"], change, defaults)
    sound(states(rows, [plan]))
    (first,) = [step for step in plan.steps if "etcd2: apply" in step.title]
    assert "apply 6 settings, restart (follower)" in first.title
    assert len(first.details) == 6 and all(change["config_dir"] in one for one in first.details)
    lines = text([plan]).splitlines()
    assert f"       {first.details[0]}" in lines


def test_two_long_titles_have_two_ids():
    one, other = (state_id(f"{'x' * 300}{end}") for end in "ab")
    assert one != other and one[:200] == other[:200]
    assert len(one) == len(other) == LONGEST_ID


def test_a_title_that_fits_is_the_id():
    assert state_id("main: etcd1: start it") == "main: etcd1: start it"
    assert state_id("x" * LONGEST_ID) == "x" * LONGEST_ID


@pytest.mark.parametrize(
    "odd", ["a\nb", "a\x85b", "a\u2028b", "a\ud800b".encode("utf-8", "replace").decode()]
)
def test_an_id_is_one_line(odd):
    """Such a text can come from etcd's own list of members, or be the name of a wrong cluster."""
    assert len(state_id(odd).splitlines()) == 1
    sound([state_id(odd)])


def test_whatever_a_cluster_is_called_its_lines_have_short_ids(cluster):
    name = "x" * 60_000
    plans = [Plan(name, "", steps=(), waits=("for its host",)), Plan(name, "", nothing="no data")]
    row = {"id": "a", "cluster": "main", "kind": "forget"}
    sound(one["id"] for one in idle(plans))
    sound(one["id"] for one in etcd_ha_rows.ends(plans, [row]))
    step = Step(title=f"{name}: do it", kind="forget", targets=())
    sound(row["id"] for row in etcd_ha_rows.rows(cluster, [step], "source"))
