"""Records out to Kafka, and the certainty that the brokers have them."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from retail_stream.waiting import Stopped

Headers = list[tuple[str, bytes | None]]

# How long one call may wait for the brokers before the next look at ``stop``.
_WAIT_S = 0.1
# How long after a stop the brokers may take: about as long as the transport waits for the agents.
_STOP_S = 5.0


class Delivery:
    """Sends records; `finish` returns when all of them are delivered. One thread at a time may use it."""

    def __init__(self, producer: Callable[..., Producer], stop: threading.Event) -> None:
        """``producer``: makes one from librdkafka settings that are added to its own. ``stop``: ends the waits."""
        self._failed: KafkaError | None = None
        self._stop = stop
        self._stopped_at: float | None = None
        # Called only for records that failed: a Python call for each delivered one would be a third of the cost.
        self._producer = producer(**{"delivery.report.only.error": True, "on_delivery": self._note})

    def _note(self, error: KafkaError, _: Message) -> None:
        self._failed = self._failed or error

    def send(
        self,
        topic: str,
        partition: int,
        records: Iterable[tuple[bytes | None, bytes | None, int, Headers]],
    ) -> None:
        """Pass records (value, key, timestamp in milliseconds, headers) to the client, in order.

        Raises:
            KafkaException: a record can never be delivered, such as one that is too large.
            Stopped: the program is to stop, and the brokers have not made room in time.
        """
        produce: Any = self._producer.produce
        for value, key, timestamp, headers in records:
            while True:
                try:
                    # By position: names would be looked up for each record.
                    produce(topic, value, key, partition, None, None, timestamp, headers)
                    break
                except BufferError:
                    # The local queue is full until the brokers take some.
                    self._producer.poll(_WAIT_S)
                    self._check_stop()

    def finish(self) -> None:
        """Wait until the brokers have acknowledged everything that was sent, however long they are away.

        Raises:
            KafkaException: a record can never be delivered.
            Stopped: the program is to stop, and the brokers have not acknowledged everything in time.
        """
        while self._producer.flush(_WAIT_S):
            self._check_stop()
        if self._failed is not None:
            raise KafkaException(self._failed)

    def _check_stop(self) -> None:
        if self._stop.is_set():
            self._stopped_at = self._stopped_at or time.monotonic()
            if time.monotonic() - self._stopped_at > _STOP_S:
                raise Stopped
