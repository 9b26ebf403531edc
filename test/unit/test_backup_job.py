"""Taking a backup: with programs in etcd's place that do what etcd does, and fail as it fails."""

import json
import os

import etcd_ha_backup_files
import etcd_ha_backup_job as job
import etcd_ha_client
import etcd_ha_trial
import pytest
from programs import program

# An etcd of one member, whose data is a file: what it says is in `state`, keys in `keys`.
ETCDCTL = """
folder = "FOLDER"
state = json.load(open(f"{folder}/state"))
words = sys.argv[1:]
fault = state.get("fault", "")
header = {"revision": state["revision"], "member_id": 1, "cluster_id": 2, "raft_term": 3}
if words[:2] == ["snapshot", "save"]:
    if fault == "full disk":
        open(words[2] + ".part", "w").write("half")
        sys.exit("Error: write: no space left on device")
    if fault == "killed":
        open(words[2] + ".part", "w").write("half")
        sys.exit("Error: rpc error: code = Unavailable desc = error reading from server: EOF")
    if fault == "hang":
        time.sleep(60)
    import hashlib
    data = json.dumps(state["restored"]).encode().ljust(512)
    digest = hashlib.sha256(data).digest()
    if fault == "flip":
        data = b"(" + data[1:]
    open(words[2], "wb").write(data + digest)
elif words[:2] == ["snapshot", "restore"]:
    if fault == "no restore":
        sys.exit("Error: snapshot missing hash but --skip-hash-check=false")
    target = words[3].partition("=")[2]
    os.mkdir(target)
    open(f"{target}/db", "w").write(open(words[2], "rb").read()[:512].decode())
elif words[:2] == ["member", "list"]:
    if fault == "no quorum":
        sys.exit("Error: context deadline exceeded")
    row = {"ID": 1, "name": "etcd1", "peerURLs": ["a"], "clientURLs": ["b"]}
    print(json.dumps({"members": [row]}))
elif words[:2] == ["endpoint", "status"]:
    status = {"header": header, "leader": 1, "version": "3.6.14", "dbSize": state["size"]}
    print(json.dumps([{"Endpoint": "x", "Status": status}]))
elif words[0] == "put":
    if fault == "NOSPACE":
        sys.exit("Error: etcdserver: mvcc: database space exceeded")
    open(f"{folder}/record", "w").write(sys.stdin.read())
elif words[0] == "get" and os.environ["ETCDCTL_ENDPOINTS"].startswith("unix"):
    found = json.load(open("data/db"))
    print(json.dumps({"header": {"revision": found[0]}, "count": found[1]}))
elif words[0] == "get" and "--print-value-only" in words:
    if os.path.exists(f"{folder}/record"):
        print(open(f"{folder}/record").read())
elif words[0] == "get":
    print(json.dumps({"header": header}))
elif words[0] == "lock":
    if fault == "NOSPACE":
        sys.exit("Error: etcdserver: mvcc: database space exceeded")
    print(f"locked {words[2]}")
    sys.exit(state.get("inner", 0))
"""
# It listens, or says why not.
ETCD = """
state = json.load(open("FOLDER/state"))
if state.get("fault") == "no start":
    print(json.dumps({"level": "fatal", "msg": "discovery failed", "error": "freelist is broken"}))
    sys.exit(1)
assert not any(word.startswith("--listen-client-urls=http") for word in sys.argv), sys.argv
open("client:1", "w").close()
time.sleep(60)
"""
KEEP = {"last": 2, "days": 0, "daily": 0, "weekly": 0, "monthly": 0}


class Member:
    """The member on which the job runs."""

    def __init__(self, folder):
        self.folder, self.told = folder, []
        self.state = {"revision": 40, "restored": [41, 12], "size": 4096}
        for name, source in (("etcdctl", ETCDCTL), ("etcd", ETCD)):
            program(folder, name, source.replace("FOLDER", str(folder)))
        self.wanted = {
            "cluster": "main",
            "directory": f"{folder}/backups",
            "keep": KEEP,
            "schedule": "daily",
            "timeout": 20,
            "s3": {"bucket": None, "timeout": 20},
            "secrets": f"{folder}/secrets",
        }
        (folder / "backup.json").write_text(json.dumps(self.wanted))
        self.settings = f"{folder}/backup.json"
        self.says()

    def says(self, **changed):
        self.state.update(changed)
        (self.folder / "state").write_text(json.dumps(self.state))

    def take(self):
        return job.take(self.wanted, self.told.append)

    def names(self):
        folder = self.folder / "backups"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def due(self):
        job.due(self.settings, self.told.append)


