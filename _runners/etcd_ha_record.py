"""
What this master remembers of its etcd clusters: that they were bootstrapped, and whose they are.
"""

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_faces
import etcd_ha_master
import etcd_ha_minions
import etcd_ha_plan_foreign
import etcd_ha_steps
from salt.exceptions import CommandExecutionError, SaltInvocationError

# Beside _runners/etcd_ha.py: Salt puts the functions of both under this name.
__virtualname__ = "etcd_ha"


def __virtual__():
    return __virtualname__


def remember(cluster, members=None, former=None, balancers=()):
    """
    Keep on the master that a cluster was bootstrapped, and who its members are.

    So it is never bootstrapped a second time, and a member that the pillar no longer names is known
    as one that may be taken out. The members are asked for their ids, by which each is told from an
    etcd that somebody else set up. The orchestrate does it; by hand, name all members and
    balancers, for the record is written anew.

    cluster
        The name of the cluster (text).

    members : None
        minion -> ``{name, peer_url}`` (dict); without it the record has no members.

    former : None
        The name that the cluster had before (text); what is remembered under it is dropped.

    balancers : ()
        The minions (list of text) that are its balancers; one that leaves the pillar is stopped.

    Returns True. Raises SaltInvocationError for what cannot be meant.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.remember main balancers='[lb.example.com]' \\
            members='{etcd1.example.com: {name: etcd1, peer_url: "https://192.168.200.52:2380"}}'
    """
    etcd_ha_faces.sound(locals())
    master = etcd_ha_master.Master(__opts__, __context__)
    cache = master.cache
    past = cache.fetch(etcd_ha_master.RECORDS, cluster) or {}
    if former and not past:
        past = cache.fetch(etcd_ha_master.RECORDS, former) or {}
    record = {"cluster": cluster, "state": "bootstrapped", "balancers": list(balancers)}
    record |= _with_ids(master, members or {}, (cluster, former), past)
    cache.store(etcd_ha_master.RECORDS, cluster, record)
    if former and cache.contains(etcd_ha_master.RECORDS, former):
        cache.flush(etcd_ha_master.RECORDS, former)
    return True


def _with_ids(master, members, names, past):
    """The cluster's id, and the members with theirs, as each host's own record has them.

    Of a host that does not answer, or has no record yet, the master keeps what it knew.
    """
    if not all(isinstance(one, dict) for one in members.values()):
        raise SaltInvocationError(
            "members must map minion ids to name and peer_url, such as {etcd1.example.com: "
            '{name: etcd1, peer_url: "https://192.168.200.52:2380"}}. Nothing was done'
        )
    there = etcd_ha_minions.connected(master, members) if members else []
    told = etcd_ha_minions.ask(master, there, "etcd_ha_member.record") if there else {}
    records = {m: one["ret"] for m, one in told.items() if isinstance(one.get("ret"), dict)}
    own = {m: one for m, one in records.items() if m in members and one.get("cluster") in names}
    clusters = [str(one["cluster_id"]) for one in own.values() if one.get("cluster_id")]
    before = past.get("members", {})
    found = {}
    for minion, known in members.items():
        member_id = own.get(minion, {}).get("member_id") or before.get(minion, {}).get("member_id")
        found[minion] = {**known, **({"member_id": str(member_id)} if member_id else {})}
    most = max(clusters, key=clusters.count, default=past.get("cluster_id", ""))
    return {"cluster_id": most, "members": found}


def claim(cluster, cluster_id, confirm=None, data=False):
    """
    Record that the etcd on the members' hosts is this cluster. Only after its records were lost.

    By these records the formula recognizes its own members; an etcd without one is not touched.
    This writes the master's record; the next orchestrate writes the hosts'. It changes no host.

    cluster
        The name of the cluster in the pillar (text).

    cluster_id
        The id of the cluster as etcd has it (hex text), which the refused plan tells.

    confirm : None
        The name of the cluster once more (text).

    data : False
        Data instead of text (bool); ``salt-run --out=json`` (or ``yaml``, ``raw``, ``pprint``)
        returns it by itself.

    Returns text: on which hosts members were found; as data ``{cluster, cluster_id, members,
    absent}``, the last two lists of minions, or ``{error, retcode}``. Fails with exit code 1 if
    confirm is missing, if no member is found, if an etcd on these hosts has another cluster id or
    another unit, or if a member's host is connected and its facts cannot be had, since an etcd
    there would be overlooked.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.claim cluster=main cluster_id=cdf818194e3a8c32 confirm=main
    """
    given = locals()

    def claimed(master):
        etcd_ha_faces.sound(given)
        if confirm != cluster:
            raise SaltInvocationError(
                "claim makes this formula manage the etcd on these hosts, and the next "
                f"etcd_ha.orch may restart it. Confirm with confirm={cluster}"
            )
        described = master.clusters(cluster)[cluster]
        facts = etcd_ha_minions.facts(master, [described])
        _refuse_unread(described, facts)
        with etcd_ha_faces.told(etcd_ha_steps.Refused):
            members = etcd_ha_plan_foreign.claimed(described, facts, str(cluster_id))
        record = {"cluster": cluster, "state": "bootstrapped", "cluster_id": str(cluster_id)}
        record |= {"members": members, "balancers": [one.minion for one in described.balancers]}
        master.cache.store(etcd_ha_master.RECORDS, cluster, record)
        return _claimed(cluster, str(cluster_id), members)

    return etcd_ha_master.answer(__opts__, __context__, data, claimed)


def _claimed(cluster, cluster_id, members):
    there = [minion for minion, one in members.items() if "member_id" in one]
    absent = [minion for minion in members if minion not in there]
    none = f" No etcd of it was found on {', '.join(absent)} (no answer, or no data)."
    told = (
        f"{cluster} is now cluster {cluster_id}, with members on {', '.join(there)}."
        f"{none if absent else ''} Next: salt-run etcd_ha.plan cluster={cluster}"
    )
    found = {"cluster": cluster, "cluster_id": cluster_id, "members": there, "absent": absent}
    return etcd_ha_master.Answer(told, found)


def _refuse_unread(described, facts):
    """Stop where it is not known what runs on a member's host; one that is off runs nothing."""
    told = [
        f"{member.minion} {facts.silent[member.minion]}"
        for member in described.members
        if member.minion in facts.unread
    ]
    if told:
        raise CommandExecutionError(
            f"nothing was claimed, since it is not known which etcd runs there: {'; '.join(told)}"
        )


def forget(cluster):
    """
    Drop the master's record of a cluster whose data is gone and not needed.

    The members' own records (``/var/lib/etcd_ha/<cluster>.json``) are theirs to remove.

    cluster
        The name of the cluster (text).

    Returns True. Where there is no such record, or the name can be none, it says so, with exit code
    1; with ``--out=json`` as ``{error, retcode}``.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.forget main
    """
    given = locals()

    def forgotten(master):
        etcd_ha_faces.sound(given)
        if not master.cache.contains(etcd_ha_master.RECORDS, cluster):
            raise CommandExecutionError(f"the master has no record of a cluster {cluster!r}")
        master.cache.flush(etcd_ha_master.RECORDS, cluster)
        return etcd_ha_master.Answer({}, {})

    return etcd_ha_master.answer(__opts__, __context__, False, forgotten) or True
