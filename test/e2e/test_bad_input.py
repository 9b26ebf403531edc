"""Bad input on real hosts: what is refused touches nothing, what looks dangerous is only text."""

import json

import pytest
from changing import EVERYONE, THREE
from extent import only_in_all, only_in_all_case
from test_refusals import untouched

# The option is one that etcd takes as it is; these are its JSON's values, which nothing reads.
STRANGE = json.dumps({"maxsize": 100, "x": "$(touch /pwned) `touch /pwned` {{ 1 + 1 }} 'q' \\ # ;"})
# The pillar file is a template itself: so it has to write those braces.
ESCAPED = STRANGE.replace("{{ 1 + 1 }}", "{{ '{{ 1 + 1 }}' }}")
LINES = (
    ({"data_dir": "/"}, "main:data_dir", "other programs use"),
    ({"user": "root"}, "main:user", "none of its rights"),
    ({"user": "etcd\nExecStartPre=/bin/touch /pwned"}, "main:user", "system user"),
    ({"balancer": {"bind": "::%x\n    bind *:1"}}, "main:balancer:bind", "IP address"),
    ({"options": {"log-level": "loud"}}, "main:options:log-level", "debug or info"),
    ({"version": "3.8.0"}, "main:version", "not supported"),
)


# On a host each is refused in the same place; the unit tests have many more.
USUAL = ("main:data_dir", "main:version")
CASES = [line if line[1] in USUAL else only_in_all_case(*line) for line in LINES]


@pytest.mark.parametrize(("settings", "key", "says"), CASES, ids=[key for _, key, _ in LINES])
def test_a_malformed_pillar_touches_no_host(changed, settings, key, says):
    changed.begin(THREE)
    with untouched(changed):
        changed.ask_for(THREE, **settings)
        run = changed.lab.orch(timeout=200).refused(key, says)
        assert run.changes == {}
        told = changed.lab.salt_run("etcd_ha.plan")
        assert told.code == 1 and key in told.text and "Traceback" not in told.text
    changed.same()


@only_in_all
def test_a_template_in_a_value_is_only_text_to_etcd(changed):
    changed.begin(THREE)
    changed.change(THREE, "strange", options={"log-rotation-config-json": ESCAPED})
    for host in THREE:
        script = "tr '\\0' '\\n' < /proc/$(systemctl show -p MainPID --value etcd)/environ"
        lines = changed.lab.exec(host, "sh", "-c", script).ok().out.splitlines()
        assert f"ETCD_LOG_ROTATION_CONFIG_JSON={STRANGE}" in lines
        assert changed.lab.exec(host, "test", "-e", "/pwned").code == 1


@only_in_all
def test_a_group_that_yaml_takes_for_true_owns_its_files(changed):
    """A group called "on" was a boolean in the states, and no highstate could be rendered."""
    changed.begin(THREE)
    changed.change(THREE, "group", group="on")
    for host in THREE:
        owner = changed.lab.exec(host, "stat", "-c", "%G", "/etc/default/etcd").ok().out.strip()
        assert owner == "on"


@only_in_all
def test_a_function_that_is_given_something_strange_does_nothing(changed):
    changed.begin(THREE)
    calls = (
        ("etcd_ha_member.set_aside", "[/etc]", "removed"),
        ("etcd_ha_member.snapshot", "../../../tmp/x", "y"),
        (
            "etcd_ha_member.enter",
            "name=--help",
            "peer_url=https://198.18.0.99:2380",
            "usable=False",
        ),
        ("etcd_ha_member.remove", "; reboot"),
        ("etcd_ha.verify", "['http://x/ y']", "main"),
        ("etcd_ha_backup.verify", "../../x-20261124T101500Z-r1"),
        ("etcd_ha.status", "timeout=nan"),
    )
    with untouched(changed, *EVERYONE[:3]):
        for call in calls:
            told = changed.lab.salt("etcd1*", *call)
            assert told.code != 0 and "Traceback" not in told.text, (call, told.text)
            assert "Nothing was done" in told.text, (call, told.text)
    changed.same()
