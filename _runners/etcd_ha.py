"""
What would be done to the etcd clusters of this master, in words and as the orchestrate takes it.
"""

import dataclasses
import functools
import logging
import time

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_certificates
import etcd_ha_faces
import etcd_ha_host
import etcd_ha_host_programs
import etcd_ha_master
import etcd_ha_minions
import etcd_ha_observed
import etcd_ha_orchestration_progress
import etcd_ha_peers
import etcd_ha_plan_again
import etcd_ha_plan_own_certificates
import etcd_ha_planner
import etcd_ha_recover
import etcd_ha_release
import etcd_ha_restore
import etcd_ha_rows
import etcd_ha_steps
import etcd_ha_topology
import etcd_ha_workers
import salt.version
from salt.exceptions import CommandExecutionError, SaltInvocationError

# The runner's other files, _runners/etcd_ha_*.py, have this name too: Salt puts all under it.
__virtualname__ = "etcd_ha"

# What cannot be undone: the cluster's name is asked for.
CONFIRMED = {
    "replace": "replacing a member gives its data up",
    "remove_cluster": "removing a cluster stops it for good",
    "restore": "restoring a backup puts a cluster back to what it was",
    "recover": "recovering a cluster may lose its last writes",
}
# What is planned from the disks of members, while clients wait.
FROM_DATA = ("restore", "recover")
UNEXPECTED = (
    "planning {name} ended in an error of the formula itself ({err!r:.200}); nothing of it is "
    "touched. The master's log has the traceback (log_level error): please report it with the "
    "answer of salt-run etcd_ha.status to the formula's issue tracker"
)

log = logging.getLogger(__name__)


def __virtual__():
    return __virtualname__


def plan(
    cluster=None,
    command="converge",
    backup="",
    lost=(),
    survivor="",
    member="",
    detailed_exitcode=False,
    data=False,
):
    """
    What ``state.orchestrate etcd_ha.orch`` would do now, and why, in words; changes no cluster.

    Hosts whose modules of the formula are not those of the master's file server get these first. A
    state that an interrupted run has left at work is waited for, five minutes at most.

    cluster : None
        The name of one cluster (text); without it all clusters are planned.

    command : converge
        Plan ``etcd_ha.orch.restart``, ``replace``, ``rotate_ca``, ``defrag``, ``recover_space``,
        ``remove_cluster``, ``restore`` or ``recover`` instead: their last word (text).

    backup : "", lost : (), survivor : "", member : ""
        What ``restore``, ``recover``, ``restart`` and ``replace`` are asked for, as
        ``etcd_ha.steps`` has it.

    detailed_exitcode : False
        Whether the exit code of salt-run is 2 where there are steps to take (bool), as that of
        terraform's ``plan -detailed-exitcode``: 0 is in sync, 1 refused or failed.

    data : False
        Data instead of text (bool); ``salt-run --out=json`` (or ``yaml``, ``raw``, ``pprint``)
        returns it by itself.

    Returns text. When an argument or the pillar is wrong, a plan is refused, or a part of it waits
    for a host that does not answer, it says so, and the exit code of salt-run is 1. Each cluster is
    planned by itself: what is wrong with one refuses no other. With exit code 2 it returns
    ``{"text": TEXT, "retcode": 2}``, since salt-run takes its exit code from a mapping.

    As data: ``{"clusters": {NAME: {summary, in_sync, refusal, nothing, steps: [{title, because,
    details, kind, minions, disruptive}], waits, notes}}}``, or ``{"error": TEXT}``; with
    ``retcode`` where the exit code is not 0.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.plan
        salt-run etcd_ha.plan cluster=main
        salt-run etcd_ha.plan command=rotate_ca
        salt-run etcd_ha.plan cluster=main command=restore
        salt-run etcd_ha.plan cluster=main command=replace member=etcd2
        salt-run etcd_ha.plan detailed_exitcode=True --out=json
    """
    given = locals()

    def planned(master):
        etcd_ha_faces.sound(given, cluster="name?")
        asked = {"backup": backup, "lost": lost, "survivor": survivor, "member": member}
        plans = _plans(master, cluster, command, asked)
        code = 2 if detailed_exitcode and any(one.steps for one in plans) else 0
        if not all(one.sound for one in plans):
            code = 1
        found = {"clusters": etcd_ha_steps.data(plans)}
        return etcd_ha_master.Answer(etcd_ha_steps.text(plans), found, code)

    return etcd_ha_master.answer(__opts__, __context__, data, planned)


