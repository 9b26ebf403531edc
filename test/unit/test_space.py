"""The space of a database: settings, notes, what is planned, and the gates of each step."""

import dataclasses

import etcd_ha_client
import etcd_ha_environment
import etcd_ha_etcdctl
import etcd_ha_machine
import etcd_ha_planner
import etcd_ha_space
import etcd_ha_steps
import etcd_ha_topology
import pytest
import systemd_units
from faces import load
from systemd_units import DOWN
from test_planner import change, healthy, wanted

MIB, GIB = 1024**2, 1024**3
MEMBERS = ("etcd1.example.com", "etcd2.example.com", "etcd3.example.com")


def read(pillar, defaults, **maintenance):
    pillar["clusters"]["main"]["maintenance"] = maintenance
    return etcd_ha_topology.read(pillar, defaults)["main"]


# Settings


@pytest.mark.parametrize(
    ("compaction", "mode", "retention"),
    [
        ({}, "periodic", "1h"),
        ({"retention": "90m"}, "periodic", "90m"),
        ({"mode": "revision", "retention": 10000}, "revision", "10000"),
        ({"mode": "none"}, None, None),
    ],
)
def test_the_compaction_reaches_etcd(pillar, defaults, compaction, mode, retention):
    cluster = read(pillar, defaults, compaction=compaction)
    found = etcd_ha_environment.variables(cluster, cluster.members[0])
    assert found.get("ETCD_AUTO_COMPACTION_MODE") == mode
    assert found.get("ETCD_AUTO_COMPACTION_RETENTION") == retention


def test_the_users_own_options_take_its_place_as_a_whole(pillar, defaults):
    pillar["clusters"]["main"]["options"] = {"auto-compaction-retention": "5000"}
    cluster = read(pillar, defaults)
    found = etcd_ha_environment.variables(cluster, cluster.members[0])
    assert found["ETCD_AUTO_COMPACTION_RETENTION"] == "5000"
    assert "ETCD_AUTO_COMPACTION_MODE" not in found


@pytest.mark.parametrize(
    ("maintenance", "fault"),
    [
        ({"compaction": {"mode": "sometimes"}}, "compaction:mode is 'sometimes'; use periodic or"),
        ({"compaction": {"mode": False}}, "compaction:mode is False"),
        ({"compaction": {"retention": 8}}, "compaction:retention is 8; with mode periodic"),
        ({"compaction": {"retention": "0h"}}, "compaction:retention is '0h'"),
        ({"compaction": {"retention": "500ms"}}, "compaction:retention is '500ms'"),
        ({"compaction": {"mode": "revision"}}, "compaction:retention is '1h'; with mode revision"),
        ({"compaction": {"mode": "revision", "retention": 0}}, "compaction:retention is 0"),
        ({"quota_warning": 0}, "quota_warning is 0; give a whole number from 1 to 100"),
        ({"quota_warning": True}, "quota_warning is True"),
        ({"defragment": {"fragmentation": 101}}, "defragment:fragmentation is 101"),
        ({"defragment": {"minimum_size": -1}}, "defragment:minimum_size is -1; give a number of"),
        ({"defragment": {"size": 1}}, "defragment:size is not a setting"),
        ({"compact": {}}, "did you mean 'compaction'"),
    ],
)
def test_a_wrong_setting_is_told_by_its_key(pillar, defaults, maintenance, fault):
    with pytest.raises(etcd_ha_topology.PillarError) as told:
        read(pillar, defaults, **maintenance)
    assert fault in str(told.value)


def test_it_is_a_cluster_s_setting_not_a_member_s(pillar, defaults):
    pillar["clusters"]["main"]["members"][MEMBERS[0]]["maintenance"] = {"quota_warning": 70}
    with pytest.raises(etcd_ha_topology.PillarError, match="cannot be set for one member"):
        etcd_ha_topology.read(pillar, defaults)


# Numbers


