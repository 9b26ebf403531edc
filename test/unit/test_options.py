"""etcd's flags by version, and what the formula says about wrong options."""

from __future__ import annotations

import datetime

import etcd_ha_options as options
import pytest
from hypothesis import given
from hypothesis import strategies as st

HTTP2 = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
KEY = "etcd_ha:clusters:main:options"
LINES = ("3.4.45", "3.5.33", "3.6.14", "3.7.1")


def only(version, flag, value):
    """The one fault of one option."""
    faults = options.check(version, {flag: value}, KEY)
    assert len(faults) == 1, faults
    return faults[0]


def fine(version, **given_options):
    named = {name.replace("_", "-"): value for name, value in given_options.items()}
    assert options.check(version, named, KEY) == []


# Counted in the sources of these releases (see the module's docstring), without the ignored flags.
@pytest.mark.parametrize(
    ("version", "count"),
    [("3.4.23", 86), ("3.5.5", 105), ("3.5.33", 112), ("3.6.14", 138), ("3.7.1", 113)],
)
def test_number_of_flags_is_that_of_the_release(version, count):
    assert len(options.flags(version)) == count


@pytest.mark.parametrize(
    ("flag", "known"),
    [
        ("heartbeat-interval", "3.4.45 3.5.33 3.6.14 3.7.1"),
        ("debug", "3.4.45"),
        ("enable-v2", "3.4.45 3.5.33"),
        ("socket-reuse-port", "3.5.33 3.6.14 3.7.1"),
        ("experimental-initial-corrupt-check", "3.4.45 3.5.33 3.6.14"),
        ("experimental-warning-unary-request-duration", "3.6.14"),
        ("feature-gates", "3.6.14 3.7.1"),
        ("corrupt-check-time", "3.6.14 3.7.1"),
        ("no-such-flag", ""),
    ],
)
def test_flags_of_each_line(flag, known):
    assert [line for line in LINES if flag in options.flags(line)] == known.split()


@pytest.mark.parametrize(
    ("flag", "before", "first"),
    [
        ("tls-min-version", "3.4.24", "3.4.25"),
        ("tls-min-version", "3.5.7", "3.5.8"),
        ("next-cluster-version-compatible", "3.4.30", "3.4.31"),
        ("experimental-distributed-tracing-sampling-rate", "3.5.10", "3.5.11"),
        ("experimental-stop-grpc-service-on-defrag", "3.5.13", "3.5.14"),
        ("experimental-snapshot-catchup-entries", "3.5.13", "3.5.14"),
        ("experimental-compaction-sleep-interval", "3.5.15", "3.5.16"),
    ],
)
def test_flags_that_came_with_a_patch_release(flag, before, first):
    assert flag not in options.flags(before)
    assert flag in options.flags(first)


def test_a_line_stands_for_its_newest_release():
    assert options.flags("3.5") == options.flags("3.5.99")
    assert options.flags("v3.6.14") == options.flags("3.6.14")


def test_no_experimental_flag_is_left_in_3_7():
    assert not [flag for flag in options.flags("3.7.1") if flag.startswith("experimental-")]


@pytest.mark.parametrize("version", ["3.3.27", "3.8.0", "4.0.0", "newest", ""])
def test_flags_of_an_unknown_version_are_refused(version):
    with pytest.raises(ValueError, match="etcd"):
        options.flags(version)


def test_check_names_a_version_whose_flags_are_not_known():
    faults = options.check("3.8.0", {"metrics": "basic"}, KEY)
    assert faults == [f"{KEY}: the flags of etcd 3.8.0 are not known; use a release of 3.4 to 3.7"]


def test_every_owned_or_refused_flag_is_a_real_one():
    real = set().union(*map(options.flags, LINES))
    assert set(options.OWNED) <= real
    assert set(options.REFUSED) <= real
    assert not set(options.OWNED) & set(options.REFUSED)


@pytest.mark.parametrize("flag", sorted(options.OWNED))
def test_owned_flag_names_the_pillar_key_to_use(flag):
    fault = only("3.6.14", flag, "x")
    assert fault == (
        f"{KEY}:{flag} is 'x', but the formula owns this flag; "
        f"use etcd_ha:clusters:main:{options.OWNED[flag]}"
    )


