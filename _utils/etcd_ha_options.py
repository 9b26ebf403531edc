"""etcd's server flags by version: which there are, which are the user's to set, and how.

The table is read from etcd itself. To check it, or to add a line, read what the flag set defines
(``fs.BoolVar``, ``fs.UintVar``, ... in ``embed/config.go`` and ``etcdmain/config.go``)::

    go mod download -json go.etcd.io/etcd/server/v3@v3.7.1      # 3.6.14, 3.5.33 likewise

and for 3.4, whose server is no module of its own, the tags of etcd's repository::

    git show v3.4.45:etcdmain/config.go

A binary tells too: where it does not know a flag, it ends with "flag provided but not defined"::

    etcd --version --FLAG=x

Flags that came with a patch release are in ``_LATE`` (from 3.4.22 and 3.5.5 on). Flags that
etcd accepts and ignores (its list ``ignored``) are left out.
"""

import difflib
import functools
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

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

_STATIC = "the formula bootstraps by a static list; leave it out and name the members"
_PROXY = "the v2 proxy is not supported; leave it out and use load_balancers"

REFUSED: Mapping[str, str] = {
    "force-new-cluster": "it throws all other members away and loses data; leave it out",
    "unsafe-no-fsync": "a crash then loses acknowledged writes; leave it out",
    "config-file": "etcd would then silently ignore every other setting; leave it out",
    "version": "etcd would print its version and end; leave it out",
    "proxy": _PROXY,
}
"""Flags that must never be set, and why. ``discovery*`` and ``proxy-*`` are refused too."""


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
_FLAGS: Mapping[str, Flag] = {
    name: Flag(name, kind, since, until)
    for since, until, kind, names in _TABLE
    for name in names.split()
}
_NEWEST: Line = (3, 7)
_OLDEST: Line = (3, 4)
# The first patch release of a line that knows the flag.
_LATE: Mapping[str, Mapping[Line, int]] = {
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
_GATES: Mapping[str, str] = {
    "experimental-compact-hash-check-enabled": "CompactHashCheck",
    "experimental-enable-lease-checkpoint": "LeaseCheckpoint",
    "experimental-enable-lease-checkpoint-persist": "LeaseCheckpointPersist",
    "experimental-initial-corrupt-check": "InitialCorruptCheck",
    "experimental-stop-grpc-service-on-defrag": "StopGRPCServiceOnDefrag",
    "experimental-txn-mode-write-with-shared-buffer": "TxnModeWriteWithSharedBuffer",
}
# Lists from 3.5.15 on; before, etcd takes "a,b" for one name and refuses every certificate.
_ONE_NAME = frozenset(
    {"client-cert-allowed-hostname", "peer-cert-allowed-cn", "peer-cert-allowed-hostname"}
)
_SECRET = frozenset({"discovery-password", "discovery-user"})
_MOST = {"max-concurrent-streams": 2**32 - 1}
_HEARTBEAT, _ELECTION, _LONGEST_ELECTION = 100, 1000, 50000  # ms; etcd's defaults and its limit
_ADVISED_QUOTA = 8 * 1024**3

_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")
# As many digits as 64 bits hold.
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,18})", re.ASCII)
_UNITS: Mapping[str, Fraction] = {
    "ns": Fraction(1),
    "us": Fraction(10**3),
    "µs": Fraction(10**3),
    "ms": Fraction(10**6),
    "s": Fraction(10**9),
    "m": Fraction(60 * 10**9),
    "h": Fraction(3600 * 10**9),
}
_DURATION = re.compile(rf"0|([0-9]+(\.[0-9]+)?({'|'.join(_UNITS)}))+", re.ASCII)
_PART = re.compile(rf"([0-9]+(?:\.[0-9]+)?)({'|'.join(_UNITS)})", re.ASCII)
_LONGEST_DURATION = 60  # characters
_URL = re.compile(r"(https?|unixs?)://[^\s,/]+/?")
# Texts of which etcd knows a few alone: with another one it does not start.
_WORDS: Mapping[str, tuple[str, ...]] = {
    "auto-compaction-mode": ("periodic", "revision"),
    "backend-bbolt-freelist-type": ("array", "map"),
    "experimental-backend-bbolt-freelist-type": ("array", "map"),
    "log-format": ("json", "console"),
    "log-level": ("debug", "info", "warn", "error", "panic", "fatal"),
    "metrics": ("basic", "extensive"),
}
_GATE = re.compile(r"[A-Za-z0-9]+=(true|false)")


