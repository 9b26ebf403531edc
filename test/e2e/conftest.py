"""The end-to-end tests' ground: one lab of its own name, and what it has to be like for a test.

A test asks for the state that it needs: ``blank`` (hosts that never saw the formula) or
``converged`` (the shipped pillar is in force). Tests run in that order, so that the lab is
brought there once, not once a test.
"""

import contextlib
import fcntl
import os
import sys
import tempfile
import time

import pytest
from changing import Ground
from lab_command import MEMBERS, Lab

ORDER = ("blank", "converged", "sacrificed", "fresh", "changed")


def pytest_collection_modifyitems(items):
    """Blank hosts first, then the converged lab, then what destroys it or builds other clusters."""

    def rank(item):
        wanted = [ORDER.index(name) for name in ORDER if name in item.fixturenames]
        return min(wanted, default=0)

    for item in items:
        item.add_marker(pytest.mark.e2e)
    items.sort(key=rank)


SAID = "the last that etcd said"
spent: dict[str, float] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report):
    """Say at once why a test failed: a run that is ended by its time never comes to its summary."""
    spent[report.nodeid] = spent.get(report.nodeid, 0.0) + report.duration
    if report.failed:
        said = "\n".join(f"{title}:\n{text}" for title, text in report.sections if SAID in title)
        told = f"{report.longreprtext[-6000:]}\n{said}"
        print(f"\n{report.nodeid} failed:\n{told}", file=sys.__stderr__)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """What each member's etcd said last: hosts are gone before anyone can look at a failed test."""
    made = yield
    report, lab = made.get_result(), getattr(item, "funcargs", {}).get("lab")
    if report.when == "call" and report.failed and isinstance(lab, Lab):
        report.sections += [(f"{SAID} on {host}", lab.said(host)) for host in MEMBERS]


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report):
    """With ``-v`` each line says how long its test took, with what brought the lab there."""
    if report.when == "call" and report.outcome in ("passed", "failed"):
        word = f"{report.outcome.upper()} in {spent.get(report.nodeid, 0.0):.1f} s"
        return report.outcome, "." if report.passed else "F", word
    return None


@pytest.fixture(scope="session")
def _machine():
    lab = Lab(os.environ.get("ETCD_HA_LAB", "e2e"))
    with alone(lab):
        lab.up()
        yield lab
        if not lab.keep:
            lab.down()


@contextlib.contextmanager
def alone(lab):
    """Two suites in one lab would reset each other's hosts."""
    with open(f"{tempfile.gettempdir()}/etcd_ha_e2e_{lab.name}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.exit(
                f"another run of these tests uses the lab {lab.name!r}: wait for its end, or set "
                "ETCD_HA_LAB to another name (a-z and 0-9)",
                returncode=1,
            )
        yield


@pytest.fixture
def lab(_machine):
    """The lab as the test before has left it."""
    began = time.monotonic()
    yield _machine
    print(f"\n  [{time.monotonic() - began:.1f} s in the lab]")


@pytest.fixture
def blank(lab):
    """Hosts that have never seen the formula, and the shipped pillar."""
    lab.become_blank()
    return lab


@pytest.fixture
def converged(lab):
    """The shipped pillar is in force on all hosts, and every member is healthy."""
    lab.become_converged()
    return lab


@pytest.fixture
def sacrificed(lab):
    """As ``converged``, for a test that leaves the lab in ruins."""
    lab.become_converged()
    lab.state = "dirty"
    return lab


@pytest.fixture
def fresh(lab):
    """Blank hosts for another cluster than the shipped one; dirty afterwards."""
    lab.become_blank()
    lab.state = "dirty"
    return lab


@pytest.fixture
def changed(lab):
    """Hosts for five members. A test says by ``begin`` what of the pillar is in force first."""
    lab.grow()
    return Ground(lab)