def steps(
    cluster=None,
    command="converge",
    confirm=None,
    backup="",
    lost=(),
    survivor="",
    member="",
    earlier=None,
    given=(),
):
    """
    The plan as data, for the SLS files of ``etcd_ha/orch``; prints it for people first.

    cluster : None
        The name of one cluster (text); without it all clusters are planned.

    command : converge
        ``converge``, ``restart``, ``rotate_ca``, ``defrag``, ``recover_space``, ``replace``,
        ``remove_cluster``, ``restore`` or ``recover`` (text).

    confirm : None
        The name of the cluster (text), which the last four ask for; that cluster alone is planned.

    backup : ""
        With ``restore``: the backup's name or path on a member, or a ``salt://`` path (text);
        without it the newest verified one.

    lost : ()
        With ``recover``: the minions (list of text, or the text of one) that are gone for good.

    survivor : ""
        With ``recover``: the minion (text) to go on from, where the evidence shall not decide.

    member : ""
        With ``replace``: the member to rebuild from the others; with ``restart``: the one to
        restart, instead of all. Its name or its minion (text).

    earlier : None
        What the same orchestrate has planned for this cluster before (dict), as the step that plans
        again hands it over: a plan that comes no nearer is refused.

    given : ()
        The keys of the pillar that the orchestrate sees (list of text): one that it does not know,
        and that is not of the master's own pillar, is refused, and so is one without a value.

    Returns ``{"refusals": [{id, why}], "steps": [{id, kind, cluster, after, targets, sls, pillar,
    ...}], "idle": [{id, why}], "ends": [{id, after, sound, comment}]}``. ``after`` is the id of the
    step before it of the same cluster. ``idle`` are the clusters for which the command has nothing
    to do, ``ends`` the last line of each of the others that is not refused. It does not raise for a
    wrong argument, a wrong pillar or a refused plan, so that the orchestrate can show one clear
    failed state instead of a traceback.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.steps
        salt-run etcd_ha.steps command=restore confirm=main
    """
    words = locals()
    began = time.monotonic()
    master = etcd_ha_master.Master(__opts__, __context__)
    try:
        etcd_ha_faces.sound({"given": given})
        words |= master.asked(command, given, words)
        etcd_ha_faces.sound(words, cluster="name?")
        cluster = words["cluster"]
        if command in CONFIRMED:
            cluster = _confirmed(master, cluster, words["confirm"], command)
        plans = _plans(master, cluster, command, words)
        now = int(time.time())
        before = etcd_ha_plan_again.Earlier.of(earlier if cluster else None, now)
        plans = [etcd_ha_plan_again.bounded(one, before, now) for one in plans]
        _inform(master, plans)
    except (CommandExecutionError, SaltInvocationError) as err:
        return {"refusals": [{"id": "The plan is refused", "why": str(err)}], "steps": []}
    took = time.monotonic() - began
    etcd_ha_master.tell(f"{etcd_ha_steps.text(plans)}\n  (planned in {took:.1f} s)")
    refusals = [
        {"id": etcd_ha_steps.state_id(f"{one.cluster}: the plan is refused"), "why": one.refusal}
        for one in plans
        if one.refusal
    ]
    rows = etcd_ha_rows.chained(_rows(master, plans, command, before))
    etcd_ha_master.quiet_console()
    events = functools.partial(etcd_ha_master.events, master.opts)
    etcd_ha_orchestration_progress.FOLLOWER.start(rows, events, etcd_ha_master.tell)
    idle, ends = etcd_ha_steps.idle(plans), etcd_ha_rows.ends(plans, rows)
    return {"refusals": refusals, "steps": rows, "idle": idle, "ends": ends}


