"""The base tree: one cached file tree of the distribution, with Salt in it, under every host.

A tree is known by suite, architecture, Salt version and a hash of this file, of `packages.py` and,
where its Python is built, of `python.py`: whoever changes the recipe gets a new tree, and whoever
does not waits for nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from . import machine, mounts, packages, python
from .config import CACHE, CHECKOUT
from .ui import LabError, say, step

# What a plain server installation has and the lab leans on, and nothing that the formula installs.
INCLUDE = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "less",
    "nftables",
    "openssl",
    "procps",
    "python3",
    "systemd",
    "systemd-sysv",
)

# Needed to install Salt (timelib has no wheel), left behind in the builder.
BUILD_PACKAGES = ("gcc", "libc6-dev", "python3-dev", "python3-venv")

# Seconds that a tree of a former recipe is kept for whoever may go back to it.
KEPT_UNUSED = 7 * 24 * 3600

# Hosts keep these. They do not keep force-unsafe-io, which is for a tree that can be built again:
# a host's package installation shall take as long as on a real disk.
DPKG_OPTIONS = ("path-exclude=/usr/share/man/*", "path-exclude=/usr/share/doc/*")

# A machine behind a proxy of its own trusts more than the distribution does.
MACHINE_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

# Salt 3007 names Python 3.10 as its newest. Under the 3.13 of these suites its minions do not hear
# the master's replies, and no report of a job ends.
NEWER_SUITES = ("trixie",)
OLDER_SUITE, OLDER_PYTHON = "bookworm", "python3.11"

# Their installer merges /bin, /lib and /sbin into /usr; a tree from packages alone has them apart.
SPLIT_SUITES = ("bullseye",)
MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr/setup00.sh"

# Salt's own packages put it here, too.
SALT_HOME = "/opt/saltstack/salt"
PIP_HOME = "/tmp/pip"

# Nothing in a host that lives for minutes needs these, and each costs time in every boot.
MASKED_UNITS = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "ldconfig.service",
    "logrotate.timer",
    "man-db.timer",
    "motd-news.timer",
    "systemd-firstboot.service",
    "systemd-logind.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
)

# As in Salt's own packages.
SALT_UNIT = """\
[Unit]
Description=The Salt {title}
After=network.target

[Service]
Type=notify
NotifyAccess=all
KillMode={kill_mode}
LimitNOFILE=100000
ExecStart=/usr/bin/salt-{daemon}

