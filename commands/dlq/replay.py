"""The Kafka side of a replay: counts partitions, and publishes records until the brokers have stored all."""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from commands.dlq.plan import ReplayRecord
from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.errors import RetailStreamError
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import topic_partitions
from retail_stream.settings import Connections
from retail_stream.waiting import COMMAND_PATIENCE_S

_WAIT_S = 1.0

Failed = list[tuple[ReplayRecord, KafkaError]]


def partitions(connections: Connections) -> Mapping[str, int]:
    """Raw topic → its number of partitions.

    Raises:
        Unavailable: no broker answers.
    """
    names = [topics.raw(e) for e in Entity]
    counted = Counter(topic for topic, _ in topic_partitions(connections, *names))
    return {name: counted[name] for name in names}


def publish(connections: Connections, records: Iterable[ReplayRecord], patience_s: float = COMMAND_PATIENCE_S) -> int:
    """Publish records in order; returns their number once the brokers have stored all.

    Raises:
        Unavailable: the brokers store nothing for ``patience_s`` seconds. Records stored before stay.
        RetailStreamError: some records cannot be delivered; all others are stored.
    """
    failed: Failed = []
    producer = clients.producer(connections)
    number = 0
    for record in records:
        number += 1
        _produce(connections, producer, record, failed, patience_s)
        producer.poll(0)
    _drain(connections, producer, 0, patience_s)
    if failed:
        record, error = failed[0]
        raise RetailStreamError(
            f"{len(failed):,} of {number:,} records cannot be published, the first of them to {record.topic}/"
            f"{record.partition}: {error.str()}. All others are published. Repeat the command after a fix: a record "
            "counts once, however often it is replayed."
        )
    return number


def _produce(
    connections: Connections, producer: Producer, record: ReplayRecord, failed: Failed, patience_s: float
) -> None:
    while True:
        try:
            producer.produce(
                record.topic,
                record.value,
                record.key,
                partition=record.partition,
                timestamp=record.timestamp,
                headers=list(record.headers),
                on_delivery=partial(_record_failure, failed, record),
            )
            return
        except BufferError:
            _drain(connections, producer, len(producer) - 1, patience_s)
        except KafkaException as e:
            failed.append((record, e.args[0]))
            return


def _record_failure(failed: Failed, record: ReplayRecord, error: KafkaError | None, _: Message) -> None:
    if error is not None:
        failed.append((record, error))


def _drain(connections: Connections, producer: Producer, most: int, patience_s: float) -> None:
    """Wait until at most ``most`` records are undelivered."""
    patience = patience_s
    while (left := len(producer)) > most:
        producer.flush(_WAIT_S) if most == 0 else producer.poll(_WAIT_S)
        patience = patience_s if len(producer) < left else patience - _WAIT_S
        if patience <= 0:
            raise clients.unavailable(connections)