def _inform(master, plans):
    """
    Have the minions that run a function know the pillar that its plan was made from.

    A state compiles the pillar anew, a function sees the one in the minion's memory: after an edit
    it would look for the data where it was before. What a host that leaves should know is in no
    plan, so it is always told.
    """
    settings = master.context.get("etcd_ha_settings", {})
    steps = [step for one in plans if not one.refusal for step in one.steps]
    asked = sorted({m for one in steps if one.kind == "function" for m in one.targets})
    known = [minion for minion in asked if minion in settings]
    told = etcd_ha_minions.ask(master, known, "etcd_ha.wanted_digest") if known else {}
    aware = [minion for minion in known if told.get(minion, {}).get("ret") == settings[minion]]
    unaware = [minion for minion in asked if minion not in aware]
    if unaware:
        etcd_ha_minions.refresh(master, unaware)


def _rows(master, plans, command, before):
    """The steps of all plans, for the orchestrate's template."""
    clusters, _ = master.clusters_and_faults()
    source, rows = master.source_digest(), []
    settings = master.context.get("etcd_ha_settings", {})
    for one in plans:
        if one.refusal:
            continue
        cluster = clusters[one.cluster]
        if command in etcd_ha_planner.UNREMEMBERED:
            rows += etcd_ha_rows.rows(cluster, one.steps, source)
        else:
            facts = master.context.get("etcd_ha_facts", {})
            record, ids = master.record(cluster), etcd_ha_rows.ids(cluster, facts)
            partial, unseen = bool(one.waits), _unseen(master, cluster, record, facts)
            rows += etcd_ha_rows.remembered(
                cluster, one.steps, source, record, ids, partial, unseen
            )
        for row in rows:
            if row["kind"] == "again" and row["cluster"] == one.cluster:
                row["earlier"] = before.handed(one)
    return [etcd_ha_rows.planned_from(row, settings) for row in rows]


def _unseen(master, cluster, record, facts):
    """Hosts that left while they were silent, and may come back: their keys are accepted."""
    left = [*record.get("members", {}), *record.get("balancers", ())]
    left = [minion for minion in left if minion not in cluster.hosts and minion not in facts]
    return etcd_ha_minions.accepted(master, left) if left else []


def _confirmed(master, cluster, confirm, command="remove_cluster"):
    """The one cluster whose name was given twice in all: in the pillar, and to the command."""
    names = (
        [cluster] if cluster else [name for part in master.clusters_and_faults() for name in part]
    )
    if confirm not in names:
        raise SaltInvocationError(
            f"{CONFIRMED[command]}, so its name is asked for: "
            f"""pillar='{{"confirm": "{names[0] if len(names) == 1 else "NAME"}"}}'"""
        )
    return confirm


def _plans(master, name, command, asked):
    commands = (*etcd_ha_planner.COMMANDS, *FROM_DATA)
    if command not in commands:
        raise SaltInvocationError(f"command is {command!r}; use one of {', '.join(commands)}")
    master.check_own_modules()
    clusters, faults = master.clusters_and_faults(name)
    if not clusters and not faults:
        raise CommandExecutionError(f"{etcd_ha_master.NO_CLUSTER}: there is nothing to plan")
    hurried = command in FROM_DATA
    facts = etcd_ha_minions.facts(master, clusters.values(), hurried)
    master.context["etcd_ha_facts"] = facts
    wanted, unfit = _wanted(master, facts)
    master.context["etcd_ha_settings"] = wanted["settings"]
    plans = [_of_faulty(one, why) for one, why in faults.items()]
    for one in clusters.values():
        plans.append(_planned(master, one, facts, wanted, unfit, command, asked))
    return plans