@pytest.mark.parametrize(
    ("variables", "quota"),
    [
        ({}, 2 * GIB),
        ({"ETCD_QUOTA_BACKEND_BYTES": "0"}, 2 * GIB),
        ({"ETCD_QUOTA_BACKEND_BYTES": "4294967296"}, 4 * GIB),
        ({"ETCD_QUOTA_BACKEND_BYTES": "-1"}, 0),
    ],
)
def test_the_quota_is_what_etcd_makes_of_it(variables, quota):
    assert etcd_ha_space.quota(variables) == quota


@pytest.mark.parametrize(
    ("size", "in_use", "pays"),
    [
        (100 * MIB, 55 * MIB, True),
        (100 * MIB, 56 * MIB, False),
        (100 * MIB - 1, 0, False),
        (2 * GIB, GIB, True),
        (0, 0, False),
    ],
)
def test_a_defragmentation_pays_from_both_thresholds_on(defaults, size, in_use, pays):
    settings = defaults["maintenance"]["defragment"]
    assert etcd_ha_space.pays(size, in_use, settings) is pays


def test_the_larger_the_longer_it_may_take():
    assert etcd_ha_space.patience(0) == 60
    assert etcd_ha_space.patience(8 * GIB) > 800


def test_the_copy_needs_room_beside_the_database():
    assert etcd_ha_space.room_fault(GIB, GIB + etcd_ha_space.SPARE) == ""
    assert "1.0 GiB free" in etcd_ha_space.room_fault(GIB, GIB)


def row(size, quota=0, name="c1"):
    return {"endpoint": name, "db_size": size, "db_quota": quota}


def test_full_is_what_would_be_full_again_at_once():
    """Seen with 3.6.14: at 97% of its quota etcd raises NOSPACE for the next request."""
    assert etcd_ha_space.too_large([row(94)], 100) == []
    assert etcd_ha_space.too_large([row(95), row(94)], 100) == ["c1 has 95 B of 100 B"]
    # A member's own word counts, and none is full without a quota.
    assert etcd_ha_space.too_large([row(95, 200)], 100) == []
    assert etcd_ha_space.too_large([row(95)], 0) == []


# Plans


def sized(hosts, **sizes):
    """These members with a database of so many MiB and so many in use."""
    for name, (size, in_use) in sizes.items():
        hosts = change(hosts, f"{name}.example.com", db_size=size * MIB, db_in_use=in_use * MIB)
    return hosts


def full(hosts, alarms=("NOSPACE",), *names):
    for minion in names or MEMBERS:
        hosts = change(hosts, minion, alarms=alarms)
    return hosts


def plan(cluster, hosts, command="converge"):
    return etcd_ha_planner.plan(cluster, hosts, wanted(cluster), command)


def test_defragmented_is_where_it_pays_the_leader_last(cluster):
    hosts = sized(healthy(cluster), etcd1=(900, 100), etcd2=(900, 800), etcd3=(900, 100))
    found = plan(cluster, hosts, "defrag")
    assert [step.function for step in found.steps] == ["etcd_ha_maintenance.defragment"] * 2 + [""]
    assert [step.targets[0] for step in found.steps[:2]] == [MEMBERS[2], MEMBERS[0]]
    assert "move leadership to etcd3, defragment (leader)" in found.steps[1].title
    assert found.steps[1].arguments == {"successor": "etcd3"}
    assert "900.0 MiB, 88% of it free" in found.steps[0].why
    assert found.warnings == (
        "what each member's database holds:\n"
        "    MEMBER  DB SIZE    IN USE     FREE  PAYS\n"
        "    etcd1   900.0 MiB  100.0 MiB  88%   yes\n"
        "    etcd2   900.0 MiB  800.0 MiB  11%   no\n"
        "    etcd3   900.0 MiB  100.0 MiB  88%   yes",
    )


