"""Features that are stale, missing, damaged or of another schema: that user's inputs are missing, counted, and no more.

Whoever can't be known to consent sees the fallback; everybody else notices nothing, and the store stays in use.
"""

import time

import pytest
from figures import Figures
from stand import shown

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.identity import user_key
from features.schema import Schema
from stores.online.layout import Keys, Pointer, bucket_of, field_of

OTHER = Schema((FeatureSpec("consent", FeatureType.BOOL), FeatureSpec("plan", FeatureType.ENUM, ("free", "paid"))))


class Shelf:
    """Where the features of one user stand in the store, to be tampered with."""

    def __init__(self, stand, user: str) -> None:
        self._client = stand.valkey.admin()
        version = Pointer.decode(self._client.get(Keys().current)).current
        self._field = field_of(user_key(stand.home.secret(), user))
        self._bucket = Keys().bucket(version, bucket_of(self._field, version.buckets))
        self.packed = self._client.hget(self._bucket, self._field)

    def put(self, packed: bytes | None) -> None:
        if packed is None:
            self._client.hdel(self._bucket, self._field)
        else:
            self._client.hset(self._bucket, self._field, packed)


def another_schema(packed: bytes) -> bytes:
    return OTHER.tag + OTHER.pack({"consent": True})


DAMAGE = {
    "missing": (lambda packed: None, "features:unknown_user"),
    "cut short": (lambda packed: packed[:-1], "features:corrupt"),
    "empty": (lambda packed: b"", "features:schema"),
    "of another schema": (another_schema, "features:schema"),
    "noise of the same length": (lambda packed: bytes(255 - byte for byte in packed), "features:schema"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_features_of_one_user_that_are(stand, damage):
    change, said = DAMAGE[damage]
    user, other = stand.user(), stand.user()
    assert shown(stand.ask_well(user)) == ["annual"]
    before = counted(stand, said)
    shelf = Shelf(stand, user)
    shelf.put(change(shelf.packed))
    answer = stand.ask_well(user)
    assert (shown(answer), answer["source"], answer["degraded"]) == (["generic"], "fallback", [said])
    assert shown(stand.ask_well(user, "strip")) == ["poster"], "what needs no feature is still shown"
    assert stand.ask_well(other)["degraded"] == []
    stand.until(lambda: counted(stand, said) > before)
    shelf.put(shelf.packed)
    assert shown(stand.ask_well(user)) == ["annual"]
    assert "decide_failed" not in stand.server.events()


def test_features_that_are_stale(stand):
    """A consent of 31 days ago, where it holds for 30: nobody can be asked in its name."""
    user = stand.user()
    assert shown(stand.ask_well(user)) == ["annual"]
    try:
        stand.valkey.publish(as_of=time.time() - 31 * 86_400)
        stand.until(lambda: stand.ask(user)["degraded"] == ["features:stale"], seconds=5.0)
        assert shown(stand.ask_well(user)) == ["generic"]
        assert shown(stand.ask_well(user, "strip")) == ["poster"]
        stand.until(lambda: counted(stand, "features:stale") > 0)
    finally:
        stand.valkey.publish()
    stand.until(lambda: shown(stand.ask(user)) == ["annual"], seconds=5.0)


def test_features_that_were_never_published(stand):
    user = stand.user()
    with stand.valkey.admin() as admin:
        pointer = admin.get(Keys().current)
        admin.delete(Keys().current)
        stand.until(lambda: stand.ask(user)["degraded"] == ["features:unpublished"], seconds=5.0)
        assert shown(stand.ask_well(user)) == ["generic"]
        admin.set(Keys().current, b"what")
        assert shown(stand.ask_well(user, "strip")) == ["poster"]
        admin.set(Keys().current, pointer)
    stand.until(lambda: shown(stand.ask(user)) == ["annual"], seconds=5.0)


def counted(stand, reason: str) -> float:
    """New decisions that said so, as /metrics tells."""
    return Figures(stand.server.http.get("/metrics").content)("segue_degraded_decisions_total", reason=reason)
