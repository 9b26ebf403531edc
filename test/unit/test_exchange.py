"""Another CA, a new name, and what is asked for once: the plans of each, by example."""

import dataclasses

import etcd_ha_planner
import pytest
from etcd_ha_observed import Trust
from etcd_ha_pem import Bundle
from test_planner import CA, CA_FILE, OURS, change, healthy, wanted

NEW = Bundle(frozenset({"new crt"}), frozenset({"new ca"}), 3000)
BOTH = Trust(CA.certificates | NEW.certificates, CA.authorities)
ISSUED = Trust(CA.certificates | NEW.certificates, NEW.authorities)
THEIRS = Trust(NEW.certificates, NEW.authorities)


def with_ca(cluster, hosts, bundle):
    """The CA minion holds another CA by now."""
    held = {CA_FILE: bundle} if bundle else {}
    return change(hosts, cluster.ca_minion, authorities=held)


def trusting(cluster, hosts, *trusts):
    """The members in the pillar's order, and the balancer, trust this."""
    for member, trust in zip(cluster.members, trusts, strict=False):
        hosts = change(hosts, member.minion, trust=trust)
    return change(hosts, cluster.balancers[0].minion, balancer_trust=trusts[-1])


def phases(plan):
    """(members, phase) of each step that is about certificates."""
    return [
        (tuple(t.split(".")[0] for t in step.targets), step.stage.get("trust", ""))
        for step in plan.steps
        if step.sls == ("etcd_ha",)
    ]


def planned(cluster, hosts, **more):
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster), **more)
    assert plan.refusal == ""
    return plan


def test_another_ca_comes_in_three_phases(cluster):
    plan = planned(cluster, with_ca(cluster, healthy(cluster), NEW))
    everyone = ("etcd1", "etcd2", "etcd3")
    assert phases(plan) == [
        (("etcd2",), "both"),
        (("etcd3",), "both"),
        (("etcd1",), "both"),
        (("lb",), "both"),
        (everyone, "issued"),
        (("lb",), "issued"),
        (("etcd1",), ""),
        (("etcd3",), ""),
        (("etcd2",), ""),
        (("lb",), ""),
    ]
    (gate,) = [step for step in plan.steps if step.function.endswith("served_by_one_ca")]
    order = [step.title for step in plan.steps]
    issued = next(i for i, s in enumerate(plan.steps) if s.stage.get("trust") == "issued")
    assert order.index(gate.title) == issued + 1
    restarted = [step for step in plan.steps if step.disruptive]
    assert len(restarted) == 2 * len(everyone)


def test_the_plan_is_the_same_before_the_new_ca_is_there(cluster):
    hosts = healthy(cluster)
    there = planned(cluster, with_ca(cluster, hosts, NEW))
    assert phases(planned(cluster, with_ca(cluster, hosts, None))) == phases(there)


@pytest.mark.parametrize(
    ("trusts", "left"),
    [
        ((BOTH, OURS, OURS, OURS), ["both", "both", "both", "issued", "issued", "", "", "", ""]),
        ((BOTH, BOTH, BOTH, BOTH), ["issued", "issued", "", "", "", ""]),
        ((ISSUED, BOTH, BOTH, BOTH), ["issued", "issued", "", "", "", ""]),
        ((ISSUED, ISSUED, ISSUED, ISSUED), ["", "", "", ""]),
        ((THEIRS, ISSUED, ISSUED, ISSUED), ["", "", ""]),
        ((THEIRS, THEIRS, THEIRS, THEIRS), []),
    ],
)
def test_an_interrupted_exchange_goes_on_where_it_was(cluster, trusts, left):
    hosts = trusting(cluster, with_ca(cluster, healthy(cluster), NEW), *trusts)
    assert [phase for _, phase in phases(planned(cluster, hosts))] == left


def test_a_ca_in_a_file_that_etcd_has_not_read_yet_is_not_trusted(cluster):
    hosts = trusting(cluster, with_ca(cluster, healthy(cluster), NEW), BOTH, BOTH, BOTH, BOTH)
    hosts = change(hosts, "etcd3.example.com", pending=("trust",))
    assert phases(planned(cluster, hosts))[0] == (("etcd3",), "both")


