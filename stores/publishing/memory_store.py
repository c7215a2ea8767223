"""The shelf in memory: the twin for tests, trials and simulations."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from decisioning.errors import UserError
from stores.online.layout import Pointer, Version, field_of
from stores.publishing.port import ALREADY_PUBLISHING, Block


class MemoryShelf:
    """Versions of the features in dictionaries, of one process."""

    def __init__(self) -> None:
        self._vectors: dict[Version, dict[bytes, bytes]] = {}
        self._done: dict[Version, int] = {}
        self._pointer: Pointer | None = None
        self._publishing = False

    def vector(self, user: str) -> tuple[Version | None, bytes | None]:
        """The version that is read now, and the user's vector in it."""
        version = self._pointer.current if self._pointer else None
        return version, self._vectors[version].get(field_of(user)) if version else None

    @contextmanager
    def lock(self) -> Iterator[None]:
        if self._publishing:
            raise UserError(ALREADY_PUBLISHING)
        self._publishing = True
        try:
            yield
        finally:
            self._publishing = False

    def pointer(self) -> Pointer | None:
        return self._pointer

    def begin(self, version: Version, keep: Sequence[Version]) -> int:
        for other in [one for one in self._vectors if one not in keep and one != version]:
            self.drop(other)
        if version not in self._done:
            self._vectors[version], self._done[version] = {}, 0
        return self._done[version]

    def check_room(self, users: int, vector_bytes: int, *, allow_eviction: bool) -> tuple[str, ...]:
        return ()

    def write(self, version: Version, block: Block, done: int) -> None:
        self._vectors[version].update(zip(block.fields, map(bytes, block.vectors), strict=True))
        self._done[version] = done

    def users(self, version: Version) -> int:
        return len(self._vectors[version])

    def lookup(self, version: Version, fields: Sequence[bytes]) -> list[bytes | None]:
        return [self._vectors[version].get(field) for field in fields]

    def flip(self, expected: Pointer | None, to: Pointer) -> bool:
        if self._pointer != expected:
            return False
        self._pointer = to
        self._done.clear()
        return True

    def drop(self, version: Version) -> None:
        del self._vectors[version]
        self._done.pop(version, None)

    def mend(self, version: Version) -> None:
        pass

    def sweep(self, keep: Sequence[Version]) -> None:
        self._vectors = {version: vectors for version, vectors in self._vectors.items() if version in keep}

    def memory(self, version: Version) -> int | None:
        return None

    def advice(self, version: Version, vector_bytes: int) -> tuple[str, ...]:
        return ()
