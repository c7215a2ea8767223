"""Keyed hashes and draws: who a user is to us, and the number that fate gives a decision."""

from collections.abc import Callable, Iterable
from hashlib import blake2b

DRAW_BITS = 53


def user_key(secret: bytes, user_id: str) -> str:
    """The keyed hash that stands for a user in stores and logs: 32 hexadecimal digits.

    `secret` has 16 to 64 bytes. BLAKE2's keyed mode is a MAC (RFC 7693, section 2.9). Lone surrogates in an id are
    allowed: they hash like any other text.
    """
    return blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=16, key=secret).hexdigest()


def user_digests(secret: bytes, user_ids: Iterable[str]) -> list[bytes]:
    """The keys of many users as the 16 bytes behind their digits: `bytes.fromhex(user_key(secret, user_id))`."""
    keyed = blake2b(digest_size=16, key=secret)
    digests = []
    for user_id in user_ids:
        each = keyed.copy()
        each.update(user_id.encode("utf-8", "surrogatepass"))
        digests.append(each.digest())
    return digests


def draw(salt: str, decision_id: str) -> int:
    """A uniform 53-bit integer that anyone with the salt can compute again."""
    digest = blake2b(f"{salt}|{decision_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - DRAW_BITS)


def decision_id(user: str, surface: str, now: float, sticky: float, fresh: Callable[[], str]) -> str:
    """The id of a decision: of the period where the surface is sticky (0 seconds: it is not), else a fresh one.

    It names the surface, so that any server knows where an event's decision was made.
    """
    return f"{sticky_decision_id(user, surface, now, sticky) if sticky else fresh()}.{surface}"


def sticky_decision_id(user: str, surface: str, now: float, period: float) -> str:
    """The same id for every request of a user on a surface within one period of `period` seconds."""
    slot = int(now // period)
    return blake2b(f"{user}|{surface}|{period}|{slot}".encode(), digest_size=16).hexdigest()


def sticky_until(now: float, period: float) -> float:
    """When the period of `sticky_decision_id` ends, in which `now` lies. Periods begin at multiples of their length."""
    return (now // period + 1) * period


def tie_break(user: str, offer: str, release: str) -> int:
    """Orders equal scores: differs by user and release, never by the offer's name alone."""
    return int.from_bytes(blake2b(f"{user}|{offer}|{release}".encode(), digest_size=8).digest(), "big")
