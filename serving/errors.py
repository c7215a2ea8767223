"""What a client is told when a request can't be answered: a status, a code, one sentence, and the field."""

import re
from collections.abc import Mapping

import msgspec

BAD_JSON = "bad_json"
INVALID = "invalid"
TOO_LARGE = "too_large"


class ApiError(Exception):
    """An answer other than 200. The message never repeats anything that the client sent."""

    def __init__(
        self, status: int, code: str, message: str, field: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """`headers`: what goes with it, such as `Retry-After`."""
        super().__init__(message)
        self.status, self.code, self.message, self.field = status, code, message, field
        self.headers = headers or {}

    def body(self) -> bytes:
        return msgspec.json.encode(ErrorAnswer(ErrorDetail(self.code, self.message, self.field)))


class ErrorDetail(msgspec.Struct, omit_defaults=True):
    code: str
    """For programs: stable."""
    message: str
    """For people: may change."""
    field: str | None = None
    """The field that is wrong, where there is one, such as `context.device`."""


class ErrorAnswer(msgspec.Struct):
    """The body of every answer that is not 200."""

    error: ErrorDetail


def internal() -> ApiError:
    return ApiError(500, "internal", "This is a bug of the server.")


def slow_body() -> ApiError:
    return ApiError(408, "slow_body", "The body took too long to arrive.")


def gone() -> ApiError:
    """Nobody reads this answer."""
    return ApiError(400, "disconnected", "The client went away before its body was complete.")


def invalid(field: str | None, message: str) -> ApiError:
    return ApiError(422, INVALID, message, field)


# msgspec names the place of an error in a suffix: "Expected `int` >= 1 - at `$.slots`".
_PLACE = re.compile(r"(?s)^(.*?)(?: - at `([^`]*)`)?$")
_MISSING = re.compile(r"^Object missing required field `(\w+)`$")


def from_decoding(error: Exception, known_fields: tuple[str, ...]) -> ApiError:
    """Turns whatever decoding a body raised into an answer for the client.

    A ValidationError is well-formed JSON of the wrong shape (422); anything else is no JSON at all (400).
    """
    if isinstance(error, RecursionError):
        return ApiError(400, BAD_JSON, "The body is nested too deeply.")
    if not isinstance(error, msgspec.ValidationError):
        return ApiError(400, BAD_JSON, "The body is not valid JSON in UTF-8.")
    what, place = _PLACE.match(str(error)).groups()  # type: ignore[union-attr]  # it matches any text
    field = _field(place or "")
    if missing := _MISSING.match(what):
        field = f"{field}.{missing[1]}" if field else missing[1]
        return invalid(field, f"The field {field} is missing.")
    if what.startswith("Object contains unknown field"):  # this message would repeat the client's own text
        return invalid(field, f"There is a field that is not known. The known ones: {', '.join(known_fields)}.")
    if field is None:
        return invalid(None, f"The body is wrong: {_plain(what)}.")
    return invalid(field, f"The field {field} is wrong: {_plain(what)}.")


def _field(place: str) -> str | None:
    """`$.exclude[0]` → `exclude[0]`; the keys of free mappings are the client's own text, and left out."""
    return place.removeprefix("$").removeprefix(".").replace("[...]", "") or None


def _plain(what: str) -> str:
    text = what.replace("`", "").replace("matching regex", "matching")
    return text[:1].lower() + text[1:]
