"""The etcd of this host as a client reaches it: its files, its endpoints, its certificates."""

import contextlib
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import etcd_ha_common_files
import etcd_ha_common_systemd
import etcd_ha_environment
import etcd_ha_etcd_metrics
import etcd_ha_etcdctl
import etcd_ha_hashes
import etcd_ha_machine
import etcd_ha_mark
import etcd_ha_pem
import etcd_ha_release
from etcd_ha_common_errors import Failed

ENVIRONMENT_FILE = "/etc/default/etcd"
UNIT_FILE = "/etc/systemd/system/etcd.service"
# How often the hashes are compared anew where a compaction came between.
COMPARISONS = 6


def mark() -> dict[str, Any]:
    """What the last converge left on this host; empty where it is broken, which it mends."""
    return etcd_ha_mark.read()


def certain_mark() -> dict[str, Any]:
    """What the last converge left on this host; raises Failed where that is broken."""
    found = mark()
    if not found:
        etcd_ha_mark.refuse_broken()
    return found


def configured() -> dict[str, str]:
    """The ``ETCD_*`` variables on disk, empty where this host is no member."""
    # A character that is none spoils its own variable, not whether this is a member.
    return etcd_ha_environment.parse_file(etcd_ha_machine.read_text(ENVIRONMENT_FILE))


def member_on_disk() -> dict[str, Any] | None:
    """The member as its files say, also before the first converge has left its mark."""
    found = mark()
    if "member" in found:
        return dict(found["member"])
    own = configured()
    if not own:
        return None
    ca = own.get("ETCD_TRUSTED_CA_FILE", "/etc/etcd/pki/ca.crt")
    config_dir = os.path.dirname(os.path.dirname(ca))
    return {"cluster": "", "name": own.get("ETCD_NAME", ""), "config_dir": config_dir}


def environment(member: Mapping[str, Any]) -> dict[str, str]:
    """The ``ETCDCTL_*`` variables of root's etcdctl on this member."""
    return etcd_ha_etcdctl.read_environment(f"{member['config_dir']}/etcdctl.env")


def everyone(member: Mapping[str, Any]) -> str:
    """All members' client URLs, as etcdctl takes them."""
    return environment(member).get("ETCDCTL_ENDPOINTS", "")


def others(member: Mapping[str, Any]) -> str:
    """The client URLs of all members but this one."""
    own = {_place(url) for url in configured().get("ETCD_LISTEN_CLIENT_URLS", "").split(",")}
    return ",".join(url for url in everyone(member).split(",") if _place(url) not in own)


