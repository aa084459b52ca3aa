"""The edge to Kafka: which partitions are ours, from which offset, and what came in.

The group's protocol says who should own a partition; the epoch in Postgres decides. Positions come from Postgres too:
Kafka's committed offsets are a hint for those who watch the lag.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from retail_stream.kafka.batches import by_partition
from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.warehouse.positions import Position

_POLL_S = 0.1
# Changes of one key that come together cost less than one by one.
_MOST = 40_000
_HINT_EVERY_S = 1.0
_log = structlog.get_logger(__name__)

Claim = Callable[[list[TopicPartitionKey]], list[Position]]
Connect = Callable[..., Consumer]


@dataclass(frozen=True)
class Slice:
    """What came of one partition: ``messages`` in offset order, ``end`` the offset at which it ended, where it did."""

    messages: tuple[Message, ...]
    end: int | None = None

    def halves(self) -> "tuple[Slice, Slice]":
        """The first and the second half of the messages; the end belongs to the second."""
        middle = len(self.messages) // 2
        return Slice(self.messages[:middle]), replace(self, messages=self.messages[middle:])


class Reader:
    """A member of the consumer group and the positions of the partitions that it owns."""

    def __init__(self, connect: Connect, topics: Iterable[str], claim: Claim) -> None:
        """``connect``: makes the consumer, given librdkafka's callbacks as ``error_cb`` and ``on_commit``.

        ``claim``: becomes the owner of partitions in Postgres and says where each goes on.
        """
        self.positions: dict[TopicPartitionKey, Position] = {}
        #: whether the group has given this worker its share, be it nothing
        self.joined = False
        # Where each partition ended when it was last fetched from.
        self._ends: dict[TopicPartitionKey, int] = {}
        self._consumer = connect(error_cb=self._failed, on_commit=self._committed)
        self._topics, self._claim = list(topics), claim
        self._away = False
        self._hinted: dict[TopicPartitionKey, int] = {}
        self._hinted_at = 0.0

    def join(self) -> None:
        """Join the group; partitions arrive during later polls."""
        self._consumer.subscribe(self._topics, on_assign=self._assigned, on_revoke=self._gone, on_lost=self._gone)

    def rejoin(self) -> None:
        """Give up every partition and ask for partitions again, to be claimed and read from their stored positions."""
        self.joined = False
        self._consumer.unsubscribe()
        self.positions.clear()
        self.join()

    def moved(self, positions: Iterable[Position]) -> None:
        """Note positions that are stored."""
        self.positions.update({(p.topic, p.partition): p for p in positions})

    def poll(self) -> dict[TopicPartitionKey, Slice]:
        """What has come since the last poll, by partition, for at most about 0.1 s.

        Raises:
            Unavailable: the consumer reports a failure; what it had read so far is gone, so rejoin.
        """
        records, ends = by_partition(self._consumer.consume(_MOST, _POLL_S))
        if self._away and (records or ends):
            self._away = False
            _log.info("answered", server="Kafka")
        # Cached: what the last fetch brought, the broker is not asked.
        fetched = {
            place: self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True) for place in records
        }
        self._ends.update({place: end for place, (_, end) in fetched.items()} | ends)
        slices: dict[TopicPartitionKey, Slice] = {}
        for place, position in self.positions.items():
            # A rebalance within one poll can hand out again what an earlier owner had fetched.
            new = tuple(m for m in records.get(place, ()) if m.offset() >= position.next_offset)
            end = ends.get(place)
            if new or (end is not None and end > position.next_offset):
                slices[place] = Slice(new, end)
        return slices

    def lag(self) -> dict[tuple[str, ...], float]:
        """Records from the stored position to the end, by topic and partition; any thread may ask."""
        owned = dict(self.positions)
        return {
            (topic, str(partition)): max(0, self._ends[topic, partition] - position.next_offset)
            for (topic, partition), position in owned.items()
            if (topic, partition) in self._ends
        }

    def hint(self, now: float) -> None:
        """Tell Kafka the positions, at most once a second and without waiting for the answer; ``now`` in seconds."""
        if now - self._hinted_at >= _HINT_EVERY_S and (news := self._news()):
            self._hinted_at = now
            self._consumer.commit(offsets=news, asynchronous=True)
            self._hinted.update({(tp.topic, tp.partition): tp.offset for tp in news})

    def leave(self) -> None:
        """Give the last hint and leave the group."""
        self.joined = False
        try:
            if news := self._news():
                self._consumer.commit(offsets=news, asynchronous=False)
        except KafkaException as e:
            _log.info("no last hint for lag tools", why=str(e.args[0]))
        self._consumer.close()

    def _news(self) -> list[TopicPartition]:
        at = {place: p.next_offset for place, p in self.positions.items() if p.next_offset > 0}
        return [TopicPartition(*place, offset) for place, offset in at.items() if self._hinted.get(place) != offset]

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        claimed = self._claim([(tp.topic, tp.partition) for tp in partitions])
        self.positions = {(p.topic, p.partition): p for p in claimed}
        self._hinted.clear()
        self.joined = True
        consumer.assign([TopicPartition(p.topic, p.partition, p.next_offset) for p in claimed])
        _log.info("assigned", partitions=_names(self.positions))

    def _gone(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.joined = False
        for tp in partitions:
            self.positions.pop((tp.topic, tp.partition), None)
            self._ends.pop((tp.topic, tp.partition), None)
        _log.info("revoked", partitions=len(partitions))

    def _committed(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if error is not None or any(tp.error is not None for tp in partitions):
            # Given again in a second: a hint that is lost at the end of the traffic would look like lag for ever.
            self._hinted.clear()

    def _failed(self, error: KafkaError) -> None:
        # librdkafka reconnects on its own and reports each attempt; a person needs to hear of it once.
        if error.code() == KafkaError._ALL_BROKERS_DOWN and not self._away:
            self._away = True
            _log.warning("waiting", why="No Kafka broker answers.")


def _names(places: Mapping[TopicPartitionKey, object]) -> str:
    return " ".join(f"{topic}/{partition}" for topic, partition in sorted(places)) or "none"
