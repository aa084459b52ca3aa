"""Confluent-framed Avro, decoded a batch at a time into columns.

A value is the magic byte 0, a 4-byte big-endian schema id and one Avro record (Confluent wire format). Records of one
writer schema are joined into the single block of an Avro object container file, which `polars.read_avro` decodes into
columns several times faster than any record-by-record reader. Only records whose layout was followed to its end before
(`shape`) are joined, so that no damaged record can borrow bytes from its neighbour; others are read one by one.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any

import fastavro
import numpy as np
import polars as pl
from fastavro.types import AvroMessage

from retail_stream.avro import decoder
from retail_stream.avro.decoder import Schemas, Values
from retail_stream.avro.plan import Plan
from retail_stream.avro.reader import Reader
from retail_stream.avro.resolution import resolve
from retail_stream.avro.schema import DTYPES, AvroSchema, Holds, as_json, holds_of, plain_schema, scalar
from retail_stream.avro.shape import Shape

MAGIC = b"\x00"
HEADER_BYTES = 5
ROW = "row"
NESTED = "__nested"

_HEADER = "__header"
# What ends a block of an Avro file, and enough padding for a Shape.
_SYNC = bytes(16)
_HEAD = itemgetter(slice(HEADER_BYTES))
# Below this many records, one by one is faster than a block.
_FEW = 8


def frame(schema_id: int, payload: bytes) -> bytes:
    """One Avro record behind its Confluent header."""
    return MAGIC + schema_id.to_bytes(4, "big") + payload


def schema_id(value: bytes | None) -> int | None:
    """The schema id in a value's header, or None if it has no such header."""
    if value is None or len(value) < HEADER_BYTES or value[:1] != MAGIC:
        return None
    return int.from_bytes(value[1:HEADER_BYTES], "big")


def by_schema(values: Sequence[bytes | None]) -> dict[int | None, Sequence[int]]:
    """Rows by the schema id in their header; under None those that have no such header."""
    try:
        heads = set(map(_HEAD, values))  # type: ignore[arg-type]
    except TypeError:  # a null value
        heads = {v and v[:HEADER_BYTES] for v in values}
    if len(heads) == 1:
        return {schema_id(heads.pop()): range(len(values))}
    ids = {head: schema_id(head) for head in heads}
    groups: dict[int | None, list[int]] = {}
    for row, value in enumerate(values):
        groups.setdefault(ids[value and value[:HEADER_BYTES]], []).append(row)
    return dict(groups)


def encode(schema: AvroSchema, record: Mapping[str, Any]) -> bytes:
    """One record as Avro binary, without a header."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, dict(schema), record)
    return out.getvalue()


class RecordSchema:
    """The schema of records, ready to decode and describe them: a writer's, or a reader's."""

    def __init__(self, schema: AvroSchema) -> None:
        """``schema``: an Avro record schema as parsed JSON."""
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

    def read(self, values: Values | Sequence[bytes | None], writers: Mapping[int, "RecordSchema"]) -> decoder.Decoded:
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

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Column → its value in records of a writer that does not know the field."""
        return {f["name"]: f["default"] for f in self.plain["fields"] if "default" in f}

    @cached_property
    def _parsed(self) -> dict[str, Any]:
        return fastavro.parse_schema(dict(self.plain))  # type: ignore[return-value]

    @cached_property
    def _shape(self) -> Shape | None:
        """None if a field is not a scalar: such records are read one by one."""
        types = [f["type"] for f in self.plain["fields"]]
        return Shape(types) if len(self.columns) == len(types) else None

    @cached_property
    def _file_header(self) -> bytes:
        header: dict[str, Any] = {"name": _HEADER, "type": {"type": "fixed", "name": "header", "size": HEADER_BYTES}}
        fields = [{"name": f["name"], "type": f["type"]} for f in self.plain["fields"]]
        schema = json.dumps({"type": "record", "name": "row", "fields": [header, *fields]}).encode()
        codec = _bytes(b"avro.codec") + _bytes(b"null")
        return b"Obj\x01" + _long(2) + _bytes(b"avro.schema") + _bytes(schema) + codec + _long(0)

    def record(self, body: bytes) -> dict[str, Any] | None:
        """One record (no header) as a dict of plain values, or None where the bytes are not exactly one record."""
        source = io.BytesIO(body)
        try:
            record: AvroMessage = fastavro.schemaless_reader(source, self._parsed, None)
        except (EOFError, ValueError, IndexError, TypeError, OverflowError, KeyError):
            return None
        if source.tell() != len(body) or not isinstance(record, dict):
            return None
        ints = (record[name] for name, dtype in self.columns.items() if dtype == pl.Int32())
        return record if all(n is None or -(2**31) <= n < 2**31 for n in ints) else None

    def decode(self, values: Sequence[bytes]) -> tuple[pl.DataFrame, list[int]]:
        """Columns of the good records, in order, with their index in ``row``; and the indexes of the bad ones.

        ``values``: records behind their Confluent headers, all of this schema.
        """
        if self._shape is None:
            return self._one_by_one(values, range(len(values)))
        file, first = self._file(values)
        sizes = np.fromiter(map(len, values), np.int64, len(values))
        ends = np.cumsum(sizes) + first
        sound = self._shape.sound(file, ends - sizes + HEADER_BYTES, ends)
        if sound.all():
            return self._blocks(values, range(len(values)), file)
        table, bad = self._blocks(values, np.flatnonzero(sound).tolist())
        suspects, worse = self._one_by_one(values, np.flatnonzero(~sound).tolist())
        if suspects.height:
            table = pl.concat([table, suspects]).sort(ROW)
        return table, sorted(bad + worse)

    def _blocks(
        self, values: Sequence[bytes], rows: Sequence[int], file: bytes | None = None
    ) -> tuple[pl.DataFrame, list[int]]:
        """Decode sound records; a block that polars refuses (a text is not UTF-8) is halved until the bad are found.

        ``file``: the rows as an Avro file, if it is made already.
        """
        if not rows:
            return pl.DataFrame(schema={**self.columns, ROW: pl.Int64()}), []
        try:
            if file is None:
                file, _ = self._file([values[i] for i in rows])
            table = pl.read_avro(io.BytesIO(file), columns=list(self.columns)).cast(self.columns)  # type: ignore[arg-type]
            return table.with_columns(pl.Series(ROW, rows, dtype=pl.Int64)), []
        except (pl.exceptions.PolarsError, OSError):
            if len(rows) <= _FEW:
                return self._one_by_one(values, rows)
        middle = len(rows) // 2
        (left, bad), (right, worse) = self._blocks(values, rows[:middle]), self._blocks(values, rows[middle:])
        return pl.concat([left, right]), bad + worse

    def _file(self, values: Sequence[bytes]) -> tuple[bytes, int]:
        """An Avro file whose one block holds the values as they are, and where in it the first one begins."""
        head = b"".join((self._file_header, _SYNC, _long(len(values)), _long(sum(map(len, values)))))
        return b"".join((head, *values, _SYNC)), len(head)

    def _one_by_one(self, values: Sequence[bytes], rows: Sequence[int]) -> tuple[pl.DataFrame, list[int]]:
        records = {i: self.record(values[i][HEADER_BYTES:]) for i in rows}
        good = {i: r for i, r in records.items() if r is not None}
        columns: dict[str, Any] = {n: [r[n] for r in good.values()] for n in self.columns}
        schema = {**self.columns, ROW: pl.Int64()}
        if nested := [f["name"] for f in self.plain["fields"] if f["name"] not in self.columns]:
            columns[NESTED] = [as_json({n: r[n] for n in nested if r[n] is not None}) for r in good.values()]
            schema[NESTED] = pl.String()
        table = pl.DataFrame({**columns, ROW: list(good)}, schema=schema)
        return table, [i for i in rows if i not in good]