def _place(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return url


def local_endpoint(variables: Mapping[str, str]) -> str:
    """The member's own client URL on loopback, as its environment file has it."""
    listed = configured().get("ETCD_LISTEN_CLIENT_URLS", "").split(",")
    return listed[-1] or variables.get("ETCDCTL_ENDPOINTS", "").split(",")[0]


def serving_endpoint(timeout: float = 10.0) -> str:
    """Where this member's etcd serves clients now, whatever waits on disk for its next start."""
    pid = etcd_ha_common_systemd.unit("etcd.service", timeout).pid
    running = etcd_ha_machine.process_environment(pid) if pid else {}
    listed = running.get("ETCD_LISTEN_CLIENT_URLS", "").split(",")
    return listed[-1] or local_endpoint({})


def metrics(timeout: float = 5.0) -> str:
    """What the process that runs here tells of itself at its metrics port, which needs no TLS.

    Raises OSError where nothing runs, it has no such port, or does not answer there.
    """
    return etcd_ha_etcd_metrics.read(_metrics_url(timeout), timeout)


def votes(timeout: float = 3.0) -> bool:
    """Whether the process that runs here says, at its metrics port, that it reaches a quorum.

    Without a quorum etcd answers there only after more seconds than ``timeout``. Raises Failed
    where something else than etcd answers.
    """
    try:
        return etcd_ha_etcd_metrics.reaches_quorum(_metrics_url(timeout), timeout)
    except ValueError as err:
        raise Failed(
            f"whether etcd here reaches a quorum is unknown: {err}. See journalctl -u etcd"
        ) from err
    except OSError:
        return False


def _metrics_url(timeout: float) -> str:
    pid = etcd_ha_common_systemd.unit("etcd.service", timeout).pid
    running = etcd_ha_machine.process_environment(pid) if pid else {}
    url = running.get("ETCD_LISTEN_METRICS_URLS", "").split(",")[0]
    if not url.startswith("http://"):
        raise OSError("etcd has no metrics port here" if pid else "etcd does not run here")
    return url


def trust(ca: str | None) -> dict[str, list[str]] | None:
    """The CAs in this file, and those of them that signed the certificates beside it."""
    text = etcd_ha_machine.read_text(ca or "")
    try:
        certificates = etcd_ha_pem.bundle(text).certificates
    except ValueError:
        return None
    return {"certificates": sorted(certificates), "signers": sorted(_signers(ca or "", text))}


def bears_former(ca: str | None) -> bool:
    """Whether another CA is trusted already than the one that signed the certificates beside it."""
    text = etcd_ha_machine.read_text(ca) if ca else ""
    if not ca or not text.strip():
        return False
    try:
        return not all(etcd_ha_pem.is_first(one, text) for one in _signers(ca, text))
    except ValueError as err:
        raise Failed(
            f"{ca} is broken ({err}), so it is unknown which CAs are trusted here. salt-run "
            "state.orchestrate etcd_ha.orch writes it again"
        ) from err


def _signers(ca: str, text: str) -> frozenset[str]:
    folder = os.path.dirname(ca)
    names = etcd_ha_common_files.names(folder)
    leaves = [f"{folder}/{one}" for one in names if one.endswith(".crt")]
    return etcd_ha_pem.signers((etcd_ha_machine.read_text(p) for p in leaves if p != ca), text)


def authorities(paths: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The CAs in each of these files, as hashes; without those that are not there.

    One that is there and holds none has an ``error``: a new CA is not made in its place.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        text = etcd_ha_common_files.text(path)
        if text is None:
            continue
        try:
            held = etcd_ha_pem.bundle(text)
        except ValueError as err:
            none: dict[str, Any] = {"certificates": [], "authorities": [], "days_left": None}
            found[path] = {**none, "error": f"{path} holds no certificate ({str(err)[:200]})"}
            continue
        found[path] = {
            "certificates": sorted(held.certificates),
            "authorities": sorted(held.authorities),
            "days_left": held.days_left,
        }
    return found


def advertised(listed: Sequence[Mapping[str, Any]]) -> str:
    """The client URLs of these members of the member list, as etcdctl takes them."""
    return ",".join(url for member in listed for url in member["client_urls"])


def fit(
    member: Mapping[str, Any], listed: Sequence[Mapping[str, Any]], timeout: float = 10.0
) -> list[Mapping[str, Any]]:
    """Those of these members that are healthy; raises EtcdctlError where that is not known."""
    urls = advertised(listed)
    found = healthy(member, timeout, urls) if urls else set()
    return [one for one in listed if found & set(one["client_urls"])]


def program(name: str) -> str:
    """The path of an etcd program; its bare name where it is not installed."""
    usual = [f"/usr/local/bin/{name}", f"/usr/bin/{name}"]
    found = [path for path in usual if etcd_ha_common_files.exists(path)]
    found = found or [f"{_unit_folder()}/{name}"]
    return found[0] if etcd_ha_common_files.exists(found[0]) else name


def newest(name: str) -> str:
    """That program of the newest release that lies here beside the one in use.

    On its way down a host has the older etcdctl in use while its etcd still runs the newer release.
    That one knows neither ``downgrade`` nor what 3.6 tells of its database.
    """
    used = os.path.realpath(program(name))
    parent = os.path.dirname(os.path.dirname(used))
    if not etcd_ha_release.is_version(os.path.basename(os.path.dirname(used))):
        return program(name)
    there = [one for one in os.listdir(parent) if etcd_ha_release.is_version(one)]
    usable = [one for one in there if os.path.exists(f"{parent}/{one}/{name}")]
    return f"{parent}/{max(usable, key=etcd_ha_release.parse)}/{name}"


def _unit_folder() -> str:
    """Where the unit's own etcd lies: with another ``install:bin_dir`` no link leads there."""
    found = re.search(r"^ExecStart=(/\S+)/etcd$", etcd_ha_machine.read_text(UNIT_FILE), re.M)
    return found[1] if found else ""


def etcdctl(
    member: Mapping[str, Any],
    arguments: Sequence[str],
    timeout: float,
    endpoints: str | None = None,
    stdin: str | None = None,
    more: Mapping[str, str] | None = None,
    path: str = "",
) -> etcd_ha_etcdctl.Answer:
    """Run etcdctl against this member, or against the endpoints given; ``timeout`` in seconds.

    ``more`` are ``ETCDCTL_*`` variables beside those of root's etcdctl, ``path`` is another etcdctl
    than that in use.
    """
    variables = {**environment(member), **(more or {})}
    variables["ETCDCTL_ENDPOINTS"] = endpoints or local_endpoint(variables)
    return etcd_ha_etcdctl.call(arguments, variables, path or program("etcdctl"), timeout, stdin)


def members(
    member: Mapping[str, Any], timeout: float, endpoints: str | None = None
) -> list[dict[str, Any]]:
    """The member list, linearizable: it needs a quorum."""
    answer = etcdctl(member, ["member", "list", "-w", "json"], timeout, endpoints)
    return etcd_ha_etcdctl.members(answer.json())


def nudge(endpoints: str | None = None) -> Callable[[], None]:
    """What makes the cluster commit an entry that changes nothing, so that a member can start.

    etcd says READY once its own name is committed, but proposes that only while it is at most 5,000
    entries behind what it knows to be committed; and it counts a snapshot that it was sent as
    applied only with the next entry (setAppliedIndex in etcdserver/server.go of 3.4 to 3.7). In a
    cluster in which nobody writes, a member that needs a snapshot would not start before somebody
    does. Each question for alarms is an entry, which no client sees, not even by the revision.

    ``endpoints`` are client URLs of the other members; without it those in the file of root's
    etcdctl.
    """

    def ask() -> None:
        # Whether the others answer is not this one's matter: its start tells what is wrong.
        with contextlib.suppress(Failed, OSError):
            known = member_on_disk()
            others_urls = endpoints or (others(known) if known else "")
            if known and others_urls:
                etcdctl(known, ["alarm", "list"], 5, others_urls)

    return ask


def status(
    member: Mapping[str, Any], timeout: float, endpoints: str | None = None, path: str = ""
) -> list[dict[str, Any]]:
    """The status of each endpoint that answers; ``path`` is another etcdctl than that in use."""
    # It asks them one after the other (etcdctl/ctlv3/command/ep_command.go).
    command = ["endpoint", "status", "-w", "json", _patience(timeout, endpoints)]
    answer = etcdctl(member, command, timeout, endpoints, path=path)
    return etcd_ha_etcdctl.status(answer.json())


def healthy(member: Mapping[str, Any], timeout: float, endpoints: str) -> set[str]:
    """Those of the endpoints that are healthy; an alarm of the cluster is no fault of theirs."""
    command = ["endpoint", "health", "-w", "json", _patience(timeout)]
    rows = etcd_ha_etcdctl.health(etcdctl(member, command, timeout, endpoints).json())
    return {row["endpoint"] for row in rows if row["healthy"] or row["alarms"]}


def alarms(
    member: Mapping[str, Any], timeout: float, endpoints: str | None = None
) -> list[dict[str, str]]:
    """The alarms that are raised in the cluster."""
    answer = etcdctl(member, ["alarm", "list", "-w", "json"], timeout, endpoints)
    return etcd_ha_etcdctl.alarms(answer.json())


def hashes(
    member: Mapping[str, Any], listed: Sequence[Mapping[str, Any]], timeout: float
) -> list[dict[str, Any]]:
    """The hashes of the keys of these members of the list, all at one revision.

    ``timeout`` (seconds) is for each of them. A member that does not answer has no row. Raises
    EtcdctlError where none answers, or where they compact all the time.
    """
    urls, rows = advertised(listed), []
    for _ in range(COMPARISONS):
        revisions = [row["revision"] for row in status(member, timeout, urls)]
        rows = hashes_at(member, urls, min(revisions, default=0), timeout)
        if not rows:
            # 3.4 refuses a revision to which it has compacted (HashByRev in mvcc/kvstore.go).
            rows = hashes_at(member, urls, 0, timeout)
        # A compaction just now: some have it, and do not know the revision any more.
        if len(rows) == len(revisions) and etcd_ha_hashes.comparable(rows):
            break
        time.sleep(0.5)
    if not rows:
        raise etcd_ha_etcdctl.EtcdctlError("no member told the hash of its keys")
    if not etcd_ha_hashes.comparable(rows):
        raise etcd_ha_etcdctl.EtcdctlError(
            "the members are compacting, so their hashes could not be compared; try again"
        )
    return rows


def hashes_at(
    member: Mapping[str, Any], urls: str, revision: int, timeout: float
) -> list[dict[str, Any]]:
    """The hashes of the keys at this revision, of each of the URLs that tells it."""
    found = []
    for url in urls.split(","):
        command = ["endpoint", "hashkv", f"--rev={revision}", "-w", "json", _patience(timeout)]
        with contextlib.suppress(etcd_ha_etcdctl.EtcdctlError):
            found += etcd_ha_etcdctl.hashes(etcdctl(member, command, timeout, url).json())
    # Of a revision that was asked for, the answer need not tell it: it has the present one.
    return [{**row, "revision": revision or row["revision"]} for row in found]


def _patience(timeout: float, endpoints: str | None = None) -> str:
    """How long etcdctl may wait for one endpoint, so that a dead one does not silence the others.

    By default that is 5 s for each: a whole call that is given no more would end without a word.
    """
    count = len(endpoints.split(",")) if endpoints else 1
    return f"--command-timeout={0.7 * timeout / count:.2f}s"
