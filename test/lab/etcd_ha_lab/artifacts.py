"""etcd release archives in upstream's layout, each from the first source that answers.

Sources, in this order: upstream's own site, the Go module proxy (where Go is installed; pinned and
verified by the go.sum files below `test/lab/etcd-build`), the distribution's packages.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from . import machine
from .config import CACHE
from .ui import LabError, say, step

DEFAULT = "3.6.14"
OLDEST_DEFAULT = (3, 5, 6)  # the demo never runs what etcd itself calls unfit for production

# What a full mirror holds. `debian` is the newest version that the distribution's packages give.
ALL = ("3.4.23", "3.5.16", "debian", "3.5.33", "3.6.14", "3.7.1")

STORE = CACHE / "etcd"
NEWEST_PACKAGED = STORE / ".newest-packaged"
RECIPES = Path(__file__).resolve().parents[1] / "etcd-build"
PROGRAMS = ("etcd", "etcdctl", "etcdutl")
UPSTREAM = "https://github.com/etcd-io/etcd/releases/download"
UPSTREAM_TIMEOUT = 4  # seconds without a word; there may be no way out at all

# Debian's releases carry these lines side by side; another distribution has its own release only.
DEBIAN_SUITES = ("bookworm", "trixie", "forky", "sid")


class SourceMissing(LabError):
    """This source cannot give this version; the next one may."""


@dataclass(frozen=True)
class Artifact:
    """One release archive of the mirror."""

    version: str
    architecture: str
    source: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        return f"etcd-v{self.version}-linux-{self.architecture}"

    @property
    def folder(self) -> Path:
        return STORE / f"v{self.version}"

    @property
    def archive(self) -> Path:
        return self.folder / f"{self.name}.tar.gz"


def order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def cached() -> list[Artifact]:
    """All archives that are there, oldest version first."""
    records = [json.loads(path.read_text()) for path in STORE.glob("v*/lab.json")]
    return sorted((Artifact(**record) for record in records), key=lambda a: order(a.version))


def find(version: str) -> Artifact | None:
    return next((a for a in cached() if a.version == version), None)


def newest(line: str | None = None) -> Artifact | None:
    """The newest archive that is there, of one line (`3.5`) or of all."""
    matching = [a for a in cached() if not line or a.version.startswith(f"{line}.")]
    return matching[-1] if matching else None


def default_version() -> str:
    """The version that the demo runs: 3.6.14 where it can be had, else the distribution's best."""
    if find(DEFAULT):
        return DEFAULT
    try:
        return get(DEFAULT).version
    except SourceMissing as why:
        say(f"etcd {DEFAULT} cannot be had here, so the distribution's version stands in: {why}")
    version = get("debian").version
    if order(version) < OLDEST_DEFAULT:
        raise LabError(
            f"the distribution has only etcd {version}, which is too old for a demo: "
            f"install Go, or set ETCD_HA_LAB_UPSTREAM to a mirror of upstream's releases"
        )
    return version


