"""Confluent-framed Avro, decoded a batch at a time into columns.

A value is the magic byte 0, a 4-byte big-endian schema id and one Avro record (Confluent wire format). Records of one
writer schema are joined into the single block of an Avro object container file, which `polars.read_avro` decodes into
columns several times faster than any record-by-record reader. Behind each record stands a random fixed-size sentinel:
only if every sentinel is found in its place did every record end where its bytes end, so no damaged record can borrow
bytes from its neighbour.
"""

import io
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import fastavro
import polars as pl
from fastavro.types import AvroMessage

MAGIC = b"\x00"
HEADER_BYTES = 5
ROW = "row"

AvroSchema = Mapping[str, Any]

_SENTINEL_BYTES = 16
_SENTINEL = "__sentinel"
_INT32 = (-(2**31), 2**31 - 1)
_DTYPES: Mapping[str, pl.DataType] = {
    "int": pl.Int32(),
    "long": pl.Int64(),
    "float": pl.Float64(),
    "double": pl.Float64(),
    "string": pl.String(),
    "boolean": pl.Boolean(),
    "bytes": pl.Binary(),
}


def frame(schema_id: int, payload: bytes) -> bytes:
    """One Avro record behind its Confluent header."""
    return MAGIC + schema_id.to_bytes(4, "big") + payload


def schema_id(value: bytes | None) -> int | None:
    """The schema id in a value's header, or None where there is no such header."""
    if value is None or len(value) < HEADER_BYTES or value[:1] != MAGIC:
        return None
    return int.from_bytes(value[1:HEADER_BYTES], "big")


def encode(schema: AvroSchema, record: Mapping[str, Any]) -> bytes:
    """One record as Avro binary, without a header."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, dict(schema), record)
    return out.getvalue()


def plain_schema(schema: AvroSchema) -> dict[str, Any]:
    """The same wire layout with logical types dropped: times stay int64 microseconds since 1970-01-01 UTC."""

    def plain(node: Any) -> Any:
        if isinstance(node, list):
            return [plain(n) for n in node]
        if isinstance(node, Mapping):
            if isinstance(node["type"], str) and node["type"] in _DTYPES:
                return node["type"]
            return {k: plain(v) if k in ("type", "items", "values") else v for k, v in node.items()}
        return node

    fields = [{**f, "type": plain(f["type"])} for f in schema["fields"]]
    return {**schema, "fields": fields}


def _scalar(avro_type: Any) -> str | None:
    """The primitive under a field's type, nullable or not; None for anything that has no column of its own."""
    if isinstance(avro_type, list):
        rest = [t for t in avro_type if t != "null"]
        return _scalar(rest[0]) if len(rest) == 1 and len(avro_type) == 2 else None
    return avro_type if isinstance(avro_type, str) and avro_type in _DTYPES else None


