"""The aggregator's state in Postgres: read under one lock, written back in one transaction.

Every transaction that changes this state first locks the row of ``stream_watermark``. So replicas take turns and agree
on what has fired, and the ids of the outbox are in commit order.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import polars as pl
from sqlalchemy import Connection, Engine, text

from retail_stream.errors import Fenced, Locked
from retail_stream.waiting import Outage, Wait
from retail_stream.warehouse import postgres
from services.aggregator.declared import CENTS
from services.aggregator.totals import ID, REVISION, SIZE, START, STATE, WINDOW_KEY, Grouping
from services.aggregator.watermark import Stream, Watermark
from services.aggregator.windows import SECOND

T = TypeVar("T")

#: How long a partition stays idle in the eyes of other workers; its owner renews that with every tick.
LEASE = timedelta(seconds=10)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: Microseconds since 1970 of the first and the last moment that Postgres and Python both have: the years 1 to 9999.
FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def instant(micros: Watermark) -> datetime | None:
    """Microseconds since 1970 as a timestamp for Postgres, limited to the years 1 to 9999."""
    return None if micros is None else _EPOCH + min(max(micros, FIRST), LAST) * _MICROSECOND


def micros(instant: datetime | None) -> Watermark:
    """The inverse of :func:`instant`."""
    return None if instant is None else (instant - _EPOCH) // _MICROSECOND


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction: commits at the end, rolls back on any exception.

    Raises:
        Unavailable: the server is away or went away; whether the transaction was committed is not known.
    """
    with postgres.outages(engine), engine.begin() as connection:
        yield connection


def when_free(action: Callable[[], T], wait: Wait) -> T:
    """Call ``action``, a transaction, until no other session keeps a lock that it needs.

    A lock that a peer holds is no outage: to start over would read the batch again, and the peer's turn comes with
    every batch. ``wait``: raises to give up.
    """
    outage = Outage()
    while True:
        try:
            result = action()
        except Locked as e:
            outage.says(str(e))
            wait(lambda: None)
        else:
            outage.ends()
            return result


@dataclass(frozen=True)
class StoredState:
    """The stored watermarks, of all partitions.

    ``idle``: partitions whose lease of idleness is valid at ``now``, microseconds on the database's clock.
    ``settings``: the stored settings that shape results.
    """

    stream: Stream
    watermarks: Mapping[int, Watermark]
    epochs: Mapping[int, int]
    idle: frozenset[int]
    now: int
    settings: Mapping[str, str]


def lock(connection: Connection, topic: str) -> StoredState:
    """Wait for the lock, take it until the transaction ends, and read the watermarks."""
    # The statements of a batch are few and known; without statistics the planner would guess scans of whole tables.
    connection.execute(text("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL jit = off"))
    mark, advanced = connection.execute(
        text("SELECT watermark, advanced_at FROM stream_watermark WHERE topic = :topic FOR UPDATE"), {"topic": topic}
    ).one()
    # A second statement, so that it sees the rows as the last holder of the lock left them, and the clock after it.
    rows = connection.execute(
        text(
            "SELECT partition, epoch, watermark, idle AND idle_until > clock_timestamp() FROM partition_watermarks "
            "WHERE topic = :topic ORDER BY partition"
        ),
        {"topic": topic},
    ).all()
    now, settings = connection.execute(
        text("SELECT clock_timestamp(), (SELECT json_object_agg(name, value) FROM stored_settings)")
    ).one()
    return StoredState(
        Stream(micros(mark), micros(advanced)),
        {p: micros(w) for p, _, w, _ in rows},
        {p: epoch for p, epoch, _, _ in rows},
        frozenset(p for p, _, _, idle in rows if idle),
        micros(now),  # type: ignore[arg-type]
        settings or {},
    )


def save_watermarks(
    connection: Connection,
    topic: str,
    before: StoredState,
    stream: Stream,
    watermarks: Mapping[int, Watermark],
    epochs: Mapping[int, int],
    idle: Iterable[int],
) -> None:
    """Write the watermarks of our partitions and of the stream; renew the leases of our ``idle`` partitions.

    ``epochs``: of our partitions, as claimed.

    Raises:
        Fenced: another worker owns one of the partitions.
    """
    idle = set(idle)
    for partition, mark in sorted(watermarks.items()):
        if before.epochs.get(partition) != epochs[partition]:
            raise Fenced(f"{topic}/{partition} has another owner than epoch {epochs[partition]}.")
        if mark == before.watermarks[partition] and partition not in idle | before.idle:
            continue
        connection.execute(
            text(
                "UPDATE partition_watermarks SET watermark = :mark, idle = :idle, idle_until = :until "
                "WHERE topic = :topic AND partition = :partition"
            ),
            {
                "topic": topic,
                "partition": partition,
                "mark": instant(mark),
                "idle": partition in idle,
                "until": instant(before.now) + LEASE if partition in idle else None,  # type: ignore[operator]
            },
        )
    if stream != before.stream:
        connection.execute(
            text("UPDATE stream_watermark SET watermark = :mark, advanced_at = :at WHERE topic = :topic"),
            {"topic": topic, "mark": instant(stream.watermark), "at": instant(stream.advanced_at)},
        )


