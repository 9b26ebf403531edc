"""What the runners share: the master's pillar and records, and how its minions are asked."""

import contextlib
import dataclasses
import gc
import hashlib
import re
import types

import etcd_ha_minions
import pytest
import salt.cache
import salt.client
import salt.config
import salt.pillar
import salt.utils.hashutils
from etcd_ha_master import Master
from salt.exceptions import CommandExecutionError, SaltInvocationError


class Pillar:
    """Salt's compiler of pillars: tells one after the other, and notes for whom."""

    def __init__(self, *told):
        self.told, self.minions, self.collected = list(told), [], []

    def __call__(self, opts, grains, minion, saltenv):
        self.minions.append(minion)
        return self

    def compile_pillar(self):
        self.collected.append(gc.isenabled())
        return self.told.pop(0)


@pytest.fixture
def master(pillar, defaults, monkeypatch):
    """Call with what the compiled pillar is, one a compilation."""

    def made(*told, name="master.example.com"):
        compiled = Pillar(*(told or ({"etcd_ha": pillar},)))
        monkeypatch.setattr(salt.pillar, "get_pillar", compiled)
        found = Master({"id": name}, {"etcd_ha_yaml_etcd_ha/defaults.yaml": defaults})
        found.compiled = compiled
        return found

    return made


@pytest.mark.parametrize("name", ["master.example.com", "master.example.com_master"])
def test_the_pillar_is_the_master_s_own_and_compiled_once(master, name):
    found = master(name=name)
    assert list(found.clusters()) == list(found.clusters("main")) == ["main"]
    assert found.compiled.minions == ["master.example.com_master"]


def test_nothing_is_collected_while_salt_imports(master):
    """A finalizer of Salt's that imports took a module of Salt's away (cpython 106176)."""
    found = master()
    found.clusters()
    assert found.compiled.collected == [False] and gc.isenabled()


def test_a_cluster_that_nobody_knows_is_told_with_those_that_are(master):
    with pytest.raises(SaltInvocationError, match="'prod'; it has main"):
        master().clusters("prod")


def test_a_pillar_that_does_not_render_is_told_each_time(master, pillar):
    broken = {"_errors": ["no such file"], "etcd_ha": pillar}
    found = master(broken, broken)
    for _ in range(2):
        with pytest.raises(CommandExecutionError, match="does not render: no such file"):
            found.clusters()


def test_a_wrong_pillar_is_a_sentence(master):
    with pytest.raises(CommandExecutionError, match="is not right"):
        master({"etcd_ha": {"clusters": {"main": {}}}}).clusters()


def test_a_renamed_cluster_is_remembered_by_its_former_name(cluster, monkeypatch):
    records = {"old": {"cluster": "old"}}

    class Cache:
        def __init__(self, opts):
            pass

        def fetch(self, bank, key):
            return records.get(key, {})

        def contains(self, bank, key):
            return key in records

    monkeypatch.setattr(salt.cache, "Cache", Cache)
    renamed = dataclasses.replace(cluster, former="old")
    assert Master({}, {}).record(cluster) == {}
    assert Master({}, {}).record(renamed) == {"cluster": "old"}
    records["main"] = {"cluster": "main"}
    assert Master({}, {}).record(renamed) == {"cluster": "main"}


def test_where_there_is_nobody_nobody_is_asked(monkeypatch):
    monkeypatch.setattr(salt.client, "get_local_client", lambda **_: pytest.fail("it asked"))
    assert etcd_ha_minions.ask(Master({}, {}), [], "test.ping") == {}


def test_a_run_that_is_still_at_work_is_waited_for_and_then_told(monkeypatch, capsys):
    busy = {"etcd1": {"ret": {"busy": ["state.apply 1"]}}}
    answers = [busy, {"etcd1": {"ret": {"busy": []}}}]
    monkeypatch.setattr(etcd_ha_minions.time, "sleep", lambda _: None)
    monkeypatch.setattr(etcd_ha_minions, "ask", lambda *_: answers.pop(0))
    etcd_ha_minions._wait_until_idle(Master({}, {}), busy)
    assert answers == [] and capsys.readouterr().err.count("etcd1 (state.apply 1)") == 2
    monkeypatch.setattr(etcd_ha_minions, "BUSY_TIMEOUT", -1)
    (why,) = etcd_ha_minions._wait_until_idle(Master({}, {}), busy).values()
    assert why.startswith("is still changed by an earlier run (state.apply 1)")
    assert "(salt etcd1 saltutil.kill_job 1)" in why


def test_a_long_wait_for_an_earlier_run_says_its_bound_and_how_to_end_it():
    busy = {"etcd2": ["state.apply 12"], "etcd1": ["state.sls 11"]}
    short = etcd_ha_minions._waits(busy, 100.0, 110.0)
    assert short.endswith("still at work on etcd1 (state.sls 11), etcd2 (state.apply 12)")
    long = etcd_ha_minions._waits(busy, 100.0, 100.0 + etcd_ha_minions.BUSY_TIMEOUT - 30)
    assert long == (
        f"{short}, 30 s more at most. To end it now: salt etcd1 saltutil.kill_job 11, "
        "salt etcd2 saltutil.kill_job 12"
    )


