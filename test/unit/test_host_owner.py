"""Whose a member's files are: root's tools leave files that etcd's user cannot open."""

import grp
import os
import pwd
import shutil

import etcd_ha_host_owner
import etcd_ha_host_places
import etcd_ha_machine
import pytest
from etcd_ha_host_owner import OwnerError

ETCD = 900


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A member's directory, all of it etcd's but for ``data.others``; chown is only pretended."""

    class Data:
        root = tmp_path / "data"

        def wrong(self):
            return [path[len(f"{self.root}/") :] for path in etcd_ha_host_owner.wrong(self.places)]

        def give(self):
            return [path[len(f"{self.root}/") :] for path in etcd_ha_host_owner.give(self.places)]

    made = Data()
    made.others = {}
    made.places = [(str(made.root), "member")]
    for name in ("snap", "wal"):
        (made.root / "member" / name).mkdir(parents=True, mode=0o700)
    for name in ("snap/db", "wal/0.wal"):
        (made.root / "member" / name).touch(0o600)
    real = os.stat

    def stat(path, **more):
        found = real(path, **more)
        uid = made.others.get(os.path.basename(path) if isinstance(path, str) else "", ETCD)
        return os.stat_result((*found[:4], uid, uid, *found[6:10]))

    def chown(path, uid, gid, *, dir_fd=None, follow_symlinks=True):
        assert not follow_symlinks and (uid, gid) == (ETCD, ETCD)
        real(path, dir_fd=dir_fd, follow_symlinks=False)
        made.others.pop(path, None)

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(os, "chown", chown)
    return made


def test_a_database_that_an_offline_defragmentation_left_becomes_etcd_s(data):
    assert data.wrong() == [] and data.give() == []
    data.others = {"db": 0}
    assert data.wrong() == ["member/snap/db"] and data.others
    assert data.give() == ["member/snap/db"]
    assert data.wrong() == [] and data.others == {}


def test_all_of_a_disk_from_another_host_becomes_etcd_s(data):
    data.others = {"member": 7, "snap": 7, "db": 7, "wal": 7, "0.wal": 7}
    given = ["member", "member/snap", "member/wal", "member/snap/db", "member/wal/0.wal"]
    assert sorted(data.give()) == sorted(given) and data.others == {}


@pytest.mark.parametrize(("name", "mode"), [("snap/db", 0o400), ("wal", 0o500), ("wal/0.wal", 0)])
def test_what_etcd_s_user_may_not_write_is_made_writable(data, name, mode):
    path = data.root / "member" / name
    path.chmod(mode)
    assert data.give() == [f"member/{name}"] and data.wrong() == []
    assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


def test_links_and_mount_points_are_not_entered(data, monkeypatch, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "shadow").touch()
    (data.root / "member" / "link").symlink_to(outside)
    (data.root / "member" / "file").symlink_to(outside / "shadow")
    mounted = data.root / "member" / "disk"
    mounted.mkdir()
    (mounted / "theirs").touch()
    real = etcd_ha_host_places.mounts()
    monkeypatch.setattr(etcd_ha_host_places, "mounts", lambda: real | {str(mounted)})
    data.others = {"shadow": 0, "theirs": 0, "disk": 0, "link": 0, "file": 0}
    assert data.wrong() == [] and data.give() == []


def test_what_was_set_aside_beside_the_data_stays_whose_it_is(data):
    for folder in ("replaced-20260101-000000", "restoring"):
        (data.root / folder).mkdir()
        (data.root / folder / "db.old").touch()
    data.others = {"db.old": 0}
    assert data.give() == []


def test_a_log_of_its_own_and_a_place_without_data(data, tmp_path):
    (tmp_path / "ssd" / "wal").mkdir(parents=True)
    (tmp_path / "ssd" / "wal" / "9.wal").touch(0o600)
    data.others = {"9.wal": 0}
    places = [(str(tmp_path / "gone"), "member"), (str(tmp_path / "ssd"), "wal")]
    assert etcd_ha_host_owner.give(places) == [str(tmp_path / "ssd" / "wal" / "9.wal")]


def test_a_file_with_another_name_elsewhere_is_not_given_away(data, tmp_path):
    os.link(data.root / "member" / "snap" / "db", tmp_path / "elsewhere")
    data.others = {"db": 0}
    with pytest.raises(OwnerError, match=r"hard link.*cp -p .*then run again"):
        data.give()


def test_a_file_that_cannot_be_given_is_told_with_the_command(data, monkeypatch):
    def refuses(*_, **__):
        raise PermissionError(1, "Operation not permitted", "db")

    data.others = {"db": 0}
    monkeypatch.setattr(os, "chown", refuses)
    with pytest.raises(OwnerError, match=rf"chown -R {ETCD}:{ETCD} {data.root}/member, then run"):
        data.give()


def test_a_directory_of_too_many_files_is_refused(data, monkeypatch):
    monkeypatch.setattr(etcd_ha_host_owner, "MOST", 3)
    with pytest.raises(OwnerError, match="has more than 3 files"):
        data.wrong()


def test_changes_name_some_and_count_the_others():
    assert etcd_ha_host_owner.told(["/a"])["old"] == "another user: /a"
    assert etcd_ha_host_owner.told(list("abcde"))["old"] == "another user: a, b, c and 2 more"


def test_data_is_anothers_where_its_directory_or_what_is_in_it_is(tmp_path, monkeypatch):
    folder = tmp_path / "etcd"
    (folder / "member").mkdir(parents=True)
    places = [(str(folder), "member"), (str(tmp_path / "gone"), "wal")]
    own = pwd.getpwuid(os.getuid()).pw_name
    assert not etcd_ha_host_owner.is_anothers(places, own)
    for other in (folder, folder / "member"):
        real = os.stat

        def given(path, real=real, other=other, **more):
            found = real(path, **more)
            return found if str(path) != str(other) else os.stat_result((*found[:4], 9, *found[5:]))

        with monkeypatch.context() as patched:
            patched.setattr(os, "stat", given)
            assert etcd_ha_host_owner.is_anothers(places, own)


def test_the_directories_are_given_where_they_are(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(shutil, "chown", lambda *words: given.append(words))
    places = [(str(tmp_path), "member"), (str(tmp_path / "gone"), "wal")]
    etcd_ha_host_owner.give_folders(places, "etcdx", "etcdg")
    assert given == [(str(tmp_path), "etcdx", "etcdg")]


def test_as_whom_a_process_runs():
    own = etcd_ha_machine.owner_of(os.getpid())
    assert own == {
        "user": pwd.getpwuid(os.geteuid()).pw_name,
        "group": grp.getgrgid(os.getegid()).gr_name,
    }
    assert etcd_ha_machine.owner_of(0) is etcd_ha_machine.owner_of(2**22 + 1) is None
