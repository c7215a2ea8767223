"""One publisher at a time: a lock in the store that its holder keeps renewing, and that a killed one soon loses."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from redis import Redis
from redis.cluster import RedisCluster
from redis.exceptions import RedisError

from decisioning.errors import UserError
from stores.publishing.port import ALREADY_PUBLISHING

LOCK_SECONDS = 15.0
RENEWALS = 4
"""In the time that a lock lasts."""

RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
UNLOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Lock:
    """`token` is the holder's own: a script that writes looks whether the lock still has it."""

    def __init__(self, client: Redis | RedisCluster, key: str):
        self._client = client
        self._key = key
        self.token = secrets.token_hex(8)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raises UserError while another holds it."""
        if not self._client.set(self._key, self.token, nx=True, px=round(LOCK_SECONDS * 1000)):
            raise UserError(ALREADY_PUBLISHING)
        over = Event()
        keeper = Thread(target=self._keep, args=(over,), name="publishing-lock", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()
            with suppress(RedisError, OSError):  # it ends by itself
                self._client.eval(UNLOCK, 1, self._key, self.token)

    def _keep(self, over: Event) -> None:
        """Once it is lost there is nothing to renew: whoever writes next finds out."""
        while not over.wait(LOCK_SECONDS / RENEWALS):
            with suppress(RedisError, OSError):
                if not self._client.eval(RENEW, 1, self._key, self.token, round(LOCK_SECONDS * 1000)):
                    return
