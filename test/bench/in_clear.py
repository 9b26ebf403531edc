"""In a host: end the floor's etcd and remove all of it, so that the host is blank again."""

import os
import shutil
import signal
import time

with open("/var/lib/floor/pid") as file:
    pid = int(file.read())
os.kill(pid, signal.SIGKILL)
while os.path.exists(f"/proc/{pid}/root/."):
    time.sleep(0.01)
shutil.rmtree("/var/lib/floor")
print("{}")
