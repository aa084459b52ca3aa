"""Reads the raw topics back when the generator starts."""

from collections.abc import Mapping

from confluent_kafka import Message

from retail_stream import topics
from retail_stream.avro.decode import RecordSchema, schema_id
from retail_stream.avro.decoder import Decoded
from retail_stream.avro.registry import Registry, SubjectSchemas
from retail_stream.avro.schema import AvroSchema
from retail_stream.entities import Entity
from retail_stream.errors import Unavailable
from retail_stream.kafka.headers import SEQUENCE_TIME, big_endian, readable_headers
from retail_stream.kafka.offsets import TopicPartitionKey, end_offsets, topic_partitions
from retail_stream.kafka.reading import read
from retail_stream.settings import Connections
from services.generator.retailer.dimension import DimensionState
from services.generator.retailer.purchases import RECENT
from services.generator.retailer.sales import SalesState
from services.generator.state.published import PublishedRecords
from services.generator.state.resume import conclusive, fold, sales_state

#: How many records of a partition's end are read first: they are mostly conclusive, see resume.py.
END_RECORDS = 2 * RECENT


class StateReader:
    """Reads the state to go on from. Each call reads anew, so it can be retried."""

    def __init__(self, connections: Connections, registry: Registry, schemas: Mapping[Entity, AvroSchema]) -> None:
        """``schemas``: the raw schema of each entity as parsed JSON."""
        self._connections = connections
        self._writers = {e: SubjectSchemas(registry, topics.topic(topics.raw(e)).subject) for e in Entity}
        self._readers = {e: RecordSchema(s) for e, s in schemas.items()}

    def dimension(self, entity: Entity) -> DimensionState:
        """Read the whole topic of a dimension.

        Raises:
            Unavailable: the broker does not answer, or the topic does not exist yet.
        """
        state = DimensionState()
        for messages in read(self._connections, {p: range(end) for p, end in self._ends(entity).items()}):
            fold(state, entity, self._published(entity, messages))
        return state

    def sales(self) -> SalesState:
        """Read the end of the sales topic: of each partition as much as is conclusive.

        Raises:
            Unavailable: the broker does not answer, or the topic does not exist yet.
        """
        ends = self._ends(Entity.SALES)
        messages: dict[TopicPartitionKey, list[Message]] = {}
        open_partitions, span = set(ends), END_RECORDS
        while open_partitions:
            ranges = {p: range(max(0, ends[p] - span), ends[p]) for p in open_partitions}
            messages.update((p, []) for p in open_partitions)
            for message in (m for batch in read(self._connections, ranges) for m in batch):
                messages[str(message.topic()), int(message.partition() or 0)].append(message)
            open_partitions = {
                p for p, offsets in ranges.items()
                if offsets.start > 0 and not conclusive(self._decoded(Entity.SALES, messages[p]))
            }  # fmt: skip
            span *= 4
        return sales_state(self._published(Entity.SALES, [m for p in sorted(messages) for m in messages[p]]))

    def _ends(self, entity: Entity) -> dict[TopicPartitionKey, int]:
        topic = topics.raw(entity)
        partitions = topic_partitions(self._connections, topic)
        if not partitions:
            raise Unavailable(f"Kafka has no topic {topic} yet; `retail-stream init` creates it.")
        return end_offsets(self._connections, partitions)

    def _published(self, entity: Entity, messages: list[Message]) -> PublishedRecords:
        values = [m.value() for m in messages]
        headers = [readable_headers(m) for m in messages]
        return PublishedRecords(
            [m.key() for m in messages],
            values,
            [m.timestamp()[1] for m in messages],
            self._decoded(entity, messages),
            self._readers[entity].holds,
            {
                row: big_endian(dict(own)[SEQUENCE_TIME])
                for row, (value, own) in enumerate(zip(values, headers, strict=True))
                if value is None and own and SEQUENCE_TIME in dict(own)
            },
            {row for row, own in enumerate(headers) if own is None},
        )

    def _decoded(self, entity: Entity, messages: list[Message]) -> Decoded:
        values = [m.value() for m in messages]
        writers = self._writers[entity].get(n for v in values if (n := schema_id(v)) is not None)
        return self._readers[entity].read(values, writers)
