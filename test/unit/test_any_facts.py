"""Whatever hosts answer, a plan or a refusal in a sentence comes of it, and never a traceback.

The answers are made from the schema itself (etcd_ha_told), so a fact that is added there is tried
here. Half of them are a cluster's as it is, with a few facts exchanged for any others: hosts that
contradict each other, members that are not in the list, ids of other clusters, any phase of a CA.
Some are a cluster's in which all members tell the same odd thing: each host by itself hardly ever
gets the one fact that the others have, and none of all is what leaves a plan without anybody.

More than what every run tries::

    ETCD_HA_FACTS=300000 .venv/bin/python -m pytest test/unit/test_any_facts.py
"""

import base64
import collections
import copy
import itertools
import os

import etcd_ha_environment
import etcd_ha_membership
import etcd_ha_planner
import etcd_ha_recover
import etcd_ha_report
import etcd_ha_restore
import etcd_ha_rows
import etcd_ha_space
import etcd_ha_steps
import etcd_ha_told
import etcd_ha_topology
import etcd_ha_trust
import pytest
from etcd_ha_observed import Observed, Wanted
from good_pillar import PILLAR
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_bad_facts import FACTS, FOUND, LOOK, MEMBER

EXAMPLES = int(os.environ.get("ETCD_HA_FACTS") or 330)
CA, LB = "ca.example.com", "lb.example.com"
OTHERS = {
    "version": "3.7.1",
    "members": {f"etcd{n}.example.org": {"address": f"192.168.201.5{n}"} for n in (1, 2)},
    "tls": {"enabled": False},
}
FILES = {n: {"certificate": f"/{n}.crt", "key": f"/{n}.key"} for n in ("server", "peer", "client")}
# What the pillar's clusters may be; each is planned beside the one of other hosts.
VARIANTS = {
    "usual": {},
    "plain": {"tls": {"enabled": False}},
    "own certificates": {
        "tls": {"source": "files", "files": {"ca": {"certificate": "/ca.crt"}, **FILES}}
    },
    "one member": {"members": {"etcd1.example.com": {"address": "192.168.200.52"}}},
    "another name": {"renamed_from": "old"},
    "another release": {"version": "3.7.1"},
    "a package": {"install": {"method": "package"}, "version": "3.5.33"},
    "unknown out": {"remove_unknown": True, "purge": True},
    "trust only": {"tls": {"ca": {"minion": CA, "change": "trust"}}},
    "users": {"access": {"enabled": True, "users": {"app": {"roles": []}}}},
    "one address": {
        "load_balancers": {LB: {"address": "192.168.200.56"}, "lb2.example.com": "192.168.200.57"},
        "balancer": {
            "virtual_address": {
                "address": "192.168.200.60",
                "prefix_length": 24,
                "interface": "eth0",
            }
        },
    },
}
WORDS = (
    *("", "x", "main", "old", "other", "bootstrapped", "bootstrapping", "restore", "recover"),
    *("3.6.14", "3.7.1", "3.5.33", "3.4.23", "2.3.8", "4.0.0", "3.6", "3.6.14-rc.1", "amd64"),
    *("etcd1", "etcd2", "etcd9", "etcd1.example.com", "etcd2.example.com", CA, LB),
    *("https://192.168.200.52:2380", "http://192.168.200.62:2379", "https://[::1]:1", "://"),
    *("/var/lib/etcd", "/etc/default/etcd", "/etc/etcd/pki/server.crt", "NOSPACE", "CORRUPT"),
    *("/etc/pki/etcd_ha/main/ca.key", "/etc/pki/etcd_ha/main/ca.crt", "unit", "program", "trust"),
    *("ETCD_NAME", "ETCD_LISTEN_CLIENT_URLS", "ETCD_QUOTA_BACKEND_BYTES", "cluster", "state"),
    *("cluster_id", "member_id", "1", "-1", "99999999999999999999", "process", "etcd.service"),
    *("config", "container", "balancer", "listener", "yes", "data_dir", "unknown", "\n", "é"),
    *("http://[", "https://h:99999", "https://h:port", "%", "{}", "*"),
)
TEXT = st.sampled_from(WORDS) | st.text(max_size=5)
IDS = st.sampled_from(("", "a", "b", "ef37ad9dc622a7c4", "1", "2", "3", "f" * 16))
URLS = st.sampled_from(
    (
        *(
            f"{way}://192.168.200.{n}:{p}"
            for way in ("http", "https")
            for n in (52, 62)
            for p in (2379, 2380)
        ),
        *("https://[::1]:2380", "http://h:1", "x://h:65535"),
    )
)
COUNTS = st.sampled_from((0, 1, 5, 20480, 2 * 1024**3, 10**12)) | st.integers(-5, 10**20)
PATHS = st.sampled_from((*FACTS["authorities"], "/ca.crt", "/etc/pki/etcd_ha/main/ca.crt"))
MINIONS = (
    *(f"etcd{n}.example.com" for n in (1, 2, 3, 9)),
    *(LB, "lb2.example.com", CA, "etcd1.example.org", "etcd2.example.org"),
)
KEYS = st.sampled_from([base64.b64encode(one).decode() for one in (b"", b"/a", b"/b", b"\0")])
ACCESS = st.fixed_dictionaries(
    {
        "enabled": st.booleans(),
        "users": st.dictionaries(TEXT, st.lists(TEXT, max_size=2), max_size=2),
        "roles": st.dictionaries(
            TEXT, st.lists(st.tuples(KEYS, KEYS, TEXT).map(list), max_size=2), max_size=2
        ),
    },
    optional={
        "passwords": st.dictionaries(TEXT, TEXT, max_size=2),
        "named": st.lists(TEXT, max_size=2),
    },
)
# What no schema is made of, each by its own name.
LEAVES = {
    "_text": TEXT,
    "_id": IDS,
    "_release": st.sampled_from(
        ("", "3.3.27", "3.4.23", "3.5.33", "3.6.14", "3.7.1", "3.9.0", "4.0.0", "2.3.8")
    ),
    "_urls": st.lists(URLS, max_size=3),
    "_flag": st.booleans(),
    "_number": COUNTS,
    "_texts": st.lists(TEXT, max_size=3),
    "_of_texts": st.dictionaries(TEXT, TEXT, max_size=4),
    "_table": st.dictionaries(TEXT, TEXT | COUNTS | st.none(), max_size=2),
    "_seconds": st.integers(-(10**11), 10**11) | st.floats(-1e11, 1e11),
    "_is_os_file": st.just("etcd_ha/os/Debian.yaml"),
    "_access": ACCESS | st.fixed_dictionaries({"error": TEXT}),
}
# A CA that has signed what TRUST of the facts bears.
AUTHORITY = {
    "certificates": FACTS["etcd"]["trust"]["certificates"],
    "authorities": FACTS["etcd"]["trust"]["signers"],
    "days_left": 3000,
}
TRIED = collections.Counter()


