"""Record batches for tests: made by the plain reference, and random records to put in them."""

import asyncio
import zlib
from collections.abc import Sequence

import cramjam
import lz4.frame
from aiokafka.record.util import calc_crc32c
from hypothesis import strategies as st

from retail_stream.kafka.delivery import KafkaPartitions
from retail_stream.kafka.record_batches.batch import APPEND_TIME, CHECKED, CONTROL, HEADER, HEADER_BYTES, TRANSACTIONAL
from retail_stream.kafka.record_batches.codecs import Codec
from retail_stream.kafka.record_batches.columns import Columns
from retail_stream.kafka.record_batches.headers import headers_of
from retail_stream.kafka.record_batches.pieces import pieces
from retail_stream.kafka.record_batches.record_set import RecordSet, record_set
from retail_stream.kafka.record_batches.reference import Record, encode
from retail_stream.settings import Connections

small = st.binary(max_size=12)
nullable = st.none() | small
headers = st.lists(st.tuples(st.sampled_from([b"h", b"source.offset", b"\xff\xfe", b"", b"g"]), nullable), max_size=3)


@st.composite
def records(draw: st.DrawFn, *, smallest: int = 0, largest: int = 8, first: int = 0) -> list[Record]:
    """Records with ascending offsets, gaps as compaction leaves them."""
    offset, found = first - 1, []
    for _ in range(draw(st.integers(smallest, largest))):
        offset += draw(st.sampled_from([1, 1, 1, 2, 70]))
        timestamp = draw(st.sampled_from([-1, 0, 1_764_500_000_000]) | st.integers(-1, 2**62))
        found.append(Record(offset, timestamp, draw(nullable), draw(nullable), tuple(draw(headers))))
    return found


def xerial(data: bytes, block: int = 7) -> bytes:
    """Snappy as Java's library frames it."""
    blocks = [bytes(cramjam.snappy.compress_raw(data[i : i + block])) for i in range(0, len(data), block)]
    return b"\x82SNAPPY\0" + bytes([0, 0, 0, 1]) * 2 + b"".join(len(b).to_bytes(4, "big") + b for b in blocks)


COMPRESSORS = {
    "none": (Codec.NONE, lambda data: data),
    "gzip": (Codec.GZIP, lambda data: zlib.compress(data, wbits=31)),
    "snappy, raw": (Codec.SNAPPY, lambda data: bytes(cramjam.snappy.compress_raw(data))),
    "snappy, framed": (Codec.SNAPPY, xerial),
    "lz4": (Codec.LZ4, lambda data: lz4.frame.compress(data, block_linked=False)),
    "zstd": (Codec.ZSTD, lambda data: bytes(cramjam.zstd.compress(data))),
}


def batch(
    found: Sequence[Record],
    codec: str = "none",
    *,
    base_offset: int | None = None,
    last_offset: int | None = None,
    append_time: int | None = None,
    producer: int = -1,
    transactional: bool = False,
    control: bool = False,
) -> bytes:
    """A batch of format 2 with these records."""
    first = (found[0].offset if found else 0) if base_offset is None else base_offset
    last = (found[-1].offset if found else first) if last_offset is None else last_offset
    base_time = found[0].timestamp if found else -1
    number, compress = COMPRESSORS[codec]
    body = compress(b"".join(encode(r, first, base_time) for r in found))
    times = base_time, max((r.timestamp for r in found), default=-1) if append_time is None else append_time
    attributes = number | APPEND_TIME * (append_time is not None) | TRANSACTIONAL * transactional | CONTROL * control
    rest = (attributes, last - first, *times, producer, 0, 0, len(found))
    crc = calc_crc32c(CHECKED.pack(*rest) + body)
    return HEADER.pack(first, HEADER_BYTES - 12 + len(body), 0, 2, crc, *rest) + body


def marker(offset: int, producer: int, *, commit: bool) -> bytes:
    """A transaction's end."""
    record = Record(offset, 0, b"\0\0\0" + bytes([commit]), bytes(6), ())
    return batch([record], producer=producer, transactional=True, control=True)


def columns(topic: str, partition: int, found: Sequence[Record]) -> Columns:
    """At least one record, as a piece."""
    (piece,) = pieces(record_set(topic, partition, batch(found), 0))
    return piece


def as_records(columns: Columns) -> list[Record]:
    """Rows as records."""
    return [
        Record(
            int(columns.offset[i]), int(columns.timestamp[i]), columns.key(i), columns.value(i), headers_of(columns, i)
        )
        for i in range(len(columns))
    ]


def read_all(found: RecordSet, **limits: int) -> list[Record]:
    """All records of a record set."""
    return [record for piece in pieces(found, **limits) for record in as_records(piece)]


def encoded_record(record: Record, count: int, base_time: int, added: Sequence[tuple[bytes, bytes | None]]) -> bytes:
    """A record as the `count`-th of a batch, with headers added."""
    return encode(Record(count, record.timestamp, record.key, record.value, (*record.headers, *added)), 0, base_time)


def store(connections: Connections, topic: str, data: bytes) -> int:
    """Store one batch as it is in partition 0, where clients would make several; returns its first offset."""

    async def run() -> int:
        partitions = KafkaPartitions(connections, "test")
        try:
            return await partitions.produce(topic, 0, data)
        finally:
            await partitions.stop()

    return asyncio.run(run())
