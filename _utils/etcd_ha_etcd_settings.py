"""What one etcd is told to be: by its command line, its environment, or its configuration file.

https://etcd.io/docs/v3.6/op-guide/configuration/: a flag wins over the variable of its name; with a
configuration file every flag and variable is ignored (server/etcdmain/config.go, ``parse``).
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import etcd_ha_machine
import yaml

# etcd as its releases, packages and people call it; neither etcdctl nor etcdutl.
_PROGRAM = re.compile(r"etcd([-_.]?v?[0-9][0-9a-z.+_-]*)?(-(linux|server)[a-z0-9._-]*)?")
# Programs that name a unit or a log, and start nothing of that name themselves.
_SPEAK_OF_IT = ("journalctl", "logger", "service", "systemctl")
# Programs behind whose options the one that they start may stand.
_START_OTHERS = re.compile(
    r"(ba|da|z|k|a|)sh|exec|env|su|sudo|doas|runuser|setpriv|setsid|stdbuf|nohup|nice|ionice|chrt"
    r"|taskset|numactl|unshare|nsenter|chroot|capsh|systemd-\w+|docker|podman|nerdctl|ctr|rkt|runc"
    r"|crun|lxc(-\w+)?|tini|dumb-init|gosu|su-exec"
)
# Options whose value is a name. Behind any other one it may be the program: unknown is not no.
_NAMES = re.compile(
    r"--?(u|unit|user|g|group|t|tag|id|identifier|n|name|service|job|type|kind|driver"
    r"|[a-z-]*backend|[a-z-]*store)"
)
# What the program can be instead of a member: neither holds data.
PROXIES = ("gateway", "grpc-proxy")
PROXY_LISTENS = "127.0.0.1:23790"
_LISTENS = ("listen-client-urls", "listen-client-http-urls", "listen-peer-urls")
# The most of a configuration file that is read, in characters.
LONGEST = 1 << 20


@dataclass(frozen=True)
class Settings:
    """Where an etcd keeps its data and where it listens; paths are absolute."""

    name: str = "default"
    data_dir: str = ""
    wal_dir: str = ""
    config_file: str = ""
    clients: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    proxy: str = ""
    # Why it is not known what this etcd is told to be.
    fault: str = ""

    @property
    def ports(self) -> tuple[int, ...]:
        """The TCP ports at which it listens; none where it has sockets of files alone."""
        found = [port(url) for url in (*self.clients, *self.peers)]
        return tuple(dict.fromkeys(one for one in found if one))


def is_program(path: str) -> bool:
    """Whether a program of this path is etcd by its name."""
    name = os.path.basename(path.removesuffix(" (deleted)"))
    return _PROGRAM.fullmatch(name) is not None


def read(
    words: Sequence[str],
    environment: Mapping[str, str],
    cwd: str,
    reader: Callable[[str], str],
) -> Settings:
    """The settings of an etcd that is started with these words (without the program itself).

    ``cwd`` is the directory in which it starts. ``reader`` gives the text of the configuration
    file; an OSError of it makes the settings unknown, as does a file that is no YAML.
    """
    proxy = words[0] if words and words[0] in PROXIES else ""
    config = _given("config-file", words, environment)
    values: Mapping[str, Any] = {}
    if config:
        config = _absolute(cwd, config)
        try:
            values = _parsed(reader(config))
        except (OSError, ValueError) as err:
            return Settings(config_file=config, proxy=proxy, fault=f"{config}: {err}")

    def value(flag: str) -> str:
        found = values.get(flag, "") if config else _given(flag, words, environment)
        return ",".join(map(str, found)) if isinstance(found, list) else str(found or "")

    name = value("name") or "default"
    clients, more, peers = (_urls(value(flag)) for flag in _LISTENS)
    if proxy:
        clients = (f"http://{value('listen-addr') or PROXY_LISTENS}",)
    odd = [path for path in (value("data-dir"), value("wal-dir")) if not path.isprintable()]
    if odd:
        return Settings(name, config_file=config, proxy=proxy, fault="its directory is no path")
    return Settings(
        name=name,
        data_dir="" if proxy else _absolute(cwd, value("data-dir") or f"{name}.etcd"),
        wal_dir=_absolute(cwd, value("wal-dir")) if value("wal-dir") else "",
        config_file=config,
        clients=(*(clients or ("http://localhost:2379",)), *more),
        peers=() if proxy else peers or ("http://localhost:2380",),
        proxy=proxy,
    )


def program_of(words: Sequence[str]) -> tuple[str, list[str]]:
    """The etcd that a command line starts, and the words behind it; empty where it starts none.

    It may stand behind others: ``nice etcd``, ``sh -c "exec etcd --name x"``, ``docker run etcd``.
    Where others only speak of it (``journalctl -u etcd``, ``confd -backend etcd``) none is started.
    """
    first = os.path.basename(words[0]) if words else ""
    for number, word in enumerate(words if first not in _SPEAK_OF_IT else ()):
        if " " in word and any(is_program(one) for one in word.split()):
            return program_of(word.split())
        bare = word.partition("@")[0].rpartition(":")[0] or word
        if is_program(word) and not _is_value(words, number):
            return word, list(words[number + 1 :])
        if number and is_program(bare) and "/" in bare:
            return word, list(words[number + 1 :])
    return "", []


def _is_value(words: Sequence[str], number: int) -> bool:
    """Whether a word without a path is the value of an option before it, not a program's name."""
    if not number or "/" in words[number] or _START_OTHERS.fullmatch(os.path.basename(words[0])):
        return False
    return _NAMES.fullmatch(words[number - 1]) is not None


