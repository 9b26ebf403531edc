"""In a member: what a person does by etcd's own commands, without a moment's thought between them.

``restore`` puts a snapshot that already lies here onto this member; ``recover`` forces this member
into a cluster of its own, after a copy of its data. Prints when it began (seconds since 1970).
"""

import json
import os
import shutil
import subprocess
import sys
import time

wanted = json.loads(sys.argv[1])
DATA = "/var/lib/etcd"
ONCE = "/run/etcd_ha/bootstrap.env"


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


with open("/etc/default/etcd") as file:
    pairs = [line.strip().partition("=")[::2] for line in file if line.startswith("ETCD_")]
variables = {name: value.strip('"') for name, value in pairs}
began = time.time()
run("systemctl", "stop", "--no-block", "etcd")
run("systemctl", "kill", "--signal=KILL", "etcd")
run("systemctl", "stop", "etcd")
if wanted["what"] == "restore":
    os.rename(f"{DATA}/member", f"{DATA}.by-hand-{began:.0f}")
    tool = "etcdutl" if shutil.which("etcdutl") else "etcdctl"
    bump = ["--bump-revision=1000000000", "--mark-compacted"] if tool == "etcdutl" else []
    run(
        tool,
        "snapshot",
        "restore",
        wanted["snapshot"],
        f"--data-dir={DATA}/new",
        f"--name={variables['ETCD_NAME']}",
        f"--initial-advertise-peer-urls={variables['ETCD_INITIAL_ADVERTISE_PEER_URLS']}",
        f"--initial-cluster={variables['ETCD_INITIAL_CLUSTER']}",
        f"--initial-cluster-token=by-hand-{wanted['token']}",
        *bump,
    )
    os.rename(f"{DATA}/new/member", f"{DATA}/member")
    run("chown", "-R", "etcd:etcd", f"{DATA}/member")
    run("systemctl", "start", "etcd")
else:
    run("cp", "-a", f"{DATA}/member", f"{DATA}.by-hand-{began:.0f}")
    os.makedirs(os.path.dirname(ONCE), exist_ok=True)
    with open(ONCE, "w") as file:
        file.write("ETCD_FORCE_NEW_CLUSTER=true\n")
    run("systemctl", "start", "etcd")
    os.unlink(ONCE)
print(json.dumps({"began": began}))
