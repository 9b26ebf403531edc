"""
The end of this formula on a host that has no part in any cluster any more.
"""

import os
import shutil

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_arguments
import etcd_ha_backup_host
import etcd_ha_backup_program
import etcd_ha_client
import etcd_ha_common_files
import etcd_ha_common_process
import etcd_ha_common_systemd
import etcd_ha_etcdctl
import etcd_ha_faces
import etcd_ha_host
import etcd_ha_host_clean
import etcd_ha_host_examine
import etcd_ha_host_in_force
import etcd_ha_host_paused
import etcd_ha_host_record
import etcd_ha_machine
import etcd_ha_progress
import etcd_ha_virtual
from etcd_ha_common_errors import Failed
from etcd_ha_common_process import ProgramError
from salt.exceptions import CommandExecutionError

# Beside _states/etcd_ha.py: Salt puts the functions of both under this name.
__virtualname__ = "etcd_ha"

UNITS = "/etc/systemd/system"
HOSTS = "/etc/hosts"
CONFIG_DIR, INSTALL_DIR, BIN_DIR = "/etc/etcd", "/opt/etcd", "/usr/local/bin"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
RUN = "salt-run state.orchestrate etcd_ha.orch"
# Seconds for a cluster to tell its members.
PATIENCE = 5


def __virtual__():
    return __virtualname__


def cleaned(name):
    """
    Nothing of this formula but data is left on a host that has no part in any cluster any more.

    Removed are units and timers, programs, configuration, certificates and keys of members and
    balancers, the block in /etc/hosts, anchors in the system's trust store, and records. Data that
    was set aside, backups, snapshots, copies of what others left, a CA's key, users and packages
    stay.

    It fails, and changes nothing, on a host that the pillar names in a cluster, or that was not
    retired yet: etcd runs there, its data is in place, a record says that it is a member, its
    cluster lists it, or the balancer was not stopped.

    name
        A sentence for people.

    .. code-block:: yaml

        nothing of etcd_ha is left here:
          etcd_ha.cleaned: []
    """
    refused = etcd_ha_arguments.refused(locals())
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": "there is nothing to remove"}
    try:
        places = _places()
        why = _reason_to_keep(places)
        found = etcd_ha_host_clean.left(places)
    except (CommandExecutionError, Failed, OSError) as err:
        return {**ret, "result": False, "comment": f"{err}. Nothing was changed"}
    if why:
        return {**ret, "result": False, "comment": f"{why}. Nothing was changed"}
    if not found:
        return ret
    try:
        if __opts__["test"]:
            ret["changes"] = _changes(found)
        else:
            _remove(found, ret["changes"])
            _refresh(found)
    except (CommandExecutionError, Failed, ProgramError, OSError) as err:
        return {**ret, "result": False, "comment": f"{err}. Run this again"}
    done = "removed. Data, backups, users and packages stay as they are"
    return etcd_ha_faces.changed(ret, __opts__["test"], done)


def _places():
    """Where the formula writes on this host, by its defaults and the pillar that is left."""
    data = __salt__["etcd_ha.os_data"]()
    settings = __pillar__.get("etcd_ha") or {}
    install = settings.get("install") if isinstance(settings, dict) else None
    install = install if isinstance(install, dict) else {}
    keepalived = data["keepalived"]
    units = (
        *(etcd_ha_backup_host.TIMER, etcd_ha_backup_host.SERVICE),
        *(etcd_ha_host_paused.TIMER, etcd_ha_host_paused.SERVICE),
        f"{keepalived['service']}.service.d/etcd_ha.conf",
    )
    return etcd_ha_host_clean.Places(
        unit=etcd_ha_client.UNIT_FILE,
        environment=etcd_ha_client.ENVIRONMENT_FILE,
        marked=(
            *(f"{UNITS}/{unit}" for unit in units),
            etcd_ha_host_paused.drop_in(),
            f"{data['profile_dir']}/etcdctl.sh",
            *(data[kind]["config"] for kind in ("haproxy", "nginx", "keepalived")),
        ),
        own=(
            etcd_ha_virtual.CHECK,
            etcd_ha_virtual.NONLOCAL,
            etcd_ha_backup_program.FOLDER,
            etcd_ha_host.BOOTSTRAP_FILE,
            os.path.dirname(etcd_ha_host_examine.VERDICT),
            etcd_ha_host_paused.FOLDER,
            os.path.dirname(etcd_ha_host_in_force.FILE),
            etcd_ha_machine.MARK_FILE,
        ),
        config_dirs=(CONFIG_DIR,),
        balancer_dir=etcd_ha_host.BALANCER_CONFIG_DIR,
        install_dirs=tuple(_texts(INSTALL_DIR, install.get("dir"))),
        bin_dirs=tuple(_texts(BIN_DIR, install.get("bin_dir"))),
        anchors=data["trust"]["dir"],
        hosts=HOSTS,
    )


def _texts(*values):
    return [one for one in dict.fromkeys(values) if isinstance(one, str) and one.startswith("/")]


