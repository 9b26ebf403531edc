"""
etcd on this minion as states: the release on disk, and the running member.

A highstate never restarts a member that runs and never bootstraps: only the orchestrate, which
sees the whole cluster, hands a state the ``action`` to do so.
"""

import errno
import filecmp
import glob
import os
import shutil
import stat
import tarfile
import tempfile
import time

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_arguments
import etcd_ha_client
import etcd_ha_data
import etcd_ha_environment
import etcd_ha_faces
import etcd_ha_host
import etcd_ha_host_kept
import etcd_ha_host_record
import etcd_ha_machine
import etcd_ha_mark
import etcd_ha_pem
import etcd_ha_progress
import etcd_ha_release
from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "etcd_ha"

PEER_URL = "ETCD_INITIAL_ADVERTISE_PEER_URLS"
BOOTSTRAP_FILE = "/run/etcd_ha/bootstrap.env"


def __virtual__():
    return __virtualname__


def installed(name, version, url, sums_url, archive, folder, dir, programs, checksum=None):
    """
    A release of etcd lies unpacked in a directory of its own, checked against its sha256.

    Nothing else on the host changes: a running etcd stays on the release that it has.

    name
        A sentence for people.

    version
        The release (text), such as ``3.6.14``.

    url, sums_url
        Where the archive and its SHA256SUMS are (text).

    archive, folder
        The archive's file name, and the folder inside it (text).

    dir
        The directory to unpack into (absolute path), such as ``/opt/etcd/3.6.14``.

    programs
        The programs to take from the archive (list of text).

    checksum : None
        The archive's sha256 (64 hex digits); without it SHA256SUMS is fetched and is binding.

    .. code-block:: yaml

        etcd 3.6.14 lies unpacked beside other releases:
          etcd_ha.installed:
            - version: 3.6.14
            - url: https://mirror/v3.6.14/etcd-v3.6.14-linux-amd64.tar.gz
            - sums_url: https://mirror/v3.6.14/SHA256SUMS
            - archive: etcd-v3.6.14-linux-amd64.tar.gz
            - folder: etcd-v3.6.14-linux-amd64
            - dir: /opt/etcd/3.6.14
            - programs: [etcd, etcdctl, etcdutl]
    """
    refused = etcd_ha_arguments.refused(locals())
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    if all(os.access(f"{dir}/{program}", os.X_OK) for program in programs):
        ret["comment"] = f"etcd {version} is unpacked in {dir}"
        if not __opts__["test"]:
            _clear_unpacking(os.path.dirname(dir))
        return ret
    if __opts__["test"]:
        ret["result"] = None
        ret["changes"] = {dir: {"old": "absent", "new": f"etcd {version}"}}
        ret["comment"] = f"etcd {version} would be downloaded from {url} and unpacked in {dir}"
        return ret
    parent, scratch = os.path.dirname(dir), ""
    try:
        os.makedirs(parent, mode=0o755, exist_ok=True)
        _clear_unpacking(parent)
        scratch = tempfile.mkdtemp(prefix=".unpack-", dir=parent)
        wanted = checksum or _listed_checksum(sums_url, archive)
        _download(url, f"{scratch}/{archive}", wanted)
        _unpack(f"{scratch}/{archive}", folder, programs, f"{scratch}/release")
        shutil.rmtree(dir, ignore_errors=True)
        os.rename(f"{scratch}/release", dir)
        etcd_ha_machine.sync_folder(parent)
    except (CommandExecutionError, ValueError, OSError, tarfile.TarError) as err:
        ret["result"] = False
        ret["comment"] = f"etcd {version} was not installed, nothing was changed: {err}"
        return ret
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)
    ret["changes"] = {dir: {"old": "absent", "new": f"etcd {version}"}}
    ret["comment"] = f"etcd {version} was checked (sha256 {wanted}) and unpacked in {dir}"
    return ret


