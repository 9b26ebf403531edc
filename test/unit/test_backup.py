"""Backups as such: names, sidecars, what is kept, who takes one, and when one is due."""

import itertools
from datetime import datetime, timedelta, timezone

import etcd_ha_backup as backup
import pytest
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)
NOTHING = {"last": 1, "days": 0, "daily": 0, "weekly": 0, "monthly": 0}
SHIPPED = {"last": 7, "days": 0, "daily": 7, "weekly": 4, "monthly": 6}


def made(when, revision=1, verified=True, cluster="main"):
    name = backup.new_name(cluster, when, revision)
    return backup.Backup(name, cluster, backup.stamp(when), revision, verified)


def every(hours, count):
    """One backup every so many hours, the newest an hour old."""
    return [made(NOW - timedelta(hours=1 + hours * n), 1000 - n) for n in range(count)]


def kept(backups, **keep):
    gone = {b.name for b in backup.to_remove(backups, {**NOTHING, **keep}, NOW)}
    return [b for b in backups if b.name not in gone]


class TestNames:
    def test_a_name_tells_cluster_time_and_revision(self):
        name = backup.new_name("my-db.eu", NOW, 4711)
        assert name == "my-db.eu-20261124T120000Z-r4711"
        found = backup.Backup.named(name)
        assert (found.cluster, found.when, found.revision) == (
            "my-db.eu",
            "2026-11-24T12:00:00Z",
            4711,
        )
        assert found.taken == NOW and not found.verified

    @pytest.mark.parametrize(
        "name", ["", "main", "main-20261124T120000Z", "main-20261324T120000Z-r1", "x/../main-r1"]
    )
    def test_what_is_no_name_is_none(self, name):
        assert backup.Backup.named(name) is None

    def test_a_sidecar_reads_back_as_it_was(self):
        whole = backup.Backup(
            "main-20261124T120000Z-r7",
            "main",
            "2026-11-24T12:00:00Z",
            7,
            True,
            512,
            3,
            "ab",
            "3.6.14",
            "etcd1",
            ("etcd1", "etcd2"),
            "cafe",
        )
        assert backup.Backup.of({**whole.sidecar, "where": "s3", "path": "/x"}) == whole

    @pytest.mark.parametrize("told", [{}, {"name": "x"}, {"when": "yesterday"}])
    def test_what_is_no_sidecar_is_refused(self, told):
        with pytest.raises(ValueError):
            backup.Backup.of({**told})


class TestWhatIsKept:
    def test_the_newest_by_count(self):
        assert kept(every(1, 5), last=3) == every(1, 5)[:3]

    def test_by_age(self):
        assert len(kept(every(24, 10), days=3)) == 3

    def test_the_newest_of_each_day(self):
        found = kept(every(6, 20), daily=3)
        assert [b.taken.day for b in found] == [24, 23, 22]
        assert found[1].taken.hour == 23

    def test_the_newest_of_each_week_and_month(self):
        found = kept(every(24, 100), weekly=3, monthly=3)
        weeks = {b.taken.isocalendar()[:2] for b in found}
        assert len(weeks) >= 3 and {b.taken.month for b in found} == {11, 10, 9}

    def test_days_without_a_backup_do_not_count(self):
        found = kept([*every(24 * 30, 4)], daily=3)
        assert len(found) == 3

    def test_a_year_of_daily_ones_with_what_is_shipped(self):
        backups = every(24, 365)
        assert 12 <= len(kept(backups, **SHIPPED)) <= 18

    def test_the_newest_verified_one_stays_whatever_the_rules(self):
        old = made(NOW - timedelta(days=4000))
        assert kept([old], last=0) == [old]

    def test_what_was_not_verified_is_never_removed_and_shields_nothing(self):
        doubtful = made(NOW - timedelta(minutes=1), 9, verified=False)
        good = every(24, 3)
        assert kept([doubtful, *good]) == [doubtful, good[0]]

    def test_the_oldest_goes_first(self):
        gone = backup.to_remove(every(1, 4), NOTHING, NOW)
        assert gone == sorted(gone, key=lambda b: b.when)

    @given(
        st.lists(st.integers(0, 10_000), min_size=1, max_size=40, unique=True),
        st.fixed_dictionaries({rule: st.integers(0, 5) for rule in NOTHING}),
    )
    def test_applying_the_rules_twice_removes_nothing_more(self, hours, keep):
        backups = [made(NOW - timedelta(hours=h), 20_000 - h) for h in hours]
        once = [b for b in backups if b not in backup.to_remove(backups, keep, NOW)]
        assert backup.newest(backups) in once
        assert backup.to_remove(once, keep, NOW) == []


