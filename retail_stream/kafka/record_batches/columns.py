"""Records as columns: numbers, and positions into one buffer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from retail_stream.kafka.record_batches.batch import Batch, Body
from retail_stream.kafka.record_batches.errors import BatchTooLarge, CorruptBatch, Malformed, TooLarge
from retail_stream.kafka.record_batches.record_set import RecordSet
from retail_stream.kafka.record_batches.reference import Fault, FaultyRecord
from retail_stream.wasm.module import Module

Integers: TypeAlias = npt.NDArray[np.int64]
#: The compiled passes.
PASSES = Module(Path(__file__).with_name("passes.wasm"))

#: What one batch may expand to. A text of 18 MB in a batch of 1 MiB is read; a decompression bomb is an error.
BATCH_BYTES = 2**26
#: A piece ends with the batch that reaches this many decompressed bytes, so it has at most this and one batch more.
#: Larger ones leave the processor's caches, and cost half as much again for a record.
PIECE_BYTES = 2**21
#: Records of a piece, at most.
PIECE_RECORDS = 2**15


class Row(IntEnum):
    """Rows of the table of records. A size of -1 is null; positions count from the buffer's start."""

    OFFSET = 0
    TIMESTAMP = 1
    KEY_AT = 2
    KEY_SIZE = 3
    VALUE_AT = 4
    VALUE_SIZE = 5
    #: The headers as bytes: name size, name, value size, value, and so on.
    HEADERS_AT = 6
    HEADERS_SIZE = 7
    HEADER_COUNT = 8


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Records of one partition in offset order.

    `buffer`: uint8, read-only. `table`: int64 of shape (9, records), contiguous; `Row` names its rows.
    """

    topic: str
    partition: int
    buffer: npt.NDArray[np.uint8]
    table: Integers

    def __len__(self) -> int:
        return int(self.table.shape[1])

    @property
    def offset(self) -> Integers:
        """Offsets, ascending; compaction and transactions leave gaps."""
        offsets: Integers = self.table[Row.OFFSET]
        return offsets

    @property
    def timestamp(self) -> Integers:
        """Milliseconds since 1970: the producer's, or the broker's where the topic says LogAppendTime. -1 for none."""
        timestamps: Integers = self.table[Row.TIMESTAMP]
        return timestamps

    @property
    def size(self) -> int:
        """Bytes that it keeps in memory."""
        return int(self.buffer.nbytes + self.table.nbytes)

    def key(self, record: int) -> bytes | None:
        """The key of one record (its number in this table)."""
        return self._field(record, Row.KEY_AT, Row.KEY_SIZE)

    def value(self, record: int) -> bytes | None:
        """The value of one record (its number in this table)."""
        return self._field(record, Row.VALUE_AT, Row.VALUE_SIZE)

    def _field(self, record: int, at: Row, size: Row) -> bytes | None:
        start, length = int(self.table[at, record]), int(self.table[size, record])
        return None if length < 0 else self.buffer[start : start + length].tobytes()

    def slice(self, first: int, last: int) -> "Columns":
        """The records with the numbers [first, last); the buffer is shared."""
        return Columns(self.topic, self.partition, self.buffer, self.table[:, first:last].copy())

    def replace_values(self, records: Integers, data: bytes | npt.NDArray[np.uint8], sizes: Integers) -> "Columns":
        """The same records with other values: those of `records` follow each other in `data`; a size of -1 is null."""
        joined = np.concatenate([self.buffer, np.frombuffer(data, np.uint8)])
        table = self.table.copy()
        lengths = np.maximum(sizes, 0)
        table[Row.VALUE_AT, records] = len(self.buffer) + np.cumsum(lengths) - lengths
        table[Row.VALUE_SIZE, records] = sizes
        return Columns(self.topic, self.partition, joined, table)

    def without_payload(self, records: Integers) -> "Columns":
        """The same records with null keys and values for `records`."""
        table = self.table.copy()
        table[Row.KEY_SIZE, records] = table[Row.VALUE_SIZE, records] = -1
        return Columns(self.topic, self.partition, self.buffer, table)

    def without_headers(self, records: Integers) -> "Columns":
        """The same records without headers for `records`."""
        table = self.table.copy()
        table[Row.HEADERS_SIZE, records] = table[Row.HEADER_COUNT, records] = 0
        return Columns(self.topic, self.partition, self.buffer, table)


def pieces(
    records: RecordSet,
    *,
    piece_bytes: int = PIECE_BYTES,
    piece_records: int = PIECE_RECORDS,
    batch_bytes: int = BATCH_BYTES,
) -> Iterator[Columns]:
    """Decompress and parse a record set piece by piece, in order.

    A piece is decompressed when it is asked for: memory is bounded by `piece_bytes` and one batch, whatever the record
    set expands to. Every piece has at least one record. What is before an unreadable batch comes before the error.

    Raises:
        CorruptBatch: a batch is not what the format says.
        BatchTooLarge: a batch expands to more than `batch_bytes`.
    """
    group: list[tuple[Batch, Body]] = []
    size = 0
    for batch in records.batches:
        try:
            body = batch.body(batch_bytes)
        except (Malformed, TooLarge) as error:
            yield from _parse(records, group, piece_records)
            kind = BatchTooLarge if isinstance(error, TooLarge) else CorruptBatch
            raise kind(records.topic, records.partition, batch.base_offset, str(error)) from error
        group.append((batch, body))
        size += len(body.data)
        if size >= piece_bytes:
            yield from _parse(records, group, piece_records)
            group, size = [], 0
    yield from _parse(records, group, piece_records)


def _parse(records: RecordSet, group: Sequence[tuple[Batch, Body]], capacity: int) -> Iterator[Columns]:
    if not group:
        return
    bodies = [body.data for _, body in group]
    buffer = np.frombuffer(bodies[0] if len(bodies) == 1 else b"".join(bodies), np.uint8)
    buffer.flags.writeable = False
    ends = np.cumsum([len(data) for data in bodies])
    batches = np.array(
        [
            (end - len(b.data), end, b.count, b.base_offset, b.last_delta, b.base_time, b.append_time)
            for end, (_, b) in zip(ends.tolist(), group, strict=True)
        ],
        np.int64,
    )
    state = np.array([0, 0, -1, 0], np.int64)
    while state[0] < len(group):
        table = _parse_once(buffer, batches, records.fetch_offset, capacity, state)
        if table.shape[1]:
            yield Columns(records.topic, records.partition, buffer, table)
        if state[3]:
            error = FaultyRecord(int(state[1]), Fault(int(state[3])))
            batch, _ = group[int(state[0])]
            raise CorruptBatch(records.topic, records.partition, batch.base_offset, str(error))


def _parse_once(
    buffer: npt.NDArray[np.uint8], batches: Integers, lowest: int, capacity: int, state: Integers
) -> Integers:
    """At most `capacity` records from `state` on (batch, record, position, fault), which moves behind them."""
    capacity = min(capacity, int(batches[int(state[0]) :, 2].sum()))
    with PASSES.memory() as memory:
        start = memory.put(buffer)
        table = memory.reserve(8 * len(Row) * capacity)
        at_batches, at_state = memory.put(batches), memory.put(state)
        rows = memory.call("parse", start, at_batches, len(batches), lowest, table, capacity, at_state)
        state[:] = memory.view(at_state, np.int64, len(state))
        return memory.view(table, np.int64, (len(Row), capacity))[:, :rows].copy()
