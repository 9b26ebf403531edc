"""Whether programs can run where a release lies: hardened hosts mount ``/opt`` with noexec."""

import os

import etcd_ha_host_places


def fault(folder: str) -> str:
    """Why no program in this directory can run, with the cure; empty where it can.

    The directory may be yet to be made. On such a file system access(2) says that a program cannot
    be run although it is there, which looks like a release that is missing.
    """
    there = etcd_ha_host_places.true(folder)
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    try:
        flags = os.statvfs(there).f_flag
    except OSError as err:
        return f"it is unknown whether programs can run in {folder} ({err}). See mount and dmesg"
    if not flags & os.ST_NOEXEC:
        return ""
    mount = etcd_ha_host_places.mount_of(there, etcd_ha_host_places.mounts())
    return (
        f"no program in {folder} can run: {mount} is mounted with noexec. Remove noexec from its "
        f"options (mount -o remount,exec {mount}, and in /etc/fstab), or set install:dir to a "
        "directory on another file system"
    )
