"""Interruptions of an orchestrate until one run has ended by itself; what must not be left."""

import itertools
import json
import time
from dataclasses import dataclass, field

from changing import EVERYONE
from lab_command import DOMAIN, HOSTS

SALT_PYTHON = "/opt/saltstack/salt/bin/python"

# Moments inside a member's state, by the path that is new or another from then on.
CONFIGURED = "/etc/default/etcd"
UNIT = "/etc/systemd/system/etcd.service"
SWITCHED = "/opt/etcd/current"
CERTIFIED = "/etc/etcd/pki/server.crt"
TRUSTED = "/etc/etcd/pki/ca.crt"
RENAMED = "/var/lib/etcd_ha/prod.json"
FIRST_START = "/run/etcd_ha/bootstrap.env"
STOPPED = "etcd"
# By which word of its title a step is known to have the moment; all others may have it.
ENTERS = ("learner", "bootstrap", "replace")
WORDS = {
    FIRST_START: ENTERS,
    CERTIFIED: (*ENTERS, "-> http and https", "etcd3: take certificates"),
    TRUSTED: ("trust the new CA",),
    RENAMED: ("apply its configuration",),
    SWITCHED: ("grade 3",),
    STOPPED: ("restart (", "grade 3"),
    UNIT: ("DATA_DIR",),
}
# More runs than the longest plan has steps, with a kill in the middle of each.
RUNS = 40


@dataclass(frozen=True)
class Kill:
    """One way to interrupt a run.

    ``what`` is the ``orchestrate`` or the ``master``, at the end of the first step that makes
    progress (or has ``after`` in its title) and ``delay`` seconds on; or the ``minion`` that acts
    next, or the ``power`` of its host, at a ``moment`` of that step. A step that does not have the
    moment is a boundary to kill the orchestrate at, or with an empty ``after`` none.
    """

    what: str
    delay: float = 0
    moment: object = None
    after: str = "progress"

    def __str__(self):
        if self.moment is not None:
            return f"the {self.what} of the acting host at the moment {self.moment}"
        return f"the {self.what}{f', {self.delay} s later' if self.delay else ''}"


NOTHING = Kill("nothing", after="")
AT_BOUNDARY = Kill("orchestrate")
FIRST = Kill("orchestrate", after=": prepare ")
# At a boundary, and when the next step is under way: its state is being rendered, and is at work.
MASTERS = (
    Kill("master"),
    AT_BOUNDARY,
    Kill("orchestrate", delay=1.5),
    Kill("master", delay=1.0),
)
# About to act: the job has come, and not much more.
ABOUT_TO_ACT = Kill("minion", moment=0)


def minion(moment, **more):
    return Kill("minion", moment=moment, **more)


def power(moment, **more):
    return Kill("power", moment=moment, **more)


def has(title, moment):
    """Whether the moment comes in a step of this title."""
    if moment is None or ": prepare " in title:
        return False
    return any(word in title for word in WORDS.get(moment, ("",)))


def these(*ways):
    """These ways first, and then those of the master."""
    yield from ways
    yield from itertools.cycle(MASTERS)


def rotation(*inside):
    """The ways to kill in turn: those of the master, and between them each of ``inside`` once."""
    yield FIRST
    left, turn = list(inside), 0
    while True:
        yield MASTERS[turn % len(MASTERS)]
        turn += 1
        if left:
            yield left.pop(0)


def comments(text):
    """The plan, and what the states say of themselves, but for those that only waited."""
    plan, _, states = text.partition("{\n")
    said = [line.strip() for line in states.splitlines() if '"comment"' in line]
    return "\n".join([plan, *(line for line in said if "requisite failed" not in line)])


