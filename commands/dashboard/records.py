"""Records of any topic, decoded, and the partitions with their groups: read when the page asks, in bounded pieces."""

import heapq
import json
import time
from collections.abc import Mapping
from itertools import accumulate, takewhile
from typing import Any

from confluent_kafka import Message
from sqlalchemy import Engine

from commands.dashboard import warehouse
from commands.dashboard.answers import cut
from commands.dashboard.fresh import Fresh
from commands.dashboard.turns import Turns
from commands.status.lag import CONSUMES
from commands.tail import Schemas, line
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import (
    TopicPartitionKey,
    committed_offsets,
    end_offsets,
    first_offsets,
    latest_offsets,
    topic_partitions,
)
from retail_stream.kafka.reading import read
from retail_stream.settings import Connections
from retail_stream.topics import TOPICS

#: Offsets of a partition that a search for a key reads at most, the newest ones, and seconds that one search may take.
SEARCHED, SEARCH_S = 20_000, 4.0
#: Searches at a time, and seconds for which the table of partitions is given again.
_AT_ONCE, _FRESH_S = 2, 3.0
#: Characters of a record's parts that are sent to the page.
_LONGEST = {"value": 20_000, "headers": 4_000, "key": 200}
#: Bytes of records that an answer holds while it is made, and kilobytes that the client reads ahead: the page's
#: container is small.
KEPT_BYTES, _QUEUED_KB = 16_000_000, 2048
#: Partitions of a group that are shown: those with the most left.
SHOWN_PARTITIONS = 100
NAMES = tuple(t.name for t in TOPICS)


class Records:
    """Answers for the panel of records."""

    def __init__(self, connections: Connections, engine: Engine, schemas: Schemas) -> None:
        """``schemas``: schema id → schema. Opens nothing until it is asked."""
        self._connections = connections
        self._engine = engine
        self._schemas = schemas
        self._turns = Turns(_AT_ONCE, "topics")
        self._fresh = Fresh(_FRESH_S)

    def newest(
        self, topic: str, *, key: str | None, partition: int | None, offset: int | None, most: int
    ) -> dict[str, Any]:
        """Records of a topic, the newest first: of one key, of a partition, or from an offset on.

        ``records``: as `retail-stream tail` prints them, cut where they are long; of very large ones, fewer.
        ``searched``: how many offsets were looked through; ``whole``: whether those are all that the topic has.

        Raises:
            Busy: two others search now.
            Unavailable: Kafka or the registry does not answer.
        """
        with self._turns.one():
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
            records = [cut(json.loads(line(m, self._schemas)), _LONGEST) for m in found]
            return {"records": records, "searched": sum(map(len, ranges.values())), "whole": whole}

    def _read(
        self, ranges: Mapping[TopicPartitionKey, range], key: str | None, most: int, *, from_start: bool
    ) -> tuple[list[Message], bool]:
        """Messages in the order of the page, and whether everything was read."""
        wanted = None if key is None else key.encode()
        until = time.monotonic() + SEARCH_S
        kept: list[Message] = []
        whole = True
        for batch in read(self._connections, ranges, **{"queued.max.messages.kbytes": _QUEUED_KB}):
            kept += (m for m in batch if wanted is None or m.key() == wanted)
            kept = heapq.nsmallest(most, kept, key=_offset) if from_start else heapq.nlargest(most, kept, key=_time)
            sizes = accumulate(map(_size, kept))
            fitting = max(1, sum(1 for _ in takewhile(lambda size: size <= KEPT_BYTES, sizes)))
            whole = whole and fitting >= len(kept)
            kept = kept[:fitting]
            if time.monotonic() > until:
                return kept, False
        return kept, whole

    def partitions(self) -> dict[str, Any]:
        """The partitions that groups read: first and end offset, the group's position.

        ``rows``: of each group the 100 partitions with the most left, in the order of topic and partition. ``total``:
        how many partitions there are.

        Raises:
            Unavailable: Kafka or Postgres does not answer.
        """
        found: dict[str, Any] = self._fresh.get("partitions", self._read_partitions)
        return found

    def _read_partitions(self) -> dict[str, Any]:
        with warehouse.session(self._engine) as connection:
            stored = warehouse.stored_positions(connection)
        rows: list[dict[str, Any]] = []
        total = 0
        for group, names in CONSUMES.items():
            places = topic_partitions(self._connections, *names)
            passed = stored[group] if group in stored else committed_offsets(self._connections, group, places)
            ends, firsts = end_offsets(self._connections, places), first_offsets(self._connections, places)
            total += len(places)
            left = {p: ends[p] - passed.get(p, firsts[p]) for p in places}
            shown = set(heapq.nlargest(SHOWN_PARTITIONS, places, key=left.__getitem__))
            rows += [
                {"topic": t, "partition": p, "group": group.value, "first": firsts[t, p], "end": ends[t, p],
                 "position": passed.get((t, p))}
                for t, p in places if (t, p) in shown
            ]  # fmt: skip
        return {"rows": rows, "total": total}


#: Offsets of transaction markers that may lie between the newest records.
_MARKERS = 100


def _offset(message: Message) -> tuple[int, int]:
    return message.partition() or 0, message.offset() or 0


def _time(message: Message) -> tuple[int, int]:
    return message.timestamp()[1], message.offset() or 0


def _size(message: Message) -> int:
    return len(message.value() or b"") + len(message.key() or b"")
