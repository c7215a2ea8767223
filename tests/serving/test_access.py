"""The door of the API: who is let in, with which key, as the file of keys changes, breaks and comes back."""

import re
from pathlib import Path

import pytest
import structlog

from decisioning.errors import UserError
from serving import access as door
from serving.access import ANY, Access, guard_exposure, is_loopback
from serving.errors import ApiError
from stores.api_keys import DECIDE, EVENTS, EXPLAIN, METRICS, Limit
from stores.key_file import Issued, KeyFile


class Clock:
    """One that the test moves, in seconds; called, it tells."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


@pytest.fixture
def access(keys: KeyFile, clock: Clock) -> Access:
    made = Access(keys.path, clock=clock, now=clock)
    made.refresh()
    return made


def add(keys: KeyFile, *scopes: str, name: str = "ios", **more) -> Issued:
    return keys.add(name, scopes or (DECIDE,), **{"who": "test", "now": 1000.0, **more})


def header(issued: Issued) -> bytes:
    return b"Bearer " + issued.text.encode()


def refusal(access: Access, authorization: bytes | None, scope: str = DECIDE) -> ApiError:
    with pytest.raises(ApiError) as refused:
        access.admit(authorization, scope)
    if authorization is not None and len(authorization) > 20:
        assert authorization[8:].decode(errors="replace") not in f"{refused.value} {refused.value.headers}"
    return refused.value


def test_without_keys_everybody_is_let_in_until_there_is_one(access, keys):
    for scope in (DECIDE, EVENTS, EXPLAIN, METRICS, ANY):
        assert access.admit(None, scope).name == "anybody"
    assert access.admit(b"Bearer whatever", DECIDE).name == "anybody"
    issued = add(keys)
    access.refresh()
    assert refusal(access, None).status == 401
    assert access.admit(header(issued), DECIDE).name == "ios"


def test_a_caller_may_do_what_its_scopes_say_and_nothing_else(access, keys):
    issued = add(keys, DECIDE, EVENTS)
    access.refresh()
    for scope in (DECIDE, EVENTS, ANY):
        caller = access.admit(header(issued), scope)
    assert caller.name == "ios"
    for refused in (refusal(access, header(issued), METRICS), _raised(lambda: caller.require(EXPLAIN))):
        assert refused.status == 403
        assert 'error="insufficient_scope"' in refused.headers["WWW-Authenticate"]
    assert "scope explain" in refused.message
    caller.require(DECIDE)


def _raised(call) -> ApiError:
    with pytest.raises(ApiError) as raised:
        call()
    return raised.value


@pytest.mark.parametrize(
    ("made_of", "error"),
    [
        (lambda key: None, ""),
        (lambda key: b"", "invalid_request"),
        (lambda key: b"Bearer", "invalid_request"),
        (lambda key: b"Basic " + key, "invalid_request"),
        (lambda key: key, "invalid_request"),
        (lambda key: b"Bearer " + key + b" x", "invalid_request"),
        (lambda key: b"Bearer " + key + b"\xff", "invalid_request"),
        (lambda key: b"Bearer " + key * 10, "invalid_request"),
        (lambda key: b"Bearer " + key[:-1], "invalid_token"),
        (lambda key: b"Bearer " + key + b"x", "invalid_token"),
        (lambda key: b"Bearer " + key.swapcase(), "invalid_token"),
        (lambda key: b"Bearer segue_" + b"A" * 43, "invalid_token"),
    ],
)
def test_whoever_has_no_key_of_ours_is_told_so_without_repeating_what_was_sent(access, keys, made_of, error):
    issued = add(keys)
    access.refresh()
    refused = refusal(access, made_of(issued.text.encode()))
    assert (refused.status, refused.code) == (401, "unauthorised")
    asked = refused.headers["WWW-Authenticate"]
    assert asked.startswith('Bearer realm="segue"')
    assert re.findall('error="(.*?)"', asked) == ([error] if error else [])


def test_the_word_bearer_and_the_spaces_after_it_may_be_written_in_any_way(access, keys):
    key = add(keys).text.encode()
    access.refresh()
    for written in (b"bearer " + key, b"BEARER   " + key, b"Bearer " + key + b"  "):
        assert access.admit(written, DECIDE).name == "ios"


def test_both_keys_of_a_rotation_work_until_one_is_revoked(access, keys):
    first = add(keys)
    second = keys.rotate("ios", who="test", now=1000.0)
    access.refresh()
    for issued in (first, second):
        assert access.admit(header(issued), DECIDE).name == "ios"
    keys.revoke("ios", first.key.id)
    access.refresh()
    assert refusal(access, header(first)).status == 401
    assert access.admit(header(second), DECIDE).name == "ios"
    keys.revoke("ios")
    with structlog.testing.capture_logs() as lines:
        access.refresh()
    assert refusal(access, header(second)).status == 401, "no keys left: nobody gets in, rather than everybody"
    assert "no_good_keys" in [line["event"] for line in lines]


def test_a_key_that_expires_is_known_no_more(access, keys, clock):
    brief, lasting = add(keys, expires_at=1010.0), add(keys, name="tv")
    access.refresh()
    assert access.admit(header(brief), DECIDE).name == "ios"
    clock.now = 1010.0
    access.refresh()
    assert refusal(access, header(brief)).status == 401
    assert access.admit(header(lasting), DECIDE).name == "tv"


def test_a_client_over_its_limit_is_told_when_to_come_back_and_both_its_keys_count(access, keys, clock):
    first = add(keys, limit=Limit(3, 60))
    second = keys.rotate("ios", who="test", now=1000.0)
    other = add(keys, name="tv", limit=Limit(3, 60))
    access.refresh()
    for issued in (first, second, first):
        access.admit(header(issued), DECIDE)
    refused = refusal(access, header(second))
    assert (refused.status, refused.code) == (429, "too_many_requests")
    wait = int(refused.headers["Retry-After"])
    assert 1 <= wait <= 120
    assert access.limited == {"ios": 1}
    assert access.admit(header(other), DECIDE).name == "tv"
    clock.now += wait
    assert access.admit(header(second), DECIDE).name == "ios"


def test_a_request_that_is_not_allowed_uses_up_nothing_of_the_limit(access, keys):
    issued = add(keys, limit=Limit(1, 60))
    access.refresh()
    for _ in range(5):
        assert refusal(access, header(issued), EVENTS).status == 403
    assert access.admit(header(issued), DECIDE).name == "ios"


@pytest.mark.parametrize(
    "harm",
    [
        lambda file: file.write_bytes(b"{"),
        lambda file: file.write_bytes(b""),
        lambda file: file.unlink(),
        lambda file: (file.unlink(), file.mkdir()),
    ],
)
def test_the_last_good_keys_count_while_the_file_is_damaged_or_gone_and_it_is_told_once(access, keys, harm):
    issued = add(keys)
    access.refresh()
    good = keys.path.read_bytes()
    harm(keys.path)
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            access.refresh()
    assert [line["event"] for line in lines] == ["keys_unreadable"]
    assert access.problem
    assert access.admit(header(issued), DECIDE).name == "ios"
    assert refusal(access, None).status == 401
    keys.path.rmdir() if keys.path.is_dir() else keys.path.unlink(missing_ok=True)
    keys.path.write_bytes(good)
    with structlog.testing.capture_logs() as lines:
        access.refresh()
    assert [line["event"] for line in lines] == ["keys_readable"]
    assert access.problem is None
    assert access.admit(header(issued), DECIDE).name == "ios"


def test_a_key_expires_also_while_the_file_is_damaged(access, keys, clock):
    issued = add(keys, expires_at=1010.0)
    access.refresh()
    keys.path.write_bytes(b"{")
    clock.now = 1011.0
    with structlog.testing.capture_logs() as lines:
        access.refresh()
        access.refresh()
    assert refusal(access, header(issued)).status == 401
    assert [line["event"] for line in lines].count("no_good_keys") == 1, "said once, not at every look"


@pytest.mark.parametrize("required", [True, False])
def test_a_file_that_could_never_be_read_lets_nobody_in_until_it_can(keys, required):
    """Not while it is moved away to make a new one, either."""
    if not required:
        keys.path.write_bytes(b"{")
    access = Access(keys.path, required=required)
    access.refresh()
    assert not access.is_open
    assert not access.lets_somebody_in
    for authorization in (None, b"Bearer x"):
        refused = refusal(access, authorization)
        assert (refused.status, refused.code) == (503, "keys_unreadable")
        assert int(refused.headers["Retry-After"]) > 0
    keys.path.unlink(missing_ok=True)
    for _ in range(2):
        access.refresh()
        assert refusal(access, None).code == "keys_unreadable"
    issued = add(keys)
    access.refresh()
    assert access.admit(header(issued), DECIDE).name == "ios"


def test_what_is_kept_of_recognised_headers_is_bounded_and_nobody_unknown_takes_room(access, keys, monkeypatch):
    monkeypatch.setattr(door, "MOST_HEADERS", 3)
    issued = add(keys)
    access.refresh()
    for spaces in range(1, 30):
        access.admit(b"Bearer" + b" " * spaces + issued.text.encode(), DECIDE)
        assert len(access._guests.known) <= 3
    before = dict(access._guests.known)
    for number in range(10):
        refusal(access, b"Bearer segue_%d" % number)
    assert access._guests.known == before


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.7", False),
        ("api.example", False),
    ],
)
def test_a_server_without_keys_listens_only_where_nobody_else_can_reach_it(access, keys, host, expected):
    assert is_loopback(host) is expected
    with structlog.testing.capture_logs() as lines:
        if expected:
            guard_exposure(host, access, open_to_all=False)
        else:
            with pytest.raises(UserError, match=r"segue keys add .* --open"):
                guard_exposure(host, access, open_to_all=False)
            guard_exposure(host, access, open_to_all=True)
    assert [line["event"] for line in lines] == ["no_keys"]
    add(keys)
    access.refresh()
    guard_exposure(host, access, open_to_all=False)