class TestWhoAndWhen:
    def test_followers_by_name_then_the_leader_and_never_a_learner(self):
        members = [
            {"name": "c", "leader": False, "learner": False},
            {"name": "a", "leader": True, "learner": False},
            {"name": "b", "leader": False, "learner": False},
            {"name": "d", "leader": False, "learner": True},
        ]
        for order in itertools.permutations(members):
            assert backup.order(order) == ["b", "c", "a"]

    @pytest.mark.parametrize(
        ("hours", "due"), [(None, True), (24, True), (13, True), (11, False), (0, False)]
    )
    def test_daily(self, hours, due):
        last = None if hours is None else NOW - timedelta(hours=hours)
        assert backup.is_due(last, NOW, 86400) is due

    def test_clocks_may_differ(self):
        """Where the interval is not known, and where another member's clock is ahead."""
        assert not backup.is_due(NOW + timedelta(seconds=30), NOW, 0)
        assert not backup.is_due(NOW - timedelta(seconds=30), NOW, 0)
        assert backup.is_due(NOW - timedelta(seconds=300), NOW, 0)

    def test_intervals_as_systemd_tells_them(self):
        told = """\
  Original form: Mon,Tue 02:30
Normalized form: Mon,Tue *-*-* 02:30:00
    Next elapse: Mon 2026-11-30 02:30:00 UTC
       From now: 5 days left
        Iter. #2: Tue 2026-12-01 02:30:00 UTC
       From now: 6 days left
        Iter. #3: Mon 2026-12-07 02:30:00 UTC
       From now: 1 week 5 days left
"""
        assert backup.intervals(told) == [86400, 6 * 86400]
        with pytest.raises(ValueError, match="no next time"):
            backup.intervals("")


class TestPillar:
    @pytest.fixture
    def faults(self, pillar, defaults):
        import etcd_ha_topology

        def found(**settings):
            pillar["clusters"]["main"]["backup"] = settings
            try:
                etcd_ha_topology.read(pillar, defaults)
            except etcd_ha_topology.PillarError as err:
                return err.faults
            return []

        return found

    def test_all_of_it_may_be_set(self, faults):
        s3 = {
            "bucket": "etcd-backups",
            "endpoint": "https://s3.example.com:9000",
            "access_key": "sdb://vault/x",
            "secret_key": "y",
            "server_side_encryption": "aws:kms",
            "kms_key": "z",
            "encryption_password": "p",
        }
        assert faults(schedule="*-*-* 02:30:00", master={"enabled": True}, s3=s3) == []

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"schedule": "daily\nExecStart=/bin/sh"}, ("backup:schedule", "OnCalendar")),
            ({"keep": {"last": 0}}, ("backup:keep:last", "above 0")),
            ({"keep": {"weekly": -1}}, ("backup:keep:weekly", "from 0 on")),
            ({"keep": {"daily": "7"}}, ("backup:keep:daily",)),
            ({"directory": "backups"}, ("backup:directory", "absolute path")),
            ({"max_age": 0}, ("backup:max_age",)),
            ({"master": {"port": 0}}, ("backup:master:port",)),
            ({"master": {"address": "a b"}}, ("backup:master:address",)),
            ({"s3": {"bucket": "Has Blanks"}}, ("backup:s3:bucket",)),
            ({"s3": {"access_key": "a", "secret_key": "b"}}, ("backup:s3:bucket is not",)),
            ({"s3": {"bucket": "abc", "access_key": "a"}}, ("belong together",)),
            ({"s3": {"bucket": "abc", "prefix": "../x"}}, ("backup:s3:prefix",)),
            ({"s3": {"bucket": "abc", "endpoint": "s3.example.com"}}, ("backup:s3:endpoint",)),
            ({"s3": {"bucket": "abc", "endpoint": "http://a"}}, ("in plain", "https")),
            ({"s3": {"bucket": "abc", "kms_key": "a"}}, ("aws:kms",)),
            ({"s3": {"bucket": "abc", "server_side_encryption": "yes"}}, ("AES256 or aws:kms",)),
            ({"shedule": "daily"}, ("did you mean 'schedule'",)),
        ],
    )
    def test_a_fault_names_its_key_and_the_cure(self, faults, settings, words):
        (fault,) = faults(**settings)
        assert fault.startswith("etcd_ha:clusters:main:backup:")
        for word in words:
            assert word in fault

    def test_plain_http_is_allowed_where_all_is_encrypted_before(self, faults):
        s3 = {"bucket": "abc", "endpoint": "http://10.0.0.1", "encryption_password": "p"}
        assert faults(s3=s3) == []

    def test_a_secret_in_the_wrong_form_is_not_shown(self, faults):
        s3 = {"bucket": "abc", "access_key": "a", "secret_key": 123456789}
        (fault,) = faults(s3=s3)
        assert "secret_key" in fault and "123456789" not in fault

    def test_a_member_has_no_backup_of_its_own(self, pillar, defaults):
        import etcd_ha_topology

        members = pillar["clusters"]["main"]["members"]
        members["etcd1.example.com"]["backup"] = {"schedule": "daily"}
        with pytest.raises(etcd_ha_topology.PillarError, match="for the whole cluster"):
            etcd_ha_topology.read(pillar, defaults)

    def test_what_a_host_is_told_holds_no_secret(self, pillar, defaults):
        import etcd_ha_host
        import etcd_ha_topology

        s3 = {
            "bucket": "etcd-backups",
            "access_key": "planted-1",
            "secret_key": "planted-2",
            "encryption_password": "planted-3",
        }
        pillar["clusters"]["main"]["backup"] = {"schedule": "daily", "s3": s3}

        def described():
            cluster = etcd_ha_topology.read(pillar, defaults)["main"]
            return etcd_ha_host.describe("etcd1.example.com", [cluster], "amd64")

        before = described()
        assert before["member"]["backup"]["uses_s3"]
        assert "planted" not in repr(before)
        s3["secret_key"] = "planted-4"
        assert etcd_ha_host.digest(described(), "") != etcd_ha_host.digest(before, "")
