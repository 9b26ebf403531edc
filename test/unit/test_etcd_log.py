"""The decisive words of starts that failed: real logs of each line, made by etcd_logs/make.py."""

import pathlib

import etcd_ha_etcd_log
import pytest

LOGS = pathlib.Path(__file__).with_name("etcd_logs")
FOUND = sorted(LOGS.glob("3.*/*.log"))
# What a person must read at once; "|" is between what different lines of etcd say.
WORDS = {
    "unknown_flag": ["flag provided but not defined: -no-such-flag"],
    "bad_value": ['invalid value "often" for ETCD_HEARTBEAT_INTERVAL'],
    "bad_retention": ['error parsing CompactionRetention: time: invalid duration "sometimes"'],
    "flag_and_variable": ["ETCD_NAME", "is shadowed by corresponding command-line flag"],
    "missing_certificate": ["open /srv/no.crt: no such file or directory"],
    "no_certificate_in_it": ["tls: failed to find any PEM data in certificate input"],
    "another_key": ["tls: private key does not match public key"],
    "unreadable_key": ["open /srv/a.key: permission denied"],
    "port_taken": ["listen tcp 127.0.0.1:2379: bind: address already in use"],
    "peer_port_taken": ["listen tcp 127.0.0.1:2380: bind: address already in use"],
    "address_of_another": ["10.9.8.7:2379: bind: cannot assign requested address"],
    "no_permission": ["open /srv/data", "permission denied"],
    "cluster_without_me": ["couldn't find local name"],
    "no_space": ["no space left on device"],
    "read_only": ["read-only file system"],
    "database_pages_zero": ["panic: "],
    "database_meta_zero": ["invalid database", "/srv/data/member/snap/db"],
    "database_cut": ["file size too small", "/srv/data/member/snap/db"],
    "log_flipped": ["crc mismatch"],
    "log_head_flipped": ["wal: |cannot use none as id|invalid memory address"],
    "log_missing": ["wal: file not found"],
    "snapshot_database_missing": ["failed to recover v3 backend from snapshot"],
    "another_initial_cluster": ["member count is unequal"],
    # Its name was bootstrapped before; or, of another token, it only finds no peers.
    "bootstrapped_before": ["cluster ID mismatch"],
    "removed_member": ["the member has been permanently removed from the cluster"],
    "newer_data": ["version"],
}


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_decisive_words_of_a_real_log(path):
    told = etcd_ha_etcd_log.decisive(path.read_text())
    assert all(any(one in told for one in word.split("|")) for word in WORDS[path.stem]), told
    assert "goroutine" not in told and "\n" not in told
    assert len(told) <= etcd_ha_etcd_log.LONGEST


def test_the_corpus_is_there():
    """A log of each way to fail, of each line that was broken."""
    assert {path.stem for path in FOUND} - set(WORDS) == set()
    assert len({path.stem for path in FOUND}) > 15


