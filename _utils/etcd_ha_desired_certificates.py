"""What the certificates of a host must say so that the cluster works with them, whoever made them.

Only what the formula itself, etcd and the declared clients depend on: certificates of the cluster's
own CA say more (etcd_ha_certificates), and users' own need not.
"""

from etcd_ha_certificates import alternative_name
from etcd_ha_common_certificate_checks import Need
from etcd_ha_topology import Cluster, Member

_BOTH = ("serverAuth", "clientAuth")
# By these options of etcd's, its peers are told from other clients.
_PEER_NAME, _PEER_COMMON_NAME = "peer-cert-allowed-hostname", "peer-cert-allowed-cn"


def needed(cluster: Cluster, purpose: str, minion: str) -> Need:
    """What the certificate of this purpose (server, peer, admin, check) must say on this host."""
    member = cluster.member(minion)
    if member is not None and purpose == "server":
        return Need(_BOTH, _of_server(cluster, member))
    if member is not None and purpose == "peer":
        return _of_peer(member)
    # With authentication on, a common name is a user of etcd's: root's has one, a balancer's none.
    managed = cluster.settings["access"]["enabled"] is True
    if purpose == "admin":
        return Need(("clientAuth",), common_name="root" if managed else "")
    return Need(("clientAuth",), nameless=managed)


def _of_server(cluster: Cluster, member: Member) -> tuple[str, ...]:
    """Where clients connect: the member, by loopback, through a balancer, or by a declared name."""
    through = [balancer.address for balancer in cluster.balancers]
    through += [cluster.virtual_address] if cluster.virtual_address else []
    found = [member.address, "127.0.0.1", *through, *cluster.settings["tls"]["names"]]
    return tuple(dict.fromkeys(map(alternative_name, found)))


def _of_peer(member: Member) -> Need:
    options = member.settings["options"]
    names = [alternative_name(member.address)]
    names += [f"DNS:{options[_PEER_NAME]}"] if options.get(_PEER_NAME) else []
    return Need(_BOTH, tuple(names), str(options.get(_PEER_COMMON_NAME) or ""))
