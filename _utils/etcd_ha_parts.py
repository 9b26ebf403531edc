"""Steps that several kinds of plans share."""

from collections.abc import Collection, Sequence

import etcd_ha_drift
from etcd_ha_membership import quorum
from etcd_ha_stages import Stage
from etcd_ha_steps import Refused, Step, names
from etcd_ha_topology import Cluster


def prepare(cluster: Cluster, targets: Sequence[str], stage: Stage | None) -> Step:
    version = stage.version if stage else cluster.version
    return Step(
        title=f"{cluster.name}: prepare {names(targets)}",
        kind="state",
        targets=tuple(targets),
        sls=("etcd_ha.prepare",),
        stage=etcd_ha_drift.handed(cluster, stage) if stage else {},
        why=f"users, directories, etcd {version} beside what is there, the CA",
    )


def verify(
    cluster: Cluster,
    silent: Collection[str] = (),
    paused: Collection[str] = (),
    first: bool = False,
) -> Step:
    """A client's whole path, but for hosts without facts and members that are not to serve.

    ``paused`` are those that were stopped on purpose, or that have not joined yet. ``first`` where
    no etcd ran at the members' addresses before: a check that passed is of the one that runs now.
    """
    there = [b.minion for b in cluster.balancers if b.minion not in silent]
    where = "every balancer" if cluster.balancers else "the members"
    if len(there) < len(cluster.balancers):
        where = names(there) if there else "the members, since no balancer answered"
    able = [m.minion for m in cluster.members if m.minion not in (*silent, *paused)]
    arguments = {"silent": sorted(silent), "paused": sorted(paused)}
    return Step(
        title=f"{cluster.name}: verify a put and a get through {where}",
        kind="verify",
        targets=(able[0] if able else cluster.members[0].minion,),
        arguments={name: those for name, those in arguments.items() if those}
        | ({"fresh": False} if first else {}),
        why="a client's whole path is what counts",
    )


def seen(cluster: Cluster, balancers: Sequence[str], minion: str) -> Step:
    """The gate between two members: what a setting breaks for clients breaks at one of them."""
    member = cluster.member(minion)
    name = member.name if member else minion
    return Step(
        title=f"{cluster.name}: see that {names(balancers)} finds {name} up",
        kind="seen",
        targets=tuple(balancers),
        arguments={"minions": [minion]},
        why="before the next member: a setting that cuts clients off does so at one member at most",
    )


def fit(cluster: Cluster, minions: Sequence[str], address: str) -> Step:
    return Step(
        title=f"{cluster.name}: see that {names(minions)} can take {address} over",
        kind="function",
        targets=tuple(minions),
        function="etcd_ha_virtual.fit",
        why="the balancer that holds it comes last, so that the address moves once at most",
    )


def access(cluster: Cluster, minion: str, why: str) -> Step:
    return Step(
        title=f"{cluster.name}: users, roles and authentication as the pillar has them",
        kind="state",
        targets=(minion,),
        sls=("etcd_ha.access",),
        why=why,
    )


def snapshot(cluster: Cluster, minion: str, what: str, before: str, why: str) -> Step:
    return Step(
        title=f"{cluster.name}: take {what} and verify it",
        kind="function",
        targets=(minion,),
        function="etcd_ha_member.snapshot",
        arguments={"cluster": cluster.name, "name": f"before-{before}"},
        why=why,
    )


def forget(cluster: Cluster) -> Step:
    return Step(
        title=f"{cluster.name}: forget on the master that it ever was",
        kind="forget",
        targets=(),
        why="take it out of the pillar now: otherwise the next converge begins a new, empty one",
    )


def again(
    cluster: Cluster, why: str = "only a cluster that answers can tell who its members are"
) -> Step:
    return Step(
        title=f"{cluster.name}: plan again for what is left",
        kind="again",
        targets=(),
        why=why,
    )


def kept_data(cluster: Cluster) -> str:
    """What becomes of the data of members that leave, as a reason says it."""
    return "purge is set" if cluster.settings["purge"] else "nothing is deleted"


def not_in_sync(cluster: Cluster, what: str) -> str:
    return (
        f"{cluster.name} is not as the pillar says, and only a cluster that is can be {what}. Run "
        f'salt-run state.orchestrate etcd_ha.orch pillar=\'{{"cluster": "{cluster.name}"}}\' first'
    )


def no_quorum(cluster: Cluster, sick: Sequence[str], deaf: Sequence[str] = ()) -> str:
    """Why members that run are not restarted; ``deaf`` are those of them that vote."""
    if deaf and set(deaf) == set(sick):
        return (
            f"{', '.join(sick)} of {cluster.name} have a quorum, but serve no client that comes as "
            "root with the certificates on their hosts, though they run with the pillar's "
            "settings. Look at journalctl -u etcd there; nothing was changed"
        )
    return (
        f"{cluster.name} has no quorum: {', '.join(sick)} run but are not healthy. Look at "
        "journalctl -u etcd there; nothing is restarted while quorum is lost"
    )


def nobody_left(cluster: Cluster) -> str:
    """Why none is rebuilt: what the hosts tell contradicts itself, or all have lost their data."""
    return (
        f"no member of {cluster.name} that runs holds data from which others could be rebuilt, by "
        "what the hosts report. Look at them before anything is done: salt-run etcd_ha.status, and "
        "findmnt on each (a disk may be missing, or another one lie over the data)"
    )


def needed_vote(minion: str, left: int, voters: int) -> str:
    """Why a member that votes, but serves no client, is not restarted now."""
    return (
        f"{minion} serves no client, but its vote is needed: only {left} of {voters} members would "
        f"be left for a quorum of {quorum(voters)}. Heal the others first"
    )


def refuse_data_of(minion: str) -> None:
    """Stop at data that somebody else made."""
    raise Refused(
        f"{minion} already holds etcd data that this formula did not make, or has no record of. "
        "Nothing was changed. If the data is not needed, move the data directory away; to keep its "
        "content: docs/existing_etcd.md"
    )


def asked(cluster: Cluster, command: str) -> str:
    """The command that acts on the whole cluster once its name has been given."""
    confirm = f'pillar=\'{{"confirm": "{cluster.name}"}}\''
    return f"salt-run state.orchestrate etcd_ha.orch.{command} {confirm}"


def begun_again(cluster: Cluster, command: str) -> str:
    return f"Go on with it: {asked(cluster, command)}"
