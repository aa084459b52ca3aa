"""What the page reads from topics: their newest records, in pieces, never more than it can show."""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from confluent_kafka import Message, TopicPartition

from commands.dlq import show
from commands.dlq.letters import Letter
from retail_stream import topics
from retail_stream.avro.decode import ROW, RecordSchema, decode, schema_id
from retail_stream.avro.registry import Registry, SubjectSchemas
from retail_stream.entities import FIELDS, Entity
from retail_stream.kafka import clients
from retail_stream.kafka.batches import by_partition
from retail_stream.kafka.offsets import TopicPartitionKey, end_offsets, topic_partitions
from retail_stream.settings import Connections

#: A longer backlog of a partition is skipped, and said so.
BACKLOG = 50_000
#: Dead letters kept of each entity, and how large those of all together may be.
KEPT, KEPT_BYTES = 200, 8_000_000
#: Of a letter's value as hex.
SHOWN_BYTES = 4096
#: Sales from which the histogram of delays is made, and how many of a partition a look takes.
SAMPLE, SAMPLE_OF_PARTITION = 2_000, 500
#: Upper bounds of the histogram's bars, seconds; the last bar is all beyond.
BOUNDS_S = (0.5, 1, 2, 5, 10, 15, 20, 30, 45, 60, 120, 300)
_GROUP = "retail-stream.dashboard"
_LOOK_S = 0.05
_BATCH = 5_000
_MOST_S = 1.0


class Tail:
    """The records of some topics as they come, from at most ``backlog`` before each partition's end on."""

    def __init__(self, connections: Connections, names: list[str], backlog: int) -> None:
        """Opens nothing until :meth:`news` is called."""
        self._connections = connections
        self._names = names
        self._backlog = backlog
        self._next: dict[TopicPartitionKey, int] = {}
        self._consumer: Any = None
        #: records that were never looked at, because there were too many
        self.skipped = 0

    def news(self) -> Iterator[list[Message]]:
        """What has come since the last call, for a second at most.

        Raises:
            Unavailable: no broker answers; the next call goes on, with a new client.
        """
        try:
            yield from self._read()
        except BaseException:
            # Whoever reads may fail as well, which ends this generator.
            self._close()
            raise

    def _read(self) -> Iterator[list[Message]]:
        ends = end_offsets(self._connections, topic_partitions(self._connections, *self._names))
        if self._consumer is None:
            self._consumer = clients.consumer(self._connections, _GROUP, **{"queued.max.messages.kbytes": 2048})
        behind = {place: end for place, end in ends.items() if self._next.get(place, 0) < end}
        for place, end in behind.items():
            start = max(self._next.get(place, 0), end - self._backlog)
            self.skipped += start - self._next.get(place, 0)
            self._next[place] = start
        if not behind:
            return
        self._consumer.assign([TopicPartition(t, p, self._next[t, p]) for t, p in behind])
        until = time.monotonic() + _MOST_S
        while behind and time.monotonic() < until:
            messages = self._consumer.consume(1, _LOOK_S) or []
            records, reached = by_partition([*messages, *self._consumer.consume(_BATCH, 0)])
            for place, some in records.items():
                self._next[place] = int(some[-1].offset() or 0) + 1
                yield some
            self._next.update(reached)
            behind = {place: end for place, end in behind.items() if self._next[place] < end}
        self._consumer.unassign()

    def _close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None


