"""Membership of a consumer group: which partitions are ours, what came of them, and how far we are.

The group's protocol proposes an owner for each partition; whatever ``claim`` reads the stored positions from decides.
For merger and aggregator that is Postgres, with an epoch in each row. Their committed offsets in Kafka serve lag tools.

    join ──▶ assignment ──▶ claim ──▶ read from the stored positions ──▶ poll, advance, commit … ──▶ leave
               ▲                                                              │
               └──────────────────── rejoin (fenced, outage) ◀────────────────┘
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from retail_stream.kafka.batches import by_partition
from retail_stream.kafka.offsets import TopicPartitionKey

_POLL_S = 0.1
_COMMIT_EVERY_S = 1.0
_log = structlog.get_logger(__name__)


class HasNextOffset(Protocol):
    """What an owner keeps of a partition; ``next_offset``: the first offset that is not in the stored results."""

    @property
    def next_offset(self) -> int: ...


Owned = TypeVar("Owned", bound=HasNextOffset)


@dataclass(frozen=True)
class PartitionRecords:
    """Consecutive records of one partition: all that it holds in the offsets [start, end), in order.

    ``end`` is the partition's own end where that was reached: transaction markers may lie behind the last record.
    """

    messages: tuple[Message, ...]
    start: int
    end: int

    def halves(self) -> "tuple[PartitionRecords, PartitionRecords]":
        """The first and the second half of the messages."""
        first, second = self.messages[: len(self.messages) // 2], self.messages[len(self.messages) // 2 :]
        middle = int(second[0].offset() or 0)
        return PartitionRecords(first, self.start, middle), PartitionRecords(second, middle, self.end)


class Membership(Generic[Owned]):
    """A member of a consumer group, with what it keeps of each partition that it owns.

    One thread uses it, except for ``joined`` and :meth:`lag`, which any thread may read.
    """

    def __init__(
        self,
        connect: Callable[..., Consumer],
        topics: Iterable[str],
        claim: Callable[[list[TopicPartitionKey]], Mapping[TopicPartitionKey, Owned]],
        before_rebalance: Callable[[], None] = lambda: None,
    ) -> None:
        """Open nothing yet.

        ``connect``: makes a consumer, given librdkafka's callbacks as ``error_cb`` and ``on_commit``.
        ``claim``: becomes the owner of partitions and returns their stored positions; waits for a store that is away.
        ``before_rebalance``: called before partitions come or go, to finish what is in flight.
        """
        #: Replaced, never changed in place.
        self.owned: Mapping[TopicPartitionKey, Owned] = {}
        #: Whether the group has given this member its share of the partitions, which may be none.
        self.joined = False
        #: The partitions that were read to their ends, with these.
        self.at_end: dict[TopicPartitionKey, int] = {}
        self._connect, self._topics, self._claim = connect, list(topics), claim
        self._before_rebalance = before_rebalance
        self._consumer: Consumer | None = None
        self._away = False
        # How often partitions were assigned or revoked.
        self._generation = 0
        # The offset that the next record read of each partition can have.
        self._read_to: dict[TopicPartitionKey, int] = {}
        # Where each partition ended when it was last fetched from.
        self._ends: dict[TopicPartitionKey, int] = {}
        self._committed: dict[TopicPartitionKey, int] = {}
        self._committed_at = 0.0

    def join(self) -> None:
        """Join the group; partitions arrive during later polls."""
        self._consumer = self._connect(error_cb=self._on_error, on_commit=self._on_commit)
        self._consumer.subscribe(
            self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def rejoin(self) -> None:
        """Leave the group and join it as a new member, which claims its partitions anew."""
        self._close()
        self.join()

    def reclaim(self) -> None:
        """Claim the partitions that we own again and read from their stored positions."""
        self._assign(list(self.owned))

    def poll(self, most: int, linger_s: float) -> dict[TopicPartitionKey, PartitionRecords]:
        """Read what has come since the last poll, by partition; empty after 0.1 s without a record.

        ``most``: records at a time; ``linger_s``: how long to wait for more after the first. The records of a partition
        follow those of the last poll. A partition without new records is there only if its end has moved.

        Raises:
            Unavailable: the consumer reports a failure and may have lost records; rejoin.
        """
        generation, consumer = self._generation, self._member
        messages = consumer.consume(1, _POLL_S)
        if messages:
            messages += consumer.consume(most - 1, linger_s)
        records, ends = by_partition(messages)
        if self._away and messages:
            self._away = False
            _log.info("answered", server="Kafka")
        if messages and generation != self._generation:
            # Some of it may be from before partitions came or went: what is ours now is read anew.
            self.read_stored()
            return {}
        for key in records:
            self.at_end.pop(key, None)
            # Cached: what the last fetch brought; the broker is not asked.
            self._ends[key] = consumer.get_watermark_offsets(TopicPartition(*key), cached=True)[1]
        self.at_end.update(ends)
        self._ends.update(ends)
        batch = {}
        for key, start in self._read_to.items():
            new = records.get(key, [])
            end = max(start, ends.get(key, int(new[-1].offset() or 0) + 1 if new else start))
            if end > start:
                batch[key] = PartitionRecords(tuple(new), start, end)
                self._read_to[key] = end
        return batch

    def follows(self, batch: Mapping[TopicPartitionKey, PartitionRecords]) -> bool:
        """Whether all records before the batch are in the stored results; else :meth:`read_stored`."""
        return all(key in self.owned and r.start <= self.owned[key].next_offset for key, r in batch.items())

    def read_stored(self) -> None:
        """Read on from the stored positions of our partitions."""
        self.at_end = {}
        self._read_to = {key: owned.next_offset for key, owned in self.owned.items()}
        self._member.assign([TopicPartition(*key, offset) for key, offset in self._read_to.items()])

    def advance(self, stored: Mapping[TopicPartitionKey, Owned]) -> None:
        """Note what is stored now of partitions that we own."""
        self.owned = {**self.owned, **stored}

    def lag(self) -> dict[tuple[str, ...], float]:
        """Records from the stored position to the end, by topic and partition, as of the last fetch."""
        owned, ends = self.owned, dict(self._ends)
        return {(k[0], str(k[1])): max(0, ends[k] - o.next_offset) for k, o in owned.items() if k in ends}

    def commit(self, now: float) -> None:
        """Commit the positions to Kafka, at most once a second and without waiting; ``now``: monotonic seconds.

        A commit that fails is repeated a second later.
        """
        if now - self._committed_at >= _COMMIT_EVERY_S and (offsets := self._uncommitted()):
            self._committed_at = now
            self._member.commit(offsets=offsets, asynchronous=True)
            self._committed.update({(tp.topic, tp.partition): tp.offset for tp in offsets})

    def leave(self) -> None:
        """Commit the last positions and leave the group."""
        self._committed = {}  # the last commit may not have been answered yet
        try:
            # Without a broker a commit would keep the program from ending for 10 s.
            if self._consumer is not None and not self._away and (offsets := self._uncommitted()):
                self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as e:
            _log.info("last positions are not committed to Kafka; lag tools show the ones before", why=str(e.args[0]))
        self._close()

    @property
    def _member(self) -> Consumer:
        assert self._consumer is not None, "join first"
        return self._consumer

    def _uncommitted(self) -> list[TopicPartition]:
        at = {key: owned.next_offset for key, owned in self.owned.items()}
        return [TopicPartition(*key, offset) for key, offset in at.items() if self._committed.get(key) != offset]

    def _assign(self, keys: list[TopicPartitionKey]) -> None:
        self._generation += 1
        self.owned = self._claim(keys) if keys else {}
        self._committed = {}
        self.read_stored()
        _log.info("assigned", partitions=" ".join(f"{t}/{p}" for t, p in sorted(self.owned)) or "none")

    def _close(self) -> None:
        self.joined = False
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()
        self._forget()

    def _forget(self) -> None:
        self._generation += 1
        self.owned, self.at_end, self._read_to, self._ends = {}, {}, {}, {}

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._before_rebalance()
        self._assign([(tp.topic, tp.partition) for tp in partitions])
        self.joined = True

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.joined = False
        self._before_rebalance()
        self._forget()
        _log.info("revoked", partitions=len(partitions))

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if error is not None or any(tp.error is not None for tp in partitions):
            # A commit that is lost at the end of the traffic would look like lag for ever.
            self._committed = {}

    def _on_error(self, error: KafkaError) -> None:
        # librdkafka reconnects on its own and reports each attempt; the log says it once.
        if error.code() == KafkaError._ALL_BROKERS_DOWN and not self._away:
            self._away = True
            _log.warning("waiting", why="No Kafka broker answers.")
