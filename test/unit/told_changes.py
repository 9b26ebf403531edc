"""The changes of docs/changes.md as plans: each edit is applied to its pillar and really planned.

``python test/unit/told_changes.py`` writes the plans of the present planner into the page.
"""

import dataclasses
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "_utils")]

import etcd_ha_certificates  # noqa: E402
import etcd_ha_environment  # noqa: E402
import etcd_ha_host  # noqa: E402
import etcd_ha_planner  # noqa: E402
import etcd_ha_steps  # noqa: E402
import etcd_ha_topology  # noqa: E402
import etcd_ha_trust  # noqa: E402
import yaml  # noqa: E402
from etcd_ha_observed import Observed, Pair, Trust, Wanted  # noqa: E402
from etcd_ha_pem import Bundle  # noqa: E402

PAGE = ROOT / "docs" / "changes.md"
# A heading, the edit below it where there is one, and the plan.
_SECTION = re.compile(
    r"^## (?P<head>.+)\n(?P<text>(?:(?!^## ).*\n)*?)"
    r"```text\n(?P<plan>(?:main|prod): (?:.*\n)*?)```$",
    re.M,
)
_DIFF = re.compile(r"^```diff\n(.*?)^```$", re.M | re.S)
GONE = {
    "has_data": False,
    "active": False,
    "healthy": False,
    "leader": False,
    "members": (),
    "cluster_id": "",
    "member_id": "",
    "version": "",
}


def sections(page):
    """Heading -> (the edit or None, the plan as the page has it)."""
    found = {}
    for section in _SECTION.finditer(page):
        edit = _DIFF.search(section["text"])
        found[section["head"]] = (edit[1] if edit else None, section["plan"])
    return found


def base(page):
    """The pillar that all edits of the page start from."""
    return re.search(r"^```yaml\n(etcd_ha:\n.*?)^```$", page, re.M | re.S)[1]


def edited(pillar, edit):
    """The pillar with a diff applied: what it names must be there, each line in its place."""
    for hunk in re.split(r"^ *\.\.\.\n", edit, flags=re.M):
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        if pillar.count(old) != 1:
            raise ValueError(f"the pillar does not hold once:\n{old}")
        pillar = pillar.replace(old, new)
    return pillar


def cluster_of(text):
    """The cluster of a pillar as the master reads it for Debian hosts."""
    defaults = yaml.safe_load((ROOT / "etcd_ha" / "defaults.yaml").read_text())
    settings = yaml.safe_load((ROOT / "etcd_ha" / "os" / "Debian.yaml").read_text())["settings"]
    (found,) = etcd_ha_topology.read(yaml.safe_load(text)["etcd_ha"], defaults, settings).values()
    return found


def digest(cluster, minion):
    return etcd_ha_host.digest(etcd_ha_host.describe(minion, [cluster], "amd64"), "source")


FORMULA = {"source": "source", "modules": "modules"}


def settings(cluster, minion):
    return etcd_ha_host.pillar_digest(minion, [cluster], "amd64")


def applied(cluster, minion):
    return {**FORMULA, "settings": settings(cluster, minion)}


def policies(cluster, minion):
    if minion != cluster.ca_minion:
        return ""
    return etcd_ha_host.policies_digest(etcd_ha_certificates.policies([cluster], minion))


def member_in_sync(cluster, member, listed):
    """A member of a healthy cluster; the first one leads."""
    return Observed(
        minion=member.minion,
        digest=digest(cluster, member.minion),
        applied=applied(cluster, member.minion),
        active=True,
        healthy=True,
        has_data=True,
        record={
            "cluster": cluster.name,
            "state": "bootstrapped",
            "cluster_id": "c1",
            "member_id": member.name,
        },
        running=etcd_ha_environment.variables(cluster, member),
        version=cluster.version,
        cluster_id="c1",
        member_id=member.name,
        leader=member == cluster.members[0],
        revision=48211,
        days_left=200,
        members=listed,
        ca=cluster.authority,
        trust=OURS if cluster.tls else None,
    )


CA = Bundle(frozenset({"certificate"}), frozenset({"ca"}), 3000)
OURS = Trust(CA.certificates, CA.authorities)


def in_sync(cluster):
    """What the hosts of a healthy cluster tell."""
    listed = tuple(
        {
            "id": member.name,
            "name": member.name,
            "peer_urls": [cluster.peer_url(member)],
            "client_urls": [cluster.client_url(member)],
            "learner": False,
            "started": True,
        }
        for member in cluster.members
    )
    hosts = {m.minion: member_in_sync(cluster, m, listed) for m in cluster.members}
    for minion in cluster.hosts[len(cluster.members) :]:
        hosts[minion] = Observed(
            minion,
            digest(cluster, minion),
            applied(cluster, minion),
            balancer_healthy=True,
            policies=policies(cluster, minion),
            balancer_trust=OURS if cluster.tls else None,
            balancer_of=cluster.name if cluster.balancer(minion) else "",
            authorities=dict.fromkeys(etcd_ha_trust.authority_files(cluster), CA),
        )
    return hosts


def wanted(before, after):
    """What the master knows after a converge to one pillar, with the other one by now."""
    return Wanted(
        digests={minion: digest(after, minion) for minion in after.hosts},
        policies={minion: policies(after, minion) for minion in after.hosts},
        recorded=True,
        managed={
            m.minion: {"name": m.name, "peer_url": before.peer_url(m)} for m in before.members
        },
        balancers=tuple(balancer.minion for balancer in before.balancers),
        settings={minion: settings(after, minion) for minion in after.hosts},
        formula=FORMULA,
    )


