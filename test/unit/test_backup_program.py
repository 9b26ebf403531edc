"""The program that the timer of backups starts: whole, of root alone, and free of Salt's cache."""

import ast
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys
import types
import zipfile

import etcd_ha_backup_host
import etcd_ha_backup_job as job
import etcd_ha_backup_program
import etcd_ha_faces
import pytest
from faces import load
from test_imports import imported

ROOT = pathlib.Path(__file__).resolve().parents[2]
UTILS = ROOT / "_utils"


def names():
    with zipfile.ZipFile(io.BytesIO(etcd_ha_backup_program.archive())) as file:
        return {name: file.read(name).decode() for name in file.namelist()}


def test_all_that_it_imports_of_the_formula_is_in_it():
    texts = names()
    for name, text in texts.items():
        own = {one for one in imported(ast.parse(text)) if one.startswith("etcd_ha")}
        assert {f"{one}.py" for one in own} <= set(texts), name
        if name != "__main__.py":
            assert text == (UTILS / name).read_text()
    assert "etcd_ha_backup_job.py" in texts


def test_the_same_modules_make_the_same_program(tmp_path):
    first = etcd_ha_backup_program.archive.__wrapped__()
    assert etcd_ha_backup_program.archive.__wrapped__() == first
    assert len(etcd_ha_backup_program.sha256()) == 64


def test_a_module_that_is_missing_is_an_error_and_no_smaller_program(tmp_path):
    shutil.copy(UTILS / "etcd_ha_backup_job.py", tmp_path)
    with pytest.raises(FileNotFoundError):
        etcd_ha_backup_program.modules(str(tmp_path))


def test_it_runs_with_no_other_module_of_the_formula_in_reach(tmp_path):
    """Also from another directory, and with an environment that names no path."""
    program = tmp_path / "backup.pyz"
    program.write_bytes(etcd_ha_backup_program.archive())
    there = tmp_path / "elsewhere"
    there.mkdir()
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "none.json")],
        cwd=there,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "etcd_ha-backup:" in done.stderr and "none.json is not there" in done.stderr


def test_whoever_holds_the_lock_runs_the_installed_program(monkeypatch):
    ran = []

    def call(command, *_):
        ran.append(command)
        raise job.etcd_ha_etcdctl.EtcdctlError("enough")

    wanted = {"cluster": "main", "timeout": 1, "s3": {"timeout": 1}}
    monkeypatch.setattr(job, "settings", lambda path: wanted)
    monkeypatch.setattr(job, "_member", dict)
    monkeypatch.setattr(job, "_turn", lambda member: 0)
    monkeypatch.setattr(job.etcd_ha_client, "environment", lambda member: {})
    monkeypatch.setattr(job.etcd_ha_client, "serving_endpoint", lambda: "")
    monkeypatch.setattr(job.etcd_ha_client, "program", lambda name: name)
    monkeypatch.setattr(job.etcd_ha_etcdctl, "call", call)
    with pytest.raises(job.JobError, match="enough"):
        job.scheduled("/etc/etcd/backup.json", print)
    assert ran[0][-4:] == [
        sys.executable,
        etcd_ha_backup_program.PATH,
        "due",
        "/etc/etcd/backup.json",
    ]


class TestPython:
    """Salt's packages bring python3.10, later python3.11, and python3 beside either."""

    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        (tmp_path / "python3.10").write_text("")
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python3.10"))
        return tmp_path

    def test_the_name_that_outlives_an_upgrade_is_taken(self, folder):
        (folder / "python3").symlink_to("python3.10")
        assert etcd_ha_faces.python() == str(folder / "python3")

    def test_another_python_of_that_name_is_not(self, folder):
        assert etcd_ha_faces.python() == str(folder / "python3.10")
        (folder / "python3").write_text("")
        assert etcd_ha_faces.python() == str(folder / "python3.10")


