"""A small etcd cluster that obeys etcd's documented rules of membership, quorum and versions.

It knows nothing of the planner. It takes the planner's steps as the hosts would, and raises
``Violation`` for a step that no fault excuses, or ``Stopped`` where the step's own gate would stop
on a real host.

Rules, from https://etcd.io/docs/v3.6/learning/design-learner/, .../op-guide/runtime-configuration/,
.../upgrades/ and .../downgrades/: a cluster of N voters works while more than half of them do; a
change of the list needs that quorum; one learner at a time; a learner is promoted once it has
caught up; a member whose data is gone cannot go on under its old id; members are at most one minor
line apart; a plain member cannot reach a TLS one, and a TLS one none whose certificate is from a CA
that it did not know when it started. A member that is behind the leader is healthy by
etcd's own word, and does not become leader while another can.
"""

import functools
from dataclasses import dataclass, field, replace

import etcd_ha_environment
import etcd_ha_host_etcds
import etcd_ha_trust
from etcd_ha_observed import Observed, Trust, Wanted
from etcd_ha_pem import Bundle
from etcd_ha_release import parse

OLD_DIGEST, NEW_DIGEST = "old", "new"


class Violation(AssertionError):
    """A step did what must never be done."""


class Stopped(Exception):
    """A step's gate refused on the host, or the step could not succeed."""


@functools.lru_cache(maxsize=32)
def minor(version):
    return parse(version).minor


def twin(thing):
    """A copy of a plain dataclass; the search makes millions, and copy.copy is slower."""
    made = object.__new__(type(thing))
    made.__dict__.update(thing.__dict__)
    return made


@dataclass
class Host:
    """One member's machine.

    A new field takes part in the search by being here: ``World.key`` reads all of them. Its values
    must be hashable; one that holds a member's id must be renamed in ``World.settle``.
    """

    minion: str
    name: str
    address: str
    member: str = ""
    running: bool = False
    corrupt: bool = False
    # Its last start ended by itself; and what an examination has found since.
    failing: bool = False
    verdict: str = ""
    tried: bool = False
    hung: bool = False
    # Runs with a setting that no client gets past, while it votes as ever.
    deaf: bool = False
    lagging: bool = False
    reachable: bool = True
    version: str = "3.6.14"
    transport: str = "http"
    digest: str = OLD_DIGEST
    left_v2: bool = False
    record: bool = False
    owner: str = "main"
    cluster_id: str = "c"
    # By name: the CA that signed its certificates, those in its file, and those its process knows.
    signed_by: str = ""
    trusts: tuple = ()
    knows: tuple = ()

    @property
    def intact(self):
        return bool(self.member) and not self.corrupt

    @property
    def serves(self):
        return self.running and self.intact and not self.hung


@dataclass
class Entry:
    """One line of the member list."""

    id: str
    name: str
    url: str
    learner: bool = False
    started: bool = True


