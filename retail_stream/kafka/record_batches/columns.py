"""Records as columns: numbers, and positions into one buffer."""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from retail_stream.wasm.module import Module

Integers: TypeAlias = npt.NDArray[np.int64]
#: The compiled passes.
PASSES = Module(Path(__file__).with_name("passes.wasm"))

#: The size of a value that was not read, because its record is larger than `reference.RECORD_BYTES`.
UNREAD = -2


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

    `buffer`: uint8, read-only. `table`: int64 of shape (9, records), contiguous; `Row` names its rows. A record that is
    too large to be read is alone in its columns: see `is_unread`.
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
    def is_unread(self) -> bool:
        """Whether this is one record that is larger than `RECORD_BYTES`; its key, value and headers were not read."""
        return len(self) == 1 and int(self.table[Row.VALUE_SIZE, 0]) == UNREAD

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
