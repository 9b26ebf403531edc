"""One plain HTTP request; prints how it ended as JSON, and from where, once the port had opened."""

import http.client
import json
import sys

host, port, path = sys.argv[1:4]
body = sys.argv[4] if len(sys.argv) > 4 else None
result = {}
try:
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    connection.connect()
    result["from"] = "{}:{}".format(*connection.sock.getsockname())
    connection.request("POST" if body else "GET", path, body)
    answer = connection.getresponse()
    result |= {"status": answer.status, "body": answer.read(2000).decode("utf-8", "replace")}
except (OSError, http.client.HTTPException) as err:
    result["error"] = f"{type(err).__name__}: {err}"
print(json.dumps(result))
