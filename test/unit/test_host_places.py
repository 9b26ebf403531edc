"""Where a member's directories really are, and what is tried before anything is stopped."""

import errno
import os

import etcd_ha_common_systemd
import etcd_ha_data
import etcd_ha_host_move_data
import etcd_ha_host_move_faults
import etcd_ha_host_places
import etcd_ha_machine
import etcd_ha_paths
import pytest
import test_plan_foreign
import test_planner

TABLE = """\
22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 8:2 / /data rw,relatime - ext4 /dev/sdb1 rw
24 22 8:2 /a\\040b /mnt/a\\040b rw,relatime - ext4 /dev/sdb1 rw
"""


@pytest.fixture
def mounted(monkeypatch):
    """Have these places be mount points, of whatever file system."""

    def given(*points):
        known = frozenset({"/", *map(str, points)})
        monkeypatch.setattr(etcd_ha_host_places, "mounts", lambda: known)

    return given


@pytest.fixture
def disk(tmp_path):
    """A directory on what is to be another disk, and a link to it where the pillar has the data."""
    real, link = tmp_path / "disk" / "etcd", tmp_path / "var" / "etcd"
    real.mkdir(parents=True)
    link.parent.mkdir()
    link.symlink_to(real)
    return real, link


def renames_of(monkeypatch, *points):
    """A rename as the kernel does it with these mount points."""
    real, known = os.rename, frozenset({"/", *map(str, points)})

    def rename(old, new):
        ends = [etcd_ha_host_places.mount_of(os.path.dirname(str(p)), known) for p in (old, new)]
        if str(old) in known:
            raise OSError(errno.EBUSY, "Device or resource busy", str(old))
        if len(set(ends)) > 1:
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(old))
        real(old, new)

    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(etcd_ha_host_places, "mounts", lambda: known)


def test_mount_points_are_those_of_the_kernel(tmp_path):
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    known = etcd_ha_host_places.mounts(str(table))
    assert known == {"/", "/data", "/mnt/a b"}
    assert etcd_ha_host_places.mount_of("/data/etcd/member", known) == "/data"
    assert etcd_ha_host_places.mount_of("/database", known) == "/"
    assert "/" in etcd_ha_host_places.mounts()


def test_a_directory_that_is_to_be_made_is_fine(tmp_path):
    assert etcd_ha_host_places.fault(str(tmp_path / "a" / "b")) == ""


def test_a_link_to_a_disk_is_fine_and_so_is_what_is_to_be_made_below(disk, monkeypatch):
    real, link = disk
    # Where tests have their files no data may be.
    monkeypatch.setattr(etcd_ha_paths, "unfit_for_data", lambda _: "")
    assert etcd_ha_host_places.fault(str(link)) == ""
    assert etcd_ha_host_places.fault(str(link / "below" / "it")) == ""
    assert etcd_ha_host_places.true(str(link)) == str(real)


def test_a_link_that_leads_nowhere_is_no_directory_to_be_made(disk):
    """Else the data of a disk that is not mounted would be taken for lost."""
    real, link = disk
    real.rmdir()
    told = etcd_ha_host_places.fault(str(link))
    assert told.startswith(f"{link} leads to {real}, which does not exist. Mount the disk")


def test_links_in_a_circle(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert "is not a directory" in etcd_ha_host_places.fault(str(tmp_path / "a"))


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "etcd").write_text("")
    assert "is not a directory" in etcd_ha_host_places.fault(str(tmp_path / "etcd"))


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("/srv", "which other programs use too"),
        ("/root", "which other programs use too"),
        ("/dev/shm", "lost at a restart or out of the unit's reach"),
        ("/var/lib/etcd_ha", "which other programs use too"),
    ],
)
def test_a_link_is_no_way_round_what_the_pillar_may_not_say(tmp_path, target, told):
    os.makedirs(target, exist_ok=True) if target == "/var/lib/etcd_ha" else None
    (tmp_path / "etcd").symlink_to(target)
    assert told in etcd_ha_host_places.fault(str(tmp_path / "etcd"))


def test_what_fstab_names_and_is_not_mounted_is_no_empty_directory(tmp_path, mounted):
    place, fstab = tmp_path / "disk" / "etcd", tmp_path / "fstab"
    place.mkdir(parents=True)
    fstab.write_text(f"# comment\n/dev/sda1 / ext4 defaults\n/dev/sdb1 {tmp_path}/disk ext4\n")
    mounted()
    told = etcd_ha_host_places.fault(str(place), str(fstab))
    assert f"mount {tmp_path}/disk" in told and "not mounted" in told
    mounted(tmp_path / "disk")
    assert etcd_ha_host_places.fault(str(place), str(fstab)) == ""


