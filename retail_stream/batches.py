"""Records of a clean topic as columns, and which of them are repeats.

The cleaner is at-least-once with order kept, and numbers every record with its offset in the raw partition
(``source.offset``): a record whose number is not larger than the largest before it was there already.
"""

from collections.abc import Iterable, Sequence

import polars as pl
from confluent_kafka import KafkaError, Message

from retail_stream.errors import PoisonRecord, Unavailable
from retail_stream.kafka import SEQUENCE_TIME, SOURCE_OFFSET, TopicPartitionKey, big_endian, headers
from retail_stream.registry import Writers
from retail_stream.wire import ROW, Writer, decode, schema_id

OFFSET = "offset"
TIMESTAMP = "timestamp"
SOURCE = "source_offset"
DELETED = "deleted"
SEQUENCE = "sequence_time"
KEY = "key"


def by_partition(
    messages: Iterable[Message],
) -> tuple[dict[TopicPartitionKey, list[Message]], dict[TopicPartitionKey, int]]:
    """Sort polled messages into the records of each partition and, where its end was reached, the end's offset.

    Raises:
        Unavailable: the consumer reports an error other than the end of a partition.
    """
    records: dict[TopicPartitionKey, list[Message]] = {}
    ends: dict[TopicPartitionKey, int] = {}
    for message in messages:
        error = message.error()
        place = (str(message.topic()), int(message.partition() or 0))
        if error is None:
            records.setdefault(place, []).append(message)
            ends.pop(place, None)
        elif error.code() == KafkaError._PARTITION_EOF:
            ends[place] = int(message.offset() or 0)
        elif not error.retriable() and error.code() not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
            raise Unavailable(f"Kafka: {error.str()}.")
    return records, ends


def table(messages: Sequence[Message], writers: Writers, reader: Writer) -> pl.DataFrame:
    """Records of one clean partition as a frame, one row each, in order.

    Columns: ``offset`` and ``source_offset`` (int64; -1 where the header is missing), ``timestamp`` (the Kafka
    record's, int64 microseconds), ``key`` (its bytes), ``deleted`` (a tombstone: the reader's columns are null),
    ``sequence_time`` (of a tombstone: its header, else the record's timestamp; int64 microseconds), then the reader's
    columns and whatever a newer writer adds.

    Raises:
        PoisonRecord: a value is not Avro of the topic's subject, which the cleaner lets nobody pass.
    """
    values = [m.value() for m in messages]
    numbers = [schema_id(v) for v in values]
    decoded = decode(values, writers.get(n for n in numbers if n is not None), reader)
    for row, why in decoded.bad.items():
        if values[row] is not None:
            m = messages[row]
            raise PoisonRecord(f"{m.topic()}/{m.partition()}@{m.offset()} is not a clean record: {why}.")
    heads = [headers(m) for m in messages]
    stamps = [m.timestamp()[1] * 1000 for m in messages]
    sources = [big_endian(h.get(SOURCE_OFFSET)) for h in heads]
    sequences = [
        None if v is not None else _or(big_endian(h.get(SEQUENCE_TIME)), t)
        for v, h, t in zip(values, heads, stamps, strict=True)
    ]
    base = pl.DataFrame(
        {
            ROW: range(len(messages)),
            OFFSET: [m.offset() for m in messages],
            SOURCE: [-1 if s is None else s for s in sources],
            TIMESTAMP: stamps,
            KEY: [m.key() for m in messages],
            DELETED: [v is None for v in values],
            SEQUENCE: sequences,
        },
        schema={
            ROW: pl.Int64,
            OFFSET: pl.Int64,
            SOURCE: pl.Int64,
            TIMESTAMP: pl.Int64,
            KEY: pl.Binary,
            DELETED: pl.Boolean,
            SEQUENCE: pl.Int64,
        },
    )
    if decoded.table.height == base.height:
        return base.hstack(decoded.table.drop(ROW)).drop(ROW)
    return base.join(decoded.table, on=ROW, how="left", maintain_order="left").drop(ROW)


def without_repeats(rows: pl.DataFrame, source_offset: int) -> pl.DataFrame:
    """Drop the rows whose ``source_offset`` is not larger than the largest before them in the partition.

    ``source_offset``: the largest seen before this batch, -1 for none. A row without the header (-1) is kept.
    """
    before = pl.col(SOURCE).cum_max().shift(1, fill_value=-1)
    largest = pl.max_horizontal(before, pl.lit(source_offset, dtype=pl.Int64))
    return rows.filter((pl.col(SOURCE) > largest) | (pl.col(SOURCE) == -1))


def _or(number: int | None, otherwise: int) -> int:
    return otherwise if number is None else number
