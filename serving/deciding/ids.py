"""Random ids for decisions: 128 bits each, from the system's source, which is asked once for many of them."""

import os
from weakref import WeakSet

DIGITS = 32
AT_ONCE = 128


class RandomIds:
    """Called, it gives an id of 32 hexadecimal digits that nobody had before. Safe to use from several threads.

    One system call for each id, and what `uuid` does around it, takes ten times as long.
    """

    __slots__ = ("__weakref__", "left")

    left: list[str]
    """Those that were not given yet, the next one last."""

    def __init__(self) -> None:
        self.left = []
        _all.add(self)

    def __call__(self) -> str:
        try:
            return self.left.pop()
        except IndexError:
            digits = os.urandom(AT_ONCE * DIGITS // 2).hex()
            self.left += [digits[at : at + DIGITS] for at in range(DIGITS, len(digits), DIGITS)]
            return digits[:DIGITS]

    def forget(self) -> None:
        """Gives up those that are left: of two processes after a fork, one alone may use them."""
        self.left = []


_all: WeakSet[RandomIds] = WeakSet()


def _forget_all() -> None:
    for one in _all:
        one.forget()


os.register_at_fork(after_in_child=_forget_all)
