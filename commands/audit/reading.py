"""Topics from their beginning up to a fixed end, as a plain `read_committed` consumer sees them."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from confluent_kafka import KafkaError, Message, TopicPartition

from retail_stream.errors import Unavailable
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import end_offsets, require_topics, topic_partitions
from retail_stream.settings import Connections
from retail_stream.waiting import COMMAND_PATIENCE_S

#: topic → partition → the offset to stop at (exclusive).
Ends = Mapping[str, Mapping[int, int]]

_BATCH = 10_000
_LINGER_S = 0.05
# Longer than the broker lets a transaction stay open (transaction.timeout.ms, one minute).
_OPEN_TRANSACTION_S = 90.0


def ends(connections: Connections, topics: Iterable[str]) -> Ends:
    """Where each partition of each topic ends now, open transactions included.

    Raises:
        Unavailable: no broker answers, or a topic is missing.
    """
    names = list(topics)
    require_topics(connections, names)
    keys = topic_partitions(connections, *names)
    found: dict[str, dict[int, int]] = {}
    for (topic, partition), end in end_offsets(connections, keys).items():
        found.setdefault(topic, {})[partition] = end
    return found


def read(
    connections: Connections,
    until: Ends,
    take: Mapping[str, Callable[[Sequence[Message]], None]],
    told: Callable[[int], None],
) -> None:
    """Hand every committed record before ``until`` to what ``take`` has for its topic: in batches, partitions in order.

    ``told``: hears how many records were taken so far.

    Raises:
        Unavailable: no broker answers for 30 s, or a transaction holds records back.
    """
    left = {(t, p) for t, places in until.items() for p, end in places.items() if end > 0}
    taken = 0
    consumer = clients.consumer(connections, "verify")
    try:
        # From 0 rather than from "the beginning", which costs a question per partition; where a log begins later, the
        # consumer is sent to its earliest record.
        consumer.assign([TopicPartition(t, p, 0) for t, p in left])
        heard = moved = time.monotonic()
        while left:
            records: dict[str, list[Message]] = {}
            for message in consumer.consume(_BATCH, _LINGER_S):
                reached = _reached(message)
                if reached is None:
                    continue
                heard = time.monotonic()
                place, end = (message.topic(), message.partition()), until[message.topic()][message.partition()]
                if message.error() is None and message.offset() < end:
                    records.setdefault(message.topic(), []).append(message)
                if reached >= end:
                    left.discard(place)
            for topic, messages in records.items():
                take[topic](messages)
                taken += len(messages)
                heard = moved = time.monotonic()
            told(taken)
            if time.monotonic() - heard > COMMAND_PATIENCE_S:
                topic_partitions(connections, min(left)[0])
                heard = time.monotonic()
            if (stuck := time.monotonic() - moved) > _OPEN_TRANSACTION_S:
                raise Unavailable(f"Kafka: an open transaction holds back records of {min(left)[0]} for {stuck:.0f} s.")
    finally:
        consumer.close()


def _reached(message: Message) -> int | None:
    """The offset after a message, or that of an end; None for news that say nothing of a partition."""
    error = message.error()
    if error is None:
        return message.offset() + 1
    if error.code() == KafkaError._PARTITION_EOF:
        return message.offset()
    passing = error.retriable() or error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT)
    if error.fatal() or not passing:
        raise Unavailable(f"Kafka: {error.str()}.")
    return None
