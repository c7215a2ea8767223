"""Decisions on their way: no answer before its record, one write for all of a turn of the loop."""

import asyncio
from functools import partial

import pytest

from decisioning.domain import Decision, Facts, Request, Source
from serving.deciding.journal import AT_MOST, Journal
from stores.log.decision_log import DecisionRecord, decode
from stores.log.event_log import MemoryLog


def record(name: str, **context) -> DecisionRecord:
    decision = Decision(name, "banner", "r1", (), Source.NONE, None, (), (), (), (), "", None)
    return DecisionRecord(Request(name, "u", "banner", 1.0, context), Facts(), decision)


class Writes(MemoryLog):
    """A log that keeps apart what it was given at once."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[list[str]] = []

    def extend(self, lines) -> None:
        super().extend(lines)
        self.writes.append([decode(line).decision.decision_id for line in lines])


@pytest.fixture
def log() -> Writes:
    return Writes()


def test_the_records_of_one_turn_of_the_loop_are_written_at_once_and_then_the_answers_leave(log):
    answered: list[tuple[str, int]] = []

    async def run() -> None:
        journal = Journal(log)
        for name in ("a", "b", "c"):
            journal.keep(record(name), lambda name=name: answered.append((name, len(log.lines))))
        assert not answered
        await asyncio.sleep(0)
        assert answered == [("a", 3), ("b", 3), ("c", 3)]
        journal.keep(record("d"), lambda: None)
        await asyncio.sleep(0)

    asyncio.run(run())
    assert log.writes == [["a", "b", "c"], ["d"]]


def test_no_more_than_so_many_records_wait(log):
    answered = []

    async def run() -> None:
        journal = Journal(log)
        for number in range(AT_MOST * 2 + 1):
            journal.keep(record(str(number)), partial(answered.append, number))
            assert number - len(answered) < AT_MOST
        journal.flush()

    asyncio.run(run())
    assert answered == list(range(AT_MOST * 2 + 1))
    assert [len(many) for many in log.writes] == [AT_MOST, AT_MOST, 1]


def test_a_record_that_cannot_be_written_and_an_answer_that_cannot_be_given_cost_the_others_nothing(log):
    answered = []

    async def run() -> None:
        journal = Journal(log)
        journal.keep(record("good"), partial(answered.append, "good"))
        journal.keep(record("bad", thing=object()), partial(answered.append, "bad"))
        journal.keep(record("gone"), partial(next, iter(())))
        journal.keep(record("last"), partial(answered.append, "last"))
        await asyncio.sleep(0)

    asyncio.run(run())
    assert log.writes == [["good", "gone", "last"]]
    assert answered == ["good", "bad", "last"]


def test_a_log_that_fails_in_a_way_it_must_not_leaves_nobody_waiting(log, monkeypatch):
    answered = []
    monkeypatch.setattr(log, "extend", lambda lines: 1 / 0)

    async def run() -> None:
        Journal(log).keep(record("a"), partial(answered.append, "a"))
        await asyncio.sleep(0)

    asyncio.run(run())
    assert answered == ["a"]


def test_a_record_may_be_written_at_once(log):
    Journal(log).write(record("now"))
    assert log.writes == [["now"]]
