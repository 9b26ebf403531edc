"""The docs say what the code does: every key, function, link and refusal."""

import ast
import fnmatch
import functools
import pathlib
import re
import shlex
import textwrap

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS]
FACES = {
    "_modules/etcd_ha.py": ("Module function", "CLI Example:"),
    "_modules/etcd_ha_pause.py": ("Function of a pause", "CLI Example:"),
    "_modules/etcd_ha_member.py": ("Function of a member", "CLI Example:"),
    "_modules/etcd_ha_member_data.py": ("Function of a member's data", "CLI Example:"),
    "_modules/etcd_ha_backup.py": ("Function of backups", "CLI Example:"),
    "_modules/etcd_ha_restore.py": ("Function of a restore", "CLI Example:"),
    "_modules/etcd_ha_ca.py": ("Function of the CA", "CLI Example:"),
    "_modules/etcd_ha_maintenance.py": ("Function of the upkeep", "CLI Example:"),
    "_modules/etcd_ha_auth.py": ("Function of users and roles", "CLI Example:"),
    "_modules/etcd_ha_pillar.py": ("Function of the pillar", "CLI Example:"),
    "_modules/etcd_ha_virtual.py": ("Function of the virtual address", "CLI Example:"),
    "_runners/etcd_ha.py": ("Runner of the plan", "CLI Example:"),
    "_runners/etcd_ha_overview.py": ("Runner of the overview", "CLI Example:"),
    "_runners/etcd_ha_backups.py": ("Runner of backups", "CLI Example:"),
    "_runners/etcd_ha_pause.py": ("Runner of a pause", "CLI Example:"),
    "_runners/etcd_ha_record.py": ("Runner of the record", "CLI Example:"),
    "_runners/etcd_ha_verify.py": ("Runner of the way to the data", "CLI Example:"),
    "_states/etcd_ha.py": ("State", ".. code-block:: yaml"),
    "_states/etcd_ha_access.py": ("State of users and roles", ".. code-block:: yaml"),
    "_states/etcd_ha_backup.py": ("State of backups", ".. code-block:: yaml"),
    "_states/etcd_ha_ca.py": ("State of the CA", ".. code-block:: yaml"),
    "_states/etcd_ha_firewall.py": ("State of the firewall", ".. code-block:: yaml"),
    "_states/etcd_ha_members.py": ("State of the cluster", ".. code-block:: yaml"),
    "_states/etcd_ha_balancer.py": ("State of a balancer", ".. code-block:: yaml"),
    "_states/etcd_ha_clean.py": ("State of a host that has left", ".. code-block:: yaml"),
    "_states/etcd_ha_keys.py": ("State of a key", ".. code-block:: yaml"),
}
# Files whose functions stand under another name than their own: Salt puts all of them there.
SHARED = {
    "_modules/etcd_ha_member_data.py": "etcd_ha_member",
    "_modules/etcd_ha_pause.py": "etcd_ha",
    "_modules/etcd_ha_pillar.py": "etcd_ha",
    "_runners/etcd_ha_pause.py": "etcd_ha",
    "_runners/etcd_ha_overview.py": "etcd_ha",
    "_runners/etcd_ha_backups.py": "etcd_ha",
    "_runners/etcd_ha_record.py": "etcd_ha",
    "_runners/etcd_ha_verify.py": "etcd_ha",
    "_states/etcd_ha_members.py": "etcd_ha",
    "_states/etcd_ha_balancer.py": "etcd_ha",
    "_states/etcd_ha_keys.py": "etcd_ha",
    "_states/etcd_ha_clean.py": "etcd_ha",
    "_states/etcd_ha_access.py": "etcd_ha",
}
# Cells split at bars that are not escaped.
_CELLS = re.compile(r"(?<!\\)\|")
_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)


def tables(text):
    """Each table of a page as its heads and its rows, all as lists of stripped cells."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", _FENCE.sub("", text), re.M):
        rows = [[cell.strip() for cell in _CELLS.split(line)[1:-1]] for line in block.splitlines()]
        found.append((rows[0], rows[2:]))
    return found


def first_column(text, head):
    """The code in the first cells of all tables whose first head is this."""
    return [row[0].strip("`") for heads, rows in tables(text) if heads[0] == head for row in rows]


def leaves(settings, path=""):
    """Every settable key of the defaults with its value; an empty mapping is a value."""
    for name, value in settings.items():
        here = f"{path}:{name}".lstrip(":")
        if isinstance(value, dict) and value:
            yield from leaves(value, here)
        else:
            yield here, value


def documented_settings():
    """The rows of docs/pillar.md that have a default: key -> (type, default as YAML)."""
    text = (ROOT / "docs" / "pillar.md").read_text()
    return {
        row[0].strip("`"): (row[1], row[2].strip("`"))
        for heads, rows in tables(text)
        if heads[:3] == ["Key", "Type", "Default"]
        for row in rows
    }


@functools.cache
def public_functions(face):
    tree = ast.parse((ROOT / face).read_text())
    return {
        node.name: ast.get_docstring(node) or ""
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def name_of(face):
    """The name under which a user finds a face's functions."""
    return SHARED.get(face, pathlib.Path(face).stem)


