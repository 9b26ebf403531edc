"""
The CA of a cluster on the minion that signs: what it signs for others, its name, and what is done
when it begins anew.
"""

import copy
import os
import ssl
import time

import etcd_ha_common_files

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_faces
import etcd_ha_machine
import etcd_ha_mark
from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "etcd_ha_ca"

# Bytes that must find room where a new CA is to be made; its files are of 3 kB.
ROOM = 64 << 10


def __virtual__():
    return __virtualname__


def sign(requests, not_before=None, **kwargs):
    """
    Tell a minion its signing policies, and sign its keys by them: all in one answer.

    A member or balancer asks so by ``publish.publish``. Salt's own ``x509.sign_remote_certificate``
    answers for one certificate, and each question costs the master and the CA a job. It does the
    work here as well; it takes ``minions`` out of the policy itself (``salt.modules.x509_v2``), so
    that a second question of the same process would be anybody's: what it took is put back, and
    who asks is compared here first.

    requests
        policy -> the public key to sign by it (mapping of text to PEM text); with an empty text the
        policy is only told.

    not_before : None
        When the certificates begin (text: ``YYYY-mm-dd HH:MM:SS`` in UTC); without it now.

    Returns a dict: policy -> ``policy`` (dict, with the CA's certificate as ``signing_cert``) and
    ``certificate`` (PEM text, empty where no key was given).

    Raises CommandExecutionError where one of the policies is not there for the minion that asks;
    nothing is signed then.

    CLI Example:

    .. code-block:: bash

        salt etcd1.example.com publish.publish ca.example.com etcd_ha_ca.sign \\
            '{etcd_ha_main_server_etcd1.example.com: ""}'
    """
    etcd_ha_faces.sound({"requests": requests, "not_before": not_before})
    caller, policies = kwargs.get("__pub_id"), __pillar__.get("x509_signing_policies") or {}
    lacking = [one for one in requests if not _is_for(policies.get(one), caller)]
    if lacking:
        raise CommandExecutionError(
            f"{__grains__['id']} has no signing policy {', '.join(lacking)} for {caller}. See "
            "there: salt-call pillar.get x509_signing_policies, and salt-run etcd_ha.plan. Nothing "
            "was signed"
        )
    return {
        one: {
            "policy": _told(policies, one, caller),
            "certificate": _signed(policies, one, caller, key, not_before) if key else "",
        }
        for one, key in requests.items()
    }


def _is_for(policy, caller):
    return isinstance(policy, dict) and bool(caller) and policy.get("minions") == caller


def _told(policies, name, caller):
    policy = dict(_by_x509(policies, name, caller, {}, True))
    if policy.get("signing_cert"):
        policy["signing_cert"] = ssl.DER_cert_to_PEM_cert(policy["signing_cert"])
    return policy


def _signed(policies, name, caller, key, not_before):
    wanted = {"public_key": key, **({"not_before": not_before} if not_before else {})}
    return ssl.DER_cert_to_PEM_cert(_by_x509(policies, name, caller, wanted, False))


def _by_x509(policies, name, caller, wanted, only):
    """What Salt's x509 answers this minion; raises CommandExecutionError for what it refuses."""
    kept = copy.deepcopy(policies[name])
    try:
        told = __salt__["x509.sign_remote_certificate"](name, wanted, only, __pub_id=caller)
    finally:
        policies[name] = kept
    if told.get("errors") or not told.get("data"):
        raise CommandExecutionError(
            f"the CA on {__grains__['id']} did not sign by {name}: "
            f"{'; '.join(told.get('errors') or ['x509 gave no reason'])}"
        )
    return told["data"]


