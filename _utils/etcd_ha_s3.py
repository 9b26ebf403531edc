"""Backups in an S3-compatible store, by rclone.

Whatever rclone needs to know reaches it by its environment, from a file that root alone can read:
an argument vector is there for everyone to read. https://rclone.org/docs/#environment-variables,
https://rclone.org/s3/, https://rclone.org/crypt/
"""

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from typing import Any

import etcd_ha_backup
import etcd_ha_common_files
import etcd_ha_common_process
import etcd_ha_trial
from etcd_ha_backup import Backup
from etcd_ha_common_process import ANY_CODE, ProgramError, ProgramMissing, ProgramTimeout

PROGRAM = "rclone"
# What is secret, by its key below ``backup:s3``; the file of secrets has these names in capitals.
SECRETS = ("access_key", "secret_key", "encryption_password")
# Seconds for what moves no backup, such as a list.
BRIEF = 60.0
_TIMED = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (\w+ *: )?")


class S3Error(RuntimeError):
    """The store could not be used; the text says why."""


def is_used(s3: Mapping[str, Any]) -> bool:
    """Whether the pillar names a bucket."""
    return s3["bucket"] is not None


class Store:
    """One cluster's backups in a bucket.

    ``s3`` are the settings without secrets, ``secrets`` those alone. Names stay readable in an
    encrypted store, so that a person finds the backup of a day without the formula.
    """

    def __init__(self, cluster: str, s3: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
        self.s3, self.place = s3, f"s3://{s3['bucket']}/{s3['prefix']}/{cluster}"
        self.path = f"store:{s3['bucket']}/{s3['prefix']}/{cluster}"
        self.variables = self._environment(secrets)
        self.remote = self.path
        if secrets.get("encryption_password"):
            self.variables |= self._sealing(secrets["encryption_password"])
            self.remote = "sealed:"

    def listing(self) -> list[Backup]:
        """Every backup there, newest last; one whose sidecar is missing is not verified."""
        told = self._run(["lsjson", "--files-only", self.remote], BRIEF, empty="[]")
        files = self._files(told)
        # One call for all sidecars: each is a request of its own in the store as it is.
        found = []
        for name in sorted(files):
            stem, _, kind = name.rpartition(".")
            known = Backup.named(stem, files[name]) if kind == "db" else None
            if known is None:
                continue
            found.append(self._described(known) if f"{stem}.json" in files else known)
        return found

    def _files(self, told: str) -> dict[str, int]:
        """Names and sizes of a list of rclone's."""
        try:
            found = {row["Name"]: row["Size"] for row in json.loads(told)}
            if all(isinstance(n, str) and isinstance(size, int) for n, size in found.items()):
                return found
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        raise S3Error(f"{self.place} answers with something else than a list of files")

    def put(self, path: str, backup: Backup) -> None:
        """Bring a backup there, read it back whole, and only then write its sidecar.

        A key in S3 appears once all of it has arrived, so that none is ever half there; and
        without its sidecar it counts for nothing.
        """
        self._run(["copyto", path, self._at(f"{backup.name}.db")], self.s3["timeout"])
        self._read_back(backup)
        text = json.dumps(backup.sidecar, indent=1, sort_keys=True) + "\n"
        self._run(["rcat", self._at(f"{backup.name}.json")], BRIEF, stdin=text)

    def fetch(self, name: str, path: str) -> None:
        """Bring a backup from there into a file."""
        self._run(["copyto", self._at(f"{name}.db"), path], self.s3["timeout"])

    def remove(self, backup: Backup) -> None:
        """Take a backup away, its sidecar first: what is left never counts as a backup."""
        for kind in ("json", "db"):
            self._run(["deletefile", self._at(f"{backup.name}.{kind}")], BRIEF)

    def _described(self, known: Backup) -> Backup:
        try:
            told = json.loads(self._run(["cat", self._at(f"{known.name}.json")], BRIEF))
            found = Backup.of({**told, "size": known.size})
        except (ValueError, TypeError, RecursionError):
            return known
        return found if found.name == known.name else known

    def _read_back(self, backup: Backup) -> None:
        """The same rule as that of a file: all but the last 32 bytes, and those are their hash."""
        found, last, size = hashlib.sha256(), b"", 0
        command = self._command(["cat", self._at(f"{backup.name}.db")])
        with etcd_ha_common_process.started(
            command, environment=self.variables, stdout=etcd_ha_common_process.PIPE
        ) as process:
            assert process.stdout is not None
            # It is waited for it to say something, which it may never do again.
            end = threading.Timer(self.s3["timeout"], process.kill)
            end.start()
            for block in iter(lambda: process.stdout.read(1 << 20), b""):  # type: ignore[union-attr]
                size, last = size + len(block), last + block
                found.update(last[:-32])
                last = last[-32:]
                if size > backup.size:
                    process.kill()
            code = process.wait()
            end.cancel()
        if code or size != backup.size or last.hex() != backup.sha256:
            raise S3Error(
                f"{self.place}/{backup.name}.db is not what was sent: {size} of {backup.size} "
                "bytes came back. It does not count as a backup; run it again"
            )
        if found.hexdigest() != backup.sha256:
            raise S3Error(f"{self.place}/{backup.name}.db came back changed; run it again")

    def _run(
        self, words: list[str], timeout: float, stdin: str | None = None, empty: str | None = None
    ) -> str:
        try:
            done = etcd_ha_common_process.run(
                self._command(words),
                timeout,
                codes=ANY_CODE,
                environment=self.variables,
                stdin=stdin,
            )
        except ProgramMissing:
            raise S3Error(
                f"{PROGRAM} is not installed here; run salt-run state.orchestrate etcd_ha.orch"
            ) from None
        except ProgramTimeout:
            raise S3Error(
                f"{self.place} did not finish within {timeout:g} s. Is the store reachable and "
                "fast enough? backup:s3:timeout is how long it may take"
            ) from None
        except ProgramError as err:
            raise S3Error(f"{self.place}: {PROGRAM} could not be used: {err.reason}") from None
        # 3 is "directory not found": nothing was ever put there.
        if empty is not None and done.code == 3:
            return empty
        if done.code:
            raise S3Error(f"{self.place}: {_reason(done.err)}")
        return done.out

    def _command(self, words: list[str]) -> list[str]:
        return [*etcd_ha_trial.in_the_background(), PROGRAM, *words]

    def _at(self, file: str) -> str:
        return f"{self.remote}{file}" if self.remote.endswith(":") else f"{self.remote}/{file}"

    def _environment(self, secrets: Mapping[str, str]) -> dict[str, str]:
        s3 = self.s3
        options = {
            "type": "s3",
            "provider": s3["provider"],
            "region": s3["region"],
            "endpoint": s3["endpoint"],
            "access_key_id": secrets.get("access_key"),
            "secret_access_key": secrets.get("secret_key"),
            "env_auth": None if secrets.get("access_key") else "true",
            "shared_credentials_file": s3["credentials_file"],
            "server_side_encryption": s3["server_side_encryption"],
            "sse_kms_key_id": s3["kms_key"],
            "acl": "private",
            # It need not be allowed to make buckets, nor to look at others.
            "no_check_bucket": "true",
            "force_path_style": "true",
        }
        return {
            **_flags(s3),
            **{f"RCLONE_CONFIG_STORE_{k.upper()}": str(v) for k, v in options.items() if v},
        }

    def _sealing(self, password: str) -> dict[str, str]:
        """The layer that encrypts what is in the files; rclone wants its password veiled."""
        veiled = self._run(["obscure", "-"], BRIEF, stdin=password).strip()
        options = {
            "type": "crypt",
            "remote": self.path,
            "password": veiled,
            "filename_encryption": "off",
            "directory_name_encryption": "false",
        }
        return {f"RCLONE_CONFIG_SEALED_{k.upper()}": v for k, v in options.items()}


def _flags(s3: Mapping[str, Any]) -> dict[str, str]:
    """What rclone does: no file of its own, and no patience with a store that stands still."""
    flags = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/nonexistent",
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CONTIMEOUT": "10s",
        "RCLONE_TIMEOUT": "60s",
        "RCLONE_RETRIES": "2",
        "RCLONE_LOW_LEVEL_RETRIES": "3",
        "RCLONE_LOG_LEVEL": "ERROR",
        "RCLONE_USE_JSON_LOG": "false",
    }
    if s3["ca_certificate"]:
        flags["RCLONE_CA_CERT"] = s3["ca_certificate"]
    return flags


