"""
etcd on this minion as states: the release on disk, and the running member.

A highstate never restarts a member that runs and never bootstraps: only the orchestrate, which
sees the whole cluster, hands a state the ``action`` to do so.
"""

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
import etcd_ha_common_certificate_checks
import etcd_ha_common_files
import etcd_ha_common_systemd
import etcd_ha_common_wait
import etcd_ha_data
import etcd_ha_environment
import etcd_ha_faces
import etcd_ha_host
import etcd_ha_host_examine
import etcd_ha_host_hidden
import etcd_ha_host_in_force
import etcd_ha_host_kept
import etcd_ha_host_move_data
import etcd_ha_host_move_faults
import etcd_ha_host_noexec
import etcd_ha_host_owner
import etcd_ha_host_paused
import etcd_ha_host_record
import etcd_ha_host_start
import etcd_ha_host_tls_files
import etcd_ha_machine
import etcd_ha_mark
import etcd_ha_progress
import etcd_ha_release
import etcd_ha_trust
from etcd_ha_common_process import ProgramError
from etcd_ha_common_text import few
from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "etcd_ha"

PEER_URL = "ETCD_INITIAL_ADVERTISE_PEER_URLS"
BOOTSTRAP_FILE = "/run/etcd_ha/bootstrap.env"
# Seconds for what takes none, once the time of a start is over.
BRIEF = 5


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
    fault = etcd_ha_host_noexec.fault(dir)
    if fault:
        return {**ret, "result": False, "comment": f"{fault}. Nothing was downloaded"}
    if __opts__["test"]:
        ret["result"] = None
        ret["changes"] = {dir: {"old": "absent", "new": f"etcd {version}"}}
        ret["comment"] = f"etcd {version} would be downloaded from {url} and unpacked in {dir}"
        return ret
    parent, scratch = os.path.dirname(dir), ""
    try:
        etcd_ha_common_files.make_directory(parent, 0o755)
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
    try:
        foreign = __salt__["etcd_ha.refusal"]()
    except CommandExecutionError as err:
        foreign = f"{err}. Nothing was changed"
    if foreign:
        return {**ret, "result": False, "changes": {}, "comment": foreign}
    if __opts__["test"]:
        ret["result"], ret["comment"] = None, f"{dir} would be put in use"
        return ret
    missing = [program for program in programs if not os.access(f"{dir}/{program}", os.X_OK)]
    if missing:
        ret["result"], ret["changes"] = False, {}
        ret["comment"] = etcd_ha_host_noexec.fault(dir) or (
            f"{dir} lacks {', '.join(missing)}; it was not put in use. Unpack the release there "
            "first: etcd_ha.installed does so"
        )
        return ret
    wanted, ret["changes"] = ret["changes"], {}
    try:
        etcd_ha_common_files.make_directory(bin_dir, 0o755)
        # A file here is somebody else's program, and so is what a link of theirs leads to.
        own = f"{os.path.dirname(dir)}/"
        files = [one for one in wanted if not wanted[one]["old"].startswith(own)]
        kept = etcd_ha_host_kept.keep(files, {}, follow=False)
        for link in reversed(list(wanted)):
            _link(links[link], link)
            ret["changes"][link] = wanted[link]
    except (CommandExecutionError, OSError) as err:
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
    try:
        known = etcd_ha_mark.read().get("files", {})
        found = etcd_ha_host_kept.foreign(files, known)
    except (CommandExecutionError, OSError) as err:
        return _failed(ret, f"it is unknown whether files of others are there: {err}")
    if not found:
        return ret
    if __opts__["test"]:
        ret["result"], ret["comment"] = None, "would copy these files"
        ret["changes"] = {path: {"old": "", "new": "a copy"} for path in found}
        return ret
    try:
        copies = etcd_ha_host_kept.keep(found, known)
    except (CommandExecutionError, OSError) as err:
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
    user=None,
    group=None,
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
        ``begin`` starts a stopped member like ``restart``, but does not wait until it is healthy:
        those that are started after it make the quorum;
        ``hold`` leaves a member as it is, running
        or not, since a restore is about to put its data in place, or it is to be retired.

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

    user : None
        Whose the data is from this start on (text), with ``group`` (text). Data of another user is
        given to this one while etcd is stopped. None: the owner of the directory stays.

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
    refused = etcd_ha_arguments.refused(locals(), version="version?", user="text?", group="name?")
    if refused:
        return refused
    account = (user, group) if user and group else None
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        foreign = __salt__["etcd_ha.refusal"]()
        installed = __salt__["etcd_ha.version"]()["installed"] if version and not foreign else None
    except CommandExecutionError as err:
        return {**ret, "result": False, "comment": f"{err}. Nothing was changed"}
    if foreign:
        return {**ret, "result": False, "comment": foreign}
    if installed and installed != version:
        ret["result"] = False
        ret["comment"] = (
            f"the package brings etcd {installed}, the pillar says version {version}; nothing was "
            f"started. Set version: {installed}, or install:method: archive"
        )
        return ret
    if action == "hold":
        ret["comment"] = (
            f"{unit} is left as it is: a restore is to put its data in place, or the pillar no "
            "longer names it, and the orchestrate will stop it for good"
        )
        return ret
    try:
        begun = etcd_ha_progress.unfinished()
    except CommandExecutionError as err:
        return {**ret, "result": False, "comment": f"{err}. Nothing was changed"}
    if begun:
        ret["result"] = False
        ret["comment"] = (
            f"a {begun} was begun on this host and not ended, so nothing is started here. Go on "
            f"with it: salt-run state.orchestrate etcd_ha.orch.{begun} "
            f"""pillar='{{"confirm": "{cluster}"}}'"""
        )
        return ret
    paused = etcd_ha_host_paused.in_effect()
    if paused:
        ret["comment"] = f"{environment['ETCD_NAME']} is {paused}: it is left as it is"
        # The orchestrate plans nothing with it, unless it was paused a moment ago.
        return ret if action == "none" else {**ret, "result": False}
    if action in ("join", "restart", "begin") and PEER_URL not in environment:
        ret["result"] = False
        ret["comment"] = f"environment lacks {PEER_URL}, which {action} needs. Nothing was changed"
        return ret
    try:
        found = etcd_ha_faces.unit(unit)
        process = etcd_ha_machine.process_environment(found.pid) if found.pid else {}
        past = etcd_ha_host_record.of(record)
        moves = etcd_ha_host_move_data.moves(process, past, environment)
        wrong = etcd_ha_host_move_faults.conflict(moves, environment)
        here = [environment["ETCD_DATA_DIR"], *(one.old for one in moves)]
        has_data = etcd_ha_machine.holds_data(here, _logs(environment, moves))
        pending = etcd_ha_machine.pending(found, program)
        stopped = has_data and not found.active
        others = etcd_ha_host_owner.wrong(_own_places(environment)) if stopped else []
        hidden = etcd_ha_host_hidden.look(found.pid, process)
    except CommandExecutionError as err:
        return {**ret, "result": False, "comment": f"{err}. Nothing was changed"}
    if hidden:
        told = etcd_ha_host_hidden.words(hidden, cluster, environment["ETCD_NAME"], ())
        return {**ret, "result": False, "comment": f"{told}. {unit} is left as it is"}
    if wrong and not (found.active and action == "none"):
        return {**ret, "result": False, "comment": f"{wrong}. Nothing was changed"}
    # Where nothing runs, etcdctl would wait five seconds for an answer: it is not asked there.
    asked = action == "join" and has_data
    try:
        corrupt = __salt__["etcd_ha.facts"]()["etcd"].get("corrupt", "") if asked else ""
        lost = action == "join" and found.active and not corrupt and not _serves()
    except (CommandExecutionError, SaltInvocationError) as err:
        return {**ret, "result": False, "comment": str(err)}
    differences = {}
    if found.active:
        differences = etcd_ha_environment.needs_restart(process, environment)
        for reason in pending:
            differences[reason] = {"old": "as started", "new": "as on disk"}
        if found.started < restart_before:
            differences["process"] = {"old": "as started", "new": "started anew"}
    fresh = action == "join" or (action == "bootstrap" and past.get("state") != "bootstrapped")
    if not found.active and not has_data and not fresh:
        ret["result"] = False
        ret["comment"] = (
            f"{environment['ETCD_NAME']} holds no data and was not started: a member without data "
            "starts only by salt-run state.orchestrate etcd_ha.orch, which sees the whole cluster"
        )
        return ret
    if not found.enabled:
        ret["changes"]["enabled"] = {"old": False, "new": True}
    if not found.active:
        ret["changes"]["unit"] = {"old": found.state, "new": "active"}
    if corrupt:
        ret["changes"]["data"] = {"old": corrupt, "new": "the cluster's"}
    if lost:
        ret["changes"]["process"] = {"old": "does not serve", "new": "started anew"}
    if differences and action != "none":
        ret["changes"].update(differences)
    elif differences:
        ret["comment"] = (
            f"{few(differences)} will take effect after a restart, which "
            "salt-run state.orchestrate etcd_ha.orch does when the cluster can bear it. "
        )
    if __opts__["test"]:
        if others and not corrupt:
            ret["changes"]["owner"] = etcd_ha_host_owner.told(others)
        ret["result"] = None if ret["changes"] else True
        ret["comment"] += "would be started, restarted or enabled" if ret["changes"] else "runs"
        return ret
    began, done = time.monotonic(), {}
    try:
        if etcd_ha_host_paused.lift():
            found = etcd_ha_common_systemd.unit(unit)
            ret["comment"] += "the end of its pause has passed. "
        starts = not found.active or bool(set(ret["changes"]) - {"enabled"})
        ahead = etcd_ha_machine.put_times_right(found.path, environment) if starts else []
        if ahead:
            ret["comment"] += f"the time of {', '.join(ahead)} was in the future: check the clock. "
        if found.stale or not found.active or ahead:
            etcd_ha_common_systemd.systemctl("daemon-reload")
        if "enabled" in ret["changes"]:
            etcd_ha_common_systemd.systemctl("enable", unit)
        if not found.active:
            # An examination that was interrupted still holds the unit.
            wal = os.path.dirname(environment.get("ETCD_WAL_DIR", ""))
            etcd_ha_host_examine.clean_up(environment["ETCD_DATA_DIR"], wal)
        joins = action == "join" and (corrupt or not found.active or lost)
        if joins:
            known = record, cluster
            _join(
                unit,
                environment,
                known,
                moves,
                has_data,
                corrupt,
                endpoints,
                start_timeout,
                account,
                done,
            )
            ret["changes"].update(done)
        elif not found.active:
            if found.is_up and (moves or _is_outdated(found, process, environment, program)):
                # It tries with what was on disk before; systemd would only wait for it.
                _stop(unit, start_timeout)
            _start_stopped(
                unit, cluster, environment, record, action, moves, start_timeout, account, done
            )
            ret["changes"].update(done)
        elif set(ret["changes"]) - {"enabled"}:
            _restart(
                unit, environment, record, moves, release, successor, start_timeout, account, done
            )
            ret["changes"].update(done)
        if action == "begin":
            ret["comment"] += "it starts, and is healthy once a quorum runs"
            return ret
        # One end for all that comes after a start, or each wait would add its own.
        settled = etcd_ha_common_wait.Deadline(start_timeout)
        if joins:
            __salt__["etcd_ha_member.promote"](endpoints, settled.left(BRIEF))
        _wait_healthy(unit, settled)
        if action in ("join", "restart"):
            promoted = __salt__["etcd_ha_member.promote"](endpoints, settled.left(BRIEF))
            if promoted["promoted"]:
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


