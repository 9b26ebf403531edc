"""Every SLS and template under StrictUndefined, over operating systems and cases."""

from __future__ import annotations

import json
import re

import etcd_ha_host_in_force
import etcd_ha_machine
import etcd_ha_progress
import etcd_ha_virtual
import pytest
import salt.loader
import yaml
from compiled import FORMULA, GRAINS

# salt-minion may have a PATH without /usr/sbin, where these programs are.
WITH_PATH = "env PATH=/usr/sbin:/usr/bin:/sbin:/bin"
RCLONE = "the packages that bring backups to S3 are installed"
MEMBER, BALANCER, CA = "etcd1.example.com", "lb.example.com", "ca.example.com"
OF_MEMBER = (
    "access",
    "account",
    "backup",
    "backup.schedule",
    "certificates",
    "environment",
    "hosts",
    "in_force",
    "install",
    "kept",
    "member",
    "prepare",
    "unit",
)
OF_BALANCER = (
    *("balancer", "balancer.package", "certificates", "hosts", "in_force", "kept", "prepare"),
)
KEY = "-----BEGIN PRIVATE KEY-----\nnot a key, but as secret as one\n-----END PRIVATE KEY-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


ADDRESS = "192.168.200.50"


def main(pillar):
    """The settings of the only cluster of the shipped pillar."""
    return pillar["etcd_ha"]["clusters"]["main"]


def with_address(pillar, **balancer):
    """Two balancers behind one address; this machine has no interface with theirs."""
    virtual = {"address": ADDRESS, "interface": "eth0"}
    main(pillar)["balancer"] = {"virtual_address": virtual, **balancer}
    main(pillar)["load_balancers"]["lb2.example.com"] = {"address": "192.168.200.57"}


def sound(compiled):
    """No error, no requisite that leads nowhere; hands the compiled states back."""
    assert compiled.errors == []
    assert compiled.chunks
    assert compiled.unresolved() == []
    return compiled


@pytest.mark.parametrize("os", GRAINS)
class TestEveryOperatingSystem:
    @pytest.mark.parametrize("minion", [MEMBER, BALANCER, CA, "stranger.example.com"])
    def test_whole(self, compile_states, pillar, minion, os):
        sound(compile_states(minion, pillar, "etcd_ha", os=os))

    def test_nginx_with_statistics(self, compile_states, pillar, os):
        main(pillar)["balancer"] = {"kind": "nginx", "stats": {"enabled": True}}
        sound(compile_states(BALANCER, pillar, "etcd_ha", os=os))

    @pytest.mark.parametrize("bind", ["*", ADDRESS])
    @pytest.mark.parametrize("kind", ["haproxy", "nginx"])
    def test_a_virtual_address(self, compile_states, pillar, kind, bind, os):
        with_address(pillar, kind=kind, bind=bind)
        compiled = sound(compile_states(BALANCER, pillar, "etcd_ha", os=os))
        assert compiled.one("service.running", name="keepalived")["reload"] is True
        assert bool(compiled.of("sysctl.present")) is (bind == ADDRESS)

    @pytest.mark.parametrize("kind", ["nftables", "ufw", "auto", "firewalld"])
    @pytest.mark.parametrize("minion", [MEMBER, BALANCER])
    def test_firewall(self, compile_states, pillar, minion, kind, os):
        main(pillar)["firewall"] = {
            "enabled": True,
            "kind": kind,
            "client_networks": ["10.1.0.0/16", "fd00::/64"],
        }
        sound(compile_states(minion, pillar, "etcd_ha", os=os))

    def test_scheduled_backups_in_s3(self, compile_states, pillar, os):
        secrets = {"access_key": KEY, "secret_key": KEY, "encryption_password": KEY}
        # A key's lines are no printable text, which the pillar must be.
        secrets = {name: text.replace("\n", " ") for name, text in secrets.items()}
        s3 = {"bucket": "etcd-backups", "endpoint": "https://s3.example.com", **secrets}
        main(pillar)["backup"] = {"schedule": "daily", "s3": s3}
        compiled = sound(compile_states(MEMBER, pillar, "etcd_ha", os=os))
        assert compiled.one("pkg.installed", name=RCLONE)["pkgs"] == ["rclone"]
        assert compiled.one("etcd_ha_backup.timer_kept")["schedule"] == "daily"
        # Before any member is restarted for the other changes of the edit.
        prepared = sound(compile_states(MEMBER, pillar, "etcd_ha.prepare", os=os))
        assert prepared.one("etcd_ha_backup.schedule_understood")["schedule"] == "daily"
        unit = compiled.file("/etc/systemd/system/etcd_ha-backup.service")
        program = "/usr/local/lib/etcd_ha/backup.pyz"
        assert f" {program} /etc/etcd/backup.json\n" in unit
        assert compiled.one("etcd_ha_backup.program_kept")["path"] == program
        assert "not a key" not in repr(compiled.chunks) + repr(compiled.texts)
        files = compiled.one("etcd_ha.applied")["files"]
        assert "/etc/etcd/backup.secrets" in files
        assert "/etc/systemd/system/etcd_ha-backup.timer" in files
        assert program in files

    @pytest.mark.parametrize("minion", [MEMBER, BALANCER])
    def test_trust_store_package_and_hostname(self, compile_states, pillar, minion, os):
        main(pillar)["tls"]["trust_store"] = True
        main(pillar)["host"] = {"hostname": True}
        main(pillar)["install"] = {"method": "package"}
        main(pillar)["wal_dir"] = "/srv/wal/etcd"
        compiled = sound(compile_states(minion, pillar, "etcd_ha", os=os))
        assert compiled.of("pkg.installed")
        assert f"the running system is called {minion}" in compiled.ids()


@pytest.mark.parametrize("by_orch", [True, False])
@pytest.mark.parametrize("minion", [MEMBER, BALANCER, CA])
def test_nothing_runs_from_salts_cache(compile_states, pillar, minion_opts, minion, by_orch):
    """``saltutil.clear_cache`` deletes it: no unit, script or setting may name a path in there."""
    main(pillar)["backup"] = {"schedule": "daily"}
    main(pillar)["firewall"] = {"enabled": True, "kind": "nftables"}
    main(pillar)["wal_dir"] = "/srv/wal/etcd"
    for kind in ("haproxy", "nginx"):
        with_address(pillar, kind=kind)
        compiled = sound(compile_states(minion, pillar, by_orch=by_orch))
        told = repr(compiled.chunks) + repr(compiled.texts)
        for name in ("root_dir", "cachedir", "extension_modules"):
            assert minion_opts[name] not in told, name
        assert "/var/cache/salt" not in told and "extmods" not in told