def test_where_it_pays_nowhere_it_says_what_was_found_and_from_when_it_does(cluster):
    hosts = sized(healthy(cluster), etcd1=(12, 11), etcd2=(11, 1), etcd3=(1, 1))
    found = plan(cluster, hosts, "defrag")
    assert found.steps == () and not found.refusal
    assert found.nothing == (
        "nothing to defragment: 3 healthy members, the largest database is etcd1's: 12.0 MiB, of "
        "which 1.0 MiB (8%) is free. It pays from 100.0 MiB and 45% on (maintenance:defragment)"
    )
    told = etcd_ha_steps.text([found])
    assert f"  {found.nothing}" in told.splitlines() and "in sync" not in told


def test_by_the_pillar_s_own_thresholds(pillar, defaults):
    cluster = read(pillar, defaults, defragment={"minimum_size": 4 * MIB, "fragmentation": 30})
    found = plan(cluster, sized(healthy(cluster), etcd3=(8, 7)), "defrag")
    assert "is etcd3's: 8.0 MiB" in found.nothing and "from 4.0 MiB and 30% on" in found.nothing


def test_a_member_that_is_not_healthy_is_passed_over_and_named(cluster):
    hosts = change(sized(healthy(cluster), etcd1=(12, 11)), MEMBERS[1], healthy=False)
    found = plan(cluster, hosts, "defrag")
    assert "etcd2   -         -         -     not healthy" in found.warnings[0]
    assert "2 healthy members" in found.nothing


def test_every_command_with_an_empty_plan_says_why(cluster):
    """The words of a converge tell nothing to whoever asked for something else."""
    for command in etcd_ha_planner.COMMANDS:
        found = plan(cluster, healthy(cluster), command)
        assert found.steps or found.refusal or command == "converge" or found.nothing, command


def test_a_member_stands_still_meanwhile_so_the_others_must_be_a_quorum(cluster):
    hosts = sized(healthy(cluster), etcd1=(900, 100), etcd2=(900, 100), etcd3=(900, 100))
    hosts = change(hosts, MEMBERS[1], healthy=False)
    found = plan(cluster, hosts, "defrag")
    assert found.steps == () and "cannot be restarted: only" in found.refusal


def test_out_of_nospace_compact_defragment_each_disarm(cluster):
    found = plan(cluster, full(healthy(cluster)), "recover_space")
    functions = [step.function.rpartition(".")[2] for step in found.steps]
    assert functions == ["compact", *["defragment"] * 3, "disarm", ""]
    assert found.steps[-2].arguments == {"alarm": "NOSPACE"}
    assert found.steps[3].targets == (MEMBERS[0],), "the leader is last"
    assert found.steps[-1].kind == "verify"


def test_what_is_told_before_a_recovery_are_the_sizes_alone(cluster):
    hosts = sized(full(healthy(cluster)), etcd1=(2040, 30), etcd2=(2041, 30), etcd3=(2042, 30))
    running = {**hosts[MEMBERS[2]].running, "ETCD_QUOTA_BACKEND_BYTES": "-1"}
    found = plan(cluster, change(hosts, MEMBERS[2], running=running), "recover_space")
    assert found.warnings == (
        "what each member's database holds:\n"
        "    MEMBER  DB SIZE  IN USE    QUOTA\n"
        "    etcd1   2.0 GiB  30.0 MiB  2.0 GiB\n"
        "    etcd2   2.0 GiB  30.0 MiB  2.0 GiB\n"
        "    etcd3   2.0 GiB  30.0 MiB  none",
    )


def test_without_nospace_there_is_nothing_to_recover_and_it_says_how_full_they_are(cluster):
    hosts = sized(healthy(cluster), etcd1=(100, 90), etcd2=(512, 90), etcd3=(1024, 90))
    running = {**hosts[MEMBERS[2]].running, "ETCD_QUOTA_BACKEND_BYTES": str(8 * GIB)}
    found = plan(cluster, change(hosts, MEMBERS[2], running=running), "recover_space")
    assert found.steps == () and found.nothing == (
        "nothing to recover: the alarm NOSPACE is not raised. 3 healthy members, the fullest "
        "database is etcd2's: 512.0 MiB, 25% of its quota of 2.0 GiB"
    )


