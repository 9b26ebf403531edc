"""In a host: stop the member and throw its data away, so that it could be bootstrapped again."""

import pathlib
import shutil
import subprocess

subprocess.run(["systemctl", "stop", "etcd"], check=True)
shutil.rmtree("/var/lib/etcd/member")
once = pathlib.Path("/run/etcd_ha/bootstrap.env")
once.parent.mkdir(exist_ok=True)
once.write_text("ETCD_INITIAL_CLUSTER_STATE=new\n")
print("{}")
