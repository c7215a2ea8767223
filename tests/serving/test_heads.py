"""What the C extension takes for a plain request, held against httptools: never more, and never anything else."""

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from decisioning.native import missing
from serving.http.guard import BUFFERED
from serving.http.heads import VERSION
from serving.http.protocol import FIRST_LINE

head = pytest.importorskip("serving.http._head", reason=missing("serving.http._head", VERSION))

BODY = b'{"a": 1}'


class Heard:
    """All that httptools finds in some bytes."""

    def __init__(self, data: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.url = self.body = b""
        self.begun = self.ended = 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ended += 1

    def told(self, name: bytes) -> bytes | None:
        """A header that comes once; None where it does not come."""
        values = [value for its, value in self.headers if its == name]
        assert len(values) <= 1
        return values[0] if values else None


def agrees(data: bytes) -> bool:
    """Whether it is taken for a plain one; then httptools must read the same from it, and nothing else."""
    found = head.plain(data, FIRST_LINE)
    if found is None:
        return False
    heard = Heard(data)
    assert (heard.begun, heard.ended) == (1, 1)
    assert (heard.parser.get_method(), heard.url, heard.parser.get_http_version()) == (b"POST", b"/v1/decisions", "1.1")
    assert heard.parser.should_keep_alive()
    assert not heard.parser.should_upgrade()
    assert found == (heard.told(b"authorization"), heard.told(b"segue-deadline"), heard.body)
    assert heard.told(b"content-length") == str(len(heard.body)).encode().rjust(
        len(heard.told(b"content-length")), b"0"
    )
    for name in (b"transfer-encoding", b"upgrade", b"expect", b"trailer", b"te"):
        assert heard.told(name) is None
    assert (heard.told(b"connection") or b"keep-alive").lower() == b"keep-alive"
    return True


def request(*lines: bytes, body: bytes = BODY, length: bytes | None = None) -> bytes:
    length = b"%d" % len(body) if length is None else length
    return FIRST_LINE + b"\r\n".join([b"Host: segue", *lines, b"Content-Length: " + length, b"", body])


PLAIN = [
    request(),
    request(body=b""),
    request(b"Authorization: Bearer x", b"SEGUE-DEADLINE:25ms", b"connection: Keep-Alive", b"X-Empty:", b"a:  \t b \t"),
    request(*[b"X-%d: %d" % (number, number) for number in range(100)]),
    request(body=b"x" * BUFFERED),
    request(length=b"000008"),
    FIRST_LINE + b"content-length: 0\r\n\r\n",
]
NOT_PLAIN = [
    b"",
    FIRST_LINE,
    FIRST_LINE[:-2],
    FIRST_LINE + b"\r\n",
    request()[:-1],
    request() + b"\0",
    request() + request(),
    b"\r\n" + request(),
    request().replace(b"POST", b"post"),
    request().replace(b"1.1", b"1.0"),
    request().replace(b"decisions ", b"decisions? "),
    request().replace(b"\r\n", b"\n"),
    request().replace(b"\r\n\r\n", b"\n\r\n"),
    request(body=b"x" * (BUFFERED + 1)),
    request(b"X: %b" % (b"x" * 9_000)),
    *[request(length=one) for one in (b"", b"+8", b"-8", b" 8", b"8 ", b"8,8", b"0x8", b"7", b"9", b"0000008", b"8\0")],
    *[
        request(line)
        for line in (
            b"Content-Length: 8",
            b"Transfer-Encoding: chunked",
            b"transfer-encoding:",
            b"Connection: close",
            b"Connection: keep-alive, close",
            b"Connection:",
            b"Connection: keep-alive\r\nConnection: keep-alive",
            b"Proxy-Connection: keep-alive",
            b"Upgrade: h2c",
            b"Expect: 100-continue",
            b"Trailer: x",
            b"TE: trailers",
            b"Authorization:",
            b"Authorization: Bearer x ",
            b"Authorization:  Bearer x",
            b"Authorization: a\r\nauthorization: a",
            b"Segue-Deadline: 2ms\r\nSegue-Deadline: 2ms",
            b"X: \xe9",
            b"X: \0",
            b"X: \x7f",
            b"X: a\rb",
            b"X: a\nb",
            b"X: a\r\n folded",
            b"X : a",
            b" X: a",
            b": a",
            b"X",
            b"X\xe9: a",
            b"(X): a",
        )
    ],
]


@pytest.mark.parametrize("data", PLAIN)
def test_plain_ones_are_taken(data):
    assert agrees(data)
    for end in range(len(data)):
        assert head.plain(data[:end], FIRST_LINE) is None


@pytest.mark.parametrize("data", NOT_PLAIN)
def test_nothing_else_is(data):
    assert not agrees(data)


NAMES = st.sampled_from(
    b"Authorization Segue-Deadline Content-Length Connection Transfer-Encoding Upgrade Expect Host Accept TE Trailer "
    b"Proxy-Connection X-Forwarded-For authorization segue-deadline content-length".split()
)
VALUES = st.sampled_from(b"8 0 08 chunked keep-alive close 100-continue h2c 25ms".split()) | st.binary(max_size=8)
PIECES = st.sampled_from([b"\r\n", b"\n", b": ", b":", b" ", b"\t", b"\0", b"8", BODY, request()])


@st.composite
def nearly_plain(draw: st.DrawFn) -> bytes:
    """A request of odd headers, of which some bytes were cut out or put in."""
    pairs = draw(st.lists(st.tuples(NAMES, VALUES), max_size=4))
    data = request(*[name + b": " + value for name, value in pairs])
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(start + 4, len(data))))
        data = data[:start] + draw(PIECES | st.binary(max_size=3)) + data[end:]
    return data


@settings(max_examples=1000, deadline=None)
@given(data=nearly_plain() | st.binary().map(lambda data: FIRST_LINE + data))
@example(request(b"a: \t"))
@example(request(b"Connection: keep-alive", b"Connection: keep-alive"))
def test_httptools_reads_the_same_from_all_that_are_taken(data):
    agrees(data)


@pytest.mark.parametrize("words", [(), (b"",), (b"", b"", b""), ("", b""), (b"", ""), (bytearray(), b""), (None, None)])
def test_it_wants_bytes(words):
    with pytest.raises(TypeError):
        head.plain(*words)