def variable(flag: str) -> str:
    """The environment variable of a flag: ``heartbeat-interval`` -> ``ETCD_HEARTBEAT_INTERVAL``."""
    return "ETCD_" + flag.upper().replace("-", "_")


def text(value: object) -> str:
    """A value from YAML as etcd reads it: true, 100, 5s, a,b."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(text(item) for item in value)
    return str(value)


@functools.lru_cache(maxsize=32)
def flags(version: str) -> frozenset[str]:
    """All flags that this etcd knows; ``3.5`` means the newest release of the line."""
    return frozenset(name for name in _FLAGS if _known(name, version))


def check(version: str, options: Mapping[str, object], key: str) -> list[str]:
    """All faults of an ``options`` mapping, each a sentence that begins with its pillar key."""
    if not isinstance(options, Mapping):
        return [f"{key} is {options!r}; it maps flags of etcd to values"]
    if not options:
        return []
    try:
        known = flags(version)
    except ValueError as err:
        return [f"{key}: {err}"]
    faults: list[str] = []
    for flag, value in options.items():
        where = _where(key, flag)
        fault = _name_fault(version, flag, known, key)
        if fault is None:
            fault = _value_fault(_FLAGS[flag], value) or _one_name_fault(version, flag, value)
        if fault is not None:
            shown = "set" if flag in _SECRET else _shown(value)
            faults.append(f"{where} is {shown}, but {fault}")
    return faults + _pair_faults(options, key) + _timing_faults(options, key)


def warnings(version: str, options: Mapping[str, object], key: str) -> list[str]:
    """What is allowed but not advised, each a sentence that begins with its pillar key."""
    quota = _number(options.get("quota-backend-bytes"))
    if quota is None or quota <= _ADVISED_QUOTA:
        return []
    # https://etcd.io/docs/v3.6/dev-guide/limit/#storage-size-limit
    return [
        f"{key}:quota-backend-bytes is {quota}, which is above 8 GiB ({_ADVISED_QUOTA}), the most "
        f"that etcd {version} is advised to hold; restarts and new members become slow"
    ]


def _numbers(version: str) -> tuple[Line, int | None]:
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ValueError(f"{version!r} is not an etcd version; write one such as '3.6.14'")
    line = (int(match[1]), int(match[2]))
    if not _OLDEST <= line <= _NEWEST:
        raise ValueError(
            f"the flags of etcd {version} are not known; use a release of "
            f"{_line(_OLDEST)} to {_line(_NEWEST)}"
        )
    return line, None if match[3] is None else int(match[3])


def _line(line: Line) -> str:
    return f"{line[0]}.{line[1]}"


def _known(flag: str, version: str) -> bool:
    line, patch = _numbers(version)
    row = _FLAGS.get(flag)
    if row is None or line < row.since or (row.until is not None and line > row.until):
        return False
    return patch is None or patch >= _LATE.get(flag, {}).get(line, 0)


def _where(key: str, flag: object) -> str:
    plain = isinstance(flag, str) and flag.isprintable()
    return f"{key}:{flag if plain else repr(flag)}"


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _name_fault(version: str, flag: object, known: frozenset[str], key: str) -> str | None:
    if not isinstance(flag, str):
        return "a flag's name is text; quote it"
    reason = REFUSED.get(flag)
    if reason is None and re.fullmatch(r"discovery(-.*)?", flag):
        reason = _STATIC
    if reason is None and flag.startswith("proxy-"):
        reason = _PROXY
    if reason is not None:
        return f"this flag is never allowed: {reason}"
    if flag in OWNED and not _is_free(flag, version):
        parts = key.split(":")
        base = ":".join(parts[:3]) if parts[:2] == ["etcd_ha", "clusters"] else "the cluster"
        return f"the formula owns this flag; use {base}:{OWNED[flag]}"
    line, _ = _numbers(version)
    if flag == "logger" and line == (3, 4):
        return "the formula sets logger to zap on 3.4; leave it out"
    if flag not in known:
        return _unknown(version, flag, known)
    if flag in _GATES and line >= (3, 6):
        # etcd 3.6 refuses to start where both the flag and its gate are set, and the formula
        # sets feature-gates (SetFeatureGatesFromExperimentalFlags in embed/config.go).
        return f"it clashes with feature-gates; use feature-gates: {_GATES[flag]}=true (or =false)"
    return None


def _is_free(flag: str, version: str) -> bool:
    """tls-min-version is the formula's from 3.5.9 on; before that it sets none."""
    if flag != "tls-min-version":
        return False
    line, patch = _numbers(version)
    return line == (3, 4) or (line == (3, 5) and patch is not None and patch < 9)


