"""What stands in a member's environment file, and in that of root's etcdctl."""

import etcd_ha_certificates
import etcd_ha_maintenance
import etcd_ha_options
import etcd_ha_release
from etcd_ha_topology import Cluster, Member

# Read only while a data directory is empty: a difference here needs no restart.
# https://etcd.io/docs/v3.6/op-guide/configuration/#clustering ("ignored if already bootstrapped")
BOOTSTRAP_ONLY = frozenset(
    {"ETCD_INITIAL_CLUSTER", "ETCD_INITIAL_CLUSTER_STATE", "ETCD_INITIAL_CLUSTER_TOKEN"}
)
# Acts at a process's start alone, and stands in no file that outlives the start that a recovery
# gave it to: the next start is without it anyhow.
STARTED_WITH = frozenset({"ETCD_FORCE_NEW_CLUSTER"})
MEMORY_LOCKS = ("ETCD_MEMORY_MLOCK", "ETCD_EXPERIMENTAL_MEMORY_MLOCK")
GATES = "ETCD_FEATURE_GATES"
PEER_NAME = "ETCD_PEER_CERT_ALLOWED_HOSTNAME"


def pki_dir(member: Member) -> str:
    """The directory of the certificates on a member."""
    return f"{member.settings['config_dir']}/pki"


def initial_cluster(cluster: Cluster) -> str:
    """All members as ``name=peer URL``, in the pillar's order."""
    return ",".join(f"{member.name}={cluster.peer_url(member)}" for member in cluster.members)


def variables(
    cluster: Cluster, member: Member, transport: str | None = None, peer_name: str | None = None
) -> dict[str, str]:
    """Every ``ETCD_*`` variable of a member, for ``initial-cluster-state: existing``.

    ``transport`` is the pillar's (None), ``http``, ``https``, or ``both`` between them: the member
    then listens to its peers and names itself to clients in plain, holds the certificates to reach
    those that want TLS, and serves clients both ways on one port. So plain and TLS members are
    never side by side, but each beside such ones.

    ``peer_name`` is the name that peers' certificates must have while the CA is exchanged: what the
    member has it at now, since not all have certificates of the new CA yet; None for the pillar's.

    ``new`` never stands in the file: a wiped majority that starts with ``new`` forms an empty
    cluster under the old cluster id. A bootstrap hands ``new`` to its first start only.
    """
    ports = member.settings["ports"]
    scheme = spoken(cluster, transport)
    plain = "http" if transport == "both" else scheme
    peer = member.url(plain, ports["peer"])
    result = {
        "ETCD_NAME": member.name,
        "ETCD_DATA_DIR": member.settings["data_dir"],
        "ETCD_INITIAL_CLUSTER": initial_cluster(cluster),
        "ETCD_INITIAL_CLUSTER_STATE": "existing",
        "ETCD_INITIAL_CLUSTER_TOKEN": cluster.token,
        "ETCD_INITIAL_ADVERTISE_PEER_URLS": peer,
        "ETCD_LISTEN_PEER_URLS": peer,
        "ETCD_ADVERTISE_CLIENT_URLS": member.url(plain, ports["client"]),
        "ETCD_LISTEN_CLIENT_URLS": _client_urls(member, scheme, transport == "both"),
        "ETCD_LISTEN_METRICS_URLS": f"http://127.0.0.1:{ports['metrics']}",
    }
    if member.settings["wal_dir"]:
        # Not the directory itself: etcd makes its log as <path>.tmp and renames that, which needs
        # the parent to be writable and no mount point (server/storage/wal/wal.go, Create).
        result["ETCD_WAL_DIR"] = f"{member.settings['wal_dir']}/wal"
    if transport == "both" or scheme == "https":
        result.update(_tls(cluster, member))
        result.update(_peers_alone(cluster, member, peer_name))
    result.update(_of_version(cluster.version))
    options = member.settings["options"]
    settings = member.settings
    if transport == "both":
        # In plain, too, for the time being.
        settings = {**settings, "tls": {**cluster.settings["tls"], "enabled": False}}
    result.update(etcd_ha_maintenance.variables(member.settings["maintenance"], options))
    for flag, text in etcd_ha_options.allowed(cluster.version, options, settings).items():
        name = etcd_ha_options.variable(flag)
        result[name] = _gates(result[name], text) if name == GATES and name in result else text
    return result


def spoken(cluster: Cluster, transport: str | None) -> str:
    """The scheme by which clients are served, and between two transports the old one of them."""
    if transport == "both":
        return "http" if cluster.tls else "https"
    return transport or cluster.scheme


def _client_urls(member: Member, scheme: str, both: bool) -> str:
    """Where clients are served; etcd tells TLS from plain on one port (embed/serve.go, cmux)."""
    port = member.settings["ports"]["client"]
    other = {"http": "https", "https": "http"}[scheme]
    schemes = [other, scheme] if both else [scheme]
    urls = [member.url(one, port) for one in schemes]
    return ",".join(urls + [f"{one}://127.0.0.1:{port}" for one in schemes])


def _gates(ours: str, theirs: str) -> str:
    """The user's feature gates beside the formula's; where both name a gate, the user's counts."""
    pairs = [gate.partition("=") for gate in f"{ours},{theirs}".split(",") if gate]
    return ",".join(f"{gate}={value}" for gate, value in {g: v for g, _, v in pairs}.items())