def test_nor_a_quota_where_there_is_none(cluster):
    hosts = sized(healthy(cluster), etcd1=(100, 90))
    for minion in MEMBERS:
        hosts = change(hosts, minion, running={"ETCD_QUOTA_BACKEND_BYTES": "-1"})
    assert plan(cluster, hosts, "recover_space").nothing.endswith(
        "etcd1's: 100.0 MiB, and no quota"
    )


def test_another_alarm_is_named_with_what_helps(cluster):
    found = plan(cluster, full(healthy(cluster), ("CORRUPT",)), "recover_space")
    assert "but CORRUPT is (run salt-run state.orchestrate etcd_ha.orch)" in found.nothing


def test_nor_while_a_member_is_sick_or_holds_other_data(cluster):
    sick = change(full(healthy(cluster)), MEMBERS[2], healthy=False)
    assert "its database may be full as well" in plan(cluster, sick, "recover_space").refusal
    both = full(healthy(cluster), ("CORRUPT", "NOSPACE"))
    assert "CORRUPT beside NOSPACE" in plan(cluster, both, "recover_space").refusal


def test_a_converge_names_the_way_out_and_tries_no_put(cluster):
    hosts = full(change(healthy(cluster), MEMBERS[1], digest="old"))
    found = plan(cluster, hosts)
    assert found.steps and not [step for step in found.steps if step.kind == "verify"]
    assert [n for n in found.warnings if "etcd_ha.orch.recover_space" in n]
    told = plan(cluster, full(healthy(cluster)))
    assert told.steps == () and [n for n in told.warnings if "alarm NOSPACE" in n]


def test_a_refused_plan_names_it_too(cluster):
    hosts = full(healthy(cluster))
    del hosts["lb.example.com"]
    found = plan(cluster, hosts)
    assert found.refusal and [n for n in found.warnings if "recover_space" in n]


def test_a_database_near_its_quota_is_noted(cluster):
    near = sized(healthy(cluster), etcd2=(1639, 100))
    (note,) = plan(cluster, near).warnings
    assert note.startswith("etcd2: its database has 1.6 GiB, 80% of the quota of 2.0 GiB (93% of")
    assert plan(cluster, sized(healthy(cluster), etcd2=(1638, 100))).warnings == ()
    running = {**near[MEMBERS[1]].running, "ETCD_QUOTA_BACKEND_BYTES": str(4 * GIB)}
    assert plan(cluster, change(near, MEMBERS[1], running=running)).warnings == ()


def test_corrupt_is_disarmed_once_the_odd_one_was_replaced(cluster):
    hosts = full(healthy(cluster), ("CORRUPT",))
    hosts = change(hosts, MEMBERS[1], healthy=False, corrupt="its data differs from the others'")
    found = plan(cluster, hosts)
    titles = [step.title for step in found.steps]
    replaced = next(n for n, title in enumerate(titles) if "replace etcd2" in title)
    assert "disarm CORRUPT" in titles[replaced + 1] and found.steps[-1].kind == "verify"
    assert found.steps[replaced + 1].arguments == {"alarm": "CORRUPT"}


def test_a_run_that_was_cut_short_there_disarms_it_in_the_next(cluster):
    found = plan(cluster, full(healthy(cluster), ("CORRUPT",)))
    assert any(step.function == "etcd_ha_maintenance.disarm" for step in found.steps)


