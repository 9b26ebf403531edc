"""Puts one key many times by a member's JSON gateway; prints how many were acknowledged."""

import base64
import http.client
import json
import os
import ssl
import sys
import threading
from urllib.parse import urlsplit

count, url = int(sys.argv[1]), urlsplit(sys.argv[2])
PKI = "/etc/etcd/pki"
THREADS = 16
acknowledged = []


def put(times):
    context = ssl.create_default_context(cafile=f"{PKI}/ca.crt")
    context.load_cert_chain(f"{PKI}/admin.crt", f"{PKI}/admin.key")
    connection = http.client.HTTPSConnection(url.hostname, url.port, context=context, timeout=30)
    key = base64.b64encode(b"/entries").decode()
    body = json.dumps({"key": key, "value": key})
    for _ in range(times):
        connection.request("POST", "/v3/kv/put", body)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        acknowledged.append(1)


os.nice(5)
threads = [threading.Thread(target=put, args=(count // THREADS,)) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(len(acknowledged)))
sys.exit(0 if len(acknowledged) >= count // THREADS * THREADS else 1)