def refused(compiled):
    """What the only state says by which a host is left alone; nothing else is rendered."""
    (state,) = sound(compiled).chunks
    assert f"{state['state']}.{state['fun']}" == "test.fail_without_changes"
    return state["comment"]


class TestPillarThatIsWrong:
    """A highstate has other formulas' states, too: an error in rendering would end them all."""

    @pytest.mark.parametrize("minion", [MEMBER, BALANCER, CA])
    def test_is_one_state_that_fails(self, compile_states, pillar, minion):
        main(pillar)["verson"] = "3.6.14"
        told = refused(compile_states(minion, pillar, "etcd_ha"))
        assert "etcd_ha:clusters:main:verson" in told and "version" in told

    def test_so_is_a_pillar_that_does_not_reach_the_host(self, compile_states, pillar):
        del pillar["etcd_ha"]
        assert "copy pillar.example" in refused(compile_states(MEMBER, pillar, "etcd_ha"))

    @pytest.mark.parametrize("minion", [MEMBER, BALANCER, CA])
    def test_without_any_cluster_no_host_has_a_part(self, compile_states, pillar, minion):
        """The last one was removed: what it left on hosts is cleared like that of any other."""
        pillar["etcd_ha"]["clusters"] = {}
        compiled = sound(compile_states(minion, pillar, "etcd_ha"))
        assert compiled.of("etcd_ha_firewall.cleared")
        assert "this host has no part in an etcd cluster" in compiled.ids()


class TestEachStandsAlone:
    """Whoever applies one SLS by name gets all that it requires."""

    @pytest.mark.parametrize("sls", [*OF_MEMBER, "firewall", "trust"])
    def test_of_a_member(self, compile_states, pillar, sls):
        main(pillar)["tls"]["trust_store"] = True
        main(pillar)["firewall"] = {"enabled": True, "kind": "nftables"}
        sound(compile_states(MEMBER, pillar, f"etcd_ha.{sls}"))

    @pytest.mark.parametrize("sls", [*OF_BALANCER, "firewall", "trust"])
    def test_of_a_balancer(self, compile_states, pillar, sls):
        main(pillar)["tls"]["trust_store"] = True
        main(pillar)["firewall"] = {"enabled": True, "kind": "nftables"}
        sound(compile_states(BALANCER, pillar, f"etcd_ha.{sls}"))

    @pytest.mark.parametrize("os", GRAINS)
    def test_of_a_host_that_has_left(self, compile_states, os):
        """It has no pillar of etcd_ha any more; its firewall is cleared only where it may be."""
        compiled = sound(compile_states("gone.example.com", {}, "etcd_ha.clean", os=os))
        clean = "nothing of etcd_ha but data is left here"
        assert compiled.ids() and clean in compiled.ids()
        assert clean in json.dumps(compiled.one("etcd_ha_firewall.cleared"))

    def test_of_a_ca(self, compile_states, pillar):
        sound(compile_states(CA, pillar, "etcd_ha.authority"))


def test_every_sls_is_rendered_by_some_test():
    """A new SLS must be reached by the cases above."""
    known = {"applied", "authority", "balancer", "clean", "firewall", "trust"}
    known |= {*OF_MEMBER, *OF_BALANCER}
    folders = {path.parent.name for path in (FORMULA / "etcd_ha").glob("*/init.sls")} - {"orch"}
    assert folders <= known


def test_unknown_operating_system_is_refused_by_name(compile_states, pillar, monkeypatch):
    monkeypatch.setitem(GRAINS, "Plan9", {"os": "Plan9", "os_family": "Plan9", "osarch": "amd64"})
    told = refused(compile_states(MEMBER, pillar, "etcd_ha", os="Plan9"))
    assert "Plan9" in told and "Debian" in told
    # A part by itself is applied by hand alone, and says the same as an error.
    alone = compile_states(MEMBER, pillar, "etcd_ha.account", os="Plan9")
    assert any("Plan9" in error for error in alone.errors)


def test_wrong_pillar_is_refused_with_every_fault(compile_states, pillar):
    main(pillar)["versoin"] = "3.6.14"
    main(pillar)["members"][MEMBER]["address"] = "192.168.200.999"
    told = refused(compile_states(MEMBER, pillar, "etcd_ha"))
    assert "did you mean 'version'" in told
    assert "192.168.200.999" in told


