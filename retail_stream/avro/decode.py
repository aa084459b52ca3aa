"""Record schemas, and values in the Confluent wire format: magic byte 0, a 4-byte big-endian schema id, one record."""

import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import fastavro
import polars as pl

from retail_stream.avro import decoder
from retail_stream.avro.decoder import HEADER_BYTES as HEADER_BYTES
from retail_stream.avro.decoder import Decoded, Schemas, Values
from retail_stream.avro.encoder import MAGIC as MAGIC
from retail_stream.avro.plan import Plan
from retail_stream.avro.reader import Reader
from retail_stream.avro.resolution import resolve
from retail_stream.avro.schema import DTYPES, AvroSchema, Holds, holds_of, plain_schema, scalar
from retail_stream.avro.types import SchemaError, parse
from retail_stream.avro.values import read_value


def frame(schema_id: int, payload: bytes) -> bytes:
    """One Avro record behind its Confluent header."""
    return MAGIC + schema_id.to_bytes(4, "big") + payload


def schema_id(value: bytes | None) -> int | None:
    """The schema id in a value's header, or None if it has no such header."""
    if value is None or len(value) < HEADER_BYTES or value[:1] != MAGIC:
        return None
    return int.from_bytes(value[1:HEADER_BYTES], "big")


def encode(schema: AvroSchema, record: Mapping[str, Any]) -> bytes:
    """One record as Avro binary, without a header."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, dict(schema), record)
    return out.getvalue()


class RecordSchema:
    """The schema of records, ready to decode and describe them: a writer's, or a reader's."""

    def __init__(self, schema: AvroSchema) -> None:
        """``schema``: parsed JSON. A writer's may be whatever a registry holds."""
        self.schema = schema
        self._plans: dict[Reader, Plan] = {}

    @cached_property
    def plain(self) -> dict[str, Any]:
        """The schema without logical types, to encode with."""
        return plain_schema(self.schema)

    @cached_property
    def reader(self) -> Reader:
        """The schema as a reader's.

        Raises:
            SchemaError: it is not a record of scalars.
        """
        return Reader(self.schema)

    def plan(self, reader: Reader) -> Plan:
        """How to read records of this writer by ``reader``; made once."""
        if reader not in self._plans:
            self._plans[reader] = resolve(self.schema, reader)
        return self._plans[reader]

    def read(self, values: Values | Sequence[bytes | None], writers: Mapping[int, "RecordSchema"]) -> Decoded:
        """Decode framed values of any mix of schema ids by this schema as the reader's.

        ``writers``: schema id → writer schema, of the ids that are registered for the topic.
        """
        return decoder.decode(values, _Writers(self.reader, writers))

    @cached_property
    def columns(self) -> dict[str, pl.DataType]:
        """Column → dtype, for every field that polars can hold as a column."""
        return {f["name"]: DTYPES[s] for f in self.plain["fields"] if (s := scalar(f["type"]))}

    @cached_property
    def holds(self) -> dict[str, Holds]:
        """Column → what it holds, where Postgres does not take every value."""
        return {f["name"]: h for f in self.schema["fields"] if f["name"] in self.columns and (h := holds_of(f["type"]))}

    @cached_property
    def names(self) -> frozenset[str]:
        """All its fields."""
        return frozenset(f["name"] for f in self.plain["fields"])

    def record(self, body: bytes) -> dict[str, Any] | None:
        """One record (no header) as a dict of plain values, or None where the bytes are not exactly one record."""
        decoded = decoder.decode([frame(0, body)], _Writers(self._all_extra, {0: self}))
        if not decoded.parts:
            return None
        (part,) = decoded.parts
        types = {f.name: f.type for f in part.extra}
        return {name: read_value(types[name], data) for name, data in decoded.extra_fields(part, 0).items()}

    @cached_property
    def _all_extra(self) -> Reader:
        """A reader without fields, so that all of the writer's are extra."""
        try:
            root = parse(self.schema)
        except SchemaError:
            root = parse("null")
        names = [t.name for t in (root, *root.parts) if t.kind == "record"]
        return Reader({"type": "record", "name": "any", "aliases": names, "fields": []})


class _Writers(Schemas):
    """Writer schemas that keep their own plans."""

    def __init__(self, reader: Reader, writers: Mapping[int, RecordSchema]) -> None:
        super().__init__(reader)
        self._writers = writers

    def __contains__(self, schema_id: object) -> bool:
        return schema_id in self._writers

    def __getitem__(self, schema_id: int) -> Plan:
        return self._writers[schema_id].plan(self.reader)
