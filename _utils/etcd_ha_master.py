"""The master as its runners see it: the pillar's clusters, the formula's files, what it remembers.

Salt's loader gives its dunders to the runners alone, so a runner hands its ``__opts__`` and
``__context__`` over. This file knows Salt: runners and etcd_ha_minions import it, and no logic.
"""

import contextlib
import copy
import gc
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import etcd_ha_asked
import etcd_ha_faces
import etcd_ha_topology
import salt.cache
import salt.exceptions
import salt.fileclient
import salt.pillar
import salt.utils.event
import salt.utils.hashutils
import salt.utils.yaml
from etcd_ha_common_text import few
from etcd_ha_report import Report
from etcd_ha_topology import Cluster
from salt.exceptions import CommandExecutionError, SaltInvocationError

# Where the master remembers each cluster that was bootstrapped.
RECORDS = "etcd_ha/clusters"
MODULES = ("_modules", "_states", "_utils")
# What there is to say where the last cluster was removed.
NO_CLUSTER = "the pillar names no cluster (etcd_ha:clusters is empty)"


# Outputters of Salt that programs read; what any other one shows is for people.
FOR_PROGRAMS = ("json", "yaml", "raw", "pprint")
# Characters of a failed state's changes that are still a line for the console.
LONGEST_LINE = 500


@dataclass(frozen=True)
class Answer:
    """What a runner found: for people, for programs, and with which exit code salt-run ends.

    ``text`` is a mapping where people are to see the same as programs.
    """

    text: str | Mapping[str, Any]
    data: Mapping[str, Any]
    code: int = 0


