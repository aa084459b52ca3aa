"""The aggregator's loop: gather a batch → decide (step.py) → apply it in one transaction, while the next is gathered.

Times of the real world come in here: the database's clock, and a monotonic one for idleness.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import polars as pl
import structlog
from confluent_kafka import Consumer, Message, TopicPartition

from retail_stream.errors import Fenced, Unavailable
from retail_stream.kafka import batches
from retail_stream.kafka.offsets import topic_partitions
from retail_stream.waiting import Stopped
from services.aggregator import idleness, metrics, ownership, warehouse
from services.aggregator.batch import Applied, apply
from services.aggregator.desk import Desk
from services.aggregator.ownership import Owned
from services.aggregator.step import Slice

BATCH = 100_000
_POLL_S = 0.1
_LINGER_S = 0.05
_TICK_S = 0.5
_LOOK_UPSTREAM_S = 1.0
_COMMIT_S = 1.0
_BREATH_S = 1.0
_log = structlog.get_logger(__name__)


def run(desk: Desk) -> None:
    """Work until ``desk.stop``; whoever was fenced, or missed by the group, starts over as a new member of it.

    While a server is away nobody polls, and after ``max.poll.interval.ms`` the group takes that for a death.
    """
    while not desk.stop.is_set():
        worker = Worker(desk)
        metrics.LAG.read = worker.lag
        try:
            worker.work()
        except Stopped:
            return
        except Fenced as e:
            metrics.FENCED.inc()
            _log.warning("fenced, joins again", why=str(e))
        except Unavailable as e:
            _log.warning("joins again", why=str(e))
            desk.stop.wait(_BREATH_S)
        finally:
            worker.close()


class Worker:
    """One membership in the consumer group."""

    def __init__(self, desk: Desk) -> None:
        """Joins when :meth:`work` subscribes."""
        self.desk = desk
        self.consumer = desk.consumer()
        self.owned: Mapping[int, Owned] = {}
        self.ends: dict[int, int] = {}
        # Where each partition ended when it was last fetched from; ``ends`` has only those that we are at the end of.
        self.fetched: dict[int, int] = {}
        self.since: idleness.Since = {}
        self.looked_at = self.ticked_at = self.committed_at = 0.0
        self.committed: Mapping[int, int] = {}
        # Where each was assigned, or its last record read ends; ``turn`` counts how often partitions came or went.
        self.read_to: dict[int, int] = {}
        self.turn = 0
        # One transaction is under way while the next batch is fetched and decoded.
        self.thread = ThreadPoolExecutor(1, "step")
        self.under_way: Future[Applied] | None = None

    def work(self) -> None:
        """Poll, step, commit hints, until stopped or fenced."""
        self.consumer.subscribe([self.desk.topic], on_assign=self.assigned, on_revoke=self.lost, on_lost=self.lost)
        while not self.desk.stop.is_set():
            turn = self.turn
            messages = self.consumer.consume(1, _POLL_S)
            if messages:
                messages += self.consumer.consume(BATCH - 1, _LINGER_S)
            began, records = dict(self.read_to), self.read(messages)
            rows = {p: batches.table(ms, self.desk.writers, self.desk.sale) for p, ms in records.items()}
            try:
                self.settle()
                if messages and (self.turn != turn or not self.continues(began, records)):
                    # Some of it was read before partitions came or went: what is ours now is read anew.
                    if self.owned:
                        self.assign()
                    continue
                if self.owned and (records or time.monotonic() - self.ticked_at >= _TICK_S):
                    self.look_upstream(records)
                    self.advance(records, rows)
                    self.ticked_at = time.monotonic()
                self.hint()
            except Unavailable as e:
                # Whether the transaction was committed is not known: what is stored tells, so we claim anew.
                _log.warning("starts over from what is stored", why=str(e))
                self.take(list(self.owned))
        self.end()

    def end(self) -> None:
        """Wait for the transaction under way, whatever becomes of it: what is stored tells whoever goes on."""
        try:
            self.settle()
        except (Unavailable, Fenced) as e:
            _log.warning("not known whether the last batch was taken", why=str(e))

    def close(self) -> None:
        """Leave the group."""
        self.desk.assigned.clear()
        metrics.forget()
        self.consumer.close()
        self.thread.shutdown()

    def assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """The group gave us partitions: claim them and read on from what is stored, not from Kafka's offsets."""
        self.end()
        self.owned = {}
        if partitions:
            self.take([tp.partition for tp in partitions])
        self.desk.assigned.set()

    def lost(self, _: Consumer, __: list[TopicPartition]) -> None:
        """Our partitions go to others, all of them: forget them. Every step was committed or rolled back."""
        self.desk.assigned.clear()
        self.turn += 1
        self.end()
        self.owned = {}
        metrics.forget()

    def take(self, partitions: Sequence[int]) -> None:
        """Claim partitions and read from their stored positions on."""
        self.turn += 1
        self.owned = self.desk.wait(lambda: claim(self.desk, partitions))
        self.committed = {}
        self.assign()
        _log.info("partitions", owned=sorted(self.owned))

    def assign(self) -> None:
        """Read our partitions from their stored positions on."""
        self.ends, self.since = {}, {}
        self.read_to = {p: o.position.next_offset for p, o in self.owned.items()}
        self.consumer.assign([TopicPartition(self.desk.topic, p, offset) for p, offset in self.read_to.items()])

    def continues(self, began: Mapping[int, int], records: Mapping[int, list[Message]]) -> bool:
        """Whether what was read follows what is stored: all that was read before it, up to ``began``, is in there.

        A position may be further than that: behind the last record of a partition are transaction markers.
        """
        return all(p in began and began[p] <= self.owned[p].position.next_offset for p in records)

    def read(self, messages: Sequence[Message]) -> Mapping[int, list[Message]]:
        """Records by partition, of those that are ours, and where partitions ended."""
        records, ends = batches.by_partition(messages)
        for topic, p in records:
            self.ends.pop(p, None)
            # Cached: what the last fetch brought, the broker is not asked.
            _, self.fetched[p] = self.consumer.get_watermark_offsets(TopicPartition(topic, p), cached=True)
        at_end = {p: offset for (_, p), offset in ends.items()}
        self.ends.update(at_end)
        self.fetched.update(at_end)
        ours = {p: ms for (_, p), ms in records.items() if p in self.owned}
        self.read_to.update({p: int(ms[-1].offset() or 0) + 1 for p, ms in ours.items()})
        return ours

    def lag(self) -> dict[tuple[str, ...], float]:
        """Records from the stored position to the end, by topic and partition; any thread may ask."""
        owned = self.owned
        return {
            (self.desk.topic, str(p)): max(0, self.fetched[p] - o.position.next_offset)
            for p, o in owned.items()
            if p in self.fetched
        }

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

    def advance(self, records: Mapping[int, list[Message]], rows: Mapping[int, pl.DataFrame]) -> None:
        """Begin one step and its transaction; ``rows``: the records as columns."""
        parts = {p: self.slice(p, records.get(p, []), rows.get(p)) for p in self.owned}
        idle = idleness.idle(self.since, self.looked_at, self.desk.settings.idle_timeout_s)
        self.under_way = self.thread.submit(in_one_transaction, self.desk, self.owned, parts, records, idle)

    def settle(self) -> None:
        """Wait for the transaction that is under way, if one is.

        Raises:
            Unavailable: Postgres went away; it is not known whether it was committed.
            Fenced: another worker owns one of our partitions; it was rolled back.
        """
        under_way, self.under_way = self.under_way, None
        if under_way is None:
            return
        applied = under_way.result()
        self.owned = applied.owned
        metrics.count(applied)

    def slice(self, partition: int, messages: list[Message], rows: pl.DataFrame | None) -> Slice:
        """What was read of one partition, without repeats."""
        owned = self.owned[partition]
        start = owned.position.next_offset
        if rows is not None:
            rows, end = batches.without_repeats(rows, owned.position.source_offset), messages[-1].offset() + 1
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


def in_one_transaction(
    desk: Desk,
    owned: Mapping[int, Owned],
    parts: Mapping[int, Slice],
    records: Mapping[int, list[Message]],
    idle: frozenset[int],
) -> Applied:
    """:func:`apply`, committed; on a thread of its own."""
    with metrics.STEP.time(), warehouse.transaction(desk.engine) as connection:
        applied = apply(connection, desk, owned, parts, records, idle)
    if applied.published:
        desk.published()
    return applied


def claim(desk: Desk, partitions: Sequence[int]) -> Mapping[int, Owned]:
    """Claim partitions; an empty warehouse takes over the rises that an earlier one recorded."""
    with warehouse.transaction(desk.engine) as connection:
        fresh = ownership.is_fresh(connection, desk.topic)
    rises = ownership.recorded_rises(desk.settings, desk.rise_writers) if fresh else []
    everywhere = [p for _, p in topic_partitions(desk.settings, desk.topic)]
    with warehouse.transaction(desk.engine) as connection:
        ownership.ensure_rows(connection, desk.topic, everywhere)
        owned = ownership.claim(connection, desk.topic, partitions, rises, desk.encoder)
    desk.published()
    return owned
