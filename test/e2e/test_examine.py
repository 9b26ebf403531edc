"""A member that does not start: etcd itself says whether its data can be read, on a copy."""

import json

import pytest
from extent import only_in_all, only_in_all_case
from lab_command import DOMAIN, MEMBERS, PYTHON

DATA = "/var/lib/etcd"
COUNT = 40
# A bit of the ids at the log's begin: "cannot use none as id" is what etcd 3.4 makes of it.
BIT = """
import glob, sys
path = sorted(glob.glob("/var/lib/etcd/member/wal/*.wal"))[-1]
with open(path, "r+b") as file:
    file.seek(22)
    byte = file.read(1)[0] ^ 16
    file.seek(22)
    file.write(bytes([byte]))
"""
PAGES = f"dd if=/dev/zero of={DATA}/member/snap/db bs=4096 seek=3 count=20 conv=notrunc"


def shell(lab, host, script):
    return lab.exec(host, "sh", "-c", script)


def write(lab, prefix):
    """Enough that the database has some hundred pages."""
    put = f"head -c 12000 /dev/zero | tr '\\0' x | etcdctl put {prefix}$n"
    script = f"for n in $(seq {COUNT}); do {put}; done >/dev/null"
    shell(lab, "etcd1", f"set -a; . /etc/etcd/etcdctl.env; set +a; {script}").ok()


def assert_holds(lab, prefix, hosts=MEMBERS):
    for host in hosts:
        done = lab.etcdctl(host, "get", "--prefix", prefix, endpoint=lab.own(host)).ok()
        lines = done.out.splitlines()
        assert len(lines) == 2 * COUNT and set(lines[1::2]) == {"x" * 12000}, host


def assert_nothing_is_left(lab, host):
    left = (
        f"ls -d {DATA}/examining /run/systemd/system/etcd_ha-examine.service /run/etcd_ha/examining"
    )
    assert lab.exec(host, "sh", "-c", left).out.split() == []


def planned(lab, *words):
    return lab.salt_run("etcd_ha.plan", "cluster=main", *words).text


def asked(lab, command, *more, **words):
    return lab.orch("pillar=" + json.dumps(words), *more, command=command)


def ids(lab):
    rows = json.loads(lab.etcdctl("etcd1", "member", "list", "-w", "json").ok().out)["members"]
    return {row["name"]: row["ID"] for row in rows}


def did(run, words):
    """Whether there was such a step, also in the plan that was made after the first one."""
    return f'"main: {words}' in run.text


@pytest.mark.parametrize("how", ["pages", only_in_all_case("bit")])
def test_damaged_data_is_examined_and_replaced_from_the_quorum(sacrificed, how):
    lab, prefix = sacrificed, f"/examine/{how}/"
    write(lab, prefix)
    before = ids(lab)
    lab.exec("etcd2", "systemctl", "stop", "etcd").ok()
    if how == "pages":
        shell(lab, "etcd2", PAGES).ok()
    else:
        lab.exec("etcd2", PYTHON, "-c", BIT).ok()
    # Merely stopped by then: it is started, and ends. The next run asks why.
    lab.orch().refused("ended by itself in its start")
    run = lab.orch().ok()
    assert did(run, "examine etcd2"), run.text[-3000:]
    assert did(run, "replace etcd2"), run.text[-3000:]
    assert ids(lab)["etcd2"] != before["etcd2"]
    assert_holds(lab, prefix)
    assert_nothing_is_left(lab, "etcd2")
    aside = shell(lab, "etcd2", f"ls -d {DATA}.replaced-*/member").ok().out
    assert aside.strip()
    assert lab.orch().ok().changes == {}
    merely_stopped(lab)
    lab.state = "converged"


def merely_stopped(lab):
    """Once one corruption was replaced: the log still speaks of it, the data is sound."""
    lab.exec("etcd2", "systemctl", "stop", "etcd").ok()
    told = planned(lab)
    assert "start it" in told and "replace" not in told and "examine" not in told, told
    lab.exec("etcd3", "systemctl", "stop", "etcd").ok()
    told = planned(lab)
    assert "recover" not in told and "replace" not in told, told
    run = lab.orch().ok()
    assert not did(run, "replace") and not did(run, "examine"), run.text[-3000:]
    for host in MEMBERS:
        lab.wait_healthy(host)


