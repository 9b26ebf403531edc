"""Salt's side of a lab: keys made before the first boot, configuration, waiting for minions."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import hosts, machine
from .config import MASTER_ADDRESS, Host, Places
from .ui import LabError

PUBLISH_PORT = 4505

MASTER_CONFIG = """\
# The lab's master. Nothing here that the formula's README does not ask of every master, but for
# what stands under "the lab".
file_roots:
  base:
    - /srv/salt
    - /srv/formula
pillar_roots:
  base:
    - /srv/pillar
    - /srv/formula/pillar

# Members may ask the CA minion for a certificate, and for nothing else.
peer:
  '(etcd[0-9]+|lb[0-9]*)\\.example\\.com$':
    - etcd_ha_ca.sign
    - x509.sign_remote_certificate
features:
  x509_v2: true

# A minion's question to another holds a worker while it needs a second one: enough workers keep
# hosts that ask the CA at the same moment from waiting for each other.
{workers}
# The lab: /etc/hosts and keys are ready before the first boot, and no name server exists.
interface: {address}
ipv6: false
"""

# From Salt 3008 on such questions have workers of their own.
WORKER_POOLS = """\
worker_pools:
  peers:
    worker_count: 2
    commands: [minion_pub]
  default:
    worker_count: 5
    commands: ['*']
"""
WORKER_THREADS = "worker_threads: 12\n"

MINION_CONFIG = """\
# The lab's minion.
id: {fqdn}
master: salt
features:
  x509_v2: true

# The lab has no name server to ask for the names of addresses, and no graphics card to look for.
enable_fqdns_grains: false
enable_gpu_grains: false
# A host that comes back after a fault is wanted at once, not in up to eleven seconds.
random_reauth_delay: 1
recon_default: 100
recon_max: 400
"""


def make_keys(places: Places, names: Sequence[str]) -> None:
    """A key pair for each host that has none yet. A wiped host gets its own back."""
    places.keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    missing = [name for name in names if not (places.keys / f"{name}.pub").exists()]
    with ThreadPoolExecutor(os.cpu_count()) as each:
        list(each.map(lambda name: _make_key(places.keys, name), missing))


def _make_key(folder: Path, name: str) -> None:
    private = folder / f"{name}.pem"
    machine.run("openssl", "genpkey", "-algorithm", "RSA",
                "-pkeyopt", "rsa_keygen_bits:2048", "-out", private, umask=0o077)  # fmt: skip
    machine.run("openssl", "pkey", "-in", private, "-pubout", "-out", folder / f"{name}.pub")


def master_config(version: str) -> str:
    """The master's settings for a Salt version."""
    pools = int(version.partition(".")[0]) >= 3008
    return MASTER_CONFIG.format(
        workers=WORKER_POOLS if pools else WORKER_THREADS, address=MASTER_ADDRESS
    )


def configure(places: Places, host: Host, minions: Sequence[str], version: str) -> None:
    """Write a host's Salt configuration and keys; the master knows its minions before they come."""
    root = places.root(host.name)
    if host.is_master:
        hosts.write(root, "etc/salt/master.d/lab.conf", master_config(version))
        _write_pair(places, root, "etc/salt/pki/master/master", host.name)
        for name in minions:
            accept(places, name)
        _enable(root, "salt-master")
        return
    hosts.write(root, "etc/salt/minion.d/lab.conf", MINION_CONFIG.format(fqdn=host.fqdn))
    _write_pair(places, root, "etc/salt/pki/minion/minion", host.name)
    # The minion trusts this master and no other from its first word on.
    hosts.write(root, "etc/salt/pki/minion/minion_master.pub", _public(places, "master"))
    _enable(root, "salt-minion")


def accept(places: Places, name: str) -> None:
    """Put a minion's key among the master's accepted ones."""
    path = f"etc/salt/pki/master/minions/{Host(name).fqdn}"
    hosts.write(places.root("master"), path, _public(places, name))


def _public(places: Places, name: str) -> str:
    return (places.keys / f"{name}.pub").read_text()


def _write_pair(places: Places, root: Path, path: str, name: str) -> None:
    (root / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    hosts.write(root, f"{path}.pem", (places.keys / f"{name}.pem").read_text(), 0o400)
    hosts.write(root, f"{path}.pub", _public(places, name))


def _enable(root: Path, service: str) -> None:
    wants = root / "etc/systemd/system/multi-user.target.wants" / f"{service}.service"
    wants.parent.mkdir(parents=True, exist_ok=True)
    wants.unlink(missing_ok=True)
    wants.symlink_to(f"/usr/lib/systemd/system/{service}.service")


def connected(places: Places) -> set[str]:
    """Addresses of the minions that hold a connection to the master's publish port."""
    pid = hosts.first_process(places, "master")
    try:
        rows = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return set()
    found = set()
    for row in rows:
        _, local, remote, state, *_ = row.split()
        if state == "01" and int(local.split(":")[1], 16) == PUBLISH_PORT:
            raw = bytes.fromhex(remote.split(":")[0])
            found.add(".".join(map(str, reversed(raw))))
    return found


def wait_for(places: Places, names: Sequence[str], seconds: float = 90) -> None:
    """Wait until every minion answers test.ping; a socket is cheap to watch, so it comes first.

    A slow machine gets the time that it needs: `seconds` pass without one more minion, or it waits.
    """
    wanted = {Host(name).address: name for name in names}
    missing, deadline = set(wanted), time.monotonic() + seconds
    while missing:
        before, missing = missing, wanted.keys() - connected(places)
        if len(missing) < len(before):
            deadline = time.monotonic() + seconds
        late = sorted(wanted[address] for address in missing)
        hosts.require_running(places, late)
        if time.monotonic() > deadline:
            raise LabError(
                f"no connection to the master from {', '.join(late)} after {seconds:.0f} s; "
                f"{late[0]} said last:\n    {_last_words(places, late[0])}"
            )
        time.sleep(0.05)
    while silent := _silent(places, names):
        if time.monotonic() > deadline:
            raise LabError(
                f"no answer to test.ping from {', '.join(silent)}; "
                f"{silent[0]} said last:\n    {_last_words(places, silent[0])}"
            )


def _last_words(places: Places, name: str) -> str:
    """What a host's minion and systemd wrote: the next reset throws the journal away."""
    units = ["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager"]
    words = ["journalctl", "--boot", "--no-pager", "--output=short-monotonic", "--lines=12"]
    said = [hosts.output(places, name, argv).stdout.strip() for argv in (units, words)]
    return "\n".join(filter(None, said)).replace("\n", "\n    ")


def _silent(places: Places, names: Sequence[str]) -> list[str]:
    targets = ",".join(Host(name).fqdn for name in names)
    # A minion may be connected and not listening yet: then ask again, and do not wait long before.
    ping = ["salt", "--static", "--out=json", "-t", "1", "-L", targets, "test.ping"]
    try:
        answers = json.loads(hosts.output(places, "master", ping).stdout)
    except ValueError:
        answers = {}
    return [name for name in names if answers.get(Host(name).fqdn) is not True]


def is_up(places: Places) -> bool:
    return os.path.isdir(places.state) and hosts.first_process(places, "master") is not None
