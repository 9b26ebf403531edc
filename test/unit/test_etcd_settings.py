"""What an etcd is told to be, as people start it: flags, variables, a file, a shell around it."""

import etcd_ha_etcd_settings
import pytest


def read(words=(), environment=None, cwd="/", files=None):
    def reader(path):
        try:
            return (files or {})[path]
        except KeyError:
            raise OSError("no such file") from None

    return etcd_ha_etcd_settings.read(list(words), environment or {}, cwd, reader)


def test_without_a_word_it_is_what_etcd_itself_chooses():
    found = read(cwd="/srv")
    assert (found.name, found.data_dir, found.ports) == (
        "default",
        "/srv/default.etcd",
        (2379, 2380),
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--data-dir", "/data/etcd"],
        ["--data-dir=/data/etcd"],
        ["-data-dir", "/data/etcd"],
        ["--name", "x", "--data-dir=/other", "--data-dir=/data/etcd"],
    ],
)
def test_every_way_to_write_a_flag(words):
    assert read(words).data_dir == "/data/etcd"


def test_a_flag_wins_over_its_variable():
    found = read(["--name=a"], {"ETCD_NAME": "b", "ETCD_WAL_DIR": "wal"}, "/x")
    assert (found.data_dir, found.wal_dir) == ("/x/a.etcd", "/x/wal")


def test_the_how_to_names_no_directory():
    """Its data lies at the root of the file system."""
    assert read((), {"ETCD_NAME": "etcd1"}).data_dir == "/etcd1.etcd"


def test_a_configuration_file_is_all_that_counts():
    files = {
        "/etc/etcd.yml": "name: n\ndata-dir: d\nlisten-client-urls: http://0.0.0.0:1,http://[::]:2"
    }
    found = read(["--config-file=etcd.yml", "--data-dir=/x"], {"ETCD_NAME": "m"}, "/etc", files)
    assert (found.name, found.data_dir, found.ports) == ("n", "/etc/d", (1, 2, 2380))


@pytest.mark.parametrize(
    "text",
    [
        *("a: [", "- a list", "{", "\t", "x: !!bool foo", "a: [[1]]", "a: {b: {c: d}}"),
        *("a: &x [1]\nb: *x", 'data-dir: "/a\\0b"', 'data-dir: "/\\ud800"'),
    ],
)
def test_a_configuration_file_that_cannot_be_read_is_told(text):
    assert read(["--config-file=/c"], files={"/c": text}).fault
    assert "no such file" in read(["--config-file=/c"]).fault


def test_passwords_of_images_are_told_to_nobody():
    given = {"ETCD_NAME": "n", "ETCD_ROOT_PASSWORD": "hunter2", "HOME": "/x"}
    given["ETCD_INITIAL_CLUSTER_TOKEN"] = "t"
    shown = etcd_ha_etcd_settings.shown_variables(given)
    assert shown == {"ETCD_NAME": "n", "ETCD_INITIAL_CLUSTER_TOKEN": "t"}


def test_sockets_of_files_are_no_ports():
    urls = ["--listen-client-urls=unix://a:1", "--listen-peer-urls=unixs://b:2"]
    assert read(urls).ports == ()


def test_a_proxy_holds_no_data():
    found = read(["gateway", "start", "--listen-addr=127.0.0.1:33790"])
    assert (found.proxy, found.data_dir, found.ports) == ("gateway", "", (33790,))
    assert read(["grpc-proxy", "start"]).ports == (23790,)


@pytest.mark.parametrize(
    ("name", "yes"),
    [
        ("/usr/local/bin/etcd", True),
        ("/opt/etcd-v3.5.9-linux-amd64/etcd", True),
        ("/usr/bin/etcd (deleted)", True),
        ("etcd3", True),
        ("etcd-3.5.16", True),
        ("etcd-v3.4.23", True),
        ("etcdctl", False),
        ("etcdutl", False),
        ("etcd-manager", False),
        ("etcd_exporter", False),
        ("netcd", False),
    ],
)
def test_what_etcd_is_called(name, yes):
    assert etcd_ha_etcd_settings.is_program(name) is yes


@pytest.mark.parametrize(
    ("words", "program", "rest"),
    [
        (["/usr/bin/etcd", "--name=a"], "/usr/bin/etcd", ["--name=a"]),
        (
            ["/bin/bash", "-c", "GOMAXPROCS=$(nproc) /usr/bin/etcd --name a"],
            "/usr/bin/etcd",
            ["--name", "a"],
        ),
        (["/usr/bin/nice", "-n", "5", "/opt/etcd", "-x"], "/opt/etcd", ["-x"]),
        (["/usr/bin/env", "-i", "etcd", "-x"], "etcd", ["-x"]),
        (["docker", "run", "--rm", "etcd"], "etcd", []),
        (["/usr/local/bin/watch", "-n", "/opt/etcd"], "/opt/etcd", []),
        # Behind an option that none of us knows it may be the program.
        (["/sbin/start-stop-daemon", "--start", "--exec", "etcd"], "etcd", []),
        (["/usr/bin/valgrind", "-q", "etcd", "-x"], "etcd", ["-x"]),
        (["/usr/bin/chpst", "-u", "etcd", "etcd", "-x"], "etcd", ["-x"]),
        # What only speaks of it.
        (["/usr/bin/journalctl", "-f", "-u", "etcd"], "", []),
        (["/bin/systemctl", "restart", "etcd"], "", []),
        (["/bin/sh", "-c", "journalctl -fu etcd > /var/log/etcd"], "", []),
        (["/usr/local/bin/confd", "-backend", "etcd", "-node", "https://x:2379"], "", []),
        (
            ["/usr/bin/docker", "run", "quay.io/coreos/etcd:v3.5.9", "etcd"],
            "quay.io/coreos/etcd:v3.5.9",
            ["etcd"],
        ),
        (["/usr/bin/etcdctl", "get", "x"], "", []),
        (["/usr/bin/python3", "-m", "etcd_ha_backup_job"], "", []),
    ],
)
def test_the_etcd_in_a_command_line(words, program, rest):
    assert etcd_ha_etcd_settings.program_of(words) == (program, rest)
