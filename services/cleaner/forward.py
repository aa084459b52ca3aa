"""The cleaner's edges: records of one partition in, delivered clean records and dead letters out."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from retail_stream import topics
from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.registry import Registry, SubjectSchemas
from retail_stream.entities import Entity
from retail_stream.errors import Rejected, Stage, Unavailable
from retail_stream.kafka.delivery import BatchRefused, Delivery
from retail_stream.kafka.headers import REPLAY_OF, RULES_VERSION, SOURCE_OFFSET
from retail_stream.kafka.limits import BatchLimits
from retail_stream.kafka.record_batches.added_headers import Header, alike
from retail_stream.kafka.record_batches.columns import Columns
from retail_stream.kafka.record_batches.headers import find_header
from retail_stream.kafka.record_batches.outgoing import build
from retail_stream.kafka.record_batches.reference import RECORD_BYTES
from retail_stream.rules.built_in import SIZE_FORWARDABLE, Action
from retail_stream.waiting import Wait, wait_for
from services.cleaner.clean import Cleaned, clean, values_of
from services.cleaner.expectations import version
from services.cleaner.letters import TooLargeLetter, letters
from services.cleaner.targets import CleanSchemas
from services.cleaner.verdict import FailedExpectation

#: Calls a function with arguments in the thread that computes.
Compute = Callable[..., Awaitable[Any]]
#: Bytes of a piece that is computed on the spot: the way to the other thread and back would take longer. At 5,000
#: sales/s in four partitions a piece takes 2 ms here; there it takes 4.5 ms, and one waits for another.
_SMALL = 2**16


class NotLearnt(Exception):
    """Schema ids must be looked up first with :meth:`Forwarder.learn`, which waits for a registry that is away."""

    def __init__(self, ids: Set[int]) -> None:
        """``ids``: those of the records."""
        super().__init__(ids)
        self.ids = ids


@dataclass(frozen=True)
class Made:
    """What is to be sent of some records, in order, and what the rules said of them.

    ``oldest``: the smallest of their timestamps, in milliseconds. ``rejected``: their numbers, in any order; ``fresh``:
    those that are not replays of dead letters.
    """

    clean: Sequence[bytes]
    dead: Sequence[bytes]
    records: int
    oldest: int
    rejected: Sequence[int]
    fresh: Sequence[int]
    counts: Mapping[tuple[Action, str], int]


@dataclass
class Delivered:
    """What was delivered of one chunk. ``rejected``, ``fresh``: numbers of its records. ``began``: perf_counter."""

    began: float
    records: int = 0
    oldest: int = 2**63 - 1
    rejected: list[int] = field(default_factory=list)
    fresh: list[int] = field(default_factory=list)
    counts: Counter[tuple[Action, str]] = field(default_factory=Counter)

    def add(self, made: Made) -> None:
        """Count records that follow."""
        self.rejected += [self.records + row for row in made.rejected]
        self.fresh += [self.records + row for row in made.fresh]
        self.records += made.records
        self.oldest = min(self.oldest, made.oldest)
        self.counts.update(made.counts)


class Forwarder:
    """Cleans records of one entity; one call for each partition at a time."""

    def __init__(
        self,
        entity: Entity,
        registry: Registry,
        delivery: Delivery,
        limits: BatchLimits,
        compute: Compute,
        wait: Wait = wait_for,
    ) -> None:
        """``compute``: calls a function in the one thread that computes. ``wait``: waits for a server that is away."""
        self.entity = entity
        self._delivery, self._limits, self._compute, self._wait = delivery, limits, compute, wait
        self._reader = RecordSchema(topics.topic(topics.raw(entity)).schema())
        self._writers = SubjectSchemas(registry, topics.topic(topics.raw(entity)).subject, wait)
        self._targets = CleanSchemas(registry, entity, self._reader, wait)
        self._learning = threading.Lock()
        # What every clean record gets, beside its ``source.offset``.
        self._added: Sequence[Header] = ((RULES_VERSION, version(entity).encode()),)

    def learn(self, ids: Iterable[int]) -> None:
        """Look schema ids up, and register their clean schemas; a registry that is away is waited for."""
        with self._learning:
            found = self._writers.get(ids)
            self._targets.get({i: found[i] for i in ids if i in found})

    async def forward(self, pieces: Sequence[Columns]) -> Delivered:
        """Return when the brokers have all that becomes of consecutive records of one partition.

        A topic that takes smaller batches than before gets them all anew: what it has already is a repeat then.

        Raises:
            FailedExpectation: a record broke a rule with the action ``fail``; it and what follows were not sent.
        """
        while True:
            delivered = Delivered(time.perf_counter())
            try:
                for piece in pieces:
                    made = await self._made(piece)
                    await self._deliver(piece.partition, made)
                    delivered.add(made)
                return delivered
            except BatchRefused as refused:
                await asyncio.to_thread(self._limits.refused, refused.topic, refused.size)

    async def _made(self, piece: Columns) -> Made:
        asked: Set[int] = frozenset()
        while True:
            try:
                if piece.size <= _SMALL:
                    return self.make(piece, asked)
                made: Made = await self._compute(self.make, piece, asked)
                return made
            except NotLearnt as new:
                # In another thread: while the registry is away, other entities go on.
                await asyncio.to_thread(self.learn, new.ids)
                asked = new.ids
            except TooLargeLetter as error:
                await asyncio.to_thread(self._wait_for_larger, str(error))

    def _wait_for_larger(self, why: str) -> None:
        topic = topics.dlq(self.entity)
        before = self._limits[topic]

        def ask() -> None:
            self._limits.ask_again()
            if self._limits[topic] <= before:
                raise Unavailable(f"{why}; raise {topic}'s max.message.bytes.")

        self._wait(ask)

    async def _deliver(self, partition: int, made: Made) -> None:
        async def send(topic: str, batches: Sequence[bytes]) -> None:
            for batch in batches:
                await self._delivery.send(topic, partition, batch)

        clean, dead = send(topics.clean(self.entity), made.clean), send(topics.dlq(self.entity), made.dead)
        # Both end before the first error is raised: nothing may be on its way when the records are sent anew.
        for result in await asyncio.gather(clean, dead, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    def make(self, columns: Columns, asked: Set[int] = frozenset()) -> Made:
        """What is to be sent of some records of one partition.

        ``asked``: schema ids that were looked up for these records; those that were not found are not registered.

        Raises:
            NotLearnt: there are other schema ids that are not known.
            FailedExpectation: a record broke a rule with the action ``fail``.
            TooLargeLetter: the dead letter topic takes less than a letter's headers.
        """
        if columns.is_unread:
            return self._batches(_too_large(columns))
        writers, targets = self._writers.get(()), self._targets.get({})
        ids = set(values_of(columns).ids())
        if not ids <= targets.keys() | asked:
            raise NotLearnt(ids)
        try:
            cleaned = clean(self.entity, columns, writers, self._reader, targets)
        except FailedExpectation as e:
            place = f"{columns.topic}/{columns.partition}@{columns.offset[e.row]}"
            raise FailedExpectation(e.row, e.rule, place) from e
        return self._batches(cleaned)

    def _batches(self, cleaned: Cleaned) -> Made:
        columns, rejected, counts = cleaned.columns, dict(cleaned.rejected), cleaned.counts
        clean_topic, limit = topics.clean(self.entity), self._limits[topics.clean(self.entity)]
        sources = {SOURCE_OFFSET: columns.offset[cleaned.good]}
        outgoing = build(columns, cleaned.good, alike(len(cleaned.good), self._added, sources), limit)
        why = (
            f"its clean record is larger than {clean_topic} takes: {limit:,} bytes, {RECORD_BYTES:,} before compression"
        )
        for row in outgoing.too_large.tolist():
            rejected[row] = Rejected((SIZE_FORWARDABLE,), Stage.TRANSFORMATION, why)
            counts[Action.REJECT, SIZE_FORWARDABLE] += 1
        dead_limit = self._limits[topics.dlq(self.entity)]
        dead = letters(columns, rejected, outgoing.too_large, version(self.entity), dead_limit) if rejected else []
        replays = find_header(columns, REPLAY_OF).is_present if rejected else ()
        return Made(
            clean=[batch.encode() for batch in outgoing.batches],
            dead=[batch.encode() for batch in dead],
            records=len(columns),
            oldest=int(columns.timestamp.min()),
            rejected=list(rejected),
            fresh=[row for row in rejected if not replays[row]],
            counts=counts,
        )


def _too_large(columns: Columns) -> Cleaned:
    """A record that was not read."""
    why = f"it is larger than {RECORD_BYTES:,} bytes before compression"
    rejected = Rejected((SIZE_FORWARDABLE,), Stage.VALUE_CONVERTER, why)
    return Cleaned(columns, np.zeros(0, np.int64), {0: rejected}, Counter({(Action.REJECT, SIZE_FORWARDABLE): 1}))