@dataclass
class World:
    """The cluster, its machines, and what the master remembers.

    ``cut`` is the minion that does not answer for the time being, ``slow`` the one whose member
    does not catch up, however long a step
    waits; the others that lag do when a step waits for them. ``minted`` counts member ids.
    ``ca`` is the CA that the pillar names.
    """

    hosts: dict
    entries: dict = field(default_factory=dict)
    bootstrapped: bool = False
    recorded: bool = False
    managed: dict = field(default_factory=dict)
    leader: str = ""
    may_downgrade: bool = False
    saved: bool = False
    balanced: bool = False
    faulty: bool = False
    cut: str = ""
    slow: str = ""
    minted: int = 100
    ca: str = "old"
    # Hosts tell nothing of etcds that they have no record of.
    blind: bool = False
    # The CA or the balancer that does not answer, until somebody brings it back.
    mute: str = ""

    def copy(self):
        made = twin(self)
        made.hosts = {key: twin(host) for key, host in self.hosts.items()}
        made.entries = {key: twin(entry) for key, entry in self.entries.items()}
        made.managed = dict(self.managed)
        return made

    # Which worlds are the same

    def settle(self):
        """Rename what has no meaning, so that worlds that differ in nothing else become equal.

        This loses no world. Member ids are compared with each other and nothing else, by etcd's
        rules here and by the planner, so they may be renamed, as long as equal stays equal: those
        in the list by their place there, those of members that were taken out by their host. etcd
        lists members by id, which is a hash, and the master's record is a mapping: both may come
        in any order, so one is as good as the other (test_planner_strange.py shuffles them). Hosts
        are not renamed and not merged, since the pillar's order decides ties in the planner.
        """
        self.elect()
        entries = sorted(self.entries.values(), key=lambda entry: entry.url.rpartition("/")[2])
        new = {entry.id: f"m{number}" for number, entry in enumerate(entries)}
        for host in self.hosts.values():
            if host.member:
                host.member = new.get(host.member) or f"gone {host.minion}"
        for entry in entries:
            entry.id = new[entry.id]
        self.entries = {entry.id: entry for entry in entries}
        self.leader = new.get(self.leader, "")
        self.managed = dict(sorted(self.managed.items()))
        self.minted = 100
        # Precautions hold for the plan that took them.
        self.saved = False
        for host in self.hosts.values():
            host.left_v2 = False
            if host.running or not host.member:
                host.failing, host.verdict, host.tried = False, "", False

    def key(self, numbers):
        """All fields of all there is, as a short value; ``numbers`` is what the caller keeps."""
        parts = [tuple(host.__dict__.values()) for host in self.hosts.values()]
        parts += [tuple(entry.__dict__.values()) for entry in self.entries.values()]
        own = {**self.__dict__, "hosts": len(self.hosts), "entries": len(self.entries)}
        own["managed"] = tuple((m, known["peer_url"]) for m, known in self.managed.items())
        parts.append(tuple(own.values()))
        return tuple([numbers.setdefault(part, len(numbers)) for part in parts])

    def mint(self):
        self.minted += 1
        return f"m{self.minted}"

    # What etcd itself would say

    def host_of(self, member):
        for host in self.hosts.values():
            if host.member == member:
                return host
        return None

    def works(self, member):
        host = self.host_of(member)
        return host is not None and host.serves

    def answers(self, host):
        return host.reachable and host.minion != self.cut

    @property
    def voters(self):
        return [one for one, entry in self.entries.items() if not entry.learner]

    @property
    def working(self):
        live = {host.member for host in self.hosts.values() if host.serves}
        return [one for one in self.voters if one in live]

    @property
    def has_quorum(self):
        return len(self.working) > len(self.voters) // 2

    def elect(self):
        working = self.working
        if len(working) <= len(self.voters) // 2:
            self.leader = ""
        elif self.leader not in working:
            self.leader = self.next_leader(working)

    def next_leader(self, able):
        """The log of whoever leads is the one that the others are measured by."""
        one = next((one for one in able if not self.host_of(one).lagging), able[0])
        self.host_of(one).lagging = False
        return one

    # What the facts say

    def observe(self, cluster):
        self.elect()
        listed = tuple(
            {
                "id": e.id,
                "name": e.name if e.started else "",
                "peer_urls": [e.url],
                "client_urls": [e.url.replace(":2380", ":2379")],
                "learner": e.learner,
                "started": e.started,
            }
            for e in self.entries.values()
        )
        found = {}
        for host in self.hosts.values():
            if self.answers(host):
                found[host.minion] = self._observed(cluster, host, listed)
        for minion in cluster.hosts:
            if minion not in self.hosts and minion != self.mute:
                found[minion] = self._helper(cluster, minion)
        return found

    def _helper(self, cluster, minion):
        if minion == cluster.ca_minion:
            path = etcd_ha_trust.authority_files(cluster)[0]
            return Observed(minion, NEW_DIGEST, authorities={path: authority(self.ca)})
        digest = NEW_DIGEST if self.balanced else OLD_DIGEST
        bears = trust((self.ca,), self.ca) if cluster.ca_minion else None
        return Observed(minion, digest, balancer_healthy=True, balancer_trust=bears)

    def _observed(self, cluster, host, listed):
        member = cluster.member(host.minion)
        entry = self.entries.get(host.member)
        live = host.serves and entry is not None and not host.deaf
        healthy = live and not entry.learner and self.has_quorum
        running = {}
        if member is not None and host.member:
            running = dict(environment(cluster, member, host.version, host.transport))
            running |= {"ETCD_LISTEN_CLIENT_HTTP_URLS": "http://h:1"} if host.deaf else {}
        return Observed(
            minion=host.minion,
            digest=host.digest,
            active=host.running and host.intact,
            healthy=healthy,
            voting=healthy or (host.deaf and self.works(host.member) and self.has_quorum),
            has_data=bool(host.member),
            corrupt="its log is corrupt" if host.verdict == "damaged" else "",
            failing="it ended by itself" if host.failing and host.member else "",
            examined=examined(host.verdict, host.tried) if host.member else {},
            record=record(host.owner, host.cluster_id, host.member) if host.record else {},
            etcds=self._found(host),
            running=running,
            installed=host.version,
            version=host.version if live else "",
            cluster_id=host.cluster_id if live else "",
            member_id=host.member if live else "",
            leader=healthy and self.leader == host.member,
            learner=bool(live and entry.learner),
            revision=(5 if host.lagging else 7) if live else 0,
            members=listed if healthy else (),
            pending=("trust",) if host.running and host.knows != host.trusts else (),
            trust=trust(host.trusts, host.signed_by) if cluster.tls else None,
            authorities=authorities(self.ca) if cluster.tls else {},
        )

    def _found(self, host):
        """What a host tells of data that it has no record of; the rest changes no plan."""
        if not host.member or host.record or self.blind:
            return ()
        return (found(host.cluster_id, host.member, host.running),)

    def wanted(self, cluster):
        ids = {m: self.hosts[m].member if m in self.hosts else "" for m in self.managed}
        managed = {m: {**known, "member_id": ids[m]} for m, known in self.managed.items()}
        digests = dict.fromkeys(cluster.hosts, NEW_DIGEST)
        return Wanted(digests, {}, self.recorded, managed, cluster_id="c" if managed else "")

    # What the steps do

    def remember(self, cluster, complete):
        own = {m.minion: {"name": m.name, "peer_url": cluster.peer_url(m)} for m in cluster.members}
        if complete:
            self.recorded, self.managed = True, own
        elif self.managed:
            self.managed = {**self.managed, **own}

    def take(self, cluster, step):
        """Do one step; what it may never do is a Violation, fault or not."""
        before = self.has_quorum
        voters = len(self.voters)
        if step.kind == "function":
            self._call(step)
            getattr(self, step.function.rpartition(".")[2])(step)
        elif step.kind == "verify":
            if not self.has_quorum:
                self._stop("a put and a get failed")
        elif step.kind == "state" and step.sls == ("etcd_ha",):
            self._state(cluster, step)
        self.elect()
        if before and not self.has_quorum and voters >= 3:
            raise Violation(f"{step.title}: it took the quorum away")
        self._check_transports(step)
        self._check_certificates(step)

    def _call(self, step):
        """A function asks the etcd on its target, and few bear it to be down."""
        for minion in step.targets:
            host = self.hosts[minion]
            may_be_down = step.function.endswith(("retire", "write_record", "examine"))
            serves = (self.works(host.member) and not host.deaf) or may_be_down
            if not serves or not self.answers(host):
                self._stop(f"{step.title}: {minion} does not answer")

    def _stop(self, why):
        """On a real host the step would fail; without a fault the plan must not have led there."""
        if self.faulty:
            raise Stopped(why)
        raise Violation(why)

    def _state(self, cluster, step):
        targets = [self.hosts[minion] for minion in step.targets if minion in self.hosts]
        if self.mute in step.targets:
            raise Violation(f"{step.title}: {self.mute} does not answer")
        if not all(self.answers(host) for host in targets):
            self._stop(f"{step.title}: a minion did not return")
        for host in targets:
            if host.member and not host.record and not self.blind:
                # The states leave alone what no record says is theirs.
                self._stop(f"{step.title}: {host.minion} has no record of its data")
        if not targets:
            self.balanced = not step.stage and not step.leads_to
        if step.action == "bootstrap":
            self._bootstrap(cluster, step, targets)
        elif step.action in ("restart", "begin"):
            self._restart(cluster, step, targets)
        elif step.action == "join":
            self._join(cluster, step, targets[0])
        else:
            for host in targets:
                self._certify(cluster, step, host)
                host.digest = OLD_DIGEST if step.stage else NEW_DIGEST

    def _stage(self, cluster, step, host):
        host.version = step.stage.get("version", cluster.version)
        host.transport = step.stage.get("transport", cluster.scheme)
        host.digest = OLD_DIGEST if step.stage else NEW_DIGEST
        host.record, host.owner = True, cluster.name
        host.deaf = False
        self._certify(cluster, step, host)
        host.knows = host.trusts

    def _certify(self, cluster, step, host):
        """What the states do with CAs and certificates in a phase of an exchange."""
        if not cluster.tls:
            return
        phase = step.stage.get("trust", "")
        if phase == "held":
            if not host.signed_by:
                raise Violation(f"{step.title}: it has no certificate")
            return
        if self.mute and self.mute == cluster.ca_minion:
            raise Violation(f"{step.title}: the CA is asked, which does not answer")
        if phase == "kept" and host.trusts and self.ca not in host.trusts:
            self._stop(f"{step.title}: another CA without a phase")
        if phase == "" or not host.trusts:
            host.trusts = (self.ca,)
        elif phase != "kept":
            host.trusts = tuple(sorted({*host.trusts, self.ca}))
        if phase != "both":
            host.signed_by = self.ca
        if not host.signed_by:
            raise Violation(f"{step.title}: it has no certificate")

    def _bootstrap(self, cluster, step, targets):
        if self.bootstrapped:
            raise Violation("a second bootstrap")
        if any(host.member for host in targets):
            raise Violation("a bootstrap over data")
        self.bootstrapped = True
        for host in targets:
            host.member, host.running, host.lagging = self.mint(), True, False
            self.entries[host.member] = Entry(host.member, host.name, self._url(cluster, host))
            self._stage(cluster, step, host)

    def _restart(self, cluster, step, targets):
        if len(targets) > 1 and any(host.running for host in targets) and self.has_quorum:
            raise Violation(f"{step.title}: two members were disrupted together")
        strangers, spares = [], self.has_quorum
        for host in targets:
            if not host.member:
                self._stop(f"{step.title}: {host.minion} has no data to start with")
            if host.verdict == "damaged":
                raise Violation(f"{step.title}: the data of {host.minion} is known to be damaged")
            if host.failing and not host.verdict:
                raise Violation(f"{step.title}: {host.minion} ended by itself and is not examined")
            if host.corrupt or host.member not in self.entries:
                # Only etcd itself can tell, at its start: it ends by itself.
                host.failing, host.tried = True, bool(host.verdict)
                strangers.append(host.minion)
                continue
            host.failing, host.verdict, host.tried = False, "", False
            if spares and host.serves and not self.entries[host.member].learner:
                self._spare(step, host.member)
            version = step.stage.get("version", cluster.version)
            self._check_version(step, host, version)
            self._stage(cluster, step, host)
            self.entries[host.member].url = self._url(cluster, host)
            if host.running:
                self._hand_over(step, host)
            host.running, host.hung = True, False
        self.elect()
        if strangers:
            raise Stopped(f"{step.title}: {strangers} did not start")
        if step.action == "begin":
            # It does not wait: those that come after make the quorum.
            return
        if not self.has_quorum:
            # Without quorum, one that hangs looks like one that waits for the others, and a learner
            # that is down like a voter.
            learns = any(self.entries[host.member].learner for host in targets)
            if learns or any(host.hung for host in self.hosts.values()):
                raise Stopped(step.title)
            self._stop(f"{step.title}: it did not become healthy")
        for host in targets:
            self._catch_up(step, host)

    def _hand_over(self, step, host):
        """A leader that is restarted has made another one the leader, if there is one."""
        others = [one for one in self.working if one != host.member]
        if self.leader == host.member and others:
            named = [one for one in others if self.entries[one].name == step.successor]
            self.leader = self.next_leader(named or others)

    def _catch_up(self, step, host):
        """The step waits until the member has all that the leader has."""
        if self.slow == host.minion and self.leader != host.member:
            host.lagging = True
            self._stop(f"{step.title}: {host.minion} has not caught up")
        host.lagging = False

    def _spare(self, step, member):
        """A voter is down for a moment: the others must be a quorum, where there are three."""
        if not self.has_quorum or len(self.voters) < 3:
            return
        left = [one for one in self.working if one != member]
        if len(left) <= len(self.voters) // 2:
            self._stop(f"{step.title}: the others are no quorum")

    def _check_version(self, step, host, version):
        others = [
            minor(other.version)
            for other in self.hosts.values()
            if other is not host and other.member in self.entries
        ]
        now, new = minor(host.version), minor(version)
        if new < now and not self.may_downgrade:
            raise Violation(f"{step.title}: a downgrade that etcd was not told of")
        if abs(new - now) > 1 or any(abs(new - other) > 1 for other in others):
            raise Violation(f"{step.title}: more than one minor line apart")
        if new != now and not self.saved:
            raise Violation(f"{step.title}: no snapshot was taken before")
        if now < 6 <= new and not host.left_v2:
            raise Violation(f"{step.title}: it may not be able to read its log")

    def _check_transports(self, step):
        spoken = {
            h.transport for h in self.hosts.values() if h.running and h.member in self.entries
        }
        if {"http", "https"} <= spoken:
            raise Violation(f"{step.title}: a plain member beside a TLS one")

    def _check_certificates(self, step):
        speaking = [
            h
            for h in self.hosts.values()
            if h.running and h.intact and h.member in self.entries and h.transport != "http"
        ]
        for one in speaking:
            for other in speaking:
                plain = one.transport == other.transport == "both"
                if not plain and one.signed_by not in other.knows:
                    raise Violation(f"{step.title}: {other.name} does not trust {one.name}")

    def served_by_one_ca(self, step):
        targets = [self.hosts[minion] for minion in step.targets]
        if not all(self.answers(host) for host in targets):
            self._stop("a minion did not return")
        if len({host.signed_by for host in targets if host.running}) > 1:
            self._stop(f"{step.title}: not all have a certificate of one CA")

    def _join(self, cluster, step, host):
        if not self.has_quorum:
            self._stop(f"{step.title}: the member list cannot be changed")
        entry = self._entry_of(cluster, host)
        if entry and host.intact and host.member == entry.id:
            host.running, host.hung = True, False
        else:
            entry = self._enter(cluster, step, host, entry)
        entry.started = True
        self._catch_up(step, host)
        if entry.learner:
            if len(self.working) + 1 <= (len(self.voters) + 1) // 2:
                self._stop(f"{step.title}: one more voter would leave no quorum")
            entry.learner = False
        self._check_version(step, host, step.stage.get("version", cluster.version))
        self._stage(cluster, step, host)

    def _enter(self, cluster, step, host, entry):
        if entry and entry.started:
            self._take_out(step, entry.id)
            entry = None
        if host.intact and len([one for one in self.working if one != host.member]) == 0:
            raise Violation(f"{step.title}: the last copy of the data was set aside")
        if entry is None:
            if any(one.learner for one in self.entries.values()):
                self._stop(f"{step.title}: too many learners")
            one = self.mint()
            entry = Entry(one, host.name, self._url(cluster, host), learner=True, started=False)
            self.entries[one] = entry
        host.member, host.running, host.lagging = entry.id, True, True
        host.corrupt = host.hung = host.failing = host.tried = False
        host.verdict = ""
        # It is new: no older release was here.
        host.version = step.stage.get("version", cluster.version)
        host.transport = step.stage.get("transport", cluster.scheme)
        self._certify(cluster, step, host)
        host.knows = host.trusts
        return entry

    def _entry_of(self, cluster, host):
        address = self._url(cluster, host).partition("://")[2]
        for entry in self.entries.values():
            if entry.url.partition("://")[2] == address or (
                entry.started and entry.name == host.name
            ):
                return entry
        return None

    def _url(self, cluster, host):
        member = cluster.member(host.minion)
        return cluster.peer_url(member) if member else f"http://{host.address}:2380"

    def _take_out(self, step, one):
        entry = self.entries[one]
        if not self.has_quorum:
            self._stop(f"{step.title}: the member list cannot be changed")
        left = [voter for voter in self.voters if voter != one]
        fit = [voter for voter in left if self.works(voter)]
        if not entry.learner and len(fit) <= len(left) // 2:
            self._stop(f"{step.title}: those that are left are no quorum")
        del self.entries[one]
        host = self.host_of(one)
        if host is not None:
            host.running = False

    def examine(self, step):
        """etcd on a copy: what it cannot read is damaged, whoever has taken it out of the list."""
        for minion in step.targets:
            host = self.hosts[minion]
            if not host.member or host.running:
                self._stop(f"{step.title}: there is nothing to examine on {minion}")
            host.verdict, host.tried = ("damaged" if host.corrupt else "readable"), False

    def compare(self, step):
        if not self.has_quorum:
            self._stop(f"{step.title}: there is no majority")

    def remove(self, step):
        one = step.arguments["member_id"]
        if self.mute.startswith("lb"):
            raise Violation(f"{step.title}: {self.mute} still leads clients to it")
        if one in self.entries:
            self._take_out(step, one)

    def retire(self, step):
        host = self.hosts[step.targets[0]]
        if host.member in self.entries:
            self._stop(f"{step.title}: it is a member still")
        host.member, host.running, host.record = "", False, False

    def write_record(self, step):
        host = self.hosts[step.targets[0]]
        ids = step.arguments["cluster_id"], step.arguments["member_id"]
        if ids != (host.cluster_id, host.member):
            self._stop(f"{step.title}: the data there is another member's, or gone")
        host.record, host.owner = True, step.arguments["cluster"]

    def snapshot(self, step):
        if not self.has_quorum:
            self._stop("no snapshot")
        self.saved = True

    def leave_v2(self, step):
        if not self.has_quorum:
            self._stop("no write")
        for minion in step.targets:
            self.hosts[minion].left_v2 = True

    def allow_downgrade(self, step):
        self.may_downgrade = True


