"""Data folders of a few listeners with any history: as one file or as daily partitions, for snapshots to be made of."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from features.definitions import SCHEMA

END = datetime(2026, 11, 22, tzinfo=UTC)
DAY = timedelta(days=1)
MOMENT = pa.timestamp("us", "UTC")
EVENTS = pa.schema(
    [
        ("user_id", pa.string()),
        ("at", MOMENT),
        ("type", pa.string()),
        ("item", pa.string()),
        ("amount", pa.float64()),
        ("hour", pa.int64()),
    ]
)
USERS = pa.schema([("user_id", pa.string()), ("signup_at", MOMENT), ("born_at", MOMENT), ("market", pa.string())])

Event = tuple[str, datetime, str, str | None, float | None, int | None]

ARTISTS, OFFERS, NONE = ("abba", "robyn"), ("trial",), (None,)
ITEMS = {
    **{"tier_change": ("free", "basic", "premium"), "session": ("phone", "hifi"), "student": ("yes", "no")},
    **{"consent": ("yes", "no"), "payment": ("ok", "failed"), "trial_start": OFFERS, "family_signal": NONE},
    **dict.fromkeys(("addon_hifi", "addon_audiobooks"), ("on", "off")),
    **dict.fromkeys(("play", "follow", "unfollow", "tour_nearby"), ARTISTS),
    **dict.fromkeys(("impression", "dismiss", "click", "convert"), OFFERS),
    **dict.fromkeys(("ads", "skip_limit"), NONE),
    **dict.fromkeys(("audiobook", "merch_click", "merch_purchase"), ("dune", "tee")),
    "unheard_of": ("x", None),
}
"""What events of each type may name."""


def event(user: str, at: datetime, type: str, item=None, amount=None, hour=None) -> Event:
    return user, at, type, item, amount, hour


@st.composite
def histories(draw: st.DrawFn, days: int = 130, users: Sequence[str] = ("u1", "u2", "stranger")) -> list[Event]:
    """One event and up to forty in that many days before END, many of them at midnight: at the edge of every window."""
    found = [event("u1", END - (days + 1) * DAY, "skip_limit")]  # there is always somebody who is known
    for _ in range(draw(st.integers(0, 40))):
        type = draw(st.sampled_from(tuple(ITEMS)))
        second = draw(st.sampled_from((0, 0, 1, 43_200, 86_399)))
        back = draw(st.one_of(st.integers(1, 8), st.integers(26, 32), st.integers(86, 95), st.integers(1, days)))
        at = END - back * DAY + timedelta(seconds=second, microseconds=draw(st.sampled_from((0, 0, 1, 999_999))))
        amount = draw(st.one_of(st.none(), st.floats(0, 500, allow_nan=False)))
        hour = draw(st.one_of(st.none(), st.integers(0, 23)))
        found.append(event(draw(st.sampled_from(users)), at, type, draw(st.sampled_from(ITEMS[type])), amount, hour))
    return list(dict.fromkeys(found))  # one that stands twice is one


def write_users(data: Path, signups: dict[str, datetime] | None = None) -> None:
    signups = signups or {"u1": END - 400 * DAY, "u2": END - 60 * DAY, "late": END - DAY / 2}
    rows = [{"user_id": u, "signup_at": at, "born_at": END - 9_000 * DAY, "market": "SE"} for u, at in signups.items()]
    data.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, USERS), data / "users.parquet")


def table_of(events: Iterable[Event], schema: pa.Schema = EVENTS) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=False)) for row in events], schema)


def write_dataset(data: Path, until: datetime = END) -> None:
    data.mkdir(parents=True, exist_ok=True)
    told = {"source": "test", "features": SCHEMA.to_json(), "until": until.isoformat()}
    (data / "dataset.json").write_text(json.dumps(told))


def write_one_file(data: Path, events: Iterable[Event], until: datetime = END) -> None:
    """A whole data folder with its events in one file."""
    write_dataset(data, until)
    write_users(data)
    pq.write_table(table_of(events), data / "events.parquet")


def write_days(data: Path, events: Iterable[Event], last: date | None = None) -> None:
    """A data folder with its events in daily partitions: of the days on which something happened, and the last."""
    events = list(events)
    write_dataset(data)
    write_users(data)
    for day in {row[1].date() for row in events} | {last or (END - DAY).date()}:
        write_day(data, day, [row for row in events if row[1].date() == day])


def write_day(data: Path, day: date, events: Iterable[Event], name: str = "part") -> Path:
    folder = data / "events" / f"day={day}"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table_of(events), folder / f"{name}.parquet")
    return folder / f"{name}.parquet"