def test_the_leader_is_replaced_first_whose_data_the_others_would_get(pillar, defaults):
    for n in (4, 5):
        pillar["clusters"]["main"]["members"][f"etcd{n}.example.com"] = {
            "address": f"192.168.200.6{n}"
        }
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    hosts = healthy(cluster, leader="etcd4")
    for name in ("etcd2", "etcd4"):
        hosts = change(hosts, f"{name}.example.com", healthy=False, corrupt="its data differs")
    replaced = [step.title for step in plan(cluster, hosts).steps if "replace" in step.title]
    assert ["etcd4" in title for title in replaced] == [True, False]


def test_nothing_is_replaced_while_nobody_knows_who_is_right(cluster):
    hosts = full(healthy(cluster), ("CORRUPT",))
    hosts = change(hosts, MEMBERS[0], disputed="etcd1 a, etcd2 b, etcd3 c")
    found = plan(cluster, hosts)
    assert found.steps == () and "it is not clear whose data is right (etcd1 a" in found.refusal


def test_the_steps_of_upkeep_are_for_members_alone(cluster):
    hosts = sized(full(healthy(cluster)), etcd1=(900, 1), etcd2=(900, 1), etcd3=(900, 1))
    for command in etcd_ha_planner.KEEPING:
        for step in plan(cluster, hosts, command).steps:
            assert step.kind in ("function", "verify") and set(step.targets) <= set(MEMBERS)


# At the moment of the act


class Etcd:
    """A cluster of three by etcdctl and its gateway; ``gateway`` is the error that it gives."""

    def __init__(self, alarms, sizes=(10, 10, 10), gateway="", silent=()):
        self.alarms, self.sizes, self.gateway, self.silent = list(alarms), sizes, gateway, silent
        self.calls, self.fails = [], {}
        self.meanwhile = ()

    def ctl(self, member, command, timeout, endpoints=None, stdin=None):
        self.calls.append(command)
        if command[0] in self.fails:
            return etcd_ha_etcdctl.Answer(1, "", self.fails[command[0]])
        if command[:2] == ["alarm", "disarm"]:
            told = "\n".join(f"alarm:{alarm}" for alarm in (*self.alarms, *self.meanwhile))
            self.alarms = []
            return etcd_ha_etcdctl.Answer(0, told, "")
        return etcd_ha_etcdctl.Answer(0, "", "")

    def listed(self, *_):
        return [{"alarm": alarm, "member_id": "b"} for alarm in self.alarms]

    def status(self, member, timeout, endpoints=None):
        return [
            {
                "endpoint": f"c{n}",
                "member_id": f"id{n}",
                "db_size": size,
                "db_in_use": size,
                "db_quota": 100,
                "revision": 7,
                "leader": n == 1,
            }
            for n, size in enumerate(self.sizes, 1)
            if n not in self.silent
        ]

    def post(self, url, files, body, times):
        if self.gateway:
            raise OSError(self.gateway)
        self.calls.append(body)
        self.alarms = [alarm for alarm in self.alarms if alarm not in body]


@pytest.fixture
def here(monkeypatch):
    """The module on a member of such a cluster."""

    def made(alarms=(), **more):
        etcd = Etcd(alarms, **more)
        listed = [
            {"id": f"id{n}", "name": f"etcd{n}", "learner": False, "client_urls": [f"c{n}"]}
            for n in (1, 2, 3)
        ]
        for name, value in {
            "member_on_disk": lambda: {"config_dir": "/nowhere"},
            "serving_endpoint": lambda: "https://c1",
            "etcdctl": etcd.ctl,
            "alarms": etcd.listed,
            "status": etcd.status,
            "members": lambda *_: listed,
            "configured": lambda: {"ETCD_DATA_DIR": "/data"},
        }.items():
            monkeypatch.setattr(etcd_ha_client, name, value)
        monkeypatch.setattr(etcd_ha_machine, "post_often", etcd.post)
        systemd_units.told(monkeypatch, DOWN)
        done = []
        salt = {
            "etcd_ha.reason_to_stay": lambda: "",
            "etcd_ha.local_health": lambda: {"healthy": True},
            "etcd_ha.move_leader": lambda to: done.append(f"lead {to}"),
            "etcd_ha_member.promote": lambda: done.append("caught up"),
        }
        module = load("_modules/etcd_ha_maintenance", salt=salt)
        monkeypatch.setattr(module.os, "statvfs", lambda _: Room(1 << 40))
        module.etcd, module.done = etcd, done
        return module

    return made


