"""What a host's files say to those who read them: systemd, HAProxy, nginx, nft, a shell, and JSON.

Each reader follows the rules of the real one, and knows no other. ``faults`` renders all files of a
host from the real templates, reads them back, and tells what stands there that nobody asked for.
"""

import functools
import ipaddress
import json
import pathlib
import re
import shlex
import xml.etree.ElementTree

import etcd_ha_environment
import etcd_ha_firewall
import etcd_ha_host
import jinja2
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
MEMBER, BALANCER, CA = "etcd1.example.com", "lb.example.com", "ca.example.com"
_BLANK = " \t\r\n"


def environment(text):
    """An environment file as systemd has it (src/basic/env-file.c, parse_env_file_internal)."""
    found, state, key, value = [], "before", "", ""
    for letter in f"{text}\n":
        if state == "before":
            if letter in "#;":
                state = "comment"
            elif letter not in _BLANK:
                state, key = "key", letter
        elif state == "key":
            if letter in "\r\n":
                state = "before"
            elif letter == "=":
                state, value = "value", ""
            else:
                key += letter
        elif state == "value":
            if letter in "\r\n":
                found.append((key.rstrip(_BLANK), value.rstrip(_BLANK) if value else ""))
                state = "before"
            elif letter == '"':
                state = "double"
            elif letter == "'":
                state = "single"
            elif letter == "\\":
                state = "value escape"
            elif value or letter not in _BLANK:
                value += letter
        elif state == "value escape":
            value, state = value + ("" if letter in "\r\n" else letter), "value"
        elif state == "single":
            value, state = (value, "quoted") if letter == "'" else (value + letter, "single")
        elif state == "double":
            if letter == '"':
                state = "quoted"
            elif letter == "\\":
                state = "double escape"
            else:
                value += letter
        elif state == "double escape":
            if letter in '"\\`$':
                value += letter
            elif letter != "\n":
                value += f"\\{letter}"
            state = "double"
        elif state == "quoted":
            # Blanks in quotes are kept, and our files have nothing behind them.
            assert letter == "\n", f"{key}: something follows its quotes: {letter!r}"
            found.append((key, value))
            state = "before"
        elif state == "comment":
            state = {"\\": "comment escape", "\n": "before", "\r": "before"}.get(letter, state)
        else:
            state = "comment"
    assert state == "before", f"the file ends within {state}"
    assert len(dict(found)) == len(found), "a variable stands there twice"
    return dict(found)


def unit(text):
    """A unit as (section, key, value); systemd.syntax(7)."""
    found, section, whole = [], "", ""
    for line in text.split("\n"):
        if line.lstrip().startswith(("#", ";")):
            continue
        if line.endswith("\\"):
            whole += f"{line[:-1]} "
            continue
        line, whole = (whole + line).strip(), ""
        if line.startswith("["):
            assert line.endswith("]"), line
            section = line[1:-1]
        elif line:
            key, is_there, value = line.partition("=")
            assert is_there, f"no assignment: {line!r}"
            found.append((section, key.strip(), value.strip()))
    return found


def haproxy(text):
    """Words of each line that says something (HAProxy's configuration.txt, 2.2 Quoting)."""
    found = []
    for line in text.split("\n"):
        words, word, quote, escaped = [], None, "", False
        for letter in line:
            if escaped:
                word, escaped = (word or "") + letter, False
            elif letter == "\\" and quote != "'":
                escaped = True
            elif quote:
                assert not (quote == '"' and letter == "$"), "an environment variable"
                word, quote = (word, "") if letter == quote else (word + letter, quote)
            elif letter in "\"'":
                word, quote = word or "", letter
            elif letter == "#":
                break
            elif letter.isspace():
                words, word = words + ([word] if word is not None else []), None
            else:
                word = (word or "") + letter
        assert not quote and not escaped, f"it does not end: {line!r}"
        words += [word] if word is not None else []
        found += [words] if words else []
    return found


def nginx(text):
    """Nested statements: a list of words, and the block behind them where there is one."""
    tokens = re.findall(r"#[^\n]*|[{};]|\"[^\"]*\"|'[^']*'|[^\s{};\"'#]+", text)
    levels, words = [[]], []
    for token in tokens:
        if token.startswith("#"):
            continue
        if token == ";":
            levels[-1].append(words)
            words = []
        elif token == "{":
            levels[-1].append([*words, []])
            levels.append(levels[-1][-1][-1])
            words = []
        elif token == "}":
            assert not words, f"a statement without its end: {words}"
            levels.pop()
        else:
            words.append(token)
    assert len(levels) == 1 and not words, "it does not end"
    return levels[0]


_RULE = re.compile(r'(ip6?) saddr (\S+) tcp dport (\d+) accept comment "([a-z ]+)"')
_DROP = re.compile(r'tcp dport (\d+) drop comment "([a-z ]+): nobody else"')


