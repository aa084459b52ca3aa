"""One batch of clean sales: gather → decide → apply → positions, in one transaction."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import polars as pl
from sqlalchemy import Connection, Engine

from retail_stream import topics
from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.registry import SubjectSchemas
from retail_stream.entities import Entity
from retail_stream.kafka import batches
from retail_stream.kafka.offsets import TopicPartitionKey, topic_partitions
from retail_stream.kafka.partition_records import PartitionRecords
from retail_stream.topics import Group
from retail_stream.waiting import Wait, wait_for
from retail_stream.warehouse import positions, replays
from retail_stream.warehouse.positions import Position
from retail_stream.warehouse.topics_read import TopicsRead
from services.aggregator import (
    facts,
    identities,
    late,
    lifecycle,
    outbox,
    ownership,
    revisions,
    sessions,
    settings,
    warehouse,
    window_rows,
    windows,
)
from services.aggregator.ownership import OwnedPartition
from services.aggregator.step import PartitionBatch, Step, StreamState, step

CLEAN = topics.clean(Entity.SALES)
_NUMBERS = dict.fromkeys((batches.OFFSET, batches.SOURCE, batches.TIMESTAMP), pl.Int64())


@dataclass(frozen=True)
class Applied:
    """A batch that is committed.

    ``owned``: our partitions after it. ``facts``: how many were stored. ``results``: how many went to `sales.windows`,
    by grouping and outcome. ``published``: whether the outbox grew.
    """

    owned: Mapping[TopicPartitionKey, OwnedPartition]
    step: Step
    facts: int
    results: Mapping[str, Mapping[lifecycle.Outcome, int]]
    published: bool


class Aggregator:
    """Stores batches of clean sales in Postgres, as windows, facts and records for the outbox."""

    def __init__(
        self,
        engine: Engine,
        config: settings.AggregatorSettings,
        encoder: outbox.Encoder,
        writers: SubjectSchemas,
        rise_writers: SubjectSchemas,
        topics_read: TopicsRead,
        published: Callable[[], None] = lambda: None,
        wait: Wait = wait_for,
    ) -> None:
        """``writers``, ``rise_writers``: schemas of `sales.clean` and `sales.watermarks`.

        ``published``: called when a committed transaction has put records into the outbox. ``wait``: what a claim waits
        for servers with, and a transaction for locks; may raise to give up.
        """
        self._engine, self._settings, self._encoder = engine, config, encoder
        self._writers, self._rise_writers, self._topics = writers, rise_writers, topics_read
        self._published, self._wait = published, wait
        self._sale = RecordSchema(topics.topic(CLEAN).schema())
        self._columns = {**_NUMBERS, batches.REPLAY_OF: pl.Binary(), batches.EXTRA: pl.String(), **self._sale.columns}

    def claim(self, partitions: Iterable[TopicPartitionKey]) -> Mapping[TopicPartitionKey, OwnedPartition]:
        """Become the owner of partitions and return what is stored of them; servers that are away are waited for.

        An empty warehouse takes over the rises that an earlier one recorded. A topic that was made anew is waited for.
        """
        return self._wait(lambda: warehouse.when_free(lambda: self._claim(partitions), self._wait))

    def _claim(self, partitions: Iterable[TopicPartitionKey]) -> Mapping[TopicPartitionKey, OwnedPartition]:
        with warehouse.transaction(self._engine) as connection:
            fresh = ownership.is_fresh(connection, CLEAN)
        rises = ownership.read_recorded_rises(self._settings, self._rise_writers) if fresh else []
        everywhere = [p for _, p in topic_partitions(self._settings, CLEAN)]
        look = self._topics.look(partitions)
        with warehouse.transaction(self._engine) as connection:
            ownership.ensure_rows(connection, CLEAN, everywhere)
            owned = ownership.claim(connection, CLEAN, [p for _, p in partitions], rises, self._encoder)
            self._topics.claim(connection, look, [o.position for o in owned.values()])
        self._published()
        return {o.position.key: o for o in owned.values()}

    def rows(self, records: Mapping[TopicPartitionKey, PartitionRecords]) -> Mapping[int, pl.DataFrame]:
        """The records of each partition as columns, repeats included; as :func:`batches.table`."""
        return {
            p: batches.table(r.pieces, self._writers, self._sale, keep_extra=True)
            for (_, p), r in records.items()
            if len(r)
        }

    def store(
        self,
        owned: Mapping[TopicPartitionKey, OwnedPartition],
        records: Mapping[TopicPartitionKey, PartitionRecords],
        rows: Mapping[int, pl.DataFrame],
        idle: frozenset[int],
    ) -> Applied:
        """Store a batch and the passing of time, in one transaction.

        ``owned``: all our partitions. ``records``, ``rows``: the batch, of some of them. ``idle``: those that have been
        quiet for the idle timeout.

        Raises:
            Fenced: another worker owns one of the partitions; the transaction was rolled back.
            SettingsError: a replica that began with the same empty warehouse has stored other settings.
            Unavailable: Postgres does not answer; whether the transaction was committed is not known.
            TopicMadeAnew: there are repeats, and a topic was deleted and made again; nothing was stored.
            Exception: what ``wait`` raised while another session kept a lock; nothing was stored.
        """
        ours = {p: o for (_, p), o in owned.items()}
        read = {p: r for (_, p), r in records.items()}
        batch = {p: self._batch(o, read.get(p), rows.get(p)) for p, o in ours.items()}

        def attempt() -> Applied:
            with warehouse.transaction(self._engine) as connection:
                return self._apply(connection, ours, batch, read, idle)

        applied = warehouse.when_free(attempt, self._wait)
        if applied.published:
            self._published()
        return applied

    def _apply(
        self,
        connection: Connection,
        owned: Mapping[int, OwnedPartition],
        batch: Mapping[int, PartitionBatch],
        records: Mapping[int, PartitionRecords],
        idle: frozenset[int],
    ) -> Applied:
        rules = self._settings.rules
        # gather
        before = warehouse.lock(connection, CLEAN)
        settings.compare(before.settings, self._settings.shaping)
        # A partition that got any record, even a second replay, is not idle.
        our_idle = (idle & owned.keys()) - {p for p, b in batch.items() if b.rows.height}
        counted = {
            p: replace(b, rows=replays.without_second(connection, Group.AGGREGATOR, (CLEAN, p), b.rows))
            for p, b in batch.items()
        }
        all_idle = (before.idle - owned.keys()) | our_idle
        held = {p: identities.gather(connection, o.held, counted[p].rows) for p, o in owned.items()}
        state = StreamState(before.watermarks, all_idle, before.stream, held)
        # decide
        did = step(counted, state, before.now, rules)
        past = did.stream.watermark
        stored = {
            g: window_rows.read(
                connection,
                g,
                did.deltas[g.name],
                past if windows.may_be_due(g.windows, rules.lateness, before.stream.watermark, past) else None,
                rules.lateness,
            )
            for g in rules.groupings
        }
        updates = {
            g: (sessions.update_sessions if g.is_session else lifecycle.update_windows)(
                s, did.deltas[g.name], past, rules.lateness
            )
            for g, s in stored.items()
        }
        # apply
        for grouping, update in updates.items():
            window_rows.delete(connection, grouping, update.gone)
            window_rows.save(connection, grouping, update.rows, before.now)
            revisions.store(connection, grouping, update.results, before.now)
        new_facts = facts.store(connection, did.sales) if self._settings.fact_sales == "on" else 0
        late.store(connection, did.sales, rules)
        saved = {p: identities.save(connection, p, held[p], after) for p, after in sorted(did.held.items())}
        published = outbox.put(
            connection,
            [
                *self._encoder.rises(did.rises, before.now),
                *self._encoder.late(did.sales, records),
                *(r for g, update in updates.items() for r in self._encoder.windows(g, update.results, before.now)),
            ],
        )
        epochs = {p: o.position.epoch for p, o in owned.items()}
        warehouse.save_watermarks(connection, CLEAN, before, did.stream, did.watermarks, epochs, our_idle)
        moved = {p: _moved(o.position, batch[p]) for p, o in owned.items()}
        moves = [(owned[p].position, q) for p, q in moved.items() if q != owned[p].position]
        positions.advance(connection, Group.AGGREGATOR, moves)
        for p, b in batch.items():
            if b.recorded_rises:
                ownership.forget_rises(connection, p, b.end)
        now_owned = {
            moved[p].key: OwnedPartition(moved[p], saved[p], o.recorded_rises[len(batch[p].recorded_rises) :])
            for p, o in owned.items()
        }
        results = {g.name: lifecycle.outcomes(update.results) for g, update in updates.items()}
        return Applied(now_owned, did, new_facts, results, published)

    def _batch(
        self, owned: OwnedPartition, records: PartitionRecords | None, rows: pl.DataFrame | None
    ) -> PartitionBatch:
        """The rows of one partition without repeats, and the recorded rises that belong to them."""
        position = owned.position
        end = position.next_offset if records is None else records.end
        rows = pl.DataFrame(schema=self._columns) if rows is None else rows.select(list(self._columns))
        fresh = batches.without_repeats(rows, position.source_offset)
        if rows.height:
            self._topics.require_same(repeats=fresh.height < rows.height)
        rises = owned.recorded_rises[: owned.rises_up_to(end)]
        return PartitionBatch(position.next_offset, end, fresh, rises)


def _moved(position: Position, batch: PartitionBatch) -> Position:
    source_offset = max([position.source_offset, *batch.rows[batches.SOURCE].top_k(1)])
    return replace(position, next_offset=batch.end, source_offset=source_offset)
