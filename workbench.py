"""What several verbs need: the catalog, the release and the store of a work folder, put together from the packages."""

import asyncio
import json
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decisioning.catalog import Catalog
from decisioning.catalog_tests import TestFailure
from decisioning.domain import Facts, Request, Value
from decisioning.engine import Release
from decisioning.errors import UserError
from decisioning.yaml_nodes import Problem
from stores.home import Home

if TYPE_CHECKING:
    from features.snapshots import Snapshot
    from scaling.engines import Engine
    from stores.log.decision_log import DecisionRecord

SAMPLE_CATALOG = Path(__file__).resolve().parent / "catalog"


def catalog_folder(home: Home, chosen: Path | None) -> Path:
    """The folder named, else the one in the work folder, else the sample."""
    if chosen is not None:
        return chosen
    return home.catalog if home.catalog.is_dir() else SAMPLE_CATALOG


def load_catalog_of(home: Home, chosen: Path | None) -> Catalog:
    """The checked catalog of that folder."""
    from decisioning.catalog_yaml import load_catalog
    from stores.catalog_files import read_catalog_files

    return load_catalog(read_catalog_files(catalog_folder(home, chosen)))


def catalog_in_use(home: Home, chosen: Path | None) -> Catalog:
    """The catalog of that folder; where none is chosen, that of the release that servers use, if there is one."""
    from stores.releases import ReleaseStore

    in_use = chosen is None and ReleaseStore(home.releases).current()
    return current_release(home).catalog if in_use else load_catalog_of(home, chosen)


def snapshot_of(home: Home, chosen: str | None) -> "Snapshot":
    """The snapshot named by id or by folder, else the current one of the work folder."""
    from features.snapshots import current, read_snapshot

    if chosen is None:
        return current(home.snapshots)
    folder = Path(chosen)
    return read_snapshot(folder if folder.is_dir() else home.snapshots / chosen)


def check_catalog_of(
    home: Home, chosen: Path | None, now: float
) -> tuple[Catalog, tuple[TestFailure, ...], tuple[Problem, ...]]:
    """The checked catalog of that folder, what fails of its own tests, and its warnings as of now."""
    from decisioning.catalog_tests import run_tests
    from decisioning.catalog_yaml import check_catalog
    from stores.catalog_files import read_catalog_files

    catalog, warnings = check_catalog(read_catalog_files(catalog_folder(home, chosen)), now)
    return catalog, run_tests(catalog), warnings


@contextmanager
def online_store(home: Home, redis_url: str | None) -> Iterator[str]:
    """The address of the store: the one given, or the embedded server for as long as this lasts."""
    if redis_url:
        from stores.connect import address

        address(redis_url)  # one that can't be read is told before any work begins
        yield redis_url
        return
    from stores.embedded import running

    with running(home.valkey) as url:
        yield url


@contextmanager
def visitors_key(home: Home, who: str, now: float) -> Iterator[str | None]:
    """An API key for as long as this lasts, where servers of this work folder ask for one; else None."""
    from stores.api_keys import SCOPES
    from stores.key_file import KeyFile

    if not home.keys.exists():
        yield None
        return
    keys, name = KeyFile(home.keys), f"visitor-{uuid.uuid4().hex[:8]}"
    issued = keys.add(name, list(SCOPES), expires_at=now + 86_400.0, who=who, now=now)
    try:
        yield issued.text
    finally:
        keys.revoke(name)


def current_release(home: Home) -> Release:
    """The release that the servers use now."""
    from stores.releases import ReleaseStore

    releases = ReleaseStore(home.releases)
    current = releases.current()
    if current is None:
        raise UserError(f"There is no release in {home.releases} yet: run `segue train`, then `segue promote`.")
    return releases.load(current)


def read_user(home: Home, url: str, catalog: Catalog, request: Request) -> tuple[Facts, bytes | None]:
    """What the online store knows of a request's user; and the answer that it gave to the same sticky decision."""
    from features.schema import Schema
    from stores.online.port import StoreDown
    from stores.online.redis_store import RedisStore

    again = bool(catalog.surfaces[request.surface].sticky)

    async def read() -> tuple[Facts, bytes | None]:
        store = RedisStore(url, timeout=2.0, namespace=home.namespace)
        budgets = [budget.name for budget in catalog.budgets]
        before = request.decision_id if again else None
        try:
            facts = await store.read(request.user, Schema.of(catalog.features), budgets, before)
            return facts, await store.recall(request.user, before) if before else None
        finally:
            await store.close()

    try:
        return asyncio.run(read())
    except StoreDown as error:
        raise UserError(f"The online store can't be read ({error}): start it, or leave --redis-url out.") from None


