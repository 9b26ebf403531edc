"""Send VRRPv3 adverts (RFC 5798) to one host, as a router that claims an address with a priority.

Arguments: the host's address, the address claimed, the router id, the priority, how many. One each
tenth of a second; prints how many were sent, as JSON.
"""

import json
import socket
import struct
import sys
import time

VRRP = 112
target, claimed, router, priority, count = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
    found.connect((target, 9))
    own = found.getsockname()[0]


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


# Version 3, type 1 (advert); one address; adverts each second (hundredths).
head = struct.pack("!BBBBH", 0x31, int(router), int(priority), 1, 100)
body = socket.inet_aton(claimed)
pseudo = socket.inet_aton(own) + socket.inet_aton(target)
pseudo += struct.pack("!BBH", 0, VRRP, len(head) + 2 + len(body))
advert = head + struct.pack("!H", checksum(pseudo + head + b"\0\0" + body)) + body
with socket.socket(socket.AF_INET, socket.SOCK_RAW, VRRP) as raw:
    raw.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
    for _ in range(int(count)):
        raw.sendto(advert, (target, 0))
        time.sleep(0.1)
print(json.dumps({"sent": int(count)}))