def every_function():
    return [
        pytest.param(face, name, id=f"{face.partition('/')[0]}.{name}")
        for face in FACES
        for name in public_functions(face)
    ]


def test_every_setting_has_a_row_and_every_row_a_setting(defaults):
    assert set(documented_settings()) == {key for key, _ in leaves(defaults)}


def test_documented_defaults_are_the_real_ones(defaults):
    real = dict(leaves(defaults))
    told = {key: yaml.safe_load(text) for key, (_, text) in documented_settings().items()}
    assert told == real


def test_every_row_of_a_setting_names_its_type_and_its_meaning():
    for heads, rows in tables((ROOT / "docs" / "pillar.md").read_text()):
        assert [row for row in rows if len(row) != len(heads) or not all(row)] == []


def test_keys_without_a_default_are_documented_too():
    import etcd_ha_topology as topology

    keys = first_column((ROOT / "docs" / "pillar.md").read_text(), "Key")
    assert set(topology._CLUSTER_ONLY) <= set(keys)
    assert {f"members:ID:{name}" for name in topology._MEMBER_ONLY} <= set(keys)


@pytest.mark.parametrize(("face", "name"), every_function())
def test_every_public_function_shows_an_example(face, name):
    doc = public_functions(face)[name]
    mark = FACES[face][1]
    assert mark in doc, f"{face}: {name} lacks {mark!r}"
    example = doc.partition(mark)[2]
    assert f"{name_of(face)}.{name}" in example, f"{face}: the example of {name} does not use it"


def calls_by_hand(doc):
    """The words behind each function's name in a CLI Example."""
    example = doc.partition("CLI Example:")[2].replace("\\\n", " ")
    lines = [shlex.split(line) for line in re.findall(r"^ +(salt\S* .*)$", example, re.M)]
    found = [next((n for n, w in enumerate(one) if w.startswith("etcd_ha")), None) for one in lines]
    return [one[at + 1 :] for one, at in zip(lines, found, strict=True) if at is not None]


def calls_in_yaml(doc):
    """The arguments of each state in a YAML example."""
    text = textwrap.dedent(doc.partition(".. code-block:: yaml")[2])
    # What Jinja would fill in is a value here.
    states = yaml.safe_load(re.sub(r"{{.*?}}", "{}", text))
    found = [arguments or [] for body in states.values() for arguments in body.values()]
    return [{name for one in arguments for name in one} - {"require"} for arguments in found]


@pytest.mark.parametrize(("face", "name"), every_function())
def test_examples_give_a_function_what_it_takes(face, name):
    tree = ast.parse((ROOT / face).read_text())
    (node,) = [one for one in tree.body if getattr(one, "name", "") == name]
    takes = [one.arg for one in node.args.args]
    needs = set(takes[: len(takes) - len(node.args.defaults)])
    doc = public_functions(face)[name]
    if FACES[face][1] == "CLI Example:":
        named = re.compile(r"[a-z_0-9]+(?==)")
        given = [
            {*takes[: sum(not named.match(w) for w in words)]}
            | {found[0] for found in map(named.match, words) if found}
            for words in calls_by_hand(doc)
        ]
        assert all(sum(not named.match(w) for w in c) <= len(takes) for c in calls_by_hand(doc))
    else:
        given = [{"name", *arguments} for arguments in calls_in_yaml(doc)]
    assert given and all(needs <= one <= set(takes) for one in given), (takes, given)


@pytest.mark.parametrize("face", FACES)
def test_modules_page_lists_the_public_functions_and_no_others(face):
    listed = first_column((ROOT / "docs" / "modules.md").read_text(), FACES[face][0])
    assert sorted(listed) == sorted(f"{name_of(face)}.{name}" for name in public_functions(face))


def test_a_shared_name_is_the_one_that_the_file_gives_itself():
    for face, name in SHARED.items():
        assert f'__virtualname__ = "{name}"' in (ROOT / face).read_text()


