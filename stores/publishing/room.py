"""Whether a store has room for a version of the features, and keeps what it is given."""

from collections.abc import Sequence
from math import ceil

from redis import Redis
from redis.exceptions import RedisError

from decisioning.errors import UserError
from stores.online.layout import FIELD_BYTES

OVERHEAD, PLAIN_OVERHEAD = 10, 100
"""Bytes per user that hashes take besides field and vector: small ones in a listpack, and plain ones."""
SPARE = 0.05
"""Of the memory, for what servers write meanwhile: where a history can't grow, nobody knows what caps allow."""


def check_room(servers: Sequence[Redis], users: int, vector_bytes: int, *, allow_eviction: bool) -> tuple[str, ...]:
    """Warnings. `users` spread evenly over the servers. A server that doesn't tell of its memory is taken as it is.

    Raises UserError where they can't fit, and for a policy that drops features to make room.
    """
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
                "noeviction, or publish with --allow-eviction if it never fills. No features were written."
            )
        each = FIELD_BYTES + vector_bytes + (OVERHEAD if _keeps_small(server, vector_bytes) else PLAIN_OVERHEAD)
        needed = ceil(users * each / len(servers))
        room = int(most * (1.0 - SPARE)) - int(told["used_memory"])
        if users and needed > room:
            where = " on each server" if len(servers) > 1 else ""
            raise UserError(
                f"{users:,} users need about {_megabytes(needed)}{where}, and the store has {_megabytes(max(0, room))} "
                f"left for them on a server of {_megabytes(most)} (maxmemory): give it more, as the old "
                "features stay until the new ones are complete. No features were written."
            )
        if policy.startswith("volatile"):
            warnings.append(
                f"When its memory is full the store drops users' histories first (maxmemory-policy {policy}), and caps "
                "count too little then: noeviction says so instead."
            )
    return tuple(dict.fromkeys(warnings))


def _keeps_small(server: Redis, vector_bytes: int) -> bool:
    """Whether vectors of this size are kept in listpacks; taken for granted where the server doesn't tell."""
    try:
        told = server.config_get("hash-max-listpack-value")
    except RedisError:
        return True
    return int(told.get("hash-max-listpack-value", vector_bytes)) >= vector_bytes


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