def switched(name, dir, current, bin_dir, programs):
    """
    The programs of one release are the ones in the path.

    A running etcd goes on with the program that it was started from.

    name
        A sentence for people.

    dir
        The release's directory (absolute path).

    current
        The symbolic link that names the release in use (absolute path).

    bin_dir
        Where the programs are linked (absolute path).

    programs
        The programs (list of text).

    .. code-block:: yaml

        etcd 3.6.14 is the release in use:
          etcd_ha.switched:
            - dir: /opt/etcd/3.6.14
            - current: /opt/etcd/current
            - bin_dir: /usr/local/bin
            - programs: [etcd, etcdctl, etcdutl]
    """
    refused = etcd_ha_arguments.refused(locals())
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{dir} is in use"}
    links = {current: dir}
    links.update({f"{bin_dir}/{program}": f"{current}/{program}" for program in programs})
    for link, target in links.items():
        old = os.readlink(link) if os.path.islink(link) else ""
        if old != target:
            ret["changes"][link] = {"old": old, "new": target}
    if not ret["changes"]:
        return ret
    foreign = __salt__["etcd_ha.refusal"]()
    if foreign:
        return {**ret, "result": False, "changes": {}, "comment": foreign}
    if __opts__["test"]:
        ret["result"], ret["comment"] = None, f"{dir} would be put in use"
        return ret
    missing = [program for program in programs if not os.access(f"{dir}/{program}", os.X_OK)]
    if missing:
        ret["result"], ret["changes"] = False, {}
        ret["comment"] = (
            f"{dir} lacks {', '.join(missing)}; it was not put in use. Unpack the release there "
            "first: etcd_ha.installed does so"
        )
        return ret
    wanted, ret["changes"] = ret["changes"], {}
    try:
        os.makedirs(bin_dir, mode=0o755, exist_ok=True)
        # A file here is somebody else's program, and so is what a link of theirs leads to.
        own = f"{os.path.dirname(dir)}/"
        files = [one for one in wanted if not wanted[one]["old"].startswith(own)]
        kept = etcd_ha_host_kept.keep(files, {}, follow=False)
        for link in reversed(list(wanted)):
            _link(links[link], link)
            ret["changes"][link] = wanted[link]
    except OSError as err:
        return _failed(ret, f"{dir} was not put in use: {err}")
    ret["comment"] = f"{dir} was put in use"
    if kept:
        ret["comment"] += f"; the former programs were copied to {', '.join(kept.values())}"
    return ret


def kept(name, files):
    """
    Files that the formula did not write are copied before it overwrites them.

    A file is the formula's own if the last converge recorded it, or if its first line says so.
    Copies are below ``/var/lib/etcd_ha/kept/DATE``, readable by root alone.

    name
        A sentence for people.

    files
        The places (list of absolute paths).

    .. code-block:: yaml

        existing files are copied before etcd_ha overwrites them:
          etcd_ha.kept:
            - files: [/etc/default/etcd, /etc/systemd/system/etcd.service]
    """
    refused = etcd_ha_arguments.refused(locals())
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": "no file to copy"}
    known = etcd_ha_mark.read().get("files", {})
    found = etcd_ha_host_kept.foreign(files, known)
    if not found:
        return ret
    if __opts__["test"]:
        ret["result"], ret["comment"] = None, "would copy these files"
        ret["changes"] = {path: {"old": "", "new": "a copy"} for path in found}
        return ret
    try:
        copies = etcd_ha_host_kept.keep(found, known)
    except OSError as err:
        return _failed(ret, f"could not copy: {err}. The files were not overwritten")
    ret["changes"] = {path: {"old": path, "new": copy} for path, copy in copies.items()}
    ret["comment"] = "files were copied" if copies else "copies exist already"
    return ret


