"""Confluent-framed Avro, decoded record by record with fastavro's own schema resolution.

What fastavro reads, and Avro's specification forbids, is no record: see :mod:`commands.audit.encoding`.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any

import fastavro
from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException, UnknownType

from commands.audit.encoding import Encoding
from commands.audit.layouts import Holds, of_fields
from retail_stream import topics
from retail_stream.avro.schema import AvroSchema

#: Field → value.
AvroRecord = dict[str, Any]

HEADER_BYTES = 5
_YEAR_1900, _YEAR_10000 = -2_208_988_800_000_000, 253_402_300_800_000_000
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
        rest = {k: without_logical_types(v) for k, v in schema.items() if k not in ("logicalType", "doc")}
        return rest["type"] if set(rest) == {"type"} else rest
    return schema


def layout(topic: str) -> AvroSchema:
    """The schema of a topic's values in this repository, logical types dropped."""
    plain: AvroSchema = without_logical_types(topics.topic(topic).schema())
    return plain


class Decoder:
    """Decodes the values of one subject."""

    def __init__(self, reader: AvroSchema, schemas: Mapping[int, AvroSchema]) -> None:
        """``reader``: the fields to decode, without logical types; ``schemas``: schema id → writer schema."""
        self.fields: tuple[str, ...] = tuple(f["name"] for f in reader["fields"])
        self._layout = reader["fields"]
        self._reader = fastavro.parse_schema(dict(reader), _write_hint=False)
        plain = {number: _without_defaults(without_logical_types(s)) for number, s in schemas.items()}
        #: of the schemas that are one record
        self.layouts = {number: s for number, s in plain.items() if len(_records(s)) == 1 and not isinstance(s, list)}
        #: schema id → field that only the writer has → what it holds
        self._beyond = {
            number: {
                name: h for r in _records(s) for name, h in of_fields(r["fields"]).items() if name not in self.fields
            }
            for number, s in schemas.items()
        }
        self._decoders = {number: d for number, s in plain.items() if (d := self._decoder(s)) is not None}

    def record(self, number: int | None, body: bytes | None) -> AvroRecord | None:
        """The fields of the reader, then those that only the writer has.

        None where ``body`` (the bytes behind the Confluent header) is not exactly one record of the schema with the id
        ``number``, or where no such schema is registered.
        """
        decode = self._decoders.get(number) if number is not None else None
        if body is None or decode is None:
            return None
        try:
            return decode(body)
        except _BROKEN:
            return None

    def unstorable(self, number: int | None, record: AvroRecord | None) -> str | None:
        """What those fields hold that only the writer has and that no column can store: names of :class:`Holds`.

        Sorted, with commas between; None where every field can be stored.
        """
        beyond = self._beyond.get(number) if number is not None else None
        if record is None or not beyond:
            return None
        bad = {held for name, held in beyond.items() if record.get(name) is not None and not _fits(record[name], held)}
        return ",".join(sorted(bad)) or None

    def _decoder(self, layout: Any) -> Callable[[bytes], AvroRecord | None] | None:
        """None where the schema declares no record, or is not valid Avro."""
        if not _records(layout):
            return None
        try:
            encoding = Encoding(layout)
        except (SchemaParseException, UnknownType):
            return None
        union = isinstance(layout, list)
        ints = () if union else tuple(f["name"] for f in layout["fields"] if f["type"] == "int")
        same = not union and _types(layout["fields"]) == _types(self._layout)

        def decoded(body: bytes) -> AvroRecord | None:
            if not encoding.holds(body):
                return None
            source = io.BytesIO(body)
            record: AvroRecord = fastavro.schemaless_reader(source, encoding.parsed, None)  # type: ignore[assignment]
            if source.tell() != len(body) or not all(-(2**31) <= record[name] < 2**31 for name in ints):
                return None
            if same:
                return record
            source.seek(0)
            return {**record, **fastavro.schemaless_reader(source, encoding.parsed, self._reader)}  # type: ignore[dict-item]

        return decoded


def _records(schema: Any) -> list[AvroSchema]:
    """The records that a schema declares at its top: one, or some of a union's branches."""
    return [s for s in _branches(schema) if isinstance(s, dict) and isinstance(s.get("fields"), list)]


def _without_defaults(schema: Any) -> Any:
    """The same schema of a writer. Only a reader's defaults count, and registries also take ones that do not fit."""
    if isinstance(schema, list):
        return [_without_defaults(s) for s in schema]
    if isinstance(schema, dict):
        return {k: _without_defaults(v) for k, v in schema.items() if k != "default"}
    return schema


def _fits(value: Any, held: Holds) -> bool:
    if held is Holds.TEXT:
        return "\0" not in value
    if held is Holds.AMOUNT:
        return bool(abs(value) < 1e9)
    return held is Holds.OTHER or bool(_YEAR_1900 <= value < _YEAR_10000)


def _branches(avro_type: Any) -> list[Any]:
    return avro_type if isinstance(avro_type, list) else [avro_type]


def _types(fields: list[AvroSchema]) -> list[tuple[str, Any]]:
    return [(f["name"], f["type"]) for f in fields]