def of_kind(kind):
    """Anything that the schema lets through at this place."""
    if isinstance(kind, etcd_ha_told.OrNone):
        return st.none() | of_kind(kind.kind)
    if isinstance(kind, etcd_ha_told.OrEmpty):
        return st.just({}) | of_kind(kind.kind)
    if isinstance(kind, etcd_ha_told.Rows):
        return st.lists(of_kind(kind.kind), max_size=2)
    if isinstance(kind, etcd_ha_told.Table):
        return st.dictionaries(PATHS, of_kind(kind.kind), max_size=2)
    if isinstance(kind, etcd_ha_told.Form):
        parts = {name: of_kind(part) for name, part in kind.kinds.items()}
        needed = {name: parts.pop(name) for name in kind.needed}
        return st.fixed_dictionaries(needed, optional=parts)
    return LEAVES[kind.__name__]


ANY_FACTS, ANY_LOOK = of_kind(etcd_ha_told.FACTS), of_kind(etcd_ha_told.LOOK)
ANY_PART = {
    name: st.dictionaries(st.just(name), of_kind(kind), min_size=1)
    for name, kind in etcd_ha_told.FACTS.kinds.items()
    if name != "etcd"
}
ETCD_PART = {name: of_kind(kind) for name, kind in etcd_ha_told.FACTS.kinds["etcd"].kinds.items()}


def clusters_of(variant, defaults):
    main = copy.deepcopy({**PILLAR["clusters"]["main"], **VARIANTS[variant]})
    return etcd_ha_topology.read({"clusters": {"main": main, "other": OTHERS}}, defaults)


