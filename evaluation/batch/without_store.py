"""The twin of no online store: nothing of a user's past is known, so that caps and hard budgets count as reached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from decisioning.domain import Event, Facts
from features.schema import Schema
from stores.online.budgets import Want

NO_STORE = "store:none"
UNREAD = frozenset({"history", "budgets", "killed"})


@dataclass(frozen=True, slots=True)
class WithoutStore:
    """Of the port of the online store, what a batch asks for. `killed`: offers that are known to be switched off."""

    killed: frozenset[str] = frozenset()

    def __call__(self) -> "WithoutStore":
        return self

    async def read(self, user: str, schema: Schema, budgets: Sequence[str] = (), own: str = "") -> Facts:
        return Facts(killed=self.killed, unread=UNREAD, degraded=(NO_STORE,))

    async def reserve(self, decision_id: str, wants: Sequence[Want], lasts: float) -> Mapping[str, int]:
        """Every unit: `decide` shows no offer of a hard budget that could not be read, and soft ones hold nobody."""
        return {}

    async def recall(self, user: str, decision_id: str) -> bytes | None:
        return None

    async def remember(
        self, user: str, decision_id: str, answer: bytes, lasts: float, instead_of: bytes | None = None
    ) -> bytes | None:
        return None

    async def apply(self, event: Event, budgets: Sequence[str] = ()) -> bool:
        return False

    async def close(self) -> None:
        pass