class Master:
    """The master of one run; what was read of it is kept in Salt's ``__context__`` as long."""

    def __init__(self, opts: Mapping[str, Any], context: MutableMapping[str, Any]) -> None:
        self.opts = opts
        self.context = context

    @cached_property
    def cache(self) -> Any:
        """What the master keeps from run to run."""
        return salt.cache.Cache(self.opts)

    @property
    def peer(self) -> Mapping[str, Any]:
        """Whom it lets call what on other minions."""
        return dict(self.opts.get("peer") or {})

    def clusters(self, name: str | None = None) -> dict[str, Cluster]:
        """All clusters of the pillar, or the one of this name; raises for what is wrong there."""
        found, faults = self.clusters_and_faults(name)
        if faults:
            raise CommandExecutionError("\n".join(dict.fromkeys(faults.values())))
        return found

    def clusters_and_faults(
        self, name: str | None = None
    ) -> tuple[dict[str, Cluster], dict[str, str]]:
        """The clusters that are right (all, or the one of this name), and why others are not."""
        read = self._read(None)
        if name is None:
            return dict(read.clusters), {one: str(read.error(one)) for one in read.faults}
        if name in read.faults:
            return {}, {name: str(read.error(name))}
        if name not in read.clusters:
            known = few(sorted([*read.clusters, *read.faults]), 10) or "none at all"
            raise SaltInvocationError(f"the pillar has no cluster {name!r}; it has {known}")
        return {name: read.clusters[name]}, {}

    def clusters_on(self, os_file: str, minion: str = "") -> dict[str, Cluster]:
        """All clusters as they are on hosts whose operating system has its data in this file.

        But for those with a fault, which a host that has another part does not know either. Raises
        where ``minion`` is a host of such a one.
        """
        read = self._read(self._yaml(os_file).get("settings"))
        try:
            return dict(read.known_to(minion) if minion else read.clusters)
        except etcd_ha_topology.PillarError as err:
            raise CommandExecutionError(str(err)) from err

    def asked(
        self, command: str, names: Sequence[str], values: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The words of an orchestrate as its command line gave them; raises for one it lacks.

        Without ``names``, the keys of the pillar that it sees, it was not called by an orchestrate.
        """
        if not names:
            return {}
        names = [name for name in names if isinstance(name, str)]
        self._pillar()
        own, none = self.context.get("etcd_ha_own_pillar", {}), {"cluster": None, "confirm": None}
        try:
            found = etcd_ha_asked.given(command, names, values, own)
        except ValueError as err:
            raise SaltInvocationError(str(err)) from err
        words = [word for word in etcd_ha_asked.WORDS if word in values and word not in found]
        return {**{word: none.get(word, "") for word in words}, **found}

    def record(self, cluster: Cluster) -> dict[str, Any]:
        """What the master remembers of a cluster; empty where it was never bootstrapped.

        Raises CommandExecutionError where it remembers something that cannot be read: nothing may
        be bootstrapped then.
        """
        own = self._record(cluster.name)
        return own or (self._record(cluster.former) if cluster.former else {})

    def _record(self, name: str) -> dict[str, Any]:
        try:
            found = self.cache.fetch(RECORDS, name)
            broken = not isinstance(found, dict) or not found
            broken = broken and bool(self.cache.contains(RECORDS, name))
            told = "it is not what was written there"
        except Exception as err:  # whatever the cache's driver and msgpack raise
            broken, told = True, f"{type(err).__name__}: {err}"
        if broken:
            raise CommandExecutionError(
                f"the master's record of {name} cannot be read ({told[:200]}). If the cache's disk "
                f"is sound, drop it: salt-run etcd_ha.forget {name}. The next etcd_ha.orch writes "
                "it again from the members' own records"
            )
        return dict(found or {})

    def environments(self) -> list[str]:
        """The environments of the file server."""
        return list(self._files.envs())

    def source_digest(self) -> str:
        """One hash of all states and templates, so that a changed formula is applied everywhere."""
        if "etcd_ha_source" not in self.context:
            apart = ("etcd_ha/orch/", "etcd_ha/pillar/")
            lines = self._hashes("etcd_ha", lambda path: not path.startswith(apart))
            self.context["etcd_ha_source"] = _digest(lines)
        return str(self.context["etcd_ha_source"])

    def modules_digest(self) -> str:
        """The same hash that ``etcd_ha.modules_digest`` makes on a minion."""
        if "etcd_ha_modules" not in self.context:
            lines = []
            for folder in MODULES:
                lines += self._hashes(folder, _is_module)
            self.context["etcd_ha_modules"] = _digest(lines)
        return str(self.context["etcd_ha_modules"])

    def check_own_modules(self) -> None:
        """
        The master's own copies of the formula's modules must be those of its file server.

        Minions are synced by the plan; a master with older ones would expect what no host can be.
        Where it has no copy at all, it loads them from elsewhere (runner_dirs, utils_dirs).
        """
        old, lacking = [], []
        for folder in ("_runners", "_utils"):
            own = os.path.join(self.opts["extension_modules"], folder[1:])
            served = dict(line.rsplit(" ", 1) for line in self._hashes(folder, _is_module))
            copies = {name: os.path.join(own, os.path.basename(name)) for name in served}
            there = {name: path for name, path in copies.items() if os.path.exists(path)}
            get_hash = salt.utils.hashutils.get_hash
            old += [name for name, path in there.items() if get_hash(path) != served[name]]
            lacking += [name for name in served if there and name not in there]
        told = []
        if old:
            told.append(f"the master's own copy of {few(old)} is older than its file server's")
        if lacking:
            told.append(f"the master has no copy of {few(lacking)} yet")
        if told:
            raise CommandExecutionError(
                f"{', and '.join(told)}. Run salt-run saltutil.sync_all, then this again"
            )

    def _read(self, settings: Mapping[str, Any] | None) -> etcd_ha_topology.Read:
        pillar, defaults = self._pillar(), self._yaml("etcd_ha/defaults.yaml")
        with etcd_ha_faces.told(etcd_ha_topology.PillarError):
            return etcd_ha_topology.read_each(pillar, defaults, settings)

    def _pillar(self) -> Any:
        if "etcd_ha_pillar" not in self.context:
            own, grains = str(self.opts["id"]), self.opts.get("grains") or {}
            # Salt's own name for the pillar of a master.
            name = own if own.endswith("_master") else f"{own}_master"
            # Inside an orchestrate they have its pillar, with what its command line gave.
            opts = {key: value for key, value in self.opts.items() if key != "pillar"}
            with _uncollected():
                compiled = salt.pillar.get_pillar(
                    opts, grains, name, self.opts.get("saltenv")
                ).compile_pillar()
            if compiled.get("_errors"):
                raise CommandExecutionError(
                    "the master's own pillar does not render: "
                    + few(compiled["_errors"], between="; ")
                )
            self.context["etcd_ha_pillar"] = compiled.get("etcd_ha")
            words = {word: compiled.get(word) for word in etcd_ha_asked.WORDS}
            self.context["etcd_ha_own_pillar"] = {name: words.get(name) for name in compiled}
        return copy.deepcopy(self.context["etcd_ha_pillar"])

    @property
    def _files(self) -> Any:
        if "etcd_ha_files" not in self.context:
            # Minions hash their copies by SHA-256, whatever hash_type this master's files have.
            opts = {**self.opts, "hash_type": "sha256"}
            self.context["etcd_ha_files"] = salt.fileclient.FSClient(opts)
        return self.context["etcd_ha_files"]

    def _yaml(self, path: str) -> dict[str, Any]:
        key = f"etcd_ha_yaml_{path}"
        if key not in self.context:
            found = self._files.cache_file(f"salt://{path}", saltenv="base")
            if not found:
                raise CommandExecutionError(
                    f"{path} is not on the master's file server: add the formula to file_roots"
                )
            with open(found, encoding="utf-8") as file:
                self.context[key] = salt.utils.yaml.safe_load(file) or {}
        return dict(copy.deepcopy(self.context[key]))

    def _hashes(self, prefix: str, wanted: Callable[[str], bool]) -> list[str]:
        """``PATH HASH`` of each of these files on the file server."""
        known = self.context.setdefault("etcd_ha_hashes", {})
        lines = []
        for path in filter(wanted, sorted(self._files.file_list("base", prefix=prefix))):
            if path not in known:
                known[path] = self._files.hash_file(f"salt://{path}", "base")["hsum"]
            lines.append(f"{path} {known[path]}")
        return lines


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Collect no garbage within.

    What Salt left unclosed imports as it is collected, and Python before 3.12 breaks an import in
    which another one ends (its issue 106176): a module of Salt is missing then, at random.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def tell(line: str) -> None:
    """A line for who ran salt-run, beside what it returns."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def quiet_console() -> None:
    """Have the console say no long line of Salt's with all that a failed state returned.

    Salt logs the changes of each state that fails as one line (salt.state, ``format_log``). Those
    of a step are all states of its hosts: 50,000 characters, which the output after it shows again
    in a form for people. The log file has it as ever.
    """
    for handler in logging.root.handlers:
        if getattr(handler, "stream", None) is sys.stderr and _is_told not in handler.filters:
            handler.addFilter(_is_told)


def _is_told(record: logging.LogRecord) -> bool:
    """Whether this is anything else than such a line."""
    if record.name != "salt.state" or record.levelno != logging.ERROR:
        return True
    told = record.getMessage()
    return len(told) <= LONGEST_LINE or not told.startswith("{")


def events(opts: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]] | None]:
    """Salt's events of this master as they come; None where none came within a second."""
    with salt.utils.event.get_event("master", opts["sock_dir"], opts=opts) as bus:
        while True:
            found = bus.get_event(wait=1, tag="salt/", full=True)
            yield (found["tag"], found["data"]) if found else None


