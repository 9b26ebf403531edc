"""docs/pillar.schema.json: the pillar for editors, made from the formula's own rules.

``python test/unit/pillar_schema.py`` writes it. Keys come from etcd_ha/defaults.yaml, types and
bounds from the tables of _utils, descriptions from docs/pillar.md. It knows no relations between
keys: ``etcd_ha.check_pillar`` does. JSON Schema draft 7, which editors know best.
"""

import json
import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "_utils")]

import etcd_ha_access as access  # noqa: E402
import etcd_ha_backup as backup  # noqa: E402
import etcd_ha_etcd_flags as flags  # noqa: E402
import etcd_ha_maintenance as maintenance  # noqa: E402
import etcd_ha_options as options  # noqa: E402
import etcd_ha_paths as paths  # noqa: E402
import etcd_ha_pillar_balance as balance  # noqa: E402
import etcd_ha_pillar_names as names  # noqa: E402
import etcd_ha_release as release  # noqa: E402
import etcd_ha_topology as topology  # noqa: E402

PAGE = ROOT / "docs" / "pillar.md"
FILE = ROOT / "docs" / "pillar.schema.json"
DRAFT = "http://json-schema.org/draft-07/schema#"
BOOLEAN, TEXT, WHOLE = {"type": "boolean"}, {"type": "string"}, {"type": "integer"}
_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")


def pattern(expression):
    """Text that a regular expression of ours takes as a whole."""
    text = expression if isinstance(expression, str) else expression.pattern
    return {"type": "string", "pattern": f"^(?:{text.removeprefix('^').removesuffix('$')})$"}


def mapping(properties, **more):
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


def listed(items):
    return {"type": "array", "items": items}


def one_of(*schemas):
    return {"anyOf": list(schemas)}


NULL = {"type": "null"}
NAME, HOST = pattern(topology._NAME), pattern(topology._HOST)
ADDRESS = {"type": "string", "pattern": "^[0-9A-Fa-f:.]+$"}
SHA256 = pattern(release._SHA256)
# The key of a setting -> what no table of etcd_ha_topology says of it.
SPECIAL = {
    "version": {
        "type": "string",
        "pattern": rf"^v?({'|'.join(map(re.escape, release.LINES))})\.{release._NUMBER}$",
    },
    "tls:keysize": WHOLE,
    "tls:names": listed(TEXT),
    "tls:ca:minion": HOST,
    "tls:ca:common_name": {"type": "string", "minLength": 1, "maxLength": 64},
    "tls:ca:organization": {"type": "string", "minLength": 1, "maxLength": 64},
    "install:url": {"type": "string", "pattern": "^(https?|file|salt)://"},
    "install:packages": listed(NAME),
    "install:checksum": one_of(
        SHA256, mapping(dict.fromkeys(sorted(set(release.ARCHITECTURES.values())), SHA256))
    ),
    "upgrade:through": {
        "type": "object",
        "propertyNames": {"enum": list(release.LINES)},
        "additionalProperties": TEXT,
    },
    "firewall:client_networks": listed(TEXT),
    "balancer:balance": {"enum": sorted({one for kind in balance._LINES.values() for one in kind})},
    "balancer:package": NAME,
    "balancer:virtual_address:address": ADDRESS,
    "balancer:virtual_address:prefix_length": WHOLE,
    "balancer:virtual_address:interface": TEXT,
    "balancer:virtual_address:advert_interval": {"type": "number"},
    "maintenance:compaction:mode": {"enum": list(maintenance.MODES)},
    "maintenance:compaction:retention": one_of(TEXT, WHOLE),
    "maintenance:quota_warning": {"type": "integer", "minimum": 1, "maximum": 100},
    "maintenance:defragment:fragmentation": {"type": "integer", "minimum": 1, "maximum": 100},
    "backup:schedule": pattern(backup.SCHEDULE),
    "backup:master:address": TEXT,
    **{
        f"backup:keep:{name}": {
            "type": "integer",
            "minimum": int(name == "last"),
            "maximum": backup._MOST_KEPT,
        }
        for name in ("last", "days", "daily", "weekly", "monthly")
    },
    **{f"backup:s3:{name}": TEXT for name in backup.S3_OPTIONAL},
    "access:enabled": BOOLEAN,
}


def descriptions():
    """Key -> its meaning, from the tables of docs/pillar.md."""
    found = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and cells[0].startswith("`"):
            found[cells[0].strip("`")] = _LINK.sub(r"\1", cells[3]).replace("`", "")
    return found


def option(flag):
    """What a flag of etcd takes (etcd_ha_options)."""
    words = options._WORDS.get(flag.name)
    if words:
        return {"enum": list(words)}
    text, many = one_of(TEXT, WHOLE), one_of(TEXT, WHOLE, listed(one_of(TEXT, WHOLE)))
    whole = one_of(WHOLE, {"type": "string", "pattern": "^-?[0-9]+$"})
    return {
        "bool": {"enum": [True, False, "true", "false"]},
        "int": whole,
        "uint": whole,
        "duration": one_of({"const": 0}, pattern(options._DURATION.pattern)),
        "text": text,
    }.get(flag.kind, many)


def of_options():
    """The flags that a pillar may set in any line of etcd."""
    lines = release.LINES
    free = {
        name: option(flag)
        for name, flag in sorted(flags.FLAGS.items())
        if not flags.never(name) and not all(flags.owner(name, line) for line in lines)
    }
    return mapping(free)