def _of_faulty(name, why):
    return etcd_ha_steps.Plan(name, "its pillar is not right", refusal=why)


def _planned(master, cluster, facts, wanted, unfit, command, asked):
    """The plan for one cluster; whatever goes wrong with it is its refusal, and of no other one."""
    try:
        refusal = etcd_ha_peers.refusal(master.peer, cluster)
        if not refusal:
            return _plan(master, cluster, facts, wanted, unfit, command, asked)
    except (CommandExecutionError, SaltInvocationError) as err:
        refusal = str(err)
    except Exception as err:
        log.exception("planning %s of the cluster %s", command, cluster.name)
        refusal = UNEXPECTED.format(name=cluster.name, err=err)
    return etcd_ha_steps.Plan(cluster.name, "not planned", refusal=refusal)


def _plan(master, cluster, facts, wanted, unfit, command, asked):
    """The plan for one cluster, by the facts of all hosts and what they should have.

    ``unfit`` are the hosts that cannot have it: minion -> why.
    """
    observed = {minion: etcd_ha_observed.Observed.of(found) for minion, found in facts.items()}
    observed = etcd_ha_plan_own_certificates.with_pillar(cluster, observed)
    record = master.record(cluster)
    known = etcd_ha_observed.Wanted(
        **wanted,
        recorded=bool(record),
        managed=record.get("members", {}),
        balancers=tuple(record.get("balancers", ())),
        cluster_id=record.get("cluster_id", ""),
        silent=getattr(facts, "silent", {}),
    )
    if command in etcd_ha_planner.COMMANDS:
        one = str(asked.get("member") or "")
        made = etcd_ha_planner.plan(cluster, observed, known, command, int(time.time()), one)
    else:
        made = _from_data(master, cluster, facts, observed, known, command, asked)
    made = etcd_ha_plan_own_certificates.keeping(made, observed)
    made = _of_fit(cluster, made, unfit)
    if command != "recover":
        # Data that is there needs no mirror: hosts that lack a release say so as they join.
        made = _with_release(master, cluster, made, facts)
    release = salt.version.__saltstack_version__.major
    made = etcd_ha_workers.checked(cluster, made, master.opts, release)
    peers = etcd_ha_peers.notes(master.peer, cluster.hosts)
    notes = (*etcd_ha_topology.warnings(cluster), *peers, *made.warnings)
    return dataclasses.replace(made, warnings=notes)


def _wanted(master, facts):
    """What every host that answered should have in its mark, and every CA in its memory.

    Beside it the hosts that cannot be what the pillar wants, and why: they get no such mark.
    """
    source = master.source_digest()
    digests, policies, settings, unfit = {}, {}, {}, {}
    clusters, _ = master.clusters_and_faults()
    named = {minion for one in clusters.values() for minion in one.hosts}
    for minion, found in facts.items():
        if minion not in named:
            continue
        on_it, why = _clusters_of(master, minion, found)
        if why:
            unfit[minion] = why
            continue
        described = etcd_ha_host.describe(minion, on_it.values(), found["arch"])
        digests[minion] = etcd_ha_host.digest(described, source)
        settings[minion] = etcd_ha_host.digest(described, "")
        if described["authorities"]:
            signed = etcd_ha_certificates.policies(on_it.values(), minion)
            policies[minion] = etcd_ha_host.policies_digest(signed)
    formula = {"source": source, "modules": master.modules_digest()}
    known = {"digests": digests, "policies": policies, "settings": settings, "formula": formula}
    return known, unfit


def _clusters_of(master, minion, found):
    """The clusters as they are on a host, and why it cannot be what they want."""
    try:
        clusters = master.clusters_on(found["os_file"], minion)
    except CommandExecutionError as err:
        return {}, str(err)
    why = etcd_ha_host.unfit(minion, clusters.values(), found["arch"])
    programs = found.get("programs", {})
    return clusters, why or etcd_ha_host_programs.too_old(minion, clusters.values(), programs)


