"""Units of systemd that start etcd, as packages, installers and people write them."""

import os

import etcd_ha_host_etcds
import etcd_ha_host_units
import pytest
from etcd_files import metadata


def write(root, path, text):
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def data(root, path, member=0xAB, cluster=0xCD):
    write(root, f"{path}/member/snap/db", "")
    folder = root / path.lstrip("/") / "member/wal"
    folder.mkdir()
    (folder / "0000000000000000-0000000000000000.wal").write_bytes(metadata(member, cluster))


def found(root):
    rows = etcd_ha_host_etcds.found(["/var/lib/etcd"], root=str(root), proc=str(root / "proc"))
    assert all(row["kind"] in ("unit", "data", "files") for row in rows)
    return {row["unit"] or row["data_dir"]: row for row in rows}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "proc").mkdir()
    return tmp_path


def test_flags_in_its_exec_start(root):
    write(
        root,
        "/etc/systemd/system/etcd.service",
        "[Service]\nUser=core\nExecStart=/opt/etcd \\\n --name n \\\n --data-dir /data/etcd\n",
    )
    data(root, "/data/etcd")
    row = found(root)["etcd.service"]
    assert (row["data_dir"], row["holds_data"], row["user"]) == ("/data/etcd", True, "core")
    assert (row["cluster_id"], row["member_id"], row["fault"]) == ("cd", "ab", "")
    assert row["by_formula"] is False


def test_the_package_of_debian(root):
    write(
        root,
        "/lib/systemd/system/etcd.service",
        "[Service]\nEnvironment=DAEMON_ARGS=\nEnvironment=ETCD_NAME=%H\n"
        "Environment=ETCD_DATA_DIR=/var/lib/etcd/default\nEnvironmentFile=-/etc/default/%p\n"
        "User=etcd\nExecStart=/usr/bin/etcd $DAEMON_ARGS\n",
    )
    write(
        root, "/etc/default/etcd", '# a word\nETCD_NAME="one"\nDAEMON_ARGS="--wal-dir /w --x y"\n'
    )
    row = found(root)["etcd.service"]
    assert (row["name"], row["data_dir"], row["wal_dir"]) == ("one", "/var/lib/etcd/default", "/w")


def test_the_package_of_red_hat(root):
    write(
        root,
        "/usr/lib/systemd/system/etcd.service",
        "[Service]\nWorkingDirectory=/var/lib/etcd/\nEnvironmentFile=-/etc/etcd/etcd.conf\nUser=etcd\n"
        'ExecStart=/bin/bash -c "GOMAXPROCS=$(nproc) /usr/bin/etcd"\n',
    )
    write(root, "/etc/etcd/etcd.conf", 'ETCD_DATA_DIR="/var/lib/etcd/default.etcd"\n')
    row = found(root)["etcd.service"]
    assert (row["program"], row["data_dir"]) == ("/usr/bin/etcd", "/var/lib/etcd/default.etcd")
    # A shell may do anything with its words.
    assert row["holds_data"] and "by bash" in row["fault"]


def test_a_drop_in_counts_and_an_empty_value_takes_back(root):
    unit = "/etc/systemd/system/etcd.service"
    write(root, unit, "[Service]\nExecStart=/usr/bin/etcd --data-dir /a\n")
    write(root, f"{unit}.d/20-b.conf", "[Service]\nExecStart=\nExecStart=/opt/etcd --data-dir /b\n")
    row = found(root)["etcd.service"]
    assert (row["data_dir"], row["program"]) == ("/b", "/opt/etcd")
    assert [os.path.basename(one) for one in row["unit_files"]] == ["etcd.service", "20-b.conf"]


def test_a_unit_of_etc_hides_the_package_s(root):
    write(root, "/lib/systemd/system/etcd.service", "[Service]\nExecStart=/usr/bin/etcd\n")
    write(
        root, "/etc/systemd/system/etcd.service", "[Service]\nExecStart=/opt/etcd --data-dir /o\n"
    )
    assert found(root)["etcd.service"]["data_dir"] == "/o"


