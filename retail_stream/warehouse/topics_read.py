"""The topics that a warehouse was filled from. One that is deleted and made again begins at offset 0 once more.

By offsets alone its records cannot be told from repeats, so each would be dropped. These looks prevent that::

    claim               the ids that brokers give the topics are those that are stored with the positions
    claim               no stored position lies behind the end of its partition
    batch with repeats  the ids are still those of the claim; only then are the repeats dropped
    any batch           the same, every 30 s
"""

import time
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, text

from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.errors import TopicMadeAnew
from retail_stream.kafka.offsets import TopicPartitionKey, end_offsets
from retail_stream.kafka.topic_ids import topic_ids
from retail_stream.settings import Connections
from retail_stream.warehouse.positions import Position

_LOOK_EVERY_S = 30.0
_REMEDY = "Run `retail-stream rebuild --from-raw`; until then nothing of it is read (docs/failures.md)."


class TopicsRead:
    """The clean topics that a service reads, and the raw topics whose offsets they carry. Any thread may use it."""

    def __init__(self, connections: Connections, entities: Iterable[Entity]) -> None:
        """Ask nothing yet."""
        self._connections = connections
        self._names = [name for entity in entities for name in (topics.clean(entity), topics.raw(entity))]
        #: Whether the last look found the topics that the warehouse was filled from.
        self.are_same = True
        self._claimed: Mapping[str, str] = {}
        self._looked_at = 0.0  # monotonic seconds

    def look(self, partitions: Iterable[TopicPartitionKey]) -> "Look":
        """Ask Kafka for what :meth:`claim` compares; outside of the transaction, as it may take seconds.

        Raises:
            Unavailable: no broker answers.
        """
        return Look(topic_ids(self._connections, self._names), end_offsets(self._connections, partitions))

    def claim(self, connection: Connection, look: "Look", positions: Iterable[Position]) -> None:
        """Store the ids of topics that are new to the warehouse, and check that the others are the same.

        Raises:
            TopicMadeAnew: a topic has another id, or ends before a position; the transaction must roll back.
        """
        known = stored(connection)
        for name, now in look.ids.items():
            if known.get(name, now) != now:
                raise self._made_anew(name)
        for p in positions:
            if p.next_offset > look.ends.get(p.key, p.next_offset):
                self.are_same = False
                raise TopicMadeAnew(
                    f"{p.topic}/{p.partition} ends at offset {look.ends[p.key]:,}, and the warehouse has read it up to "
                    f"{p.next_offset:,}: it lost records, or was deleted and made again. {_REMEDY}"
                )
        insert = text("INSERT INTO topics_read (topic, topic_id) VALUES (:topic, :id) ON CONFLICT DO NOTHING")
        for name in sorted(look.ids.keys() - known.keys()):
            connection.execute(insert, {"topic": name, "id": look.ids[name]})
        self._claimed, self._looked_at, self.are_same = look.ids, time.monotonic(), True

    def require_same(self, *, repeats: bool) -> None:
        """Check that the topics are still those of the last claim: if there are ``repeats``, or after 30 s.

        Raises:
            TopicMadeAnew: one of them was deleted and made again.
            Unavailable: no broker answers.
        """
        if not repeats and time.monotonic() - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        now = topic_ids(self._connections, self._names)
        for name, was in self._claimed.items():
            if now[name] != was:
                raise self._made_anew(name)

    def _made_anew(self, name: str) -> TopicMadeAnew:
        self.are_same = False
        return TopicMadeAnew(
            f"{name} was deleted and made again after the warehouse was filled from it, so its offsets start again and "
            f"new records look like repeats. {_REMEDY}"
        )


class Look:
    """What Kafka says of topics: ``ids`` by name, ``ends`` by partition."""

    def __init__(self, ids: Mapping[str, str], ends: Mapping[TopicPartitionKey, int]) -> None:
        self.ids, self.ends = ids, ends


def stored(connection: Connection) -> Mapping[str, str]:
    """The ids of the topics that the warehouse was filled from."""
    return {row.topic: row.topic_id for row in connection.execute(text("SELECT topic, topic_id FROM topics_read"))}
