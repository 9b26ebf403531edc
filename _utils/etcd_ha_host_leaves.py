"""Which certificates a state run outside the orchestrate may exchange, and why.

A pair in use is left alone while it works. It is put right where it is damaged, and renewed where
it ends soon; but only as it is in force: what the pillar changed waits for the orchestrate.
"""

import grp
import os
import pwd
import stat
from collections.abc import Mapping
from typing import Any

import etcd_ha_host
import etcd_ha_host_tls_files
import etcd_ha_machine
import etcd_ha_pem
from etcd_ha_common_certificate_checks import Need


def issuing(
    host: Mapping[str, Any], desired: Mapping[str, Any], files: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """The certificates to put right or renew here, and what is to be said of others that need it.

    ``host`` is what is in force, ``desired`` what the pillar wants, ``files`` the hashes of the
    files as the states left them last.
    """
    found, told = [], []
    for part in ("member", "balancer"):
        for leaf in etcd_ha_host.leaves(host[part]):
            pki = host[part]["pki"]
            why = fault(leaf, pki, files)
            if why and _is_as_wanted(leaf, pki, desired[part]) and host["trust"] != "both":
                found.append(leaf["certificate"])
            elif why:
                told.append(f"{leaf['certificate']} waits as well ({why})")
    return found, told


def waiting(host: Mapping[str, Any]) -> list[str]:
    """What is to be said of files that users have put in place of those in use."""
    told = []
    for part in ("member", "balancer"):
        for leaf in etcd_ha_host.leaves(host[part]):
            pki = host[part]["pki"]
            if pki["source"] == "files":
                told += _other(leaf, pki["files"][leaf["purpose"]], pki["files"]["ca"])
    return list(dict.fromkeys(told))


def _other(leaf: Mapping[str, Any], source: Mapping[str, Any], ca: Mapping[str, Any]) -> list[str]:
    """That this pair waits, or why it cannot be used; nothing where it is the one in use."""
    new = source["certificate"], source["key"]
    if etcd_ha_host_tls_files.is_same(*zip(new, (leaf["certificate"], leaf["key"]), strict=True)):
        return []
    wrong = etcd_ha_host_tls_files.faults(*new, ca["certificate"], Need.of(leaf["need"]))
    return [f"{one}; what is in use stays" for one in wrong] or [
        f"{new[0]} is another one than that in use"
    ]


def fault(leaf: Mapping[str, Any], pki: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Why a pair has to be put right or renewed; empty where it works."""
    for path in (leaf["certificate"], leaf["key"]):
        if not os.path.exists(path):
            return f"{path} is missing"
        if path in files and etcd_ha_machine.sha256_file(path) != files[path]:
            return f"{path} was changed"
    if not _belongs_to(leaf["key"], leaf["owner"], leaf["group"], 0o400):
        return f"{leaf['key']} has another owner or mode"
    if not _belongs_to(leaf["certificate"], "root", "root", 0o644):
        return f"{leaf['certificate']} has another owner or mode"
    need = Need.of(leaf["need"])
    wrong = etcd_ha_host_tls_files.faults(
        leaf["certificate"], leaf["key"], pki["ca_certificate"], need
    )
    if wrong:
        return "; ".join(wrong)
    days = etcd_ha_pem.bundle(etcd_ha_machine.read_text(leaf["certificate"])).days_left
    if pki["source"] == "salt" and days is not None and days < leaf["days_remaining"]:
        return f"it ends in {days} days"
    return ""


def _is_as_wanted(
    leaf: Mapping[str, Any], pki: Mapping[str, Any], desired: Mapping[str, Any] | None
) -> bool:
    """Whether the pillar wants this certificate as it is in force."""
    wanted = (desired or {}).get("pki")
    if not wanted or wanted["source"] != pki["source"]:
        return False
    purpose = leaf["purpose"]
    return leaf in wanted["leaves"] and pki["files"].get(purpose) == wanted["files"].get(purpose)


def _belongs_to(path: str, user: str, group: str, mode: int) -> bool:
    found = os.stat(path)
    try:
        ids = pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid
    except KeyError:
        return False
    return (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (*ids, mode)
