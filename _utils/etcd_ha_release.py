"""etcd releases: which versions may run, where their archives lie, and what their checksums are."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

UPSTREAM = "https://github.com/etcd-io/etcd/releases/download"
ARCHITECTURES: Mapping[str, str] = {
    "amd64": "amd64",
    "x86_64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
}
# https://etcd.io/docs/v3.5/op-guide/versioning and the data inconsistency notice of 2022:
# production needs 3.4.22+ or 3.5.6+.
OLDEST_SAFE: Mapping[tuple[int, int], int] = {(3, 4): 22, (3, 5): 6}
# The lines whose flags, files and upgrade paths the formula knows.
LINES = ("3.4", "3.5", "3.6", "3.7")
_NUMBER = r"(0|[1-9][0-9]{0,4})"
_VERSION = re.compile(rf"v?{_NUMBER}\.{_NUMBER}\.{_NUMBER}")
_TOLD = re.compile(rf"etcd Version: ?v?({_NUMBER}\.{_NUMBER}\.{_NUMBER})")
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True, order=True)
class Version:
    """An etcd version as numbers, so that 3.10.0 is newer than 3.9.0."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def line(self) -> str:
        """The minor line that the version belongs to, such as ``3.6``."""
        return f"{self.major}.{self.minor}"


def parse(text: object) -> Version:
    """Read ``3.6.14`` or ``v3.6.14``; anything else raises ValueError."""
    match = _VERSION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a full etcd version such as '3.6.14'")
    return Version(int(match[1]), int(match[2]), int(match[3]))


def is_version(text: object) -> bool:
    """Whether this is a full version, of whichever line."""
    return isinstance(text, str) and _VERSION.fullmatch(text) is not None


def is_known(text: object) -> bool:
    """Whether this is a version of a line that the formula knows."""
    return is_version(text) and parse(text).line in LINES


def told(output: str) -> str:
    """The version in what ``etcd --version`` says, without a packager's suffix; empty if none."""
    match = _TOLD.match(output)
    return match[1] if match else ""


def fault(text: object) -> str | None:
    """Why this version must not be run, or None where it may."""
    try:
        version = parse(text)
    except ValueError as err:
        return f"{err}; write it in quotes, with all three numbers"
    if version.line not in LINES:
        return f"{version} is not supported; use a release of {LINES[0]} to {LINES[-1]}"
    oldest = OLDEST_SAFE.get((version.major, version.minor), 0)
    if version.patch < oldest:
        return (
            f"{version} can lose or corrupt data (etcd's notice of 2022); "
            f"use {version.line}.{oldest} or newer"
        )
    return None


def architecture(cpuarch: str) -> str:
    """The name that etcd's archives use for a machine's ``cpuarch`` or ``osarch`` grain."""
    try:
        return ARCHITECTURES[cpuarch]
    except KeyError:
        known = ", ".join(sorted(set(ARCHITECTURES.values())))
        raise ValueError(
            f"etcd has no release archive for the architecture {cpuarch!r} (only {known}); "
            "use install: {method: package}"
        ) from None


def folder(version: str, arch: str) -> str:
    """The folder inside the archive, which is the archive's own name too."""
    return f"etcd-v{version}-linux-{arch}"


def archive_url(base: str, version: str, arch: str) -> str:
    """Where a mirror with upstream's layout keeps the archive."""
    return f"{base.rstrip('/')}/v{version}/{folder(version, arch)}.tar.gz"


def checksums_url(base: str, version: str) -> str:
    """Where a mirror with upstream's layout keeps the release's checksums."""
    return f"{base.rstrip('/')}/v{version}/SHA256SUMS"


def is_sha256(text: object) -> bool:
    """True for 64 lower-case hex digits."""
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


def pinned(checksum: object, arch: str) -> str | None:
    """The hash that the pillar pins for this architecture, or None to use SHA256SUMS."""
    value = checksum.get(arch) if isinstance(checksum, Mapping) else checksum
    return str(value) if value else None


def listed(sums: str, name: str) -> str:
    """The hash of one file in the text of a SHA256SUMS file."""
    for line in sums.splitlines():
        fields = line.split()
        if len(fields) == 2 and fields[1].lstrip("*") == name and is_sha256(fields[0].lower()):
            return fields[0].lower()
    raise ValueError(f"the release's SHA256SUMS does not list {name}")
