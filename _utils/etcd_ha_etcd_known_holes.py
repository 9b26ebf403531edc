"""Releases of etcd with known holes: what can be lost or read there, and which release fixes it.

What must never run is refused instead (``etcd_ha_release.OLDEST_SAFE``). This table has what costs
data, or lets a client past authentication or permissions, in a cluster as this formula sets it up;
holes of flags that the formula refuses are left out (such as GHSA-3wh4-j44w-pg92, which needs
``listen-client-http-urls``). Sources: the CHANGELOG of each line, up to 3.4.45, 3.5.33, 3.6.14 and
3.7.1, https://github.com/etcd-io/etcd/tree/main/CHANGELOG, and the advisories named there.

To add one: the first release of each line that has the fix, and nothing for a line that never had
the hole, or that never got the fix.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import etcd_ha_release

REPOSITORY = "https://github.com/etcd-io/etcd"
CHANGELOG = REPOSITORY + "/blob/main/CHANGELOG/CHANGELOG-{line}.md"
_ADVISORY = "security/advisories/GHSA-"


@dataclass(frozen=True)
class Hole:
    """One hole: ``what`` happens, and line -> the first patch release in which it is fixed."""

    what: str
    fixed: Mapping[str, int]
    source: str


# The releases that brought the fix, one of each line -> what happens in older ones, and its source.
_BY_FIX: Mapping[tuple[str, ...], Mapping[str, str]] = {
    ("3.4.25", "3.5.8"): {
        "a password can be read in memory and logs (CVE-2021-28235)": "pull/15648",
    },
    ("3.4.31", "3.5.13"): {
        "watches lose events after a compaction": "pull/17612",
        "a former leader revokes leases that are still kept alive": "pull/17425",
    },
    ("3.4.32", "3.5.14"): {
        "the revision goes back after a crash during a compaction": "pull/17865",
    },
    ("3.5.17",): {"a transaction can be applied in part": "pull/18799"},
    ("3.5.24",): {"a learner that was promoted can become a learner again": "pull/20797"},
    ("3.4.38", "3.5.23", "3.6.5"): {
        "data can be damaged by a defragmentation while a member gets a snapshot": "pull/20650",
    },
    ("3.5.26",): {"members that were removed can come back in an upgrade": "pull/20995"},
    ("3.4.42", "3.5.28", "3.6.9"): {
        "reads can be stale after a pause of the process": "pull/21417",
        "some calls need no authentication (CVE-2026-33413)": f"{_ADVISORY}q8m4-xhhv-38mg",
        "nested transactions get past permissions (CVE-2026-33343)": f"{_ADVISORY}rfx7-8w68-q57q",
    },
    ("3.4.44", "3.5.30", "3.6.11"): {
        "puts in transactions get past permissions (CVE-2026-44283)": "pull/21681",
    },
    ("3.5.31", "3.6.12"): {"a change of a learner's peer URL promotes it": "pull/21736"},
    ("3.5.33", "3.6.14", "3.7.1"): {
        "a user who may read one key can watch all keys behind it (GHSA-xg4h-6gfc-h4m8)": (
            f"{_ADVISORY}xg4h-6gfc-h4m8"
        ),
        "a client that opens TLS and says nothing can block others (GHSA-6vch-q96h-7gc3)": (
            f"{_ADVISORY}6vch-q96h-7gc3"
        ),
    },
}


def _patches(versions: Iterable[str]) -> dict[str, int]:
    parsed = map(etcd_ha_release.parse, versions)
    return {release.line: release.patch for release in parsed}


HOLES = tuple(
    Hole(what, _patches(fixed), f"{REPOSITORY}/{source}")
    for fixed, found in _BY_FIX.items()
    for what, source in found.items()
)


def of(version: str) -> tuple[Hole, ...]:
    """The holes of a release; none where it is not a full version."""
    if not etcd_ha_release.is_version(version):
        return ()
    release = etcd_ha_release.parse(version)
    return tuple(hole for hole in HOLES if release.patch < hole.fixed.get(release.line, 0))


def note(version: str, key: str, packaged: bool = False) -> str:
    """What a plan says of a release with known holes, and which one to use; empty where none are.

    ``key`` is the pillar key of the version, ``packaged`` whether a distribution's package is used.
    """
    found = of(version)
    if not found:
        return ""
    line = etcd_ha_release.parse(version).line
    safe = f"{line}.{max(hole.fixed[line] for hole in found)}"
    shown = "; ".join(hole.what for hole in found)
    own = " Your distribution may have fixed some of them in its package." if packaged else ""
    return (
        f"{key} is {version}, which has known holes: {shown}. Use {safe} or newer, see "
        f"{CHANGELOG.format(line=line)}.{own}"
    )
