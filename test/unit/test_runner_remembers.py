"""What the master remembers of a cluster, also where a run ended before it could."""

import dataclasses

import etcd_ha_host_etcds
import etcd_ha_master
import etcd_ha_minions
import etcd_ha_plan_foreign
import etcd_ha_rows
import pytest
import salt.exceptions
from etcd_ha_steps import Refused, Step
from faces import load

VERIFY = Step("main: verify", "verify", ("etcd1.example.com",))


@pytest.fixture
def rows(cluster):
    """The rows of a plan with these steps, where the master remembers these members."""

    def made(past, steps, cluster=cluster, name="main", ids=None):
        record = {"cluster": name, "members": past, "balancers": ["lb.example.com"]}
        record["cluster_id"] = "c1"
        return etcd_ha_rows.remembered(cluster, steps, "source", record, ids or {})

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
    assert [row["kind"] for row in rows(past, (VERIFY,))] == ["remember", "verify", "remember"]


def test_a_renamed_cluster_is_remembered_by_its_new_name(cluster, rows):
    prod = dataclasses.replace(cluster, name="prod", former="main")
    (_, row) = rows(members(cluster), (VERIFY,), prod, "main")
    assert (row["cluster"], row["former"]) == ("prod", "main")


def test_who_is_to_leave_is_remembered_while_a_part_of_the_plan_waits(cluster):
    """Otherwise the next plan calls it a member that nobody knows."""
    smaller = dataclasses.replace(cluster, members=cluster.members[:2], balancers=())
    record = {"cluster": "main", "members": members(cluster), "balancers": ["lb.example.com"]}
    for partial in (True, False):
        found = etcd_ha_rows.remembered(smaller, (VERIFY,), "source", record, {}, partial)
        left = "etcd3.example.com" not in found[-1].get("members", members(cluster))
        stopped = "lb.example.com" not in found[-1].get("balancers", record["balancers"])
        assert (left, stopped) == (not partial, not partial)


def test_who_left_while_silent_is_still_to_be_stopped(cluster):
    """Its host comes back with its unit enabled, its timer and its keys."""
    smaller = dataclasses.replace(cluster, members=cluster.members[:2], balancers=())
    record = {"cluster": "main", "members": members(cluster), "balancers": ["lb.example.com"]}
    for unseen in (["etcd3.example.com", "lb.example.com"], []):
        rows = etcd_ha_rows.remembered(smaller, (), "s", record, {}, unseen=unseen)
        # Who is still known as before is not remembered anew in each run.
        assert bool(rows) is not bool(unseen)
        assert not any("etcd3.example.com" in row["members"] for row in rows)
        assert not any("lb.example.com" in row["balancers"] for row in rows)


def test_a_removed_cluster_is_not_remembered(cluster, rows):
    forget = Step("main: forget", "forget", ())
    assert [row["kind"] for row in rows({}, (VERIFY, forget))] == ["verify", "forget"]


# The ids by which members are told from others' etcds


def with_ids(cluster):
    return {m: {**one, "member_id": one["name"]} for m, one in members(cluster).items()}


def test_ids_that_the_master_knows_need_no_word(cluster, rows):
    ids = {m.minion: ("c1", m.name) for m in cluster.members}
    assert rows(with_ids(cluster), (), ids=ids) == []
    # A member that does not answer is known all the same.
    assert rows(with_ids(cluster), (), ids=dict(list(ids.items())[:1])) == []


@pytest.mark.parametrize("ids", [("c2", "etcd1"), ("c1", "another")])
def test_ids_that_the_master_lacks_are_remembered(cluster, rows, ids):
    (row,) = rows(with_ids(cluster), (), ids={"etcd1.example.com": ids})
    assert row["kind"] == "remember"
    (row,) = rows(members(cluster), (), ids={"etcd1.example.com": ("c1", "etcd1")})
    assert row["kind"] == "remember"


@pytest.mark.parametrize(
    ("step", "remembers"),
    [
        (Step("main: replace etcd1", "state", ("etcd1.example.com",), action="join"), True),
        (Step("main: restart etcd1", "state", ("etcd1.example.com",), action="restart"), False),
        (Step("main: exchange", "function", (), function="etcd_ha_restore.exchange"), True),
        (Step("main: force", "function", (), function="etcd_ha_restore.force"), True),
        (Step("main: snapshot", "function", (), function="etcd_ha_backup.snapshot"), False),
    ],
)
def test_ids_that_the_plan_itself_changes_are_remembered(cluster, rows, step, remembers):
    """Not in the next run, until which a lost record of a host could not be made again."""
    ids = {m.minion: ("c1", m.name) for m in cluster.members}
    found = [row["kind"] for row in rows(with_ids(cluster), (step, VERIFY), ids=ids)]
    assert ("remember" in found) is remembers and found[1:2] == ["verify"]


