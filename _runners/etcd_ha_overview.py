"""
What the etcd clusters of this master are, and where clients connect; for people and monitoring.
"""

import datetime

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_faces
import etcd_ha_master
import etcd_ha_minions
import etcd_ha_observed
import etcd_ha_plan_paused
import etcd_ha_report
import etcd_ha_space
import etcd_ha_told
from salt.exceptions import SaltInvocationError

# Beside _runners/etcd_ha.py: Salt puts the functions of both under this name.
__virtualname__ = "etcd_ha"


def __virtual__():
    return __virtualname__


def status(cluster=None):
    """
    What is: every member and balancer with role, health, version, revision, lag and size.

    The lag is in entries of the log, behind the member that has most of them.

    cluster : None
        The name of one cluster (text); without it all clusters are shown.

    Returns text, a table a cluster; below it who holds the virtual address, which hosts do not
    answer with their facts and why, which members are paused, why and until when, and what is short
    of space. Where the pillar of a cluster is wrong, its faults stand in the table's place, and the
    exit code is 1.

    What is wrong in the pillar for all clusters, and that there is no such cluster, is told as
    text, with exit code 1.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.status
    """
    etcd_ha_faces.sound(locals(), cluster="name?")
    with etcd_ha_master.in_words():
        master = etcd_ha_master.Master(__opts__, __context__)
        clusters, faults = master.clusters_and_faults(cluster)
        facts = etcd_ha_minions.facts(master, clusters.values())
        observed = {minion: etcd_ha_observed.Observed.of(found) for minion, found in facts.items()}
        reports = []
        for one in clusters.values():
            notes = [f"{host} {facts.silent[host]}" for host in one.hosts if host in facts.silent]
            notes += etcd_ha_plan_paused.notes(one, observed)
            notes += etcd_ha_space.notes(one, observed)
            reports.append("\n".join([etcd_ha_report.status(one, facts), *notes]))
        told = "\n\n".join([*reports, *dict.fromkeys(faults.values())]) or etcd_ha_master.NO_CLUSTER
        return etcd_ha_master.failed(told) if faults else told


def certificates(cluster=None):
    """
    Every certificate of every host: purpose, issuer, expiry, days left; for people and monitoring.

    cluster : None
        The name of one cluster (text); without it all clusters are shown.

    Returns text, a table a cluster. When a certificate has expired, is inside its renewal window
    (``tls:days_remaining``, of the CA's own ``tls:ca:days_remaining``), or cannot be read, or a
    host has none yet, gives an odd answer or none, the exit code of salt-run is 1; also where the
    pillar of a cluster is wrong: its faults stand in the table's place.

    What is wrong in the pillar for all clusters, and that there is no such cluster, is told as
    text, with exit code 1.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.certificates
        salt-run etcd_ha.certificates cluster=main
    """
    etcd_ha_faces.sound(locals(), cluster="name?")
    with etcd_ha_master.in_words():
        master = etcd_ha_master.Master(__opts__, __context__)
        clusters, faults = master.clusters_and_faults(cluster)
        named = list(dict.fromkeys(minion for one in clusters.values() for minion in one.hosts))
        found = _certificates(master, etcd_ha_minions.connected(master, named))
        # Minions with older modules do not know the function yet.
        blank = [minion for minion, told in found.items() if not isinstance(told, list)]
        etcd_ha_minions.sync(master, blank)
        found |= _certificates(master, blank)
        now = datetime.datetime.now(datetime.timezone.utc)
        reports = [etcd_ha_report.certificates(one, found, now) for one in clusters.values()]
        return etcd_ha_master.shown([*reports, *etcd_ha_report.of_faults(faults)])


def hash_kv(cluster=None):
    """
    Whether all members hold the same keys, by their hashes at one revision; for people.

    Each member reads its whole database for it (some seconds a GiB).

    cluster : None
        The name of one cluster (text); without it all clusters are compared.

    Returns text, a table a cluster. When members differ, a voter does not tell (a learner is not
    asked), or a host gives an odd answer, the exit code of salt-run is 1; also where the pillar of
    a cluster is wrong: its faults stand in the table's place.

    What is wrong in the pillar for all clusters, and that there is no such cluster, is told as
    text, with exit code 1.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.hash_kv
        salt-run etcd_ha.hash_kv cluster=main
    """
    etcd_ha_faces.sound(locals(), cluster="name?")
    with etcd_ha_master.in_words():
        master = etcd_ha_master.Master(__opts__, __context__)
        clusters, faults = master.clusters_and_faults(cluster)
        facts = etcd_ha_minions.facts(master, clusters.values())
        reports = [
            etcd_ha_report.hashes(one, *_hashes(master, one, facts)) for one in clusters.values()
        ]
        return etcd_ha_master.shown([*reports, *etcd_ha_report.of_faults(faults)])


def endpoints(cluster=None, consumer=None):
    """
    Where clients connect, also as the settings that a consumer pastes; reads the pillar alone.

    cluster : None
        The name of one cluster (text); without it all clusters.

    consumer : None
        ``kube-apiserver`` or ``patroni`` for that program's own settings (text).

    Returns a dict cluster -> list of URLs (the virtual address, or each balancer, or else the
    members), or text for a consumer.

    What is wrong in the pillar, and that there is no such cluster or consumer, is told as text,
    with exit code 1.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.endpoints
        salt-run etcd_ha.endpoints main consumer=kube-apiserver
    """
    etcd_ha_faces.sound(locals(), cluster="name?")
    with etcd_ha_master.in_words():
        clusters = etcd_ha_master.Master(__opts__, __context__).clusters(cluster)
        if consumer is None:
            return {name: etcd_ha_report.client_urls(one) for name, one in clusters.items()}
        try:
            return "\n".join(etcd_ha_report.consumer(one, consumer) for one in clusters.values())
        except ValueError as err:
            raise SaltInvocationError(str(err)) from err


def _certificates(master, minions):
    answers = etcd_ha_minions.ask(master, minions, "etcd_ha.certificates")
    return {minion: answer.get("ret") for minion, answer in answers.items()}


def _hashes(master, cluster, facts):
    """What the first member that can says of all; the last word of one that cannot, or nothing.

    Beside it those whose answer is of another form: minion -> fault.
    """
    answer, odd = {}, {}
    for minion in etcd_ha_report.healthy_members(cluster, facts):
        answers = etcd_ha_minions.ask(master, [minion], "etcd_ha.hash_kv")
        told = answers.get(minion, {}).get("ret")
        if told is None or isinstance(told, str):
            answer = told
            continue
        fault = etcd_ha_told.hashes_fault(told)
        if not fault:
            return told, odd
        odd[minion] = fault
    return answer, odd
