"""What a running process has open, beside what its paths lead to: real files of this very process.

Mounts are tried for real where the machine allows them (root), in a namespace of the test's own.
"""

import contextlib
import os
import shutil
import subprocess
import sys

import etcd_ha_common_wait
import etcd_ha_host_hidden
import etcd_ha_host_places
import etcd_ha_host_processes
import pytest
from etcd_ha_common_files import Unreadable


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(etcd_ha_host_hidden, "SWITCH", 0)


@pytest.fixture
def held(tmp_path):
    """A member's files, open as etcd has them; the variables that name them."""
    with contextlib.ExitStack() as stack:
        member = tmp_path / "etcd" / "member"
        for path in ("snap/db", "wal/0.wal", "wal/1.wal"):
            file = member / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("x")
            stack.enter_context(open(file, "r+b"))
        yield {"ETCD_DATA_DIR": str(tmp_path / "etcd")}


def look(environment):
    return etcd_ha_host_hidden.look(os.getpid(), environment)


def test_who_uses_what_is_there_hides_nothing(held, tmp_path):
    assert look(held) == {}
    (tmp_path / "link").symlink_to(tmp_path / "etcd")
    assert look({"ETCD_DATA_DIR": str(tmp_path / "link")}) == {}
    assert etcd_ha_host_hidden.look(0, held) == {} == look({})


def test_who_has_no_such_file_open_tells_nothing(tmp_path):
    # A process of its own: another test may have left a database open in this one.
    with subprocess.Popen(["sleep", "30"]) as process:
        found = etcd_ha_host_hidden.look(process.pid, {"ETCD_DATA_DIR": str(tmp_path)})
        process.kill()
    assert found == {}


@pytest.mark.parametrize("gone", ["member", "member/snap/db", "member/snap", ""])
def test_deleted_files_are_seen(held, tmp_path, gone):
    path = tmp_path / "etcd" / gone
    path.unlink() if path.is_file() else shutil.rmtree(path)
    assert look(held) == {"kind": "deleted", "path": str(tmp_path / "etcd"), "by": ""}


def test_a_new_file_of_the_same_name_is_another_one(held, tmp_path):
    path = tmp_path / "etcd" / "member" / "snap" / "db"
    path.unlink()
    path.write_text("x")
    assert look(held)["kind"] == "deleted"


def test_of_the_log_the_newest_file_counts(held, tmp_path):
    """Older ones are removed by etcd itself while it has them open."""
    log = tmp_path / "etcd" / "member" / "wal"
    (log / "0.wal").rename(tmp_path / "aside")
    assert look(held) == {}
    (tmp_path / "aside").rename(log / "0.wal")
    (log / "1.wal").unlink()
    assert look(held) == {"kind": "deleted", "path": str(tmp_path / "etcd"), "by": ""}


def test_a_log_at_a_place_of_its_own(held, tmp_path):
    apart = {**held, "ETCD_WAL_DIR": str(tmp_path / "wal")}
    (tmp_path / "etcd" / "member" / "wal").rename(tmp_path / "wal")
    assert look(apart) == {}
    (tmp_path / "wal").rename(tmp_path / "elsewhere")
    found = look(apart)
    assert found == {"kind": "moved", "path": str(tmp_path / "wal"), "by": f"{tmp_path}/elsewhere"}


def test_a_renamed_directory_is_named(held, tmp_path):
    (tmp_path / "etcd").rename(tmp_path / "old")
    assert look(held)["kind"] == "moved"
    assert look(held)["by"] == f"{tmp_path}/old"


def test_a_database_that_etcd_exchanges_is_waited_for(held, tmp_path, monkeypatch):
    """After a snapshot of the leader's, or a defragmentation, it is opened after its renaming."""
    path = tmp_path / "etcd" / "member" / "snap" / "db"
    path.unlink()
    path.write_text("new")
    opened = []
    monkeypatch.setattr(etcd_ha_host_hidden, "SWITCH", 5)
    sleep = etcd_ha_common_wait.time.sleep

    def opens(seconds):
        opened.append(os.open(path, os.O_RDWR))
        sleep(0)

    monkeypatch.setattr(etcd_ha_common_wait.time, "sleep", opens)
    assert look(held) == {} and len(opened) == 1
    os.close(opened[0])


