"""The commands of a read, packed: what never changes once, and the rest as fast as Python can."""

from functools import lru_cache

from stores.online.layout import Keys, Version, bucket_of, field_of
from stores.online.wire import Command, command


class Questions:
    """Of one namespace."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.killed = command(("SMEMBERS", keys.killed))
        self.current = command(("GET", keys.current))
        self.spent = lru_cache(maxsize=1024)(self._spent)

    def about(self, user: str, version: Version | None) -> tuple[Command, ...]:
        """A user's history and fresh values; and the vector, where there is a version."""
        history = command(("HVALS", self._keys.history(user)))
        fresh = command(("HGETALL", self._keys.fresh(user)))
        return (history, fresh, self.vector(user, version)) if version else (history, fresh)

    def vector(self, user: str, version: Version) -> Command:
        field = field_of(user)
        return command(("HGET", self._keys.bucket(version, bucket_of(field, version.buckets)), field))

    def counters(self, budgets: tuple[str, ...], at: float) -> list[Command]:
        """For each budget the units spent, and those on lease at a moment (epoch seconds)."""
        since = f"({at!r}"
        return [one for name in budgets for one in (self.spent(name), self._leases(name, since))]

    def _spent(self, budget: str) -> Command:
        return command(("GET", self._keys.budget(budget)[0]))

    def _leases(self, budget: str, since: str) -> Command:
        return command(("ZCOUNT", self._keys.budget(budget)[1], since, "+inf"))