def test_owned_flag_of_one_member_names_the_cluster_key():
    faults = options.check(
        "3.6.14", {"data-dir": "/d"}, "etcd_ha:clusters:main:members:etcd1:options"
    )
    assert faults[0].startswith("etcd_ha:clusters:main:members:etcd1:options:data-dir is '/d'")
    assert faults[0].endswith("use etcd_ha:clusters:main:data_dir")


@pytest.mark.parametrize(
    "flag",
    [
        *options.REFUSED,
        "discovery",
        "discovery-srv",
        "discovery-token",
        "proxy-dial-timeout",
    ],
)
def test_refused_flag_says_never_and_why(flag):
    fault = only("3.5.33", flag, True)
    assert fault.startswith(f"{KEY}:{flag} is True, but this flag is never allowed: ")
    assert "leave it out" in fault


@pytest.mark.parametrize("flag", ["force-new-cluster", "unsafe-no-fsync"])
def test_flags_that_lose_data_say_so(flag):
    assert "los" in only("3.6.14", flag, True)


@pytest.mark.parametrize("flag", ["discovery-password", "discovery-user"])
def test_a_secret_is_not_repeated(flag):
    assert "hunter2" not in only("3.6.14", flag, "hunter2")


def test_logger_is_the_formulas_on_3_4_only():
    assert "zap" in only("3.4.45", "logger", "capnslog")
    fine("3.5.33", logger="zap")


def test_tls_min_version_is_free_where_the_formula_sets_none():
    fine("3.4.45", tls_min_version="TLS1.2")
    fine("3.5.8", tls_min_version="TLS1.2")
    assert "tls:minimum_version" in only("3.5.9", "tls-min-version", "TLS1.2")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("hartbeat-interval", "heartbeat-interval"),
        ("heartbeat_interval", "heartbeat-interval"),
        ("ETCD_HEARTBEAT_INTERVAL", "heartbeat-interval"),
        ("--heartbeat-interval", "heartbeat-interval"),
        ("quota-backend-byte", "quota-backend-bytes"),
        ("data_dir", "data-dir"),
        ("cert_file", "cert-file"),
    ],
)
def test_unknown_flag_offers_the_nearest(wrong, right):
    assert only("3.6.14", wrong, 1) == (
        f"{KEY}:{wrong} is 1, but etcd 3.6.14 has no such flag; did you mean {right!r}?"
    )


def test_unknown_flag_like_no_other_points_to_the_help():
    assert "etcd --help" in only("3.6.14", "zzzzzz", 1)


@pytest.mark.parametrize("name", [7, None, True])
def test_name_that_is_no_text(name):
    assert "quote it" in only("3.6.14", name, 1)


@pytest.mark.parametrize(
    ("version", "flag", "value", "part"),
    [
        ("3.5.33", "corrupt-check-time", "1h", "use experimental-corrupt-check-time, or 3.6 or"),
        ("3.5.33", "feature-gates", "A=true", "(since 3.6); use 3.6 or newer"),
        ("3.4.23", "tls-max-version", "TLS1.3", "(since 3.4.25); use 3.4.25 or newer"),
        ("3.6.14", "enable-v2", True, "dropped this flag (3.5 was the last); leave it out"),
        ("3.5.33", "log-output", "stderr", "(3.4 was the last); use log-outputs"),
        ("3.5.33", "debug", True, "(3.4 was the last); use log-level: debug"),
        ("3.7.1", "experimental-corrupt-check-time", "1h", "use corrupt-check-time"),
        ("3.7.1", "experimental-memory-mlock", True, "(3.6 was the last); use memory-mlock"),
        (
            "3.7.1",
            "experimental-initial-corrupt-check",
            True,
            "(3.6 was the last); use feature-gates: InitialCorruptCheck=true (or =false)",
        ),
        (
            "3.5.33",
            "experimental-backend-bbolt-freelist-type",
            "map",
            "use backend-bbolt-freelist-type",
        ),
    ],
)
def test_flag_of_another_line_names_it_and_the_successor(version, flag, value, part):
    fault = only(version, flag, value)
    assert fault.startswith(f"{KEY}:{flag} is {value!r}, but etcd {version} ")
    assert part in fault


