"""What the page reads from topics: the newest records, in bounded pieces."""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from confluent_kafka import Message

from commands.dlq import show
from commands.dlq.letters import Letter
from retail_stream import topics
from retail_stream.avro.decode import RecordSchema, schema_id
from retail_stream.avro.registry import Registry, SubjectSchemas
from retail_stream.entities import FIELDS, Entity
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import TopicPartitionKey, latest_offsets, topic_partitions
from retail_stream.kafka.reading import by_partition, read
from retail_stream.settings import Connections

#: Records of a partition that are read at most; older ones are skipped and counted as such.
BACKLOG = 50_000
#: Dead letters kept of each entity, and bytes kept of all together.
KEPT, KEPT_BYTES = 200, 8_000_000
#: Bytes of a dead letter's value that are shown as hex.
SHOWN_BYTES = 4096
#: Sales in the histogram of delays, and how many of them one update takes from a partition.
SAMPLE, SAMPLE_OF_PARTITION = 2_000, 500
#: Upper bounds of the histogram's bars, seconds; the last bar holds all longer delays.
BOUNDS_S = (0.5, 1, 2, 5, 10, 15, 20, 30, 45, 60, 120, 300)
#: Kilobytes of records that the client holds: the page's container is small.
_QUEUED_KB = 2048
_MOST_S = 1.0


class Tail:
    """The records of some topics as they come, from at most ``backlog`` records before each partition's end."""

    def __init__(self, connections: Connections, names: list[str], backlog: int) -> None:
        """Opens nothing until :meth:`news` is called."""
        self._connections = connections
        self._names = names
        self._backlog = backlog
        self._next: dict[TopicPartitionKey, int] = {}
        #: records that were skipped, because there were too many
        self.skipped = 0

    def news(self) -> Iterator[list[Message]]:
        """The records since the last call, for a second at most, each list from one partition.

        Raises:
            Unavailable: no broker answers; the next call goes on from the last record.
        """
        places = topic_partitions(self._connections, *self._names)
        # An open transaction is not waited for: its records come with a later call.
        ends = latest_offsets(self._connections, clients.admin(self._connections), places, committed=True)
        ranges = {}
        for place, end in ends.items():
            following = self._next.get(place, 0)
            if following < end:
                start = max(following, end - self._backlog)
                self.skipped += start - following
                self._next[place] = start
                ranges[place] = range(start, end)
        until = time.monotonic() + _MOST_S
        for batch in read(self._connections, ranges, **{"queued.max.messages.kbytes": _QUEUED_KB}):
            for place, records in by_partition(batch)[0].items():
                self._next[place] = int(records[-1].offset() or 0) + 1
                yield records
            if time.monotonic() > until:
                return
        self._next.update({place: offsets.stop for place, offsets in ranges.items()})


class Letters:
    """Dead letters: counts by entity and rule, and the newest ones decoded."""

    def __init__(self, connections: Connections, registry: Registry) -> None:
        """``registry``: has the schemas of the dead letters' bytes."""
        self._tail = Tail(connections, [topics.dlq(e) for e in Entity], BACKLOG)
        self._registry = registry
        self._newest: dict[Entity, deque[Letter]] = {e: deque(maxlen=KEPT) for e in Entity}
        self._schemas_of: dict[Entity, tuple[float, show.Schemas]] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self.total = 0
        self._lock = threading.Lock()

    @property
    def skipped(self) -> int:
        """Dead letters that were skipped and are in no count."""
        return self._tail.skipped

    def update(self) -> None:
        """Read what has come.

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
        """Drop the oldest of the entity with the most bytes, until all fit; the newest of each entity stays."""
        sizes = {e: sum(map(_size, some)) for e, some in self._newest.items()}
        while sum(sizes.values()) > KEPT_BYTES:
            largest = max(sizes, key=lambda e: (len(self._newest[e]) > 1, sizes[e]))
            if len(self._newest[largest]) <= 1:
                return
            sizes[largest] -= _size(self._newest[largest].popleft())

    def newest(self, entity: Entity | None, rule: str | None, most: int) -> list[dict[str, Any]]:
        """Decoded, the newest first; :func:`commands.dlq.show.as_dict` documents the fields.

        Raises:
            Unavailable: the registry does not answer.
        """
        wanted = [entity] if entity else list(Entity)
        with self._lock:
            letters = [x for e in wanted for x in self._newest[e] if rule is None or rule in x.rules]
        letters.sort(key=lambda x: (x.timestamp, x.offset), reverse=True)
        return [show.as_dict(letter, self._schemas(letter.entity), SHOWN_BYTES) for letter in letters[:most]]

    def _schemas(self, entity: Entity) -> show.Schemas:
        known = self._schemas_of.get(entity)
        if known is None or time.monotonic() - known[0] > 30:
            known = self._schemas_of[entity] = (time.monotonic(), show.raw_schemas(self._registry, entity))
        return known[1]


def _size(letter: Letter) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in letter.headers)
    return len(letter.key or b"") + len(letter.value or b"") + headers


class Delays:
    """The delays of the newest sales: record timestamp less event time."""

    def __init__(self, connections: Connections, registry: Registry) -> None:
        """``registry``: has the schemas of sales."""
        #: its address, for sentences
        self.registry = registry.url
        topic = topics.topic(topics.clean(Entity.SALES))
        self._tail = Tail(connections, [topic.name], SAMPLE_OF_PARTITION)
        # The registry is asked once: an update never waits for it.
        self._schemas = SubjectSchemas(registry, topic.subject, wait=lambda fetch: fetch())
        self._reader = RecordSchema(topic.schema())
        self._sample: deque[float] = deque(maxlen=SAMPLE)

    def update(self) -> None:
        """Read what has come.

        Raises:
            Unavailable: a server does not answer.
        """
        for messages in self._tail.news():
            values = [m.value() for m in messages]
            schemas = self._schemas.get(map(schema_id, values))
            sales = self._reader.read(values, schemas)
            times = sales.table[FIELDS[Entity.SALES].time].to_numpy() / 1e6
            stamps = np.array([m.timestamp()[1] for m in messages])[sales.rows] / 1e3
            self._sample.extend((stamps - times).tolist())

    def histogram(self) -> dict[str, Any]:
        """The histogram of the sample now; see :func:`histogram`."""
        return histogram(np.array(self._sample))


def histogram(delays: np.ndarray) -> dict[str, Any]:
    """Count ``delays`` (s): ``counts[i]`` are in (``bounds_s[i-1]``, ``bounds_s[i]``], the last above every bound."""
    places = np.searchsorted(BOUNDS_S, delays, side="left")
    counts = np.bincount(places, minlength=len(BOUNDS_S) + 1)
    return {"bounds_s": list(BOUNDS_S), "counts": counts.tolist(), "sampled": int(delays.size)}


class Late:
    """How many sales were too late for a window: the records of ``sales.late``."""

    def __init__(self, connections: Connections) -> None:
        """Opens nothing until :meth:`update` is called."""
        self._tail = Tail(connections, [topics.Result.LATE], BACKLOG)
        self._seen = 0

    @property
    def total(self) -> int:
        """All of them; in a skipped backlog, offsets are counted as records."""
        return self._seen + self._tail.skipped

    def update(self) -> None:
        """Count what has come.

        Raises:
            Unavailable: no broker answers.
        """
        for messages in self._tail.news():
            self._seen += len(messages)