def another_device(monkeypatch, *mounts, known=("8:1",)):
    """Have the open files be on another file system than what the path leads to."""
    real = etcd_ha_host_processes.open_files

    def moved(*given):
        return [
            etcd_ha_host_processes.OpenFile(one.path, one.device + 1, one.inode, 1, "8:1")
            for one in real(*given)
        ]

    monkeypatch.setattr(etcd_ha_host_processes, "open_files", moved)
    monkeypatch.setattr(
        etcd_ha_host_processes, "mounted", lambda *_: dict(enumerate(map(str, known)))
    )
    monkeypatch.setattr(etcd_ha_host_places, "mounts", lambda: frozenset({"/", *map(str, mounts)}))


def test_a_mount_over_the_directory_is_named(held, tmp_path, monkeypatch):
    another_device(monkeypatch, tmp_path, tmp_path / "etcd")
    found = look(held)
    assert found == {"kind": "mount", "path": f"{tmp_path}/etcd", "by": f"{tmp_path}/etcd"}


def test_the_root_is_never_to_be_unmounted(held, monkeypatch):
    another_device(monkeypatch)
    found = look(held)
    assert (found["kind"], found["by"]) == ("unknown", "")
    assert "umount" not in etcd_ha_host_hidden.words(found, "main", "etcd1", ())


def test_a_file_system_that_is_mounted_nowhere_any_more(held, tmp_path, monkeypatch):
    another_device(monkeypatch, tmp_path / "etcd", known=("8:2",))
    assert look(held)["kind"] == "unmounted"


REAL = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
import etcd_ha_host_hidden
etcd_ha_host_hidden.SWITCH = 0
place = sys.argv[2]
subprocess.run(["mount", "-t", "tmpfs", "disk", place], check=True)
os.makedirs(f"{place}/etcd/member/snap")
held = open(f"{place}/etcd/member/snap/db", "w")
look = lambda: etcd_ha_host_hidden.look(os.getpid(), {"ETCD_DATA_DIR": f"{place}/etcd"})
print(look())
subprocess.run(["mount", "-t", "tmpfs", "over", f"{place}/etcd"], check=True)
print(look())
subprocess.run(["umount", f"{place}/etcd"], check=True)
print(look())
subprocess.run(["umount", "-l", place], check=True)
print(look())
"""


def test_real_mounts(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root mounts; test/e2e/test_hidden.py does so on every run")
    folder = os.path.dirname(etcd_ha_host_hidden.__file__)
    command = ["unshare", "--mount", sys.executable, "-c", REAL, folder, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "permission denied" in done.stderr.lower():
        pytest.skip("this machine lets nobody mount; test/e2e/test_hidden.py does so on every run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    place = f"{tmp_path}/etcd"
    assert lines[0] == "{}" == lines[2]
    assert eval(lines[1]) == {"path": place, "kind": "mount", "by": place}
    assert eval(lines[3])["kind"] == "unmounted"


def test_a_process_that_has_ended_hides_nothing(held):
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert etcd_ha_host_hidden.look(process.pid, held) == {}


def test_what_cannot_be_seen_is_an_error(held, monkeypatch):
    def refuses(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "listdir", refuses)
    with pytest.raises(Unreadable, match="Permission denied"):
        look(held)


@pytest.mark.parametrize("members", [("etcd1",), ("etcd1", "etcd2")])
def test_where_no_others_can_rebuild_it_a_backup_comes_first(members):
    found = {"kind": "deleted", "path": "/var/lib/etcd", "by": ""}
    told = etcd_ha_host_hidden.words(found, "main", "etcd1", members)
    assert "etcd_ha.orch.backup" in told and "orch.replace" not in told
