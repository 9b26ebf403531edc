"""On a balancer: how long each put through it takes, until a file is there.

Prints when each was put, and how long it took, as JSON.

One client with one connection, and a pause between two puts, so that it measures waiting and not
its own pressure.
"""

import base64
import http.client
import json
import os
import ssl
import sys
import time

wanted = json.loads(sys.argv[1])
context = ssl.create_default_context(cafile=f"{wanted['pki']}/ca.crt")
context.load_cert_chain(f"{wanted['pki']}/check.crt", f"{wanted['pki']}/check.key")
connection = http.client.HTTPSConnection(wanted["host"], 2379, timeout=20, context=context)
key, value = (base64.b64encode(text).decode() for text in (b"/bench/latency", b"x" * 256))
body, took, ends = json.dumps({"key": key, "value": value}), [], time.time() + wanted["seconds"]
while time.time() < ends and not os.path.exists(wanted["stop"]):
    began = time.perf_counter()
    connection.request("POST", "/v3/kv/put", body)
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        sys.exit(f"HTTP {answer.status}")
    took.append((time.time(), time.perf_counter() - began))
    time.sleep(0.005)
print(json.dumps({"series": took}))
