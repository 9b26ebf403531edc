"""The ground of the tests that change a cluster: the pillar in force, and clients meanwhile."""

import copy
import json
import os
import threading

from extent import RELEASES
from lab_command import DOMAIN

EVERYONE = tuple(f"etcd{number}" for number in range(1, 6))
THREE, FIVE = EVERYONE[:3], EVERYONE
SEVEN = (*FIVE, "etcd6", "etcd7")
PKI = "/etc/etcd/main"
# The balancers' own certificates move with the cluster's name: clients keep a copy of them.
KEPT_PKI = "/root/kept-pki"
KNOWN = set()

# Handing leadership over costs a write some milliseconds. Without a leader etcd stands still for
# the election timeout (1 s) at least. What the machine itself lets the client oversleep is added.
LONGEST_GAP = 0.7
# What a follower passes on to its leader in the moment of a handover is dropped there, and etcd
# tells its client so after 7 s (etcd-io/etcd#8975): only a client's own timeout ends that wait.
REQUEST_TIMEOUT = 0.5


class Load:
    """Clients that write and read through a balancer while a test goes on.

    They run on its own host and show its certificate, unless ``client`` names another host, with
    ``leaf`` for a certificate below ``pki`` there; ``address`` is where they connect.
    """

    def __init__(
        self,
        lab,
        prefix,
        schemes=("https",),
        seconds=580,
        pki=PKI,
        user=None,
        client="lb",
        leaf="check",
        address=None,
    ):
        self.lab, self.prefix, self.client = lab, prefix, client
        self.stop = f"/tmp/stop{prefix.replace('/', '-')}"
        wanted = {
            "host": address or lab.address("lb"),
            "port": 2379,
            "ca": f"{pki}/ca.crt",
            "certificate": f"{pki}/{leaf}.crt",
            "key": f"{pki}/{leaf}.key",
            "prefix": prefix,
            "schemes": schemes,
            "seconds": seconds,
            "timeout": REQUEST_TIMEOUT,
            "stop": self.stop,
            "user": user,
        }
        self.seconds = seconds
        self.result = {}
        # How many acknowledged writes a member lacks; ``check`` finds out.
        self.lost = None
        self.thread = threading.Thread(target=self._run, args=(json.dumps(wanted),))

    def _run(self, wanted):
        self.result = self.lab.probe(self.client, "load", wanted, timeout=self.seconds + 120)

    def __enter__(self):
        self.lab.exec(self.client, "rm", "-f", self.stop).ok()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.lab.exec(self.client, "touch", self.stop)
        self.thread.join()

    def check(self, hosts, longest=LONGEST_GAP):
        """Every member has every acknowledged write with its value; no gap was too long."""
        found = self.result
        assert found, "the clients did not tell what they saw"
        print(
            f"  LOAD {self.prefix}: longest gap {found['longest_gap'] * 1000:.0f} ms "
            f"(the machine's own: {found['late'] * 1000:.0f} ms), {found['failed']} requests "
            f"failed, {found['failed_again']} also when retried once; {found['acknowledged']} "
            f"writes, {found['reads']} reads, {found['stale_reads']} stale, "
            f"{found['seconds']:.0f} s, machine's load {os.getloadavg()[0]:.1f}"
        )
        parts = ("paused", "connected", "failed", "answered")
        told = ", ".join(f"{part} {found['gaps'][0][part] * 1000:.0f} ms" for part in parts)
        print(f"    the longest gap: {told}")
        for error in found["errors"]:
            print(f"    {error}")
        count = found["acknowledged"]
        assert count > 50, found
        assert found["reads"] > 50 and not found["stale_reads"], found
        lost = {host: self._lacks(host, count) for host in hosts}
        self.lost = max(len(keys) for keys in lost.values())
        assert not self.lost, f"acknowledged writes are lost: {lost}"
        if longest is not None:
            assert found["longest_gap"] < longest + found["late"], found

    def _lacks(self, host, count):
        """The acknowledged writes that this member does not have with their values."""
        done = self.lab.etcdctl(host, "get", "--prefix", self.prefix, "--consistency=s").ok()
        lines = done.out.splitlines()
        held = dict(zip(lines[::2], lines[1::2], strict=True))
        wanted = {f"{self.prefix}{number:06d}": str(number) for number in range(count)}
        return sorted(wanted.items() - held.items())


