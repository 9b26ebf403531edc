"""Every flag that the pillar may set, in real etcds of each line.

Quickly: one etcd on loopback with all of them, asked as the balancers, etcdctl and backups ask it.
Whole: a cluster with all of them at once through the orchestrate, a backup and an upgrade.
"""

import json
import os
import pathlib
import ssl
import subprocess
import sys
import tarfile
import time
import urllib.request

import pytest
from changing import THREE
from extent import each_release, only_in_all
from lab_command import ROOT

sys.path[:0] = [str(ROOT / "_utils"), str(ROOT / "test" / "unit")]

import etcd_flags  # noqa: E402
import etcd_ha_host  # noqa: E402
import etcd_ha_options  # noqa: E402

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
NEXT = {"3.4.23": "3.5.16", "3.5.16": "3.6.14", "3.6.14": "3.7.1"}
# v2 requests in the log make 3.6 refuse to start, and the plan says so.
OF_V2 = ("enable-v2",)
# What etcd takes together alone.
PARTNERS = {
    "enable-log-rotation": "log-outputs",
    "client-cert-file": "client-key-file",
    "client-key-file": "client-cert-file",
    "peer-client-cert-file": "peer-client-key-file",
    "peer-client-key-file": "peer-client-cert-file",
    "experimental-enable-lease-checkpoint-persist": "experimental-enable-lease-checkpoint",
    "election-timeout": "heartbeat-interval",
    "heartbeat-interval": "election-timeout",
}
CLIENT, PEER = 23790, 23800


@pytest.fixture
def programs(lab, tmp_path):
    """The folder of a release's programs on this machine."""

    def unpacked(version):
        lab.run("mirror", "get", version, timeout=900).ok()
        (archive,) = (CACHE / "etcd_ha" / "etcd" / f"v{version}").glob("*.tar.gz")
        with tarfile.open(archive) as found:
            found.extractall(tmp_path)
        return next(tmp_path.glob(f"etcd-v{version}-*"))

    return unpacked


@pytest.fixture
def pair(tmp_path):
    """A key and its certificate for loopback."""
    key, certificate = tmp_path / "server.key", tmp_path / "server.crt"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-nodes", "-days", "2", "-subj", "/CN=etcd", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*words, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    for name in ("peer.crt", "peer.key"):
        (tmp_path / name).write_bytes((certificate if name.endswith("crt") else key).read_bytes())
    return certificate, key


class One:
    """One etcd on loopback with these options."""

    def __init__(self, programs, folder, pair, options):
        self.programs, self.folder, (self.certificate, self.key) = programs, folder, pair
        url, peer = f"https://127.0.0.1:{CLIENT}", f"http://127.0.0.1:{PEER}"
        self.url = url
        own = {
            **{"name": "one", "data-dir": f"{folder}/data", "listen-client-urls": url},
            **{"advertise-client-urls": url, "listen-peer-urls": peer},
            **{"initial-advertise-peer-urls": peer, "initial-cluster": f"one={peer}"},
            **{"cert-file": self.certificate, "key-file": self.key},
            **{"trusted-ca-file": self.certificate, "client-cert-auth": "true"},
        }
        self.environment = {**os.environ}
        for flag, value in {**own, **options}.items():
            text = etcd_ha_options.text(value)
            self.environment[etcd_ha_options.variable(flag)] = text

    def __enter__(self):
        (self.folder / "data").mkdir(mode=0o700)
        self.log = (self.folder / "log").open("w")
        self.process = subprocess.Popen(
            [self.programs / "etcd"], env=self.environment, stdout=self.log, stderr=self.log
        )
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()

    def fault(self, version, seconds=60):
        """Why the path does not work with it, or an empty text."""
        deadline, told = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                return f"it ended: {(self.folder / 'log').read_text()[-800:]}"
            told = self._checks(version) or self._client()
            if not told:
                return self._snapshot()
            time.sleep(0.3)
        return told

    def _checks(self, version):
        """What HAProxy asks."""
        context = ssl.create_default_context(cafile=self.certificate)
        context.load_cert_chain(self.certificate, self.key)
        for check in etcd_ha_host._checks(version):
            body = check["body"].encode() or None
            asked = urllib.request.Request(
                self.url + check["path"], body, {"Host": "etcd"}, method=check["method"]
            )
            try:
                with urllib.request.urlopen(asked, timeout=5, context=context) as answer:
                    answer.read()
            except OSError as err:
                return f"{check['path']}: {err}"
        return ""

    def _client(self):
        for words in (["put", "a", "b"], ["get", "a"], ["endpoint", "health"]):
            told = self._etcdctl(*words)
            if told:
                return told
        return ""

    def _snapshot(self):
        return self._etcdctl("snapshot", "save", str(self.folder / "snapshot"))

    def _etcdctl(self, *words):
        files = {"CACERT": self.certificate, "CERT": self.certificate, "KEY": self.key}
        own = {f"ETCDCTL_{name}": str(path) for name, path in files.items()}
        done = subprocess.run(
            [self.programs / "etcdctl", *words],
            env={**os.environ, **own, "ETCDCTL_ENDPOINTS": self.url},
            capture_output=True,
            text=True,
            check=False,
        )
        return "" if done.returncode == 0 else f"etcdctl {words[0]}: {done.stderr[-400:]}"


