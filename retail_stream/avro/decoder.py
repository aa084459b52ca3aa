"""Confluent-framed Avro of any mix of writer schemas, decoded a batch at a time into the reader's columns.

A value is the magic byte 0, a 4-byte big-endian schema id and one Avro record (Confluent wire format).

    framed values ─▶ rows by schema id ─▶ one plan each (resolution.py) ─▶ one pass (records.c) ─▶ columns ─▶ a frame
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from retail_stream.avro import arrow, passes
from retail_stream.avro.plan import Branch, Bytes, Columns, Fault, Group, Int64s, Plan, Ranges
from retail_stream.avro.reader import VIEWED, Column, Reader
from retail_stream.avro.resolution import resolve
from retail_stream.avro.types import AvroField, References

HEADER_BYTES = 5
ROW = "row"

_WINDOW = 8

Flags: TypeAlias = npt.NDArray[np.bool_]

#: a pass over all groups: `passes.decode`, or `reference.decode`
Pass: TypeAlias = Callable[[Reader, Sequence[Group], Bytes, Int64s, Int64s], tuple[Columns, list[Ranges]]]

NO_HEADER = "no Confluent header (magic byte 0 and a 4-byte schema id)"


@dataclass(frozen=True, eq=False)
class Values:
    """Framed values as bytes in one buffer: value i is ``buffer[begins[i]:ends[i]]``, int64 arrays.

    A null value has ``begins`` = ``ends`` (so has an empty one; neither has a header). At most 2 GiB.
    """

    buffer: Bytes
    begins: Int64s
    ends: Int64s

    @classmethod
    def of(cls, values: Sequence[bytes | None]) -> "Values":
        """The values, joined."""
        try:
            data = b"".join(values)  # type: ignore[arg-type]
            sizes = np.fromiter(map(len, values), np.int64, len(values))  # type: ignore[arg-type]
        except TypeError:  # a null value
            return cls.of([v or b"" for v in values])
        ends = np.cumsum(sizes)
        return cls(np.frombuffer(data, np.uint8), ends - sizes, ends)

    def __len__(self) -> int:
        return len(self.begins)

    def schema_ids(self) -> Int64s:
        """The schema id in each header, -1 where there is no header."""
        if not len(self):
            return np.zeros(0, np.int64)
        data = self.buffer
        if int(self.begins.max()) + _WINDOW > len(data):
            data = np.concatenate([data, np.zeros(_WINDOW, np.uint8)])
        # Eight bytes from every place on, as one number: the magic byte, the id, and three of the record.
        windows = np.ndarray((len(data) - _WINDOW + 1,), ">u8", data, strides=(1,))
        ids = (windows[self.begins] >> np.uint64(24)).astype(np.int64)
        ids[(ids >> 32 != 0) | (self.ends - self.begins < HEADER_BYTES)] = -1
        return ids

    def ids(self) -> list[int]:
        """The different schema ids in the headers, ascending."""
        return [n for n in np.unique(self.schema_ids()).tolist() if n >= 0]


class Schemas:
    """Writer schemas by id with their plans for one reader; a plan is made once."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._plans: dict[int, Plan] = {}

    def add(self, schema_id: int, schema: Any, references: References | None = None) -> Plan:
        """Plan how to read records of a schema. Never fails: what cannot be read is a plan that says why."""
        plan = self._plans[schema_id] = resolve(schema, self.reader, references)
        return plan

    def __contains__(self, schema_id: object) -> bool:
        return schema_id in self._plans

    def __getitem__(self, schema_id: int) -> Plan:
        return self._plans[schema_id]


@dataclass(frozen=True, eq=False)
class Part:
    """The readable records of a batch that one schema id, and one branch of its union if it has one, wrote.

    ``rows``: indexes among the values, ascending. ``places``: (2 × extra fields, rows), where each of the writer's
    fields beyond the reader's begins and ends in the batch's buffer.
    """

    schema_id: int
    branch: Branch
    rows: Int64s
    places: Int64s

    @property
    def extra(self) -> tuple[AvroField, ...]:
        """The writer's fields beyond the reader's, in the order of ``places``."""
        return self.branch.extra

    def only(self, wanted: Flags) -> "Part":
        """The part without the rows whose flag is off. ``wanted``: one flag for each value of the batch."""
        items = np.flatnonzero(wanted[self.rows])
        return Part(self.schema_id, self.branch, self.rows[items], self.places[:, items])


@dataclass(frozen=True, eq=False)
class Decoded:
    """``table``: a row per readable value, in order, with the reader's columns; ``rows``: its index among the values.

    ``bad``: index → why the value has no row. ``parts``: the readable values by what wrote them.
    ``values``, ``columns``: what they were decoded from, and to, for an encoder.
    """

    table: pl.DataFrame
    rows: Int64s
    bad: Mapping[int, str]
    parts: Sequence[Part]
    values: Values
    columns: Columns = field(repr=False)

    @property
    def numbered(self) -> pl.DataFrame:
        """The table with ``rows`` in the column ``row``, for readers that have no field of that name."""
        return self.table.with_columns(pl.Series(ROW, self.rows))

    def extra_fields(self, part: Part, item: int) -> dict[str, bytes]:
        """The fields beyond the reader's of the part's record number ``item``, as the bytes that they were."""
        spans = part.places[:, item].reshape(-1, 2).tolist()
        return {f.name: self.values.buffer[b:e].tobytes() for f, (b, e) in zip(part.extra, spans, strict=True)}


