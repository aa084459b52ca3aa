"""Confluent-framed Avro, decoded with fastavro's own schema resolution; most records many at once.

What fastavro reads, and Avro's specification forbids, is no record: see :mod:`commands.audit.encoding`.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import fastavro
import numpy as np
import polars as pl
from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException, UnknownType

from commands.audit.encoding import Encoding
from commands.audit.jsonb import MEANING, Values, with_meanings
from commands.audit.plain import PlainSchema
from retail_stream import topics
from retail_stream.avro.schema import AvroSchema

#: Field → value.
AvroRecord = dict[str, Any]

HEADER_BYTES = 5
#: unit of a timestamp → nanoseconds
_UNITS = {"millis": 1_000_000, "micros": 1000, "nanos": 1}
_LONG = range(-(2**63), 2**63)
_ROW = "row"
#: bytes of a record → see :meth:`Decoder.whole`
Decode = Callable[[bytes], "tuple[AvroRecord, str | None] | None"]

_BROKEN = (EOFError, ValueError, IndexError, TypeError, OverflowError, KeyError, SchemaResolutionError)


def schema_number(value: bytes | None) -> int | None:
    """The schema id in a Confluent header (magic byte 0, 4 bytes big-endian), or None for bytes without one."""
    if value is None or len(value) < HEADER_BYTES or value[0] != 0:
        return None
    return int.from_bytes(value[1:HEADER_BYTES], "big")


def without_logical_types(schema: Any) -> Any:
    """The same schema with times as plain longs. With logical types fastavro makes datetimes, which end in 9999."""
    if isinstance(schema, list):
        return [without_logical_types(s) for s in schema]
    if isinstance(schema, dict):
        rest = {k: without_logical_types(v) for k, v in schema.items() if k not in ("logicalType", "doc", MEANING)}
        return rest["type"] if set(rest) == {"type"} else rest
    return schema


def layout(topic: str) -> AvroSchema:
    """The schema of a topic's values in this repository, logical types dropped."""
    plain: AvroSchema = without_logical_types(topics.topic(topic).schema())
    return plain