def in_force(name, host):
    """
    What a step of the orchestrate puts in force on this host is recorded before it is.

    In any other state run the host stays as it is recorded, and this tells what is pending. That is
    neither a change nor a failure. The record is ``/var/lib/etcd_ha/in_force/host.json``.

    name
        A sentence for people.

    host
        The mapping of ``etcd_ha.host`` (dict).

    .. code-block:: yaml

        what is in force here is recorded:
          etcd_ha.in_force:
            - host: {{ salt["etcd_ha.host"]() | json }}
    """
    refused = etcd_ha_arguments.refused(locals())
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": "recorded"}
    if host.get("keeps"):
        return {**ret, "comment": etcd_ha_host_in_force.comment(host.get("pending") or ())}
    if host.get("other_pillar"):
        return _failed(ret, etcd_ha_host_in_force.OTHER_PILLAR)
    if __opts__["test"]:
        return {**ret, "comment": "would be recorded"}
    try:
        old = etcd_ha_host_in_force.read()
    except etcd_ha_host_in_force.RecordError:
        # It is written anew, from this step; a part that is not of it waits for its own.
        old = None
    try:
        new = etcd_ha_host_in_force.recorded(old, host)
    except KeyError as err:
        comment = f"host is not the mapping of etcd_ha.host ({err!r}). Nothing was recorded"
        return {**ret, "result": False, "comment": comment}
    try:
        if new != old:
            # The formula's memory, not a change of the host: no entry of `changes`.
            etcd_ha_host_in_force.write(new)
            _note_in_mark(etcd_ha_host_in_force.FILE)
    except OSError as err:
        return _failed(ret, f"nothing was recorded, and nothing is put in force: {err}")
    return ret


