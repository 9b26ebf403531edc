"""HTTP over a socket in the file system: what listens there is reached in any network namespace."""

import http.client
import os
import socket

# Bytes of an answer that are read at most: all metrics of an etcd are some hundred KiB.
_ANSWER = 8 << 20


class _Local(http.client.HTTPConnection):
    """A connection to a socket; a path may be longer than a socket's address, so it goes by fd."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        folder, name = os.path.split(self.path)
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.settimeout(self.timeout)
            made.connect(f"/proc/self/fd/{number}/{name}")
        except BaseException:
            made.close()
            raise
        finally:
            os.close(number)
        self.sock = made


def get(path: str, url: str, timeout: float, body: str | None = None) -> tuple[int, str]:
    """GET ``url`` from the socket at ``path``: status code and body. Raises OSError.

    ``timeout`` is in seconds; ``body`` goes with the request, as etcd's peers do it.
    """
    connection = _Local(path, timeout)
    try:
        connection.request("GET", url, body=body, headers={"Connection": "close"})
        answer = connection.getresponse()
        said = answer.read(_ANSWER + 1)
    except http.client.HTTPException as err:
        raise OSError(f"{path} did not speak HTTP: {err!r}") from err
    finally:
        connection.close()
    if len(said) > _ANSWER:
        raise OSError(f"{path} answered with more than {_ANSWER} bytes")
    return answer.status, said.decode("utf-8", "replace")