class _Writers(Schemas):
    """Writer schemas that keep their own plans."""

    def __init__(self, reader: Reader, writers: Mapping[int, RecordSchema]) -> None:
        super().__init__(reader)
        self._writers = writers

    def __contains__(self, schema_id: object) -> bool:
        return schema_id in self._writers

    def __getitem__(self, schema_id: int) -> Plan:
        return self._writers[schema_id].plan(self.reader)


@dataclass(frozen=True)
class Decoded:
    """``table``: a row per good value, in order, its index among the values in ``row``; ``bad``: index → what is wrong.

    Fields that have no column of their own (arrays, maps, records …) are in ``__nested``, a JSON object's text.
    """

    table: pl.DataFrame
    bad: Mapping[int, str]


def decode(
    values: Sequence[bytes | None],
    writers: Mapping[int, RecordSchema],
    reader: RecordSchema,
    groups: Mapping[int | None, Sequence[int]] | None = None,
) -> Decoded:
    """Decode framed values of any mix of schema ids.

    ``writers``: schema id → writer schema, of the ids that are registered for the topic. ``reader``: the fields that
    every row must have, in the dtypes that every row gets; fields beyond them are kept as columns where they can be.
    ``groups``: the result of :func:`by_schema`, if it is known.
    """
    bad: dict[int, str] = {}
    tables: list[pl.DataFrame] = []
    for number, rows in (by_schema(values) if groups is None else groups).items():
        if number is None:
            bad.update(dict.fromkeys(rows, "no Confluent header (magic byte 0 and a 4-byte schema id)"))
        elif number not in writers:
            bad.update(dict.fromkeys(rows, f"schema id {number} is not registered under the topic's subject"))
        elif missing := _unresolvable(writers[number], reader):
            bad.update(dict.fromkeys(rows, f"schema id {number} has no usable field {missing}"))
        else:
            whole = len(rows) == len(values)
            table, broken = writers[number].decode(values if whole else [values[i] for i in rows])  # type: ignore[misc,arg-type]
            bad.update({rows[i]: f"not one Avro record of schema id {number}" for i in broken})
            if not whole:
                table = table.with_columns(pl.Series(ROW, rows, dtype=pl.Int64).gather(table[ROW]))
            absent = [
                pl.lit(reader.defaults[n], d).alias(n) for n, d in reader.columns.items() if n not in table.columns
            ]
            tables.append(table.with_columns(absent).cast(reader.columns))  # type: ignore[arg-type]
    if not tables:
        return Decoded(pl.DataFrame(schema={**reader.columns, ROW: pl.Int64()}), bad)
    table = tables[0] if len(tables) == 1 else pl.concat(tables, how="diagonal_relaxed").sort(ROW)
    return Decoded(table, bad)


def _unresolvable(writer: RecordSchema, reader: RecordSchema) -> str | None:
    """The first field of the reader that the writer's records cannot fill by Avro's schema resolution, or None."""
    promotions: dict[Any, tuple[Any, ...]] = {pl.Int64(): (pl.Int32(),), pl.Float64(): (pl.Int32(), pl.Int64())}
    for name, dtype in reader.columns.items():
        given = writer.columns.get(name)
        if name not in writer.names and name in reader.defaults:
            continue
        if given != dtype and given not in promotions.get(dtype, ()):
            return name
    return None


def _long(n: int) -> bytes:
    n = (n << 1) ^ (n >> 63)
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def _bytes(b: bytes) -> bytes:
    return _long(len(b)) + b
