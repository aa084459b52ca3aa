"""Messages as frames: one row a record, bytes kept as bytes, times as microseconds since 1970-01-01 UTC."""

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter

import polars as pl
from confluent_kafka import Message

from commands.audit.avro import HEADER_BYTES, Decoder, Record, schema_number
from retail_stream.kafka.headers import REPLAY_OF, SEQUENCE_TIME, SOURCE_OFFSET, big_endian

Schema = dict[str, pl.DataType]
Header = tuple[str, bytes | None]
Headers = Mapping[str, bytes | None]

_NO_HEADERS: Headers = {}
#: Of a record one of whose headers has a name that is no UTF-8: the client cannot read any of them.
UNREADABLE: Headers = {}

_AVRO: dict[str, pl.DataType] = {
    "int": pl.Int64(),
    "long": pl.Int64(),
    "double": pl.Float64(),
    "string": pl.String(),
    "boolean": pl.Boolean(),
    "bytes": pl.Binary(),
}

#: What every record has. ``body``: the value behind its Confluent header, or all of it where it has none.
#: ``headers``: the source's own, without those that the cleaner adds, as comparable bytes.
BASE: Schema = {
    "partition": pl.Int64(),
    "offset": pl.Int64(),
    "ts": pl.Int64(),
    "key": pl.Binary(),
    "schema_id": pl.Int64(),
    "body": pl.Binary(),
    "headers": pl.Binary(),
    "replay_of": pl.Binary(),
}
#: ``headers_ok``: they could be read. ``sequence``: the header, null where it is none; ``sequence_ok``: none, or eight
#: bytes. ``unstorable``: see :meth:`Decoder.unstorable`.
RAW: Schema = {
    **BASE,
    "headers_ok": pl.Boolean(),
    "key_text": pl.String(),
    "sequence": pl.Int64(),
    "sequence_ok": pl.Boolean(),
    "unstorable": pl.String(),
    "decoded": pl.Boolean(),
    "extra": pl.String(),
}
CLEAN: Schema = {**BASE, "source_offset": pl.Int64()}
DEAD: Schema = {
    **BASE,
    "source_topic": pl.String(),
    "source_partition": pl.Int64(),
    "source_offset": pl.Int64(),
    "rules": pl.String(),
    "rules_version": pl.String(),
    "message": pl.String(),
}
_KEY, _SCHEMA_ID, _BODY = (list(BASE).index(n) for n in ("key", "schema_id", "body"))
#: Farther from 1970 no time is told apart: Kafka takes timestamps that have no microseconds in 64 bits.
_FAR = 2**62
_CONNECT = "__connect.errors."
_PLACE = ("topic", "partition", "offset", "exception.message")
_DEAD = ("rules", "rules.version")


def field_columns(layout: Record) -> Schema:
    """Columns for the fields of an Avro record (logical types dropped), every one nullable."""

    def scalar(avro_type: object) -> pl.DataType:
        if isinstance(avro_type, list):
            return scalar(next(t for t in avro_type if t != "null"))
        return _AVRO[str(avro_type)]

    return {f["name"]: scalar(f["type"]) for f in layout["fields"]}


def base_rows(messages: Iterable[Message]) -> list[tuple[Headers, tuple]]:
    """Per message its headers by name (of a repeated name the last) and its values of :data:`BASE`."""
    rows = []
    for m in messages:
        value = m.value()
        try:
            headers = m.headers()
            named = dict(headers) if headers else _NO_HEADERS
        except (SystemError, UnicodeDecodeError):
            headers, named = None, UNREADABLE
        number = schema_number(value)
        body = value if number is None else value[HEADER_BYTES:]
        comparable = _comparable(headers, named) if headers else None
        base = (m.partition(), m.offset(), _microseconds(m), m.key(), number, body, comparable)
        rows.append((named, (*base, named.get(REPLAY_OF))))
    return rows


def _microseconds(message: Message) -> int:
    time = message.timestamp()[1] * 1000
    return time if -_FAR < time < _FAR else _FAR if time > 0 else -_FAR


def raw_frame(messages: Sequence[Message], decoder: Decoder, columns: Schema) -> pl.DataFrame:
    """Raw records with their decoded fields; ``columns``: :func:`field_columns` of the decoder's reader."""
    rows = []
    fields = Fields(columns)
    for headers, base in base_rows(messages):
        sequence = headers.get(SEQUENCE_TIME)
        number = big_endian(sequence)
        record = decoder.record(base[_SCHEMA_ID], base[_BODY])
        unstorable = decoder.unstorable(base[_SCHEMA_ID], record)
        sequence_ok = sequence is None or number is not None
        told = (headers is not UNREADABLE, text(base[_KEY]), number, sequence_ok, unstorable)
        rows.append((*base, *told, *fields.row(record)))
    return _frame(rows, {**RAW, **columns})


def clean_frame(messages: Sequence[Message]) -> pl.DataFrame:
    """Clean records; ``source_offset`` is null where the header is missing."""
    return _frame([(*base, big_endian(h.get(SOURCE_OFFSET))) for h, base in base_rows(messages)], CLEAN)


def dead_frame(messages: Sequence[Message]) -> pl.DataFrame:
    """Dead letters, their headers as text and numbers; null where one is missing or not what it should be."""
    rows = []
    for h, base in base_rows(messages):
        topic, partition, offset, message = (text(h.get(f"{_CONNECT}{n}")) for n in _PLACE)
        rules, version = text(h.get("rules")), text(h.get("rules.version"))
        rows.append((*base, topic, _number(partition), _number(offset), rules, version, message))
    return _frame(rows, DEAD)


class Fields:
    """Takes records apart into rows: whether there is one, its fields beyond ``columns`` (a newer writer's) as
    comparable text, then the columns."""

    def __init__(self, columns: Iterable[str]) -> None:
        self._names = tuple(columns)
        self._get = itemgetter(*self._names)
        self._nothing = (False, None, *[None] * len(self._names))

    def row(self, record: Record | None) -> tuple:
        """One record's row; the same width for none."""
        if record is None:
            return self._nothing
        if len(record) == len(self._names):
            return (True, None, *self._get(record))
        beyond = sorted((k, v) for k, v in record.items() if k not in self._names)
        return (True, repr(beyond), *self._get(record))


def _frame(rows: Sequence[tuple], schema: Schema) -> pl.DataFrame:
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    return pl.DataFrame([pl.Series(n, v, dtype=t) for (n, t), v in zip(schema.items(), columns, strict=True)])


def _comparable(headers: Sequence[Header], named: Headers) -> bytes | None:
    if len(headers) == 1 and SOURCE_OFFSET in named:
        return None
    kept = [(n, v) for n, v in headers if n != SOURCE_OFFSET and n not in _DEAD and not n.startswith(_CONNECT)]
    return repr(kept).encode() if kept else None


def text(value: bytes | None) -> str | None:
    """UTF-8 text, or None where it is none."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else None