def test_every_flag_dropped_in_3_7_has_a_successor_that_3_7_knows():
    for flag in options.flags("3.6.14") - options.flags("3.7.1"):
        if not flag.startswith("discovery"):
            cure = only("3.7.1", flag, "x").rsplit("; use ", 1)[1]
            assert cure.split(":")[0] in options.flags("3.7.1"), flag


def test_experimental_gate_clashes_with_the_formulas_feature_gates_on_3_6():
    fine("3.5.33", experimental_enable_lease_checkpoint=True)
    fault = only("3.6.14", "experimental-enable-lease-checkpoint", True)
    assert "use feature-gates: LeaseCheckpoint=true" in fault


def test_flag_under_both_names():
    both = {"experimental-corrupt-check-time": "1h", "corrupt-check-time": "2h"}
    faults = options.check("3.6.14", both, KEY)
    assert faults == [
        f"{KEY}:experimental-corrupt-check-time is '1h', but corrupt-check-time is set too; "
        "keep corrupt-check-time alone"
    ]


GOOD = {
    "pre-vote": [True, False, "true", "false"],
    "heartbeat-interval": [1, 100, "100"],
    "quota-backend-bytes": [0, -1, 16777216, 8589934592],
    "max-concurrent-streams": [16, 4294967295],
    "grpc-keepalive-interval": [0, "0", "2h", "1h30m", "1.5s", "500ms", "20us"],
    "auto-compaction-retention": [0, 8, "5m", "1000"],
    "auto-compaction-mode": ["periodic"],
    "client-crl-file": ["/etc/etcd/crl.pem"],
    "cipher-suites": [HTTP2, f"{HTTP2},TLS_B", [HTTP2, "TLS_B"]],
    "cors": ["*", "http://a.example:80", ["http://a.example:80", "https://b.example:8"]],
    "feature-gates": [
        "AllBeta=true",
        "AllBeta=true,AllAlpha=false",
        ["AllBeta=true", "AllAlpha=false"],
    ],
}
BAD = {
    "pre-vote": [1, 0, "yes", "True", "", None, 1.0, [True], {"a": 1}],
    "heartbeat-interval": ["100ms", -1, 1.5, True, "0x10", "010", None, [1], ""],
    "max-wals": [2**63, -1, "many"],
    "quota-backend-bytes": ["8G", 8e9, "8 GiB", True, 2**63, 8, 16777215],
    "max-concurrent-streams": [-1, 4294967296],
    "grpc-keepalive-interval": [
        5,
        "5",
        "5 s",
        "s",
        "-5s",
        5.0,
        0.0,
        True,
        False,
        None,
        "1d",
        "5sec",
    ],
    "auto-compaction-retention": [0.5, None, True, {"hours": 1}, ["5m"]],
    "auto-compaction-mode": [True, datetime.date(2026, 1, 2), None, " "],
    "cipher-suites": [True, None, [], [None], ["a,b"], ["a", ["b"]], "a,,b", 1.3],
    "cors": ["a.example", ["http://a.example", "b"], True],
    "feature-gates": ["A", "A=yes", "A=trueB", {"A": True}, ["A=true,B=true"], True],
}


@pytest.mark.parametrize(("flag", "value"), [(f, v) for f, values in GOOD.items() for v in values])
def test_right_value(flag, value):
    wanted = {flag: value, "election-timeout": 5000}
    assert options.check("3.6.14", wanted, KEY) == []


@pytest.mark.parametrize(("flag", "value"), [(f, v) for f, values in BAD.items() for v in values])
def test_wrong_value_names_key_and_value(flag, value):
    assert only("3.6.14", flag, value).startswith(f"{KEY}:{flag} is {value!r}, but ")


@pytest.mark.parametrize(
    ("flag", "value", "part"),
    [
        ("grpc-keepalive-interval", 5, "a time with its unit, such as 500ms, 5s or 1h30m"),
        ("auto-compaction-retention", 0.5, "YAML made a fraction of it"),
        ("feature-gates", {"A": True}, "write text such as InitialCorruptCheck=true"),
        ("auto-compaction-mode", True, "quote it if it is meant as text"),
        ("max-wals", None, "give one or leave the flag out"),
    ],
)
def test_wrong_value_names_the_cure(flag, value, part):
    assert part in only("3.6.14", flag, value)


