"""The engine of this machine: results in the order of the parts, whatever processes do the work."""

import os
from dataclasses import dataclass

import pytest

from decisioning.errors import UserError
from evaluation.engines import Local


@dataclass(frozen=True)
class Squares:
    """Tells the square of a number, and which process it comes from."""

    bad: int = -1

    def __call__(self):
        return self.square

    def square(self, number: int) -> tuple[int, int]:
        if number == self.bad:
            raise UserError(f"{number} has no square today.")
        return number**2, os.getpid()


class Unopened:
    def __call__(self):
        raise UserError("There is no release.")


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_parts(processes):
    assert [square for square, _ in Local(processes).run(Squares(), range(20))] == [n * n for n in range(20)]


def test_several_processes_share_the_work_and_one_does_it_itself():
    assert {pid for _, pid in Local(1).run(Squares(), range(4))} == {os.getpid()}
    assert os.getpid() not in {pid for _, pid in Local(2).run(Squares(), range(4))}


def test_a_single_part_is_worth_no_further_process():
    assert [pid for _, pid in Local(2).run(Squares(), [3])] == [os.getpid()]


def test_no_part_opens_nothing():
    assert list(Local(1).run(Unopened(), [])) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_what_a_part_raises_reaches_the_caller_as_it_is(processes):
    results = Local(processes).run(Squares(bad=2), range(4))
    assert next(results)[0] == 0
    with pytest.raises(UserError, match="2 has no square today"):
        list(results)


@pytest.mark.parametrize("processes", [1, 2])
def test_what_opening_raises_reaches_the_caller_as_it_is(processes):
    with pytest.raises(UserError, match="no release"):
        list(Local(processes).run(Unopened(), range(4)))
