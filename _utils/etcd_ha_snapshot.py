"""A snapshot of etcd's as a file: whether it is whole, and what it holds."""

import hashlib
import os

_HASH = 32


def verified_hash(path: str) -> str:
    """The sha256 that stands at the end of a snapshot, once it has been found right.

    https://github.com/etcd-io/etcd/blob/v3.6.14/etcdutl/snapshot/v3_snapshot.go: the size is a
    multiple of 512 and then 32 bytes, and these are the sha256 of all before them. Raises
    ValueError.
    """
    wanted, left, found = told_hash(path), os.path.getsize(path) - _HASH, hashlib.sha256()
    with open(path, "rb") as file:
        while left:
            block = file.read(min(left, 1 << 20))
            if not block:
                raise ValueError("the snapshot became shorter while it was read")
            left -= len(block)
            found.update(block)
    if found.hexdigest() != wanted:
        raise ValueError("the snapshot's own hash is wrong: it is corrupt")
    return wanted


def told_hash(path: str) -> str:
    """The sha256 at the end of a snapshot, as it stands there; raises ValueError where none can."""
    size = os.path.getsize(path)
    if size % 512 != _HASH:
        raise ValueError(f"the snapshot has {size} bytes: it is cut off, without a hash")
    with open(path, "rb") as file:
        file.seek(size - _HASH)
        return file.read().hex()
