"""The schema that records are read by: its fields as columns."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import polars as pl

from retail_stream.avro.types import AvroType, SchemaError, parse

#: logical types that are a moment, in any unit; columns hold microseconds
TIMES = frozenset(f"{local}timestamp-{unit}" for local in ("", "local-") for unit in ("millis", "micros", "nanos"))

_DTYPES: Mapping[str, pl.DataType] = {
    "boolean": pl.Boolean(),
    "int": pl.Int32(),
    "long": pl.Int64(),
    "float": pl.Float64(),
    "double": pl.Float64(),
    "bytes": pl.Binary(),
    "string": pl.String(),
    "fixed": pl.Binary(),
    "enum": pl.String(),
}
#: kinds whose column is an Arrow view of bytes
VIEWED = frozenset({"bytes", "string", "fixed"})

#: a column's value in a slot: an int64, or the two of a view; None for null
Cell: TypeAlias = "tuple[int, ...] | None"

_INLINE = 12  # bytes that fit into a view
_POOL = 1  # the buffer that longer constants are in; 0 is the batch's


@dataclass(frozen=True, eq=False)
class Column:
    """A field of the reader. ``type``: without null; ``slot``, ``mark``: its rows in the output, mark -1 if required.

    ``default``: what a record without the field gets; ``()`` where the default is missing or invalid.
    """

    name: str
    aliases: tuple[str, ...]
    type: AvroType
    nullable: bool
    #: which branch null is, for a nullable column
    null_branch: int
    slot: int
    mark: int
    default: Cell

    @property
    def dtype(self) -> pl.DataType:
        """Of the column in frames. Times are Int64, microseconds since 1970-01-01 UTC."""
        return _DTYPES[self.type.kind]

    @property
    def cells(self) -> int:
        """Slots that it takes."""
        return 2 if self.type.kind in VIEWED else 1

    @property
    def is_time(self) -> bool:
        """Whether it holds a moment."""
        return self.type.logical in TIMES

    @property
    def has_default(self) -> bool:
        """Whether a record may lack the field."""
        return self.default != ()

    def __str__(self) -> str:
        """The type, as sentences name it."""
        return f"union of null, {self.type}" if self.nullable else str(self.type)


class Reader:
    """A reader schema: a record whose fields are scalars, nullable or not (the contract's schemas are such)."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """``schema``: parsed JSON.

        Raises:
            SchemaError: it is not a record of scalars.
        """
        self.schema = schema
        self.record = parse(schema)
        if self.record.kind != "record":
            raise SchemaError(f"is a {self.record}, where a record is expected")
        pool = bytearray()
        slots, marks = 0, 0
        columns = []
        for f in self.record.fields:
            branches = f.type.parts if f.type.kind == "union" else [f.type]
            kinds = [b.kind for b in branches]
            scalars = [b for b in branches if b.kind in _DTYPES and b.logical != "decimal"]
            if len(scalars) != 1 or kinds.count("null") != len(branches) - 1 or len(branches) > 2:
                raise SchemaError(f"has the field {f.name} of type {f.type}, which is not a column")
            nullable = len(branches) == 2
            default = _default(f.node["default"], branches, pool) if "default" in f.node else ()
            column = Column(
                f.name,
                f.aliases,
                scalars[0],
                nullable,
                kinds.index("null") if nullable else -1,
                slots,
                marks if nullable else -1,
                default,
            )
            columns.append(column)
            slots += column.cells
            marks += nullable
        self.fields = tuple(columns)
        self.slots, self.marks = slots, marks
        #: what views of constants point into
        self.pool = bytes(pool)

    @cached_property
    def columns(self) -> dict[str, pl.DataType]:
        """Name → dtype, in the schema's order."""
        return {c.name: c.dtype for c in self.fields}


def view(data: bytes, pool: bytearray) -> tuple[int, int]:
    """The Arrow view of ``data``, which joins the pool where it does not fit into the view."""
    if len(data) > _INLINE:
        head = (
            len(data).to_bytes(4, "little") + data[:4] + _POOL.to_bytes(4, "little") + len(pool).to_bytes(4, "little")
        )
        pool += data
    else:
        head = len(data).to_bytes(4, "little") + data.ljust(_INLINE, b"\0")
    return int.from_bytes(head[:8], "little", signed=True), int.from_bytes(head[8:], "little", signed=True)


def _default(value: Any, branches: list[AvroType], pool: bytearray) -> Cell:
    """The cell of a JSON default, by the first branch that it is valid for; ``()`` if there is none."""
    for branch in branches:
        if branch.kind == "null":
            if value is None:
                return None
        elif (cell := _cell(value, branch, pool)) != ():
            return cell
    return ()


def _cell(value: Any, avro_type: AvroType, pool: bytearray) -> tuple[int, ...]:
    match avro_type.kind, value:
        case "boolean", bool():
            return (int(value),)
        case _, bool():
            return ()
        case "int", int() if -(2**31) <= value < 2**31:
            return (value,)
        case "long", int() if -(2**63) <= value < 2**63:
            return (_in_micros(value, avro_type.logical),)
        case "float" | "double", int() | float():
            return _bits(value, single=avro_type.kind == "float")
        case "string", str():
            return _text(value, "utf-8", pool)
        case "bytes", str():
            return _text(value, "latin-1", pool)
        case "fixed", str() if len(value) == avro_type.size:
            return _text(value, "latin-1", pool)
        case "enum", str() if value in avro_type.symbols:
            return (avro_type.symbols.index(value),)
    return ()


def _in_micros(value: int, logical: str) -> int:
    if logical.endswith("timestamp-millis"):
        return value * 1000 if abs(value) < 2**63 // 1000 else value
    return value // 1000 if logical.endswith("timestamp-nanos") else value


def _bits(value: float, *, single: bool) -> tuple[int, ...]:
    try:
        number = struct.unpack("<f", struct.pack("<f", value))[0] if single else float(value)
    except OverflowError:
        return ()
    return struct.unpack("<q", struct.pack("<d", number))


def _text(value: str, encoding: str, pool: bytearray) -> tuple[int, ...]:
    try:
        return view(value.encode(encoding), pool)
    except UnicodeEncodeError:
        return ()
