"""The cleaner's edges: records of one partition in, delivered clean records and dead letters out."""

import time
from collections.abc import Iterable, Set
from dataclasses import dataclass
from itertools import compress

from confluent_kafka import Message

from retail_stream import dead_letters, topics
from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.registry import Registry, SubjectSchemas
from retail_stream.entities import Entity
from retail_stream.waiting import Wait, wait_for
from services.cleaner import metrics
from services.cleaner.clean import Cleaned, clean
from services.cleaner.delivery import Delivery
from services.cleaner.expectations import version
from services.cleaner.records import Records
from services.cleaner.targets import CleanSchemas
from services.cleaner.verdict import FailedExpectation


class NotLearnt(Exception):
    """Schema ids must be looked up first with :meth:`Forwarder.learn`, which waits for a registry that is away."""

    def __init__(self, ids: Set[int]) -> None:
        """``ids``: those of the batch."""
        super().__init__(ids)
        self.ids = ids


@dataclass(frozen=True)
class Sent:
    """A chunk whose records are sent and perhaps not delivered.

    ``records``: how many it had. ``oldest``: the smallest of their timestamps, in milliseconds. ``began``: when the
    work on it began, in seconds of the performance counter.
    """

    records: int
    cleaned: Cleaned
    oldest: int
    began: float


class Forwarder:
    """Cleans records of one entity. One thread at a time may call it."""

    def __init__(
        self, entity: Entity, registry: Registry, delivery: Delivery, reader: RecordSchema, wait: Wait = wait_for
    ) -> None:
        """``reader``: the raw schema whose fields the rules read. ``wait``: waits for a registry that is away."""
        self.entity = entity
        self._delivery = delivery
        self._reader = reader
        self._writers = SubjectSchemas(registry, topics.topic(topics.raw(entity)).subject, wait)
        self._targets = CleanSchemas(registry, entity, reader, wait)
        self._asked: frozenset[int] = frozenset()

    def learn(self, ids: Iterable[int]) -> None:
        """Look schema ids up, and register their clean schemas; a registry that is away is waited for."""
        found = self._writers.get(ids)
        self._targets.get({i: found[i] for i in ids if i in found})
        self._asked = self._asked.union(ids)

    def send(self, messages: list[Message]) -> Sent:
        """Send what records of one partition become, in order; ``messages`` is empty afterwards.

        Raises:
            NotLearnt: there are schema ids that were not looked up yet; nothing was sent.
            FailedExpectation: a record broke a rule with the action ``fail``; nothing was sent.
            KafkaException: a record can never be delivered.
        """
        began = time.perf_counter()
        records = Records.of(messages)
        raw = records.raw(self.entity)
        ids = set(raw.joined.ids())
        writers = self._writers.get(())
        targets = self._targets.get({})
        if not ids <= self._asked:
            raise NotLearnt(ids)
        # An id that is not registered now may be registered by the next batch.
        self._asked &= targets.keys()
        # Freed here and now, not one by one on the event loop.
        messages.clear()
        try:
            cleaned = clean(raw, writers, self._reader, targets)
        except FailedExpectation as e:
            place = f"{records.topic}/{records.partition}@{records.offsets[e.row]}"
            raise FailedExpectation(e.row, e.rule, place) from e
        self._send_clean(records, cleaned)
        self._send_dead_letters(records, cleaned)
        return Sent(len(records), cleaned, min(records.timestamps), began)

    def finish(self, sent: Iterable[Sent]) -> None:
        """Wait until the brokers have acknowledged everything that was sent, then count it.

        Raises:
            KafkaException: a record can never be delivered.
        """
        self._delivery.finish()
        for one in sent:
            metrics.count(self.entity, one.records, one.cleaned)
            metrics.observe(self.entity, one.records, one.oldest, one.began)

    def _send_clean(self, records: Records, cleaned: Cleaned) -> None:
        rows = zip(
            cleaned.values, records.keys, records.timestamps, records.with_source(version(self.entity)), strict=True
        )
        good = compress(rows, cleaned.good) if cleaned.rejected else rows
        self._delivery.send(topics.clean(self.entity), records.partition, good)

    def _send_dead_letters(self, records: Records, cleaned: Cleaned) -> None:
        dead = [
            (
                records.values[row],
                records.keys[row],
                records.timestamps[row],
                [
                    *(records.headers[row] or ()),
                    *dead_letters.headers(
                        records.topic,
                        records.partition,
                        records.offsets[row],
                        rejected,
                        version(self.entity),
                    ),
                ],
            )
            for row, rejected in sorted(cleaned.rejected.items())
        ]
        self._delivery.send(topics.dlq(self.entity), records.partition, dead)
