"""Faces (modules, states) loaded as Salt does, with its dunders in a test's own hands."""

import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load(path, **dunders):
    """A module or states file; ``salt={...}`` becomes its ``__salt__``, and so on."""
    spec = importlib.util.spec_from_file_location(path.replace("/", "."), ROOT / f"{path}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    given = {"salt": {}, "opts": {"test": False}, "pillar": {}, "grains": {"id": "m"}}
    for name, value in {**given, "context": {}, **dunders}.items():
        setattr(found, f"__{name}__", value)
    return found