def running(
    name,
    unit,
    cluster,
    environment,
    program,
    record,
    action="none",
    start_timeout=120,
    version=None,
    release=None,
    successor="",
    endpoints="",
    restart_before=0,
):
    """
    The member runs with the configuration that is on disk, and is healthy.

    name
        A sentence for people.

    unit
        The systemd unit (text).

    cluster
        The name of the cluster (text).

    environment
        The ``ETCD_*`` variables that the process should have (dict of text).

    program
        The program that should run (absolute path).

    record
        The file that says that this cluster was bootstrapped (absolute path).

    action : none
        ``none`` starts a stopped member that holds data and never restarts one; ``restart`` also
        restarts a member whose process differs from what is on disk, after moving leadership
        away; ``bootstrap`` also starts a member without data as one of a new cluster; ``join``
        also enters a cluster that runs, as a learner that is promoted once it has caught up, and
        sets data aside that is of no use there any more (these two restart like ``restart``);
        ``hold`` leaves a member as it is, running
        or not, since a restore is about to put its data in place.

    start_timeout : 120
        Seconds (int or float) to wait until the member has joined a quorum.

    version : None
        The version (text) that must be installed, where a package decides which one that is.

    release : None
        The release (text) that ``program`` is; it is started only when the cluster is ready for it.

    successor
        The name of the member that shall lead when this one, as the leader, is restarted (text).

    endpoints
        Client URLs of the cluster that a joining member enters (text, comma-separated).

    restart_before : 0
        Restart a member whose process began before this time (int, seconds since 1970).

    Where it fails, ``changes`` has what was done by then.

    .. code-block:: yaml

        etcd1 runs and is healthy:
          etcd_ha.running:
            - unit: etcd.service
            - cluster: main
            - environment: {ETCD_NAME: etcd1, ETCD_DATA_DIR: /var/lib/etcd}
            - program: /opt/etcd/current/etcd
            - record: /var/lib/etcd_ha/main.json
    """
    refused = etcd_ha_arguments.refused(locals(), version="version?")
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    foreign = __salt__["etcd_ha.refusal"]()
    if foreign:
        return {**ret, "result": False, "comment": foreign}
    installed = __salt__["etcd_ha.version"]()["installed"] if version else None
    if installed and installed != version:
        ret["result"] = False
        ret["comment"] = (
            f"the package brings etcd {installed}, the pillar says version {version}; nothing was "
            f"started. Set version: {installed}, or install:method: archive"
        )
        return ret
    if action == "hold":
        ret["comment"] = f"{unit} is left as it is: a restore is to put its data in place"
        return ret
    begun = etcd_ha_progress.unfinished()
    if begun:
        ret["result"] = False
        ret["comment"] = (
            f"a {begun} was begun on this host and not ended, so nothing is started here. Go on "
            f"with it: salt-run state.orchestrate etcd_ha.orch.{begun} "
            f"""pillar='{{"confirm": "{cluster}"}}'"""
        )
        return ret
    if action in ("join", "restart") and PEER_URL not in environment:
        ret["result"] = False
        ret["comment"] = f"environment lacks {PEER_URL}, which {action} needs. Nothing was changed"
        return ret
    found = etcd_ha_machine.unit(unit)
    process = etcd_ha_machine.process_environment(found["pid"]) if found["pid"] else {}
    past = etcd_ha_machine.read_json(record)
    moves = _moves(process, past, environment)
    here = [environment["ETCD_DATA_DIR"], *(old for _, old, _ in moves)]
    has_data = etcd_ha_machine.holds_data(here, _logs(environment, moves))
    # Where nothing runs, etcdctl would wait five seconds for an answer: it is not asked there.
    asked = action == "join" and has_data
    try:
        corrupt = __salt__["etcd_ha.facts"]()["etcd"].get("corrupt", "") if asked else ""
        lost = action == "join" and found["active"] and not corrupt and not _serves()
    except (CommandExecutionError, SaltInvocationError) as err:
        return {**ret, "result": False, "comment": str(err)}
    differences = {}
    if found["active"]:
        differences = etcd_ha_environment.needs_restart(process, environment)
        for reason in etcd_ha_machine.pending(found, program):
            differences[reason] = {"old": "as started", "new": "as on disk"}
        if found["started"] < restart_before:
            differences["process"] = {"old": "as started", "new": "started anew"}
    fresh = action == "join" or (action == "bootstrap" and past.get("state") != "bootstrapped")
    if not found["active"] and not has_data and not fresh:
        ret["result"] = False
        ret["comment"] = (
            f"{environment['ETCD_NAME']} holds no data and was not started: a member without data "
            "starts only by salt-run state.orchestrate etcd_ha.orch, which sees the whole cluster"
        )
        return ret
    if not found["enabled"]:
        ret["changes"]["enabled"] = {"old": False, "new": True}
    if not found["active"]:
        ret["changes"]["unit"] = {"old": found["state"], "new": "active"}
    if corrupt:
        ret["changes"]["data"] = {"old": corrupt, "new": "the cluster's"}
    if lost:
        ret["changes"]["process"] = {"old": "does not serve", "new": "started anew"}
    if differences and action != "none":
        ret["changes"].update(differences)
    elif differences:
        ret["comment"] = (
            f"{', '.join(differences)} will take effect after a restart, which "
            "salt-run state.orchestrate etcd_ha.orch does when the cluster can bear it. "
        )
    if __opts__["test"]:
        ret["result"] = None if ret["changes"] else True
        ret["comment"] += "would be started, restarted or enabled" if ret["changes"] else "runs"
        return ret
    began, done = time.monotonic(), {}
    try:
        if found["stale"] or not found["active"]:
            _systemctl("daemon-reload")
        if "enabled" in ret["changes"]:
            _systemctl("enable", unit)
        if action == "join" and (corrupt or not found["active"] or lost):
            known = record, cluster
            _join(
                unit, environment, known, moves, has_data, corrupt, endpoints, start_timeout, done
            )
            ret["changes"].update(done)
        elif not found["active"]:
            if _take_over(environment):
                ret["changes"]["owner"] = {"old": "another user", "new": "etcd's user"}
            _start_stopped(unit, cluster, environment, record, action, moves, start_timeout)
        elif set(ret["changes"]) - {"enabled"}:
            _restart(unit, environment, record, moves, release, successor, start_timeout)
        _wait_healthy(unit, start_timeout)
        if action in ("join", "restart"):
            if __salt__["etcd_ha_member.promote"](endpoints, start_timeout)["promoted"]:
                ret["changes"].setdefault("member", {"old": "learner", "new": "voter"})
            # A host that lost its power before it was told has come back at its new address.
            if __salt__["etcd_ha_member.update"](environment[PEER_URL]):
                new = {"old": "another", "new": environment[PEER_URL]}
                ret["changes"].setdefault(PEER_URL, new)
        if action != "none":
            # What no orchestrate has looked at is never written down as the cluster's.
            _remember(record, cluster, environment)
    except (CommandExecutionError, SaltInvocationError, OSError) as err:
        ret["changes"] = {**_happened(unit, found, ret["changes"]), **done}
        if isinstance(err, OSError):
            return _failed(ret, f"{unit} was not brought up: {err}")
        return {**ret, "result": False, "comment": str(err)}
    finally:
        if os.path.exists(BOOTSTRAP_FILE):
            os.unlink(BOOTSTRAP_FILE)
    ret["comment"] += f"healthy after {time.monotonic() - began:.1f} s"
    return ret


