"""Records of a clean topic as columns, and which of them are repeats.

The cleaner is at-least-once and keeps the order. Every clean record carries its offset in the raw partition
(``source.offset``). A record whose number is not larger than all before it in its partition is a repeat.
"""

from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from operator import itemgetter
from typing import Any

import numpy as np
import polars as pl
from confluent_kafka import KafkaError, Message

from retail_stream.avro import extra
from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.decoder import ROW, Values
from retail_stream.avro.registry import SubjectSchemas
from retail_stream.errors import PoisonRecord, Unavailable
from retail_stream.kafka.headers import REPLAY_OF as REPLAY_HEADER
from retail_stream.kafka.headers import SEQUENCE_TIME, SOURCE_OFFSET, big_endian
from retail_stream.kafka.offsets import TopicPartitionKey

OFFSET = "offset"
TIMESTAMP = "timestamp"
SOURCE = "source_offset"
DELETED = "deleted"
SEQUENCE = "sequence_time"
KEY = "key"
REPLAY_OF = "replay_of"
EXTRA = "extra"

_NUMBER = np.dtype(">i8")
_NAME, _VALUE = itemgetter(0), itemgetter(1)
_MICROSECONDS = 1000  # in a millisecond


def by_partition(
    messages: Iterable[Message],
) -> tuple[dict[TopicPartitionKey, list[Message]], dict[TopicPartitionKey, int]]:
    """Sort polled messages into records by partition, and the end offsets of partitions that were read to the end.

    Raises:
        Unavailable: the consumer reports an error other than the end of a partition.
    """
    polled = list(messages)
    ends: dict[TopicPartitionKey, int] = {}
    if any(errors := list(map(Message.error, polled))):
        sound = []
        for message, error in zip(polled, errors, strict=True):
            if error is None:
                sound.append(message)
                ends.pop(_partition_of(message), None)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[_partition_of(message)] = int(message.offset() or 0)
            elif not error.retriable() and error.code() not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
                raise Unavailable(f"Kafka: {error.str()}.")
        polled = sound
    # A fetch brings long runs of records of one partition; each run is cut out as a whole.
    numbers = {name: i << 32 for i, name in enumerate(dict.fromkeys(map(Message.topic, polled)))}
    runs = np.fromiter(map(Message.partition, polled), np.int64, len(polled))
    if len(numbers) > 1:
        runs += np.fromiter(map(numbers.__getitem__, map(Message.topic, polled)), np.int64, len(polled))
    records: dict[TopicPartitionKey, list[Message]] = {}
    for start, end in pairwise([0, *(np.flatnonzero(np.diff(runs)) + 1).tolist(), len(polled)] if polled else ()):
        records.setdefault(_partition_of(polled[start]), []).extend(polled[start:end])
    return records, ends


def _partition_of(message: Message) -> TopicPartitionKey:
    return str(message.topic()), int(message.partition() or 0)


def table(
    messages: Sequence[Message], writers: SubjectSchemas, reader: RecordSchema, *, keep_extra: bool = False
) -> pl.DataFrame:
    """The records of one clean partition as a frame, one row each, in order.

    Columns: ``offset`` and ``source_offset`` (int64; -1 where the header is missing), ``timestamp`` (the Kafka
    record's, int64 microseconds), ``key`` (its bytes), ``deleted`` (a tombstone: the reader's columns are null),
    ``sequence_time`` (of a tombstone: its header, else the record's timestamp; int64 microseconds), ``replay_of`` (the
    header's bytes or null), then the reader's columns. ``keep_extra`` adds ``extra``: the text of a JSON object with
    the fields that a newer writer adds and that are not null; null if there are none.

    Raises:
        PoisonRecord: a value is not Avro of the topic's subject, so the cleaner did not write it.
    """
    values = list(map(Message.value, messages))
    joined = Values.of(values)
    decoded = reader.read(joined, writers.get(joined.ids()))
    for row, why in decoded.bad.items():
        if values[row] is not None:
            m = messages[row]
            raise PoisonRecord(f"{m.topic()}/{m.partition()}@{m.offset()} is not a clean record: {why}.")
    base = pl.DataFrame(
        {
            ROW: range(len(messages)),
            OFFSET: list(map(Message.offset, messages)),
            TIMESTAMP: list(map(_VALUE, map(Message.timestamp, messages))),
            KEY: list(map(Message.key, messages)),
            DELETED: [v is None for v in values] if None in values else np.zeros(len(values), np.bool_),
            **_headers(messages),
        },
        schema={
            ROW: pl.Int64,
            OFFSET: pl.Int64,
            TIMESTAMP: pl.Int64,
            KEY: pl.Binary,
            DELETED: pl.Boolean,
            SOURCE: pl.Int64,
            SEQUENCE: pl.Int64,
            REPLAY_OF: pl.Binary,
        },
    ).with_columns(pl.col(TIMESTAMP) * _MICROSECONDS)
    base = base.with_columns(pl.when(DELETED).then(pl.coalesce(SEQUENCE, TIMESTAMP)).alias(SEQUENCE))
    fields = decoded.numbered
    if keep_extra:
        fields = fields.with_columns(extra.texts(decoded).alias(EXTRA))
    if fields.height == base.height:
        return base.hstack(fields.drop(ROW)).drop(ROW)
    return base.join(fields, on=ROW, how="left", maintain_order="left").drop(ROW)


def without_repeats(rows: pl.DataFrame, source_offset: int) -> pl.DataFrame:
    """Drop the rows whose ``source_offset`` is not larger than all before it in the partition.

    ``source_offset``: the largest before these rows, -1 for none. A row without the header (-1) is kept.
    """
    before = pl.col(SOURCE).cum_max().shift(1, fill_value=-1)
    largest = pl.max_horizontal(before, pl.lit(source_offset, dtype=pl.Int64))
    return rows.filter((pl.col(SOURCE) > largest) | (pl.col(SOURCE) == -1))


def _headers(messages: Sequence[Message]) -> dict[str, Any]:
    by_row: list[list[tuple[str, bytes | None]] | None] = list(map(Message.headers, messages))
    nothing = [None] * len(by_row)
    if (sources := _only_sources(by_row)) is not None:
        return {SOURCE: sources, SEQUENCE: nothing, REPLAY_OF: nothing}
    named = [dict(headers or ()) for headers in by_row]
    numbers = [big_endian(headers.get(SOURCE_OFFSET)) for headers in named]
    return {
        SOURCE: [-1 if number is None else number for number in numbers],
        SEQUENCE: [big_endian(headers.get(SEQUENCE_TIME)) for headers in named],
        REPLAY_OF: [headers.get(REPLAY_HEADER) for headers in named],
    }


def _only_sources(by_row: Sequence[Sequence[tuple[str, bytes | None]] | None]) -> np.ndarray | None:
    """The source offsets if every record has that header and no other, which is the usual case; else None."""
    try:
        headers = list(chain.from_iterable(by_row))  # type: ignore[arg-type]
        numbers = list(map(_VALUE, headers))
        if len(headers) != len(by_row) or not all(by_row) or set(map(_NAME, headers)) != {SOURCE_OFFSET}:
            return None
        if set(map(len, numbers)) != {_NUMBER.itemsize}:
            return None
    except TypeError:  # a record has no headers, or a header has no value
        return None
    return np.frombuffer(b"".join(numbers), _NUMBER).astype(np.int64)
