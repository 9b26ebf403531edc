"""Directories on their way to other places: wherever it ends, the next run goes on with it."""

import errno
import itertools
import json
import os
import shutil

import etcd_ha_host_move_data
import etcd_ha_host_move_faults
import etcd_ha_host_places
import etcd_ha_machine
import pytest

CONTENT = {"member/wal/0.wal": "log", "member/wal/1.wal": "more", "member/snap/db": "data"}
STEPS = ((os, "rename"), (os, "rmdir"), (os, "replace"), (os, "chown"), (os, "sync"))
# Which of these are mount points.
KINDS = {
    "one file system": (),
    "two": ("fast",),
    "new": ("fast/new",),
    "old": ("old",),
    "all": ("fast/new", "old", "log", "other"),
}
# Whether the data moves, and where the log is before and after; empty: with the data.
WAYS = {
    "data": (True, "", ""),
    "log on": (False, "", "log"),
    "log off": (False, "log", ""),
    "another log": (False, "log", "other"),
    "data, log on": (True, "", "log"),
    "data, log off": (True, "log", ""),
    "data, another log": (True, "log", "other"),
    "data, same log": (True, "log", "log"),
}
# What somebody has made beforehand where the directories are to go: folders, all empty.
MADE = ("member/wal", "member/snap", "backup")


class PowerLoss(BaseException):
    """Nothing runs after it: no handler, no clean-up."""


class Host:
    """A member's directories before and after, and the host's record."""

    def __init__(self, folder, way):
        moves, before, after = WAYS[way]
        self.folder, self.record = folder, folder / "main.json"
        self.old = folder / "old"
        self.new = folder / "fast" / "new" if moves else self.old
        self.old_log = folder / before / "wal" if before else self.old / "member/wal"
        self.new_log = folder / after / "wal" if after else self.new / "member/wal"
        self.before = variables(self.old, self.old_log if before else None)
        self.after = variables(self.new, self.new_log if after else None)

    def make(self, made=()):
        for name, text in CONTENT.items():
            place = self.old_log if "wal" in name else (self.old / name).parent
            place.mkdir(parents=True, exist_ok=True)
            (place / os.path.basename(name)).write_text(text)
        wal = self.before.get("ETCD_WAL_DIR", "")
        known = {"state": "bootstrapped", "data_dir": str(self.old), "wal_dir": wal}
        self.record.write_text(json.dumps(known))
        for name in ("fast", "log", "other"):
            (self.folder / name).mkdir(exist_ok=True)
        self.new.mkdir(exist_ok=True)
        for name in made if self.new != self.old else ():
            (self.new / name).mkdir(parents=True, exist_ok=True)
        if made and self.new_log != self.old_log:
            self.new_log.mkdir(parents=True, exist_ok=True)

    def recorded(self):
        return json.loads(self.record.read_text())

    def moves(self, process=()):
        return etcd_ha_host_move_data.moves(dict(process), self.recorded(), self.after)

    def move(self, process=()):
        moves = self.moves(process)
        told = etcd_ha_host_move_faults.conflict(moves, self.after)
        assert told == "", told
        etcd_ha_host_move_data.move(moves, str(self.record))

    def is_seen(self):
        """Whether facts see the data: by the record, and by the configuration that waits."""
        known = self.recorded()
        dirs = known["data_dir"], self.after["ETCD_DATA_DIR"]
        logs = filter(None, (known["wal_dir"], self.after.get("ETCD_WAL_DIR")))
        return etcd_ha_machine.holds_data(*(with_ways(places) for places in (dirs, logs)))

    def may_start(self):
        """Whether etcd's unit finds its log."""
        return any(self.new_log.glob("*.wal"))

    def is_whole(self):
        logs = {name: self.new_log / os.path.basename(name) for name in CONTENT if "wal" in name}
        paths = {name: logs.get(name, self.new / name) for name in CONTENT}
        return (
            all(path.is_file() for path in paths.values())
            and {name: path.read_text() for name, path in paths.items()} == CONTENT
        )