class TestMember:
    @pytest.fixture
    def compiled(self, compile_states, pillar):
        return sound(compile_states(MEMBER, pillar, action="bootstrap"))

    def test_runs_only_after_every_file_of_its_own(self, compiled):
        running = compiled.one("etcd_ha.running")
        behind = compiled.behind(running)
        others = {c["__id__"] for c in compiled.chunks} - behind - {running["__id__"]}
        # Nothing that backups need may keep a member from its start.
        backups = {c["__id__"] for c in compiled.chunks if c["__sls__"] == "etcd_ha.backup"}
        assert backups
        assert others == {c["__id__"] for c in compiled.of("etcd_ha.applied")} | backups

    def test_hands_over_what_the_orchestrate_asked_for(self, compiled):
        running = compiled.one("etcd_ha.running")
        assert running["action"] == "bootstrap"
        assert running["program"] == "/opt/etcd/current/etcd"
        assert running["environment"]["ETCD_INITIAL_CLUSTER_STATE"] == "existing"

    def test_a_highstate_acts_on_nothing(self, compile_states, pillar):
        compiled = compile_states(MEMBER, pillar, action="none")
        assert compiled.one("etcd_ha.running")["action"] == "none"

    def test_environment_file_reads_back_as_the_variables(self, compiled):
        import etcd_ha_environment

        text = compiled.file("/etc/default/etcd")
        wanted = compiled.one("etcd_ha.running")["environment"]
        assert etcd_ha_environment.parse_file(text) == wanted
        assert compiled.one("file.managed", name="/etc/default/etcd")["mode"] == "0640"

    def test_etcdctl_of_root_knows_the_whole_cluster(self, compiled):
        import etcd_ha_environment

        values = etcd_ha_environment.parse_file(compiled.file("/etc/etcd/etcdctl.env"))
        assert values["ETCDCTL_ENDPOINTS"].count("https://") == 3
        assert values["ETCDCTL_KEY"] == "/etc/etcd/pki/admin.key"
        assert ". /etc/etcd/etcdctl.env" in compiled.file("/etc/profile.d/etcdctl.sh")

    def test_unit_can_write_to_its_data_alone(self, compile_states, pillar):
        main(pillar)["wal_dir"] = "/srv/wal"
        unit = sound(compile_states(MEMBER, pillar)).file("/etc/systemd/system/etcd.service")
        lines = unit.splitlines()
        assert "ReadWritePaths=/var/lib/etcd /srv/wal" in lines
        assert "ProtectSystem=strict" in lines
        assert "User=etcd" in lines
        assert "ExecStart=/opt/etcd/current/etcd" in lines
        assert lines.index("EnvironmentFile=/etc/default/etcd") < lines.index(
            "EnvironmentFile=-/run/etcd_ha/bootstrap.env"
        )

    @pytest.mark.parametrize(
        ("wal_dir", "log"), [(None, "/var/lib/etcd/member/wal"), ("/srv/wal", "/srv/wal/wal")]
    )
    def test_unit_starts_with_its_log_or_for_the_first_time(
        self, compile_states, pillar, wal_dir, log
    ):
        main(pillar).update({"wal_dir": wal_dir} if wal_dir else {})
        unit = sound(compile_states(MEMBER, pillar)).file("/etc/systemd/system/etcd.service")
        asserted = [line for line in unit.splitlines() if line.startswith("Assert")]
        # With | one of them is enough; the one without must be true beside it.
        assert asserted == [
            f"AssertPathExistsGlob=|{log}/*.wal",
            "AssertPathExists=|/run/etcd_ha/bootstrap.env",
            f"AssertPathExists=!{etcd_ha_progress.HELD}",
        ]

    def test_a_cluster_without_tls_can_be_given_certificates(self, compile_states, pillar):
        main(pillar)["tls"] = {"enabled": False}
        found = sound(compile_states(MEMBER, pillar)).one("file.directory", name="/etc/etcd")
        assert (found["mode"], found["user"]) == ("0755", "root")

    def test_data_directories_are_etcds_alone(self, compile_states, pillar):
        main(pillar)["wal_dir"] = "/srv/wal/etcd"
        compiled = sound(compile_states(MEMBER, pillar))
        for path in ("/var/lib/etcd", "/srv/wal/etcd"):
            found = compiled.one("file.directory", name=path)
            assert (found["mode"], found["user"]) == ("0700", "etcd")
        # A directory that somebody else made keeps its mode; only a missing one is ours to make.
        assert compiled.one("file.directory", name="/srv/wal")["mode"] == "0755"
        assert "mode" not in compiled.one("file.directory", name="/var/lib")

    def test_release_is_the_one_of_the_architecture(self, compile_states, pillar):
        found = compile_states(MEMBER, pillar, os="Ubuntu").one("etcd_ha.installed")
        assert found["archive"] == "etcd-v3.6.14-linux-arm64.tar.gz"
        assert found["sums_url"].endswith("/v3.6.14/SHA256SUMS")

    def test_hosts_block_names_everybody(self, compiled):
        block = compiled.one("file.blockreplace", name="/etc/hosts")["content"]
        assert block.splitlines() == [
            "192.168.200.52 etcd1.example.com etcd1",
            "192.168.200.62 etcd2.example.com etcd2",
            "192.168.200.63 etcd3.example.com etcd3",
            "192.168.200.56 lb.example.com",
        ]

    def test_package_does_not_start_its_own_etcd(self, compile_states, pillar):
        main(pillar)["install"] = {"method": "package"}
        compiled = sound(compile_states(MEMBER, pillar))
        package = compiled.one("pkg.installed")
        mask = compiled.one("file.symlink", target="/dev/null")
        assert mask["__id__"] in compiled.behind(package)
        assert package["pkgs"] == ["etcd-server", "etcd-client"]
        # Our own unit takes the mask's place instead of being written through it.
        assert compiled.one("file.managed", name=mask["name"])["follow_symlinks"] is False
        assert not compiled.of("etcd_ha.switched")
        assert compiled.one("etcd_ha.running")["program"] == "/usr/bin/etcd"


@pytest.mark.parametrize("minion", [MEMBER, BALANCER, CA])
class TestMark:
    """The orchestrate trusts the mark: it must come after everything, and know every file."""

    @pytest.fixture
    def compiled(self, compile_states, pillar, minion):
        main(pillar)["tls"]["trust_store"] = True
        main(pillar)["host"] = {"hostname": True}
        main(pillar)["firewall"] = {"enabled": True, "kind": "nftables"}
        main(pillar)["backup"] = {"schedule": "daily"}
        with_address(pillar)
        return sound(compile_states(minion, pillar))

    def test_is_written_after_every_other_state(self, compiled):
        applied = compiled.one("etcd_ha.applied")
        assert compiled.chunks[-1] is applied
        assert compiled.behind(applied) == set(compiled.ids()) - {applied["__id__"]}
        assert applied["source"] == "0" * 64

    def test_knows_every_file(self, compiled):
        shared = {"/etc/hostname"}
        managed = {c["name"] for c in compiled.of("file.managed")} - shared
        managed |= {c["name"] for c in compiled.of("x509.certificate_managed")}
        managed = {path for path in managed if "/next/" not in path}
        managed |= {c["path"] for c in compiled.of("etcd_ha_ca.trusted")}
        managed |= {c["path"] for c in compiled.of("etcd_ha.bundle_kept")}
        managed |= {c["path"] for c in compiled.of("etcd_ha_backup.program_kept")}
        managed |= {c["path"] for c in compiled.of("etcd_ha_backup.timer_kept")}
        for pair in compiled.of("etcd_ha.pair_in_use"):
            managed |= {pair["certificate"], pair["key"]}
        if "/etc/nftables.d/etcd_ha.nft" in managed:
            # Which firewall a host has is told at run time; each one's file is looked at.
            managed.add("/etc/firewalld/policies/etcd_ha.xml")
        managed.add(etcd_ha_host_in_force.FILE)
        assert set(compiled.one("etcd_ha.applied")["files"]) == managed


