"""In a host: start etcd's unit by hand, and wait until etcdctl finds it healthy."""

import json
import os
import subprocess
import sys
import time

with open("/etc/etcd/etcdctl.env") as file:
    pairs = [line.strip().partition("=")[::2] for line in file if "=" in line]
environment = {**os.environ, **{name: value.strip('"') for name, value in pairs}}
environment["ETCDCTL_ENDPOINTS"] = "https://127.0.0.1:2379"
began = time.time()
subprocess.run(["systemctl", "start", "etcd"], check=True)
while time.time() < began + 60:
    done = subprocess.run(
        ["/usr/local/bin/etcdctl", "endpoint", "health"],
        env=environment,
        capture_output=True,
        check=False,
    )
    if done.returncode == 0:
        print(json.dumps({"began": began, "healthy": time.time()}))
        sys.exit()
sys.exit("etcd was not healthy within a minute")
