"""The edge of a replay: how many partitions there are, and records out to Kafka until the brokers have them all."""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from commands.dlq.plan import Record
from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.errors import RetailStreamError
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import topic_partitions
from retail_stream.settings import Connections
from retail_stream.waiting import COMMAND_PATIENCE_S

_WAIT_S = 1.0

Failed = list[tuple[Record, KafkaError]]


def partitions(connections: Connections) -> Mapping[str, int]:
    """Raw topic → its number of partitions.

    Raises:
        Unavailable: no broker answers.
    """
    names = [topics.raw(e) for e in Entity]
    counted = Counter(topic for topic, _ in topic_partitions(connections, *names))
    return {name: counted[name] for name in names}


def publish(connections: Connections, records: Iterable[Record], patience_s: float = COMMAND_PATIENCE_S) -> int:
    """Publish records, in order; returns how many, when the brokers have them all.

    Raises:
        Unavailable: the brokers take nothing for ``patience_s``. What they took stays.
        RetailStreamError: some can never be delivered; all the others were.
    """
    failed: Failed = []
    producer = clients.producer(connections)
    number = 0
    for record in records:
        number += 1
        _hand_over(connections, producer, record, failed, patience_s)
        producer.poll(0)
    _drain(connections, producer, 0, patience_s)
    if failed:
        record, error = failed[0]
        raise RetailStreamError(
            f"{len(failed):,} of {number:,} records cannot be published, the first of them to {record.topic}/"
            f"{record.partition}: {error.str()}. The others were; a second replay of a record counts no second time."
        )
    return number


def _hand_over(connections: Connections, producer: Producer, record: Record, failed: Failed, patience_s: float) -> None:
    while True:
        try:
            producer.produce(
                record.topic,
                record.value,
                record.key,
                partition=record.partition,
                timestamp=record.timestamp,
                headers=list(record.headers),
                on_delivery=partial(_note, failed, record),
            )
            return
        except BufferError:
            _drain(connections, producer, len(producer) - 1, patience_s)
        except KafkaException as e:
            failed.append((record, e.args[0]))
            return


def _note(failed: Failed, record: Record, error: KafkaError | None, _: Message) -> None:
    if error is not None:
        failed.append((record, error))


def _drain(connections: Connections, producer: Producer, enough: int, patience_s: float) -> None:
    """Wait until at most ``enough`` records are undelivered."""
    patience = patience_s
    while (left := len(producer)) > enough:
        producer.flush(_WAIT_S) if enough == 0 else producer.poll(_WAIT_S)
        patience = patience_s if len(producer) < left else patience - _WAIT_S
        if patience <= 0:
            raise clients.unavailable(connections)
