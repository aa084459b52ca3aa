"""Reads back what the generator goes on from: `generator.state`, and the end of the sales.

The first start on topics that hold records already, of an earlier release or of other sources, has no state. It reads
their ids, once, and begins a catalogue of its own above them.
"""

from collections.abc import Mapping
from typing import NamedTuple

import structlog
from confluent_kafka import Message

from retail_stream import topics
from retail_stream.avro.decode import RecordSchema, schema_id
from retail_stream.avro.decoder import Decoded
from retail_stream.avro.registry import Registry, SubjectSchemas
from retail_stream.avro.schema import AvroSchema
from retail_stream.entities import FIELDS, JOINED, Entity
from retail_stream.errors import RetailStreamError
from retail_stream.kafka.headers import readable_headers
from retail_stream.kafka.offsets import TopicPartitionKey, end_offsets, topic_partitions
from retail_stream.kafka.reading import read, read_to_end
from retail_stream.settings import Connections
from retail_stream.topics import Result
from services.generator.records import Row, Tally
from services.generator.retailer.changes import DimensionState
from services.generator.retailer.purchases import RECENT
from services.generator.retailer.sales import SalesState
from services.generator.state.entries import StoredPieces, stored_pieces, stored_rows, stored_tally
from services.generator.state.published import PublishedRecords
from services.generator.state.recent import recent_sales

#: The end of the sales that is read, over all partitions: markers and other sources' records take offsets, too.
_END_OFFSETS = 8 * RECENT
#: What the consumer fetches ahead, for all partitions: its default of 64 MB is more than a start needs in all.
_AHEAD = {"queued.max.messages.kbytes": 1024, "fetch.message.max.bytes": 256 * 1024}
_log = structlog.get_logger(__name__)


class States(NamedTuple):
    """What the generator goes on from."""

    dimensions: dict[Entity, DimensionState]
    sales: SalesState
    stock: StoredPieces


class StateReader:
    """Reads the state to go on from. Each call reads anew, so it can be retried."""

    def __init__(self, connections: Connections, registry: Registry, schemas: Mapping[Entity, AvroSchema]) -> None:
        """``schemas``: the raw schema of each entity as parsed JSON."""
        self._connections = connections
        self._writers = {e: SubjectSchemas(registry, topics.topic(topics.raw(e)).subject) for e in Entity}
        self._readers = {e: RecordSchema(s) for e, s in schemas.items()}

    def read(self) -> States:
        """Read the state. All topics exist.

        Raises:
            RetailStreamError: a raw topic holds less than the state says.
            Unavailable: the broker does not answer.
        """
        stored: dict[bytes, bytes] = {}
        for message in read_to_end(self._connections, Result.STATE, **_AHEAD):
            key, value = message.key() or b"", message.value()
            if value is None:
                stored.pop(key, None)
            else:
                stored[key] = value
        ends = {e: self._ends(e) for e in (*JOINED, Entity.SALES)}
        tallies = {e: self._tally(e, stored, ends[e]) for e in ends}
        dimensions = {e: DimensionState(self._rows(e, [*stored_rows(e, stored)]), tallies[e]) for e in JOINED}
        sales = ends[Entity.SALES]
        span = -(-_END_OFFSETS // max(1, len(sales)))
        last = {p: range(max(0, end - span), end) for p, end in sales.items()}
        messages = sorted((m for batch in read(self._connections, last, **_AHEAD) for m in batch), key=_place)
        recent = recent_sales(self._published(Entity.SALES, messages))
        return States(dimensions, SalesState(tallies[Entity.SALES], recent), stored_pieces(stored))

    def _tally(self, entity: Entity, stored: Mapping[bytes, bytes], ends: Mapping[TopicPartitionKey, int]) -> Tally:
        tally, offsets = stored_tally(entity, stored), sum(ends.values())
        if tally is None:
            return self._first_tally(entity, ends)
        # Every record has an offset, so only a topic that was made anew has fewer.
        if offsets < tally.records:
            raise RetailStreamError(
                f"{topics.raw(entity)} holds {offsets} records, and {Result.STATE} counts {tally.records} of ours; if "
                f"the topic was made anew, delete {Result.STATE}, too, and create it again with `retail-stream init`."
            )
        return tally

    def _first_tally(self, entity: Entity, ends: Mapping[TopicPartitionKey, int]) -> Tally:
        """The tally of a topic without state, from all its records.

        Ids of an earlier release are counted up from one, or from the largest valid id of another source. So those that
        no valid record shows any more are at most as many as the topic has offsets.
        """
        offsets, largest, newest_us = sum(ends.values()), 0, 0
        if offsets:
            _log.info("reads the ids of a topic once", topic=topics.raw(entity), offsets=offsets)
        for messages in read(self._connections, {p: range(end) for p, end in ends.items()}):
            published = self._published(entity, messages)
            largest = max([largest, *published.valid_ids(entity)])
            newest_us = max(newest_us, published.newest_us)
        return Tally(largest + offsets + 1, offsets, newest_us)

    def _rows(self, entity: Entity, values: list[bytes]) -> dict[int, Row]:
        key = FIELDS[entity].key
        return {row[key]: row for row in self._decoded(entity, values).table.iter_rows(named=True)}

    def _ends(self, entity: Entity) -> dict[TopicPartitionKey, int]:
        return end_offsets(self._connections, topic_partitions(self._connections, topics.raw(entity)))

    def _published(self, entity: Entity, messages: list[Message]) -> PublishedRecords:
        values = [m.value() for m in messages]
        return PublishedRecords(
            [m.key() for m in messages],
            values,
            [m.timestamp()[1] for m in messages],
            self._decoded(entity, values),
            {row for row, m in enumerate(messages) if readable_headers(m) is None},
        )

    def _decoded(self, entity: Entity, values: list[bytes | None] | list[bytes]) -> Decoded:
        writers = self._writers[entity].get(n for v in values if (n := schema_id(v)) is not None)
        return self._readers[entity].read(values, writers)


def _place(message: Message) -> tuple[int, int]:
    return int(message.partition() or 0), int(message.offset() or 0)
