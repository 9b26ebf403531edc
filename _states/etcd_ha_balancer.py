"""
A load balancer's files as states: the certificate and the key with which HAProxy checks members.
"""

import os

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_arguments
import etcd_ha_machine
import etcd_ha_pem

# Beside _states/etcd_ha.py: Salt puts the functions of both under this name.
__virtualname__ = "etcd_ha"


def __virtual__():
    return __virtualname__


def bundle_kept(name, path, certificate, key, ca):
    """
    A certificate and its private key lie in one file too, which root alone can read.

    HAProxy 2.2 reads the two from one file alone where it checks a server. It is written in one
    step, so that HAProxy never reads a certificate beside another one's key. (No state of Salt's
    joins two files without showing a key in a rendered state.)

    name
        A sentence for people.

    path
        The file that holds both (absolute path).

    certificate, key
        Where they lie (absolute paths).

    ca
        The file of the CAs that are trusted here (absolute path); one of them must have signed it.

    .. code-block:: yaml

        the check of HAProxy has its certificate and its key in one file:
          etcd_ha.bundle_kept:
            - path: /etc/etcd/main/check.pem
            - certificate: /etc/etcd/main/check.crt
            - key: /etc/etcd/main/check.key
            - ca: /etc/etcd/main/ca.crt
    """
    refused = etcd_ha_arguments.refused(locals())
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{path} holds both"}
    missing = [one for one in (certificate, key) if not os.path.exists(one)]
    if missing:
        told = f"{' and '.join(missing)} is missing"
        if __opts__["test"]:
            # An earlier state would make it.
            change = {path: {"old": "absent", "new": "present"}}
            return {**ret, "result": None, "changes": change, "comment": f"{path}: {told} yet"}
        return {**ret, "result": False, "comment": f"{path} was not written: {told}. {_AGAIN}"}
    try:
        parts = [_read(one).strip() for one in (certificate, key)]
        wanted = "\n".join([*parts, ""])
        old = _read(path) if os.path.exists(path) else None
        if old == wanted and _is_roots_alone(path):
            return ret
        state = "absent" if old is None else "another, or not root's alone"
        ret["changes"] = {path: {"old": state, "new": "the certificate and its key"}}
        if __opts__["test"]:
            return {**ret, "result": None, "comment": f"{path} would be written"}
        wrong = etcd_ha_pem.misfit(*parts, _read(ca))
        if not wrong:
            etcd_ha_machine.write_text(path, wanted, 0o600)
            return {**ret, "comment": f"{path} was written"}
    except (OSError, UnicodeDecodeError) as err:
        wrong = str(err)
    told = f"{path} was not written: {wrong}. {_AGAIN}"
    return {**ret, "result": False, "changes": {}, "comment": told}


_AGAIN = "Correct what it names, and run again"


def _read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def _is_roots_alone(path):
    found = os.stat(path)
    return found.st_uid == os.geteuid() and found.st_mode & 0o7777 == 0o600
