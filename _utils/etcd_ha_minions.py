"""What the master asks its minions: who is there, what each is, what its disks hold.

This file knows Salt: runners import it, and no logic. ``master`` is an etcd_ha_master.Master.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import etcd_ha_access
import etcd_ha_host
import etcd_ha_host_programs
import etcd_ha_master
import etcd_ha_restore
import etcd_ha_told
import etcd_ha_trust
import salt.client
import salt.key
import salt.utils.minions
from etcd_ha_common_text import few
from etcd_ha_master import Master
from etcd_ha_topology import Cluster, Member
from salt.exceptions import CommandExecutionError

# Whom the master has brought the formula's modules to.
SYNCED = "etcd_ha/synced"
# Seconds in which what an interrupted run has left running on the hosts must have ended.
BUSY_TIMEOUT = 300
# Seconds after which a state whose result has come should have ended on its host, too.
REPORT_TIMEOUT = 20
# Seconds for a minion to have its new pillar.
REFRESH_TIMEOUT = 10
# Seconds to wait for an answer of those that are connected.
ANSWER_TIMEOUT = 30
Answers = dict[str, dict[str, Any]]


class Facts(dict[str, dict[str, Any]]):
    """The facts of each host that has them, and of each other one why not: ``silent``.

    ``unread`` are those of the latter that are connected: something may run there.
    """

    def __init__(
        self,
        found: Mapping[str, dict[str, Any]],
        silent: Mapping[str, str] | None = None,
        unread: Iterable[str] = (),
    ) -> None:
        super().__init__(found)
        self.silent = dict(silent or {})
        self.unread = tuple(unread)


def connected(master: Master, wanted: Iterable[str]) -> list[str]:
    """
    Those of the wanted minions that are connected, or all where the master cannot tell.

    A dead minion would cost every command its whole timeout and gather_job_timeout.
    """
    found, wanted = salt.utils.minions.CkMinions(master.opts).connected_ids(), list(wanted)
    return [minion for minion in wanted if minion in found] or wanted


def accepted(master: Master, wanted: Iterable[str]) -> list[str]:
    """Those of the wanted minions whose keys the master accepts, whether they are there or not."""
    with salt.key.get_key(dict(master.opts)) as keys:
        found = keys.list_keys().get("minions", [])
    return [minion for minion in wanted if minion in found]


def ask(
    master: Master,
    minions: Sequence[str],
    function: str | Sequence[str],
    arguments: Sequence[Any] = (),
    kwarg: Mapping[str, Any] | None = None,
) -> Answers:
    """Run a function on these minions: minion -> {ret, retcode}; silent ones are left out."""
    if not minions:
        return {}
    with salt.client.get_local_client(mopts=master.opts) as client:
        answers = client.cmd(
            minions,
            function,
            arguments,
            tgt_type="list",
            timeout=ANSWER_TIMEOUT,
            kwarg=kwarg,
            full_return=True,
        )
    # For one that is connected and says nothing (a host that stands still), Salt itself answers.
    return {minion: one for minion, one in answers.items() if one.get("out") != "no_return"}


def sync(master: Master, minions: Sequence[str]) -> None:
    """
    Bring the formula's modules to minions, with one reload there at the end.

    Salt asks each minion for its top file to learn the environments. Where the file server has
    ``base`` alone there is nothing to learn, and nothing of another environment to clean away.
    """
    if not minions:
        return
    etcd_ha_master.tell(f"syncing the formula's modules to {few(sorted(minions))}")
    only = {"saltenv": "base"} if master.environments() == ["base"] else {}
    last = "saltutil.sync_modules"
    functions = ["saltutil.sync_utils", "saltutil.sync_states", last]
    arguments = [[{"__kwarg__": True, "refresh": one == last, **only}] for one in functions]
    ask(master, minions, functions, arguments)


def facts(master: Master, clusters: Iterable[Cluster], hurried: bool = False) -> Facts:
    """The facts of every host of these clusters that is there, synced first where need be.

    Of one that is not there, cannot give its facts, or is still changed by an earlier run, why:
    what depends on it waits, and all else goes on.

    ``hurried`` where clients wait for what no election brings; see ``etcd_ha.facts``.
    """
    clusters = list(clusters)
    named = _hosts(master, clusters)
    there, digest = connected(master, named), master.modules_digest()
    asked = _asked(clusters) | ({"hurried": True} if hurried else {})
    answers, synced = _of_synced(master, there, asked, digest)
    silent: dict[str, str] = {}
    if _busy(answers):
        silent = _wait_until_idle(master, answers)
        answers = _timed(master, there, asked)
    for minion in synced & set(answers):
        master.cache.store(SYNCED, minion, {"digest": digest})
    faults = {minion: etcd_ha_told.facts_fault(one.get("ret")) for minion, one in answers.items()}
    silent = (
        {minion: _no_answer(minion in there) for minion in named if minion not in answers}
        | {
            minion: f"did not answer with its facts: {fault}. See salt {minion} etcd_ha.facts"
            for minion, fault in faults.items()
            if fault
        }
        | silent
    )
    return Facts(
        {minion: _facts(one) for minion, one in answers.items() if minion not in silent},
        silent,
        [minion for minion in silent if minion in there],
    )


def _no_answer(is_connected: bool) -> str:
    if is_connected:
        return (
            f"did not answer within {ANSWER_TIMEOUT} s, though it is connected. See salt-run "
            "manage.status, and the log of salt-minion there"
        )
    return (
        "did not answer: it is not connected to the master. Bring it back (salt-run manage.status; "
        "salt-key -L shows whether its key is accepted)"
    )


def _timed(master: Master, minions: Sequence[str], asked: Mapping[str, Any]) -> Answers:
    """The facts of these minions, and between which moments of the master's they were told."""
    began = time.time()
    answers = ask(master, minions, "etcd_ha.facts", kwarg=asked)
    ended = time.time()
    return {minion: {**one, "between": (began, ended)} for minion, one in answers.items()}


