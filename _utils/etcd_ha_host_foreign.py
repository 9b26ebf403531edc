"""Which etcd on a host is this cluster's member, and which is somebody else's and in the way.

Pure. **Foreign** is an etcd that is found and whose cluster and member id are not those of a
record: the host's own, the master's, or the member list of a recorded cluster that has a quorum.
Identity decides, never a version or a setting: a half-done upgrade is still ours.
"""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import etcd_ha_host_units
import etcd_ha_plain
from etcd_ha_topology import Cluster, Member

Found = Mapping[str, Any]
Ids = tuple[str, str]
UNIT = etcd_ha_host_units.UNIT
# Units that this formula starts beside etcd's: what they run is its own.
OWN_PREFIX = "etcd_ha-"
# What is no etcd, and can be in the way all the same.
BESIDE = ("listener", "proxy")


@dataclass(frozen=True)
class Place:
    """What the formula takes on a host for a cluster."""

    unit: str = ""
    dirs: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    user: str = ""
    programs: tuple[str, ...] = ()
    # The services whose one configuration it takes.
    proxies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """By what a host's member is known: its ids, and its directory where it has told none yet."""

    ids: frozenset[Ids] = frozenset()
    data_dir: str = ""
    # Its ids are about to change, or are not known yet: a bootstrap or a restore is under way.
    changing: bool = False


def place(cluster: Cluster, minion: str) -> Place:
    """What a cluster takes on one of its hosts."""
    member, balancer = cluster.member(minion), cluster.balancer(minion)
    found = _of_member(member) if member else Place()
    if balancer is None:
        return found
    proxies = (cluster.settings["balancer"]["kind"],)
    proxies += ("keepalived",) if cluster.virtual_address else ()
    return dataclasses.replace(
        found,
        ports=(*found.ports, int(cluster.settings["balancer"]["port"])),
        proxies=tuple(f"{one}.service" for one in proxies),
    )


def _of_member(member: Member) -> Place:
    settings = member.settings
    install, ports = settings["install"], settings["ports"]
    package = install["method"] == "package"
    folder = "/usr/bin" if package else install["bin_dir"]
    return Place(
        unit=UNIT,
        dirs=tuple(one for one in (settings["data_dir"], settings["wal_dir"]) if one),
        ports=(ports["client"], ports["peer"], ports["metrics"]),
        user=settings["user"],
        programs=(f"{folder}/etcd",),
    )


def left_place(record: Mapping[str, Any]) -> Place:
    """What the formula has taken on a host that leaves its cluster, or has left it."""
    dirs = tuple(str(one) for one in (record.get("data_dir"), record.get("wal_dir")) if one)
    return Place(UNIT, dirs) if record else Place()


def of_record(record: Mapping[str, Any], restoring: str = "") -> Known:
    """What a host's own record says of its member."""
    ids = str(record.get("cluster_id") or ""), str(record.get("member_id") or "")
    return Known(
        ids=frozenset([ids] if all(ids) else []),
        data_dir=str(record.get("data_dir") or ""),
        changing=bool(restoring) or record.get("state") == "bootstrapping",
    )


def is_ours(one: Found, known: Known) -> bool:
    """Whether this etcd is the host's member."""
    ids = str(one["cluster_id"]), str(one["member_id"])
    if all(ids) and ids in known.ids:
        return True
    if not known.data_dir or one["data_dir"] != known.data_dir:
        return False
    if known.changing:
        # Its ids are not written down yet, or change; what another unit runs is somebody else's.
        return bool(one["by_formula"]) or one["kind"] in ("data", "files")
    # Its ids cannot be read (a damaged log).
    return not all(ids) and bool(known.ids)


def is_trial(one: Found) -> bool:
    """A test restore or an experiment of this formula: it has no TCP port, or a unit of ours."""
    if str(one["unit"]).startswith(OWN_PREFIX):
        return True
    urls = [*one["clients"], *one["peers"]]
    return bool(urls) and all(url.startswith("unix") for url in urls)


def ways(one: Found, place: Place) -> list[str]:
    """What an etcd has that the formula would take for its own, in words; empty: it may stay."""
    if one["kind"] == "proxy":
        return [f"the configuration {one['config_file']}"] if one["unit"] in place.proxies else []
    if one["kind"] == "listener":
        own = one["unit"] in place.proxies or one["by_formula"]
        own = own or str(one["unit"]).startswith(OWN_PREFIX)
        shared = [] if own else sorted(set(one["ports"]) & set(place.ports))
        return [f"port {port}" for port in shared]
    found = []
    if place.unit and one["unit"] == place.unit:
        found.append(f"the unit {place.unit}")
    for path in (one["data_dir"], one["wal_dir"], *one["same"]):
        found += [f"the directory {path}" for own in place.dirs if path and _nested(path, own)]
    found += [f"port {port}" for port in sorted(set(one["ports"]) & set(place.ports))]
    if not one["container"]:
        # In a container, users and programs are its own.
        found += [f"the user {place.user}"] if place.user and one["user"] == place.user else []
        found += [f"the program {own}" for own in place.programs if one["program"] == own]
    return list(dict.fromkeys(found))


