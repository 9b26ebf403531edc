"""The stages between a running member and the pillar's: release lines, transports, and CAs.

A member's stage is the release that it runs, the transport that it speaks, and how far it is with
another CA. Each pass brings every member to the next stage before any goes further.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from etcd_ha_release import Version, parse
from etcd_ha_topology import Cluster

# The last release of each line on 2026-12-01: `go list -m -versions go.etcd.io/etcd/server/v3`; for
# 3.4, whose server is no module of its own, https://github.com/etcd-io/etcd/releases. Their flags
# are those of 3.5.33, 3.6.14 and 3.7.1 (embed/config.go, features/ and etcdmain/config.go).
NEWEST: Mapping[str, str] = {"3.4": "3.4.45", "3.5": "3.5.35", "3.6": "3.6.16", "3.7": "3.7.3"}
# https://etcd.io/docs/v3.6/upgrades/upgrade_3_6/: zombie members and learners that revert are
# mended on the 3.5 side; go on from no earlier release of it.
OLDEST_FOR_NEXT: Mapping[str, str] = {"3.5": "3.5.32"}
# https://etcd.io/docs/v3.6/downgrades/downgrade_3_6/
DOWNGRADE_FROM: tuple[int, int] = (3, 6)


@dataclass(frozen=True)
class Stage:
    """What a member runs for the time being."""

    version: str
    transport: str
    # How far it is with another CA: a phase of etcd_ha_trust; empty for the pillar's CA alone.
    trust: str = ""

    def pillar(self) -> dict[str, str]:
        """The form in which a step hands it to the states."""
        found = {"version": self.version, "transport": self.transport}
        return {**found, "trust": self.trust} if self.trust else found


def final(cluster: Cluster) -> Stage:
    """The stage that the pillar wants."""
    return Stage(cluster.version, cluster.scheme)


def transport(running: Mapping[str, str]) -> str:
    """``http``, ``https``, or ``both`` between them, as a running member's variables say."""
    urls = running.get("ETCD_LISTEN_CLIENT_URLS", "").split(",")
    schemes = {url.partition("://")[0] for url in urls if url}
    if len(schemes) > 1:
        return "both"
    return next(iter(schemes), "")


def transports(now: Iterable[str], wanted: str) -> list[str]:
    """The transports to pass through: from plain to TLS and back by way of both."""
    found = {one for one in now if one}
    if found <= {wanted}:
        return []
    return [wanted] if found <= {"both", wanted} else ["both", wanted]


def versions(oldest: str, wanted: str, through: Mapping[str, str]) -> list[str]:
    """The releases to pass through, one minor line at a time.

    https://etcd.io/docs/v3.6/upgrades/: "upgrade one minor version at a time".
    """
    here, goal = parse(oldest), parse(wanted)
    path: list[str] = []
    while (here.major, here.minor) < (goal.major, goal.minor):
        floor = OLDEST_FOR_NEXT.get(here.line)
        if floor and here < parse(floor):
            here = _newest(here.minor, through)
            path.append(str(here))
        here = _newest(here.minor + 1, through) if here.minor + 1 < goal.minor else goal
        path.append(str(here))
    if here != goal:
        path.append(wanted)
    return path


def downgrade_fault(now: str, wanted: str) -> str | None:
    """Why etcd cannot go from this release to an older one, or None where it can."""
    here, goal = parse(now), parse(wanted)
    if (here.major, here.minor) <= (goal.major, goal.minor):
        return None
    if (here.major, here.minor) < DOWNGRADE_FROM or here.minor - goal.minor > 1:
        return (
            f"etcd {now} cannot be taken down to {wanted}: etcd supports a downgrade from 3.6 on, "
            "by one minor line. Set version back, or restore a backup onto a new cluster"
        )
    return None


def is_downgrade(now: str, wanted: str) -> bool:
    """Whether this goes to an older minor line."""
    here, goal = parse(now), parse(wanted)
    return (goal.major, goal.minor) < (here.major, here.minor)


def has_v2(version: str) -> bool:
    """Whether a release can still write records of the v2 store, which 3.6 refuses to read."""
    return parse(version) < Version(3, 6, 0)


def leaves_v2(oldest: str, version: str) -> bool:
    """Whether this pass is the one from which on the v2 store is gone."""
    return has_v2(oldest) and parse(version).line == "3.6"


def _newest(minor: int, through: Mapping[str, str]) -> Version:
    line = f"3.{minor}"
    return parse(through.get(line) or NEWEST[line])
