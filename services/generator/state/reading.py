"""The edge that reads raw topics back when the generator starts."""

import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Message, TopicPartition

from retail_stream import topics
from retail_stream.avro.decode import Decoded, RecordSchema, decode, schema_id
from retail_stream.avro.registry import Registry, SubjectSchemas
from retail_stream.avro.schema import Holds
from retail_stream.entities import Entity
from retail_stream.errors import Unavailable
from retail_stream.kafka import clients
from retail_stream.kafka.batches import by_partition
from retail_stream.kafka.headers import SEQUENCE_TIME, big_endian, readable_headers
from retail_stream.kafka.offsets import TopicPartitionKey, end_offsets, topic_partitions
from retail_stream.settings import Connections
from services.generator.retailer.dimension import State
from services.generator.retailer.purchases import RECENT
from services.generator.retailer.sales import Tail
from services.generator.state.found import Found
from services.generator.state.resume import conclusive, fold, tail

#: How much of a partition's end is read at first: mostly conclusive, see resume.py.
TAIL_RECORDS = 2 * RECENT
_GROUP = "generator"
_BATCH = 5000
_PATIENCE_S = 15.0


class Reader:
    """Reads what there is; every call starts anew, so that it can be retried."""

    def __init__(self, connections: Connections, registry: Registry, schemas: dict[Entity, Any]) -> None:
        """``schemas``: the raw schema of each entity as parsed JSON."""
        self._connections = connections
        self._writers = {e: SubjectSchemas(registry, topics.topic(topics.raw(e)).subject) for e in Entity}
        self._readers = {e: RecordSchema(s) for e, s in schemas.items()}

    def dimension(self, entity: Entity) -> State:
        """The whole topic of a dimension as state.

        Raises:
            Unavailable: the broker does not answer, or the topic is not there yet.
        """
        state = State()
        for messages in self._records({place: 0 for place, end in self._ends(entity).items() if end > 0}):
            fold(state, entity, self._found(entity, messages))
        return state

    def sales(self) -> Tail:
        """The end of the sales topic.

        Raises:
            Unavailable: the broker does not answer, or the topic is not there yet.
        """
        ends = {place: end for place, end in self._ends(Entity.SALES).items() if end > 0}
        found: dict[TopicPartitionKey, list[Message]] = {}
        short, span = set(ends), TAIL_RECORDS
        while short:
            starts = {place: max(0, ends[place] - span) for place in short}
            found.update((place, []) for place in short)
            for message in (m for some in self._records(starts) for m in some):
                found[str(message.topic()), int(message.partition() or 0)].append(message)
            short = {
                place for place in short
                if starts[place] > 0 and not conclusive(self._decoded(Entity.SALES, found[place])[0])
            }  # fmt: skip
            span *= 4
        return tail(self._found(Entity.SALES, [m for place in sorted(found) for m in found[place]]))

    def _ends(self, entity: Entity) -> dict[TopicPartitionKey, int]:
        topic = topics.raw(entity)
        places = topic_partitions(self._connections, topic)
        if not places:
            raise Unavailable(f"Kafka has no topic {topic} yet; `retail-stream init` creates it.")
        return end_offsets(self._connections, places)

    def _records(self, starts: dict[TopicPartitionKey, int]) -> Iterator[list[Message]]:
        """Records of partitions from an offset each up to their ends."""
        left = set(starts)
        consumer = clients.consumer(self._connections, _GROUP)
        try:
            consumer.assign([TopicPartition(t, p, start) for (t, p), start in starts.items()])
            heard = time.monotonic()
            while left:
                records, reached = by_partition(consumer.consume(_BATCH, timeout=0.5))
                for place in reached:
                    left.discard(place)
                if records:
                    yield [m for some in records.values() for m in some]
                if records or reached:
                    heard = time.monotonic()
                elif time.monotonic() - heard > _PATIENCE_S:
                    raise clients.unavailable(self._connections)
        finally:
            consumer.close()

    def _found(self, entity: Entity, messages: list[Message]) -> Found:
        decoded, holds = self._decoded(entity, messages)
        values = [m.value() for m in messages]
        headers = [readable_headers(m) for m in messages]
        return Found(
            [m.key() for m in messages],
            values,
            [m.timestamp()[1] for m in messages],
            decoded,
            holds,
            {
                row: big_endian(dict(own)[SEQUENCE_TIME])
                for row, (value, own) in enumerate(zip(values, headers, strict=True))
                if value is None and own and SEQUENCE_TIME in dict(own)
            },
            {row for row, own in enumerate(headers) if own is None},
        )

    def _decoded(self, entity: Entity, messages: list[Message]) -> tuple[Decoded, dict[str, Holds]]:
        """The values, and what each field of their schemas holds."""
        values = [m.value() for m in messages]
        writers = self._writers[entity].get(n for v in values if (n := schema_id(v)) is not None)
        reader = self._readers[entity]
        holds = {name: held for w in (*writers.values(), reader) for name, held in w.holds.items()}
        return decode(values, writers, reader), holds
