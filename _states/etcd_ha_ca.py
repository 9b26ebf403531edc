"""
Which CA a host trusts and what it asks of it, as states; a CA is exchanged step by step, by the
orchestrate alone.
"""

import os

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_arguments
import etcd_ha_machine
import etcd_ha_pem
from etcd_ha_trust import ALONE, HELD, KEPT
from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "etcd_ha_ca"


def __virtual__():
    return __virtualname__


def asked(name, ca_server, leaves, not_before=None):
    """
    The CA has told this host's signing policies, and signed the keys that have no certificate yet.

    One question for all of them. Salt's ``x509.certificate_managed`` asks for each certificate, and
    again for its policy; those states come behind this one, find what it has brought, and judge it.

    name
        A sentence for people.

    ca_server
        The CA minion (text).

    leaves
        A list of dicts: ``policy`` (text, a signing policy of the CA), ``key`` and ``certificate``
        (absolute paths: the private key that lies here, and where its certificate shall lie).

    not_before : None
        When the certificates begin (text: ``YYYY-mm-dd HH:MM:SS`` in UTC); without it now.

    .. code-block:: yaml

        the CA is asked for all certificates of this host:
          etcd_ha_ca.asked:
            - ca_server: ca.example.com
            - leaves:
              - policy: etcd_ha_main_server_etcd1.example.com
                key: /etc/etcd/pki/next/server.key
                certificate: /etc/etcd/pki/next/server.crt
    """
    refused = etcd_ha_arguments.refused(locals())
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{ca_server} was asked"}
    new = [one for one in leaves if not os.path.exists(one["certificate"])]
    if new and __opts__["test"]:
        # On a blank host neither the keys nor the CA may be there yet.
        ret["changes"] = {one["certificate"]: {"old": "absent", "new": "signed"} for one in new}
        return {**ret, "result": None, "comment": f"{ca_server} would be asked to sign"}
    try:
        answers = _answers(ca_server, _questions(leaves, new), not_before)
        # Where Salt's x509 keeps them for this run (salt.modules.x509_v2, get_signing_policy); a
        # release that does not look there asks by itself.
        told = __context__.setdefault("_x509_policies", {}).setdefault(ca_server, {})
        told.update({policy: answer["policy"] for policy, answer in answers.items()})
        for one in new:
            text = answers[one["policy"]]["certificate"]
            etcd_ha_machine.write_text(one["certificate"], text, 0o644)
            ret["changes"][one["certificate"]] = {"old": "absent", "new": f"signed by {ca_server}"}
    except (CommandExecutionError, SaltInvocationError, OSError) as err:
        return {**ret, "result": False, "comment": f"{err}"}
    return ret


def _questions(leaves, new):
    """Policy -> the public key to sign by it, or an empty text."""
    keys = {one["policy"]: "" for one in leaves}
    return keys | {one["policy"]: __salt__["x509.get_public_key"](one["key"]) for one in new}


def _answers(ca_server, keys, not_before):
    """The CA's answer for each policy; raises CommandExecutionError where there is none."""
    told = __salt__["publish.publish"](
        ca_server, "etcd_ha_ca.sign", arg=[keys, not_before], timeout=60
    )
    # Of nobody else: every minion sees what is published, and may answer.
    answers = told.get(ca_server) if isinstance(told, dict) else told
    if not answers:
        raise CommandExecutionError(
            f"{ca_server} did not answer within 60 s. See whether it is connected (salt "
            f"{ca_server} test.ping), and whether the master's peer setting lets this host call "
            "etcd_ha_ca.sign; then run this again"
        )
    if isinstance(answers, str) and "is not available" in answers:
        raise CommandExecutionError(
            f"{ca_server} lacks the formula's modules: run salt {ca_server} saltutil.sync_all, "
            "then this again"
        )
    whole = isinstance(answers, dict) and all(_is_whole(answers.get(p), k) for p, k in keys.items())
    if not whole:
        raise CommandExecutionError(f"{ca_server} answered: {str(answers)[:500]}")
    return answers


def _is_whole(answer, key):
    return (
        isinstance(answer, dict)
        and isinstance(answer.get("policy"), dict)
        and isinstance(answer.get("certificate"), str)
        and bool(answer["certificate"]) == bool(key)
    )


