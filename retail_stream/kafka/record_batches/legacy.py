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
from retail_stream.kafka.record_batches.errors import Malformed

#: The smallest length of a message: CRC, magic, attributes and two lengths.
SMALLEST = 14
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


def check_crc(data: memoryview) -> None:
    """Compare the checksum of a message. Raises `Malformed`."""
    if zlib.crc32(data[_MAGIC_AT:]) != _FRAME.unpack_from(data)[2]:
        raise Malformed("its checksum is wrong")


def as_format_2(data: memoryview, limit: int) -> tuple[bytes, int]:
    """A message, or the set compressed in it, as (records of format 2, their number).

    Offset and timestamp deltas are the offsets and timestamps themselves: both bases are 0. Raises `TooLarge` or
    `Malformed`.
    """
    (outer,) = _messages(data)
    messages = [outer]
    if outer.attributes & _CODEC:
        if outer.value is None:
            raise Malformed("it is compressed and has no value")
        messages = list(_messages(memoryview(codecs.decompress(outer.attributes & _CODEC, outer.value, limit))))
    if not messages or any(m.attributes & _CODEC for m in messages[1 if messages[0] is outer else 0 :]):
        raise Malformed("its compressed messages are none, or compressed again")
    shift = outer.offset - messages[-1].offset if outer.magic else 0
    append = outer.attributes & _APPEND_TIME
    return b"".join(
        reference.encode(
            reference.Record(m.offset + shift, outer.timestamp if append else m.timestamp, m.key, m.value, ()),
            0,
            0,
        )
        for m in messages
    ), len(messages)


def _messages(data: memoryview) -> Iterator[_Message]:
    at = 0
    while at < len(data):
        if len(data) - at < _FRAME.size:
            raise Malformed("a message is cut off")
        offset, length, _, magic, attributes = _FRAME.unpack_from(data, at)
        end = at + 12 + length
        if length < SMALLEST or end > len(data) or magic > 1:
            raise Malformed("a message is cut off")
        at += _FRAME.size
        timestamp = -1
        if magic:
            if end - at < _TIME.size:
                raise Malformed("a message is cut off")
            (timestamp,) = _TIME.unpack_from(data, at)
            at += _TIME.size
        key, at = _field(data, at, end)
        value, at = _field(data, at, end)
        if at != end:
            raise Malformed("a message is longer than its key and value")
        yield _Message(offset, magic, attributes, timestamp, key, value)


def _field(data: memoryview, at: int, end: int) -> tuple[bytes | None, int]:
    if end - at < _SIZE.size:
        raise Malformed("a message is cut off")
    (size,) = _SIZE.unpack_from(data, at)
    at += _SIZE.size
    if size < 0:
        return None, at
    if size > end - at:
        raise Malformed("a message is cut off")
    return bytes(data[at : at + size]), at + size