def applied(name, host, source=None, files=()):
    """
    All states of this host have passed: write down what they were made from.

    The orchestrate compares this mark with what the master wants, and so knows a host that needs
    nothing without running a state there.

    name
        A sentence for people.

    host
        The mapping of ``etcd_ha.host`` (dict).

    source : None
        The hash of the formula's states, as the orchestrate hands it over (text).

    files
        The files (absolute paths) whose content the states own.

    .. code-block:: yaml

        the converge of this host is complete:
          etcd_ha.applied:
            - host: {{ salt["etcd_ha.host"]() | json }}
            - files: [/etc/default/etcd]
    """
    refused = etcd_ha_arguments.refused(locals(), source="text?")
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": "written down"}
    old = etcd_ha_mark.read()
    source = source or old.get("source", "")
    hashes = {path: etcd_ha_machine.sha256_file(path) for path in sorted(set(files))}
    try:
        new = etcd_ha_host.mark(host, etcd_ha_host.digest(host, source), hashes)
    except (KeyError, TypeError, AttributeError) as err:
        comment = f"host is not the mapping of etcd_ha.host ({err!r}). Nothing was written"
        return {**ret, "result": False, "comment": comment}
    new["source"] = source
    try:
        new["expires"] = _expiries(etcd_ha_host.certificates(host), hashes, old)
        if new == old:
            return ret
        if __opts__["test"]:
            ret["comment"] = "would be written down after the other changes"
            return ret
        # The mark is this formula's memory, not a change of the host: no entry of `changes`.
        etcd_ha_machine.write_json(etcd_ha_machine.MARK_FILE, new)
    except (CommandExecutionError, SaltInvocationError, OSError) as err:
        return _failed(ret, f"nothing was written down: {err}")
    return ret


def key_kept(name, key, certificate):
    """
    A CA that has a certificate has its key too.

    A new key would make every certificate of the CA worthless, so none is ever made in its place.

    name
        A sentence for people.

    key, certificate
        The CA's files (absolute paths).

    .. code-block:: yaml

        the CA has not lost its key:
          etcd_ha.key_kept:
            - key: /etc/pki/etcd_ha/main/ca.key
            - certificate: /etc/pki/etcd_ha/main/ca.crt
    """
    refused = etcd_ha_arguments.refused(locals())
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": "the key is there"}
    if os.path.exists(key):
        return ret
    if not os.path.exists(certificate):
        ret["comment"] = "there is no CA yet"
        return ret
    ret["result"] = False
    ret["comment"] = (
        f"{key} is missing, but {certificate} is there. No new key is made, since it would make "
        "every certificate of this CA worthless. Put the key back from a backup, or, if the CA is "
        f"to begin anew, move {certificate} away as well"
    )
    return ret


def key_made(name, key, algo="ec", keysize=256):
    """
    A new private key lies on this host, root's alone to read, for a certificate to be asked for.

    Each run makes a new one: let it run where there is none yet, or as the ``prereq`` of the
    certificate. (Salt's ``x509.private_key_managed`` does the same by running three states within
    the state, at most of a second each.)

    name
        A sentence for people.

    key
        Where it shall lie (absolute path).

    algo : ec
        ``ec`` or ``rsa``.

    keysize : 256
        Its size in bits (int): 256, 384 or 521 with ``ec``, 2048, 3072 or 4096 with ``rsa``.

    .. code-block:: yaml

        a new key for the server certificate is made where it is used:
          etcd_ha.key_made:
            - key: /etc/etcd/pki/next/server.key
    """
    refused = etcd_ha_arguments.refused(locals())
    if refused:
        return refused
    old = "another" if os.path.exists(key) else "absent"
    ret = {"name": name, "result": True, "changes": {key: {"old": old, "new": f"{algo} {keysize}"}}}
    if __opts__["test"]:
        return {**ret, "result": None, "comment": "a new key would be made"}
    temporary = f"{key}.new"
    try:
        text = __salt__["x509.create_private_key"](algo=algo, keysize=keysize)
        if os.path.lexists(temporary):
            os.unlink(temporary)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, key)
    except (CommandExecutionError, SaltInvocationError, OSError) as err:
        return _failed({**ret, "changes": {}}, f"no key was made: {err}")
    return {**ret, "comment": "a new key was made"}


