"""The `lab` command: words in, one call out."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from . import config, machine
from .config import DEFAULT_DISK, DEFAULT_SALT, MIRROR_URL, current_lab, short_name
from .ui import LabError

DESCRIPTION = """\
Real hosts on this one machine: systemd-nspawn machines with a network, a systemd and a salt-minion
of their own, a master beside them, and a mirror with what they install. Needs root (asks sudo).
"""

EPILOG = f"""\
examples:
  lab up                              master, ca, etcd1..3 and lb, until all minions answer
  lab salt '*' test.ping              on the master; also salt-run, and salt-call HOST
  lab exec etcd1 systemctl status etcd
  lab client curl {MIRROR_URL}/...    a program of this machine, in the lab's network
  lab fault etcd2 kill                then: lab fault etcd2 heal
  lab down

environment:
  ETCD_HA_LAB           name of the lab (default: lab); labs of other names are other labs
  ETCD_HA_LAB_SOURCES   where etcd may come from, in order (default: upstream,go,debian)
  ETCD_HA_LAB_UPSTREAM  a mirror of upstream's releases, instead of upstream's own site
  XDG_CACHE_HOME        its folder etcd_ha keeps base trees and archives (default: ~/.cache)
"""


def main() -> int:
    words = sys.argv[1:]
    machine.widen_path()
    try:
        machine.become_root()
        if words and words[0] in PASS_THROUGH:
            return PASS_THROUGH[words[0]](words[1:]) or 0
        arguments = parser().parse_args(words)
        return arguments.call(arguments) or 0
    except LabError as why:
        print(f"lab: {why}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; `lab up` goes on from here, `lab down` cleans up", file=sys.stderr)
        return 130


# Commands whose words belong to another program: nothing of them is parsed here.


def _on_master(program: str):
    def call(words: list[str]) -> None:
        from . import hosts, lab

        lab.require(current_lab())
        hosts.execute(current_lab(), "master", [program, *words])

    return call


def _salt_call(words: list[str]) -> None:
    _exec([*words[:1], "salt-call", *words[1:]], "salt-call HOST ARGS")


def _exec(words: list[str], usage: str = "exec HOST COMMAND") -> None:
    from . import hosts, lab

    if len(words) < 2 or words[0].startswith("-"):
        raise LabError(f"usage: lab {usage}")
    host = lab.require_host(current_lab(), short_name(words[0]))
    hosts.execute(current_lab(), host.name, words[1:])


def _client(words: list[str]) -> None:
    from . import lab

    if not words:
        raise LabError("usage: lab client COMMAND")
    lab.require(current_lab())
    os.execvp("nsenter", ["nsenter", f"--net=/run/netns/{current_lab().switch}", *words])


def _build_base(words: list[str]) -> None:
    from . import base

    suite, salt, key, home = words
    base.build(suite, salt, key, Path(home))


PASS_THROUGH = {
    "salt": _on_master("salt"),
    "salt-run": _on_master("salt-run"),
    "salt-key": _on_master("salt-key"),
    "salt-call": _salt_call,
    "exec": _exec,
    "client": _client,
    "_build-base": _build_base,
}


# Commands of the lab itself.


def up(a: argparse.Namespace) -> None:
    from . import lab

    lab.up(current_lab(), a.hosts, a.balancers, a.suite, a.salt, a.disk)


def down(_: argparse.Namespace) -> None:
    from . import lab

    machine.require_tools(["ip", "losetup"])
    lab.down(current_lab())


def reset(a: argparse.Namespace) -> None:
    from . import lab

    lab.reset(current_lab(), [short_name(name) for name in a.host], a.saved)


def save(a: argparse.Namespace) -> None:
    from . import lab

    lab.save(current_lab(), a.name)


def status(a: argparse.Namespace) -> int:
    from . import lab

    print(lab.status(current_lab()))
    return 0


def prepare(a: argparse.Namespace) -> None:
    from . import artifacts, lab

    lab.prepare(a.suite, a.salt or DEFAULT_SALT)
    if a.all:
        artifacts.get_all()


def fault(a: argparse.Namespace) -> None:
    from . import faults, lab

    places = current_lab()
    host = lab.require_host(places, short_name(a.host))
    others = [lab.require_host(places, short_name(name)).name for name in a.others]
    if a.fault == "wipe" and a.data is None:
        faults.wipe(places, host.name, None)  # takes the lock by itself
        return
    if a.fault == "flap":
        faults.flap(places, host.name, a.every, a.seconds)  # others may change the lab meanwhile
        return
    with lab.locked(places):
        if a.fault == "cut":
            faults.cut(places, host.name, others, a.one_way)
        elif a.fault == "wipe":
            faults.wipe(places, host.name, a.data)
        elif a.fault == "fill":
            faults.fill(places, host.name, a.leave)
        elif a.fault == "flip":
            if a.data is None:
                raise LabError("flip takes the file to spoil: --data /var/lib/etcd/member/wal")
            faults.flip(places, host.name, a.data, a.spot)
        elif a.fault == "kill":
            faults.kill(places, host.name, a.drop_cache)
        elif a.fault == "heal":
            faults.heal(places, host.name, a.wait)
        else:
            getattr(faults, a.fault)(places, host.name)


def mirror(a: argparse.Namespace) -> None:
    from . import artifacts, mirror

    places = current_lab()
    if a.action == "list":
        if a.json:
            print(json.dumps([vars(artifact) for artifact in artifacts.cached()], indent=2))
        else:
            print(mirror.listing(places))
    elif a.action == "get":
        machine.require_tools(["dpkg-deb"])
        try:
            for version in a.version or [artifacts.DEFAULT]:
                artifacts.get_all() if version == "all" else artifacts.get(version)
        finally:
            print(mirror.listing(places))
    elif a.action == "default":
        print(artifacts.default_version())
    elif a.action == "newest":
        found = artifacts.newest(*a.version[:1])
        if not found:
            raise LabError(f"the mirror has no etcd {' '.join(a.version)}: `lab mirror get` first")
        print(found.version)
    elif a.action == "url":
        print(f"{MIRROR_URL}/etcd")
    elif a.action == "corrupt":
        for version in a.version or [artifacts.DEFAULT]:
            print(mirror.corrupt(places, version, a.how))
    else:
        mirror.restore(places, *(a.version[:1] or [None]))


def s3(a: argparse.Namespace) -> None:
    from . import lab, s3

    places = current_lab()
    lab.require(places)
    if a.action == "start":
        print(json.dumps(s3.start(places), indent=2))
    elif a.action == "files":
        print("\n".join(s3.files(places)))
    elif a.action == "folder":
        print(s3.folder(places))
    elif a.action == "empty":
        s3.empty(places)
    elif a.action == "stop":
        s3.stop(places)
    else:
        s3.freeze(places, a.action == "freeze")


def pillar(a: argparse.Namespace) -> None:
    from . import lab, pillar

    record = lab.require(current_lab())
    version = None if a.keep_version else record.etcd
    if not pillar.write(current_lab(), version, Path(a.example)):
        raise LabError(f"there is no {a.example}")
    print(current_lab().pillar)


def pillar_dir(_: argparse.Namespace) -> None:
    from . import lab

    lab.require(current_lab())
    print(current_lab().pillar)


def addresses(_: argparse.Namespace) -> None:
    from . import lab

    for name in lab.require(current_lab()).hosts:
        print(f"{config.address_of(name)}\t{name}.{config.DOMAIN}\t{name}")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="lab",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, call, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(call=call)
        return sub

    def recipe(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--suite", help="release of the distribution (default: this machine's)")
        sub.add_argument("--salt", help=f"Salt version (default: {DEFAULT_SALT}, or the lab's own)")

    sub = command("up", up, "bring the lab up, or add the hosts that are missing")
    sub.add_argument("--hosts", type=int, default=3, help="etcd hosts (default: %(default)s)")
    sub.add_argument("--balancers", type=int, default=1, help="balancers (default: %(default)s)")
    sub.add_argument("--disk", default=DEFAULT_DISK, help="disk of a host (default: %(default)s)")
    recipe(sub)

    command("down", down, "end the lab and check that nothing of it is left")
    command("status", status, "table of the hosts, their state and their minions")

    sub = command("reset", reset, "blank disks for some hosts (default: all, with the master)")
    sub.add_argument("host", nargs="*", help="host to make blank")
    sub.add_argument("--saved", default="", metavar="NAME",
                     help="not blank: with the disks that `lab save NAME` has kept")  # fmt: skip

    sub = command("save", save, "keep the disks of all hosts, for `lab reset --saved NAME`")
    sub.add_argument("name", help="a-z and 0-9")

    for name, what in (
        ("salt", "run salt on the master"),
        ("salt-run", "run salt-run on the master"),
        ("salt-key", "run salt-key on the master"),
        ("salt-call", "HOST ARGS: run salt-call on a host"),
        ("exec", "HOST COMMAND: run a command in a host; its exit code is passed on"),
        ("client", "COMMAND: run a program of this machine in the lab's network, as a client"),
    ):
        commands.add_parser(name, help=what, add_help=False)

    sub = command("fault", fault, "do to a host what happens to real machines")
    sub.add_argument("host")
    sub.add_argument(
        "fault",
        choices=("kill", "freeze", "cut", "flap", "wipe", "fill", "flip", "clock", "heal"),
        help="kill: power loss. freeze: stands still. cut: unplugged. flap: unplugged again and "
        "again. wipe: blank disk. fill: full disk. flip: one bit of a file. clock: says why not. "
        "heal: undoes any but wipe and flip (and boots a host that is off)",
    )
    sub.add_argument("--from", dest="others", action="append", default=[], metavar="HOST",
                     help="cut: from this host only (may be repeated)")  # fmt: skip
    sub.add_argument("--one-way", action="store_true",
                     help="cut --from: still send, but hear nothing")  # fmt: skip
    sub.add_argument("--drop-cache", action="store_true",
                     help="kill: what was not yet written to the disk is lost, too")  # fmt: skip
    sub.add_argument("--data", metavar="PATH",
                     help="wipe: empty this folder only, no reboot. flip: this file, or the newest "
                     "of this folder")  # fmt: skip
    sub.add_argument("--spot", type=float, default=0.5, metavar="0..1",
                     help="flip: how far into the file (default: %(default)s)")  # fmt: skip
    sub.add_argument("--every", type=float, default=0.5, metavar="SECONDS",
                     help="flap: down so long, up so long (default: %(default)s)")  # fmt: skip
    sub.add_argument("--for", dest="seconds", type=float, default=10, metavar="SECONDS",
                     help="flap: for so long (default: %(default)s)")  # fmt: skip
    sub.add_argument("--leave", type=int, default=0, metavar="BYTES", help="fill: leave so much")
    sub.add_argument("--no-wait", dest="wait", action="store_false",
                     help="heal: do not wait for the minion")  # fmt: skip

    sub = command("mirror", mirror, "what the artifact mirror has, and more of it")
    sub.add_argument(
        "action",
        nargs="?",
        default="list",
        choices=("list", "get", "default", "newest", "url", "corrupt", "restore"),
        help="get VERSION..|all: fetch. default: version that the demo runs. newest [3.5]: newest "
        "that is there. corrupt VERSION: serve it spoiled. restore: serve it well again",
    )
    sub.add_argument("version", nargs="*")
    sub.add_argument("--json", action="store_true", help="list: as JSON")
    sub.add_argument("--how", choices=("flip", "truncate", "missing-sums"), default="flip",
                     help="corrupt: flip one bit, cut in half, or empty SHA256SUMS")  # fmt: skip

    sub = command("s3", s3, "an S3 server in the lab's network, for backups (needs Go)")
    sub.add_argument(
        "action",
        choices=("start", "stop", "freeze", "thaw", "files", "folder", "empty"),
        help="start: serve, and print as JSON what a client needs to know. stop: gone. freeze: it "
        "stands still. files: what lies in the bucket, in which folder. empty: nothing any more",
    )

    sub = command("pillar", pillar, "write the pillar again, from pillar.example")
    sub.add_argument("--example", default=str(config.CHECKOUT / "pillar.example"))
    sub.add_argument("--keep-version", action="store_true", help="keep the example's etcd version")
    command("pillar-dir", pillar_dir, "folder of the lab's pillar, on this machine")
    command("addresses", addresses, "address, id and name of every host, as /etc/hosts has them")

    sub = command("prepare", prepare, "get all that stays cached: tools, base tree, Salt, etcd")
    sub.add_argument("--all", action="store_true", help="all etcd versions, not the default alone")
    recipe(sub)
    return top