@dataclass
class Interruptions:
    """Runs of one plan, each interrupted, until one has ended by itself."""

    lab: object
    kills: list = field(default_factory=list)
    ended: list = field(default_factory=list)

    def until_in_sync(self, ways, limit):
        """Interrupt so many runs at most, then let one run to its end."""
        way = None
        for number in range(RUNS):
            # A moment that the next step does not have waits for one that has it.
            if way is None or way.moment is None or self.kills[-1:] == [way]:
                way = next(ways)
            killed, told = self._run(way if number < limit else NOTHING)
            if told["code"] == 0 and not told["killed"]:
                return self
            assert killed, f"nothing was killed, and it failed:\n{comments(told['text'])}"
            self.kills.append(killed)
        raise AssertionError(f"not in sync after {RUNS} runs; ended: {self.ended}")

    def _run(self, way):
        """One run: how it was interrupted, if it was, and what it told last."""
        began, last, told, killed = time.monotonic(), "the beginning", {}, None
        for line in self.lab.follow("master", SALT_PYTHON, "followed", self._wanted(way)):
            told = json.loads(line)
            if told.get("good"):
                last = told["ended"]
                self.ended += [last] if last not in self.ended else []
            if "acts" in told and not killed and has(told["step"], way.moment):
                killed, last = self._strike(way, told), f"in: {told['step']}"
        if told["killed"]:
            killed, last = way if way.moment is None else AT_BOUNDARY, f"after: {last}"
        took = time.monotonic() - began
        print(f"  {took:6.1f} s  RUN, killed: {f'{killed} {last}' if killed else 'nothing'}")
        if killed and killed.what != "orchestrate":
            self.lab.wait_for_minions(*EVERYONE, *HOSTS[-2:])
        return killed, told

    def _wanted(self, way):
        known = AT_BOUNDARY if way.moment is not None and way.after else way
        wanted = {"after": known.after, "kill": known.what, "delay": known.delay}
        return json.dumps({**wanted, "seen": self.ended})

    def _strike(self, way, told):
        """End the minion, or the power, of the host that begins to act, if the moment comes."""
        host = told["acts"][0].removesuffix(f".{DOMAIN}")
        then = "kill" if way.what == "minion" else "stand"
        wanted = {"moment": way.moment, "then": then, "seconds": 40}
        if not self.lab.probe(host, "moment", json.dumps(wanted))["came"]:
            print(f"    did not come: {way} on {host}")
            return None
        if way.what == "power":
            self.lab.fault(host, "kill")
            self.lab.fault(host, "heal")
        return way


# What a host must be like in the end

WHOLE = r"""
set -u
fail() { echo "$*"; }
pid=$(systemctl show -p MainPID --value etcd)
[ "$(systemctl is-active etcd)" = active ] || fail "etcd is not active"
[ "$(systemctl is-enabled etcd)" = enabled ] || fail "etcd is not enabled"
[ "$(systemctl show -p NeedDaemonReload --value etcd)" = no ] || fail "systemd has an older unit"
wanted=$(grep '^ETCD_' /etc/default/etcd | tr -d '"' | grep -v '^ETCD_INITIAL_CLUSTER' | sort)
runs=$(tr '\0' '\n' < /proc/$pid/environ | grep '^ETCD_' | grep -v '^ETCD_INITIAL_CLUSTER' | sort)
[ "$wanted" = "$runs" ] || fail "the process has another environment: $wanted / $runs"
grep -q '^ETCD_INITIAL_CLUSTER_STATE="existing"$' /etc/default/etcd || fail "not: existing"
[ "$(readlink -f /usr/local/bin/etcd)" = "$(readlink /proc/$pid/exe)" ] || fail "another release"
data=$(sed -n 's/^ETCD_DATA_DIR="\(.*\)"$/\1/p' /etc/default/etcd)
[ -d "$data/member/wal" ] || fail "no log in $data"
set -- $(ls /var/lib/etcd_ha/main.json /var/lib/etcd_ha/prod.json 2>/dev/null)
[ $# = 1 ] || fail "not one record: $*"
grep -q "\"data_dir\": \"$data\"" "$@" || fail "the record: another place"
for certificate in /etc/etcd/pki/*.crt; do
    key=${certificate%.crt}.key
    [ "$certificate" = /etc/etcd/pki/ca.crt ] && continue
    [ -e "$certificate" ] || continue
    [ "$(openssl x509 -in "$certificate" -noout -pubkey)" = "$(openssl pkey -in "$key" -pubout)" ] \
        || fail "$certificate and $key are no pair"
done
find /etc/default /etc/etcd /etc/systemd/system /opt/etcd /usr/local/bin /var/lib/etcd_ha \
    /run/etcd_ha $(ls -d /var/lib/etcd* | grep -v _ha) -path '*/member/*' -prune -o \
    \( -name '*.new' -o -name '*.tmp' -o -name '*.moving' -o -name '*.part' -o -name '.unpack-*' \
    -o -name bootstrap.env -o -name 'etcd??????*' -path '/etc/default/*' \) -print 2>/dev/null
"""


def is_whole(lab, host):
    """Files, unit and process of a member belong together, and nothing half done is left."""
    done = lab.exec(host, "sh", "-c", WHOLE)
    assert not done.out.strip(), f"{host}: {done.out}\n{done.err}"


def addresses_are_the_members_own(changed):
    """The member list has the peer URL that each member listens at."""
    for member in changed.members():
        script = '. /etc/default/etcd; echo "$ETCD_INITIAL_ADVERTISE_PEER_URLS"'
        own = changed.lab.exec(member["name"], "sh", "-c", script).ok().out.strip()
        assert member["peerURLs"] == [own], (member, own)