def answer(
    opts: Mapping[str, Any],
    context: MutableMapping[str, Any],
    data: bool,
    find: Callable[[Master], Answer],
) -> Any:
    """
    What a runner returns of what ``find`` finds: text for people, or data for a program.

    salt-run has ``--out`` in the runner's ``__opts__["output"]``; ``data`` is for those who call a
    runner in another way. Whatever is wrong is a sentence, or an ``error``: of any other exception
    than that of ``failed`` salt-run shows a traceback.

    salt-run ends with the ``retcode`` of a mapping that a runner returns (salt.cli.run, ``run``).
    ``__context__["retcode"]`` alone changes no exit code: it says whether the job is a success, so
    that ``salt.runner`` of an orchestrate fails (salt.client.mixins, ``low``).
    """
    try:
        found = find(Master(opts, context))
    except (CommandExecutionError, SaltInvocationError) as err:
        found = Answer(str(err), {"error": str(err)}, 1)
    shows_data = data is True or opts.get("output") in FOR_PROGRAMS
    if found.code == 1 and not shows_data:
        failed(str(found.text))
    if found.code:
        context["retcode"] = found.code
        shown = found.data if shows_data else {"text": found.text}
        return {**shown, "retcode": found.code}
    return dict(found.data) if shows_data else found.text


def shown(reports: Sequence[Report]) -> Answer:
    """All reports as one answer; an exit code of 1 where one of them needs somebody."""
    told = "\n\n".join(report.text for report in reports) or NO_CLUSTER
    clusters = {name: found for report in reports for name, found in report.data.items()}
    return Answer(told, {"clusters": clusters}, 0 if all(one.sound for one in reports) else 1)


def failed(text: str) -> NoReturn:
    """
    Have salt-run show this text as it is, with exit code 1.

    Of all exceptions only this one is shown without a traceback (salt.client.mixins, ``low``); a
    returned ``retcode`` would have to stand in the text's place, as data.
    """
    raise salt.exceptions.NotImplemented(text)


def _is_module(path: str) -> bool:
    """Whether this is one of the formula's; what Python compiles of it lies there as well."""
    return os.path.basename(path).startswith("etcd_ha") and path.endswith(".py")


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