def get(version: str) -> Artifact:
    """One archive, from the cache or from the first source that has it."""
    STORE.mkdir(parents=True, exist_ok=True)
    with (STORE / f".{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        have = find(_newest_packaged() or "" if version == "debian" else version)
        return have or _fetch(version)


def get_all() -> None:
    """Every archive that can be had here; a LabError at the end names those that cannot."""
    refusals = []
    for version in ALL:
        try:
            get(version)
        except SourceMissing as why:
            refusals.append(str(why))
    if refusals:
        raise LabError("not all of etcd's versions can be had here:\n  " + "\n  ".join(refusals))


def _newest_packaged() -> str | None:
    """What `debian` meant last; a week later the distribution may have something newer."""
    if not NEWEST_PACKAGED.exists() or _age(NEWEST_PACKAGED) > 7 * 24 * 3600:
        return None
    return NEWEST_PACKAGED.read_text().strip()


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _fetch(version: str) -> Artifact:
    if version != "debian" and not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise LabError(f"'{version}' is no etcd version: write it as 3.6.14")
    sources = _sources() if version != "debian" else {"debian": _from_packages}
    refusals = []
    for name, fetch in sources.items():
        unfinished = STORE / f".new-{version}-{name}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            artifact = fetch(version, unfinished)
        except SourceMissing as why:
            refusals.append(f"{name}: {why}")
            continue
        finally:
            if not (unfinished / "lab.json").exists():
                shutil.rmtree(unfinished, ignore_errors=True)
        if find(artifact.version):
            shutil.rmtree(unfinished)
            return artifact
        unfinished.rename(artifact.folder)
        say(f"  etcd {artifact.version} is on the mirror, from {artifact.source}")
        return artifact
    raise SourceMissing(f"no source gives etcd {version}:\n    " + "\n    ".join(refusals))


def _sources() -> dict[str, Callable[[str, Path], Artifact]]:
    known = {"upstream": _from_upstream, "go": _from_go, "debian": _from_packages}
    wanted = os.environ.get("ETCD_HA_LAB_SOURCES", ",".join(known)).split(",")
    for name in wanted:
        if name not in known:
            raise LabError(f"ETCD_HA_LAB_SOURCES names '{name}': it takes {', '.join(known)}")
    return {name: known[name] for name in wanted}


# Upstream's own site


def _from_upstream(version: str, to: Path) -> Artifact:
    base = os.environ.get("ETCD_HA_LAB_UPSTREAM", UPSTREAM).rstrip("/")
    architecture = machine.architecture()
    name = f"etcd-v{version}-linux-{architecture}.tar.gz"
    _download(f"{base}/v{version}/SHA256SUMS", to / "SHA256SUMS")
    with step(f"  etcd {version}: downloaded from upstream"):
        _download(f"{base}/v{version}/{name}", to / name)
    wanted = _sums(to / "SHA256SUMS").get(name)
    if not wanted:
        raise SourceMissing(f"upstream's SHA256SUMS has no line for {name}")
    found = hashlib.sha256((to / name).read_bytes()).hexdigest()
    if wanted != found:
        raise LabError(f"{name} has sha256 {found}, and upstream's SHA256SUMS says {wanted}")
    return _record(version, architecture, "upstream", to)


def _sums(file: Path) -> dict[str, str]:
    """File name -> sha256, as `sha256sum` writes them; nothing of a proxy's own page."""
    rows = re.compile(r"^([0-9a-f]{64}) [ *](\S+)$", re.MULTILINE)
    return {name: digest for digest, name in rows.findall(file.read_text(errors="replace"))}


def _download(url: str, to: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=UPSTREAM_TIMEOUT) as answer, to.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except (OSError, urllib.error.URLError) as why:
        raise SourceMissing(f"no answer from upstream's site ({why})") from None


# The Go module proxy


def find_go() -> str:
    found = shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin:/usr/lib/go/bin")
    if not found:
        raise SourceMissing("Go is not installed")
    return found


def go_environment() -> dict[str, str]:
    return {
        **os.environ,
        "CGO_ENABLED": "0",
        # -mod=readonly: what go.mod and go.sum do not pin does not get in.
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
        "GOTOOLCHAIN": "local",
    }


def _from_go(version: str, to: Path) -> Artifact:
    recipe = RECIPES / version
    if not recipe.is_dir():
        raise SourceMissing(f"test/lab/etcd-build has no recipe for {version}")
    go = find_go()
    modules = [f"go.etcd.io/etcd/{module}/v3" for module in ("server", "etcdctl", "etcdutl")]
    log, programs = STORE / f"build-{version}.log", to / "programs"
    log.unlink(missing_ok=True)
    programs.mkdir()
    with step(f"  etcd {version}: built from the Go module proxy's sources"):
        try:
            machine.run(go, "build", "-ldflags", "-s -w", "-o", programs, *modules, log=log,
                        cwd=recipe, env=go_environment())  # fmt: skip
        except LabError as why:
            raise SourceMissing(f"Go did not build it: {why}") from None
    (programs / "server").rename(programs / "etcd")
    return _pack(version, "go", programs, to)


# The distribution's packages


def _from_packages(version: str, to: Path) -> Artifact:
    with (STORE / ".apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        apt = _apt_of_all_suites(STORE / ".apt")
    rows = machine.run("apt-cache", *apt, "madison", "etcd-server").splitlines()
    # The package version, e.g. 3.5.16-4+deb13u1, with the version that it packages before the dash.
    have = sorted({row.split("|")[1].strip() for row in rows}, key=order)
    if version == "debian":
        matching = have[-1:]
    else:
        wanted = re.compile(re.escape(version) + r"[^\d.]")
        matching = [package for package in have if wanted.match(package)]
    if not matching:
        raise SourceMissing(f"packages exist for {', '.join(have) or 'no version'}")
    package = matching[-1]
    tree, programs = to / "tree", to / "programs"
    programs.mkdir()
    with step(f"  etcd {package}: taken out of the distribution's packages"):
        for name in ("etcd-server", "etcd-client"):
            machine.run("apt-get", *apt, "-q", "download", f"{name}={package}", cwd=to)
        for deb in to.glob("*.deb"):
            machine.run("dpkg-deb", "--extract", deb, tree)
    for program in PROGRAMS:  # 3.4 has no etcdutl
        if (tree / "usr/bin" / program).exists():
            shutil.move(tree / "usr/bin" / program, programs / program)
    real = _reported_version(programs / "etcd")
    if version == "debian":
        NEWEST_PACKAGED.write_text(real)
    return _pack(real, f"package {package}", programs, to)


def _apt_of_all_suites(home: Path) -> list[str]:
    """Options that give apt a state of its own, with every suite that may carry etcd."""
    suites = DEBIAN_SUITES if machine.distribution() == "debian" else (machine.codename(),)
    lines = {line for suite in suites for line in machine.apt_lines(suite)}
    # Security and update pockets have no etcd of their own in other suites, and may not exist.
    own = machine.codename()
    lines = {line for line in lines if line.split()[2] in suites or f" {own}-" in line}
    (home / "lists/partial").mkdir(parents=True, exist_ok=True)
    (home / "cache").mkdir(exist_ok=True)
    (home / "sources.list").write_text("\n".join(sorted(lines)) + "\n")
    (home / "status").write_text("")
    options = {
        "Dir::State": home,
        "Dir::State::lists": home / "lists",
        "Dir::State::status": home / "status",
        "Dir::Cache": home / "cache",
        "Dir::Etc::sourcelist": home / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        "Acquire::GzipIndexes": "true",
        "Acquire::Retries": "0",
        "APT::Sandbox::User": "root",
    }
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    fresh = home / "updated"
    if not fresh.exists() or _age(fresh) > 3600:
        with step("  package lists of every suite that may have etcd"):
            # A suite that is not there yet or any more spoils nothing.
            subprocess.run(["apt-get", *words, "-q", "update"], capture_output=True, check=False)
        fresh.touch()
    return words


# Packing


def _reported_version(etcd: Path) -> str:
    text = machine.run(etcd, "--version")
    found = re.search(r"etcd Version: (\d+\.\d+\.\d+)", text)
    if not found:
        raise LabError(f"{etcd} does not tell its version: {text[:200]}")
    return found[1]


def _pack(version: str, source: str, programs: Path, to: Path) -> Artifact:
    """Make upstream's archive of some programs, the same bytes for the same programs."""
    real = _reported_version(programs / "etcd")
    if real != version:
        raise LabError(f"{source} gave etcd {real} where {version} was asked for")
    architecture = machine.architecture()
    name = f"etcd-v{version}-linux-{architecture}"
    archive = to / f"{name}.tar.gz"
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        _add(tar, tarfile.TarInfo(name), None)
        for program in sorted(programs.iterdir()):
            _add(tar, tarfile.TarInfo(f"{name}/{program.name}"), program)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    (to / "SHA256SUMS").write_text(f"{digest}  {archive.name}\n")
    for leftover in to.iterdir():
        if leftover.is_dir():
            shutil.rmtree(leftover)
        elif leftover.suffix == ".deb":
            leftover.unlink()
    return _record(version, architecture, source, to)


def _add(tar: tarfile.TarFile, entry: tarfile.TarInfo, file: Path | None) -> None:
    entry.mode = 0o755
    if file is None:
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
        return
    entry.size = file.stat().st_size
    with file.open("rb") as content:
        tar.addfile(entry, content)


def _record(version: str, architecture: str, source: str, folder: Path) -> Artifact:
    archive = folder / f"etcd-v{version}-linux-{architecture}.tar.gz"
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    artifact = Artifact(version, architecture, source, digest, archive.stat().st_size)
    (folder / "lab.json").write_text(json.dumps(asdict(artifact), indent=2) + "\n")
    return artifact
