"""The tables that topics are loaded into; offsets are those of the raw partition."""

import json
from collections.abc import Mapping, Sequence

import polars as pl
from confluent_kafka import Message

from retail_stream.dlq.headers import Header
from retail_stream.entities import DIMENSIONS, FIELDS, Entity
from retail_stream.kafka import REPLAY_OF, SEQUENCE_TIME, SOURCE_OFFSET, big_endian, headers
from retail_stream.topics import SCHEMAS, Result, clean, dlq, raw
from retail_stream.verify.avro import HEADER_BYTES, Decoder, schema_number
from retail_stream.verify.engine import Engine, create, insert
from retail_stream.verify.records import field_columns
from retail_stream.verify.versions import attributes

Schema = dict[str, pl.DataType]
_PLACE: Schema = {"partition": pl.Int64(), "offset": pl.Int64()}
_PLANTED: Schema = {"entity": pl.String(), **_PLACE, "id": pl.Int64(), "fault": pl.String(), "expected": pl.String()}
#: What stands in a clean record for a field that was empty.
UNKNOWN = "Unknown"
#: Dimension → the field that may be empty in a raw record.
EMPTIED = {Entity.CUSTOMERS: "email", Entity.STORES: "manager"}


def layout(topic: str) -> dict:
    """The schema of a topic's values in this repository, as parsed JSON."""
    return json.loads((SCHEMAS / "results" / f"{topic}.avsc").read_text())


class LedgerTable:
    """``planted``: a row per entry of the ledger."""

    def __init__(self, engine: Engine, decoder: Decoder) -> None:
        self._engine = engine
        self._decoder = decoder
        create(engine, "planted", _PLANTED)

    def take(self, messages: Sequence[Message]) -> None:
        """Append entries; what is no entry is left out."""
        rows = []
        for m in messages:
            value = m.value() or b""
            entry = self._decoder.record(schema_number(value), value[HEADER_BYTES:])
            if entry is not None:
                rows.append(tuple(entry[name] for name in _PLANTED))
        insert(self._engine, "planted", _frame(rows, _PLANTED))


class PlacesTable:
    """``<name>``: partition and raw offset of each record of a topic that names its source offset."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        create(engine, name, _PLACE)

    def take(self, messages: Sequence[Message]) -> None:
        """Append the places of records; one without the header stands for no raw record."""
        rows = [(m.partition(), o) for m in messages if (o := big_endian(headers(m).get(SOURCE_OFFSET))) is not None]
        insert(self._engine, self._name, _frame(rows, _PLACE))


class DeadTable:
    """``dead_<entity>``: where each dead letter was in the raw topic."""

    def __init__(self, engine: Engine, entity: Entity) -> None:
        self._engine = engine
        self._entity = entity
        create(engine, f"dead_{entity}", _PLACE)

    def take(self, messages: Sequence[Message]) -> None:
        """Append dead letters of the entity's raw topic; one that does not say where it was is left out."""
        rows = []
        for m in messages:
            named = headers(m)
            place = [_number(named.get(h)) for h in (Header.PARTITION, Header.OFFSET)]
            if named.get(Header.TOPIC) == raw(self._entity).encode() and None not in place:
                rows.append(tuple(place))
        insert(self._engine, f"dead_{self._entity}", _frame(rows, _PLACE))


class ChangesTable:
    """``clean_<entity>``: a row per record of a dimension's clean topic: ``id``, ``moment``, ``deleted``, ``replay_of``
    and the attributes; of one that cannot be read ``id`` is null.
    """

    def __init__(self, engine: Engine, entity: Entity, layout: dict, decoder: Decoder) -> None:
        """``layout``: the clean schema that every reader knows."""
        self._engine = engine
        self._entity = entity
        self._decoder = decoder
        self._names = attributes(entity)
        columns = field_columns(layout)
        self._schema: Schema = {
            **_PLACE,
            "id": pl.Int64(),
            "moment": pl.Int64(),
            "deleted": pl.Boolean(),
            "replay_of": pl.Binary(),
            **{name: columns[name] for name in self._names},
        }
        create(engine, f"clean_{entity}", self._schema)

    def take(self, messages: Sequence[Message]) -> None:
        """Append records."""
        rows = [row for m in messages if (row := self._row(m)) is not None]
        insert(self._engine, f"clean_{self._entity}", _frame(rows, self._schema))

    def _row(self, m: Message) -> tuple | None:
        named, value = headers(m), m.value()
        source = big_endian(named.get(SOURCE_OFFSET))
        if source is None:
            return None
        place, replay_of = (m.partition(), source), named.get(REPLAY_OF)
        if value is None:
            moment = big_endian(named.get(SEQUENCE_TIME))
            moment = m.timestamp()[1] * 1000 if moment is None else moment
            return (*place, _number(m.key()), moment, True, replay_of, *(None for _ in self._names))
        record = self._decoder.record(schema_number(value), value[HEADER_BYTES:])
        if record is None:
            return (*place, None, None, False, replay_of, *(None for _ in self._names))
        fields = FIELDS[self._entity]
        return (*place, record[fields.key], record[fields.time], False, replay_of, *(record[n] for n in self._names))


def tables(engine: Engine, layouts: Mapping[Entity, dict], decoders: Mapping[str, Decoder]) -> dict[str, object]:
    """Topic → where its records go. ``layouts``: the clean schema of each dimension; ``decoders``: by topic."""
    found: dict[str, object] = {
        Result.FAULTS.value: LedgerTable(engine, decoders[Result.FAULTS]),
        clean(Entity.SALES): PlacesTable(engine, f"clean_{Entity.SALES}"),
        Result.LATE.value: PlacesTable(engine, "late"),
    }
    for entity in DIMENSIONS:
        found[clean(entity)] = ChangesTable(engine, entity, layouts[entity], decoders[clean(entity)])
    for any_entity in Entity:
        found[dlq(any_entity)] = DeadTable(engine, any_entity)
    return found


def _frame(rows: Sequence[tuple], schema: Schema) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=schema, orient="row")


def _number(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and len(text) < 19 else None
