"""Lag: how many records of a topic a consumer group has not passed yet."""

from collections.abc import Mapping

from confluent_kafka import KafkaError, TopicPartition

from retail_stream import topics
from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import TopicPartitionKey, committed_offsets, end_offsets, topic_partitions
from retail_stream.settings import Connections
from retail_stream.topics import Group

#: What each group consumes.
CONSUMES: Mapping[Group, tuple[str, ...]] = {
    Group.CLEANER: tuple(topics.raw(e) for e in Entity),
    Group.SCD_MERGER: tuple(topics.clean(e) for e in DIMENSIONS),
    Group.AGGREGATOR: (topics.clean(Entity.SALES),),
}
# A transaction leaves one marker in each partition that it wrote to; more behind the last record are rare.
_MARKERS = 3


def lags(connections: Connections, stored: Mapping[Group, Mapping[TopicPartitionKey, int]]) -> dict[Group, int]:
    """Lag of every group; trailing transaction markers are no lag.

    ``stored``: positions in Postgres, of the groups that keep them there, where Kafka's committed offsets are hints.

    Raises:
        Unavailable: no broker answers.
    """
    places = {group: topic_partitions(connections, *names) for group, names in CONSUMES.items()}
    # Before the ends: a group that moves on meanwhile is then a little late, never ahead of the end.
    committed = {
        group: stored[group] if group in stored else committed_offsets(connections, group, keys)
        for group, keys in places.items()
    }
    ends = end_offsets(connections, [key for keys in places.values() for key in keys])
    result = {}
    for group, keys in places.items():
        passed = committed[group]
        behind = {key: ends[key] - passed.get(key, 0) for key in keys}
        for key in [key for key, n in behind.items() if 0 < n <= _MARKERS]:
            behind[key] = _records_between(connections, *key, passed.get(key, 0), ends[key])
        result[group] = sum(behind.values())
    return result


def _records_between(connections: Connections, topic: str, partition: int, offset: int, end: int) -> int:
    """Number of records from ``offset`` to the partition's ``end``: those of an open transaction count one."""
    reader = clients.consumer(connections, "retail-stream.lag")
    try:
        reader.assign([TopicPartition(topic, partition, offset)])
        records = 0
        while True:
            message = reader.poll(5.0)
            if message is None:
                raise clients.unavailable(connections)
            if message.error() is None:
                records += 1
            elif message.error().code() == KafkaError._PARTITION_EOF:
                return records + (message.offset() < end)
    finally:
        reader.close()
