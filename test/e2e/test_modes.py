"""Who may read and write what the formula leaves on the hosts: every file and folder of it."""

import fnmatch
import json

import pytest
from changing import THREE

FOLDERS = (
    "/etc/etcd",
    "/etc/default/etcd",
    "/var/lib/etcd",
    "/var/lib/etcd_ha",
    "/var/backups/etcd_ha",
    "/etc/pki/etcd_ha",
)
ONE_BY_ONE = (
    "/etc/systemd/system/etcd.service",
    "/etc/systemd/system/etcd_ha-backup.service",
    "/etc/systemd/system/etcd_ha-backup.timer",
    "/etc/profile.d/etcdctl.sh",
    "/etc/haproxy/haproxy.cfg",
)
# The first row that fits counts: what may be read by whom.
MEMBER = (
    ("/etc/etcd", "drwxr-xr-x root:root"),
    ("/etc/etcd/etcdctl.env", "-rw------- root:root"),
    ("/etc/etcd/pki", "drwxr-xr-x root:root"),
    ("/etc/etcd/pki/next", "drwx------ root:root"),
    ("/etc/etcd/pki/next/*.key", "-r-------- root:root"),
    ("/etc/etcd/pki/next/*.crt", "-rw-r--r-- root:root"),
    ("/etc/etcd/pki/admin.key", "-r-------- root:root"),
    ("/etc/etcd/pki/server.key", "-r-------- etcd:etcd"),
    ("/etc/etcd/pki/peer.key", "-r-------- etcd:etcd"),
    ("/etc/etcd/pki/*.crt", "-rw-r--r-- root:root"),
    ("/etc/default/etcd", "-rw-r----- root:etcd"),
    ("/etc/profile.d/etcdctl.sh", "-rw-r--r-- root:root"),
    ("/etc/systemd/system/etcd*", "-rw-r--r-- root:root"),
    ("/etc/etcd/backup.json", "-rw------- root:root"),
    ("/var/backups/etcd_ha", "drwx------ root:root"),
    ("/var/backups/etcd_ha/*", "-rw------- root:root"),
    ("/var/lib/etcd", "drwx------ etcd:etcd"),
    ("/var/lib/etcd/*", "?r??------ etcd:etcd"),
    ("/var/lib/etcd_ha", "drwxr-xr-x root:root"),
    ("/var/lib/etcd_ha/in_force", "drwx------ root:root"),
    ("/var/lib/etcd_ha/snapshots", "drwx------ root:root"),
    ("/var/lib/etcd_ha/*", "-rw------- root:root"),
)
BALANCER = (
    ("/etc/etcd", "drwxr-xr-x root:root"),
    ("/etc/etcd/main", "drwxr-xr-x root:root"),
    ("/etc/etcd/main/next", "drwx------ root:root"),
    ("/etc/etcd/main/next/*.key", "-r-------- root:root"),
    ("/etc/etcd/main/next/*.crt", "-rw-r--r-- root:root"),
    ("/etc/etcd/main/check.key", "-r-------- root:root"),
    ("/etc/etcd/main/check.pem", "-rw------- root:root"),
    ("/etc/etcd/main/*.crt", "-rw-r--r-- root:root"),
    ("/etc/haproxy/haproxy.cfg", "-rw-r--r-- root:root"),
    ("/var/lib/etcd_ha", "drwxr-xr-x root:root"),
    ("/var/lib/etcd_ha/in_force", "drwx------ root:root"),
    # The package's own configuration, with its modes, behind a folder that nobody else enters.
    ("/var/lib/etcd_ha/kept", "drwx------ root:root"),
    ("/var/lib/etcd_ha/kept/*/haproxy.cfg", "-rw-r--r-- root:root"),
    ("/var/lib/etcd_ha/kept/*", "drwx------ root:root"),
    ("/var/lib/etcd_ha/*", "-rw------- root:root"),
)
CA = (
    ("/etc/pki/etcd_ha", "drwx------ root:root"),
    ("/etc/pki/etcd_ha/main", "drwx------ root:root"),
    ("/etc/pki/etcd_ha/main/issued", "drwx------ root:root"),
    ("/etc/pki/etcd_ha/main/issued/*.crt", "-rw------- root:root"),
    ("/etc/pki/etcd_ha/main/ca.key", "-r-------- root:root"),
    ("/etc/pki/etcd_ha/main/ca.crt", "-rw-r--r-- root:root"),
    ("/var/lib/etcd_ha", "drwxr-xr-x root:root"),
    ("/var/lib/etcd_ha/in_force", "drwx------ root:root"),
    ("/var/lib/etcd_ha/*", "-rw------- root:root"),
)


def found(lab, host):
    """Path -> mode and owner."""
    places = " ".join((*FOLDERS, *ONE_BY_ONE))
    script = f"find {places} -printf '%M %u:%g %p\\n' 2>/dev/null; true"
    lines = lab.exec(host, "sh", "-c", script).ok().out.splitlines()
    rows = [line.split(" ", 2) for line in lines]
    return {path: f"{mode} {owner}" for mode, owner, path in rows}


@pytest.mark.parametrize(
    ("host", "table", "least"), [("etcd1", MEMBER, 20), ("lb", BALANCER, 9), ("ca", CA, 8)]
)
def test_every_file_has_the_mode_and_owner_of_the_table(changed, host, table, least):
    changed.begin(THREE, backup={"schedule": "daily"})
    changed.lab.ask("etcd1.example.com", "etcd_ha_member.snapshot", "main", "by-hand")
    changed.lab.ask("etcd1.example.com", "etcd_ha_backup.take")
    changed.same()
    there = found(changed.lab, host)
    assert len(there) >= least, there
    wrong = {}
    for path, is_so in there.items():
        rows = [mode for pattern, mode in table if fnmatch.fnmatch(path, pattern)]
        if not rows or not fnmatch.fnmatchcase(is_so, rows[0]):
            wrong[path] = (is_so, rows[0] if rows else "no row of the table")
    assert not wrong, json.dumps(wrong, indent=1)
    lacking = [pattern for pattern, _ in table if not fnmatch.filter(there, pattern)]
    assert set(lacking) <= {"/var/lib/etcd_ha/snapshots"}, lacking
