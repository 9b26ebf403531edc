"""Backups: checked before they count, taken by whoever is there, whole or not there at all."""

import json
import re
import threading
import time

import pytest
from changing import THREE
from extent import RELEASES, each_release, only_in_all
from lab_command import DOMAIN

FOLDER = "/var/backups/etcd_ha"
NAME = re.compile(r"main-\d{8}T\d{6}Z-r\d+")
KEEP = {"last": 3, "days": 0, "daily": 0, "weekly": 0, "monthly": 0}
SETTINGS = {"schedule": "daily", "keep": KEEP, "master": {"enabled": True}}
SERVICE = "etcd_ha-backup.service"
# Large enough that a snapshot of it is still on its way when somebody looks.
BULK = 150


class Backups:
    """A converged cluster with backups, and what lies where."""

    def __init__(self, ground, **settings):
        self.ground, self.lab = ground, ground.lab
        ground.begin(THREE, backup=SETTINGS, **settings)

    def take(self, *argv):
        return self.lab.orch(*argv, command="backup", timeout=600)

    def on(self, host):
        """Names of the backups on a host that have a sidecar, and all other files there."""
        done = self.lab.exec(host, "ls", "-A", FOLDER)
        names = set(done.out.split()) - {".lock"}
        whole = {n[:-3] for n in names if n.endswith(".db") and f"{n[:-3]}.json" in names}
        return whole, {n for n in names if n.rpartition(".")[0] not in whole}

    def everywhere(self):
        return {host: self.on(host)[0] for host in THREE}

    def no_half_ones(self, *hosts):
        for host in hosts or THREE:
            assert self.on(host)[1] == set(), host

    def sidecar(self, host, name):
        return json.loads(self.lab.exec(host, "cat", f"{FOLDER}/{name}.json").ok().out)

    def fill(self, mebibytes=BULK):
        """Values that make the database as large, once for this lab."""
        if self.lab.etcdctl("etcd1", "get", "/bulk/done").out.strip():
            return
        script = (
            "set -a; . /etc/etcd/etcdctl.env; set +a; "
            "head -c 768000 /dev/urandom | base64 -w 0 > /tmp/bulk; "
            f"for n in $(seq {mebibytes}); do "
            "etcdctl put /bulk/$n < /tmp/bulk > /dev/null || exit 1; done; "
            "etcdctl put /bulk/done 1"
        )
        self.lab.exec("etcd1", "sh", "-c", script, timeout=900).ok()

    def followers(self):
        leader = self.ground.leader()
        return [host for host in THREE if host != leader]


@pytest.fixture
def backups(changed):
    yield Backups(changed)
    changed.settled()


@each_release(RELEASES)
def test_on_every_release_a_backup_is_checked_and_reaches_the_master(changed, version):
    if not changed.obtainable(version):
        pytest.skip(f"etcd {version} cannot be had on this machine")
    found = Backups(changed, version=version)
    lab = found.lab
    found.take().ok()
    ((host, (name,)),) = [(h, names) for h, names in found.everywhere().items() if names]
    assert host != changed.leader()
    told = found.sidecar(host, name)
    listed = lab.etcdctl(host, "get", "", "--prefix", "--keys-only").ok().out.split()
    # The record of the backup itself is younger than the backup.
    assert told["keys"] == len(set(listed) - {"/etcd_ha/backup/main"}), told
    assert (told["version"], told["verified"], told["member"]) == (version, True, host)
    for place in (host, "master"):
        script = f"stat -c %a {FOLDER} {FOLDER}/{name}.db {FOLDER}/{name}.json"
        assert lab.exec(place, "sh", "-c", script).ok().out.split() == ["700", "600", "600"]
        found.no_half_ones(place)
    same = [
        lab.exec(p, "sha256sum", f"{FOLDER}/{name}.db").ok().out.split()[0]
        for p in (host, "master")
    ]
    assert same[0] == same[1]
    table = lab.salt_run("etcd_ha.backups").ok().out
    rows = [line for line in table.splitlines() if line.startswith(name)]
    assert len(rows) == 2 and all(row.rstrip().endswith("yes") for row in rows), table


@only_in_all
def test_a_dry_run_takes_none(backups):
    before = backups.everywhere()
    run = backups.take("test=True")
    assert run.code == 0 and any("take a backup" in name for name in run.states), run.text
    assert backups.everywhere() == before


@only_in_all
def test_a_member_that_is_down_is_done_without(backups):
    lab, (first, second) = backups.lab, backups.followers()
    backups.take().ok()
    lab.fault(first, "kill")
    try:
        before = backups.on(second)[0]
        backups.take().ok()
        assert len(backups.on(second)[0] - before) == 1
    finally:
        lab.fault(first, "heal")
        lab.wait_healthy(first, seconds=90)
        lab.wait_for_minions(first)


