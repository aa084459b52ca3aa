"""Reading a part of a topic, outside any consumer group."""

from collections.abc import Iterator

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message, TopicPartition

from retail_stream.kafka.clients import ANSWER_S, consumer, unavailable
from retail_stream.kafka.offsets import TopicPartitionKey, topic_partitions
from retail_stream.settings import Connections


def first_from(connections: Connections, group: str, place: TopicPartitionKey, offset: int) -> Message | None:
    """The first committed record of a partition from an offset on; None where there is none yet.

    A new client asks each time: one that saw a broker die may go on asking the old one.

    Raises:
        KafkaException: Kafka refuses it.
        Unavailable: no broker answers.
    """
    reader = consumer(connections, group)
    try:
        reader.assign([TopicPartition(*place, offset)])
        message = reader.poll(ANSWER_S)
    finally:
        reader.close()
    if message is None:
        raise unavailable(connections)
    if (error := message.error()) is None:
        return message
    if error.code() == KafkaError._PARTITION_EOF:
        return None
    raise KafkaException(error)


def read_to_end(connections: Connections, topic: str) -> Iterator[Message]:
    """Every committed record that a topic holds now, in order within each partition.

    Raises:
        Unavailable: no broker answers.
    """
    reader = consumer(connections, "retail-stream.reader")
    try:
        left = {p for _, p in topic_partitions(connections, topic)}
        reader.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in left])
        while left:
            # A call for many waits until it has them all, or for its whole timeout: so first for one.
            messages = reader.consume(1, ANSWER_S)
            if not messages:
                raise unavailable(connections)
            messages += reader.consume(10_000, 0)
            for message in messages:
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition())
    finally:
        reader.close()
