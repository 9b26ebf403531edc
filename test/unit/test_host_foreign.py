"""Whose an etcd on a host is, and what it is in the way of: a table of cases."""

import etcd_ha_host_etcds
import etcd_ha_host_foreign
import pytest
from etcd_ha_host_foreign import Known, Place

PLACE = Place(
    "etcd.service",
    ("/var/lib/etcd", "/wal"),
    (2379, 2380),
    "etcd",
    ("/usr/local/bin/etcd",),
    ("haproxy.service",),
)
OURS = Known(frozenset([("c1", "m1")]), "/var/lib/etcd")


def row(**values):
    """A running etcd that shares nothing with the formula's, but for these values."""
    given = {
        "kind": "process",
        "pid": 7,
        "program": "/opt/x/etcd",
        "user": "x",
        "unit": "x.service",
    }
    given |= {"data_dir": "/srv/x", "ports": [12379], "clients": ["http://h:12379"]}
    given |= {"holds_data": True, "cluster_id": "c9", "member_id": "m9"}
    return etcd_ha_host_etcds.row(**{**given, **values})


def cure(*verdicts):
    """What a plan says, with these verdicts of its hosts."""
    return etcd_ha_host_foreign.refusal("main", dict(zip("abc", verdicts, strict=False)))


def judged(one, known=OURS, place=PLACE):
    return etcd_ha_host_foreign.judged([one], known, place)


@pytest.mark.parametrize(
    ("values", "way"),
    [
        ({"unit": "etcd.service"}, "unit"),
        ({"data_dir": "/var/lib/etcd"}, "directory"),
        ({"data_dir": "/var/lib/etcd/default"}, "directory"),
        ({"data_dir": "/var/lib"}, "directory"),
        ({"wal_dir": "/wal/wal"}, "directory"),
        ({"ports": [2380]}, "port 2380"),
        ({"user": "etcd"}, "user"),
        ({"program": "/usr/local/bin/etcd"}, "program"),
    ],
)
@pytest.mark.parametrize("pid", [0, 7])
def test_what_it_shares_is_in_the_way(values, way, pid):
    ((one, reasons),) = judged(row(**values, pid=pid)).foreign
    assert way in reasons[0]
    assert "did not set up" in etcd_ha_host_foreign.told("m", "main", judged(one))[0]


def test_what_shares_nothing_is_none_of_our_business():
    verdict = judged(row())
    assert verdict.foreign == () and len(verdict.others) == 1


@pytest.mark.parametrize("values", [{}, {"unit": "etcd.service", "data_dir": "/var/lib/etcd"}])
def test_the_ids_of_a_record_make_it_ours(values):
    one = row(cluster_id="c1", member_id="m1", **{"unit": "etcd.service", **values})
    assert judged(one).ours == (one,)


@pytest.mark.parametrize("ids", [("c1", "m2"), ("c2", "m1"), ("", ""), ("c1", "")])
def test_half_of_the_ids_does_not(ids):
    one = row(unit="etcd.service", cluster_id=ids[0], member_id=ids[1])
    assert judged(one).foreign


@pytest.mark.parametrize(
    ("known", "ours"),
    [
        (Known(frozenset([("c1", "m1")]), "/var/lib/etcd"), True),
        (Known(frozenset(), "/var/lib/etcd"), False),
        (Known(frozenset([("c1", "m1")]), "/elsewhere"), False),
        (Known(), False),
    ],
)
def test_a_log_without_ids_is_known_by_its_place(known, ours):
    """A damaged log of ours is not somebody else's."""
    one = row(cluster_id="", member_id="", fault="damaged", data_dir="/var/lib/etcd")
    assert bool(judged(one, known).ours) is ours


def test_ids_that_change_are_known_by_their_place():
    """A bootstrap that was cut short, and a restore, which makes another cluster of it."""
    one = row(unit="etcd.service", data_dir="/var/lib/etcd", by_formula=True)
    changing = Known(OURS.ids, "/var/lib/etcd", changing=True)
    assert judged(one, changing).ours
    assert judged(one, Known(OURS.ids, "/other", changing=True)).foreign
    assert judged(row(kind="data", pid=0, unit="", data_dir="/var/lib/etcd"), changing).ours
    # A record that an attempt of long ago has left makes nobody else's unit ours.
    assert judged({**one, "by_formula": False}, changing).foreign