@pytest.mark.parametrize(
    ("change_goes", "trusts", "left", "note"),
    [
        ("trust", (OURS,) * 4, ["both"] * 4, "give clients the new CA"),
        ("trust", (BOTH,) * 4, [], "give clients the new CA"),
        ("issue", (BOTH,) * 4, ["issued", "issued"], "then set it to whole"),
        ("issue", (ISSUED,) * 4, [], "then set it to whole"),
        ("whole", (THEIRS,) * 4, [], ""),
    ],
)
def test_it_stops_where_the_pillar_says(cluster, change_goes, trusts, left, note):
    cluster.settings["tls"]["ca"]["change"] = change_goes
    plan = planned(cluster, trusting(cluster, with_ca(cluster, healthy(cluster), NEW), *trusts))
    assert [phase for _, phase in phases(plan)] == left
    assert note in "".join(plan.warnings) and bool(note) == bool(plan.warnings)


def test_a_renewed_ca_certificate_needs_no_new_certificates(cluster):
    renewed = Bundle(frozenset({"renewed crt"}), CA.authorities, 3650)
    plan = planned(cluster, with_ca(cluster, healthy(cluster), renewed))
    assert [phase for _, phase in phases(plan)] == ["", "", "", ""]


def test_a_ca_that_ends_soon_is_renewed_and_brought_to_all_in_one_plan(cluster):
    soon = dataclasses.replace(CA, days_left=300)
    plan = planned(cluster, with_ca(cluster, healthy(cluster), soon))
    assert cluster.ca_minion in plan.steps[0].targets
    assert [phase for _, phase in phases(plan)] == ["", "", "", ""]


def test_a_member_without_data_waits_outside(cluster):
    """It could get a certificate of the new CA alone, which the others do not trust yet."""
    gone = {"has_data": False, "active": False, "healthy": False, "trust": None}
    hosts = change(with_ca(cluster, healthy(cluster), NEW), "etcd3.example.com", **gone)
    plan = planned(cluster, hosts)
    titles = [step.title for step in plan.steps]
    out = next(i for i, title in enumerate(titles) if "take etcd3 out" in title)
    trusted = next(i for i, title in enumerate(titles) if "beside the old one" in title)
    back = next(i for i, title in enumerate(titles) if "add etcd3 as a learner" in title)
    last = next(i for i, title in enumerate(titles) if "trust the new CA alone" in title)
    assert out < trusted < back < last, titles
    assert plan.steps[back].stage["trust"] == "issued"


def test_a_member_that_was_away_catches_up(cluster):
    hosts = trusting(cluster, with_ca(cluster, healthy(cluster), NEW), OURS, *[THEIRS] * 3)
    hosts = change(hosts, "etcd1.example.com", active=False, healthy=False, leader=False)
    hosts = change(hosts, "etcd2.example.com", leader=True)
    plan = planned(cluster, hosts)
    assert phases(plan)[0] == (("etcd1",), "issued")


def own(cluster, path="/root/pki/ca.crt"):
    tls = {"source": "files", "files": {"ca": {"certificate": path}}}
    settings = {**cluster.settings, "tls": {**cluster.settings["tls"], **tls}}
    return dataclasses.replace(cluster, settings=settings), path


def test_from_the_ca_to_own_certificates(cluster):
    hosts = healthy(cluster)
    cluster, path = own(cluster)
    for minion in cluster.hosts:
        hosts = change(hosts, minion, authorities={path: NEW})
    found = [phase for _, phase in phases(planned(cluster, hosts))]
    assert found == ["both"] * 4 + ["issued"] * 4 + [""] * 4


@pytest.mark.parametrize(
    ("held", "says"), [({}, "is no certificate on etcd2"), (CA, "is not the same as on etcd1")]
)
def test_an_own_ca_must_be_the_same_on_all_hosts(cluster, held, says):
    hosts = healthy(cluster)
    cluster, path = own(cluster)
    for minion in cluster.hosts:
        hosts = change(hosts, minion, authorities={path: NEW})
    hosts = change(hosts, "etcd2.example.com", authorities={path: held} if held else {})
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert says in plan.refusal


