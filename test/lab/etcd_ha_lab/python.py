"""A Python for suites whose own is too old: built from the distribution's source package.

Salt's own packages bring a Python along, too, and it lies in the same place: everything that is
Salt's is in one folder, and the host's own Python stays what it is.
"""

from __future__ import annotations

from pathlib import Path

from . import machine
from .ui import LabError

# The formula needs 3.10. Suite -> the suite and the source package that its Salt runs on.
BUILT = {"bullseye": ("bookworm", "python3.11")}

# The libraries of the suite itself, of which its own Python brings every one onto a host.
BUILD_PACKAGES = (
    "dpkg-dev",
    "gcc",
    "libbz2-dev",
    "libc6-dev",
    "libffi-dev",
    "liblzma-dev",
    "libsqlite3-dev",
    "libssl-dev",
    "make",
    "patch",
    "pkg-config",
    "uuid-dev",
    "xz-utils",
    "zlib1g-dev",
)

# Without these Salt starts, and fails later.
NEEDED_MODULES = ("bz2", "ctypes", "lzma", "pyexpat", "sqlite3", "ssl", "uuid", "zlib")

SOURCES = "/tmp/python"


def is_built(suite: str) -> bool:
    """Whether Salt's Python is built for this suite."""
    return suite in BUILT


def build(suite: str, home: str, chroot: list[str], builder: Path, log: Path) -> str:
    """Build it in the builder and install it below `home`; returns its interpreter."""
    origin, package = BUILT[suite]
    apt = [*chroot, "apt-get", "-q", "-y"]
    machine.run(*apt, "--no-install-recommends", "install", *BUILD_PACKAGES, log=log)
    listing = builder / "etc/apt/sources.list.d/sources.list"
    lines = [line.replace("deb ", "deb-src ", 1) for line in machine.apt_lines(origin)]
    listing.write_text("\n".join(lines) + "\n")
    machine.run(*apt, "update", log=log)
    sources = builder / SOURCES[1:]
    sources.mkdir()
    within = [*chroot, "env", "-C", SOURCES]
    _download(package, chroot, within, sources, log)
    # Its patches are the distribution's security fixes, so it is unpacked with them.
    machine.run(*within, "sh", "-c", "dpkg-source --no-check -x *.dsc source", log=log)
    # Not Salt's own folder: outside of a virtual environment the distribution's patches have Python
    # look for packages in dist-packages.
    prefix = f"{home}/python"
    interpreter = f"{prefix}/bin/python3"
    _compile(prefix, f"{prefix}/lib/{package}", chroot, log)
    machine.run(*chroot, interpreter, "-c", f"import {', '.join(NEEDED_MODULES)}", log=log)
    # Every host would compile all of it at every boot of a blank disk.
    machine.run(*chroot, interpreter, "-m", "compileall", "-q", "-j0", f"{prefix}/lib", log=log)
    machine.run("rm", "-rf", sources, listing)
    return interpreter


def _compile(prefix: str, library: str, chroot: list[str], log: Path) -> None:
    made = [*chroot, "env", "-C", f"{SOURCES}/source"]
    settings = [f"--prefix={prefix}", "--without-ensurepip", "--disable-test-modules"]
    # No symbols for a debugger: they take half of the time.
    optimized = "OPT=-DNDEBUG -fwrapv -O2"
    # A security fix of the distribution's uses what is Python's own; there it is no module apart.
    machine.run(
        *made, "sed", "-i", "1i #define Py_BUILD_CORE_MODULE 1", "Modules/pyexpat.c", log=log
    )
    machine.run(*made, "./configure", *settings, log=log)
    machine.run(*made, "sh", "-c", f"make -j$(nproc) '{optimized}'", log=log)
    # The installation would compile every module for three levels, of which Salt uses one.
    machine.run(*made, "mv", "Lib/compileall.py", "compileall.py", log=log)
    machine.run(*made, "make", optimized, "install", log=log)
    machine.run(*made, "cp", "compileall.py", library, log=log)


def _download(package: str, chroot: list[str], within: list[str], folder: Path, log: Path) -> None:
    """The newest source package that is there: an index may name one that its mirror has not."""
    refusal = LabError(f"apt on this machine knows no source package {package}")
    rows = machine.run(*chroot, "apt-cache", "madison", package).splitlines()
    for version in dict.fromkeys(row.split("|")[1].strip() for row in rows if "Sources" in row):
        words = ("apt-get", "-q", "source", "--download-only", f"{package}={version}")
        try:
            machine.run(*within, *words, log=log)
            return
        except LabError as why:
            refusal = why
            for left in folder.glob("*.dsc"):
                left.unlink()
    raise refusal
