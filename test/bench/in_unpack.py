"""In a host: fetch a release and unpack it aside, which the floor does not count."""

import io
import json
import sys
import tarfile
import urllib.request

wanted = json.loads(sys.argv[1])
name = f"etcd-v{wanted['version']}-linux-"
# The mirror has this machine's architecture; SHA256SUMS names its archive.
base = f"{wanted['mirror']}/v{wanted['version']}"
sums = urllib.request.urlopen(f"{base}/SHA256SUMS").read().decode()
archive = next(word for word in sums.split() if word.startswith(name))
body = urllib.request.urlopen(f"{base}/{archive}").read()
with tarfile.open(fileobj=io.BytesIO(body)) as tar:
    for entry in tar:
        if entry.name.endswith("/etcd"):
            entry.name = "etcd"
            tar.extract(entry, "/var/lib/floor")
print("{}")
