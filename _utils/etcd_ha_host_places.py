"""Where a member's directories really are, and whether their content can be moved there.

A directory of the pillar may be a symbolic link, lie below one, or be a mount point. Links are
followed here once, and everything is done at the true place. Mount points come from the kernel's
table: ``os.path.ismount`` does not see a bind mount within one file system, and a rename across it
fails all the same (EXDEV; EBUSY for the mount point itself).
"""

import array
import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Collection, Iterable, Mapping

import etcd_ha_common_systemd
import etcd_ha_paths

MOUNTS = "/proc/self/mountinfo"
FSTAB = "/etc/fstab"
# What is made, renamed and removed to see that data could be.
TRYING = "trying"
# linux/fs.h: FS_IOC_GETFLAGS and the attributes that forbid a rename.
_GET_FLAGS = 0x80086601
# By these a file system says that it knows no such attributes.
_NONE = (errno.ENOTTY, errno.EOPNOTSUPP)
_FIXED = {0x10: "immutable (chattr -i)", 0x20: "append-only (chattr -a)"}


def true(path: str) -> str:
    """The place that a path leads to."""
    return os.path.realpath(path)


def mounts(path: str = MOUNTS) -> frozenset[str]:
    """Every mount point that this process sees."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return frozenset(_plain(line.split(" ")[4]) for line in file)


def is_mount(path: str, known: Collection[str] | None = None) -> bool:
    """Whether a mount point is at the place that this path leads to."""
    return true(path) in (mounts() if known is None else known)


def mount_of(path: str, known: Collection[str]) -> str:
    """The mount point that a true place lies on."""
    while path not in known and path != "/":
        path = os.path.dirname(path)
    return path


def fault(path: str, fstab: str = FSTAB, units: Mapping[str, str] | None = None) -> str:
    """Why etcd's data cannot be here, with the cure; empty where it can.

    ``units`` are the mount points of systemd's units (etcd_ha_common_systemd.mount_points).
    """
    real = true(path)
    head = f"the directory {path}" if real == path else f"{path} leads to {real}"
    if os.path.lexists(real) and not os.path.isdir(real):
        return f"{head}, which is not a directory. Move it away, or give another directory"
    absent = _absent_mount(real, {**_of_units(units or {}), **_of_fstab(fstab)})
    if absent:
        point, source, cure = absent
        return (
            f"{head}. It belongs on the file system at {point}, which {source} names and which is "
            f"not mounted. Mount it: {cure}"
        )
    link = _dangling(path)
    if link:
        end = true(link)
        return (
            f"{link} leads to {end}, which does not exist. Mount the disk. If no data was ever "
            f"there: mkdir -p {end}"
        )
    if real != path:
        unfit = etcd_ha_paths.unfit_for_data(real)
        if unfit:
            return f"{head}, {unfit}. Let it lead to another directory"
    if os.statvfs(_existing(real)).f_flag & os.ST_RDONLY:
        return f"{head}. The file system there is read-only. Remount it read-write, see dmesg"
    return ""


def link_fault(data_dir: str, apart: bool) -> str:
    """Why etcd could not write through a link inside its data, with the cure; empty where it can.

    Its unit may write below the data directory alone, and in that of a log that is ``apart``.
    """
    real = true(data_dir)
    for name in ("member", "member/snap", *(() if apart else ("member/wal",))):
        path = f"{real}/{name}"
        if os.path.islink(path) and not etcd_ha_paths.within(true(path), real):
            return (
                f"{path} is a link to {true(path)}, where etcd's unit must not write. "
                f"{_instead(name, real, true(path))}"
            )
    return ""


def _instead(name: str, real: str, target: str) -> str:
    """What to do instead of a link inside the data directory."""
    if name == "member":
        return f"Make {real} the link instead, or set data_dir to {os.path.dirname(target)}"
    if name == "member/snap":
        return (
            "Stop etcd, and put the directory itself in the place of the link. A data_dir may be "
            "on that disk as a whole"
        )
    folder = os.path.dirname(target)
    place = "" if etcd_ha_paths.unfit_for_data(folder) else f", such as {folder}"
    return f"Set wal_dir to a directory on that disk{place}: the log is used or moved there"


def faults(paths: Iterable[str]) -> dict[str, str]:
    """path -> why etcd's data cannot be there; raises ProgramError where systemd does not tell."""
    paths = list(paths)
    units = etcd_ha_common_systemd.mount_points() if paths else {}
    found = {path: fault(path, units=units) for path in paths}
    return {path: told for path, told in found.items() if told}