def trusted(name, path, phase="kept", ca_server=None, policy=None, source=None, pillar=None):
    """
    The file of trusted CAs on this host holds the CA that the pillar names.

    Members that trust different CAs lose each other, so another CA than before never simply takes
    the former one's place: only the orchestrate exchanges it, step by step.

    name
        A sentence for people.

    path
        The file (absolute path).

    phase : kept
        What to do where the file holds a CA (text): ``kept`` leaves it, without asking which one
        is the pillar's; ``both`` and ``issued``
        add the new one to what is there, an empty text leaves the new one alone in it, which cuts
        this host off from those that do not have it yet. ``held`` asks no CA: it fails where the
        file holds none.

    ca_server, policy : None
        The CA minion, and a signing policy of its that names the CA's certificate (text).

    source : None
        Instead of these: a PEM file on this host (absolute path).

    pillar : None
        Instead of these: the pillar key (text, with colons) of the PEM text.

    .. code-block:: yaml

        etcd here trusts the CA:
          etcd_ha_ca.trusted:
            - path: /etc/etcd/pki/ca.crt
            - ca_server: ca.example.com
            - policy: etcd_ha_main_server_etcd1.example.com
    """
    refused = etcd_ha_arguments.refused(locals(), source="path?")
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{path} holds the CA"}
    try:
        old = _text(path)
    except CommandExecutionError as err:
        return _unwritten(ret, path, err)
    if phase == HELD:
        return _held(ret, path, old)
    if __opts__["test"] and not old and ca_server:
        # On a blank host the CA may not be there to be asked.
        ret["result"], ret["changes"] = None, {path: {"old": "absent", "new": "the CA"}}
        ret["comment"] = f"the CA's certificate would be written to {path}"
        return ret
    if old and phase == KEPT:
        ret["comment"] = f"{path} stays as it is: the orchestrate alone changes what a host trusts"
        return _with_owner(ret, path)
    try:
        wanted = _wanted(ca_server, policy, source, pillar)
        new = _united(old, wanted, phase)
    except (CommandExecutionError, SaltInvocationError, ValueError, OSError) as err:
        ret["result"], ret["comment"] = False, f"{path} was not written: {err}"
        return ret
    if old and etcd_ha_pem.same(old, new):
        return _with_owner(ret, path)
    ret["changes"][path] = {"old": _told(old), "new": _told(new)}
    if __opts__["test"]:
        ret["result"], ret["comment"] = None, f"{path} would be written"
        return ret
    try:
        etcd_ha_machine.write_text(path, new, 0o644)
    except OSError as err:
        return _unwritten(ret, path, err)
    ret["comment"] = f"{path} was written"
    return ret


def _held(ret, path, old):
    if old:
        return _with_owner({**ret, "comment": f"{path} stays as it is: no answer of the CA"}, path)
    comment = f"{path} holds no CA, and the one that signs does not answer. Bring it back first"
    return {**ret, "result": False, "comment": comment}


def _unwritten(ret, path, err):
    comment = f"{path} was not written: {err}. Mend the cause, and run again"
    return {**ret, "result": False, "changes": {}, "comment": comment}


def _wanted(ca_server, policy, source, pillar):
    """The PEM text of the CA that the pillar names, whole and readable."""
    if source:
        with open(source, encoding="utf-8") as file:
            text = file.read()
    elif pillar:
        # 3008 masks what pillar.get returns here; __pillar__ itself is plain.
        value = __pillar__
        for part in pillar.split(":"):
            if not hasattr(value, "get") or part not in value:
                raise SaltInvocationError(
                    f"the pillar of {__grains__['id']} has no {pillar}; assign it to this minion"
                )
            value = value[part]
        if not isinstance(value, str):
            raise SaltInvocationError(f"{pillar} in the pillar is no PEM text; correct it there")
        text = value
    else:
        found = __salt__["x509.get_signing_policy"](policy, ca_server=ca_server)
        text = (found or {}).get("signing_cert")
        if not text:
            raise CommandExecutionError(
                f"{ca_server or 'this minion'} has no signing policy {policy} with a signing_cert. "
                "Give source, pillar, or the ca_server and a policy of it; on the CA see: "
                "salt-call pillar.get x509_signing_policies"
            )
    etcd_ha_pem.bundle(text)
    if "PRIVATE KEY-----" in text:
        raise ValueError(
            "it holds a private key, and everybody may read it; keep the key elsewhere"
        )
    return text


def _united(old, wanted, phase):
    """The text that the file shall have."""
    if not old or phase == ALONE:
        return wanted
    return etcd_ha_pem.united(wanted, old)


def _text(path):
    """A file's text, empty where it is missing or no PEM, so that it is written anew."""
    text = etcd_ha_machine.read_text(path)
    try:
        etcd_ha_pem.bundle(text)
    except ValueError:
        return ""
    return text


def _told(text):
    """CAs as a change tells them: how many, and the start of their hashes."""
    if not text:
        return "absent"
    return ", ".join(sorted(one[:16] for one in etcd_ha_pem.bundle(text).certificates))


def _with_owner(ret, path):
    """The file is right; see that it is root's and that others can read it."""
    found = os.stat(path)
    if (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (0, 0, 0o644):
        return ret
    ret["changes"][path] = {"old": "other owner or mode", "new": "root:root 0644"}
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"{path} would be root's, mode 0644"}
    try:
        os.chown(path, 0, 0)
        os.chmod(path, 0o644)
    except OSError as err:
        return _unwritten(ret, path, err)
    return {**ret, "comment": f"{path} is root's now, mode 0644"}
