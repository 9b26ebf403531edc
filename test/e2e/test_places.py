"""Data that lies on disks of its own: behind a link, below one, and at a mount point."""

from extent import only_in_all
from lab_command import DOMAIN, minions
from test_restore import KEPT, restore

# What makes the place (script on the host), and where it really is, by host.
PLACES = {
    "etcd1": ("mkdir /mnt/disk/etcd; ln -s /mnt/disk/etcd /var/lib/etcd", "/mnt/disk/etcd"),
    "etcd2": (
        "mkdir /var/lib/etcd; mount -t tmpfs -o size=256m data /var/lib/etcd",
        "/var/lib/etcd",
    ),
    "etcd3": ("mkdir /mnt/disk/deep; ln -s /mnt/disk/deep /data", "/mnt/disk/deep/etcd"),
}
DISK = "mkdir -p /mnt/disk; mount -t tmpfs -o size=256m disk /mnt/disk; "


def owner(lab, host, path):
    return lab.exec(host, "stat", "-c", "%U:%G:%a", path).ok().out.strip()


@only_in_all
def test_data_behind_links_and_mounts_is_used_and_restored_there(fresh):
    lab = fresh
    for host, (script, _) in PLACES.items():
        lab.exec(host, "sh", "-ec", DISK + script).ok()
    third = f"etcd3.{DOMAIN}"
    lab.change_pillar(lambda cluster: cluster["members"][third].update(data_dir="/data/etcd"))
    lab.orch().ok()
    links = owner(lab, "etcd1", "/var/lib/etcd"), owner(lab, "etcd3", "/data")
    assert links == ("root:root:777", "root:root:777"), links
    for host, (_, real) in PLACES.items():
        assert owner(lab, host, real) == "etcd:etcd:700", host
        assert lab.exec(host, "test", "-d", f"{real}/member/wal").code == 0, host
    states = lab.apply(minions(*PLACES))
    changed = {m: [s for s in all_.values() if s["changes"]] for m, all_ in states.items()}
    assert not any(changed.values()), changed

    lab.put("/kept", "1")
    lab.etcdctl("etcd2", "snapshot", "save", KEPT, endpoint=lab.own("etcd2")).ok()
    lab.put("/later", "lost")
    restore(lab).ok()
    for host in PLACES:
        assert lab.get("/kept", host=host, endpoint=lab.own(host)) == "1"
        assert lab.get("/later", host=host, endpoint=lab.own(host)) == ""
    for host, (_, real) in PLACES.items():
        assert lab.exec(host, "test", "-d", f"{real}/member/wal").code == 0, host
    assert lab.orch().ok().changes == {}


@only_in_all
def test_a_place_that_cannot_hold_data_is_refused_before_anything_is_done(fresh):
    """A link to nowhere, a disk that is not mounted, a file."""
    lab = fresh
    lab.exec("etcd1", "ln", "-s", "/mnt/gone/etcd", "/var/lib/etcd").ok()
    line = "echo '/dev/sdz1 /var/lib/etcd ext4 noauto 0 0' >> /etc/fstab"
    lab.exec("etcd2", "sh", "-ec", f"mkdir -p /var/lib/etcd; {line}").ok()
    lab.exec("etcd3", "touch", "/var/lib/etcd").ok()
    before = {host: lab.exec(host, "ls", "-R", "/etc", "/opt").out for host in PLACES}
    lab.orch().refused(
        "/var/lib/etcd leads to /mnt/gone/etcd, which does not exist",
        "mkdir -p /mnt/gone/etcd",
        "is not mounted",
        "mount /var/lib/etcd",
        "which is not a directory",
    )
    after = {host: lab.exec(host, "ls", "-R", "/etc", "/opt").out for host in PLACES}
    assert after == before