def own_certificates(pillar, source):
    """The user's own certificates, from files on the hosts or out of the pillar."""
    if source == "pillar":
        pair = {"certificate": CERTIFICATE, "key": KEY}
        files = {"ca": {"certificate": CERTIFICATE}, "server": pair, "peer": pair, "client": pair}
    else:
        files = {
            name: {"certificate": f"/root/pki/{name}.crt", "key": f"/root/pki/{name}.key"}
            for name in ("server", "peer", "client")
        }
        files["ca"] = {"certificate": "/root/pki/ca.crt"}
    main(pillar)["tls"] = {"source": source, "files": files}


class TestPrepare:
    @pytest.mark.parametrize("minion", [MEMBER, BALANCER, CA])
    def test_touches_nothing_that_a_running_cluster_uses(self, compile_states, pillar, minion):
        compiled = sound(compile_states(minion, pillar, "etcd_ha.prepare"))
        forbidden = {"etcd_ha.running", "etcd_ha.switched", "service.running"}
        assert not forbidden & set(compiled.functions())
        owned = {
            "/etc/default/etcd",
            "/etc/systemd/system/etcd.service",
            "/etc/haproxy/haproxy.cfg",
        }
        assert not owned & {chunk["name"] for chunk in compiled.chunks}

    def test_completes_only_who_is_nothing_but_a_ca(self, compile_states, pillar):
        def marks(minion):
            return compile_states(minion, pillar, "etcd_ha.prepare").of("etcd_ha.applied")

        assert len(marks(CA)) == 1
        assert marks(MEMBER) == marks(BALANCER) == []
        main(pillar)["tls"]["ca"]["minion"] = MEMBER
        assert marks(MEMBER) == []

    def test_stages_the_release_and_the_balancers_package(self, compile_states, pillar):
        member = compile_states(MEMBER, pillar, "etcd_ha.prepare")
        assert member.one("etcd_ha.installed")["dir"] == "/opt/etcd/3.6.14"
        balancer = compile_states(BALANCER, pillar, "etcd_ha.prepare")
        assert balancer.one("pkg.installed")["pkgs"] == ["haproxy"]


class TestCertificates:
    def test_each_leaf_names_its_own_policy(self, compile_states, pillar):
        compiled = sound(compile_states(MEMBER, pillar, "etcd_ha.certificates"))
        leaves = compiled.of("x509.certificate_managed")
        assert [leaf["signing_policy"] for leaf in leaves] == [
            f"etcd_ha_main_{purpose}_{MEMBER}" for purpose in ("server", "peer", "admin")
        ]
        assert {leaf["ca_server"] for leaf in leaves} == {CA}
        # What a certificate says is the policy's to say, and only the policy's.
        assert not {"CN", "subjectAltName", "keyUsage"} & {key for leaf in leaves for key in leaf}

    def test_keys_are_for_their_owner_alone(self, compile_states, pillar):
        compiled = compile_states(MEMBER, pillar, "etcd_ha.certificates")
        for key, owner in (("server", "etcd"), ("peer", "etcd"), ("admin", "root")):
            found = compiled.one("etcd_ha.pair_in_use", key=f"/etc/etcd/pki/{key}.key")
            assert found["user"] == owner
            assert f"main: the {key} certificate is signed by the CA" in compiled.behind(found)
        staged = {key["key"] for key in compiled.of("etcd_ha.key_made")}
        assert staged == {f"/etc/etcd/pki/next/{p}.key" for p in ("server", "peer", "admin")}

    def test_a_key_that_is_there_changes_only_with_its_certificate(
        self, compile_states, pillar, tmp_path
    ):
        main(pillar)["config_dir"] = str(tmp_path)
        folder = tmp_path / "pki" / "next"
        folder.mkdir(parents=True)
        (folder / "server.key").touch()
        compiled = sound(compile_states(MEMBER, pillar, "etcd_ha.certificates"))
        bound = {
            key["key"].rpartition("/")[2]: bool(key.get("prereq"))
            for key in compiled.of("etcd_ha.key_made")
        }
        # A lost key is made anew at once; x509 could not even look at the certificate without it.
        assert bound == {"server.key": True, "peer.key": False, "admin.key": False}

    def test_the_ca_is_asked_for_by_its_policy(self, compile_states, pillar):
        compiled = compile_states(BALANCER, pillar, "etcd_ha.certificates")
        trusted = compiled.one("etcd_ha_ca.trusted")
        assert (trusted["ca_server"], trusted["phase"]) == (CA, "")
        assert trusted["policy"] == f"etcd_ha_main_check_{BALANCER}"

    @pytest.mark.parametrize("source", ["salt", "files", "pillar"])
    @pytest.mark.parametrize("minion", [MEMBER, BALANCER])
    def test_certificates_stay_while_all_learn_to_trust_another_ca(
        self, compile_states, pillar, source, minion
    ):
        if source != "salt":
            own_certificates(pillar, source)
        compiled = sound(compile_states(minion, pillar, stage={"trust": "both"}))
        assert compiled.one("etcd_ha_ca.trusted")["phase"] == "both"
        assert not compiled.of("x509.certificate_managed") + compiled.of("etcd_ha.pair_in_use")

    def test_the_check_is_of_a_name_only_once_all_bear_it(self, compile_states, pillar):
        path = "/etc/haproxy/haproxy.cfg"
        for phase, named in (("both", False), ("issued", True), ("", True)):
            compiled = sound(compile_states(BALANCER, pillar, stage={"trust": phase}))
            assert ("verifyhost" in compiled.file(path)) is named, phase

    def test_plain_http_has_none(self, compile_states, pillar):
        main(pillar)["tls"] = {"enabled": False}
        for minion in (MEMBER, BALANCER):
            compiled = sound(compile_states(minion, pillar))
            assert not [f for f in compiled.functions() if f.startswith("x509.")]
            assert not [c for c in compiled.chunks if "certificate" in c["__id__"]]
        assert "https" not in json.dumps(compiled.texts)
        assert "check-ssl" not in compiled.file("/etc/haproxy/haproxy.cfg")

    def test_own_files_are_put_in_use_for_their_owners(self, compile_states, pillar):
        own_certificates(pillar, "files")
        member = sound(compile_states(MEMBER, pillar))
        sound(compile_states(BALANCER, pillar))
        admin = member.one("etcd_ha.pair_in_use", key="/etc/etcd/pki/admin.key")
        assert admin["new_key"] == "/root/pki/client.key"
        assert (admin["user"], admin["group"]) == ("root", "root")
        assert not [f for f in member.functions() if f.startswith("x509.")]

    @pytest.mark.parametrize("level", ["cluster", "common"])
    def test_pillar_keys_stand_in_no_state(self, compile_states, pillar, level):
        own_certificates(pillar, "pillar")
        prefix = "etcd_ha:clusters:main:tls:files"
        if level == "common":
            pillar["etcd_ha"]["tls"] = {"files": main(pillar)["tls"].pop("files")}
            prefix = "etcd_ha:tls:files"
        for minion in (MEMBER, BALANCER):
            compiled = sound(compile_states(minion, pillar))
            assert "as secret as one" not in repr(compiled.chunks) + repr(compiled.texts)
        key = compiled.one("file.managed", name="/etc/etcd/main/next/check.key")
        assert key["contents_pillar"] == f"{prefix}:client:key"
        assert (key["mode"], key["show_changes"]) == ("0400", False)

    def test_trust_store_follows_the_ca(self, compile_states, pillar):
        main(pillar)["tls"]["trust_store"] = True
        compiled = sound(compile_states(MEMBER, pillar))
        update = compiled.one("cmd.run", name="update-ca-certificates")
        assert update["env"] == [{"PATH": WITH_PATH.partition("=")[2]}]
        assert {"id": "main: the member has the CA's certificate"} in update["onchanges"]


