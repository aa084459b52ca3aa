"""Whether anything is on its way to a partition of `sales.clean`: an outage upstream is not quiet."""

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
    """Looks at the cleaner's lag, with the broker's own offsets."""

    def __init__(self, connections: Connections) -> None:
        """Opens nothing yet."""
        self._connections = connections
        #: (committed, end) of a raw partition, where all that lies between them are transaction markers
        self._markers: dict[TopicPartitionKey, tuple[int, int]] = {}

    def drained(self, partitions: Iterable[int]) -> Mapping[int, int]:
        """Of these partitions, those of which the cleaner has handled all of `sales.raw`: → end of `sales.clean`.

        Whoever has read up to that end has read all that was published before this call.

        Raises:
            Unavailable: no broker answers, so nothing is known.
        """
        # The order matters: what the cleaner committed lies, cleaned, before an end that is asked for afterwards.
        asked = [(topic, p) for p in partitions for topic in (_RAW, _CLEAN)]
        raw = [place for place in asked if place[0] == _RAW]
        committed = committed_offsets(self._connections, Group.CLEANER, raw)
        ends = end_offsets(self._connections, asked)
        return {
            p: ends[_CLEAN, p]
            for topic, p in raw
            if self._nothing_between((topic, p), committed.get((topic, p), 0), ends[topic, p])
        }

    def _nothing_between(self, place: TopicPartitionKey, committed: int, end: int) -> bool:
        if committed >= end or self._markers.get(place) == (committed, end):
            return True
        if end - committed > 3:  # each transaction leaves one marker; several without a record are rare
            return False
        reader = clients.consumer(self._connections, "aggregator.upstream")
        try:
            reader.assign([TopicPartition(*place, committed)])
            first = reader.poll(5.0)
            error = None if first is None else first.error()
            # An end before the end: a transaction is open, and its records are on their way.
            if first is not None and error is not None and error.code() == KafkaError._PARTITION_EOF:
                if first.offset() < end:
                    return False
                self._markers[place] = (committed, end)
                return True
            return False
        finally:
            reader.close()