def _reason(told: str) -> str:
    """What rclone said last, and its cause, without times and the numbers of requests."""
    lines = told.splitlines()
    first = max((n for n, line in enumerate(lines) if _TIMED.match(line)), default=0)
    parts = [
        _TIMED.sub("", line)
        for line in lines[first:]
        if not line.lstrip().startswith("status code")
    ]
    return " ".join(parts)[-400:] or "rclone said nothing"


def secrets_text(secrets: Mapping[str, str]) -> str:
    """The file of secrets; ``read_secrets`` reads it back."""
    return json.dumps({name: secrets[name] for name in SECRETS if name in secrets}) + "\n"


def read_secrets(path: str) -> dict[str, str]:
    """The secrets in a file, none where it is not there."""
    if not etcd_ha_common_files.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        if isinstance(found, dict) and all(isinstance(one, str) for one in found.values()):
            return found
    except (OSError, ValueError, RecursionError):
        pass
    # Nothing of it: it holds secrets.
    raise S3Error(
        f"{path} cannot be read as the states write it; run salt-run state.orchestrate "
        "etcd_ha.orch, which writes it anew"
    )


def pruned(store: Store, keep: Mapping[str, int], now: Any) -> list[str]:
    """Remove what no rule keeps; the names of what is gone."""
    gone = etcd_ha_backup.to_remove(store.listing(), keep, now)
    for backup in gone:
        store.remove(backup)
    return [backup.name for backup in gone]
