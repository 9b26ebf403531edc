"""etcd's server flags: which each release knows, and what each is to a user of the formula.

The table is read from etcd itself. To check it, or to add a line::

    test/etcd_flags/read.py /path/to/etcd        # what a binary knows; test_etcd_flags.py compares

and, for what a flag takes, the flag set (``fs.BoolVar``, ``fs.UintVar``, ... in ``embed/config.go``
and ``etcdmain/config.go``)::

    go mod download -json go.etcd.io/etcd/server/v3@v3.7.1      # 3.6.14, 3.5.33 likewise

and for 3.4, whose server is no module of its own, the tags of etcd's repository::

    git show v3.4.45:etcdmain/config.go

Flags that came with a patch release are in ``_LATE`` (from 3.4.22 and 3.5.5 on). Flags that
etcd accepts and ignores (its list ``ignored``) are left out.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

Line = tuple[int, int]

OWNED: Mapping[str, str] = {
    "name": "members",
    "data-dir": "data_dir",
    "wal-dir": "wal_dir",
    "initial-cluster": "members",
    "initial-cluster-state": "members",
    "initial-cluster-token": "token",
    "initial-advertise-peer-urls": "members",
    "advertise-client-urls": "members",
    "listen-peer-urls": "ports:peer",
    "listen-client-urls": "ports:client",
    "listen-metrics-urls": "ports:metrics",
    "cert-file": "tls:files:server:certificate",
    "key-file": "tls:files:server:key",
    "trusted-ca-file": "tls:files:ca:certificate",
    "client-cert-auth": "tls:enabled",
    "peer-cert-file": "tls:files:peer:certificate",
    "peer-key-file": "tls:files:peer:key",
    "peer-trusted-ca-file": "tls:files:ca:certificate",
    "peer-client-cert-auth": "tls:enabled",
    "auto-tls": "tls:source",
    "peer-auto-tls": "tls:source",
    "tls-min-version": "tls:minimum_version",
}
"""Flags that the formula sets, and the key below ``etcd_ha:clusters:NAME`` that does it."""

_HTTP = (
    "etcd then answers no HTTP at the client port, and there the balancers' checks, monitoring and "
    "this formula ask for it; leave it out"
)
_STATIC = "the formula bootstraps by a static list; leave it out and name the members"
_PROXY = "the v2 proxy is not supported; leave it out and use load_balancers"

REFUSED: Mapping[str, str] = {
    "force-new-cluster": "it throws all other members away and loses data; leave it out",
    "unsafe-no-fsync": "a crash then loses acknowledged writes; leave it out",
    "config-file": "etcd would then silently ignore every other setting; leave it out",
    "listen-client-http-urls": _HTTP,
    "experimental-enable-v2v3": "beside enable-v2, etcd then breaks off each request for /health, "
    "by which the balancers check; leave it out",
    "next-cluster-version-compatible": "it is for going back from 3.5 to 3.4, which this formula "
    "does not do; leave it out",
    "version": "etcd would print its version and end; leave it out",
    "proxy": _PROXY,
}
"""Flags that must never be set, and why; so are ``discovery*`` and ``proxy-*`` (``never``)."""


@dataclass(frozen=True)
class Flag:
    """One flag: the first and the last line that know it (``until`` None: the newest too)."""

    name: str
    kind: str
    since: Line
    until: Line | None


# since, until, kind: names. Kinds: bool, int, uint (0 and up), duration (Go's "1m30s"),
# text, list (comma-separated), urls (comma-separated), gates (Name=true,...).
_TABLE: tuple[tuple[Line, Line | None, str, str], ...] = (
    ((3, 4), None, "bool", "auto-tls client-cert-auth enable-grpc-gateway enable-pprof"),
    ((3, 4), None, "bool", "force-new-cluster initial-election-tick-advance peer-auto-tls"),
    ((3, 4), None, "bool", "peer-client-cert-auth pre-vote strict-reconfig-check"),
    ((3, 4), None, "bool", "unsafe-no-fsync version"),
    ((3, 4), None, "duration", "backend-batch-interval grpc-keepalive-interval"),
    ((3, 4), None, "duration", "grpc-keepalive-min-time grpc-keepalive-timeout"),
    ((3, 4), None, "int", "backend-batch-limit quota-backend-bytes"),
    ((3, 4), None, "list", "cipher-suites client-cert-allowed-hostname host-whitelist"),
    ((3, 4), None, "list", "log-outputs peer-cert-allowed-cn peer-cert-allowed-hostname"),
    ((3, 4), None, "text", "auth-token auto-compaction-mode auto-compaction-retention cert-file"),
    ((3, 4), None, "text", "client-crl-file config-file data-dir discovery-fallback discovery-srv"),
    ((3, 4), None, "text", "discovery-srv-name initial-cluster initial-cluster-state"),
    ((3, 4), None, "text", "initial-cluster-token key-file log-level logger metrics name"),
    ((3, 4), None, "text", "peer-cert-file peer-crl-file peer-key-file peer-trusted-ca-file"),
    ((3, 4), None, "text", "tls-max-version tls-min-version trusted-ca-file wal-dir"),
    ((3, 4), None, "uint", "auth-token-ttl bcrypt-cost election-timeout heartbeat-interval"),
    ((3, 4), None, "uint", "max-concurrent-streams max-request-bytes max-snapshots max-txn-ops"),
    ((3, 4), None, "uint", "max-wals snapshot-count"),
    ((3, 4), None, "urls", "advertise-client-urls cors initial-advertise-peer-urls"),
    ((3, 4), None, "urls", "listen-client-http-urls listen-client-urls listen-metrics-urls"),
    ((3, 4), None, "urls", "listen-peer-urls"),
    ((3, 4), (3, 4), "bool", "debug next-cluster-version-compatible"),
    ((3, 4), (3, 4), "list", "log-output"),
    ((3, 4), (3, 4), "text", "experimental-backend-bbolt-freelist-type log-package-levels"),
    ((3, 4), (3, 5), "bool", "enable-v2"),
    ((3, 4), (3, 5), "text", "experimental-enable-v2v3 proxy"),
    ((3, 4), (3, 5), "uint", "proxy-dial-timeout proxy-failure-wait proxy-read-timeout"),
    ((3, 4), (3, 5), "uint", "proxy-refresh-interval proxy-write-timeout"),
    ((3, 4), (3, 6), "bool", "experimental-enable-lease-checkpoint"),
    ((3, 4), (3, 6), "bool", "experimental-enable-lease-checkpoint-persist"),
    ((3, 4), (3, 6), "bool", "experimental-initial-corrupt-check"),
    ((3, 4), (3, 6), "bool", "experimental-peer-skip-client-san-verification"),
    ((3, 4), (3, 6), "duration", "experimental-corrupt-check-time"),
    ((3, 4), (3, 6), "duration", "experimental-warning-apply-duration"),
    ((3, 4), (3, 6), "duration", "experimental-watch-progress-notify-interval"),
    ((3, 4), (3, 6), "int", "experimental-compaction-batch-limit"),
    ((3, 4), (3, 6), "text", "discovery discovery-proxy"),
    ((3, 5), (3, 6), "bool", "experimental-compact-hash-check-enabled"),
    ((3, 5), (3, 6), "bool", "experimental-enable-distributed-tracing experimental-memory-mlock"),
    ((3, 5), (3, 6), "bool", "experimental-stop-grpc-service-on-defrag"),
    ((3, 5), (3, 6), "bool", "experimental-txn-mode-write-with-shared-buffer"),
    ((3, 5), (3, 6), "duration", "experimental-compact-hash-check-time"),
    ((3, 5), (3, 6), "duration", "experimental-compaction-sleep-interval"),
    ((3, 5), (3, 6), "duration", "experimental-downgrade-check-time"),
    ((3, 5), (3, 6), "int", "experimental-distributed-tracing-sampling-rate"),
    ((3, 5), (3, 6), "text", "experimental-distributed-tracing-address"),
    ((3, 5), (3, 6), "text", "experimental-distributed-tracing-instance-id"),
    ((3, 5), (3, 6), "text", "experimental-distributed-tracing-service-name"),
    ((3, 5), (3, 6), "uint", "experimental-bootstrap-defrag-threshold-megabytes"),
    ((3, 5), (3, 6), "uint", "experimental-snapshot-catchup-entries"),
    ((3, 5), None, "bool", "enable-log-rotation socket-reuse-address socket-reuse-port"),
    ((3, 5), None, "duration", "raft-read-timeout raft-write-timeout"),
    ((3, 5), None, "text", "backend-bbolt-freelist-type client-cert-file client-key-file"),
    ((3, 5), None, "text", "log-rotation-config-json peer-client-cert-file peer-client-key-file"),
    ((3, 5), None, "text", "v2-deprecation"),
    ((3, 5), None, "uint", "self-signed-cert-validity"),
    ((3, 6), (3, 6), "duration", "experimental-warning-unary-request-duration"),
    ((3, 6), None, "bool", "discovery-insecure-skip-tls-verify discovery-insecure-transport"),
    ((3, 6), None, "bool", "enable-distributed-tracing memory-mlock"),
    ((3, 6), None, "bool", "peer-skip-client-san-verification"),
    ((3, 6), None, "duration", "compact-hash-check-time compaction-sleep-interval"),
    ((3, 6), None, "duration", "corrupt-check-time discovery-dial-timeout"),
    ((3, 6), None, "duration", "discovery-keepalive-time discovery-keepalive-timeout"),
    ((3, 6), None, "duration", "discovery-request-timeout downgrade-check-time"),
    ((3, 6), None, "duration", "warning-apply-duration warning-unary-request-duration"),
    ((3, 6), None, "duration", "watch-progress-notify-interval"),
    ((3, 6), None, "gates", "feature-gates"),
    ((3, 6), None, "int", "compaction-batch-limit distributed-tracing-sampling-rate max-learners"),
    ((3, 6), None, "list", "discovery-endpoints"),
    ((3, 6), None, "text", "discovery-cacert discovery-cert discovery-key discovery-password"),
    ((3, 6), None, "text", "discovery-token discovery-user distributed-tracing-address"),
    ((3, 6), None, "text", "distributed-tracing-instance-id distributed-tracing-service-name"),
    ((3, 6), None, "text", "log-format"),
    ((3, 6), None, "uint", "bootstrap-defrag-threshold-megabytes snapshot-catchup-entries"),
)
FLAGS: Mapping[str, Flag] = {
    name: Flag(name, kind, since, until)
    for since, until, kind, names in _TABLE
    for name in names.split()
}
NEWEST: Line = (3, 7)
OLDEST: Line = (3, 4)
# The first patch release of a line that knows the flag.
LATE: Mapping[str, Mapping[Line, int]] = {
    "listen-client-http-urls": {(3, 4): 25, (3, 5): 8},
    "tls-max-version": {(3, 4): 25, (3, 5): 8},
    "tls-min-version": {(3, 4): 25, (3, 5): 8},
    "next-cluster-version-compatible": {(3, 4): 31},
    "experimental-distributed-tracing-sampling-rate": {(3, 5): 11},
    "experimental-snapshot-catchup-entries": {(3, 5): 14},
    "experimental-stop-grpc-service-on-defrag": {(3, 5): 14},
    "experimental-compaction-sleep-interval": {(3, 5): 16},
}
# features/etcd_features.go, ExperimentalFlagToFeatureMap (3.6).
GATES: Mapping[str, str] = {
    "experimental-compact-hash-check-enabled": "CompactHashCheck",
    "experimental-enable-lease-checkpoint": "LeaseCheckpoint",
    "experimental-enable-lease-checkpoint-persist": "LeaseCheckpointPersist",
    "experimental-initial-corrupt-check": "InitialCorruptCheck",
    "experimental-stop-grpc-service-on-defrag": "StopGRPCServiceOnDefrag",
    "experimental-txn-mode-write-with-shared-buffer": "TxnModeWriteWithSharedBuffer",
}

_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")


def numbers(version: str) -> tuple[Line, int | None]:
    """The line and the patch release of a version; ValueError where its flags are not known."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ValueError(f"{version!r} is not an etcd version; write one such as '3.6.14'")
    line = (int(match[1]), int(match[2]))
    if not OLDEST <= line <= NEWEST:
        raise ValueError(
            f"the flags of etcd {version} are not known; use a release of "
            f"{shown(OLDEST)} to {shown(NEWEST)}"
        )
    return line, None if match[3] is None else int(match[3])


def shown(line: Line) -> str:
    """A line as people write it: 3.6."""
    return f"{line[0]}.{line[1]}"


@functools.lru_cache(maxsize=32)
def known(version: str) -> frozenset[str]:
    """All flags that this etcd knows; ``3.5`` means the newest release of the line."""
    return frozenset(name for name in FLAGS if _is_known(name, version))


def _is_known(flag: str, version: str) -> bool:
    line, patch = numbers(version)
    row = FLAGS[flag]
    if line < row.since or (row.until is not None and line > row.until):
        return False
    return patch is None or patch >= LATE.get(flag, {}).get(line, 0)


def never(flag: str) -> str:
    """Why this flag must never be set; empty where it may."""
    if re.fullmatch(r"discovery(-.*)?", flag):
        return _STATIC
    return REFUSED.get(flag, _PROXY if flag.startswith("proxy-") else "")


def owner(flag: str, version: str) -> str:
    """The pillar key below the cluster that sets this flag; empty where it is none of ours."""
    line, patch = numbers(version)
    old = line == (3, 4) or (line == (3, 5) and patch is not None and patch < 9)
    if flag == "tls-min-version" and old:
        # The formula's from 3.5.9 on; before that it sets none.
        return ""
    return OWNED.get(flag, "")