def port(url: str) -> int:
    """The TCP port of an URL; 0 where it has none."""
    try:
        parts = urlsplit(url)
        return 0 if parts.scheme.startswith("unix") else parts.port or 0
    except ValueError:
        return 0


def _given(flag: str, words: Sequence[str], environment: Mapping[str, str]) -> str:
    """A flag's value: the last one on the command line, else its variable's."""
    found = environment.get(f"ETCD_{flag.upper().replace('-', '_')}", "")
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in (f"-{flag}", f"--{flag}"):
            found = value if equals else (list(words[number + 1 : number + 2]) or [""])[0]
    return found


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        if any(isinstance(one, yaml.AliasEvent) for one in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("it has an alias (*name), which a few lines can make huge")
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, LookupError, TypeError, AttributeError) as err:
        # PyYAML's constructors raise whatever they stumble over.
        raise ValueError("it is not YAML") from err
    if found is None:
        return {}
    if not isinstance(found, Mapping) or not all(map(_is_setting, found.values())):
        raise ValueError("it is not a configuration of etcd's")
    return found


def _is_setting(value: object) -> bool:
    """A scalar, a few of them, or a mapping of such (client-transport-security)."""
    if isinstance(value, Mapping):
        return all(not isinstance(one, (Mapping, list)) for one in value.values())
    if isinstance(value, list):
        return len(value) < 64 and not any(isinstance(one, (Mapping, list)) for one in value)
    return True


def _urls(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())


def _absolute(cwd: str, path: str) -> str:
    return os.path.normpath(os.path.join(cwd or "/", path))


def shown_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The ``ETCD_*`` variables among these, each as far as anybody may and wants to read it.

    Images bring passwords in variables of that name (ETCD_ROOT_PASSWORD of Bitnami's).
    """
    return {
        name: value[:LONGEST_VALUE]
        for name, value in sorted(environment.items())
        if name.startswith("ETCD_") and not etcd_ha_machine.is_secret(name)
    }


# Characters of a variable or of a word of a command line that are reported.
LONGEST_VALUE = 1024


def shown_words(words: Iterable[str]) -> list[str]:
    """The words of a command line, as many and as long as anybody wants to read."""
    return [word[:LONGEST_VALUE] for word in list(words)[:200]]
