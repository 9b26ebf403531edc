"""What each function of a minion may do when somebody calls it by hand: a new one is classed here.

reads: changes nothing of etcd or the host. safe: looks at the live cluster itself and refuses what
would harm, or can be called again and again. guarded: asks for a confirmation first. formula: for
the orchestrate's steps, each of which looks at what the step before has left.
"""

import ast
import errno
import pathlib

import etcd_ha_client
import etcd_ha_etcdctl
import etcd_ha_machine
import pytest
from faces import load
from salt.exceptions import CommandExecutionError, SaltInvocationError

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLASSES = {
    "etcd_ha_restore": {
        "reads": "look",
        "formula": "prepare exchange start finish stop",
        "guarded": "force",
    },
    "etcd_ha_member": {
        "reads": "reason_to_keep record served_by_one_ca ready_for handshakes",
        "safe": "remove add admit promote enter update readdress write_record retire snapshot "
        "allow_downgrade leave_v2",
        "formula": "retire_balancer set_aside",
    },
    "etcd_ha_maintenance": {
        "reads": "alarms reason_for",
        "safe": "compact defragment disarm",
    },
    "etcd_ha_pillar": {"reads": "check_pillar"},
    "etcd_ha_virtual": {"reads": "fit former interface python"},
    "etcd_ha_ca": {"reads": "common_name needs_key", "formula": "sign set_aside"},
}


def public(module):
    tree = ast.parse((ROOT / "_modules" / f"{module}.py").read_text())
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return {node.name: node for node in functions if not node.name.startswith("_")}


@pytest.mark.parametrize("module", CLASSES)
def test_every_function_is_classed(module):
    classed = [name for names in CLASSES[module].values() for name in names.split()]
    assert sorted(classed) == sorted(public(module))


@pytest.mark.parametrize("module", CLASSES)
def test_what_is_guarded_asks_for_the_name(module):
    for name in CLASSES[module].get("guarded", "").split():
        node = public(module)[name]
        assert "confirm" in [argument.arg for argument in node.args.args]
        # Copied as it is, it does nothing.
        assert "confirm=NAME" in ast.get_docstring(node).partition("CLI Example")[2]


MEMBER = {"cluster": "main", "data_dir": "/nowhere", "wal_dir": None, "config_dir": "/etc/etcd"}


@pytest.fixture
def forced(monkeypatch):
    """``force`` on a member, with what its own etcd and the others are; stopping is told."""
    stopped = []

    def call(own=False, others=(), confirm="main"):
        salt = {
            "etcd_ha.wanted_host": lambda: {"member": {**MEMBER, "start_timeout": 1}},
            "etcd_ha.local_health": lambda: {"healthy": own},
        }
        module = load("_modules/etcd_ha_restore", salt=salt)
        monkeypatch.setattr(module.etcd_ha_data, "stop", lambda *_: stopped.append(1))
        monkeypatch.setattr(etcd_ha_client, "others", lambda _: "https://b:1,https://c:1")

        def listens(url):
            if dict(others).get(url) == "unreachable":
                raise OSError(errno.ENETUNREACH, "Network is unreachable")
            return url in dict(others)

        monkeypatch.setattr(etcd_ha_machine, "listens", listens)

        def healthy(member, timeout, urls):
            found = {url: dict(others)[url] for url in urls.split(",")}
            if "unknown" in found.values():
                raise etcd_ha_etcdctl.EtcdctlError("no answer")
            return {url for url, state in found.items() if state == "healthy"}

        monkeypatch.setattr(etcd_ha_client, "healthy", healthy)
        try:
            module.force("main", confirm=confirm)
        finally:
            assert stopped == []

    return call


@pytest.mark.parametrize("confirm", ["", "other"])
def test_force_asks_for_the_name(forced, confirm):
    with pytest.raises(SaltInvocationError, match="confirm=NAME"):
        forced(confirm=confirm)


@pytest.mark.parametrize(
    ("own", "others", "told"),
    [
        (True, [], "this member has a quorum"),
        (False, [("https://b:1", "healthy")], "https://b:1 has a quorum"),
        (False, [("https://c:1", "unknown")], "not known whether it has a quorum"),
        (False, [("https://c:1", "unreachable")], "cannot be known from here"),
        (False, [("https://c:1", "sick")], "holds no data"),
        (False, [], "holds no data"),
    ],
)
def test_force_looks_at_the_quorum_before_anything_stops(forced, own, others, told):
    with pytest.raises(CommandExecutionError, match=told):
        forced(own, others)
