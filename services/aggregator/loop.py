"""The aggregator's loop: gather a batch → decide (step.py) → apply it in one transaction.

Times of the real world come in here: the database's clock, and a monotonic one for idleness.
"""

import time
from collections.abc import Mapping, Sequence

import polars as pl
import structlog
from confluent_kafka import Consumer, Message, TopicPartition

from retail_stream import batches, kafka
from retail_stream.errors import Fenced, Unavailable
from services.aggregator import idleness, metrics, ownership, warehouse
from services.aggregator.apply import apply
from services.aggregator.desk import Desk, Stopped
from services.aggregator.ownership import Owned
from services.aggregator.step import Slice

BATCH = 50_000
_POLL_S = 0.1
_LINGER_S = 0.05
_TICK_S = 0.5
_LOOK_UPSTREAM_S = 1.0
_COMMIT_S = 1.0
_log = structlog.get_logger(__name__)


def run(desk: Desk) -> None:
    """Work until ``desk.stop``; a worker that was fenced starts over as a new member of the group."""
    while not desk.stop.is_set():
        worker = Worker(desk)
        try:
            worker.work()
        except Stopped:
            return
        except Fenced as e:
            metrics.FENCED.inc()
            _log.warning("fenced, joins again", why=str(e))
        finally:
            worker.consumer.close()


class Worker:
    """One membership in the consumer group."""

    def __init__(self, desk: Desk) -> None:
        """Joins when :meth:`work` subscribes."""
        self.desk = desk
        self.consumer = desk.consumer()
        self.owned: Mapping[int, Owned] = {}
        self.ends: dict[int, int] = {}
        self.since: idleness.Since = {}
        self.looked_at = self.ticked_at = self.committed_at = 0.0
        self.committed: Mapping[int, int] = {}

    def work(self) -> None:
        """Poll, step, commit hints, until stopped or fenced."""
        self.consumer.subscribe([self.desk.topic], on_assign=self.assigned, on_revoke=self.lost, on_lost=self.lost)
        while not self.desk.stop.is_set():
            messages = self.consumer.consume(1, _POLL_S)
            if messages:
                messages += self.consumer.consume(BATCH - 1, _LINGER_S)
            records = self.read(messages)
            if not self.owned:
                continue
            try:
                if records or time.monotonic() - self.ticked_at >= _TICK_S:
                    self.look_upstream(records)
                    self.advance(records)
                    self.ticked_at = time.monotonic()
                self.hint()
            except Unavailable as e:
                # Whether the transaction was committed is not known: what is stored tells, so we claim anew.
                _log.warning("starts over from what is stored", why=str(e))
                self.take(list(self.owned))

    def assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """The group gave us partitions: claim them and read on from what is stored, not from Kafka's offsets."""
        self.owned = {}
        if partitions:
            self.take([tp.partition for tp in partitions])

    def lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """Partitions went to others: forget them. Nothing is unfinished, every step was committed or rolled back."""
        gone = {tp.partition for tp in partitions}
        self.owned = {p: o for p, o in self.owned.items() if p not in gone}

    def take(self, partitions: Sequence[int]) -> None:
        """Claim partitions and read from their stored positions on."""
        self.owned = self.desk.wait(lambda: claim(self.desk, partitions))
        self.ends, self.since, self.committed = {}, {}, {}
        self.consumer.assign(
            [TopicPartition(self.desk.topic, p, o.position.next_offset) for p, o in self.owned.items()]
        )
        _log.info("partitions", owned=sorted(self.owned))

    def read(self, messages: Sequence[Message]) -> Mapping[int, list[Message]]:
        """Records by partition, of those that are ours, and where partitions ended."""
        records, ends = batches.by_partition(messages)
        for _, p in records:
            self.ends.pop(p, None)
        self.ends.update({p: offset for (_, p), offset in ends.items()})
        return {p: ms for (_, p), ms in records.items() if p in self.owned}

    def look_upstream(self, records: Mapping[int, list[Message]]) -> None:
        """Find out which of our partitions are quiet: we are at their end, and the cleaner is at the raw one's."""
        now = time.monotonic()
        at_end = {p for p in self.owned if p in self.ends and p not in records}
        self.since = {p: start for p, start in self.since.items() if p in at_end}
        if now - self.looked_at < _LOOK_UPSTREAM_S:
            return
        self.looked_at = now
        drained = self.desk.upstream.drained(at_end) if at_end else {}
        quiet = {p for p, end in drained.items() if max(self.ends[p], self.owned[p].position.next_offset) >= end}
        self.since = idleness.observe(self.since, quiet, now)

    def advance(self, records: Mapping[int, list[Message]]) -> None:
        """One step and its transaction."""
        parts = {p: self.slice(p, records.get(p, [])) for p in self.owned}
        idle = idleness.idle(self.since, self.looked_at, self.desk.settings.idle_timeout_s)
        with metrics.STEP.time(), warehouse.transaction(self.desk.engine) as connection:
            applied = apply(connection, self.desk, self.owned, parts, records, idle)
        self.owned = applied.owned
        metrics.count(applied.step, applied.results, self.owned.values())
        if applied.published:
            self.desk.published()

    def slice(self, partition: int, messages: list[Message]) -> Slice:
        """What was read of one partition, decoded, without repeats."""
        owned = self.owned[partition]
        start = owned.position.next_offset
        if messages:
            rows = batches.table(messages, self.desk.writers, self.desk.sale)
            rows = batches.without_repeats(rows, owned.position.source_offset)
            end = messages[-1].offset() + 1
        else:
            rows, end = pl.DataFrame(), max(start, self.ends.get(partition, start))
        numbers = dict.fromkeys((batches.OFFSET, batches.SOURCE, batches.TIMESTAMP), pl.Int64())
        schema = {**numbers, batches.REPLAY_OF: pl.Binary(), **self.desk.sale.columns}
        rows = rows.select(list(schema)) if rows.width else pl.DataFrame(schema=schema)
        return Slice(start, end, rows, tuple(r for r in owned.replayed if r.next_offset <= end))

    def hint(self) -> None:
        """Tell Kafka where we are, for lag tools; at most once a second."""
        at = {p: o.position.next_offset for p, o in self.owned.items()}
        if at != self.committed and time.monotonic() - self.committed_at >= _COMMIT_S:
            offsets = [TopicPartition(self.desk.topic, p, offset) for p, offset in at.items()]
            self.consumer.commit(offsets=offsets, asynchronous=True)
            self.committed, self.committed_at = at, time.monotonic()


def claim(desk: Desk, partitions: Sequence[int]) -> Mapping[int, Owned]:
    """Claim partitions; an empty warehouse takes over the rises that an earlier one recorded."""
    with warehouse.transaction(desk.engine) as connection:
        fresh = ownership.is_fresh(connection, desk.topic, partitions)
    rises = ownership.recorded_rises(desk.settings, desk.rise_writers) if fresh else []
    everywhere = [p for _, p in kafka.partitions(desk.settings, desk.topic)]
    with warehouse.transaction(desk.engine) as connection:
        ownership.ensure_rows(connection, desk.topic, everywhere)
        owned = ownership.claim(connection, desk.topic, partitions, rises, desk.encoder)
    desk.published()
    return owned
