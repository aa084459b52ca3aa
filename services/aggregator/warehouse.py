"""The aggregator's state in Postgres: read under one lock, written back in one transaction.

Every transaction that changes this state first locks the row of ``stream_watermark``. So replicas take turns and agree
on what has fired, and the ids of the outbox are in commit order.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from sqlalchemy import Connection, Engine, text

from retail_stream.errors import Fenced, Locked
from retail_stream.waiting import Outage, Wait
from retail_stream.warehouse import postgres
from services.aggregator.watermark import Stream, Watermark

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