class TestVirtualAddress:
    @pytest.fixture
    def compiled(self, compile_states, pillar):
        with_address(pillar)
        return sound(compile_states(BALANCER, pillar))

    def test_keepalived_starts_after_all_that_it_needs(self, compiled):
        running = compiled.one("service.running", name="keepalived")
        behind = compiled.behind(running)
        assert "HAProxy runs with its present configuration" in behind
        assert f"the user {etcd_ha_virtual.USER} exists and cannot log in" in behind
        assert "main: the check certificate is signed by the CA" in behind
        assert "the check of this balancer's path is there" in behind

    def test_its_configuration(self, compiled):
        lines = compiled.file("/etc/keepalived/keepalived.conf").splitlines()
        words = [line.split() for line in lines]
        for wanted in (
            ["state", "BACKUP"],
            ["nopreempt"],
            ["interface", "eth0"],
            ["unicast_src_ip", "192.168.200.56"],
            ["192.168.200.57"],
            [f"{ADDRESS}/32", "dev", "eth0"],
            ["vrrp_version", "3"],
            ["vrrp_check_unicast_src"],
            ["enable_script_security"],
            ["script_user", etcd_ha_virtual.USER],
        ):
            assert wanted in words, wanted
        # A weight would let a balancer that leads nowhere keep the address, with nopreempt.
        assert not [line for line in words if line[:1] == ["weight"] or "auth_pass" in line]
        assert "\n".join(lines).count("{") == "\n".join(lines).count("}")

    def test_the_check_can_be_changed_by_root_alone(self, compiled):
        check = compiled.one("file.managed", name=etcd_ha_virtual.CHECK)
        assert (check["user"], check["mode"]) == ("root", "0755")
        assert compiled.file(etcd_ha_virtual.CHECK).startswith("#!/")
        key = compiled.one("etcd_ha.pair_in_use", key="/etc/etcd/main/check.key")
        assert (key["user"], key["group"]) == (etcd_ha_virtual.USER,) * 2

    def test_a_wrong_configuration_never_takes_the_old_one_s_place(self, compiled):
        config = compiled.one("file.managed", name="/etc/keepalived/keepalived.conf")
        assert "keepalived --config-test" in config["check_cmd"]
        assert config["check_cmd"].startswith(WITH_PATH)

    def test_one_balancer_has_no_peers_to_name(self, compile_states, pillar):
        with_address(pillar)
        del main(pillar)["load_balancers"]["lb2.example.com"]
        text = sound(compile_states(BALANCER, pillar)).file("/etc/keepalived/keepalived.conf")
        # keepalived finds fault with half of it, and takes multicast then.
        assert "unicast" not in text

    def test_an_interface_that_is_not_there_stops_before_any_change(self, compile_states, pillar):
        with_address(pillar)
        del main(pillar)["balancer"]["virtual_address"]["interface"]
        compiled = compile_states(BALANCER, pillar)
        assert compiled.chunks == []
        assert any("virtual_address:interface" in error for error in compiled.errors)

    def test_switched_off_it_is_taken_away(self, compile_states, pillar, tmp_path, monkeypatch):
        mark = tmp_path / "host.json"
        monkeypatch.setattr(etcd_ha_machine, "MARK_FILE", str(mark))
        held = {"cluster": "main", "kind": "haproxy", "virtual_address": ADDRESS, "ca": None}
        held |= {"url": "https://198.18.0.51:2379", "certificate": None, "key": None}
        mark.write_text(json.dumps({"balancer": held}))
        compiled = sound(compile_states(BALANCER, pillar))
        dead = compiled.one("service.dead", name="keepalived")
        assert dead["enable"] is False
        gone = {chunk["name"] for chunk in compiled.of("file.absent")}
        assert {"/etc/keepalived/keepalived.conf", etcd_ha_virtual.CHECK} <= gone
        assert compiled.one("user.absent")["name"] == etcd_ha_virtual.USER
        (leaf,) = compiled.of("etcd_ha.pair_in_use")
        assert leaf["user"] == "root", "the key is root's alone again"
        mark.write_text(json.dumps({"balancer": {**held, "virtual_address": ""}}))
        again = sound(compile_states(BALANCER, pillar))
        assert not again.of("service.dead") + again.of("user.absent")


