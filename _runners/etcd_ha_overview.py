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


def status(cluster=None, data=False):
    """
    What is: every member and balancer with role, health, version, revision, lag and size.

    The lag is in entries of the log, behind the member that has most of them.

    cluster : None
        The name of one cluster (text); without it all clusters are shown.

    data : False
        Data instead of text (bool); ``salt-run --out=json`` (or ``yaml``, ``raw``, ``pprint``)
        returns it by itself.

    Returns text, a table a cluster; below it who holds the virtual address, which hosts do not
    answer with their facts and why, which members are paused, why and until when, and what is short
    of space. The exit code of salt-run is 1 while a member (unless it is paused) or a balancer is
    not healthy or does not answer, or etcd has an alarm; also where the pillar of a cluster is
    wrong: its faults stand in the table's place.

    What is wrong in the pillar for all clusters, and that there is no such cluster, is told as
    text, with exit code 1.

    As data: ``{"clusters": {NAME: {hosts: [{name, minion, address, role, health, healthy, version,
    revision, lag, db_size, db_in_use}], notes}}}`` (sizes in bytes; of a balancer there are no
    numbers, and what is not known is missing or None), in the place of a cluster whose pillar is
    wrong ``{"error": TEXT}``; with ``retcode`` where the exit code is not 0.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.status
    """
    given = locals()

    def reported(master):
        etcd_ha_faces.sound(given, cluster="name?")
        clusters, faults = master.clusters_and_faults(cluster)
        facts = etcd_ha_minions.facts(master, clusters.values())
        observed = {minion: etcd_ha_observed.Observed.of(found) for minion, found in facts.items()}
        reports = []
        for one in clusters.values():
            notes = [f"{host} {facts.silent[host]}" for host in one.hosts if host in facts.silent]
            notes += etcd_ha_plan_paused.notes(one, observed)
            notes += etcd_ha_space.notes(one, observed)
            reports.append(etcd_ha_report.status(one, facts, notes))
        return etcd_ha_master.shown([*reports, *etcd_ha_report.of_faults(faults)])

    return etcd_ha_master.answer(__opts__, __context__, data, reported)


def certificates(cluster=None, data=False):
    """
    Every certificate of every host: purpose, issuer, expiry, days left; for people and monitoring.

    cluster : None
        The name of one cluster (text); without it all clusters are shown.

    data : False
        Data instead of text (bool); ``salt-run --out=json`` (or ``yaml``, ``raw``, ``pprint``)
        returns it by itself.

    Returns text, a table a cluster. When a certificate has expired, is inside its renewal window
    (``tls:days_remaining``, of the CA's own ``tls:ca:days_remaining``), or cannot be read, or a
    host has none yet, gives an odd answer or none, the exit code of salt-run is 1; also where the
    pillar of a cluster is wrong: its faults stand in the table's place.

    What is wrong in the pillar for all clusters, and that there is no such cluster, is told as
    text, with exit code 1.

    As data: ``{"clusters": {NAME: {certificates: [{host, purpose, issuer, expires, days,
    state}]}}}`` (days is a number; what is not known is None), or ``error``, as ``etcd_ha.status``
    has it.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.certificates
        salt-run etcd_ha.certificates cluster=main
    """
    given = locals()

    def reported(master):
        etcd_ha_faces.sound(given, cluster="name?")
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

    return etcd_ha_master.answer(__opts__, __context__, data, reported)


def hash_kv(cluster=None, data=False):
    """
    Whether all members hold the same keys, by their hashes at one revision; for people.

    Each member reads its whole database for it (some seconds a GiB).

    cluster : None
        The name of one cluster (text); without it all clusters are compared.

    data : False
        Data instead of text (bool); ``salt-run --out=json`` (or ``yaml``, ``raw``, ``pprint``)
        returns it by itself.

    Returns text, a table a cluster. When members differ, a voter does not tell (a learner is not
    asked), or a host gives an odd answer, the exit code of salt-run is 1; also where the pillar of
    a cluster is wrong: its faults stand in the table's place.

    What is wrong in the pillar for all clusters, and that there is no such cluster, is told as
    text, with exit code 1.

    As data: ``{"clusters": {NAME: {agree, right, members: [{name, member_id, endpoint, hash,
    differs}], odd}}}``, or ``error``, as ``etcd_ha.status`` has it.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.hash_kv
        salt-run etcd_ha.hash_kv cluster=main
    """
    given = locals()

    def reported(master):
        etcd_ha_faces.sound(given, cluster="name?")
        clusters, faults = master.clusters_and_faults(cluster)
        facts = etcd_ha_minions.facts(master, clusters.values())
        reports = [
            etcd_ha_report.hashes(one, *_hashes(master, one, facts)) for one in clusters.values()
        ]
        return etcd_ha_master.shown([*reports, *etcd_ha_report.of_faults(faults)])

    return etcd_ha_master.answer(__opts__, __context__, data, reported)


def endpoints(cluster=None, consumer=None, data=False):
    """
    Where clients connect, also as the settings that a consumer pastes; reads the pillar alone.

    cluster : None
        The name of one cluster (text); without it all clusters.

    consumer : None
        ``kube-apiserver`` or ``patroni`` for that program's own settings (text).

    data : False
        Data instead of text (bool); ``salt-run --out=json`` (or ``yaml``, ``raw``, ``pprint``)
        returns it by itself.

    Returns a dict cluster -> list of URLs (the virtual address, or each balancer, or else the
    members), or text for a consumer; as data a dict cluster -> that text.

    What is wrong in the pillar, and that there is no such cluster or consumer, is told as text,
    with exit code 1.

    CLI Example:

    .. code-block:: bash

        salt-run etcd_ha.endpoints
        salt-run etcd_ha.endpoints main consumer=kube-apiserver
    """
    given = locals()

    def listed(master):
        etcd_ha_faces.sound(given, cluster="name?")
        clusters = master.clusters(cluster)
        if consumer is None:
            urls = {name: etcd_ha_report.client_urls(one) for name, one in clusters.items()}
            return etcd_ha_master.Answer(urls, urls)
        try:
            settings = {n: etcd_ha_report.consumer(one, consumer) for n, one in clusters.items()}
        except ValueError as err:
            raise SaltInvocationError(str(err)) from err
        return etcd_ha_master.Answer("\n".join(settings.values()), settings)

    return etcd_ha_master.answer(__opts__, __context__, data, listed)


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
