"""Partitions of topics, their end offsets, and the committed offsets of consumer groups."""

from collections.abc import Iterable

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from retail_stream.errors import Unavailable
from retail_stream.kafka.clients import ANSWER_S, GRACE_S, admin, consumer, unavailable
from retail_stream.settings import Connections

#: (topic, partition)
TopicPartitionKey = tuple[str, int]


def topic_partitions(connections: Connections, *topics: str) -> list[TopicPartitionKey]:
    """Every (topic, partition) of the topics, in order. A topic that does not exist has none.

    Raises:
        Unavailable: no broker answers.
    """
    try:
        there = admin(connections).list_topics(timeout=ANSWER_S).topics
    except KafkaException as e:
        raise unavailable(connections, e) from e
    return [(str(t), p) for t in topics if t in there for p in sorted(there[t].partitions)]


def require_topics(connections: Connections, names: Iterable[str]) -> None:
    """Check that topics exist.

    Raises:
        Unavailable: no broker answers, or a topic is missing because `retail-stream init` has not run yet.
    """
    try:
        there = admin(connections).list_topics(timeout=ANSWER_S).topics
    except KafkaException as e:
        raise unavailable(connections, e) from e
    missing = sorted(set(names) - set(there))
    if missing:
        raise Unavailable(f"Kafka has no topic {missing[0]} yet; run `retail-stream init`, which creates the topics.")


def end_offsets(connections: Connections, keys: Iterable[TopicPartitionKey]) -> dict[TopicPartitionKey, int]:
    """Log end offset (the offset that the next record gets) of each (topic, partition).

    A new client asks each time. One that saw a broker die may ask with an old leader epoch for minutes.

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
    """As :func:`end_offsets`, asked by an existing client.

    ``committed``: the last stable offsets instead, up to which a `read_committed` consumer can read: where the first
    open transaction begins.

    Raises:
        Unavailable: not every partition's leader answers; then ask with a new client.
    """
    isolation = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    ends = _listed(connections, client, keys, OffsetSpec.latest(), isolation, within_s)
    # For a leader that did not answer in time, librdkafka returns a negative offset instead of an error.
    if any(end < 0 for end in ends.values()):
        raise unavailable(connections)
    return ends


def first_offsets(
    connections: Connections, keys: Iterable[TopicPartitionKey], since_ms: int | None = None
) -> dict[TopicPartitionKey, int]:
    """The offset where each log begins, or that of its first record whose timestamp is ``since_ms`` or later.

    ``since_ms``: milliseconds since 1970-01-01 UTC, not negative. The log's end where no record is so late.

    Raises:
        Unavailable: no broker answers.
    """
    places = list(keys)
    spec = OffsetSpec.earliest() if since_ms is None else OffsetSpec.for_timestamp(since_ms)
    # Before the offsets: a record that comes meanwhile is not passed over.
    ends = end_offsets(connections, places)
    found = _listed(connections, admin(connections), places, spec, IsolationLevel.READ_UNCOMMITTED, ANSWER_S)
    # -1 means that no record is so late; other negative numbers, that a leader did not answer.
    if any(offset < (0 if since_ms is None else -1) for offset in found.values()):
        raise unavailable(connections)
    return {place: ends[place] if offset < 0 else offset for place, offset in found.items()}


def _listed(
    connections: Connections,
    client: AdminClient,
    keys: Iterable[TopicPartitionKey],
    spec: OffsetSpec,
    isolation: IsolationLevel,
    within_s: float,
) -> dict[TopicPartitionKey, int]:
    try:
        asked = client.list_offsets(
            {TopicPartition(*key): spec for key in keys}, request_timeout=within_s, isolation_level=isolation
        )
        return {(tp.topic, tp.partition): f.result(within_s + GRACE_S).offset for tp, f in asked.items()}
    except (KafkaException, TimeoutError) as e:
        raise unavailable(connections, e) from e


def committed_offsets(
    connections: Connections, group: str, keys: Iterable[TopicPartitionKey]
) -> dict[TopicPartitionKey, int]:
    """Committed offsets of a consumer group. A partition that it never committed is absent.

    A consumer asks, without joining the group: librdkafka's admin request crashes the process while a coordinator moves
    (its issue 5040). It is a new consumer each time, because an old one hangs for good after a broker came back.

    Raises:
        Unavailable: no broker answers.
    """
    asking = consumer(connections, str(group))
    try:
        answer = asking.committed([TopicPartition(*key) for key in keys], timeout=ANSWER_S)
    except KafkaException as e:
        raise unavailable(connections, e) from e
    finally:
        asking.close()
    if any(tp.error is not None for tp in answer):
        raise unavailable(connections)
    return {(tp.topic, tp.partition): tp.offset for tp in answer if tp.offset >= 0}
