"""What runs in each ``make test``, and what only where all is asked for: ETCD_HA_E2E=all."""

import os

import pytest

RELEASES = ("3.4.23", "3.5.16", "3.6.14", "3.7.1")
# The one of the lab's own pillar.
SHIPPED = "3.6.14"
ALL = os.environ.get("ETCD_HA_E2E") == "all"


def only_in_all(test):
    """A test that is long, or that repeats on another way what the usual run has shown."""
    return _mark(test.__name__)(test)


def only_in_all_case(*values):
    """The same for one case of a parametrized test."""
    return pytest.param(*values, marks=_mark(f"the case {'-'.join(map(str, values))}"))


def each_release(releases=RELEASES, usual=SHIPPED):
    """In the usual run the release ``usual`` (none where it is empty), else each of them."""
    cases = [v if v == usual else only_in_all_case(v) for v in releases]
    return pytest.mark.parametrize("version", cases)


def _mark(name):
    return pytest.mark.skipif(not ALL, reason=f"{name} is run with ETCD_HA_E2E=all alone")
