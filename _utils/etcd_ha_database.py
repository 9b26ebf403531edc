"""What a database file of etcd's says, read as it lies there: nothing of etcd need run.

A database is a bbolt file: pages of a B+ tree, of which two at the front are meta pages in turns.
https://github.com/etcd-io/bbolt/blob/v1.4.3/internal/common/page.go, meta.go and bucket.go; etcd's
buckets: https://github.com/etcd-io/etcd/blob/v3.6.14/server/storage/schema/bucket.go
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import etcd_ha_release

_MAGIC = 0xED0CDAED
_BRANCH, _LEAF, _META = 0x01, 0x02, 0x04
_HEADER, _ELEMENT = 16, 16
# What comes of a number in it that leads astray.
_BROKEN = (OSError, ValueError, struct.error, IndexError, ArithmeticError)
# Levels of its tree: 2^64 pages of two elements each would need no more.
_DEEPEST = 64
# Bytes of a revision whose key was not deleted by it.
_LIVE = 17


class DatabaseError(ValueError):
    """The file is no database of etcd's, or it is broken."""


@dataclass(frozen=True)
class Content:
    """What a database says of itself.

    ``index`` is that of the last entry of the log that is in it, ``term`` that entry's; ``version``
    is the storage version that etcd writes down from 3.6 on, ``3.6.0``, empty before.
    """

    revision: int = 0
    index: int = 0
    term: int = 0
    version: str = ""
    auth: bool = False


def content(path: str) -> Content:
    """Read a database or a snapshot (absolute path); raises DatabaseError where it is none."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as held:
            return _content(_Tree(held))
    except _BROKEN as err:
        raise DatabaseError(f"{path} is no database of etcd's: {err}") from err


def wrote(path: str) -> tuple[str, ...]:
    """The versions of etcd that a database is of: its storage's, and its cluster's (``3.6.0``).

    Those that it does not tell are left out; raises DatabaseError where it is none.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as held:
            tree = _Tree(held)
            found = [dict(tree.items(b"meta")).get(b"storageVersion", b"")]
            if tree.has(b"cluster"):
                found.append(dict(tree.items(b"cluster")).get(b"clusterVersion", b""))
    except _BROKEN as err:
        raise DatabaseError(f"{path} is no database of etcd's: {err}") from err
    told = (one.decode("ascii", "replace") for one in found)
    return tuple(one for one in told if etcd_ha_release.is_version(one))


