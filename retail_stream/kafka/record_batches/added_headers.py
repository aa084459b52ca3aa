"""Headers that outgoing records get behind their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retail_stream.kafka.record_batches.columns import Integers
from retail_stream.kafka.record_batches.reference import encode_headers

Header = tuple[str, bytes | None]
_NUMBER_BYTES = 8


@dataclass(frozen=True, slots=True, eq=False)
class AddedHeaders:
    """Of the i-th record: `count` headers, in the bytes `data[offsets[i]:offsets[i + 1]]`."""

    data: npt.NDArray[np.uint8]
    offsets: Integers
    count: int

    def __len__(self) -> int:
        return len(self.offsets) - 1


def alike(records: int, headers: Sequence[Header] = (), numbers: Mapping[str, Integers] | None = None) -> AddedHeaders:
    """For every record `headers`, then one header for each of `numbers`, with the record's number in 8 bytes.

    Each of `numbers` has shape (records,); the header holds a signed big-endian integer.
    """
    columns = numbers or {}
    data = encode_headers([(name.encode(), value) for name, value in headers])
    ends = []
    for name in columns:
        data += encode_headers([(name.encode(), bytes(_NUMBER_BYTES))])
        ends.append(len(data))
    table = np.empty((records, len(data)), np.uint8)
    table[:] = np.frombuffer(data, np.uint8)
    for end, column in zip(ends, columns.values(), strict=True):
        table[:, end - _NUMBER_BYTES : end] = column.astype(">i8").view(np.uint8).reshape(records, _NUMBER_BYTES)
    offsets = np.arange(records + 1, dtype=np.int64) * len(data)
    return AddedHeaders(table.reshape(-1), offsets, len(headers) + len(columns))


def one_by_one(records: Sequence[Sequence[Header]]) -> AddedHeaders:
    """Headers for each record; all records get the same number of them."""
    count = len(records[0]) if records else 0
    assert all(len(headers) == count for headers in records)
    return encoded([encode_headers([(name.encode(), value) for name, value in headers]) for headers in records], count)


def encoded(records: Sequence[bytes], count: int) -> AddedHeaders:
    """`count` headers for each record, as `encode_headers` wrote them."""
    offsets = np.zeros(len(records) + 1, np.int64)
    np.cumsum([len(text) for text in records], out=offsets[1:])
    return AddedHeaders(np.frombuffer(b"".join(records), np.uint8), offsets, count)