def nft(text):
    """The rules of our table: (source or None, port); nothing else may stand in it."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    head = [
        "# Kept by Salt (etcd_ha); loading it replaces the whole table in one step.",
        "table inet etcd_ha",
        "delete table inet etcd_ha",
        "table inet etcd_ha {",
        "chain input {",
        "type filter hook input priority filter; policy accept;",
        'iifname "lo" accept',
    ]
    assert lines[: len(head)] == head and lines[-2:] == ["}", "}"], lines
    found = []
    for line in lines[len(head) : -2]:
        rule, drop = _RULE.fullmatch(line), _DROP.fullmatch(line)
        assert rule or drop, f"no rule of ours: {line!r}"
        if rule:
            assert (ipaddress.ip_network(rule[2]).version == 6) == (rule[1] == "ip6")
        found.append((rule[2], int(rule[3])) if rule else (None, int(drop[1])))
    return found


@functools.cache
def template(path):
    """A template of the formula, as strict as Salt's renderer is."""
    loader = jinja2.FileSystemLoader(ROOT)
    made = jinja2.Environment(
        loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    return made.get_template(path)


@functools.cache
def os_data():
    return yaml.safe_load((ROOT / "etcd_ha/os/Debian.yaml").read_text())["os"]


def render(path, **context):
    return template(f"etcd_ha/{path}").render(**context)


def hosts(clusters, arch="amd64"):
    """What each minion of these clusters shall be."""
    named = dict.fromkeys(minion for one in clusters.values() for minion in one.hosts)
    return {minion: etcd_ha_host.describe(minion, clusters.values(), arch) for minion in named}


def read_all(clusters):
    """Render every file of every host, and read it back; raises AssertionError where it differs.

    Returns how many files that were.
    """
    count = 0
    for host in hosts(clusters).values():
        cluster = clusters[host["clusters"][0]]
        if host["member"]:
            count += read_member(cluster, host)
        if host["balancer"]:
            count += read_balancer(host)
        if host["firewall"]:
            count += read_firewall(host["firewall"]["rules"])
        count += read_entries(cluster, host)
    return count


def read_member(cluster, host):
    member = host["member"]
    wanted = cluster.member(host["minion"])
    for text, values in (
        (member["environment_text"], etcd_ha_environment.variables(cluster, wanted)),
        (member["client_text"], etcd_ha_environment.client_variables(cluster, wanted)),
    ):
        written = render("environment/etcd.env.jinja", text=text)
        assert environment(written) == values
        assert etcd_ha_environment.parse_file(written) == values
    assert unit(render("unit/etcd.service.jinja", member=member)) == unit_wanted(member)
    file = f"{member['config_dir']}/etcdctl.env"
    script = shlex.split(render("environment/etcdctl.sh.jinja", file=file), comments=True)
    assert script[script.index(".") + 1] == file and script.count(file) == 2
    backup = member["backup"]
    assert json.loads(backup["settings_text"]) == backup["settings"]
    found = unit(
        render("backup/backup.service.jinja", member=member, command="/usr/bin/python3 /job")
    )
    asked = {key: value for _, key, value in found}
    assert len(found) == len(plain_backup_unit())
    assert asked["ExecStart"] == f"/usr/bin/python3 /job {backup['file']}"
    assert asked["ReadWritePaths"] == backup["directory"]
    return 6


@functools.cache
def plain_backup_unit():
    blank = {"service": "x", "file": "/x", "longest": 1, "directory": "/x"}
    member = {"cluster": "x", "backup": blank}
    return unit(render("backup/backup.service.jinja", member=member, command="/x"))


@functools.cache
def plain_unit():
    blank = {"name": "NAME", "user": "USER", "group": "GROUP", "unit": "UNIT", "start_timeout": 0}
    blank |= {"wal_dir": None, "data_dir": "DATA", "install": {"program": "PROGRAM"}}
    blank |= {"places": {"data_dir": "DATA", "wal_dir": None}, "locks_memory": False}
    return unit(render("unit/etcd.service.jinja", member=blank))


def unit_wanted(member):
    """The unit of a blank member, with this one's own words in their places, and no other line."""
    log = f"{member['wal_dir']}/wal" if member["wal_dir"] else f"{member['data_dir']}/member/wal"
    paths = " ".join(filter(None, (member["data_dir"], member["wal_dir"])))
    own = {
        "etcd member NAME": f"etcd member {member['name']}",
        "USER": member["user"],
        "GROUP": member["group"],
        "PROGRAM": member["install"]["program"],
        "DATA": paths,
        "|DATA/member/wal/*.wal": f"|{log}/*.wal",
        "0": str(member["start_timeout"]),
    }
    return [
        (section, key, value if key == "StartLimitIntervalSec" else own.get(value, value))
        for section, key, value in plain_unit()
    ]


def read_balancer(host):
    balancer = host["balancer"]
    if balancer["kind"] == "nginx":
        text = render("balancer/nginx.jinja", balancer=balancer, os=os_data()["nginx"])
        assert nginx(text) == nginx_wanted(balancer)
    else:
        context = {"os": os_data()["haproxy"], "trust": host["trust"]}
        found = haproxy(render("balancer/haproxy.jinja", balancer=balancer, **context))
        assert [words[:2] for words in found if words[0] == "frontend"] == [
            ["frontend", f"etcd_{balancer['cluster']}"],
            *([["frontend", "stats"]] if balancer["stats"]["enabled"] else []),
        ]
        assert [words[1:] for words in found if words[0] == "bind"] == [
            *(place.split() for place in balancer["listens"]),
            *([[balancer["stats"]["listen"]]] if balancer["stats"]["enabled"] else []),
        ]
        assert [words for words in found if words[0] in ("balance", "hash-type")] == [
            line.split() for line in balancer["balance_lines"]
        ]
        assert [words[1:3] for words in found if words[0] == "server"] == [
            [one["name"], one["endpoint"]] for one in balancer["backends"]
        ]
        named = balancer["pki"] and balancer["pki"]["source"] == "salt"
        own = {len(words) for words in found if words[0] == "server"}
        assert own == {5 if named else 3}
        assert len(found) == len(haproxy_blank(balancer)) + len(balancer["backends"])
        for endpoint in (one["endpoint"] for one in balancer["backends"]):
            assert is_endpoint(endpoint), endpoint
    return 1


def haproxy_blank(balancer):
    blank = {**balancer, "backends": [], "listens": ["*:1"], "stats": {**balancer["stats"]}}
    context = {"os": os_data()["haproxy"], "trust": ""}
    return haproxy(render("balancer/haproxy.jinja", balancer=blank, **context))


def is_endpoint(text):
    address, _, port = text.rpartition(":")
    ipaddress.ip_address(address.strip("[]"))
    return 0 < int(port) < 65536


def nginx_wanted(balancer):
    os, cluster = os_data()["nginx"], balancer["cluster"]
    seconds = f"{balancer['check_interval']}s"
    servers = [
        ["server", one["endpoint"], "max_fails=1", f"fail_timeout={seconds}"]
        for one in balancer["backends"]
    ]
    proxy = [
        *(
            ["listen", *place.split(), "so_keepalive=on", "reuseport"]
            for place in balancer["listens"]
        ),
        ["proxy_pass", f"members_{cluster}"],
        ["proxy_connect_timeout", f"{balancer['check_timeout']}s"],
        ["proxy_timeout", f"{balancer['idle_timeout']}s"],
        ["proxy_socket_keepalive", "on"],
        ["proxy_next_upstream", "on"],
    ]
    stream = [
        ["upstream", f"members_{cluster}", [*map(str.split, balancer["balance_lines"]), *servers]],
        ["server", proxy],
    ]
    page = [
        ["listen", balancer["stats"]["listen"], "reuseport"],
        ["location", "/", [["stub_status"]]],
    ]
    http = [["http", [["access_log", "off"], ["server", page]]]]
    return [
        ["user", os["user"]],
        ["worker_processes", "auto"],
        ["worker_rlimit_nofile", "65536"],
        ["pid", os["pid"]],
        ["include", os["modules"]],
        ["events", [["worker_connections", "16384"]]],
        ["stream", stream],
        *(http if balancer["stats"]["enabled"] else []),
    ]


def read_firewall(rules):
    wanted = []
    for rule in rules:
        wanted += [(source, rule["port"]) for source in rule["sources"]] + [(None, rule["port"])]
    assert nft(render("firewall/etcd_ha.nft.jinja", rules=rules)) == wanted
    policy = xml.etree.ElementTree.fromstring(etcd_ha_firewall.policy_xml(rules))
    sources = [one.get("address") for one in policy.iter("source")]
    assert sources == [source for source, _ in wanted if source]
    for family in (4, 6):
        for one in etcd_ha_firewall.ufw_wanted(rules, family):
            assert not any(letter.isspace() for word in one.words for letter in word)
            assert not any(word.startswith("-") for word in one.words)
    return 3


def read_entries(cluster, host):
    """/etc/hosts: each line an address and names; nobody else is called localhost."""
    known = {m.minion for m in cluster.members} | {b.minion for b in cluster.balancers}
    known |= {m.name for m in cluster.members}
    for entry in host["entries"]:
        line = f"{entry['address']} {' '.join(entry['names'])}"
        address, *names = line.split()
        assert str(ipaddress.ip_address(address)) == str(ipaddress.ip_address(entry["address"]))
        assert names == entry["names"] and set(names) <= known and "localhost" not in names
    return 1
