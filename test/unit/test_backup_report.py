"""What people and monitoring are told of backups."""

from datetime import datetime, timedelta, timezone

import etcd_ha_backup
import etcd_ha_backup_report as report
import pytest

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)
MEMBERS = ("etcd1.example.com", "etcd2.example.com", "etcd3.example.com")


def row(hours=1, verified=True, revision=7):
    when = NOW - timedelta(hours=hours)
    name = etcd_ha_backup.new_name("main", when, revision)
    found = etcd_ha_backup.Backup(
        name, "main", etcd_ha_backup.stamp(when), revision, verified, 2048, 3, version="3.6.14"
    )
    return {**found.sidecar, "where": "member", "path": f"/var/backups/etcd_ha/{name}.db"}


def on(member, *rows):
    return {**{other: [] for other in MEMBERS}, member: list(rows)}


def test_a_table_newest_first(cluster):
    told = report.backups(cluster, on(MEMBERS[1], row(30), row(2)), NOW)
    lines = told.text.splitlines()
    assert lines[0] == "main"
    assert lines[1].split()[:3] == ["NAME", "WHERE", "AGE"]
    assert "2 h" in lines[2] and "1 d 6 h" in lines[3]
    assert lines[2].split()[1] == MEMBERS[1] and lines[2].endswith("yes")
    assert told.sound


def test_no_backup_is_no_sound_state_and_the_cure_is_told(cluster):
    told = report.backups(cluster, on(MEMBERS[0]), NOW)
    assert not told.sound
    assert "There is no verified backup on the members" in told.text
    assert "salt-run state.orchestrate etcd_ha.orch.backup" in told.text


@pytest.mark.parametrize(("hours", "sound"), [(25, True), (27, False)])
def test_too_old_is_what_the_pillar_says(cluster, hours, sound):
    told = report.backups(cluster, on(MEMBERS[0], row(hours)), NOW)
    assert told.sound is sound
    assert ("more than backup:max_age (26 hours)" in told.text) is not sound


def test_one_that_nobody_verified_counts_for_nothing(cluster):
    told = report.backups(cluster, on(MEMBERS[0], row(1, verified=False), row(40)), NOW)
    assert not told.sound and "1 d 16 h old" in told.text


def test_a_member_that_does_not_answer_is_named_and_no_failure(cluster):
    found = {**on(MEMBERS[0], row()), MEMBERS[2]: "no answer"}
    told = report.backups(cluster, found, NOW)
    assert told.sound and f"{MEMBERS[2]}: no answer" in told.text


def test_each_place_that_the_pillar_names_has_to_have_one(cluster):
    cluster.settings["backup"]["s3"]["bucket"] = "etcd-backups"
    cluster.settings["backup"]["master"]["enabled"] = True
    fresh = on(MEMBERS[0], row())
    told = report.backups(cluster, {**fresh, "s3": [row()], "master": [row(50)]}, NOW)
    assert not told.sound and "on the master is 2 d 2 h old" in told.text
    assert "in S3" not in told.text
    told = report.backups(cluster, {**fresh, "s3": "Traceback\nForbidden", "master": [row()]}, NOW)
    assert not told.sound and "s3: Forbidden" in told.text
    assert report.backups(cluster, {**fresh, "s3": [row()], "master": [row()]}, NOW).sound


def test_whom_the_master_asks(cluster):
    def status(**more):
        return {"leader_id": "ab", "leader": False, "learner": False, "db_size": 4096, **more}

    statuses = {
        "a": status(leader=True),
        "b": "etcd does not answer here",
        "c": status(),
        "d": status(learner=True),
        "e": status(leader_id="0"),
        "f": {"role": "none"},
        "g": status(),
    }
    assert report.candidates(statuses) == ["c", "g", "a"]


def test_a_dry_run_tells_where_it_would_go(cluster):
    cluster.settings["backup"]["s3"]["bucket"] = "etcd-backups"
    assert "/var/backups/etcd_ha of a member, S3 (etcd-backups)" in report.step(cluster)
