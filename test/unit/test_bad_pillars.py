"""Each malformed pillar is refused by its key and its cure, or rendered as what it says alone."""

import copy

import etcd_ha_plain
import etcd_ha_topology
import pytest
import read_back
import salt.utils.yaml
from etcd_ha_topology import PillarError
from good_pillar import PILLAR
from pillar_corpus import KEY, laid_over, rows, whole

REFUSED, HARMLESS, UNREAD = rows("refused", 3), rows("harmless", 3), rows("yaml", 2)
SECRET = "planted-secret"


@pytest.fixture(scope="module", autouse=True)
def counted():
    yield
    print(
        f"\nmalformed pillars: {len(REFUSED) + len(UNREAD) + len(BUILT)} refused, "
        f"{len(HARMLESS)} rendered and read back"
    )


def faults(pillar, defaults):
    with pytest.raises(PillarError) as caught:
        etcd_ha_topology.read(pillar, defaults)
    told = str(caught.value)
    assert SECRET not in told
    assert len(told.splitlines()) <= len(caught.value.faults) + 1
    assert all(len(fault) <= etcd_ha_plain.SENTENCE + 100 for fault in caught.value.faults)
    return caught.value.faults


def test_the_corpus_is_as_large_as_was_asked_for():
    assert len(REFUSED) > 300 and len(HARMLESS) > 60
    assert len({tuple(row) for row in REFUSED}) == len(REFUSED)


@pytest.mark.parametrize(("key", "says", "text"), REFUSED)
def test_is_refused_by_its_key_and_its_cure(key, says, text, defaults):
    found = faults(laid_over(text, key), defaults)
    key = whole(key)
    assert any(fault.startswith(key) and says in fault for fault in found), found
    # A key, and behind it what is wrong and what to do.
    assert all(fault.startswith("etcd_ha") and len(fault) > len(key) + 10 for fault in found)


@pytest.mark.parametrize(("name", "text"), UNREAD)
def test_is_not_even_read_by_salt(name, text):
    text = text.encode().decode("unicode_escape")
    with pytest.raises(salt.utils.yaml.YAMLError):
        salt.utils.yaml.safe_load(text)


@pytest.mark.parametrize(("place", "value", "text"), HARMLESS)
def test_stands_in_every_file_as_it_was_asked_for(place, value, text, defaults):
    clusters = etcd_ha_topology.read(laid_over(text), defaults)
    assert read_back.read_all(clusters) > 10
    if place != "-":
        host = read_back.hosts(clusters)[read_back.MEMBER]
        assert read_back.environment(host["member"]["environment_text"])[place] == value


def with_itself(where):
    """An anchor that holds itself, as YAML allows it: &a {a: *a}."""
    inner = {}
    inner["a"] = inner
    return {where: inner}


def doubling(levels):
    """A few lines of YAML that are billions of values: &b [*a, *a, ...] again and again."""
    inner = ["x"] * 10
    for _ in range(levels):
        inner = [inner] * 10
    return inner


# What no line of YAML can show, or is too large for one: name, change of the cluster, key, says.
BUILT = [
    ("an anchor in itself", with_itself("options"), "options", "hold itself"),
    ("an anchor in itself below tls", with_itself("tls"), "tls", "hold itself"),
    ("an anchor that doubles", {"tls": {"names": doubling(12)}}, None, "repeat itself"),
    ("a text of a megabyte", {"token": "x" * 2**20}, "token", "characters long"),
    ("a key of a megabyte", {"x" * 2**20: 1}, "xxx", "characters long"),
    ("a thousand digits", {"version": "3.6." + "9" * 5000}, "version", "full etcd version"),
    ("a number of 5000 digits", {"ports": {"client": 1 << 20000}}, "ports:client", "64 bits"),
    ("an option of 5000 digits", {"options": {"max-wals": "9" * 5000}}, "options", "whole number"),
    ("a deep list", {"tls": {"names": eval("[" * 90 + "]" * 90)}}, "tls:names", "levels deep"),
    (
        "a hundred thousand members",
        {"members": {f"m{n}": n for n in range(120_000)}},
        None,
        "holds",
    ),
    ("a set", {"tls": {"names": {"a"}}}, "tls:names", "is a set"),
    ("a thousand unknown keys", {f"x{n}": n for n in range(1000)}, "x0", "is not a setting"),
    ("half a character as a key", {"\ud800": 1}, "", "U+D800"),
]


