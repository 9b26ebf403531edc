"""Compile the formula's states as a masterless minion does: Salt's own renderer and compiler."""

from __future__ import annotations

import copy
import logging

import etcd_ha_host_etcds
import pytest
import salt._logging
import salt.config
import salt.state
import yaml
from compiled import FORMULA, GRAINS, Compiled, templates


@pytest.fixture(scope="session", autouse=True)
def quiet_logs():
    """Salt logs every template it renders; a thousand of them would bury a failure."""
    salt._logging.shutdown_temp_handler()
    logging.getLogger("salt").setLevel(logging.CRITICAL)


@pytest.fixture(autouse=True)
def a_machine_without_etcd(monkeypatch):
    """Other tests start programs of that name beside these, and a lab may run."""
    monkeypatch.setattr(etcd_ha_host_etcds, "found", lambda *_: [])


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
    # The SLS alone: Salt lists every file of its roots for each compilation, packages of tests too.
    (root / "base").mkdir()
    (root / "base" / "etcd_ha").symlink_to(FORMULA / "etcd_ha")
    extmods = root / "extmods"
    for kind in ("modules", "states", "runners", "utils"):
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
            "file_roots": {"base": [str(root / "base")]},
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

    def compile_(
        minion,
        pillar,
        *sls,
        os="Debian",
        test=False,
        action="none",
        stage=None,
        by_orch=True,
        **more,
    ):
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
        step = {"action": action, "source": "0" * 64, "stage": stage or {}, **more}
        data = {**copy.deepcopy(pillar), **({"etcd_ha_step": step} if by_orch else {})}
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
