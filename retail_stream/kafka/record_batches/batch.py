"""A record batch without its records: what its header says, and its bytes.

Format 2 (since Kafka 0.11), big-endian; the checksum covers everything behind it::

    0 base offset (8) · 8 length of what follows (4) · 12 leader epoch (4) · 16 magic (1) · 17 CRC-32C (4)
    21 attributes (2) · 23 last offset delta (4) · 27 base timestamp (8) · 35 largest timestamp (8)
    43 producer id (8) · 51 producer epoch (2) · 53 base sequence (4) · 57 record count (4) · 61 records, compressed

Attributes: bits 0 to 2 codec, 3 LogAppendTime (all records have the largest timestamp), 4 transactional, 5 control.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from aiokafka.record.util import calc_crc32c

from retail_stream.kafka.record_batches import codecs, legacy
from retail_stream.kafka.record_batches.errors import Malformed

HEADER = struct.Struct(">qiibIhiqqqhii")
#: What the checksum covers of the header.
CHECKED = struct.Struct(">hiqqqhii")
HEADER_BYTES = HEADER.size
OVERHEAD = legacy.OVERHEAD
CHECKED_AT = HEADER_BYTES - CHECKED.size
MAGIC_AT = 16

CODEC, APPEND_TIME, TRANSACTIONAL, CONTROL = 0x07, 0x08, 0x10, 0x20
#: The shortest record: seven fields of one byte each.
SHORTEST_RECORD = 7


@dataclass(frozen=True, slots=True)
class Body:
    """The decompressed records of a batch, in format 2."""

    data: codecs.Bytes
    count: int
    #: Offsets and timestamps of records are deltas to these.
    base_offset: int
    base_time: int
    last_delta: int
    #: Every record's timestamp is `base_time`.
    append_time: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of format 2, or a message of format 0 or 1. Times in milliseconds."""

    data: memoryview
    magic: int
    base_offset: int
    last_delta: int
    attributes: int
    base_time: int
    max_time: int
    producer_id: int
    count: int
    crc: int

    @property
    def last_offset(self) -> int:
        """Offset of the last record, which compaction may have removed."""
        return self.base_offset + self.last_delta

    @property
    def next_offset(self) -> int:
        """Where reading goes on behind it."""
        return self.last_offset + 1

    @property
    def is_control(self) -> bool:
        """It holds the marker of a transaction's end instead of records."""
        return bool(self.attributes & CONTROL)

    @property
    def is_transactional(self) -> bool:
        """A transaction decides whether its records count."""
        return bool(self.attributes & TRANSACTIONAL)

    def check_crc(self) -> None:
        """Compare the checksum. Raises `Malformed`."""
        if self.magic < 2:
            legacy.check_crc(self.data)
        elif calc_crc32c(self.data[CHECKED_AT:]) != self.crc:
            raise Malformed("its checksum is wrong")

    def body(self, limit: int) -> Body:
        """The records, decompressed to at most `limit` bytes. Raises `TooLarge` or `Malformed`."""
        if self.magic < 2:
            body, blocks = self.in_blocks()
            return replace(body, data=codecs.join(blocks, limit))
        data = codecs.decompress(self.attributes & CODEC, self.data[HEADER_BYTES:], limit)
        if self.count * SHORTEST_RECORD > len(data):
            raise Malformed(f"{self.count:,} records do not fit in {len(data):,} bytes")
        return replace(self._empty, data=data)

    def in_blocks(self) -> tuple[Body, Iterator[codecs.Bytes]]:
        """The body without its records, and these decompressed block by block. Both raise `Malformed`."""
        if self.magic < 2:
            count, records = legacy.as_format_2(self.data)
            return Body(b"", count, 0, 0, self.last_offset), records
        return self._empty, codecs.blocks(self.attributes & CODEC, self.data[HEADER_BYTES:])

    @property
    def _empty(self) -> Body:
        append = bool(self.attributes & APPEND_TIME)
        time = self.max_time if append else self.base_time
        return Body(b"", self.count, self.base_offset, time, self.last_delta, append)


def split(data: codecs.Bytes) -> Iterator[Batch]:
    """The whole batches of a record set; a fetch may cut off the last one, which is left out.

    Raises:
        Malformed: a header contradicts itself.
    """
    view = memoryview(data)
    at = 0
    while len(view) - at >= OVERHEAD + legacy.SMALLEST:
        offset, length = struct.unpack_from(">qi", view, at)
        end = at + OVERHEAD + length
        if end > len(view):
            return
        if length < legacy.SMALLEST:
            raise Malformed(f"its length is {length}")
        yield _batch(view[at:end], offset)
        at = end


def _batch(data: memoryview, offset: int) -> Batch:
    magic = data[MAGIC_AT]
    if magic < 2:
        # Of compressed messages the offset is the last one's; it says nothing of the first.
        return Batch(data, magic, offset, 0, 0, -1, -1, -1, -1, 0)
    if magic > 2:
        raise Malformed(f"its format is {magic}; the newest known is 2")
    if len(data) < HEADER_BYTES:
        raise Malformed(f"its length is {len(data) - OVERHEAD}")
    _, _, _, _, crc, attributes, last_delta, base_time, max_time, producer_id, _, _, count = HEADER.unpack_from(data)
    if count < 0 or last_delta < 0:
        raise Malformed(f"it has {count} records and a last offset delta of {last_delta}")
    return Batch(data, magic, offset, last_delta, attributes, base_time, max_time, producer_id, count, crc)