def read_context(catalog: Catalog, words: Sequence[str]) -> dict[str, Value]:
    """`name=value` words as the context of a request, by the same rules as the API's.

    Where the API would leave out a value that the catalog doesn't declare, a person is told.
    """
    from features.context import ContextReader
    from serving.context import read_context
    from serving.errors import ApiError

    sent = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise UserError(f"--context takes name=value, and not {word}.")
        if name not in catalog.features or not catalog.features[name].from_context:
            known = ", ".join(sorted(spec.name for spec in catalog.features.values() if spec.from_context))
            raise UserError(f"The context has no {name}. The catalog declares: {known or 'nothing'}.")
        try:
            sent[name] = json.loads(text)
        except ValueError:
            sent[name] = text
    try:
        values, _ = read_context(ContextReader(catalog), sent)
    except ApiError as error:
        raise UserError(str(error)) from None
    for name, value in sent.items():
        declared, said = catalog.features[name].values, value if isinstance(value, list) else [value]
        if declared and value is not None and not {*said} <= {*declared}:
            raise UserError(f"{name} can't be {value}. The catalog declares: {', '.join(declared)}.")
    return values


def switch_offer(home: Home, url: str, offer: str, *, kill: bool, who: str, why: str, now: float) -> dict[str, Any]:
    """Turns an offer off or on again on the store at `url`. The name has to be one of the release in use."""
    from decisioning.yaml_nodes import did_you_mean
    from stores.online.switches import Flip, flip, killed
    from stores.releases import ReleaseStore

    in_use = ReleaseStore(home.releases).current()
    catalog = catalog_in_use(home, None)
    # An offer that was turned off and has left the catalog since can be turned on again.
    known = {*catalog.offers} if kill else {*catalog.offers, *killed(url, home.namespace)}
    if offer not in known:
        where = f"release {in_use}" if in_use else "the catalog"
        raise UserError(f'There is no offer "{offer}" in {where}. {did_you_mean(offer, known)}'.rstrip())
    changed = flip(url, home.namespace, home.switches, Flip(offer, kill, who, why, now))
    return {"offer": offer, "killed": kill, "changed": changed}


def killed_offers(home: Home, url: str) -> list[dict[str, Any]]:
    """The offers that are off now, with who turned them off, when and why, as far as this work folder knows."""
    from stores.online.switches import flips, killed

    last = {one.offer: one for one in flips(home.switches) if one.killed}
    rows = []
    for offer in sorted(killed(url, home.namespace)):
        known = last.get(offer)
        at = datetime.fromtimestamp(known.at, UTC).isoformat(timespec="seconds") if known else None
        who, why = (known.who, known.why) if known else (None, None)
        rows.append({"offer": offer, "at": at, "who": who, "why": why})
    return rows


def release_of(home: Home, release: str) -> Release:
    """A release by the id that a decision names: a published one, or the bare rules of a catalog folder."""
    from decisioning.catalog_yaml import load_catalog
    from stores.catalog_files import read_catalog_files
    from stores.releases import ReleaseStore

    if not release.startswith("catalog-"):
        return ReleaseStore(home.releases).load(release)
    for folder in (home.catalog, SAMPLE_CATALOG):
        if folder.is_dir():
            catalog = load_catalog(read_catalog_files(folder))
            if release == f"catalog-{catalog.hash[:12]}":
                return Release(release, catalog)
    raise UserError(f"The catalog that made {release} has changed since: promote it, so that it is kept as a release.")


def replay_log(
    home: Home,
    last: str,
    progress: Callable[[int, int], object] = lambda done, total: None,
    engine: "Engine | None" = None,
) -> dict[str, Any]:
    """Replays the decision log (`last`: a number of decisions, 7d, 24h, all), and checks it against its policies."""
    from evaluation.recorded import replay
    from scaling.local import HERE

    load = partial(release_of, home)
    report = replay.replay_log(home.logs / "decisions", load, last, engine=engine or HERE, progress=progress)
    return {
        "decisions": report.decisions,
        "identical": report.identical,
        "different": list(report.different),
        "unloadable_releases": list(report.unloadable),
        "log": list(report.log.problems()) or "ok",
        "ok": report.ok,
    }


def logged_decision(home: Home, decision_id: str) -> "DecisionRecord":
    """A decision as the log has it: the latest of its records, where a sticky one was corrected."""
    from stores.log.decision_log import decode
    from stores.log.reader import read

    named = decision_id.encode()
    records = [decode(line) for line in read(home.logs / "decisions") if named in line]
    found = [record for record in records if record.decision.decision_id == decision_id]
    if not found:
        raise UserError(f"The log in {home.logs / 'decisions'} has no decision {decision_id}.")
    return sorted(found, key=lambda record: record.request.now)[-1]


def free_port(wanted: int | None, default: int = 8080) -> int:
    """The port wanted; where none is, the default if it is free on this machine, or else 0 for any."""
    if wanted is not None:
        return wanted
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", default))
        except OSError:
            return 0
    return default
