"""In a member: p50 of a put by one client, direct to the leader and through the balancer in turns.

The client speaks to etcd's JSON gateway over persistent connections. It opens a new one for each
turn, because a balancer gives each connection to one member: so all members get their share.
"""

import base64
import http.client
import json
import ssl
import statistics
import sys
import time
from urllib.parse import urlsplit

TURNS = 12
wanted = json.loads(sys.argv[1])
environment = {}
with open("/etc/etcd/etcdctl.env") as file:
    for line in file:
        name, _, value = line.strip().partition("=")
        environment[name] = value.strip('"')
context = ssl.create_default_context(cafile=environment["ETCDCTL_CACERT"])
context.load_cert_chain(environment["ETCDCTL_CERT"], environment["ETCDCTL_KEY"])
body = json.dumps(
    {
        "key": base64.b64encode(b"/bench/put").decode(),
        "value": base64.b64encode(b"x" * 256).decode(),
    }
)


def connect(url):
    parts = urlsplit(url)
    connection = http.client.HTTPSConnection(
        parts.hostname, parts.port, timeout=10, context=context
    )
    for _ in range(5):
        put(connection)
    return connection


def put(connection):
    began = time.perf_counter()
    connection.request("POST", "/v3/kv/put", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    took = time.perf_counter() - began
    if answer.status != 200:
        sys.exit(f"HTTP {answer.status}")
    return took


times = {"direct": [], "balancer": []}
for _ in range(TURNS):
    connections = {name: connect(wanted[name]) for name in times}
    for _ in range(max(1, wanted["writes"] // TURNS)):
        for name, connection in connections.items():
            times[name].append(put(connection))
    for connection in connections.values():
        connection.close()
print(json.dumps({name: statistics.median(values) for name, values in times.items()}))
