"""Whether the cleaner has records on their way to a partition of `sales.clean`: an outage upstream is not quiet."""

from collections.abc import Iterable, Mapping

from confluent_kafka import KafkaError, TopicPartition

from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import TopicPartitionKey, committed_offsets, end_offsets
from retail_stream.settings import Connections
from retail_stream.topics import Group

_RAW = topics.raw(Entity.SALES)
_CLEAN = topics.clean(Entity.SALES)


class Upstream:
    """The lag of the cleaner, from the offsets that the broker has."""

    def __init__(self, connections: Connections) -> None:
        """Opens nothing yet."""
        self._connections = connections
        #: (committed, end) of a raw partition that has only transaction markers between them.
        self._markers: dict[TopicPartitionKey, tuple[int, int]] = {}

    def drained(self, partitions: Iterable[int]) -> Mapping[int, int]:
        """Those partitions whose records in `sales.raw` are all cleaned, each with its end in `sales.clean`.

        A reader at that end has read every record that was published to `sales.raw` before this call.

        Raises:
            Unavailable: no broker answers, so the lag is not known.
        """
        # Committed offsets first: records that the cleaner has committed lie before a clean end that is read later.
        asked = [(topic, p) for p in partitions for topic in (_RAW, _CLEAN)]
        raw = [tp for tp in asked if tp[0] == _RAW]
        committed = committed_offsets(self._connections, Group.CLEANER, raw)
        ends = end_offsets(self._connections, asked)
        return {
            p: ends[_CLEAN, p]
            for topic, p in raw
            if self._nothing_between((topic, p), committed.get((topic, p), 0), ends[topic, p])
        }

    def _nothing_between(self, raw: TopicPartitionKey, committed: int, end: int) -> bool:
        if committed >= end or self._markers.get(raw) == (committed, end):
            return True
        if end - committed > 3:  # each transaction leaves one marker; several without a record are rare
            return False
        reader = clients.consumer(self._connections, "aggregator.upstream")
        try:
            reader.assign([TopicPartition(*raw, committed)])
            first = reader.poll(5.0)
            error = None if first is None else first.error()
            # A committed end before the end: a transaction is open, and its records are on their way.
            if first is not None and error is not None and error.code() == KafkaError._PARTITION_EOF:
                if first.offset() < end:
                    return False
                self._markers[raw] = (committed, end)
                return True
            return False
        finally:
            reader.close()
