"""
Who may reach etcd's ports, as rules of ufw or firewalld, and the removal of all such rules.

Only rules that these states made are ever changed or removed: in ufw they bear a comment that
begins with ``etcd_ha:``, in firewalld they are a policy of their own, in nftables a table.
"""

import os
import shutil
import tempfile

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_arguments
import etcd_ha_common_files
import etcd_ha_common_process
import etcd_ha_faces
import etcd_ha_firewall
from etcd_ha_common_process import ProgramError, ProgramMissing
from salt.exceptions import CommandExecutionError

__virtualname__ = "etcd_ha_firewall"


def __virtual__():
    return __virtualname__


def ufw(name, rules):
    """
    ufw admits to etcd's ports those that the rules name, and nobody else.

    ufw is not switched on from here: who has not yet admitted ssh would be locked out.

    name
        A sentence for people.

    rules
        A list of ``{port (int), sources (list of addresses and networks), why (text)}``. With
        ``protocol: vrrp`` and ``port: 0`` the protocol of a virtual address is meant.

    .. code-block:: yaml

        ufw admits only those who need etcd:
          etcd_ha_firewall.ufw:
            - rules:
                - {port: 2380, sources: [192.168.200.52], why: etcd peers}
    """
    refused = etcd_ha_arguments.refused(locals())
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": "the rules are as wanted"}
    try:
        active = _ufw_active()
        found = _ufw_rules() if active else {}
    except (CommandExecutionError, OSError) as err:
        return {**ret, "result": False, "comment": str(err)}
    if not active:
        return _inactive(
            ret,
            "ufw is not active on this host, so its rules protect nothing. Admit ssh and what else "
            "the host needs, then: ufw enable",
        )
    taken = etcd_ha_firewall.ufw_conflicts(rules, found)
    if taken:
        ret["result"] = False
        ret["comment"] = (
            "nothing was changed: ufw has rules for etcd's ports that are not the formula's. "
            "Delete them, the formula adds its own: "
            + "; ".join(f"ufw delete {rule}" for rule in taken)
        )
        return ret
    return _ufw_apply(ret, etcd_ha_firewall.ufw_commands(rules, found))


def firewalld(name, rules):
    """
    firewalld admits to etcd's ports those that the rules name, and nobody else, in all zones.

    The rules are a policy of its own, ``etcd_ha`` (firewalld 0.9 or newer). firewalld is reloaded
    once, when the policy is made; later changes are put in force without a reload, which would
    drop everybody's rules that are not permanent.

    name
        A sentence for people.

    rules
        As in ``etcd_ha_firewall.ufw``.

    .. code-block:: yaml

        firewalld admits only those who need etcd:
          etcd_ha_firewall.firewalld:
            - rules:
                - {port: 2380, sources: [192.168.200.52], why: etcd peers}
    """
    refused = etcd_ha_arguments.refused(locals())
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": "the rules are as wanted"}
    try:
        runs = _firewalld_running()
    except CommandExecutionError as err:
        return {**ret, "result": False, "comment": str(err)}
    if not runs:
        return _inactive(
            ret,
            "firewalld does not run on this host, so its rules protect nothing. Admit what else "
            "the host needs, then: systemctl enable --now firewalld",
        )
    wanted = etcd_ha_firewall.rich_rules(rules)
    try:
        if not etcd_ha_common_files.exists(etcd_ha_firewall.FIREWALLD_POLICY):
            return _new_policy(ret, rules, wanted)
        if etcd_ha_firewall.POLICY not in _firewall_cmd("--get-policies").split():
            return _loaded_policy(ret)
        return _same_rules(ret, wanted)
    except (CommandExecutionError, OSError) as err:
        return {**ret, "result": False, "comment": str(err)}


def cleared(name, kinds=("nftables", "firewalld", "ufw")):
    """
    No rule that the formula made is left in these firewalls; others' rules stay.

    It reads files alone, unless there is something to remove.

    name
        A sentence for people.

    kinds : [nftables, firewalld, ufw]
        The firewalls (list of text).

    .. code-block:: yaml

        no rule of etcd_ha is left in ufw:
          etcd_ha_firewall.cleared:
            - kinds: [ufw]
    """
    refused = etcd_ha_arguments.refused(locals())
    if refused:
        return refused
    ret = {"name": name, "result": True, "changes": {}, "comment": "there is none"}
    remove = {"nftables": _clear_nftables, "firewalld": _clear_firewalld, "ufw": _clear_ufw}
    try:
        for kind in kinds:
            remove[kind](ret)
    except (CommandExecutionError, OSError) as err:
        return {**ret, "result": False, "comment": str(err)}
    return etcd_ha_faces.changed(ret, __opts__["test"], "removed")


def _inactive(ret, reason):
    ret["result"] = False
    ret["comment"] = f"{reason}. Or choose firewall:kind nftables"
    return ret


def _run(*words, codes=(0,)):
    try:
        return etcd_ha_common_process.run(words, 120, codes=codes).out
    except ProgramError as err:
        raise CommandExecutionError(f"{err}. Mend what it says, and run this again") from err


