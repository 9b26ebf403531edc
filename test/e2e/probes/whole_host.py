"""What a host is like, as JSON: each path with type, mode, owner and content, accounts, packages.

Of the data of an etcd owner and mode count alone: it writes by itself.
"""

import hashlib
import json
import os
import stat
import subprocess

FOLDERS = ("/etc", "/opt", "/usr/local", "/srv", "/data", "/var/lib", "/var/backups", "/root")
FOLDERS += ("/run/etcd_ha", "/run/systemd/system")
PREFIXES = {"/": "", "/usr/bin": "etcd", "/usr/lib/systemd/system": "etcd", "/var/log": "etcd"}
# Salt's own, and what systemd writes by itself.
OTHERS = ("/etc/salt/", "/opt/saltstack/", "/var/lib/salt/", "/root/.cache/")
OTHERS += tuple(
    f"/var/lib/systemd/{name}" for name in ("random-seed", "timers", "timesync", "catalog")
)
COMMANDS = (
    ("getent", "passwd"),
    ("getent", "group"),
    ("dpkg-query", "--show", "--showformat=${Package} ${Version} ${Status}\n"),
    ("systemctl", "list-unit-files", "--no-legend", "--no-pager", "--plain"),
)


def of(path):
    found = os.lstat(path)
    told = f"{stat.filemode(found.st_mode)} {found.st_uid}:{found.st_gid}"
    if stat.S_ISLNK(found.st_mode):
        return f"{told} -> {os.readlink(path)}"
    if stat.S_ISREG(found.st_mode) and "/member/" not in path:
        with open(path, "rb") as file:
            return f"{told} {hashlib.sha256(file.read()).hexdigest()}"
    return told


def walk():
    for folder, prefix in PREFIXES.items():
        yield from (
            os.path.join(folder, name) for name in os.listdir(folder) if name.startswith(prefix)
        )
    data = [f"/{name}" for name in os.listdir("/") if name.endswith(".etcd")]
    for top in (*FOLDERS, *data):
        for folder, folders, files in os.walk(top):
            yield folder
            yield from (f"{folder}/{name}" for name in folders + files)


def told():
    for path in walk():
        # etcd makes its next log file under a name for the time being.
        if not path.startswith(OTHERS) and not path.endswith(".tmp"):
            try:
                yield path, of(path)
            except FileNotFoundError:
                continue
    for command in COMMANDS:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        for line in done.stdout.splitlines():
            # Scopes and mounts come and go; they have no file.
            if line.split()[1:2] not in (["transient"], ["generated"]):
                yield f"{' '.join(command[:2])}: {line}", ""


print(json.dumps(dict(told())))
