"""What an etcd tells at its metrics port: of itself, of its cluster, and whether it has a quorum.

That port is plain HTTP on loopback, so it answers whatever a setting does to the client port.
https://etcd.io/docs/v3.6/op-guide/monitoring/
"""

import re

import etcd_ha_machine

# The most that is read; with `metrics: extensive` it is some hundred KiB.
_MOST = 8 << 20
_LINE = re.compile(r"([a-z_]+)(?:\{([^}]*)\})? (\S+)")
_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')


def read(url: str, timeout: float) -> str:
    """The text of ``URL/metrics``; raises OSError."""
    code, body = etcd_ha_machine.get(f"{url}/metrics", None, None, None, timeout, _MOST)
    if code != 200:
        raise OSError(f"{url}/metrics: HTTP {code}")
    return body


def reaches_quorum(url: str, timeout: float) -> bool:
    """Whether a read by consensus passes there, as ``URL/health`` makes one; raises OSError.

    Without a quorum etcd answers only after its own timeout of some seconds. Raises ValueError
    where what answers is not etcd's word on that.
    """
    code, body = etcd_ha_machine.get(f"{url}/health?exclude=NOSPACE", None, None, None, timeout)
    said = re.search(r'"health": *"(true|false)"', body)
    if said is None:
        raise ValueError(f"{url}/health answers {code} {body.strip()[:100]!r}")
    return code == 200 and said[1] == "true"


def cluster_version(text: str) -> str:
    """The version that the cluster has agreed on, as a release; ValueError where it tells none."""
    for labels, value in _rows(text, "etcd_cluster_version"):
        found = labels.get("cluster_version", "")
        if value == 1 and re.fullmatch(r"[0-9]{1,5}\.[0-9]{1,5}", found):
            return f"{found}.0"
    raise ValueError("the metrics do not tell the cluster's version")


def _rows(text: str, name: str) -> list[tuple[dict[str, str], float]]:
    """Labels and value of each line of a metric."""
    found = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line) if line.startswith(name) else None
        if match is None or match[1] != name:
            continue
        try:
            found.append((dict(_LABEL.findall(match[2] or "")), float(match[3])))
        except ValueError:
            continue
    return found
