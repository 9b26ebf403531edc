"""In a host: start etcd by hand as the simplest guide has it, and wait until it is healthy."""

import json
import subprocess
import sys
import time
import urllib.request

wanted = json.loads(sys.argv[1])
members, name = wanted["members"], wanted["host"]
address = members[name]
argv = ["/var/lib/floor/etcd", "--name", name, "--data-dir", "/var/lib/floor/data"]
argv += ["--initial-cluster", ",".join(f"{n}=http://{a}:2380" for n, a in members.items())]
argv += ["--initial-cluster-state", "new", "--log-level", "error"]
argv += ["--listen-peer-urls", f"http://{address}:2380"]
argv += ["--initial-advertise-peer-urls", f"http://{address}:2380"]
argv += ["--listen-client-urls", f"http://{address}:2379"]
argv += ["--advertise-client-urls", f"http://{address}:2379"]
began = time.time()
with open("/var/lib/floor/log", "wb") as log:
    etcd = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
with open("/var/lib/floor/pid", "w") as file:
    file.write(str(etcd.pid))
healthy = None
while healthy is None and time.time() < began + 60 and etcd.poll() is None:
    try:
        with urllib.request.urlopen(f"http://{address}:2379/health", timeout=2) as answer:
            if json.load(answer)["health"] == "true":
                healthy = time.time()
    except OSError:
        time.sleep(0.02)
if healthy is None:
    with open("/var/lib/floor/log") as log:
        sys.exit(log.read()[-2000:])
print(json.dumps({"began": began, "healthy": healthy}))