def test_a_masked_unit_starts_nothing(root):
    write(root, "/lib/systemd/system/etcd.service", "[Service]\nExecStart=/usr/bin/etcd\n")
    (root / "etc/systemd/system").mkdir(parents=True)
    os.symlink("/dev/null", root / "etc/systemd/system/etcd.service")
    assert found(root) == {}


def test_an_instance_of_a_template(root):
    write(
        root,
        "/etc/systemd/system/etcd@.service",
        "[Service]\nExecStart=/usr/bin/etcd --data-dir /srv/%i --name %i\n",
    )
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir()
    os.symlink("../etcd@.service", wants / "etcd@blue.service")
    assert found(root)["etcd@blue.service"]["data_dir"] == "/srv/blue"


def test_a_unit_of_another_name(root):
    write(
        root, "/etc/systemd/system/kv.service", "[Service]\nExecStart=/opt/x/etcd --data-dir /kv\n"
    )
    assert found(root)["kv.service"]["data_dir"] == "/kv"


@pytest.mark.parametrize(
    "line",
    [
        "/usr/bin/docker run -v /var/lib/etcd:/data quay.io/coreos/etcd:v3.5.9 etcd",
        "/usr/bin/podman start etcd --etcd /usr/bin/etcd",
    ],
)
def test_where_a_container_has_its_data_is_not_known(root, line):
    write(root, "/etc/systemd/system/etcd.service", f"[Service]\nExecStart={line}\n")
    row = found(root)["etcd.service"]
    assert row["holds_data"] and "starts it by" in row["fault"]


def test_where_a_script_has_its_data_is_not_known(root):
    """As kubespray starts etcd in docker."""
    write(root, "/usr/local/bin/etcd", "#!/bin/bash\ndocker run --name etcd1 x\n")
    write(root, "/etc/systemd/system/etcd.service", "[Service]\nExecStart=/usr/local/bin/etcd\n")
    assert "is a script" in found(root)["etcd.service"]["fault"]


def test_a_missing_environment_file_is_told(root):
    write(
        root,
        "/etc/systemd/system/etcd.service",
        "[Service]\nEnvironmentFile=/etc/etcd.env\nExecStart=/usr/bin/etcd\n",
    )
    row = found(root)["etcd.service"]
    assert row["holds_data"] and "etcd.env" in row["fault"]


def test_a_unit_of_the_formula_is_known(root):
    write(
        root,
        "/etc/systemd/system/etcd.service",
        f"{etcd_ha_host_units.OURS}. More.\n[Service]\nExecStart=/opt/etcd/current/etcd\n",
    )
    assert found(root)["etcd.service"]["by_formula"] is True


def test_a_unit_of_the_formula_with_another_command_is_not(root):
    """A drop-in of the etcd that was there before stays when its unit is moved away."""
    unit = "/etc/systemd/system/etcd.service"
    text = f"{etcd_ha_host_units.OURS}.\n[Service]\nExecStart=/opt/etcd/current/etcd\n"
    write(root, unit, text)
    drop_in = "[Service]\nExecStart=\nExecStart=/opt/etcd --data-dir /data/etcd\n"
    write(root, f"{unit}.d/x.conf", drop_in)
    data(root, "/data/etcd")
    row = found(root)["etcd.service"]
    assert (row["by_formula"], row["data_dir"], row["cluster_id"]) == (False, "/data/etcd", "cd")


def test_the_formula_s_own_unit_may_lack_its_files(root):
    """A variables file that somebody deleted makes nobody else's etcd of it."""
    text = "[Service]\nEnvironmentFile=/etc/default/etcd\nExecStart=/opt/etcd/current/etcd\n"
    write(root, "/etc/systemd/system/etcd.service", f"{etcd_ha_host_units.OURS}.\n{text}")
    data(root, "/var/lib/etcd", 1, 2)
    rows = found(root)
    assert (rows["etcd.service"]["holds_data"], rows["etcd.service"]["fault"]) == (False, "")
    assert rows["/var/lib/etcd"]["cluster_id"] == "2"