def decode(values: Values | Sequence[bytes | None], schemas: Schemas, run: Pass = passes.decode) -> Decoded:
    """Decode framed values of any mix of schema ids; ids that ``schemas`` lacks are not registered for the topic."""
    if not isinstance(values, Values):
        values = Values.of(values)
    reader = schemas.reader
    bad: dict[int, str] = {}
    groups: list[Group] = []
    used: list[int] = []
    for number, rows in _by_id(values.schema_ids()):
        if number < 0:
            bad.update(dict.fromkeys(rows.tolist(), NO_HEADER))
        elif number not in schemas:
            bad.update(dict.fromkeys(rows.tolist(), f"schema id {number} is not registered under the topic's subject"))
        elif refusal := schemas[number].refusal:
            bad.update(dict.fromkeys(rows.tolist(), f"schema id {number}: {refusal}"))
        else:
            groups.append(Group(schemas[number], rows))
            used.append(number)
    columns, ranges = run(reader, groups, values.buffer, values.begins + HEADER_BYTES, values.ends)
    parts: list[Part] = []
    sound = not columns.fault.any()
    for number, group, group_ranges in zip(used, groups, ranges, strict=True):
        good = np.ones(len(group.rows), np.bool_) if sound else _report(number, group, columns, bad)
        parts.extend(_parts(number, group, group_ranges, good))
    good_rows = _good(len(values), bad)
    return Decoded(frame(reader, columns, values.buffer, good_rows), good_rows, bad, parts, values, columns)


def _by_id(ids: Int64s) -> list[tuple[int, Int64s]]:
    """Schema id → rows, ascending."""
    if not len(ids):
        return []
    if (ids == ids[0]).all():
        return [(int(ids[0]), np.arange(len(ids)))]
    # Sorted: damaged headers can hold as many ids as there are values.
    order = np.argsort(ids, kind="stable")
    firsts = np.flatnonzero(np.diff(ids[order], prepend=-2))
    return [(int(ids[rows[0]]), rows) for rows in np.split(order, firsts[1:])]


def _report(number: int, group: Group, columns: Columns, bad: dict[int, str]) -> Flags:
    """Add the bad rows of a group; which of its items are good."""
    fault = columns.fault[group.rows]
    for item in np.flatnonzero(fault).tolist():
        row = int(group.rows[item])
        why = group.plan.sentence(int(fault[item]), int(columns.where[row]))
        unresolved = fault[item] == Fault.UNRESOLVED
        bad[row] = f"schema id {number}: {why}" if unresolved else f"not one Avro record of schema id {number}: {why}"
    good: Flags = fault == 0
    return good


def _parts(number: int, group: Group, ranges: Ranges, good: Flags) -> list[Part]:
    branches = group.plan.branches
    if len(branches) == 1 and good.all():
        return [Part(number, branch, group.rows, ranges.places) for branch in branches.values()]
    parts = []
    for chosen, branch in branches.items():
        items = np.flatnonzero(good & (ranges.branch == chosen))
        first = 2 * branch.first_extra
        places = ranges.places[first : first + 2 * len(branch.extra), items]
        if len(items):
            parts.append(Part(number, branch, group.rows[items], places))
    return parts


def _good(n: int, bad: Mapping[int, str]) -> Int64s:
    if not bad:
        return np.arange(n)
    flags = np.ones(n, np.bool_)
    flags[list(bad)] = False
    return np.flatnonzero(flags)


def frame(reader: Reader, columns: Columns, buffer: Bytes, rows: Int64s) -> pl.DataFrame:
    """The given rows as the reader's columns. Text and bytes stay in ``buffer``, which lives as long as they do."""
    whole = len(rows) == columns.values.shape[1]
    pool = np.frombuffer(reader.pool, np.uint8)
    series = []
    for c in reader.fields:
        valid = None if c.mark < 0 else columns.valid[c.mark] if whole else columns.valid[c.mark, rows]
        cells = columns.values[c.slot : c.slot + c.cells]
        cells = cells.reshape(-1, 2) if c.cells == 2 else cells[0]
        series.append(_series(c, cells if whole else cells[rows], valid, (buffer, pool)))
    return pl.DataFrame(series)


def _series(column: Column, cells: Int64s, valid: Bytes | None, data: tuple[Bytes, ...]) -> pl.Series:
    match column.type.kind:
        case kind if kind in VIEWED:
            return arrow.views(column.name, cells, valid, data, text=kind == "string")
        case "int":
            return arrow.series(column.name, b"i", cells.astype(np.int32), valid)
        case "long":
            return arrow.series(column.name, b"l", cells, valid)
        case "boolean":
            return arrow.series(column.name, b"l", cells, valid).cast(pl.Boolean)
        case "enum":
            symbols = pl.Series(column.name, column.type.symbols, pl.String)
            return symbols.gather(arrow.series(column.name, b"l", cells, valid))
        case _:
            return arrow.series(column.name, b"g", cells, valid)