@only_in_all
def test_with_a_log_that_says_nothing_what_was_stopped_is_started(converged):
    """The same where etcd writes errors alone; then one is damaged, and nothing is said of it."""
    lab = converged
    lab.state = "dirty"
    lab.change_pillar(lambda cluster: cluster.update(options={"log-level": "error"}))
    lab.orch().ok()
    write(lab, "/examine/silent/")
    lab.exec("etcd2", "systemctl", "stop", "etcd").ok()
    shell(lab, "etcd2", PAGES).ok()
    lab.orch().refused("ended by itself in its start")
    run = lab.orch().ok()
    assert did(run, "replace etcd2"), run.text[-3000:]
    merely_stopped(lab)
    assert_holds(lab, "/examine/silent/")


@only_in_all
def test_a_member_is_rebuilt_on_an_operator_s_word_alone(converged):
    lab = converged
    lab.state = "dirty"
    write(lab, "/examine/word/")
    before = ids(lab)
    for word in ("other", ""):
        asked(lab, "replace", confirm=word, member="etcd3").refused("confirm")
    asked(lab, "replace", confirm="main", member="etcd9").refused("etcd9", "etcd1, etcd2, etcd3")
    lab.exec("etcd1", "systemctl", "stop", "etcd").ok()
    asked(lab, "replace", confirm="main", member="etcd3").refused("quorum")
    assert lab.process("etcd3") != "0", "nothing was stopped"
    lab.exec("etcd1", "systemctl", "start", "etcd").ok()
    lab.wait_healthy("etcd1")
    asked(lab, "replace", confirm="main", member=f"etcd3.{DOMAIN}").ok()
    now = ids(lab)
    assert now["etcd3"] != before["etcd3"]
    assert {**now, "etcd3": 0} == {**before, "etcd3": 0}
    assert_holds(lab, "/examine/word/")
    running = {host: lab.process(host) for host in MEMBERS}
    asked(lab, "restart", member="etcd2").ok()
    again = {host: lab.process(host) for host in MEMBERS}
    assert [host for host in MEMBERS if again[host] != running[host]] == ["etcd2"]
    assert lab.orch().ok().changes == {}
    lab.state = "converged"


# What keeps etcd from its start, what undoes it, and what the plan must say of it.
ENVIRONMENT = "/etc/default/etcd"
ELECTION = f"sed -i 's#^ETCD_DATA_DIR#ETCD_ELECTION_TIMEOUT=100\\n&#' {ENVIRONMENT}"
CERTIFICATE = f"sed -i 's#^ETCD_CERT_FILE=.*#ETCD_CERT_FILE=/none.crt#' {ENVIRONMENT}"
CAUSES = {
    "owner": (f"chown root: {DATA}/member/snap/db", "snap/db: permission denied"),
    "option": (ELECTION, "election-timeout"),
    "certificate": (CERTIFICATE, "open /none.crt: no such file"),
}


@pytest.mark.parametrize("cause", [*map(only_in_all_case, ("option", "owner", "certificate"))])
def test_where_the_data_can_be_read_the_cause_is_named(converged, cause):
    """Its data is examined and found good; nothing of it is thrown away."""
    lab, (spoil, words) = converged, CAUSES[cause]
    lab.state = "dirty"
    before = ids(lab)
    lab.exec("etcd2", "systemctl", "stop", "etcd").ok()
    shell(lab, "etcd2", f"cp -p {ENVIRONMENT} /root/kept; {spoil}").ok()
    shell(lab, "etcd2", "timeout 5 systemctl start etcd")
    told = lab.salt_call("etcd2", "etcd_ha_member.examine", "main").ok().out
    assert "readable" in told, told
    told = planned(lab)
    assert "etcd can read its data, so its last start failed for another reason" in told, told
    assert words in told and "replace" not in told, told
    shell(lab, "etcd2", f"cp -p /root/kept {ENVIRONMENT}; chown etcd: {DATA}/member/snap/db").ok()
    run = lab.orch().ok()
    assert did(run, "compare the keys of etcd2"), run.text[-3000:]
    assert ids(lab) == before
    assert_nothing_is_left(lab, "etcd2")
    lab.state = "converged"


@only_in_all
def test_a_busy_port_is_named_before_anything_is_done(converged):
    lab = converged
    lab.exec("etcd2", "systemctl", "stop", "etcd").ok()
    script = (
        "import socket, time; s = socket.socket(); "
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); "
        f"s.bind(('{lab.address('etcd2')}', 2379)); s.listen(); time.sleep(300)"
    )
    lab.exec("etcd2", "systemd-run", "--unit=busy", "--collect", PYTHON, "-c", script).ok()
    try:
        told = planned(lab)
        assert "listens on port 2379" in told and "Stop that program" in told, told
    finally:
        lab.exec("etcd2", "systemctl", "stop", "busy")
        lab.exec("etcd2", "systemctl", "start", "etcd").ok()
    lab.wait_healthy("etcd2")
