"""One batch: gather → merge → apply → positions, in one transaction; and what happens when Postgres refuses it."""

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
from sqlalchemy import Connection, Engine

from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.registry import SubjectSchemas
from retail_stream.errors import PoisonRecord
from retail_stream.kafka import batches
from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.kafka.partition_records import PartitionRecords
from retail_stream.topics import Group
from retail_stream.waiting import Wait, wait_for
from retail_stream.warehouse import positions, postgres, replays
from retail_stream.warehouse.positions import Position
from retail_stream.warehouse.topics_read import TopicsRead
from services.scd_merger import metrics
from services.scd_merger.dimensions import Dimension, clean_schema
from services.scd_merger.events import changes
from services.scd_merger.kept import with_known_fields
from services.scd_merger.lanes import Batch, lanes
from services.scd_merger.merge import Plan, merge
from services.scd_merger.tables import BatchTooLarge, DimensionTable

T = TypeVar("T")
Positions = Mapping[TopicPartitionKey, Position]

# Changes with fields from before their columns, merged again in one transaction.
_OUTDATED = 5000

_REFUSED = (
    PoisonRecord,
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.ProgramLimitExceeded,
    BatchTooLarge,
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
        topics_read: TopicsRead,
        wait: Wait = wait_for,
    ) -> None:
        """``writers``: topic → its writer schemas. ``wait``: what waits for servers; may raise to give up."""
        self._engine, self._writers, self._topics, self._wait = engine, writers, topics_read, wait
        self._tables = {d.topic: DimensionTable(d) for d in dimensions}
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="merger")
        self._readers = {topic: RecordSchema(clean_schema(t.dimension.entity)) for topic, t in self._tables.items()}

    def claim(self, partitions: Iterable[TopicPartitionKey]) -> Positions:
        """Become the owner of partitions and return their stored positions; servers that are away are waited for.

        A topic that was made anew is waited for, too. Changes that were stored when the declaration knew fewer fields
        are merged again first.
        """
        for table in self._tables.values():
            while self._transaction(partial(_merge_outdated, table)):
                pass
        keys = sorted(partitions)

        def attempt() -> Positions:
            look = self._topics.look(keys)
            with postgres.outages(self._engine), self._engine.begin() as connection:
                claimed = {tp: positions.claim(connection, Group.SCD_MERGER, *tp) for tp in keys}
                self._topics.claim(connection, look, claimed.values())
                return claimed

        return self._wait(attempt)

    def store(self, owned: Positions, batch: Batch) -> Positions:
        """Merge a batch, commit it, and return the new positions of its partitions.

        A database that is away is waited for with the batch in hand. A commit whose answer is lost is repeated: to
        merge twice is to merge once.

        Raises:
            Fenced: a partition has another owner; nothing of its transaction was stored.
            TopicMadeAnew: there are repeats, and a topic was deleted and made again.
            PoisonRecord: one record cannot be stored. Its partition is stored up to it, other partitions wholly.
        """
        side_by_side = lanes(batch)
        attempts = [self._threads.submit(self._store_unless_refused, owned, lane) for lane in side_by_side]
        finish(attempts)
        stored: dict[TopicPartitionKey, Position] = {}
        refused: dict[TopicPartitionKey, PartitionRecords] = {}
        for lane, attempt in zip(side_by_side, attempts, strict=True):
            moved = attempt.result()
            if moved is None:
                refused.update(lane)
            else:
                stored.update(moved)
        return stored | self._store_up_to_poison(owned, refused)

    def require_owner(self, owned: Positions) -> None:
        """Check that our partitions are still ours.

        Raises:
            Fenced: another worker owns one of them, or `retail-stream rebuild` has emptied the warehouse.
        """
        self._transaction(lambda connection: positions.require_owner(connection, Group.SCD_MERGER, owned.values()))

    def _store_unless_refused(self, owned: Positions, batch: Batch) -> Positions | None:
        try:
            return self._store(owned, batch)
        except _REFUSED:
            return None

    def _store(self, owned: Positions, batch: Batch) -> Positions:
        rows = {tp: self._rows(owned[tp], tp, records) for tp, records in batch.items() if len(records)}
        moved = {tp: _moved(owned[tp], records, rows.get(tp)) for tp, records in batch.items()}

        def write(connection: Connection) -> dict[str, tuple[int, Plan]]:
            plans = {}
            for topic, new in self._changes(connection, rows).items():
                table = self._tables[topic]
                stored = table.gather(connection, new)
                plans[topic] = new.height, merge(table.dimension, new, stored)
                table.apply(connection, plans[topic][1])
            positions.advance(connection, Group.SCD_MERGER, [(owned[tp], moved[tp]) for tp in moved])
            return plans

        plans = self._transaction(write)
        for topic, (events, plan) in plans.items():
            metrics.count(self._tables[topic].dimension, events, plan)
        return moved

    def _changes(
        self, connection: Connection, rows: Mapping[TopicPartitionKey, pl.DataFrame]
    ) -> dict[str, pl.DataFrame]:
        """The changes of each topic, without second replays of a record."""
        by_topic: dict[str, list[pl.DataFrame]] = {}
        # In a fixed order, so that two workers never wait for each other's replays in a circle.
        for tp, some in sorted(rows.items(), key=itemgetter(0)):
            counted = replays.without_second(connection, Group.SCD_MERGER, tp, some)
            if counted.height:
                by_topic.setdefault(tp[0], []).append(changes(self._tables[tp[0]].dimension, counted, tp))
        return {topic: pl.concat(frames) for topic, frames in by_topic.items()}

    def _store_up_to_poison(self, owned: Positions, batch: Batch) -> dict[TopicPartitionKey, Position]:
        """Store partition by partition what Postgres accepts, then raise the first :class:`PoisonRecord`."""
        moved: dict[TopicPartitionKey, Position] = {}
        poison: PoisonRecord | None = None
        for tp, records in batch.items():
            try:
                moved[tp] = self._bisect(owned[tp], tp, records)
            except PoisonRecord as e:
                poison = poison or e
        if poison is not None:
            raise poison
        return moved

    def _bisect(self, position: Position, tp: TopicPartitionKey, records: PartitionRecords) -> Position:
        try:
            return self._store({tp: position}, {tp: records})[tp]
        except _REFUSED as e:
            if len(records) == 1:
                raise _poison(tp, int(records.pieces[0].offset[0]), e) from e
            for half in records.halves():
                position = self._bisect(position, tp, half)
            return position

    def _rows(self, position: Position, tp: TopicPartitionKey, records: PartitionRecords) -> pl.DataFrame:
        rows = batches.table(records.pieces, self._writers[tp[0]], self._readers[tp[0]], keep_extra=True)
        fresh = batches.without_repeats(rows, position.source_offset)
        self._topics.require_same(repeats=fresh.height < rows.height)
        return fresh

    def _transaction(self, write: Callable[[Connection], T]) -> T:
        def attempt() -> T:
            with postgres.outages(self._engine), self._engine.begin() as connection:
                return write(connection)

        return self._wait(attempt)


def _merge_outdated(table: DimensionTable, connection: Connection) -> int:
    outdated = table.outdated(connection, _OUTDATED)
    if outdated.height:
        again = with_known_fields(table.dimension, outdated)
        table.apply(connection, merge(table.dimension, again, table.gather(connection, again)))
    return outdated.height


def _moved(position: Position, records: PartitionRecords, rows: pl.DataFrame | None) -> Position:
    source_offset = (
        position.source_offset if rows is None else max([position.source_offset, *rows[batches.SOURCE].top_k(1)])
    )
    return replace(position, next_offset=records.end, source_offset=source_offset)


def _poison(tp: TopicPartitionKey, offset: int, error: Exception) -> PoisonRecord:
    if isinstance(error, PoisonRecord):
        return error
    # The driver's text quotes the record; its class says enough.
    why = type(getattr(error, "orig", error)).__name__
    return PoisonRecord(f"{tp[0]}/{tp[1]}@{offset}: Postgres refuses this record ({why}).")
