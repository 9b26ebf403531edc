"""Keys and values of etcd as etcdctl takes and tells them, and as they may be shown to people."""

from collections.abc import Sequence

import etcd_ha_access
import etcd_ha_etcdctl
import etcd_ha_plain

HIDDEN = "(not shown)"
# More than so many keys are counted, not named.
NAMED = 100


def get(key: str) -> list[str]:
    """etcdctl's arguments to read one key, from a member that may be asked alone."""
    return ["get", "-w", "json", "--", key]


def list_keys(key: str, prefix: bool) -> list[str]:
    """etcdctl's arguments to name a key, or all keys that begin so."""
    return ["get", "-w", "json", "--keys-only", *(["--prefix"] if prefix else []), "--", key]


def put(key: str, value: str) -> tuple[list[str], str | None]:
    """etcdctl's arguments to write a key, and what it shall read on its standard input.

    The value is never an argument, which every user of the host can read. etcdctl takes no empty
    input for a value, and there is nothing to hide in an empty one.
    """
    return (["put", "--", key], value) if value else (["put", "--", key, ""], None)


def delete(key: str, prefix: bool) -> list[str]:
    """etcdctl's arguments to delete a key, or all keys that begin so."""
    return ["del", *(["--prefix"] if prefix else []), "--", key]


def pairs(document: object) -> dict[str, bytes]:
    """The keys and values of an answer to ``get``; a key that is no text is shown escaped."""
    rows = etcd_ha_etcdctl.rows(etcd_ha_etcdctl.table(document).get("kvs"), "kvs")
    coded = etcd_ha_etcdctl.coded
    return {
        coded(one, "key").decode("utf-8", "backslashreplace"): coded(one, "value") for one in rows
    }


def shown(value: bytes | None, secret: bool) -> str | None:
    """A value for people; None where there is none."""
    if value is None:
        return None
    if secret:
        return HIDDEN
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return f"({len(value)} bytes that are no text)"


def named(keys: Sequence[str]) -> list[str]:
    """Keys by name, and beyond some by number."""
    more = len(keys) - NAMED
    return [*keys[:NAMED], *([f"and {more} more"] if more > 0 else [])]


def key_fault(key: object) -> str:
    """Why this is no key; empty where it is one."""
    if not isinstance(key, str) or not key:
        return f"the key is {etcd_ha_plain.shown(key)}; give text that is not empty"
    if "\0" in key:
        return f"the key is {etcd_ha_plain.shown(key)}; etcdctl takes no NUL character"
    if len(key.encode("utf-8", "surrogatepass")) > etcd_ha_access.LONGEST_KEY:
        return f"the key is longer than {etcd_ha_access.LONGEST_KEY} bytes; give a shorter one"
    try:
        key.encode()
    except UnicodeEncodeError:
        return f"the key is {etcd_ha_plain.shown(key)}; give text of whole characters"
    return ""