def test_a_minion_that_cannot_end_its_report_is_not_waited_for(monkeypatch):
    """Its result is here already; only a restart of that minion helps."""
    busy = {"etcd1": {"ret": {"busy": ["state.sls 17"]}}, "etcd2": {"ret": {"busy": ["x 18"]}}}
    returns = {"17": {"etcd1": {"ret": {}}}, "18": {}}

    client = types.SimpleNamespace(get_cache_returns=returns.get)
    asked = contextlib.nullcontext(client)
    monkeypatch.setattr(salt.client, "get_local_client", lambda **_: asked)
    monkeypatch.setattr(etcd_ha_minions.time, "sleep", lambda _: None)
    monkeypatch.setattr(etcd_ha_minions, "ask", lambda *_: {})
    # Not at once: a report takes its time.
    assert etcd_ha_minions._wait_until_idle(Master({}, {}), busy) == {}
    monkeypatch.setattr(etcd_ha_minions, "REPORT_TIMEOUT", -1)
    ((mute, why),) = etcd_ha_minions._wait_until_idle(Master({}, {}), busy).items()
    assert mute == "etcd1" and re.match(r"sent .* Restart salt-minion", why)
    returns["17"] = {}
    assert etcd_ha_minions._wait_until_idle(Master({}, {}), busy) == {}


@pytest.fixture
def with_copies(tmp_path):
    """A master whose file server has these files, and which has these copies: path -> text."""

    def made(served, copies):
        for root, files in ((tmp_path / "served", served), (tmp_path / "ext", copies)):
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
        root = tmp_path / "served"

        class Files:
            def file_list(self, saltenv, prefix):
                found = (root / prefix).rglob("*")
                return [str(one.relative_to(root)) for one in found if one.is_file()]

            def hash_file(self, url, saltenv):
                path = root / url.removeprefix("salt://")
                return {"hsum": salt.utils.hashutils.get_hash(str(path))}

        return Master({"extension_modules": str(tmp_path / "ext")}, {"etcd_ha_files": Files()})

    return made


SERVED = {
    "_runners/etcd_ha.py": "new",
    "_utils/etcd_ha_x.py": "new",
    "_utils/etcd_ha_y.py": "new",
    "_utils/other.py": "new",
    # What Python leaves there where somebody runs the tests in file_roots.
    "_utils/__pycache__/etcd_ha_x.cpython-311.pyc": "compiled",
}
ALL = {"runners/etcd_ha.py": "new", "utils/etcd_ha_x.py": "new", "utils/etcd_ha_y.py": "new"}


@pytest.mark.parametrize(
    ("copies", "says"),
    [
        # The formula is loaded from elsewhere.
        ({}, None),
        (ALL, None),
        ({**ALL, "utils/other.py": "old"}, None),
        ({"runners/etcd_ha.py": "new"}, None),
        (
            {**ALL, "utils/etcd_ha_x.py": "old"},
            r"^the master's own copy of _utils/etcd_ha_x.py is older than its file server's\. Run",
        ),
        (
            {**ALL, "utils/etcd_ha_y.py": None},
            r"^the master has no copy of _utils/etcd_ha_y.py yet\. Run salt-run saltutil\.sync_all",
        ),
        (
            {**ALL, "runners/etcd_ha.py": "old", "utils/etcd_ha_x.py": None},
            r"copy of _runners/etcd_ha.py is older .*, and the master has no copy of _utils/",
        ),
    ],
)
def test_own_modules_must_be_those_of_the_file_server(with_copies, copies, says):
    held = {name: text for name, text in copies.items() if text is not None}
    master = with_copies(SERVED, held)
    if says is None:
        master.check_own_modules()
        return
    with pytest.raises(CommandExecutionError, match=says):
        master.check_own_modules()


def test_of_many_old_modules_a_few_are_named(with_copies):
    served = {f"_utils/etcd_ha_{number:02}.py": "new" for number in range(65)}
    with pytest.raises(CommandExecutionError) as told:
        with_copies(served, {name[1:]: "old" for name in served}).check_own_modules()
    first = "_utils/etcd_ha_00.py, _utils/etcd_ha_01.py, _utils/etcd_ha_02.py and 62 more is older"
    assert first in str(told.value) and len(str(told.value)) < 250


@pytest.mark.parametrize("hash_type", ["sha256", "md5", "sha512"])
def test_modules_are_compared_whatever_hash_type_the_master_has(tmp_path, hash_type):
    source = tmp_path / "formula/_utils/etcd_ha_x.py"
    own = tmp_path / "ext/utils/etcd_ha_x.py"
    for path in (source, own):
        path.parent.mkdir(parents=True)
        path.write_text("new")
    opts = {
        **salt.config.master_config(None),
        "hash_type": hash_type,
        "file_roots": {"base": [str(tmp_path / "formula")]},
        "cachedir": str(tmp_path / "cache"),
        "extension_modules": str(tmp_path / "ext"),
    }
    found = Master(opts, {})
    found.check_own_modules()
    # As etcd_ha.modules_digest makes it on a minion.
    line = f"_utils/etcd_ha_x.py {hashlib.sha256(b'new').hexdigest()}"
    assert found.modules_digest() == hashlib.sha256(line.encode()).hexdigest()