def _reason_to_keep(places):
    """Why this host must not be cleaned yet, with the cure; empty where it may be."""
    minion = __grains__["id"]
    if __pillar__.get("etcd_ha"):
        # It raises where the pillar has a fault: then it is not known whether this is one of ours.
        clusters = __salt__["etcd_ha.wanted_host"]()["clusters"]
        if clusters:
            return (
                f"the pillar names {minion} in {', '.join(clusters)}. Take it out of the pillar "
                f"and run {RUN} first"
            )
    unfinished = etcd_ha_progress.unfinished()
    if unfinished:
        return f"a {unfinished} has not finished on this host. Finish it first"
    record = etcd_ha_host_record.read()
    if record:
        cluster = record.get("cluster", "")
        return (
            f"a record says that {minion} is a member of {cluster}. Run {RUN} first: it takes the "
            "member out and stops it. If that cluster does not exist any more: salt "
            f"{minion} etcd_ha_member.retire {cluster}"
        )
    if _runs(places):
        return f"etcd still runs here. Run {RUN} first, which takes the member out and stops it"
    folders, logs = etcd_ha_host_clean.data_dirs(places)
    if etcd_ha_machine.holds_data(folders, logs):
        return (
            f"the data of a member is here ({', '.join(folders + logs)}), so it was not retired. "
            f"Run {RUN} first, or move the data elsewhere if its cluster does not exist any more"
        )
    if etcd_ha_client.certain_mark().get("balancer"):
        return f"{minion} is still a load balancer by its last converge. Run {RUN} first"
    return _reason_of_the_cluster(minion)


def _runs(places):
    """Whether an etcd runs from the unit, or from a release, of this formula."""
    unit = etcd_ha_faces.unit(os.path.basename(places.unit))
    if unit.is_up and etcd_ha_host_clean.is_ours(places.unit):
        return True
    ours = tuple(f"{folder}/" for folder in places.install_dirs)
    return any(
        one["pid"] and (one["by_formula"] or str(one.get("program") or "").startswith(ours))
        for one in __salt__["etcd_ha.etcds"]()
    )


def _reason_of_the_cluster(minion):
    """Whether the cluster that this host was in still lists it, as far as it can be asked."""
    member = etcd_ha_client.member_on_disk()
    known = etcd_ha_client.others(member) if member else ""
    if not known:
        return ""
    own = etcd_ha_client.configured().get("ETCD_INITIAL_ADVERTISE_PEER_URLS", "")
    try:
        listed = etcd_ha_client.members(member, PATIENCE, known)
    except (etcd_ha_etcdctl.EtcdctlError, ProgramError) as err:
        if not _answers(member, known):
            # A host that was retired has certificates that may have ended since, and the members'
            # firewalls shut it out.
            return ""
        return (
            f"the members of its cluster answer, but do not tell whether {minion} is one of them "
            f"({err}). Give the cluster its quorum back first"
        )
    if own and any(own in one["peer_urls"] for one in listed):
        return (
            f"its cluster still lists {minion} as a member ({own}). Run {RUN} first, which takes "
            "it out"
        )
    return ""


def _answers(member, endpoints):
    try:
        return bool(etcd_ha_client.status(member, PATIENCE, endpoints))
    except (etcd_ha_etcdctl.EtcdctlError, ProgramError):
        return False


def _changes(found):
    """What goes, as a state's changes."""
    block = {HOSTS: {"old": "a block of etcd_ha", "new": "without it"}} if found.block else {}
    return {**block, **{path: {"old": "present", "new": "absent"} for path in found.paths}}


def _remove(found, changes):
    """Stop what may still be started, then remove what is there; ``changes`` tells what was."""
    wanted = _changes(found)
    for path in found.paths:
        name = os.path.basename(path)
        if path.startswith(f"{UNITS}/") and name.startswith("etcd") and ".d/" not in path:
            _end(name)
    if found.block:
        text = etcd_ha_common_files.text(HOSTS) or ""
        mode = os.stat(HOSTS).st_mode & 0o7777
        etcd_ha_machine.write_text(HOSTS, etcd_ha_host_clean.without_block(text), mode)
        changes[HOSTS] = wanted[HOSTS]
    for path in found.paths:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
        changes[path] = wanted[path]
    for folder in found.folders:
        if etcd_ha_common_files.is_directory(folder) and not etcd_ha_common_files.names(folder):
            os.rmdir(folder)


def _end(unit):
    with etcd_ha_faces.told(cure=f"Look at: systemctl status {unit}"):
        if etcd_ha_common_systemd.unit(unit).is_up:
            etcd_ha_common_systemd.systemctl("stop", unit, timeout=120)
        if etcd_ha_common_systemd.unit(unit).exists:
            etcd_ha_common_systemd.systemctl("disable", unit)


def _refresh(found):
    """Have systemd and the system's trust store know what is gone."""
    data = __salt__["etcd_ha.os_data"]()
    if any(path.startswith(f"{UNITS}/") for path in found.paths):
        with etcd_ha_faces.told(cure="Look at: systemctl status"):
            etcd_ha_common_systemd.systemctl("daemon-reload")
    if any(path.startswith(f"{data['trust']['dir']}/") for path in found.paths):
        command = ["env", f"PATH={PATH}", *data["trust"]["command"].split()]
        etcd_ha_common_process.run(command, 120)