def of_access():
    permission = mapping(
        {**dict.fromkeys(access._PERMISSION_KEYS, TEXT), "access": {"enum": list(access.ACCESS)}},
        required=["access"],
    )
    role = mapping(dict.fromkeys(access._ROLE_KEYS, listed(permission)))
    user = mapping({"roles": listed(TEXT), "password": TEXT})
    assert set(user["properties"]) == set(access._USER_KEYS)
    name = pattern(access._NAME)
    return {
        "users": {"type": "object", "propertyNames": name, "additionalProperties": user},
        "roles": {"type": "object", "propertyNames": name, "additionalProperties": role},
    }


def of_files():
    parts = {part: {"type": "string", "minLength": 1} for part in topology._PARTS}
    pairs = {name: mapping(parts) for name in (*topology._CERTIFICATES, topology._CHECK)}
    return mapping({**pairs, "ca": mapping({"certificate": parts["certificate"]})})


def directory(path):
    """An absolute path in its plain form (etcd_ha_paths)."""
    odd = {"pattern": rf"//|[^/]/$|/\.\.?(/|$)|[^/]{{{paths.LONGEST_PART + 1}}}"}
    shared = [{"enum": sorted(paths.SHARED)}] if path in paths.OWN else []
    refused = {"not": one_of(odd, *shared)}
    return {**pattern(paths._PATH), "maxLength": paths.LONGEST, **refused}


def leaf(path, default):
    """One setting by its key, as etcd_ha_topology's tables have it."""
    if path in topology._CHOICES:
        return {"enum": list(topology._CHOICES[path])}
    if path in topology._PORTS:
        lowest = 1024 if path in topology._OF_ETCD else 1
        return {"type": "integer", "minimum": lowest, "maximum": 65535}
    if path in topology._POSITIVE and path not in SPECIAL:
        most = {"maximum": topology._MOST[path]} if path in topology._MOST else {}
        return {"type": "integer", "minimum": 1, **most}
    if path in topology._BOOLEANS:
        return BOOLEAN
    if path in topology._PATHS:
        return directory(path)
    if path in topology._USERS:
        return {**pattern(topology._USER), "not": {"const": "root"}}
    if path in SPECIAL:
        return SPECIAL[path]
    return {str: TEXT, int: WHOLE, float: {"type": "number"}}[type(default)]


def settings(defaults, told, path=""):
    """The settings below a key, each with its meaning and its default."""
    found = {}
    apart = {"options": of_options(), "tls:files": of_files()}
    apart |= {f"access:{name}": schema for name, schema in of_access().items()}
    for name, default in defaults.items():
        here = f"{path}:{name}".lstrip(":")
        if here in apart:
            schema = apart[here]
        elif isinstance(default, dict) and here not in SPECIAL:
            schema = mapping(settings(default, told, here))
        else:
            schema = leaf(here, default)
            schema = one_of(schema, NULL) if here in topology._OPTIONAL else schema
            needed = default is None and here not in topology._OPTIONAL
            schema = schema if needed else {**schema, "default": default}
        meaning = {"description": told[here]} if here in told else {}
        found[name] = {**meaning, **schema}
    return found


def made():
    """The whole schema."""
    defaults = yaml.safe_load((ROOT / "etcd_ha" / "defaults.yaml").read_text())
    told = descriptions()
    common = settings(defaults, told)
    named = {name: {"$ref": f"#/definitions/setting/{name}"} for name in common}
    own = {name: one for name, one in named.items() if name not in topology._CLUSTER_WIDE}

    def of(name, schema):
        return {"description": told[name], **schema}

    member = mapping(
        {"address": of("members:ID:address", ADDRESS), "name": of("members:ID:name", NAME), **own},
        required=["address"],
    )
    balancer = mapping({"address": ADDRESS}, required=["address"])
    hosts = {"type": "object", "propertyNames": HOST}
    members = {
        **hosts,
        "minProperties": 1,
        "additionalProperties": one_of(ADDRESS, {"$ref": "#/definitions/member"}),
    }
    balancers = one_of({**hosts, "additionalProperties": one_of(ADDRESS, balancer)}, NULL)
    cluster = mapping(
        {
            "members": of("members", members),
            "load_balancers": of("load_balancers", balancers),
            "token": of("token", NAME),
            "renamed_from": of("renamed_from", one_of({"const": ""}, NAME, NULL)),
            **named,
        },
        required=["members"],
    )
    assert set(topology._CLUSTER_ONLY) | set(common) == set(cluster["properties"])
    name = {**NAME, "maxLength": topology._LONGEST_CLUSTER, "not": {"enum": list(names._FILES)}}
    clusters = {
        "type": "object",
        "propertyNames": name,
        "additionalProperties": {"$ref": "#/definitions/cluster"},
    }
    base = {"clusters": clusters, **named}
    each = {"properties": {"clusters": {"additionalProperties": {"required": ["version"]}}}}
    version = one_of({"required": ["version"]}, each)
    return {
        "$schema": DRAFT,
        "title": "The pillar of etcd_ha",
        "description": "Made by test/unit/pillar_schema.py from the formula's own rules.",
        "type": "object",
        "properties": {"etcd_ha": mapping(base, required=["clusters"], **version)},
        "definitions": {"setting": common, "cluster": cluster, "member": member},
    }


def text():
    return json.dumps(made(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
