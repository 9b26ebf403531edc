"""A client that writes through one endpoint all the time, as an application would.

Each value is put until it is acknowledged, on a persistent connection that is opened anew after
an error. Prints the acknowledged keys and the longest gap between two acknowledgements as JSON.
Ends when the file that it was given is there.
"""

import base64
import http.client
import json
import os
import ssl
import sys
import time

wanted = json.loads(sys.argv[1])
context = None
if wanted.get("ca"):
    context = ssl.create_default_context(cafile=wanted["ca"])
    context.load_cert_chain(wanted["certificate"], wanted["key"])


def connect():
    if context is None:
        return http.client.HTTPConnection(wanted["host"], wanted["port"], timeout=3)
    return http.client.HTTPSConnection(wanted["host"], wanted["port"], timeout=3, context=context)


def put(connection, number):
    key = base64.b64encode(f"{wanted['prefix']}{number:06d}".encode()).decode()
    value = base64.b64encode(str(number).encode()).decode()
    connection.request("POST", "/v3/kv/put", json.dumps({"key": key, "value": value}))
    answer = connection.getresponse()
    answer.read()
    return answer.status == 200


if os.path.exists(wanted["stop"]):
    os.unlink(wanted["stop"])
connection, number, errors, longest = connect(), 0, [], 0.0
last = time.monotonic()
ends = last + wanted["seconds"]
while time.monotonic() < ends and not os.path.exists(wanted["stop"]):
    try:
        done = put(connection, number)
    except (OSError, http.client.HTTPException) as err:
        done = False
        errors.append(f"{type(err).__name__}: {err}")
        connection.close()
        connection = connect()
        time.sleep(0.01)
    if done:
        now = time.monotonic()
        longest, last, number = max(longest, now - last), now, number + 1
    time.sleep(0.005)
longest = max(longest, time.monotonic() - last)
print(json.dumps({"acknowledged": number, "longest_gap": longest, "errors": errors[-20:]}))