def variables(data, log):
    return {"ETCD_DATA_DIR": str(data)} | ({"ETCD_WAL_DIR": str(log)} if log else {})


def with_ways(places):
    places = list(places)
    return [*places, *map(etcd_ha_machine.on_its_way, places)]


@pytest.fixture(params=KINDS)
def kernel(request, tmp_path, monkeypatch):
    """A kernel that renames nothing over mount points."""
    known = frozenset({"/", *(str(tmp_path / one) for one in KINDS[request.param])})
    rename = os.rename

    def within(source, target):
        ends = [etcd_ha_host_places.mount_of(os.path.dirname(p), known) for p in (source, target)]
        if {source, target} & known:
            raise OSError(errno.EBUSY, "Device or resource busy")
        if len(set(ends)) > 1:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(os, "rename", within)
    monkeypatch.setattr(os, "sync", lambda: None)
    monkeypatch.setattr(etcd_ha_host_places, "mounts", lambda: known)
    monkeypatch.setattr(etcd_ha_machine, "sync_tree", lambda folder: None)


def lose_power_at(context, number):
    """The power goes before the call of this number, of all that change a directory or a file."""
    left = itertools.count(number, -1)

    def ends(call):
        def instead(*arguments, **more):
            if next(left) == 0:
                raise PowerLoss
            return call(*arguments, **more)

        return instead

    for module, name in (*STEPS, (shutil, "copy2")):
        context.setattr(module, name, ends(getattr(module, name)))


def until_the_power_goes(host, monkeypatch, number):
    """Whether the move came to its end before."""
    with monkeypatch.context() as context:
        lose_power_at(context, number)
        try:
            host.move(host.before)
        except PowerLoss:
            return False
    return True


@pytest.mark.parametrize("way", WAYS)
def test_a_move_goes_on_wherever_it_was_cut_short(kernel, way, tmp_path, monkeypatch):
    for number in itertools.count():
        for path in tmp_path.iterdir():
            (shutil.rmtree if path.is_dir() else os.unlink)(path)
        host = Host(tmp_path, way)
        host.make(MADE)
        ended = until_the_power_goes(host, monkeypatch, number)
        assert host.is_seen(), "facts would see no data"
        if (host.new / "member/snap/db").exists():
            # Without its log it has no ids: it is known by its place alone.
            assert host.recorded()["data_dir"] == str(host.new)
        if way != "data, same log":
            # With its log alone etcd ends, or makes its data anew from all that it has promised.
            assert host.is_whole() or not host.may_start(), "etcd would start on half of it"
        host.move()
        assert host.is_whole()
        assert host.moves() == host.moves(host.after) == []
        assert_nothing_is_left(host)
        if ended:
            break
    assert number > (0 if way == "data, same log" else 1), "the power never went"


@pytest.mark.parametrize("way", WAYS)
def test_directories_move_where_nothing_was_made(kernel, way, tmp_path):
    host = Host(tmp_path, way)
    host.make()
    host.move(host.before)
    assert host.is_whole() and host.moves() == []
    assert_nothing_is_left(host)


def assert_nothing_is_left(host):
    """But what was set aside after a copy, never inside of what is etcd's."""
    logs = {path.parent for path in host.folder.rglob("*.wal") if ".moved-" not in str(path)}
    assert {one for one in logs if "moved-" not in str(one)} == {host.new_log}
    there = {"snap"} | ({"wal"} if host.new_log.parent.name == "member" else set())
    # A folder that somebody made beforehand for a log that is elsewhere may stay, empty.
    left = set(os.listdir(host.new / "member")) - there
    assert all(not os.listdir(host.new / "member" / name) for name in left), left
    if host.new != host.old:
        assert not (host.old / "member").exists()
    known = host.recorded()
    assert known["data_dir"] == str(host.new)
    assert known["wal_dir"] == host.after.get("ETCD_WAL_DIR", "")