def _note_in_mark(path):
    """A file that this formula has just written is no change that somebody else made."""
    mark = etcd_ha_mark.read()
    if path in mark.get("files", {}):
        mark["files"][path] = etcd_ha_machine.sha256_file(path)
        etcd_ha_machine.write_json(etcd_ha_machine.MARK_FILE, mark)


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
    try:
        old = etcd_ha_mark.read()
        hashes = {path: etcd_ha_machine.sha256_file(path) for path in sorted(set(files))}
    except CommandExecutionError as err:
        return _failed(ret, f"nothing was written down: {err}")
    source = source or old.get("source", "")
    try:
        new = etcd_ha_host.mark(host, etcd_ha_host.digest(host, source), hashes)
    except (KeyError, TypeError, AttributeError) as err:
        comment = f"host is not the mapping of etcd_ha.host ({err!r}). Nothing was written"
        return {**ret, "result": False, "comment": comment}
    if host.get("keeps"):
        # What is in force was made from what it was made from, whatever the pillar says by now.
        new |= {"source": source, **etcd_ha_mark.made_from(old)}
    else:
        new["source"] = source
        new["settings"] = __salt__["etcd_ha.wanted_digest"]()
        new["modules"] = __salt__["etcd_ha.modules_digest"]()
    if host.get("phase") == etcd_ha_trust.HELD:
        new = etcd_ha_mark.held(new, old)
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
    try:
        # A full disk leaves an empty one; etcd_ha_ca.needs_key has it written again.
        held = etcd_ha_common_files.exists(key) and os.path.getsize(key) > 0
        if not held and not etcd_ha_common_files.exists(certificate):
            ret["comment"] = "there is no CA yet"
            return ret
    except (CommandExecutionError, OSError) as err:
        return _failed(ret, f"it is unknown whether there is a CA: {err}. No new one is made")
    if held:
        return ret
    ret["result"] = False
    ret["comment"] = (
        f"{key} is missing or empty, but {certificate} is there. No new key is made, since it "
        "would make every certificate of this CA worthless. Put the key back from a backup, or, if "
        f"the CA is to begin anew, move {certificate} away as well"
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


def pair_in_use(
    name, certificate, key, new_certificate, new_key, ca, user, group, need=None, kept=False
):
    """
    A certificate and its private key are in use together, the key its user's alone to read.

    Both take the former ones' places one right after the other, since a handshake between the two
    would fail. (No state of Salt's does that, or copies a key without reading it into a return.)
    A pair that etcd, its peers or its clients would refuse never takes a place: it is read, checked
    and tried in a TLS handshake in memory first.

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

    need : None
        What the certificate must say (dict): ``uses`` (list of ``serverAuth`` and ``clientAuth``),
        ``names`` (list of text such as ``IP:192.168.200.52``), ``common_name`` (text), and
        ``nameless`` (bool: it must have no common name). Without it nothing of that is asked for.

    kept : False
        Leave a pair that is in use where it is although another one waits (bool), and say that it
        is pending: the orchestrate puts it in use, one member after the other.

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
            - need: {uses: [serverAuth, clientAuth], names: ["IP:192.168.200.52"]}
    """
    refused = etcd_ha_arguments.refused(locals())
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{certificate} is in use"}
    pair = ((new_certificate, certificate), (new_key, key))
    wanted = etcd_ha_common_certificate_checks.Need.of(need or {})
    try:
        placed = all(etcd_ha_common_files.exists(old) for _, old in pair)
        missing = [new for new, _ in pair if not etcd_ha_common_files.exists(new)]
        if kept and placed and not etcd_ha_host_tls_files.is_same(*pair):
            return _pending(ret, pair, ca, wanted)
    except CommandExecutionError as err:
        return _failed(ret, f"{certificate} was not put in use: {err}")
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
    try:
        for new, old in pair:
            difference = _file_difference(new, old, owners[old])
            if difference:
                ret["changes"][old] = difference
    except (CommandExecutionError, OSError) as err:
        return _failed({**ret, "changes": {}}, f"{certificate} was not put in use: {err}")
    if not ret["changes"]:
        return ret
    if __opts__["test"]:
        ret["result"], ret["comment"] = None, f"{certificate} and {key} would be put in use"
        return ret
    try:
        wrong = []
        if not etcd_ha_host_tls_files.is_same(*pair):
            wrong = etcd_ha_host_tls_files.faults(new_certificate, new_key, ca, wanted)
    except CommandExecutionError as err:
        return _failed({**ret, "changes": {}}, f"{certificate} was not put in use: {err}")
    if wrong:
        ret["result"], ret["changes"] = False, {}
        ret["comment"] = (
            f"{new_certificate} was not put in use: {'; '.join(wrong)}. What was in use is; "
            f"correct {new_certificate} and {new_key}, and run again"
        )
        return ret
    try:
        for new, old in pair:
            _copy_beside(new, f"{old}.new", owners[old])
        if not etcd_ha_host_tls_files.is_same(*((new, f"{old}.new") for new, old in pair)):
            comment = f"{new_certificate} or {new_key} was changed just now. Run again"
            return {**ret, "result": False, "changes": {}, "comment": comment}
        for _, old in pair:
            os.replace(f"{old}.new", old)
    except (CommandExecutionError, OSError) as err:
        return _failed({**ret, "changes": {}}, f"{new_certificate} was not put in use: {err}")
    ret["comment"] = f"{certificate} and {key} were put in use"
    return ret


def _pending(ret, pair, ca, need):
    """The pair in use stays, and what waits is named, with what is wrong with it."""
    (new, certificate), (new_key, _) = pair
    wrong = etcd_ha_host_tls_files.faults(new, new_key, ca, need)
    if wrong:
        told = f"{certificate} stays in use: the new pair cannot be used: {'; '.join(wrong)}"
    else:
        told = (
            f"{certificate} stays in use; pending: {new} is another one, which salt-run "
            "state.orchestrate etcd_ha.orch puts in use, one member after the other"
        )
    return {**ret, "comment": told, "warnings": [told]}


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
    try:
        there = [one for one in (old, new) if etcd_ha_common_files.lexists(one)]
    except CommandExecutionError as err:
        return _failed(ret, f"{old} was not moved to {new}: {err}")
    if old not in there:
        return ret
    if new in there:
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
        etcd_ha_common_files.make_directory(os.path.dirname(new), 0o755)
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
    try:
        now = etcd_ha_common_systemd.unit(unit)
    except ProgramError:
        return {}
    anew = now.active and now.pid != before.pid
    shown = {"enabled": now.enabled, "unit": now.active}
    return {one: told for one, told in changes.items() if shown.get(one, anew and one != "data")}


def _file_difference(new, old, owner):
    """How a file in use differs from the one that shall be in use; None where it does not."""
    found = os.stat(old) if etcd_ha_common_files.exists(old) else None
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
    etcd_ha_common_files.make_directory(target, 0o755, fresh=True)
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


def _own(environment, account, changes):
    """Have etcd's user own the data that lies in its directories; ``changes`` gets what was not.

    ``account`` are its user and group; None: those of the directories.
    """
    if account:
        etcd_ha_host_owner.give_folders(_own_places(environment), *account)
    given = etcd_ha_host_owner.give(_own_places(environment))
    if given:
        changes["owner"] = etcd_ha_host_owner.told(given)


def _own_places(environment):
    """The directories of a member, each with what in it is etcd's alone."""
    wal = environment.get("ETCD_WAL_DIR", "")
    return [(environment["ETCD_DATA_DIR"], "member"), *([os.path.split(wal)] if wal else [])]


def _start_stopped(
    unit, cluster, environment, record, action, moves, start_timeout, account, changes
):
    """Start a member: with its data, or without any as one of a new cluster.

    ``changes`` gets what this did to its data.
    """
    _refuse_fault(etcd_ha_host_move_faults.fault(moves), unit, "started")
    bootstrap = action == "bootstrap"
    if moves:
        # Before the record names the new places alone.
        etcd_ha_host_move_data.move(moves, record)
    if bootstrap and etcd_ha_host_record.of(record).get("state") != "bootstrapped":
        # Before there is data: what is found without a record was made by somebody else.
        made = etcd_ha_host_record.made(cluster, "bootstrapping", environment)
        etcd_ha_host_record.write(record, made)
    if bootstrap:
        # etcd passes over it where it has a log; a folder alone may be left of a start cut short.
        _first_start({"ETCD_INITIAL_CLUSTER_STATE": "new"})
    _own(environment, account, changes)
    etcd_ha_common_systemd.reset_failed(unit)
    if action == "begin":
        etcd_ha_common_systemd.systemctl("start", "--no-block", unit)
        return
    _start("start", unit, start_timeout, None if bootstrap else etcd_ha_client.nudge())


def _is_outdated(found, process, environment, program):
    """Whether a process in its start has other settings, or is another program, than on disk."""
    if not found.pid:
        return False
    different = etcd_ha_environment.needs_restart(process, environment)
    return bool(different or etcd_ha_machine.pending(found, program))


def _refuse_fault(fault, unit, what="stopped"):
    """What cannot be done with a member's data is said before its etcd is stopped."""
    if fault:
        raise CommandExecutionError(f"{unit} was not {what}: {fault}. Then run again")


def _first_start(values):
    """Variables for one start alone: the file lies on a tmpfs, and is removed after it."""
    etcd_ha_machine.write_text(BOOTSTRAP_FILE, etcd_ha_environment.file_text(values), 0o644)


def _restart(unit, environment, record, moves, release, successor, start_timeout, account, changes):
    """Restart a member that runs, when the others can bear it; ``changes`` gets what this did."""
    _refuse_fault(etcd_ha_host_move_faults.fault(moves), unit)
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
    others = account and etcd_ha_host_owner.is_anothers(_own_places(environment), account[0])
    if moves or others:
        _stop(unit, start_timeout)
        etcd_ha_host_move_data.move(moves, record)
        _own(environment, account, changes)
        _start("start", unit, start_timeout, etcd_ha_client.nudge())
        return
    _start("restart", unit, start_timeout, etcd_ha_client.nudge())


def _logs(environment, moves):
    """Where the write-ahead log may be, if it is not with the data."""
    places = [environment.get("ETCD_WAL_DIR"), *(one.old for one in moves if one.key == "wal_dir")]
    return [place for place in places if place]


def _serves():
    return __salt__["etcd_ha.local_health"]()["healthy"]


def _join(
    unit, environment, known, moves, has_data, corrupt, endpoints, start_timeout, account, changes
):
    """Enter a cluster that runs, and start as its learner; ``changes`` gets what this did.

    ``known`` are the record's file and the cluster's name.
    """
    record, cluster = known
    name, url = environment["ETCD_NAME"], environment[PEER_URL]
    usable = has_data and not corrupt
    folders = _member_folders(environment, moves)
    for folder in folders:
        _refuse_fault(etcd_ha_data.set_aside_fault(folder, "replaced"), unit)
    place = __salt__["etcd_ha_member.enter"](name, url, usable, endpoints, corrupt=bool(corrupt))
    if place["keep"]:
        etcd_ha_host_move_data.move(moves, record)
        _own(environment, account, changes)
    else:
        _stop(unit, start_timeout)
        aside = __salt__["etcd_ha_member.set_aside"](folders, "replaced")
        if aside:
            changes["data"] = {"old": corrupt or "not of this cluster any more", "new": aside}
        changes["member"] = {"old": "absent", "new": "learner, then voter"}
        _own(environment, account, changes)
        ids = place["cluster_id"], place["member_id"]
        made = etcd_ha_host_record.made(cluster, "bootstrapped", environment, *ids)
        etcd_ha_host_record.write(record, made)
        _first_start(
            {
                "ETCD_INITIAL_CLUSTER_STATE": "existing",
                "ETCD_INITIAL_CLUSTER": place["initial_cluster"],
            }
        )
    etcd_ha_common_systemd.reset_failed(unit)
    _start("restart", unit, start_timeout, etcd_ha_client.nudge(endpoints))


def _member_folders(environment, moves):
    """Where a member's data may be; a log that is with its data goes where that goes."""
    wal = environment.get("ETCD_WAL_DIR")
    old = [one.old for one in moves if not one.home]
    return [environment["ETCD_DATA_DIR"], *old, *([os.path.dirname(wal)] if wal else [])]


def _start(verb, unit, start_timeout, beside=None):
    with etcd_ha_faces.told(etcd_ha_host_start.StartError):
        etcd_ha_host_start.start(verb, unit, start_timeout, beside)


def _stop(unit, timeout):
    """Stop a member, and see that it has ended: its data is about to be moved."""
    found = etcd_ha_common_systemd.unit(unit)
    if found.exists or found.is_up:
        etcd_ha_common_systemd.systemctl("stop", unit, timeout=timeout)
    if etcd_ha_common_systemd.unit(unit).is_up:
        raise CommandExecutionError(f"{unit} did not stop. Look at: journalctl -u {unit}")


def _move_leadership_away(successor):
    """Hand leadership to another voter; a failure only costs an election."""
    try:
        __salt__["etcd_ha.move_leader"](successor)
    except CommandExecutionError:
        return


def _wait_healthy(unit, deadline):
    watched = etcd_ha_host_start.Watched(unit)

    def look():
        health = __salt__["etcd_ha.local_health"]()
        if health["healthy"]:
            return True, ""
        watched.check()
        return None, health.get("error", "no answer")

    with etcd_ha_faces.told(
        etcd_ha_common_wait.TimedOut,
        etcd_ha_host_start.StartError,
        cure=f"Look at: journalctl -u {unit}",
    ):
        etcd_ha_common_wait.until(f"{unit} to be healthy", deadline, look)


def _remember(record, cluster, environment):
    """A healthy member belongs to a bootstrapped cluster: keep that outside the data directory."""
    own = etcd_ha_faces.status(etcd_ha_faces.member(), 10, etcd_ha_client.serving_endpoint())[0]
    ids = own["cluster_id"], own["member_id"]
    made = etcd_ha_host_record.made(cluster, "bootstrapped", environment, *ids)
    etcd_ha_host_record.write(record, made)
