#!{{ python }} -I
"""Whether this balancer may hold the virtual address: exit code 0 means yes.

keepalived runs it every few seconds, as a user of its own. A balancer may not hold the address when
its program refuses connections, or when its path leads to no healthy member although that of
another balancer does. Where no path works (the cluster has no quorum) the address stays where it
is: nobody would serve it better, and moving it would only cost clients more time.

It looks twice before it says no. Its only argument is a JSON file, which names the URLs, the files
of the certificate, and seconds. Kept by Salt (etcd_ha).
"""

import json
import socket
import ssl
import sys
import time

DEAD, LOST, FINE = "dead", "lost", "fine"
# NOSPACE turns /health to 503 on every member at once, and reads still work.
REQUEST = b"GET /health?exclude=NOSPACE HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n"


def main(path):
    """The exit code for a settings file."""
    with open(path, encoding="utf-8") as file:
        settings = json.load(file)
    return 0 if may_hold(settings) else 1


def may_hold(settings):
    """Whether the address may be here, after a second look where the first one says no."""
    if _look(settings):
        return True
    time.sleep(settings["pause"])
    return _look(settings)


def _look(settings):
    own = path_by(settings["own"], settings, settings["timeout"])
    if own != LOST:
        return own == FINE
    seconds = settings["others_timeout"]
    return all(path_by(url, settings, seconds) != FINE for url in settings["others"])


def path_by(url, settings, timeout):
    """What comes of a request to a healthy member by this endpoint: DEAD, LOST or FINE."""
    scheme, _, place = url.partition("://")
    host, _, port = place.rpartition(":")
    host = host.strip("[]")
    try:
        plain = socket.create_connection((host, int(port)), timeout)
    except ConnectionRefusedError:
        return DEAD
    except OSError:
        return LOST
    try:
        with plain:
            plain.settimeout(timeout)
            if scheme != "https":
                return _asked(plain)
            with _context(settings).wrap_socket(plain, server_hostname=host) as secured:
                return _asked(secured)
    except (OSError, ValueError):
        return LOST


def _context(settings):
    context = ssl.create_default_context(cafile=settings["ca"])
    context.load_cert_chain(settings["certificate"], settings["key"])
    return context


def _asked(connection):
    connection.sendall(REQUEST)
    answer = b""
    while b"\r\n" not in answer and len(answer) < 1000:
        part = connection.recv(1000)
        if not part:
            break
        answer += part
    return FINE if answer.split(b" ")[1:2] == [b"200"] else LOST


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