def _unknown(version: str, flag: str, known: frozenset[str]) -> str:
    row = _FLAGS.get(flag)
    line, _ = _numbers(version)
    if row is not None:
        successor = _successor(flag, known)
        cure = f"use {successor}" if successor else "leave it out"
        if row.until is not None and line > row.until:
            return f"etcd {version} dropped this flag ({_line(row.until)} was the last); {cure}"
        patch = _LATE.get(flag, {}).get(line)
        first = _line(row.since) if patch is None else f"{_line(line)}.{patch}"
        cure = f"use {successor}, or {first} or newer" if successor else f"use {first} or newer"
        return f"etcd {version} does not know this flag yet (since {first}); {cure}"
    wanted = flag.lower().strip().lstrip("-").replace("_", "-").removeprefix("etcd-")
    free = sorted(name for name in known if name not in OWNED and name not in REFUSED)
    near = [wanted] if wanted in known else difflib.get_close_matches(wanted, free, n=1)
    near = near or difflib.get_close_matches(wanted, sorted(known), n=1)
    cure = f"did you mean {near[0]!r}?" if near else f"see `etcd --help` of {version}"
    return f"etcd {version} has no such flag; {cure}"


def _successor(flag: str, known: frozenset[str]) -> str | None:
    """What sets the same in a version that lacks the flag."""
    if flag in _GATES and "feature-gates" in known:
        return f"feature-gates: {_GATES[flag]}=true (or =false)"
    if flag == "debug":
        return "log-level: debug"
    if flag == "log-output":
        return "log-outputs"
    plain = flag.removeprefix("experimental-")
    for name in (plain, f"experimental-{plain}"):
        if name != flag and name in known:
            return name
    return None


def _value_fault(flag: Flag, value: object) -> str | None:
    if value is None:
        return "it has no value; give one or leave the flag out"
    if isinstance(value, Mapping):
        form = "text such as InitialCorruptCheck=true" if flag.kind == "gates" else "a single value"
        return f"a mapping cannot be given to etcd; write {form}"
    many = isinstance(value, (list, tuple))
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    if many and flag.kind not in ("list", "urls", "gates"):
        return f"this flag takes {_wanted(flag)}, not a list"
    if not items or (isinstance(value, str) and not value.strip()):
        return "etcd ignores an empty value; give one or leave the flag out"
    if any(isinstance(item, str) and not _is_clean(item) for item in items):
        return "it has a line break or control character; write it on one line of plain text"
    if many and any(not isinstance(item, (str, int)) or "," in str(item) for item in items):
        return "every item is text without a comma; quote it"
    if isinstance(value, float):
        return f"YAML made a fraction of it, and this flag takes {_wanted(flag)}; quote text"
    fault = _kind_fault(flag, value, [part for item in items for part in text(item).split(",")])
    return fault or _word_fault(flag.name, value)


def _one_name_fault(version: str, flag: str, value: object) -> str | None:
    line, patch = _numbers(version)
    lists = line > (3, 5) or (line == (3, 5) and (patch is None or patch >= 15))
    if lists or flag not in _ONE_NAME or "," not in text(value):
        return None
    return f"etcd {version} takes one name here; give one, or use 3.5.15 or newer"


def _is_clean(value: str) -> bool:
    return not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in value)


