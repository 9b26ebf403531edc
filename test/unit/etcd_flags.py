"""What real binaries know (test/etcd_flags), and a value of each flag that the pillar may set."""

import functools
import pathlib

import etcd_ha_etcd_flags
import yaml

FOLDER = pathlib.Path(__file__).parents[1] / "etcd_flags"
BINARIES = sorted(path.stem for path in FOLDER.glob("3.*.txt"))
# Conditional on the clusters' own certificates: with those of the formula they cannot be set.
OF_OWN_CERTIFICATES = (
    "client-cert-allowed-hostname",
    "peer-cert-allowed-cn",
    "peer-cert-allowed-hostname",
)


def of_binary(version):
    """What the binary of this version knows: its flags, and its feature gates."""
    lines = (FOLDER / f"{version}.txt").read_text().splitlines()
    names = [line for line in lines if line and not line.startswith("#")]
    gates = [name.removeprefix("gates:") for name in names if name.startswith("gates:")]
    return {name for name in names if not name.startswith("gates:")}, gates


@functools.cache
def values():
    return yaml.safe_load((FOLDER / "values.yaml").read_text())


def settable(version):
    """The flags of a release that the pillar may set, one way or another."""
    return sorted(
        flag
        for flag in etcd_ha_etcd_flags.known(version)
        if not etcd_ha_etcd_flags.never(flag) and not etcd_ha_etcd_flags.owner(flag, version)
    )


def options(version, pki, data):
    """All that can be set at once in this release, with its value; each by its newest name."""
    line, found = ".".join(version.split(".")[:2]), {}
    for flag in settable(version):
        if flag in OF_OWN_CERTIFICATES or (flag == "logger" and line == "3.4"):
            continue
        if _has_a_newer_name(flag, version):
            continue
        value = values()[flag]
        value = value.get(line) if isinstance(value, dict) else value
        found[flag] = _placed(value, pki, data)
    return found


def _has_a_newer_name(flag, version):
    """etcd, and so the formula, takes one of two names alone, and no gate beside its flag."""
    known = etcd_ha_etcd_flags.known(version)
    plain = flag.removeprefix("experimental-")
    return flag != plain and (
        plain in known or (flag in etcd_ha_etcd_flags.GATES and "feature-gates" in known)
    )


def _placed(value, pki, data):
    if isinstance(value, list):
        return [_placed(one, pki, data) for one in value]
    if not isinstance(value, str):
        return value
    return (
        value.replace("PKI/..", str(pathlib.PurePath(pki).parent))
        .replace("PKI", pki)
        .replace("DATA", data)
    )
