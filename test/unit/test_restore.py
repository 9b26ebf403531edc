"""A backup onto all members: which one, when it is refused, and the steps that bring it there."""

import dataclasses

import etcd_ha_planner
import etcd_ha_progress
import etcd_ha_restore
import pytest
from etcd_ha_restore import Backup, Look
from test_planner import blank, change, healthy, wanted

E1, E2, E3 = (f"etcd{number}.example.com" for number in (1, 2, 3))
GIB = 1 << 30
PLENTY = 10 * GIB
ONE = Backup("/b/one.db", E1, GIB, "a" * 64, 40, "3.6.0", 9, "2026-11-01T00:00:00Z", True)
TWO = dataclasses.replace(ONE, path="/b/two.db", sha256="b" * 64, when="2026-11-02T00:00:00Z")


def looks(*backups, free=PLENTY, **progress):
    """What the disks say; ``progress`` by the member's short name."""
    return {
        minion: Look(
            free,
            progress=progress.get(minion.partition(".")[0], {}),
            backups=tuple(one for one in backups if one.minion == minion),
        )
        for minion in (E1, E2, E3)
    }


def plan(cluster, found, asked="", hosts=None, known=None):
    hosts = hosts or healthy(cluster)
    known = known or wanted(cluster)
    return etcd_ha_restore.plan(cluster, hosts, known, found, asked, "now")


def calls(made):
    return [step.function.partition(".")[2] or step.action for step in made.steps]


def test_nothing_is_stopped_before_all_have_the_data(cluster):
    made = plan(cluster, looks(ONE))
    assert not made.refusal
    assert calls(made) == ["prepare", "exchange", "start", "finish", "none"]
    assert [step.disruptive for step in made.steps] == [False, True, False, False, False]
    assert set(made.steps[1].targets) == {E1, E2, E3, "lb.example.com"}
    assert set(made.steps[2].targets) == {E1, E2, E3}


def test_the_plan_says_what_is_lost(cluster):
    (note,) = plan(cluster, looks(dataclasses.replace(ONE, cluster="main"))).warnings
    assert "one" in note and "revision 40" in note and "9 keys" in note and "is lost" in note


def raised(made):
    return {etcd_ha_restore.bump(step.arguments["token"]) for step in made.steps[:4]}


def test_the_revision_never_goes_back(cluster):
    """A second restore of the same backup: who watches is to be told that it must read anew."""
    hosts = {m: dataclasses.replace(h, revision=2_000) for m, h in healthy(cluster).items()}
    assert raised(plan(cluster, looks(ONE), hosts=hosts)) == {1_000_000_000 + 2_000 - 40}
    # No member serves: its data tells.
    found = {m: dataclasses.replace(one, revision=1_000_000_050) for m, one in looks(ONE).items()}
    hosts = {m: dataclasses.replace(h, revision=0) for m, h in hosts.items()}
    assert raised(plan(cluster, found, hosts=hosts)) == {1_000_000_000 + 1_000_000_050 - 40}
    # A backup that is newer than what is there, and one of which nothing is known yet.
    assert raised(plan(cluster, looks(ONE), hosts=hosts)) == {1_000_000_000}


def test_whoever_goes_on_with_a_restore_raises_it_by_as_much(cluster):
    """Members that hold other revisions of the same keys would differ for ever."""
    token = "main-restored-before-by-1000000007"
    begun = {"token": token, "sha256": ONE.sha256, "phase": "staged"}
    hosts = {m: dataclasses.replace(h, revision=9_000) for m, h in healthy(cluster).items()}
    assert raised(plan(cluster, looks(ONE, etcd1=begun), hosts=hosts)) == {1_000_000_007}
    # As a release of the formula left it that did not know of this.
    begun["token"] = "main-restored-before"
    assert raised(plan(cluster, looks(ONE, etcd1=begun), hosts=hosts)) == {1_000_000_000}


def test_the_plan_says_whose_backup_it_is(cluster):
    """A file of another cluster is restored as well as one's own: whoever clones means it."""
    (_, unknown) = plan(cluster, looks(ONE), "one").warnings
    assert "not known of which cluster" in unknown and "authentication" in unknown
    (_, other) = plan(cluster, looks(dataclasses.replace(ONE, cluster="prod")), "one").warnings
    assert other == "it was taken of another cluster, prod"


def test_the_newest_verified_backup_is_taken(cluster):
    unverified = dataclasses.replace(TWO, path="/b/three.db", when="2026-12-01", verified=False)
    made = plan(cluster, looks(ONE, TWO, unverified))
    assert made.steps[0].arguments["path"] == "/b/two.db"


@pytest.mark.parametrize("asked", ["one", "one.db", "/b/one.db"])
def test_or_the_one_that_is_named(cluster, asked):
    made = plan(cluster, looks(ONE, TWO), asked)
    assert made.steps[0].arguments["sha256"] == ONE.sha256
    assert made.steps[0].arguments["source"] == E1


def test_a_file_on_the_master_s_file_server_needs_no_member(cluster):
    made = plan(cluster, looks(), "salt://backups/x.db")
    assert made.steps[0].arguments["source"] == ""
    assert made.steps[0].arguments["path"] == "salt://backups/x.db"


def test_the_cluster_s_token_is_a_new_one(cluster):
    """Otherwise a member of the old cluster could join the restored one."""
    token = plan(cluster, looks(ONE)).steps[0].arguments["token"]
    assert token != cluster.token and "-restored-now-" in token


