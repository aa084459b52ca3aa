"""A Produce request with one batch, in the versions that aiokafka speaks, encoded with a single copy of the batch.

aiokafka's own encoder copies the batch at each level of its schema: six times, while it holds the interpreter's lock.
"""

from struct import Struct

from aiokafka.protocol.api import Request
from aiokafka.protocol.produce import ProduceRequest_v3, ProduceResponse_v7

#: Length of the transactional id, acks, timeout, number of topics, length of the topic's name.
_BEFORE_TOPIC = Struct(">hhiih")
#: Number of partitions, partition, length of the batch.
_BEFORE_BATCH = Struct(">iii")


class OneBatchV3(ProduceRequest_v3):  # type: ignore[misc]  # aiokafka has no types
    """One batch for one partition."""

    def __init__(self, acks: int, timeout_ms: int, topic: str, partition: int, batch: bytes) -> None:
        super().__init__(None, acks, timeout_ms, [(topic, [(partition, batch)])])
        self._parts = acks, timeout_ms, topic.encode(), partition, batch

    def encode(self) -> bytes:
        """The same bytes as aiokafka's."""
        acks, timeout_ms, topic, partition, batch = self._parts
        # -1: no transactional id.
        before_topic = _BEFORE_TOPIC.pack(-1, acks, timeout_ms, 1, len(topic))
        return b"".join((before_topic, topic, _BEFORE_BATCH.pack(1, partition, len(batch)), batch))


class OneBatchV7(OneBatchV3):
    """The same for brokers that know zstd, which are those since Kafka 2.1."""

    API_VERSION = 7
    RESPONSE_TYPE = ProduceResponse_v7


class OneBatchRequest(Request[OneBatchV3 | OneBatchV7]):  # type: ignore[misc]
    """A batch for a partition; aiokafka chooses the newest version that the broker knows."""

    API_KEY = 0

    def __init__(self, acks: int, timeout_ms: int, topic: str, partition: int, batch: bytes) -> None:
        """``acks``: -1 for all in-sync replicas. ``timeout_ms``: how long the broker may wait for these."""
        self._parts = acks, timeout_ms, topic, partition, batch

    def build(self, version: type[OneBatchV3] | type[OneBatchV7]) -> OneBatchV3 | OneBatchV7:
        """See aiokafka's `Request`."""
        return version(*self._parts)
