"""Messages as frames: one row a record, bytes as they are, times as microseconds since 1970-01-01 UTC."""

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import polars as pl
from confluent_kafka import Message

from commands.audit.avro import HEADER_BYTES, AvroRecord, Decoder, schema_number
from retail_stream.avro.schema import AvroSchema
from retail_stream.kafka.headers import REPLAY_OF, RULES_VERSION, SEQUENCE_TIME, SOURCE_OFFSET, big_endian

Row = tuple[Any, ...]
FrameSchema = dict[str, pl.DataType]
Header = tuple[str, bytes | None]
Headers = Mapping[str, bytes | None]

_NO_HEADERS: Headers = {}
#: The headers of a record that has one whose name is not UTF-8. The client can then read none of them.
UNREADABLE: Headers = {}

_AVRO: dict[str, pl.DataType] = {
    "int": pl.Int64(),
    "long": pl.Int64(),
    "double": pl.Float64(),
    "string": pl.String(),
    "boolean": pl.Boolean(),
    "bytes": pl.Binary(),
}

#: What every record has. ``body``: the value behind its Confluent header, or all of it where it has no such header.
#: ``headers``: those of the raw record, without those that the cleaner adds, as bytes that can be compared.
BASE: FrameSchema = {
    "partition": pl.Int64(),
    "offset": pl.Int64(),
    "ts": pl.Int64(),
    "key": pl.Binary(),
    "schema_id": pl.Int64(),
    "body": pl.Binary(),
    "headers": pl.Binary(),
    "replay_of": pl.Binary(),
}
#: ``headers_ok``: the client could read them. ``sequence``: the header ``sequence.time`` in microseconds, null where it
#: is missing or not eight bytes; ``sequence_ok``: false where it is not eight bytes. ``decoded``: the value is a
#: record; ``extra``: its fields that only the writer has, as jsonb.
RAW: FrameSchema = {
    **BASE,
    "headers_ok": pl.Boolean(),
    "key_text": pl.String(),
    "sequence": pl.Int64(),
    "sequence_ok": pl.Boolean(),
    "decoded": pl.Boolean(),
    "extra": pl.String(),
}
CLEAN: FrameSchema = {**BASE, "source_offset": pl.Int64(), "rules_version": pl.String()}
DEAD: FrameSchema = {
    **BASE,
    "source_topic": pl.String(),
    "source_partition": pl.Int64(),
    "source_offset": pl.Int64(),
    "rules": pl.String(),
    "rules_version": pl.String(),
    "message": pl.String(),
    "stage": pl.String(),
    "exception": pl.String(),
    "payload": pl.String(),
}
_KEY, _SCHEMA_ID, _BODY = (list(BASE).index(n) for n in ("key", "schema_id", "body"))
#: Times are cut off at this distance from 1970: Kafka takes timestamps whose microseconds do not fit in 64 bits.
_FAR = 2**62
_CONNECT = "__connect.errors."
_PLACE = ("topic", "partition", "offset")
_WHY = ("exception.message", "stage", "exception.class.name")
_ADDED = frozenset({SOURCE_OFFSET, "rules", RULES_VERSION, "payload", *(f"{_CONNECT}{n}" for n in (*_PLACE, *_WHY))})


def field_columns(layout: AvroSchema) -> FrameSchema:
    """Field → dtype of its column, of an Avro record without logical types."""

    def scalar(avro_type: object) -> pl.DataType:
        if isinstance(avro_type, list):
            return scalar(next(t for t in avro_type if t != "null"))
        return _AVRO[str(avro_type)]

    return {f["name"]: scalar(f["type"]) for f in layout["fields"]}


def base_rows(messages: Iterable[Message]) -> list[tuple[Headers, Row]]:
    """For each message, its headers by name (the last one of a repeated name) and its values of :data:`BASE`."""
    rows: list[tuple[Headers, Row]] = []
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


def raw_frame(messages: Sequence[Message], decoder: Decoder, columns: FrameSchema) -> pl.DataFrame:
    """Raw records with their decoded fields; ``columns``: :func:`field_columns` of the decoder's reader."""
    rows = []
    fields = Fields(columns)
    for headers, base in base_rows(messages):
        sequence = headers.get(SEQUENCE_TIME)
        number = big_endian(sequence)
        sequence_ok = sequence is None or number is not None
        judged = (headers is not UNREADABLE, text(base[_KEY]), number, sequence_ok)
        rows.append((*base, *judged, *fields.row(decoder.whole(base[_SCHEMA_ID], base[_BODY]))))
    return frame(rows, {**RAW, **columns})


def clean_frame(messages: Sequence[Message]) -> pl.DataFrame:
    """Clean records; ``source_offset`` and ``rules_version`` are null where their headers are missing."""
    rows = [(*base, big_endian(h.get(SOURCE_OFFSET)), text(h.get(RULES_VERSION))) for h, base in base_rows(messages)]
    return frame(rows, CLEAN)


def dead_frame(messages: Sequence[Message]) -> pl.DataFrame:
    """Dead letters with their headers as text and numbers; null where one is missing or malformed."""
    rows = []
    for h, base in base_rows(messages):
        topic, partition, offset, *why = (text(h.get(f"{_CONNECT}{n}")) for n in (*_PLACE, *_WHY))
        rules, version = text(h.get("rules")), text(h.get(RULES_VERSION))
        place = (topic, decimal(partition), decimal(offset))
        rows.append((*base, *place, rules, version, *why, text(h.get("payload"))))
    return frame(rows, DEAD)


class Fields:
    """Makes rows of decoded records: ``decoded``, ``extra``, then ``columns``."""

    def __init__(self, columns: Iterable[str]) -> None:
        names = tuple(columns)
        self._get = itemgetter(*names)
        self._nothing = (False, None, *[None] * len(names))

    def row(self, decoded: tuple[AvroRecord, str | None] | None) -> Row:
        """The row of what :meth:`Decoder.whole` returns; None makes a row of nulls."""
        if decoded is None:
            return self._nothing
        record, extra = decoded
        return (True, extra, *self._get(record))


def frame(rows: Sequence[Row], schema: FrameSchema) -> pl.DataFrame:
    """A frame of rows, column by column: the types are known, so polars need not infer them."""
    columns: Iterable[Iterable[Any]] = zip(*rows, strict=True) if rows else ([] for _ in schema)
    return pl.DataFrame([pl.Series(n, v, dtype=t) for (n, t), v in zip(schema.items(), columns, strict=True)])


def _comparable(headers: Sequence[Header], named: Headers) -> bytes | None:
    if len(headers) == 2 and SOURCE_OFFSET in named and RULES_VERSION in named:
        return None
    return comparable([(n, v) for n, v in headers if n not in _ADDED])


def comparable(headers: Sequence[Header]) -> bytes | None:
    """Headers as bytes that are equal where the headers are; None for no headers."""
    return repr(headers).encode() if headers else None


def text(value: bytes | None) -> str | None:
    """The text of UTF-8 bytes; None for other bytes."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def decimal(text: str | None) -> int | None:
    """The number of decimal digits; None for other text, or beyond 18 digits."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else None