class TestAuthority:
    @pytest.fixture
    def compiled(self, compile_states, pillar):
        return sound(compile_states(CA, pillar, "etcd_ha.prepare"))

    def test_signs_leaves_only(self, compiled):
        certificate = compiled.one("x509.certificate_managed")
        assert certificate["basicConstraints"] == "critical, CA:true, pathlen:0"
        assert certificate["keyUsage"] == "critical, keyCertSign, cRLSign"
        assert "ca_server" not in certificate

    def test_key_is_made_once(self, compile_states, pillar, tmp_path):
        main(pillar)["tls"]["ca"]["dir"] = str(tmp_path)
        main(pillar)["tls"]["algo"] = "rsa"
        main(pillar)["tls"]["keysize"] = 2048
        compiled = sound(compile_states(CA, pillar, "etcd_ha.prepare"))
        key = compiled.one("x509.private_key_managed")
        assert compiled.one("etcd_ha.key_kept")["__id__"] in compiled.behind(key)
        certificate = compiled.one("x509.certificate_managed")
        assert key["__id__"] in compiled.behind(certificate)
        (tmp_path / "main").mkdir()
        key = tmp_path / "main" / "ca.key"
        # A full disk has left it.
        key.touch()
        made = sound(compile_states(CA, pillar, "etcd_ha.prepare"))
        assert made.one("x509.private_key_managed")["overwrite"] is True
        key.write_text("key")
        # Another algorithm in the pillar must not replace the key that everything hangs on.
        compiled = sound(compile_states(CA, pillar, "etcd_ha.prepare"))
        assert not compiled.of("x509.private_key_managed")
        assert compiled.one("etcd_ha.key_kept")["key"] == f"{tmp_path}/main/ca.key"

    def test_directories_are_roots_alone(self, compiled):
        modes = {c["name"]: c["mode"] for c in compiled.of("file.directory")}
        assert modes == {
            "/etc/pki/etcd_ha/main": "0700",
            "/etc/pki/etcd_ha/main/issued": "0700",
        }

    def test_one_minion_may_sign_for_two_clusters(self, compile_states, pillar):
        second(pillar)
        compiled = sound(compile_states(CA, pillar, "etcd_ha.prepare"))
        names = {c["name"] for c in compiled.of("x509.certificate_managed")}
        assert names == {f"/etc/pki/etcd_ha/{name}/ca.crt" for name in ("main", "other")}


# What HAProxy 2.2.9, the oldest one that the formula runs on, has accepted (`haproxy -c`). To add a
# word, see from which version on the manual of 2.2 and its successors has it.
OLD_HAPROXY = {
    **dict.fromkeys(("global", "defaults", "frontend", "backend", "mode", "log"), ()),
    **dict.fromkeys(("user", "group", "retries", "bind", "balance", "default_backend"), ()),
    "hash-type": ("consistent",),
    **dict.fromkeys(("default-server", "server"), ()),
    "option": ("dontlognull", "redispatch", "clitcpka", "srvtcpka", "httpchk"),
    "timeout": (
        *("connect", "queue", "check", "client", "server"),
        *("tunnel", "client-fin", "http-request"),
    ),
    "http-check": ("connect", "send", "expect"),
    "stats": ("enable", "uri", "refresh", "socket"),
    "no": ("log",),
}
OLD_SERVER = {
    *("check", "inter", "fastinter", "downinter", "fall", "rise", "on-marked-down"),
    *("shutdown-sessions", "check-ssl", "verify", "required", "ssl-min-ver", "ca-file", "crt"),
}


class TestHaproxy:
    def text(self, compile_states, pillar):
        compiled = sound(compile_states(BALANCER, pillar))
        return compiled.file("/etc/haproxy/haproxy.cfg")

    def test_is_validated_before_it_replaces_the_old_and_then_reloaded(
        self, compile_states, pillar
    ):
        compiled = sound(compile_states(BALANCER, pillar))
        config = compiled.one("file.managed", name="/etc/haproxy/haproxy.cfg")
        assert config["check_cmd"] == f"{WITH_PATH} haproxy -c -f"
        service = compiled.one("service.running")
        assert service["reload"] is True
        assert config["__id__"] in compiled.behind(service)
        assert compiled.one("etcd_ha.pair_in_use")["__id__"] in compiled.behind(config)
        bundle = compiled.one("etcd_ha.bundle_kept", path="/etc/etcd/main/check.pem")
        assert compiled.one("etcd_ha.pair_in_use")["__id__"] in compiled.behind(bundle)
        # HAProxy reads it in the check of its configuration, and again when it is reloaded.
        assert bundle["__id__"] in compiled.behind(config)
        assert bundle["__id__"] in compiled.behind(service)

    def test_checks_ask_with_a_certificate_and_look_at_the_answer(self, compile_states, pillar):
        text = self.text(compile_states, pillar)
        assert "http-check send meth GET uri /readyz" in text
        assert "check-ssl verify required" in text
        assert "ca-file /etc/etcd/main/ca.crt crt /etc/etcd/main/check.pem" in text
        assert "server etcd1 192.168.200.52:2379 verifyhost etcd1.example.com" in text
        assert "timeout check 2s" in text
        # Clients' TLS is the members' business.
        assert "mode tcp" in text
        assert " ssl crt" not in text

    def test_a_member_that_refuses_is_not_asked_again_at_once(self, compile_states, pillar):
        text = self.text(compile_states, pillar)
        assert "option redispatch 1\n" in text
        assert "timeout connect 1s\n" in text
        assert "balance leastconn\n" in text

    @pytest.mark.parametrize("version", ["3.4.22", "3.7.1"])
    def test_knows_no_word_that_is_newer_than_the_oldest_haproxy(
        self, compile_states, pillar, version
    ):
        main(pillar)["version"] = version
        main(pillar)["balancer"] = {"balance": "source", "stats": {"enabled": True}}
        lines = [x.split() for x in self.text(compile_states, pillar).splitlines() if x.strip()]
        for first, *rest in (words for words in lines if not words[0].startswith("#")):
            assert first in OLD_HAPROXY, (first, rest)
            assert not OLD_HAPROXY[first] or rest[0] in OLD_HAPROXY[first], (first, rest)
            if first == "default-server":
                named = {word for word in rest if re.match("[a-z]", word)}
                assert named <= OLD_SERVER, named - OLD_SERVER

    def test_a_full_database_does_not_empty_the_balancer(self, compile_states, pillar):
        main(pillar)["version"] = "3.5.33"
        assert "uri /health?exclude=NOSPACE" in self.text(compile_states, pillar)

    @pytest.mark.parametrize("version", ["3.4.22", "3.4.45", "3.5.6", "3.5.33"])
    def test_before_3_6_a_learner_is_told_by_a_read(self, compile_states, pillar, version):
        main(pillar)["version"] = version
        text = self.text(compile_states, pillar)
        assert "/readyz" not in text
        assert text.index("http-check expect status 200") < text.index("POST uri /v3/kv/range")
        assert 'http-check expect ! string "not supported for learner"' in text

    def test_watches_may_be_silent(self, compile_states, pillar):
        main(pillar)["balancer"] = {"idle_timeout": 7200}
        text = self.text(compile_states, pillar)
        for what in ("client", "server", "tunnel"):
            assert f"timeout {what} 7200s" in text
        assert "on-marked-down shutdown-sessions" in text

    def test_statistics_are_off_unless_asked_for(self, compile_states, pillar):
        shown = "stats enable", "stats uri", "8404"
        assert not [words for words in shown if words in self.text(compile_states, pillar)]
        main(pillar)["balancer"] = {"stats": {"enabled": True}}
        assert "bind 127.0.0.1:8404" in self.text(compile_states, pillar)

    def test_ipv6(self, compile_states, pillar):
        main(pillar)["members"] = {MEMBER: {"address": "fd00::52"}}
        main(pillar)["load_balancers"] = {BALANCER: {"address": "fd00::56"}}
        text = self.text(compile_states, pillar)
        assert "bind [::]:2379 v4v6" in text
        assert "server etcd1 [fd00::52]:2379" in text

    def test_own_certificates_are_not_held_to_names_that_only_ours_have(
        self, compile_states, pillar
    ):
        pair = {"certificate": "/a.crt", "key": "/a.key"}
        main(pillar)["tls"] = {
            "source": "files",
            "files": {
                "ca": {"certificate": "/ca.crt"},
                "server": pair,
                "peer": pair,
                "client": pair,
            },
        }
        text = self.text(compile_states, pillar)
        assert "verify required" in text
        assert "verifyhost" not in text


