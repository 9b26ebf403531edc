"""``etcd_ha.certificates``: every certificate is listed, and one that ends soon is an exit code."""

import dataclasses
from datetime import datetime, timedelta, timezone

import etcd_ha_certificates
import etcd_ha_host
import etcd_ha_minions
import etcd_ha_report
import pytest
import salt.exceptions
from etcd_ha_master import Master
from faces import load

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
LATER = timedelta(hours=1)


def leaf(purpose, days, cluster="main"):
    """A certificate as a minion tells it, with so many whole days left."""
    end = (NOW + timedelta(days=days) + LATER).strftime("%Y-%m-%d %H:%M:%S")
    path = f"/somewhere/{purpose}.crt"
    told = {"subject": "CN=x", "issuer": "CN=etcd main CA", "not_after": end}
    return {"cluster": cluster, "purpose": purpose, "path": path, **told}


def found(cluster, days=200, ca_days=2000):
    """What all hosts of a cluster tell."""
    told = {cluster.ca_minion: [leaf("ca", ca_days)]}
    for minion in cluster.hosts[:-1]:
        leaves = etcd_ha_certificates.of_minion(cluster, minion)
        told[minion] = [leaf("ca", ca_days), *(leaf(one.purpose, days) for one in leaves)]
    return told


def lines(report):
    return [line.split() for line in report.text.splitlines()]


def test_every_certificate_of_every_host_has_a_line(cluster):
    report = etcd_ha_report.certificates(cluster, found(cluster), NOW)
    rows = [line for line in lines(report) if line[0] in cluster.hosts]
    assert sorted((row[0], row[1]) for row in rows) == sorted(
        [
            (f"etcd{n}.example.com", purpose)
            for n in (1, 2, 3)
            for purpose in ("ca", "server", "peer", "admin")
        ]
        + [("lb.example.com", "ca"), ("lb.example.com", "check"), ("ca.example.com", "ca")]
    )
    assert {row[-1] for row in rows} == {"ok"} and {row[-2] for row in rows} == {"200", "2000"}
    assert report.sound


@pytest.mark.parametrize(
    ("days", "state", "sound"),
    [(90, "ok", True), (89, "renew", False), (0, "renew", False), (-1, "expired", False)],
)
def test_a_leaf_inside_its_window_or_past_its_end_is_not_sound(cluster, days, state, sound):
    told = found(cluster)
    told["etcd2.example.com"][1] = leaf("server", days)
    report = etcd_ha_report.certificates(cluster, told, NOW)
    row = next(line for line in lines(report) if line[:2] == ["etcd2.example.com", "server"])
    assert (row[-1], report.sound) == (state, sound)
    assert ("salt-run state.orchestrate etcd_ha.orch" in report.text) != sound


def test_a_program_gets_days_as_a_number_and_nothing_for_what_is_not_known(cluster):
    told = found(cluster)
    told["etcd2.example.com"] = "Minion did not return"
    rows = etcd_ha_report.certificates(cluster, told, NOW).data["main"]["certificates"]
    assert {row["days"] for row in rows} == {200, 2000, None}
    (silent,) = (row for row in rows if row["host"] == "etcd2.example.com")
    assert silent == {
        "host": "etcd2.example.com",
        **dict.fromkeys(("purpose", "issuer", "expires", "days")),
        "state": "Minion did not return",
    }


@pytest.mark.parametrize(("days", "sound"), [(365, True), (364, False)])
def test_the_ca_has_a_window_of_its_own(cluster, days, sound):
    report = etcd_ha_report.certificates(cluster, found(cluster, ca_days=days), NOW)
    assert report.sound == sound


def test_one_s_own_certificates_are_one_s_own_to_replace(cluster):
    tls = {**cluster.settings["tls"], "source": "files", "ca": {"minion": None}}
    cluster = dataclasses.replace(cluster, settings={**cluster.settings, "tls": tls})
    told = {minion: [leaf("server", 10), leaf("ca", 91)] for minion in cluster.hosts}
    report = etcd_ha_report.certificates(cluster, told, NOW)
    assert not report.sound and "put new ones in their place" in report.text
    assert [line[-1] for line in lines(report) if line[1:2] == ["ca"]] == ["ok"] * 4


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "no answer"),
        ("Traceback\nValueError: oh", "ValueError: oh"),
        ([], "none yet"),
        ([leaf("server", 200, "other")], "none yet"),
        ([{**leaf("server", 200), "error": "the file is gone"}], "the file is gone"),
    ],
)
def test_a_host_that_cannot_tell_is_told_and_is_not_sound(cluster, answer, says):
    told = {**found(cluster), "etcd3.example.com": answer}
    if answer is None:
        del told["etcd3.example.com"]
    report = etcd_ha_report.certificates(cluster, told, NOW)
    assert not report.sound
    assert [says in line for line in report.text.splitlines() if "etcd3" in line] == [True]


