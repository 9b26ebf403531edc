"""What a member is told of backups: the settings that lie in a file there, and whose secrets."""

import hashlib
import json
from typing import Any

import etcd_ha_backup_program
import etcd_ha_s3
from etcd_ha_topology import Cluster, Member

TIMER = "etcd_ha-backup.timer"
SERVICE = "etcd_ha-backup.service"


def describe(cluster: Cluster, member: Member) -> dict[str, Any]:
    """A member's part in the cluster's backups.

    ``settings`` is what the job reads, ``settings_text`` the file with it. Secrets stand here as
    one hash alone: this mapping is written to logs and shown to people.
    """
    backup = cluster.settings["backup"]
    file, secrets_file = files(member.settings["config_dir"])
    s3 = {key: value for key, value in backup["s3"].items() if key not in etcd_ha_s3.SECRETS}
    settings = {
        "cluster": cluster.name,
        "directory": backup["directory"],
        "keep": backup["keep"],
        "schedule": backup["schedule"],
        "timeout": backup["timeout"],
        "s3": s3,
        "secrets": secrets_file,
    }
    return {
        "cluster": cluster.name,
        "file": file,
        "directory": backup["directory"],
        "schedule": backup["schedule"],
        "settings": settings,
        "settings_text": json.dumps(settings, indent=1, sort_keys=True) + "\n",
        "secrets": secrets_file,
        "secrets_hash": _hash(backup["s3"]),
        "uses_s3": etcd_ha_s3.is_used(backup["s3"]),
        # All that the unit may take: its own limit of each part, one after the other.
        "longest": len(cluster.members) * (backup["timeout"] + backup["s3"]["timeout"]),
        "program": etcd_ha_backup_program.PATH,
        # So that a host with the program of an older formula is known as one.
        "program_hash": etcd_ha_backup_program.sha256() if backup["schedule"] else "",
        "timer": TIMER,
        "service": SERVICE,
    }


def files(config_dir: str) -> tuple[str, str]:
    """The settings of a member's backups, and their secrets, in its configuration's directory."""
    return f"{config_dir}/backup.json", f"{config_dir}/backup.secrets"


def secrets(s3: dict[str, Any]) -> dict[str, str]:
    """Those of the pillar's S3 settings that are secret, by their names."""
    return {name: s3[name] for name in etcd_ha_s3.SECRETS if s3.get(name) is not None}


def _hash(s3: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(secrets(s3), sort_keys=True).encode()).hexdigest()
