"""The OpenAPI document against a real server: whatever it allows a client to send, or does not, the answers are those
that it names, in the types and the shapes that it names.

`make test` sends a few hundred requests; `-m heavy` thousands.
"""

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks

OPERATIONS = {
    ("/v1/decisions", "post"), ("/v1/events", "post"), ("/version", "get"), ("/metrics", "get"), ("/healthz", "get"),
    ("/readyz", "get"),
}  # fmt: skip
HELD = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
]
SHED = 503
"""What a busy machine may bring about: with `Retry-After`, it is no failure."""


@pytest.fixture(scope="module")
def document(lone):
    yield schemathesis.openapi.from_url(f"{lone.http.base_url}/openapi.json")
    assert not {"request_failed", "decide_failed", "worker_failed"} & set(lone.events())


@pytest.fixture(scope="module")
def session():
    with requests.Session() as session:
        yield session


def conforms(document, session, path, method, mode, examples):
    operation = document[path][method.upper()]
    is_good = mode is GenerationMode.POSITIVE

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode), is_known=st.booleans())
    def holds(case, is_known):
        if is_good and is_known and path == "/v1/decisions":  # what only the catalog knows
            case.body = {**case.body, "surface": "strip", "slots": 1}
        elif is_good and isinstance(case.body, dict) and isinstance(case.body.get("slots"), float):
            case.body = {**case.body, "slots": int(case.body["slots"])}  # JSON Schema takes 1.0 for an integer
        answer = case.call(session=session)
        if answer.status_code == SHED:
            assert "retry-after" in answer.headers
            return
        case.validate_response(answer, checks=HELD)
        if is_good:
            allowed = (200,) if is_known or path != "/v1/decisions" else (200, 404)
            assert answer.status_code in allowed, answer.text
        else:
            assert answer.status_code < 500, answer.text

    holds()


CASES = [(path, method, mode) for path, method in sorted(OPERATIONS) for mode in GenerationMode
         if method == "post" or mode is GenerationMode.POSITIVE]  # fmt: skip
each_way = pytest.mark.parametrize(
    ("path", "method", "mode"), CASES, ids=[f"{path}-{mode.value}" for path, _, mode in CASES]
)


def test_the_document_names_every_route_for_clients(document):
    assert {(one.ok().path, one.ok().method) for one in document.get_all_operations()} == OPERATIONS


@each_way
def test_every_answer_is_one_that_the_document_names(document, session, path, method, mode):
    conforms(document, session, path, method, mode, 60 if method == "post" else 5)


@pytest.mark.heavy
@each_way
def test_every_answer_is_one_that_the_document_names_at_length(document, session, path, method, mode):
    conforms(document, session, path, method, mode, 2_000 if method == "post" else 20)
