"""
Backups of the etcd cluster, as this member takes and holds them.

The master's ``etcd_ha.orch.backup`` calls these; the timer runs the same job without a master.

:depends: etcdctl and etcd, which the formula installs on members; rclone where S3 is used
"""

import logging
import os

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_backup
import etcd_ha_backup_files
import etcd_ha_backup_job
import etcd_ha_backup_program
import etcd_ha_delivery
import etcd_ha_faces
import etcd_ha_s3
import etcd_ha_snapshot
from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "etcd_ha_backup"

log = logging.getLogger(__name__)


def __virtual__():
    return __virtualname__


def take():
    """
    Take a backup now, find it good, bring it to its places, and let go of what is too old.

    It counts once its own hash has been checked and a test restore of it has been opened and its
    keys counted. The snapshot is this member's, which must have a quorum. Needs about twice the
    size of the database for a while, in the backups' directory.

    Returns a dict: ``name``, ``cluster``, ``when`` (text, UTC), ``revision``, ``keys`` (int),
    ``size`` (bytes), ``sha256`` (of the data in it), ``version`` of etcd, ``member``,
    ``cluster_id`` (text), ``members`` (list of text), ``verified`` (True), ``where`` (``member``),
    ``path``, and ``problems`` (list of text: what went wrong after it lay safely here, such as S3;
    the exit code is not zero then).

    Raises CommandExecutionError when there is no good backup; none is left under a final name then,
    and the older ones are as they were.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_backup.take
    """
    wanted = _settings()
    backup, problems = _run(etcd_ha_backup_job.take, wanted, log.info)
    if problems:
        __context__["retcode"] = 1
    return {**_row(backup, wanted), "problems": problems}


def listing(s3=False):
    """
    The backups that lie on this member, or in S3.

    s3 : False
        Those in S3 instead (bool).

    Returns a list of dicts, oldest first: ``where`` (``member`` or ``s3``), ``path``, and what
    ``etcd_ha_backup.take`` returns of each, but for ``problems``. One that was not found good has
    ``verified`` False and ``keys`` None.

    Raises CommandExecutionError when S3 is not used or cannot be asked, or this is no member.

    CLI Example:

    .. code-block:: bash

        salt 'etcd*' etcd_ha_backup.listing
        salt etcd1.example.com etcd_ha_backup.listing s3=True
    """
    etcd_ha_faces.sound(locals())
    wanted = _settings()
    if not s3:
        return [_row(backup, wanted) for backup in etcd_ha_backup_job.listed(wanted)]
    store = _store(wanted)
    found = _run(store.listing)
    return [
        {**backup.sidecar, "where": "s3", "path": f"{store.place}/{backup.name}.db"}
        for backup in found
    ]


def verify(name):
    """
    Find out anew whether a backup that lies on this member is good.

    name
        Its name (text), as ``salt-run etcd_ha.backups`` shows it.

    Returns what ``etcd_ha_backup.take`` returns, without ``problems``.

    Raises CommandExecutionError when it is not there, or is not good; it does not count as verified
    from then on. SaltInvocationError for what is no backup's name.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_backup.verify main-20261124T101500Z-r4711
    """
    etcd_ha_faces.sound(locals())
    wanted = _settings()
    return _row(_run(etcd_ha_backup_job.verify, wanted, _named(name)), wanted)


def prune():
    """
    Let go of the backups on this member that no rule of ``backup:keep`` keeps.

    The newest verified one always stays, and so does what was never verified.

    Returns the names of those that are gone (list of text).

    Raises CommandExecutionError while a backup is being taken here, or where this is no member.

    CLI Example:

    .. code-block:: bash

        salt 'etcd*' etcd_ha_backup.prune
    """
    return _run(etcd_ha_backup_job.prune, _settings())


