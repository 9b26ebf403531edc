"""The machine that the lab runs on: its tools, its apt, and running commands on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .ui import LabError, step

# What each command comes with, on Debian and Ubuntu alike.
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "losetup": "mount",
    "mkfs.ext4": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "openssl": "openssl",
    "ss": "iproute2",
    "update-ca-certificates": "ca-certificates",  # pip 24.2 does not start without any
}

# A child of ours ends with us, even when we are killed.
LEASH = ("setpriv", "--pdeathsig", "KILL")

KEPT_IN_SUDO = ",".join(
    ("ETCD_HA_LAB", "ETCD_HA_LAB_SOURCES", "ETCD_HA_LAB_UPSTREAM", "XDG_CACHE_HOME", "PATH",
     "GOPROXY", "GOSUMDB", "GONOSUMDB", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT",
     "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy")
)  # fmt: skip


def become_root() -> None:
    """Start again under sudo where the caller is not root."""
    if os.geteuid() == 0:
        return
    if not shutil.which("sudo"):
        raise LabError("the lab needs root: run it as root, or install sudo")
    os.execvp("sudo", ["sudo", f"--preserve-env={KEPT_IN_SUDO}", sys.executable, *sys.argv])


def widen_path() -> None:
    """cron and sudo give a short PATH; the tools are in sbin."""
    have = os.environ.get("PATH", "").split(":")
    wanted = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    os.environ["PATH"] = ":".join([p for p in have if p] + [p for p in wanted if p not in have])


def run(*argv: str | Path, log: Path | None = None, **more) -> str:
    """Run a command to its end and return what it printed.

    With `log`, output goes to that file. A failure raises LabError with the last lines.
    """
    words = [str(word) for word in argv]
    if log:
        with log.open("ab") as out:
            done = subprocess.run(
                [*LEASH, *words], stdout=out, stderr=out, stdin=subprocess.DEVNULL, **more
            )
        output = log.read_text(errors="replace") if done.returncode else ""
    else:
        done = subprocess.run(
            words, capture_output=True, text=True, stdin=more.pop("stdin", None), **more
        )
        output = done.stdout if not done.returncode else done.stderr + done.stdout
    if done.returncode:
        tail = "\n    ".join(output.strip().splitlines()[-12:])
        where = f"\n    all of it: {log}" if log else ""
        raise LabError(f"`{' '.join(words[:6])}` ended with {done.returncode}:\n    {tail}{where}")
    return output


def require_tools(tools: Sequence[str] = tuple(TOOLS)) -> None:
    """Install what is missing, and only that."""
    packages = sorted({TOOLS[tool] for tool in tools if not shutil.which(tool)})
    if not packages:
        return
    with step(f"installed {' '.join(packages)} on this machine"):
        install(packages)


def install(packages: Sequence[str]) -> None:
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Another installation may run at the same time; a machine's own does so after its first boot.
    command = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "--no-install-recommends",
               "install", *packages]  # fmt: skip
    try:
        run(*command, env=quiet)
    except LabError:
        run("apt-get", "-q", "update", env=quiet)
        run(*command, env=quiet)


def os_release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {key: value.strip('"') for key, value in pairs}


def distribution() -> str:
    """`debian` or `ubuntu`."""
    name = os_release().get("ID", "")
    if name not in ("debian", "ubuntu"):
        raise LabError(f"the lab runs on Debian and Ubuntu, and this machine is '{name}'")
    return name


def codename() -> str:
    return os_release()["VERSION_CODENAME"]


def architecture() -> str:
    return run("dpkg", "--print-architecture").strip()


@dataclass(frozen=True)
class AptSource:
    """One line of the machine's apt configuration, as apt itself understood it."""

    site: str
    release: str
    component: str

    def line(self, release: str | None = None, options: str = "") -> str:
        return f"deb {options}{self.site} {release or self.release} {self.component}"


def apt_sources() -> list[AptSource]:
    """The distribution's own package sources, from the machine's apt configuration."""
    form = "$(SITE)|$(CODENAME)|$(COMPONENT)|$(ORIGIN)"
    listing = ("apt-get", "indextargets", "--format", form, "Identifier: Packages")
    found = run(*listing)
    if not found.strip():
        run("apt-get", "-q", "update")
        found = run(*listing)
    sources = []
    for row in sorted(set(found.splitlines())):
        site, release, component, origin = row.split("|")
        # Other vendors' repositories carry the same code names.
        if origin.lower() == distribution():
            sources.append(AptSource(site, release, component))
    if not any(source.release == codename() for source in sources):
        raise LabError(
            f"apt on this machine has no source for {codename()}: `apt-get update` must work first"
        )
    return sources


def apt_lines(suite: str) -> list[str]:
    """apt source lines for any suite of the distribution, from the machine's own mirrors."""
    lines = []
    for source in apt_sources():
        release = suite + source.release.removeprefix(codename())
        if suite in ("sid", "unstable") and release != suite:
            continue
        lines.append(source.line(release))
    return sorted(set(lines))


def apt_options() -> list[str]:
    """The machine's own proxy and date settings, as `Name "value";` lines."""
    wanted = ("proxy", "check-valid-until", "check-date", "cainfo")
    lines = run("apt-config", "dump").splitlines()
    return [
        line
        for line in lines
        if line.startswith("Acquire::") and any(word in line.lower() for word in wanted)
    ]
