"""The pillar's ``options``: which flags of etcd may stand there, with which values.

Which flags there are, and whose each is: etcd_ha_etcd_flags.
"""

import difflib
import re
import unicodedata
from collections.abc import Mapping
from fractions import Fraction

import etcd_ha_etcd_flags
import etcd_ha_pillar_option_bounds
from etcd_ha_etcd_flags import FLAGS, GATES, LATE, OWNED, REFUSED, Flag, numbers, shown
from etcd_ha_pillar_option_bounds import Given

# Lists from 3.5.15 on; before, etcd takes "a,b" for one name and refuses every certificate.
_ONE_NAME = frozenset(
    {"client-cert-allowed-hostname", "peer-cert-allowed-cn", "peer-cert-allowed-hostname"}
)
_SECRET = frozenset({"discovery-password", "discovery-user"})
_MOST = {"max-concurrent-streams": 2**32 - 1}
_HEARTBEAT, _ELECTION, _LONGEST_ELECTION = 100, 1000, 50000  # ms; etcd's defaults and its limit
_ADVISED_QUOTA = 8 * 1024**3

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
# What a flag counts that is a number without a unit, and how people write such an amount.
_OF: Mapping[str, str] = {
    "quota-backend-bytes": "bytes",
    "max-request-bytes": "bytes",
    "heartbeat-interval": "milliseconds",
    "election-timeout": "milliseconds",
    "auth-token-ttl": "seconds",
}
_IN_NANOSECONDS = {"milliseconds": 10**6, "seconds": 10**9}
# 8GiB and 8G are powers of 1024, as in Kubernetes' Gi and the shell's ulimit; 8GB is one of 1000.
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?) ?([KMGT])(iB|i|B)?", re.ASCII | re.I)
_URL = re.compile(r"(https?|unixs?)://[^\s,/]+/?")
# Texts of which etcd knows a few alone: with another one it does not start.
_WORDS: Mapping[str, tuple[str, ...]] = {
    "auto-compaction-mode": ("periodic", "revision"),
    "backend-bbolt-freelist-type": ("array", "map"),
    "experimental-backend-bbolt-freelist-type": ("array", "map"),
    "log-format": ("json", "console"),
    "log-level": ("debug", "info", "warn", "error", "panic", "fatal"),
    "logger": ("zap",),
    "tls-max-version": ("TLS1.2", "TLS1.3"),
    "tls-min-version": ("TLS1.2", "TLS1.3"),
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


def flags(version: str) -> frozenset[str]:
    """All flags that this etcd knows; ``3.5`` means the newest release of the line."""
    return etcd_ha_etcd_flags.known(version)


def check(
    version: str,
    options: Mapping[str, object],
    key: str,
    settings: Mapping[str, object] | None = None,
) -> list[str]:
    """All faults of an ``options`` mapping, each a sentence that begins with its pillar key.

    ``settings`` are the cluster's, by which some options are allowed or not.
    """
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
            fault = _value_fault(FLAGS[flag], value) or _one_name_fault(version, flag, value)
            fault = fault or bound_fault(version, flag, options, settings or {}) or None
        if fault is not None:
            shown = "set" if flag in _SECRET else _shown(value)
            faults.append(f"{where} is {shown}, but {fault}")
    return faults + _pair_faults(options, key) + _timing_faults(options, key)


def bound_fault(
    version: str, flag: str, options: Mapping[str, object], settings: Mapping[str, object]
) -> str:
    """Which condition of an option is not met; empty where all are."""
    tls = settings.get("tls")
    tls = tls if isinstance(tls, Mapping) else {}
    folders = [settings.get("data_dir", "/var/lib/etcd"), settings.get("wal_dir")]
    given = Given(
        line=numbers(version)[0],
        value=text(options[flag]),
        options=options,
        tls=tls.get("enabled", True) is not False,
        source=str(tls.get("source", "salt")),
        minimum=str(tls.get("minimum_version", "TLS1.2")),
        folders=tuple(str(folder) for folder in folders if folder),
    )
    return etcd_ha_pillar_option_bounds.fault(flag, given)


def allowed(
    version: str, options: Mapping[str, object], settings: Mapping[str, object]
) -> dict[str, str]:
    """The options that a release takes, as texts: on the way to the pillar's, etcd is another one.

    The pillar is checked for its own version. A release in between may not know an option, or not
    bear it.
    """
    there = {flag: value for flag, value in options.items() if flag in flags(version)}
    return {
        flag: text(value)
        for flag, value in there.items()
        if not bound_fault(version, flag, there, settings)
    }


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


def _where(key: str, flag: object) -> str:
    plain = isinstance(flag, str) and flag.isprintable()
    return f"{key}:{flag if plain else repr(flag)}"


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _name_fault(version: str, flag: object, known: frozenset[str], key: str) -> str | None:
    if not isinstance(flag, str):
        return "a flag's name is text; quote it"
    reason = etcd_ha_etcd_flags.never(flag)
    if reason:
        return f"this flag is never allowed: {reason}"
    if etcd_ha_etcd_flags.owner(flag, version):
        parts = key.split(":")
        base = ":".join(parts[:3]) if parts[:2] == ["etcd_ha", "clusters"] else "the cluster"
        return f"the formula owns this flag; use {base}:{OWNED[flag]}"
    line, _ = numbers(version)
    if flag == "logger" and line == (3, 4):
        return "the formula sets logger to zap on 3.4; leave it out"
    if flag not in known:
        return _unknown(version, flag, known)
    if flag in GATES and line >= (3, 6):
        # etcd 3.6 refuses to start where both the flag and its gate are set, and the formula
        # sets feature-gates (SetFeatureGatesFromExperimentalFlags in embed/config.go).
        return f"it clashes with feature-gates; use feature-gates: {GATES[flag]}=true (or =false)"
    return None


def _unknown(version: str, flag: str, known: frozenset[str]) -> str:
    row = FLAGS.get(flag)
    line, _ = numbers(version)
    if row is not None:
        successor = _successor(flag, known)
        cure = f"use {successor}" if successor else "leave it out"
        if row.until is not None and line > row.until:
            return f"etcd {version} dropped this flag ({shown(row.until)} was the last); {cure}"
        patch = LATE.get(flag, {}).get(line)
        first = shown(row.since) if patch is None else f"{shown(line)}.{patch}"
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
    if flag in GATES and "feature-gates" in known:
        return f"feature-gates: {GATES[flag]}=true (or =false)"
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
    line, patch = numbers(version)
    lists = line > (3, 5) or (line == (3, 5) and (patch is None or patch >= 15))
    if lists or flag not in _ONE_NAME or "," not in text(value):
        return None
    return f"etcd {version} takes one name here; give one, or use 3.5.15 or newer"


def _is_clean(value: str) -> bool:
    return not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in value)


def _wanted(flag: Flag) -> str:
    if flag.name in _OF:
        return f"a whole number of {_OF[flag.name]}"
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
    meant = _meant(flag.name, value)
    hint = f": write {meant}" if meant else hint
    return f"this flag takes {_wanted(flag)}{hint}"


def _meant(flag: str, value: object) -> str:
    """The number of a value with a unit, where this flag takes none (8GiB, 250ms); or empty."""
    unit = _OF.get(flag, "")
    size = _SIZE.fullmatch(value) if unit == "bytes" and isinstance(value, str) else None
    if size is not None:
        decimal = 1000 if size[3] and size[3].upper() == "B" else 1024
        power = "KMGT".index(size[2].upper()) + 1
        number = Fraction(size[1]) * decimal**power
    elif unit in _IN_NANOSECONDS and isinstance(value, str) and _is_duration(value):
        nanoseconds = sum(Fraction(n) * _UNITS[u] for n, u in _PART.findall(value))
        number = nanoseconds / _IN_NANOSECONDS[unit]
    else:
        return ""
    return str(number) if number.denominator == 1 and number > 0 else ""


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
        and flag in FLAGS
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
