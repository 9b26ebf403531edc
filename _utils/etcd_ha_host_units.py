"""The systemd units of this host that start etcd, as their files say, also those that never ran.

systemd.unit(5) says where units and their drop-ins lie and which of two of one name counts,
systemd.service(5) and systemd.exec(5) what stands in them. Read from the files: it works the same
with every systemd, for a stopped unit, and where systemd does not answer.
"""

import contextlib
import dataclasses
import errno
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import etcd_ha_common_files
import etcd_ha_etcd_settings
import etcd_ha_machine
from etcd_ha_common_files import Unreadable

# Where units lie; what comes first counts.
FOLDERS = (
    "etc/systemd/system",
    "run/systemd/system",
    "run/systemd/generator.early",
    "run/systemd/generator",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
    "run/systemd/generator.late",
)
# The unit that the formula itself uses: what has its name is looked at whatever it starts.
UNIT = "etcd.service"
# The first line of a unit that this formula wrote.
OURS = "# Kept by Salt (etcd_ha)"
# A unit or script beyond this size (bytes) is nobody's that starts etcd.
_LARGEST = 1 << 20


@dataclass(frozen=True)
class Unit:
    """A service that starts etcd."""

    name: str
    # The unit's file, then its drop-ins, in the order in which they count.
    files: tuple[str, ...]
    words: tuple[str, ...] = ()
    program: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    user: str = ""
    # Whether this formula wrote it.
    ours: bool = False
    # What its program is run in, where that is no plain process: the program's name.
    container: str = ""
    # Whether it starts at boot.
    enabled: bool = False
    fault: str = ""


def etcds(root: str = "/") -> list[Unit]:
    """All units below ``root`` that start etcd, by name."""
    found = []
    enabled = _enabled(root)
    folders = _drop_in_folders(root)
    for name, path in sorted(_services(root).items()):
        text = _text(path)
        drop_ins = _drop_ins(folders, name)
        # Most units never speak of etcd: only those that do are read with care.
        if "etcd" not in name and not any("etcd" in one for one in (text, *map(_text, drop_ins))):
            continue
        try:
            unit = _unit(root, name, path, drop_ins)
        except (OSError, ValueError, Unreadable) as err:
            unit = Unit(name, (path,), fault=f"{path}: {err}")
        if unit is not None:
            found.append(dataclasses.replace(unit, enabled=name in enabled))
    return found


def _enabled(root: str) -> set[str]:
    """The units that another one pulls in, such as ``multi-user.target`` at boot."""
    found: set[str] = set()
    for folder in (os.path.join(root, one) for one in FOLDERS):
        pulls = [one for one in _entries(folder) if one.endswith((".wants", ".requires"))]
        found.update(name for one in pulls for name in _entries(f"{folder}/{one}"))
    return found


def _services(root: str) -> dict[str, str]:
    """Service -> the file that counts; instances of templates stand for their template."""
    found: dict[str, str] = {}
    instances: list[tuple[str, str]] = []
    for folder in (os.path.join(root, one) for one in FOLDERS):
        for entry in _entries(folder):
            if entry.endswith((".wants", ".requires")):
                names = _entries(f"{folder}/{entry}")
                instances += [(one, folder) for one in names if re.search(r"@.+\.service$", one)]
            elif entry.endswith(".service"):
                found.setdefault(entry, f"{folder}/{entry}")
    for name, _ in instances:
        template = found.get(re.sub(r"@.+\.service$", "@.service", name))
        if template:
            found.setdefault(name, template)
    return {
        name: path
        for name, path in found.items()
        if not name.endswith("@.service") and not _is_masked(path)
    }


def _is_masked(path: str) -> bool:
    return (
        etcd_ha_common_files.lexists(path)
        and os.path.islink(path)
        and os.path.basename(os.readlink(path)) == "null"
    )


def _drop_in_folders(root: str) -> dict[str, list[str]]:
    """The folders of drop-ins by name, such as ``etcd.service.d``; what counts most comes last."""
    found: dict[str, list[str]] = {}
    for folder in (os.path.join(root, one) for one in reversed(FOLDERS)):
        for entry in _entries(folder):
            if entry.endswith(".d"):
                found.setdefault(entry, []).append(f"{folder}/{entry}")
    return found


