"""The formula's states as Salt's compiler leaves them: what a test looks at."""

from __future__ import annotations

from pathlib import Path

import salt.utils.templates

FORMULA = Path(__file__).resolve().parents[2]
GRAINS = {
    "Debian": {"os": "Debian", "os_family": "Debian", "osarch": "amd64"},
    "Ubuntu": {"os": "Ubuntu", "os_family": "Debian", "osarch": "arm64"},
    "RedHat": {"os": "Rocky", "os_family": "RedHat", "osarch": "x86_64"},
    "Fedora": {"os": "Fedora", "os_family": "RedHat", "osarch": "x86_64"},
    "Suse": {"os": "Leap", "os_family": "Suse", "osarch": "x86_64"},
}


REQUISITES = ("require", "watch", "onchanges", "prereq")


class Compiled:
    """The compiled states of one minion: the ordered chunks that Salt would run."""

    def __init__(self, chunks, errors, texts=None):
        self.chunks = chunks
        self.errors = errors
        self.texts = texts or {}

    def ids(self):
        """State IDs in the order of their run, each once."""
        return list(dict.fromkeys(chunk["__id__"] for chunk in self.chunks))

    def functions(self):
        """``state.function`` of every chunk."""
        return [f"{chunk['state']}.{chunk['fun']}" for chunk in self.chunks]

    def of(self, function):
        """All chunks of one ``state.function``."""
        return [c for c in self.chunks if f"{c['state']}.{c['fun']}" == function]

    def one(self, function, **having):
        """The only chunk of one function with these values."""
        found = [c for c in self.of(function) if all(c.get(k) == v for k, v in having.items())]
        assert len(found) == 1, f"{len(found)} chunks of {function} with {having}: {self.ids()}"
        return found[0]

    def file(self, path):
        """The text that the template behind a managed file renders to."""
        return self.texts[path]

    def unresolved(self):
        """Requisites that point to no chunk, as ``ID -> {kind: target}`` texts."""
        return [
            f"{chunk['__id__']} -> {requisite}"
            for chunk in self.chunks
            for requisite in requisites(chunk)
            if not self.targets(requisite)
        ]

    def targets(self, requisite):
        """The chunks that a requisite such as ``{"sls": "etcd_ha.unit"}`` points to."""
        ((kind, target),) = requisite.items()
        if kind == "sls":
            return [
                chunk
                for chunk in self.chunks
                if target in (chunk["__sls__"], *chunk.get("__sls_included_from__", ()))
            ]
        return [
            chunk
            for chunk in self.chunks
            if kind in ("id", chunk["state"]) and target in (chunk["__id__"], chunk["name"])
        ]

    def behind(self, chunk):
        """The IDs of all chunks that must have passed before this one, however far back."""
        seen, waiting = set(), [chunk]
        while waiting:
            for requisite in requisites(waiting.pop()):
                for target in self.targets(requisite):
                    if target["__id__"] not in seen:
                        seen.add(target["__id__"])
                        waiting.append(target)
        return seen


def requisites(chunk):
    """Every requisite of a chunk."""
    return [one for kind in REQUISITES for one in chunk.get(kind, ()) if isinstance(one, dict)]


def templates(state, chunks):
    """Render the template of every managed file: destination -> text."""
    texts = {}
    for chunk in chunks:
        if chunk.get("template") != "jinja":
            continue
        path = FORMULA / chunk["source"].removeprefix("salt://")
        done = salt.utils.templates.JINJA(
            str(path),
            to_str=True,
            saltenv="base",
            salt=state.functions,
            opts=state.opts,
            grains=state.opts["grains"],
            pillar=state.opts["pillar"],
            **chunk["context"],
        )
        assert done["result"], f"{path}: {done['data']}"
        texts[chunk["name"]] = done["data"]
    return texts