@pytest.mark.parametrize(("name", "change", "key", "says"), BUILT, ids=[row[0] for row in BUILT])
def test_what_has_no_end_is_refused_in_no_time(name, change, key, says, defaults):
    pillar = copy.deepcopy(PILLAR)
    pillar["clusters"]["main"].update(change)
    found = faults(pillar, defaults)
    start = "etcd_ha" if key is None else f"{KEY}:{key}"
    assert any(fault.startswith(start) and says in fault for fault in found), found[:3]


def test_everything_wrong_is_told_at_once(defaults):
    """A wrong key in one section hides no fault of another, whoever looks for it."""
    pillar = laid_over(
        "{versoin: 1, tls: {enbaled: true}, user: 5, ports: {client: 0}, data_dir: /,"
        " options: {log-level: loud}, backup: {keep: {last: 0}}, maintenance: {quota_warning: 0},"
        " access: {users: {'a:b': {}}}, load_balancers: {lb: x}, token: 1,"
        " members: {x: {address: 10.0.0.1, name: 5}}}"
    )
    pillar["firewall"] = {"client_networks": [5]}
    told = "\n".join(faults(pillar, defaults))
    keys = "versoin tls:enbaled user ports:client data_dir options:log-level backup:keep:last"
    keys += " maintenance:quota_warning access:users:a:b load_balancers:lb token firewall"
    assert [key for key in keys.split() if f"{KEY}:{key}" not in told] == []


def test_a_fault_of_the_whole_cluster_is_told_once(defaults):
    pillar = laid_over("{user: 5, members: {etcd1.example.com: {data_dir: /srv/a}}}")
    assert len(faults(pillar, defaults)) == 1


def test_a_section_with_a_wrong_key_is_told_of_by_that_key_alone(defaults):
    """Not that its other settings are missing, which they are not."""
    assert len(faults(laid_over("{tls: {ca: {minoin: ca}}}"), defaults)) == 1


def test_the_error_names_a_hundred_faults_and_counts_the_others(defaults):
    pillar = copy.deepcopy(PILLAR)
    pillar["clusters"]["main"].update({f"x{n}": n for n in range(1000)})
    with pytest.raises(PillarError, match="and 900 more"):
        etcd_ha_topology.read(pillar, defaults)


@pytest.mark.parametrize(
    "text",
    [
        'A="1"\nB="2"\n',
        "# A comment \\\n that goes on\nA=1\n",
        'A="1\\"2\\\\3\\$4"\n',
    ],
)
def test_the_reader_of_environment_files_reads_as_systemd_does(text):
    wanted = {'A="1"\nB="2"\n': {"A": "1", "B": "2"}, 'A="1\\"2\\\\3\\$4"\n': {"A": '1"2\\3$4'}}
    # A backslash takes a comment over the end of its line, and the next one with it.
    assert read_back.environment(text) == wanted.get(text, {"A": "1"})


@pytest.mark.parametrize(
    ("reader", "good", "evil"),
    [
        (read_back.environment, 'A="x"\n', 'A="x"\nB="y"\n'),
        (read_back.unit, "[Service]\nUser=a\n", "[Service]\nUser=a\nExecStartPre=/bin/id\n"),
        (read_back.haproxy, "bind *:1\n", "bind *:1\n    server evil 10.9.9.9:1\n"),
        (read_back.nginx, "stream { a b; }", "stream { a b; c; }"),
    ],
)
def test_the_readers_see_a_line_that_was_put_in(reader, good, evil):
    assert reader(good) != reader(evil)


def test_a_line_that_was_put_in_is_seen(defaults, monkeypatch):
    """The check itself can fail: with a template that repeats a value on a line of its own."""
    clusters = etcd_ha_topology.read(copy.deepcopy(PILLAR), defaults)
    real = read_back.render

    def evil(path, **context):
        return real(path, **context).replace("User=etcd\n", "User=etcd\nExecStartPre=/bin/id\n")

    monkeypatch.setattr(read_back, "render", evil)
    with pytest.raises(AssertionError):
        read_back.read_all(clusters)
