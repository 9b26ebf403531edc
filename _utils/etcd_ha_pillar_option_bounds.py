"""Options of etcd that are allowed under a condition: with what, why, and what helps.

Outside its condition such an option costs the path from clients to data: the balancers' checks,
root's etcdctl, an upgrade, a member that joins. docs/options.md shows this table.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from etcd_ha_etcd_flags import Line


@dataclass(frozen=True)
class Given:
    """One option where it stands: its value, the line, and what the pillar says beside it."""

    line: Line
    value: str
    options: Mapping[str, object]
    tls: bool
    source: str
    minimum: str
    folders: tuple[str, ...]

    @property
    def parts(self) -> Sequence[str]:
        return [part.strip() for part in self.value.split(",")]


@dataclass(frozen=True)
class Bound:
    """A condition of a flag. ``needs`` and ``why`` are parts of a sentence: "it needs ..."."""

    needs: str
    why: str
    holds: Callable[[Given], bool]


_JOURNALED = ("default", "stderr", "stdout", "systemd/journal")
# features/etcd_features.go of each line; test/etcd_flags has them from the binaries.
GATES: Mapping[Line, str] = {
    (3, 6): "AllAlpha AllBeta CompactHashCheck InitialCorruptCheck LeaseCheckpoint "
    "LeaseCheckpointPersist SetMemberLocalAddr StopGRPCServiceOnDefrag TxnModeWriteWithSharedBuffer"
}
GATES = {**GATES, (3, 7): f"{GATES[3, 6]} FastLeaseKeepAlive PriorityRequest"}
_SECONDS: Mapping[str, Fraction] = {
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")


def _whole(text: str) -> int:
    return int(text) if re.fullmatch(r"-?[0-9]{1,19}", text) else 0


def _between(low: int, high: int) -> Callable[[Given], bool]:
    return lambda given: low <= _whole(given.value) <= high


def _is_true(given: Given) -> bool:
    return given.value == "true"


def _has_own_certificates(given: Given) -> bool:
    return given.source != "salt"


def _beside(other: str) -> Callable[[Given], bool]:
    return lambda given: other in given.options


def _is_journaled(given: Given) -> bool:
    files = [part for part in given.parts if part not in _JOURNALED]
    return len(files) < len(given.parts) and all(
        any(file.startswith(f"{folder}/") for folder in given.folders) and ".." not in file
        for file in files
    )


def _has_a_file(given: Given) -> bool:
    outputs = given.options.get("log-outputs", "")
    parts = outputs if isinstance(outputs, (list, tuple)) else str(outputs).split(",")
    return given.value != "true" or sum(str(part).startswith("/") for part in parts) == 1


def _knows_gates(given: Given) -> bool:
    known = GATES.get(given.line, "").split()
    return all(part.partition("=")[0] in known for part in given.parts)


def _checkpoints(given: Given) -> bool:
    on = {gate for gate, _, value in (p.partition("=") for p in given.parts) if value == "true"}
    return "LeaseCheckpointPersist" not in on or bool(on & {"LeaseCheckpoint", "AllAlpha"})


def _checked_often(given: Given) -> bool:
    parts = _PART.findall(given.value)
    seconds = sum(Fraction(number) * _SECONDS[unit] for number, unit in parts)
    return Fraction(1, 10) <= seconds <= 10


def _has_ports(given: Given) -> bool:
    return all(part == "*" or re.search(r":[0-9]{1,5}/?$", part) for part in given.parts)


def _has_http2(given: Given) -> bool:
    suites = "TLS_ECDHE_{}_WITH_AES_128_GCM_SHA256"
    return any(suites.format(kind) in given.parts for kind in ("RSA", "ECDSA"))


def _is_v2_kept(given: Given) -> bool:
    return given.value in ("not-yet", "write-only")


_OWN = "certificates of your own (tls:source files or pillar)"
_NAMELESS = (
    "the certificates that this formula makes for root's etcdctl and the balancers have no such "
    "name, so both would be refused"
)
_PEERS = "this formula sets peer-cert-allowed-hostname to a name that its peer certificates have"
_CHECK = "a downgrade waits for that check, 30 s at most"
_PAIR = "etcd starts with both or none"

BOUNDS: Mapping[str, tuple[Bound, ...]] = {
    "enable-grpc-gateway": (
        Bound(
            "etcd 3.6 or newer to be false",
            "before 3.6 the balancers ask by it whether a member is a learner, and without it take "
            "all members for down",
            lambda given: given.line >= (3, 6) or _is_true(given),
        ),
    ),
    "enable-v2": (
        Bound(
            "v2-deprecation to be left out or not-yet, to be true",
            "etcd does not start otherwise",
            lambda given: (
                not _is_true(given) or given.options.get("v2-deprecation", "not-yet") == "not-yet"
            ),
        ),
    ),
    "strict-reconfig-check": (
        Bound("true", "etcd would take a change of members that costs the quorum", _is_true),
    ),
    "client-cert-allowed-hostname": (Bound(_OWN, _NAMELESS, _has_own_certificates),),
    "peer-cert-allowed-cn": (Bound(_OWN, _PEERS, _has_own_certificates),),
    "peer-cert-allowed-hostname": (
        Bound(_OWN, _PEERS, _has_own_certificates),
        Bound(
            "peer-cert-allowed-cn to be left out",
            "etcd does not start with both",
            lambda given: "peer-cert-allowed-cn" not in given.options,
        ),
    ),
    "cipher-suites": (
        Bound(
            "tls:minimum_version TLS1.2",
            "etcd does not start with cipher suites where it speaks TLS 1.3 alone",
            lambda given: given.minimum != "TLS1.3",
        ),
        # https://github.com/etcd-io/etcd/issues/10652
        Bound(
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 "
            "among them",
            "etcd does not start otherwise, for HTTP/2 asks for it",
            _has_http2,
        ),
    ),
    "cors": (
        Bound(
            "URLs with a port, such as https://ui.example.com:443, or *",
            "etcd does not start otherwise",
            _has_ports,
        ),
    ),
    "tls-max-version": (
        Bound(
            "to be no lower than tls:minimum_version",
            "etcd does not start otherwise",
            lambda given: given.value == "TLS1.3" or given.minimum != "TLS1.3",
        ),
    ),
    "host-whitelist": (
        Bound(
            "tls:enabled true",
            "without TLS etcd refuses every request for another host name, the balancers' checks "
            "among them",
            lambda given: given.tls,
        ),
    ),
    "log-outputs": (
        Bound(
            f"one of {', '.join(_JOURNALED)}, and files below data_dir alone",
            "errors of a member are told from its journal, and its unit lets it write nowhere else",
            _is_journaled,
        ),
    ),
    "log-output": (
        Bound(
            f"one of {', '.join(_JOURNALED)}",
            "errors of a member are told from its journal",
            _is_journaled,
        ),
    ),
    "enable-log-rotation": (
        Bound("one file among log-outputs", "etcd does not start otherwise", _has_a_file),
    ),
    "max-learners": (Bound("1 or more", "a new member joins as a learner", _between(1, 1000)),),
    "max-request-bytes": (
        Bound(
            "65536 (64 KiB) or more",
            "etcd would refuse ordinary writes, which is seen only once all members have it",
            _between(65536, 2**63 - 1),
        ),
    ),
    "quota-backend-bytes": (
        Bound(
            "16777216 (16 MiB) or more, 0 for etcd's default, or -1 for none",
            "it counts bytes, and etcd takes no write once the database has reached it",
            lambda given: _whole(given.value) <= 0 or _whole(given.value) >= 16 << 20,
        ),
    ),
    "max-txn-ops": (
        Bound("16 or more", "etcd would refuse ordinary transactions", _between(16, 2**63 - 1)),
    ),
    "max-concurrent-streams": (
        Bound(
            "16 or more",
            "a client's watches and requests would wait for each other",
            _between(16, 2**32 - 1),
        ),
    ),
    "bcrypt-cost": (Bound("4 to 31", "bcrypt knows no other cost", _between(4, 31)),),
    "downgrade-check-time": (Bound("100ms to 10s", _CHECK, _checked_often),),
    "experimental-downgrade-check-time": (Bound("100ms to 10s", _CHECK, _checked_often),),
    "experimental-enable-lease-checkpoint-persist": (
        Bound(
            "experimental-enable-lease-checkpoint",
            "etcd does not start otherwise",
            lambda given: (
                not _is_true(given)
                or str(given.options.get("experimental-enable-lease-checkpoint", "")).lower()
                == "true"
            ),
        ),
    ),
    "feature-gates": (
        Bound("gates that this etcd has", "etcd does not start with an unknown one", _knows_gates),
        Bound(
            "LeaseCheckpoint=true beside LeaseCheckpointPersist=true",
            "etcd does not start otherwise",
            _checkpoints,
        ),
    ),
    "v2-deprecation": (
        Bound(
            "not-yet or write-only",
            "the other phases skip etcd's check of the v2 store or delete what is in it",
            _is_v2_kept,
        ),
    ),
    "client-cert-file": (Bound("client-key-file", _PAIR, _beside("client-key-file")),),
    "client-key-file": (Bound("client-cert-file", _PAIR, _beside("client-cert-file")),),
    "peer-client-cert-file": (
        Bound("peer-client-key-file", _PAIR, _beside("peer-client-key-file")),
    ),
    "peer-client-key-file": (
        Bound("peer-client-cert-file", _PAIR, _beside("peer-client-cert-file")),
    ),
}


def fault(flag: str, given: Given) -> str:
    """Which condition of this flag is not met, and why it is one; empty where all are."""
    for bound in BOUNDS.get(flag, ()):
        if not bound.holds(given):
            return f"this flag needs {bound.needs}: {bound.why}"
    return ""
