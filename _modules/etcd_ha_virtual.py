"""
The virtual address of a cluster's balancers, as one of them sees it.
"""

import os
import time

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_client
import etcd_ha_faces
import etcd_ha_host
import etcd_ha_virtual
from salt.exceptions import CommandExecutionError

__virtualname__ = "etcd_ha_virtual"

SYSTEM_PYTHON = "/usr/bin/python3"


def __virtual__():
    return __virtualname__


def interface(address):
    """
    The network interface that has an address.

    address
        An IP address (text).

    Returns the interface's name (text).

    Raises CommandExecutionError when no interface of this host has it.

    CLI Example:

    .. code-block:: bash

        salt lb.example.com etcd_ha_virtual.interface 192.168.200.56
    """
    etcd_ha_faces.sound(locals())
    with etcd_ha_faces.told(cure="Try: ip address"):
        found = etcd_ha_virtual.interface_of(address, etcd_ha_virtual.addresses())
    if not found:
        raise CommandExecutionError(
            f"no network interface here has the address {address}. Correct the address under "
            "load_balancers, or set balancer:virtual_address:interface"
        )
    return found


def python():
    """
    The Python that runs the check of a balancer's path: the system's, else Salt's own.

    Returns an absolute path (text).

    CLI Example:

    .. code-block:: bash

        salt lb.example.com etcd_ha_virtual.python
    """
    return SYSTEM_PYTHON if os.path.exists(SYSTEM_PYTHON) else etcd_ha_faces.python()


def former():
    """
    What the last converge left here of a virtual address, to be taken away when it is unwanted.

    Returns a dict: ``address``, ``check``, ``settings``, ``drop_in``, ``nonlocal`` and ``user``
    (text); empty where there was no such address.

    Raises CommandExecutionError where the formula's files cannot be had from the master.

    CLI Example:

    .. code-block:: bash

        salt lb.example.com etcd_ha_virtual.former
    """
    mark = etcd_ha_client.mark().get("balancer", {})
    if not mark.get("virtual_address"):
        return {}
    service = __salt__["etcd_ha.os_data"]()["keepalived"]["service"]
    return {
        "address": mark["virtual_address"],
        "check": etcd_ha_virtual.CHECK,
        "settings": etcd_ha_host.check_settings_file(mark["cluster"]),
        "drop_in": f"/etc/systemd/system/{service}.service.d/etcd_ha.conf",
        "nonlocal": etcd_ha_virtual.NONLOCAL,
        "user": etcd_ha_virtual.USER,
    }


def fit(timeout=30):
    """
    Wait until this balancer can take the virtual address over: its path works, keepalived runs.

    timeout : 30
        Seconds (int or float) to wait.

    Returns the address (text).

    Raises CommandExecutionError that says what is wrong when the time is over.

    CLI Example:

    .. code-block:: bash

        salt lb2.example.com etcd_ha_virtual.fit
    """
    etcd_ha_faces.sound(locals())
    ends = time.monotonic() + float(timeout)
    while True:
        found = __salt__["etcd_ha.health"]()
        if found["healthy"] and found.get("virtual_address"):
            return found["virtual_address"]
        if time.monotonic() > ends:
            raise CommandExecutionError(
                f"this balancer cannot take the virtual address over: "
                f"{found.get('error', 'it has none')}. The one that holds it was not touched; mend "
                "this one, and run the orchestrate again"
            )
        time.sleep(1)
