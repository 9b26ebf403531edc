"""What the faces do in one way: refuse bad arguments, and show errors as Salt shows them.

Salt shows two exceptions as a sentence, and every other one as a traceback. The logic knows
neither: it raises errors of its own. Here they become Salt's, and nowhere else in ``_utils``.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import etcd_ha_arguments
import etcd_ha_client
import etcd_ha_common_systemd
import etcd_ha_etcdctl
from etcd_ha_common_process import ProgramError
from etcd_ha_common_systemd import Unit
from salt.exceptions import CommandExecutionError, SaltInvocationError

# Where a person finds out more.
LOG = "Look at: journalctl -u etcd"
HEALTH = "Look at: salt-run etcd_ha.status"


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
    """Have errors of these kinds shown as a sentence, and behind it what to do next.

    A program that failed is one of them in any case.
    """
    known: tuple[type[Exception], ...] = (*kinds, ProgramError)
    try:
        yield
    except known as err:
        raise CommandExecutionError(f"{err}. {cure}" if cure else str(err)) from err


def changed(ret: dict[str, Any], test: bool, done: str = "changed") -> dict[str, Any]:
    """A state's return once its changes are made, or known under ``test``; as it is without any.

    ``done`` says in its comment what was done, or would be.
    """
    if not ret["changes"]:
        return ret
    return {
        **ret,
        "result": None if test else True,
        "comment": f"would be {done}" if test else done,
    }


def python() -> str:
    """Salt's own Python, by the name that stays the same when Salt is upgraded."""
    own = sys.executable
    steady = os.path.join(os.path.dirname(own), "python3")
    # A name such as python3.10 is gone with the next Python that Salt's packages bring.
    return steady if os.path.realpath(steady) == os.path.realpath(own) else own


def member() -> dict[str, Any]:
    """The member that this host is by its files."""
    found = etcd_ha_client.member_on_disk()
    if found is None:
        raise CommandExecutionError(
            "no etcd member is configured here; run salt-run state.orchestrate etcd_ha.orch"
        )
    return found


def of_cluster(host: Mapping[str, Any], cluster: str) -> dict[str, Any]:
    """The member of this cluster that a host is by its pillar (a mapping of ``etcd_ha.host``)."""
    found: dict[str, Any] | None = host["member"]
    if not found or found["cluster"] != cluster:
        raise CommandExecutionError(
            f"{host['minion']} is no member of {cluster} by its pillar. Run "
            f"salt {host['minion']} saltutil.refresh_pillar, then this again"
        )
    return found


def unit(name: str) -> Unit:
    """A unit as systemd has it; raises CommandExecutionError where that is not known."""
    with told(cure=f"Try: systemctl status {name}"):
        return etcd_ha_common_systemd.unit(name)


def status(
    member: Mapping[str, Any], timeout: float, endpoint: str | None = None
) -> list[dict[str, Any]]:
    """What this member's etcd says of itself, in one row at least; ``timeout`` in seconds."""
    with told(etcd_ha_etcdctl.EtcdctlError, cure=LOG):
        rows = etcd_ha_client.status(member, timeout, endpoint)
    if not rows:
        raise CommandExecutionError(f"etcd does not answer here. {LOG}")
    return rows
