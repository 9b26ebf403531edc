"""Clusters that somebody else made by hand on the lab's hosts, each as people really make them.

A layout is built in hosts that never saw the formula: three running members at the addresses of the
usual pillar, with keys in them. ``look`` and ``whole`` say what such a cluster and its hosts are
like, for a comparison before and after.
"""

import json
import shlex
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lab_command import DOMAIN, HOSTS, MEMBERS

KEYS = {f"/theirs/{number}": f"value {number}" for number in range(5)}
TLS_FOLDER = "/etc/ssl/etcd"
FOLDER = "/opt/etcd-v{version}-linux-amd64"

# Unpacks a release of the lab's mirror to /opt, as a person does it below an URL of upstream.
UNPACK = """
import sys, tarfile, urllib.request
url, folder = sys.argv[1:]
with urllib.request.urlopen(url) as answer, tarfile.open(fileobj=answer, mode="r|gz") as archive:
    archive.extractall(folder)
"""

SERVICE = """[Unit]
Description=etcd
Documentation=https://etcd.io/docs/
After=network.target

[Service]
Type=notify
{settings}
Restart=on-failure
RestartSec=5s
LimitNOFILE=40000

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Layout:
    """How one cluster lies on its hosts. ``{host}``, ``{address}``, ... stand in its texts."""

    name: str
    data: str
    settings: str = ""
    unit: str = "etcd.service"
    # Path -> text; modes and owners are those that an editor leaves.
    files: dict = field(default_factory=dict)
    # Shell, as root, before the files are written and after it.
    before: str = ""
    after: str = ""
    tls: bool = False
    client: int = 2379
    hosts: tuple = MEMBERS
    # Where etcdctl is.
    programs: str = "/usr/local/bin"


def variables(*names):
    return "".join(f"{name}={VARIABLES[name]}\n" for name in names)


VARIABLES = {
    "ETCD_NAME": "{host}",
    "ETCD_LISTEN_PEER_URLS": "{scheme}://{address}:2380",
    "ETCD_LISTEN_CLIENT_URLS": "{scheme}://127.0.0.1:2379,{scheme}://{address}:2379",
    "ETCD_INITIAL_ADVERTISE_PEER_URLS": "{scheme}://{address}:2380",
    "ETCD_ADVERTISE_CLIENT_URLS": "{scheme}://{address}:2379",
    "ETCD_INITIAL_CLUSTER": "{everyone}",
    "ETCD_INITIAL_CLUSTER_TOKEN": "etcd-cluster",
    "ETCD_INITIAL_CLUSTER_STATE": "new",
}
TO_USR_LOCAL = f"install -m 755 {FOLDER}/etcd* /usr/local/bin/; rm -r {FOLDER}"

HOWTO = Layout(
    "howto",
    data="/{host}.etcd",
    before=TO_USR_LOCAL,
    settings="EnvironmentFile=/etc/default/etcd\nExecStart=/usr/local/bin/etcd",
    files={"/etc/default/etcd": variables(*VARIABLES)},
)

FLAGS = Layout(
    "flags",
    data="/data/etcd",
    tls=True,
    before=f"{TO_USR_LOCAL}; mkdir -p /data/etcd; chmod 700 /data/etcd",
    settings=" \\\n  ".join(
        [
            "ExecStart=/usr/local/bin/etcd",
            "--name {host}",
            "--data-dir /data/etcd",
            "--listen-peer-urls https://{address}:2380",
            "--listen-client-urls https://{address}:2379,https://127.0.0.1:2379",
            "--initial-advertise-peer-urls https://{address}:2380",
            "--advertise-client-urls https://{address}:2379",
            "--initial-cluster {everyone}",
            "--initial-cluster-token etcd-cluster-1",
            "--initial-cluster-state new",
            "--client-cert-auth --trusted-ca-file {tls}/etcd.pem",
            "--cert-file {tls}/etcd.pem --key-file {tls}/etcd-key.pem",
            "--peer-client-cert-auth --peer-trusted-ca-file {tls}/etcd.pem",
            "--peer-cert-file {tls}/etcd.pem --peer-key-file {tls}/etcd-key.pem",
        ]
    ),
)

CONFIG = Layout(
    "config",
    data="/srv/etcd",
    programs=FOLDER,
    settings=f"ExecStart={FOLDER}/etcd --config-file /etc/etcd/etcd.conf.yml",
    files={
        "/etc/etcd/etcd.conf.yml": """# This is the configuration file for the etcd server.