def breaking(start, options):
    """Those of the options that break the path, found by halves: flag -> how."""
    told = start(options)
    if not told:
        return {}
    if len(options) == 1:
        return dict.fromkeys(options, told)
    pairs = list(options.items())
    middle = len(pairs) // 2
    found = {**breaking(start, dict(pairs[:middle])), **breaking(start, dict(pairs[middle:]))}
    # None of either half alone: it takes both.
    return found or {", ".join(options): told}


@each_release(("3.4.23", "3.5.16", "3.6.14", "3.7.1"))
def test_on_loopback(programs, pair, tmp_path, version):
    found, number = programs(version), iter(range(1000))
    options = etcd_flags.options(version, str(tmp_path), "DATA")
    # These need a list that a CA has made; the cluster below has one.
    options = {flag: v for flag, v in options.items() if not flag.endswith("crl-file")}
    if version.startswith("3.4."):
        options["logger"] = "zap"

    def start(some):
        folder = tmp_path / f"run{next(number)}"
        folder.mkdir()
        more = {PARTNERS[flag]: options[PARTNERS[flag]] for flag in some if flag in PARTNERS}
        placed = json.loads(json.dumps({**more, **some}).replace("DATA", f"{folder}/data"))
        with One(found, folder, pair, placed) as one:
            return one.fault(version)

    assert breaking(start, options) == {}


@only_in_all
@pytest.mark.parametrize("version", NEXT)
def test_through_the_whole_path(changed, version):
    """All at once on three members: balancers, a backup and its test restore, the line after it."""
    found = changed.obtainable(version, NEXT[version])
    assert len(found) == 2, f"etcd {version} and {NEXT[version]} are needed; there is {found}"
    changed.begin(THREE, version=version)
    options = etcd_flags.options(version, "/etc/etcd/pki", "/var/lib/etcd")
    left_out = {"client-crl-file", "peer-crl-file", *OF_V2}
    options = {flag: value for flag, value in options.items() if flag not in left_out}
    changed.change(THREE, f"flags-{version}", version=version, options=options, longest=None)
    lab = changed.lab
    lab.orch(command="backup", timeout=600).ok()
    newer = etcd_flags.options(NEXT[version], "/etc/etcd/pki", "/var/lib/etcd")
    newer = {flag: value for flag, value in newer.items() if flag not in left_out}
    changed.change(THREE, f"flags-up-{version}", version=NEXT[version], options=newer, longest=None)
    assert changed.versions() == {NEXT[version]}
    changed.change(THREE, f"flags-off-{version}", version=NEXT[version], longest=None)
