"""docs/backup.md, "What else to keep": the paths are the code's, and what is put back is taken."""

import os
import pathlib
import re
import shutil
import subprocess

import etcd_ha_certificates
import etcd_ha_master
import pytest
import salt.cache
import salt.config
from faces import ROOT, load

PAGE = (ROOT / "docs" / "backup.md").read_text()
SECTION = PAGE.partition("## What else to keep")[2].partition("\n## ")[0]
COPY, PUT_BACK = re.findall(r"```bash\n(.*?)```", SECTION, re.S)
RECORD = {"cluster": "main", "state": "bootstrapped", "members": {}, "cluster_id": "c1"}


def tars(script):
    """The calls of tar, in their order: the CA's, and the records'."""
    return [line.split() for line in script.splitlines() if line.startswith("tar ")]


def run(words, root, files):
    """One of them, below another root."""
    moved = [word.replace("/root/", f"{files}/") for word in words]
    moved[2] = str(root) + moved[2]
    subprocess.run(moved, check=True)


@pytest.fixture
def master(tmp_path):
    opts = salt.config.master_config(None)
    opts["cachedir"] = str(tmp_path) + salt.config.DEFAULT_MASTER_OPTS["cachedir"]
    return opts


def test_the_master_s_record_is_copied_and_taken_again(tmp_path, master):
    cache = salt.cache.Cache(master)
    cache.store(etcd_ha_master.RECORDS, "main", RECORD)
    run(tars(COPY)[1], tmp_path, tmp_path)
    shutil.rmtree(master["cachedir"])
    os.makedirs(master["cachedir"])
    assert not salt.cache.Cache(master).contains(etcd_ha_master.RECORDS, "main")
    run(tars(PUT_BACK)[1], tmp_path, tmp_path)
    assert salt.cache.Cache(master).fetch(etcd_ha_master.RECORDS, "main") == RECORD


def test_the_ca_is_copied_and_taken_again(tmp_path, cluster, monkeypatch):
    folder = pathlib.Path(str(tmp_path) + etcd_ha_certificates.authority_dir(cluster))
    folder.mkdir(parents=True)
    (folder / "ca.key").write_text("key")
    (folder / "ca.crt").write_text("certificate")
    run(tars(COPY)[0], tmp_path, tmp_path)
    states = load("_states/etcd_ha")
    (folder / "ca.key").unlink()
    kept = states.key_kept("a", str(folder / "ca.key"), str(folder / "ca.crt"))
    # The words that the page quotes.
    assert kept["result"] is False and "is missing or empty, but " in kept["comment"]
    assert "`is missing or empty, but … is there`" in SECTION
    shutil.rmtree(folder.parent)
    folder.parent.mkdir()
    run(tars(PUT_BACK)[0], tmp_path, tmp_path)
    kept = states.key_kept("a", str(folder / "ca.key"), str(folder / "ca.crt"))
    assert kept["result"] is True and (folder / "ca.key").read_text() == "key"


def test_the_copies_are_closed_and_the_key_is_root_s_alone_again():
    assert COPY.index("umask 077") < COPY.index("tar ")
    assert "chmod 0400 /etc/pki/etcd_ha/main/ca.key" in PUT_BACK


def test_salt_knows_the_commands_of_stop_a_run():
    page = (ROOT / "docs" / "orchestrate.md").read_text()
    section = page.partition("## Stop a run")[2].partition("\n## ")[0]
    jobs = (pathlib.Path(salt.config.__file__).parents[1] / "runners" / "jobs.py").read_text()
    for name in re.findall(r"salt-run jobs\.(\w+)", section):
        assert f"def {name}(" in jobs
    assert "search_function=" in section and "    search_function=None" in jobs
