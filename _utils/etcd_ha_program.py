"""Running a program that may hang or never stop talking: its time and its words have an end."""

import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Bytes that a program may say on each of its outputs.
LIMIT = 64 << 20
_BLOCK = 1 << 16


class TooMuch(RuntimeError):
    """The program said more than anybody could want to hear, and was ended."""


@dataclass(frozen=True)
class Done:
    """What a program has left: its exit code, and what it said."""

    code: int
    out: str
    err: str


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    timeout: float,
    stdin: str | None = None,
    folder: str | None = None,
    limit: int = LIMIT,
) -> Done:
    """Run a program to its end, without a shell.

    ``timeout`` is in seconds and for all of it, ``limit`` in bytes and for each of its outputs,
    ``folder`` where it runs. Raises subprocess.TimeoutExpired and TooMuch, after which it is dead;
    OSError or ValueError where it cannot be started so.
    """
    data = None if stdin is None else stdin.encode()
    deadline = time.monotonic() + timeout
    with subprocess.Popen(
        list(command),
        bufsize=0,
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            out, err = _exchanged(process, data or b"", deadline, limit)
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except BaseException:
            process.kill()
            raise
    return Done(code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def _exchanged(
    process: "subprocess.Popen[bytes]", data: bytes, deadline: float, limit: int
) -> tuple[bytes, bytes]:
    """Give it what it shall read, and take what it says until it has closed both outputs."""
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
                raise subprocess.TimeoutExpired(process.args, 0)
            for key, _ in waiting.select(left):
                if key.fileobj is process.stdin:
                    data, ended = _given(key.fd, data)
                else:
                    block = os.read(key.fd, _BLOCK)
                    heard = said[key.fileobj]  # type: ignore[index]
                    heard += block
                    ended = not block
                    if len(heard) > limit:
                        raise TooMuch(f"it said more than {limit >> 20} MiB")
                if ended:
                    waiting.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]
    return bytes(said[process.stdout]), bytes(said[process.stderr])


def _given(fd: int, data: bytes) -> tuple[bytes, bool]:
    """What is left to be given, and whether that was all, or nobody reads it any more."""
    try:
        left = data[os.write(fd, data[:_BLOCK]) :]
    except BrokenPipeError:
        return b"", True
    return left, not left