class Writer:
    """One writer schema, ready to decode its records."""

    def __init__(self, schema: AvroSchema) -> None:
        """``schema``: an Avro record schema as parsed JSON."""
        self.schema = schema
        self.plain = plain_schema(schema)
        #: column → dtype, for every field that polars can hold as a column
        self.columns = {f["name"]: _DTYPES[s] for f in self.plain["fields"] if (s := _scalar(f["type"]))}

    @cached_property
    def _parsed(self) -> dict[str, Any]:
        return fastavro.parse_schema(dict(self.plain))  # type: ignore[return-value]

    @cached_property
    def _vectorised(self) -> bool:
        return len(self.columns) == len(self.plain["fields"])

    @cached_property
    def _trusted(self) -> bool:
        # polars takes any union branch other than the null one for the value's, so a damaged branch would pass.
        return self._vectorised and not any(isinstance(f["type"], list) for f in self.plain["fields"])

    @cached_property
    def _file_header(self) -> bytes:
        # An int is read as a long: polars would cut a longer varint off to 32 bits without a word.
        def wide(avro_type: Any) -> Any:
            if isinstance(avro_type, list):
                return [wide(t) for t in avro_type]
            return "long" if avro_type == "int" else avro_type

        fields: list[Any] = [{"name": f["name"], "type": wide(f["type"])} for f in self.plain["fields"]]
        sentinel = {"name": _SENTINEL, "type": {"type": "fixed", "name": "sentinel", "size": _SENTINEL_BYTES}}
        schema = json.dumps({"type": "record", "name": "row", "fields": [*fields, sentinel]}).encode()
        codec = _bytes(b"avro.codec") + _bytes(b"null")
        return b"Obj\x01" + _long(2) + _bytes(b"avro.schema") + _bytes(schema) + codec + _long(0)

    def record(self, body: bytes) -> dict[str, Any] | None:
        """One record (no header) as a dict of plain values, or None where the bytes are not exactly one record."""
        source = io.BytesIO(body)
        try:
            record: AvroMessage = fastavro.schemaless_reader(source, self._parsed, None)
        except (EOFError, ValueError, IndexError, TypeError, OverflowError, KeyError):
            return None
        return record if source.tell() == len(body) else None  # type: ignore[return-value]

    def decode(self, bodies: Sequence[bytes]) -> tuple[pl.DataFrame, list[int]]:
        """Columns of the good records, in order, with their index in ``row``; and the indexes of the bad ones."""
        if self._trusted:
            table = self._block(bodies, range(len(bodies)))
            if table is not None:
                return self._narrow(table)
        # Something is bad or may be: a second, slower reader finds the suspects, the rest go on as a block.
        records = [self.record(b) for b in bodies]
        good = [i for i, r in enumerate(records) if r is not None]
        if not self._vectorised:
            rows = {n: [records[i][n] for i in good] for n in self.columns}  # type: ignore[index]
            dtypes = {n: pl.Int64() if t == pl.Int32() else t for n, t in self.columns.items()}
            table = pl.DataFrame({**rows, ROW: good}, schema={**dtypes, ROW: pl.Int64()})
        else:
            table = self._bisect(bodies, good)
        decoded, _ = self._narrow(table)
        return decoded, sorted(set(range(len(bodies))) - set(decoded[ROW]))

    def _bisect(self, bodies: Sequence[bytes], rows: Sequence[int]) -> pl.DataFrame:
        if not rows:
            return pl.DataFrame(schema={**self.columns, ROW: pl.Int64()})
        table = self._block(bodies, rows)
        if table is not None:
            return table
        if len(rows) == 1:
            return pl.DataFrame(schema={**self.columns, ROW: pl.Int64()})
        middle = len(rows) // 2
        return pl.concat(
            [self._bisect(bodies, rows[:middle]), self._bisect(bodies, rows[middle:])], how="vertical_relaxed"
        )

    def _block(self, bodies: Sequence[bytes], rows: Sequence[int]) -> pl.DataFrame | None:
        """Decode the given records as one block; None where at least one is bad."""
        sentinel = secrets.token_bytes(_SENTINEL_BYTES)
        block = sentinel.join(bodies if len(rows) == len(bodies) else [bodies[i] for i in rows]) + sentinel
        file = self._file_header + sentinel + _long(len(rows)) + _bytes(block) + sentinel
        try:
            table = pl.read_avro(io.BytesIO(file))
        except (pl.exceptions.PolarsError, OSError):
            return None
        except BaseException as e:
            # A length beyond the block is a Rust panic, which pyo3 raises outside of Exception.
            if type(e).__name__ == "PanicException":
                return None
            raise
        if table.height != len(rows) or not table.select((pl.col(_SENTINEL) == pl.lit(sentinel)).all()).item():
            return None
        return table.drop(_SENTINEL).with_columns(pl.Series(ROW, rows, dtype=pl.Int64))

    def _narrow(self, table: pl.DataFrame) -> tuple[pl.DataFrame, list[int]]:
        """Ints back to 32 bits; a record whose int does not fit is bad."""
        ints = [n for n, t in self.columns.items() if t == pl.Int32()]
        if not ints:
            return table, []
        fits = pl.all_horizontal(pl.col(n).is_null() | pl.col(n).is_between(*_INT32) for n in ints)
        bad = table.filter(~fits)
        good = table.filter(fits) if bad.height else table
        return good.cast(dict.fromkeys(ints, pl.Int32)), bad[ROW].to_list()  # type: ignore[arg-type]


@dataclass(frozen=True)
class Decoded:
    """``table``: a row per good value, in order, its index among the values in ``row``; ``bad``: index → why not."""

    table: pl.DataFrame
    bad: Mapping[int, str]


def decode(values: Sequence[bytes | None], writers: Mapping[int, Writer], reader: Writer) -> Decoded:
    """Decode framed values of any mix of schema ids.

    ``writers``: schema id → writer schema, of the ids that are registered for the topic. ``reader``: the fields that
    every row must have, in the dtypes that every row gets; fields beyond them are kept as columns where they can be.
    """
    ids = [schema_id(v) for v in values]
    bad: dict[int, str] = {}
    tables: list[pl.DataFrame] = []
    for number in dict.fromkeys(ids):
        rows = [i for i, n in enumerate(ids) if n == number] if len(ids) != ids.count(number) else range(len(ids))
        if number is None:
            bad.update(dict.fromkeys(rows, "no Confluent header (magic byte 0 and a 4-byte schema id)"))
        elif number not in writers:
            bad.update(dict.fromkeys(rows, f"schema id {number} is not registered under the topic's subject"))
        elif missing := _unresolvable(writers[number], reader):
            bad.update(dict.fromkeys(rows, f"schema id {number} has no usable field {missing}"))
        else:
            bodies = [values[i][HEADER_BYTES:] for i in rows]  # type: ignore[index]
            table, broken = writers[number].decode(bodies)
            bad.update({rows[i]: f"not one Avro record of schema id {number}" for i in broken})
            if isinstance(rows, list):
                table = table.with_columns(pl.Series(ROW, [rows[i] for i in table[ROW]], dtype=pl.Int64))
            tables.append(table.cast(reader.columns))  # type: ignore[arg-type]
    if not tables:
        return Decoded(pl.DataFrame(schema={**reader.columns, ROW: pl.Int64()}), bad)
    table = tables[0] if len(tables) == 1 else pl.concat(tables, how="diagonal").sort(ROW)
    return Decoded(table, bad)


def _unresolvable(writer: Writer, reader: Writer) -> str | None:
    """The first field of the reader that the writer's records cannot fill (Avro schema resolution), or None."""
    promotions: dict[Any, tuple[Any, ...]] = {pl.Int64(): (pl.Int32(),), pl.Float64(): (pl.Int32(), pl.Int64())}
    for name, dtype in reader.columns.items():
        given = writer.columns.get(name)
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