class TestState:
    @pytest.fixture
    def kept(self, tmp_path):
        def made(test=False):
            states = load("_states/etcd_ha_backup", opts={"test": test})
            return states.program_kept("x", path=str(self.path))

        self.path = tmp_path / "lib" / "backup.pyz"
        return made

    def test_is_written_once(self, kept):
        old = os.umask(0o077)
        try:
            told = kept()
        finally:
            os.umask(old)
        assert told["result"] is True and told["changes"][str(self.path)]["old"] == "absent"
        assert self.path.read_bytes() == etcd_ha_backup_program.archive()
        assert self.path.stat().st_mode & 0o7777 == 0o644
        assert self.path.parent.stat().st_mode & 0o7777 == 0o755
        assert kept()["changes"] == {}

    def test_an_older_one_is_replaced(self, kept):
        kept()
        self.path.write_text("an older formula's")
        assert kept()["changes"][str(self.path)]["old"] == "another program"
        assert self.path.read_bytes() == etcd_ha_backup_program.archive()

    @pytest.mark.parametrize("which", ["file", "folder"])
    def test_rights_of_others_are_taken_away(self, kept, which):
        kept()
        path = self.path if which == "file" else self.path.parent
        path.chmod(0o777)
        assert kept()["changes"][str(self.path)]["old"] == "writable for others"
        assert path.stat().st_mode & 0o022 == 0
        os.chown(path, 1, 1)
        assert kept()["changes"]
        assert (path.stat().st_uid, path.stat().st_gid) == (0, 0)

    @pytest.mark.parametrize("which", ["file", "folder"])
    def test_a_link_is_not_followed(self, kept, tmp_path, which):
        kept()
        path = self.path if which == "file" else self.path.parent
        path.rename(tmp_path / "aside")
        path.symlink_to(tmp_path / "aside")
        told = kept()
        assert told["result"] is False and "is a link" in told["comment"]

    def test_a_dry_run_writes_nothing(self, kept):
        told = kept(test=True)
        assert told["result"] is None and told["changes"] and not self.path.parent.exists()

    def test_a_disk_that_refuses_is_a_failed_state(self, kept, tmp_path):
        (tmp_path / "lib").write_text("no directory")
        told = kept()
        assert (told["result"], told["changes"]) == (False, {})
        assert "run again" in told["comment"]


def test_another_program_is_to_be_applied():
    """What a host should be names it, so that one with an older one is known without a look."""
    backup = {"directory": "/b", "keep": {}, "schedule": "daily", "timeout": 1}
    backup["s3"] = {"bucket": None, "timeout": 1}
    one = types.SimpleNamespace(
        name="main", members=(), settings={"backup": backup, "config_dir": "/etc/etcd"}
    )
    found = etcd_ha_backup_host.describe(one, one)
    assert found["program_hash"] == etcd_ha_backup_program.sha256()
    backup["schedule"] = None
    assert etcd_ha_backup_host.describe(one, one)["program_hash"] == ""


def test_who_leaves_keeps_no_program(monkeypatch, tmp_path):
    module = load("_modules/etcd_ha_member")
    monkeypatch.setattr(etcd_ha_backup_program, "FOLDER", str(tmp_path / "lib"))
    monkeypatch.setattr(module, "UNITS", str(tmp_path))
    monkeypatch.setattr(module, "_end", lambda unit: None)
    monkeypatch.setattr(module.etcd_ha_common_systemd, "systemctl", lambda *_: None)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "backup.pyz").write_text("")
    module._end_backups(str(tmp_path))
    assert not (tmp_path / "lib").exists()
    module._end_backups(str(tmp_path))


# Which files may know where Salt keeps its modules: to compare them, to make the program, and to
# find a checkout's defaults beside its modules.
OF_THE_CACHE = {"_modules/etcd_ha.py", "_utils/etcd_ha_master.py", "_modules/etcd_ha_pillar.py"}
CACHE = re.compile(r"extension_modules|cachedir|__file__|/var/cache/salt|extmods")


def test_nothing_else_knows_where_salts_cache_is():
    """What a unit, timer or script runs must not lie there."""
    files = [path for kind in ("modules", "states", "utils") for path in ROOT.glob(f"_{kind}/*.py")]
    files += [path for path in ROOT.glob("etcd_ha/**/*") if path.is_file()]
    own = "_utils/etcd_ha_backup_program.py"
    found = {str(p.relative_to(ROOT)) for p in files if CACHE.search(p.read_text())}
    assert found == OF_THE_CACHE | {own}
