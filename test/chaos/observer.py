"""What each member tells a stranger, again and again, as lines of JSON; in the lab's network.

A member is healthy when it answers /health, which from etcd 3.5 on is a read that needs a quorum.
"""

import http.client
import json
import os
import ssl
import sys
import threading
import time

wanted = json.loads(sys.argv[1])
lock = threading.Lock()
stop = threading.Event()


def tell(row):
    with lock:
        print(json.dumps(row), flush=True)


def context(held):
    """TLS with the newest certificates that can be read; those of before while there are none."""
    for folder in wanted["pki"]:
        names = [f"{folder}/{name}" for name in ("ca.crt", "check.crt", "check.key")]
        try:
            stamp = tuple(os.stat(name).st_mtime for name in names)
            if held.get("stamp") != stamp:
                made = ssl.create_default_context(cafile=names[0])
                made.load_cert_chain(names[1], names[2])
                held.update(stamp=stamp, context=made)
            break
        except (OSError, ssl.SSLError):
            continue
    if "context" not in held:
        raise OSError("no certificates yet")
    return held["context"]


def ask(connection, method, path):
    connection.request(method, path, "{}" if method == "POST" else None)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise OSError(f"{answer.status} to {path}")
    return json.loads(text)


def look(connection):
    """What one member tells of itself and of the others."""
    health = ask(connection, "GET", "/health")
    status = ask(connection, "POST", "/v3/maintenance/status")
    listed = ask(connection, "POST", "/v3/cluster/member/list")
    own = status["header"]["member_id"]
    members = [
        {"name": one.get("name", ""), "learner": bool(one.get("isLearner", one.get("is_learner")))}
        for one in listed.get("members", ())
    ]
    return {
        "healthy": health.get("health") in ("true", True),
        "cluster": status["header"]["cluster_id"],
        "leader": status.get("leader") == own,
        "revision": int(status["header"].get("revision", 0)),
        "version": status.get("version", ""),
        "members": members,
    }


def follow(host, address):
    connection, held = None, {}
    while not stop.is_set():
        began = time.monotonic()
        found = {"healthy": False, "cluster": "", "leader": False, "members": []}
        try:
            if connection is None:
                connection = http.client.HTTPSConnection(
                    address, wanted["port"], timeout=1, context=context(held)
                )
            found |= look(connection)
        except (OSError, ValueError, KeyError, http.client.HTTPException):
            if connection is not None:
                connection.close()
            connection = None
        tell({"at": time.monotonic(), "host": host, **found})
        stop.wait(max(0.05, wanted["interval"] - (time.monotonic() - began)))


for host, address in wanted["members"].items():
    threading.Thread(target=follow, args=(host, address), daemon=True).start()
while not os.path.exists(wanted["stop"]):
    time.sleep(0.2)
stop.set()
