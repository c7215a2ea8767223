"""Addresses of online stores, and the one way in which all of Segue connects to them.

    redis://[user:password@]host[:port][/database]     one server
    rediss://…                                         the same by TLS
    unix://[user:password@]/path/to/the.sock           one server on this machine
    redis+cluster://[user:password@]host[:port],host…  a Redis or Valkey Cluster: some of its nodes, which know the rest
    rediss+cluster://…                                 the same by TLS

Options follow as a query, such as `?ssl_ca_certs=/etc/ssl/store.pem`. Our rules: no hidden retries (redis-py would
retry ten times, whatever the time-out says), no time-out longer than the caller's, and protocol 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from redis import Redis
from redis.asyncio.connection import parse_url as parse_async_url
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import parse_url
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry

from decisioning.errors import UserError

FAILURES = (RedisError, RedisClusterException, OSError)
"""What comes out of a synchronous client when something is wrong with the servers, or the way to them."""
PORT = 6379
CLUSTER = "+cluster"
SCHEMES = ("redis", "rediss", "unix", f"redis{CLUSTER}", f"rediss{CLUSTER}")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a store is: one server, or some nodes of a cluster."""

    urls: tuple[str, ...] = field(repr=False)
    """Of each server named, as redis-py understands it. They may hold a password: never show them."""
    is_cluster: bool

    def options(self, timeout: float) -> dict[str, Any]:
        """What an asynchronous connection to the first server takes, `connection_class` included."""
        return {**parse_async_url(self.urls[0]), **_rules(timeout), "retry": AsyncRetry(NoBackoff(), 0)}

    @property
    def nodes(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each server named; empty for a Unix socket."""
        parsed = [parse_url(url) for url in self.urls]
        return tuple((one["host"], one.get("port", PORT)) for one in parsed if "host" in one)

    @property
    def shown(self) -> str:
        """Where the store is, for logs: without login and options."""
        parsed = [parse_url(url) for url in self.urls]
        return ", ".join(one.get("path") or f"{one.get('host', 'localhost')}:{one.get('port', PORT)}" for one in parsed)


class _Wrong(ValueError):
    """An address that no store can have, in words of ours."""


def address(url: str) -> Address:
    """Reads an address. Raises UserError for one that no store can have; the message repeats no password."""
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest:
        known = ", ".join(f"{one}://" for one in SCHEMES[:-1])
        raise UserError(f"The store's address must begin with {known} or {SCHEMES[-1]}://.")
    try:
        return _cluster(scheme, rest) if scheme.endswith(CLUSTER) else _single(url)
    except (ValueError, KeyError) as error:
        why = f" ({error})" if isinstance(error, _Wrong) else ""  # others may quote the address, password and all
        raise UserError(
            f"The store's address can't be read{why}: write {scheme}://user:password@host:port, and in the password "
            "%23 for #, %2F for /, %3F for ?, %40 for @."
        ) from None


def connect(url: str, timeout: float) -> "Redis | RedisCluster":
    """A synchronous client of one server or of a cluster; answers are bytes. `timeout`: seconds for one command.

    A cluster is asked for its layout at once: whatever redis-py raises when no node answers comes out of this call.
    Raises UserError for an address that can't be read.
    """
    found = address(url)
    rules: Mapping[str, Any] = {**_rules(timeout), "retry": Retry(NoBackoff(), 0)}
    if not found.is_cluster:
        return Redis.from_url(found.urls[0], **rules)
    options = parse_url(found.urls[0])
    options["ssl"] = options.pop("connection_class", None) is not None
    nodes = [ClusterNode(host, port) for host, port in found.nodes]
    return RedisCluster(startup_nodes=nodes, **{k: v for k, v in options.items() if k not in ("host", "port")}, **rules)


def _rules(timeout: float) -> dict[str, Any]:
    return {"socket_timeout": timeout, "socket_connect_timeout": timeout, "protocol": 2}


def _single(url: str) -> Address:
    if not url.startswith("unix"):
        _refuse_bare_signs(urlsplit(url))
    options = parse_url(url)
    if url.startswith("unix") and not options.get("path"):
        raise _Wrong("it names no socket")
    return Address((url,), is_cluster=False)


def _cluster(scheme: str, rest: str) -> Address:
    parts = urlsplit(f"//{rest}")
    _refuse_bare_signs(parts)
    if parts.path.strip("/") not in ("", "0"):
        raise _Wrong("a cluster has one database alone, number 0")
    login, at, hosts = parts.netloc.rpartition("@")
    query = f"?{parts.query}" if parts.query else ""
    base = scheme.removesuffix(CLUSTER)
    urls = tuple(f"{base}://{login}{at}{host.strip()}{query}" for host in hosts.split(",") if host.strip())
    if not urls:
        raise _Wrong("it names no node")
    for url in urls:
        if not parse_url(url).get("host"):
            raise _Wrong("a node has no host")
    return Address(urls, is_cluster=True)


def _refuse_bare_signs(parts: SplitResult) -> None:
    """Such a sign in a password would end it, and what precedes it would be taken for host and port."""
    if parts.fragment or "@" in f"{parts.path}{parts.query}":
        raise _Wrong("it has a bare #, / or ? in the password")
