"""What the orchestrate has put in force on a host, and what a state run outside it makes of that.

The orchestrate records the mapping that the states of a host are rendered from
(``etcd_ha_host.describe``). A highstate renders from this record, not from the pillar: what the
pillar changed since is pending. Only settings in ``APPLIED`` are taken from the pillar at once.
"""

import copy
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import etcd_ha_common_files
import etcd_ha_environment
import etcd_ha_machine
from etcd_ha_common_text import few

FILE = "/var/lib/etcd_ha/in_force/host.json"
# Of the record. Raise it where a key of the mapping gets another meaning; a new key needs nothing.
FORM = 1
COMMAND = "salt-run state.orchestrate etcd_ha.orch"
OTHER_PILLAR = (
    "nothing is changed here: the etcd_ha pillar that this minion gets from the master is another "
    "one than the plan was made from. If the master has pillar_cache: salt-run "
    "pillar.clear_pillar_cache. Otherwise have the pillar's top file give the same etcd_ha to all "
    "hosts of the cluster and to the master"
)
EMPTY: Mapping[str, Any] = {
    "entries": [],
    "hostname": None,
    "authorities": [],
    "clusters": [],
    "member": None,
    "balancer": None,
    "firewall": None,
    "trust": "",
}
PARTS = tuple(EMPTY)
# What preparing a member or a balancer puts in force; the rest comes with its own step.
PREPARED = ("entries", "hostname", "authorities")
# What a highstate applies from the pillar: the settings of backups, which touch no etcd.
APPLIED = ("backup",)
# Where a newer formula may have added keys, which the record of an older one lacks.
_FIXED = (
    ("member",),
    ("member", "install"),
    ("member", "backup"),
    ("member", "pki"),
    ("balancer",),
    ("balancer", "pki"),
    ("balancer", "stats"),
    ("balancer", "virtual"),
)
# How many differences a comment names.
_SHOWN = 6


class RecordError(Exception):
    """The record is there and cannot be relied on; the text says why."""


