"""etcd archives of the lab's mirror: sources, checks, and what stands in for what."""

import hashlib
import os
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "lab"))

from etcd_ha_lab import artifacts, machine, mirror_server
from etcd_ha_lab.ui import LabError


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A cache of its own, on a machine that is amd64."""
    monkeypatch.setattr(artifacts, "STORE", tmp_path / "store")
    monkeypatch.setattr(artifacts, "NEWEST_PACKAGED", tmp_path / "store/.newest-packaged")
    monkeypatch.setattr(machine, "architecture", lambda: "amd64")
    return tmp_path / "store"


@pytest.fixture
def upstream(tmp_path, monkeypatch):
    """A site with upstream's layout on loopback; returns its folder."""
    site = tmp_path / "site"
    site.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("ETCD_HA_LAB_UPSTREAM", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("ETCD_HA_LAB_SOURCES", "upstream")
    yield site
    server.shutdown()
    server.server_close()


def release(site, version, content=b"archive", digest=None):
    folder = site / f"v{version}"
    folder.mkdir()
    name = f"etcd-v{version}-linux-amd64.tar.gz"
    (folder / name).write_bytes(content)
    digest = digest or hashlib.sha256(content).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  other.tar.gz\n{digest}  {name}\n")


def programs(folder, version="3.6.14"):
    """Programs that answer --version as etcd does."""
    folder.mkdir(parents=True)
    for name in ("etcd", "etcdctl"):
        (folder / name).write_text(f"#!/bin/sh\necho 'etcd Version: {version}'\n")
        (folder / name).chmod(0o755)
    return folder


def test_a_release_of_upstream_is_kept_with_its_sums(store, upstream):
    release(upstream, "3.6.14")
    artifact = artifacts.get("3.6.14")
    assert artifact.source == "upstream"
    assert artifact.archive.read_bytes() == b"archive"
    assert artifact.sha256 in (artifact.folder / "SHA256SUMS").read_text()
    assert artifacts.cached() == [artifact]


def test_a_release_with_a_wrong_sum_is_not_kept(store, upstream):
    release(upstream, "3.6.14", digest="1" * 64)
    with pytest.raises(LabError, match=f"sha256 .* SHA256SUMS says {'1' * 64}"):
        artifacts.get("3.6.14")
    assert artifacts.cached() == []
    assert not list(store.glob(".new-*"))


def test_a_source_that_does_not_answer_leads_to_the_next(store, upstream, monkeypatch):
    monkeypatch.setenv("ETCD_HA_LAB_SOURCES", "upstream,go")
    monkeypatch.setattr(artifacts, "RECIPES", store / "no-recipes")
    with pytest.raises(artifacts.SourceMissing) as why:
        artifacts.get("3.6.14")
    assert "upstream: no answer" in str(why.value)
    assert "go: test/lab/etcd-build has no recipe" in str(why.value)


def test_a_page_in_place_of_the_sums_leads_to_the_next_source(store, upstream, monkeypatch):
    monkeypatch.setenv("ETCD_HA_LAB_SOURCES", "upstream,go")
    monkeypatch.setattr(artifacts, "RECIPES", store / "no-recipes")
    release(upstream, "3.6.14")
    (upstream / "v3.6.14/SHA256SUMS").write_text("<html>\n\n<p>log in first</p></html>\n")
    with pytest.raises(artifacts.SourceMissing, match="has no line for etcd-v3"):
        artifacts.get("3.6.14")
    assert artifacts.cached() == []


def test_all_that_can_be_had_is_got_and_the_rest_is_named(store, upstream, monkeypatch):
    monkeypatch.setenv("ETCD_HA_LAB_SOURCES", "upstream")
    monkeypatch.setattr(artifacts, "_from_packages", packaged("3.5.30", store))
    release(upstream, "3.4.23")
    release(upstream, "3.7.1")
    with pytest.raises(LabError) as why:
        artifacts.get_all()
    assert [a.version for a in artifacts.cached()] == ["3.4.23", "3.5.30", "3.7.1"]
    for version in ("3.5.16", "3.5.33", "3.6.14"):
        assert f"no source gives etcd {version}" in str(why.value)


def test_without_go_the_module_proxy_is_no_source(store, monkeypatch):
    monkeypatch.setattr(artifacts.shutil, "which", lambda *_, **__: None)
    monkeypatch.setenv("ETCD_HA_LAB_SOURCES", "go")
    with pytest.raises(artifacts.SourceMissing, match="Go is not installed"):
        artifacts.get("3.6.14")


def test_the_distribution_stands_in_for_a_default_that_cannot_be_had(store, monkeypatch):
    monkeypatch.setenv("ETCD_HA_LAB_SOURCES", "go")
    monkeypatch.setattr(artifacts, "RECIPES", store / "no-recipes")
    monkeypatch.setattr(artifacts, "_from_packages", packaged("3.5.30", store))
    assert artifacts.default_version() == "3.5.30"


def test_a_distribution_that_is_too_old_for_a_demo_is_said_so(store, monkeypatch):
    monkeypatch.setenv("ETCD_HA_LAB_SOURCES", "go")
    monkeypatch.setattr(artifacts, "RECIPES", store / "no-recipes")
    monkeypatch.setattr(artifacts, "_from_packages", packaged("3.4.23", store))
    with pytest.raises(LabError, match=r"only etcd 3\.4\.23.* install Go"):
        artifacts.default_version()


def packaged(version, store):
    def fetch(_, to):
        return artifacts._pack(version, "package", programs(to / "programs", version), to)

    return fetch


def test_the_same_programs_make_the_same_archive(store, tmp_path):
    digests = set()
    for attempt in ("first", "second"):
        files = programs(tmp_path / attempt / "programs")
        os.utime(files / "etcd", (1, 1) if attempt == "first" else (2, 2))
        digests.add(artifacts._pack("3.6.14", "go", files, tmp_path / attempt).sha256)
    assert len(digests) == 1


def test_an_archive_has_upstreams_layout(store, tmp_path):
    artifacts._pack("3.6.14", "go", programs(tmp_path / "new/programs"), tmp_path / "new")
    with tarfile.open(tmp_path / "new/etcd-v3.6.14-linux-amd64.tar.gz") as archive:
        names = archive.getnames()
    folder = "etcd-v3.6.14-linux-amd64"
    assert names == [folder, f"{folder}/etcd", f"{folder}/etcdctl"]


def test_a_binary_of_another_version_is_refused(store, tmp_path):
    files = programs(tmp_path / "new/programs", "3.6.13")
    with pytest.raises(LabError, match=r"gave etcd 3\.6\.13 where 3\.6\.14"):
        artifacts._pack("3.6.14", "go", files, tmp_path / "new")


@pytest.mark.parametrize("version", ["3.6", "v3.6.14", "latest", "3.6.14-rc.1", "../3.6.14"])
def test_what_is_no_version_is_refused(store, version):
    with pytest.raises(LabError, match="no etcd version"):
        artifacts._fetch(version)


def test_an_unknown_source_is_refused(store, monkeypatch):
    monkeypatch.setenv("ETCD_HA_LAB_SOURCES", "go,ftp")
    with pytest.raises(LabError, match="names 'ftp': it takes upstream, go, debian"):
        artifacts.get("3.6.14")


def test_versions_are_ordered_as_numbers(store, upstream):
    for version in ("3.6.9", "3.6.14", "3.5.33"):
        release(upstream, version)
        artifacts.get(version)
    assert [a.version for a in artifacts.cached()] == ["3.5.33", "3.6.9", "3.6.14"]
    assert artifacts.newest().version == "3.6.14"
    assert artifacts.newest("3.5").version == "3.5.33"
    assert artifacts.newest("3.4") is None


@pytest.mark.parametrize("version", ["3.5.33", "3.6.14", "3.7.1"])
def test_recipes_pin_all_three_programs_to_their_version(version):
    pins = (artifacts.RECIPES / version / "go.mod").read_text().split("\n")
    sums = (artifacts.RECIPES / version / "go.sum").read_text()
    for module in ("server", "etcdctl", "etcdutl"):
        pin = f"go.etcd.io/etcd/{module}/v3 v{version}"
        assert pin in [line.strip().removesuffix(" // indirect") for line in pins]
        assert f"{pin} h1:" in sums


class TestServer:
    @pytest.fixture
    def find(self, tmp_path, monkeypatch):
        monkeypatch.setattr(mirror_server.Mirror, "over", str(tmp_path / "over"))
        monkeypatch.setattr(mirror_server.Mirror, "cache", str(tmp_path / "cache"))
        server = mirror_server.Mirror.__new__(mirror_server.Mirror)
        return lambda path: server.translate_path(path)

    def test_archives_come_from_the_cache(self, find, tmp_path):
        assert find("/etcd/v3.6.14/SHA256SUMS") == f"{tmp_path}/cache/etcd/v3.6.14/SHA256SUMS"

    def test_a_planted_archive_comes_first(self, find, tmp_path):
        planted = tmp_path / "over/etcd/v3.6.14/a.tar.gz"
        planted.parent.mkdir(parents=True)
        planted.touch()
        assert find("/etcd/v3.6.14/a.tar.gz") == str(planted)
        assert find("/etcd/v3.6.14/b.tar.gz") == f"{tmp_path}/cache/etcd/v3.6.14/b.tar.gz"

    def test_packages_come_from_the_base_tree(self, find, tmp_path):
        assert find("/apt/key/./Packages") == f"{tmp_path}/cache/base/key/packages/Packages"

    @pytest.mark.parametrize(
        "path", ["/", "/etcd/../base", "/apt/key/../../x", "/etcd/%2e%2e/x", "/lab.json"]
    )
    def test_nothing_else_is_served(self, find, path):
        assert find(path) == "/nonexistent"