def pair_in_use(name, certificate, key, new_certificate, new_key, ca, user, group):
    """
    A certificate and its private key are in use together, the key its user's alone to read.

    Both take the former ones' places one right after the other, since a handshake between the two
    would fail. (No state of Salt's does that, or copies a key without reading it into a return.)

    name
        A sentence for people.

    certificate, key
        Where the service reads them (absolute paths).

    new_certificate, new_key
        Where they lie already (absolute paths).

    ca
        The file of the CAs that are trusted here (absolute path); one of them must have signed it.

    user, group
        Who owns the key (text); its mode is 0400.

    .. code-block:: yaml

        the server certificate and its key are in use:
          etcd_ha.pair_in_use:
            - certificate: /etc/etcd/pki/server.crt
            - key: /etc/etcd/pki/server.key
            - new_certificate: /etc/etcd/pki/next/server.crt
            - new_key: /etc/etcd/pki/next/server.key
            - ca: /etc/etcd/pki/ca.crt
            - user: etcd
            - group: etcd
    """
    refused = etcd_ha_arguments.refused(locals())
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{certificate} is in use"}
    pair = ((new_certificate, certificate), (new_key, key))
    missing = [new for new, _ in pair if not os.path.exists(new)]
    if missing and not __opts__["test"]:
        ret["result"] = False
        ret["comment"] = (
            f"{' and '.join(missing)} is missing, and nothing was changed. Let the state that "
            "makes it come first, or put it there"
        )
        return ret
    if missing:
        # An earlier state would make it, and it would be another one than that in use.
        told = {one: "another" if os.path.exists(one) else "absent" for _, one in pair}
        ret["changes"] = {one: {"old": old, "new": "present"} for one, old in told.items()}
        ret["result"], ret["comment"] = None, f"{certificate} and {key} would be put in use"
        return ret
    ids = __salt__["file.user_to_uid"](user), __salt__["file.group_to_gid"](group)
    unknown = "" in ids
    if unknown and not __opts__["test"]:
        ret["result"] = False
        ret["comment"] = (
            f"{key} was not put in use: there is no user {user} or no group {group}. Make them "
            "first, and run again"
        )
        return ret
    # Under test=True an earlier state has not made the user yet.
    owners = {certificate: (0, 0, 0o644), key: None if unknown else (*ids, 0o400)}
    for new, old in pair:
        difference = _file_difference(new, old, owners[old])
        if difference:
            ret["changes"][old] = difference
    if not ret["changes"]:
        return ret
    if __opts__["test"]:
        ret["result"], ret["comment"] = None, f"{certificate} and {key} would be put in use"
        return ret
    wrong = etcd_ha_pem.misfit(*map(etcd_ha_machine.read_text, (new_certificate, new_key, ca)))
    if wrong:
        ret["result"], ret["changes"] = False, {}
        ret["comment"] = (
            f"{new_certificate} was not put in use: {wrong}. What was in use is; correct "
            f"{new_certificate} and {new_key}, and run again"
        )
        return ret
    try:
        for new, old in pair:
            _copy_beside(new, f"{old}.new", owners[old])
        for _, old in pair:
            os.replace(f"{old}.new", old)
    except OSError as err:
        return _failed({**ret, "changes": {}}, f"{new_certificate} was not put in use: {err}")
    ret["comment"] = f"{certificate} and {key} were put in use"
    return ret


