"""The tables that topics are loaded into; ``offset`` is that of the raw partition, ``position`` the record's own."""

import json
from collections.abc import Collection, Mapping, Sequence

import polars as pl
from confluent_kafka import Message

from commands.audit.avro import HEADER_BYTES, Decoder, load, schema_number
from commands.audit.engine import Engine, create, insert
from commands.audit.records import field_columns
from commands.score.late import LateTable
from commands.verify.versions import attributes
from retail_stream.dead_letters import Header
from retail_stream.entities import FIELDS, Entity
from retail_stream.kafka.headers import REPLAY_OF, SEQUENCE_TIME, SOURCE_OFFSET, big_endian, headers_by_name
from retail_stream.topics import SCHEMAS, Result, clean, dlq, raw

Schema = dict[str, pl.DataType]
_PLACE: Schema = {"partition": pl.Int64(), "offset": pl.Int64()}
_RECORD: Schema = {**_PLACE, "position": pl.Int64(), "replay_of": pl.Binary()}
_PLANTED: Schema = {"entity": pl.String(), **_PLACE, "id": pl.Int64(), "fault": pl.String(), "expected": pl.String()}
_SALE: Schema = dict.fromkeys(("transaction_id", "event_time", "store_id", "quantity"), pl.Int64())
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
        entries = (_decoded(self._decoder, m.value()) for m in messages)
        rows = [tuple(entry[name] for name in _PLANTED) for entry in entries if entry is not None]
        insert(self._engine, "planted", _frame(rows, _PLANTED))


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
            named = headers_by_name(m)
            place = [_number(named.get(h)) for h in (Header.PARTITION, Header.OFFSET)]
            if named.get(Header.TOPIC) == raw(self._entity).encode() and None not in place:
                rows.append(tuple(place))
        insert(self._engine, f"dead_{self._entity}", _frame(rows, _PLACE))


class RecordsTable:
    """``<layer>_<entity>``: a row per record; of one that cannot be read all but its place is null.

    Of sales: the identity and the quantity. Of a dimension: ``id``, ``moment``, ``deleted`` and the attributes.
    """

    def __init__(
        self, engine: Engine, topic: str, decoder: Decoder, wanted: Mapping[int, Collection[int]] | None = None
    ) -> None:
        """``topic``: clean; or raw, and of that ``wanted``: partition → offsets."""
        name, _, layer = topic.partition(".")
        self._engine, self._name, self._entity = engine, f"{layer}_{name}", Entity(name)
        self._decoder, self._wanted = decoder, wanted
        self._schema: Schema = {**_RECORD, **_SALE}
        if self._entity is not Entity.SALES:
            self._names = attributes(self._entity)
            columns = field_columns(load(SCHEMAS / "clean" / f"{name}.avsc"))
            change: Schema = {"id": pl.Int64(), "moment": pl.Int64(), "deleted": pl.Boolean()}
            self._schema = {**_RECORD, **change, **{n: columns[n] for n in self._names}}
        create(engine, self._name, self._schema)

    def take(self, messages: Sequence[Message]) -> None:
        """Append records; a clean one without ``source.offset`` stands for no raw record."""
        rows = []
        for m in messages:
            if self._wanted is not None and m.offset() not in self._wanted.get(m.partition(), ()):
                continue
            named = headers_by_name(m)
            offset = m.offset() if self._wanted is not None else big_endian(named.get(SOURCE_OFFSET))
            if offset is not None:
                record = (m.partition(), offset, m.offset(), named.get(REPLAY_OF))
                rows.append((*record, *(self._sale(m) if self._entity is Entity.SALES else self._change(m, named))))
        insert(self._engine, self._name, _frame(rows, self._schema))

    def _sale(self, m: Message) -> tuple:
        record = _decoded(self._decoder, m.value())
        return tuple(record[n] for n in _SALE) if record is not None else (None,) * len(_SALE)

    def _change(self, m: Message, named: Mapping[str, bytes]) -> tuple:
        nothing = (None,) * len(self._names)
        if m.value() is None:
            moment = big_endian(named.get(SEQUENCE_TIME))
            return (_number(m.key()), m.timestamp()[1] * 1000 if moment is None else moment, True, *nothing)
        record = _decoded(self._decoder, m.value())
        if record is None:
            return (None, None, False, *nothing)
        fields = FIELDS[self._entity]
        return (record[fields.key], record[fields.time], False, *(record[n] for n in self._names))


def tables(engine: Engine, decoders: Mapping[str, Decoder]) -> dict[str, object]:
    """Topic → where its records go. ``decoders``: by topic."""
    found: dict[str, object] = {
        Result.FAULTS.value: LedgerTable(engine, decoders[Result.FAULTS]),
        Result.LATE.value: LateTable(engine),
    }
    for entity in Entity:
        found[clean(entity)] = RecordsTable(engine, clean(entity), decoders[clean(entity)])
        found[dlq(entity)] = DeadTable(engine, entity)
    return found


def planted_tables(engine: Engine, decoders: Mapping[str, Decoder]) -> dict[str, object]:
    """Raw topic → where its records go, of which only those are kept that the loaded ledger names."""
    found: dict[str, object] = {}
    for entity in Entity:
        wanted: dict[int, set[int]] = {}
        rows = engine.execute('SELECT partition, "offset" FROM planted WHERE entity = ?', [entity.value]).fetchall()
        for partition, offset in rows:
            wanted.setdefault(partition, set()).add(offset)
        found[raw(entity)] = RecordsTable(engine, raw(entity), decoders[raw(entity)], wanted)
    return found


def _decoded(decoder: Decoder, value: bytes | None) -> dict | None:
    return None if value is None else decoder.record(schema_number(value), value[HEADER_BYTES:])


def _frame(rows: Sequence[tuple], schema: Schema) -> pl.DataFrame:
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    return pl.DataFrame([pl.Series(n, v, dtype=t) for (n, t), v in zip(schema.items(), columns, strict=True)])


def _number(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and len(text) < 19 else None