@pytest.fixture
def member(tmp_path, monkeypatch):
    found = Member(tmp_path)
    own = {"name": "etcd1", "config_dir": str(tmp_path), "cluster": "main"}
    monkeypatch.setattr(etcd_ha_client, "member_on_disk", lambda: own)
    monkeypatch.setattr(etcd_ha_client, "program", lambda name: f"{tmp_path}/{name}")
    monkeypatch.setattr(etcd_ha_client, "serving_endpoint", lambda: "http://127.0.0.1:1")
    monkeypatch.setattr(etcd_ha_client, "configured", dict)
    monkeypatch.setattr(etcd_ha_trial, "in_the_background", lambda: [])
    # Names tell seconds; a test takes two in one.
    times = iter(range(60))
    really = job._now
    monkeypatch.setattr(job, "_now", lambda: really().replace(second=next(times)))
    return found


def test_a_good_one_has_its_name_its_keys_and_its_sidecar(member):
    backup, problems = member.take()
    assert problems == []
    assert (backup.revision, backup.keys, backup.verified) == (41, 12, True)
    assert (backup.member, backup.members, backup.version) == ("etcd1", ("etcd1",), "3.6.14")
    assert backup.name.endswith("-r41")
    assert member.names() == [".lock", f"{backup.name}.db", f"{backup.name}.json"]
    assert etcd_ha_backup_files.listing(member.wanted["directory"], "main") == [backup]
    assert json.loads((member.folder / "record").read_text())["name"] == backup.name


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("full disk", "no space left on device.*df "),
        ("killed", "snapshot failed.*journalctl -u etcd"),
        ("flip", "own hash is wrong.*Run it again"),
        ("no restore", "the test restore failed"),
        ("no start", "did not open the restored data: discovery failed freelist is broken"),
        ("no quorum", "would be known to be new.*etcd_ha.status"),
    ],
)
def test_what_fails_leaves_nothing_and_the_older_ones(member, fault, words):
    good, _ = member.take()
    before = member.names()
    member.says(fault=fault)
    with pytest.raises(job.JobError, match=f"(?s){words}"):
        member.take()
    assert member.names() == before
    member.says(fault="")
    again, _ = member.take()
    assert {good.name, again.name} <= {name.rpartition(".")[0] for name in member.names()}


def test_a_snapshot_that_takes_too_long_is_given_up(member):
    member.says(fault="hang")
    member.wanted["timeout"] = 1
    with pytest.raises(job.JobError, match="no answer within 1 s"):
        member.take()
    assert member.names() == [".lock"]


def test_one_that_is_older_than_the_cluster_is_no_backup(member):
    """As of a member that fell behind between the question and the snapshot."""
    member.says(revision=42)
    with pytest.raises(job.JobError, match="has revision 41, but the cluster had reached 42"):
        member.take()
    assert member.names() == [".lock"]


def test_a_full_disk_is_known_before_anything_is_written(member, monkeypatch):
    monkeypatch.setattr(etcd_ha_backup_files, "free", lambda folder: 1 << 20)
    with pytest.raises(job.JobError, match=r"1 MiB free.*needs \d+ MiB.*backup:directory"):
        member.take()
    assert member.names() == [".lock"]


def test_too_old_ones_go_after_a_good_one_alone(member):
    first, _ = member.take()
    second, _ = member.take()
    member.says(fault="flip")
    with pytest.raises(job.JobError):
        member.take()
    assert f"{first.name}.db" in member.names()
    member.says(fault="")
    third, _ = member.take()
    held = {name for name in member.names() if name.endswith(".db")}
    assert held == {f"{second.name}.db", f"{third.name}.db"}
    assert any(first.name in line and "gone" in line for line in member.told)


