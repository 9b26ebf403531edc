"""A snapshot of etcd's as a file: whether it is whole, and what it holds."""

import hashlib
import os
from collections.abc import Mapping

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
        raise ValueError(
            f"the snapshot has {size} bytes: it is cut off, or a plain copy of member/snap/db; a "
            "snapshot of etcdctl ends with its hash"
        )
    with open(path, "rb") as file:
        file.seek(size - _HASH)
        return file.read().hex()


def restore_command(
    program: str,
    snapshot: str,
    target: tuple[str, str],
    environment: Mapping[str, str],
    token: str,
    cluster: str,
    bump: int = 0,
    check: bool = True,
) -> list[str]:
    """The command line that makes a member's directories of a snapshot.

    ``program`` is etcdutl, etcdctl before 3.5; ``target`` the data directory and the log's (empty:
    with the data), which must not be there yet; ``cluster`` the initial cluster. ``check`` is off
    for a database that was not saved as a snapshot and bears no hash.
    """
    command = [program, "snapshot", "restore", snapshot, f"--data-dir={target[0]}"]
    command += [f"--wal-dir={target[1]}"] if target[1] else []
    command += [
        f"--name={environment['ETCD_NAME']}",
        f"--initial-advertise-peer-urls={environment['ETCD_INITIAL_ADVERTISE_PEER_URLS']}",
        f"--initial-cluster={cluster}",
        f"--initial-cluster-token={token}",
    ]
    command += [f"--bump-revision={bump}", "--mark-compacted"] if bump else []
    return command if check else [*command, "--skip-hash-check"]