def renamed(name, old, new):
    """
    A directory or file of a cluster lies under the cluster's new name.

    name
        A sentence for people.

    old, new
        Its former and its present place (absolute paths).

    .. code-block:: yaml

        the CA lies under the cluster's new name:
          etcd_ha.renamed:
            - old: /etc/pki/etcd_ha/main
            - new: /etc/pki/etcd_ha/prod
    """
    refused = etcd_ha_arguments.refused(locals())
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{old} is not there any more"}
    if not os.path.lexists(old):
        return ret
    if os.path.lexists(new):
        ret["result"] = False
        ret["comment"] = (
            f"{old} and {new} are both there, so neither is touched. Move the one that is not "
            "needed away, and run again"
        )
        return ret
    ret["changes"] = {new: {"old": old, "new": new}}
    if __opts__["test"]:
        ret["result"], ret["comment"] = None, f"{old} would be moved to {new}"
        return ret
    try:
        os.makedirs(os.path.dirname(new), mode=0o755, exist_ok=True)
        os.rename(old, new)
    except OSError as err:
        return _failed({**ret, "changes": {}}, f"{old} was not moved to {new}: {err}")
    ret["comment"] = f"{old} was moved to {new}"
    return ret


def policies_loaded(name):
    """
    The CA signs by the pillar's present signing policies.

    A running minion keeps its pillar in memory; this loads it anew, so that a new member's policy
    is known before the member asks.

    name
        A sentence for people.

    .. code-block:: yaml

        the CA knows the signing policies of all members:
          etcd_ha.policies_loaded: []
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "loaded"}
    if not __pillar__.get("x509_signing_policies"):
        ret["result"] = False
        ret["comment"] = (
            f"the pillar of {__grains__['id']} has no x509_signing_policies: assign the "
            "pillar file etcd_ha_signing_policies to it in the pillar's top file"
        )
        return ret
    if __opts__["test"]:
        ret["comment"] = "would be loaded"
        return ret
    __salt__["saltutil.refresh_pillar"](wait=True, timeout=10)
    return ret


def _failed(ret, why):
    """A state that failed; what it has in ``changes`` was done all the same."""
    return {**ret, "result": False, "comment": f"{why.rstrip('.')}. Mend the cause, and run again"}


def _happened(unit, before, changes):
    """Of the changes of a run that failed those that the unit shows."""
    now = etcd_ha_machine.unit(unit)
    anew = now["active"] and now["pid"] != before["pid"]
    shown = {"enabled": now["enabled"], "unit": now["active"]}
    return {one: told for one, told in changes.items() if shown.get(one, anew and one != "data")}


def _file_difference(new, old, owner):
    """How a file in use differs from the one that shall be in use; None where it does not."""
    found = os.stat(old) if os.path.exists(old) else None
    if found is None or not filecmp.cmp(new, old, shallow=False):
        return {"old": "absent" if found is None else "another", "new": "present"}
    if owner and (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) != owner:
        return {"old": "other owner or mode", "new": f"{owner[0]}:{owner[1]} {owner[2]:04o}"}
    return None


def _copy_beside(source, target, owner):
    """A copy that nobody but its owner could ever read."""
    if os.path.lexists(target):
        os.unlink(target)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with open(source, "rb") as reader, open(os.open(target, flags, 0o400), "wb") as writer:
        shutil.copyfileobj(reader, writer)
        os.fchown(writer.fileno(), *owner[:2])
        os.fchmod(writer.fileno(), owner[2])
        writer.flush()
        os.fsync(writer.fileno())


def _expiries(certificates, hashes, old):
    """Certificate -> the time at which it ends (UTC); read anew only where the file is new."""
    known = old.get("expires", {})
    found = {}
    for path in certificates:
        if path in known and old.get("files", {}).get(path) == hashes.get(path):
            found[path] = known[path]
        elif os.path.exists(path):
            found[path] = __salt__["x509.read_certificate"](path)["not_after"]
    return found


def _clear_unpacking(parent):
    """Remove what an interrupted installation has left."""
    for left in glob.glob(f"{parent}/.unpack-*"):
        shutil.rmtree(left, ignore_errors=True)


def _listed_checksum(sums_url, archive):
    try:
        text = __salt__["cp.get_url"](sums_url, dest=None)
    except Exception as err:  # cp.get_url raises whatever the transport raises
        raise CommandExecutionError(f"{sums_url} could not be fetched ({err})") from err
    if not isinstance(text, str) or not text:
        raise CommandExecutionError(
            f"{sums_url} could not be fetched; does the mirror have this version? "
            "Set install:checksum to do without the list"
        )
    if os.path.isabs(text) and os.path.exists(text):
        with open(text, encoding="utf-8") as file:
            text = file.read()
    return etcd_ha_release.listed(text, archive)


def _download(url, path, wanted):
    try:
        got = __salt__["cp.get_url"](url, path)
    except Exception as err:  # cp.get_url raises whatever the transport raises
        raise CommandExecutionError(f"{url} could not be fetched ({err})") from err
    if not got or not os.path.exists(path):
        raise CommandExecutionError(f"{url} could not be fetched; does the mirror have it?")
    found = etcd_ha_machine.sha256_file(path)
    if found != wanted:
        raise CommandExecutionError(
            f"{url} has the sha256 {found}, but {wanted} is expected; the download is corrupt or "
            "was tampered with and has been removed"
        )


def _unpack(archive, folder, programs, target):
    os.mkdir(target, mode=0o755)
    wanted = {f"{folder}/{program}": program for program in programs}
    with tarfile.open(archive) as tar:
        for entry in tar:
            if entry.name in wanted and entry.isfile():
                program = wanted.pop(entry.name)
                with tar.extractfile(entry) as source, open(f"{target}/{program}", "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
                    sink.flush()
                    os.fsync(sink.fileno())
                os.chmod(f"{target}/{program}", 0o755)
            if not wanted:
                break
    if wanted:
        raise CommandExecutionError(f"the archive lacks {', '.join(sorted(wanted))}")


def _link(target, link):
    temporary = f"{link}.new"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, link)


def _systemctl(*arguments, timeout=60):
    return __salt__["cmd.run_all"](
        ["systemctl", *arguments], python_shell=False, timeout=timeout, ignore_retcode=True
    )


def _moves(process, past, environment):
    """Directories whose content has to move: the record's key, the old path and the new one.

    The record knows where the data was when the member was last healthy. Of a move that was
    interrupted, what is on its way is all that there is once the old place is empty.
    """
    moves = []
    for variable, key, content in (
        ("ETCD_DATA_DIR", "data_dir", "member"),
        ("ETCD_WAL_DIR", "wal_dir", ""),
    ):
        new = environment.get(variable, "")
        if not new or os.path.isdir(os.path.join(new, content)):
            continue
        known = (process.get(variable), past.get(key), etcd_ha_machine.on_its_way(new))
        places = [old for old in known if old and old != new]
        held = [old for old in places if os.path.isdir(os.path.join(old, content))]
        moves += [(key, held[0], new)] if held else []
    return moves


def _move(moves, record):
    """Move each directory's content; it may end at any point, and is gone on with by the next."""
    for variable, old, new in moves:
        parent, scratch = os.path.dirname(new), etcd_ha_machine.on_its_way(new)
        os.makedirs(parent, mode=0o700, exist_ok=True)
        if old != scratch:
            _set_out(old, scratch)
        if os.path.isdir(new):
            os.rmdir(new)
        os.rename(scratch, new)
        etcd_ha_machine.sync_folder(parent)
        past = etcd_ha_machine.read_json(record)
        etcd_ha_machine.write_json(record, {**past, variable: new})


