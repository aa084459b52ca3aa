"""What `status` says of a warehouse: where it stands is in Postgres, Kafka's committed offsets are hints."""

from confluent_kafka import TopicPartition
from sqlalchemy import Engine

from retail_stream import kafka, positions, topics
from retail_stream.entities import DIMENSIONS
from retail_stream.settings import Connections
from retail_stream.status import look
from retail_stream.topics import Group

TOPICS = [topics.clean(entity) for entity in DIMENSIONS]


def test_an_empty_warehouse_is_behind_whatever_the_hints_of_another_one_say(
    connections: Connections, warehouse: Engine
) -> None:
    sink = kafka.producer(connections)
    for topic in TOPICS:
        sink.produce(topic, None, "1", 0)
    assert sink.flush(10) == 0
    ends = kafka.end_offsets(connections, [(topic, p) for topic in TOPICS for p in range(4)])
    hints = kafka.consumer(connections, Group.SCD_MERGER)
    hints.commit(offsets=[TopicPartition(*place, end) for place, end in ends.items()], asynchronous=False)
    hints.close()

    status = look(warehouse, connections)
    assert status.lag[Group.SCD_MERGER] >= len(TOPICS)
    assert not status.drained

    with warehouse.begin() as connection:
        for place, end in ends.items():
            own = positions.claim(connection, Group.SCD_MERGER, *place)
            there = positions.Position(own.topic, own.partition, own.epoch, end, -1)
            positions.advance(connection, Group.SCD_MERGER, [there])
    assert look(warehouse, connections).lag[Group.SCD_MERGER] == 0
