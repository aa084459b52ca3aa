"""The records of a batch, one by one in plain Python: what the compiled passes do, and the format in words.

A record of format 2; all numbers are zigzag varints (seven bits a byte, lowest first; 0, -1, 1, -2 are 0, 1, 2, 3)::

    size of what follows · attributes (one byte, unused) · timestamp delta · offset delta
    · key size, key · value size, value · number of headers, and for each: name size, name, value size, value

A size of -1 is null, for keys, values and values of headers. Names of headers should be UTF-8; any bytes are read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from retail_stream.kafka.record_batches import codecs

#: What a record may take in its batch, its size included. A larger one is passed over: see `Columns.is_unread`.
RECORD_BYTES = 2**26

Headers: TypeAlias = tuple[tuple[bytes, bytes | None], ...]


class Fault(IntEnum):
    """What is wrong with a record."""

    SIZE = 1
    ATTRIBUTES = 2
    TIME_DELTA = 3
    OFFSET_DELTA = 4
    KEY = 5
    VALUE = 6
    HEADERS = 7
    TRAILING = 8
    BEHIND = 9

    @property
    def reason(self) -> str:
        """The fault in words, behind "record 3"."""
        return _REASONS[self]


_REASONS = {
    Fault.SIZE: "is larger than its batch",
    Fault.ATTRIBUTES: "is empty",
    Fault.TIME_DELTA: "has no valid timestamp",
    Fault.OFFSET_DELTA: "has an offset outside of its batch",
    Fault.KEY: "has a key that does not fit",
    Fault.VALUE: "has a value that does not fit",
    Fault.HEADERS: "has headers that do not fit",
    Fault.TRAILING: "is longer than its fields",
    Fault.BEHIND: "is followed by bytes that belong to no record",
}


class FaultyRecord(ValueError):
    """Record `number` of a batch (from 0) has a fault; behind the last record the number is that of the last one."""

    def __init__(self, number: int, fault: Fault) -> None:
        super().__init__(f"record {number} {fault.reason}")
        self.number, self.fault = number, fault


@dataclass(frozen=True, slots=True)
class Record:
    """A record; its timestamp in milliseconds."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def decode(
    data: bytes, count: int, base_offset: int, last_delta: int, base_time: int, *, append_time: bool = False
) -> Iterator[Record]:
    """The `count` records of a batch. Raises `FaultyRecord` where the bytes are not what the format says."""
    at = 0
    for number in range(count):
        record, at = _record(data, at, number, base_offset, last_delta, base_time, append_time)
        yield record
    if at != len(data):
        raise FaultyRecord(max(count - 1, 0), Fault.BEHIND)


def encode(record: Record, base_offset: int, base_time: int) -> bytes:
    """A record as it stands in a batch with these bases."""
    fields = [
        b"\0",
        varint(_int64(record.timestamp - base_time)),
        varint(record.offset - base_offset),
        _sized(record.key),
        _sized(record.value),
        varint(len(record.headers)),
        *(_sized(name) + _sized(value) for name, value in record.headers),
    ]
    body = b"".join(fields)
    return varint(len(body)) + body


def encode_headers(headers: Sequence[tuple[bytes, bytes | None]]) -> bytes:
    """Headers as they stand in a record, without their number."""
    return b"".join(_sized(name) + _sized(value) for name, value in headers)


def varint(number: int) -> bytes:
    """A zigzag varint of a 64-bit integer."""
    raw = (number << 1) ^ (number >> 63)
    out = bytearray()
    while raw >= 0x80:
        out.append(raw & 0x7F | 0x80)
        raw >>= 7
    out.append(raw)
    return bytes(out)


def read_varint(data: codecs.Bytes, at: int, end: int) -> tuple[int, int]:
    """(number, position behind it) of the zigzag varint at `at`. Raises `ValueError` if none ends before `end`."""
    raw = 0
    for i in range(10):
        if at >= end:
            break
        byte = data[at]
        at += 1
        raw |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            if raw >= 2**64:
                break
            return (raw >> 1) ^ -(raw & 1), at
    raise ValueError("no varint")


#: What :func:`read_size` and :func:`read_head` look at: three varints and a byte.
HEAD_BYTES = 31


def read_size(data: codecs.Bytes) -> int:
    """Bytes of the record at the begin of `data`, its size included; 0 if they do not begin with a size."""
    try:
        size, at = read_varint(data, 0, len(data))
    except ValueError:
        return 0
    return max(0, at + size)


def read_head(data: codecs.Bytes, number: int, base_offset: int, last_delta: int, base_time: int) -> tuple[int, int]:
    """(offset, timestamp) of the record at the begin of `data`, as `decode` reads them. Raises `FaultyRecord`."""
    _, at = read_varint(data, 0, len(data))
    fault = Fault.TIME_DELTA
    try:
        time_delta, at = read_varint(data, at + 1, len(data))
        fault = Fault.OFFSET_DELTA
        delta, _ = read_varint(data, at, len(data))
        if not 0 <= delta <= last_delta:
            raise ValueError(delta)
    except ValueError as error:
        raise FaultyRecord(number, fault) from error
    return _int64(base_offset + delta), _int64(base_time + time_delta)


def _record(
    data: bytes, at: int, number: int, base_offset: int, last_delta: int, base_time: int, append_time: bool
) -> tuple[Record, int]:
    fault = Fault.SIZE
    try:
        size, at = read_varint(data, at, len(data))
        if not 0 <= size <= len(data) - at:
            raise ValueError(size)
        end = at + size
        fault = Fault.ATTRIBUTES
        if size == 0:
            raise ValueError(size)
        fault = Fault.TIME_DELTA
        time_delta, at = read_varint(data, at + 1, end)
        fault = Fault.OFFSET_DELTA
        delta, at = read_varint(data, at, end)
        if not 0 <= delta <= last_delta:
            raise ValueError(delta)
        fault = Fault.KEY
        key, at = _field(data, at, end)
        fault = Fault.VALUE
        value, at = _field(data, at, end)
        fault = Fault.HEADERS
        headers, at = _headers(data, at, end)
        fault = Fault.TRAILING
        if at != end:
            raise ValueError(at)
    except ValueError as error:
        raise FaultyRecord(number, fault) from error
    timestamp = base_time if append_time else _int64(base_time + time_delta)
    return Record(_int64(base_offset + delta), timestamp, key, value, headers), at


def _headers(data: bytes, at: int, end: int) -> tuple[Headers, int]:
    count, at = read_varint(data, at, end)
    if not 0 <= count <= end - at:
        raise ValueError(count)
    headers = []
    for _ in range(count):
        name, at = _field(data, at, end)
        if name is None:
            raise ValueError("a header without a name")
        value, at = _field(data, at, end)
        headers.append((name, value))
    return tuple(headers), at


def _field(data: bytes, at: int, end: int) -> tuple[bytes | None, int]:
    size, at = read_varint(data, at, end)
    if not -1 <= size <= end - at:
        raise ValueError(size)
    return (None, at) if size < 0 else (data[at : at + size], at + size)


def _sized(field: bytes | None) -> bytes:
    return varint(-1) if field is None else varint(len(field)) + field


def _int64(number: int) -> int:
    """The number that 64 bits hold: sums wrap around, as they do in Kafka's own clients."""
    return (number + 2**63) % 2**64 - 2**63
