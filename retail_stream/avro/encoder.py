"""Decoded records written anew by another schema: columns as its first fields, then the extra fields' own bytes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from retail_stream.avro import passes
from retail_stream.avro.decoder import Decoded, Part
from retail_stream.avro.plan import STEP_WIDTH, Bytes, Int64s, Job, Kind, Plan
from retail_stream.avro.reader import Column, Reader, view
from retail_stream.avro.types import AvroField, AvroType, SchemaError, parse, same_layout

MAGIC = b"\x00"

_TIMES = ("timestamp-micros", "local-timestamp-micros")

#: field → (rows that get another value, the value)
Changes: TypeAlias = Mapping[str, tuple[Int64s, str]]
#: a pass: `passes.encode`, or `reference_encoder.encode`
Pass: TypeAlias = Callable[[Job], tuple[Bytes, Int64s]]


class Target:
    """A schema whose fields are columns of a reader, of the same types; it may require what the reader has optional."""

    def __init__(self, schema: Mapping[str, Any], reader: Reader) -> None:
        """``schema``: a record, as parsed JSON.

        Raises:
            SchemaError: a field is not a column, or of another type.
        """
        self.schema = schema
        self.record = parse(schema)
        self.reader = reader
        columns = {c.name: c for c in reader.fields}
        steps = [_step(f, columns.get(f.name)) for f in self.record.fields]
        self.steps = np.array(steps, np.int32).reshape(-1, STEP_WIDTH)
        self._columns = [columns[f.name] for f in self.record.fields]

    def is_written_by(self, plan: Plan) -> bool:
        """Whether the writer's own bytes are records of this target and what follows it, so that none needs encoding.

        So it is where the writer's fields begin with the target's: same names, order and types.
        """
        if plan.refusal or plan.nodes[0, 0] != Kind.RECORD:
            return False
        fields = plan.branches[0].record.fields
        wanted = self.record.fields
        return len(fields) >= len(wanted) and all(
            a.name == b.name and same_layout(a.type, b.type) for a, b in zip(fields, wanted, strict=False)
        )

    def encode(
        self, decoded: Decoded, part: Part, schema_id: int, changes: Changes | None = None, run: Pass = passes.encode
    ) -> tuple[Bytes, Int64s]:
        """The part's records as framed values: value i is ``buffer[offsets[i]:offsets[i + 1]]``.

        ``schema_id``: the target's, with the part's extra fields behind its own. ``changes``: of text fields.

        Raises:
            NullValue: a record holds null in a required field that is not changed.
        """
        columns, pool = decoded.columns, bytearray(self.reader.pool)
        if changes:
            columns = replace(columns, values=columns.values.copy(), valid=columns.valid.copy())
        for name, (rows, text) in (changes or {}).items():
            column = next(c for c in self._columns if c.name == name)
            columns.values[column.slot : column.slot + 2].reshape(-1, 2)[rows] = view(text.encode(), pool)
            if column.mark >= 0:
                columns.valid[column.mark, rows] = 1
        sizes = [
            columns.values[c.slot : c.slot + 2].reshape(-1, 2)[part.rows, 0] for c in self._columns if c.cells == 2
        ]
        room = len(part.rows) * (5 + 12 * len(self.steps)) + sum(int((s & 0xFFFF_FFFF).sum()) for s in sizes)
        room += int((part.places[1::2] - part.places[::2]).sum())
        header = MAGIC + schema_id.to_bytes(4, "big")
        job = Job(header, self.steps, decoded.values.buffer, bytes(pool), columns, part.rows, part.places, room)
        return run(job)


def _step(field: AvroField, column: Column | None) -> list[int]:
    branches = field.type.parts if field.type.kind == "union" else [field.type]
    values = [b for b in branches if b.kind != "null"]
    if column is None or len(values) != 1 or not _same(values[0], column.type):
        raise SchemaError(
            f"has the field {field.name} of type {field.type}; the reader has {column or 'no such field'}"
        )
    nullable = len(branches) == 2
    null, value = (1 - branches.index(values[0]), branches.index(values[0])) if nullable else (-1, -1)
    return [Kind[column.type.kind.upper()], column.slot, column.mark, null, value]


def _same(target: AvroType, column: AvroType) -> bool:
    return same_layout(target, column) and (
        not column.logical.startswith(("timestamp", "local")) or column.logical in _TIMES
    )
