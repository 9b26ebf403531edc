"""Directories are made with the mode that is meant, whatever the umask of the minion is."""

import ast
import contextlib
import io
import os
import pathlib
import re
import tarfile

import etcd_ha_common_files
import etcd_ha_host_places
import etcd_ha_machine
import pytest
from faces import load

ROOT = pathlib.Path(__file__).resolve().parents[2]
CODE = sorted(
    path for kind in ("utils", "states", "modules") for path in ROOT.glob(f"_{kind}/*.py")
)
# It makes directories for a moment, root's alone, below one that is there.
OTHERS = {"etcd_ha_host_places"}
UMASKS = pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o077])


@contextlib.contextmanager
def under(umask):
    before = os.umask(umask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path):
    return path.stat().st_mode & 0o777


@UMASKS
@pytest.mark.parametrize("wanted", [0o700, 0o750, 0o755])
def test_a_directory_and_those_above_it_have_their_modes(tmp_path, umask, wanted):
    with under(umask):
        etcd_ha_common_files.make_directory(str(tmp_path / "a" / "b" / "c"), wanted)
    assert mode(tmp_path / "a" / "b" / "c") == wanted
    assert [mode(tmp_path / "a" / "b"), mode(tmp_path / "a")] == [0o755, 0o755]


def test_a_directory_that_exists_is_left_alone(tmp_path):
    (tmp_path / "theirs" / "in").mkdir(parents=True)
    for name in ("theirs/in", "theirs"):
        (tmp_path / name).chmod(0o711)
    etcd_ha_common_files.make_directory(str(tmp_path / "theirs" / "in"), 0o700)
    etcd_ha_common_files.make_directory(str(tmp_path / "theirs" / "own"), 0o700)
    assert [mode(tmp_path / "theirs" / "in"), mode(tmp_path / "theirs")] == [0o711, 0o711]
    with pytest.raises(FileExistsError):
        etcd_ha_common_files.make_directory(str(tmp_path / "theirs"), 0o700, fresh=True)


def test_a_file_in_the_place_of_a_directory_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    for path in ("file", "file/in"):
        with pytest.raises(OSError, match="file"):
            etcd_ha_common_files.make_directory(str(tmp_path / path), 0o700)


@UMASKS
def test_a_file_s_directory_can_be_entered_by_those_who_read_it(tmp_path, umask):
    with under(umask):
        etcd_ha_machine.write_text(str(tmp_path / "unit.d" / "own.conf"), "x", 0o644)
    assert mode(tmp_path / "unit.d") == 0o755 and mode(tmp_path / "unit.d" / "own.conf") == 0o644


def release(path, programs):
    with tarfile.open(path, "w:gz") as tar:
        for program in programs:
            entry = tarfile.TarInfo(f"etcd/{program}")
            entry.size = 1
            tar.addfile(entry, io.BytesIO(b"x"))


@UMASKS
def test_etcd_s_user_can_run_what_is_unpacked(tmp_path, umask):
    """203/EXEC otherwise, and on an upgrade only once the first member is stopped."""
    programs = ["etcd", "etcdctl"]
    release(tmp_path / "mirror.tar.gz", programs)

    def get_url(url, path):
        pathlib.Path(path).write_bytes((tmp_path / "mirror.tar.gz").read_bytes())
        return path

    states = load("_states/etcd_ha", salt={"cp.get_url": get_url, "etcd_ha.refusal": lambda: ""})
    checksum = etcd_ha_common_files.sha256(str(tmp_path / "mirror.tar.gz"))
    folder = tmp_path / "opt" / "etcd" / "3.6.14"
    current, bin_dir = tmp_path / "opt" / "etcd" / "current", tmp_path / "usr" / "bin"
    with under(umask):
        told = states.installed(
            "x",
            "3.6.14",
            "https://m/a",
            "https://m/s",
            "a",
            "etcd",
            str(folder),
            programs,
            checksum,
        )
        assert told["result"] is True, told
        told = states.switched("x", str(folder), str(current), str(bin_dir), programs)
        assert told["result"] is True, told
    for path in (tmp_path / "opt", folder.parent, folder, *folder.iterdir(), bin_dir):
        assert mode(path) == 0o755, path


class Noexec:
    """A file system that is mounted with noexec."""

    f_flag = os.ST_NOEXEC | os.ST_NODEV


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize("unpacked", [True, False])
def test_a_release_where_no_program_can_run_is_not_downloaded(
    tmp_path, monkeypatch, test, unpacked
):
    """Again and again, and then the next state would say to unpack it first."""
    folder = tmp_path / "opt" / "etcd" / "3.6.14"
    if unpacked:
        folder.mkdir(parents=True)
        (folder / "etcd").touch(0o755)
    asked = []
    monkeypatch.setattr(os, "statvfs", lambda path: asked.append(path) or Noexec)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(etcd_ha_host_places, "mounts", lambda: {"/", str(tmp_path)})
    # Without cp.get_url: a download would be a KeyError.
    states = load("_states/etcd_ha", salt={"etcd_ha.refusal": lambda: ""}, opts={"test": test})
    release = ("3.6.14", "https://m/a", "https://m/s", "a", "etcd", str(folder), ["etcd"])
    told = states.installed("x", *release)
    assert (told["result"], told["changes"]) == (False, {})
    assert f"{tmp_path} is mounted with noexec" in told["comment"]
    assert "install:dir" in told["comment"] and "Nothing was downloaded" in told["comment"]
    assert asked == [str(folder if unpacked else tmp_path)]
    if not test:
        paths = (str(folder), str(folder.parent / "current"), str(tmp_path / "bin"))
        told = states.switched("x", *paths, ["etcd"])
        assert told["result"] is False and "is mounted with noexec" in told["comment"]


def made_by_hand(tree):
    """The lines that make a directory whose mode the umask changes."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("makedirs", "mkdir")
    ]


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.stem)
def test_no_directory_is_left_to_the_umask(path):
    tree = ast.parse(path.read_text())
    if path.stem == "etcd_ha_common_files":
        tree.body = [one for one in tree.body if getattr(one, "name", "") != "make_directory"]
    assert path.stem in OTHERS or made_by_hand(tree) == []


def test_what_is_left_to_the_umask_is_seen():
    tree = ast.parse("os.makedirs(a, mode=0o755)\npathlib.Path(a).mkdir()\nmake_directory(a, 0)\n")
    assert made_by_hand(tree) == [1, 2]


def test_every_state_of_a_file_names_its_mode():
    """Salt, too, makes files and directories under the umask of its minion."""
    lacking = []
    for path in sorted((ROOT / "etcd_ha").rglob("*.sls")):
        for block in re.split(r"\n\s*\n", path.read_text()):
            makes = re.search(r"^  file\.(managed|directory|recurse|copy):", block, re.M)
            if makes and not re.search(r"^ +- (dir_)?mode: ", block, re.M):
                lacking.append(f"{path.relative_to(ROOT)}: {block.splitlines()[0]}")
    assert lacking == []
