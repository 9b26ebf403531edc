"""Sites that set more than we do: minions and masters with other settings, and half-broken hosts.

Each was found by somebody who tried the formula on such a site: the run passed and nothing was
done, or one odd host kept the others down.
"""

import contextlib
import json

import pytest
from extent import only_in_all
from lab_command import DOMAIN, MEMBERS, minions

OPTION = {"options": {"max-snapshots": 7}}
VARIABLE = "ETCD_MAX_SNAPSHOTS"
DATA = "/var/lib/etcd"


@contextlib.contextmanager
def configured(lab, host, line):
    """A salt-minion with one more line in its configuration."""
    path = "/etc/salt/minion.d/site.conf"
    lab.exec(host, "sh", "-c", f"echo '{line}' > {path}; systemctl restart salt-minion").ok()
    lab.wait_for_minions(host)
    try:
        yield
    finally:
        lab.exec(host, "sh", "-c", f"rm {path}; systemctl restart salt-minion").ok()
        lab.wait_for_minions(host)


def give_another(lab, host, pillar, others):
    """A pillar for this host alone; JSON is YAML."""
    own, rest = json.dumps(pillar), json.dumps({"etcd_ha": others})
    choice = f'{{% if grains.id == "{host}.{DOMAIN}" %}}{own}{{% else %}}{rest}{{% endif %}}'
    lab.pillar_file.write_text(choice)


@only_in_all
def test_a_minion_that_is_set_to_test_does_what_a_plan_says(sacrificed):
    lab = sacrificed
    with configured(lab, "etcd3", "test: true"):
        lab.change_pillar(lambda cluster: cluster.update(OPTION))
        before = lab.processes()
        assert lab.orch("test=True").code == 0 and lab.processes() == before
        lab.orch().ok()
        assert {lab.variables(host)[VARIABLE] for host in MEMBERS} == {"7"}
        assert lab.orch().ok().changes == {}


@only_in_all
def test_a_host_with_another_pillar_than_the_plan_s_is_told(sacrificed):
    """As with pillar_cache, or where top.sls gives some hosts another file."""
    lab = sacrificed
    wanted = lab.change_pillar(lambda cluster: cluster.update(OPTION))
    give_another(lab, "etcd2", {"etcd_ha": lab.shipped}, wanted)
    before = lab.processes()
    run = lab.orch().refused("another one than the plan was made from", "pillar.clear_pillar_cache")
    assert "Traceback" not in run.text
    assert lab.processes()["etcd2"] == before["etcd2"] and VARIABLE not in lab.variables("etcd2")
    lab.write_pillar(wanted)
    lab.orch().ok()
    assert {lab.variables(host)[VARIABLE] for host in MEMBERS} == {"7"}


@only_in_all
def test_a_variable_of_the_service_manager_is_named_with_its_cure(sacrificed):
    lab = sacrificed
    lab.exec("etcd2", "systemctl", "set-environment", f"{VARIABLE}=9").ok()
    before = lab.processes()
    lab.orch().refused(f"etcd2.{DOMAIN}", VARIABLE, f"run systemctl unset-environment {VARIABLE}")
    assert lab.processes() == before
    lab.exec("etcd2", "systemctl", "unset-environment", VARIABLE).ok()
    assert lab.orch().ok().changes == {}


@only_in_all
def test_user_and_data_directory_change_in_one_edit(sacrificed):
    lab = sacrificed
    lab.put("/moved", "kept")
    edit = {"user": "etcdx", "group": "etcdx", "data_dir": "/srv/moved/etcd"}
    lab.change_pillar(lambda cluster: cluster.update(edit))
    lab.orch().ok()
    assert lab.orch().ok().changes == {}
    for host in MEMBERS:
        others = ("find", "/srv/moved/etcd", "-not", "-user", "etcdx")
        assert lab.exec(host, *others).ok().out == ""
        assert lab.get("/moved", host=host, endpoint=lab.own(host)) == "kept"
    lab.write_pillar(lab.shipped)
    lab.orch().ok()
    assert lab.orch().ok().changes == {}


@only_in_all
def test_another_user_alone_gets_the_data(sacrificed):
    lab = sacrificed
    lab.change_pillar(lambda cluster: cluster.update(user="etcdx", group="etcdx"))
    lab.orch().ok()
    assert lab.orch().ok().changes == {}
    for host in MEMBERS:
        assert lab.exec(host, "find", DATA, "-not", "-user", "etcdx").ok().out == ""


@only_in_all
def test_beside_a_disk_that_is_not_mounted_the_others_are_started(sacrificed):
    """Two of three are down: the start of one brings the quorum back."""
    lab = sacrificed
    lab.put("/disk", "kept")
    place = f"""
    systemctl stop etcd
    mkdir -p /mnt/disk /srv/disk
    mount --bind /srv/disk /mnt/disk
    cp -a {DATA} /mnt/disk/etcd
    rm -r {DATA}
    ln -s /mnt/disk/etcd {DATA}
    umount /mnt/disk
    """
    lab.exec("etcd2", "sh", "-ec", place).ok()
    lab.exec("etcd3", "systemctl", "stop", "etcd").ok()
    run = lab.orch().refused("cannot hold its data", "which does not exist. Mount the disk")
    assert "recover" not in run.text and "Traceback" not in run.text
    assert lab.get("/disk", host="etcd3", endpoint=lab.own("etcd3")) == "kept"
    lab.put("/disk", "written")
    lab.exec("etcd2", "mount", "--bind", "/srv/disk", "/mnt/disk").ok()
    lab.orch().ok()
    assert lab.get("/disk", host="etcd2", endpoint=lab.own("etcd2")) == "written"


@only_in_all
def test_after_a_bootstrap_in_which_one_member_failed_clients_are_served(fresh):
    lab = fresh
    folder = "/etc/systemd/system/etcd.service.d"
    broken = f"mkdir -p {folder}; printf '[Service]\\nExecStartPre=/bin/false\\n' > {folder}/x.conf"
    lab.exec("etcd3", "sh", "-c", broken).ok()
    assert lab.orch().code != 0
    assert lab.orch().code != 0
    lab.put("/served", "through the balancer")
    lab.exec("etcd3", "rm", f"{folder}/x.conf").ok()
    lab.exec("etcd3", "systemctl", "daemon-reload").ok()
    lab.orch().ok()
    assert lab.orch().ok().changes == {}
    assert lab.get("/served", host="etcd3", endpoint=lab.own("etcd3")) == "through the balancer"


@only_in_all
@pytest.mark.parametrize("how", ["off", "blackout"])
def test_beside_a_silent_host_a_stopped_member_is_started(sacrificed, how):
    lab = sacrificed
    if how == "off":
        lab.exec("etcd3", "systemctl", "stop", "salt-minion").ok()
    else:
        give_another(lab, "etcd3", {"etcd_ha": lab.shipped, "minion_blackout": True}, lab.shipped)
        lab.salt(minions("etcd3"), "saltutil.refresh_pillar")
    lab.exec("etcd1", "systemctl", "stop", "etcd").ok()
    try:
        run = lab.orch()
        assert run.code != 0 and "Traceback" not in run.text, run.text
        assert f"etcd3.{DOMAIN}" in run.text
        assert lab.healthy("etcd1"), run.text
    finally:
        # A host that boots into a blackout answers nobody.
        lab.write_pillar(lab.shipped)