@pytest.mark.parametrize("version", ["3.4.45", "3.5.14"])
def test_list_of_names_where_etcd_takes_one(version):
    own = {"tls": {"source": "files"}}
    for value in (["a", "b"], "a,b"):
        assert "one name" in only(version, "peer-cert-allowed-cn", value)
    for release, value in ((version, "etcd"), ("3.5.15", ["a", "b"])):
        assert options.check(release, {"peer-cert-allowed-cn": value}, KEY, own) == []


@pytest.mark.parametrize(
    "char", ["\n", "\r", "\0", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"]
)
@pytest.mark.parametrize("flag", ["log-level", "pre-vote", "cors", "cipher-suites", "max-wals"])
def test_control_character_cannot_reach_the_environment_file(flag, char):
    injected = f"a{char}ETCD_UNSAFE_NO_FSYNC=true"
    for value in (injected, [injected]):
        fault = only("3.6.14", flag, value)
        assert char not in fault
    # Also at the end, where a regular expression's $ would let a line break pass.
    assert "control character" in only("3.6.14", flag, f"1{char}")


def test_control_character_in_a_name_is_not_printed():
    assert "\n" not in only("3.6.14", "max-wals\nx", 1)


@given(st.text() | st.integers() | st.floats() | st.none() | st.lists(st.text(max_size=4)))
def test_whatever_passes_is_one_line_of_printable_text(value):
    for flag in options.flags("3.6.14"):
        if not options.check("3.6.14", {flag: value}, KEY):
            shown = options.text(value)
            assert shown and len(shown.splitlines()) == 1 and "\0" not in shown


@pytest.mark.parametrize(
    ("beat", "election", "good"),
    [
        (100, 500, True),
        (100, 499, False),
        ("100", "499", False),
        (300, None, False),
        (200, None, True),
        (None, 499, False),
        (10000, 50000, True),
        (100, 50001, False),
        (0, 1000, False),
        (100, 0, False),
    ],
)
def test_election_timeout_against_heartbeat(beat, election, good):
    wanted = {"heartbeat-interval": beat, "election-timeout": election}
    wanted = {flag: value for flag, value in wanted.items() if value is not None}
    faults = options.check("3.6.14", wanted, KEY)
    assert (faults == []) is good
    assert len(faults) <= 1
    assert all(fault.startswith(tuple(f"{KEY}:{flag} is " for flag in wanted)) for fault in faults)


def test_election_fault_names_the_cure():
    assert "set election-timeout to 1500 or more" in only("3.6.14", "heartbeat-interval", 300)


def test_all_faults_at_once():
    wrong = {"name": "a", "zzzzzz": 1, "max-wals": -1, "election-timeout": 10}
    assert len(options.check("3.6.14", wrong, KEY)) == 4


def test_options_that_are_no_mapping():
    assert options.check("3.6.14", ["pre-vote"], KEY)[0].startswith(f"{KEY} is ['pre-vote']")
    assert options.check("3.6.14", {}, KEY) == []


@pytest.mark.parametrize(("quota", "warned"), [(8 * 1024**3, False), (8 * 1024**3 + 1, True)])
def test_big_quota_is_a_warning_and_no_fault(quota, warned):
    for value in (quota, str(quota)):
        wanted = {"quota-backend-bytes": value}
        found = options.warnings("3.6.14", wanted, KEY)
        assert [line.startswith(f"{KEY}:quota-backend-bytes is {quota}") for line in found] == (
            [True] if warned else []
        )
        assert options.check("3.6.14", wanted, KEY) == []


@pytest.mark.parametrize("value", [None, "8G", True, {}])
def test_warnings_leave_wrong_values_to_check(value):
    assert options.warnings("3.6.14", {"quota-backend-bytes": value}, KEY) == []


def test_variable():
    assert options.variable("heartbeat-interval") == "ETCD_HEARTBEAT_INTERVAL"
    assert options.variable("enable-v2") == "ETCD_ENABLE_V2"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "true"),
        (False, "false"),
        (100, "100"),
        ("5s", "5s"),
        (["a", "b"], "a,b"),
        (["a"], "a"),
    ],
)
def test_text(value, shown):
    assert options.text(value) == shown
