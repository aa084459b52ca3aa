"""One record as it goes to Kafka, and how its value is encoded."""

import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import fastavro

from retail_stream.avro_schema import AvroSchema, plain_schema
from retail_stream.wire import frame
from services.generator.faults import Fault

#: A row of an entity: field → value, times as int64 microseconds.
Row = dict[str, Any]

NO_FAULTS: tuple[Fault, ...] = ()


class Record(NamedTuple):
    """A record ready to publish.

    ``at_us``: when it is published, in microseconds since 1970-01-01 UTC; in milliseconds its Kafka timestamp.
    ``id``: the entity's own id (a sale's ``transaction_id``), which the damaged value may no longer tell.
    ``faults``: what is planted in it.
    """

    key: bytes
    value: bytes | None
    at_us: int
    id: int
    faults: tuple[Fault, ...] = NO_FAULTS
    headers: tuple[tuple[str, bytes], ...] = ()


class Encoder:
    """Rows of one schema to Confluent-framed Avro."""

    def __init__(self, schema: AvroSchema, schema_id: int) -> None:
        """``schema``: as parsed JSON; ``schema_id``: as the registry knows it."""
        self._schema = fastavro.parse_schema(plain_schema(schema))
        self._head = frame(schema_id, b"")

    def __call__(self, row: Mapping[str, Any]) -> bytes:
        """The value of one record."""
        out = io.BytesIO()
        out.write(self._head)
        fastavro.schemaless_writer(out, self._schema, row)
        return out.getvalue()
