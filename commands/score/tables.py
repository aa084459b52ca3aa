"""The tables that topics are loaded into. ``offset``: of the raw record; ``position``: the record's own offset."""

from collections.abc import Mapping, Sequence

import polars as pl
from confluent_kafka import Message

from commands.audit.avro import Decoder, layout
from commands.audit.engine import Engine, create, insert
from commands.audit.planted import PlantedTable
from commands.audit.raw_table import RawTable
from commands.audit.reading import TopicTable
from commands.audit.records import FrameSchema, Row, decimal, field_columns, frame, text
from commands.audit.results import RiseTable
from commands.audit.rule_sets import RuleSets
from commands.audit.versions import attributes
from commands.score.late import MissedWindowsTable
from retail_stream.dead_letters import Header
from retail_stream.entities import FIELDS, Entity
from retail_stream.kafka.headers import (
    REPLAY_OF,
    RULES_VERSION,
    SEQUENCE_TIME,
    SOURCE_OFFSET,
    big_endian,
    headers_by_name,
)
from retail_stream.topics import Result, clean, dlq, raw

_PLACE: FrameSchema = {"partition": pl.Int64(), "offset": pl.Int64()}
_JUDGED: FrameSchema = {**_PLACE, "rules_version": pl.String()}
_RECORD: FrameSchema = {**_JUDGED, "position": pl.Int64(), "replay_of": pl.Binary()}
_SALE: FrameSchema = {"ts": pl.Int64(), **field_columns(layout(clean(Entity.SALES)))}


class DeadPlaceTable:
    """``dead_<entity>``: the raw partition and offset of each dead letter, and which rules it names."""

    def __init__(self, engine: Engine, entity: Entity) -> None:
        self._engine = engine
        self._entity = entity
        create(engine, f"dead_{entity}", _JUDGED)

    def take(self, messages: Sequence[Message]) -> None:
        """Append dead letters of the entity's raw topic; one whose headers name no place is left out."""
        rows = []
        for m in messages:
            named = headers_by_name(m)
            place = [decimal(text(named.get(h))) for h in (Header.PARTITION, Header.OFFSET)]
            if named.get(Header.TOPIC) == raw(self._entity).encode() and None not in place:
                rows.append((*place, text(named.get(RULES_VERSION))))
        insert(self._engine, f"dead_{self._entity}", frame(rows, _JUDGED))


class RecordTable:
    """``<layer>_<entity>``: a row per record. If the record cannot be decoded, only its place is not null.

    Sales have their timestamp ``ts`` (microseconds) and fields; dimensions have ``id``, ``moment``, ``deleted`` and the
    attributes.
    """

    def __init__(self, engine: Engine, topic: str, decoder: Decoder) -> None:
        """``topic``: raw or clean."""
        name, _, layer = topic.partition(".")
        self._engine, self._name, self._entity = engine, f"{layer}_{name}", Entity(name)
        self._decoder, self._is_raw = decoder, layer == "raw"
        self._schema: FrameSchema = {**_RECORD, **_SALE}
        if self._entity is not Entity.SALES:
            self._names = attributes(self._entity)
            columns = field_columns(layout(clean(self._entity)))
            change: FrameSchema = {"id": pl.Int64(), "moment": pl.Int64(), "deleted": pl.Boolean()}
            self._schema = {**_RECORD, **change, **{n: columns[n] for n in self._names}}
        create(engine, self._name, self._schema)

    def take(self, messages: Sequence[Message]) -> None:
        """Append records; a clean one without ``source.offset`` belongs to no raw record, and is left out."""
        rows = []
        for m in messages:
            named = headers_by_name(m)
            offset = m.offset() if self._is_raw else big_endian(named.get(SOURCE_OFFSET))
            if offset is not None:
                record = (m.partition(), offset, text(named.get(RULES_VERSION)), m.offset(), named.get(REPLAY_OF))
                rows.append((*record, *(self._sale(m) if self._entity is Entity.SALES else self._change(m, named))))
        insert(self._engine, self._name, frame(rows, self._schema))

    def _sale(self, m: Message) -> Row:
        record = self._decoder.framed(m.value())
        fields = list(_SALE)[1:]
        return (m.timestamp()[1] * 1000, *([None] * len(fields) if record is None else (record[n] for n in fields)))

    def _change(self, m: Message, named: Mapping[str, bytes | None]) -> Row:
        nothing = (None,) * len(self._names)
        if m.value() is None:
            moment = big_endian(named.get(SEQUENCE_TIME))
            return (decimal(text(m.key())), m.timestamp()[1] * 1000 if moment is None else moment, True, *nothing)
        record = self._decoder.framed(m.value())
        if record is None:
            return (None, None, False, *nothing)
        fields = FIELDS[self._entity]
        return (record[fields.key], record[fields.time], False, *(record[n] for n in self._names))


def tables(engine: Engine, decoders: Mapping[str, Decoder]) -> dict[str, TopicTable]:
    """Topic → the table of its records. ``decoders``: by topic."""
    by_topic: dict[str, TopicTable] = {
        Result.FAULTS.value: PlantedTable(engine, decoders[Result.FAULTS]),
        Result.LATE.value: MissedWindowsTable(engine),
        Result.WATERMARKS.value: RiseTable(engine, decoders[Result.WATERMARKS]),
    }
    for entity in Entity:
        by_topic[clean(entity)] = RecordTable(engine, clean(entity), decoders[clean(entity)])
        by_topic[dlq(entity)] = DeadPlaceTable(engine, entity)
    return by_topic


class PlantedRecords:
    """The raw records that the loaded ledger names: ``raw_<entity>``, and judged by rules in ``judged_<entity>``."""

    def __init__(self, engine: Engine, entity: Entity, decoder: Decoder, book: RuleSets) -> None:
        rows = engine.execute('SELECT partition, "offset" FROM planted WHERE entity = ?', [entity.value]).fetchall()
        self._wanted = {*rows}
        self._records = RecordTable(engine, raw(entity), decoder)
        self._judged = RawTable(engine, entity, decoder, book, f"judged_{entity}")

    def take(self, messages: Sequence[Message]) -> None:
        """Append those that are named."""
        if wanted := [m for m in messages if (m.partition(), m.offset()) in self._wanted]:
            self._records.take(wanted)
            self._judged.take(wanted)


def planted_tables(
    engine: Engine, decoders: Mapping[str, Decoder], books: Mapping[Entity, RuleSets]
) -> dict[str, TopicTable]:
    """Raw topic → the tables of those of its records that the loaded ledger names."""
    return {raw(e): PlantedRecords(engine, e, decoders[raw(e)], books[e]) for e in Entity}