@pytest.mark.parametrize("written", ["{}/disk/", "/{}/disk", "{}//disk", "{}/lnk", "{}/lnk/"])
def test_a_mount_point_is_known_however_fstab_writes_it(tmp_path, mounted, written):
    """systemd and mount take all of these for the same place."""
    place, fstab = tmp_path / "disk" / "etcd", tmp_path / "fstab"
    place.mkdir(parents=True)
    (tmp_path / "lnk").symlink_to(tmp_path / "disk")
    point = written.format(tmp_path)
    fstab.write_text(f"UUID=x {point} ext4 nofail 0 2\n")
    mounted()
    for path in (place, tmp_path / "lnk" / "etcd", tmp_path / "disk"):
        told = etcd_ha_host_places.fault(str(path), str(fstab))
        assert f"Mount it: mount {point}" in told, path
    mounted(tmp_path / "disk")
    assert etcd_ha_host_places.fault(str(place), str(fstab)) == ""


def test_what_fstab_names_beside_the_place_is_not_its_mount(tmp_path, mounted):
    fstab = tmp_path / "fstab"
    fstab.write_text(f"tmpfs {tmp_path}/dis tmpfs\nx none xfs\nx {tmp_path}/disk/b xfs\nx /\n")
    mounted()
    assert etcd_ha_host_places.fault(str(tmp_path / "disk"), str(fstab)) == ""


def test_a_mount_unit_that_is_not_active_is_no_empty_directory(tmp_path, mounted):
    units = {str(tmp_path / "disk"): "x-disk.mount", "/": "-.mount"}
    mounted()
    told = etcd_ha_host_places.fault(str(tmp_path / "disk" / "etcd"), str(tmp_path / "none"), units)
    assert "x-disk.mount names and which is not mounted" in told
    assert told.endswith("systemctl start x-disk.mount")
    assert etcd_ha_host_places.fault(str(tmp_path / "other"), str(tmp_path / "none"), units) == ""
    mounted(tmp_path / "disk")
    assert (
        etcd_ha_host_places.fault(str(tmp_path / "disk" / "etcd"), str(tmp_path / "none"), units)
        == ""
    )


def test_systemd_is_asked_once_for_all_directories(tmp_path, mounted, monkeypatch):
    asked = []

    def mount_points():
        asked.append(1)
        return {str(tmp_path / "disk"): "x-disk.mount"}

    monkeypatch.setattr(etcd_ha_common_systemd, "mount_points", mount_points)
    mounted()
    paths = [str(tmp_path / "disk" / name) for name in ("a", "b")]
    assert set(etcd_ha_host_places.faults([*paths, str(tmp_path)])) == set(paths)
    assert etcd_ha_host_places.faults([]) == {} and asked == [1]


def test_a_read_only_file_system_is_named(tmp_path, monkeypatch):
    real = os.statvfs(tmp_path)
    read_only = os.statvfs_result([*real[:8], real.f_flag | os.ST_RDONLY, real.f_namemax])
    monkeypatch.setattr(os, "statvfs", lambda _: read_only)
    assert "read-only" in etcd_ha_host_places.fault(str(tmp_path))


def staged(folder):
    (folder / "member").mkdir(parents=True)
    (folder / "member" / "old").write_text("old")
    (folder / "restoring" / "data" / "member").mkdir(parents=True)
    (folder / "restoring" / "data" / "member" / "new").write_text("new")


def test_an_exchange_through_a_link_stays_on_the_disk(disk, monkeypatch):
    real, link = disk
    staged(real)
    renames_of(monkeypatch, real.parent)
    assert etcd_ha_data.exchange_fault(str(link), None) == ""
    (pair,) = etcd_ha_data.places(str(link), None)
    assert etcd_ha_data.put_in_place(*pair, "replaced-x") == f"{real}.replaced-x"
    assert (link / "member" / "new").read_text() == "new"
    assert link.is_symlink()


@pytest.mark.parametrize("through_link", [True, False])
def test_a_mount_point_is_exchanged_within(disk, monkeypatch, through_link):
    real, link = disk
    staged(real)
    renames_of(monkeypatch, real)
    path = str(link if through_link else real)
    assert etcd_ha_data.exchange_fault(path, None) == ""
    (pair,) = etcd_ha_data.places(path, None)
    assert etcd_ha_data.put_in_place(*pair, "replaced-x") == f"{real}/replaced-x"
    assert (real / "member" / "new").read_text() == "new"


def test_what_cannot_be_renamed_is_told_before(disk, monkeypatch):
    real, link = disk
    staged(real)
    renames_of(monkeypatch, real / "member")
    told = etcd_ha_data.exchange_fault(str(link), None)
    assert told.startswith(f"{real}/member is a mount point of its own")
    assert f"Mount that disk at {real}" in told