def looks(
    master: Master, cluster: Cluster, minions: Sequence[str], path: str = ""
) -> dict[str, dict[str, Any]]:
    """What the disks of these members say; of a backup at this path, whether it is whole."""
    asked = {
        "places": _places(cluster.members),
        "folders": etcd_ha_restore.folders(cluster),
        "path": path,
    }
    answers = ask(master, minions, "etcd_ha_restore.look", kwarg=asked)
    found: dict[str, Any] = {minion: answer.get("ret") for minion, answer in answers.items()}
    for minion in minions:
        fault = etcd_ha_told.look_fault(found.get(minion, "no answer"))
        if fault:
            raise CommandExecutionError(f"{minion} could not tell what its disk holds: {fault}")
    return found


def _places(members: Iterable[Member]) -> dict[str, list[str]]:
    """The data directory of each member and the one of its log, empty where that is with it."""
    return {m.minion: [m.settings["data_dir"], m.settings["wal_dir"] or ""] for m in members}


def refresh(master: Master, minions: Sequence[str]) -> None:
    """Have these minions take the pillar of now into their memory, where functions see it."""
    wait = {"wait": True, "timeout": REFRESH_TIMEOUT}
    ask(master, minions, "saltutil.refresh_pillar", kwarg=wait)


def _hosts(master: Master, clusters: Iterable[Cluster]) -> list[str]:
    """All hosts of these clusters; who has left the pillar may still have to be stopped."""
    named: list[str] = []
    known: list[str] = []
    for one in clusters:
        try:
            record = master.record(one)
        except CommandExecutionError:
            # It is refused by itself as it is planned, and no other one with it.
            record = {}
        named += one.hosts
        known += [*record.get("members", {}), *record.get("balancers", ())]
    return list(dict.fromkeys(named + known))


def _asked(clusters: Sequence[Cluster]) -> dict[str, Any]:
    """What ``etcd_ha.facts`` is to look at for these clusters."""
    members = [member for one in clusters for member in one.members]
    ports = {m.settings["ports"][name] for m in members for name in ("client", "peer", "metrics")}
    ports |= {one.settings["balancer"]["port"] for one in clusters if one.balancers}
    asked: dict[str, Any] = {
        "data_dirs": sorted({m.settings["data_dir"] for m in members}),
        "wal_dirs": sorted(
            {f"{m.settings['wal_dir']}/wal" for m in members if m.settings["wal_dir"]}
        ),
        "places": _places(members),
        "ports": sorted(ports),
        "authorities": sorted({f for one in clusters for f in etcd_ha_trust.authority_files(one)}),
    }
    asked["haproxy_on"] = etcd_ha_host_programs.haproxy_on(clusters)
    pairs: dict[str, list[dict[str, Any]]] = {}
    for one in clusters:
        for minion in one.hosts:
            pairs.setdefault(minion, []).extend(etcd_ha_host.pairs(one, minion))
    asked["pairs"] = {minion: rows for minion, rows in pairs.items() if rows}
    if any(etcd_ha_access.Access.of(one.settings["access"]).managed for one in clusters):
        asked["access"] = True
    return asked