@only_in_all
def test_a_full_destination_is_told_and_another_member_takes_it(backups):
    lab, (first, second) = backups.lab, backups.followers()
    backups.take().ok()
    lab.exec(first, "mount", "-t", "tmpfs", "-o", "size=30m,mode=700", "tmpfs", FOLDER).ok()
    try:
        before = backups.on(second)[0]
        run = backups.take().ok()
        assert len(backups.on(second)[0] - before) == 1
        assert "MiB free" in run.text
        full = backups.on(second)[0]
        lab.exec(second, "mount", "-t", "tmpfs", "-o", "size=30m,mode=700", "tmpfs", FOLDER).ok()
        leader = backups.ground.leader()
        lab.exec(leader, "mount", "-t", "tmpfs", "-o", "size=30m,mode=700", "tmpfs", FOLDER).ok()
        backups.take().refused("MiB free", "Make room", "backup:directory")
        backups.no_half_ones()
    finally:
        for host in THREE:
            lab.exec(host, "umount", FOLDER)
    assert backups.on(second)[0] == full
    backups.take().ok()


@only_in_all
def test_a_flipped_bit_is_found_out(backups):
    lab = backups.lab
    backups.take().ok()
    host, name = next((h, max(names)) for h, names in backups.everywhere().items() if names)
    script = f"printf x | dd of={FOLDER}/{name}.db bs=1 seek=9000 conv=notrunc"
    lab.exec(host, "sh", "-c", script).ok()
    done = lab.salt(f"{host}*", "etcd_ha_backup.verify", name)
    assert done.code != 0 and "hash is wrong" in done.text, done.text
    table = lab.salt_run("etcd_ha.backups").out
    (row,) = [line for line in table.splitlines() if line.startswith(name) and host in line]
    assert row.rstrip().endswith("no"), table
    lab.exec(host, "rm", f"{FOLDER}/{name}.db").ok()


