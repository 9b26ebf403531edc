"""A sentence names a few of many, and counts the rest."""

import pytest
from etcd_ha_common_text import few


@pytest.mark.parametrize(
    ("things", "told"),
    [
        ("", ""),
        ("a", "a"),
        ("abc", "a, b, c"),
        ("abcd", "a, b, c and 1 more"),
        (range(65), "0, 1, 2 and 62 more"),
    ],
)
def test_three_are_named(things, told):
    assert few(things) == told


def test_sentences_are_parted_as_sentences():
    assert few(["x is bad", "y is bad", "z is bad"], 2, "; ") == "x is bad; y is bad; and 1 more"
