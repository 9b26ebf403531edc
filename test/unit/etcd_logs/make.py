"""Make the corpus of logs again: real etcds of each line, broken in every way.

``unshare --net --mount python3 make.py ARCHIVES [CASE|LINE..]`` (root) writes LINE/CASE.log beside
it. ARCHIVES holds vX.Y.Z/etcd-vX.Y.Z-linux-amd64.tar.gz, as the lab's mirror has them. What is
expected of each log is in test_etcd_log.py.
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time

HERE = pathlib.Path(__file__).parent
NOBODY = 65534
# Of each log, at most.
LINES = 40
OLDER = {"3.5": "3.4", "3.6": "3.5", "3.7": "3.6"}


class Ground:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def base(self, **more):
        return {
            "ETCD_NAME": "etcd1",
            "ETCD_LOGGER": "zap",
            "ETCD_DATA_DIR": f"{self.folder}/data",
            "ETCD_LISTEN_CLIENT_URLS": "http://127.0.0.1:2379",
            "ETCD_ADVERTISE_CLIENT_URLS": "http://127.0.0.1:2379",
            "ETCD_LISTEN_PEER_URLS": "http://127.0.0.1:2380",
            "ETCD_INITIAL_ADVERTISE_PEER_URLS": "http://127.0.0.1:2380",
            "ETCD_INITIAL_CLUSTER": "etcd1=http://127.0.0.1:2380",
            "ETCD_INITIAL_CLUSTER_TOKEN": "corpus",
            **more,
        }

    def start(self, words=(), program=None, user=None, **more):
        log = pathlib.Path(self.folder, "log").open("wb")  # noqa: SIM115
        variables = {"PATH": os.environ["PATH"], "HOME": self.folder}
        variables |= {k: v for k, v in self.base(**more).items() if v is not None}
        return subprocess.Popen(
            [program or self.program, *words],
            env=variables,
            cwd=self.folder,
            stdout=log,
            stderr=log,
            user=user,
        )

    def log(self):
        return pathlib.Path(self.folder, "log").read_text(errors="replace")

    def fails(self, seconds=20, **more):
        """Start it, and wait until it has ended by itself."""
        process = self.start(**more)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise SystemExit(f"it does not fail: {self.log()[-2000:]}") from None
        return self.log()

    @contextlib.contextmanager
    def served(self, **more):
        process = self.start(**more)
        try:
            for _ in range(300):
                if re.search("ready to serve client requests", self.log()):
                    break
                if process.poll() is not None:
                    raise SystemExit(f"it does not start: {self.log()[-2000:]}")
                time.sleep(0.1)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()

    def ctl(self, *words):
        program = str(pathlib.Path(self.program).with_name("etcdctl"))
        return subprocess.run(
            [program, *words], capture_output=True, text=True, timeout=20, check=False
        )

    def filled(self, count=200, **more):
        """Data with some keys, and a stop."""
        with self.served(**more):
            for number in range(count // 50):
                text = "".join(f"put /k{number}-{n} {'v' * 500}\n" for n in range(50))
                program = str(pathlib.Path(self.program).with_name("etcdctl"))
                for line in text.splitlines()[:10]:
                    subprocess.run([program, *line.split()], capture_output=True, check=False)


def unknown_flag(ground):
    return ground.fails(words=["--no-such-flag=1"])


def bad_value(ground):
    return ground.fails(ETCD_HEARTBEAT_INTERVAL="often")


def bad_retention(ground):
    return ground.fails(ETCD_AUTO_COMPACTION_RETENTION="sometimes")


def flag_and_variable(ground):
    return ground.fails(words=["--name=etcd1"])


def missing_certificate(ground):
    return ground.fails(
        ETCD_LISTEN_CLIENT_URLS="https://127.0.0.1:2379",
        ETCD_ADVERTISE_CLIENT_URLS="https://127.0.0.1:2379",
        ETCD_CERT_FILE=f"{ground.folder}/no.crt",
        ETCD_KEY_FILE=f"{ground.folder}/no.key",
    )


def _pair(ground, name):
    path = f"{ground.folder}/{name}"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9"]
    words += ["-subj", f"/CN={name}", "-keyout", f"{path}.key", "-out", f"{path}.crt"]
    subprocess.run(words, check=True, capture_output=True)
    return f"{path}.crt", f"{path}.key"


def _tls(certificate, key, **more):
    return {
        "ETCD_LISTEN_CLIENT_URLS": "https://127.0.0.1:2379",
        "ETCD_ADVERTISE_CLIENT_URLS": "https://127.0.0.1:2379",
        "ETCD_CERT_FILE": certificate,
        "ETCD_KEY_FILE": key,
        **more,
    }


def no_certificate_in_it(ground):
    pathlib.Path(ground.folder, "a.crt").write_text("not PEM\n")
    _, key = _pair(ground, "a")
    pathlib.Path(ground.folder, "a.crt").write_text("not PEM\n")
    return ground.fails(**_tls(f"{ground.folder}/a.crt", key))


def another_key(ground):
    certificate, _ = _pair(ground, "a")
    _, key = _pair(ground, "b")
    return ground.fails(**_tls(certificate, key))


def unreadable_key(ground):
    certificate, key = _pair(ground, "a")
    os.chmod(key, 0o400)
    os.chmod(ground.folder, 0o777)
    return ground.fails(user=NOBODY, **_tls(certificate, key))


def port_taken(ground):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 2379))
        other.listen()
        return ground.fails()


def peer_port_taken(ground):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 2380))
        other.listen()
        return ground.fails()


def address_of_another(ground):
    return ground.fails(ETCD_LISTEN_CLIENT_URLS="http://10.9.8.7:2379")


def no_permission(ground):
    os.mkdir(f"{ground.folder}/data", mode=0o700)
    os.chmod(ground.folder, 0o777)
    return ground.fails(user=NOBODY)


def cluster_without_me(ground):
    return ground.fails(ETCD_INITIAL_CLUSTER="etcd2=http://127.0.0.2:2380")


def no_space(ground):
    os.mkdir(f"{ground.folder}/data")
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "x", f"{ground.folder}/data"], check=True
    )
    try:
        return ground.fails()
    finally:
        subprocess.run(["umount", f"{ground.folder}/data"], check=True)


def read_only(ground):
    os.mkdir(f"{ground.folder}/data")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "x", f"{ground.folder}/data"], check=True)
    try:
        return ground.fails()
    finally:
        subprocess.run(["umount", f"{ground.folder}/data"], check=True)


def database_pages_zero(ground):
    ground.filled()
    path = f"{ground.folder}/data/member/snap/db"
    with open(path, "rb+") as file:
        file.seek(2 * 4096)
        file.write(bytes(min(20 * 4096, os.path.getsize(path) - 2 * 4096)))
    return ground.fails()


def database_meta_zero(ground):
    ground.filled()
    with open(f"{ground.folder}/data/member/snap/db", "rb+") as file:
        file.write(bytes(2 * 4096))
    return ground.fails()


def database_cut(ground):
    ground.filled()
    path = f"{ground.folder}/data/member/snap/db"
    os.truncate(path, 6000)
    return ground.fails()


def _log_file(ground):
    (found, *_) = sorted(pathlib.Path(ground.folder, "data/member/wal").glob("*.wal"))
    return found


def log_flipped(ground):
    ground.filled()
    with open(_log_file(ground), "rb+") as file:
        file.seek(1500)
        byte = file.read(1)[0]
        file.seek(1500)
        file.write(bytes([byte ^ 8]))
    return ground.fails()


def log_head_flipped(ground):
    ground.filled()
    with open(_log_file(ground), "rb+") as file:
        file.seek(22)
        byte = file.read(1)[0]
        file.seek(22)
        file.write(bytes([byte ^ 8]))
    return ground.fails()


def log_missing(ground):
    ground.filled(ETCD_SNAPSHOT_COUNT="5")
    _log_file(ground).unlink()
    return ground.fails()


def snapshot_database_missing(ground):
    ground.filled(ETCD_SNAPSHOT_COUNT="5")
    os.unlink(f"{ground.folder}/data/member/snap/db")
    return ground.fails()


def another_initial_cluster(ground):
    """Entering a cluster that has other members."""
    with ground.served():
        other = Ground(ground.program, f"{ground.folder}/other")
        os.mkdir(other.folder)
        return other.fails(
            ETCD_NAME="etcd2",
            ETCD_LISTEN_CLIENT_URLS="http://127.0.0.2:2379",
            ETCD_ADVERTISE_CLIENT_URLS="http://127.0.0.2:2379",
            ETCD_LISTEN_PEER_URLS="http://127.0.0.2:2380",
            ETCD_INITIAL_ADVERTISE_PEER_URLS="http://127.0.0.2:2380",
            ETCD_INITIAL_CLUSTER="etcd1=http://127.0.0.1:2380,etcd2=http://127.0.0.2:2380",
            ETCD_INITIAL_CLUSTER_STATE="existing",
        )


def _second(ground, **more):
    return {
        "ETCD_NAME": "etcd2",
        "ETCD_LISTEN_CLIENT_URLS": "http://127.0.0.2:2379",
        "ETCD_ADVERTISE_CLIENT_URLS": "http://127.0.0.2:2379",
        "ETCD_LISTEN_PEER_URLS": "http://127.0.0.2:2380",
        "ETCD_INITIAL_ADVERTISE_PEER_URLS": "http://127.0.0.2:2380",
        "ETCD_INITIAL_CLUSTER": "etcd1=http://127.0.0.1:2380,etcd2=http://127.0.0.2:2380",
        "ETCD_INITIAL_CLUSTER_STATE": "existing",
        **more,
    }


def bootstrapped_before(ground):
    """A member whose data is gone, started as one of a new cluster."""
    second = Ground(ground.program, f"{ground.folder}/other")
    os.mkdir(second.folder)
    with ground.served():
        ground.ctl("member", "add", "etcd2", "--peer-urls=http://127.0.0.2:2380")
        with second.served(**_second(second)):
            time.sleep(1)
        shutil.rmtree(f"{second.folder}/data")
        process = second.start(**_second(second, ETCD_INITIAL_CLUSTER_STATE="new"))
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        return second.log()


def removed_member(ground):
    second = Ground(ground.program, f"{ground.folder}/other")
    os.mkdir(second.folder)
    with ground.served():
        ground.ctl("member", "add", "etcd2", "--peer-urls=http://127.0.0.2:2380")
        with second.served(**_second(second)):
            time.sleep(1)
            listed = ground.ctl("member", "list").stdout
            gone = next(line.split(",")[0] for line in listed.splitlines() if "etcd2" in line)
            print(ground.ctl("member", "remove", gone))
            time.sleep(2)
        return second.fails(**_second(second))


def newer_data(ground):
    """Data of the next line, started by the older one."""
    program = ground.older
    ground.filled()
    return ground.fails(program=program)


CASES = [
    unknown_flag,
    bad_value,
    bad_retention,
    flag_and_variable,
    missing_certificate,
    no_certificate_in_it,
    another_key,
    unreadable_key,
    port_taken,
    peer_port_taken,
    address_of_another,
    no_permission,
    cluster_without_me,
    no_space,
    read_only,
    database_pages_zero,
    database_meta_zero,
    database_cut,
    log_flipped,
    log_head_flipped,
    log_missing,
    snapshot_database_missing,
    another_initial_cluster,
    bootstrapped_before,
    removed_member,
    newer_data,
]


def unpacked(archives, folder):
    found = {}
    for path in sorted(pathlib.Path(archives).glob("v*/*.tar.gz")):
        with tarfile.open(path) as tar:
            tar.extractall(folder)
        version = path.parent.name
        found[".".join(version[1:].split(".")[:2])] = (
            f"{folder}/{path.name.removesuffix('.tar.gz')}/etcd"
        )
    return found


def plain(text, folder):
    """The end of a log, without the paths of this run."""
    return "".join(text.replace(folder, "/srv").splitlines(True)[-LINES:])


def main():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    lines = {word for word in sys.argv[2:] if word[0].isdigit()}
    wanted = set(sys.argv[2:]) - lines
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        programs = unpacked(sys.argv[1], place)
        for line, program in programs.items():
            if lines and line not in lines:
                continue
            for case in CASES:
                if (wanted and case.__name__ not in wanted) or (
                    case is newer_data and line == "3.4"
                ):
                    continue
                folder = f"{place}/run"
                shutil.rmtree(folder, ignore_errors=True)
                os.mkdir(folder)
                ground = Ground(program, folder)
                ground.older = programs.get(OLDER.get(line, ""))
                try:
                    text = case(ground)
                except SystemExit as err:
                    print(f"{line} {case.__name__}: {str(err)[:300]}")
                    continue
                target = HERE / line / f"{case.__name__}.log"
                target.parent.mkdir(exist_ok=True)
                target.write_text(plain(text, folder))
                print(f"{line} {case.__name__}: {len(text)} characters", flush=True)


if __name__ == "__main__":
    main()
