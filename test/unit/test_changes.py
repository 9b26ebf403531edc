"""docs/changes.md shows the plans that its edits give."""

import re

import pytest
import told_changes
from told_changes import PAGE, base, edited, plan_of, renewed, sections

TEXT = PAGE.read_text()


@pytest.mark.parametrize("head", sections(TEXT))
def test_the_page_shows_the_present_plan(head):
    assert plan_of(head, TEXT) == sections(TEXT)[head][1], (
        "the planner says something else by now; read it, then: python test/unit/told_changes.py"
    )


def test_every_plan_and_every_edit_of_the_page_is_looked_at():
    plans = re.findall(r"^```text\n(?:main|prod): ", TEXT, re.M)
    assert len(sections(TEXT)) == len(plans) >= 20
    assert sum(edit is not None for edit, _ in sections(TEXT).values()) == TEXT.count("```diff")


def test_what_a_section_supposes_belongs_to_a_section():
    assert told_changes.HAPPENED.keys() | told_changes.STARTS.keys() <= sections(TEXT).keys()
    for pairs in told_changes.STARTS.values():
        assert all(old in base(TEXT) for old, _ in pairs)


def test_only_what_shall_be_refused_is_refused():
    refused = {head for head, (_, plan) in sections(TEXT).items() if "refused:" in plan}
    assert refused == {"A member that nobody knows", "A certificate that cannot be used"}


def test_all_that_is_set_aside_stands_on_the_page():
    """By the names that the code gives it: a word, and the date."""
    code = "".join(one.read_text() for one in sorted(told_changes.ROOT.glob("_*/etcd_ha*.py")))
    dated = r"(?:progress\['date'\]|time\.strftime\('%Y%m%d-%H%M%S'\))"
    words = set(re.findall(rf"\b([a-z]+)-\{{{dated}\}}", code))
    words |= set(re.findall(r'\bset_aside"?\]?\(.*, "([a-z]+)"', code))
    assert {"removed", "replaced", "recovered", "moved", "former"} <= words
    table = TEXT[TEXT.index("## What is set aside") :]
    assert [word for word in sorted(words) if f"{word}-DATE" not in table] == []


def test_an_edit_that_does_not_fit_the_pillar_is_an_error():
    with pytest.raises(ValueError, match=r"3\.5\.1"):
        edited(base(TEXT), "-      version: 3.5.1\n+      version: 3.6.1\n")


def test_a_stale_page_is_seen_and_renewed():
    stale = TEXT.replace("as a learner, promote it", "at once")
    assert stale != TEXT
    assert plan_of("Add members", stale) != sections(stale)["Add members"][1]
    assert renewed(stale) == TEXT
