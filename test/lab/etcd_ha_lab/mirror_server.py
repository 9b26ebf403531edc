"""The mirror itself, a process of its own in the lab's network.

Usage: mirror_server.py ADDRESS OVER CACHE

/etcd/... is looked up in OVER first (planted faults), then in CACHE/etcd.
/apt/KEY/... is CACHE/base/KEY/packages.
"""

import os
import sys
import urllib.parse
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class Mirror(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # apt asks for many files: one connection is enough
    server_version = "mirror"
    over = cache = ""

    def translate_path(self, path):
        words = urllib.parse.unquote(path.split("?")[0].split("#")[0]).split("/")
        words = [word for word in words if word not in ("", ".")]
        if ".." in words:
            return "/nonexistent"
        if words[:1] == ["etcd"]:
            planted = os.path.join(self.over, *words)
            return planted if os.path.isfile(planted) else os.path.join(self.cache, *words)
        if words[:1] == ["apt"] and len(words) > 2:
            return os.path.join(self.cache, "base", words[1], "packages", *words[2:])
        return "/nonexistent"

    def list_directory(self, path):
        self.send_error(404, "File not found")


def main() -> None:
    address, Mirror.over, Mirror.cache = sys.argv[1:]
    ThreadingHTTPServer((address, 80), Mirror).serve_forever()


if __name__ == "__main__":
    main()
