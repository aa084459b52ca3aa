"""The edge to Kafka: one producer per entity, bounded, whose failures surface.

The producer is idempotent and tries for ever, so a failure that it does report is final: the record is lost, and the
generator stops rather than go on beside the gap.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable

import structlog
from confluent_kafka import KafkaError, KafkaException, Message

from retail_stream import kafka, topics
from retail_stream.entities import Entity
from retail_stream.errors import RetailStreamError
from retail_stream.settings import Connections
from services.generator import metrics
from services.generator.faults import Fault
from services.generator.records import Record

#: How often due records are looked for: coarse enough to cost little, far finer than any window.
TICK_S = 0.02
#: Small batches cost producer and broker more than this wait costs anyone.
_LINGER_MS = 40
_IN_FLIGHT = 50_000
_FLUSH_S = 30.0
_REMIND_EVERY_S = 30.0
_log = structlog.get_logger(__name__)


class Outage:
    """Says once that the broker is away, and once that it is back, whichever producer notices."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._said_at: float | None = None

    def noticed(self, error: KafkaError) -> None:
        """librdkafka's errors that concern no single record."""
        now = time.monotonic()
        away = error.code() == KafkaError._ALL_BROKERS_DOWN
        if away and (self._said_at is None or now - self._said_at > _REMIND_EVERY_S):
            self._said_at = now
            _log.warning("waiting", why=str(kafka.unavailable(self._connections)))

    def over(self) -> None:
        """A record was delivered."""
        if self._said_at is not None:
            self._said_at = None
            _log.info("answered", after="waiting")


class Publisher:
    """Publishes one entity's records in order. Used by one thread, which also serves the reports."""

    def __init__(
        self,
        connections: Connections,
        entity: Entity,
        stop: threading.Event,
        outage: Outage,
        delivered: Callable[[int], None] | None = None,
    ) -> None:
        """``delivered``: told the id of each record that is on the topic; without it only failures are reported."""
        self._topic = topics.raw(entity)
        self._stop = stop
        self._outage = outage
        self._delivered = delivered
        self._failed: str | None = None
        self._unsaid = 0
        self._producer = kafka.producer(
            connections,
            **{
                "queue.buffering.max.messages": _IN_FLIGHT,
                "linger.ms": _LINGER_MS,
                "delivery.report.only.error": delivered is None,
                "error_cb": outage.noticed,
                "on_delivery": self._reported,
            },
        )
        self._records = metrics.RECORDS.labels(entity)
        self._in_flight = metrics.IN_FLIGHT.labels(entity)
        self._faults = {f: metrics.FAULTS.labels(entity, f) for f in Fault}
        #: records handed over, for the log
        self.sent = 0
        self.planted: Counter[Fault] = Counter()

    def send(self, record: Record) -> None:
        """Hand a record to the producer; waits while too many are in flight.

        Raises:
            RetailStreamError: a record was refused, or none was taken for 30 s after the stop.
        """
        stopping_since: float | None = None
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    key=record.key,
                    value=record.value,
                    timestamp=record.at_us // 1000,
                    headers=list(record.headers) if record.headers else None,
                )
                break
            except BufferError:
                self._serve(0.1)
                if self._stop.is_set():
                    stopping_since = stopping_since or time.monotonic()
                    if time.monotonic() - stopping_since > _FLUSH_S:
                        raise self._undelivered() from None
            except KafkaException as e:
                raise RetailStreamError(f"{self._topic} takes no more records: {e.args[0].str()}.") from e
        self._unsaid += 1
        for fault in record.faults:
            self.planted[fault] += 1
            self._faults[fault].inc()

    def idle(self) -> None:
        """Wait for a tick, or the stop, and serve the reports."""
        self._stop.wait(TICK_S)
        self.poll()

    def poll(self) -> None:
        """Serve the reports.

        Raises:
            RetailStreamError: a record was refused.
        """
        self._serve(0)

    def flush(self) -> None:
        """Wait until every record is on the topic.

        Raises:
            RetailStreamError: a record was refused, or the broker did not answer for 30 s.
        """
        if self._producer.flush(_FLUSH_S):
            raise self._undelivered()
        self._serve(0)

    def _serve(self, wait_s: float) -> None:
        self._producer.poll(wait_s)
        if self._unsaid:
            self._records.inc(self._unsaid)
            self.sent += self._unsaid
            self._unsaid = 0
            self._in_flight.set(len(self._producer))
        if self._failed is not None:
            raise RetailStreamError(self._failed)

    def _reported(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed = self._failed or f"A record for {self._topic} was refused: {error.str()}."
        elif self._delivered is not None:
            self._outage.over()
            self._delivered(int(message.key() or 0))

    def _undelivered(self) -> RetailStreamError:
        return RetailStreamError(f"{len(self._producer)} records were not delivered to {self._topic} within 30 s.")
