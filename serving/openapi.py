"""What /openapi.json says of the routes: their bodies are decoded by msgspec, so that FastAPI can't know them."""

from typing import Any

import msgspec
from fastapi import FastAPI

from serving.errors import ErrorAnswer
from serving.schemas import DEADLINE, DecisionAnswer, DecisionRequest, EventRequest, EventsAnswer

ABOUT = """Which offer should this user see here, now? Ask `/v1/decisions`; report what followed to `/v1/events`.

Every answer other than 200 is `{"error": {"code", "message", "field"?}}`. The document behind this page is at
[/openapi.json](/openapi.json)."""

_SCHEMAS = (DecisionRequest, DecisionAnswer, EventRequest, EventsAnswer, ErrorAnswer)

_DECISION_REQUEST = {
    "user_id": "listener-1042",
    "surface": "home_banner",
    "context": {"country": "SE", "device": "phone", "locale": "sv"},
    "explain": True,
}
_DECISION_ANSWER = {
    "decision_id": "9f0c6b3e8a5f4f0d8e0f3f7a6f1c2d4b",
    "surface": "home_banner",
    "offers": [
        {
            "offer": "premium_annual",
            "slot": 1,
            "creative": "premium-annual-winter.sv",
            "p_convert": 0.0213,
            "score": 0.81792,
            "probability": 0.9625,
        }
    ],
    "source": "model",
    "degraded": [],
    "release": "4be1a07c9d2f",
    "model": "upsell/3",
    "expires_at": "2026-03-01T08:05:00.000Z",
    "reasons": [
        {
            "offer": "student",
            "stage": "eligible",
            "rule": "student",
            "detail": "age_band is 25-34, needs 18-24",
            "where": "offers/upsell.yaml:31",
        },
        {"offer": "day_pass", "stage": "outranked", "rule": "score", "detail": "score 0.31 against 0.818", "where": ""},
    ],
}
_EVENT = {
    "event_id": "7d1f6a52-0001",
    "type": "impression",
    "decision_id": "9f0c6b3e8a5f4f0d8e0f3f7a6f1c2d4b",
    "offer": "premium_annual",
    "user_id": "listener-1042",
    "at": "2026-03-01T08:00:02Z",
}
_EVENTS_ANSWER = {
    "accepted": 1,
    "rejected": [{"index": 1, "reason": "The offer is not in the catalog.", "event_id": "7d1f6a52-0002"}],
    "duplicates": 0,
    "degraded": [],
}
_CONVERSION = {**_EVENT, "event_id": "7d1f6a52-0003", "type": "convert", "value": 38.4, "at": 1796112120.0}


def _ref(struct: type) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{struct.__name__}"}


def _content(schema: dict[str, Any], **examples: Any) -> dict[str, Any]:
    named = {name: {"value": value} for name, value in examples.items()}
    return {"application/json": {"schema": schema, **({"examples": named} if named else {})}}


def _errors(**described: str) -> dict[int | str, dict[str, Any]]:
    return {
        int(status[1:]): {"description": text, "content": _content(_ref(ErrorAnswer))}
        for status, text in described.items()
    }


_SECURITY = {"security": [{"key": []}]}
_KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key of this server. One that has no keys answers without.",
}
_LATER = {"Retry-After": {"description": "Seconds after which to ask again", "schema": {"type": "integer"}}}


def _guarded(scope: str, **described: str) -> dict[int | str, dict[str, Any]]:
    """What a route may answer besides what it is for, where it asks for a key with a scope."""
    if scope:
        described["_403"] = f"The key lacks the scope {scope}"
    answers = _errors(
        _401="No key, or one that is not known",
        _429="The client is over its limit of requests",
        _503="Too many requests for now, or the keys can't be read",
        **described,
    )
    for status in (429, 503):
        answers[status]["headers"] = _LATER
    return dict(sorted(answers.items()))


DECISIONS: dict[str, Any] = {
    "summary": "The next best offer for a user on a surface",
    "description": "An unknown user is a valid request: defaults apply, and `degraded` says so.",
    "operation_id": "decide",
    "openapi_extra": {
        "parameters": [
            {
                "name": DEADLINE,
                "in": "header",
                "required": False,
                "description": "How long the client waits, where that is shorter than the surface's deadline",
                "schema": {"type": "string", "pattern": r"^[1-9][0-9]{0,5}(\.[0-9]{1,3})?ms$"},
                "example": "25ms",
            }
        ],
        "requestBody": {"required": True, "content": _content(_ref(DecisionRequest), decision=_DECISION_REQUEST)},
        **_SECURITY,
    },
    "responses": {
        200: {"description": "The decision", "content": _content(_ref(DecisionAnswer), decision=_DECISION_ANSWER)},
        **_guarded(
            "decide, or explain where `explain` or `dry_run` is set",
            _400="Not valid JSON",
            _404="No such surface; the message lists the known ones",
            _408="The body arrived too slowly",
            _413="The body is larger than 16 kB",
            _422="A field is missing or wrong, or the header Segue-Deadline is",
        ),
    },
}
EVENTS: dict[str, Any] = {
    "summary": "What happened: impressions, clicks, dismissals, conversions",
    "description": "One event, or a list of at most 1000. A list is judged event by event: the answer is 200 and says "
    "which were rejected, and why. An `event_id` seen before is accepted and changes nothing.",
    "operation_id": "report",
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": _content(
                {"anyOf": [_ref(EventRequest), {"type": "array", "items": _ref(EventRequest), "maxItems": 1000}]},
                one=_EVENT,
                many=[_EVENT, _CONVERSION],
            ),
        },
        **_SECURITY,
    },
    "responses": {
        200: {"description": "What was taken", "content": _content(_ref(EventsAnswer), events=_EVENTS_ANSWER)},
        **_guarded(
            "events",
            _400="Not valid JSON",
            _408="The body arrived too slowly",
            _413="The body is larger than 256 kB",
            _422="A single event with a field missing or wrong, or too many events",
        ),
    },
}


def _status(summary: str, example: dict[str, Any], **errors: str) -> dict[str, Any]:
    answer = {"description": summary, "content": _content({"type": "object"}, answer=example)}
    return {"summary": summary, "responses": {200: answer, **_errors(**errors)}}


HEALTHZ = _status("The process lives", {"status": "alive"})
READYZ = _status(
    "A release is loaded, and the server is not shutting down",
    {"status": "ready", "release": "4be1a07c9d2f"},
    _503="Not ready: the message says why",
)
VERSION: dict[str, Any] = _status(
    "Build, release, catalog and models",
    {"build": "0.1.0", "release": "4be1a07c9d2f", "catalog": "c0ffee", "models": {"upsell": "upsell/3"}},
)
VERSION["openapi_extra"] = _SECURITY
VERSION["responses"] |= _guarded("")
METRICS: dict[str, Any] = {
    "summary": "What all workers of this server counted, for Prometheus",
    "responses": {
        200: {"description": "Prometheus's text format", "content": {"text/plain": {}}},
        **_guarded("metrics"),
    },
    "openapi_extra": _SECURITY,
}


def install(app: FastAPI) -> None:
    """Adds the schemas of the bodies to the application's document."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()  # FastAPI keeps it, so this adds to one and the same document
        _, schemas = msgspec.json.schema_components(_SCHEMAS, ref_template="#/components/schemas/{name}")
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(schemas)
        components["securitySchemes"] = {"key": _KEY}
        return document

    app.openapi = openapi  # type: ignore[method-assign]
