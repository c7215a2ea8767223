"""Trials of releases and of wild work, in a process of one thread: what `serving.processes.cage` needs, unlike pytest.

`python trials.py FOLDER` prints, as JSON, why each was refused (null: it was not).
"""

import ctypes
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import phones

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.errors import UserError
from features.schema import Schema
from models.artifact import Model, record_golden
from models.calibration import Platt
from serving.processes.cage import refusal
from serving.processes.scout import caged
from stores.releases import ReleaseStore

CUTS, FLIPS = 20, 15


def damages(good: bytes) -> Iterator[tuple[str, bytes]]:
    """45 ways in which a text model comes out of a bad disk or a broken copy."""
    for n in range(CUTS):
        yield f"cut {n}", good[: len(good) * n // CUTS]
    for n in range(FLIPS):
        place = len(good) * (2 * n + 1) // (2 * FLIPS)
        yield f"flip {n}", good[:place] + bytes([good[place] ^ 0x15]) + good[place + 1 :]
    digits = [place for place, byte in enumerate(good) if byte in b"123456789"]
    for n in range(5):
        place = digits[len(digits) * (n + 1) // 6]
        yield f"digit {n}", good[:place] + b"9" * 30 + good[place + 1 :]
    yield "zeros", good[:3000] + bytes(500) + good[3500:]
    yield "twice", good + good
    yield "nan", good.replace(b"leaf_value=", b"leaf_value=nan ", 1)
    yield "endless leaves", good.replace(b"num_leaves=", b"num_leaves=9999999999", 1)
    yield "a circle", good.replace(b"left_child=", b"left_child=0 0 0 0 0 0 0 0 ", 1)


def agreeing(files: dict[str, bytes], text: bytes) -> dict[str, bytes]:
    """The files of a model with this text and a digest of it, as if it had been trained so."""
    told = json.loads(files["model.json"])
    told["files"] = {"model.txt": sha256(text).hexdigest()}
    return {**files, "model.txt": text, "model.json": json.dumps(told).encode()}


class Bench:
    """Publishes releases and tries them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._releases = folder, ReleaseStore(folder)

    def publish(self, model: dict[str, bytes], catalog: bytes = phones.CATALOG, **more: bytes) -> str:
        files = {**phones.release_files(model, catalog), **more}
        return self._releases.publish(files, who="t", why="t", now=0.0)

    def why(self, model: dict[str, bytes], catalog: bytes = phones.CATALOG, **more: bytes) -> str | None:
        return caged(self._releases, self.publish(model, catalog, **more))

    def answers(self, model: dict[str, bytes]) -> list[object]:
        """What the model says of the golden rows."""
        loaded = self._releases.load(self.publish(model)).scorers["upsell"]
        return [loaded.score(row.features, row.surface, row.offers) for row in phones.fitted().golden]


def of_damages_on_disk(bench: Bench) -> dict[str, object]:
    """What happens to a release after it was published."""
    good = phones.saved()
    release = bench.publish(good)
    file = bench.folder / release / "models" / "upsell" / "model.txt"
    found: dict[str, object] = {}
    for name, text in [*damages(good["model.txt"]), ("mended", good["model.txt"])]:
        file.write_bytes(text)
        found[name] = caged(ReleaseStore(bench.folder), release)
    return found


def of_damages(bench: Bench) -> dict[str, object]:
    """What happened before, so that every digest agrees."""
    good = phones.saved()
    expected = bench.answers(good)
    found: dict[str, object] = {"good": bench.why(good)}
    for name, text in damages(good["model.txt"]):
        damaged = agreeing(good, text)
        why = bench.why(damaged)
        found[name] = why if why is not None or bench.answers(damaged) == expected else "WRONG AND NOT REFUSED"
    return found


def of_models(bench: Bench) -> dict[str, object]:
    good = phones.fitted()
    golden = [(row.features, row.surface) for row in good.golden]

    def told(model: Model) -> str | None:
        return bench.why(phones.saved(record_golden(model, golden)))

    text = phones.saved()
    schema = json.dumps(Schema.of([FeatureSpec("visits", FeatureType.INT)]).to_json()).encode()
    return {
        "slope of NaN": bench.why(_with(text, calibration={"kind": "platt", "slope": None, "intercept": 0.0})),
        "NaN": bench.why(_with(text, calibration={"kind": "platt", "slope": math.nan, "intercept": 0.0})),
        "NaN, as recorded": bench.why(_without_a_number(text)),
        "all alike": told(replace(good, calibration=Platt(0.0, 0.3))),
        "all alike, of no weight": told(replace(good, calibration=Platt(0.0, 0.3), shrinkage=0.0)),
        "other values": bench.why(text, phones.CATALOG.replace(b"[phone, tv]", b"[tv, phone]")),
        "other type": bench.why(text, phones.CATALOG.replace(b"type: float", b"type: int")),
        "other schema": bench.why(text, phones.CATALOG + b"\n", **{"schema.json": schema}),
        "other columns": bench.why(_with(text, surfaces=["banner", "shelf"])),
        "no offer left": bench.why(text, phones.CATALOG.replace(b"generic}", b"nobody}")),
    }


def _without_a_number(files: dict[str, bytes]) -> dict[str, bytes]:
    """A model of NaN that recorded what comes of it: the mean for everybody."""
    golden = [{**row, "p": [0.5] * len(row["p"])} for row in json.loads(files["model.json"])["golden"]]
    return _with(files, calibration={"kind": "platt", "slope": math.nan, "intercept": 0.0}, golden=golden)


def _with(files: dict[str, bytes], **other: object) -> dict[str, bytes]:
    return {**files, "model.json": json.dumps({**json.loads(files["model.json"]), **other}).encode()}


def of_work() -> dict[str, object]:
    def crash() -> None:
        ctypes.string_at(0)

    def flood() -> None:
        kept = [bytearray(2**26) for _ in range(64)]
        raise UserError(f"it got {len(kept)} times 64 MB")

    def refuse() -> None:
        raise UserError("No.")

    def vanish() -> None:
        os._exit(3)

    def deaf() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)

    works: dict[str, Callable[[], object]] = {
        "well": lambda: 1,
        "crash": crash,
        "flood": flood,
        "refuse": refuse,
        "vanish": vanish,
        "bug": lambda: [][1],
        "deep": lambda: json.loads("[" * 200_000),
    }
    found: dict[str, object] = {name: refusal(work, memory=2**28) for name, work in works.items()}
    return {**found, "hang": refusal(deaf, seconds=0.5)}


if __name__ == "__main__":
    bench = Bench(Path(sys.argv[1]))
    found = {
        "on disk": of_damages_on_disk(bench),
        "before": of_damages(bench),
        "models": of_models(bench),
        "work": of_work(),
    }
    print(json.dumps(found))