def test_other_units_that_speak_of_etcd_start_none(root):
    write(
        root,
        "/etc/systemd/system/patroni.service",
        "[Unit]\nAfter=etcd.service\n[Service]\nExecStart=/usr/bin/patroni --etcd x\n",
    )
    write(root, "/etc/systemd/system/c.service", "[Service]\nExecStart=/usr/bin/etcdctl get x\n")
    assert found(root) == {}


def test_data_that_nothing_names_is_found_where_it_is_asked_for(root):
    data(root, "/var/lib/etcd", 1, 2)
    row = found(root)["/var/lib/etcd"]
    assert (row["kind"], row["cluster_id"], row["member_id"]) == ("data", "2", "1")


def test_folders_alone_are_no_data(root):
    (root / "var/lib/etcd/member/wal").mkdir(parents=True)
    assert found(root) == {}


def test_a_log_that_tells_no_ids_is_told(root):
    data(root, "/var/lib/etcd")
    (root / "var/lib/etcd/member/wal/0000000000000000-0000000000000000.wal").write_bytes(b"\0" * 64)
    row = found(root)["/var/lib/etcd"]
    assert row["holds_data"] and row["cluster_id"] == "" and "no readable WAL" in row["fault"]


def test_the_log_of_data_may_lie_apart(root):
    data(root, "/var/lib/etcd", 1, 2)
    os.rename(root / "var/lib/etcd/member/wal", root / "wal")
    rows = etcd_ha_host_etcds.found(
        ["/var/lib/etcd"], ["/nowhere/wal", "/wal"], root=str(root), proc=str(root / "proc")
    )
    assert [(row["wal_dir"], row["cluster_id"]) for row in rows] == [("/wal", "2")]


def test_a_folder_made_for_a_log_is_not_taken_for_it(root):
    """While data is on its way, its log may still be in the old place."""
    data(root, "/var/lib/etcd.moving", 1, 2)
    os.rename(root / "var/lib/etcd.moving/member/wal", root / "old")
    (root / "new").mkdir()
    (root / "var/lib/etcd.moving/member/wal").mkdir()
    rows = etcd_ha_host_etcds.found(
        ["/var/lib/etcd.moving"], ["/new", "/old"], root=str(root), proc=str(root / "proc")
    )
    assert [(row["wal_dir"], row["cluster_id"]) for row in rows] == [("/old", "2")]


def test_files_of_others_in_the_place_of_the_data(root):
    write(root, "/var/lib/etcd/index.html", "x")
    row = found(root)["/var/lib/etcd"]
    assert (row["kind"], row["fault"]) == ("files", "it contains index.html")


@pytest.mark.parametrize(
    "name", ["lost+found", "default", "removed-20261130-010101", "restoring", "member"]
)
def test_what_is_nobody_s_is_not_told(root, name):
    """A file system's own directory, a package's empty one, what the formula itself moved away."""
    (root / "var/lib/etcd" / name).mkdir(parents=True)
    if name not in ("default", "member"):
        write(root, f"/var/lib/etcd/{name}/x", "")
    assert found(root) == {}