def _read(path):
    """A file's text, empty where there is none; raises OSError where it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _ufw_active():
    if not etcd_ha_firewall.ufw_enabled(_read(etcd_ha_firewall.UFW_CONFIG)):
        return False
    return "Status: active" in _run("ufw", "status")


def _ufw_rules():
    families = etcd_ha_firewall.ufw_families(_read(etcd_ha_firewall.UFW_DEFAULTS))
    return {
        family: etcd_ha_firewall.ufw_parse(_read(etcd_ha_firewall.UFW_RULES[family]))
        for family in families
    }


def _ufw_apply(ret, commands):
    """Call ufw with each, and say so in the changes; one that fails ends it."""
    for words in commands:
        verb, *rule = words
        text = " ".join(rule).partition(" comment ")[0]
        if not __opts__["test"]:
            try:
                _run("ufw", *words)
            except CommandExecutionError as err:
                return {**ret, "result": False, "comment": str(err)}
        # A rule that is deleted only to be put behind another is no change of its own.
        old, new = ("present", "absent") if verb == "delete" else ("absent", "present")
        if text in ret["changes"]:
            ret["changes"][text] = {"old": "out of order", "new": "present"}
        else:
            ret["changes"][text] = {"old": old, "new": new}
    return etcd_ha_faces.changed(ret, __opts__["test"])


def _firewall_cmd(*words):
    return _run("firewall-cmd", *words)


def _firewalld_running():
    try:
        # 252: "not running" (firewall/errors.py).
        done = etcd_ha_common_process.run(["firewall-cmd", "--state"], 60, codes=(0, 252))
    except ProgramMissing:
        return False
    except ProgramError as err:
        raise CommandExecutionError(f"{err}. Mend what it says, and run this again") from err
    return done.code == 0


def _new_policy(ret, rules, wanted):
    changes = {rule: {"old": "absent", "new": "present"} for rule in wanted}
    if __opts__["test"]:
        comment = "the policy etcd_ha would be made"
        return {**ret, "result": None, "changes": changes, "comment": comment}
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(etcd_ha_firewall.policy_xml(rules))
        file.flush()
        new = (f"--new-policy-from-file={file.name}", f"--name={etcd_ha_firewall.POLICY}")
        _firewall_cmd("--permanent", *new)
    ret["changes"] = {"the policy etcd_ha": {"old": "absent", "new": "not in force"}}
    _firewall_cmd("--reload")
    return {**ret, "changes": changes, "comment": "the policy etcd_ha was made"}


def _loaded_policy(ret):
    changes = {"the policy etcd_ha": {"old": "not in force", "new": "in force"}}
    if __opts__["test"]:
        comment = "firewalld would be reloaded"
        return {**ret, "result": None, "changes": changes, "comment": comment}
    _firewall_cmd("--reload")
    return {**ret, "changes": changes, "comment": "firewalld was reloaded"}


def _same_rules(ret, wanted):
    """Bring the policy's rules, those in force and those kept, to the wanted ones."""
    for place in ((), ("--permanent",)):
        policy = (*place, f"--policy={etcd_ha_firewall.POLICY}")
        found = _firewall_cmd(*policy, "--list-rich-rules").splitlines()
        for verb, rules, change in (
            # Who is new is let in first, then who is no longer wanted is shut out.
            ("add", [r for r in wanted if r not in found], {"old": "absent", "new": "present"}),
            ("remove", [r for r in found if r not in wanted], {"old": "present", "new": "absent"}),
        ):
            if rules and not __opts__["test"]:
                _firewall_cmd(*policy, *(f"--{verb}-rich-rule={rule}" for rule in rules))
            ret["changes"].update(dict.fromkeys(rules, change))
    return etcd_ha_faces.changed(ret, __opts__["test"])


def _clear_nftables(ret):
    unit = f"/etc/systemd/system/{etcd_ha_firewall.NFT_UNIT}"
    found = [
        path for path in (unit, etcd_ha_firewall.NFT_TABLE) if etcd_ha_common_files.exists(path)
    ]
    if unit in found and not __opts__["test"]:
        # Stopping it deletes the table.
        _run("systemctl", "disable", "--now", etcd_ha_firewall.NFT_UNIT)
    for path in found:
        if not __opts__["test"]:
            os.unlink(path)
        ret["changes"][path] = {"old": "present", "new": "absent"}
    if found and not __opts__["test"]:
        _run("systemctl", "daemon-reload")


def _clear_firewalld(ret):
    path = etcd_ha_firewall.FIREWALLD_POLICY
    if not etcd_ha_common_files.exists(path):
        return
    change = {path: {"old": "present", "new": "absent"}}
    if __opts__["test"] or not _firewalld_running():
        if not __opts__["test"]:
            os.unlink(path)
        ret["changes"].update(change)
        return
    name = etcd_ha_firewall.POLICY
    _firewall_cmd("--permanent", f"--delete-policy={name}")
    ret["changes"].update(change)
    if name in _firewall_cmd("--get-policies").split():
        # Only a reload takes the policy itself away; without its rules it does nothing.
        policy = f"--policy={name}"
        rules = _firewall_cmd(policy, "--list-rich-rules").splitlines()
        if rules:
            _firewall_cmd(policy, *(f"--remove-rich-rule={rule}" for rule in rules))


def _clear_ufw(ret):
    if not shutil.which("ufw"):
        # A package that was removed leaves its rules behind as a file, and they do nothing.
        return
    found = _ufw_rules()
    if any(rule.ours for rules in found.values() for rule in rules):
        done = _ufw_apply(ret, etcd_ha_firewall.ufw_commands([], found))
        if done["result"] is False:
            raise CommandExecutionError(done["comment"])