def read() -> dict[str, Any] | None:
    """The mapping in force on this host; None where none was ever recorded."""
    try:
        with open(FILE, encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as err:
        raise RecordError(f"{FILE} cannot be read ({err})") from err
    return _checked(found)


def _checked(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict) or not isinstance(found.get("host"), dict):
        raise RecordError(f"{FILE} is not a record of this formula")
    if found.get("form") != FORM:
        raise RecordError(f"{FILE} was written by another release of this formula")
    if found.get("sha256") != _hash(found["host"]) or set(found["host"]) != set(PARTS):
        raise RecordError(f"{FILE} is not as this formula wrote it")
    host: dict[str, Any] = found["host"]
    return host


def written(host: Mapping[str, Any]) -> dict[str, Any]:
    """The record as it lies on disk."""
    return {"form": FORM, "sha256": _hash(host), "host": dict(host)}


def write(host: Mapping[str, Any]) -> None:
    """Record what is in force from now on."""
    etcd_ha_common_files.make_directory(os.path.dirname(FILE), 0o700)
    etcd_ha_machine.write_json(FILE, written(host))


def forget(*parts: str) -> None:
    """Take parts out of the record, or remove it where all go; nothing where there is none."""
    if not os.path.exists(FILE):
        return
    if set(parts) >= {"member", "balancer"} or not parts:
        os.unlink(FILE)
        return
    try:
        found = read()
    except RecordError:
        # What cannot be relied on keeps a highstate from this host until the next orchestrate.
        return
    write({**(found or EMPTY), **{part: EMPTY[part] for part in parts}})


def recorded(old: Mapping[str, Any] | None, host: Mapping[str, Any]) -> dict[str, Any]:
    """The record once the step of the orchestrate that renders this mapping has begun."""
    partly = host["prepares"] and (host["member"] or host["balancer"])
    parts = PREPARED if partly else PARTS
    known = {**EMPTY, **(old or {})}
    found = {**known, **{part: copy.deepcopy(host[part]) for part in parts}}
    if host["phase"] == "held":
        # The CA gives no answer: certificates are not touched, and so are what they were.
        for part in ("member", "balancer"):
            if found[part] and known[part]:
                found[part]["pki"] = copy.deepcopy(known[part]["pki"])
    return found


def _hash(host: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(host, sort_keys=True).encode()).hexdigest()


def held(
    record: Mapping[str, Any] | None,
    desired: Mapping[str, Any],
    converged: Sequence[str] = (),
    fault: str = "",
) -> dict[str, Any]:
    """What the states of a host are rendered from outside the orchestrate.

    ``record`` is what is in force, ``desired`` what the pillar wants; ``converged`` names the parts
    (``member``, ``balancer``) of which something is on this host already, ``fault`` says why the
    record cannot be relied on.

    Returns the mapping of ``etcd_ha_host.describe``. In ``coming`` are the parts that are not in
    force yet and get their accounts and packages, in ``pending`` the sentences for people.
    """
    known = {**EMPTY, **copy.deepcopy(dict(record or {}))}
    host: dict[str, Any] = {**copy.deepcopy(dict(desired)), **known}
    host |= {"action": "none", "successor": "", "endpoints": "", "restart_before": 0}
    host |= {"former": {}, "keeps": True, "prepares": False, "phase": "kept", "pending": []}
    if known["member"] and not desired["member"]:
        # It may be out of the member list by now: its start would take its whole time and fail.
        host["action"] = "hold"
    parts = [part for part in ("member", "balancer") if desired[part] and not known[part]]
    lost = [part for part in converged if not known[part]]
    host["coming"] = {
        part: desired[part] if part in parts and part not in lost and not fault else None
        for part in ("member", "balancer")
    }
    parts_here = converged or fault or any(known[one] for one in ("member", "balancer"))
    host["cleared"] = not parts_here and not desired["clusters"] and not known["authorities"]
    for path in _FIXED:
        _fill(host, desired, path)
    _apply_backup(host, desired)
    # None but those that are damaged, which etcd_ha_host_leaves finds: these may be put right.
    host["issuing"], host["pairs"] = [], "take"
    if fault:
        host["pending"] = [f"{fault}, so nothing is changed here"]
    elif lost:
        host["pending"] = [
            f"no record says what of the {' and the '.join(lost)} is in force here, so that is left"
            " as it is"
        ]
    elif parts or (record is None and desired["clusters"]):
        what = " and the ".join(parts) or "CA"
        host["pending"] = [f"the {what} is not in force here yet"]
    if host["cleared"]:
        # What was in force is no word on a host that has no part any more.
        return host | {"firewall": None, "entries": [], "hostname": None, "clusters": []}
    if record is not None:
        differing = differences(host, desired)
        if differing:
            shown = few(differing, _SHOWN)
            host["pending"].append(f"the pillar differs from what is in force here in {shown}")
        host["firewall"] = _united(known["firewall"], desired["firewall"])
    return host


def _fill(host: dict[str, Any], desired: Mapping[str, Any], path: Sequence[str]) -> None:
    """Give what is in force the keys that only a newer formula knows."""
    old: Any = host
    new: Any = desired
    for key in path:
        old, new = (old or {}).get(key), (new or {}).get(key)
    if isinstance(old, dict) and isinstance(new, Mapping):
        for key in set(new) - set(old):
            old[key] = copy.deepcopy(new[key])


def _apply_backup(host: dict[str, Any], desired: Mapping[str, Any]) -> None:
    """The pillar's settings of backups, where they are of the same cluster and place."""
    old, new = host["member"], desired["member"]
    if not old or not new:
        return
    present, wanted = old["backup"], new["backup"]
    same = all(present[key] == wanted[key] for key in ("cluster", "file", "secrets"))
    host["pillar_secrets"] = same
    if not same:
        return
    # How long a backup may take depends on the number of members, too.
    kept = {"longest": present["longest"]} if present["settings"] == wanted["settings"] else {}
    old["backup"] = {**copy.deepcopy(wanted), **kept}


def _united(
    present: Mapping[str, Any] | None, coming: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Rules that admit who needs etcd now, and who will once the pillar is in force."""
    if not present:
        return None
    rules = [{**rule, "sources": list(rule["sources"])} for rule in present["rules"]]
    for rule in (coming or {}).get("rules", ()):
        own = next((one for one in rules if _place(one) == _place(rule)), None)
        if own is None:
            rules.append(copy.deepcopy(rule))
        else:
            own["sources"] = list(dict.fromkeys([*own["sources"], *rule["sources"]]))
    return {**present, "rules": rules}


def _place(rule: Mapping[str, Any]) -> tuple[Any, Any]:
    return rule["port"], rule["protocol"]


def differences(host: Mapping[str, Any], desired: Mapping[str, Any]) -> list[str]:
    """Where the pillar's mapping is another one than that in force, as ``part.key.key``."""
    found = [
        path
        for part in PARTS
        if part != "clusters"
        for path in _differing(host[part], desired[part], part)
    ]
    # Texts are made from what is named beside them.
    named = [path for path in found if not path.rpartition(".")[2].endswith("_text")]
    return [path for path in named or found if not path.endswith(etcd_ha_environment.PEER_NAME)]


def _differing(old: Any, new: Any, path: str) -> list[str]:
    if old == new:
        return []
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return [path]
    return [
        one
        for key in sorted({*old, *new})
        for one in _differing(old.get(key), new.get(key), f"{path}.{key}")
    ]


def comment(pending: Sequence[str]) -> str:
    """What a state run outside the orchestrate says of what it left."""
    if not pending:
        return "nothing is pending: what the pillar says is in force here"
    return f"pending: {'; '.join(pending)}. To put it in force: {COMMAND}"


def is_missing(ca: Mapping[str, Any]) -> bool:
    """Whether a CA that is in force has no key on this host any more."""
    return not os.path.exists(f"{ca['dir']}/ca.key")


def without_lost_authorities(host: dict[str, Any]) -> None:
    """Leave CAs alone whose key is gone: only the orchestrate may make another one."""
    lost = [ca for ca in host["authorities"] if is_missing(ca)]
    host["authorities"] = [ca for ca in host["authorities"] if ca not in lost]
    host["pending"] += [
        f"the key of the CA of {ca['cluster']} is not in {ca['dir']}, and no new one is made here "
        f"(put it back from a backup, or see: salt-run etcd_ha.plan)"
        for ca in lost
    ]