def _wanted(flag: Flag) -> str:
    return {
        "bool": "true or false",
        "int": "a whole number",
        "uint": f"a whole number from 0 to {_MOST.get(flag.name, 2**63 - 1)}",
        "duration": "a time with its unit, such as 500ms, 5s or 1h30m",
        "text": "text",
        "list": "text or a list of texts",
        "urls": "URLs such as http://127.0.0.1:2379",
        "gates": "Name=true or Name=false, comma-separated",
    }[flag.kind]


def _kind_fault(flag: Flag, value: object, parts: list[str]) -> str | None:
    kind = flag.kind
    if kind == "bool":
        good = isinstance(value, bool) or value in ("true", "false")
    elif isinstance(value, bool) or any(not part for part in parts if kind in ("list", "urls")):
        good = False
    elif kind in ("int", "uint"):
        number = _number(value)
        low, high = (0 if kind == "uint" else -(2**63)), _MOST.get(flag.name, 2**63 - 1)
        good = number is not None and low <= number <= high
    elif kind == "duration":
        good = value == 0 or (isinstance(value, str) and _is_duration(value))
    elif kind == "urls":
        good = all(_URL.fullmatch(part) or (part == "*" and flag.name == "cors") for part in parts)
    elif kind == "gates":
        good = all(_GATE.fullmatch(part) for part in parts)
    else:
        # YAML turns an unquoted date into a date and an unquoted yes into true.
        items = value if isinstance(value, (list, tuple)) else [value]
        good = all(isinstance(item, (str, int)) and not isinstance(item, bool) for item in items)
    if good:
        return None
    hint = "; quote it if it is meant as text" if kind in ("text", "list") else ""
    return f"this flag takes {_wanted(flag)}{hint}"


def _word_fault(flag: str, value: object) -> str | None:
    words = _WORDS.get(flag)
    if words and value not in words:
        return f"etcd would not start with it; use {' or '.join(words)}"
    if flag == "auto-compaction-retention" and not (
        _number(value) is not None or _is_duration(str(value))
    ):
        return "etcd would not start with it; give a whole number, or a time such as 30m"
    return None


def _is_duration(value: str) -> bool:
    return _DURATION.fullmatch(value) is not None and not is_too_long(value)


def is_too_long(duration: str) -> bool:
    """Whether Go cannot hold a duration: 292 years in nanoseconds (time.ParseDuration)."""
    if len(duration) > _LONGEST_DURATION:
        return True
    parts = _PART.findall(duration)
    return sum(Fraction(number) * _UNITS[unit] for number, unit in parts) >= 2**63


def _number(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else None


def _pair_faults(options: Mapping[str, object], key: str) -> list[str]:
    """A flag under both its names: one of the two would be lost."""
    return [
        f"{key}:{flag} is {_shown(value)}, but {plain} is set too; keep {plain} alone"
        for flag, value in options.items()
        if isinstance(flag, str)
        and (plain := flag.removeprefix("experimental-")) != flag
        and plain in options
        and flag in _FLAGS
    ]


def _timing_faults(options: Mapping[str, object], key: str) -> list[str]:
    """etcd's own check at its start (Validate in embed/config.go), with its defaults."""
    beat = _number(options.get("heartbeat-interval", _HEARTBEAT))
    election = _number(options.get("election-timeout", _ELECTION))
    faults = [
        f"{key}:{name} is {value}, but it must be above 0; give milliseconds"
        for name, value in (("heartbeat-interval", beat), ("election-timeout", election))
        if value == 0
    ]
    if beat is None or election is None or beat <= 0 or election <= 0:
        return faults
    if election < 5 * beat:
        name = "election-timeout" if "election-timeout" in options else "heartbeat-interval"
        value = election if name == "election-timeout" else beat
        faults.append(
            f"{key}:{name} is {value}, but the election timeout ({election} ms) must be at least "
            f"5 times the heartbeat interval ({beat} ms); "
            f"set election-timeout to {5 * beat} or more"
        )
    if election > _LONGEST_ELECTION:
        faults.append(
            f"{key}:election-timeout is {election}, but etcd allows {_LONGEST_ELECTION} ms at most"
        )
    return faults