def _nested(one: str, other: str) -> bool:
    """Whether two directories are the same, or one lies in the other."""
    pair = f"{one.rstrip('/')}/", f"{other.rstrip('/')}/"
    return pair[0].startswith(pair[1]) or pair[1].startswith(pair[0])


def is_there(one: Found) -> bool:
    """Whether there is anything that could be lost: a process, or data, or what serves others."""
    return bool(one["pid"]) or bool(one["holds_data"]) or one["kind"] in BESIDE


def races(one: Found) -> bool:
    """Whether a stopped unit without data will run after the next boot, and may take our ports.

    What has the name of the formula's own unit is replaced by it.
    """
    own = one["by_formula"] or one["unit"] == UNIT or str(one["unit"]).startswith(OWN_PREFIX)
    return bool(one.get("enabled")) and one["kind"] == "unit" and not own and not is_there(one)


@dataclass(frozen=True)
class Verdict:
    """The etcds of a host by whose they are."""

    ours: tuple[Found, ...] = ()
    # Foreign, with what each is in the way of.
    foreign: tuple[tuple[Found, tuple[str, ...]], ...] = ()
    # Somebody else's, and none of this cluster's business.
    others: tuple[Found, ...] = ()
    # The member itself, running outside of its unit.
    outside: tuple[Found, ...] = field(default=())


def judged(etcds: Iterable[Found], known: Known, place: Place) -> Verdict:
    """Whose each etcd of a host is."""
    etcds = list(etcds)
    mine = [one for one in etcds if one["kind"] not in BESIDE and not races(one)]
    ours = [one for one in mine if is_ours(one, known)]
    # Where the member itself listens already, who else does has another address.
    own = [one for one in ours if one["pid"] and one["unit"] == UNIT]
    held = {f"port {port}" for one in own for port in one["ports"]}
    outside: list[Found] = []
    others: list[Found] = []
    foreign: list[tuple[Found, tuple[str, ...]]] = []
    for one in etcds:
        if not is_there(one) and not races(one):
            continue
        reasons = [reason for reason in ways(one, place) if reason not in held or one in ours]
        if races(one):
            # It has nothing that could be lost, and whose user and program it has is no matter.
            taking = () if own else ("port", "the directory")
            reasons = [reason for reason in reasons if reason.startswith(taking)]
        taken = [reason for reason in reasons if reason.startswith(("the directory", "port"))]
        if is_trial(one) and not taken:
            continue
        if one in ours:
            if one["pid"] and one["unit"] != UNIT and taken:
                outside.append(one)
        elif reasons:
            foreign.append((one, tuple(reasons)))
        elif one["kind"] not in BESIDE:
            others.append(one)
    ours = [one for one in ours if is_there(one)]
    return Verdict(tuple(ours), tuple(foreign), tuple(others), tuple(outside))


def words(one: Found) -> str:
    """One etcd in words: what it is, where its data is, whose."""
    if one["kind"] == "listener":
        who = f"PID {one['pid']} ({_text(one['program'])})" if one["pid"] else "a process"
        return f"{who} listens on port {', '.join(map(str, one['ports']))}"
    if one["kind"] == "proxy":
        return f"{_text(one['unit'])} uses {_text(one['config_file'])}"
    if one["kind"] == "files":
        return f"{_text(one['data_dir'])} is not empty: {_text(one['fault'])}"
    what = "etcd"
    if one["proxy"]:
        what = f"etcd {_text(one['proxy'])}"
    elif one["version"]:
        what = f"etcd {_text(one['version'])}"
    idle = "stopped, starts at boot" if races(one) else "stopped"
    parts = [f"PID {one['pid']}" if one["pid"] else idle]
    parts += [_text(one["program"])] if one["program"] else []
    parts += [f"as {_text(one['user'])}"] if one["user"] and one["pid"] else []
    if one["container"]:
        parts.append(f"in {_text(one['container'])}")
    if one["unit"]:
        where = f" ({_text(one['unit_files'][0])})" if one["unit_files"] else ""
        parts.append(f"unit {_text(one['unit'])}{where}")
    if one["data_dir"] and not (one["fault"] and one["kind"] == "unit"):
        parts.append(f"data in {_text(one['data_dir'])}")
    if one["cluster_id"]:
        parts.append(f"cluster {_text(one['cluster_id'])}, member {_text(one['member_id'])}")
    elif one["fault"]:
        parts.append(f"its cluster id cannot be read: {_text(one['fault'])}")
    return f"{what} ({', '.join(parts)})"


