"""As much of JSON Schema (draft-07) as the catalog's schema uses; a keyword that is not here is an error."""

import re
from typing import Any

ANNOTATIONS = {"$schema", "title", "definitions"}
TYPES = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "number": (int, float),
    "integer": int,
}  # fmt: skip


def failures(schema: dict[str, Any], value: Any, root: dict[str, Any] | None = None, path: str = "") -> list[str]:
    """What is wrong with a value, as `path: keyword`; empty when it is valid."""
    root = root or schema
    if "$ref" in schema:
        return failures(root["definitions"][schema["$ref"].removeprefix("#/definitions/")], value, root, path)
    found = []
    for keyword, wanted in schema.items():
        if keyword not in ANNOTATIONS:
            found += [f"{path}{inner}" for inner in _keyword(keyword, wanted, schema, value, root)]
    return found


def _keyword(keyword: str, wanted: Any, schema: dict[str, Any], value: Any, root: dict[str, Any]) -> list[str]:
    fails = [f": {keyword}"]
    match keyword:
        case "type":
            names = [wanted] if isinstance(wanted, str) else wanted
            return [] if any(_is(name, value) for name in names) else fails
        case "enum":
            return [] if any(value == one and type(value) is type(one) for one in wanted) else fails
        case "anyOf":
            return [] if any(not failures(one, value, root) for one in wanted) else fails
        case "properties" | "patternProperties":
            if not isinstance(value, dict):
                return []
            matches = str.__eq__ if keyword == "properties" else lambda pattern, key: bool(re.search(pattern, key))
            pairs = [(key, inner) for pattern, inner in wanted.items() for key in value if matches(pattern, key)]
            return [told for key, inner in pairs for told in failures(inner, value[key], root, f".{key}")]
        case "additionalProperties":
            if not isinstance(value, dict) or wanted is True:
                return []
            patterns = schema.get("patternProperties", {})
            others = [
                key
                for key in value
                if key not in schema.get("properties", {}) and not any(re.search(pattern, key) for pattern in patterns)
            ]
            if wanted is False:
                return [f".{key}: {keyword}" for key in others]
            return [told for key in others for told in failures(wanted, value[key], root, f".{key}")]
        case "propertyNames":
            keys = value if isinstance(value, dict) else {}
            return [f".{key}: {keyword}" for key in keys if failures(wanted, key, root)]
        case "required":
            return [f".{key}: {keyword}" for key in wanted if isinstance(value, dict) and key not in value]
        case "items":
            items = value if isinstance(value, list) else []
            return [told for at, one in enumerate(items) for told in failures(wanted, one, root, f"[{at}]")]
        case "pattern":
            return [] if not isinstance(value, str) or re.search(wanted, value) else fails
        case "minProperties":
            return [] if not isinstance(value, dict) or len(value) >= wanted else fails
        case "minItems":
            return [] if not isinstance(value, list) or len(value) >= wanted else fails
        case "minimum":
            return [] if not _is("number", value) or value >= wanted else fails
        case "maximum":
            return [] if not _is("number", value) or value <= wanted else fails
        case "exclusiveMinimum":
            return [] if not _is("number", value) or value > wanted else fails
    raise NotImplementedError(keyword)


def _is(name: str, value: Any) -> bool:
    if name in ("number", "integer") and isinstance(value, bool):
        return False
    return isinstance(value, TYPES[name])
