"""The table of etcd's flags is that of the real binaries, and each flag has its place in it."""

import pathlib
import re

import etcd_flags
import etcd_ha_etcd_flags
import etcd_ha_options
import etcd_ha_pillar_option_bounds
import options_page
import pytest
from etcd_flags import BINARIES

HTTP2 = ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]
KEY = "etcd_ha:clusters:main:options"
LINES = ("3.4", "3.5", "3.6", "3.7")


def settings(**tls):
    given = {"enabled": True, "source": "salt", "minimum_version": "TLS1.2", **tls}
    return {"tls": given, "data_dir": "/var/lib/etcd", "wal_dir": None}


def faults(version, flag, value, **tls):
    return etcd_ha_options.check(version, {flag: value}, KEY, settings(**tls))


def test_there_is_a_binary_of_each_line():
    assert {version.rpartition(".")[0] for version in BINARIES} == set(LINES)


@pytest.mark.parametrize("version", BINARIES)
def test_the_table_is_that_of_the_binary(version):
    flags, gates = etcd_flags.of_binary(version)
    assert etcd_ha_etcd_flags.known(version) == flags
    line = tuple(map(int, version.split(".")[:2]))
    assert sorted(etcd_ha_pillar_option_bounds.GATES.get(line, "").split()) == gates


@pytest.mark.parametrize("line", LINES)
def test_each_flag_that_may_be_set_has_a_value_that_was_tried(line):
    known = etcd_flags.values().keys() | {*etcd_flags.OF_OWN_CERTIFICATES}
    assert set(etcd_flags.settable(line)) <= known
    assert etcd_flags.values().keys() <= set(etcd_ha_etcd_flags.FLAGS)


@pytest.mark.parametrize("version", BINARIES)
def test_all_that_may_be_set_may_be_set_at_once(version):
    options = etcd_flags.options(version, "/etc/etcd/pki", "/var/lib/etcd")
    assert len(options) > 35
    assert etcd_ha_options.check(version, options, KEY, settings()) == []


@pytest.mark.parametrize("flag", sorted(etcd_ha_etcd_flags.FLAGS))
def test_a_flag_has_one_place(flag):
    owned = flag in etcd_ha_etcd_flags.OWNED
    never = bool(etcd_ha_etcd_flags.never(flag))
    bound = flag in etcd_ha_pillar_option_bounds.BOUNDS
    assert owned + never + bound <= 1


@pytest.mark.parametrize("line", LINES[1:])
def test_http_on_a_port_of_its_own_is_refused_by_name(line):
    (fault,) = faults(line, "listen-client-http-urls", "http://127.0.0.1:2383")
    assert "listen-client-http-urls" in fault and "the balancers' checks" in fault


@pytest.mark.parametrize(
    ("version", "flag", "good", "bad"),
    [
        ("3.5.16", "enable-grpc-gateway", True, False),
        ("3.6.14", "strict-reconfig-check", True, False),
        ("3.6.14", "log-outputs", ["stderr", "/var/lib/etcd/etcd.log"], "/var/lib/etcd/etcd.log"),
        ("3.6.14", "log-outputs", "systemd/journal", ["stderr", "/var/log/etcd.log"]),
        ("3.6.14", "log-outputs", "default", ["stderr", "/var/lib/etcd/../../log/x"]),
        ("3.6.14", "max-learners", 2, 0),
        ("3.6.14", "max-request-bytes", 65536, 1),
        ("3.6.14", "max-txn-ops", 16, 1),
        ("3.6.14", "max-concurrent-streams", 16, 0),
        ("3.6.14", "bcrypt-cost", 4, 3),
        ("3.6.14", "downgrade-check-time", "1s500ms", "1h"),
        ("3.6.14", "feature-gates", "LeaseCheckpoint=true", "NoSuchGate=true"),
        ("3.6.14", "feature-gates", "AllAlpha=false", "LeaseCheckpointPersist=true"),
        ("3.7.1", "feature-gates", "PriorityRequest=true", "A=true"),
        ("3.5.16", "v2-deprecation", "not-yet", "write-only-drop-data"),
        ("3.6.14", "logger", "zap", "capnslog"),
        ("3.6.14", "cors", ["*", "http://a:80"], "https://ui.example.com"),
        (
            "3.6.14",
            "cipher-suites",
            ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
            ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"],
        ),
    ],
)
def test_a_condition_of_the_value(version, flag, good, bad):
    assert faults(version, flag, good) == []
    (fault,) = faults(version, flag, bad)
    assert fault.startswith(f"{KEY}:{flag} is ")


@pytest.mark.parametrize(
    ("flag", "value", "good", "bad"),
    [
        ("client-cert-allowed-hostname", "a.example.com", {"source": "files"}, {}),
        ("peer-cert-allowed-cn", "etcd", {"source": "files"}, {}),
        ("peer-cert-allowed-hostname", "a.example.com", {"source": "pillar"}, {}),
        ("cipher-suites", HTTP2, {}, {"minimum_version": "TLS1.3"}),
        ("tls-max-version", "TLS1.2", {}, {"minimum_version": "TLS1.3"}),
        ("host-whitelist", "a.example.com", {}, {"enabled": False}),
    ],
)
def test_a_condition_of_the_pillar_beside_it(flag, value, good, bad):
    assert faults("3.6.14", flag, value, **good) == []
    (fault,) = faults("3.6.14", flag, value, **bad)
    assert "this flag needs" in fault


@pytest.mark.parametrize(
    ("flag", "value", "other", "beside"),
    [
        ("client-cert-file", "/a", "client-key-file", "/b"),
        ("peer-client-cert-file", "/a", "peer-client-key-file", "/b"),
    ],
)
def test_a_pair(flag, value, other, beside):
    assert "this flag needs" in faults("3.6.14", flag, value)[0]
    assert "this flag needs" in faults("3.6.14", other, beside)[0]
    assert etcd_ha_options.check("3.6.14", {flag: value, other: beside}, KEY, settings()) == []


def test_the_v2_api_with_its_end():
    for value, good in (("not-yet", True), ("write-only", False)):
        both = {"enable-v2": True, "v2-deprecation": value}
        assert (etcd_ha_options.check("3.5.16", both, KEY, settings()) == []) is good
    assert "/health" in faults("3.5.16", "experimental-enable-v2v3", "/v2")[0]


def test_on_the_way_a_release_gets_what_it_bears():
    """enable-grpc-gateway: false is 3.6's; on the way from 3.5 all balancers would be empty."""
    options = {"enable-grpc-gateway": False, "max-wals": 3, "feature-gates": "AllBeta=true"}
    assert etcd_ha_options.allowed("3.5.16", options, settings()) == {"max-wals": "3"}
    assert etcd_ha_options.allowed("3.6.14", options, settings()).keys() == options.keys()


def test_the_reader_is_named_where_the_table_is():
    text = pathlib.Path(etcd_ha_etcd_flags.__file__).read_text()
    assert re.search("test/etcd_flags/read.py", text)


def test_the_page_has_the_tables():
    page = options_page.PAGE.read_text()
    assert options_page.made(page) == page, "python test/unit/options_page.py"
    for flag in etcd_ha_etcd_flags.FLAGS:
        assert f"| `{flag}` |" in page