name: '{host}'
data-dir: /srv/etcd
listen-peer-urls: http://{address}:2380
listen-client-urls: http://{address}:2379,http://127.0.0.1:2379
initial-advertise-peer-urls: http://{address}:2380
advertise-client-urls: http://{address}:2379
initial-cluster: {everyone}
initial-cluster-token: 'etcd-cluster'
initial-cluster-state: 'new'
"""
    },
)

# The same under another name of its unit.
CONFIG_MAIN = Layout(
    "config-main",
    data=CONFIG.data,
    programs=CONFIG.programs,
    settings=CONFIG.settings,
    files=CONFIG.files,
    unit="etcd-main.service",
)

# The package starts a member of its own at once: who wants a cluster takes its data away first.
PACKAGE = Layout(
    "package",
    data="/var/lib/etcd/default",
    programs="/usr/bin",
    before="DEBIAN_FRONTEND=noninteractive apt-get -q -y install etcd-server etcd-client "
    "</dev/null; "
    "systemctl stop etcd; rm -rf /var/lib/etcd/default",
    files={
        "/etc/default/etcd": "## etcd(1) daemon options\n"
        "ETCD_DATA_DIR=/var/lib/etcd/default\n" + variables(*VARIABLES)
    },
)

KUBESPRAY = Layout(
    "kubespray",
    data="/var/lib/etcd",
    tls=True,
    before=f"{TO_USR_LOCAL}; useradd --system --shell /sbin/nologin etcd; "
    "install -d -m 700 -o etcd -g etcd /var/lib/etcd",
    settings="User=etcd\nEnvironmentFile=/etc/etcd.env\nExecStart=/usr/local/bin/etcd\n"
    "NotifyAccess=all",
    files={
        "/etc/etcd.env": "# Environment file for etcd v{version}\nETCD_DATA_DIR=/var/lib/etcd\n"
        + variables(*VARIABLES)
        + """ETCD_METRICS=basic
