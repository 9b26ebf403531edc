"""The schedule's faults, done to the lab's hosts and undone in time."""

import subprocess
import threading
import time
from collections import Counter

from chaos.schedule import Fault

# Seconds for which a fault waits until its turn, where members still are in trouble.
PATIENCE = 45
# Where a member's data may lie, by the schedule's operations.
PLACES = ("/var/lib/etcd-moved", "/var/lib/etcd")


class Injector:
    """Does faults beside an operation, and knows who is in trouble and since when."""

    def __init__(self, lab, observer):
        self.lab, self.observer = lab, observer
        self.members = ()
        self.lock = threading.Lock()
        # Host -> since when; and what is over: (since, until, host).
        self.in_trouble, self.troubles = {}, []
        self.done, self.skipped, self.problems = Counter(), Counter(), []
        self.told, self.under_way = [], []

    def begin(self, faults, members):
        """Start the faults of a round, and go on."""
        self.members = tuple(members)
        began = time.monotonic()
        self.under_way = [threading.Event() for _ in faults]
        for fault, over in zip(faults, self.under_way, strict=True):
            arguments = (fault, began, over)
            threading.Thread(target=self._one, args=arguments, daemon=True).start()

    def wait(self):
        """Until all faults of the round are done and undone."""
        for over in self.under_way:
            over.wait()

    def _one(self, fault: Fault, began, over):
        time.sleep(max(0.0, began + fault.at - time.monotonic()))
        host = self._claim(fault)
        if host is None:
            self.skipped[fault.kind] += 1
            over.set()
            return
        try:
            print(f"  FAULT {fault.kind} on {host}", flush=True)
            getattr(self, f"do_{fault.kind}")(host, fault)
            self.done[fault.kind] += 1
        except (AssertionError, subprocess.TimeoutExpired) as err:
            self.problems.append(f"{fault.kind} on {host}: {str(err)[-500:]}")
        finally:
            over.set()
            self._release_once_well(host)

    # Who

    def _claim(self, fault):
        """The host to strike, entered as in trouble; None where its turn does not come."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with self.lock:
                host = self._choice(fault)
                if host:
                    self.in_trouble[host] = time.monotonic()
                    self.told.append((fault.kind, host, time.monotonic()))
                    return host
            time.sleep(0.5)
        return None

    def _choice(self, fault):
        if not fault.troubles_member:
            return None if fault.who in self.in_trouble else fault.who
        taken = [host for host in self.members if host in self.in_trouble]
        spare = 0 if fault.destroys else (len(self.members) - 1) // 2 - 1
        if len(taken) > spare:
            return None
        free = [host for host in self.members if host not in self.in_trouble]
        leader = self.observer.leader(self.members)
        if fault.destroys and self.observer.healthy(self.members) != set(self.members):
            return None
        followers = [host for host in free if host != leader] or free
        if fault.who == "leader":
            return leader if leader in free else None
        return followers[min(int(fault.spot * len(followers)), len(followers) - 1)]

    def _release_once_well(self, host):
        """Whoever was healed stays in trouble until it serves, or long enough for the formula."""
        deadline = time.monotonic() + PATIENCE
        while (
            host in self.members
            and host not in self.observer.healthy(self.members)
            and time.monotonic() < deadline
        ):
            time.sleep(0.5)
        with self.lock:
            began = self.in_trouble.pop(host, time.monotonic())
            self.troubles.append((began, time.monotonic(), host))

    def trouble_all(self, hosts):
        """Enter that the campaign itself strikes these; returns a call that ends it."""
        began = time.monotonic()

        def over():
            with self.lock:
                self.troubles += [(began, time.monotonic(), host) for host in hosts]

        return over

    # What

    def _heal(self, host):
        self.lab.fault(host, "heal", "--no-wait")

    def _for_a_while(self, host, fault, *words):
        try:
            self.lab.fault(host, *words)
            time.sleep(fault.lasts)
        finally:
            self._heal(host)

    def _kill_unit(self, host, unit, *more):
        script = f"systemctl kill -s KILL {unit}; {'; '.join(more) or 'true'}"
        self.lab.exec(host, "sh", "-c", script)

    def data_of(self, host):
        """Where a member's data lies at this moment: it may be on its way to another place."""
        script = 'for place; do [ -d "$place/member" ] && echo "$place" && exit 0; done; exit 1'
        return self.lab.exec(host, "sh", "-c", script, "sh", *PLACES).ok().out.strip()

    def _others(self, host):
        return [other for other in self.members if other != host]

    def do_etcd_kill(self, host, fault):
        self._kill_unit(host, "etcd")

    def do_minion_kill(self, host, fault):
        self._kill_unit(host, "salt-minion", "systemctl restart salt-minion")

    def do_master_kill(self, host, fault):
        """The master with the orchestrate that runs on it; it is started again."""
        units = "salt-master etcd-ha-operation 2>/dev/null"
        self._kill_unit(host, units, "systemctl restart salt-master")

    def do_power(self, host, fault):
        self._for_a_while(host, fault, "kill")

    def do_power_hard(self, host, fault):
        self._for_a_while(host, fault, "kill", "--drop-cache")

    def do_balancer(self, host, fault):
        self._for_a_while(host, fault, "kill")

    def do_master(self, host, fault):
        self._for_a_while(host, fault, "kill")

    def do_freeze(self, host, fault):
        self._for_a_while(host, fault, "freeze")

    def do_cut(self, host, fault):
        self._for_a_while(host, fault, "cut")

    def do_deaf(self, host, fault):
        """It sends, and hears nothing from its peers."""
        peers = [word for other in self._others(host) for word in ("--from", other)]
        self._for_a_while(host, fault, "cut", *peers, "--one-way")

    def do_mute(self, host, fault):
        """It hears its peers, and none of them hears it."""
        try:
            for other in self._others(host):
                self.lab.fault(other, "cut", "--from", host, "--one-way")
            time.sleep(fault.lasts)
        finally:
            self._heal(host)

    def do_flap(self, host, fault):
        every = 0.2 + fault.spot
        self.lab.fault(host, "flap", "--every", f"{every:.2f}", "--for", f"{fault.lasts:.1f}")

    def do_fill(self, host, fault):
        self._for_a_while(host, fault, "fill")

    def do_wipe(self, host, fault):
        self.lab.fault(host, "wipe", "--data", self.data_of(host))

    def do_new_disk(self, host, fault):
        self.lab.fault(host, "wipe")

    def do_flip_wal(self, host, fault):
        self._flip(host, fault, "member/wal")

    def do_flip_db(self, host, fault):
        self._flip(host, fault, "member/snap/db")

    def _flip(self, host, fault, file):
        """While the host is off: a bit that rots under a running etcd is nobody's to survive."""
        path = f"{self.data_of(host)}/{file}"
        try:
            self.lab.fault(host, "kill")
            self.lab.fault(host, "flip", "--data", path, "--spot", fault.spot)
            time.sleep(fault.lasts)
        finally:
            self._heal(host)

    def heal_all(self, hosts):
        """Undo whatever is left, and wait for all minions."""
        for host in hosts:
            self._heal(host)
        self.lab.wait_for_minions(*(host for host in hosts if host != "master"), seconds=120)