@dataclasses.dataclass
class Room:
    """What statvfs tells."""

    f_bavail: int
    f_frsize: int = 1
    f_files: int = 0
    f_favail: int = 0


def test_one_alarm_is_disarmed_and_no_other(here):
    module = here(["NOSPACE", "CORRUPT"])
    assert module.disarm("NOSPACE") == [{"alarm": "NOSPACE", "member_id": "b"}]
    assert module.etcd.alarms == ["CORRUPT"]
    assert '"memberID": "11"' in module.etcd.calls[-1], "the id is decimal in JSON"


def test_a_second_run_finds_nothing_to_disarm(here):
    assert here([]).disarm("NOSPACE") == []


def test_not_while_a_database_is_full(here):
    module = here(["NOSPACE"], sizes=(10, 99, 10))
    with pytest.raises(module.CommandExecutionError, match=r"c2 has 99 B of 100 B\. Delete keys"):
        module.disarm("NOSPACE")
    assert module.etcd.alarms == ["NOSPACE"]


def test_nor_while_a_member_does_not_tell(here):
    module = here(["NOSPACE"], silent=(3,))
    with pytest.raises(module.CommandExecutionError, match="etcd3 does not answer"):
        module.disarm("NOSPACE")


def test_with_users_in_etcd_by_etcdctl_but_never_beside_corrupt(here):
    module = here(["NOSPACE"], gateway="answered 400: CommonName")
    assert module.disarm("NOSPACE") and ["alarm", "disarm"] in module.etcd.calls
    module = here(["NOSPACE", "CORRUPT"], gateway="answered 400: CommonName")
    with pytest.raises(module.CommandExecutionError, match="would disarm CORRUPT with it"):
        module.disarm("NOSPACE")
    assert module.etcd.alarms == ["NOSPACE", "CORRUPT"]


def test_a_corrupt_that_came_in_that_very_moment_is_told(here):
    module = here(["NOSPACE"], gateway="answered 400")
    module.etcd.meanwhile = ("CORRUPT",)
    with pytest.raises(module.CommandExecutionError, match="in the very moment"):
        module.disarm("NOSPACE")


def test_an_unknown_alarm_is_a_fault_not_an_absent_one(here):
    module = here()
    for call in (module.disarm, module.reason_for):
        with pytest.raises(module.SaltInvocationError, match="use NOSPACE or CORRUPT"):
            call("NOSPCE")


@pytest.mark.parametrize(
    ("hashes", "stays"), [(("a", "a", "a"), False), (("a", "a", "b"), True), (("a", "a"), True)]
)
def test_corrupt_stays_until_all_hold_the_same(here, monkeypatch, hashes, stays):
    module = here(["CORRUPT"])
    rows = [
        {"member_id": f"id{n}", "hash": found, "revision": 1, "compact_revision": 1}
        for n, found in enumerate(hashes, 1)
    ]
    monkeypatch.setattr(etcd_ha_client, "hashes", lambda *_: rows)
    if not stays:
        assert module.disarm("CORRUPT")
        return
    with pytest.raises(module.CommandExecutionError, match="not all members hold the same"):
        module.disarm("CORRUPT")


def test_what_was_compacted_before_is_no_failure(here):
    module = here()
    module.etcd.fails["compact"] = "Error: required revision has been compacted"
    assert module.compact() == {"revision": 7}
    module.etcd.fails["compact"] = "Error: corrupt cluster"
    with pytest.raises(module.CommandExecutionError, match="corrupt cluster"):
        module.compact()


