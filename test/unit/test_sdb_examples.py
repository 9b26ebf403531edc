"""The sdb URIs of the docs and of pillar.example lead somewhere with a bare Salt."""

import pathlib
import re

import etcd_ha_topology
import pytest
import salt.sdb
import salt.sdb.yaml
import salt.serializers.yaml
import salt.utils.sdb
import yaml
from good_pillar import PILLAR
from pillar_corpus import laid_over

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "access.md").read_text()
URI = re.compile(r"sdb://([a-z_]+)/[a-z_:/]+")
# Whoever gives examples.
PLACES = [
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "README.md",
    ROOT / "pillar.example",
    *sorted((ROOT / "_modules").glob("*.py")),
    *sorted((ROOT / "_states").glob("*.py")),
]


def blocks():
    """The profile and the file of secrets that the page gives."""
    section = PAGE.partition("### An sdb profile")[2]
    return [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", section, re.S)[:2]]


def test_the_profile_of_the_page_gives_the_password(tmp_path, monkeypatch):
    profile, secrets = blocks()
    file = tmp_path / "secrets.yaml"
    file.write_text(yaml.safe_dump(secrets))
    profile["etcd_secrets"]["files"] = [str(file)]
    loaded = type("Loaded", (), {"yaml": salt.serializers.yaml})
    monkeypatch.setattr(salt.sdb.yaml, "__opts__", {}, raising=False)
    monkeypatch.setattr(salt.sdb.yaml.salt.loader, "serializers", lambda opts: loaded)
    driver = {"yaml.get": salt.sdb.yaml.get}
    monkeypatch.setattr(salt.utils.sdb.salt.loader, "sdb", lambda *args, **kwargs: driver)
    found = salt.utils.sdb.sdb_get("sdb://etcd_secrets/main:app", profile, utils={})
    assert found == secrets["main"]["app"]


def test_its_driver_is_one_that_salt_itself_has():
    (profile,) = blocks()[0].values()
    folder = pathlib.Path(salt.sdb.__file__).parent
    assert (folder / f"{profile['driver']}.py").is_file()


@pytest.mark.parametrize("path", PLACES, ids=lambda path: path.name)
def test_every_example_uses_that_profile(path):
    names = {found[1] for found in URI.finditer(path.read_text())}
    # The page itself says how one of the extension looks.
    assert names <= {"etcd_secrets"} | ({"vault"} if path.name == "access.md" else set())


def test_a_pillar_may_hold_such_uris(defaults):
    text = """
        access: {users: {app: {password: "sdb://etcd_secrets/main:app"}}}
        backup:
          s3: {bucket: etcd-backups, access_key: a, secret_key: "sdb://etcd_secrets/main:secret_key"}
    """
    assert etcd_ha_topology.read(laid_over(text, pillar=PILLAR), defaults)
