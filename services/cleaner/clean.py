"""The pure middle of the cleaner: raw records in columns become clean ones, and the rest dead letters."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from retail_stream import topics
from retail_stream.avro import encoder
from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.decoder import HEADER_BYTES, Decoded, Flags, Part, Values
from retail_stream.avro.plan import Branch, Bytes
from retail_stream.entities import Entity
from retail_stream.errors import Rejected, Stage
from retail_stream.kafka.record_batches.columns import Columns, Integers, Row
from retail_stream.kafka.record_batches.headers import readable_names
from retail_stream.rules import built_in
from retail_stream.rules.built_in import Action
from services.cleaner.context import tombstones, with_context
from services.cleaner.expectations import rules
from services.cleaner.verdict import Verdict, judge

#: Of a schema id in a value: behind the magic byte.
_ID_AT, _ID_BYTES = 1, HEADER_BYTES - 1


@dataclass(frozen=True)
class Cleaned:
    """What became of raw records.

    ``columns``: the records; those of ``good`` have their clean values, the others what came. ``good``: numbers of the
    records that have one, ascending. ``rejected``: the others, in any order. ``counts``: (action, rule) → how many
    records broke it.
    """

    columns: Columns
    good: Integers
    rejected: Mapping[int, Rejected]
    counts: Counter[tuple[Action, str]]


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


def values_of(columns: Columns) -> Values:
    """The records' values, where they are."""
    begins = columns.table[Row.VALUE_AT]
    return Values(columns.buffer, begins, begins + np.maximum(columns.table[Row.VALUE_SIZE], 0))


def clean(
    entity: Entity, columns: Columns, writers: Mapping[int, RecordSchema], reader: RecordSchema, targets: Targets
) -> Cleaned:
    """Judge every record; keep the bytes of the good ones, write them anew where the clean schema differs.

    ``writers``: raw schema id → its schema. ``reader``: the entity's raw schema. ``targets``: for at least the ids of
    decodable values.

    Raises:
        FailedExpectation: a record broke a rule with the action ``fail``.
    """
    is_null = columns.table[Row.VALUE_SIZE] < 0
    decoded = reader.read(values_of(columns), writers)
    verdict = judge(with_context(decoded, columns), rules(entity))
    rejected = _undecodable(entity, decoded, is_null)
    counts = verdict.counts
    counts.update((Action.REJECT, rule) for r in rejected.values() for rule in r.rules)
    if entity is not Entity.SALES and is_null.any():
        buried = judge(tombstones(columns, np.flatnonzero(is_null)), built_in.OF_DELETES)
        counts.update(buried.counts)
        verdict.rejected.update(buried.rejected)
    for row, broken in verdict.rejected.items():
        rejected[row] = Rejected(broken, Stage.TRANSFORMATION, f"{entity} record breaks: {', '.join(broken)}")
    for part in decoded.parts:
        if refusal := targets[part.schema_id][part.branch].refusal:
            _reject_also(
                part.rows.tolist(), built_in.SCHEMA_FORWARDABLE, Stage.VALUE_CONVERTER, refusal, rejected, counts
            )
    if not (readable := readable_names(columns)).all():
        lost = np.flatnonzero(~readable)
        columns = columns.without_headers(lost)
        why = "its headers are lost: the name of one is not UTF-8"
        _reject_also(lost.tolist(), built_in.HEADERS_READABLE, Stage.HEADER_CONVERTER, why, rejected, counts)
    good = np.ones(len(columns), np.bool_)
    good[list(rejected)] = False
    columns = _rewritten(columns, clean_encoder(entity, reader), decoded, targets, verdict, good)
    return Cleaned(columns, np.flatnonzero(good), rejected, counts)


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


def _undecodable(entity: Entity, decoded: Decoded, is_null: Flags) -> dict[int, Rejected]:
    rejected = {}
    for row, why in decoded.bad.items():
        if not is_null[row]:
            rejected[row] = Rejected((built_in.VALID_AVRO,), Stage.VALUE_CONVERTER, why)
        elif entity is Entity.SALES:
            why = "a sale cannot be deleted: its value is null"
            rejected[row] = Rejected((built_in.VALUE_PRESENT,), Stage.VALUE_CONVERTER, why)
    return rejected


def _rewritten(
    columns: Columns, target: encoder.Target, decoded: Decoded, targets: Targets, verdict: Verdict, good: Flags
) -> Columns:
    """The columns with the clean values of the good rows; the bytes of most stay where they are."""
    encoded: list[tuple[Integers, Bytes, Integers]] = []
    renumbered: list[tuple[Integers, int]] = []
    for part in decoded.parts:
        made = targets[part.schema_id][part.branch]
        changes = _changes(part, verdict, good)
        if made.forwards and not changes and made.schema_id == part.schema_id:
            continue
        kept = part if good.all() else part.only(good)
        if made.forwards and not changes:
            renumbered.append((kept.rows, made.schema_id))
        elif len(kept.rows):
            data, offsets = target.encode(decoded, kept, made.schema_id, changes)
            encoded.append((kept.rows, data, np.diff(offsets)))
    if encoded:
        rows, data, sizes = (np.concatenate(arrays) for arrays in zip(*encoded, strict=True))
        columns = columns.replace_values(rows, data, sizes)
    return _renumbered(columns, renumbered) if renumbered else columns


def _renumbered(columns: Columns, schema_ids: Iterable[tuple[Integers, int]]) -> Columns:
    """The columns with other schema ids in the values of some rows."""
    buffer = columns.buffer.copy()
    for rows, number in schema_ids:
        places = columns.table[Row.VALUE_AT, rows, np.newaxis] + np.arange(_ID_AT, HEADER_BYTES)
        buffer[places] = np.frombuffer(number.to_bytes(_ID_BYTES, "big"), np.uint8)
    return Columns(columns.topic, columns.partition, buffer, columns.table)


def _changes(part: Part, verdict: Verdict, good: Flags) -> encoder.Changes:
    """The good rows of the part that get defaults: field → rows and the value."""
    changes = {}
    if verdict.defaults:
        ours = np.zeros(len(good), np.bool_)
        ours[part.rows] = good[part.rows]
        for (name, value), rows in verdict.defaults.items():
            if len(found := rows[ours[rows]]):
                changes[name] = found, value
    return changes


@lru_cache
def clean_encoder(entity: Entity, reader: RecordSchema) -> encoder.Target:
    """What writes records of an entity by its clean schema, from columns of ``reader``, the entity's raw schema."""
    return encoder.Target(topics.topic(topics.clean(entity)).schema(), reader.reader)