def test_the_member_outside_of_its_unit_is_told():
    one = row(cluster_id="c1", member_id="m1", unit="", ports=[2379])
    assert "but not from etcd.service" in etcd_ha_host_foreign.told("m", "main", judged(one))[0]
    stopped = row(cluster_id="c1", member_id="m1", unit="", pid=0, kind="data")
    assert etcd_ha_host_foreign.told("m", "main", judged(stopped)) == []
    # A copy for somebody's study, at other ports and paths, is in nobody's way.
    copy = row(cluster_id="c1", member_id="m1", unit="")
    assert etcd_ha_host_foreign.told("m", "main", judged(copy)) == []


def test_nothing_that_could_be_lost_is_not_there():
    assert (
        judged(row(pid=0, holds_data=False, unit="etcd.service")) == etcd_ha_host_foreign.Verdict()
    )


def waiting(**values):
    """An enabled unit of others that is stopped and has no data."""
    given = {"kind": "unit", "pid": 0, "holds_data": False, "enabled": True, "ports": [2379]}
    return row(**{**given, "cluster_id": "", "member_id": "", **values})


def test_an_enabled_unit_that_would_take_a_port_at_boot_is_in_the_way():
    verdict = judged(waiting(unit="etcd-old.service", user="etcd"))
    ((_, reasons),) = verdict.foreign
    assert reasons == ("port 2379",)
    told = cure(verdict)
    for word in ("starts at boot", "port 2379", "systemctl disable etcd-old.service"):
        assert word in told
    assert "orch.adopt" not in told


@pytest.mark.parametrize(
    "values",
    [
        {"enabled": False},
        {"unit": "etcd.service"},
        {"unit": "etcd_ha-backup.service"},
        {"by_formula": True},
    ],
)
def test_what_does_not_start_at_boot_or_is_replaced_is_no_matter(values):
    assert judged(waiting(**values)) == etcd_ha_host_foreign.Verdict()


def test_an_enabled_unit_at_other_ports_is_noted_whatever_its_user_is():
    one = waiting(ports=[9], user="etcd", program="/usr/local/bin/etcd")
    assert judged(one) == etcd_ha_host_foreign.Verdict(others=(one,))


def test_an_enabled_unit_that_would_use_our_directory_is_in_the_way():
    """Although the directory is by what a member without ids is known."""
    ((_, reasons),) = judged(waiting(ports=[9], data_dir="/var/lib/etcd")).foreign
    assert reasons == ("the directory /var/lib/etcd",)


def test_an_enabled_unit_is_noted_where_the_member_holds_the_port_already():
    """Healing a cluster that runs waits for nobody's unit."""
    own = row(cluster_id="c1", member_id="m1", unit="etcd.service", ports=[2379, 2380])
    other = waiting(data_dir="/var/lib/etcd")
    verdict = etcd_ha_host_foreign.judged([own, other], OURS, PLACE)
    assert verdict.foreign == () and verdict.others == (other,)


@pytest.mark.parametrize(
    "values",
    [
        {"unit": "etcd_ha-backup-main.service"},
        {"clients": ["unix://client:1"], "peers": ["unix://peer:1"], "ports": []},
    ],
)
def test_our_own_trials_are_nobody_s(values):
    one = row(program="/usr/local/bin/etcd", **values)
    assert judged(one) == etcd_ha_host_foreign.Verdict()


@pytest.mark.parametrize(
    ("unit", "told"),
    [
        ("docker.service", True),
        ("", True),
        ("nginx.service", True),
        # The member itself is an etcd, and no listener.
        ("etcd.service", True),
        ("haproxy.service", False),
        ("etcd_ha-firewall.service", False),
    ],
)
def test_another_program_at_etcd_s_ports(unit, told):
    one = row(
        kind="listener", unit=unit, ports=[2379], program="/usr/bin/docker-proxy", data_dir=""
    )
    assert bool(etcd_ha_host_foreign.told("m", "main", judged(one))) is told


def test_each_kind_of_finding_has_its_cure():
    alien, port = row(unit="etcd.service"), row(kind="listener", unit="x.service", ports=[2379])
    proxy = row(kind="proxy", unit="haproxy.service", config_file="/c", data_dir="", ports=[])
    found = [alien, port, proxy]
    told = cure(etcd_ha_host_foreign.judged(found, OURS, PLACE))
    assert told.startswith("3 things are in the way:\n")
    for word in ("etcd_ha.orch.adopt", "balancer:port", "another balancer host"):
        assert word in told
    assert told.count("Nothing was changed on any host") == 1


