"""The programs of a host that the formula leans on, and since which release it can.

What a host is too old for is refused by name, before anything is touched.
"""

import re
import shutil
from collections.abc import Iterable, Mapping

import etcd_ha_common_process
from etcd_ha_common_process import ProgramError
from etcd_ha_topology import Cluster

SYSTEMD, HAPROXY = "systemd", "haproxy"
# Debian 11 has both. Older ones lack `systemctl show -P` and the checks of `http-check connect`.
OLDEST = {SYSTEMD: (247, 0), HAPROXY: (2, 2)}

_REPORTED = re.compile(r"HA-?Proxy version (\d+\.\d+\S*)")
# A package's version may have an epoch before the program's: 1:2.1.5-0.2.
_NUMBERS = re.compile(r"(?:\d+:)?(\d+)(?:\.(\d+))?")


def haproxy_on(clusters: Iterable[Cluster]) -> list[str]:
    """The minions whose HAProxy must be new enough; a package of the user's choice may be any."""
    return sorted(
        {
            balancer.minion
            for cluster in clusters
            if cluster.settings["balancer"]["kind"] == HAPROXY
            and cluster.settings["balancer"]["package"] is None
            for balancer in cluster.balancers
        }
    )


def haproxy() -> str:
    """The version of HAProxy that is installed here; empty where there is none.

    Raises ProgramError where it does not tell: an old one must not pass as one that is to come.
    """
    program = shutil.which(HAPROXY, path=etcd_ha_common_process.ENVIRONMENT["PATH"])
    if program is None:
        return ""
    command = [program, "-v"]
    done = etcd_ha_common_process.run(command, 10)
    found = haproxy_version(done.out)
    if not found:
        raise ProgramError(command, f"it names no version, but {done.words()!r}")
    return found


def haproxy_version(text: str) -> str:
    """The version in what ``haproxy -v`` prints; empty where it prints something else."""
    found = _REPORTED.search(text)
    return found[1] if found else ""


def too_old(minion: str, clusters: Iterable[Cluster], versions: Mapping[str, str]) -> str:
    """Why this minion's programs cannot do what these clusters need; empty where they can.

    ``versions``: program -> the version that is installed or that would be, empty where nobody
    knows: an unknown version is not an old one.
    """
    for cluster in clusters:
        named = any(one.minion == minion for one in cluster.balancers)
        if (named or cluster.member(minion)) and _is_older(SYSTEMD, versions):
            return (
                f"{minion} has systemd {versions[SYSTEMD]}, and etcd_ha needs 247 or newer "
                "(Debian 11, Ubuntu 22.04, RHEL 9). Upgrade its operating system, or use another "
                "host"
            )
        kind = cluster.settings["balancer"]["kind"]
        if named and kind == HAPROXY and _is_older(HAPROXY, versions):
            return (
                f"{minion} has HAProxy {versions[HAPROXY]}, and etcd_ha needs 2.2 or newer. Set "
                f"etcd_ha:clusters:{cluster.name}:balancer:kind to nginx, or name a newer package "
                f"in etcd_ha:clusters:{cluster.name}:balancer:package"
            )
    return ""


def _is_older(program: str, versions: Mapping[str, str]) -> bool:
    found = _NUMBERS.match(versions.get(program, ""))
    return found is not None and (int(found[1]), int(found[2] or 0)) < OLDEST[program]
