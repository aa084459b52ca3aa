"""What the page reads from topics: the newest records, in bounded pieces."""

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any

from confluent_kafka import Message

from commands.dashboard.answers import cut
from commands.dlq import show
from commands.dlq.letters import Letter
from retail_stream import topics
from retail_stream.avro.registry import Registry
from retail_stream.entities import Entity
from retail_stream.errors import Unavailable
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import TopicPartitionKey, latest_offsets, topic_partitions
from retail_stream.kafka.reading import by_partition, read
from retail_stream.settings import Connections

#: Records of a partition that are read at most; older ones are skipped and counted as such.
BACKLOG = 50_000
#: Dead letters kept of each entity, and bytes kept of all together.
KEPT, KEPT_BYTES = 200, 8_000_000
#: Bytes of a dead letter's value that are shown as hex, and characters of its other parts.
SHOWN_BYTES, _LONGEST = 4096, {"value": 8192, "message": 1000, "key": 200, "replay_of": 200}
#: Rules that are counted by their names, and characters of a name: others than the cleaner may write dead letters.
MOST_RULES, _RULE = 200, 100
OTHERS = "(all others)"
#: Seconds for which known schemas are not asked for, and for which a registry that is away is not.
_KNOWN_S, _AWAY_S = 30.0, 5.0
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
        #: how often all topics were read anew, because one of them ended before what had been read
        self.begun = 0

    def news(self) -> Iterator[list[Message]]:
        """The records since the last call, for a second at most, each list from one partition.

        Raises:
            Unavailable: no broker answers; the next call goes on from the last record.
        """
        places = topic_partitions(self._connections, *self._names)
        # An open transaction is not waited for: its records come with a later call.
        ends = latest_offsets(self._connections, clients.admin(self._connections), places, committed=True)
        if any(end < self._next.get(place, 0) for place, end in ends.items()):
            # A topic was deleted and made again.
            self._next, self.skipped = {}, 0
            self.begun += 1
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
        self._begun = 0
        # When the registry did not answer, and its sentence.
        self._away: tuple[float, str] | None = None
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
            self._begin_anew()
            entity = Entity(messages[0].topic().removesuffix(".dlq"))
            letters = [Letter.of(entity, m) for m in messages]
            self.total += len(letters)
            for letter in letters:
                self._count(entity, letter.rules)
            with self._lock:
                self._newest[entity].extend(letters[-KEPT:])
                self._forget()
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Forget everything if the topics are read anew."""
        if self._begun == self._tail.begun:
            return
        self._begun, self.total = self._tail.begun, 0
        self.counts.clear()
        with self._lock:
            for some in self._newest.values():
                some.clear()

    def _count(self, entity: Entity, rules: Iterable[str]) -> None:
        for rule in rules:
            key = (entity.value, rule[:_RULE])
            self.counts[key if key in self.counts or len(self.counts) < MOST_RULES else (entity.value, OTHERS)] += 1

    def _forget(self) -> None:
        """Drop the oldest of the entity with the most bytes, until all fit; the newest of each entity stays."""
        sizes = {e: sum(map(_size, some)) for e, some in self._newest.items()}
        while sum(sizes.values()) > KEPT_BYTES:
            largest = max(sizes, key=lambda e: (len(self._newest[e]) > 1, sizes[e]))
            if len(self._newest[largest]) <= 1:
                return
            sizes[largest] -= _size(self._newest[largest].popleft())

    def newest(self, entity: Entity | None, rule: str | None, most: int) -> list[dict[str, Any]]:
        """Decoded, the newest first; :func:`commands.dlq.show.as_dict` documents the fields. Long ones are cut.

        ``undecoded``: why the registry could not be asked, else None. The schemas that were known before are used.
        """
        wanted = [entity] if entity else list(Entity)
        with self._lock:
            letters = [x for e in wanted for x in self._newest[e] if rule is None or rule in x.rules]
        letters.sort(key=lambda x: (x.timestamp, x.offset), reverse=True)
        return [self._shown(letter) for letter in letters[:most]]

    def _shown(self, letter: Letter) -> dict[str, Any]:
        row = cut(show.as_dict(letter, self._schemas(letter.entity), SHOWN_BYTES), _LONGEST)
        rules = [rule[:_RULE] for rule in row["rules"][:MOST_RULES]]
        return {**row, "rules": rules, "undecoded": self._away[1] if self._away else None}

    def _schemas(self, entity: Entity) -> show.Schemas:
        now = time.monotonic()
        at, known = self._schemas_of.get(entity, (-math.inf, {}))
        # A registry that is frozen takes seconds to be known as away.
        if now - at > _KNOWN_S and (self._away is None or now - self._away[0] > _AWAY_S):
            try:
                known = show.raw_schemas(self._registry, entity)
            except Unavailable as e:
                self._away = (time.monotonic(), str(e))
            else:
                self._away = None
                self._schemas_of[entity] = (now, known)
        return known


def _size(letter: Letter) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in letter.headers)
    return len(letter.key or b"") + len(letter.value or b"") + headers


class Late:
    """How many sales were too late for a window: the records of ``sales.late``."""

    def __init__(self, connections: Connections) -> None:
        """Opens nothing until :meth:`update` is called."""
        self._tail = Tail(connections, [topics.Result.LATE], BACKLOG)
        self._seen = self._begun = 0

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
            self._begin_anew()
            self._seen += len(messages)
        self._begin_anew()

    def _begin_anew(self) -> None:
        if self._begun != self._tail.begun:
            self._begun, self._seen = self._tail.begun, 0
