"""The cleaner's edges: a chunk of Kafka messages in, delivered clean records and dead letters out."""

import threading
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from retail_stream import deadletters, topics
from retail_stream.entities import Entity
from retail_stream.kafka import SEQUENCE_TIME, SOURCE_OFFSET, as_big_endian, big_endian
from retail_stream.registry import Registry, Writers
from retail_stream.wire import Writer, schema_id
from services.cleaner import metrics
from services.cleaner.clean import Cleaned, Raw, clean
from services.cleaner.expectations import RULES_VERSION
from services.cleaner.targets import Targets

_POLL_S = 0.1


class Forwarder:
    """Cleans chunks of one entity. One thread at a time may call it; the producer may be shared."""

    def __init__(self, entity: Entity, registry: Registry, producer: Producer, reader: Writer) -> None:
        """``reader``: the raw schema whose fields the rules read."""
        self.entity = entity
        self._producer = producer
        self._reader = reader
        self._writers = Writers(registry, f"{topics.raw(entity)}-value")
        self._targets = Targets(registry, entity)

    def forward(self, messages: Sequence[Message]) -> list[bool]:
        """Deliver what the records of one partition become, in order; returns, record by record, whether rejected.

        When it returns, the brokers have acknowledged everything.

        Raises:
            KafkaException: a record cannot be delivered, ever.
        """
        raw = _columns(self.entity, messages)
        writers = self._writers.get(schema_id(v) for v in raw.values)
        used = {n: writers[n] for n in {schema_id(v) for v in raw.values} if n is not None and n in writers}
        cleaned = clean(raw, writers, self._reader, self._targets.get(used))
        self._deliver(messages, cleaned)
        self._count(len(messages), cleaned)
        return [i in cleaned.rejected for i in range(len(messages))]

    def _deliver(self, messages: Sequence[Message], cleaned: Cleaned) -> None:
        delivery = _Delivery(len(messages))
        clean_topic, dlq_topic = topics.clean(self.entity), topics.dlq(self.entity)
        for row, m in enumerate(messages):
            headers = list(m.headers() or ())
            rejection = cleaned.rejected.get(row)
            if rejection is None:
                topic, value = clean_topic, cleaned.values[row]
                headers.append((SOURCE_OFFSET, as_big_endian(m.offset())))
            else:
                topic, value = dlq_topic, m.value()
                headers += deadletters.headers(
                    m.topic(), m.partition(), m.offset(), rejection.stage, rejection.rules, RULES_VERSION, rejection.why
                )
            self._produce(topic, m, value, headers, delivery)
        delivery.wait(self._producer)

    def _produce(
        self, topic: str, m: Message, value: bytes | None, headers: deadletters.Headers, delivery: "_Delivery"
    ) -> None:
        while True:
            try:
                self._producer.produce(
                    topic,
                    value,
                    m.key(),
                    partition=m.partition(),
                    timestamp=m.timestamp()[1],
                    headers=headers,
                    on_delivery=delivery.done,
                )
                return
            except BufferError:
                # The local queue is full: let the brokers take some.
                self._producer.poll(_POLL_S)

    def _count(self, records: int, cleaned: Cleaned) -> None:
        entity = str(self.entity)
        metrics.RECORDS_IN.labels(entity).inc(records)
        metrics.RECORDS_REJECTED.labels(entity).inc(len(cleaned.rejected))
        metrics.RECORDS_OUT.labels(entity).inc(records - len(cleaned.rejected))
        for (action, rule), count in cleaned.counts.items():
            metrics.RULES_BROKEN.labels(entity, action, rule).inc(count)


class _Delivery:
    """Counts down the acknowledgements of one chunk, whichever thread polls the shared producer."""

    def __init__(self, outstanding: int) -> None:
        self._outstanding = outstanding
        self._lock = threading.Lock()
        self._error: KafkaError | None = None

    def done(self, error: KafkaError | None, _: Message) -> None:
        with self._lock:
            self._outstanding -= 1
            self._error = self._error or error

    def wait(self, producer: Producer) -> None:
        while self._outstanding > 0:
            producer.poll(_POLL_S)
        if self._error is not None:
            raise KafkaException(self._error)


def _columns(entity: Entity, messages: Sequence[Message]) -> Raw:
    values = [m.value() for m in messages]
    times = [m.timestamp()[1] * 1000 for m in messages]
    sequence_times = {
        i: big_endian(header)
        for i, v in enumerate(values)
        if v is None and (header := dict(messages[i].headers() or ()).get(SEQUENCE_TIME)) is not None
    }
    return Raw(entity, values, [m.key() for m in messages], times, sequence_times)
