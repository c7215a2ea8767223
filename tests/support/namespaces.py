"""A namespace of one's own on a server that others use too, and nothing left of it afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from secrets import token_hex

from stores.connect import connect


@contextmanager
def namespace(*urls: str) -> Iterator[str]:
    """Names may be added behind it: all keys that begin with it go."""
    name = f"test-{token_hex(6)}"
    try:
        yield name
    finally:
        for url in urls:
            with connect(url, timeout=5.0) as client:
                for key in client.scan_iter(f"{name}*", count=1000):
                    client.delete(key)
