"""The tables of docs/options.md, made from the formula's own tables of flags.

``python test/unit/options_page.py`` writes them into the page.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "_utils")]

import etcd_ha_etcd_flags as flags  # noqa: E402
from etcd_ha_pillar_option_bounds import BOUNDS  # noqa: E402

PAGE = ROOT / "docs" / "options.md"


def lines(name):
    """The lines that know a flag, as people write it."""
    row = flags.FLAGS[name]
    first, last = flags.shown(row.since), flags.shown(row.until or flags.NEWEST)
    return first if first == last else f"{first} to {last}"


def table(heads, rows):
    found = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in found)


def owned():
    rows = [[f"`{name}`", f"`{key}`"] for name, key in sorted(flags.OWNED.items())]
    return table(["Flag", "Set by the key"], rows)


def never():
    names = sorted(name for name in flags.FLAGS if flags.never(name))
    return table(["Flag", "Lines", "Why"], [[f"`{n}`", lines(n), flags.never(n)] for n in names])


def bound():
    rows = [
        [f"`{name}`", lines(name), f"needs {one.needs}", one.why]
        for name, bounds in sorted(BOUNDS.items())
        for one in bounds
    ]
    return table(["Flag", "Lines", "Condition", "Why"], rows)


def frees():
    taken = {*flags.OWNED, *BOUNDS, *filter(flags.never, flags.FLAGS)}
    names = sorted(flags.FLAGS.keys() - taken)
    return table(["Flag", "Lines"], [[f"`{name}`", lines(name)] for name in names])


MADE = {"owned": owned, "never": never, "bound": bound, "frees": frees}


def made(page):
    """The page with its tables made anew."""
    return re.sub(
        r"(<!-- table: ([a-z]{5}) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{MADE[match[2]]()}{match[3]}",
        page,
        flags=re.S,
    )


if __name__ == "__main__":
    PAGE.write_text(made(PAGE.read_text()))
