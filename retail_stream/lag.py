"""Lag: how many records of a topic a consumer group has not passed yet."""

from collections.abc import Mapping

from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient

from retail_stream import kafka, topics
from retail_stream.entities import DIMENSIONS, Entity
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


def lags(client: AdminClient, connections: Connections) -> dict[Group, int]:
    """Lag of every group, from Kafka's own committed offsets. Trailing transaction markers are no lag.

    Raises:
        Unavailable: no broker answers.
    """
    places = {
        (topic, partition)
        for names in CONSUMES.values()
        for topic in names
        for partition in kafka.partitions(client, connections, topic)
    }
    # Before the ends: a group that moves on meanwhile is then a little late, never ahead of the end.
    committed = {group: kafka.committed_offsets(client, connections, group) for group in CONSUMES}
    ends = kafka.end_offsets(client, connections, places)
    result = {}
    for group, names in CONSUMES.items():
        passed = committed[group]
        behind = {place: ends[place] - passed.get(place, 0) for place in places if place[0] in names}
        for place in [place for place, n in behind.items() if 0 < n <= _MARKERS]:
            behind[place] = _records_from(connections, *place, passed.get(place, 0))
        result[group] = sum(behind.values())
    return result


def _records_from(connections: Connections, topic: str, partition: int, offset: int) -> int:
    """Number of records at and after ``offset``: reads them, up to the partition's end."""
    reader = kafka.consumer(connections, "retail-stream.lag")
    try:
        reader.assign([TopicPartition(topic, partition, offset)])
        records = 0
        while True:
            message = reader.poll(5.0)
            if message is None:
                raise kafka.unavailable(connections)
            if message.error() is None:
                records += 1
            elif message.error().code() == KafkaError._PARTITION_EOF:
                return records
    finally:
        reader.close()
