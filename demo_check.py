"""What `segue demo --check` verifies: the API's promises over HTTP, and the Hillstrom reference figures."""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from decisioning.catalog import Catalog
from decisioning.errors import UserError

TIMEOUT = 10.0

ALL_MENS_VISIT = (0.1823, 0.0051)
"""The best single offer's value on Hillstrom visits, and the half-width of its 95 % interval."""
LEAST_TRAINED_DIFFERENCE = -0.005


@dataclass(frozen=True, slots=True)
class Client:
    """A client surface: the few calls that one makes."""

    address: str
    key: str | None = None
    """Sent where the server asks for one."""

    def call(self, path: str, body: object = None, raw: bytes | None = None) -> tuple[int, Any]:
        """(status, decoded body) of a GET, or of a POST where there is a body."""
        content = raw if raw is not None else json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        request = Request(self.address + path, content, headers)
        try:
            with urlopen(request, timeout=TIMEOUT) as response:
                return response.status, json.load(response)
        except HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def decide(self, user: str, surface: str, **more: object) -> dict[str, Any]:
        status, answer = self.call("/v1/decisions", {"user_id": user, "surface": surface, **more})
        if status != 200:
            raise UserError(f"A decision for {surface} was answered with {status}: {answer}")
        return answer

    def report(self, type: str, user: str, decision: Mapping[str, Any], offer: str, event_id: str) -> dict[str, Any]:
        event = {
            "event_id": event_id,
            "type": type,
            "decision_id": decision["decision_id"],
            "offer": offer,
            "user_id": user,
            "at": time.time(),
        }
        return self.call("/v1/events", event)[1]


def exercise(client: Client, catalog: Catalog, users: Sequence[str]) -> list[str]:
    """Decision → impression → conversion, and a few mistakes a client might make. Returns what was off, in words."""
    found = _personal_decision(client, catalog, users)
    if found is None:
        return [f"none of {len(users)} users got an offer chosen by the model"]
    user, decision = found
    problems = [
        *_answer_problems(decision, catalog),
        *_event_problems(client, catalog, user, decision),
        *_mistake_problems(client, decision["surface"]),
    ]
    for path in ("/healthz", "/readyz", "/version", "/openapi.json"):
        status, _ = client.call(path)
        if status != 200:
            problems.append(f"GET {path} answered {status}")
    return problems


def _personal_decision(client: Client, catalog: Catalog, users: Sequence[str]) -> tuple[str, dict[str, Any]] | None:
    """A user whom the model chose an offer for, and the logged decision."""
    for surface in sorted(catalog.surfaces, key=lambda name: -len(catalog.offers_on(name))):
        for user in users:
            trial = client.decide(user, surface, dry_run=True)
            if trial["source"] == "model" and trial["offers"]:
                decision = client.decide(user, surface, explain=True)
                if decision["offers"]:
                    return user, decision
    return None


def _answer_problems(decision: Mapping[str, Any], catalog: Catalog) -> list[str]:
    problems = []
    told = {reason["offer"] for reason in decision["reasons"]}
    shown = {one["offer"] for one in decision["offers"]}
    silent = {offer.name for offer in catalog.offers_on(decision["surface"])} - told - shown
    if silent:
        problems.append(f"no reason was given for {', '.join(sorted(silent))}")
    for one in decision["offers"]:
        if not 0 < one["probability"] <= 1:
            problems.append(f"{one['offer']} was shown with probability {one['probability']}")
    if decision["degraded"]:
        problems.append(f"a decision with everything up was degraded: {decision['degraded']}")
    return problems


def _event_problems(client: Client, catalog: Catalog, user: str, decision: Mapping[str, Any]) -> list[str]:
    """An impression and a conversion are accepted and a repetition changes nothing. An offer that nobody knows is kept
    where a decision of ours names it, as it may have retired since, and rejected elsewhere."""
    offer, ids = decision["offers"][0]["offer"], [uuid.uuid4().hex for _ in range(4)]
    conversion = catalog.group(catalog.offers[offer].group).converts_on
    answers = [
        client.report("impression", user, decision, offer, ids[0]),
        client.report(conversion, user, decision, offer, ids[1]),
        client.report(conversion, user, decision, offer, ids[1]),
        client.report("impression", user, decision, "no-such-offer", ids[2]),
        client.report("impression", user, {**decision, "decision_id": "theirs"}, "no-such-offer", ids[3]),
    ]
    told = [(answer.get("accepted"), answer.get("duplicates"), len(answer.get("rejected", ()))) for answer in answers]
    expected = [(1, 0, 0), (1, 0, 0), (1, 1, 0), (1, 0, 0), (0, 0, 1)]
    return [] if told == expected else [f"events (accepted, duplicates, rejected): {told} instead of {expected}"]


def _mistake_problems(client: Client, surface: str) -> list[str]:
    problems = []
    stranger = client.decide(f"stranger-{uuid.uuid4().hex}", surface)
    if not any("unknown_user" in word for word in stranger["degraded"]):
        problems.append(f"an unknown user was not admitted in degraded: {stranger['degraded']}")
    for name, expected, raw in (
        ("an unknown surface", 404, b'{"user_id": "u", "surface": "no-such-surface"}'),
        ("broken JSON", 400, b'{"user_id": '),
        ("a missing field", 422, b'{"user_id": "u"}'),
        ("a body of 20 kB", 413, b" " * 20_000),
    ):
        status, answer = client.call("/v1/decisions", raw=raw)
        if status != expected or not answer.get("error", {}).get("message"):
            problems.append(f"{name} was answered with {status}: {answer}")
    return problems


def reference_problems(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the policy values of the Hillstrom trial miss the published reference."""
    rows = {r["policy"]: r for r in records if r["outcome"] == "visit" and r["estimator"] == "dr"}
    best, trained = rows["best_single_offer"], rows["trained"]
    value, half_width = ALL_MENS_VISIT
    problems = []
    if abs(best["value"] - value) > half_width:
        problems.append(f"the best single offer's visit rate is {best['value']:.4f}, expected {value} ± {half_width}")
    if trained["diff_low"] is None:
        problems.append(f"the trained policy's visit difference has no interval: {trained['diff_note']}")
    elif not trained["diff_low"] > LEAST_TRAINED_DIFFERENCE:
        problems.append(
            f"the trained policy's visit difference may be as low as {trained['diff_low']:.4f}, "
            f"expected above {LEAST_TRAINED_DIFFERENCE}"
        )
    return problems
