"""Compile the formula's states as a masterless minion does: Salt's own renderer and compiler."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import pytest
import salt._logging
import salt.config
import salt.state
import salt.utils.templates
import yaml

FORMULA = Path(__file__).resolve().parents[2]
GRAINS = {
    "Debian": {"os": "Debian", "os_family": "Debian", "osarch": "amd64"},
    "Ubuntu": {"os": "Ubuntu", "os_family": "Debian", "osarch": "arm64"},
    "RedHat": {"os": "Rocky", "os_family": "RedHat", "osarch": "x86_64"},
    "Fedora": {"os": "Fedora", "os_family": "RedHat", "osarch": "x86_64"},
    "Suse": {"os": "Leap", "os_family": "Suse", "osarch": "x86_64"},
}


REQUISITES = ("require", "watch", "onchanges", "prereq")


class Compiled:
    """The compiled states of one minion: the ordered chunks that Salt would run."""

    def __init__(self, chunks, errors, texts=None):
        self.chunks = chunks
        self.errors = errors
        self.texts = texts or {}

    def ids(self):
        """State IDs in the order of their run, each once."""
        return list(dict.fromkeys(chunk["__id__"] for chunk in self.chunks))

    def functions(self):
        """``state.function`` of every chunk."""
        return [f"{chunk['state']}.{chunk['fun']}" for chunk in self.chunks]

    def of(self, function):
        """All chunks of one ``state.function``."""
        return [c for c in self.chunks if f"{c['state']}.{c['fun']}" == function]

    def one(self, function, **having):
        """The only chunk of one function with these values."""
        found = [c for c in self.of(function) if all(c.get(k) == v for k, v in having.items())]
        assert len(found) == 1, f"{len(found)} chunks of {function} with {having}: {self.ids()}"
        return found[0]

    def file(self, path):
        """The text that the template behind a managed file renders to."""
        return self.texts[path]

    def unresolved(self):
        """Requisites that point to no chunk, as ``ID -> {kind: target}`` texts."""
        return [
            f"{chunk['__id__']} -> {requisite}"
            for chunk in self.chunks
            for requisite in requisites(chunk)
            if not self.targets(requisite)
        ]

    def targets(self, requisite):
        """The chunks that a requisite such as ``{"sls": "etcd_ha.unit"}`` points to."""
        ((kind, target),) = requisite.items()
        if kind == "sls":
            return [
                chunk
                for chunk in self.chunks
                if target in (chunk["__sls__"], *chunk.get("__sls_included_from__", ()))
            ]
        return [
            chunk
            for chunk in self.chunks
            if kind in ("id", chunk["state"]) and target in (chunk["__id__"], chunk["name"])
        ]

    def behind(self, chunk):
        """The IDs of all chunks that must have passed before this one, however far back."""
        seen, waiting = set(), [chunk]
        while waiting:
            for requisite in requisites(waiting.pop()):
                for target in self.targets(requisite):
                    if target["__id__"] not in seen:
                        seen.add(target["__id__"])
                        waiting.append(target)
        return seen


def requisites(chunk):
    """Every requisite of a chunk."""
    return [one for kind in REQUISITES for one in chunk.get(kind, ()) if isinstance(one, dict)]


def templates(state, chunks):
    """Render the template of every managed file: destination -> text."""
    texts = {}
    for chunk in chunks:
        if chunk.get("template") != "jinja":
            continue
        path = FORMULA / chunk["source"].removeprefix("salt://")
        done = salt.utils.templates.JINJA(
            str(path),
            to_str=True,
            saltenv="base",
            salt=state.functions,
            opts=state.opts,
            grains=state.opts["grains"],
            pillar=state.opts["pillar"],
            **chunk["context"],
        )
        assert done["result"], f"{path}: {done['data']}"
        texts[chunk["name"]] = done["data"]
    return texts


@pytest.fixture(scope="session", autouse=True)
def quiet_logs():
    """Salt logs every template it renders; a thousand of them would bury a failure."""
    salt._logging.shutdown_temp_handler()
    logging.getLogger("salt").setLevel(logging.CRITICAL)


@pytest.fixture(scope="session")
def example():
    """The shipped pillar, as plain data."""
    return yaml.safe_load((FORMULA / "pillar.example").read_text())


@pytest.fixture
def pillar(example):
    """A copy of the shipped pillar that a test may change."""
    return copy.deepcopy(example)


@pytest.fixture(scope="session")
def minion_opts(tmp_path_factory):
    """Options of a masterless minion with the formula in its file roots and modules synced."""
    root = tmp_path_factory.mktemp("minion")
    extmods = root / "extmods"
    for kind in ("modules", "states", "utils"):
        (extmods / kind).mkdir(parents=True)
        for module in (FORMULA / f"_{kind}").glob("*.py"):
            (extmods / kind / module.name).symlink_to(module)
    opts = salt.config.minion_config(None)
    opts.update(
        {
            "root_dir": str(root),
            "cachedir": str(root / "cache"),
            "extension_modules": str(extmods),
            "file_client": "local",
            "file_roots": {"base": [str(FORMULA)]},
            "pillar_roots": {"base": [str(FORMULA / "pillar")]},
            "module_dirs": [],
            "state_events": False,
            "test": False,
        }
    )
    return opts


@pytest.fixture
def compile_states(minion_opts):
    """Call with a minion id, a pillar and SLS names; see Compiled."""

    def compile_(minion, pillar, *sls, os="Debian", test=False, action="none"):
        opts = copy.deepcopy(minion_opts)
        opts["id"] = minion
        opts["grains"] = {
            "id": minion,
            "kernel": "Linux",
            "init": "systemd",
            "cpuarch": "x86_64",
            "saltversion": "3008.3",
            "saltversioninfo": [3008, 3],
            "master": "localhost",
            **GRAINS[os],
        }
        opts["test"] = test
        data = {**copy.deepcopy(pillar), "etcd_ha_step": {"action": action, "source": "0" * 64}}
        state = salt.state.HighState(opts, pillar_override=data, initial_pillar=data)
        try:
            high, errors = state.render_highstate({"base": list(sls or ("etcd_ha",))})
            if errors:
                return Compiled([], errors)
            high, extend_errors = state.state.reconcile_extend(high)
            errors += extend_errors + state.state.verify_high(high)
            high, requisite_errors = state.state.requisite_in(high)
            errors += requisite_errors
            chunks, order_errors = state.state.compile_high_data(high)
            errors += order_errors
            return Compiled(chunks, errors, templates(state.state, chunks) if not errors else {})
        finally:
            state.destroy()

    return compile_
