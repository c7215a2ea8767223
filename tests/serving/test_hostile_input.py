"""Whatever is sent, the answer is a 4xx with one clear message that doesn't repeat it, or a decision. Never a 5xx."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROUTES = ["/v1/decisions", "/v1/events"]
MARK = "zqxj"  # stands where an echo would show

VALID = {
    "/v1/decisions": {"user_id": "ann", "surface": "shelf", "context": {"device": "phone"}},
    "/v1/events": {
        "event_id": "e", "type": "click", "decision_id": "d", "offer": "annual", "user_id": "ann", "at": 1.8e9,
    },
}  # fmt: skip


def error_of(answer) -> dict:
    body = answer.json()
    assert set(body) == {"error"}
    assert {"code", "message"} <= set(body["error"]) <= {"code", "message", "field"}
    assert body["error"]["message"].endswith(".")
    return body["error"]


NO_JSON = {
    "nothing": b"",
    "blanks": b"  \n",
    "words": b"zqxj",
    "a form": b"user_id=zqxj&surface=banner",
    "xml": b"<zqxj/>",
    "cut short": b'{"user_id": "zqxj',
    "a comma too many": b'{"user_id": "zqxj",}',
    "a comment": b'{"user_id": "zqxj"} // what',
    "two documents": b'{"user_id": "zqxj"}{}',
    "a byte order mark": b'\xef\xbb\xbf{"user_id": "zqxj"}',
    "NaN": b'{"user_id": "zqxj", "surface": NaN}',
    "infinity": b'{"user_id": "zqxj", "surface": -Infinity}',
    "single quotes": b"{'user_id': 'zqxj'}",
    "latin-1": b'{"user_id": "zqxj\xe9"}',
    "utf-16": '{"user_id": "zqxj"}'.encode("utf-16"),
    "a lone surrogate": b'{"user_id": "\\ud800zqxj"}',
    "a lone low surrogate": b'{"user_id": "\\udc00zqxj"}',
    "an encoded surrogate": b'{"user_id": "\xed\xa0\x80zqxj"}',
    "a control character": b'{"user_id": "zqxj\x01"}',
    "deep lists": b"[" * 8_000 + b"]" * 8_000,
    "deep objects": b'{"zqxj":' * 1_500 + b"1" + b"}" * 1_500,
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON.keys())
def test_what_is_no_json_is_400(client, route, body):
    answer = client.post(route, content=body)
    assert answer.status_code in (400, 422), answer.text  # a good beginning may be found of wrong shape first
    error_of(answer)
    assert MARK not in answer.text


@pytest.mark.parametrize("opening", [b"[", b'{"a":'], ids=["lists", "objects"])
def test_deep_nesting_is_named_as_such(client, opening):
    body = b'{"user_id": "ann", "surface": "banner", "context": {"x": ' + opening * 3_000
    assert error_of(client.post("/v1/decisions", content=body))["message"] == "The body is nested too deeply."


WRONG = {
    "/v1/decisions": [
        ("user_id", ["", "u" * 10_000, 5, None, True, {}, []]),
        ("surface", ["", "s" * 1_000, 5, None, [MARK]]),
        ("context", [5, MARK, [], None]),
        ("slots", [0, -1, 4, 10**30, 1.5, "1", True, {}]),
        ("dry_run", [1, "true", None]),
        ("explain", [0, "false"]),
        ("exclude", [MARK, [""], [5], {"a": 1}, ["x"] * 1_001]),
        (f"{MARK}_field", [1]),
    ],
    "/v1/events": [
        ("event_id", ["", "e" * 300, 5, None]),
        ("type", ["", "Impression", "two words", 5, None, "x" * 100]),
        ("decision_id", ["", 5, None, "d" * 300]),
        ("offer", ["", 5, None, "o" * 300]),
        ("user_id", ["", 5, None, "u" * 10_000]),
        ("at", [MARK, None, True, [], "2027-01-15", "2027-01-15T08:00:00", 10**400]),
        ("value", [MARK, True, [], 10**400]),
        ("surface", ["", 5]),
    ],
}


@pytest.mark.parametrize(
    ("route", "field", "value"),
    [(route, field, value) for route in ROUTES for field, values in WRONG[route] for value in values],
    ids=str,
)
def test_a_wrong_field_is_422_and_named_without_an_echo(client, route, field, value):
    answer = client.post(route, content=json.dumps(VALID[route] | {field: value}))
    assert answer.status_code == 422, answer.text
    error = error_of(answer)
    assert MARK not in answer.text
    if MARK not in field:
        assert error["field"].startswith(field)
        assert field in error["message"]


@pytest.mark.parametrize(
    ("route", "field"), [(route, field) for route in ROUTES for field in VALID[route] if field != "context"]
)
def test_a_missing_field_is_422_and_named(client, route, field):
    body = {name: value for name, value in VALID[route].items() if name != field}
    answer = client.post(route, json=body)
    assert answer.status_code == 422
    assert error_of(answer) == {"code": "invalid", "message": f"The field {field} is missing.", "field": field}


@pytest.mark.parametrize(
    "number", [b"1e999", b"-1e999", b"9" * 5_000, b"0." + b"1" * 5_000, b"1e-9999", b"1" + b"0" * 400, b"-0", b"1E400"]
)
@pytest.mark.parametrize("name", [b"battery", b"queue", b"unknown", b"started"])
def test_numbers_beyond_reason_are_answered(client, number, name):
    body = b'{"user_id": "ann", "surface": "banner", "context": {"%s": %s}}' % (name, number)
    assert client.post("/v1/decisions", content=body).status_code in (200, 400, 422)


@pytest.mark.parametrize(("route", "limit"), [("/v1/decisions", 16 * 1024), ("/v1/events", 256 * 1024)])
def test_a_body_over_the_limit_is_413_and_one_at_the_limit_is_read(client, route, limit):
    body = json.dumps(VALID[route]).encode()
    assert client.post(route, content=body.ljust(limit)).status_code == 200
    answer = client.post(route, content=body.ljust(limit + 1))
    assert answer.status_code == 413
    assert error_of(answer)["code"] == "too_large"


@pytest.mark.parametrize(("route", "kilobytes"), [("/v1/decisions", 17), ("/v1/events", 257)])
def test_a_body_of_undeclared_length_is_read_no_further_than_the_limit(client, route, kilobytes):
    read = 0

    async def chunks():
        nonlocal read
        for _ in range(10_000):
            read += 1
            yield b" " * 1024

    assert client.post(route, content=chunks()).status_code == 413
    assert read == kilobytes

    async def one_byte_over():
        yield b" " * 1024
        yield b" " * (1024 * (kilobytes - 2) + 1)

    assert client.post(route, content=one_byte_over()).status_code == 413


def test_a_content_length_that_is_no_number_or_a_lie_does_no_harm(client):
    for length in ("-1", "x", "9" * 5_000, "²"):
        answer = client.post(
            "/v1/decisions", content=b"{}", headers={"content-length": length.encode("latin-1", "replace")}
        )
        assert answer.status_code in (413, 422)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/decisions", 405),
        ("PUT", "/v1/events", 405),
        ("DELETE", "/healthz", 405),
        ("GET", f"/{MARK}", 404),
        ("POST", "/v1/decisions/x", 404),
        ("GET", "/%ff%00", 404),
    ],
)
def test_wrong_paths_and_methods_have_the_same_form_of_error(client, method, path, status):
    answer = client.request(method, path)
    assert answer.status_code == status
    error_of(answer)
    assert MARK not in answer.text


# --- Anything at all ---

QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FEATURES = st.sampled_from(["device", "genres", "is_roaming", "battery", "queue", "started", "timezone", "locale", "x"])


@QUICK
@given(route=st.sampled_from(ROUTES), body=st.binary(max_size=200))
def test_random_bytes_never_give_a_5xx(client, route, body):
    assert 400 <= client.post(route, content=body).status_code < 500 or body.strip() == b"[]"


@QUICK
@given(route=st.sampled_from(ROUTES), changes=st.dictionaries(st.text(max_size=5), JSON, max_size=2), data=st.data())
def test_random_json_in_a_valid_request_never_gives_a_5xx(client, route, changes, data):
    fields = data.draw(st.dictionaries(st.sampled_from(sorted(VALID[route])), JSON, max_size=3))
    body = json.dumps(VALID[route] | changes | fields).encode("utf-8", "surrogatepass")
    assert client.post(route, content=body).status_code < 500


@QUICK
@given(context=st.dictionaries(FEATURES, JSON | st.text() | st.integers(), max_size=4))
def test_no_context_gives_a_5xx(client, context):
    body = VALID["/v1/decisions"] | {"context": context}
    answer = client.post("/v1/decisions", content=json.dumps(body).encode())
    assert answer.status_code < 500
    if answer.status_code == 200:
        assert "engine:failed" not in answer.json()["degraded"]
