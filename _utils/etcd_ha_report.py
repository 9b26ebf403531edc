"""A cluster as people and other programs read it: tables, and settings to paste."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import etcd_ha_machine
import etcd_ha_told
import etcd_ha_virtual
from etcd_ha_plain import brief
from etcd_ha_topology import Cluster

CONSUMERS = ("kube-apiserver", "patroni")
# What of a host stands in which column of its cluster's status.
_COLUMNS = (
    "name",
    "address",
    "role",
    "health",
    "version",
    "revision",
    "lag",
    "db_size",
    "db_in_use",
)


@dataclass(frozen=True)
class Report:
    """A cluster in words, whether nothing of it needs anybody, and its data: cluster -> mapping."""

    text: str
    sound: bool
    data: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def client_urls(cluster: Cluster) -> list[str]:
    """Where clients should connect: the balancers' one address, or each, or else the members."""
    if cluster.virtual_url:
        return [cluster.virtual_url]
    if cluster.balancers:
        return [cluster.balancer_url(balancer) for balancer in cluster.balancers]
    return [cluster.client_url(member) for member in cluster.members]


def verified_urls(
    cluster: Cluster, silent: Collection[str] = (), paused: Collection[str] = ()
) -> list[str]:
    """Through which endpoints a run is verified: beside the virtual address, each balancer's own.

    Whoever takes the address over must serve, too. Where balancers listen at the virtual address
    alone, there is no other one to ask. ``silent`` are hosts without facts, ``paused`` members that
    are stopped on purpose.
    """
    there = tuple(b for b in cluster.balancers if b.minion not in silent)
    if not there:
        members = [m for m in cluster.members if m.minion not in (*silent, *paused)]
        return [cluster.client_url(m) for m in members]
    cluster = dataclasses.replace(cluster, balancers=there)
    alone = cluster.settings["balancer"]["bind"] == cluster.virtual_address
    if not cluster.virtual_url or alone:
        return client_urls(cluster)
    return [cluster.virtual_url, *map(cluster.balancer_url, cluster.balancers)]


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows under heads, each column as wide as its widest cell."""
    lines = [[str(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def size(number: int) -> str:
    """Bytes as people read them."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def status(
    cluster: Cluster, facts: Mapping[str, Mapping[str, Any]], notes: Sequence[str] = ()
) -> Report:
    """One cluster: a line for each member and balancer, and below it what else is to be said.

    It is sound while each of them is healthy, or paused on purpose, and no alarm is raised.
    """
    rows = [*_member_rows(cluster, facts), *_balancer_rows(cluster, facts)]
    heads = ("NAME", "ADDRESS", "ROLE", "HEALTH", "VERSION", "REVISION", "LAG", "DB", "IN USE")
    cells = [[_cell(row, key) for key in _COLUMNS] for row in rows]
    notes = [*holder(cluster, facts), *notes]
    text = "\n".join([cluster.name, table(heads, cells), *notes])
    alarm = any(_etcd(facts, member.minion).get("alarms") for member in cluster.members)
    sound = not alarm and all(row["healthy"] or row["role"] == "paused" for row in rows)
    return Report(text, sound, {cluster.name: {"hosts": rows, "notes": notes}})


def _cell(row: Mapping[str, Any], key: str) -> object:
    value = row.get(key)
    if value is None:
        return "-"
    return size(value) if key in ("db_size", "db_in_use") else value


def _etcd(facts: Mapping[str, Mapping[str, Any]], minion: str) -> Mapping[str, Any]:
    return facts.get(minion, {}).get("etcd") or {}


