"""In a member: write this many keys, so large together, through its own etcd by several clients."""

import base64
import http.client
import json
import os
import ssl
import sys
import threading
import time

wanted = json.loads(sys.argv[1])
CLIENTS = 8
environment = {}
with open("/etc/etcd/etcdctl.env") as file:
    for line in file:
        name, _, value = line.strip().partition("=")
        environment[name] = value.strip('"')
context = ssl.create_default_context(cafile=environment["ETCDCTL_CACERT"])
context.load_cert_chain(environment["ETCDCTL_CERT"], environment["ETCDCTL_KEY"])
size = max(1, wanted["bytes"] // wanted["keys"])
failed = []


def fill(first):
    connection = http.client.HTTPSConnection("127.0.0.1", 2379, timeout=60, context=context)
    value = base64.b64encode(os.urandom(size)).decode()
    for number in range(first, wanted["keys"], CLIENTS):
        key = base64.b64encode(b"/bench/%07d" % number).decode()
        connection.request("POST", "/v3/kv/put", json.dumps({"key": key, "value": value}))
        answer = connection.getresponse()
        told = answer.read()
        if answer.status != 200:
            failed.append(told[:200].decode(errors="replace"))
            return


began = time.monotonic()
threads = [threading.Thread(target=fill, args=(first,)) for first in range(CLIENTS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if failed:
    sys.exit(failed[0])
print(json.dumps({"seconds": time.monotonic() - began}))