def common_name(cluster, directories, wanted=None):
    """
    The common name of a CA: the pillar's, else that of its certificate, else one by the cluster.

    So a cluster that is renamed keeps its CA.

    cluster
        The name of the cluster (text).

    directories
        Where the CA may lie already (list of absolute paths); the first ``ca.crt`` counts.

    wanted : None
        The pillar's ``tls:ca:common_name`` (text).

    Returns text, such as ``etcd main CA``.

    Raises CommandExecutionError where that certificate cannot be read.

    CLI Example:

    .. code-block:: bash

        salt ca.example.com etcd_ha_ca.common_name main '[/etc/pki/etcd_ha/main]'
    """
    etcd_ha_faces.sound(locals())
    if wanted:
        return wanted
    for path in (f"{directory}/ca.crt" for directory in directories):
        if etcd_ha_common_files.exists(path):
            return _name_in(path) or f"etcd {cluster} CA"
    return f"etcd {cluster} CA"


def _name_in(path):
    try:
        return __salt__["x509.read_certificate"](path)["subject"].get("CN", "")
    except (CommandExecutionError, SaltInvocationError) as err:
        raise CommandExecutionError(
            f"the certificate of the CA, {path}, cannot be read: {err}. Put it back from a backup"
        ) from err


def needs_key(directory):
    """
    Whether a CA has to be given a key: it has none, or an empty one that a full disk has left.

    An empty key beside a certificate is a CA that has lost its key, which no new one replaces.

    directory
        The CA's directory (absolute path), such as ``/etc/pki/etcd_ha/main``.

    Returns True or False. Raises CommandExecutionError where that cannot be known.

    CLI Example:

    .. code-block:: bash

        salt ca.example.com etcd_ha_ca.needs_key /etc/pki/etcd_ha/main
    """
    etcd_ha_faces.sound(locals())
    key, certificate = (f"{directory}/{name}" for name in ("ca.key", "ca.crt"))
    if not etcd_ha_common_files.exists(key):
        return True
    try:
        return not os.path.getsize(key) and not etcd_ha_common_files.exists(certificate)
    except OSError as err:
        raise CommandExecutionError(f"{key} cannot be looked at: {err}") from err


def _refuse_without_room(directory):
    """Before a CA is put aside: another key and certificate must find room in its place."""
    path = f"{directory}/.room"
    try:
        etcd_ha_machine.write_bytes(path, b"\0" * ROOM, 0o600)
        os.unlink(path)
    except OSError as err:
        raise CommandExecutionError(
            f"another key and certificate would find no room in {directory} ({err}), so the "
            "present ones were not put aside. Make room there, and run this again"
        ) from err


def set_aside(directory):
    """
    Put a CA's key and certificate aside, so that the next converge makes new ones.

    Nothing is deleted, and the members trust the former CA until all of them have certificates of
    the new one. ``salt-run state.orchestrate etcd_ha.orch.rotate_ca`` does both.

    directory
        The CA's directory (absolute path), such as ``/etc/pki/etcd_ha/main``.

    Returns the folder (text) in which the former key and certificate lie from now on.

    Raises CommandExecutionError where there is no whole CA, and where a new one has no room.

    CLI Example:

    .. code-block:: bash

        salt ca.example.com etcd_ha_ca.set_aside /etc/pki/etcd_ha/main
    """
    etcd_ha_faces.sound(locals())
    parts = [f"{directory}/{name}" for name in ("ca.key", "ca.crt")]
    missing = [path for path in parts if not etcd_ha_common_files.exists(path)]
    if missing:
        raise CommandExecutionError(
            f"{' and '.join(missing)} is missing, so there is no CA to put aside. Run "
            "salt-run etcd_ha.plan"
        )
    _refuse_without_room(directory)
    # First out of the memory of the last converge: a CA that is missing there was lost, not put
    # aside (etcd_ha_planner, _refuse_lost_authority).
    mark = etcd_ha_mark.read()
    mark["files"] = {p: h for p, h in mark.get("files", {}).items() if p not in parts}
    etcd_ha_machine.write_json(etcd_ha_machine.MARK_FILE, mark)
    folder = f"{directory}/former-{time.strftime('%Y%m%d-%H%M%S')}"
    etcd_ha_common_files.make_directory(folder, 0o700, fresh=True)
    # The certificate first: where the key alone is left, the next converge signs that one anew.
    for path in reversed(parts):
        os.rename(path, f"{folder}/{os.path.basename(path)}")
    return folder