def planned(before, after, change, command="converge"):
    """The plan in words from a cluster in sync with one pillar, and then changed, to another."""
    hosts = in_sync(before)
    for minion in after.hosts:
        hosts.setdefault(minion, Observed(minion))
    change(hosts, before, after)
    made = etcd_ha_planner.plan(after, hosts, wanted(before, after), command)
    notes = (*etcd_ha_topology.warnings(after), *made.warnings)
    return etcd_ha_steps.text([dataclasses.replace(made, warnings=notes)]) + "\n"


# What has happened on the hosts, beside the edit


def nothing(hosts, before, after):
    """The edit alone."""


def to(minion, **values):
    """One host is otherwise."""

    def change(hosts, before, after):
        hosts[minion] = dataclasses.replace(hosts[minion], **values)

    return change


def silent(minion):
    """One host does not answer."""

    def change(hosts, before, after):
        del hosts[minion]

    return change


def done(*minions):
    """These members are as the new pillar wants them already."""

    def change(hosts, before, after):
        for minion in minions:
            member, listed = after.member(minion), hosts[minion].members
            new = member_in_sync(after, member, listed)
            hosts[minion] = dataclasses.replace(new, leader=hosts[minion].leader)

    return change


def ours_brought(hosts, before, after):
    """The user's own certificates lie on every host."""
    own = Bundle(frozenset({"own certificate"}), frozenset({"own ca"}), 900)
    for minion in after.hosts:
        held = dict.fromkeys(etcd_ha_trust.authority_files(after), own)
        pairs = own_pairs(after, minion)
        hosts[minion] = dataclasses.replace(hosts[minion], authorities=held, pairs=pairs)


def own_pairs(cluster, minion, **more):
    """The user's certificates on a host, which are others than those in use."""
    rows = etcd_ha_host.pairs(cluster, minion)
    return tuple(
        Pair(row["purpose"], row["certificate"], row["new_certificate"], same=False, **more)
        for row in rows
    )


def ours_renewed(hosts, before, after):
    """The user has put new certificates in place on every host."""
    for minion in (m for m in after.hosts if m in hosts):
        held = dict.fromkeys(etcd_ha_trust.authority_files(after), CA)
        pairs = own_pairs(after, minion)
        hosts[minion] = dataclasses.replace(hosts[minion], authorities=held, pairs=pairs)


def one_of_ours_expired(hosts, before, after):
    """On one host the user has put an old certificate in place."""
    fault = (
        "/root/pki/server.crt has expired: it ended on 2026-11-01 12:00:00 UTC, and this host's "
        "clock says 2026-11-30 09:30:12"
    )
    ours_renewed(hosts, before, after)
    for host in after.hosts:
        hosts[host] = dataclasses.replace(hosts[host], pairs=())
    minion = "etcd2.example.com"
    pairs = own_pairs(after, minion, faults=(fault,))
    hosts[minion] = dataclasses.replace(hosts[minion], pairs=pairs[:1])


def stranger(hosts, before, after):
    """Somebody added a member by hand."""
    one = {
        "id": "x",
        "name": "etcd9",
        "peer_urls": ["https://192.168.200.69:2380"],
        "client_urls": [],
        "learner": False,
        "started": True,
    }
    for member in before.members:
        hosts[member.minion] = dataclasses.replace(
            hosts[member.minion], members=(*hosts[member.minion].members, one)
        )


# Heading -> how the section's pillar differs from the page's, and what has happened.
_PAIR = "{{certificate: /root/pki/{0}.crt, key: /root/pki/{0}.key}}"
OWN = "source: files\n        files:\n          ca: {certificate: /root/pki/ca.crt}\n"
OWN += "\n".join(f"          {n}: {_PAIR.format(n)}" for n in ("server", "peer", "client"))
STARTS = {
    "Upgrade": [("version: 3.6.14", "version: 3.4.45")],
    "Downgrade": [("version: 3.6.14", "version: 3.7.1")],
    "From http to https": [("ca: {minion: ca.example.com}", "enabled: false")],
    "Renew your own certificates": [("ca: {minion: ca.example.com}", OWN)],
    "A certificate that cannot be used": [("ca: {minion: ca.example.com}", OWN)],
}
HAPPENED = {
    "Replace a member whose disk was wiped": to("etcd2.example.com", **GONE),
    "Replace a member whose data is corrupt": to(
        "etcd2.example.com",
        corrupt=(
            "its data differs from the others' (etcd1 db6e29b1, etcd2 45583060, etcd3 db6e29b1)"
        ),
        alarms=("CORRUPT",),
        healthy=False,
    ),
    "Replace a dead host by another": silent("etcd3.example.com"),
    "A member that nobody knows": stranger,
    "Take out a member that nobody knows": stranger,
    "Renew certificates": to("etcd2.example.com", days_left=89),
    "After an interruption": done("etcd2.example.com"),
    "From the CA to your own certificates": ours_brought,
    "Renew your own certificates": ours_renewed,
    "A certificate that cannot be used": one_of_ours_expired,
}
# Sections about what is asked for beside the pillar.
COMMANDS = {
    "A new key for the CA": "rotate_ca",
    "Restart all members": "restart",
    "Remove a cluster": "remove_cluster",
}


def plan_of(head, page):
    """The present planner's words for a section of the page."""
    before = base(page)
    for old, new in STARTS.get(head, ()):
        before = before.replace(old, new)
    edit = sections(page)[head][0]
    after = edited(before, edit) if edit else before
    what, command = HAPPENED.get(head, nothing), COMMANDS.get(head, "converge")
    return planned(cluster_of(before), cluster_of(after), what, command)


def renewed(page):
    """The page with the plans of the present planner."""
    for head, (_, old) in sections(page).items():
        start = page.index(f"## {head}\n")
        page = page[:start] + page[start:].replace(old, plan_of(head, page), 1)
    return page


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
