"""What the master remembers of a cluster, also where a run ended before it could."""

import dataclasses

import etcd_ha_rows
import pytest
from etcd_ha_steps import Step

VERIFY = Step("main: verify", "verify", ("etcd1.example.com",))


@pytest.fixture
def rows(cluster):
    """The rows of a plan with these steps, where the master remembers these members."""

    def made(past, steps, cluster=cluster, name="main"):
        record = {"cluster": name, "members": past, "balancers": ["lb.example.com"]}
        return etcd_ha_rows.remembered(cluster, steps, "source", record)

    return made


def members(cluster):
    return {m.minion: {"name": m.name, "peer_url": cluster.peer_url(m)} for m in cluster.members}


def test_nothing_is_left_to_do_but_to_remember(cluster, rows):
    (row,) = rows({}, ())
    assert (row["kind"], row["members"]) == ("remember", members(cluster))


def test_nothing_at_all_is_left_to_do(cluster, rows):
    assert rows(members(cluster), ()) == []


def test_another_balancer_is_remembered(cluster, rows):
    other = dataclasses.replace(cluster, balancers=())
    (row,) = rows(members(cluster), (), other)
    assert (row["kind"], row["balancers"]) == ("remember", [])
    assert rows(members(cluster), ()) == []


def test_a_balancer_that_leaves_is_known_until_it_is_stopped(cluster, rows):
    """A run that ends in the midst must find it again."""
    past = members(cluster)
    past.pop("etcd3.example.com")
    other = dataclasses.replace(cluster, balancers=())
    first, _, last = rows(past, (VERIFY,), other)
    assert (first["balancers"], last["balancers"]) == (["lb.example.com"], [])


def test_a_new_balancer_is_known_before_it_enters(cluster, rows):
    lb2 = dataclasses.replace(cluster.balancers[0], minion="lb2.example.com")
    more = dataclasses.replace(cluster, balancers=(*cluster.balancers, lb2))
    first, _, last = rows(members(cluster), (VERIFY,), more)
    assert first["balancers"] == last["balancers"] == ["lb.example.com", "lb2.example.com"]


def test_a_new_member_is_known_before_it_enters(cluster, rows):
    past = members(cluster)
    past.pop("etcd3.example.com")
    assert [row["kind"] for row in rows(past, (VERIFY,))] == ["remember", "function", "remember"]


def test_a_renamed_cluster_is_remembered_by_its_new_name(cluster, rows):
    prod = dataclasses.replace(cluster, name="prod", former="main")
    (_, row) = rows(members(cluster), (VERIFY,), prod, "main")
    assert (row["cluster"], row["former"]) == ("prod", "main")


def test_a_removed_cluster_is_not_remembered(cluster, rows):
    forget = Step("main: forget", "forget", ())
    assert [row["kind"] for row in rows({}, (VERIFY, forget))] == ["function", "forget"]
