"""Handles to Kafka with the settings that the guarantees need, and the few reads that several programs share."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from retail_stream.errors import Unavailable
from retail_stream.settings import Connections
from retail_stream.topics import PARTITIONER

_ANSWER_S = 10.0
#: For the client to say that nothing came within that, before it is not believed any more.
_GRACE_S = 5.0
SOURCE_OFFSET = "source.offset"
SEQUENCE_TIME = "sequence.time"
REPLAY_OF = "replay.of"

TopicPartitionKey = tuple[str, int]


def _client(connections: Connections) -> dict[str, Any]:
    return {
        "bootstrap.servers": connections.kafka_bootstrap_servers,
        # librdkafka logs every failed reconnect; the services say it once, in their own words.
        "log_level": 2,
        "reconnect.backoff.max.ms": 2000,
        # A machine that is gone refuses nothing: a client that knocks there learns only afterwards who leads instead.
        "socket.connection.setup.timeout.ms": 5000,
        "broker.address.family": "v4",
        **connections.librdkafka(),
    }


def consumer(connections: Connections, group: str, **config: Any) -> Consumer:
    """A consumer that reads committed records from the beginning and never commits on its own."""
    return Consumer(
        {
            **_client(connections),
            "group.id": group,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,
            "fetch.queue.backoff.ms": 20,
            "queued.max.messages.kbytes": 32768,
            "session.timeout.ms": 10000,
            "heartbeat.interval.ms": 2000,
            **config,
        }
    )


def producer(connections: Connections, **config: Any) -> Producer:
    """An idempotent producer (acks=all, order kept) that tries until its record is delivered, without end."""
    return Producer(
        {
            **_client(connections),
            "enable.idempotence": True,
            "partitioner": PARTITIONER,
            "linger.ms": 5,
            "compression.type": "lz4",
            "message.timeout.ms": 0,
            # As large as it can be: how large a record may be is said by its topic, after compression (see topics.py).
            "message.max.bytes": 1_000_000_000,
            "queue.buffering.max.messages": 200000,
            **config,
        }
    )


def admin(connections: Connections) -> AdminClient:
    """An admin client."""
    return AdminClient(_client(connections))


def unavailable(connections: Connections) -> Unavailable:
    """The sentence for a broker that does not answer."""
    return Unavailable(f"Kafka at {connections.kafka_bootstrap_servers} does not answer.")


def partitions(connections: Connections, *topics: str) -> list[TopicPartitionKey]:
    """Every (topic, partition) of the topics, in order; a topic that does not exist has none.

    Raises:
        Unavailable: no broker answers.
    """
    try:
        there = admin(connections).list_topics(timeout=_ANSWER_S).topics
    except KafkaException as e:
        raise unavailable(connections) from e
    return [(str(t), p) for t in topics if t in there for p in sorted(there[t].partitions)]


def require_topics(connections: Connections, names: Iterable[str]) -> None:
    """Check that topics exist.

    Raises:
        Unavailable: no broker answers, or a topic is missing because `retail-stream init` has not run yet.
    """
    try:
        there = admin(connections).list_topics(timeout=_ANSWER_S).topics
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
    return latest(connections, admin(connections), keys)


def latest(
    connections: Connections,
    client: AdminClient,
    keys: Iterable[TopicPartitionKey],
    *,
    committed: bool = False,
    within_s: float = _ANSWER_S,
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
        answer = asking.committed([TopicPartition(*key) for key in keys], timeout=_ANSWER_S)
    except KafkaException as e:
        raise unavailable(connections) from e
    finally:
        asking.close()
    if any(tp.error is not None for tp in answer):
        raise unavailable(connections)
    return {(tp.topic, tp.partition): tp.offset for tp in answer if tp.offset >= 0}


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
        message = reader.poll(_ANSWER_S)
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
        left = {p for _, p in partitions(connections, topic)}
        reader.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in left])
        while left:
            # A call for many waits until it has them all, or for its whole timeout: so first for one.
            messages = reader.consume(1, _ANSWER_S)
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


def headers(message: Message) -> Mapping[str, bytes]:
    """Headers of a message by name; of a repeated name the last."""
    return dict(header_list(message))  # type: ignore[arg-type]


def header_list(message: Message) -> list[tuple[str, bytes | None]]:
    """As :func:`readable_headers`; none where the client cannot read them."""
    return readable_headers(message) or []


def readable_headers(message: Message) -> list[tuple[str, bytes | None]] | None:
    """Headers of a message in order; None where the client cannot read them: one has a name that is no UTF-8.

    To be asked once: of such a message the client gives a list with holes the second time.
    """
    try:
        return list(message.headers() or ())
    except (SystemError, UnicodeDecodeError):
        return None


def big_endian(value: bytes | None) -> int | None:
    """The signed 8-byte big-endian integer that the contract's headers hold, or None where it is not one."""
    return int.from_bytes(value, "big", signed=True) if value is not None and len(value) == 8 else None


def as_big_endian(number: int) -> bytes:
    """The inverse of :func:`big_endian`."""
    return number.to_bytes(8, "big", signed=True)
