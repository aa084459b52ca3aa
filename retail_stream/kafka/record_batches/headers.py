"""Headers of records in columns."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retail_stream.kafka.record_batches.columns import PASSES, Columns, Integers, Row
from retail_stream.kafka.record_batches.reference import Headers, read_varint

_ABSENT = -2


@dataclass(frozen=True, slots=True, eq=False)
class HeaderColumn:
    """The last header of one name in each record.

    `at`, `size`: where its value is in the records' buffer; a size of -1 is null, -2 no such header. `number`: the
    value as a signed 8-byte big-endian integer, 0 where `is_number` is False.
    """

    at: Integers
    size: Integers
    number: Integers

    @property
    def is_present(self) -> npt.NDArray[np.bool_]:
        """The record has such a header, null or not."""
        present: npt.NDArray[np.bool_] = self.size != _ABSENT
        return present

    @property
    def is_number(self) -> npt.NDArray[np.bool_]:
        """The value has 8 bytes."""
        numbers: npt.NDArray[np.bool_] = self.size == 8
        return numbers


def find_header(columns: Columns, name: str) -> HeaderColumn:
    """The header of that name in each record."""
    return find_headers(columns, name)[0]


def find_headers(columns: Columns, *names: str) -> list[HeaderColumn]:
    """The headers of each name in each record."""
    count = len(columns)
    found = []
    with PASSES.memory() as memory:
        start, table = memory.put(columns.buffer), memory.put(columns.table)
        at, size, number = (memory.reserve(8 * count) for _ in range(3))
        for name in names:
            wanted = name.encode()
            memory.call("find", start, table, count, memory.put(wanted), len(wanted), at, size, number)
            found.append(HeaderColumn(*(memory.read(region, np.int64, count) for region in (at, size, number))))
    return found


def readable_names(columns: Columns) -> npt.NDArray[np.bool_]:
    """Whether the names of all headers of each record are UTF-8, as Kafka's clients in most languages need."""
    count = len(columns)
    if not columns.table[Row.HEADER_COUNT].any():
        return np.ones(count, np.bool_)
    with PASSES.memory() as memory:
        start, table = memory.put(columns.buffer), memory.put(columns.table)
        flags = memory.reserve(count)
        memory.call("names", start, table, count, flags)
        return memory.read(flags, np.bool_, count)


def headers_of(columns: Columns, record: int) -> Headers:
    """The headers of one record, in order: names as bytes, as they need not be UTF-8."""
    table = columns.table
    start = int(table[Row.HEADERS_AT, record])
    data = columns.buffer[start : start + int(table[Row.HEADERS_SIZE, record])].tobytes()
    found = []
    at = 0
    for _ in range(int(table[Row.HEADER_COUNT, record])):
        size, at = read_varint(data, at, len(data))
        name, at = data[at : at + size], at + size
        size, at = read_varint(data, at, len(data))
        found.append((name, None if size < 0 else data[at : at + size]))
        at += max(size, 0)
    return tuple(found)
