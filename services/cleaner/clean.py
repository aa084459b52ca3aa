"""The pure middle of the cleaner: a chunk of raw records becomes, record by record, a clean one or a dead letter."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
import polars as pl

from retail_stream import topics
from retail_stream.avro import encoder, extra
from retail_stream.avro.decode import RecordSchema, frame
from retail_stream.avro.decoder import HEADER_BYTES, ROW, Decoded, Flags, Part, Values
from retail_stream.avro.plan import Branch
from retail_stream.entities import Entity
from retail_stream.errors import Rejected, Stage
from retail_stream.rules import built_in
from retail_stream.rules.built_in import Action
from services.cleaner.expectations import rules
from services.cleaner.verdict import KEY, RECORD_TIME, Verdict, judge

_MICROSECONDS = 1000  # in a millisecond
# In microseconds some of Kafka's timestamps do not fit into 64 bits; all of those are far from any allowed year.
_FAR = 2**62 // _MICROSECONDS


@dataclass(frozen=True)
class Raw:
    """Raw records of one partition, as parallel columns.

    ``timestamps``: Kafka's record timestamps, milliseconds. ``sequence_times``: for tombstones, the header
    ``sequence.time`` in microseconds, or None if the header is not such a number; rows without it have the timestamp.
    ``unreadable``: rows whose headers cannot be read. ``joined``: the values in one buffer.
    """

    entity: Entity
    values: Sequence[bytes | None]
    keys: Sequence[bytes | None]
    timestamps: Sequence[int]
    sequence_times: Mapping[int, int | None] = field(default_factory=dict)
    unreadable: Set[int] = frozenset()

    @cached_property
    def joined(self) -> Values:
        return Values.of(self.values)


@dataclass
class Cleaned:
    """The clean values, row by row, and the records that have none.

    ``values``: of rows in ``rejected`` they have no meaning. ``counts``: (action, rule) → how many records broke it.
    """

    values: Sequence[bytes | None]
    rejected: dict[int, Rejected]
    counts: Counter[tuple[Action, str]]

    @property
    def good(self) -> list[bool]:
        """Row by row, whether the record is not rejected."""
        flags = [True] * len(self.values)
        for row in self.rejected:
            flags[row] = False
        return flags


@dataclass(frozen=True)
class Target:
    """The clean schema of one raw schema, or of one branch of it where it is a union of records.

    ``schema_id``: its id. ``forwards``: the writer's bytes are records of it. ``refusal``: why the registry has no such
    schema; then the others have no meaning.
    """

    schema_id: int
    forwards: bool
    refusal: str = ""


#: raw schema id → what its records become, for each record that it declares and that can be read
Targets = Mapping[int, Mapping[Branch, Target]]


def clean(raw: Raw, writers: Mapping[int, RecordSchema], reader: RecordSchema, targets: Targets) -> Cleaned:
    """Judge every record; forward the bytes of the good ones, write them anew where the clean schema differs.

    ``writers``: raw schema id → its schema. ``reader``: the entity's raw schema. ``targets``: for at least the ids of
    decodable values.
    """
    tombstones = [i for i, v in enumerate(raw.values) if v is None] if None in raw.values else []
    decoded = reader.read(raw.joined, writers)
    verdict = judge(_with_context(decoded.numbered, raw), rules(raw.entity))
    _judge_extra(decoded, verdict)
    rejected = _undecodable(raw.entity, decoded, set(tombstones))
    counts = verdict.counts
    counts.update((Action.REJECT, rule) for r in rejected.values() for rule in r.rules)
    if raw.entity is not Entity.SALES and tombstones:
        buried = judge(_tombstones(raw, tombstones), built_in.OF_DELETES)
        counts.update(buried.counts)
        verdict.rejected.update(buried.rejected)
    for row, broken in verdict.rejected.items():
        rejected[row] = Rejected(broken, Stage.TRANSFORMATION, f"{raw.entity} record breaks: {', '.join(broken)}")
    for part in decoded.parts:
        if refusal := targets[part.schema_id][part.branch].refusal:
            _reject_also(
                part.rows.tolist(), built_in.SCHEMA_FORWARDABLE, Stage.VALUE_CONVERTER, refusal, rejected, counts
            )
    lost = "its headers are lost: the name of one is not UTF-8"
    _reject_also(raw.unreadable, built_in.HEADERS_READABLE, Stage.HEADER_CONVERTER, lost, rejected, counts)
    return Cleaned(_values(raw, reader, decoded, targets, verdict, rejected), rejected, counts)


def _reject_also(
    rows: Iterable[int],
    rule: str,
    stage: Stage,
    why: str,
    rejected: dict[int, Rejected],
    counts: Counter[tuple[Action, str]],
) -> None:
    """Reject rows for one more reason, which goes before those that they are rejected for already."""
    for row in rows:
        rejected[row] = Rejected((rule, *(rejected[row].rules if row in rejected else ())), stage, why)
        counts[Action.REJECT, rule] += 1


def _judge_extra(decoded: Decoded, verdict: Verdict) -> None:
    """Judge the fields that only a newer writer has: a later migration may make columns of them."""
    for held, rows, values in extra.limited(decoded):
        rule, storable = built_in.STORABLE[held]
        good = values.to_frame("value").select(storable(pl.col("value"))).to_series()
        for row in rows[~good.to_numpy()].tolist():
            broken = verdict.rejected.get(row, ())
            if rule not in broken:
                verdict.rejected[row] = (*broken, rule)
                verdict.counts[Action.REJECT, rule] += 1


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
        # At least one is not UTF-8.
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
            rejected[row] = Rejected((built_in.VALID_AVRO,), Stage.VALUE_CONVERTER, why)
        elif entity is Entity.SALES:
            why = "a sale cannot be deleted: its value is null"
            rejected[row] = Rejected((built_in.VALUE_PRESENT,), Stage.VALUE_CONVERTER, why)
    return rejected


def _values(
    raw: Raw,
    reader: RecordSchema,
    decoded: Decoded,
    targets: Targets,
    verdict: Verdict,
    rejected: Mapping[int, Rejected],
) -> Sequence[bytes | None]:
    """The clean values, row by row; those of rejected rows have no meaning."""
    good = np.ones(len(raw.values), np.bool_)
    good[list(rejected)] = False
    values: list[bytes | None] | None = None
    for part in decoded.parts:
        target = targets[part.schema_id][part.branch]
        changes = _changes(part, verdict, good)
        if target.forwards and not changes and target.schema_id == part.schema_id:
            continue
        values = list(raw.values) if values is None else values
        kept = part if good.all() else part.only(good)
        if target.forwards and not changes:
            header = frame(target.schema_id, b"")
            for row in kept.rows.tolist():
                values[row] = header + (raw.values[row] or b"")[HEADER_BYTES:]
        elif len(kept.rows):
            buffer, offsets = clean_encoder(raw.entity, reader).encode(decoded, kept, target.schema_id, changes)
            data = buffer.tobytes()
            for row, (begin, end) in zip(kept.rows.tolist(), pairwise(offsets.tolist()), strict=True):
                values[row] = data[begin:end]
    return raw.values if values is None else values


def _changes(part: Part, verdict: Verdict, good: Flags) -> encoder.Changes:
    """The good rows of the part that get defaults: field → rows and the value."""
    if not verdict.defaults:
        return {}
    rows: dict[tuple[str, str], list[int]] = {}
    for row in part.rows[good[part.rows]].tolist():
        for name, value in verdict.defaults.get(row, {}).items():
            rows.setdefault((name, value), []).append(row)
    return {name: (np.array(found, np.int64), value) for (name, value), found in rows.items()}


@lru_cache
def clean_encoder(entity: Entity, reader: RecordSchema) -> encoder.Target:
    """What writes records of an entity by its clean schema, from columns of ``reader``, the entity's raw schema."""
    return encoder.Target(topics.topic(topics.clean(entity)).schema(), reader.reader)


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
