"""Records as they go to Kafka: one of a dimension, and many at once."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import fastavro

from retail_stream.avro.decode import frame
from retail_stream.avro.schema import AvroSchema, plain_schema
from services.generator.publishing.faults import Fault

#: A row of an entity: field → value, times as int64 microseconds.
Row = dict[str, Any]
Headers = tuple[tuple[str, bytes], ...]

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
    headers: Headers = ()


@dataclass
class Batch:
    """Records as columns of equal length. ``faults`` and ``headers``: by row, of those rows that have any."""

    keys: list[bytes] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    at_us: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    faults: dict[int, tuple[Fault, ...]] = field(default_factory=dict)
    headers: dict[int, Headers] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Batch":
        """The same records as columns."""
        keys, values, at_us, ids, faults, headers = (list(c) for c in zip(*records, strict=True)) if records else (
            [] for _ in Record._fields
        )  # fmt: skip
        return cls(
            keys, values, at_us, ids,
            {i: f for i, f in enumerate(faults) if f}, {i: h for i, h in enumerate(headers) if h},
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.keys)

    def records(self) -> Iterator[Record]:
        """One by one."""
        for i, row in enumerate(zip(self.keys, self.values, self.at_us, self.ids, strict=True)):
            yield Record(*row, self.faults.get(i, NO_FAULTS), self.headers.get(i, ()))

    def append(self, other: "Batch") -> None:
        """The other's records after these."""
        shift = len(self)
        self.keys += other.keys
        self.values += other.values
        self.at_us += other.at_us
        self.ids += other.ids
        self.faults.update((i + shift, f) for i, f in other.faults.items())
        self.headers.update((i + shift, h) for i, h in other.headers.items())

    def part(self, start: int, stop: int) -> "Batch":
        """Rows ``start`` to ``stop`` (exclusive)."""
        return Batch(
            self.keys[start:stop],
            self.values[start:stop],
            self.at_us[start:stop],
            self.ids[start:stop],
            {i - start: f for i, f in self.faults.items() if start <= i < stop},
            {i - start: h for i, h in self.headers.items() if start <= i < stop},
        )


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


class Evolution(NamedTuple):
    """From ``at_us`` on, an entity's records are written by ``encode``, see evolution.py."""

    at_us: int
    encode: Any
