"""A member's log and data move to other places, and an older copy there is never started from."""

from changing import THREE
from extent import only_in_all
from lab_command import DOMAIN

DATA, LOG = "/var/lib/etcd", "/srv/etcd-log"
# Made beforehand, with the folders that etcd would make, all empty; on etcd2 on a disk of its own.
MADE = {"data_dir": "/srv/made/data", "wal_dir": "/srv/fast/log"}
MAKE = """
    mkdir -p /srv/fast
    if [ $1 = etcd2 ]; then mount -t tmpfs -o size=512m fast /srv/fast; fi
    install -d -o etcd -g etcd -m 0700 /srv/fast/log /srv/fast/log/wal
    mkdir -p /srv/made/data/member/wal /srv/made/data/member/snap /srv/made/data/backup
"""


def has(lab, host, pattern):
    return lab.exec(host, "sh", "-c", f"ls -d {pattern}").code == 0


def log_is_in(changed, place, not_in):
    for host in changed.hosts:
        assert has(changed.lab, host, f"{place}/*.wal"), host
        assert not has(changed.lab, host, f"{not_in}/*.wal"), host


def test_the_log_gets_a_directory_of_its_own(changed):
    changed.begin(THREE)
    changed.change(THREE, "log-on", wal_dir=LOG)
    log_is_in(changed, f"{LOG}/wal", f"{DATA}/member/wal")
    assert not has(changed.lab, "etcd1", f"{DATA}/member/wal*")


@only_in_all
def test_the_log_comes_back_to_the_data(changed):
    changed.begin(THREE, wal_dir=LOG)
    changed.change(THREE, "log-off")
    log_is_in(changed, f"{DATA}/member/wal", f"{LOG}/wal")


@only_in_all
def test_an_older_copy_in_the_new_place_is_refused_while_all_members_run(changed):
    changed.begin(THREE)
    lab, copy = changed.lab, "/srv/copy"
    lab.exec("etcd2", "cp", "-a", DATA, copy).ok()
    lab.put("/after-the-copy", "kept")
    before = changed.processes()
    changed.ask_for(THREE, data_dir=copy)
    words = (
        f"etcd2.{DOMAIN}: {copy}/member is there already",
        f"data is in {DATA}",
        "move the older",
    )
    lab.orch().refused(*words, "Nothing was changed on any host")
    assert changed.processes() == before
    for host in THREE:
        assert f'ETCD_DATA_DIR="{DATA}"' in lab.exec(host, "cat", "/etc/default/etcd").ok().out
        assert lab.healthy(host), host
    lab.exec("etcd2", "mv", copy, f"{copy}-older").ok()
    changed.run(THREE, "moved-after-all")
    for host in THREE:
        at = lab.own(host)
        assert lab.get("/after-the-copy", host=host, endpoint=at) == "kept"
        assert not has(lab, host, f"{DATA}/member"), host


@only_in_all
def test_data_and_log_move_at_once_to_directories_made_beforehand(changed):
    changed.begin(THREE)
    for host in THREE:
        changed.lab.exec(host, "sh", "-ec", MAKE, "sh", host).ok()
    changed.change(THREE, "made", **MADE)
    log_is_in(changed, f"{MADE['wal_dir']}/wal", f"{MADE['data_dir']}/member/wal")
    for host in THREE:
        assert has(changed.lab, host, f"{MADE['data_dir']}/member/snap/db"), host
        assert not has(changed.lab, host, f"{DATA}/member"), host


@only_in_all
def test_a_directory_inside_the_old_one_is_refused(changed):
    changed.begin(THREE)
    before = changed.processes()
    changed.ask_for(THREE, data_dir=f"{DATA}/data")
    changed.lab.orch().refused(f"cannot move to {DATA}/data, which lies in {DATA}")
    assert changed.processes() == before


@only_in_all
def test_a_log_behind_a_link_is_refused_and_wal_dir_is_its_cure(changed):
    changed.begin(THREE)
    lab, log = changed.lab, f"{DATA}/member/wal"
    script = f"""
        systemctl stop etcd
        install -d -o etcd -g etcd -m 0700 /srv/disk
        mv {log} /srv/disk/wal
        ln -s /srv/disk/wal {log}
    """
    lab.exec("etcd2", "sh", "-ec", script).ok()
    lab.orch().refused(f"{log} is a link to /srv/disk/wal", "Set wal_dir", "/srv/disk")
    changed.wanted = changed.pillar(THREE)
    member = changed.wanted["clusters"]["main"]["members"][f"etcd2.{DOMAIN}"]
    member["wal_dir"] = "/srv/disk"
    lab.write_pillar(changed.wanted)
    changed.run(THREE, "linked")
    assert has(lab, "etcd2", "/srv/disk/wal/*.wal")
