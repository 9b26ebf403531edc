"""
Backups of the etcd on this minion as states: their store's secrets, their program, their timer.
"""

import os
import stat

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_arguments
import etcd_ha_backup_host
import etcd_ha_backup_program
import etcd_ha_common_files
import etcd_ha_common_systemd
import etcd_ha_machine
import etcd_ha_s3
from etcd_ha_common_process import ProgramError
from salt.exceptions import CommandExecutionError

__virtualname__ = "etcd_ha_backup"

TIMER = """\
# Kept by Salt (etcd_ha). All members have it; the first whose turn it is takes the backup.
[Unit]
Description=When the etcd cluster {cluster} is backed up

[Timer]
OnCalendar={schedule}
Persistent=true
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


def __virtual__():
    return __virtualname__


def secrets_kept(name, path, cluster):
    """
    The secrets of a cluster's store for backups lie in a file that root alone can read.

    They come out of the pillar (``backup:s3``, of the cluster or of all); one that is an URI such
    as ``sdb://etcd_secrets/main:secret_key`` is asked of Salt's sdb on this minion. They stand in
    no return, no log, and no rendered state.

    name
        A sentence for people.

    path
        The file (absolute path), mode 0600.

    cluster
        The name of the cluster (text).

    .. code-block:: yaml

        the secrets of the store for backups are root's alone:
          etcd_ha_backup.secrets_kept:
            - path: /etc/etcd/backup.secrets
            - cluster: main
    """
    refused = etcd_ha_arguments.refused(locals())
    if refused:
        return refused
    ret = {
        "name": name,
        "result": True,
        "changes": {},
        "comment": f"{path} is as the pillar has it",
    }
    try:
        text = etcd_ha_s3.secrets_text(_secrets(cluster))
        mode = os.stat(path).st_mode & 0o7777 if etcd_ha_common_files.exists(path) else None
        same = etcd_ha_machine.read_text(path) == text
    except CommandExecutionError as err:
        return {**ret, "result": False, "comment": str(err)}
    if mode == 0o600 and same:
        return ret
    old = f"mode {mode or 0:04o}" if same and mode is not None else "other secrets"
    change = {"old": "absent" if mode is None else old, "new": "the pillar's secrets, mode 0600"}
    if __opts__["test"]:
        comment = f"{path} would be written"
        return {**ret, "result": None, "changes": {path: change}, "comment": comment}
    try:
        etcd_ha_machine.write_text(path, text, 0o600)
    except OSError as err:
        return {**ret, "result": False, "comment": f"{path} was not written: {err}. {_AGAIN}"}
    return {**ret, "changes": {path: change}, "comment": f"{path} has been written"}


def program_kept(name, path):
    """
    The program that the timer of backups starts is this formula's, where root alone writes.

    It is one file with all that it needs of the formula's modules, and does not depend on Salt's
    cache. It is replaced in one step.

    name
        A sentence for people.

    path
        The program (absolute path); its directory is made root's alone.

    .. code-block:: yaml

        the program that takes a scheduled backup is there:
          etcd_ha_backup.program_kept:
            - path: /usr/local/lib/etcd_ha/backup.pyz
    """
    refused = etcd_ha_arguments.refused(locals())
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{path} is the formula's"}
    folder = os.path.dirname(path)
    try:
        old = etcd_ha_machine.sha256_file(path)
        same = old == etcd_ha_backup_program.sha256()
        if _roots_alone(folder, 0o755) and _roots_alone(path, 0o644) and same:
            return ret
        change = "writable for others" if same else "another program" if old else "absent"
        ret["changes"] = {path: {"old": change, "new": "the formula's, and root's alone"}}
        if __opts__["test"]:
            return {**ret, "result": None, "comment": f"{path} would be written"}
        etcd_ha_common_files.make_directory(folder, 0o755)
        os.chown(folder, 0, 0)
        os.chmod(folder, 0o755)
        etcd_ha_machine.write_bytes(path, etcd_ha_backup_program.archive(), 0o644)
    except (CommandExecutionError, OSError) as err:
        comment = f"{path} was not written: {err}. {_AGAIN}"
        return {**ret, "result": False, "changes": {}, "comment": comment}
    return {**ret, "comment": f"{path} has been written"}


def schedule_understood(name, schedule):
    """
    This host's systemd understands the schedule of backups; nothing is changed.

    It is asked before anything else of the same edit is done: a timer that cannot be written would
    end the change of the cluster at its first member.

    name
        A sentence for people.

    schedule
        When, as systemd's OnCalendar has it (text).

    .. code-block:: yaml

        systemd understands the schedule of backups:
          etcd_ha_backup.schedule_understood:
            - schedule: '*-*-* 02:30:00'
    """
    refused = etcd_ha_arguments.refused(locals())
    if refused:
        return refused
    wrong = _not_understood(schedule)
    return {
        "name": name,
        "result": not wrong,
        "changes": {},
        "comment": wrong or f"{schedule} is a schedule",
    }


def _not_understood(schedule):
    """What is wrong with a schedule, as systemd has it; empty where nothing is."""
    try:
        etcd_ha_common_systemd.calendar(schedule)
    except ProgramError as err:
        if err.code != 1:
            return f"{err}. {_AGAIN}"
        return (
            f"backup:schedule is {schedule!r}, which systemd does not understand: {err.reason}. "
            "Try: systemd-analyze calendar daily"
        )
    return ""


def timer_kept(name, path, cluster, schedule):
    """
    A systemd timer has the pillar's schedule; one that systemd does not understand is refused.

    name
        A sentence for people.

    path
        The timer's unit file (absolute path).

    cluster
        The name of the cluster (text), for people.

    schedule
        When to take a backup (text), as systemd's OnCalendar has it.

    .. code-block:: yaml

        the timer of backups has the pillar's schedule:
          etcd_ha_backup.timer_kept:
            - path: /etc/systemd/system/etcd_ha-backup.timer
            - cluster: main
            - schedule: '*-*-* 02:30:00'
    """
    refused = etcd_ha_arguments.refused(locals())
    if refused:
        return refused
    text = TIMER.format(cluster=cluster, schedule=schedule)
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{schedule} is in the timer"}
    try:
        old = etcd_ha_machine.read_text(path)
        # An earlier run may have ended between the two. The service is not started by what it was.
        unread = old == text and _unread(os.path.basename(path))
    except CommandExecutionError as err:
        return {**ret, "result": False, "comment": f"{path} was not written: {err}. {_AGAIN}"}
    if old == text and not unread:
        return ret
    wrong = _not_understood(schedule)
    if wrong:
        return {**ret, "result": False, "comment": f"{path} was not written: {wrong}"}
    changes = {"schedule": {"old": _schedule(old), "new": schedule}}
    if unread:
        changes = {path: {"old": "not read by systemd", "new": "in force"}}
    elif _schedule(old) == schedule:
        changes = {path: {"old": "another text", "new": "the formula's"}}
    if __opts__["test"]:
        comment = f"the timer would have {schedule}"
        return {**ret, "result": None, "changes": changes, "comment": comment}
    try:
        etcd_ha_machine.write_text(path, text, 0o644)
    except OSError as err:
        return {**ret, "result": False, "comment": f"{path} was not written: {err}. {_AGAIN}"}
    try:
        etcd_ha_common_systemd.systemctl("daemon-reload")
    except ProgramError as err:
        comment = f"{path} was written, but is not in force: {err}. {_AGAIN}"
        return {**ret, "result": False, "changes": changes, "comment": comment}
    return {**ret, "changes": changes, "comment": f"the timer has {schedule}"}


_AGAIN = "Mend the cause, and run again"


def _unread(timer):
    """Whether systemd has not read the timer or its service as they are on disk."""
    units = timer, f"{timer.removesuffix('.timer')}.service"
    return any(etcd_ha_common_systemd.unit(name).stale for name in units)


def _roots_alone(path, mode):
    """Whether this is root's, with these rights and no others; not where it is a link."""
    if not etcd_ha_common_files.lexists(path):
        return False
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        raise CommandExecutionError(
            f"{path} is a link, and where it leads others may write; remove it"
        )
    return (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (0, 0, mode)


def _schedule(text):
    lines = [line for line in text.splitlines() if line.startswith("OnCalendar=")]
    return lines[0].partition("=")[2] if lines else ""


def _secrets(cluster):
    """Of the cluster, where it has any, else of all; sdb URIs resolved."""
    pillar = __pillar__.get("etcd_ha") or {}
    own = ((pillar.get("clusters") or {}).get(cluster) or {}).get("backup") or {}
    merged = {**((pillar.get("backup") or {}).get("s3") or {}), **(own.get("s3") or {})}
    found = etcd_ha_backup_host.secrets(merged)
    for name, value in found.items():
        if value.startswith("sdb://"):
            try:
                found[name] = __salt__["sdb.get"](value)
            except Exception as err:  # sdb.get raises whatever its driver raises
                raise CommandExecutionError(
                    f"backup:s3:{name} is {value}, which could not be fetched "
                    f"({type(err).__name__}). See salt-call sdb.get {value}"
                ) from None
            if not isinstance(found[name], str) or not found[name]:
                raise CommandExecutionError(
                    f"backup:s3:{name} is {value}, where sdb has nothing. See "
                    f"salt-call sdb.get {value}"
                )
    return found