def test_an_own_ca_that_is_not_everywhere_yet_does_not_keep_a_member_down(cluster):
    """It is a file that comes into use next; with those in use the member starts."""
    hosts = healthy(cluster)
    cluster, path = own(cluster)
    for minion in cluster.hosts:
        hosts = change(hosts, minion, authorities={path: CA})
    hosts = change(hosts, "lb.example.com", authorities={path: NEW})
    hosts = change(hosts, "etcd3.example.com", active=False, healthy=False)
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert [step.kind for step in plan.steps] == ["state", "state", "again"]
    assert plan.steps[1].targets == ("etcd3.example.com",)
    assert all(step.keeps_pairs for step in plan.steps[:2])


# Commands


def test_a_new_ca_on_demand_begins_with_the_old_one_put_aside(cluster):
    plan = planned(cluster, healthy(cluster), command="rotate_ca")
    assert plan.steps[0].function == "etcd_ha_ca.set_aside"
    assert plan.steps[0].targets == (cluster.ca_minion,)
    assert [phase for _, phase in phases(plan)][:4] == ["both"] * 4


def test_after_it_was_put_aside_the_exchange_goes_on_by_itself(cluster):
    hosts = with_ca(cluster, healthy(cluster), None)
    assert [phase for _, phase in phases(planned(cluster, hosts))][:4] == ["both"] * 4


def test_a_lost_ca_is_made_anew_on_demand(cluster):
    lost = tuple(f"/etc/pki/etcd_ha/main/ca.{end}" for end in ("crt", "key"))
    hosts = change(healthy(cluster), cluster.ca_minion, changed_files=lost, authorities={})
    plan = planned(cluster, hosts, command="rotate_ca")
    assert "put the key" not in plan.steps[0].title
    assert [phase for _, phase in phases(plan)][:4] == ["both"] * 4


@pytest.mark.parametrize("command", ["restart", "rotate_ca"])
def test_only_a_cluster_in_sync_is_restarted_or_given_another_ca(cluster, command):
    hosts = change(healthy(cluster), "etcd2.example.com", digest="old")
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster), command=command)
    assert "is not as the pillar says" in plan.refusal


def test_no_ca_is_rotated_while_one_is_being_exchanged(cluster):
    cluster.settings["tls"]["ca"]["change"] = "trust"
    hosts = trusting(cluster, with_ca(cluster, healthy(cluster), NEW), *[BOTH] * 4)
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster), command="rotate_ca")
    assert "is not as the pillar says" in plan.refusal


def test_the_users_own_ca_is_not_ours_to_rotate(cluster):
    hosts = healthy(cluster)
    plan = etcd_ha_planner.plan(own(cluster)[0], hosts, wanted(cluster), command="rotate_ca")
    assert "not signed by a CA of this formula" in plan.refusal


def test_a_restart_takes_all_one_by_one_the_leader_last(cluster):
    plan = planned(cluster, healthy(cluster), command="restart", now=1000)
    rolled = [step for step in plan.steps if step.disruptive]
    assert [step.targets[0].split(".")[0] for step in rolled] == ["etcd2", "etcd3", "etcd1"]
    assert {step.restart_before for step in rolled} == {1000}
    assert "move leadership to etcd2" in rolled[-1].title and rolled[-1].successor == "etcd2"


def test_an_end_saves_a_snapshot_then_stops_balancers_then_members(cluster):
    plan = planned(cluster, healthy(cluster), command="remove_cluster")
    assert [step.function.rpartition(".")[2] for step in plan.steps] == [
        "snapshot",
        "retire",
        "retire",
        "",
    ]
    assert plan.steps[1].targets == ("lb.example.com",)
    assert plan.steps[3].kind == "forget"
    assert not plan.steps[2].arguments["purge"]


def test_an_end_of_a_cluster_that_does_not_answer_takes_no_snapshot(cluster):
    hosts = healthy(cluster)
    for member in cluster.members:
        hosts = change(hosts, member.minion, healthy=False, active=False)
    plan = planned(cluster, hosts, command="remove_cluster")
    assert [step.function.rpartition(".")[2] for step in plan.steps] == ["retire", "retire", ""]