class Letters:
    """Dead letters: counts by entity and rule, and the newest ones decoded."""

    def __init__(self, connections: Connections, registry: Registry) -> None:
        """``registry``: for the schemas that the letters' bytes were written with."""
        self._tail = Tail(connections, [topics.dlq(e) for e in Entity], BACKLOG)
        self._registry = registry
        self._newest: dict[Entity, deque[Letter]] = {e: deque(maxlen=KEPT) for e in Entity}
        self._writers: dict[Entity, tuple[float, show.SubjectSchemas]] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self.total = 0
        self._lock = threading.Lock()

    @property
    def skipped(self) -> int:
        """Letters that are in no count."""
        return self._tail.skipped

    def look(self) -> None:
        """Take in what has come.

        Raises:
            Unavailable: no broker answers.
        """
        for messages in self._tail.news():
            entity = Entity(messages[0].topic().removesuffix(".dlq"))
            letters = [Letter.of(entity, m) for m in messages]
            self.total += len(letters)
            self.counts.update((entity.value, rule) for letter in letters for rule in letter.rules)
            with self._lock:
                self._newest[entity].extend(letters[-KEPT:])
                self._forget()

    def _forget(self) -> None:
        """The oldest ones of whichever entity has most bytes, until all fit; the newest of each entity stays."""
        sizes = {e: sum(map(_size, some)) for e, some in self._newest.items()}
        while sum(sizes.values()) > KEPT_BYTES:
            largest = max(sizes, key=lambda e: (len(self._newest[e]) > 1, sizes[e]))
            if len(self._newest[largest]) <= 1:
                return
            sizes[largest] -= _size(self._newest[largest].popleft())

    def newest(self, entity: Entity | None, rule: str | None, most: int) -> list[dict[str, Any]]:
        """Decoded, the newest first; :func:`commands.dlq.show.described` says what is in each.

        Raises:
            Unavailable: the registry does not answer.
        """
        wanted = [entity] if entity else list(Entity)
        with self._lock:
            found = [x for e in wanted for x in self._newest[e] if rule is None or rule in x.rules]
        found.sort(key=lambda x: (x.timestamp, x.offset), reverse=True)
        return [show.described(letter, self._schemas(letter.entity), SHOWN_BYTES) for letter in found[:most]]

    def _schemas(self, entity: Entity) -> show.SubjectSchemas:
        known = self._writers.get(entity)
        if known is None or time.monotonic() - known[0] > 30:
            known = self._writers[entity] = (time.monotonic(), show.writers(self._registry, entity))
        return known[1]


def _size(letter: Letter) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in letter.headers)
    return len(letter.key or b"") + len(letter.value or b"") + headers


class Delays:
    """How long after it happened a sale came: record timestamp less event time, of the newest sales."""

    def __init__(self, connections: Connections, registry: Registry) -> None:
        """``registry``: for the schemas of sales."""
        #: its address, for sentences
        self.registry = registry.url
        topic = topics.topic(topics.clean(Entity.SALES))
        self._tail = Tail(connections, [topic.name], SAMPLE_OF_PARTITION)
        # Asked once: a look waits for nobody.
        self._writers = SubjectSchemas(registry, topic.subject, wait=lambda fetch: fetch())
        self._reader = RecordSchema(topic.schema())
        self._sample: deque[float] = deque(maxlen=SAMPLE)

    def look(self) -> None:
        """Take in what has come.

        Raises:
            Unavailable: a server does not answer.
        """
        for messages in self._tail.news():
            values = [m.value() for m in messages]
            writers = self._writers.get(map(schema_id, values))
            table = decode(values, writers, self._reader).table
            times = table[FIELDS[Entity.SALES].time].cast(int).to_numpy() / 1e6
            stamps = np.array([m.timestamp()[1] for m in messages])[table[ROW].to_numpy()] / 1e3
            self._sample.extend((stamps - times).tolist())

    def histogram(self) -> dict[str, Any]:
        """Of the sample as it is now."""
        return histogram(np.array(self._sample))


def histogram(delays: np.ndarray) -> dict[str, Any]:
    """``counts[i]``: ``delays`` (s) up to ``bounds_s[i]``, above the bound before; one more: beyond all bounds."""
    places = np.searchsorted(BOUNDS_S, delays, side="left")
    counts = np.bincount(places, minlength=len(BOUNDS_S) + 1)
    return {"bounds_s": list(BOUNDS_S), "counts": counts.tolist(), "sampled": int(delays.size)}


class Late:
    """How many sales were too late for a window: the records of ``sales.late``."""

    def __init__(self, connections: Connections) -> None:
        """Opens nothing until :meth:`look` is called."""
        self._tail = Tail(connections, [topics.Result.LATE], BACKLOG)
        self._seen = 0

    @property
    def total(self) -> int:
        """All of them; of a long backlog, offsets stand for records."""
        return self._seen + self._tail.skipped

    def look(self) -> None:
        """Count what has come.

        Raises:
            Unavailable: no broker answers.
        """
        for messages in self._tail.news():
            self._seen += len(messages)
