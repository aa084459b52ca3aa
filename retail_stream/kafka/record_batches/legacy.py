"""Messages of the formats 0 and 1, which Kafka wrote before 0.11 (2017), rewritten as records of format 2.

A message, big-endian; a codec makes its value a compressed set of messages::

    0 offset (8) · 8 length (4) · 12 CRC-32 of what follows (4) · 16 magic (1) · 17 attributes (1)
    · format 1: timestamp (8) · key length (4), key · value length (4), value; a length of -1 is null

Attributes: bits 0 to 2 codec, 3 LogAppendTime. In a compressed set of format 1 the inner offsets count from 0, and the
outer offset is the last message's; in format 0 they are absolute.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from retail_stream.kafka.record_batches import codecs, reference
from retail_stream.kafka.record_batches.blocks import Blocks
from retail_stream.kafka.record_batches.errors import Malformed

#: The smallest length of a message: CRC, magic, attributes and two lengths.
SMALLEST = 14
#: Bytes before the part that the length counts.
OVERHEAD = 12
_FRAME = struct.Struct(">qiIBB")
_TIME = struct.Struct(">q")
_SIZE = struct.Struct(">i")
_MAGIC_AT = 16
_CODEC, _APPEND_TIME = 0x07, 0x08


@dataclass(frozen=True, slots=True)
class _Message:
    offset: int
    magic: int
    attributes: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    #: Bytes of a message that is too large to be read; then key and value are None.
    unread: int = 0


def check_crc(data: memoryview) -> None:
    """Compare the checksum of a message. Raises `Malformed`."""
    if zlib.crc32(data[_MAGIC_AT:]) != _FRAME.unpack_from(data)[2]:
        raise Malformed("its checksum is wrong")


def as_format_2(data: memoryview) -> tuple[int, Iterator[codecs.Bytes]]:
    """A message, or the set compressed in it: (number of records, the records in format 2, block by block).

    Offset and timestamp deltas are the offsets and timestamps themselves: both bases are 0. Of a message larger than
    `reference.RECORD_BYTES` the record has the size, the offset and the timestamp; zeros stand for the rest. Both raise
    `Malformed`.
    """
    (outer,) = _messages(iter([data]))
    if not outer.attributes & _CODEC:
        return 1, _encoded(outer, 0, outer.timestamp)
    # Twice: the offsets of format 1 count back from the last one.
    count, last = 0, 0
    for message in _inner(outer):
        count, last = count + 1, message.offset
    if not count:
        raise Malformed("its compressed messages are none")
    shift = outer.offset - last if outer.magic else 0
    append = outer.attributes & _APPEND_TIME
    return count, (
        block for m in _inner(outer) for block in _encoded(m, shift, outer.timestamp if append else m.timestamp)
    )


def _inner(outer: _Message) -> Iterator[_Message]:
    if outer.value is None:
        raise Malformed("it is compressed and has no value")
    for message in _messages(codecs.blocks(outer.attributes & _CODEC, outer.value)):
        if message.attributes & _CODEC:
            raise Malformed("its compressed messages are compressed again")
        yield message


def _encoded(message: _Message, shift: int, timestamp: int) -> Iterator[bytes]:
    if not message.unread:
        record = reference.Record(message.offset + shift, timestamp, message.key, message.value, ())
        yield reference.encode(record, 0, 0)
        return
    head = b"\0" + reference.varint(timestamp) + reference.varint(message.offset + shift)
    yield reference.varint(message.unread) + head
    zeros, rest = divmod(message.unread - len(head), codecs.BLOCK_BYTES)
    yield from [bytes(codecs.BLOCK_BYTES)] * zeros + [bytes(rest)]


def _messages(blocks: Iterator[codecs.Bytes]) -> Iterator[_Message]:
    text = Blocks(blocks)
    while True:
        text.fill(_FRAME.size + _TIME.size)
        if not text.data:
            return
        if len(text.data) < _FRAME.size:
            raise Malformed("a message is cut off")
        offset, length, _, magic, attributes = _FRAME.unpack_from(text.data)
        at, end = _FRAME.size, OVERHEAD + length
        if length < SMALLEST or magic > 1:
            raise Malformed("a message is cut off")
        timestamp = -1
        if magic:
            if min(end, len(text.data)) - at < _TIME.size:
                raise Malformed("a message is cut off")
            (timestamp,) = _TIME.unpack_from(text.data, at)
            at += _TIME.size
        if end > reference.RECORD_BYTES:
            text.drop(end)
            yield _Message(offset, magic, attributes, timestamp, None, None, end)
            continue
        text.fill(end)
        if end > len(text.data):
            raise Malformed("a message is cut off")
        key, at = _field(text.data, at, end)
        value, at = _field(text.data, at, end)
        if at != end:
            raise Malformed("a message is longer than its key and value")
        text.drop(end)
        yield _Message(offset, magic, attributes, timestamp, key, value)


def _field(data: codecs.Bytes, at: int, end: int) -> tuple[bytes | None, int]:
    if end - at < _SIZE.size:
        raise Malformed("a message is cut off")
    (size,) = _SIZE.unpack_from(data, at)
    at += _SIZE.size
    if size < 0:
        return None, at
    if size > end - at:
        raise Malformed("a message is cut off")
    return bytes(data[at : at + size]), at + size
