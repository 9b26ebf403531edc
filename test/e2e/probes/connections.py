"""Puts over many new connections one after the other: how each ended, counted, as JSON."""

import collections
import http.client
import json
import ssl
import sys

wanted = json.loads(sys.argv[1])
context = ssl.create_default_context(cafile=wanted["ca"])
context.load_cert_chain(wanted["certificate"], wanted["key"])
ended = collections.Counter()
for _ in range(wanted["count"]):
    try:
        connection = http.client.HTTPSConnection(
            wanted["host"], wanted["port"], timeout=5, context=context
        )
        connection.request("POST", "/v3/kv/put", '{"key": "L2Nvbm5lY3Rpb25z", "value": "MQ=="}')
        ended[str(connection.getresponse().status)] += 1
        connection.close()
    except (OSError, http.client.HTTPException) as err:
        ended[f"{type(err).__name__}: {err}"] += 1
print(json.dumps(ended))
