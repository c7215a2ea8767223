"""Who is calling, and may they: API keys, their scopes and limits, in about a microsecond.

The secret is compared by looking up its SHA-256: what a lookup's timing could tell is about that hash alone, and nobody
can choose a key by its hash. A header that was recognised is kept, so that the next request costs one lookup in a dict,
whose hashes are seeded anew in each process.
"""

import ipaddress
import re
import time
from collections import defaultdict
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from decisioning.errors import UserError
from serving.errors import ApiError
from serving.limits import Allowance, Counts
from stores.api_keys import SCOPES, Client, digest, parse

ANY = "any"
"""What every caller may: /version."""
RETRY_UNREADABLE = 5
"""Seconds."""
LONGEST_HEADER = 256
"""More is no key of ours, and need not be hashed."""
MOST_HEADERS = 4096
"""Recognised headers that are kept. One key may be written in some ways (`bearer`, more spaces), but not in many."""

_HEADER = re.compile(rb"bearer +([\x21-\x7e]+) *", re.IGNORECASE)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who was let in."""

    name: str
    scopes: frozenset[str]
    allowance: Allowance | None = None

    def require(self, scope: str) -> None:
        """Raises ApiError (403) where the caller lacks a scope."""
        if scope not in self.scopes:
            raise ApiError(
                403,
                "forbidden",
                f"The key of this client lacks the scope {scope}. It is needed to {SCOPES[scope]}.",
                headers={"WWW-Authenticate": f'Bearer realm="segue", error="insufficient_scope", scope="{scope}"'},
            )


ANYBODY = Caller("anybody", frozenset({*SCOPES, ANY}))
"""The caller of a server that has no keys."""


@dataclass(frozen=True, slots=True)
class _Guests:
    """Those whom one state of the file lets in. Replaced as a whole, with what was recognised by it."""

    by_hash: dict[str, Caller]
    until: float
    """When the next of their keys expires."""
    known: dict[bytes | None, Caller] = field(default_factory=dict)


class Access:
    """The door. `refresh` follows the file, and may run in a thread; `admit` belongs to the event loop.

    Without a file of keys everybody is let in, until there is one. From then on the last good one counts, whatever
    becomes of the file. One that was damaged from the start, or is `required` and not there, lets nobody in; nor does
    a damaged one that is moved away, as that is no word that strangers may come.
    """

    def __init__(
        self,
        file: Path | None = None,
        *,
        required: bool = False,
        counts: Counts | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._file, self._required = file, required
        self.counts = counts or Counts()
        self._clock, self._now = clock, now
        self._content: bytes | None = None
        self._clients: tuple[Client, ...] = ()
        self._guests: _Guests | None = None
        self.tells = True
        """Whether it says in the log what becomes of the file; of several processes that follow it, one is enough."""
        self.problem: str | None = None
        """What is wrong with the file now."""
        self.limited: MutableMapping[str, int] = defaultdict(int)
        """Requests refused for their client's limit."""

    @property
    def is_open(self) -> bool:
        """Whether everybody is let in, as there are no keys."""
        return self._guests is None and self.problem is None

    @property
    def lets_somebody_in(self) -> bool:
        return self.is_open or self._guests is not None

    def admit(self, authorization: bytes | None, scope: str) -> Caller:
        """Who sends this `Authorization` header, if they may do what `scope` names now.

        Raises ApiError: 401 for no key or one that is not known, 403 for the scope, 429 beyond the limit, 503 while
        no keys could be read.
        """
        guests = self._guests
        caller = guests.known.get(authorization) if guests is not None else None
        if caller is None:
            caller = self._recognised(guests, authorization)
        if scope not in caller.scopes:
            caller.require(scope)
        allowance = caller.allowance
        if allowance is None or allowance.at_once(now := self._clock()):
            return caller
        if wait := allowance.take(now):
            self.limited[caller.name] += 1
            raise ApiError(
                429,
                "too_many_requests",
                "This client is over its limit of requests. Ask again after the seconds that Retry-After says.",
                headers={"Retry-After": str(int(wait + 0.01) + 1)},  # whole seconds, and rather one more
            )
        return caller

    def refresh(self) -> None:
        """Reads the file again if it is not what it was. Never raises."""
        if self._file is None:
            return
        try:
            content = self._file.read_bytes()
            if content != self._content:
                self._clients, self._content = parse(content), content
                keys = sum(len(client.keys) for client in self._clients)
                self._tell(log.info, "keys_loaded", clients=len(self._clients), keys=keys)
                self._let_in()
        except FileNotFoundError:
            self._note(None if self.is_open and not self._required else "there is no such file")
        except (OSError, ValueError) as error:
            self._note(getattr(error, "strerror", None) or str(error))
        else:
            self._note(None)
        if self._guests is not None and self._now() >= self._guests.until:
            self._let_in()

    def _let_in(self) -> None:
        """Callers by the hashes of those keys that have not expired."""
        now, callers, ends = self._now(), {}, [float("inf")]
        for client in self._clients:
            caller = Caller(client.name, frozenset({*client.scopes, ANY}), Allowance.of(client, self.counts))
            active = [key for key in client.keys if key.is_active(now)]
            callers.update((key.sha256, caller) for key in active)
            ends += [key.expires_at for key in active if key.expires_at is not None]
        self._guests = _Guests(callers, min(ends))
        if not callers:
            why = "no key is good any more: every request is refused until `segue keys add` makes one"
            self._tell(log.warning, "no_good_keys", why=why)

    def _note(self, problem: str | None) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        if problem is not None:
            kept = "the last good ones" if self._guests is not None else "none: nobody is let in"
            self._tell(log.error, "keys_unreadable", file=str(self._file), why=problem, kept=kept)
        else:
            self._tell(log.info, "keys_readable", file=str(self._file))

    def _tell(self, say: Callable[..., object], event: str, **more: object) -> None:
        if self.tells:
            say(event, **more)

    def _recognised(self, guests: _Guests | None, authorization: bytes | None) -> Caller:
        if guests is None:
            if self.problem is None:
                return ANYBODY
            raise ApiError(
                503,
                "keys_unreadable",
                "The server can't read its keys, and lets nobody in until it can.",
                headers={"Retry-After": str(RETRY_UNREADABLE)},
            )
        if authorization is None:
            raise _unauthorised("This server asks for a key. Send it as: Authorization: Bearer segue_…", "")
        found = _HEADER.fullmatch(authorization) if len(authorization) <= LONGEST_HEADER else None
        if found is None:
            raise _unauthorised("The Authorization header must be: Bearer, a space, and a key.", "invalid_request")
        caller = guests.by_hash.get(digest(found[1]))
        if caller is None:
            raise _unauthorised("The key is not known here: it may have expired or been revoked.", "invalid_token")
        if len(guests.known) >= MOST_HEADERS:
            guests.known.clear()
        guests.known[authorization] = caller
        return caller


def _unauthorised(message: str, error: str) -> ApiError:
    told = f', error="{error}"' if error else ""
    return ApiError(401, "unauthorised", message, headers={"WWW-Authenticate": f'Bearer realm="segue"{told}'})


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach an address to listen on."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def guard_exposure(host: str, access: Access, *, open_to_all: bool) -> None:
    """Before the server listens there. Raises UserError where strangers could call it and there is no key to ask for.

    A server without keys that may go on says so in the log.
    """
    if not access.is_open:
        return
    if not is_loopback(host) and not open_to_all:
        raise UserError(
            f"There are no API keys, so everybody who reaches {host} could ask for decisions. Make a key with "
            "`segue keys add NAME --scope decide --scope events`, and name its file with --keys if it is not in the "
            "work folder. Or say --open (SEGUE_OPEN=1) if something in front of the server keeps strangers out."
        )
    log.warning("no_keys", why="there are no API keys: everybody who reaches this server is answered", host=host)
