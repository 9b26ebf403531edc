"""The states of backups: secrets without a trace, and a timer that systemd understands."""

import importlib.util
import pathlib

import etcd_ha_common_process
import pytest
import systemd_units
from etcd_ha_common_process import Done, ProgramError, ProgramMissing, ProgramTimeout

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def states():
    path = ROOT / "_states" / "etcd_ha_backup.py"
    spec = importlib.util.spec_from_file_location("backup_states", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__opts__, module.__pillar__, module.__salt__ = {"test": False}, {}, {}
    return module


def pillar(own=None, common=None):
    found = {"clusters": {"main": {"backup": {"s3": own or {}}}}}
    return {"etcd_ha": {**found, "backup": {"s3": common or {}}}}


class TestSecrets:
    def keep(self, states, path):
        return states.secrets_kept("x", path=str(path), cluster="main")

    def test_are_written_once_and_shown_never(self, states, tmp_path):
        path = tmp_path / "secrets"
        states.__pillar__ = pillar({"access_key": "planted-1"}, {"secret_key": "planted-2"})
        first = self.keep(states, path)
        assert first["result"] is True and first["changes"]
        assert "planted" not in repr(first)
        assert path.stat().st_mode & 0o777 == 0o600
        assert "planted-1" in path.read_text() and "planted-2" in path.read_text()
        assert self.keep(states, path)["changes"] == {}

    def test_a_mode_that_others_can_read_is_mended(self, states, tmp_path):
        path = tmp_path / "secrets"
        states.__pillar__ = pillar({"access_key": "planted-1"})
        self.keep(states, path)
        path.chmod(0o644)
        assert self.keep(states, path)["changes"]
        assert path.stat().st_mode & 0o777 == 0o600

    def test_a_dry_run_writes_nothing(self, states, tmp_path):
        states.__opts__["test"] = True
        states.__pillar__ = pillar({"access_key": "planted-1"})
        told = self.keep(states, tmp_path / "secrets")
        assert told["result"] is None and told["changes"] and "planted" not in repr(told)
        assert not (tmp_path / "secrets").exists()

    def test_sdb_is_asked(self, states, tmp_path):
        states.__salt__ = {"sdb.get": {"sdb://v/k": "planted-3", "sdb://v/none": None}.get}
        states.__pillar__ = pillar({"secret_key": "sdb://v/k"})
        self.keep(states, tmp_path / "secrets")
        assert "planted-3" in (tmp_path / "secrets").read_text()
        states.__pillar__ = pillar({"secret_key": "sdb://v/none"})
        told = self.keep(states, tmp_path / "secrets")
        assert told["result"] is False and "sdb://v/none" in told["comment"]
        assert "planted-3" in (tmp_path / "secrets").read_text()

    def test_a_store_that_cannot_be_asked_is_a_failed_state_without_its_words(
        self, states, tmp_path
    ):
        def fails(uri):
            raise KeyError("planted-4")

        states.__salt__ = {"sdb.get": fails}
        states.__pillar__ = pillar({"secret_key": "sdb://v/k"})
        told = self.keep(states, tmp_path / "secrets")
        assert told["result"] is False and "salt-call sdb.get sdb://v/k" in told["comment"]
        assert "planted" not in repr(told)

    def test_another_mode_is_told_as_one(self, states, tmp_path):
        path = tmp_path / "secrets"
        states.__pillar__ = pillar({"access_key": "planted-1"})
        assert self.keep(states, path)["changes"][str(path)]["old"] == "absent"
        path.chmod(0o640)
        assert self.keep(states, path)["changes"][str(path)]["old"] == "mode 0640"
        states.__pillar__ = pillar({"access_key": "planted-2"})
        assert self.keep(states, path)["changes"][str(path)]["old"] == "other secrets"

    def test_a_disk_that_refuses_is_a_failed_state(self, states):
        states.__pillar__ = pillar({"access_key": "planted-1"})
        told = self.keep(states, "/dev/null/secrets")
        assert told["result"] is False and told["changes"] == {} and "run again" in told["comment"]


class TestTimer:
    def keep(self, states, path, schedule="daily"):
        return states.timer_kept("x", path=str(path), cluster="main", schedule=schedule)

    @pytest.fixture(autouse=True)
    def systemd(self, states, monkeypatch):
        self.ran, self.timer = [], systemd_units.DOWN

        def run(command, *_, **__):
            self.ran.append(command)
            if "show" in command:
                return Done(0, systemd_units.shown(self.timer), "")
            if command[-1] == "dayly":
                raise ProgramError(command, "exit code 1: Failed to parse", 1)
            return Done(0, "", "")

        monkeypatch.setattr(etcd_ha_common_process, "run", run)

    def test_changes_once(self, states, tmp_path):
        path = tmp_path / "x.timer"
        told = self.keep(states, path)
        assert told["changes"] == {"schedule": {"old": "", "new": "daily"}}
        assert "OnCalendar=daily\nPersistent=true" in path.read_text()
        assert self.ran[-1] == ["systemctl", "daemon-reload"]
        assert self.keep(states, path)["changes"] == {}
        told = self.keep(states, path, "hourly")
        assert told["changes"] == {"schedule": {"old": "daily", "new": "hourly"}}

    def test_a_text_that_differs_elsewhere_is_no_change_of_the_schedule(self, states, tmp_path):
        path = tmp_path / "x.timer"
        self.keep(states, path)
        path.write_text(path.read_text().replace("main", "old"))
        assert list(self.keep(states, path)["changes"]) == [str(path)]

    def test_what_cannot_be_written_or_asked_is_a_failed_state(self, states, tmp_path, monkeypatch):
        told = self.keep(states, "/dev/null/x.timer")
        assert told["result"] is False and told["changes"] == {}

        def gone(command, *_, **__):
            raise ProgramMissing(command, "no systemd-analyze")

        monkeypatch.setattr(etcd_ha_common_process, "run", gone)
        told = self.keep(states, tmp_path / "x.timer")
        assert told["result"] is False and "no systemd-analyze" in told["comment"]
        assert not (tmp_path / "x.timer").exists()

    def test_a_timer_that_systemd_did_not_read_is_a_failed_state(
        self, states, tmp_path, monkeypatch
    ):
        def run(command, *_, **__):
            if "daemon-reload" in command:
                raise ProgramTimeout(command, "no answer within 60 s")
            return Done(0, "", "")

        good = etcd_ha_common_process.run
        monkeypatch.setattr(etcd_ha_common_process, "run", run)
        told = self.keep(states, tmp_path / "x.timer")
        assert told["result"] is False and "not in force" in told["comment"]
        assert told["changes"] == {"schedule": {"old": "", "new": "daily"}}
        monkeypatch.setattr(etcd_ha_common_process, "run", good)
        self.timer, self.ran[:] = systemd_units.unit(stale=True), []
        assert self.keep(states, tmp_path / "x.timer")["changes"], "it is not read yet"
        assert ["systemctl", "daemon-reload"] in self.ran

    def test_a_service_that_systemd_did_not_read_is_read(self, states, tmp_path, monkeypatch):
        """It would be started as it was, although its file is another one by now."""
        path = tmp_path / "x.timer"
        self.keep(states, path)
        asked = []

        def unit(name):
            asked.append(name)
            return systemd_units.unit(stale=name == "x.service")

        monkeypatch.setattr(states.etcd_ha_common_systemd, "unit", unit)
        self.ran.clear()
        told = self.keep(states, path)
        assert told["changes"] and asked == ["x.timer", "x.service"]
        assert ["systemctl", "daemon-reload"] in self.ran

    def test_what_systemd_does_not_understand_leaves_the_timer_as_it_was(self, states, tmp_path):
        path = tmp_path / "x.timer"
        self.keep(states, path)
        told = self.keep(states, path, "dayly")
        assert told["result"] is False and "Failed to parse" in told["comment"]
        assert told["changes"] == {} and "OnCalendar=daily" in path.read_text()

    def test_a_dry_run_writes_nothing(self, states, tmp_path):
        states.__opts__["test"] = True
        told = self.keep(states, tmp_path / "x.timer")
        assert told["result"] is None and told["changes"]
        assert not (tmp_path / "x.timer").exists()