def test_without_tls_there_is_nothing_to_watch(cluster):
    tls = {**cluster.settings["tls"], "enabled": False}
    plain = dataclasses.replace(cluster, settings={**cluster.settings, "tls": tls})
    report = etcd_ha_report.certificates(plain, {}, NOW)
    assert report.sound and "TLS is off" in report.text


def test_a_mark_names_its_certificates_and_no_keys(cluster):
    member = etcd_ha_host.describe("etcd1.example.com", [cluster], "amd64")
    files = [
        "/etc/default/etcd",
        "/etc/etcd/pki/ca.crt",
        "/etc/etcd/pki/server.crt",
        "/etc/etcd/pki/server.key",
        "/etc/pki/etcd_ha/other/ca.crt",
        "/etc/pki/etcd_ha/other/ca.key",
    ]
    mark = etcd_ha_host.mark(member, "d", dict.fromkeys(files, "h"))
    assert [tuple(one.values()) for one in etcd_ha_host.marked_certificates(mark)] == [
        ("main", "ca", "/etc/etcd/pki/ca.crt"),
        ("main", "server", "/etc/etcd/pki/server.crt"),
        ("other", "ca", "/etc/pki/etcd_ha/other/ca.crt"),
    ]
    balancer = etcd_ha_host.describe("lb.example.com", [cluster], "amd64")
    mark = etcd_ha_host.mark(balancer, "d", {"/etc/etcd/main/check.crt": "h"})
    (one,) = etcd_ha_host.marked_certificates(mark)
    assert (one["cluster"], one["purpose"]) == ("main", "check")


def runner(cluster, monkeypatch, answers):
    """The runner over minions that answer so, one answer a call; and what was synced."""
    synced, calls = [], iter(answers)
    found = {"main": cluster}, {}
    monkeypatch.setattr(Master, "clusters_and_faults", lambda self, name: found)
    monkeypatch.setattr(etcd_ha_minions, "connected", lambda master, wanted: list(wanted))
    monkeypatch.setattr(etcd_ha_minions, "sync", lambda master, minions: synced.extend(minions))

    def ask(master, minions, function):
        if not minions:
            return {}
        assert function == "etcd_ha.certificates"
        told = next(calls)
        return {minion: {"ret": told[minion]} for minion in minions if minion in told}

    monkeypatch.setattr(etcd_ha_minions, "ask", ask)
    return load("_runners/etcd_ha_overview"), synced


def fresh(cluster):
    """As ``found``, but measured from the real present."""
    late = {"not_after": "2999-01-01 00:00:00"}
    return {m: [{**one, **late} for one in told] for m, told in found(cluster).items()}


def test_the_runner_returns_the_table_when_all_is_well(cluster, monkeypatch):
    module, synced = runner(cluster, monkeypatch, [fresh(cluster)])
    assert module.certificates().startswith("main\nHOST")
    assert synced == []


def test_the_runner_s_exit_code_is_1_when_one_has_expired(cluster, monkeypatch):
    told = fresh(cluster)
    told["lb.example.com"][1]["not_after"] = "2020-01-01 00:00:00"
    module, _ = runner(cluster, monkeypatch, [told])
    # The one exception that salt-run shows as plain text, with exit code 1.
    with pytest.raises(salt.exceptions.NotImplemented, match="expired"):
        module.certificates()


def test_minions_with_older_modules_are_synced_and_asked_again(cluster, monkeypatch):
    told = fresh(cluster)
    first = {**told, "etcd1.example.com": "'etcd_ha.certificates' is not available."}
    module, synced = runner(cluster, monkeypatch, [first, told])
    assert "is not available" not in module.certificates()
    assert synced == ["etcd1.example.com"]