def test_where_one_record_is_left_the_others_are_claimed_by_it():
    """The id that is known is theirs."""
    known = judged(row(cluster_id="c1", member_id="m1", unit="etcd.service"))
    lost = judged(row(cluster_id="c1", member_id="m2", unit="etcd.service", by_formula=True))
    assert "cluster_id=c1 confirm=main" in cure(known, lost)


def test_what_listens_by_our_own_configuration_is_ours():
    one = row(kind="listener", unit="nginx.service", ports=[2379], by_formula=True, data_dir="")
    assert etcd_ha_host_foreign.told("m", "main", judged(one)) == []


@pytest.mark.parametrize(("port", "told"), [(2379, False), (2380, True)])
def test_who_shares_a_port_with_a_member_that_runs_has_another_address(port, told):
    """A host with several addresses; a port that the member does not have yet is another matter."""
    own = row(unit="etcd.service", cluster_id="c1", member_id="m1", ports=[2379])
    for other in (row(ports=[port]), row(kind="listener", unit="x.service", ports=[port])):
        verdict = etcd_ha_host_foreign.judged([own, other], OURS, PLACE)
        assert bool(verdict.foreign) is told and verdict.ours == (own,)


def test_a_directory_is_the_same_by_whatever_name():
    one = row(data_dir="/mnt/disk/etcd", same=["/var/lib/etcd"])
    assert "directory" in judged(one).foreign[0][1][0]


def test_a_trial_in_our_own_directory_is_none():
    one = row(clients=["unix://a:1"], peers=["unix://b:1"], ports=[], data_dir="/var/lib/etcd")
    assert judged(one).foreign


def test_a_way_back_is_named_for_our_own_alone():
    ours = row(unit="etcd.service", by_formula=True)
    for one, named in ((ours, True), (row(unit="etcd.service"), False)):
        assert ("etcd_ha.claim" in cure(judged(one))) is named
    for other in ({**ours, "cluster_id": "c8"}, row(cluster_id="c1", member_id="m1")):
        # Two clusters, and one that is known: neither is lost as a whole.
        two = [judged(ours), judged(other)]
        assert "etcd_ha.claim" not in cure(*two)


@pytest.mark.parametrize(
    ("values", "may"),
    [
        ({"unit": "etcd.service", "by_formula": True}, True),
        ({"unit": "etcd.service"}, False),
        ({"unit": "x.service", "by_formula": True}, False),
        ({"unit": "", "kind": "data", "pid": 0, "data_dir": "/var/lib/etcd"}, True),
        ({"unit": "", "kind": "data", "pid": 0, "data_dir": "/srv"}, False),
        ({"unit": "etcd.service", "by_formula": True, "cluster_id": "c8"}, False),
        ({"kind": "listener", "by_formula": True, "unit": "etcd.service"}, False),
    ],
)
def test_what_may_be_claimed(values, may):
    assert etcd_ha_host_foreign.may_be_claimed(row(**values), PLACE, "c9") is may


def test_what_a_host_tells_is_shown_on_one_line():
    one = row(unit="etcd.service", data_dir='/x\n"pwned":\n  cmd.run: []', fault="\x1b[31m")
    (sentence,) = etcd_ha_host_foreign.told("m", "main", judged(one))
    assert sentence.isprintable()


def test_files_in_the_place_of_the_data_are_told():
    one = row(
        kind="files", pid=0, data_dir="/var/lib/etcd", fault="it contains a", unit="", ports=[]
    )
    one |= {"cluster_id": "", "member_id": ""}
    (told,) = etcd_ha_host_foreign.told("m", "main", judged(one, Known()))
    assert "other files" in told and "it contains a" in told
    assert "data_dir" in cure(judged(one, Known()))
    # Where the record names it, the member's data is gone, and something else is left.
    assert etcd_ha_host_foreign.told("m", "main", judged(one)) == []


@pytest.mark.parametrize(("unit", "told"), [("haproxy.service", True), ("nginx.service", False)])
def test_a_balancer_of_somebody_else(unit, told):
    one = row(
        kind="proxy", unit=unit, config_file="/etc/haproxy/haproxy.cfg", data_dir="", ports=[]
    )
    found = etcd_ha_host_foreign.told("lb", "main", judged(one))
    assert bool(found) is told
    if told:
        assert "did not set up" in found[0] and "/etc/haproxy/haproxy.cfg" in found[0]
        assert "another balancer host" in cure(judged(one))
