"""Variables of etcd that a drop-in sets: no restart for ever, but one refusal that names it."""

import os

import etcd_ha_environment
import etcd_ha_host_overrides
import etcd_ha_planner
import pytest
import test_planner
from test_host_units import write
from test_plan_foreign import planned, running

UNIT = "/etc/systemd/system/etcd.service.d"


def found(root):
    rows = etcd_ha_host_overrides.found(str(root))
    assert all(set(row) == {"variable", "value", "file", "wins"} for row in rows)
    return {
        row["variable"]: (row["value"], os.path.basename(row["file"]), row["wins"]) for row in rows
    }


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("Environment=ETCD_A=1", {"ETCD_A": ("1", "a.conf", False)}),
        (
            "Environment=ETCD_A=1 'ETCD_B=2 3' GOGC=5",
            {"ETCD_A": ("1", "a.conf", False), "ETCD_B": ("2 3", "a.conf", False)},
        ),
        ("Environment=ETCD_A=%N", {"ETCD_A": ("etcd", "a.conf", False)}),
        ("Environment=ETCD_A=1\nEnvironment=", {}),
        ("Environment=ETCDCTL_API=3 HTTP_PROXY=x", {}),
        ("UnsetEnvironment=ETCD_A", {"ETCD_A": ("", "a.conf", True)}),
        ("EnvironmentFile=/etc/site.env", {"ETCD_A": ("2", "a.conf", True)}),
        ("EnvironmentFile=-/etc/*.env", {"ETCD_A": ("2", "a.conf", True)}),
        ("EnvironmentFile=/etc/site.env\nEnvironment=ETCD_A=1", {"ETCD_A": ("2", "a.conf", True)}),
        ("EnvironmentFile=-/etc/gone.env", {}),
        ("EnvironmentFile=/etc/default/etcd", {}),
        ("EnvironmentFile=", {"EnvironmentFile": ("", "a.conf", True)}),
        ("EnvironmentFile=\nEnvironmentFile=/etc/default/etcd", {}),
        ("Environment=ETCD_PASSWORD=hunter2", {"ETCD_PASSWORD": ("", "a.conf", False)}),
        ("LimitNOFILE=5", {}),
        ("Environment='ETCD_A=1", {}),
    ],
)
def test_what_a_drop_in_sets(tmp_path, text, rows):
    write(tmp_path, f"{UNIT}/a.conf", f"[Unit]\nEnvironment=ETCD_Z=1\n[Service]\n{text}\n")
    write(tmp_path, "/etc/site.env", "# x\nETCD_A=2\nOTHER=1\n")
    write(tmp_path, "/etc/default/etcd", "ETCD_NAME=etcd1\n")
    assert found(tmp_path) == rows


def test_the_service_manager_s_own_variables(tmp_path):
    write(tmp_path, "/etc/systemd/system.conf", "[Manager]\nDefaultEnvironment=ETCD_A=1 ETCD_B=1\n")
    write(
        tmp_path,
        "/usr/lib/systemd/system.conf.d/x.conf",
        "[Manager]\nDefaultEnvironment=ETCD_B=2\n",
    )
    write(tmp_path, f"{UNIT}/a.conf", "[Service]\nEnvironment=\n")
    assert found(tmp_path) == {
        "ETCD_A": ("1", "system.conf", False),
        "ETCD_B": ("2", "x.conf", False),
    }


def test_what_the_service_manager_gives_to_each_unit(tmp_path):
    """No file has what systemctl set-environment sets; of the others the file is told."""
    write(tmp_path, "/etc/systemd/system.conf", "[Manager]\nDefaultEnvironment=ETCD_A=1\n")
    told = "LANG=C\nETCD_A=1\nETCD_B=$'2 3'\nETCD_C='4\nETCD_TOKEN_KEY=x\nPATH=/usr/bin\nodd\n"
    rows = etcd_ha_host_overrides.found(str(tmp_path), told)
    assert {row["variable"]: (row["value"], row["file"]) for row in rows if not row["wins"]} == {
        "ETCD_A": ("1", str(tmp_path / "etc/systemd/system.conf")),
        "ETCD_B": ("2 3", etcd_ha_host_overrides.MANAGER),
        "ETCD_C": ("'4", etcd_ha_host_overrides.MANAGER),
        "ETCD_TOKEN_KEY": ("x", etcd_ha_host_overrides.MANAGER),
    }


def test_the_formula_s_own_drop_ins_set_none(tmp_path):
    write(tmp_path, f"{UNIT}/etcd_ha-paused.conf", "[Unit]\nAssertPathExists=!/x\n")
    assert found(tmp_path) == {} and found(tmp_path / "gone") == {}


def with_override(cluster, **values):
    """A healthy cluster, one member of which was started with this variable."""
    given = {"variable": "ETCD_X", "value": "1", "file": f"{UNIT}/site.conf", "wins": False}
    row = {**given, **values}
    second = cluster.members[1]
    hosts = running(cluster)
    wanted = etcd_ha_environment.variables(cluster, second)
    counts = row["wins"] or row["variable"] not in wanted
    started = {
        **hosts[second.minion].running,
        **({row["variable"]: row["value"]} if counts else {}),
    }
    return test_planner.change(hosts, second.minion, overrides=(row,), running=started)


@pytest.mark.parametrize("command", etcd_ha_planner.COMMANDS)
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"variable": "ETCD_NAME", "value": "x", "wins": True},
        {"variable": "ETCD_DATA_DIR", "value": "", "wins": True},
        {"variable": "ETCD_FORCE_NEW_CLUSTER", "value": "true"},
    ],
)
def test_what_every_restart_would_bring_back_refuses_each_plan(cluster, command, values):
    made = planned(cluster, with_override(cluster, **values), test_planner.wanted(cluster), command)
    assert made.steps == ()
    minion, variable = cluster.members[1].minion, values.get("variable", "ETCD_X")
    for word in (minion, variable, f"{UNIT}/site.conf", "daemon-reload", "Nothing was changed"):
        assert word in made.refusal


def test_a_drop_in_that_takes_the_formula_s_file_away_is_refused(cluster):
    hosts = with_override(cluster, variable="EnvironmentFile", value="", wins=True)
    made = planned(cluster, hosts, test_planner.wanted(cluster))
    assert "takes the formula's EnvironmentFile from etcd.service" in made.refusal


def test_what_does_not_count_or_does_not_differ_is_no_matter(cluster):
    second = cluster.members[1]
    for values in (
        {"variable": "ETCD_NAME", "value": "another", "wins": False},
        {"variable": "ETCD_NAME", "value": second.name, "wins": True},
        {"variable": "ETCD_X", "value": "", "wins": True},
    ):
        made = planned(cluster, with_override(cluster, **values), test_planner.wanted(cluster))
        assert (made.refusal, made.steps) == ("", ()), values


def test_what_the_service_manager_brings_back_has_a_cure_of_its_own(cluster):
    hosts = with_override(cluster, file=etcd_ha_host_overrides.MANAGER)
    made = planned(cluster, hosts, test_planner.wanted(cluster))
    assert made.steps == () and "run systemctl unset-environment ETCD_X there" in made.refusal
    assert "daemon-reload" not in made.refusal