class TestNginx:
    def test_passes_tcp_through(self, compile_states, pillar):
        main(pillar)["balancer"] = {"kind": "nginx"}
        compiled = sound(compile_states(BALANCER, pillar))
        text = compiled.file("/etc/nginx/nginx.conf")
        assert "server 192.168.200.63:2379 max_fails=1" in text
        assert "proxy_socket_keepalive on;" in text
        assert "proxy_timeout 86400s;" in text
        assert "http {" not in text
        assert compiled.one("pkg.installed")["pkgs"] == ["nginx", "libnginx-mod-stream"]
        config = compiled.one("file.managed", name="/etc/nginx/nginx.conf")
        assert config["check_cmd"] == f"{WITH_PATH} nginx -t -q -c"
        assert not [c for c in compiled.chunks if "haproxy" in json.dumps(c["name"])]

    @pytest.mark.parametrize(("former", "kind"), [("haproxy", "nginx"), ("nginx", "haproxy")])
    def test_the_port_stays_open_while_one_follows_the_other(
        self, compile_states, pillar, monkeypatch, tmp_path, former, kind
    ):
        mark = tmp_path / "mark.json"
        left = {"cluster": "main", "kind": former, "url": "https://192.168.200.56:2379"}
        left |= {"ca": None, "certificate": None, "key": None}
        mark.write_text(json.dumps({"balancer": left}))
        monkeypatch.setattr(etcd_ha_machine, "MARK_FILE", str(mark))
        main(pillar)["balancer"] = {"kind": kind, "stats": {"enabled": True}}
        compiled = sound(compile_states(BALANCER, pillar))
        old, new = compiled.one("service.dead"), compiled.one("service.running")
        assert (old["name"], new["name"]) == (former, kind)
        assert new["__id__"] in compiled.behind(old)
        if kind == "nginx":
            # HAProxy shares its ports by default, nginx only where it is told so.
            listens = compiled.file("/etc/nginx/nginx.conf").count(" listen ")
            assert compiled.file("/etc/nginx/nginx.conf").count(" reuseport;") == listens == 2

    def test_loads_the_stream_module_where_it_is_one(self, compile_states, pillar):
        main(pillar)["balancer"] = {"kind": "nginx"}
        loads = {
            os: "include" in compile_states(BALANCER, pillar, os=os).file("/etc/nginx/nginx.conf")
            for os in ("Debian", "RedHat", "Suse")
        }
        assert loads == {"Debian": True, "RedHat": True, "Suse": False}


class TestFirewall:
    @pytest.fixture
    def closed(self, pillar):
        main(pillar)["firewall"] = {
            "enabled": True,
            "kind": "nftables",
            "client_networks": ["10.1.0.0/16", "fd00::/64"],
        }
        return pillar

    def test_is_open_before_the_member_needs_its_peers(self, compile_states, closed):
        compiled = sound(compile_states(MEMBER, closed))
        running = compiled.one("etcd_ha.running")
        assert "the table etcd_ha is in force" in compiled.behind(running)

    def test_nftables_filters_etcd_s_ports_and_nothing_else(self, compile_states, closed):
        compiled = sound(compile_states(MEMBER, closed))
        text = compiled.file("/etc/nftables.d/etcd_ha.nft")
        assert "policy accept;" in text
        dropped = [line.split() for line in text.splitlines() if " drop " in line]
        assert [line[:4] for line in dropped] == [
            ["tcp", "dport", "2380", "drop"],
            ["tcp", "dport", "2379", "drop"],
            ["tcp", "dport", "2382", "drop"],
            ["tcp", "dport", "2381", "drop"],
        ]
        assert "ip saddr 192.168.200.62 tcp dport 2380 accept" in text
        assert "ip saddr 192.168.200.56 tcp dport 2379 accept" in text
        assert "ip saddr 192.168.200.56 tcp dport 2380" not in text
        assert "ip saddr 192.168.200.62 tcp dport 2382 accept" in text
        assert "ip saddr 192.168.200.56 tcp dport 2382" not in text
        assert "ip6 saddr fd00::/64 tcp dport 2379 accept" in text
        assert text.index("dport 2380 accept") < text.index("dport 2380 drop")
        config = compiled.one("file.managed", name="/etc/nftables.d/etcd_ha.nft")
        assert config["check_cmd"] == f"{WITH_PATH} nft -c -f"

    @pytest.mark.parametrize("kind", ["ufw", "firewalld"])
    def test_one_state_holds_all_rules(self, compile_states, closed, kind):
        main(closed)["firewall"]["kind"] = kind
        compiled = sound(compile_states(MEMBER, closed))
        state = compiled.one(f"etcd_ha_firewall.{kind}")
        assert [rule["port"] for rule in state["rules"]] == [2380, 2379, 2382, 2381]
        assert state["__id__"] in compiled.behind(compiled.one("etcd_ha.running"))

    @pytest.mark.parametrize("kind", ["nftables", "ufw", "firewalld"])
    def test_the_other_firewalls_are_cleared(self, compile_states, closed, kind):
        main(closed)["firewall"]["kind"] = kind
        compiled = sound(compile_states(MEMBER, closed, "etcd_ha.firewall"))
        cleared = compiled.one("etcd_ha_firewall.cleared")["kinds"]
        assert set(cleared) == {"nftables", "ufw", "firewalld"} - {kind}

    @pytest.mark.parametrize("minion", [MEMBER, BALANCER, "stranger.example.com"])
    def test_switched_off_clears_all(self, compile_states, pillar, minion):
        compiled = sound(compile_states(minion, pillar))
        cleared = compiled.one("etcd_ha_firewall.cleared")["kinds"]
        assert set(cleared) == {"nftables", "ufw", "firewalld"}

    def test_auto_takes_the_one_in_use(self, compile_states, closed, tmp_path):
        main(closed)["firewall"]["kind"] = "auto"
        sls = {c["__sls__"] for c in compile_states(MEMBER, closed, "etcd_ha.firewall").chunks}
        sls -= {"etcd_ha.firewall"}
        assert len(sls) == 1
        assert sls <= {f"etcd_ha.firewall.{kind}" for kind in ("nftables", "ufw", "firewalld")}