def _tls(cluster: Cluster, member: Member) -> dict[str, str]:
    pki = pki_dir(member)
    result = {
        "ETCD_CERT_FILE": f"{pki}/server.crt",
        "ETCD_KEY_FILE": f"{pki}/server.key",
        "ETCD_TRUSTED_CA_FILE": f"{pki}/ca.crt",
        "ETCD_CLIENT_CERT_AUTH": "true",
        "ETCD_PEER_CERT_FILE": f"{pki}/peer.crt",
        "ETCD_PEER_KEY_FILE": f"{pki}/peer.key",
        "ETCD_PEER_TRUSTED_CA_FILE": f"{pki}/ca.crt",
        "ETCD_PEER_CLIENT_CERT_AUTH": "true",
    }
    # 3.5.8 knows tls-min-version too; from 3.5.9 on the formula owns it (etcd_ha_options).
    version = etcd_ha_release.parse(cluster.version)
    if version >= etcd_ha_release.Version(3, 5, 9):
        result["ETCD_TLS_MIN_VERSION"] = cluster.settings["tls"]["minimum_version"]
    return result


def _peers_alone(cluster: Cluster, member: Member, now: str | None) -> dict[str, str]:
    """Whose certificates open the peer port: those of the cluster's peers, and no others of its CA.

    etcd asks of a certificate there only that the CA signed it, for a client: any client's would do
    to speak in the name of a member. Certificates of the user's own have no such name.
    https://etcd.io/docs/v3.6/op-guide/security/ (peer-cert-allowed-hostname)
    """
    theirs = {"peer-cert-allowed-cn", "peer-cert-allowed-hostname"} & set(
        member.settings["options"]
    )
    if theirs or cluster.settings["tls"]["source"] != "salt":
        return {}
    name = etcd_ha_certificates.PEER_NAME if now is None else now
    return {PEER_NAME: name} if name else {}


def _of_version(text: str) -> dict[str, str]:
    """The safe choices that a release line does not make by itself.

    Corruption checks: https://etcd.io/docs/v3.6/op-guide/data_corruption/
    """
    line = etcd_ha_release.parse(text).line
    if line == "3.4":
        return {"ETCD_LOGGER": "zap", "ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK": "true"}
    if line == "3.5":
        # 3.6's own default: what 3.4 wrote leaves the log sooner, which 3.6 refuses to replay.
        checks = ("INITIAL_CORRUPT_CHECK", "COMPACT_HASH_CHECK_ENABLED")
        found = {f"ETCD_EXPERIMENTAL_{check}": "true" for check in checks}
        return {**found, "ETCD_SNAPSHOT_COUNT": "10000"}
    return {GATES: "InitialCorruptCheck=true,CompactHashCheck=true"}


def needs_restart(running: dict[str, str], wanted: dict[str, str]) -> dict[str, dict[str, str]]:
    """Which variables the running process has otherwise: name -> {old, new}, '' where unset.

    An empty variable is an unset one to etcd, too (pkg/flags, setFlagFromEnv).
    """
    ours = {
        k: v for k, v in running.items() if k.startswith("ETCD_") and not k.startswith("ETCDCTL")
    }
    names = (ours.keys() | wanted.keys()) - BOOTSTRAP_ONLY - STARTED_WITH
    return {
        name: {"old": ours.get(name, ""), "new": wanted.get(name, "")}
        for name in sorted(names)
        if ours.get(name, "") != wanted.get(name, "")
    }


def client_variables(
    cluster: Cluster, member: Member, transport: str | None = None
) -> dict[str, str]:
    """What makes root's plain ``etcdctl`` on a member speak to the whole cluster.

    No ETCDCTL_API: 3 is the default since 3.4, and 3.6 warns of the variable at every call.
    """
    scheme = spoken(cluster, transport)
    urls = [m.url(scheme, m.settings["ports"]["client"]) for m in cluster.members]
    result = {"ETCDCTL_ENDPOINTS": ",".join(urls)}
    if scheme == "https" or transport == "both":
        pki = pki_dir(member)
        result["ETCDCTL_CACERT"] = f"{pki}/ca.crt"
        result["ETCDCTL_CERT"] = f"{pki}/admin.crt"
        result["ETCDCTL_KEY"] = f"{pki}/admin.key"
    return result


def file_text(values: dict[str, str]) -> str:
    """An environment file as systemd and a shell read it; values are double-quoted."""
    return "".join(f'{name}="{_escaped(value)}"\n' for name, value in values.items())


def parse_file(text: str) -> dict[str, str]:
    """Read back what ``file_text`` wrote; comments and blank lines are passed over."""
    result = {}
    for line in text.splitlines():
        name, found, value = line.strip().partition("=")
        if found and not name.startswith("#"):
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = _unescaped(value[1:-1])
            result[name.strip()] = value
    return result


def _escaped(value: str) -> str:
    for character in ("\\", '"', "$", "`"):
        value = value.replace(character, "\\" + character)
    return value


def _unescaped(value: str) -> str:
    result, escaped = "", False
    for character in value:
        if character == "\\" and not escaped:
            escaped = True
            continue
        result, escaped = result + character, False
    return result
