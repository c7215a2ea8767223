"""The head of the plainest of requests, read by a C extension (`_head.c`) where that is built."""

from collections.abc import Callable

from decisioning.native import native

VERSION = 1
"""Of what Python and the extension ask of one another: both have the same."""

Plain = Callable[[bytes, bytes], tuple[bytes | None, bytes | None, bytes] | None]
"""Of all that was read, and a request's first line: Authorization, Segue-Deadline and the body, if it is one plain
request that begins so; else None."""

_extension = native("serving.http._head", VERSION)


def _none(data: bytes, line: bytes) -> None:
    """Leaves all requests to httptools, which says what is right."""


plain: Plain = _none if _extension is None else _extension.plain