def test_a_link_in_the_place_of_member_is_told_before(disk, tmp_path):
    real, link = disk
    (tmp_path / "other").mkdir()
    (real / "member").symlink_to(tmp_path / "other")
    assert f"{real}/member is a link" in etcd_ha_data.exchange_fault(str(link), None)


def test_an_immutable_directory_is_told_before(disk, monkeypatch):
    real, link = disk
    staged(real)
    monkeypatch.setattr(etcd_ha_host_places, "_fixed", lambda path: "immutable (chattr -i)")
    told = etcd_ha_data.exchange_fault(str(link), None)
    assert told.startswith(f"{real}/member is immutable (chattr -i)")


@pytest.mark.parametrize(
    ("number", "known"),
    [
        (errno.ENOTTY, True),
        (errno.EOPNOTSUPP, True),
        (errno.EIO, False),
        (errno.EACCES, False),
        (errno.EINVAL, False),
    ],
)
def test_only_a_file_system_without_attributes_has_none(disk, monkeypatch, number, known):
    """A disk that errs has said nothing of them."""
    real, link = disk
    staged(real)

    def refuses(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(etcd_ha_host_places.fcntl, "ioctl", refuses)
    told = etcd_ha_data.exchange_fault(str(link), None)
    if known:
        assert told == ""
    else:
        assert f"whether {real}/member can be renamed is unknown" in told
        assert os.strerror(number) in told and "dmesg" in told


def test_a_directory_without_room_beside_it_is_told_before(tmp_path, monkeypatch):
    """The parent of the data may be read-only while the data is not."""
    place, real = tmp_path / "etcd", os.mkdir

    def mkdir(path, *mode, **more):
        if str(path).startswith(f"{place}."):
            raise OSError(errno.EROFS, "Read-only file system", path)
        real(path, *mode, **more)

    monkeypatch.setattr(os, "mkdir", mkdir)
    staged(place)
    told = etcd_ha_data.exchange_fault(str(place), None)
    assert "Read-only file system" in told and f"cannot be moved to {tmp_path}" in told
    assert sorted(os.listdir(place)) == ["member", "restoring"]


def test_trying_leaves_nothing_and_removes_what_was_left(tmp_path):
    place = tmp_path / "etcd"
    staged(place)
    (place / ".trying.used").mkdir()
    (tmp_path / "etcd.trying" / "used").mkdir(parents=True)
    assert etcd_ha_data.exchange_fault(str(place), str(tmp_path / "wal")) == ""
    assert sorted(os.listdir(place)) == ["member", "restoring"]
    assert sorted(os.listdir(tmp_path)) == ["etcd", "wal"]


def test_setting_aside_through_a_link(disk, monkeypatch):
    real, link = disk
    staged(real)
    (real / "lost+found").mkdir()
    renames_of(monkeypatch, real.parent)
    assert etcd_ha_data.set_aside_fault(str(link), "removed") == ""
    assert etcd_ha_data.set_aside(str(link), "removed", "x") == f"{real}.removed-x"
    assert os.listdir(link) == ["lost+found"]
    assert etcd_ha_data.set_aside(str(link), "removed", "y") == ""


# Moving


@pytest.fixture
def moving(tmp_path):
    """A member's data in one place, and another where it should be."""
    old, new = tmp_path / "old" / "etcd", tmp_path / "new" / "etcd"
    (old / "member").mkdir(parents=True)
    (old / "member" / "db").write_text("data")
    new.mkdir(parents=True)
    record = tmp_path / "record.json"
    etcd_ha_machine.write_json(str(record), {"data_dir": str(old)})
    return old, new, str(record)


def move(old, new, record):
    known = etcd_ha_machine.read_json(record)
    found = etcd_ha_host_move_data.moves({}, known, {"ETCD_DATA_DIR": str(new)})
    assert etcd_ha_host_move_faults.fault(found) == ""
    etcd_ha_host_move_data.move(found, record)
    assert (new / "member" / "db").read_text() == "data"
    assert etcd_ha_machine.read_json(record) == {"data_dir": str(new)}
    assert etcd_ha_host_move_data.moves({}, etcd_ha_machine.read_json(record), {}) == []


def test_data_moves_within_a_file_system(moving, mounted):
    mounted()
    move(*moving)
    assert not moving[0].exists()


@pytest.mark.parametrize("kind", ["disk", "old", "new", "both"])
def test_data_moves_over_mount_points(moving, monkeypatch, kind):
    old, new, _ = moving
    points = {"disk": [new.parent], "old": [old], "new": [new], "both": [old, new]}[kind]
    renames_of(monkeypatch, *points)
    move(*moving)
    where = f"{old}/moved-*" if old in points else f"{old}.moved-*"
    assert len(list(old.parent.glob(os.path.relpath(where, old.parent)))) == 1


@pytest.mark.parametrize("which", ["old", "new"])
def test_data_moves_through_links(moving, tmp_path, mounted, which):
    old, new, record = moving
    mounted()
    link = tmp_path / "link"
    link.symlink_to(old if which == "old" else new)
    if which == "old":
        etcd_ha_machine.write_json(record, {"data_dir": str(link)})
        move(link, new, record)
    else:
        move(old, link, record)
    assert link.is_symlink()
    assert not old.exists()


def test_two_names_of_one_place_are_no_move(moving, tmp_path):
    old, _, record = moving
    (tmp_path / "link").symlink_to(old)
    known = etcd_ha_machine.read_json(record)
    found = etcd_ha_host_move_data.moves({}, known, {"ETCD_DATA_DIR": str(tmp_path / "link")})
    assert found == []


def test_a_copy_without_room_is_told_before_the_stop(moving, monkeypatch):
    old, new, record = moving
    renames_of(monkeypatch, new.parent)
    monkeypatch.setattr(etcd_ha_data, "free", lambda _: 1 << 20)
    known = etcd_ha_machine.read_json(record)
    found = etcd_ha_host_move_data.moves({}, known, {"ETCD_DATA_DIR": str(new)})
    told = etcd_ha_host_move_faults.fault(found)
    assert "has 1 MiB free; 64 MiB are needed" in told
    assert (old / "member" / "db").read_text() == "data"


# What the planner makes of it


@pytest.mark.parametrize("command", test_plan_foreign.COMMANDS)
@pytest.mark.parametrize("start", [test_planner.blank, test_planner.healthy])
def test_a_disk_that_is_not_there_refuses_every_plan(cluster, command, start):
    """By name and with its cure; a member without data would be replaced."""
    first = cluster.members[0].minion
    told = "/var/lib/etcd leads to /mnt/a/etcd, which does not exist. Mount the disk"
    hosts = test_planner.change(start(cluster), first, unusable={"/var/lib/etcd": told})
    known = test_planner.wanted(cluster, recorded=start is test_planner.healthy)
    made = test_plan_foreign.planned(cluster, hosts, known, command)
    assert made.steps == ()
    assert made.refusal.startswith(f"{first}: {told}")


ABSENT = {"/var/lib/etcd": "/var/lib/etcd leads to /mnt/a, which does not exist. Mount the disk"}
STOPPED = {"active": False, "healthy": False, "running": {}, "members": (), "leader": False}


def without_disk(cluster, *minions, stopped=()):
    hosts = test_planner.healthy(cluster, leader="etcd1")
    for minion in (*minions, *stopped):
        hosts = test_planner.change(hosts, minion, **STOPPED)
    for minion in minions:
        hosts = test_planner.change(hosts, minion, has_data=False, unusable=ABSENT)
    return hosts


@pytest.mark.parametrize("first", ["etcd1", ""])
def test_beside_a_disk_that_is_not_there_others_are_started(cluster, first):
    """Without it the quorum would stay lost, although one start is all that it needs."""
    second, third = (member.minion for member in cluster.members[1:])
    alone = [cluster.members[0].minion] if not first else []
    hosts = without_disk(cluster, second, stopped=(third, *alone))
    made = test_planner.etcd_ha_planner.plan(cluster, hosts, test_planner.wanted(cluster))
    assert not made.refusal
    started = {minion for step in made.steps if step.action for minion in step.targets}
    assert third in started and second not in started
    assert any(f"{second}, which cannot hold its data" in told for told in made.waits)


def test_a_disk_that_is_not_there_is_told_where_no_other_member_needs_anything(cluster):
    second = cluster.members[1].minion
    hosts = without_disk(cluster, second)
    made = test_planner.etcd_ha_planner.plan(cluster, hosts, test_planner.wanted(cluster))
    assert made.steps == ()
    assert made.refusal.startswith(f"{second} cannot hold its data: /var/lib/etcd leads to /mnt/a")
    assert "recover" not in made.refusal


def test_where_all_disks_are_absent_nothing_is_planned(cluster):
    minions = [member.minion for member in cluster.members]
    hosts = without_disk(cluster, *minions)
    made = test_planner.etcd_ha_planner.plan(cluster, hosts, test_planner.wanted(cluster))
    assert made.steps == () and all(f"{minion}: /var" in made.refusal for minion in minions)


def test_a_directory_of_another_cluster_refuses_nothing(cluster):
    first = cluster.members[0].minion
    hosts = test_planner.change(
        test_planner.blank(cluster), first, unusable={"/srv/other": "it is not there"}
    )
    assert test_planner.etcd_ha_planner.plan(
        cluster, hosts, test_planner.wanted(cluster, recorded=False)
    ).steps