def test_what_does_not_reach_s3_lies_here_and_is_said(member, monkeypatch):
    class Store:
        place = "s3://x"

        def put(self, path, backup):
            assert os.path.exists(path)
            raise job.etcd_ha_s3.S3Error("s3://x: Forbidden")

    monkeypatch.setattr(job, "store", lambda wanted: Store())
    backup, problems = member.take()
    assert problems == ["it did not reach S3: s3://x: Forbidden"]
    assert f"{backup.name}.json" in member.names()
    monkeypatch.setattr(job, "_last", lambda wanted: None)
    with pytest.raises(job.JobError, match=r"lies in .* but it did not reach S3"):
        member.due()


def test_a_full_database_is_backed_up_all_the_same(member):
    member.says(fault="NOSPACE")
    assert member.take()[1] == []


class TestVerify:
    def test_one_without_a_sidecar_gets_it(self, member):
        backup, _ = member.take()
        (member.folder / "backups" / f"{backup.name}.json").unlink()
        found = job.verify(member.wanted, backup.name)
        assert found.verified and found.keys == 12
        assert job.listed(member.wanted) == [found]

    def test_one_with_a_flipped_bit_counts_no_more(self, member):
        backup, _ = member.take()
        path = member.folder / "backups" / f"{backup.name}.db"
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.write_bytes(data)
        with pytest.raises(job.JobError, match=r"hash is wrong.*Delete it"):
            job.verify(member.wanted, backup.name)
        assert [b.verified for b in job.listed(member.wanted)] == [False]

    def test_another_good_snapshot_under_its_name_is_found_out(self, member):
        backup, _ = member.take()
        member.says(restored=[50, 1])
        other, _ = member.take()
        folder = member.folder / "backups"
        os.replace(folder / f"{other.name}.db", folder / f"{backup.name}.db")
        with pytest.raises(job.JobError, match="another snapshot"):
            job.verify(member.wanted, backup.name)

    def test_an_unknown_one_is_said(self, member):
        with pytest.raises(job.JobError, match="there is no backup main-x"):
            job.verify(member.wanted, "main-x")


class TestTheTimer:
    def test_the_first_takes_it_and_the_others_see_that(self, member, monkeypatch):
        monkeypatch.setattr(job, "_interval", lambda *_: 86400.0)
        member.due()
        taken = [name for name in member.names() if name.endswith(".db")]
        member.due()
        assert [name for name in member.names() if name.endswith(".db")] == taken
        assert "was taken by etcd1: nothing to do" in member.told[-1]

    def test_what_lies_here_counts_where_no_member_could_tell(self, member, monkeypatch):
        monkeypatch.setattr(job, "_interval", lambda *_: 86400.0)
        member.says(fault="NOSPACE")
        member.due()
        taken = member.names()
        member.due()
        assert member.names() == taken

    def test_an_old_record_does_not_keep_it_from_it(self, member, monkeypatch):
        monkeypatch.setattr(job, "_interval", lambda *_: 86400.0)
        (member.folder / "record").write_text(
            json.dumps({"name": "main-20200101T000000Z-r1", "member": "etcd2"})
        )
        member.due()
        assert [name for name in member.names() if name.endswith(".db")]

    @pytest.mark.parametrize(("inner", "code"), [(0, 0), (1, 1)])
    def test_what_became_of_it_under_the_lock_is_its_own_end(self, member, capsys, inner, code):
        member.says(inner=inner)
        assert job.main([member.settings]) == code
        assert "locked /etcd_ha/backup-lock/main" in capsys.readouterr().out

    def test_a_full_database_gives_no_lock_and_the_first_goes_without(self, member):
        member.says(fault="NOSPACE")
        assert job.main([member.settings]) == 0
        assert [name for name in member.names() if name.endswith(".db")]

    def test_without_settings_the_cure_is_told(self, member, capsys):
        assert job.main([f"{member.folder}/none"]) == 1
        assert "state.orchestrate etcd_ha.orch" in capsys.readouterr().err


@pytest.mark.parametrize("told", ["[1]", "{", "{}", '{"name": 1}'])
def test_what_is_no_record_keeps_nobody_from_a_backup(member, told):
    (member.folder / "record").write_text(told)
    assert job._last(member.wanted) is None
