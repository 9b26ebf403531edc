"""The one place that runs programs. A program that fails, hangs or is missing is an error.

Nobody can ignore a failure by accident: an exit code that the caller did not name raises. Time and
output have a limit. Error texts contain no secrets.
"""

import contextlib
import os
import re
import selectors
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from etcd_ha_common_errors import Failed

# Bytes that a program may print on each of its outputs.
LIMIT = 64 << 20
# Every exit code is an answer. A program that was killed by a signal has given none.
ANY_CODE = range(256)
ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
}
# For ``started``: the caller reads what the program prints.
PIPE = subprocess.PIPE

_BLOCK = 1 << 16
# Seconds for a killed program to end. One that waits for a dead disk never does.
_REAP = 5.0
_SECRET = re.compile("PASS|SECRET|CREDENTIAL|ACCESS_KEY|TOKEN")

Process = subprocess.Popen


class ProgramError(Failed):
    """A program could not be started, was killed, or ended with an exit code that means failure."""

    def __init__(self, command: Sequence[str], reason: str, code: int | None = None) -> None:
        self.command, self.reason, self.code = tuple(command), reason, code
        super().__init__(f"{_brief(' '.join(command), 200)} failed: {reason}")


class ProgramMissing(ProgramError):
    """The program is not installed on this host."""


class ProgramTimeout(ProgramError):
    """The program did not end in time, and was killed."""


class TooMuchOutput(ProgramError):
    """The program printed more than the limit, and was killed."""


@dataclass(frozen=True)
class Done:
    """The result of a program: its exit code and what it printed."""

    code: int
    out: str
    err: str

    def words(self) -> str:
        """The last line that it printed, of its errors first, for an error text."""
        lines = [line.strip() for line in (self.err.strip() or self.out).splitlines()]
        said = [line for line in lines if line]
        return _brief(said[-1]) if said else "it printed nothing"


def run(
    command: Sequence[str],
    timeout: float,
    *,
    codes: Collection[int] = (0,),
    environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
    folder: str | None = None,
    limit: int | None = None,
) -> Done:
    """Run a program to its end, without a shell.

    ``timeout`` is in seconds and for all of it. ``codes`` are the exit codes that are an answer.
    ``environment`` is added to PATH and LC_ALL=C; nothing of this process's own is handed on.
    ``folder`` is where it runs, ``limit`` the most bytes of each of its outputs (LIMIT). Raises
    ProgramError, ProgramMissing, ProgramTimeout or TooMuchOutput; the program is dead then.
    """
    hidden = _secrets(environment or {}, stdin)
    deadline = time.monotonic() + timeout
    pipe_in = subprocess.DEVNULL if stdin is None else subprocess.PIPE
    process = _start(command, environment, folder, pipe_in, PIPE, PIPE)
    try:
        data = b"" if stdin is None else stdin.encode()
        out, err = _exchanged(process, command, data, deadline, LIMIT if limit is None else limit)
        code = process.wait(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        raise ProgramTimeout(command, f"no answer within {timeout:g} s") from None
    except subprocess.TimeoutExpired:
        raise ProgramTimeout(command, f"it did not end within {timeout:g} s") from None
    finally:
        _end(process)
    done = Done(code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))
    if code < 0:
        raise ProgramError(command, f"it was killed by signal {-code}", code)
    if code not in codes:
        raise ProgramError(command, f"exit code {code}: {_without(done.words(), hidden)}", code)
    return done


@contextlib.contextmanager
def started(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: str | None = None,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
) -> "Iterator[Process[bytes]]":
    """A program that runs beside the caller's own work; it is killed and reaped at the end.

    ``stdout`` and ``stderr`` are files, or PIPE. Raises ProgramError or ProgramMissing where it
    cannot be started.
    """
    process = _start(command, environment, folder, subprocess.DEVNULL, stdout, stderr)
    try:
        yield process
    finally:
        _end(process)


def _start(
    command: Sequence[str],
    environment: Mapping[str, str] | None,
    folder: str | None,
    stdin: int,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
) -> "Process[bytes]":
    variables = {**ENVIRONMENT, **(environment or {})}
    try:
        return subprocess.Popen(
            list(command),
            bufsize=0,
            env=variables,
            cwd=folder,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )
    except FileNotFoundError as err:
        if folder is not None and err.filename == folder:
            raise ProgramError(command, f"there is no directory {folder}") from None
        if "/" in command[0] and os.path.lexists(command[0]):
            told = "its interpreter or loader is missing, or it is a broken link"
            raise ProgramError(command, told) from None
        raise ProgramMissing(command, f"{command[0]} is not installed on this host") from None
    except (OSError, ValueError) as err:
        told = getattr(err, "strerror", None) or str(err)
        raise ProgramError(command, f"it cannot be started: {told}") from None


def _end(process: "Process[bytes]") -> None:
    """Kill it if it still runs, and wait for its end."""
    if process.poll() is None:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_REAP)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _exchanged(
    process: "Process[bytes]", command: Sequence[str], data: bytes, deadline: float, limit: int
) -> tuple[bytes, bytes]:
    """Give it its input, and take its output until it has closed both; raises TimeoutError."""
    assert process.stdout is not None and process.stderr is not None
    said = {process.stdout: bytearray(), process.stderr: bytearray()}
    with selectors.DefaultSelector() as waiting:
        for stream in said:
            waiting.register(stream, selectors.EVENT_READ)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            waiting.register(process.stdin, selectors.EVENT_WRITE)
        while waiting.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            for key, _ in waiting.select(left):
                if key.fileobj is process.stdin:
                    data, ended = _given(key.fd, data)
                else:
                    block = os.read(key.fd, _BLOCK)
                    heard = said[key.fileobj]  # type: ignore[index]
                    heard += block
                    ended = not block
                    if len(heard) > limit:
                        told = f"it printed more than {limit >> 20} MiB"
                        raise TooMuchOutput(command, told)
                if ended:
                    waiting.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]
    return bytes(said[process.stdout]), bytes(said[process.stderr])


def _given(fd: int, data: bytes) -> tuple[bytes, bool]:
    """The input that is left, and whether that was all, or nobody reads it any more."""
    try:
        left = data[os.write(fd, data[:_BLOCK]) :]
    except BrokenPipeError:
        return b"", True
    return left, not left


def _secrets(environment: Mapping[str, str], stdin: str | None) -> list[str]:
    """Texts that a program may repeat in its errors, and that no error of ours may show."""
    named = [value for name, value in environment.items() if _SECRET.search(name)]
    given = [stdin.strip()] if stdin else []
    return [one for one in (*named, *given) if len(one) > 3 and not one.startswith("/")]


def _without(text: str, hidden: Sequence[str]) -> str:
    for one in hidden:
        text = text.replace(one, "(hidden)")
    return text


def _brief(text: str, most: int = 300) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"
