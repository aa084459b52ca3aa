"""One batch: gather → merge → apply → positions, in one transaction; and what to do when Postgres does not take it."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as finish
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import TypeVar

import polars as pl
import psycopg
import sqlalchemy.exc
from confluent_kafka import Message
from sqlalchemy import Connection, Engine

from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.registry import SubjectSchemas
from retail_stream.errors import PoisonRecord
from retail_stream.kafka import batches
from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.topics import Group
from retail_stream.waiting import Wait, wait_for
from retail_stream.warehouse import positions, postgres, replays
from retail_stream.warehouse.positions import Position
from services.scd_merger import metrics
from services.scd_merger.dimensions import Dimension, clean_schema
from services.scd_merger.events import changes, understood
from services.scd_merger.merge import Plan, merge
from services.scd_merger.reader import Slice
from services.scd_merger.tables import DimensionTable

T = TypeVar("T")
Batch = Mapping[TopicPartitionKey, Slice]
Owned = Mapping[TopicPartitionKey, Position]

_OUTDATED = 5000
# A large batch is merged in two transactions at a time: while one computes or reads, Postgres writes the other.
_WORTH_LANES = 2000

_REFUSED = (
    PoisonRecord,
    psycopg.DataError,
    psycopg.IntegrityError,
    sqlalchemy.exc.DataError,
    sqlalchemy.exc.IntegrityError,
)


class Merger:
    """Merges batches of clean changes into the dimensions in Postgres."""

    def __init__(
        self,
        engine: Engine,
        dimensions: Iterable[Dimension],
        writers: Mapping[str, SubjectSchemas],
        wait: Wait = wait_for,
    ) -> None:
        """``writers``: topic → its writer schemas. ``wait``: what waits for Postgres; may raise to give up."""
        self._engine, self._writers, self._wait = engine, writers, wait
        self._tables = {d.topic: DimensionTable(d) for d in dimensions}
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="merger")
        self._readers = {topic: RecordSchema(clean_schema(t.dimension.entity)) for topic, t in self._tables.items()}

    def claim(self, places: list[TopicPartitionKey]) -> list[Position]:
        """Become the owner of partitions; a database that is away is waited for.

        Changes that were stored when the declaration knew fewer fields are merged again first.
        """
        for table in self._tables.values():
            while self._transaction(partial(_catch_up, table)):
                pass
        return self._transaction(
            lambda connection: [positions.claim(connection, Group.SCD_MERGER, *place) for place in sorted(places)]
        )

    def take(self, owned: Owned, batch: Batch) -> list[Position]:
        """Merge a batch for good, and return the new positions of its partitions.

        A database that is away is waited for with the batch in hand: merging twice is merging once, so it does not
        matter whether a commit that was cut off had come through.

        Raises:
            Fenced: a partition has another owner; nothing of the batch was stored.
            PoisonRecord: one record cannot be stored; the rest of its partition's batch is stored up to it, and what
                came of other partitions wholly.
        """
        parts = lanes(batch)
        tried = [self._threads.submit(self._try_to_store, owned, part) for part in parts]
        finish(tried)
        moved: list[Position] = []
        refused: dict[TopicPartitionKey, Slice] = {}
        for part, future in zip(parts, tried, strict=True):
            stored = future.result()
            if stored is None:
                refused.update(part)
            else:
                moved += stored
        return moved + self._store_what_can_be(owned, refused)

    def _try_to_store(self, owned: Owned, batch: Batch) -> list[Position] | None:
        try:
            return self._store(owned, batch)
        except _REFUSED:
            return None

    def _store(self, owned: Owned, batch: Batch) -> list[Position]:
        rows = {place: self._rows(owned[place], place, part) for place, part in batch.items()}
        moved = [_moved(owned[place], part, rows[place]) for place, part in batch.items()]

        def write(connection: Connection) -> dict[str, tuple[int, Plan]]:
            plans = {}
            for topic, new in self._incoming(connection, rows).items():
                table = self._tables[topic]
                stored = table.gather(connection, new)
                plans[topic] = new.height, merge(table.dimension, new, stored)
                table.apply(connection, plans[topic][1])
            positions.advance(connection, Group.SCD_MERGER, moved)
            return plans

        plans = self._transaction(write)
        for topic, (events, plan) in plans.items():
            metrics.count(self._tables[topic].dimension, events, plan)
        return moved

    def _incoming(
        self, connection: Connection, rows: Mapping[TopicPartitionKey, pl.DataFrame]
    ) -> dict[str, pl.DataFrame]:
        found: dict[str, list[pl.DataFrame]] = {}
        # In a fixed order, so that two workers never wait for each other's replays in a circle.
        for place, some in sorted(rows.items(), key=itemgetter(0)):
            counted = replays.without_second(connection, Group.SCD_MERGER, place, some)
            if counted.height:
                found.setdefault(place[0], []).append(changes(self._tables[place[0]].dimension, counted, place))
        return {topic: pl.concat(parts) for topic, parts in found.items()}

    def _store_what_can_be(self, owned: Owned, batch: Batch) -> list[Position]:
        moved: list[Position] = []
        poison: PoisonRecord | None = None
        for place, part in batch.items():
            try:
                moved.append(self._bisect(owned[place], place, part))
            except PoisonRecord as e:
                poison = poison or e
        if poison is not None:
            raise poison
        return moved

    def _bisect(self, position: Position, place: TopicPartitionKey, part: Slice) -> Position:
        try:
            return self._store({place: position}, {place: part})[0]
        except _REFUSED as e:
            if len(part.messages) == 1:
                raise _poison(place, part.messages[0], e) from e
            for half in part.halves():
                position = self._bisect(position, place, half)
            return position

    def _rows(self, position: Position, place: TopicPartitionKey, part: Slice) -> pl.DataFrame:
        rows = batches.table(part.messages, self._writers[place[0]], self._readers[place[0]], keep_extra=True)
        return batches.without_repeats(rows, position.source_offset)

    def _transaction(self, write: Callable[[Connection], T]) -> T:
        def attempt() -> T:
            with postgres.outages(self._engine), self._engine.begin() as connection:
                return write(connection)

        return self._wait(attempt)


def lanes(batch: Batch) -> list[Batch]:
    """A large batch in two of about one size, partitions whole and no key in both; any other as it is.

    A key is in one partition, unless the number of partitions was changed: two transactions that change one key do not
    see each other's changes.
    """
    if sum(len(part.messages) for part in batch.values()) < _WORTH_LANES:
        return [batch]
    halves: tuple[dict[TopicPartitionKey, Slice], ...] = ({}, {})
    for place, part in sorted(batch.items(), key=lambda item: -len(item[1].messages)):
        min(halves, key=lambda half: sum(len(p.messages) for p in half.values()))[place] = part
    keys = [{(place[0], m.key()) for place, part in half.items() for m in part.messages} for half in halves]
    return list(halves) if keys[1] and keys[0].isdisjoint(keys[1]) else [batch]


def _catch_up(table: DimensionTable, connection: Connection) -> int:
    outdated = table.outdated(connection, _OUTDATED)
    if outdated.height:
        again = understood(table.dimension, outdated)
        table.apply(connection, merge(table.dimension, again, table.gather(connection, again)))
    return outdated.height


def _moved(position: Position, part: Slice, rows: pl.DataFrame) -> Position:
    next_offset = part.end if part.end is not None else part.messages[-1].offset() + 1
    source_offset = max([position.source_offset, *rows[batches.SOURCE].top_k(1)])
    return replace(position, next_offset=next_offset, source_offset=source_offset)


def _poison(place: TopicPartitionKey, message: Message, error: Exception) -> PoisonRecord:
    if isinstance(error, PoisonRecord):
        return error
    # The driver's text quotes the record; its class says enough.
    why = type(getattr(error, "orig", error)).__name__
    return PoisonRecord(f"{place[0]}/{place[1]}@{message.offset()}: Postgres refuses this record ({why}).")