@pytest.mark.parametrize(
    ("backups", "asked", "words"),
    [
        ([], "", "no member has a verified backup"),
        ([dataclasses.replace(ONE, verified=False)], "", "no member has a verified backup"),
        ([ONE], "gone", "no member has a backup gone. Known are: one"),
        ([dataclasses.replace(ONE, fault="it is corrupt"), TWO], "one", "it is corrupt"),
        (
            [ONE, dataclasses.replace(ONE, minion=E2, sha256="c" * 64)],
            "one",
            "different backups of the name one",
        ),
        ([dataclasses.replace(ONE, version="3.7.0")], "one", "is of etcd 3.7"),
    ],
)
def test_a_backup_that_cannot_be_restored_is_refused(cluster, backups, asked, words):
    made = plan(cluster, looks(*backups), asked)
    assert words in made.refusal and not made.steps


def test_every_host_must_have_room_for_the_new_data_beside_the_old(cluster):
    """The one that has the file needs one more copy of it, the others two."""
    enough_for_one = GIB + etcd_ha_restore.ROOM
    assert E2 in plan(cluster, looks(ONE, free=enough_for_one)).refusal
    assert E1 not in plan(cluster, looks(ONE, free=enough_for_one)).refusal
    assert not plan(cluster, looks(ONE, free=2 * GIB + etcd_ha_restore.ROOM)).refusal


def test_a_log_of_its_own_needs_room_too(cluster):
    found = looks(ONE)
    found[E3] = dataclasses.replace(found[E3], wal_free=1 << 20)
    assert E3 in plan(cluster, found).refusal


def test_another_release_is_not_laid_under_members_that_run(cluster):
    hosts = change(healthy(cluster), E2, version="3.5.33")
    assert "Restore with version 3.5.33" in plan(cluster, looks(ONE), hosts=hosts).refusal


def test_a_silent_host_stops_it(cluster):
    hosts = {m: host for m, host in healthy(cluster).items() if m != E3}
    assert f"{E3} did not answer" in plan(cluster, looks(ONE), hosts=hosts).refusal


def test_data_of_somebody_else_is_not_touched(cluster):
    hosts = change(healthy(cluster), E2, record={})
    assert "did not make" in plan(cluster, looks(ONE), hosts=hosts).refusal


def test_a_former_member_that_runs_is_stopped_by_people(cluster):
    former = dataclasses.replace(healthy(cluster)[E3], minion="old.example.com")
    known = wanted(cluster)
    known = dataclasses.replace(known, managed={**known.managed, "old.example.com": {}})
    hosts = {**healthy(cluster), "old.example.com": former}
    assert "still runs etcd of main" in plan(cluster, looks(ONE), hosts=hosts, known=known).refusal


def test_new_hosts_are_configured_first(cluster):
    made = plan(cluster, looks(ONE), hosts=blank(cluster), known=wanted(cluster, recorded=False))
    assert calls(made)[:3] == ["none", "hold", "prepare"]
    # The balancer, too, comes from nothing: once all is well.
    assert made.steps[-2].targets == ("lb.example.com",)


def test_what_was_begun_is_gone_on_with(cluster):
    """Members that have exchanged their data belong to the cluster of that token."""
    begun = {"token": "t0", "sha256": ONE.sha256, "phase": "exchanged"}
    made = plan(cluster, looks(ONE, etcd2=begun, free=0), "one")
    assert {step.arguments["token"] for step in made.steps[:4]} == {"t0"}
    assert any("gone on with" in note for note in made.warnings)


def test_another_backup_begins_anew(cluster):
    begun = {"token": "t0", "sha256": ONE.sha256, "phase": "exchanged"}
    made = plan(cluster, looks(ONE, TWO, etcd2=begun), "two")
    assert made.steps[0].arguments["token"] != "t0"


def test_one_that_ended_is_not_gone_on_with(cluster):
    done = {"token": "t0", "sha256": ONE.sha256, "phase": "done"}
    made = plan(cluster, looks(ONE, etcd1=done, etcd2=done, etcd3=done), "one")
    assert made.steps[0].arguments["token"] != "t0"


def test_but_one_that_ended_on_some_members_is(cluster):
    """Otherwise those would be given the old data once more, in the cluster that serves already."""
    done = {"token": "t0", "sha256": ONE.sha256, "phase": "done"}
    left = {"token": "t0", "sha256": ONE.sha256, "phase": "started"}
    made = plan(cluster, looks(ONE, etcd1=done, etcd2=left, etcd3=done), "one")
    assert made.steps[0].arguments["token"] == "t0"


def test_etcd_34_cannot_raise_the_revision_and_the_plan_says_so(cluster):
    old = dataclasses.replace(cluster, version="3.4.23")
    hosts = {m: dataclasses.replace(host, version="3.4.23") for m, host in healthy(cluster).items()}
    made = plan(old, looks(dataclasses.replace(ONE, version="")), "one", hosts)
    assert any("3.4 cannot raise the revision" in note for note in made.warnings)


@pytest.mark.parametrize("command", ["converge", "restart", "rotate_ca"])
def test_nothing_else_is_planned_while_a_restore_is_not_ended(cluster, command):
    hosts = change(healthy(cluster), E2, restoring="restore")
    made = etcd_ha_planner.plan(cluster, hosts, wanted(cluster), command)
    assert "restore of main was begun" in made.refusal
    assert "etcd_ha.orch.restore" in made.refusal and '"confirm": "main"' in made.refusal


@pytest.mark.parametrize(
    ("phase", "asked", "passed"),
    [
        ("staged", "exchanging", False),
        ("exchanging", "exchanging", True),
        ("exchanged", "started", False),
        ("done", "started", True),
    ],
)
def test_phases_follow_each_other(phase, asked, passed):
    found = {"token": "t", "phase": phase}
    assert etcd_ha_progress.has_passed(found, "t", asked) is passed
    assert not etcd_ha_progress.has_passed(found, "another", asked)