def as_it_is(cluster, minion):
    """The facts of a host of a cluster that runs as its pillar says, or nearly."""
    facts = copy.deepcopy(FACTS)
    facts |= {"minion": minion, "changed_files": [], "access": None, "restoring": "", "pairs": []}
    facts["authorities"] = dict.fromkeys(etcd_ha_trust.authority_files(cluster), AUTHORITY)
    if cluster.tls and cluster.ca_minion is None:
        facts["authorities"] = {"/ca.crt": AUTHORITY}
    member = cluster.member(minion)
    if member is None:
        return {**facts, "etcd": {}, "etcds": []}
    members = [
        {
            **MEMBER,
            "id": str(number),
            "name": one.name,
            "peer_urls": [cluster.peer_url(one)],
            "client_urls": [cluster.client_url(one)],
        }
        for number, one in enumerate(cluster.members, 1)
    ]
    own = next(one["id"] for one in members if one["name"] == member.name)
    record = {"cluster": cluster.name, "state": "bootstrapped", "cluster_id": "a"}
    facts["etcd"] |= {
        "environment": etcd_ha_environment.variables(cluster, member),
        "pending": [],
        "alarms": [],
        "record": {**record, "member_id": own},
        "member_id": own,
        "leader": own == "1",
        "version": cluster.version,
        "members": members,
    }
    facts["etcds"] = [{**FOUND, "member_id": own}]
    return facts


@st.composite
def alike(draw, clusters):
    """A cluster as it is, but that all of its members tell the same of something."""
    names = draw(st.lists(st.sampled_from(sorted(ETCD_PART)), min_size=1, max_size=2))
    told = {name: draw(ETCD_PART[name]) for name in names}
    found = {}
    for minion in MINIONS:
        cluster = next((one for one in clusters.values() if minion in one.hosts), clusters["main"])
        found[minion] = as_it_is(cluster, minion)
        if cluster.member(minion):
            found[minion]["etcd"] |= copy.deepcopy(told)
    TRIED[f"alike: {', '.join(sorted(names))}"] += 1
    return found


@st.composite
def hosts(draw, clusters):
    """The facts of some hosts, each one's as they are, as they are but for some, or any at all."""
    if draw(st.integers(0, 2)) == 0:
        return draw(alike(clusters))
    found = {}
    for minion in MINIONS:
        cluster = next((one for one in clusters.values() if minion in one.hosts), clusters["main"])
        how = draw(st.sampled_from(("as it is", "nearly", "nearly", "any", "silent")))
        if how == "silent":
            continue
        if how == "any":
            found[minion] = draw(ANY_FACTS)
            continue
        found[minion] = as_it_is(cluster, minion)
        if how == "nearly":
            for name in draw(st.lists(st.sampled_from(sorted(ANY_PART)), max_size=2)):
                found[minion] |= draw(ANY_PART[name])
            for name in draw(st.lists(st.sampled_from(sorted(ETCD_PART)), max_size=4)):
                found[minion]["etcd"][name] = draw(ETCD_PART[name])
    return found


@st.composite
def known(draw, clusters):
    """What the master may remember, which is its own and of one form."""
    cluster = clusters["main"]
    members = {m.minion: m for m in cluster.members}
    past = draw(st.lists(st.sampled_from((*MINIONS[:4], "etcd1.example.org")), unique=True))
    managed = {
        minion: {
            "name": members[minion].name if minion in members else minion.split(".")[0],
            "peer_url": draw(st.sampled_from(("https://192.168.200.52:2380", "http://h:2380"))),
            **({"member_id": draw(IDS)} if draw(st.booleans()) else {}),
        }
        for minion in past
    }
    digest = st.sampled_from(("1" * 64, "x"))
    return Wanted(
        digests={minion: draw(digest) for minion in cluster.hosts},
        policies={CA: ""},
        recorded=bool(managed) or draw(st.booleans()),
        managed=managed,
        balancers=tuple(draw(st.lists(st.sampled_from((LB, "lb2.example.com")), unique=True))),
        cluster_id=draw(IDS),
        settings={minion: draw(st.sampled_from(("2" * 64, "x"))) for minion in cluster.hosts},
        formula={"source": draw(st.sampled_from(("3" * 64, "x"))), "modules": "0" * 64},
        silent=dict.fromkeys(MINIONS, "is off. Start it") if draw(st.booleans()) else {},
    )


def plans(cluster, observed, wanted, looks, found, lost, backup):
    """Each plan that can be asked for, by its command."""
    for command in etcd_ha_planner.COMMANDS:
        yield command, etcd_ha_planner.plan(cluster, observed, wanted, command, 1)
    yield "restore", etcd_ha_restore.plan(cluster, observed, wanted, looks, backup, "now")
    yield "recover", etcd_ha_recover.plan(cluster, observed, wanted, found, lost)


