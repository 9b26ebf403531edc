"""
Whether clients reach the cluster: writes through its balancers, and what these see of its members.
"""

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_faces
import etcd_ha_master
import etcd_ha_minions

# Beside _runners/etcd_ha.py: Salt puts the functions of both under this name.
__virtualname__ = "etcd_ha"


def __virtual__():
    return __virtualname__


def verify(cluster, balancers=(), minions=(), speaker="", endpoints=(), timeout=15, former=None):
    """
    Prove that clients reach the cluster; the orchestrate does it between members and at its end.

    cluster
        The name of the cluster (text).

    balancers : ()
        The minions (list of text) that are asked whether they see the members up.

    minions : ()
        The members (list of text, their minion ids) that they must see up; without it all.

    speaker : ""
        The member (text) that writes and reads a key through each endpoint; without it none does.

    endpoints : ()
        The client URLs (list of text) for that.

    timeout : 15
        Seconds (int or float) to try for at each endpoint, and on a balancer for all members.

    former : None
        The name that the cluster had before (text), while it is being renamed; without it the
        pillar tells, which is compiled for that. Empty where it had no other one.

    Returns a dict: minion -> what ``etcd_ha.verify`` returns there. A balancer that does not answer
    is told and stops nothing.

    What failed is told as text, with exit code 1; also that the member that writes did not answer.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.verify main balancers='[lb.example.com]'
    """
    etcd_ha_faces.sound(locals(), speaker="name?", endpoints="list of urls or none")
    master = etcd_ha_master.Master(__opts__, __context__)
    asked = list(dict.fromkeys([*([speaker] if speaker else []), *balancers]))
    given = {"endpoints": list(endpoints), "cluster": cluster, "timeout": timeout}
    given["minions"] = list(minions)
    if former is None:
        known = master.clusters_and_faults()[0].get(cluster)
        former = known.former if known else ""
    if former:
        given["former"] = former
    answers = etcd_ha_minions.ask(
        master, etcd_ha_minions.connected(master, asked), "etcd_ha.verify", kwarg=given
    )
    failed = [str(one["ret"]) for one in answers.values() if one.get("retcode")]
    if speaker and speaker not in answers:
        failed.insert(0, f"{speaker} did not answer, so nothing was written through {endpoints}")
    if failed:
        # Of any other error Salt shows a traceback, in the midst of an orchestrate's result.
        return etcd_ha_master.failed("; ".join(failed))
    silent = [minion for minion in asked if minion not in answers]
    if silent:
        etcd_ha_master.tell(
            f"{cluster}: {', '.join(silent)} did not answer, so it is not known what is seen there"
        )
    return {minion: one["ret"] for minion, one in answers.items()}
