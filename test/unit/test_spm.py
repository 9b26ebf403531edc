"""``spm build`` and ``spm install`` bring everything that a master needs.

Salt's SPM installs of a package what lies below its ``top_level_dir``, the folders that begin with
``_``, ``pillar.example`` and the README, and drops the rest (salt/spm/pkgfiles/local.py,
``install_file``). So the pillar file with the CA's signing policies lies below ``etcd_ha/``.
"""

import pathlib
import shutil

import pytest
import salt.config
import salt.spm
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
POLICIES = "etcd_ha_signing_policies.sls"
PACKED = ("FORMULA", "README.md", "pillar.example", "etcd_ha", "pillar")
MODULES = ("_modules", "_runners", "_states", "_utils")


class Silent(salt.spm.SPMUserInterface):
    def status(self, msg):
        pass

    def error(self, msg):
        raise AssertionError(msg)

    def confirm(self, action):
        pass


def copied(folder):
    """The formula as a checkout has it, without the tests."""
    formula = folder / "formula"
    formula.mkdir()
    for name in (*PACKED, *MODULES):
        source = ROOT / name
        if source.is_symlink():
            (formula / name).symlink_to(source.readlink())
        elif source.is_dir():
            shutil.copytree(source, formula / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, formula / name)
    return formula


def client(tmp_path):
    opts = salt.config.spm_config(None)
    places = ("formula_path", "pillar_path", "reactor_path", "spm_cache_dir", "spm_build_dir")
    opts.update({name: str(tmp_path / "spm" / name) for name in places})
    opts.update(
        cachedir=str(tmp_path / "cache"),
        spm_db=str(tmp_path / "spm" / "packages.db"),
        spm_repos_config=str(tmp_path / "spm.repos"),
        spm_share_dir=str(tmp_path / "share"),
        extension_modules=str(tmp_path / "extmods"),
        force=False,
        verbose=False,
        assume_yes=True,
    )
    (tmp_path / "spm" / "spm_build_dir").mkdir(parents=True)
    return salt.spm.SPMClient(Silent(), opts)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Where the formula and the pillar of a package lie that was built and installed."""
    tmp_path = tmp_path_factory.mktemp("spm")
    spm = client(tmp_path)
    spm.run(["build", str(copied(tmp_path))])
    (package,) = (tmp_path / "spm" / "spm_build_dir").glob("etcd_ha-*.spm")
    spm.run(["local", "install", str(package)])
    return tmp_path / "spm" / "formula_path", tmp_path / "spm" / "pillar_path"


def files(folder):
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in found if "__pycache__" not in path.parts}


def test_all_that_a_master_needs_is_installed(installed):
    formula, pillar = installed
    for name in ("etcd_ha", *MODULES):
        missing = files(ROOT / name) - files(formula / name)
        assert missing == set(), name
    assert (formula / "etcd_ha" / "pillar" / POLICIES).read_text() == (
        ROOT / "pillar" / POLICIES
    ).read_text()
    assert (pillar / "etcd_ha.sls.orig").is_file()


def test_the_pages_name_the_folders_that_spm_makes(installed):
    """The folders of the page are Salt's own defaults, which the test has in another place."""
    page = (ROOT / "docs" / "install.md").read_text()
    section = page.partition("## The formula by SPM")[2].partition("\n## ")[0]
    config = yaml.safe_load(section.partition("```yaml\n")[2].partition("```")[0])
    formula, _ = installed
    default = salt.config.DEFAULT_SPM_OPTS["formula_path"]
    folders = [pathlib.Path(folder) for folder in config["pillar_roots"]["base"]]
    own = [formula / one.relative_to(default) for one in folders if str(one).startswith(default)]
    assert any((folder / POLICIES).is_file() for folder in own), folders
    assert salt.config.DEFAULT_SPM_OPTS["pillar_path"] in map(str, folders)
    assert default in config["file_roots"]["base"]


def test_a_checkout_has_the_file_in_both_places():
    """What masters have in pillar_roots since before goes on to work."""
    assert (ROOT / "pillar").resolve() == ROOT / "etcd_ha" / "pillar"
    assert (ROOT / "pillar" / POLICIES).is_file()
