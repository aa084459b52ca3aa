"""Records of a clean topic as columns, and which of them are repeats.

The cleaner is at-least-once and keeps the order. Every clean record carries its offset in the raw partition
(``source.offset``). A record whose number is not larger than all before it in its partition is a repeat.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from retail_stream.avro import extra
from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.decoder import ROW, Decoded, Values
from retail_stream.avro.registry import SubjectSchemas
from retail_stream.errors import PoisonRecord
from retail_stream.kafka.headers import REPLAY_OF as REPLAY_HEADER
from retail_stream.kafka.headers import SEQUENCE_TIME, SOURCE_OFFSET
from retail_stream.kafka.record_batches.columns import Columns, Integers, Row
from retail_stream.kafka.record_batches.headers import find_headers
from retail_stream.kafka.record_batches.reference import RECORD_BYTES

OFFSET = "offset"
TIMESTAMP = "timestamp"
SOURCE = "source_offset"
DELETED = "deleted"
SEQUENCE = "sequence_time"
KEY = "key"
REPLAY_OF = "replay_of"
EXTRA = "extra"

_MICROSECONDS = 1000  # in a millisecond


def table(
    pieces: Sequence[Columns], writers: SubjectSchemas, reader: RecordSchema, *, keep_extra: bool = False
) -> pl.DataFrame:
    """The records of one clean partition as a frame, one row each, in order; at least one piece.

    Columns: ``offset`` and ``source_offset`` (int64; -1 where the header is missing), ``timestamp`` (the Kafka
    record's, int64 microseconds), ``deleted`` (a tombstone: the reader's columns are null), ``key`` (its bytes, of a
    tombstone; else null), ``sequence_time`` (of a tombstone: its header, else the record's timestamp; int64
    microseconds), ``replay_of`` (the header's bytes or null), then the reader's columns. ``keep_extra`` adds ``extra``:
    the text of a JSON object with the fields that a newer writer adds and that are not null; null if there are none.

    Raises:
        PoisonRecord: a value is not Avro of the topic's subject, or a record is too large to be read, so the cleaner
            did not write it.
    """
    frames = []
    # Not a comprehension: it would free frames while a PoisonRecord passes, when polars cannot call Python back.
    for columns in pieces:
        frames.append(_piece(columns, writers, reader, keep_extra=keep_extra))
    return frames[0] if len(frames) == 1 else pl.concat(frames)


def _piece(columns: Columns, writers: SubjectSchemas, reader: RecordSchema, *, keep_extra: bool) -> pl.DataFrame:
    if columns.is_unread:
        place = f"{columns.topic}/{columns.partition}@{columns.offset[0]}"
        raise PoisonRecord(f"{place} is not a clean record: it is larger than {RECORD_BYTES:,} bytes uncompressed.")
    begins, sizes = columns.table[Row.VALUE_AT], columns.table[Row.VALUE_SIZE]
    deleted = sizes < 0
    values = Values(columns.buffer, begins, begins + np.maximum(sizes, 0))
    decoded = reader.read(values, writers.get(values.ids()))
    for row, why in decoded.bad.items():
        if not deleted[row]:
            place = f"{columns.topic}/{columns.partition}@{columns.offset[row]}"
            raise PoisonRecord(f"{place} is not a clean record: {why}.")
    base = _base(columns, deleted)
    if keep_extra:
        base = base.hstack([_extra(decoded, len(columns))])
    if not decoded.bad:
        return base.hstack(decoded.table)
    fields = decoded.numbered
    numbered = base.with_columns(pl.Series(ROW, np.arange(len(columns))))
    return numbered.join(fields, on=ROW, how="left", maintain_order="left").drop(ROW)


def _base(columns: Columns, deleted: npt.NDArray[np.bool_]) -> pl.DataFrame:
    source, replay, *sequence = find_headers(
        columns, SOURCE_OFFSET, REPLAY_HEADER, *([SEQUENCE_TIME] if deleted.any() else [])
    )
    times = columns.timestamp * _MICROSECONDS
    deletes = np.flatnonzero(deleted)
    sequence_times = np.where(sequence[0].is_number, sequence[0].number, times)[deletes] if sequence else deletes
    replays = np.flatnonzero(replay.size >= 0)
    spans = zip(replay.at[replays].tolist(), replay.size[replays].tolist(), strict=True)
    return pl.DataFrame(
        [
            pl.Series(OFFSET, columns.offset),
            pl.Series(TIMESTAMP, times),
            pl.Series(DELETED, deleted),
            pl.Series(SOURCE, np.where(source.is_number, source.number, -1)),
            _sparse(SEQUENCE, deletes, pl.Series(sequence_times), len(columns)),
            _sparse(KEY, deletes, pl.Series([columns.key(i) for i in deletes.tolist()], dtype=pl.Binary), len(columns)),
            _sparse(
                REPLAY_OF,
                replays,
                pl.Series([columns.buffer[at : at + size].tobytes() for at, size in spans], dtype=pl.Binary),
                len(columns),
            ),
        ]
    )


def _sparse(name: str, rows: Integers, values: pl.Series, height: int) -> pl.Series:
    """A column that holds ``values`` in these rows and null in all others."""
    if not len(rows):
        return pl.repeat(None, height, dtype=values.dtype, eager=True).alias(name)
    places = np.full(height, len(rows), np.int64)
    places[rows] = np.arange(len(rows))
    return values.extend_constant(None, 1).gather(places).alias(name)


def without_repeats(rows: pl.DataFrame, source_offset: int) -> pl.DataFrame:
    """Drop the rows whose ``source_offset`` is not larger than all before it in the partition.

    ``source_offset``: the largest before these rows, -1 for none. A row without the header (-1) is kept.
    """
    before = pl.col(SOURCE).cum_max().shift(1, fill_value=-1)
    largest = pl.max_horizontal(before, pl.lit(source_offset, dtype=pl.Int64))
    return rows.filter((pl.col(SOURCE) > largest) | (pl.col(SOURCE) == -1))


def _extra(decoded: Decoded, height: int) -> pl.Series:
    return _sparse(EXTRA, decoded.rows, extra.texts(decoded), height)