class TestTheTimer:
    def start(self, lab, *hosts):
        """The timers of these hosts go off together, as they do at night."""
        done = {}

        def go(host):
            done[host] = lab.exec(host, "systemctl", "start", SERVICE, timeout=300)

        threads = [threading.Thread(target=go, args=(host,)) for host in hosts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return done

    def journal(self, lab, host):
        words = ("journalctl", "-u", SERVICE, "-n", "30", "--no-pager", "-o", "cat")
        return lab.exec(host, *words).out

    def due(self, lab, through="etcd1", hosts=THREE):
        """As if the last one were of yesterday; one that lies on a member would be none."""
        old = {"name": "main-20200101T000000Z-r1", "member": "etcd1"}
        lab.etcdctl(through, "put", "/etcd_ha/backup/main", json.dumps(old)).ok()
        for host in hosts:
            lab.exec(host, "sh", "-c", f"rm -f {FOLDER}/main-*").ok()

    @only_in_all
    def test_one_takes_it_without_a_master(self, backups):
        lab = backups.lab
        for host in THREE:
            assert lab.exec(host, "systemctl", "is-active", "etcd_ha-backup.timer").code == 0
        before = backups.everywhere()
        self.due(lab)
        lab.exec("master", "systemctl", "stop", "salt-master").ok()
        try:
            done = self.start(lab, *THREE)
        finally:
            lab.exec("master", "systemctl", "start", "salt-master").ok()
            lab.wait_for_minions(*THREE, "lb")
        told = {host: self.journal(lab, host) for host in THREE}
        assert all(one.code == 0 for one in done.values()), told
        new = {host: names - before[host] for host, names in backups.everywhere().items()}
        assert sum(map(len, new.values())) == 1, told
        assert not new[backups.ground.leader()], told

    @only_in_all
    def test_it_needs_nothing_of_salts_cache(self, backups):
        """Neither after saltutil.clear_cache, nor where the minion has no cache at all."""
        lab = backups.lab
        for host in THREE:
            unit = lab.exec(host, "systemctl", "cat", SERVICE).ok().out
            assert "/usr/local/lib/etcd_ha/backup.pyz" in unit and "/var/cache/salt" not in unit
            owner = lab.exec(host, "stat", "-c", "%U %a", "/usr/local/lib/etcd_ha/backup.pyz")
            assert owner.ok().out.split() == ["root", "644"]
        try:
            for empty in ("cleared", "gone"):
                if empty == "cleared":
                    lab.salt("etcd*", "saltutil.clear_cache").ok()
                else:
                    for host in THREE:
                        lab.exec(host, "systemctl", "stop", "salt-minion").ok()
                        lab.exec(host, "mv", "/var/cache/salt", "/var/cache/salt.aside").ok()
                self.due(lab)
                before = backups.everywhere()
                done = self.start(lab, *THREE)
                told = {host: self.journal(lab, host) for host in THREE}
                assert all(one.code == 0 for one in done.values()), told
                new = [names - before[host] for host, names in backups.everywhere().items()]
                assert sum(map(len, new)) == 1, (empty, told)
        finally:
            for host in THREE:
                script = (
                    "test ! -e /var/cache/salt.aside || mv /var/cache/salt.aside /var/cache/salt"
                )
                lab.exec(host, "sh", "-c", f"{script}; systemctl start salt-minion").ok()
            lab.wait_for_minions(*THREE)
            # The modules are back, as after any loss of them.
            lab.salt("etcd*", "saltutil.sync_all").ok()

    @only_in_all
    def test_another_takes_over_from_one_that_fails_and_one_that_is_down(self, backups):
        lab, (first, second) = backups.lab, backups.followers()
        self.due(lab)
        lab.exec(first, "mount", "-t", "tmpfs", "-o", "size=30m,mode=700", "tmpfs", FOLDER).ok()
        before = backups.on(second)[0]
        try:
            done = self.start(lab, *THREE)
        finally:
            lab.exec(first, "umount", FOLDER)
        assert done[first].code != 0 and done[second].code == 0, self.journal(lab, second)
        assert "MiB free" in self.journal(lab, first)
        assert len(backups.on(second)[0] - before) == 1
        lab.fault(first, "kill")
        try:
            others = [host for host in THREE if host != first]
            self.due(lab, second, others)
            before = backups.on(second)[0]
            self.start(lab, *others)
            assert len(backups.on(second)[0] - before) == 1, self.journal(lab, second)
        finally:
            lab.fault(first, "heal")
            lab.wait_healthy(first, seconds=90)
            lab.wait_for_minions(first)

    @only_in_all
    def test_the_unit_is_shut_in(self, backups):
        words = ("systemd-analyze", "security", "--no-pager", SERVICE)
        done = backups.lab.exec("etcd1", *words)
        line = next(line for line in done.out.splitlines() if "exposure level" in line)
        assert float(line.split(":")[1].split()[0]) <= 2.5, line


class TestS3:
    CA, PASSWORD = "/etc/etcd/s3.crt", "planted-password"

    @pytest.fixture
    def stored(self, changed):
        """The cluster's backups go to the lab's S3 server, encrypted before they leave."""
        started = changed.lab.run("s3", "start", timeout=900)
        if "no S3 server can be had here" in started.text:
            pytest.skip(started.text.strip())
        found = Backups(changed)
        found.s3 = json.loads(started.ok().out)
        for host in THREE:
            changed.lab.write(host, self.CA, found.s3["certificate"])
        self.use(found)
        yield found
        changed.lab.run("s3", "stop").ok()
        changed.ask_for(THREE, backup=SETTINGS)
        changed.lab.orch().ok()
        changed.settled()

    def use(self, found, **other):
        known = {key: found.s3[key] for key in ("endpoint", "bucket", "access_key", "secret_key")}
        s3 = {
            **known,
            "ca_certificate": self.CA,
            "encryption_password": self.PASSWORD,
            "timeout": 30,
        }
        found.ground.ask_for(THREE, backup={**SETTINGS, "s3": {**s3, **other}})
        run = found.lab.orch().ok()
        assert self.PASSWORD not in run.text and found.s3["secret_key"] not in run.text
        return run

    def in_bucket(self, found):
        files = found.lab.run("s3", "files").ok().out
        names = NAME.findall(files)
        return {name for name in names if names.count(name) == 2}

    @only_in_all
    def test_it_is_there_encrypted_and_comes_back_whole(self, stored):
        lab = stored.lab
        stored.take().ok()
        host, name = next((h, max(n)) for h, n in stored.everywhere().items() if n)
        assert name in self.in_bucket(stored)
        folder = lab.run("s3", "folder").ok().out.strip()
        with open(f"{folder}/etcd_ha/main/{name}.db.bin", "rb") as file:
            assert file.read(8) == b"RCLONE\0\0"
        assert " s3 " in lab.salt_run("etcd_ha.backups").ok().out
        other = next(h for h in THREE if h != host)
        lab.salt(f"{other}*", "etcd_ha_backup.fetch", name).ok()
        lab.salt(f"{other}*", "etcd_ha_backup.verify", name).ok()
        same = {
            lab.exec(h, "sha256sum", f"{FOLDER}/{name}.db").ok().out.split()[0]
            for h in (host, other)
        }
        assert len(same) == 1

    @only_in_all
    def test_it_takes_part_in_the_timer_s_backup(self, stored):
        lab = stored.lab
        TestTheTimer().due(lab)
        before = self.in_bucket(stored)
        done = TestTheTimer().start(lab, *THREE)
        told = [TestTheTimer().journal(lab, host) for host in THREE]
        assert all(one.code == 0 for one in done.values()), told
        assert len(self.in_bucket(stored) - before) == 1, told

    @pytest.mark.parametrize("fault", ["stop", "freeze"])
    @only_in_all
    def test_a_store_that_is_gone_or_stands_still(self, stored, fault):
        lab = stored.lab
        stored.take().ok()
        before, there = stored.everywhere(), self.in_bucket(stored)
        lab.run("s3", fault).ok()
        began = time.monotonic()
        try:
            stored.take().refused("did not reach S3", "is good, and lies on")
            assert time.monotonic() - began < 90
        finally:
            lab.run("s3", "thaw" if fault == "freeze" else "start").ok()
        new = [names - before[host] for host, names in stored.everywhere().items()]
        assert sum(map(len, new)) == 1
        stored.no_half_ones()
        stored.take().ok()
        assert self.in_bucket(stored) - there

    @only_in_all
    def test_a_store_that_refuses(self, stored):
        self.use(stored, secret_key="planted-wrong")
        try:
            run = stored.take().refused("did not reach S3")
            assert "planted-wrong" not in run.text
        finally:
            self.use(stored)
        stored.take().ok()

    @only_in_all
    def test_no_secret_is_left_where_others_read(self, stored):
        lab = stored.lab
        script = (
            "while [ ! -e /tmp/enough ]; do cat /proc/[0-9]*/cmdline; sleep 0.05; done > /tmp/seen"
        )
        sampler = threading.Thread(
            target=lambda: lab.exec("etcd2", "sh", "-c", script, timeout=120)
        )
        lab.exec("etcd2", "rm", "-f", "/tmp/enough").ok()
        sampler.start()
        try:
            for host in THREE:
                lab.salt(f"{host}*", "etcd_ha_backup.take").ok()
        finally:
            lab.exec("etcd2", "touch", "/tmp/enough").ok()
            sampler.join()
        for secret in (self.PASSWORD, stored.s3["secret_key"]):
            for host in THREE:
                places = "/tmp/seen /var/log /etc/systemd/system /var/lib/etcd_ha"
                found = lab.exec(
                    host,
                    "sh",
                    "-c",
                    f"grep -rl -- {secret} {places}; journalctl -o cat | grep -c -- {secret}",
                )
                assert found.out.split() in (["0"], []), found.text
            jobs = "grep -rl -- $1 /var/cache/salt/master/jobs /var/log"
            assert lab.exec("master", "sh", "-c", jobs, "sh", secret).out == ""
        modes = lab.exec("etcd1", "stat", "-c", "%a %U", "/etc/etcd/backup.secrets").ok().out
        assert modes.split() == ["600", "root"]


@only_in_all
def test_the_table_warns_when_there_is_none(backups):
    lab = backups.lab
    for host in (*THREE, "master"):
        lab.exec(host, "sh", "-c", f"rm -f {FOLDER}/main-*").ok()
    done = lab.salt_run("etcd_ha.backups")
    assert done.code == 1 and "There is no verified backup on the members" in done.text
    backups.take().ok()
    assert lab.salt_run("etcd_ha.backups").code == 0


@only_in_all
def test_minion_ids_stand_in_the_table(backups):
    backups.take().ok()
    table = backups.lab.salt_run("etcd_ha.backups").ok().out
    assert any(f"{host}.{DOMAIN}" in table for host in THREE), table


@only_in_all
def test_etcd_killed_in_mid_snapshot_leaves_no_half_backup(backups):
    """The next member takes over; where none is left, the older ones are as they were."""
    lab = backups.lab
    backups.fill()
    backups.take().ok()
    before = backups.everywhere()
    first = backups.followers()[0]
    script = (
        f"for n in $(seq 3000); do ls {FOLDER} | grep -q part && break; sleep 0.01; done; "
        f"ls {FOLDER} | grep -q part && systemctl kill -s KILL etcd && echo struck"
    )
    killer = {}
    thread = threading.Thread(
        target=lambda: killer.update(done=lab.exec(first, "sh", "-c", script, timeout=120))
    )
    thread.start()
    run = backups.take().ok()
    thread.join()
    assert "struck" in killer["done"].out, killer["done"].text
    lab.wait_healthy(first)
    backups.no_half_ones()
    new = {host: names - before[host] for host, names in backups.everywhere().items()}
    assert not new[first] and sum(map(len, new.values())) == 1, run.text
    assert before[first] == backups.on(first)[0]
