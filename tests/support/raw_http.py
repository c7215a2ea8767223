"""HTTP as bytes on a socket: to send what no client library would, and to read what comes back to the last byte."""

import json
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

PATIENCE = 30.0


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of an error in the API's one form; it fails where this is not one."""
        assert self.headers["content-type"] == "application/json", self
        (error,) = json.loads(self.body).values()
        assert error.keys() <= {"code", "message", "field"}, self
        assert error["message"]
        return error["code"]

    @property
    def is_shed(self) -> bool:
        """Refused as this machine is busy."""
        return self.status == 503 and "retry-after" in self.headers


def post(body: bytes, path: str = "/v1/decisions", headers: Sequence[bytes] = ()) -> bytes:
    """A whole request."""
    lines = [b"POST %b HTTP/1.1" % path.encode(), b"Host: segue", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(body: bytes, size: int, path: str = "/v1/decisions") -> bytes:
    """The same without its length, in chunks of `size` bytes."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    head = b"POST %b HTTP/1.1\r\nHost: segue\r\nTransfer-Encoding: chunked\r\n\r\n" % path.encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


class Line:
    """One connection."""

    def __init__(self, address: tuple[str, int], room: int | None = None) -> None:
        """`room`: bytes that the system keeps for whoever does not read."""
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        if room is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self.socket.connect(address)
        self._got = b""

    def send(self, data: bytes) -> None:
        """A server that has heard enough may have closed: what it said before can still be read."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def end(self) -> None:
        """Has no more to say."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def answer(self) -> Answer | None:
        """The next one; None where the server closed without."""
        while b"\r\n\r\n" not in self._got:
            if not self._more():
                assert not self._got, f"half an answer: {self._got!r}"
                return None
        head, _, rest = self._got.partition(b"\r\n\r\n")
        first, *lines = head.decode("ascii").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        status = int(first.split(" ")[1])
        length = int(headers.get("content-length", 0))
        self._got = rest
        while len(self._got) < length:
            assert self._more(), "half an answer"
        body, self._got = self._got[:length], self._got[length:]
        return Answer(status, headers, body)

    def answers(self) -> list[Answer]:
        """All, until the server closes."""
        found = []
        while (one := self.answer()) is not None:
            found.append(one)
        return found

    def is_closed_within(self, seconds: float) -> bool:
        """Whether the server ends this connection; what it still says does not matter."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                if not self._more():
                    return True
            except TimeoutError:
                return False
        return False

    def _more(self) -> bool:
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            return False
        self._got += data
        return bool(data)


@contextmanager
def line_to(server: Any, room: int | None = None) -> Iterator[Line]:
    """A connection to a server of tests/faults."""
    line = Line((server.http.base_url.host, server.http.base_url.port), room)
    with line.socket:
        yield line


def said_to(server: Any, data: bytes, *, end: bool = False) -> list[Answer]:
    """All that a server answers until it closes, asked again where this machine held it up."""
    for _ in range(20):
        with line_to(server) as line:
            line.send(data)
            if end:
                line.end()
            answers = line.answers()
        if not any(one.is_shed for one in answers):
            break
    return answers