def anchors(page):
    """The anchors of a page's headings as GitHub makes them."""
    heads = re.findall(r"^#+ +(.*)$", _FENCE.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken_links(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    assert broken_links(page) == []


def test_a_broken_link_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One head\n[a](page.md#one-head) [b](#no) [c](gone.md) [d](https://x.y/)\n")
    assert broken_links(page) == ["#no", "gone.md"]


def test_the_formula_has_one_version():
    formula = yaml.safe_load((ROOT / "FORMULA").read_text())["version"]
    project = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    newest = re.search(r"^## (\d[\d.]+\d)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert str(formula) == project[1] == newest[1]


def test_every_page_is_reached_from_the_readme():
    linked = set(re.findall(r"\]\((docs/[^)#\s]+)", (ROOT / "README.md").read_text()))
    assert {f"docs/{page.name}" for page in DOCS} <= linked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_what_exists(page):
    known = {f"etcd_ha.{name}" for face in FACES for name in public_functions(face)}
    folder = ROOT / "etcd_ha"
    for sls in folder.rglob("*.sls"):
        parts = sls.relative_to(ROOT).with_suffix("").parts
        known.add(".".join(parts[:-1] if parts[-1] == "init" else parts))
    used = set(re.findall(r"(?<![\w/])etcd_ha\.[a-z_.]*[a-z_]", page.read_text()))
    # etcd_ha.sls is the pillar file, etcd_ha.conf the master's, etcd_ha.git a repository.
    assert used - known - {"etcd_ha.sls", "etcd_ha.conf", "etcd_ha.git"} == set()


def texts_of_the_code():
    """Every text in the code; what is filled in at run time stands as …"""
    found = []
    for path in [*(ROOT / "_utils").glob("*.py"), *(ROOT / face for face in FACES)]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "…" for p in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    found += [path.read_text() for path in (ROOT / "etcd_ha").rglob("*.sls")]
    return found


def is_said(quote, texts):
    """Whether a text has the quote's words in their order, with anything where … stands."""
    words = [re.escape(part.strip()) for part in quote.split("…") if part.strip()]
    pattern = re.compile(".*".join(words), re.S)
    return any(pattern.search(text) for text in texts)


def yaml_blocks(page):
    return [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_yaml_in_the_docs_is_yaml(page):
    assert all(yaml_blocks(page.read_text()))


def test_the_readme_s_five_minutes_fit_together(defaults):
    """Its pillar is accepted, its peer block names who asks, its top file leaves no host out."""
    import etcd_ha_topology as topology

    blocks = yaml_blocks((ROOT / "README.md").read_text())
    pillar = next(block["etcd_ha"] for block in blocks if "etcd_ha" in block)
    peer = next(block["peer"] for block in blocks if "peer" in block)
    top = next(block["base"] for block in blocks if "base" in block)
    cluster = topology.read(pillar, defaults)["main"]
    askers = [host.minion for host in (*cluster.members, *cluster.balancers)]
    assert set(peer) == {re.escape(minion) + "$" for minion in askers}
    assert all(
        functions == ["etcd_ha_ca.sign", "x509.sign_remote_certificate"]
        for functions in peer.values()
    )
    for minion in cluster.hosts:
        files = [f for glob, given in top.items() if fnmatch.fnmatch(minion, glob) for f in given]
        assert "etcd_ha" in files
        assert ("etcd_ha_signing_policies" in files) == (minion == cluster.ca_minion)
    assert any(name.endswith("_master") and "etcd_ha" in top[name] for name in top)


def test_pillar_example_names_every_setting(defaults):
    """Where it is the default, behind a #."""
    named = re.findall(r"^[ #]*([a-z0-9_]+):", (ROOT / "pillar.example").read_text(), re.M)
    told = {name for key, _ in leaves(defaults) for name in key.split(":")}
    assert told - set(named) == set()


@pytest.mark.parametrize("page", ["orchestrate", "backup", "restore", "recover"])
def test_refusals_in_the_docs_are_the_code_s_own(page):
    text = (ROOT / "docs" / f"{page}.md").read_text()
    quotes = first_column(text, "It says")
    assert len(quotes) > 4
    texts = texts_of_the_code()
    assert [quote for quote in quotes if not is_said(quote, texts)] == []


def test_every_refusal_of_the_planner_is_in_the_docs():
    """By the first words after a host's name, as a person would look it up."""
    pages = ("orchestrate", "restore", "recover")
    texts = [(ROOT / "docs" / f"{name}.md").read_text() for name in pages]
    quotes = [quote for text in texts for quote in first_column(text, "It says")]
    names = ("planner", "convergence", "parts", "trust", "upkeep", "restore", "recover")
    sources = [(ROOT / "_utils" / f"etcd_ha_{name}.py").read_text() for name in names]
    tree = ast.parse("\n".join(sources))
    raised = [
        node.args[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "Refused"
        and isinstance(node.args[0], ast.JoinedStr)
    ]
    assert len(raised) > 12
    missing = []
    for text in raised:
        parts = [part.value if isinstance(part, ast.Constant) else "…" for part in text.values]
        said = "".join(map(str, parts))
        if said != "…: …" and not any(is_said(quote, [said]) for quote in quotes):
            missing.append(said)
    assert missing == []


@pytest.mark.parametrize(
    "path",
    [
        p
        for folder in ("_utils", "_modules", "_states", "_runners")
        for p in ROOT.glob(f"{folder}/*.py")
    ],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_contributing_says_what_each_file_is_for(path):
    assert f"{path.name}`" in (ROOT / "CONTRIBUTING.md").read_text()