ETCD_ELECTION_TIMEOUT=5000
ETCD_HEARTBEAT_INTERVAL=250
ETCD_AUTO_COMPACTION_RETENTION=8
ETCD_SNAPSHOT_COUNT=100000
ETCD_TRUSTED_CA_FILE={tls}/etcd.pem
ETCD_CERT_FILE={tls}/etcd.pem
ETCD_KEY_FILE={tls}/etcd-key.pem
ETCD_CLIENT_CERT_AUTH=true
ETCD_PEER_TRUSTED_CA_FILE={tls}/etcd.pem
ETCD_PEER_CERT_FILE={tls}/etcd.pem
ETCD_PEER_KEY_FILE={tls}/etcd-key.pem
ETCD_PEER_CLIENT_CERT_AUTH=True
"""
    },
    after="chown -R etcd {tls}",
)

LAYOUTS = (HOWTO, FLAGS, CONFIG, CONFIG_MAIN, PACKAGE, KUBESPRAY)

# One member alone, at ports and paths of its own: none of our business.
OTHER = Layout(
    "other",
    data="/srv/other",
    unit="other-etcd.service",
    hosts=("etcd1",),
    client=12379,
    programs="/opt/other/etcd",
    before=f"mkdir -p /opt/other; mv {FOLDER} /opt/other/etcd; useradd --system other; "
    "install -d -m 700 -o other -g other /srv/other",
    settings="User=other\nExecStart=/opt/other/etcd/etcd --name other --data-dir /srv/other "
    "--listen-client-urls http://127.0.0.1:12379 --advertise-client-urls http://127.0.0.1:12379 "
    "--listen-peer-urls http://127.0.0.1:12380 "
    "--initial-advertise-peer-urls http://127.0.0.1:12380 "
    "--initial-cluster other=http://127.0.0.1:12380",
)


class Theirs:
    """One such cluster, running in the lab."""

    def __init__(self, lab, layout):
        self.lab, self.layout = lab, layout
        self.hosts = layout.hosts
        self.scheme = "https" if layout.tls else "http"
        settings = lab.shipped["clusters"]["main"]
        self.version = str(settings["version"])
        self.url = settings["install"]["url"]

    def fill(self, text, host):
        peers = (f"{one}={self.scheme}://{self.lab.address(one)}:2380" for one in self.hosts)
        return text.format(
            host=host,
            address=self.lab.address(host),
            scheme=self.scheme,
            everyone=",".join(peers),
            version=self.version,
            tls=TLS_FOLDER,
        )

    def data(self, host):
        return self.fill(self.layout.data, host)

    # Making it

    def build(self):
        pair = own_certificate(self.lab) if self.layout.tls else {}
        each(self.hosts, lambda host: self.shell(host, self.recipe(host, pair)))
        # A member is ready only once it has joined a quorum: all start at once.
        each(
            self.hosts, lambda host: self.systemctl(host, "enable", "--now", self.layout.unit).ok()
        )
        puts = (f"put {key} {shlex.quote(value)}" for key, value in KEYS.items())
        self.etcdctl(self.hosts[0], *puts).ok()
        return self

    def recipe(self, host, pair):
        """The shell commands by which a person makes one member, up to its start."""
        layout = self.layout
        files = {**layout.files, **{f"{TLS_FOLDER}/{name}": text for name, text in pair.items()}}
        if layout.settings:
            unit = SERVICE.replace("{settings}", layout.settings)
            files[f"/etc/systemd/system/{layout.unit}"] = unit
        lines = [layout.before]
        if layout is not PACKAGE:
            url = f"{self.url}/v{self.version}/etcd-v{self.version}-linux-amd64.tar.gz"
            lines.insert(0, f"/usr/bin/python3 -c {shlex.quote(UNPACK)} {url} /opt")
        for path, text in files.items():
            mode = "600" if path.endswith("-key.pem") else "644"
            lines += [f"mkdir -p $(dirname {path})", f"cat > {path} <<'EOF'", text.rstrip("\n")]
            lines += ["EOF", f"chmod {mode} {path}"]
        return "\n".join([self.fill(line, host) for line in (*lines, layout.after)])

    def shell(self, host, script):
        return self.lab.exec(host, "sh", "-e", stdin=script + "\n").ok()

    def systemctl(self, host, *words):
        return self.lab.exec(host, "systemctl", *words)

    def stop(self):
        each(self.hosts, lambda host: self.systemctl(host, "stop", self.layout.unit).ok())

    def start(self):
        each(self.hosts, lambda host: self.systemctl(host, "start", self.layout.unit).ok())

    # Looking at it

    def etcdctl(self, host, *commands):
        """Run these commands one after the other, as one job on the host."""
        at = "127.0.0.1" if self.layout is OTHER else self.lab.address(host)
        options = [f"--endpoints={self.scheme}://{at}:{self.layout.client}"]
        if self.layout.tls:
            pem = f"{TLS_FOLDER}/etcd.pem"
            options += [f"--cacert={pem}", f"--cert={pem}", f"--key={TLS_FOLDER}/etcd-key.pem"]
        program = self.fill(self.layout.programs, host) + "/etcdctl"
        lines = [f"{program} {' '.join(options)} {command}" for command in commands]
        return self.lab.exec(host, "sh", "-ec", "\n".join(["export ETCDCTL_API=3", *lines]))

    def serving(self):
        """What a client sees: ids, members and each key with its revisions, from each member."""
        return each(self.hosts, self._served)

    def serving_again(self, seconds=60):
        """The same, once all its members have a leader again."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.serving()
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def _served(self, host):
        asked = ("endpoint status", "member list", "get '' --from-key")
        done = self.etcdctl(host, *(f"{words} -w json" for words in asked)).ok()
        (row,), listed, found = map(json.loads, done.out.splitlines())
        head = row["Status"]["header"]
        return {
            "cluster": head["cluster_id"],
            "member": head["member_id"],
            "members": sorted((m["ID"], m["name"], *m["peerURLs"]) for m in listed["members"]),
            "revision": found["header"]["revision"],
            "keys": found["kvs"],
        }

    def processes(self):
        """Host -> the process of its unit, and the moment of its start."""
        ask = ("show", "-p", "ActiveState,MainPID,ExecMainStartTimestampMonotonic")
        return each(self.hosts, lambda host: self.systemctl(host, *ask, self.layout.unit).ok().out)


def own_certificate(lab):
    """One certificate for all members, its own authority, as hand-made clusters often have it."""
    names = ["IP:127.0.0.1", *(f"IP:{lab.address(host)}" for host in MEMBERS)]
    names += [f"DNS:{host}.{DOMAIN}" for host in MEMBERS]
    with tempfile.TemporaryDirectory() as folder:
        words = (
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=etcd"
        )
        out = ("-keyout", f"{folder}/etcd-key.pem", "-out", f"{folder}/etcd.pem")
        more = ("-addext", f"subjectAltName={','.join(names)}")
        subprocess.run(["openssl", *words.split(), *more, *out], check=True, capture_output=True)
        return {file.name: file.read_text() for file in Path(folder).iterdir()}


def each(hosts, action):
    """host -> what the action returned for it; all hosts at once."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(hosts, pool.map(action, hosts), strict=True))


def whole(lab, hosts=HOSTS):
    """All that must stay on these hosts: host -> path, account, package or unit -> what it is."""
    return each(hosts, lambda host: lab.probe(host, "whole_host"))
