"""The edge to Kafka: records and what the ledger says of them, in one transaction.

A transaction takes what has come together in a short while, so that at a few records a second each waits little, and
at many thousands the cost of a transaction is shared by many. The offsets that the ledger names are
known when the records are delivered, which is before the transaction is committed::

    thread   makes ────────────── makes ───────────── makes ...
    worker         begin, records → places → ledger → commit
"""

import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.errors import RetailStreamError
from services.generator import metrics
from services.generator.publishing.faults import Fault
from services.generator.publishing.ledger import Ledger
from services.generator.publishing.records import Batch
from services.generator.publishing.transactions import Transactions
from services.generator.retailer.supply import Supply

#: How often due records are looked for: coarse enough to cost little, far finer than any window.
TICK_S = 0.02
#: A record waits no longer than this for others to share its transaction.
_SLICE_S = 0.15
#: Enough for one transaction; a thread that has so many ready waits for the one before.
_FULL = 16_384
#: The key decides on the partition.
_ANY = -1


class Publisher:
    """Publishes one entity's records in order. Used by one thread."""

    def __init__(
        self,
        entity: Entity,
        transactions: Transactions,
        ledger: Ledger,
        stop: threading.Event,
        supply: Supply | None = None,
    ) -> None:
        """``supply``: told the ids of records that everybody can read."""
        self._entity = entity
        self._topic = topics.raw(entity)
        self._transactions = transactions
        self._ledger = ledger
        self._stop = stop
        self._supply = supply
        self._pending = Batch()
        self._since = 0.0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"publisher-{entity}")
        self._running: Future[None] | None = None
        self._records = metrics.RECORDS.labels(entity)
        self._in_flight = metrics.IN_FLIGHT.labels(entity)
        self._faults = {f: metrics.FAULTS.labels(entity, f) for f in Fault}
        #: records published, for the log
        self.sent = 0
        self.planted: Counter[Fault] = Counter()

    def send(self, batch: Batch) -> None:
        """Take records over; waits while as many as fit into a transaction wait for the one before.

        Raises:
            RetailStreamError: see :meth:`Transactions.run`.
        """
        if not len(batch):
            return
        if not len(self._pending):
            self._since = time.monotonic()
        self._pending.append(batch)
        if len(self._pending) >= _FULL:
            self._hand_over()

    def idle(self) -> None:
        """Wait for a tick, or the stop, and publish what is due."""
        self._stop.wait(TICK_S)
        self.poll()

    def poll(self, now: bool = False) -> None:
        """Publish what has waited long enough; ``now``: all.

        Raises:
            RetailStreamError: see :meth:`Transactions.run`.
        """
        if self._running is None:
            self._transactions.poll()
        elif self._running.done():
            self._wait()
        if self._running is None and len(self._pending) and (now or time.monotonic() - self._since >= _SLICE_S):
            self._hand_over()

    def flush(self) -> None:
        """Wait until every record is published, and everybody can read it.

        Raises:
            RetailStreamError: see :meth:`Transactions.run`.
        """
        if len(self._pending):
            self._hand_over()
        self._wait()
        self._worker.shutdown()
        self._transactions.readable(self._topic, topics.Result.FAULTS)

    def _hand_over(self) -> None:
        self._wait()
        batch, self._pending = self._pending, Batch()
        self._in_flight.set(len(batch))
        self._running = self._worker.submit(self._publish, batch)

    def _wait(self) -> None:
        if self._running is not None:
            self._running.result()
            self._running = None

    def _publish(self, batch: Batch) -> None:
        self._transactions.run(partial(self._write, batch))
        self._records.inc(len(batch))
        self.sent += len(batch)
        self._in_flight.set(0)
        planted = Counter(fault for faults in batch.faults.values() for fault in faults)
        # Another thread adds them up meanwhile: replaced, never changed.
        self.planted = self.planted + planted
        for fault, count in planted.items():
            self._faults[fault].inc(count)
        if self._supply is not None and self._supply.waits_for(batch.ids):
            self._transactions.readable(self._topic)
            for number in batch.ids:
                self._supply.delivered(number)

    def _write(self, batch: Batch, producer: Producer) -> None:
        places: dict[int, tuple[int, int]] = {}
        failed: list[KafkaError] = []

        def placed(row: int, error: KafkaError | None, message: Message) -> None:
            self._transactions.witness(error, message)
            if error is not None:
                failed.append(error)
            else:
                places[row] = int(message.partition() or 0), int(message.offset() or 0)

        # One at least: where a record is tells whether a commit without an answer has worked.
        told = {row: partial(placed, row) for row in (batch.faults or (0,))}
        produce, topic, headers, report = producer.produce, self._topic, batch.headers, told.get
        stamps = [at_us // 1000 for at_us in batch.at_us]
        # By position, as names cost a third of a call: topic, value, key, partition, callback, the same, timestamp,
        # headers.
        for row, (key, value, stamp) in enumerate(zip(batch.keys, batch.values, stamps, strict=True)):
            if row in headers:
                produce(topic, value, key, _ANY, report(row), None, stamp, list(headers[row]))
            else:
                produce(topic, value, key, _ANY, report(row), None, stamp)
        if not batch.faults:
            return
        self._transactions.delivered(producer)
        if failed:
            raise KafkaException(failed[0])
        if len(places) < len(told):
            raise RetailStreamError(f"Kafka said of {len(told) - len(places)} records of {topic} not where they are.")
        key = self._entity.encode()
        for entry in self._ledger.entries(self._entity, batch, places):
            producer.produce(topics.Result.FAULTS, entry, key, timestamp=batch.at_us[-1] // 1000)