def fetch(name):
    """
    Bring a backup from S3 to this member, and check its own hash.

    name
        Its name (text).

    Returns its path (text), in the backups' directory, where ``etcd_ha_backup.verify`` and a
    restore find it.

    Raises CommandExecutionError when it cannot be had or is corrupt, where no file is left, and
    SaltInvocationError for what is no backup's name.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_backup.fetch main-20261124T101500Z-r4711
    """
    etcd_ha_faces.sound(locals())
    wanted = _settings()
    store, path = _store(wanted), f"{wanted['directory']}/{_named(name)}.db"
    known = next((b for b in _run(store.listing) if b.name == name), None)
    if known is None:
        raise CommandExecutionError(f"{store.place} has no {name}; see salt-run etcd_ha.backups")
    return _run(_fetched, wanted, store, known, path)


def send(name, address, port, certificate, token, timeout=3600):
    """
    Bring a backup of this member to its master, which waits for it at a port of its own.

    The orchestrate calls this. The connection is TLS to one certificate that the master made for
    it, and what arrives is checked there by its hash.

    name
        The backup's name (text).

    address, port
        Where the master waits (text and int); without an address the one at which this minion
        reaches it.

    certificate
        The master's certificate for this one connection (PEM text).

    token
        By which the master knows this minion (text); it is of no use afterwards.

    timeout : 3600
        Seconds (int or float) for it.

    Returns the number of bytes (int).

    Raises CommandExecutionError when the backup is not there, or the master cannot be reached.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_backup.send NAME 192.168.200.10 4510 "$PEM" "$TOKEN"
    """
    etcd_ha_faces.sound(locals(), certificate="pem")
    wanted = _settings()
    place = address or __opts__.get("master_ip") or __opts__["master"]
    path = f"{wanted['directory']}/{_named(name)}.db"
    if not os.path.isfile(path):
        raise CommandExecutionError(
            f"there is no backup {name} in {wanted['directory']}; see salt-run etcd_ha.backups"
        )
    try:
        return etcd_ha_delivery.send(path, (place, int(port)), certificate, token, float(timeout))
    except OSError as err:
        raise CommandExecutionError(
            f"the backup {name} did not reach the master at {place} port {port}: {err}. Is the "
            "port open there? backup:master:address and backup:master:port say where it waits"
        ) from err


def command():
    """
    The words before the settings file that take a scheduled backup on this minion without Salt.

    Returns text: Salt's own Python, and the program that the states installed, which needs nothing
    of Salt's cache.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com etcd_ha_backup.command
    """
    return f"{etcd_ha_faces.python()} {etcd_ha_backup_program.PATH}"


def _settings():
    folder = etcd_ha_faces.member()["config_dir"]
    return _run(etcd_ha_backup_job.settings, f"{folder}/backup.json")


def _store(wanted):
    store = _run(etcd_ha_backup_job.store, wanted)
    if store is None:
        raise CommandExecutionError("S3 is not used here: backup:s3:bucket is not set")
    return store


def _run(function, *arguments):
    """Call it, and have what goes wrong shown as a sentence."""
    with etcd_ha_faces.told(
        etcd_ha_backup_job.JobError,
        etcd_ha_backup_files.Busy,
        etcd_ha_s3.S3Error,
        OSError,
        ValueError,
    ):
        return function(*arguments)


def _row(backup, wanted):
    path = f"{wanted['directory']}/{backup.name}.db"
    return {**backup.sidecar, "where": "member", "path": path}


def _named(name):
    if etcd_ha_backup.Backup.named(str(name)) is None:
        raise SaltInvocationError(
            f"{name!r} is no backup's name; see salt-run etcd_ha.backups for those that there are"
        )
    return name


def _fetched(wanted, store, known, path):
    """Bring it under its name once its hash is right, and tell of it as S3 did."""
    folder, part = wanted["directory"], f"{path}.part"
    with etcd_ha_backup_files.alone(folder):
        try:
            store.fetch(known.name, part)
            if etcd_ha_snapshot.verified_hash(part) != (
                known.sha256 or etcd_ha_snapshot.told_hash(part)
            ):
                raise ValueError(
                    f"{known.name} in S3 is another snapshot than the one that was sent"
                )
            with open(part, "rb+") as file:
                os.fchmod(file.fileno(), 0o600)
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            if os.path.exists(part):
                os.unlink(part)
        if known.verified:
            etcd_ha_backup_files.describe(folder, known)
    return path