[Install]
WantedBy=multi-user.target
"""

FILES = {
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap": "\n".join(DPKG_OPTIONS) + "\n",
    "etc/apt/apt.conf.d/90lab": 'Acquire::Languages "none";\nAPT::Periodic::Enable "0";\n',
    "etc/machine-id": "",
    "etc/resolv.conf": "# The lab has no name server: names come from /etc/hosts.\n",
    "usr/lib/systemd/system/salt-master.service": SALT_UNIT.format(
        title="Master Server", daemon="master", kill_mode="mixed"
    ),
    "usr/lib/systemd/system/salt-minion.service": SALT_UNIT.format(
        title="Minion", daemon="minion", kill_mode="process"
    ),
}


@dataclass(frozen=True)
class Base:
    """A base tree, built or still to be built."""

    suite: str
    salt: str
    key: str

    @property
    def home(self) -> Path:
        return CACHE / "base" / self.key

    @property
    def tree(self) -> Path:
        return self.home / "tree"

    @property
    def ready(self) -> bool:
        return self.tree.is_dir()


def choose(suite: str | None, salt: str) -> Base:
    """The base tree for a suite (default: this machine's own) and a Salt version."""
    suite = suite or machine.codename()
    files = [__file__, packages.__file__, *([python.__file__] if python.is_built(suite) else [])]
    digest = hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()[:10]
    return Base(suite, salt, f"{suite}-{machine.architecture()}-salt{salt}-{digest}")


def prepare(base: Base) -> None:
    """Build the tree unless it is there. Two calls at once build it once."""
    if base.ready:
        os.utime(base.home)
        return
    base.home.parent.mkdir(parents=True, exist_ok=True)
    with (base.home.parent / f".{base.suite}-{base.salt}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if base.ready:
            return
        unfinished = base.home.with_name(f".new-{base.suite}-{base.salt}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        with step(f"built the base tree: {base.suite}, Salt {base.salt}"):
            _build_in_own_namespace(base, unfinished)
        unfinished.rename(base.home)
        _forget_old(base)


def _forget_old(base: Base) -> None:
    """Remove trees of former recipes that no lab has used for a week."""
    mounted = Path("/proc/self/mounts").read_text()
    for home in base.home.parent.glob(f"{base.suite}-*-salt{base.salt}-*"):
        idle = time.time() - home.stat().st_mtime > KEPT_UNUSED and str(home) not in mounted
        if home != base.home and idle:
            shutil.rmtree(home)


def _build_in_own_namespace(base: Base, home: Path) -> None:
    """Mounts and processes of a build are in namespaces of their own, and end with the build."""
    own = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
           "--mount-proc")  # fmt: skip
    build = (sys.executable, str(CHECKOUT / "test/lab/lab"), "_build-base")
    words = [*machine.LEASH, *own, *build, base.suite, base.salt, base.key, str(home)]
    if subprocess.run(words, stdin=subprocess.DEVNULL).returncode:
        raise LabError(f"the base tree was not built; what was done is in {home / 'log'}")


def build(suite: str, salt: str, key: str, home: Path) -> None:
    """Build a tree and the packages for its hosts below `home`. Runs in namespaces of its own."""
    log, tree, builder = home / "log", home / "tree", home / "builder"
    with step(f"  {suite}: file tree of the distribution"):
        _bootstrap(suite, tree, log)
        machine.run("cp", "-a", tree, builder)
    chroot = _enter_builder(builder, suite)
    with step("  packages that hosts will install"):
        count = packages.download(chroot, builder, home / "packages", log)
    say(f"  {count} packages in the hosts' repository")
    older = OLDER_PYTHON if _is_older(salt) and suite in NEWER_SUITES else ""
    own = ""
    if python.is_built(suite):
        with step("  a Python that is new enough, from its sources"):
            own = python.build(suite, SALT_HOME, chroot, builder, log)
    with step(f"  Salt {salt} and what it needs"):
        if older:
            _install_python(older, chroot, builder, log)
        _install_salt(salt, own or older or "python3", chroot, log)
    _leave_builder(builder)
    for place in (f"usr/bin/{older}", f"usr/lib/{older}") if older else ():
        machine.run("mv", builder / place, tree / place)
    machine.run("mv", builder / SALT_HOME[1:], _made(tree / SALT_HOME[1:]))
    machine.run("rm", "-rf", "--one-file-system", builder)
    _finish(tree, key)
    packages.preload_index(tree, home / "packages", key)


def _bootstrap(suite: str, tree: Path, log: Path) -> None:
    options = [f"--aptopt={line}" for line in machine.apt_options()]
    machine.run(
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join(INCLUDE)}",
        "--skip=cleanup/apt/lists",
        '--aptopt=Acquire::Languages "none";',
        *(f'--setup-hook={hook} "$1"' for hook in (MERGED_USR,) if suite in SPLIT_SUITES),
        *(f"--dpkgopt={option}" for option in (*DPKG_OPTIONS, "force-unsafe-io")),
        *options,
        suite,
        tree,
        *machine.apt_lines(suite),
        log=log,
    )


def _enter_builder(builder: Path, suite: str) -> list[str]:
    """Make the builder a place where apt and pip work; returns the words before a command."""
    machine.run("mount", "-t", "proc", "proc", builder / "proc")
    machine.run("mount", "--rbind", "/dev", builder / "dev")
    if MACHINE_CERTIFICATES.exists():  # else the builder's own must not be hidden by nothing
        machine.run("mount", "--rbind", "/etc/ssl/certs", builder / "etc/ssl/certs")
    shutil.copy("/etc/resolv.conf", _plain_file(builder / "etc/resolv.conf"))
    hosts = [line for line in Path("/etc/hosts").read_text().splitlines() if line.strip()]
    (builder / "etc/hosts").write_text("\n".join(hosts) + "\n")
    # What pip builds for one Python 3.11 needs the libc that it was built with.
    cache = CACHE / (f"pip-{suite}" if python.is_built(suite) else "pip")
    cache.mkdir(exist_ok=True)
    machine.run("mount", "--bind", cache, _made(builder / "var/cache/pip", itself=True))
    return ["chroot", str(builder), "/usr/bin/env", "-i", *_build_environment(builder)]


def _leave_builder(builder: Path) -> None:
    for place in ("var/cache/pip", "etc/ssl/certs", "dev", "proc"):
        # Lazy: whatever still holds a device open is of no concern to the tree.
        if mounts.below(builder / place):
            machine.run("umount", "--recursive", "--lazy", builder / place)


def _build_environment(builder: Path) -> list[str]:
    """The machine's settings for pip and proxies, with the files that they name."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("PIP_") or name.lower() in ("http_proxy", "https_proxy", "no_proxy")
    }
    kept.pop("PIP_CERT", None)
    for name in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        bundle = os.environ.get(name, "")
        if os.path.isfile(bundle):
            shutil.copy(bundle, builder / "tmp/ca.pem")
            kept["PIP_CERT"] = "/tmp/ca.pem"
            break
    if not os.path.exists(kept.get("PIP_FIND_LINKS", "/")):
        del kept["PIP_FIND_LINKS"]
    for settings in ("/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf"):
        if os.path.isfile(os.path.expanduser(settings)):
            shutil.copy(os.path.expanduser(settings), builder / "etc/pip.conf")
    kept |= {
        "DEBIAN_FRONTEND": "noninteractive",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "PIP_CACHE_DIR": "/var/cache/pip",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    return [f"{name}={value}" for name, value in kept.items()]


def _is_older(salt: str) -> bool:
    """Whether this Salt was made before the Python of the newer suites."""
    return int(salt.partition(".")[0]) < 3008


def _install_python(python: str, chroot: list[str], builder: Path, log: Path) -> None:
    """A Python that an older Salt was made for, from the suite before; its packages bring one."""
    lines = "\n".join(machine.apt_lines(OLDER_SUITE))
    _plain_file(builder / "etc/apt/sources.list.d/older.list").write_text(lines + "\n")
    machine.run(*chroot, "apt-get", "-q", "update", log=log)
    # Without its venv, which comes with the distutils of a whole other system.
    words = ["-q", "-y", "--no-install-recommends", "install", python, f"lib{python}-dev"]
    machine.run(*chroot, "apt-get", *words, log=log)


def _install_salt(salt: str, interpreter: str, chroot: list[str], log: Path) -> None:
    apt = [*chroot, "apt-get", "-q", "-y", "--no-install-recommends", "install"]
    machine.run(*apt, *BUILD_PACKAGES, log=log)
    # pip is the system's own: it installs for any Python, from 22.3 on.
    machine.run(*chroot, "python3", "-m", "venv", PIP_HOME, log=log)
    pip = [f"{PIP_HOME}/bin/python", "-m", "pip"]
    machine.run(*chroot, *pip, "install", "pip>=22.3", log=log)
    machine.run(*chroot, interpreter, "-m", "venv", "--without-pip", SALT_HOME, log=log)
    own = f"{SALT_HOME}/bin/python"
    install = ["--python", own, "install", "--no-compile", f"salt=={salt}"]
    machine.run(*chroot, *pip, *install, log=log)
    # Every host would compile all of it at every boot of a blank disk.
    machine.run(*chroot, own, "-m", "compileall", "-q", "-j0", f"{SALT_HOME}/lib", log=log)


def _finish(tree: Path, key: str) -> None:
    """What makes a file tree of the distribution a host of the lab."""
    for name, text in FILES.items():
        _plain_file(tree / name).write_text(text)
    for source in [tree / "etc/apt/sources.list", *(tree / "etc/apt/sources.list.d").iterdir()]:
        source.unlink(missing_ok=True)
    (tree / "etc/apt/sources.list").write_text(packages.source_line(key))
    system = tree / "etc/systemd/system"
    for unit in MASKED_UNITS:
        _link(system / unit, "/dev/null")
    _link(system / "default.target", "/usr/lib/systemd/system/multi-user.target")
    for script in sorted((tree / SALT_HOME[1:] / "bin").glob("salt*")):
        _link(tree / "usr/bin" / script.name, f"{SALT_HOME}/bin/{script.name}")
    for folder in ("etc/salt/master.d", "etc/salt/minion.d", "srv/formula", "srv/pillar"):
        (tree / folder).mkdir(parents=True, exist_ok=True)


def _made(path: Path, itself: bool = False) -> Path:
    (path if itself else path.parent).mkdir(parents=True, exist_ok=True)
    return path


def _plain_file(path: Path) -> Path:
    """Make way for a file: a link would lead a write out of the tree."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return path


def _link(path: Path, target: str) -> None:
    _plain_file(path).symlink_to(target)
