"""How a balancer chooses a member for a connection: ``balancer:balance``, in HAProxy's words.

HAProxy's own are in its configuration.txt ("balance"), of those for TCP: what looks at HTTP is of
no use where TLS passes through. nginx has its own in ngx_stream_upstream_module; its ``random`` is
of 1.15.1, and the enterprise distributions' nginx may be older.
"""

from collections.abc import Mapping

# kind -> balance -> the lines of the program's own configuration.
_LINES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "haproxy": {
        "leastconn": ("balance leastconn",),
        "roundrobin": ("balance roundrobin",),
        "static-rr": ("balance static-rr",),
        # Otherwise a member that fails moves the clients of all others, and an attempt that failed
        # is repeated at the same member: chash_get_server_hash alone can leave one out (HAProxy's
        # src/lb_chash.c).
        "source": ("balance source", "hash-type consistent"),
        "random": ("balance random",),
        "first": ("balance first",),
    },
    "nginx": {
        "leastconn": ("least_conn",),
        # What nginx does where it is told nothing.
        "roundrobin": (),
        "source": ("hash $remote_addr consistent",),
    },
}


def fault(kind: object, balance: object) -> str:
    """Why this cannot be a balancer's way to choose, as the end of a sentence; empty if it can.

    kind
        ``balancer:kind``, whatever the pillar holds.

    balance
        ``balancer:balance``, whatever the pillar holds.
    """
    known = _LINES.get(kind, {}) if isinstance(kind, str) else {}
    if not known or (isinstance(balance, str) and balance in known):
        # A wrong kind is a fault of its own.
        return ""
    cure = f"use {' or '.join(known)}"
    others = [other for other in _LINES if isinstance(balance, str) and balance in _LINES[other]]
    if others:
        return f"which {kind} does not know; {cure}, or balancer:kind {others[0]}"
    return cure


def lines(kind: str, balance: str) -> list[str]:
    """What the configuration of this kind of balancer says for it, a line each.

    kind
        ``haproxy`` or ``nginx``.

    balance
        A way to choose that this kind knows.
    """
    return list(_LINES[kind][balance])