def _drop_ins(folders: Mapping[str, Sequence[str]], name: str) -> list[str]:
    prefix = name.partition("@")[0] + "@.service" if "@" in name else ""
    chosen: dict[str, str] = {}
    for one in ("service", prefix, name):
        for folder in folders.get(f"{one}.d", ()):
            chosen |= {e: f"{folder}/{e}" for e in _entries(folder) if e.endswith(".conf")}
    return [chosen[entry] for entry in sorted(chosen)]


def _entries(folder: str) -> list[str]:
    try:
        return etcd_ha_common_files.names(folder)
    except Unreadable as err:
        if _is_loop(err):
            return []
        raise


def _is_loop(err: Unreadable) -> bool:
    """A loop of links leads nowhere: systemd reads nothing there either."""
    return isinstance(err.__cause__, OSError) and err.__cause__.errno == errno.ELOOP


def _text(path: str) -> str:
    """A file's text; empty where there is none, or none that can be read as a unit's.

    Raises Unreadable where a disk errs: it may be etcd's unit.
    """
    try:
        with etcd_ha_common_files.reading(path):
            return etcd_ha_machine.read_regular(path, _LARGEST).decode("utf-8", "replace")
    except etcd_ha_common_files.ABSENT:
        return ""
    except Unreadable as err:
        # What is a directory, a pipe or a device is no unit to systemd either.
        if _is_loop(err) or not etcd_ha_common_files.is_file(path):
            return ""
        raise


def _unit(root: str, name: str, path: str, drop_ins: Sequence[str]) -> "Unit | None":
    texts = [_text(one) for one in (path, *drop_ins)]
    settings = _settings(texts)
    specifiers = _specifiers(name)
    cwd = specifiers(settings.get("WorkingDirectory", [""])[-1].lstrip("-")) or "/"
    user = specifiers(settings.get("User", [""])[-1])
    environment: dict[str, str] = {}
    faults = []
    try:
        for line in settings.get("Environment", []):
            pairs = (word.partition("=") for word in shlex.split(specifiers(line)))
            environment |= {key: value for key, _, value in pairs}
        for line in settings.get("EnvironmentFile", []):
            environment |= _variables(root, specifiers(line))
    except (ValueError, OSError, Unreadable) as err:
        faults.append(f"{path}: {err}")
    faults += [f"{path} has {key}" for key in ("RootDirectory", "RootImage") if key in settings]
    if cwd == "~":
        faults.append(f"{path} has WorkingDirectory=~")
    for line in settings.get("ExecStart", []):
        bare = specifiers(line.lstrip("@-:+!| "))
        try:
            words = _words(bare, environment)
        except ValueError as err:
            faults.append(f"{path}: {err}")
            words = bare.split()
        program, rest = etcd_ha_etcd_settings.program_of(words)
        if not words or (not program and name != UNIT):
            continue
        if program != words[0]:
            # A shell or another program before it may change directories, variables and words.
            faults.append(f"{path} starts it by {os.path.basename(words[0])}")
        container = os.path.basename(words[0]) if _is_runtime(words[0]) else ""
        if not container and _is_script(root, program):
            faults.append(f"{program} is a script")
        return Unit(
            name=name,
            files=(path, *drop_ins),
            words=tuple(rest),
            program=program,
            environment=environment,
            cwd=cwd,
            user=user,
            # With another command in a drop-in it is no longer what the formula wrote.
            ours=texts[0].startswith(OURS) and not any("ExecStart=" in one for one in texts[1:]),
            container=container,
            fault="; ".join(faults),
        )
    return None


def _settings(texts: Sequence[str]) -> dict[str, list[str]]:
    """Setting of [Service] -> its values in their order; an empty one takes back those before."""
    found: dict[str, list[str]] = {}
    for text in texts:
        for key, value in _assignments(text, "[Service]"):
            if value:
                found.setdefault(key, []).append(value)
            else:
                found[key] = []
    return {key: values for key, values in found.items() if values}


def _assignments(text: str, wanted: str) -> Iterator[tuple[str, str]]:
    """What a section of a file sets, in its order."""
    section = ""
    for line in _lines(text):
        if line.startswith("["):
            section = line
        elif section == wanted and "=" in line:
            key, _, value = line.partition("=")
            yield key.strip(), value.strip()


def _lines(text: str) -> Iterator[str]:
    """Lines without comments, those that end with a backslash joined with the next one."""
    held = ""
    for line in text.splitlines():
        if line.lstrip().startswith(("#", ";")):
            continue
        held += line.strip()
        if held.endswith("\\"):
            held = f"{held[:-1]} "
            continue
        if held:
            yield held
        held = ""
    if held:
        yield held


