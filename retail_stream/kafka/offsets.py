"""Partitions of topics, where they end, and what consumer groups have committed."""

from collections.abc import Iterable

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from retail_stream.errors import Unavailable
from retail_stream.kafka.clients import ANSWER_S, admin, consumer, unavailable
from retail_stream.settings import Connections

#: For the client to say that nothing came within that, before it is not believed any more.
_GRACE_S = 5.0


TopicPartitionKey = tuple[str, int]


def topic_partitions(connections: Connections, *topics: str) -> list[TopicPartitionKey]:
    """Every (topic, partition) of the topics, in order; a topic that does not exist has none.

    Raises:
        Unavailable: no broker answers.
    """
    try:
        there = admin(connections).list_topics(timeout=ANSWER_S).topics
    except KafkaException as e:
        raise unavailable(connections) from e
    return [(str(t), p) for t in topics if t in there for p in sorted(there[t].partitions)]


def require_topics(connections: Connections, names: Iterable[str]) -> None:
    """Check that topics exist.

    Raises:
        Unavailable: no broker answers, or a topic is missing because `retail-stream init` has not run yet.
    """
    try:
        there = admin(connections).list_topics(timeout=ANSWER_S).topics
    except KafkaException as e:
        raise unavailable(connections) from e
    missing = sorted(set(names) - set(there))
    if missing:
        raise Unavailable(f"Kafka has no topic {missing[0]} yet: `retail-stream init` creates the topics.")


def end_offsets(connections: Connections, keys: Iterable[TopicPartitionKey]) -> dict[TopicPartitionKey, int]:
    """Log end offset (the offset that the next record gets) of each (topic, partition).

    A new client asks each time: one that saw a broker die goes on asking with a leader epoch of before for minutes.

    Raises:
        Unavailable: no broker answers.
    """
    return latest_offsets(connections, admin(connections), keys)


def latest_offsets(
    connections: Connections,
    client: AdminClient,
    keys: Iterable[TopicPartitionKey],
    *,
    committed: bool = False,
    within_s: float = ANSWER_S,
) -> dict[TopicPartitionKey, int]:
    """As :func:`end_offsets`, asked by a client that is there already. ``committed``: as far as `read_committed` sees,
    which is up to the first transaction that is still open.

    Raises:
        Unavailable: not every partition's leader answers; ask by a new client then.
    """
    isolation = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    wanted = {TopicPartition(t, p): OffsetSpec.latest() for t, p in keys}
    try:
        asked = client.list_offsets(wanted, request_timeout=within_s, isolation_level=isolation)
        ends = {(tp.topic, tp.partition): f.result(within_s + _GRACE_S).offset for tp, f in asked.items()}
    except (KafkaException, TimeoutError) as e:
        raise unavailable(connections) from e
    # Where a leader gave no answer in time, librdkafka gives no error but an offset that is none.
    if any(end < 0 for end in ends.values()):
        raise unavailable(connections)
    return ends


def committed_offsets(
    connections: Connections, group: str, keys: Iterable[TopicPartitionKey]
) -> dict[TopicPartitionKey, int]:
    """Committed offsets of a consumer group; a partition that it never committed is absent.

    A consumer of the group asks, which joins nothing, and a new one each time: librdkafka's admin request for this
    crashes the process while a coordinator moves (its issue 5040), and hangs for good after a broker came back.

    Raises:
        Unavailable: no broker answers.
    """
    asking = consumer(connections, str(group))
    try:
        answer = asking.committed([TopicPartition(*key) for key in keys], timeout=ANSWER_S)
    except KafkaException as e:
        raise unavailable(connections) from e
    finally:
        asking.close()
    if any(tp.error is not None for tp in answer):
        raise unavailable(connections)
    return {(tp.topic, tp.partition): tp.offset for tp in answer if tp.offset >= 0}