class Ground:
    """A lab with five hosts for members, and what of its pillar is in force."""

    def __init__(self, lab):
        self.lab = lab
        self.hosts = ()
        # Members that have another address than the lab's.
        self.moved = {}
        # The clients of the last change, and as whom they come: {name, password}.
        self.load, self.user = None, None

    def pillar(self, hosts, name="main", **settings):
        """The shipped pillar with these members and settings of the cluster, under this name."""
        wanted = copy.deepcopy(self.lab.shipped)
        cluster = wanted["clusters"].pop("main")
        wanted["clusters"][name] = cluster
        cluster["members"] = {f"{host}.{DOMAIN}": {"address": self.address(host)} for host in hosts}
        cluster.update(settings)
        return wanted

    def address(self, host):
        """A member's address; the shipped pillar has those of three."""
        return self.moved.get(host) or f"{self.network}.1{host.removeprefix('etcd')}"

    @property
    def network(self):
        return self.lab.address("etcd1").rpartition(".")[0]

    def give_address(self, host, last):
        """One more address for a host, by its last number."""
        address = f"{self.network}.{last}"
        self.lab.exec(host, "ip", "address", "replace", f"{address}/24", "dev", "eth0").ok()
        return address

    def begin(self, hosts=THREE, **settings):
        """Have this in force: as the test before has left it, as saved, or from blank hosts."""
        wanted = self.pillar(hosts, **settings)
        if wanted == self.lab.shipped:
            self.lab.become_converged()
        elif self.lab.state != self._state(wanted):
            self._converge(wanted, "five" if not settings and tuple(hosts) == FIVE else "")
        self.lab.write_pillar(wanted)
        self.hosts = tuple(hosts)
        self.lab.etcdctl(hosts[0], "put", "/begin", "kept").ok()
        # Whatever the test does now, the lab is what it should be only once it has passed.
        self.wanted = self.begun = wanted
        self.lab.state = "dirty"

    def _converge(self, wanted, name):
        """Put this pillar in force; with a name it is kept, for others begin so too."""
        self.lab.write_pillar(wanted)
        if name and self.lab.as_saved(name):
            return
        self.lab.become_blank()
        self.lab.write_pillar(wanted)
        self.lab.orch().ok()
        if name:
            self.lab.save(name)

    def _state(self, pillar):
        """Of the lab, while this pillar is in force there."""
        if pillar == self.lab.shipped:
            return "converged"
        return f"changed {json.dumps(pillar, sort_keys=True)}"

    def same(self):
        """The test has left all as it was at its begin."""
        self.lab.state = self._state(self.begun)

    def ask_for(self, hosts, **settings):
        """Write a changed pillar."""
        self.wanted = self.pillar(hosts, **settings)
        self.lab.write_pillar(self.wanted)
        self.hosts = tuple(hosts)

    def change(self, hosts, name, schemes=("https",), longest=LONGEST_GAP, **settings):
        """Change the pillar and converge, with clients meanwhile; the orchestrate's states."""
        self.ask_for(hosts, **settings)
        return self.run(hosts, name, schemes, longest)

    def run(self, hosts, name, schemes=("https",), longest=LONGEST_GAP, command="", pki=PKI):
        """Converge, or run a command, with clients meanwhile; the orchestrate's states."""
        self.load = Load(self.lab, f"/{name}/", schemes, pki=pki, user=self.user)
        with self.load:
            run = self.lab.orch(command=command)
        for step in run.states:
            print(f"    {step}")
        run.ok()
        self.settled()
        self.load.check(hosts, longest)
        return run

    def settled(self):
        """A second orchestrate has nothing to do, and the members are the pillar's, all voters."""
        again = self.lab.orch().ok()
        assert again.changes == {} and "in sync, nothing to do" in again.text, again.text
        members = self.members()
        assert {member["name"] for member in members} == set(self.hosts), members
        assert not [member for member in members if member.get("isLearner")], members
        assert self.get("/begin") == "kept"
        self.lab.state = self._state(self.wanted)

    def members(self):
        """The member list, as etcd tells it."""
        done = self.lab.etcdctl(self.hosts[0], "member", "list", "-w", "json").ok()
        return json.loads(done.out)["members"]

    def get(self, key):
        return self.lab.get(key, host=self.hosts[0])

    def leader(self):
        done = self.lab.etcdctl(self.hosts[0], "endpoint", "status", "-w", "json").ok()
        rows = json.loads(done.out)
        leading = {row["Status"]["leader"] for row in rows}
        (found,) = [m["name"] for m in self.members() if m["ID"] in leading]
        return found

    def lead(self, host):
        """Make this member the leader."""
        if self.leader() == host:
            return
        (wanted,) = [f"{m['ID']:x}" for m in self.members() if m["name"] == host]
        # Only the leader takes it, wherever it serves clients.
        self.lab.etcdctl(self.leader(), "move-leader", wanted).ok()
        assert self.leader() == host

    def versions(self):
        """The releases that run."""
        script = "/proc/$(systemctl show -p MainPID --value etcd)/exe --version | head -n 1"
        answers = (self.lab.exec(host, "sh", "-c", script).ok().out for host in self.hosts)
        return {answer.split()[-1] for answer in answers}

    def processes(self):
        """Member -> the process id of its etcd."""
        return self.lab.processes(self.hosts)

    def is_retired(self, host, purged=False):
        """etcd is stopped and disabled there, and its data is set aside, or gone."""
        unit = self.lab.exec(host, "systemctl", "is-active", "etcd").out.strip()
        enabled = self.lab.exec(host, "systemctl", "is-enabled", "etcd").out.strip()
        aside = self.lab.exec(host, "sh", "-c", "ls -d /var/lib/etcd.removed-*/member").out
        left = self.lab.exec(host, "test", "-e", "/var/lib/etcd/member").code == 0
        assert (unit, enabled) == ("inactive", "disabled"), (host, unit, enabled)
        assert bool(aside.strip()) is not purged and not left, (host, aside)

    def releases(self):
        """What this machine can upgrade through, oldest first; the newest are built where Go is."""
        found = self.obtainable(*RELEASES)
        assert len(found) > 1, f"the mirror has {found} alone: there is nothing to change between"
        return found

    def obtainable(self, *versions):
        """Those of these releases that the mirror can get and hosts can run; says which cannot."""
        found = []
        for version in versions:
            fault = self._fault(version) if version not in KNOWN else ""
            if fault:
                print(f"  etcd {version} cannot be had here: {fault[-300:]}")
                continue
            found.append(version)
            KNOWN.add(version)
        return found

    def _fault(self, version):
        """Why a release cannot be had: no source gives it, or what a suite packs needs its libc."""
        done = self.lab.run("mirror", "get", version, timeout=600)
        if done.code:
            return done.text.strip()
        rows = json.loads(self.lab.run("mirror", "list", "--json").ok().out)
        row = next(row for row in rows if row["version"] == version)
        if not row["source"].startswith("package"):
            return ""
        place = self.lab.run("mirror", "url").ok().out.strip()
        name = f"etcd-v{version}-linux-{row['architecture']}.tar.gz"
        return self.lab.probe("etcd1", "starts", f"{place}/v{version}/{name}")