class Decoder:
    """Decodes the values of one subject."""

    def __init__(self, reader: AvroSchema, schemas: Mapping[int, AvroSchema]) -> None:
        """``reader``: the fields to decode; ``schemas``: schema id → writer schema."""
        self.schemas = schemas
        self.fields: tuple[str, ...] = tuple(f["name"] for f in reader["fields"])
        self._names = {f["name"]: (f["name"], *f.get("aliases", ())) for f in reader["fields"]}
        self._layout = with_meanings(reader)["fields"]
        self._plain = without_logical_types(reader)
        self._reader = fastavro.parse_schema(self._plain, _write_hint=False)
        self._times = {f["name"] for f in self._layout if "timestamp-" in str(f["type"])}
        self._texts = {f["name"] for f in self._layout if "string" in str(f["type"])}
        known = {number: with_meanings(s) for number, s in schemas.items()}
        #: of the schemas that are one record, with what logical types say
        self.layouts = {number: s for number, s in known.items() if len(_records(s)) == 1 and not isinstance(s, list)}
        self._decoders = {number: d for number, s in known.items() if (d := self._decoder(s)) is not None}
        plain = PlainSchema.of(self._plain["fields"])
        #: of the writers that have exactly our fields
        self._at_once = {
            number: plain
            for number, s in self.layouts.items()
            if plain is not None
            and number in self._decoders
            and _short_name(s) == _short_name(self._plain)
            and _types(s["fields"]) == _types(self._layout)
        }

    @property
    def exact(self) -> frozenset[int]:
        """The ids of the schemas that have exactly the reader's fields."""
        return frozenset(self._at_once)

    def framed(self, value: bytes | None) -> AvroRecord | None:
        """The fields of a value with its Confluent header; None as :meth:`record`."""
        number = schema_number(value)
        return None if value is None or number is None else self.record(number, value[HEADER_BYTES:])

    def record(self, number: int | None, body: bytes | None) -> AvroRecord | None:
        """The fields of the reader; times in microseconds.

        None where ``body`` (the bytes behind the Confluent header) is not exactly one record of the schema with the id
        ``number``, or where no such schema is registered.
        """
        whole = self.whole(number, body)
        return None if whole is None else whole[0]

    def whole(self, number: int | None, body: bytes | None) -> tuple[AvroRecord, str | None] | None:
        """The same, and the fields that only the writer has as Postgres writes jsonb; None if all of them are null."""
        decode = self._decoders.get(number) if number is not None else None
        if body is None or decode is None:
            return None
        try:
            return decode(body)
        except _BROKEN:
            return None

    def table(
        self, numbers: Sequence[int | None], bodies: Sequence[bytes | None], columns: Mapping[str, pl.DataType]
    ) -> pl.DataFrame:
        """``decoded``, ``extra`` and ``columns`` (of the reader's fields) of many records, a row each, in order.

        As :meth:`whole` reads each. Where it returns None, ``decoded`` is false and the rest null.
        """
        schema = {"decoded": pl.Boolean(), "extra": pl.String(), **columns}
        left = np.ones(len(numbers), np.bool_)
        parts: list[pl.DataFrame] = []
        for number, plain in self._at_once.items():
            rows = [
                i for i, (n, body) in enumerate(zip(numbers, bodies, strict=True)) if n == number and body is not None
            ]
            if rows:
                fields, right = plain.read([bodies[i] for i in rows])  # type: ignore[misc]
                places = np.array(rows)[right]
                left[places] = False
                read = fields.filter(pl.Series(right)).select(*columns).with_columns(decoded=True, extra=None)
                parts.append(
                    read.select(pl.col(n).cast(t) for n, t in schema.items()).insert_column(0, pl.Series(_ROW, places))
                )
        if not parts or left.any():
            slow = np.flatnonzero(left).tolist()
            parts.append(self._one_by_one(slow, numbers, bodies, schema))
        whole = parts[0] if len(parts) == 1 else pl.concat(parts).sort(_ROW)
        return whole.drop(_ROW)

    def _one_by_one(
        self,
        rows: Sequence[int],
        numbers: Sequence[int | None],
        bodies: Sequence[bytes | None],
        schema: Mapping[str, pl.DataType],
    ) -> pl.DataFrame:
        found = [self.whole(numbers[i], bodies[i]) for i in rows]
        records, extras = [(f and f[0]) or {} for f in found], [f and f[1] for f in found]
        columns = [pl.Series(_ROW, rows, dtype=pl.Int64()), pl.Series("decoded", [f is not None for f in found])]
        columns += [pl.Series("extra", extras, dtype=pl.String())]
        columns += [pl.Series(n, [r.get(n) for r in records], dtype=t) for n, t in list(schema.items())[2:]]
        return pl.DataFrame(columns)

    def _decoder(self, layout: Any) -> Decode | None:
        """None where the schema declares no record, or is not valid Avro."""
        if not _records(layout):
            return None
        ours = _types(self._layout)
        try:
            named = not isinstance(layout, list) and _short_name(layout) == _short_name(self._plain)
            if named and _types(layout["fields"])[: len(ours)] == ours:
                return self._ours_and_more({**layout, "fields": layout["fields"][len(ours) :]})
            return self._resolved(layout)
        except (SchemaParseException, UnknownType):
            return None

    def _ours_and_more(self, rest: Any) -> Decode:
        """Of writers whose fields begin with ours. ``rest``: a record of the others."""
        known, more, values = Encoding(self._plain), Encoding(without_logical_types(rest)), Values(rest)
        ints = tuple(f["name"] for f in self._plain["fields"] if f["type"] == "int")

        def decoded(body: bytes) -> tuple[AvroRecord, str | None] | None:
            source = io.BytesIO(body)
            record: AvroRecord = fastavro.schemaless_reader(source, known.parsed, None)  # type: ignore[assignment]
            end = source.tell()
            if not known.holds(body[:end]) or not all(-(2**31) <= record[name] < 2**31 for name in ints):
                return None
            if not rest["fields"]:
                return (record, None) if end == len(body) else None
            others = body[end:]
            return (record, values.beyond(values.read(others), set())) if more.is_record(others) else None

        return decoded

    def _resolved(self, layout: Any) -> Decode:
        """Of all other writers."""
        encoding, values = Encoding(without_logical_types(layout)), Values(layout)

        def decoded(body: bytes) -> tuple[AvroRecord, str | None] | None:
            if not encoding.holds(body):
                return None
            source = io.BytesIO(body)
            record: AvroRecord = fastavro.schemaless_reader(source, encoding.parsed, self._reader)  # type: ignore[assignment]
            written = values.read(body)
            if source.tell() != len(body) or not self._by_meaning(record, written):
                return None
            return record, values.beyond(written, self._used(written))

        return decoded

    def _used(self, written: Mapping[str, Any]) -> set[str]:
        """The writer's fields that fields of the reader take."""
        return {next((n for n in names if n in written), "") for names in self._names.values()}

    def _by_meaning(self, record: AvroRecord, written: Mapping[str, Any]) -> bool:
        """Turn times into microseconds; False where a time was no timestamp, a text a decimal, or a time too far."""
        for name in self._times | self._texts:
            field = next((written[n] for n in self._names[name] if n in written), None)
            if field is None or record[name] is None:
                continue
            meaning = field.meaning
            if name in self._texts:
                if meaning == "decimal":
                    return False
                continue
            unit = _UNITS.get(meaning.rpartition("timestamp-")[2]) if "timestamp-" in meaning else None
            if unit is None:
                return False
            record[name] = record[name] * unit // _UNITS["micros"]
            if record[name] not in _LONG:
                return False
        return True


def _records(schema: Any) -> list[AvroSchema]:
    """The records that a schema declares at its top: one, or some of a union's branches."""
    return [s for s in _branches(schema) if isinstance(s, dict) and isinstance(s.get("fields"), list)]


def _short_name(record: AvroSchema) -> str:
    return str(record.get("name")).rpartition(".")[2]


def _branches(avro_type: Any) -> list[Any]:
    return avro_type if isinstance(avro_type, list) else [avro_type]


def _types(fields: list[AvroSchema]) -> list[tuple[str, Any]]:
    return [(f["name"], f["type"]) for f in fields]