@pytest.mark.parametrize(
    "text",
    [
        'ExecStart=/bin/bash -c "exec /usr/bin/etcd --data-dir=\\"${D}\\""',
        "ExecStart=/bin/sh -c 'ulimit -n 65536; exec etcd --data-dir=/data/etcd;'",
        "ExecStart=/bin/sh -c 'ETCD_DATA_DIR=/data/etcd exec etcd'",
        "ExecStart=/bin/sh -c 'cd /data && exec etcd --data-dir etcd'",
        "ExecStart=/usr/bin/env ETCD_DATA_DIR=/data/etcd /usr/bin/etcd",
        "ExecStart=/usr/bin/etcd --data-dir=${STATE_DIRECTORY}",
        "ExecStart=/usr/bin/etcd --data-dir=%S/etcd3",
        "ExecStart=/usr/bin/etcd --data-dir=%h/data",
        "WorkingDirectory=~\nExecStart=/usr/bin/etcd --name n1",
        "RootDirectory=/data\nExecStart=/usr/bin/etcd --data-dir=/etcd",
        "EnvironmentFile=-/etc/etcd/*.env\nExecStart=/usr/bin/etcd",
        "ExecStart=/opt/bin/etcd-main --data-dir /data/etcd",
        "ExecStart=/opt/etcd/run.sh",
        "ExecStart=/usr/bin/docker compose up",
        "Environment=OPTS=bob's\nExecStart=/usr/bin/etcd $OPTS",
        "ExecStart=/usr/bin/etcd --config-file /tmp/absent",
    ],
)
def test_what_is_not_said_plainly_is_unknown(root, text):
    """Of the unit that we would take for our own: never that there is no data."""
    write(root, "/etc/systemd/system/etcd.service", f"[Service]\n{text}\n")
    row = found(root)["etcd.service"]
    assert row["holds_data"] and row["fault"], row


@pytest.mark.parametrize("what", ["nul", "loop", "drop-in loop", "fifo"])
def test_a_file_that_is_none_ends_nothing(root, what):
    folder = root / "etc/systemd/system"
    folder.mkdir(parents=True)
    if what == "nul":
        (folder / "etcd.service").write_bytes(
            b"[Service]\nExecStart=/usr/bin/etcd --data-dir /\0\n"
        )
    elif what == "loop":
        (folder / "etcd.service").symlink_to("etcd.service")
    elif what == "fifo":
        os.mkfifo(folder / "etcd.service")
    else:
        write(root, "/etc/systemd/system/etcd.service", "[Service]\nExecStart=/usr/bin/etcd\n")
        (folder / "etcd.service.d").symlink_to("etcd.service.d")
    etcd_ha_host_etcds.found(["/var/lib/etcd"], root=str(root), proc=str(root / "proc"))


def test_a_pipe_in_the_place_of_a_log_is_not_waited_for(root):
    data(root, "/var/lib/etcd")
    log = root / "var/lib/etcd/member/wal"
    os.mkfifo(log / "0000000000000001-0000000000000001.wal")
    assert "regular" in found(root)["/var/lib/etcd"]["fault"]


def test_a_directory_behind_a_link_is_the_same(root):
    data(root, "/disk/etcd", 1, 2)
    (root / "var/lib").mkdir(parents=True)
    (root / "var/lib/etcd").symlink_to("../../disk/etcd")
    text = "[Service]\nExecStart=/opt/x/etcd --data-dir /disk/etcd\n"
    write(root, "/etc/systemd/system/kv.service", text)
    assert found(root)["kv.service"]["same"] == ["/var/lib/etcd"]


def test_the_directory_of_a_container_is_not_the_host_s(root):
    """/proc/PID/root leads to the host's own root where links are followed."""
    row = etcd_ha_host_etcds.row("process", data_dir=f"/proc/{os.getpid()}/root/var/lib/etcd")
    assert etcd_ha_host_etcds._real_dirs(row, "/") == []
    assert etcd_ha_host_etcds._same(row, ["/var/lib/etcd"], "/") == []


@pytest.mark.parametrize("folder", ["etc/systemd/system", "usr/lib/systemd/system"])
@pytest.mark.parametrize("kind", ["wants", "requires"])
def test_a_unit_that_starts_at_boot_says_so(root, folder, kind):
    text = "[Service]\nExecStart=/usr/bin/etcd --data-dir /old\n"
    for name in ("etcd-old", "etcd-idle"):
        write(root, f"/etc/systemd/system/{name}.service", text)
    pulls = root / folder / f"multi-user.target.{kind}"
    pulls.mkdir(parents=True)
    os.symlink("/etc/systemd/system/etcd-old.service", pulls / "etcd-old.service")
    rows = found(root)
    assert rows["etcd-old.service"]["enabled"] is True
    assert rows["etcd-old.service"]["ports"] == [2379, 2380]
    assert rows["etcd-idle.service"]["enabled"] is False
