"""On the balancer's host: when the first write of another cluster than this one passes through it.

Prints the time (seconds since 1970) at which it was acknowledged. ``cluster`` is the id of the
cluster before; empty where any acknowledged write counts.
"""

import http.client
import json
import ssl
import sys
import time

wanted = json.loads(sys.argv[1])
context = ssl.create_default_context(cafile=wanted["ca"])
context.load_cert_chain(wanted["certificate"], wanted["key"])
ends = time.time() + wanted["seconds"]
while time.time() < ends:
    connection = http.client.HTTPSConnection(wanted["address"], 2379, timeout=2, context=context)
    try:
        # /bench-first = 1
        connection.request("POST", "/v3/kv/put", '{"key": "L2JlbmNoLWZpcnN0", "value": "MQ=="}')
        answer = connection.getresponse()
        told = answer.read()
        if answer.status == 200:
            cluster = json.loads(told)["header"]["cluster_id"]
            if cluster != wanted["cluster"]:
                print(json.dumps({"at": time.time(), "cluster": cluster}))
                sys.exit()
    except (OSError, ValueError, http.client.HTTPException):
        pass
    finally:
        connection.close()
    time.sleep(0.02)
sys.exit(f"no write passed within {wanted['seconds']} s")