def window_rows(
    connection: Connection, grouping: Grouping, touched: pl.DataFrame, past: Watermark, lateness: int
) -> pl.DataFrame:
    """Stored window rows of a grouping (its ``rows``) that have a key of ``touched`` or are due.

    ``past``: the stream's watermark, in microseconds; None if no window can be due. ``lateness``: microseconds.
    """
    table, column = grouping.declared.table, grouping.declared.by
    frames = []
    if touched.height:
        query = f"""
            FROM unnest(%s::bigint[], %s::bigint[], %s::{_array_type(grouping)}) AS k (size, start, id)
            JOIN {table} w ON w.window_size = make_interval(secs => k.size)
                AND w.window_start = to_timestamp(k.start) AND w.{column} = k.id
        """
        frames.append(_read(connection, grouping, query, _keys(touched)))
    for state, time in (("open", past), ("fired", None if past is None else past - lateness)):
        if time is not None:
            due = f"FROM {table} w WHERE state = '{state}' AND window_end <= %s"
            frames.append(_read(connection, grouping, due, [instant(time)]))
    found = [frame for frame in frames if frame.height]
    if len(found) > 1:
        return pl.concat(found).unique(WINDOW_KEY)
    return found[0] if found else pl.DataFrame(schema=grouping.rows)


def save_windows(connection: Connection, grouping: Grouping, rows: pl.DataFrame, now: int) -> None:
    """Insert or update window rows of a grouping (its ``rows``), in key order; ``now``: microseconds."""
    if rows.is_empty():
        return
    table, column, measures = grouping.declared.table, grouping.declared.by, grouping.measures
    sums = "".join(f"{m} * 0.01, " if m in CENTS else f"{m}, " for m in measures)
    names = [*measures, "revision", "state", "updated_at"]
    postgres.cursor(connection).execute(
        f"""
        INSERT INTO {table} (window_size, window_start, window_end, {column}, {", ".join(names)})
        SELECT make_interval(secs => size), to_timestamp(start), to_timestamp(start + size), id,
               {sums}revision, state, %s
        FROM unnest(%s::bigint[], %s::bigint[], %s::{_array_type(grouping)}, {"%s::bigint[], " * len(measures)}
                    %s::integer[], %s::text[])
            AS r (size, start, id, {"".join(f"{m}, " for m in measures)}revision, state)
        ON CONFLICT (window_size, window_start, {column}) DO UPDATE
        SET {", ".join(f"{n} = EXCLUDED.{n}" for n in names)}
        """,
        [instant(now), *_keys(rows), *(_array(rows[c]) for c in (*measures, REVISION, STATE))],
    )


def _array_type(grouping: Grouping) -> str:
    return {"int": "integer[]", "long": "bigint[]", "string": "text[]"}[grouping.declared.holds]


def _keys(rows: pl.DataFrame) -> list[object]:
    """The columns of the key as parameters; sizes and starts in seconds, exact for the bounds of windows."""
    ids = rows[ID]
    # The driver quotes texts; a literal of numbers is quicker.
    return [
        *(_array(rows[c] // SECOND) for c in (SIZE, START)),
        ids.to_list() if ids.dtype == pl.String else _array(ids),
    ]


def _array(column: pl.Series) -> str:
    """A column of numbers or states as a literal of a Postgres array."""
    return "{" + str(column.cast(pl.String).str.join(",").item()) + "}"


def _read(connection: Connection, grouping: Grouping, source: str, parameters: list[object]) -> pl.DataFrame:
    sums = "".join(f"(w.{m} * 100)::bigint, " if m in CENTS else f"w.{m}, " for m in grouping.measures)
    column = f"w.{grouping.declared.by}"
    # In hex, a text is the same in any format.
    number = f"encode(convert_to({column}, 'UTF8'), 'hex')" if grouping.is_text else column
    statement = f"""
        COPY (SELECT (extract(epoch FROM w.window_size) * {SECOND})::bigint,
                     (extract(epoch FROM w.window_start) * {SECOND})::bigint,
                     {number}, {sums}w.revision, w.state {source}) TO STDOUT (FORMAT csv)
    """
    with postgres.cursor(connection) as cursor, cursor.copy(statement, parameters) as rows:
        content = b"".join(bytes(block) for block in rows)
    if not content:
        return pl.DataFrame(schema=grouping.rows)
    frame = pl.read_csv(io.BytesIO(content), has_header=False, schema=grouping.rows)
    # An empty text may be read as null.
    return frame.with_columns(pl.col(ID).fill_null("").str.decode("hex").cast(pl.String)) if grouping.is_text else frame
