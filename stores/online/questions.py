"""The commands of a read, packed: what never changes once, and the rest by filling in what does."""

from collections.abc import Callable

from stores.online.layout import Keys, Version, bucket_of, field_of
from stores.online.wire import Command, command

ANY = "\0"
"""Stands for what is filled in."""

Filled = Callable[[bytes], Command]


class Questions:
    """Of one namespace."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.killed = command(("SMEMBERS", keys.killed))
        self.current = command(("GET", keys.current))
        self._history = pattern("HVALS", keys.history(ANY))
        self._fresh = pattern("HGETALL", keys.fresh(ANY))
        self._counted: dict[str, tuple[Command, Filled]] = {}

    def about(self, user: str, version: Version | None) -> tuple[Command, ...]:
        """A user's history and fresh values; and the vector, where there is a version."""
        name = user.encode()
        history, fresh = self._history(name), self._fresh(name)
        return (history, fresh, self.vector(user, version)) if version else (history, fresh)

    def vector(self, user: str, version: Version) -> Command:
        field = field_of(user)
        return command(("HGET", self._keys.bucket(version, bucket_of(field, version.buckets)), field))

    def counters(self, budgets: tuple[str, ...], at: float) -> list[Command]:
        """For each budget the units spent, and those on lease at a moment (epoch seconds)."""
        since = f"({at!r}".encode()
        asked = []
        for budget in budgets:
            spent, leases = self._counted.get(budget) or self._learned(budget)
            asked += spent, leases(since)
        return asked

    def _learned(self, budget: str) -> tuple[Command, Filled]:
        spent, leases, _ = self._keys.budget(budget)
        self._counted[budget] = known = command(("GET", spent)), pattern("ZCOUNT", leases, ANY, "+inf")
        return known


def pattern(*words: str) -> Filled:
    """A command one of whose words holds `ANY`, to be filled in: in half of the time that it takes to pack it."""
    (word,) = [word for word in words if ANY in word]
    known = len(word.encode()) - len(ANY)
    before, after = (part.encode().replace(b"%", b"%%") for part in word.split(ANY))
    packed = command(words).replace(b"%", b"%%")
    form = packed.replace(
        b"$%d\r\n%b\0%b\r\n" % (known + len(ANY), before, after), b"$%%d\r\n%b%%b%b\r\n" % (before, after)
    )
    return lambda text: form % (known + len(text), text)