@pytest.fixture
def master(monkeypatch, tmp_path):
    """The runner of the record, with hosts that answer so."""

    def made(answers, past=None, **facts):
        cache = {"main": past} if past else {}
        runner = load("_runners/etcd_ha_record", opts={"cachedir": str(tmp_path)})

        class Cache:
            fetch = staticmethod(lambda bank, key: cache.get(key, {}))
            store = staticmethod(lambda bank, key, value: cache.update({key: value}))
            contains = staticmethod(lambda bank, key: key in cache)
            flush = staticmethod(lambda bank, key: cache.pop(key))

        monkeypatch.setattr(etcd_ha_master.Master, "cache", Cache)
        monkeypatch.setattr(etcd_ha_minions, "connected", lambda master, wanted: list(wanted))
        told = {minion: {"ret": one} for minion, one in answers.items()}
        monkeypatch.setattr(etcd_ha_minions, "ask", lambda *_, **__: told)
        return runner, cache

    return made


def test_the_master_remembers_what_hosts_have_written_down(cluster, master):
    own = {"cluster": "main", "cluster_id": "c1"}
    answers = {"etcd1.example.com": {**own, "member_id": "a1"}, "etcd2.example.com": "a traceback"}
    answers["stranger.example.com"] = {**own, "cluster_id": "c9", "member_id": "a9"}
    past = {"members": {"etcd2.example.com": {"member_id": "a2"}}, "cluster_id": "c0"}
    runner, cache = master(answers, past)
    runner.remember("main", members(cluster))
    kept = cache["main"]
    found = {minion: one.get("member_id") for minion, one in kept["members"].items()}
    assert kept["cluster_id"] == "c1"
    assert found == {
        "etcd1.example.com": "a1",
        "etcd2.example.com": "a2",
        "etcd3.example.com": None,
    }


def test_a_record_of_another_cluster_counts_for_nothing(cluster, master):
    answers = {"etcd1.example.com": {"cluster": "x", "cluster_id": "c9", "member_id": "a9"}}
    runner, cache = master(answers)
    runner.remember("main", members(cluster))
    assert cache["main"]["cluster_id"] == ""
    assert all("member_id" not in one for one in cache["main"]["members"].values())


# Where all records are lost


def etcd(**values):
    given = {"pid": 41, "unit": "etcd.service", "data_dir": "/var/lib/etcd", "by_formula": True}
    given |= {"holds_data": True, "cluster_id": "c1", "member_id": "m1", "ports": [2379]}
    return etcd_ha_host_etcds.row("process", **{**given, **values})


def facts(cluster, **values):
    return {m.minion: {"etcds": [etcd(member_id=m.name, **values)]} for m in cluster.members}


def test_what_is_claimed_is_known_by_its_ids(cluster):
    found = etcd_ha_plan_foreign.claimed(cluster, facts(cluster), "c1")
    assert found == with_ids(cluster)


def test_hosts_without_an_etcd_may_be_claimed_around(cluster):
    known = facts(cluster)
    known["etcd3.example.com"] = {"etcds": []}
    known.pop("etcd2.example.com")
    found = etcd_ha_plan_foreign.claimed(cluster, known, "c1")
    assert [minion for minion, one in found.items() if "member_id" in one] == ["etcd1.example.com"]


@pytest.mark.parametrize(
    "values", [{"cluster_id": "c2"}, {"by_formula": False}, {"unit": "kv.service"}]
)
def test_what_is_not_ours_is_not_claimed(cluster, values):
    with pytest.raises(Refused, match="nothing was claimed"):
        etcd_ha_plan_foreign.claimed(cluster, facts(cluster, **values), "c1")


def test_nothing_there_is_not_claimed(cluster):
    with pytest.raises(Refused, match="has an etcd of cluster c1"):
        etcd_ha_plan_foreign.claimed(cluster, {}, "c1")


def test_a_claim_asks_for_the_name(master):
    runner, cache = master({})
    with pytest.raises(salt.exceptions.NotImplemented, match="confirm=main"):
        runner.claim("main", "c1")
    assert cache == {}


@pytest.mark.parametrize(
    ("silent", "unread", "claimed"),
    [
        ({}, (), True),
        # Off: nothing runs there.
        ({"etcd2.example.com": "did not answer: it is not connected"}, (), True),
        ({"etcd2.example.com": "did not answer with its facts: x"}, ("etcd2.example.com",), False),
        # No member is there by the pillar.
        ({"lb.example.com": "did not answer with its facts: x"}, ("lb.example.com",), True),
    ],
)
def test_a_host_that_runs_and_cannot_be_read_is_not_claimed_around(
    master, monkeypatch, cluster, silent, unread, claimed
):
    """An etcd that somebody else set up may run there."""
    runner, cache = master({})
    found = {minion: one for minion, one in facts(cluster).items() if minion not in silent}
    found = etcd_ha_minions.Facts(found, silent, unread)
    monkeypatch.setattr(etcd_ha_minions, "facts", lambda *_: found)
    monkeypatch.setattr(
        etcd_ha_master.Master, "clusters", lambda self, name=None: {"main": cluster}
    )
    if claimed:
        assert "is now cluster c1" in runner.claim("main", "c1", confirm="main")
        return
    told = r"nothing was claimed, .*its facts: x"
    with pytest.raises(salt.exceptions.NotImplemented, match=told):
        runner.claim("main", "c1", confirm="main")
    assert cache == {}
