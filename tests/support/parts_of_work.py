"""Tasks for engines, in a module that other processes can import."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from decisioning.errors import UserError


@dataclass(frozen=True)
class Squares:
    """Squares numbers; the earlier ones take longer, so that they end in another order than they began in."""

    slow_until: int = 0

    def __call__(self):
        return self.square

    def square(self, number):
        if number < self.slow_until:
            time.sleep(0.05 * (self.slow_until - number))
        return number * number


@dataclass(frozen=True)
class Opens:
    """Tells the process that opened it, and how often it was opened there."""

    folder: Path

    def __call__(self):
        with (self.folder / str(os.getpid())).open("a") as file:
            file.write("opened\n")
        return lambda part: os.getpid()


@dataclass(frozen=True)
class Goes:
    """Notes which process does a part, and takes its time."""

    folder: Path

    def __call__(self):
        return self.work

    def work(self, number):
        (self.folder / f"{number}.{os.getpid()}").touch()
        time.sleep(0.2)


@dataclass(frozen=True)
class Refuses:
    """Refuses one number, or to be opened at all."""

    number: int | None = None

    def __call__(self):
        if self.number is None:
            raise UserError("this work can't begin")
        return self.check

    def check(self, number):
        if number == self.number:
            raise UserError(f"{number} is no good")
        return number


@dataclass(frozen=True)
class Dies:
    """Ends its process at one number: always, or where `once` names a file, the first time alone."""

    number: int
    once: Path | None = None

    def __call__(self):
        return self.work

    def work(self, number):
        if number == self.number and not (self.once and self.once.exists()):
            if self.once:
                self.once.touch()
            os._exit(1)
        return number


@dataclass(frozen=True)
class Valley:
    """A loss that is least at depth 4 and rate 0.1 of kind "b"; it refuses depth 7, and is interrupted at `end`."""

    end: int | None = None

    def __call__(self):
        tried = []

        def loss(params):
            tried.append(params)
            if len(tried) == self.end:
                raise KeyboardInterrupt
            if params["depth"] == 7:
                raise UserError("7 is no depth")
            return abs(params["depth"] - 4) + abs(params["rate"] - 0.1) * 10 + (params["kind"] != "b")

        return loss


def shared_sum(shard, network):
    """What ranks make together that never speak to one another, and know all the same how many they are."""
    yield "the same on all", network.get("num_machines", 1)
    yield "again", sum(shard)