def _set_out(old, scratch):
    """Bring a directory beside its new place; a copy counts once the old place is empty."""
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        os.rename(old, scratch)
        return
    except OSError as err:
        if err.errno not in (errno.EXDEV, errno.EBUSY):
            raise CommandExecutionError(f"{old} could not be moved: {err}") from err
    shutil.copytree(old, scratch, symlinks=True, copy_function=_copy_with_owner)
    for folder, _, _ in os.walk(old):
        _give_owner(folder, os.path.join(scratch, os.path.relpath(folder, old)))
    os.sync()
    if os.path.ismount(old):
        __salt__["etcd_ha_member.set_aside"]([old], "moved")
    else:
        os.rename(old, f"{old}.moved-{time.strftime('%Y%m%d-%H%M%S')}")


def _copy_with_owner(source, target):
    shutil.copy2(source, target)
    _give_owner(source, target)


def _give_owner(source, target):
    found = os.stat(source)
    os.chown(target, found.st_uid, found.st_gid)


def _take_over(environment):
    """Have etcd's user own the data that lies in its directories already."""
    places = [(environment["ETCD_DATA_DIR"], "member")]
    wal = environment.get("ETCD_WAL_DIR", "")
    places += [os.path.split(wal)] if wal else []
    taken = [etcd_ha_data.take_over(*place) for place in places if os.path.isdir(place[0])]
    return any(taken)


def _start_stopped(unit, cluster, environment, record, action, moves, start_timeout):
    """Start a member: with its data, or without any as one of a new cluster."""
    bootstrap = action == "bootstrap"
    if bootstrap and etcd_ha_machine.read_json(record).get("state") != "bootstrapped":
        # Before there is data: what is found without a record was made by somebody else.
        made = etcd_ha_host_record.made(cluster, "bootstrapping", environment)
        etcd_ha_host_record.write(record, made)
    if bootstrap:
        # etcd passes over it where it has a log; a folder alone may be left of a start cut short.
        _first_start({"ETCD_INITIAL_CLUSTER_STATE": "new"})
    _move(moves, record)
    _systemctl("reset-failed", unit)
    _start("start", unit, start_timeout)