def _text(value: object) -> str:
    """What a host tells, as a sentence may show it."""
    return etcd_ha_plain.brief(str(value))


def told(minion: str, name: str, verdict: Verdict) -> list[str]:
    """A sentence for each etcd that is in the way on a host, and a member outside its unit.

    ``name`` is the cluster's.
    """
    found = [_sentence(minion, name, one, reasons) for one, reasons in verdict.foreign]
    for one in verdict.outside:
        found.append(
            f"the member on {minion} runs, but not from {UNIT}: {words(one)}. On {minion} stop PID "
            f"{one['pid']}, wait until it has ended, and run systemctl start {UNIT}"
        )
    return found


def _sentence(minion: str, name: str, one: Found, reasons: Sequence[str]) -> str:
    if one["kind"] in _HEADS:
        return f"{minion} {_HEADS[one['kind']]}: {words(one)}"
    if races(one):
        return (
            f"{minion} has a unit that would take {' and '.join(reasons)} at the next boot, which "
            f"{name} needs: {words(one)}. Disable it: systemctl disable {_text(one['unit'])}"
        )
    return (
        f"{minion} has an etcd that this formula did not set up or has no record of: {words(one)}. "
        f"It uses {', '.join(_text(reason) for reason in reasons)}, which {name} needs"
    )


_HEADS = {
    "listener": "has another program at a port that the cluster needs",
    "proxy": "has a balancer that this formula did not set up",
    "files": "has other files where etcd's data is to be",
}
_CURES = {
    "listener": "Stop that program, or set other ports (ports, balancer:port).",
    "proxy": (
        "Choose another balancer host; or, if that balancer is not needed, disable and stop its "
        "service and move its configuration away."
    ),
    "files": "Move the files out of that directory, or set another data_dir.",
}
_ETCD = (
    "This release cannot take over an etcd in place; etcd_ha.orch.adopt will. If that etcd is not "
    "needed, stop it and move its data and its unit away. If its data is needed, move it with a "
    "backup: docs/existing_etcd.md. Or use other hosts."
)


def refusal(name: str, verdicts: Mapping[str, Verdict], where: str = "on any host") -> str:
    """Why nothing is done, and what to do next; empty where nothing is in the way.

    ``verdicts`` are those of each host, ``name`` is the cluster's, and ``where`` nothing was
    changed.
    """
    found = [one for minion, verdict in verdicts.items() for one in told(minion, name, verdict)]
    if not found:
        return ""
    cure = _cure(name, list(verdicts.values()))
    head = f"{found[0]}." if len(found) == 1 else f"{len(found)} things are in the way:"
    lines = "".join(f"\n    {one}." for one in found) if len(found) > 1 else ""
    end = f"Nothing was changed {where}.{f' {cure}' if cure else ''}".removesuffix(".")
    return f"{head}{lines}{chr(10) + '    ' if lines else ' '}{end}"


def _cure(name: str, verdicts: Sequence[Verdict]) -> str:
    found = [one for verdict in verdicts for one, _ in verdict.foreign]
    cures = [text for kind, text in _CURES.items() if any(o["kind"] == kind for o in found)]
    etcds = [one for one in found if one["kind"] not in _CURES and not races(one)]
    ours = {str(one["cluster_id"]) for verdict in verdicts for one in verdict.ours} - {""}
    return " ".join([*([_ETCD] if etcds else []), *_claim(name, etcds, ours), *cures])


def may_be_claimed(one: Found, place: Place, cluster_id: str) -> bool:
    """Whether this is a member that the formula set up, or its data on a host made anew."""
    if one["kind"] in BESIDE or one["cluster_id"] != cluster_id:
        return False
    own = one["by_formula"] and one["unit"] == place.unit
    return bool(own or (one["kind"] == "data" and one["data_dir"] in place.dirs))


def _claim(name: str, etcds: Collection[Found], ours: Collection[str]) -> list[str]:
    """The way back for members of this formula whose records are lost; none else.

    ``ours`` are the cluster ids of members that are known.
    """
    ids = {str(one["cluster_id"]) for one in etcds}
    own = all(one["by_formula"] or one["kind"] == "data" for one in etcds)
    if len(ids | set(ours)) != 1 or "" in ids or not own or not etcds:
        return []
    (cluster_id,) = ids
    return [
        f"ONLY if this formula set up that cluster, and its records were lost: salt-run "
        f"etcd_ha.claim cluster={name} cluster_id={_text(cluster_id)} confirm={name}"
    ]
