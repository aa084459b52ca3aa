"""Fields beyond the reader's: as JSON, and as columns of those whose values Postgres limits."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import polars as pl

from retail_stream.avro import passes
from retail_stream.avro.decoder import Decoded, frame
from retail_stream.avro.plan import Group, Int64s, Plan
from retail_stream.avro.reader import Reader
from retail_stream.avro.resolution import resolve
from retail_stream.avro.schema import Holds, as_json
from retail_stream.avro.types import AvroType
from retail_stream.avro.values import read_value

_HOLDS = {"string": Holds.TEXT, "float": Holds.AMOUNT, "double": Holds.AMOUNT}
_VALUE = "value"


def texts(decoded: Decoded) -> pl.Series:
    """The extra fields of each row of the table as the text of a JSON object; null where all of them are null."""
    objects: dict[int, str] = {}
    for part in decoded.parts:
        types = {f.name: f.type for f in part.extra}
        for item, row in enumerate(part.rows.tolist() if types else ()):
            fields = {n: read_value(types[n], data) for n, data in decoded.extra_fields(part, item).items()}
            if given := {name: value for name, value in fields.items() if value is not None}:
                objects[row] = as_json(given)
    column = list(map(objects.get, decoded.rows.tolist())) if objects else [None] * len(decoded.rows)
    return pl.Series(column, dtype=pl.String)


def limited(decoded: Decoded) -> Iterator[tuple[Holds, Int64s, pl.Series]]:
    """Extra fields that hold text, amounts or times: what they hold, indexes among the values, and their values.

    Values are String, Float64, or Int64 microseconds. A row comes once for each such field that it has.
    """
    places: dict[tuple[Holds, str, int], list[tuple[Int64s, Int64s, Int64s]]] = {}
    for part in decoded.parts:
        for i, extra in enumerate(part.extra):
            scalar, null_branch = _scalar(extra.type)
            if scalar is not None and (held := _held(scalar)):
                place = part.rows, part.places[2 * i], part.places[2 * i + 1]
                places.setdefault((held, scalar.kind, null_branch), []).append(place)
    for (held, kind, null_branch), found in places.items():
        rows, begins, ends = (np.ascontiguousarray(np.concatenate(arrays)) for arrays in zip(*found, strict=True))
        reader, plan = _column(kind, null_branch)
        every = np.arange(len(rows))
        columns, _ = passes.decode(reader, [Group(plan, every)], decoded.values.buffer, begins, ends)
        yield held, rows, frame(reader, columns, decoded.values.buffer, every)[_VALUE]


def _scalar(avro_type: AvroType) -> tuple[AvroType | None, int]:
    """The type without null, and which branch null is (-1 for none); None if it is more than one type."""
    if avro_type.kind != "union":
        return avro_type, -1
    kinds = [b.kind for b in avro_type.parts]
    if len(kinds) != 2 or kinds.count("null") != 1:
        return None, -1
    null = kinds.index("null")
    return avro_type.parts[1 - null], null


def _held(scalar: AvroType) -> Holds | None:
    return Holds.TIME if scalar.logical == "timestamp-micros" else _HOLDS.get(scalar.kind)


@lru_cache
def _column(kind: str, null_branch: int) -> tuple[Reader, Plan]:
    avro_type = kind if null_branch < 0 else ["null", kind] if null_branch == 0 else [kind, "null"]
    schema = {"type": "record", "name": "extra", "fields": [{"name": _VALUE, "type": avro_type}]}
    reader = Reader(schema)
    return reader, resolve(schema, reader)