@functools.lru_cache(maxsize=128)
def record(cluster, cluster_id, member_id):
    own = {"cluster": cluster, "state": "bootstrapped"}
    return {**own, "cluster_id": cluster_id, "member_id": member_id}


@functools.lru_cache(maxsize=8)
def examined(verdict, tried):
    return {"verdict": verdict, "tried": tried} if verdict else {}


@functools.lru_cache(maxsize=128)
def found(cluster_id, member_id, running):
    ids = {"cluster_id": cluster_id, "member_id": member_id, "pid": 7 if running else 0}
    kind = "process" if running else "unit"
    return etcd_ha_host_etcds.row(
        kind, unit="etcd.service", data_dir="/var/lib/etcd", holds_data=True, **ids
    )


@functools.lru_cache(maxsize=32)
def trust(cas, signer):
    return Trust(frozenset(cas), frozenset([signer])) if cas else None


@functools.lru_cache(maxsize=32)
def authorities(ca):
    """The user's own CA, in the file that the search's pillar names."""
    return {"/a": authority(ca)}


def authority(ca):
    return Bundle(frozenset([ca]), frozenset([ca]), 9000)


_CACHE = {}


def environment(cluster, member, version, transport):
    """The variables of a member at a stage; made once, since the search asks very often."""
    tls = cluster.scheme, cluster.ca_minion
    key = (cluster.version, *tls, member, len(cluster.members), version, transport)
    if key not in _CACHE:
        at = replace(cluster, version=version)
        _CACHE[key] = etcd_ha_environment.variables(at, member, transport)
    return _CACHE[key]