def _first_start(values):
    """Variables for one start alone: the file lies on a tmpfs, and is removed after it."""
    etcd_ha_machine.write_text(BOOTSTRAP_FILE, etcd_ha_environment.file_text(values), 0o644)


def _restart(unit, environment, record, moves, release, successor, start_timeout):
    """Restart a member that runs, when the others can bear it."""
    serves = _serves()
    if serves:
        reason = __salt__["etcd_ha.reason_to_stay"]()
        if reason:
            raise CommandExecutionError(
                f"{unit} was not restarted: {reason}. Its new configuration waits on disk; heal "
                "the others, then run the orchestrate again"
            )
        if release:
            __salt__["etcd_ha_member.ready_for"](release)
        _move_leadership_away(successor)
        __salt__["etcd_ha_member.update"](environment[PEER_URL])
    if moves:
        _systemctl("stop", unit, timeout=start_timeout)
        _move(moves, record)
        _start("start", unit, start_timeout)
        return
    _start("restart", unit, start_timeout)


def _logs(environment, moves):
    """Where the write-ahead log may be, if it is not with the data."""
    places = [environment.get("ETCD_WAL_DIR"), *(old for key, old, _ in moves if key == "wal_dir")]
    return [place for place in places if place]


def _serves():
    return __salt__["etcd_ha.local_health"]()["healthy"]


def _join(unit, environment, known, moves, has_data, corrupt, endpoints, start_timeout, changes):
    """Enter a cluster that runs, and start as its learner; ``changes`` gets what this did.

    ``known`` are the record's file and the cluster's name.
    """
    record, cluster = known
    name, url = environment["ETCD_NAME"], environment[PEER_URL]
    usable = has_data and not corrupt
    place = __salt__["etcd_ha_member.enter"](name, url, usable, endpoints, corrupt=bool(corrupt))
    if place["keep"]:
        _move(moves, record)
    else:
        _systemctl("stop", unit, timeout=start_timeout)
        wal = environment.get("ETCD_WAL_DIR")
        folders = [environment["ETCD_DATA_DIR"], *(old for _, old, _ in moves)]
        folders += [os.path.dirname(wal)] if wal else []
        aside = __salt__["etcd_ha_member.set_aside"](folders, "replaced")
        if aside:
            changes["data"] = {"old": corrupt or "not of this cluster any more", "new": aside}
        changes["member"] = {"old": "absent", "new": "learner, then voter"}
        ids = place["cluster_id"], place["member_id"]
        made = etcd_ha_host_record.made(cluster, "bootstrapped", environment, *ids)
        etcd_ha_host_record.write(record, made)
        _first_start(
            {
                "ETCD_INITIAL_CLUSTER_STATE": "existing",
                "ETCD_INITIAL_CLUSTER": place["initial_cluster"],
            }
        )
    _systemctl("reset-failed", unit)
    _start("restart", unit, start_timeout)
    __salt__["etcd_ha_member.promote"](endpoints, start_timeout)


def _start(verb, unit, start_timeout):
    began = time.monotonic()
    done = _systemctl(verb, unit, timeout=start_timeout + 10)
    if done["retcode"] != 0:
        journal = __salt__["cmd.run_stdout"](
            ["journalctl", "-u", unit, "-n", "5", "--no-pager", "-o", "cat"], python_shell=False
        )
        raise CommandExecutionError(
            f"systemctl {verb} {unit} failed after {time.monotonic() - began:.0f} s "
            f"(start_timeout is {start_timeout} s). The last lines of "
            f"journalctl -u {unit}:\n{journal}"
        )


def _move_leadership_away(successor):
    """Hand leadership to another voter; a failure only costs an election."""
    try:
        __salt__["etcd_ha.move_leader"](successor)
    except CommandExecutionError:
        return


def _wait_healthy(unit, start_timeout):
    deadline, error = time.monotonic() + start_timeout, "no answer"
    while time.monotonic() < deadline:
        health = __salt__["etcd_ha.local_health"]()
        if health["healthy"]:
            return
        error = health.get("error", error)
        if not etcd_ha_machine.unit(unit)["active"]:
            break
        time.sleep(0.3)
    raise CommandExecutionError(
        f"{unit} did not become healthy within {start_timeout} s ({error}). "
        f"Look at: journalctl -u {unit}"
    )


def _remember(record, cluster, environment):
    """A healthy member belongs to a bootstrapped cluster: keep that outside the data directory."""
    own = etcd_ha_faces.status(etcd_ha_faces.member(), 10, etcd_ha_client.serving_endpoint())[0]
    ids = own["cluster_id"], own["member_id"]
    made = etcd_ha_host_record.made(cluster, "bootstrapped", environment, *ids)
    etcd_ha_host_record.write(record, made)