def _specifiers(name: str) -> "_Specifiers":
    return _Specifiers(name)


class _Specifiers:
    """The specifiers that name a file or a member; others stay as they are."""

    def __init__(self, name: str) -> None:
        whole = name.removesuffix(".service")
        prefix, _, instance = whole.partition("@")
        self.values = {"n": name, "N": whole, "p": prefix, "i": instance, "I": instance, "%": "%"}
        self.values |= {"H": os.uname().nodename, "l": os.uname().nodename.partition(".")[0]}

    def __call__(self, text: str) -> str:
        return re.sub(r"%(.)", lambda one: self.values.get(one[1], one[0]), text)


def _variables(root: str, line: str) -> dict[str, str]:
    """The variables of an EnvironmentFile; one behind a dash may be missing."""
    path = os.path.join(root, line.lstrip("-").lstrip("/"))
    if re.search(r"[*?\[]", line):
        raise ValueError(f"EnvironmentFile={line} stands for several files")
    if line.startswith("-") and not etcd_ha_common_files.exists(path):
        return {}
    return _read(etcd_ha_machine.read_regular(path, _LARGEST).decode("utf-8", "replace"))


def _read(text: str) -> dict[str, str]:
    found = {}
    for one in _lines(text):
        key, equals, value = one.removeprefix("export ").partition("=")
        if equals:
            found[key.strip()] = _unquoted(value.strip())
    return found


def variables(path: str) -> dict[str, str]:
    """The variables of an environment file; none where it is missing. Raises Unreadable."""
    return _read(_text(path))


def assignments(path: str, section: str) -> list[tuple[str, str]]:
    """What a section of a file sets, in its order, with specifiers as in the formula's unit."""
    specifiers = _specifiers(UNIT)
    return [(key, specifiers(value)) for key, value in _assignments(_text(path), section)]


def started_words(name: str, root: str = "/") -> list[str]:
    """The words of all commands that start a service, with its variables in their places.

    Empty where there is no such unit, or it is masked; what cannot be read is left out.
    """
    path = _services(root).get(name)
    if path is None:
        return []
    settings = _settings([_text(one) for one in (path, *_drop_ins(_drop_in_folders(root), name))])
    specifiers = _specifiers(name)
    environment: dict[str, str] = {}
    for line in settings.get("Environment", []):
        # systemd passes over a line with a quote that is never closed, and starts the service.
        with contextlib.suppress(ValueError):
            pairs = [word.partition("=") for word in shlex.split(specifiers(line))]
            environment |= {key: value for key, _, value in pairs}
    for line in settings.get("EnvironmentFile", []):
        environment |= variables(os.path.join(root, specifiers(line).lstrip("-").lstrip("/")))
    lines = (specifiers(line.lstrip("@-:+!| ")) for line in settings.get("ExecStart", []))
    return [word for line in lines for word in _words(line, environment)]


def drop_ins(root: str = "/") -> list[str]:
    """The drop-ins of the formula's unit, in the order in which they count."""
    return _drop_ins(_drop_in_folders(root), UNIT)


def _unquoted(value: str) -> str:
    try:
        return " ".join(shlex.split(value)) if value[:1] in ("'", '"') else value
    except ValueError:
        return value


def _words(line: str, environment: Mapping[str, str]) -> list[str]:
    """The words of an ExecStart; ``$NAME`` alone becomes words, ``${NAME}`` stays within one."""
    words: list[str] = []
    for word in shlex.split(line):
        alone = re.fullmatch(r"\$(\w+)", word)
        if alone:
            words += shlex.split(environment.get(alone[1], ""))
        else:
            words.append(re.sub(r"\$\{(\w+)\}", lambda one: environment.get(one[1], one[0]), word))
    return words


def _is_runtime(program: str) -> bool:
    names = ("docker", "podman", "nerdctl", "ctr", "rkt", "runc", "crun", "lxc", "lxc-start")
    return os.path.basename(program) in names


def _is_script(root: str, program: str) -> bool:
    """Whether a program is a text that starts something else, such as a container."""
    path = os.path.join(root, program.lstrip("/"))
    try:
        with etcd_ha_common_files.reading(path):
            return etcd_ha_machine.read_regular(path, 2) == b"#!"
    except etcd_ha_common_files.ABSENT:
        return False
    except Unreadable:
        if etcd_ha_common_files.is_file(path):
            raise
        return False
