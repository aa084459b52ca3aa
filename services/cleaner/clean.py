"""The pure middle of the cleaner: a chunk of raw records becomes, record by record, a clean one or a dead letter."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl

from retail_stream.avro.decode import HEADER_BYTES, NESTED, ROW, Decoded, RecordSchema, by_schema, decode, encode, frame
from retail_stream.avro.schema import Holds
from retail_stream.entities import Entity
from retail_stream.errors import Rejected, Stage
from services.cleaner import expectations as declared
from services.cleaner.expectations import TOMBSTONE_RULES, Action, rules
from services.cleaner.verdict import KEY, RECORD_TIME, Verdict, judge

Field = tuple[str, Holds]

_MICROSECONDS = 1000  # in a millisecond
# Kafka takes timestamps of which the microseconds have no place in 64 bits; all of them are far from any year allowed.
_FAR = 2**62 // _MICROSECONDS

#: Fields that are null or a string in raw records and always a string in clean ones.
MADE_PLAIN = {Entity.CUSTOMERS: "email", Entity.STORES: "manager"}


@dataclass(frozen=True)
class Raw:
    """Raw records of one partition, as parallel columns.

    ``timestamps``: Kafka's record timestamps, milliseconds. ``sequence_times``: for tombstones, the header
    ``sequence.time`` in microseconds, or None where a header is there but is no such number; else the timestamp.
    ``unreadable``: rows whose headers cannot be read. ``groups``: rows by schema id, see ``wire.by_schema``.
    """

    entity: Entity
    values: Sequence[bytes | None]
    keys: Sequence[bytes | None]
    timestamps: Sequence[int]
    sequence_times: Mapping[int, int | None] = field(default_factory=dict)
    unreadable: Set[int] = frozenset()

    @cached_property
    def groups(self) -> Mapping[int | None, Sequence[int]]:
        return by_schema(self.values)


@dataclass
class Cleaned:
    """``values``: the clean values, row by row; without meaning for the rows in ``rejected``.

    ``counts``: (action, rule) → how many records broke it.
    """

    values: Sequence[bytes | None]
    rejected: dict[int, Rejected]
    counts: Counter[tuple[Action, str]]

    @property
    def good(self) -> list[bool]:
        """Row by row, whether it is not rejected."""
        flags = [True] * len(self.values)
        for row in self.rejected:
            flags[row] = False
        return flags


@dataclass(frozen=True)
class Target:
    """The clean schema of one raw schema id: its id, and the schema to encode with (logical types dropped)."""

    schema_id: int
    schema: Any


def clean(
    raw: Raw, writers: Mapping[int, RecordSchema], reader: RecordSchema, targets: Mapping[int, Target]
) -> Cleaned:
    """Judge every record; forward the bytes of the good ones, encode again where the clean schema differs.

    ``writers``: raw schema id → its schema. ``reader``: the fields that the rules need. ``targets``: raw schema id →
    clean schema, for at least the ids of decodable values.
    """
    tombstones = [i for i, v in enumerate(raw.values) if v is None] if None in raw.values else []
    decoded = decode(raw.values, writers, reader, raw.groups)
    verdict = judge(_with_context(decoded.table, raw), rules(raw.entity, _beyond(decoded.table, raw, writers, reader)))
    rejected = _undecodable(raw.entity, decoded, set(tombstones))
    counts = verdict.counts
    counts.update((Action.REJECT, rule) for r in rejected.values() for rule in r.rules)
    if raw.entity is not Entity.SALES and tombstones:
        buried = judge(_tombstones(raw, tombstones), TOMBSTONE_RULES)
        counts.update(buried.counts)
        verdict.rejected.update(buried.rejected)
    for row, broken in verdict.rejected.items():
        rejected[row] = Rejected(broken, Stage.TRANSFORMATION, f"{raw.entity} record breaks: {', '.join(broken)}")
    for row in raw.unreadable:
        broken = (declared.HEADERS_READABLE, *(rejected[row].rules if row in rejected else ()))
        rejected[row] = Rejected(broken, Stage.HEADER_CONVERTER, "its headers are lost: the name of one is no UTF-8")
        counts[Action.REJECT, declared.HEADERS_READABLE] += 1
    values = _values(raw, writers, targets, verdict, rejected)
    return Cleaned(values, rejected, counts)


def _beyond(
    table: pl.DataFrame, raw: Raw, writers: Mapping[int, RecordSchema], reader: RecordSchema
) -> tuple[Field, ...]:
    """Fields of the batch that only a newer writer has: a later migration will make columns of them."""
    new = [name for name in table.columns if name not in (*reader.columns, ROW, NESTED)]
    if not new:
        return ()
    used = [writers[i] for i in raw.groups if i is not None and i in writers]
    times = {name for writer in used for name, held in writer.holds.items() if held is Holds.TIME}
    simple = {pl.String(): Holds.TEXT, pl.Float64(): Holds.AMOUNT}
    found = {
        n: Holds.TIME if n in times and table.schema[n] == pl.Int64() else simple.get(table.schema[n]) for n in new
    }
    return tuple(sorted((name, held) for name, held in found.items() if held is not None))


def _with_context(table: pl.DataFrame, raw: Raw) -> pl.DataFrame:
    keys = _texts(raw.keys)
    times = pl.Series(RECORD_TIME, raw.timestamps, dtype=pl.Int64).clip(-_FAR, _FAR) * _MICROSECONDS
    if table.height != len(keys):
        keys, times = keys.gather(table[ROW]), times.gather(table[ROW])
    return table.with_columns(keys, times)


def _texts(keys: Sequence[bytes | None]) -> pl.Series:
    try:
        return pl.Series(KEY, keys, dtype=pl.Binary).cast(pl.String)
    except pl.exceptions.ComputeError:
        # At least one is no UTF-8.
        return pl.Series(KEY, [_text(k) for k in keys], dtype=pl.String)


def _tombstones(raw: Raw, rows: Sequence[int]) -> pl.DataFrame:
    keys = [_text(raw.keys[i]) for i in rows]
    times = [min(max(raw.timestamps[i], -_FAR), _FAR) * _MICROSECONDS for i in rows]
    sequence = [raw.sequence_times.get(i, time) for i, time in zip(rows, times, strict=True)]
    return pl.DataFrame(
        {
            ROW: rows,
            KEY: keys,
            "id": [_int32(k) for k in keys],
            RECORD_TIME: times,
            "sequence_time": [time if s is None else s for time, s in zip(times, sequence, strict=True)],
            "sequence_time_valid": [s is not None for s in sequence],
        },
        schema_overrides={KEY: pl.String, "id": pl.Int32, RECORD_TIME: pl.Int64, "sequence_time": pl.Int64},
    )


def _undecodable(entity: Entity, decoded: Decoded, tombstones: set[int]) -> dict[int, Rejected]:
    rejected = {}
    for row, why in decoded.bad.items():
        if row not in tombstones:
            rejected[row] = Rejected((declared.VALID_AVRO,), Stage.VALUE_CONVERTER, why)
        elif entity is Entity.SALES:
            why = "a sale cannot be deleted: its value is null"
            rejected[row] = Rejected((declared.VALUE_PRESENT,), Stage.VALUE_CONVERTER, why)
    return rejected


def _values(
    raw: Raw,
    writers: Mapping[int, RecordSchema],
    targets: Mapping[int, Target],
    verdict: Verdict,
    rejected: Mapping[int, Rejected],
) -> Sequence[bytes | None]:
    encoded_again = raw.entity in MADE_PLAIN
    if not encoded_again and all(i is None or i not in targets or targets[i].schema_id == i for i in raw.groups):
        return raw.values
    values = list(raw.values)
    for number, rows in raw.groups.items():
        if number is None or number not in targets:
            continue
        target = targets[number]
        for row in rows:
            if row in rejected:
                continue
            body = (raw.values[row] or b"")[HEADER_BYTES:]
            if encoded_again:
                record = writers[number].record(body) or {}
                body = encode(target.schema, {**record, **verdict.defaults.get(row, {})})
            values[row] = frame(target.schema_id, body)
    return values


def clean_schema(entity: Entity, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The clean counterpart of a raw writer schema: the entity's nullable field made plain, all else as it is."""
    name = MADE_PLAIN.get(entity)
    fields = [
        {"name": name, "type": "string", **{k: f[k] for k in ("doc",) if k in f}} if f["name"] == name else f
        for f in schema["fields"]
    ]
    return {**schema, "fields": fields}


def _text(key: bytes | None) -> str | None:
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return None


def _int32(text: str | None) -> int | None:
    digits = "" if text is None else text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10):
        return None
    number = int(text or "")
    return number if -(2**31) <= number < 2**31 else None