def test_an_end_stops_those_as_well_whom_the_pillar_no_longer_names(cluster):
    """Taken out of the pillar just before, or never stopped: the master forgets all of them."""
    fewer = dataclasses.replace(cluster, members=cluster.members[:2], balancers=())
    known = dataclasses.replace(
        wanted(cluster), balancers=("lb.example.com",), silent={"gone.example.com": "is down"}
    )
    managed = {**known.managed, "gone.example.com": {"name": "gone", "peer_url": "https://x"}}
    known = dataclasses.replace(known, managed=managed)
    hosts = change(healthy(cluster), "lb.example.com", balancer_of="main")
    plan = etcd_ha_planner.plan(fewer, hosts, known, command="remove_cluster")
    retired = [step.targets for step in plan.steps if step.function.endswith("retire")]
    assert retired == [
        ("lb.example.com",),
        tuple(member.minion for member in cluster.members),
    ]
    assert any("gone.example.com is down" in note for note in plan.warnings)


def test_an_end_that_is_done_has_nothing_to_do(cluster):
    blank = {minion: type(host)(minion) for minion, host in healthy(cluster).items()}
    forgotten = dataclasses.replace(wanted(cluster), recorded=False, managed={}, balancers=())
    plan = etcd_ha_planner.plan(cluster, blank, forgotten, command="remove_cluster")
    assert plan.steps == () and plan.nothing == "nothing of main is left to remove"
    # The master alone may still know of it.
    forgotten = dataclasses.replace(forgotten, recorded=True)
    plan = etcd_ha_planner.plan(cluster, blank, forgotten, command="remove_cluster")
    assert plan.steps[-1].kind == "forget"


def test_who_leaves_with_keys_is_told_of(cluster):
    fewer = dataclasses.replace(cluster, members=cluster.members[:2])
    plan = etcd_ha_planner.plan(fewer, healthy(cluster), wanted(cluster))
    told = [note for note in plan.warnings if "certificates that open main" in note]
    assert len(told) == 1 and told[0].startswith("etcd3 leaves")
    assert "etcd_ha.orch.rotate_ca" in told[0]
    whole = etcd_ha_planner.plan(cluster, healthy(cluster), wanted(cluster))
    assert not any("certificates that open" in note for note in whole.warnings)


# Another name


def test_another_name_restarts_nobody(cluster):
    hosts = {m: dataclasses.replace(h, digest="old") for m, h in healthy(cluster).items()}
    renamed = dataclasses.replace(cluster, name="prod", token="prod", former="main")
    plan = etcd_ha_planner.plan(renamed, hosts, wanted(renamed))
    assert plan.refusal == ""
    assert all("restart only if it must" in s.title for s in plan.steps if s.action == "restart")
    assert not [phase for _, phase in phases(plan) if phase]


def test_another_name_without_a_word_is_refused_with_the_word(cluster):
    renamed = dataclasses.replace(cluster, name="prod", token="prod")
    plan = etcd_ha_planner.plan(renamed, healthy(cluster), wanted(renamed))
    assert "etcd_ha:clusters:prod:renamed_from: main" in plan.refusal


def test_who_leaves_a_renamed_cluster_is_known_by_its_former_name(cluster):
    hosts = healthy(cluster)
    fewer = dataclasses.replace(cluster, name="prod", former="main", members=cluster.members[:2])
    plan = etcd_ha_planner.plan(fewer, hosts, wanted(cluster))
    (gone,) = [step for step in plan.steps if step.function.endswith("retire")]
    assert gone.arguments == {"cluster": "main", "purge": False}


def test_purge_is_handed_to_who_leaves(cluster):
    hosts = healthy(cluster)
    fewer = dataclasses.replace(cluster, members=cluster.members[:2])
    fewer.settings["purge"] = True
    (gone,) = [
        step
        for step in etcd_ha_planner.plan(fewer, hosts, wanted(cluster)).steps
        if step.function.endswith("retire")
    ]
    assert gone.arguments["purge"] and "delete its data" in gone.title
