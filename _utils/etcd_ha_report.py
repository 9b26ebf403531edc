"""A cluster as people and other programs read it: tables, and settings to paste."""

from collections.abc import Mapping, Sequence
from typing import Any

from etcd_ha_topology import Cluster

CONSUMERS = ("kube-apiserver", "patroni")


def client_urls(cluster: Cluster) -> list[str]:
    """Where clients should connect: the balancers, or the members where there is none."""
    if cluster.balancers:
        return [cluster.balancer_url(balancer) for balancer in cluster.balancers]
    return [cluster.client_url(member) for member in cluster.members]


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


def status(cluster: Cluster, facts: Mapping[str, Mapping[str, Any]]) -> str:
    """One cluster: a line for each member and balancer."""
    leading = max(
        (
            int((facts.get(m.minion, {}).get("etcd") or {}).get("raft_index", 0))
            for m in cluster.members
        ),
        default=0,
    )
    rows = []
    for member in cluster.members:
        etcd = facts.get(member.minion, {}).get("etcd") or {}
        rows.append(
            (
                member.name,
                member.address,
                _role(etcd),
                _health(member.minion in facts, etcd),
                etcd.get("version") or "-",
                etcd.get("revision", "-"),
                leading - int(etcd["raft_index"]) if "raft_index" in etcd else "-",
                size(int(etcd["db_size"])) if "db_size" in etcd else "-",
            )
        )
    for balancer in cluster.balancers:
        seen = facts.get(balancer.minion, {}).get("balancer") or {}
        health = _health(balancer.minion in facts, seen)
        rows.append((balancer.minion, balancer.address, "balancer", health, "-", "-", "-", "-"))
    heads = ("NAME", "ADDRESS", "ROLE", "HEALTH", "VERSION", "REVISION", "LAG", "DB")
    return f"{cluster.name}\n{table(heads, rows)}"


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
