"""``etcd_ha.check_pillar``: every fault of a file of the pillar, without a master or a minion."""

import json
import logging
import pathlib
import subprocess
import sys

import etcd_ha_pillar_check
import etcd_ha_topology
import pytest
import salt.config
import yaml
from faces import ROOT, load
from good_pillar import PILLAR
from pillar_corpus import laid_over, rows
from salt.exceptions import CommandExecutionError

PGP = "-----BEGIN PGP MESSAGE-----\n\nhQIMA\n-----END PGP MESSAGE-----\n"
JINJA = """\
{%% import_yaml "sizes.yaml" as sizes %%}
etcd_ha:
  clusters:
    main:
      version: 3.6.14
      members:
{%%- for n in range(3) %%}
        etcd{{ n }}.example.com: {address: 192.168.200.5{{ n }}}
{%%- endfor %%}
      tls: {ca: {minion: ca.example.com}}
      options: {quota-backend-bytes: {{ sizes.quota }}}
      purge: %s
"""


@pytest.fixture(autouse=True)
def quiet():
    """Salt keeps what is logged before logging is set up, and prints it at the end."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def check(tmp_path):
    """Call with the text of files by their names; the first one is checked."""
    opts = {**salt.config.minion_config(None), "cachedir": str(tmp_path), "id": "ci"}
    module = load("_modules/etcd_ha_pillar", opts=opts)

    def call(also=(), **files):
        paths = []
        for name, text in files.items():
            paths.append(tmp_path / name.replace("__", "."))
            paths[-1].write_text(text)
        found = module.check_pillar(str(paths[0]), [str(tmp_path / one) for one in also])
        assert module.__context__.get("retcode", 0) == (0 if found["result"] else 1)
        return found

    call.module = module
    return call


def text(pillar):
    return yaml.safe_dump({"etcd_ha": pillar})


def test_a_good_pillar_has_no_fault(check):
    assert check(a__sls=text(PILLAR)) == {
        "result": True,
        "clusters": ["main"],
        "faults": [],
        "notes": [],
    }


def test_all_faults_are_told_with_their_keys(check):
    bad = laid_over("{versoin: 1, ports: {client: 0}, tls: {enbaled: true}}")
    bad["clusters"]["other"] = {"members": {}}
    found = check(a__sls=text(bad))
    told = "\n".join(found["faults"])
    for key in ("main:versoin", "main:ports:client", "main:tls:enbaled", "other:members"):
        assert f"etcd_ha:clusters:{key}" in told
    assert found["result"] is False and found["clusters"] == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("{load_balancers: {etcd1.example.com: 192.168.200.52}}", "main:balancer:port is 2379"),
        ("{members: {ETCD1.example.com: 10.0.0.1}}", "in upper and lower case alone"),
        ("{balancer: {stats: {enabled: true, port: 2379}}}", "main:balancer:stats:port is 2379"),
        ("{host: {hostname: true}, members: {etcd_4: 10.0.0.1}}", "main:host:hostname is true"),
        ("{renamed_from: other}", "main:renamed_from is 'other'"),
        ("{members: {a: 10.9.9.9}}", "address is '10.9.9.9', which main has already"),
    ],
)
def test_what_shows_between_settings_is_told_beside_other_faults(check, change, says):
    """All at once: a CI that tells one after the other is run as often as there are faults."""
    other = {"version": "3.6.14", "members": {"x": "10.9.9.9"}, "tls": {"ca": {"minion": "ca"}}}
    for beside, key in (
        ("{purge: 5}", "main:purge"),
        ("{version: 3.8.0}", "main:version"),
        ("{members: {b: {address: 10.0.0.2, x: 1}}}", "main:members:b:x"),
        ("{members: {b: {address: 10.0.0.2, purge: 1}}}", "main:members:b:purge"),
    ):
        pillar = laid_over(beside, pillar=laid_over(change))
        pillar["clusters"]["other"] = other
        for common in ({}, {"versoin": 1}):
            told = "\n".join(check(a__sls=text({**pillar, **common}))["faults"])
            assert says in told and key in told and ("etcd_ha:versoin" in told) is bool(common)


def test_nothing_follows_from_a_setting_that_is_wrong(check):
    """One wrong value is one fault, not one more for what it would mean beside others."""
    for change in (
        "{balancer: {port: [1], stats: {enabled: true, port: 2379}}}",
        "{balancer: {virtual_address: {address: [1]}}}",
        "{tls: {source: [1], ca: {minion: ETCD1.example.com}}, access: {enabled: true}}",
        "{members: {etcd1.example.com: {address: 192.168.200.52, ports: {client: [1]}}}}",
        "{renamed_from: [1]}",
    ):
        assert len(check(a__sls=text(laid_over(change)))["faults"]) == 1, change


def test_a_cluster_without_a_fault_is_named_beside_one_with_faults(check):
    pillar = laid_over("{}")
    pillar["clusters"]["other"] = {"members": {}}
    assert check(a__sls=text(pillar))["clusters"] == ["main"]


def test_more_faults_than_an_error_tells_are_told(check, defaults):
    found = check(a__sls=text(laid_over(json.dumps({f"x{n}": n for n in range(150)}))))
    assert len(found["faults"]) == 150


@pytest.mark.parametrize(("key", "says", "change"), rows("refused", 3)[::15])
def test_it_says_what_a_plan_says(key, says, change, defaults):
    pillar = laid_over(change, key)
    found = etcd_ha_pillar_check.check(pillar, defaults)
    with pytest.raises(etcd_ha_topology.PillarError) as caught:
        etcd_ha_topology.read(pillar, defaults)
    assert set(found.faults) == set(caught.value.faults)


def test_notes_are_those_of_a_plan(check):
    pillar = laid_over("{version: 3.6.4}")
    (note,) = check(a__sls=text(pillar))["notes"]
    assert "known holes" in note


def test_jinja_is_rendered_and_finds_what_lies_beside_it(check):
    sizes = "quota: 17179869184"
    found = check(a__sls=JINJA % "false", sizes__yaml=sizes)
    assert found["result"] and "quota-backend-bytes" in found["notes"][0]
    found = check(a__sls=JINJA % "{{ 4 + 1 }}", sizes__yaml=sizes)
    assert found["faults"] == ["etcd_ha:clusters:main:purge is 5; use true or false"]


def test_yaml_is_taken_as_it_is(check):
    pillar = laid_over("{tls: {ca: {organization: '{{ 1 }}'}}}")
    assert check(a__yaml=text(pillar))["result"]
    assert check(a__json=json.dumps({"etcd_ha": pillar}))["result"]


def test_files_are_merged_as_a_pillar_is(check):
    secrets = "etcd_ha: {clusters: {main: {purge: 5}}}"
    found = check(["b.sls"], a__sls=text(PILLAR), b__sls=secrets)
    assert found["faults"] == ["etcd_ha:clusters:main:purge is 5; use true or false"]


@pytest.mark.parametrize("secret", ["sdb://etcd_secrets/main:app", PGP])
@pytest.mark.parametrize("first", ["", "#!jinja|yaml|gpg\n"])
def test_secrets_are_neither_fetched_nor_decrypted(check, secret, first):
    access = {"roles": {"a": {"permissions": [{"prefix": "/a/", "access": "read"}]}}}
    access["users"] = {"app": {"roles": ["a"], "password": secret}}
    backup = {"s3": {"bucket": "etcd-backups", "access_key": "a", "secret_key": secret}}
    pillar = laid_over(json.dumps({"access": access, "backup": backup}))
    assert check(a__sls=first + text(pillar))["faults"] == []


def test_an_encrypted_value_where_no_secret_belongs_is_a_fault(check):
    found = check(a__sls=text(laid_over(json.dumps({"version": PGP}))))
    assert any(fault.startswith("etcd_ha:clusters:main:version") for fault in found["faults"])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("etcd_ha: {{ nothing.x }}", "cannot be rendered: Jinja variable 'nothing' is undefined"),
        ("etcd_ha: [", "cannot be rendered"),
        ("- a", "holds no mapping"),
        ("include: [b]\netcd_ha: {}", "name them with also="),
    ],
)
def test_what_cannot_be_read_is_an_error(check, content, says):
    with pytest.raises(CommandExecutionError, match=says):
        check(a__sls=content)


def test_an_error_of_a_template_shows_none_of_its_lines(check):
    with pytest.raises(CommandExecutionError) as caught:
        check(a__sls="password: planted\netcd_ha: {{ nothing.x }}")
    assert "planted" not in str(caught.value)


def test_a_file_without_the_key_is_a_fault(check):
    assert "etcd_ha is missing" in check(a__sls="clusters: {}")["faults"][0]


def test_a_missing_file_is_an_error(check, tmp_path):
    with pytest.raises(CommandExecutionError, match="is not a file"):
        check.module.check_pillar(str(tmp_path / "none.sls"))


def test_without_the_formula_s_files_it_says_so(check, monkeypatch, tmp_path):
    monkeypatch.setattr(check.module, "__file__", str(tmp_path / "modules" / "etcd_ha_pillar.py"))
    check.module.__salt__ = {"cp.cache_file": lambda url: ""}
    with pytest.raises(CommandExecutionError, match="module_dirs and utils_dirs"):
        check(a__sls=text(PILLAR))


def test_the_page_s_configuration_works_with_salt_call(tmp_path):
    """As a CI calls it: Salt's own loader, no master, no minion, and the exit code."""
    page = (ROOT / "docs" / "pillar.md").read_text()
    config = page.partition("# ci/minion\n")[2].partition("```")[0]
    config = config.replace("/srv/formulas/etcd_ha", str(ROOT))
    config = config.replace("/tmp/etcd_ha-ci", str(tmp_path / "root"))
    (tmp_path / "minion").write_text(config)
    (tmp_path / "good.sls").write_text(text(PILLAR))
    (tmp_path / "bad.sls").write_text(text(laid_over("{purge: 5, versoin: 1}")))
    program = pathlib.Path(sys.executable).parent / "salt-call"
    base = [str(program), "-c", str(tmp_path), "--local", "--out=json", "-l", "quiet"]
    found = {}
    for name in ("good", "bad"):
        command = [*base, "etcd_ha.check_pillar", f"{name}.sls"]
        done = subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=600, check=False)
        found[name] = (done.returncode, json.loads(done.stdout)["local"])
    assert found["good"][0] == 0 and found["good"][1]["result"] is True
    assert found["bad"][0] == 1 and len(found["bad"][1]["faults"]) == 2
