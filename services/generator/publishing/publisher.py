"""Publishes records, what they change of the state, and their ledger entries, in one transaction.

A transaction takes the records of a short while: at a few records a second each of them waits little, and at many
thousands they share its cost. The ledger names the offsets of records, which are known once they are delivered, before
the commit::

    thread   makes ────────────── makes ───────────── makes ...
    worker         begin, records, state → offsets → ledger → commit
"""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.errors import RetailStreamError
from services.generator.metrics import Counts
from services.generator.publishing.ledger import Ledger
from services.generator.publishing.transactions import Transactions
from services.generator.records import ProducerBatch, Tally
from services.generator.retailer.supply import Supply
from services.generator.state.entries import entries, sold_entries

#: How often due records are looked for: cheap enough, and much shorter than any window.
TICK_S = 0.02
#: The longest that a record waits for others to share its transaction.
_SHARE_S = 0.15
#: How long published records may stay unreadable before what depends on them goes on.
_READABLE_S = 30.0
#: The most records that wait; a thread that makes more waits for the previous transaction.
_FULL = 16_384
#: The key decides on the partition.
_ANY_PARTITION = -1


class Publisher:
    """Publishes one entity's records in order. Used by one thread.

    Each method that publishes raises the RetailStreamError of :meth:`Transactions.run`.
    """

    def __init__(
        self,
        entity: Entity,
        transactions: Transactions,
        ledger: Ledger,
        stop: threading.Event,
        tally: Tally,
        supply: Supply | None = None,
        sold: Mapping[int, int] | None = None,
    ) -> None:
        """``tally``: of what is published already; ``sold``: product → pieces sold so far.

        ``supply``: gets the records that can be read.
        """
        self._entity = entity
        self._topic = topics.raw(entity)
        self._transactions = transactions
        self._ledger = ledger
        self._stop = stop
        self._tally = tally
        self._supply = supply
        self._sold = dict(sold or {})
        self._pending = ProducerBatch()
        self._pending_since = 0.0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"publisher-{entity}")
        self._running: Future[None] | None = None
        self.counts = Counts(entity)

    def send(self, batch: ProducerBatch) -> None:
        """Accept records. Waits for the previous transaction while a full one is pending."""
        if not len(batch):
            return
        if not len(self._pending):
            self._pending_since = time.monotonic()
        self._pending.append(batch)
        if len(self._pending) >= _FULL:
            self._start_transaction()

    def idle(self) -> None:
        """Wait for a tick or the stop, and publish what is due."""
        self._stop.wait(TICK_S)
        self.poll()

    def poll(self, now: bool = False) -> None:
        """Publish the records that have waited long enough; ``now``: all records."""
        if self._running is None:
            self._transactions.poll()
        elif self._running.done():
            self._finish_transaction()
        due = now or time.monotonic() - self._pending_since >= _SHARE_S
        if self._running is None and len(self._pending) and due:
            self._start_transaction()

    def flush(self) -> None:
        """Wait until all records are published and readers of `read_committed` see them."""
        if len(self._pending):
            self._start_transaction()
        self._finish_transaction()
        self._worker.shutdown()
        self._transactions.wait_until_readable(self._topic, topics.Result.FAULTS, patience_s=_READABLE_S)

    def _start_transaction(self) -> None:
        self._finish_transaction()
        batch, self._pending = self._pending, ProducerBatch()
        self.counts.sending(batch)
        self._running = self._worker.submit(self._publish, batch)

    def _finish_transaction(self) -> None:
        if self._running is not None:
            self._running.result()
            self._running = None

    def _publish(self, batch: ProducerBatch) -> None:
        self._tally = self._tally.after(batch)
        changed = entries(self._entity, batch, self._tally) | sold_entries(batch, self._sold)
        self._transactions.run(partial(self._write, batch, changed))
        self.counts.published(batch)
        if self._supply is not None and self._supply.waits_for(batch):
            self._transactions.wait_until_readable(self._topic, patience_s=_READABLE_S)
            self._supply.delivered(batch)

    def _write(self, batch: ProducerBatch, state: Mapping[bytes, bytes | None], producer: Producer) -> None:
        locations: dict[int, tuple[int, int]] = {}
        failed: list[KafkaError] = []

        def delivered(row: int, error: KafkaError | None, message: Message) -> None:
            self._transactions.delivered(error, message)
            if error is not None:
                failed.append(error)
            else:
                locations[row] = int(message.partition() or 0), int(message.offset() or 0)

        # At least one: its offset shows later whether a commit without an answer has worked.
        reports = {row: partial(delivered, row) for row in (batch.faults or (0,))}
        produce, topic, headers, report = producer.produce, self._topic, batch.headers, reports.get
        timestamps = [at_us // 1000 for at_us in batch.at_us]
        # Positional arguments, since names cost a third of a call: topic, value, key, partition, callback, a second
        # callback, timestamp, headers.
        for row, (key, value, timestamp) in enumerate(zip(batch.keys, batch.values, timestamps, strict=True)):
            if row in headers:
                produce(topic, value, key, _ANY_PARTITION, report(row), None, timestamp, list(headers[row]))
            else:
                produce(topic, value, key, _ANY_PARTITION, report(row), None, timestamp)
        for key, entry in state.items():
            produce(topics.Result.STATE, entry, key)
        if not batch.faults:
            return
        self._transactions.flush(producer)
        if failed:
            raise KafkaException(failed[0])
        if missing := len(reports) - len(locations):
            raise RetailStreamError(f"Kafka has reported no offset for {missing} records of {topic}.")
        for fault in self._ledger.entries(self._entity, batch, locations):
            produce(topics.Result.FAULTS, fault, self._entity.encode(), timestamp=timestamps[-1])
