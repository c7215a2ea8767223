"""What is done by the same functions comes out the same on Ray."""

from functools import partial

import pytest
from kiosk import kiosk

from evaluation.recorded import sweeping, traffic
from evaluation.recorded.replay import replay_log
from scaling.local import Local
from stores.log_chunks import chunks


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    found = kiosk(tmp_path_factory.mktemp("kiosk"))
    found.log(found.records(800))
    return found


def test_a_log_replayed_on_ray_is_found_as_it_is_found_here(shop, ray_engine, monkeypatch):
    monkeypatch.setattr(sweeping, "SMALL", 0)
    monkeypatch.setattr(traffic, "chunks", partial(chunks, size=2**17))
    told = []
    here = replay_log(shop.home.logs / "decisions", shop.load, "all", engine=Local(1))
    there = replay_log(
        shop.home.logs / "decisions", shop.load, "all", engine=ray_engine, progress=lambda *at: told.append(at)
    )
    assert there == here
    assert (there.decisions, there.identical) == (800, 800)
    assert len(told) > 3
