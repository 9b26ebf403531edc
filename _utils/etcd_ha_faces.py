"""What the faces do in one way: refuse bad arguments, and show errors as Salt shows them.

Salt shows two exceptions as a sentence, and every other one as a traceback. The logic knows
neither: it raises errors of its own. Here they become Salt's, and nowhere else in ``_utils``.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import etcd_ha_arguments
import etcd_ha_client
import etcd_ha_etcdctl
from salt.exceptions import CommandExecutionError, SaltInvocationError

# Where a person finds out more.
LOG = "Look at: journalctl -u etcd"
HEALTH = "Look at: salt '*' etcd_ha.health"


def sound(given: Mapping[str, object], **kinds: str) -> None:
    """Refuse what no argument can be, before anything is done or anybody is asked.

    ``given`` are the function's ``locals()`` at its beginning, which are its parameters; ``kinds``
    are of those that mean something else than elsewhere.
    """
    fault = etcd_ha_arguments.fault(given, **kinds)
    if fault:
        raise SaltInvocationError(f"{fault}. Nothing was done")


@contextlib.contextmanager
def told(*kinds: type[Exception], cure: str = "") -> Iterator[None]:
    """Have errors of these kinds shown as a sentence, and behind it what to do next."""
    try:
        yield
    except kinds as err:
        raise CommandExecutionError(f"{err}. {cure}" if cure else str(err)) from err


def member() -> dict[str, Any]:
    """The member that this host is by its files."""
    found = etcd_ha_client.member_on_disk()
    if found is None:
        raise CommandExecutionError(
            "no etcd member is configured here; run salt-run state.orchestrate etcd_ha.orch"
        )
    return found


def status(
    member: Mapping[str, Any], timeout: float, endpoint: str | None = None
) -> list[dict[str, Any]]:
    """What this member's etcd says of itself, in one row at least; ``timeout`` in seconds."""
    with told(etcd_ha_etcdctl.EtcdctlError, cure=LOG):
        rows = etcd_ha_client.status(member, timeout, endpoint)
    if not rows:
        raise CommandExecutionError(f"etcd does not answer here. {LOG}")
    return rows