def _of_fit(cluster, made, unfit):
    """Refuse states on a cluster with a host that cannot have them; functions need none."""
    why = [unfit[minion] for minion in cluster.hosts if minion in unfit]
    if not why or made.refusal or not any(step.kind == "state" for step in made.steps):
        return made
    return dataclasses.replace(made, steps=(), refusal="; ".join(why))


def _from_data(master, cluster, facts, observed, known, command, asked):
    """The plan of a restore or a recovery: beside the facts, it needs what the disks say."""
    there = [m.minion for m in cluster.members if m.minion in observed]
    backup = str(asked.get("backup") or "")
    path = backup if backup.startswith("/") else ""
    found = etcd_ha_minions.looks(master, cluster, there, path)
    etcd_ha_minions.refresh(master, _unaware(master, facts, found))
    if command == "recover":
        lost, survivor = asked.get("lost") or (), str(asked.get("survivor") or "")
        lost = [lost] if isinstance(lost, str) else list(lost)
        return etcd_ha_recover.plan(cluster, observed, known, found, lost, survivor)
    looks = {minion: etcd_ha_restore.Look.of(minion, one) for minion, one in found.items()}
    named = etcd_ha_restore.candidate(looks, backup)
    if named and not path:
        # Known by its sidecar alone until now: have its own hash checked where it lies.
        again = etcd_ha_minions.looks(master, cluster, [named.minion], named.path)
        looks |= {minion: etcd_ha_restore.Look.of(minion, one) for minion, one in again.items()}
        backup = named.path
    now = time.strftime("%Y%m%d%H%M%S", time.gmtime())
    return etcd_ha_restore.plan(cluster, observed, known, looks, backup, now)


def _unaware(master, facts, looks):
    """
    The minions that do not have the pillar of now in their memory.

    The steps are functions, which see the pillar that a minion had when it started, while a state
    compiles it anew: on new hosts that names other members.
    """
    unaware = []
    for minion, look in looks.items():
        clusters = master.clusters_on(facts[minion]["os_file"]).values()
        known = etcd_ha_host.pillar_digest(minion, clusters, facts[minion]["arch"])
        if not known or look.get("wanted") != known:
            unaware.append(minion)
    return unaware


def _with_release(master, cluster, made, facts):
    """Refuse a version that the mirror does not have, before any host is touched."""
    installing = [s for s in etcd_ha_steps.installing(made.steps) if _fetching(cluster, s)]
    if not installing:
        return made
    first = _fetching(cluster, installing[0])[0]
    asked = first.minion
    for url in _release_files(cluster, installing, facts, first):
        answers = etcd_ha_minions.ask(master, [asked], "etcd_ha.release_available", [url])
        reason = answers.get(asked, {}).get("ret", "?")
        if reason:
            refusal = (
                f"{asked} cannot fetch {url} ({reason}): correct version or install:url of "
                f"{cluster.name}, or put the release on the mirror"
            )
            return dataclasses.replace(made, steps=(), refusal=refusal)
    return made


def _fetching(cluster, step):
    """The members on which this step brings etcd from a release archive."""
    there = [member for member in cluster.members if member.minion in step.targets]
    return [member for member in there if member.settings["install"]["method"] == "archive"]


def _release_files(cluster, installing, facts, member):
    """What a member will fetch over HTTP for releases that no member has; one file of each."""
    install = member.settings["install"]
    arch = etcd_ha_release.architecture(facts[member.minion]["arch"])
    # A host that did not answer has no facts.
    present = {facts.get(m.minion, {}).get("etcd", {}).get("version") for m in cluster.members}
    needed = {step.stage.get("version", cluster.version) for step in installing} - present
    urls = []
    for version in sorted(needed):
        if etcd_ha_release.pinned(install["checksum"], arch):
            urls.append(etcd_ha_release.archive_url(install["url"], version, arch))
        else:
            urls.append(etcd_ha_release.checksums_url(install["url"], version))
    return [url for url in urls if url.startswith("http")]