def _of_synced(
    master: Master, there: Sequence[str], asked: Mapping[str, Any], digest: str
) -> tuple[Answers, set[str]]:
    """What minions that have these modules answer, and whom they had to be brought to."""
    # A minion that lacks the function first loads every module that it has, to look for it.
    blank = [minion for minion in there if not master.cache.contains(SYNCED, minion)]
    sync(master, blank)
    answers = _timed(master, there, asked)
    old = [minion for minion, one in answers.items() if not _has(one.get("ret"), digest)]
    if old:
        sync(master, old)
        answers.update(_timed(master, old, asked))
    return answers, {*blank, *old}


def _has(told: Any, digest: str) -> bool:
    return isinstance(told, dict) and told.get("modules") == digest


def _facts(answer: Mapping[str, Any]) -> dict[str, Any]:
    told: Any = answer["ret"]
    return {**told, "ahead": _ahead(told["clock"], *answer["between"])}


def _ahead(clock: Mapping[str, float], asked: float, answered: float) -> tuple[float, float]:
    """How far a host's clock is ahead of the master's: seconds at least, and at most.

    It began after it was asked, and had ended before its answer was here.
    """
    return clock["ended"] - answered, clock["began"] - asked


def _wait_until_idle(master: Master, answers: Answers) -> dict[str, str]:
    """
    Wait until the states have ended that still run on these hosts; of those that do not end, why.

    Whoever ends an orchestrate (Ctrl-C, a lost master) does not end the state that it had begun on
    a minion: it goes on there, and Salt refuses the next one meanwhile. So does one that has ended
    and cannot report it: in a minion of Salt 3007 the master's replies may get lost for good.
    """
    busy, began, mute = _busy(answers), time.monotonic(), dict[str, str]()
    deadline = began + BUSY_TIMEOUT
    while busy:
        now = time.monotonic()
        if now > deadline:
            return mute | {
                minion: f"is still changed by an earlier run ({', '.join(jobs)}). Wait for its "
                f"end, or end it ({_end_of(minion, jobs)}), and run again"
                for minion, jobs in busy.items()
            }
        if now > began + REPORT_TIMEOUT:
            mute |= _mute(master, busy)
        etcd_ha_master.tell(_waits(busy, began, now))
        time.sleep(2)
        waited = [minion for minion in busy if minion not in mute]
        busy = _busy(ask(master, waited, "etcd_ha.facts"))
    return mute


def _waits(busy: Mapping[str, Sequence[str]], began: float, now: float) -> str:
    """Who is waited for, how long at most, and once that is long how to end it."""
    on = ", ".join(f"{minion} ({', '.join(jobs)})" for minion, jobs in sorted(busy.items()))
    told = f"waiting for an earlier run that is still at work on {on}"
    if now < began + REPORT_TIMEOUT:
        return told
    ends = ", ".join(_end_of(minion, jobs) for minion, jobs in sorted(busy.items()))
    return f"{told}, {began + BUSY_TIMEOUT - now:.0f} s more at most. To end it now: {ends}"


def _end_of(minion: str, jobs: Sequence[str]) -> str:
    """The commands that end these states there; the job's id is their last word."""
    return ", ".join(f"salt {minion} saltutil.kill_job {job.split()[-1]}" for job in jobs)


def _mute(master: Master, busy: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """A state whose result is here has ended: waiting for its process does not help."""
    jobs = {job.split()[-1] for told in busy.values() for job in told}
    with salt.client.get_local_client(mopts=master.opts) as client:
        come = {job: client.get_cache_returns(job) for job in jobs}
    return {
        minion: "sent the result of an earlier run, but its process there does not end: the "
        "minion does not hear the master's replies. Restart salt-minion there, and run again"
        for minion, told in busy.items()
        if all(minion in come[job.split()[-1]] for job in told)
    }


def _busy(answers: Answers) -> dict[str, list[str]]:
    """minion -> the states that run there."""
    told = ((minion, answer.get("ret")) for minion, answer in answers.items())
    return {m: found["busy"] for m, found in told if isinstance(found, dict) and found.get("busy")}
