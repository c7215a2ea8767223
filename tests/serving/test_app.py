"""The application around the two routes: health, version, the OpenAPI document, and what it takes to import it."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from serving.schemas import DecisionRequest, EventRequest

HEAVY = ["pandas", "sklearn", "mlflow", "ibis", "duckdb", "lightgbm", "scipy", "pyarrow", "pandera"]
REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("module", ["serving.app", "serving.main"])
def test_importing_the_server_imports_nothing_heavy(module):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "fastapi" in imported
    assert imported.isdisjoint(HEAVY)


def test_health_readiness_and_version_say_what_is_loaded(client, runtime):
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready", "release": "r1"}
    version = client.get("/version").json()
    assert version["release"] == "r1"
    assert version["models"] == {"flat": "flat/1"}
    assert version["build"]


def test_a_draining_server_is_alive_and_not_ready_and_still_answers(client, runtime, ask):
    runtime.draining = True
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").json()["error"]["code"] == "draining"
    assert client.post("/v1/decisions", json=ask).status_code == 200


@pytest.fixture
def document(client) -> dict:
    return client.get("/openapi.json").json()


def resolved(document: dict, schema: dict) -> dict:
    return document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def test_the_document_describes_both_routes_in_full(document):
    assert document["openapi"].startswith("3.1")
    for path, fields in [
        ("/v1/decisions", DecisionRequest.__struct_fields__),
        ("/v1/events", EventRequest.__struct_fields__),
    ]:
        route = document["paths"][path]["post"]
        content = route["requestBody"]["content"]["application/json"]
        schema = content["schema"].get("anyOf", [content["schema"]])[0]
        assert set(resolved(document, schema)["properties"]) == set(fields)
        answers = route["responses"]
        assert {"200", "400", "413", "422"} <= set(answers)
        for answer in answers.values():
            assert resolved(document, answer["content"]["application/json"]["schema"])["properties"]
    assert "404" in document["paths"]["/v1/decisions"]["post"]["responses"]


def test_every_reference_of_the_document_leads_somewhere(document):
    text = json.dumps(document)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names
    assert names <= set(document["components"]["schemas"])


def test_the_examples_of_the_document_are_valid(document):
    def examples(path: str) -> list:
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        return [one["value"] for one in content["examples"].values()]

    for one in examples("/v1/decisions"):
        msgspec.convert(one, DecisionRequest)
    single, many = examples("/v1/events")
    msgspec.convert(single, EventRequest)
    msgspec.convert(many, list[EventRequest])


def test_the_answers_have_the_fields_that_the_document_promises(client, document, ask, event):
    for path, body in [("/v1/decisions", ask | {"explain": True}), ("/v1/events", [event, {}])]:
        answer = client.post(path, json=body).json()
        schema = document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert set(answer) == set(resolved(document, schema)["properties"])


def test_the_page_of_the_document_is_served(client):
    assert "/openapi.json" in client.get("/docs").text
