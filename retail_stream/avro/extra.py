"""Fields beyond the reader's as JSON, in the spelling of :mod:`retail_stream.avro.spelling`."""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import polars as pl

from retail_stream.avro import passes
from retail_stream.avro.decoder import Decoded, Part, frame
from retail_stream.avro.plan import Group, Plan
from retail_stream.avro.reader import Reader
from retail_stream.avro.resolution import resolve
from retail_stream.avro.spelling import WRITERS, text_of, text_of_string
from retail_stream.avro.types import AvroType

_VALUE = "value"
#: Fields of a record from which on they are omitted: their bytes, as much as an uncompressed record can have, and
#: their characters. Postgres refuses objects of 256 MiB.
MOST_BYTES, MOST_CHARACTERS = 2**20, 2**24


def texts(decoded: Decoded) -> pl.Series:
    """The extra fields of each row of the table as the text of a JSON object; null where all of them are null."""
    objects: dict[int, str] = {}
    for part in decoded.parts:
        if part.extra:
            objects.update((row, t) for row, t in zip(part.rows.tolist(), _objects(decoded, part), strict=True) if t)
    column = list(map(objects.get, decoded.rows.tolist())) if objects else [None] * len(decoded.rows)
    return pl.Series(column, dtype=pl.String)


def _objects(decoded: Decoded, part: Part) -> Iterable[str]:
    """The JSON object of each record, empty where all fields are null. Keys are sorted."""
    order = sorted(range(len(part.extra)), key=lambda i: part.extra[i].name)
    keys = [f"{text_of_string(part.extra[i].name)}:" for i in order]
    sizes = part.places[1::2] - part.places[::2]
    omitted = np.cumsum(sizes[order], axis=0) > MOST_BYTES
    columns = [_field(decoded, part, i, omitted[n]) for n, i in enumerate(order)]
    for item, row in enumerate(zip(*columns, strict=True)):
        members = [key + value for key, value in zip(keys, row, strict=True) if value is not None]
        if sum(map(len, members)) > MOST_CHARACTERS:  # seldom
            members = _shortened(keys, row, sizes[order, item].tolist())
        yield "{" + ",".join(members) + "}" if members else ""


def _shortened(keys: list[str], row: tuple[str | None, ...], sizes: list[int]) -> list[str]:
    """The members of an object without those that go beyond its limit of characters."""
    members, used = [], 0
    for key, value, size in zip(keys, row, sizes, strict=True):
        if value is not None:
            used += len(value)
            members.append(key + (value if used <= MOST_CHARACTERS else _omitted(size)))
    return members


def _omitted(size: int) -> str:
    return f'"~omitted:{size}"'


def _field(decoded: Decoded, part: Part, i: int, omitted: np.ndarray) -> list[str | None]:
    """The JSON of one field of each record, None for null."""
    begins, ends = (np.ascontiguousarray(part.places[2 * i + n]) for n in (0, 1))
    scalar, null_branch = _scalar(part.extra[i].type)
    data = decoded.values.buffer
    if scalar is None:
        kind = part.extra[i].type
        spans = zip(begins.tolist(), ends.tolist(), omitted.tolist(), strict=True)
        return [_omitted(e - b) if left_out else text_of(kind, data[b:e].tobytes()) for b, e, left_out in spans]
    reader, plan = _column(scalar.kind, null_branch)
    every = np.arange(len(part.rows))
    columns, _ = passes.decode(reader, [Group(plan, every)], data, begins, ends)
    write = WRITERS[scalar.kind]
    values = frame(reader, columns, data, every)[_VALUE].to_list()
    column = [None if value is None else write(value) for value in values]
    for item in np.flatnonzero(omitted).tolist():
        column[item] = _omitted(int(ends[item] - begins[item]))
    return column


def _scalar(avro_type: AvroType) -> tuple[AvroType | None, int]:
    """The type without null, and which branch null is (-1 for none); None where its values are read one by one."""
    if avro_type.kind in WRITERS and not avro_type.logical:
        return avro_type, -1
    kinds = [b.kind for b in avro_type.parts] if avro_type.kind == "union" else []
    scalars = [b for b in avro_type.parts if b.kind in WRITERS and not b.logical]
    if len(kinds) != 2 or kinds.count("null") != 1 or not scalars:
        return None, -1
    return scalars[0], kinds.index("null")


@lru_cache
def _column(kind: str, null_branch: int) -> tuple[Reader, Plan]:
    avro_type = kind if null_branch < 0 else ["null", kind] if null_branch == 0 else [kind, "null"]
    schema = {"type": "record", "name": "extra", "fields": [{"name": _VALUE, "type": avro_type}]}
    reader = Reader(schema)
    return reader, resolve(schema, reader)
