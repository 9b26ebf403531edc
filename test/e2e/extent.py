"""What runs in each ``make test``, and what only where all is asked for: ETCD_HA_E2E=all."""

import os

import pytest

ALL = os.environ.get("ETCD_HA_E2E") == "all"


def only_in_all(test):
    """A test that is long, or that repeats on other releases what one run has shown."""
    return _mark(test.__name__)(test)


def only_in_all_case(value):
    """The same for one value of a parameter."""
    return pytest.param(value, marks=_mark(f"the case {value}"))


def _mark(name):
    return pytest.mark.skipif(not ALL, reason=f"{name} is run with ETCD_HA_E2E=all alone")
