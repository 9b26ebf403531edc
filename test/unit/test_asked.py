"""What the command line of an orchestrate asks for: no word is passed over in silence."""

import etcd_ha_asked
import pytest
import yaml
from etcd_ha_asked import TAKES, given
from etcd_ha_master import Master
from faces import ROOT
from salt.exceptions import SaltInvocationError

# A master's own pillar has other formulas' keys, whatever these are called.
OWN = {"etcd_ha": {}, "backup": {"user": "x"}, "cluster": "prod", "users": [], "member": 5}


def faults(command, words, own=OWN):
    with pytest.raises(ValueError) as told:
        given(command, {*own, *words}, {**own, **words}, own)
    return str(told.value)


@pytest.mark.parametrize(
    ("command", "words", "says"),
    [
        (
            "restore",
            {"confirm": "main", "bakcup": "x"},
            "bakcup is no word of etcd_ha.orch.restore",
        ),
        ("restore", {"confirm": "main", "bakcup": "x"}, "did you mean backup?"),
        ("restart", {"memebr": "etcd2"}, "did you mean member?"),
        (
            "converge",
            {"clutser": "other"},
            "clutser is no word of etcd_ha.orch; did you mean cluster?",
        ),
        ("converge", {"confirm": "main"}, "It takes cluster"),
        ("remove_cluster", {"confirm": "main", "ticket": 7}, "It takes cluster and confirm"),
        ("rotate_ca", {"confirm": "main"}, "confirm is no word of etcd_ha.orch.rotate_ca"),
        (
            "restore",
            {"confirm": "main", "backup": ""},
            "backup is given without a value. Leave it out",
        ),
        ("restore", {"confirm": "main", "backup": None}, "for the newest verified one"),
        ("restart", {"member": ""}, "member is given without a value"),
        ("recover", {"confirm": "main", "lost": []}, "lost is given without a value"),
        ("restore", {"confirm": ""}, "confirm is given without a value"),
    ],
)
def test_a_word_that_is_wrong_stops_it(command, words, says):
    told = faults(command, words)
    assert says in told and told.endswith("Nothing was changed")


def test_a_mapping_is_no_word(command="restore"):
    assert "backup is a mapping" in faults(command, {"backup": {}}, own={"etcd_ha": {}})


@pytest.mark.parametrize("command", TAKES)
def test_other_formulas_keys_ask_for_nothing(command):
    assert given(command, OWN, {**OWN, "backup": {}}, OWN) == {}


@pytest.mark.parametrize("command", TAKES)
def test_what_is_given_is_taken_over_a_key_of_the_same_name(command):
    words = dict.fromkeys(TAKES[command], "given")
    assert given(command, {*OWN, *words}, {**OWN, **words}, OWN) == words


def test_a_converge_is_part_of_a_site_s_own_orchestrate():
    own = {"etcd_ha": {}}
    words = {"ticket": "OPS-7", "cluster": "main", "etcd_ha_again": {}}
    assert given("converge", {*own, *words}, words, own) == {"cluster": "main"}


def test_each_orchestrate_knows_its_words():
    for path in (ROOT / "etcd_ha" / "orch").glob("*.sls"):
        command = {"init": "converge"}.get(path.stem, path.stem)
        text = path.read_text()
        (call,) = [line for line in text.splitlines() if "asked(" in line]
        words = yaml.safe_load(call.partition("[")[2].partition("]")[0].join("[]"))
        assert f'asked("{command}"' in call
        assert {"cluster", *words} == set(TAKES[command])


def test_the_master_s_own_words_are_those_of_its_pillar_alone(monkeypatch):
    context = {"etcd_ha_pillar": {}, "etcd_ha_own_pillar": OWN}
    master = Master({"id": "master"}, context)
    values = {"cluster": "prod", "confirm": "main", "backup": {}, "lost": (), "member": "etcd2"}
    found = master.asked("restore", [*OWN, "confirm"], values)
    assert found == {"cluster": None, "confirm": "main", "backup": "", "lost": "", "member": ""}
    assert master.asked("restore", [], values) == {}
    with pytest.raises(SaltInvocationError, match="did you mean backup"):
        master.asked("restore", [*OWN, "bakcup"], values)
    # A pillar may have any keys.
    assert master.asked("restore", [5, *OWN], values)["backup"] == ""


def test_every_word_that_may_be_empty_is_told_what_that_would_have_meant():
    assert set(etcd_ha_asked._EMPTY) == set(etcd_ha_asked.WORDS) - {"confirm"}
