"""Whether a store has room for a version of the features, and keeps what it is given."""

from collections.abc import Sequence
from math import ceil

from redis import Redis
from redis.exceptions import RedisError

from decisioning.errors import UserError
from stores.layout import FIELD_BYTES

OVERHEAD = 10
"""Bytes per user that small hashes take besides field and vector."""
FAR_ABOVE = 1.5
"""Times what it should be."""


def check_room(servers: Sequence[Redis], users: int, vector_bytes: int, *, allow_eviction: bool) -> tuple[str, ...]:
    """Warnings. `users` spread evenly over the servers. A server that doesn't tell of its memory is taken as it is.

    Raises UserError where they can't fit, and for a policy that drops features to make room.
    """
    needed = ceil(users * compact_bytes(vector_bytes) / len(servers))
    warnings = []
    for server in servers:
        try:
            told = server.info("memory")
        except RedisError:
            continue
        most, policy = int(told.get("maxmemory", 0)), str(told.get("maxmemory_policy", "noeviction"))
        if not most:
            continue
        if policy.startswith("allkeys") and not allow_eviction:
            raise UserError(
                f"The store may drop features when its memory is full (maxmemory-policy {policy}): set the policy to "
                "noeviction, or publish with --allow-eviction if you know that it never fills. Nothing was written."
            )
        room = most - int(told["used_memory"])
        if needed > room:
            raise UserError(
                f"{users:,} users need about {_megabytes(needed * len(servers))}, and the store has "
                f"{_megabytes(max(0, room))} left on a server of {_megabytes(most)} (maxmemory): give it more, as the "
                "old features stay until the new ones are complete. Nothing was written."
            )
        if policy.startswith("volatile"):
            warnings.append(
                f"When its memory is full the store drops users' histories first (maxmemory-policy {policy}), and caps "
                "count too little then: noeviction says so instead."
            )
    return tuple(dict.fromkeys(warnings))


def compact_bytes(vector_bytes: int) -> int:
    """Per user, where small hashes are kept as listpacks."""
    return FIELD_BYTES + vector_bytes + OVERHEAD


def hint(bytes_per_user: float | None, vector_bytes: int) -> tuple[str, ...]:
    """What to set where the store takes far more than it has to."""
    if bytes_per_user is None or bytes_per_user < FAR_ABOVE * compact_bytes(vector_bytes):
        return ()
    return (
        f"The store takes {bytes_per_user:.0f} bytes a user where {compact_bytes(vector_bytes)} would do: set "
        f"hash-max-listpack-value to at least {vector_bytes} on the server (256 is a good value), then publish with "
        "--again or the next snapshot.",
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