def check(cluster, made, observed, command):
    """A plan or a refusal; each of its steps is of a host that answered, and rows come of it."""
    text = etcd_ha_steps.text([made])
    assert text and made.summary
    if made.refusal:
        TRIED["refused"] += 1
        assert not made.steps and len(made.refusal) > 20, made.refusal
        return
    TRIED["planned"] += 1
    titles = [step.title for step in made.steps]
    assert len(set(titles)) == len(titles), titles
    for step in made.steps:
        assert set(step.targets) <= observed.keys(), f"{step.title}: {step.targets}"
        assert step.why or step.kind == "again", step.title
    etcd_ha_rows.chained(etcd_ha_rows.remembered(cluster, made.steps, "s", {}, {}))


@pytest.fixture(scope="module", autouse=True)
def counted():
    yield
    print(f"\nplans of any facts: {dict(sorted(TRIED.items()))}")


@pytest.mark.parametrize("variant", VARIANTS)
def test_any_facts_give_a_plan_or_a_refusal(variant, defaults):
    clusters = clusters_of(variant, defaults)
    examples = max(1, EXAMPLES // len(VARIANTS))

    @settings(
        max_examples=examples,
        derandomize="ETCD_HA_FACTS" not in os.environ,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        facts=hosts(clusters),
        wanted=known(clusters),
        found=st.dictionaries(st.sampled_from(MINIONS[:3]), ANY_LOOK, max_size=3),
        lost=st.lists(st.sampled_from(MINIONS), max_size=2),
        backup=st.sampled_from(("", "/b/x.db", "x", "salt://x.db")),
    )
    def run(facts, wanted, found, lost, backup):
        for one in facts.values():
            assert etcd_ha_told.facts_fault(one) == ""
        for one in found.values():
            assert etcd_ha_told.look_fault(one) == ""
        observed = {minion: Observed.of(one) for minion, one in facts.items()}
        there = {m: one for m, one in found.items() if m in observed}
        looks = {m: etcd_ha_restore.Look.of(m, one) for m, one in there.items()}
        for cluster in clusters.values():
            own = etcd_ha_membership.own(cluster, observed, wanted)
            for command, made in plans(cluster, own, wanted, looks, there, lost, backup):
                check(cluster, made, observed, command)
            etcd_ha_space.notes(cluster, own)
            etcd_ha_rows.ids(cluster, facts)
            assert etcd_ha_report.status(cluster, facts)
        etcd_ha_restore.candidate(looks, backup)

    run()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_cluster_as_it_is_gives_a_plan(variant, defaults):
    """What the odd facts are put into: were it refused, nothing behind that would be tried."""
    cluster = clusters_of(variant, defaults)["main"]
    facts = {minion: as_it_is(cluster, minion) for minion in cluster.hosts}
    observed = {minion: Observed.of(one) for minion, one in facts.items()}
    known = Wanted(dict.fromkeys(cluster.hosts, "1" * 64), {CA: ""}, recorded=True, cluster_id="a")
    made = etcd_ha_planner.plan(cluster, observed, known)
    assert made.refusal == "" and made.summary.count("healthy") == 1


# What decides whether a member is started, spared, replaced or taken out.
DECIDING = dict.fromkeys(("active", "has_data", "healthy", "voting", "learner"), (False, True))
DECIDING["corrupt"] = ("", "it differs")


@pytest.mark.parametrize("variant", VARIANTS)
def test_whatever_all_members_tell_alike(variant, defaults):
    """Each answer that decides, by all at once: then nobody is left to plan with."""
    cluster = clusters_of(variant, defaults)["main"]
    members = [member.minion for member in cluster.members]
    known = Wanted(dict.fromkeys(cluster.hosts, "1" * 64), {CA: ""}, recorded=True, cluster_id="a")
    for values in itertools.product(*DECIDING.values()):
        facts = {minion: as_it_is(cluster, minion) for minion in cluster.hosts}
        for minion in members:
            facts[minion]["etcd"] |= dict(zip(DECIDING, values, strict=True))
        observed = {minion: Observed.of(one) for minion, one in facts.items()}
        for command, made in plans(cluster, observed, known, {}, {}, [], "salt://x.db"):
            check(cluster, made, observed, command)


def test_every_kind_of_the_schema_can_be_made():
    assert ANY_FACTS is not None and ANY_LOOK is not None and LOOK
    assert set(etcd_ha_told.FACTS.needed) <= set(FACTS)