def count_keys(path: str) -> int:
    """How many keys a database or snapshot has at its newest revision; raises DatabaseError.

    The bucket ``key`` has a record a revision: https://github.com/etcd-io/etcd/blob/v3.6.14/server/
    storage/mvcc/revision.go (17 bytes, and a ``t`` where the key was deleted).
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as held:
            found = {}
            for revision, name in _Tree(held).revisions():
                found[name] = len(revision) == _LIVE
            return sum(found.values())
    except _BROKEN as err:
        raise DatabaseError(f"{path} is no database of etcd's: {err}") from err


def _content(tree: "_Tree") -> Content:
    meta = dict(tree.items(b"meta"))
    last = tree.last(b"key")
    version = meta.get(b"storageVersion", b"").decode("ascii", "replace")
    auth = dict(tree.items(b"auth")).get(b"authEnabled", b"\0") if tree.has(b"auth") else b"\0"
    return Content(
        revision=struct.unpack(">Q", last[:8])[0] if last else 1,
        index=_number(meta.get(b"consistent_index", b"")),
        term=_number(meta.get(b"term", b"")),
        version=version,
        auth=auth == b"\1",
    )


def _number(data: bytes) -> int:
    return int(struct.unpack(">Q", data)[0]) if len(data) == 8 else 0


class _Tree:
    """The file's buckets, through the newer one of its meta pages that is whole."""

    def __init__(self, held: mmap.mmap) -> None:
        self.held = held
        self.size, self.root = self._meta()

    def _meta(self) -> tuple[int, int]:
        found = []
        # The second page begins where the first one says that pages do.
        for at in (0, *(1 << shift for shift in range(9, 17))):
            if at + 80 > len(self.held):
                break
            magic, version, size = struct.unpack_from("<III", self.held, at + _HEADER)
            if magic == _MAGIC and version == 2 and at in (0, size):
                body = self.held[at + _HEADER : at + _HEADER + 56]
                (checksum,) = struct.unpack_from("<Q", self.held, at + _HEADER + 56)
                if _fnv(body) == checksum:
                    (root,) = struct.unpack_from("<Q", body, 16)
                    (transaction,) = struct.unpack_from("<Q", body, 48)
                    found.append((transaction, size, root))
        if not found:
            raise ValueError("neither of its two meta pages is whole")
        _, size, root = max(found)
        return size, root

    def has(self, bucket: bytes) -> bool:
        """Whether it has a bucket of this name."""
        return any(name == bucket for name, _ in self._leaves(self.root))

    def items(self, bucket: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All of a small bucket."""
        return self._walk(*self._bucket(bucket))

    def revisions(self) -> Iterator[tuple[bytes, bytes]]:
        """Each revision in order, and the name of the key that it is of."""
        inline, root = self._bucket(b"key")
        for at, index in self._leaf_places(root * self.size if root else inline):
            revision, value_at = self._leaf(at, index)
            (length,) = struct.unpack_from("<I", self.held, at + _HEADER + index * _ELEMENT + 12)
            if not length:
                # What a bump of the revision leaves (etcdutl/snapshot/v3_snapshot.go).
                continue
            # mvccpb.KeyValue: the key is field 1 and comes first.
            if self.held[value_at] != 0x0A:
                raise ValueError("a record is no key of etcd's")
            size, begin = _varint(self.held, value_at + 1)
            yield revision, self.held[begin : begin + size]

    def last(self, bucket: bytes) -> bytes:
        """The last key of a bucket, empty where it holds none."""
        at, root = self._bucket(bucket)
        if root:
            at = root * self.size
        for _ in range(_DEEPEST):
            flags, count = struct.unpack_from("<HH", self.held, at + 8)
            if not count:
                return b""
            if flags & _LEAF:
                return self._leaf(at, count - 1)[0]
            if not flags & _BRANCH:
                raise ValueError("a page is neither branch nor leaf")
            element = at + _HEADER + (count - 1) * _ELEMENT
            (page,) = struct.unpack_from("<Q", self.held, element + 8)
            at = page * self.size
        raise ValueError("its pages lead in a circle")

    def _bucket(self, wanted: bytes) -> tuple[int, int]:
        """Where a bucket's page lies: its offset where it is inline, else its page's number."""
        for at, index in self._leaf_places(self.root * self.size):
            name, value_at = self._leaf(at, index)
            if name == wanted:
                (root,) = struct.unpack_from("<Q", self.held, value_at)
                return value_at + 16, int(root)
        raise ValueError(f"it has no bucket {wanted.decode()!r}")

    def _leaves(self, root: int) -> Iterator[tuple[bytes, int]]:
        for at, index in self._leaf_places(root * self.size):
            yield self._leaf(at, index)

    def _walk(self, inline: int, root: int) -> Iterator[tuple[bytes, bytes]]:
        for at, index in self._leaf_places(root * self.size if root else inline):
            key, value_at = self._leaf(at, index)
            element = at + _HEADER + index * _ELEMENT
            (size,) = struct.unpack_from("<I", self.held, element + 12)
            yield key, self.held[value_at : value_at + size]

    def _leaf_places(self, root: int) -> Iterator[tuple[int, int]]:
        """Every element of every leaf below a page, in order."""
        waiting, left = [root], len(self.held) // self.size + 1
        while waiting:
            at, left = waiting.pop(), left - 1
            if left < 0:
                # A page is in a tree but once, so there are more than the file can hold.
                raise ValueError("its pages lead in a circle")
            flags, count = struct.unpack_from("<HH", self.held, at + 8)
            if flags & _LEAF:
                yield from ((at, index) for index in range(count))
            elif flags & _BRANCH:
                first = at + _HEADER + 8
                places = (first + index * _ELEMENT for index in range(count))
                pages = [struct.unpack_from("<Q", self.held, place)[0] for place in places]
                waiting += [page * self.size for page in reversed(pages)]
            else:
                raise ValueError("a page is neither branch nor leaf")

    def _leaf(self, at: int, index: int) -> tuple[bytes, int]:
        """The key of an element, and where its value begins."""
        element = at + _HEADER + index * _ELEMENT
        _, place, key_size, _ = struct.unpack_from("<IIII", self.held, element)
        begin = element + place
        return bytes(self.held[begin : begin + key_size]), begin + key_size


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number has no end")


def _fnv(data: bytes) -> int:
    """FNV-1a of 64 bits, by which bbolt checks its meta pages."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value