def test_defragmented_is_after_leadership_and_waited_for(here):
    module = here()
    found = module.defragment("etcd2")
    assert module.done == ["lead etcd2", "caught up"]
    assert (found["before"], found["bytes_freed"]) == ("10 B", 0)
    assert module.etcd.calls == [["defrag", "--command-timeout=60s"]]


@pytest.mark.parametrize(
    ("after", "freed", "number"),
    [(3 * MIB, "7.0 MiB", 7 * MIB), (11 * MIB, "0 B", -1 * MIB)],
)
def test_each_step_tells_its_member_s_size_before_and_after(
    here, monkeypatch, after, freed, number
):
    """A member that is written to meanwhile may end with a larger file than it began with."""
    module = here(sizes=(10 * MIB,) * 3)
    defragmented = module.etcd.ctl

    def ctl(*call):
        module.etcd.sizes = (after,) * 3
        return defragmented(*call)

    monkeypatch.setattr(etcd_ha_client, "etcdctl", ctl)
    found = module.defragment()
    assert found.pop("seconds") >= 0
    assert found == {
        "before": "10.0 MiB",
        "after": f"{after // MIB}.0 MiB",
        "freed": freed,
        "in_use": f"{after // MIB}.0 MiB",
        "bytes_freed": number,
    }


@pytest.mark.parametrize("why", ["no quorum", "no room"])
def test_it_is_not_begun_without_a_quorum_or_room(here, monkeypatch, why):
    module = here()
    if why == "no quorum":
        module.__salt__["etcd_ha.reason_to_stay"] = lambda: "only 0 of the other members"
    else:
        monkeypatch.setattr(module.os, "statvfs", lambda _: Room(10))
    with pytest.raises(module.CommandExecutionError, match="was not defragmented: "):
        module.defragment()
    assert module.etcd.calls == [] and module.done == []


def test_a_failure_of_etcd_is_told_by_its_own_words(here):
    module = here()
    module.etcd.fails["defrag"] = "Error: no space left on device"
    with pytest.raises(module.CommandExecutionError, match="no space left on device"):
        module.defragment()


@pytest.mark.parametrize("given", ["x", "1e9", "2 GiB", "-", "9" * 30, "0x10", " 1", "1\n"])
def test_of_a_quota_that_is_no_number_nothing_is_said(given):
    assert etcd_ha_space.quota({"ETCD_QUOTA_BACKEND_BYTES": given}) == 0


@pytest.mark.parametrize(
    ("quota", "size", "refused"),
    [
        (20 * MIB, 30 * MIB, True),
        (20 * MIB, 19 * MIB, True),
        (20 * MIB, 10 * MIB, False),
        (-1, 30 * MIB, False),
        # It is in force already: a note says what helps, and members can be healed.
        (4 * GIB, 5 * GIB, False),
    ],
)
def test_a_quota_below_what_a_database_has_is_refused(pillar, defaults, quota, size, refused):
    before = {"options": {"quota-backend-bytes": 4 * GIB}}
    running = etcd_ha_topology.read(
        {"clusters": {"main": {**pillar["clusters"]["main"], **before}}}, defaults
    )["main"]
    pillar["clusters"]["main"]["options"] = {"quota-backend-bytes": quota}
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    hosts = change(healthy(running), MEMBERS[1], db_size=size)
    made = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert bool(made.refusal) is refused, made
    if refused:
        assert made.steps == () and "the database of etcd2 has" in made.refusal
        assert "etcd_ha:clusters:main:options:quota-backend-bytes" in made.refusal


def test_a_balancer_is_not_configured_for_ever_while_a_database_is_full(cluster):
    """To it no member is healthy then; the note says what helps."""
    hosts = change(full(healthy(cluster)), "lb.example.com", balancer_healthy=False)
    told = plan(cluster, hosts)
    assert told.steps == () and [note for note in told.warnings if "alarm NOSPACE" in note]
