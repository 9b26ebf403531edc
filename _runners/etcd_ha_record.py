"""
What this master remembers of its etcd clusters: that they were bootstrapped, and whose they are.
"""

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_faces
import etcd_ha_master
from salt.exceptions import CommandExecutionError

# Beside _runners/etcd_ha.py: Salt puts the functions of both under this name.
__virtualname__ = "etcd_ha"


def __virtual__():
    return __virtualname__


def remember(cluster, members=None, former=None, balancers=()):
    """
    Keep on the master that a cluster was bootstrapped, and who its members are.

    So it is never bootstrapped a second time, and a member that the pillar no longer names is known
    as one that may be taken out. The orchestrate does it; by hand, name all members and balancers,
    for the record is written anew.

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
    record = {"cluster": cluster, "state": "bootstrapped", "members": members or {}}
    record["balancers"] = list(balancers)
    cache = etcd_ha_master.Master(__opts__, __context__).cache
    cache.store(etcd_ha_master.RECORDS, cluster, record)
    if former and cache.contains(etcd_ha_master.RECORDS, former):
        cache.flush(etcd_ha_master.RECORDS, former)
    return True


def forget(cluster):
    """
    Drop the master's record of a cluster whose data is gone and not needed.

    The members' own records (``/var/lib/etcd_ha/<cluster>.json``) are theirs to remove.

    cluster
        The name of the cluster (text).

    Returns True. Raises CommandExecutionError when there is no such record.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.forget main
    """
    etcd_ha_faces.sound(locals())
    cache = etcd_ha_master.Master(__opts__, __context__).cache
    if not cache.contains(etcd_ha_master.RECORDS, cluster):
        raise CommandExecutionError(f"the master has no record of a cluster {cluster!r}")
    cache.flush(etcd_ha_master.RECORDS, cluster)
    return True
