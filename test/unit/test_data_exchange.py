"""One directory for another: it may end anywhere, and nothing is lost."""

import os

import etcd_ha_common_systemd
import etcd_ha_data
import etcd_ha_host_places
import pytest
from systemd_units import DOWN, UP


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "etcd"
    (place / "member").mkdir(parents=True)
    (place / "member" / "old").write_text("old")
    (place / "restoring" / "data" / "member").mkdir(parents=True)
    (place / "restoring" / "data" / "member" / "new").write_text("new")
    return place


def exchange(folder):
    (pair,) = etcd_ha_data.places(str(folder), None)
    return etcd_ha_data.put_in_place(*pair, "replaced-x")


def is_exchanged(folder):
    aside = folder.parent / "etcd.replaced-x" / "member" / "old"
    return (folder / "member" / "new").read_text() == "new" and aside.read_text() == "old"


def test_the_new_is_in_place_and_the_old_aside(folder):
    assert exchange(folder) == f"{folder}.replaced-x"
    assert is_exchanged(folder)


def test_once_more_changes_nothing(folder):
    assert exchange(folder) == exchange(folder)
    assert is_exchanged(folder)


@pytest.mark.parametrize("renames", [0, 1])
def test_it_is_gone_on_with_after_an_interruption(folder, monkeypatch, renames):
    left, real = [renames], os.rename

    def rename(old, new):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(old, new)

    monkeypatch.setattr(etcd_ha_data.os, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        exchange(folder)
    monkeypatch.undo()
    exchange(folder)
    assert is_exchanged(folder)


def test_a_mount_point_keeps_what_is_set_aside_inside(folder, monkeypatch):
    monkeypatch.setattr(etcd_ha_host_places, "mounts", lambda: {"/", str(folder)})
    assert exchange(folder) == f"{folder}/replaced-x"
    assert (folder / "replaced-x" / "member" / "old").is_file()


def test_an_empty_host_has_nothing_to_set_aside(folder):
    (folder / "member" / "old").unlink()
    (folder / "member").rmdir()
    assert exchange(folder) == ""
    assert (folder / "member" / "new").is_file()


def test_neither_the_one_nor_the_other_is_an_error(folder):
    with pytest.raises(etcd_ha_data.DataError, match="is missing"):
        etcd_ha_data.put_in_place(f"{folder}/wal", f"{folder}/restoring/wal", "x")


def test_a_log_of_its_own_is_exchanged_before_the_data():
    """The data is what tells that a member holds any."""
    places = [place for place, _ in etcd_ha_data.places("/d", "/w")]
    assert places == ["/w/wal", "/d/member"]


def test_etcd_s_tool_leaves_nothing_when_it_fails(tmp_path):
    made = tmp_path / "restoring" / "data"
    script = f"mkdir -p {made}/member; echo 'no space left on device' >&2; exit 1"
    with pytest.raises(etcd_ha_data.DataError, match="no space left"):
        etcd_ha_data.make(["sh", "-c", script], [str(made)], "root", "root")
    assert not made.exists()


def test_a_copy_is_not_made_inside_what_cannot_be_removed(tmp_path, monkeypatch):
    """``cp`` would lay it there as a folder of that folder, and the old content would be used."""
    (tmp_path / "member").mkdir()

    def rmtree(*_, **more):
        if not more.get("ignore_errors"):
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(etcd_ha_data.shutil, "rmtree", rmtree)
    with pytest.raises(etcd_ha_data.DataError, match="not permitted"):
        etcd_ha_data.copy(str(tmp_path / "member"), str(tmp_path / "restoring" / "member"))


def test_a_copy_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(etcd_ha_data.DataError, match="could not be copied"):
        etcd_ha_data.copy(str(tmp_path / "gone"), str(tmp_path / "restoring" / "member"))
    assert not (tmp_path / "restoring" / "member").exists()


@pytest.mark.parametrize(("polls", "killed"), [(2, False), (15, True)])
def test_a_leader_that_waits_for_others_is_killed_where_its_data_goes_aside(
    monkeypatch, polls, killed
):
    left, said = [polls], []

    def unit(name):
        left[0] -= 1
        return UP if left[0] > 0 and "kill" not in said else DOWN

    def systemctl(*words, **_):
        said.append(words[0])

    monkeypatch.setattr(etcd_ha_common_systemd, "unit", unit)
    monkeypatch.setattr(etcd_ha_common_systemd, "systemctl", systemctl)
    etcd_ha_data.stop(30, patience=0.5)
    assert ("kill" in said) is killed