def _member_rows(
    cluster: Cluster, facts: Mapping[str, Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    indexes = [int(_etcd(facts, m.minion).get("raft_index", 0)) for m in cluster.members]
    for member in cluster.members:
        etcd = _etcd(facts, member.minion)
        paused = bool(facts.get(member.minion, {}).get("paused"))
        numbers = {key: int(etcd[key]) for key in ("db_size", "db_in_use") if key in etcd}
        if "raft_index" in etcd:
            numbers["lag"] = max(indexes) - int(etcd["raft_index"])
        yield {
            "name": member.name,
            "minion": member.minion,
            "address": member.address,
            "role": "paused" if paused else _role(etcd),
            "health": _health(member.minion in facts, etcd),
            "healthy": bool(etcd.get("healthy")) and not etcd.get("errors"),
            "version": etcd.get("version") or None,
            "revision": etcd.get("revision"),
            **numbers,
        }


def _balancer_rows(
    cluster: Cluster, facts: Mapping[str, Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    for balancer in cluster.balancers:
        seen = facts.get(balancer.minion, {}).get("balancer") or {}
        yield {
            "name": balancer.minion,
            "minion": balancer.minion,
            "address": balancer.address,
            "role": "balancer",
            "health": _health(balancer.minion in facts, seen),
            "healthy": bool(seen.get("healthy")) and not seen.get("errors"),
        }


def holder(cluster: Cluster, facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line on who holds the virtual address; none where the cluster has no such address."""
    if not cluster.virtual_address:
        return []
    found = {
        balancer.minion: (facts.get(balancer.minion) or {}).get("balancer")
        for balancer in cluster.balancers
    }
    holders = [minion for minion, told in found.items() if told and told.get("holds_address")]
    silent = [minion for minion in found if minion not in facts]
    return [etcd_ha_virtual.told(cluster.virtual_address, holders, silent)]


def _role(etcd: Mapping[str, Any]) -> str:
    if etcd.get("leader"):
        return "leader"
    if etcd.get("learner"):
        return "learner"
    return "follower" if etcd.get("active") else "stopped"


def _health(answered: bool, found: Mapping[str, Any]) -> str:
    if not answered:
        return "no answer"
    if found.get("errors"):
        return "; ".join(str(error) for error in found["errors"])
    return "healthy" if found.get("healthy") else "unhealthy"


def of_faults(faults: Mapping[str, str]) -> list[Report]:
    """What stands in the place of clusters whose pillar is wrong: cluster -> why."""
    return [
        Report(why, False, {name: {"error": why} for name, of in faults.items() if of == why})
        for why in dict.fromkeys(faults.values())
    ]


def healthy_members(cluster: Cluster, facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The minions whose etcd can be asked for all others."""
    etcd = {m.minion: facts.get(m.minion, {}).get("etcd") or {} for m in cluster.members}
    return [minion for minion, found in etcd.items() if found.get("healthy")]


def odd_answer(fault: str) -> str:
    """What is said of a host whose answer has another form than the formula's."""
    return f"gave an odd answer: {fault}"


def hashes(cluster: Cluster, answer: Any, odd: Mapping[str, str] | None = None) -> Report:
    """One cluster: the hash of each member's keys, and what to do where they differ.

    ``answer`` is what ``etcd_ha.hash_kv`` returned on one of them; ``odd`` are those that were
    asked before it and told something else: minion -> its fault.
    """
    strange = [f"{minion} {odd_answer(fault)}" for minion, fault in (odd or {}).items()]
    if not isinstance(answer, dict) or not answer.get("members"):
        why = _last_line(answer) if answer else "no member is healthy"
        why = "no member told them" if strange and not answer else why
        told = f"The hashes could not be compared: {why}"
        data = {"agree": False, "members": [], "error": told, "odd": dict(odd or {})}
        return Report("\n".join([cluster.name, told, *strange]), False, {cluster.name: data})
    rows = []
    for member in answer["members"]:
        told = "differs" if member["differs"] else "ok" if answer["right"] else "?"
        state = told if member["hash"] else "no answer"
        cells = (member["name"] or "not started", member["member_id"], member["hash"] or "-", state)
        rows.append([brief(cell) for cell in cells])
    lines = [cluster.name, table(("MEMBER", "ID", "HASH", "STATE"), rows), *strange]
    if not answer["right"]:
        lines.append(
            "No majority holds the same. Take the member whose data is wrong out of the pillar, or "
            "restore a backup"
        )
    elif not answer["agree"]:
        lines.append(
            "One that differs: with the alarm CORRUPT, etcd_ha.orch replaces it by itself. Without "
            "it, stop etcd there, move its data directory aside, and run etcd_ha.orch"
        )
    sound = bool(answer["agree"]) and not strange
    data = {**answer, "odd": dict(odd or {})}
    return Report("\n".join(lines), sound, {cluster.name: data})


def _last_line(answer: object) -> str:
    """What an error of Salt's says in the end."""
    return brief(str(answer).strip().rpartition("\n")[2])


def certificates(cluster: Cluster, found: Mapping[str, Any], now: datetime) -> Report:
    """One cluster: a line for each certificate of each host, and what to do where that is needed.

    ``found`` is minion -> what ``etcd_ha.certificates`` returned there; hosts that did not answer
    are not in it.
    """
    if not cluster.tls:
        told = f"{cluster.name}\nTLS is off: there are no certificates"
        return Report(told, True, {cluster.name: {"certificates": []}})
    rows: list[tuple[str, ...]] = []
    for minion in cluster.hosts:
        rows += _certificate_rows(cluster, minion, found.get(minion), now)
    heads = ("HOST", "PURPOSE", "ISSUER", "EXPIRES (UTC)", "DAYS", "STATE")
    states = [row[-1] for row in rows]
    cures = [cure for state, cure in _cures(cluster).items() if state in states]
    sound = all(state == "ok" for state in states)
    if not sound and not cures:
        cures = ["Some hosts could not tell: see salt-run etcd_ha.plan"]
    data = [_certificate_data(row) for row in rows]
    text = "\n".join([cluster.name, table(heads, rows), *cures])
    return Report(text, sound, {cluster.name: {"certificates": data}})


def _certificate_data(row: tuple[str, ...]) -> dict[str, str | int | None]:
    """A line of the table as a program reads it; None is what is not known."""
    keys = ("host", "purpose", "issuer", "expires", "days", "state")
    known = [None if cell == "-" else cell for cell in row]
    found: dict[str, str | int | None] = dict(zip(keys, known, strict=True))
    return {**found, "days": int(found["days"]) if found["days"] else None}


def _certificate_rows(
    cluster: Cluster, minion: str, answer: Any, now: datetime
) -> list[tuple[str, ...]]:
    if answer is None or isinstance(answer, str):
        told = "no answer" if answer is None else _last_line(answer)
        return [(minion, "-", "-", "-", "-", told)]
    fault = etcd_ha_told.certificates_fault(answer)
    if fault:
        return [(minion, "-", "-", "-", "-", odd_answer(fault))]
    own = [one for one in answer if one["cluster"] == cluster.name]
    if not own:
        return [(minion, "-", "-", "-", "-", "none yet")]
    rows: list[tuple[str, ...]] = []
    for one in own:
        if "error" in one:
            rows.append((minion, brief(one["purpose"]), "-", "-", "-", brief(one["error"])))
            continue
        days = etcd_ha_machine.days_left({one["path"]: one["not_after"]}, now) or 0
        state = _validity(days, _window(cluster, one["purpose"]))
        cells = (one["purpose"], one["issuer"], one["not_after"], str(days), state)
        rows.append((minion, *map(brief, cells)))
    return rows


def _window(cluster: Cluster, purpose: str) -> int:
    """At how many days left a certificate is to be renewed; the formula's own CA has its own."""
    tls = cluster.settings["tls"]
    of_ca = purpose == "ca" and cluster.ca_minion is not None
    return int((tls["ca"] if of_ca else tls)["days_remaining"])


def _validity(days: int, window: int) -> str:
    if days < 0:
        return "expired"
    return "renew" if days < window else "ok"


def _cures(cluster: Cluster) -> dict[str, str]:
    """State -> what helps."""
    if cluster.ca_minion is None:
        cure = "put new ones in their place, then run salt-run state.orchestrate etcd_ha.orch"
    else:
        cure = "salt-run state.orchestrate etcd_ha.orch renews them"
    return {
        "expired": f"Some have expired: {cure}",
        "renew": f"Some end soon: {cure}",
        "none yet": "Some hosts have none yet: salt-run state.orchestrate etcd_ha.orch makes them",
    }


def consumer(cluster: Cluster, kind: str) -> str:
    """The settings of a program that uses the cluster; raises ValueError for an unknown one."""
    urls = client_urls(cluster)
    if kind == "kube-apiserver":
        lines = [f"--etcd-servers={','.join(urls)}"]
        if cluster.tls:
            lines += [
                "--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt",
                "--etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt",
                "--etcd-keyfile=/etc/kubernetes/pki/apiserver-etcd-client.key",
            ]
        return "\n".join(lines)
    if kind == "patroni":
        hosts = ", ".join(url.partition("://")[2] for url in urls)
        lines = ["etcd3:", f"  hosts: [{hosts}]", f"  protocol: {cluster.scheme}"]
        if cluster.tls:
            lines += [
                "  cacert: /etc/patroni/etcd-ca.crt",
                "  cert: /etc/patroni/etcd-client.crt",
                "  key: /etc/patroni/etcd-client.key",
            ]
        return "\n".join(lines)
    raise ValueError(f"{kind!r} is not a known consumer; use {' or '.join(CONSUMERS)}")
