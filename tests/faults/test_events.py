"""Events come twice, late and in another order than they happened: the same end state, and nobody is told otherwise."""

import time
from random import Random

import pytest
from stand import shown

from decisioning.identity import user_key
from stores.online.layout import Keys

TYPES = ("impression", "click", "dismiss", "convert")


def past(count: int, now: float, random: Random) -> list[dict]:
    """What one user did in the last three days, oldest first."""
    moments = sorted(now - random.uniform(0, 3 * 86_400) for _ in range(count))
    offers = ("annual", "poster", "scarce", "generic")
    return [
        {"event_id": f"{number}", "type": random.choice(TYPES), "decision_id": f"d{number % 7}", "at": at,
         "offer": random.choice(offers), "surface": "banner"}
        for number, at in enumerate(moments)
    ]  # fmt: skip


def held(stand, user: str) -> list[bytes]:
    """The user's history as the store has it."""
    with stand.valkey.admin() as admin:
        return sorted(admin.hvals(Keys().history(user_key(stand.home.secret(), user))))


@pytest.mark.parametrize("seed", range(3))
def test_events_that_come_twice_late_and_in_any_order_end_in_the_same_state(stand, seed):
    random, now = Random(seed), time.time()
    story = past(40, now, random)
    ann, bob = stand.user(), stand.user()
    for event in story:  # of ann each once, as it happened
        answer = stand.server.post("/v1/events", {**event, "event_id": f"{ann}-{event['event_id']}", "user_id": ann})
        assert answer.json() == {"accepted": 1, "rejected": [], "duplicates": 0, "degraded": []}

    posted = [{**event, "event_id": f"{bob}-{event['event_id']}", "user_id": bob} for event in story]
    posted += random.sample(posted, 25)
    random.shuffle(posted)
    taken = duplicates = 0
    while posted:  # of bob in lists of any length
        some, posted = posted[:9], posted[9:]
        answer = stand.server.post("/v1/events", some).json()
        assert (answer["rejected"], answer["degraded"]) == ([], [])
        taken, duplicates = taken + answer["accepted"], duplicates + answer["duplicates"]
    assert (taken, duplicates) == (65, 25)

    assert held(stand, ann) == held(stand, bob)
    assert len(held(stand, ann)) == 40
    for surface in ("banner", "strip"):
        of_ann, of_bob = (stand.ask_well(user, surface, explain=True, dry_run=True) for user in (ann, bob))
        assert shown(of_ann) == shown(of_bob)
        assert of_ann["reasons"] == of_bob["reasons"]
