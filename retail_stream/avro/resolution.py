"""Avro's schema resolution: what a writer's schema means to a reader, as a plan for the decoder.

By the specification, section *Schema Resolution*: fields by name, then by the reader's aliases; missing fields by the
reader's defaults; numbers and text by promotion; unions branch by branch, so that a nullable field of the writer fails
only for the records that hold null; named types by their names without namespaces, and by the reader's aliases.

Two rules go by meaning instead of by bytes. A time is read only from a timestamp, of any unit, local or not; it
becomes microseconds (nanoseconds round down). A decimal is a number: it is not read as text or bytes.

    writer ↓  reader →   int   long  float double string bytes boolean time
    int                   ✓      ✓     ✓     ✓
    long                         ✓     ✓     ✓
    float                              ✓     ✓
    double                                   ✓
    string, bytes                                   ✓      ✓
    boolean                                                       ✓
    timestamp-*                  ✓     ✓     ✓                           ✓
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from retail_stream.avro.plan import NODE_WIDTH, Branch, Kind, Plan, Store
from retail_stream.avro.reader import Column, Reader
from retail_stream.avro.skipping import Table
from retail_stream.avro.types import AvroField, AvroType, References, SchemaError, parse

_PROMOTIONS: Mapping[tuple[str, str], Store] = {
    ("boolean", "boolean"): Store.PLAIN,
    ("int", "int"): Store.PLAIN,
    ("int", "long"): Store.PLAIN,
    ("int", "float"): Store.AS_FLOAT,
    ("int", "double"): Store.AS_DOUBLE,
    ("long", "long"): Store.PLAIN,
    ("long", "float"): Store.AS_FLOAT,
    ("long", "double"): Store.AS_DOUBLE,
    ("float", "float"): Store.AS_DOUBLE,
    ("float", "double"): Store.AS_DOUBLE,
    ("double", "double"): Store.PLAIN,
    ("string", "string"): Store.TEXT_VIEW,
    ("string", "bytes"): Store.TEXT_VIEW,
    ("bytes", "string"): Store.TEXT_VIEW,
    ("bytes", "bytes"): Store.VIEW,
}
_UNITS = {"millis": Store.FROM_MILLIS, "micros": Store.PLAIN, "nanos": Store.FROM_NANOS}


class _Refused(Exception):
    """No record of this writer can be read; the sentence says why."""


def resolve(writer: Any, reader: Reader, references: References | None = None) -> Plan:
    """How to read records of ``writer`` (a schema as parsed JSON or text) by ``reader``. Pure; raises nothing.

    ``references``: schemas of other subjects that the writer's names, by full name. A schema that cannot be read at
    all, not even for some of its records, becomes a plan with a ``refusal``.
    """
    resolution = _Resolution(reader)
    try:
        return resolution.plan(parse(writer, references))
    except SchemaError as e:
        return _refused(f"The writer's schema {e}.")
    except _Refused as e:
        return _refused(str(e))
    except RecursionError:
        return _refused("The writer's schema is nested too deeply.")


def _refused(sentence: str) -> Plan:
    none = np.zeros(0, np.int64)
    nodes = np.zeros((0, NODE_WIDTH), np.int32)
    return Plan(sentence, nodes, none.astype(np.int32), none, (), (), {}, 0)


class _Resolution:
    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._table = Table()
        self._failures: list[str] = []
        self._fields: list[str] = []
        self._branches: dict[int, Branch] = {}
        self._extras = 0

    def plan(self, writer: AvroType) -> Plan:
        root = self._table.reserve(1)
        if writer.kind == "union":
            first = self._table.reserve(len(writer.parts))
            self._table.put(root, Kind.UNION, a=first, b=len(writer.parts))
            for i, branch in enumerate(writer.parts):
                self._record(first + i, branch, i)
            if not self._branches:
                raise _Refused(" ".join(dict.fromkeys(self._failures[:3])) or f"The writer's {writer} has no branch.")
        else:
            self._record(root, writer, 0)
            if not self._branches:
                raise _Refused(self._failures[0])
        nodes, links, constants = self._table.arrays()
        return Plan(
            "", nodes, links, constants, tuple(self._failures), tuple(self._fields), self._branches, self._extras
        )

    def _record(self, node: int, writer: AvroType, branch: int) -> None:
        """The node of a whole record, or of its failure."""
        wanted = self._reader.record
        try:
            if writer.kind != "record" or not _same_name(writer, wanted):
                raise _Refused(f"The writer's {writer} cannot be read as the {wanted}.")
            sources = self._sources(writer)
            extra = tuple(f for f in writer.fields if f.name not in sources)
            defaults = self._missing(writer, set(map(id, sources.values())))
            for f in writer.fields:
                if column := sources.get(f.name):
                    self._expect_readable(f, column)
        except _Refused as e:
            self._fail(node, str(e))
            return
        first = self._table.reserve(len(writer.fields) + len(defaults))
        self._table.put(node, Kind.RECORD, a=first, b=len(writer.fields) + len(defaults))
        self._branches[branch] = Branch(writer, extra, self._extras)
        for i, f in enumerate(writer.fields, first):
            self._fields.append(f.name)
            if column := sources.get(f.name):
                self._value(i, f, f.type, column)
            else:
                self._table.skip(i, f.type)
                self._table.mark_extra(i, self._extras)
                self._extras += 1
            self._table.mark_field(i, len(self._fields) - 1)
        for i, column in enumerate(defaults, first + len(writer.fields)):
            self._default(i, column)

    def _sources(self, writer: AvroType) -> dict[str, Column]:
        """The writer's field → the reader's, each of them at most once; a name goes before any alias."""
        names = {f.name for f in writer.fields}
        sources: dict[str, Column] = {c.name: c for c in self._reader.fields if c.name in names}
        for column in self._reader.fields:
            if column.name not in names:
                known = next((a for a in column.aliases if a in names and a not in sources), None)
                if known is not None:
                    sources[known] = column
        return sources

    def _missing(self, writer: AvroType, filled: set[int]) -> list[Column]:
        missing = [c for c in self._reader.fields if id(c) not in filled]
        for column in missing:
            if not column.has_default:
                raise _Refused(
                    f"Field {column.name} is missing in the writer's {writer}; "
                    f"the reader expects {column} and has no default."
                )
        return missing

    def _expect_readable(self, field: AvroField, column: Column) -> None:
        """Refuse a field that no record can fill; of a union every branch has to be unreadable."""
        if not any(_readable(branch, column) for branch in _branches(field.type)):
            raise _Refused(_unreadable(field, field.type, column))

    def _value(self, node: int, field: AvroField, writer: AvroType, column: Column) -> None:
        if writer.kind == "union":
            first = self._table.reserve(len(writer.parts))
            self._table.put(node, Kind.UNION, a=first, b=len(writer.parts))
            for i, branch in enumerate(writer.parts, first):
                self._value(i, field, branch, column)
        elif not _readable(writer, column):
            self._fail(node, _unreadable(field, writer, column))
        elif writer.kind == "null":
            self._null(node, column)
        elif writer.kind == "enum":
            a = self._table.link([self._symbol(field, symbol, writer, column) for symbol in writer.symbols])
            self._table.put(node, Kind.ENUM, column.slot, Store.SYMBOL, a, len(writer.symbols), column.mark)
        else:
            kind, store, b = Kind[writer.kind.upper()], _store(writer, column), 0
            if store is Store.FROM_MILLIS:
                b = self._failure(
                    f"{_at(field, column)}: a value of the writer's {writer} is beyond the reader's {column}."
                )
            self._table.put(node, kind, column.slot, store, writer.size, b, column.mark)

    def _symbol(self, field: AvroField, symbol: str, writer: AvroType, column: Column) -> int:
        """The reader's number of a writer's symbol, or -1 - the sentence of its failure."""
        reader = column.type
        known = symbol if symbol in reader.symbols else reader.default
        if known is not None:
            return reader.symbols.index(known)
        where = _at(field, column)
        return -1 - self._failure(
            f"{where}: {symbol} of the writer's {writer} is not a symbol of the reader's {column}."
        )

    def _null(self, node: int, column: Column) -> None:
        self._table.put(node, Kind.NULL, column.slot, b=column.cells, mark=column.mark)

    def _default(self, node: int, column: Column) -> None:
        if column.default is None:
            self._null(node, column)
            return
        a = self._table.constant(column.default)
        self._table.put(node, Kind.DEFAULT, column.slot, Store.PLAIN, a, len(column.default), column.mark)

    def _fail(self, node: int, sentence: str) -> None:
        self._table.put(node, Kind.FAIL, a=self._failure(sentence))

    def _failure(self, sentence: str) -> int:
        self._failures.append(sentence)
        return len(self._failures) - 1


def _branches(avro_type: AvroType) -> list[AvroType]:
    return avro_type.parts if avro_type.kind == "union" else [avro_type]


def _readable(writer: AvroType, column: Column) -> bool:
    reader = column.type
    match writer.kind:
        case "null":
            return column.nullable
        case "enum":
            return reader.kind == "enum" and _same_name(writer, reader)
        case "fixed":
            return reader.kind == "fixed" and writer.size == reader.size and _same_name(writer, reader)
        case kind:
            return (kind, reader.kind) in _PROMOTIONS and _store(writer, column) is not None


def _store(writer: AvroType, column: Column) -> Store | None:
    """How a value becomes the column's, or None where its meaning is another."""
    if column.is_time:
        unit = writer.logical.partition("timestamp-")[2]
        return _UNITS.get(unit)
    if writer.logical == "decimal":
        return None
    return _PROMOTIONS.get((writer.kind, column.type.kind), Store.VIEW)


def _same_name(writer: AvroType, reader: AvroType) -> bool:
    return writer.short_name == reader.short_name or writer.name in reader.aliases


def _unreadable(field: AvroField, writer: AvroType, column: Column) -> str:
    """``writer``: the field's type, or the branch of it that a record holds."""
    within = f", a branch of its {field.type}," if writer is not field.type else ""
    return f"{_at(field, column)}: the writer's {writer}{within} cannot be read as the reader's {column}."


def _at(field: AvroField, column: Column) -> str:
    return f"Field {column.name}" + ("" if field.name == column.name else f" (the writer's {field.name})")
