"""What the processes of a batch open for themselves: a release, and the online store."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from decisioning.engine import Release
from decisioning.errors import UserError
from features.schema import Schema
from stores.home import Home
from stores.online.port import OnlineStore, StoreDown
from workbench import current_release, online_store, release_of

TIMEOUT = 30.0
"""Seconds that a batch waits for the store: longer than any request may."""

Load = Callable[[], Release]
OpenStore = Callable[[], OnlineStore]


def release_loader(home: Home, release: str | None, model: str | None = None, version: str | None = None) -> Load:
    """What loads a release (by default the one in use) in any process; of a model, another version where one is named.

    Raises UserError where there is none, or the version doesn't fit the release's catalog.
    """
    load = partial(release_of, home, current_release(home).id if release is None else release)
    if version is None:
        return load
    from evaluation.batch.versions import Tried
    from evaluation.gate.lines import refused
    from models import artifact
    from stores.registry import Registry
    from training.evaluate import version_number
    from training.prepare import model_name
    from training.release_files import fits_catalog

    registry, loaded = Registry(home.mlflow_uri, home.artifacts), load()
    name = model_name(loaded.catalog, model)
    number = version_number(registry, name, version)
    files = registry.files(name, number)
    failed = refused(fits_catalog(loaded.catalog, artifact.load(files), loaded.scorers.keys()), force=True)
    if failed:
        raise UserError("\n".join([f"{name}/{number} can't score for release {loaded.id}:", *map(str, failed)]))
    return Tried(load, files)


@contextmanager
def store_opener(home: Home, redis_url: str | None, *, without: bool) -> Iterator[OpenStore]:
    """What opens the online store in any process. `without` one, offers that are known to be switched off stay off.

    Raises UserError where the store doesn't answer.
    """
    from evaluation.batch.without_store import WithoutStore
    from stores.online.redis_store import RedisStore
    from stores.online.switches import flips

    if without:
        last = {flip.offer: flip.killed for flip in flips(home.switches)}
        yield WithoutStore(frozenset(offer for offer, is_off in last.items() if is_off))
        return
    with online_store(home, redis_url) as url:
        open_store = partial(RedisStore, url, timeout=TIMEOUT, namespace=home.namespace)
        try:
            asyncio.run(_probe(open_store))
        except StoreDown as error:
            raise UserError(
                f"The online store doesn't answer ({error}): start it, or say --without-store, so that every cap and "
                "hard budget counts as reached."
            ) from None
        yield open_store


async def _probe(open_store: OpenStore) -> None:
    store = open_store()
    try:
        await store.read("nobody", Schema(()))
    finally:
        await store.close()
