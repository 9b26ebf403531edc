"""Processes as /proc tells: real ones, of programs that are called etcd."""

import os
import shutil
import socket
import subprocess
import sys

import etcd_ha_host_etcds
import etcd_ha_host_processes
import pytest


@pytest.fixture
def started(tmp_path):
    """Start a copy of the Python that runs this, under a name; ended at the end."""
    running = []

    def start(name, code, *words, environment=None):
        program = tmp_path / name
        # A link would show the program that it leads to.
        shutil.copy2(os.path.realpath(sys.executable), program)
        libraries = {"LD_LIBRARY_PATH": os.path.join(sys.base_prefix, "lib")}
        process = subprocess.Popen(
            [program, "-c", code, *words],
            env={"PYTHONHOME": sys.base_prefix, **libraries, **(environment or {})},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()


SLEEP = "import time; print('ready', flush=True); time.sleep(60)"
LISTEN = """
import socket, sys, time
held = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
time.sleep(60)
"""


def by_pid(pid):
    return next((one for one in etcd_ha_host_processes.etcds() if one.pid == pid), None)


def test_an_etcd_is_found_with_all_that_it_was_started_with(started, tmp_path):
    process = started("etcd", SLEEP, "--name", "x y", environment={"ETCD_NAME": "n", "SECRET": "s"})
    found = by_pid(process.pid)
    assert found.program == str(tmp_path / "etcd")
    assert found.words[-2:] == ("--name", "x y")
    assert found.environment == {"ETCD_NAME": "n"}
    assert (found.cwd, found.container) == (str(tmp_path), "")


def test_a_program_whose_file_is_gone_is_found(started, tmp_path):
    """As after an upgrade by hand."""
    process = started("etcd", SLEEP)
    os.unlink(tmp_path / "etcd")
    assert by_pid(process.pid).program == str(tmp_path / "etcd")


@pytest.mark.parametrize("name", ["etcdctl", "etcd_exporter"])
def test_other_programs_are_not(started, name):
    assert by_pid(started(name, SLEEP).pid) is None


def test_who_listens_where(started):
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    process = started("etcd", LISTEN, str(port))
    assert etcd_ha_host_processes.listening(process.pid) == [("127.0.0.1", port)]
    (found,) = etcd_ha_host_processes.listeners([port])
    assert (found[0], found[1].pid) == (port, process.pid)
    assert etcd_ha_host_processes.listeners([1]) == []


def test_a_process_that_ends_meanwhile_is_not_there(started):
    process = started("etcd", SLEEP)
    process.kill()
    process.wait()
    assert by_pid(process.pid) is None


@pytest.mark.parametrize(
    ("own", "groups", "container"),
    [
        ("0::/init.scope\n", "0::/system.slice/etcd.service\n", ""),
        ("0::/init.scope\n", f"0::/system.slice/docker-{'a' * 64}.scope\n", "docker"),
        ("0::/init.scope\n", "0::/kubepods.slice/kubepods-x.slice/y\n", "kubepods"),
        ("0::/init.scope\n", "4:cpu:/docker/abc/x\n", "docker"),
        ("0::/init.scope\n", "0::/garden.slice/etcd.service\n", ""),
        # This host is a container itself.
        ("0::/docker/abc/init.scope\n", "0::/docker/abc/system.slice/etcd.service\n", ""),
        ("0::/lxc.payload.web1/init.scope\n", "0::/lxc.payload.web1/system.slice/x.service\n", ""),
    ],
)
def test_what_a_container_is(tmp_path, own, groups, container):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "cgroup").write_text(own)
    assert etcd_ha_host_processes._container(str(tmp_path), 7, groups) == container


def test_a_user_s_program_is_never_run_by_root(started, tmp_path):
    """Its name is all that makes it an etcd."""
    ran = tmp_path / "ran"
    script = f"import sys\nif '--version' in sys.argv: open({str(ran)!r}, 'w')\n{SLEEP}"
    process = started("etcd", script)
    os.chmod(tmp_path, 0o777)
    (row,) = [one for one in etcd_ha_host_etcds.found() if one["pid"] == process.pid]
    assert row["version"] == "" and not etcd_ha_host_etcds._is_roots(str(tmp_path / "etcd"))
    assert etcd_ha_host_etcds._is_roots("/usr/bin/env")


def test_one_that_ends_while_it_is_looked_at_is_not_there(started, monkeypatch):
    """As test restores do: a plan must not fail for it."""
    process = started("etcd", SLEEP)
    real = etcd_ha_host_processes.etcds

    def seen(proc):
        found = real(proc)
        process.kill()
        process.wait()
        return found

    monkeypatch.setattr(etcd_ha_host_processes, "etcds", seen)
    assert process.pid not in {one["pid"] for one in etcd_ha_host_etcds.found()}


@pytest.mark.parametrize(
    ("groups", "unit"),
    [
        ("0::/system.slice/etcd.service\n", "etcd.service"),
        ("12:cpu:/\n1:name=systemd:/system.slice/etcd.service\n0::/\n", "etcd.service"),
        ("0::/system.slice/system-etcd.slice/etcd@a.service\n", "etcd@a.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/etcd.service\n", ""),
        ("0::/user.slice/user-0.slice/session-1.scope\n", ""),
        ("0::/machine.slice/payload/system.slice/etcd.service/sub\n", "etcd.service"),
    ],
)
def test_the_unit_of_a_process(groups, unit):
    assert etcd_ha_host_processes._unit(groups) == unit