def second(pillar):
    """Give the pillar a second cluster."""
    pillar["etcd_ha"]["clusters"]["other"] = {
        "version": "3.6.14",
        "members": {"db1.example.com": {"address": "192.168.201.1"}},
        "load_balancers": {"db1.example.com": {"address": "192.168.201.1"}},
        "balancer": {"port": 12379},
        "tls": {"ca": {"minion": CA}},
    }


def test_two_clusters_do_not_know_each_other(compile_states, pillar):
    second(pillar)
    other = sound(compile_states("db1.example.com", pillar))
    assert "192.168.200." not in repr(other.chunks) + repr(other.texts)
    # A member that is a balancer too has both parts, each with its own certificates.
    assert other.of("etcd_ha.running")
    assert other.of("service.running")
    assert len(other.of("x509.certificate_managed")) == 4
    ours = sound(compile_states(MEMBER, pillar))
    assert "192.168.201." not in repr(ours.chunks) + repr(ours.texts)


def leaves(settings, path=()):
    """Every setting below the defaults, as a tuple of keys."""
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def test_example_shows_every_setting_with_its_default():
    defaults = yaml.safe_load((FORMULA / "etcd_ha" / "defaults.yaml").read_text())
    lines = [
        line.strip().lstrip("# ").partition(" #")[0].strip()
        for line in (FORMULA / "pillar.example").read_text().splitlines()
    ]
    for path in leaves(defaults):
        shown = [
            line.partition(":")[2].strip() for line in lines if line.startswith(f"{path[-1]}:")
        ]
        assert shown, f"{':'.join(path)} is not in pillar.example"
        value = defaults
        for key in path:
            value = value[key]
        if path not in {
            ("options",),
            ("version",),
            ("tls", "files"),
            ("install", "packages"),
            ("tls", "ca", "minion"),
        }:
            assert value in [yaml.safe_load(text) for text in shown], f"{':'.join(path)}: {shown}"


class TestAccess:
    """Applied to one member by the orchestrate alone; no password stands in any state."""

    @pytest.fixture
    def compiled(self, compile_states, pillar):
        main(pillar)["access"] = {
            "enabled": True,
            "users": {
                "app": {"roles": ["app"], "password": "planted-secret"},
                "cert": {"roles": ["app"]},
            },
            "roles": {"app": {"permissions": [{"prefix": "/app/", "access": "readwrite"}]}},
        }
        return sound(compile_states(MEMBER, pillar, "etcd_ha.access"))

    def test_states_are_told_the_place_of_a_password_alone(self, compiled):
        key = "etcd_ha:clusters:main:access:users:app:password"
        assert compiled.one("etcd_ha.user_present", user="app")["password_pillar"] == key
        assert compiled.one("etcd_ha.user_present", user="cert")["password_pillar"] is None
        assert "planted-secret" not in json.dumps(compiled.chunks)

    def test_authentication_is_turned_on_last(self, compiled):
        enabled = compiled.one("etcd_ha.auth_enabled")
        assert compiled.chunks[-1] is enabled
        assert compiled.behind(enabled) == set(compiled.ids()) - {enabled["__id__"]}

    def test_root_is_there(self, compiled):
        assert compiled.one("etcd_ha.user_present", user="root")["roles"] == ["root"]

    def test_off_and_left_as_it_is(self, compile_states, pillar):
        main(pillar)["access"] = {"enabled": False}
        assert compile_states(MEMBER, pillar, "etcd_ha.access").one("etcd_ha.auth_disabled")
        main(pillar)["access"] = {}
        compiled = sound(compile_states(MEMBER, pillar, "etcd_ha.access"))
        assert compiled.functions() == ["test.succeed_without_changes"]

    def test_a_password_at_the_top_of_the_pillar_is_found_too(self, compile_states, pillar):
        pillar["etcd_ha"]["access"] = {"users": {"app": {"password": "planted-secret"}}}
        found = compile_states(MEMBER, pillar, "etcd_ha.access").one("etcd_ha.user_present")
        assert found["password_pillar"] == "etcd_ha:access:users:app:password"

    def test_is_no_part_of_a_highstate(self, compile_states, pillar):
        main(pillar)["access"] = {"enabled": True}
        functions = compile_states(MEMBER, pillar).functions()
        assert not {"etcd_ha.auth_enabled", "etcd_ha.user_present"} & set(functions)


def test_states_of_two_files_share_one_name(minion_opts):
    """etcd_ha.running and etcd_ha.user_present come from different files."""
    opts = {**minion_opts, "id": MEMBER, "grains": {"id": MEMBER}, "test": True}
    states = salt.loader.states(opts, salt.loader.minion_mods(opts), {}, None)
    assert {"etcd_ha.running", "etcd_ha.user_present", "etcd_ha.auth_enabled"} <= set(states)
    found = states["etcd_ha.user_present"]("app")
    assert found["result"] is False and "no etcd member is configured" in found["comment"]
