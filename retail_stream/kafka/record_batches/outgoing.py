"""Batches to send, made of records in columns."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from aiokafka.record.util import calc_crc32c

from retail_stream.kafka.record_batches.added_headers import AddedHeaders
from retail_stream.kafka.record_batches.batch import CHECKED, CHECKED_AT, HEADER, HEADER_BYTES, OVERHEAD, TRANSACTIONAL
from retail_stream.kafka.record_batches.codecs import Codec, compress_lz4
from retail_stream.kafka.record_batches.columns import PASSES, Columns, Integers
from retail_stream.kafka.record_batches.reference import RECORD_BYTES
from retail_stream.wasm.module import Memory

#: A batch before compression, at most: larger ones save nothing and keep more in memory.
UNCOMPRESSED_BYTES = 2**22
#: The part of the topic's limit that an estimate aims for: the next records may compress less well.
_AIM = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class OutgoingBatch:
    """A compressed batch, which `encode` completes.

    `records`: numbers of its records in the columns it was built from.
    """

    body: bytes
    codec: Codec
    base_time: int
    max_time: int
    records: Integers

    def __len__(self) -> int:
        return len(self.records)

    @property
    def size(self) -> int:
        """Bytes of the whole batch: what a broker compares with `max.message.bytes`."""
        return HEADER_BYTES + len(self.body)

    def encode(
        self, producer_id: int = -1, epoch: int = -1, sequence: int = -1, *, transactional: bool = False
    ) -> bytes:
        """The batch as a produce request holds it. -1: of a producer that is not idempotent."""
        last = len(self.records) - 1
        attributes = self.codec | (TRANSACTIONAL if transactional else 0)
        times = self.base_time, self.max_time
        checked = CHECKED.pack(attributes, last, *times, producer_id, epoch, sequence, last + 1) + self.body
        length = self.size - OVERHEAD
        crc = calc_crc32c(checked)
        head = HEADER.pack(0, length, -1, 2, crc, attributes, last, *times, producer_id, epoch, sequence, last + 1)
        return head[:CHECKED_AT] + checked


@dataclass(frozen=True, slots=True, eq=False)
class Outgoing:
    """What `build` made: `batches` in order, and the numbers of records that are too large even alone."""

    batches: tuple[OutgoingBatch, ...]
    too_large: Integers


def build(columns: Columns, chosen: Integers, added: AddedHeaders, limit: int) -> Outgoing:
    """Batches of the chosen records, each at most `limit` bytes compressed, headers included.

    `chosen`: record numbers in the order to send; keys, values, headers and timestamps are copied. `added`: headers of
    the i-th chosen record. `limit`: the target topic's `max.message.bytes`. A record beyond `RECORD_BYTES` is
    too large, too: consumers would pass over it.
    """
    assert len(chosen) == len(added)
    batches: list[OutgoingBatch] = []
    too_large: list[int] = []
    with PASSES.memory() as memory:
        builder = _Builder(memory, columns, chosen, added, min(limit, UNCOMPRESSED_BYTES))
        for first, batch, uncompressed in builder.batches(limit):
            if batch.size > limit or uncompressed > RECORD_BYTES:
                too_large.append(int(chosen[first]))
            else:
                batches.append(batch)
    return Outgoing(tuple(batches), np.array(too_large, np.int64))


class _Builder:
    """The inputs in a module's memory, and a region for the batch that is being built."""

    def __init__(self, memory: Memory, columns: Columns, chosen: Integers, added: AddedHeaders, size: int) -> None:
        self._memory, self._chosen, self._added_count = memory, chosen, added.count
        self._records = memory.put(columns.buffer), memory.put(columns.table), len(columns)
        self._rows, self._added = memory.put(chosen), (memory.put(added.data), memory.put(added.offsets))
        self._made = memory.reserve(8 * 5)
        self._room, self._out = size, memory.reserve(size)

    def batches(self, limit: int) -> Iterator[tuple[int, OutgoingBatch, int]]:
        """(first chosen record, batch, bytes before compression) for all in order; one record may exceed `limit`."""
        first, size = 0, min(limit, UNCOMPRESSED_BYTES)
        while first < len(self._chosen):
            batch, uncompressed = self._batch(first, len(self._chosen), size)
            while batch.size > limit and len(batch) > 1:
                fewer = max(1, int(len(batch) * _AIM * limit / batch.size))
                batch, uncompressed = self._batch(first, first + fewer, size)
            yield first, batch, uncompressed
            first += len(batch)
            size = min(max(limit, int(limit * _AIM * uncompressed / batch.size)), UNCOMPRESSED_BYTES)

    def _batch(self, first: int, last: int, size: int) -> tuple[OutgoingBatch, int]:
        """(batch, bytes before compression) of at most `size` bytes, or of one record that is larger."""
        made = self._build(first, last, size)
        if not made[0]:
            made = self._build(first, first + 1, int(made[4]))
        count, uncompressed, base_time, max_time, _ = made.tolist()
        data = self._memory.view(self._out, np.uint8, uncompressed)
        codec, body = Codec.LZ4, compress_lz4(data)
        if len(body) >= uncompressed:
            codec, body = Codec.NONE, data.tobytes()
        return OutgoingBatch(body, codec, base_time, max_time, self._chosen[first : first + count]), uncompressed

    def _build(self, first: int, last: int, size: int) -> npt.NDArray[np.int64]:
        if size > self._room:
            self._room, self._out = size, self._memory.reserve(size)
        self._memory.call(
            "build",
            *self._records,
            self._rows,
            first,
            last,
            *self._added,
            self._added_count,
            self._out,
            size,
            self._made,
        )
        return self._memory.read(self._made, np.int64, 5)
