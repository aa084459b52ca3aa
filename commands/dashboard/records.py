"""Records of any topic, decoded, and the partitions with their groups: read when the page asks, in bounded pieces."""

import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Message
from sqlalchemy import Engine

from commands.dashboard import warehouse
from commands.dashboard.fresh import Fresh
from commands.status.lag import CONSUMES
from commands.tail import Schemas, line
from retail_stream.errors import RetailStreamError
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import (
    TopicPartitionKey,
    committed_offsets,
    end_offsets,
    first_offsets,
    latest_offsets,
    topic_partitions,
)
from retail_stream.kafka.reading import by_partition, read
from retail_stream.settings import Connections
from retail_stream.topics import TOPICS

#: Offsets of a partition that a search for a key reads at most, the newest ones, and seconds that one search may take.
SEARCHED, SEARCH_S = 20_000, 4.0
#: Searches at a time, and seconds for which the table of partitions is given again.
_AT_ONCE, _FRESH_S = 2, 3.0
#: Characters of a record that are sent to the page.
_LONGEST = 20_000
NAMES = tuple(t.name for t in TOPICS)


class Busy(RetailStreamError):
    """Others search at this moment."""


class Records:
    """Answers for the panel of records."""

    def __init__(self, connections: Connections, engine: Engine, schemas: Schemas) -> None:
        """``schemas``: schema id → schema. Opens nothing until it is asked."""
        self._connections = connections
        self._engine = engine
        self._schemas = schemas
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._fresh = Fresh(_FRESH_S)

    def newest(
        self, topic: str, *, key: str | None, partition: int | None, offset: int | None, most: int
    ) -> dict[str, Any]:
        """Records of a topic, the newest first: of one key, of a partition, or from an offset on.

        ``records``: as `retail-stream tail` prints them, with a ``value`` that is cut if it is long.
        ``searched``: how many offsets were looked through; ``whole``: whether those are all that the topic has.

        Raises:
            Busy: two others search now.
            Unavailable: Kafka or the registry does not answer.
        """
        with self._turn():
            places = [p for p in topic_partitions(self._connections, topic) if partition in (None, p[1])]
            ends = latest_offsets(self._connections, clients.admin(self._connections), places, committed=True)
            firsts = first_offsets(self._connections, places)
            span = SEARCHED if key is not None else most + _MARKERS
            if offset is not None:
                ranges = {p: range(max(firsts[p], offset), min(ends[p], offset + span)) for p in places}
            else:
                ranges = {p: range(max(firsts[p], ends[p] - span), ends[p]) for p in places}
            found, whole = self._read(
                {p: r for p, r in ranges.items() if len(r)}, key, most, from_start=offset is not None
            )
            whole = whole and all(ranges[p] == range(firsts[p], ends[p]) for p in places)
            records = [_cut(json.loads(line(m, self._schemas))) for m in found]
            return {"records": records, "searched": sum(map(len, ranges.values())), "whole": whole}

    def _read(
        self, ranges: Mapping[TopicPartitionKey, range], key: str | None, most: int, *, from_start: bool
    ) -> tuple[list[Message], bool]:
        """Messages in the order of the page, and whether everything was read."""
        wanted = None if key is None else key.encode()
        until = time.monotonic() + SEARCH_S
        kept: dict[TopicPartitionKey, deque[Message]] = {}
        in_time = True
        for batch in read(self._connections, ranges):
            for place, some in by_partition(batch)[0].items():
                matching = [m for m in some if wanted is None or m.key() == wanted]
                own = kept.setdefault(place, deque(maxlen=most))
                own.extend(matching[: most - len(own)] if from_start else matching)
            if time.monotonic() > until:
                in_time = False
                break
        messages = [m for own in kept.values() for m in own]
        if from_start:
            return sorted(messages, key=lambda m: (m.partition() or 0, m.offset() or 0))[:most], in_time
        return sorted(messages, key=lambda m: (m.timestamp()[1], m.offset() or 0), reverse=True)[:most], in_time

    def partitions(self) -> list[dict[str, Any]]:
        """A row per partition of the topics that groups read: first and end offset, the group's position, what is left.

        Raises:
            Unavailable: Kafka or Postgres does not answer.
        """
        rows: list[dict[str, Any]] = self._fresh.get("partitions", self._read_partitions)
        return rows

    def _read_partitions(self) -> list[dict[str, Any]]:
        with warehouse.session(self._engine) as connection:
            stored = warehouse.stored_positions(connection)
        rows = []
        for group, names in CONSUMES.items():
            places = topic_partitions(self._connections, *names)
            passed = stored[group] if group in stored else committed_offsets(self._connections, group, places)
            ends, firsts = end_offsets(self._connections, places), first_offsets(self._connections, places)
            rows += [
                {"topic": t, "partition": p, "group": group.value, "first": firsts[t, p], "end": ends[t, p],
                 "position": passed.get((t, p))}
                for t, p in places
            ]  # fmt: skip
        return rows

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=1):
            raise Busy("Others search topics at this moment; try again in a few seconds.")
        try:
            yield
        finally:
            self._turns.release()


#: Offsets of transaction markers that may lie between the newest records.
_MARKERS = 100


def _cut(record: dict[str, Any]) -> dict[str, Any]:
    """The record, its value as text if it is too long to be shown."""
    written = json.dumps(record["value"], ensure_ascii=False)
    return record if len(written) <= _LONGEST else {**record, "value": f"{written[:_LONGEST]}…", "cut": len(written)}
