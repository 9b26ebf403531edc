"""A log and a database as etcd lays them out, made by hand: small, and broken where wanted."""

import struct

import etcd_ha_log

PAGE = 4096


def varint(value):
    found = b""
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def message(*fields):
    """A protobuf message of (number, value) pairs: numbers as varints, bytes with their length."""
    found = b""
    for number, value in fields:
        if isinstance(value, bytes):
            found += varint(number << 3 | 2) + varint(len(value)) + value
        else:
            found += varint(number << 3) + varint(value)
    return found


def record(kind, data, checksum=12345):
    body = message((1, kind), (2, checksum), (3, data))
    padding = -len(body) % 8
    length = len(body) | ((0x80 | padding) << 56 if padding else 0)
    return struct.pack("<Q", length) + body + b"\0" * padding


def entry(term, index, data=b"x"):
    return record(2, message((1, 0), (2, term), (3, index), (4, data)))


def state(term, commit):
    return record(3, message((1, term), (2, 7), (3, commit)))


def metadata(member, cluster, before=0):
    """The ids, with their checksum, as it follows that of the records before."""
    data = message((1, member), (2, cluster))
    return record(1, data, etcd_ha_log.crc32c(data, before))


def checksum(value):
    return record(4, b"", value)


def snapshot(index, term):
    return record(5, message((1, index), (2, term)))


def log(folder, *files):
    """A directory of log files, each of these records, with zeros behind them as etcd allots."""
    folder.mkdir(parents=True)
    for number, records in enumerate(files):
        path = folder / f"{number:016x}-{number:016x}.wal"
        path.write_bytes(b"".join(records) + b"\0" * 4096)
    return str(folder)


def key_value(name, value=b"v"):
    return message((1, name), (2, 1), (3, 1), (4, 1), (5, value))


def revision(number, deleted=False):
    return struct.pack(">QcQ", number, b"_", 0) + (b"t" if deleted else b"")


def leaf(page, items, is_bucket=False):
    """A leaf page; ``items`` are sorted (key, value) pairs."""
    elements, data = b"", b""
    for number, (key, value) in enumerate(items):
        place = (len(items) - number) * 16 + len(data)
        elements += struct.pack("<IIII", int(is_bucket), place, len(key), len(value))
        data += key + value
    return (struct.pack("<QHHI", page, 2, len(items), 0) + elements + data).ljust(PAGE, b"\0")


def branch(page, children):
    """A branch page of (key, page) pairs."""
    elements, data = b"", b""
    for number, (key, child) in enumerate(children):
        place = (len(children) - number) * 16 + len(data)
        elements += struct.pack("<IIQ", place, len(key), child)
        data += key
    return (struct.pack("<QHHI", page, 1, len(children), 0) + elements + data).ljust(PAGE, b"\0")


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) % (1 << 64)
    return value


def meta(page, root, transaction):
    body = struct.pack("<IIII", 0xED0CDAED, 2, PAGE, 0)
    body += struct.pack("<QQQQQ", root, 0, 0, 9, transaction)
    header = struct.pack("<QHHI", page, 4, 0, 0)
    return (header + body + struct.pack("<Q", fnv(body))).ljust(PAGE, b"\0")


def database(path, keys, told, newest=2):
    """``keys`` are (revision, value) pairs over two leaves, ``told`` the meta bucket."""
    half = max(1, len(keys) // 2)
    first, second = keys[:half], keys[half:]
    buckets = [(b"key", struct.pack("<QQ", 4, 0)), (b"meta", struct.pack("<QQ", 7, 0))]
    pages = [
        meta(0, 3, newest),
        meta(1, 99, newest - 1),
        leaf(2, []),
        leaf(3, buckets, is_bucket=True),
        branch(4, [(first[0][0], 5), *([(second[0][0], 6)] if second else [])]),
        leaf(5, first),
        leaf(6, second),
        leaf(7, sorted(told.items())),
    ]
    path.write_bytes(b"".join(pages))
    return str(path)
