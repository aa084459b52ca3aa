"""The pure middle of the cleaner: a chunk of raw records becomes, record by record, a clean one or a dead letter."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from retail_stream.entities import Entity
from retail_stream.wire import HEADER_BYTES, ROW, Decoded, Writer, decode, encode, frame, schema_id
from services.cleaner import expectations as declared
from services.cleaner.expectations import RULES, TOMBSTONE_RULES, Action, Stage
from services.cleaner.verdict import KEY, RECORD_TIME, Verdict, judge

#: Fields that are null or a string in raw records and always a string in clean ones.
MADE_PLAIN = {Entity.CUSTOMERS: "email", Entity.STORES: "manager"}


@dataclass(frozen=True)
class Raw:
    """Raw records of one partition, as parallel columns.

    ``times``: Kafka's record timestamps, microseconds. ``sequence_times``: for tombstones, the header
    ``sequence.time`` in microseconds, or None where a header is there but is no such number; else the timestamp.
    """

    entity: Entity
    values: Sequence[bytes | None]
    keys: Sequence[bytes | None]
    times: Sequence[int]
    sequence_times: Mapping[int, int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Rejection:
    """Why a record is a dead letter: the rules it broke, at which stage, in words."""

    rules: tuple[str, ...]
    stage: Stage
    why: str


@dataclass
class Cleaned:
    """``values``: row → the clean value, for every row that is not in ``rejected``.

    ``counts``: (action, rule) → how many records broke it.
    """

    values: dict[int, bytes | None]
    rejected: dict[int, Rejection]
    counts: Counter[tuple[Action, str]]


@dataclass(frozen=True)
class Target:
    """The clean schema of one raw schema id: its id, and the schema to encode with (logical types dropped)."""

    schema_id: int
    schema: Any


def clean(raw: Raw, writers: Mapping[int, Writer], reader: Writer, targets: Mapping[int, Target]) -> Cleaned:
    """Judge every record; forward the bytes of the good ones, encode again where the clean schema differs.

    ``writers``: raw schema id → its schema. ``reader``: the fields that the rules need. ``targets``: raw schema id →
    clean schema, for at least the ids of decodable values.
    """
    tombstones = [i for i, v in enumerate(raw.values) if v is None]
    decoded = decode(raw.values, writers, reader)
    verdict = judge(_with_context(decoded.table, raw), RULES[raw.entity])
    rejected = _undecodable(raw.entity, decoded, set(tombstones))
    counts = verdict.counts
    counts.update((Action.REJECT, rule) for r in rejected.values() for rule in r.rules)
    if raw.entity is not Entity.SALES and tombstones:
        buried = judge(_tombstones(raw, tombstones), TOMBSTONE_RULES)
        counts.update(buried.counts)
        verdict.rejected.update(buried.rejected)
    for row, rules in verdict.rejected.items():
        rejected[row] = Rejection(rules, Stage.TRANSFORMATION, f"{raw.entity} record breaks: {', '.join(rules)}")
    values = _values(raw, writers, targets, verdict, rejected)
    return Cleaned(values, rejected, counts)


def _with_context(table: pl.DataFrame, raw: Raw) -> pl.DataFrame:
    rows = table[ROW]
    keys = pl.Series(KEY, [_text(k) for k in raw.keys], dtype=pl.String)
    times = pl.Series(RECORD_TIME, raw.times, dtype=pl.Int64)
    if len(rows) != len(keys):
        keys, times = keys.gather(rows), times.gather(rows)
    return table.with_columns(keys, times)


def _tombstones(raw: Raw, rows: Sequence[int]) -> pl.DataFrame:
    keys = [_text(raw.keys[i]) for i in rows]
    sequence = [raw.sequence_times.get(i, raw.times[i]) for i in rows]
    return pl.DataFrame(
        {
            ROW: rows,
            KEY: keys,
            "id": [_int32(k) for k in keys],
            RECORD_TIME: [raw.times[i] for i in rows],
            "sequence_time": [raw.times[i] if s is None else s for i, s in zip(rows, sequence, strict=True)],
            "sequence_time_valid": [s is not None for s in sequence],
        },
        schema_overrides={KEY: pl.String, "id": pl.Int32, RECORD_TIME: pl.Int64, "sequence_time": pl.Int64},
    )


def _undecodable(entity: Entity, decoded: Decoded, tombstones: set[int]) -> dict[int, Rejection]:
    rejected = {}
    for row, why in decoded.bad.items():
        if row not in tombstones:
            rejected[row] = Rejection((declared.VALID_AVRO,), Stage.VALUE_CONVERTER, why)
        elif entity is Entity.SALES:
            why = "a sale cannot be deleted: its value is null"
            rejected[row] = Rejection((declared.VALUE_PRESENT,), Stage.VALUE_CONVERTER, why)
    return rejected


def _values(
    raw: Raw,
    writers: Mapping[int, Writer],
    targets: Mapping[int, Target],
    verdict: Verdict,
    rejected: Mapping[int, Rejection],
) -> dict[int, bytes | None]:
    made_plain = MADE_PLAIN.get(raw.entity)
    values: dict[int, bytes | None] = {}
    for row, value in enumerate(raw.values):
        if row in rejected:
            continue
        number = schema_id(value)
        if value is None or number is None:
            values[row] = None
        elif made_plain is None:
            target = targets[number].schema_id
            values[row] = value if target == number else frame(target, value[HEADER_BYTES:])
        else:
            record = writers[number].record(value[HEADER_BYTES:])
            values[row] = frame(
                targets[number].schema_id,
                encode(targets[number].schema, {**(record or {}), **verdict.defaults.get(row, {})}),
            )
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