PANIC = """\
{"level":"info","ts":"x","msg":"opened backend db","path":"/var/lib/etcd/member/snap/db"}
panic: assertion failed: Page expected to be: 4, but self identifies as 0

goroutine 146 [running]:
go.etcd.io/bbolt.(*DB).page(...)
\tgo.etcd.io/bbolt@v1.3.10/db.go:1022
exit status 2
"""
FAULT = """\
unexpected fault address 0x7f2b3c000000
fatal error: fault
[signal SIGBUS: bus error code=0x2 addr=0x7f2b3c000000 pc=0xbd9a35]

goroutine 1 [running]:
runtime.throw({0x1, 0x2})
"""
ZAP = """\
{"level":"panic","ts":"x","msg":"tocommit(10) is out of range [lastIndex(5)]. Was the raft log \
corrupted, truncated, or lost?","stacktrace":"go.etcd.io/etcd/raft\\n\\t/x"}
panic: tocommit(10) is out of range [lastIndex(5)]. Was the raft log corrupted, truncated, or lost?

goroutine 99 [running]:
main.main()
"""
TWO = PANIC + '{"level":"fatal","msg":"failed to open database","error":"timeout"}\n'
SYSTEMD = "etcd.service: Failed at step EXEC spawning /opt/etcd/current/etcd: Permission denied"
MANY = '{"level":"fatal","msg":"' + "x" * 5000 + '"}'


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (PANIC, "panic: assertion failed: Page expected to be: 4, but self identifies as 0"),
        (FAULT, "unexpected fault address 0x7f2b3c000000 fatal error: fault"),
        (
            ZAP,
            "tocommit(10) is out of range [lastIndex(5)]. Was the raft log corrupted, "
            "truncated, or lost?",
        ),
        (f"etcd.service: x\n{SYSTEMD}\netcd.service: Failed with result 'exit-code'.", SYSTEMD),
        ("", ""),
        ("Started etcd.\n{broken json\n", ""),
        ('{"level":7}\n[1]\n{"msg":"x"}\n', ""),
        ('{"level":"fatal","msg":{"a":1},"error":["b"]}', '{"a": 1}; error: ["b"]'),
    ],
)
def test_other_logs(log, told):
    assert etcd_ha_etcd_log.decisive(log) == told


def test_it_is_short_and_its_end_is_kept():
    told = etcd_ha_etcd_log.decisive(MANY)
    assert len(told) <= etcd_ha_etcd_log.LONGEST and " ... " in told


def test_lines_from_a_time_on():
    log = (
        "99.5 etcd1 etcd[7]: old\n"
        "100.000001 etcd1 systemd[1]: Starting etcd.service: x\n"
        "not a line\n"
        '101.2 etcd1 etcd[8]: {"level":"fatal","msg":"a: b"}\n'
    )
    found = etcd_ha_etcd_log.since(log, 100)
    assert found == 'Starting etcd.service: x\n{"level":"fatal","msg":"a: b"}'


REFUSED_OPTION = """\
{"level":"info","ts":"x","caller":"etcdmain/etcd.go:64","msg":"Running: ","args":["etcd"]}
{"level":"warn","msg":"failed to verify flags","error":"--election-timeout[100ms] is small"}
etcd.service: Main process exited, code=exited, status=1/FAILURE
etcd.service: Failed with result 'exit-code'.
"""


def test_an_option_that_etcd_refuses_in_a_warning_is_named():
    """As 3.6 does it; what systemd says of the end helps nobody."""
    told = etcd_ha_etcd_log.decisive(REFUSED_OPTION)
    assert "--election-timeout[100ms] is small" in told and "Main process" not in told
    exited = "etcd.service: Main process"
    earlier = REFUSED_OPTION.replace(exited, '{"level":"info","msg":"x"}\n' + exited)
    assert "Main process exited" in etcd_ha_etcd_log.decisive(earlier)


TIMED_OUT = """\
{"level":"warn","msg":"failed to publish local member","error":"etcdserver: request timed out"}
{"level":"info","msg":"x is starting a new election at term 7"}
etcd.service: start operation timed out. Terminating.
{"level":"info","msg":"received signal; shutting down","signal":"terminated"}
{"level":"error","msg":"setting up serving from embedded etcd failed.","error":"http: closed"}
etcd.service: Failed with result 'timeout'.
"""


def test_a_start_that_systemd_ended_for_its_time_says_what_etcd_complained_of():
    """systemd's line alone says nothing of the cause, and what etcd says of its end neither."""
    told = etcd_ha_etcd_log.decisive(TIMED_OUT)
    assert told == (
        "start operation timed out; the last that etcd told until then: "
        "failed to publish local member; error: etcdserver: request timed out"
    )
    quiet = TIMED_OUT.split("\n", 1)[1]
    assert "is starting a new election" in etcd_ha_etcd_log.decisive(quiet)
    mute = "etcd.service: start operation timed out. Terminating."
    assert etcd_ha_etcd_log.decisive(mute) == mute
