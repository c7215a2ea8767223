"""The online store answers late: always, now and then, or writes alone. Nobody waits for longer than a request may."""

from contextlib import contextmanager

from stand import shown


def test_a_store_whose_every_answer_is_late(stand):
    stand.endures(stand.between.fault("slow", seconds=0.2), says={"store:slow", "store:down"})


def test_a_store_of_whose_answers_one_in_ten_is_late(stand):
    """Those who meet it are answered in time without it; for everybody else the breaker stays closed."""
    user = stand.user()
    assert stand.is_well(user)
    downs, stand.seconds = stand.said("store_down"), []
    with stand.between.fault("slow", seconds=0.06, share=0.1):
        answers = [stand.ask(user) for _ in range(200)]
        assert {one["source"] for one in answers} <= {"rules", "fallback"}
        slow = [one for one in answers if "store:slow" in one["degraded"]]
        assert all(shown(one) == ["generic"] for one in slow), "nobody knows of consent"
        well = [one for one in answers if not one["degraded"]]
        assert all(shown(one) == ["annual"] for one in well)
        assert slow
        assert len(well) >= 100
    assert stand.was_in_time()
    assert stand.said("store_down") == downs
    stand.until(lambda: stand.is_well(user))


def test_a_store_that_pauses_writes(stand):
    """What is asked on a connection after a write waits behind it: to a server, such a store hangs."""

    @contextmanager
    def paused():
        with stand.valkey.boss() as boss:
            boss.execute_command("CLIENT PAUSE 60000 WRITE")
            stand.report("a write", "ann", type="click")
            try:
                yield
            finally:
                boss.client_unpause()

    stand.endures(paused(), says={"store:slow", "store:down"})
