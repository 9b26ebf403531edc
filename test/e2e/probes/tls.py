"""One HTTPS request with a chosen certificate and TLS version; prints how it ended as JSON.

The client itself allows everything, so that a refusal is the server's.
"""

import http.client
import json
import ssl
import sys
import warnings

wanted = json.loads(sys.argv[1])
warnings.simplefilter("ignore")
context = ssl.create_default_context(cafile=wanted["ca"])
context.check_hostname = wanted.get("check_hostname", True)
context.set_ciphers("ALL:@SECLEVEL=0")
version = getattr(ssl.TLSVersion, wanted.get("version", "TLSv1_2"))
context.minimum_version = context.maximum_version = version
if wanted.get("certificate"):
    context.load_cert_chain(wanted["certificate"], wanted["key"])
result = {}
try:
    connection = http.client.HTTPSConnection(
        wanted["host"], wanted["port"], timeout=5, context=context
    )
    body = wanted.get("body")
    path, headers = wanted.get("path", "/health"), wanted.get("headers", {})
    connection.request("POST" if body else "GET", path, body, headers)
    answer = connection.getresponse()
    result = {"status": answer.status, "body": answer.read(2000).decode()}
    result["spoke"] = connection.sock.version() if connection.sock else ""
except (OSError, http.client.HTTPException) as err:
    result = {"error": f"{type(err).__name__}: {err}"}
print(json.dumps(result))
