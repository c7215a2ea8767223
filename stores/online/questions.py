"""The commands of a read, packed: what never changes once, and the rest by filling in what does."""

from stores.online.layout import FIELD_BYTES, Keys, Version, bucket_of, field_of
from stores.online.wire import Command, command

ANY = "\0"
"""Stands for what is filled in."""
GAP = ANY.encode()

USER_DIGITS = 2 * FIELD_BYTES
"""Of a user key. Any other text is no user's, though it may be asked for."""
MOST_BUCKETS = 2**32
"""More than that get no users, as a checksum has no more values."""

Pieces = tuple[bytes, bytes, tuple[bytes, ...], bytes, bytes]

Form = tuple[bytes, list[int]]
"""A command with gaps, as `pattern` makes it, and how long each word with a gap is without what is filled in."""


class Questions:
    """Of one namespace."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.killed = command(("SMEMBERS", keys.killed))
        self.current = command(("GET", keys.current))
        self._history = pattern("HVALS", keys.history(ANY))
        self._fresh = pattern("HGETALL", keys.fresh(ANY))
        self._version: Version | None = None
        self._vector: Form = (b"", [])
        """A vector of that version."""
        self._counted: dict[str, tuple[Command, Form]] = {}

    def about(self, user: str, version: Version | None) -> tuple[Command, ...]:
        """A user's history and fresh values; and the vector, where there is a version."""
        name = user.encode()
        (history, [before]), (fresh, [too]) = self._history, self._fresh
        asked = history % (before + len(name), name), fresh % (too + len(name), name)
        return (*asked, self.vector(user, version)) if version else asked

    def pieces(self, version: Version) -> Pieces:
        """All bytes of `about` that are the same for every user key: what comes before the key, before the key again,
        before the bucket (by how many digits it has), before the field, and at last.
        """
        (history, [before]), (fresh, [too]) = self._history, self._fresh
        asked = history % (before + USER_DIGITS, GAP) + fresh % (too + USER_DIGITS, GAP)
        first, second, third = asked.split(GAP)
        form, (known, _) = pattern("HGET", self._keys.bucket(version, ANY), ANY)
        by_digits = []
        for digits in range(1, len(str(min(version.buckets, MOST_BUCKETS) - 1)) + 1):
            head, fourth, last = (form % (known + digits, GAP, FIELD_BYTES, GAP)).split(GAP)
            by_digits.append(third + head)
        return first, second, tuple(by_digits), fourth, last

    def vector(self, user: str, version: Version) -> Command:
        if version is not self._version:
            self._version = version
            self._vector = pattern("HGET", self._keys.bucket(version, ANY), ANY)
        field, (form, [known, _]) = field_of(user), self._vector
        bucket = b"%d" % bucket_of(field, version.buckets)
        return form % (known + len(bucket), bucket, len(field), field)

    def counters(self, budgets: tuple[str, ...], at: float) -> list[Command]:
        """For each budget the units spent, and those on lease at a moment (epoch seconds)."""
        since = f"({at!r}".encode()
        asked = []
        for budget in budgets:
            spent, (leases, _) = self._counted.get(budget) or self._learned(budget)
            asked += spent, leases % (len(since), since)
        return asked

    def _learned(self, budget: str) -> tuple[Command, Form]:
        spent, leases, _ = self._keys.budget(budget)
        self._counted[budget] = known = command(("GET", spent)), pattern("ZCOUNT", leases, ANY, "+inf")
        return known


def pattern(*words: str) -> Form:
    """A command some of whose words hold `ANY`: by % it takes, for each of them, its length and what stands for `ANY`.

    That takes half of the time that it takes to pack it.
    """
    form, known = b"*%d\r\n" % len(words), []
    for word in words:
        text = word.encode()
        escaped = text.replace(b"%", b"%%")
        if ANY in word:
            known.append(len(text) - len(ANY))
            form += b"$%%d\r\n%b\r\n" % escaped.replace(ANY.encode(), b"%b")
        else:
            form += b"$%d\r\n%b\r\n" % (len(text), escaped)
    return form, known
