"""Records out to Kafka, and the certainty that the brokers have them."""

from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

Headers = list[tuple[str, bytes | None]]

# How long one call may wait for the brokers before it looks around again.
_WAIT_S = 0.1


class Delivery:
    """Sends records; `finish` returns when all of them are delivered. One thread at a time may use it."""

    def __init__(self, producer: Callable[..., Producer]) -> None:
        """``producer``: makes one from librdkafka settings that are added to its own."""
        self._failed: KafkaError | None = None
        # Called only for records that failed: a Python call for each that did not would be a third of the cost.
        self._producer = producer(**{"delivery.report.only.error": True, "on_delivery": self._note})

    def _note(self, error: KafkaError, _: Message) -> None:
        self._failed = self._failed or error

    def send(
        self,
        topic: str,
        partition: int,
        records: Iterable[tuple[bytes | None, bytes | None, int, Headers]],
    ) -> None:
        """Hand over records (value, key, timestamp in milliseconds, headers), in order.

        Raises:
            KafkaException: a record can never be delivered, such as one that is too large.
        """
        produce: Any = self._producer.produce
        for value, key, timestamp, headers in records:
            while True:
                try:
                    # By position: names would be looked up for each record.
                    produce(topic, value, key, partition, None, None, timestamp, headers)
                    break
                except BufferError:
                    # The local queue is full: let the brokers take some.
                    self._producer.poll(_WAIT_S)

    def finish(self) -> None:
        """Wait until the brokers have acknowledged everything that was sent; without end while they are away.

        Raises:
            KafkaException: a record cannot be delivered, ever.
        """
        while self._producer.flush(_WAIT_S):
            pass
        if self._failed is not None:
            raise KafkaException(self._failed)
