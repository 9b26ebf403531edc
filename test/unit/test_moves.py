"""A data directory on its way to another place: wherever it ends, the next run goes on with it."""

import errno
import importlib.util
import itertools
import json
import os
import pathlib
import shutil

import pytest

STATES = pathlib.Path(__file__).parents[2] / "_states" / "etcd_ha.py"
CONTENT = {"member/wal/0.wal": "log", "member/snap/db": "data"}
STEPS = ((os, "rename"), (os, "rmdir"), (os, "replace"), (os, "chown"), (os, "sync"))


class PowerLoss(BaseException):
    """Nothing runs after it: no handler, no clean-up."""


@pytest.fixture
def states(monkeypatch):
    spec = importlib.util.spec_from_file_location("etcd_ha_states", STATES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(os, "sync", lambda: None)
    return module


@pytest.fixture(params=["one file system", "two file systems"])
def places(request, tmp_path, monkeypatch):
    """The old place, the new one and the record; between two file systems a rename is refused."""
    old, new, record = tmp_path / "old", tmp_path / "fast" / "new", tmp_path / "main.json"
    for name, text in CONTENT.items():
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).write_text(text)
    new.mkdir(parents=True)
    record.write_text(json.dumps({"state": "bootstrapped", "data_dir": str(old)}))
    rename = os.rename

    def within(source, target):
        if request.param == "two file systems" and os.path.dirname(source) != os.path.dirname(
            target
        ):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(os, "rename", within)
    return old, new, record


def move(states, places):
    _, new, record = places
    environment = {"ETCD_DATA_DIR": str(new)}
    moves = states._moves({}, json.loads(record.read_text()), environment)
    states._move(moves, str(record))


def lose_power_at(context, number):
    """The power goes before the call of this number, of all that change a directory or a file."""
    left = itertools.count(number, -1)

    def ends(call):
        def instead(*arguments, **more):
            if next(left) == 0:
                raise PowerLoss
            return call(*arguments, **more)

        return instead

    for module, name in (*STEPS, (shutil, "copy2")):
        context.setattr(module, name, ends(getattr(module, name)))


def test_a_move_goes_on_wherever_it_was_cut_short(states, places, tmp_path, monkeypatch):
    old, new, _ = places
    kept = tmp_path / "kept"
    for number in itertools.count():
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(tmp_path, kept, ignore=lambda *_: {"kept"})
        with monkeypatch.context() as context:
            lose_power_at(context, number)
            try:
                move(states, places)
                ended = True
            except PowerLoss:
                ended = False
        held = [old, new, pathlib.Path(f"{new}.moving")]
        assert any((place / "member").is_dir() for place in held), "facts would see no data"
        move(states, places)
        assert {name: (new / name).read_text() for name in CONTENT} == CONTENT
        assert not old.exists() and os.listdir(new.parent) == ["new"]
        if ended:
            break
        for place in ("old", "fast", *(p.name for p in tmp_path.glob("old.moved-*"))):
            shutil.rmtree(tmp_path / place, ignore_errors=True)
        shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    assert number > 2, "the power never went"