def aside(folder: str, name: str) -> str:
    """Where what lies in a directory goes: beside it, or inside where that is a mount point."""
    folder = true(folder)
    return f"{folder}/{name}" if is_mount(folder) else f"{folder}.{name}"


def moving_fault(folder: str, entries: Iterable[str], target: str = "") -> str:
    """Why these entries of a directory could not be moved aside, with the cure; empty if they can.

    Entries that do not exist do not count. ``target`` is the directory to which they would go;
    without it, where ``aside`` puts it. Directories are made, renamed and removed for it.
    """
    folder, known = true(folder), mounts()
    for path in (os.path.join(folder, entry) for entry in entries):
        if not os.path.lexists(path):
            continue
        if os.path.islink(path):
            return (
                f"{path} is a link, and the formula would replace it. Make {folder} the link "
                f"instead, or mount the disk there"
            )
        if path in known:
            return (
                f"{path} is a mount point of its own, so it cannot be renamed. Mount that disk at "
                f"{folder} instead"
            )
        try:
            fixed = _fixed(path)
        except OSError as err:
            return (
                f"whether {path} can be renamed is unknown: its attributes cannot be read "
                f"({err.strerror or err}). See lsattr -d {path} and dmesg"
            )
        if fixed:
            return f"{path} is {fixed}, so it cannot be renamed. Remove that attribute"
    return _probe(folder, target or aside(folder, TRYING))


def _probe(folder: str, target: str) -> str:
    """Rename a directory all the way that data goes: from the staging place, to use, to aside."""
    scratch = os.path.join(folder, f".{TRYING}")
    made = (f"{scratch}/staged", scratch, f"{scratch}.used", f"{target}/used", target)
    try:
        # An interrupted run may have left them.
        _remove(made)
        os.makedirs(f"{scratch}/staged", mode=0o700)
        os.rename(f"{scratch}/staged", f"{scratch}.used")
        os.mkdir(target, mode=0o700)
        os.rename(f"{scratch}.used", f"{target}/used")
        _remove(made)
    except OSError as err:
        with contextlib.suppress(OSError):
            _remove(made)
        return (
            f"directories in {folder} cannot be moved to {os.path.dirname(target)}: {err}. See "
            f"mount, lsattr -d {folder} {os.path.dirname(target)}, and dmesg"
        )
    return ""


def _remove(folders: Iterable[str]) -> None:
    for folder in folders:
        if os.path.isdir(folder):
            os.rmdir(folder)


def _fixed(path: str) -> str:
    """The attribute that keeps a file from being renamed; file systems without any have none.

    Raises OSError where that cannot be read.
    """
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        flags = array.array("L", [0])
        fcntl.ioctl(number, _GET_FLAGS, flags, True)
    except OSError as err:
        if err.errno not in _NONE:
            raise
        return ""
    finally:
        os.close(number)
    return next((word for bit, word in _FIXED.items() if flags[0] & bit), "")


# A mount point as it is written, what names it, and the command that mounts it.
_Named = tuple[str, str, str]


def _of_fstab(fstab: str) -> dict[str, _Named]:
    """The mount points of fstab, by where they really are.

    mount and systemd take ``/data/``, ``//data`` and a link for the same place.
    """
    try:
        with open(fstab, encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.split() for line in file if not line.lstrip().startswith("#")]
    except FileNotFoundError:
        return {}
    named = [_plain(words[1]) for words in lines if len(words) > 2 and words[2] != "swap"]
    return {true(one): (one, fstab, f"mount {one}") for one in named if one.startswith("/")}


def _of_units(units: Mapping[str, str]) -> dict[str, _Named]:
    return {true(one): (one, unit, f"systemctl start {unit}") for one, unit in units.items()}


def _absent_mount(real: str, named: Mapping[str, _Named]) -> _Named | None:
    """The deepest of these mount points that a place lies on, where it is not mounted."""
    over = [point for point in named if point != "/" and f"{real}/".startswith(f"{point}/")]
    deepest = max(over, key=len, default="")
    return named[deepest] if deepest and deepest not in mounts() else None


def _dangling(path: str) -> str:
    """The first link on the way to a place that leads nowhere."""
    words = path.split("/")
    above = ("/".join(words[: end + 1]) for end in range(1, len(words)))
    return next((one for one in above if os.path.islink(one) and not os.path.isdir(one)), "")


def _existing(path: str) -> str:
    """The directory itself, or the nearest one above it that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _plain(text: str) -> str:
    """The kernel writes blanks and the like as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
