"""Record sets, decompressed and parsed piece by piece."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from retail_stream.kafka.record_batches.batch import Batch, Body
from retail_stream.kafka.record_batches.blocks import Blocks
from retail_stream.kafka.record_batches.codecs import Bytes
from retail_stream.kafka.record_batches.columns import PASSES, UNREAD, Columns, Integers, Row
from retail_stream.kafka.record_batches.errors import CorruptBatch, Malformed, TooLarge
from retail_stream.kafka.record_batches.record_set import RecordSet
from retail_stream.kafka.record_batches.reference import (
    HEAD_BYTES,
    RECORD_BYTES,
    Fault,
    FaultyRecord,
    read_head,
    read_size,
)

#: A batch that expands to more is decompressed and read in parts.
BATCH_BYTES = 2**24
#: A piece ends with the batch that reaches this many decompressed bytes, so it has at most this and one batch more.
#: Larger ones leave the processor's caches, and cost half as much again for a record.
PIECE_BYTES = 2**21
#: Records of a piece, at most.
PIECE_RECORDS = 2**15


def pieces(
    records: RecordSet,
    *,
    piece_bytes: int = PIECE_BYTES,
    piece_records: int = PIECE_RECORDS,
    batch_bytes: int = BATCH_BYTES,
    record_bytes: int = RECORD_BYTES,
) -> Iterator[Columns]:
    """Decompress and parse a record set piece by piece, in order.

    A piece is decompressed when it is asked for: memory is bounded by `piece_bytes` and one batch of `batch_bytes`, or
    one record of `record_bytes`, whatever the record set expands to. A record that is larger is a piece of its own
    (`Columns.is_unread`). Every piece has at least one record. What is before a corrupt batch comes before the error.

    Raises:
        CorruptBatch: a batch is not what the format says.
    """
    group: list[tuple[Batch, Body]] = []
    size = 0
    for batch in records.batches:
        try:
            body = batch.body(batch_bytes)
        except TooLarge:
            yield from _together(records, group, piece_records)
            yield from _in_parts(records, batch, piece_bytes, piece_records, record_bytes)
            group, size = [], 0
            continue
        except Malformed as error:
            yield from _together(records, group, piece_records)
            raise _corrupt(records, batch, error) from error
        group.append((batch, body))
        size += len(body.data)
        if size >= piece_bytes:
            yield from _together(records, group, piece_records)
            group, size = [], 0
    yield from _together(records, group, piece_records)


def _corrupt(records: RecordSet, batch: Batch, error: Exception) -> CorruptBatch:
    return CorruptBatch(records.topic, records.partition, batch.base_offset, str(error))


def _together(records: RecordSet, group: Sequence[tuple[Batch, Body]], capacity: int) -> Iterator[Columns]:
    """The records of whole batches."""
    if group:
        number, at, _, fault = yield from _parse(records, [body for _, body in group], capacity)
        if fault:
            error = FaultyRecord(at, Fault(fault))
            raise _corrupt(records, group[number][0], error) from error


def _in_parts(
    records: RecordSet, batch: Batch, piece_bytes: int, capacity: int, record_bytes: int
) -> Iterator[Columns]:
    """The records of one large batch, as many at a time as fit in `piece_bytes`, at least one.

    ::

        decompressed     ├── record ──┼── record ──┼── record ──┼── rec┄┄┄
        parsed           ├─────────────────────────────────────▶│ the rest waits for more
    """
    try:
        body, blocks = batch.in_blocks()
        text, done = Blocks(blocks), 0
        while done < body.count:
            text.fill(max(min(piece_bytes, record_bytes), HEAD_BYTES))
            size = read_size(text.data)
            if size > record_bytes:
                offset, timestamp = read_head(text.data, done, body.base_offset, body.last_delta, body.base_time)
                text.drop(size)
                done += 1
                if offset >= records.fetch_offset:
                    yield _unread(records, offset, body.base_time if body.append_time else timestamp)
                continue
            text.fill(size)
            part = replace(body, data=text.data, count=body.count - done)
            _, number, position, fault = yield from _parse(records, [part], capacity)
            is_cut = fault == Fault.SIZE and position > 0  # the last record is not whole; those before were read
            if fault and not is_cut:
                raise FaultyRecord(done + number, Fault(fault))
            text.drop(position if is_cut else len(text.data))
            done = done + number if is_cut else body.count
        text.fill(1)
        if text.data:
            raise FaultyRecord(body.count - 1, Fault.BEHIND)
    except (Malformed, FaultyRecord) as error:
        raise _corrupt(records, batch, error) from error


def _unread(records: RecordSet, offset: int, timestamp: int) -> Columns:
    table = np.zeros((len(Row), 1), np.int64)
    table[[Row.OFFSET, Row.TIMESTAMP, Row.KEY_SIZE, Row.VALUE_SIZE], 0] = offset, timestamp, -1, UNREAD
    return Columns(records.topic, records.partition, np.zeros(0, np.uint8), table)


def _parse(
    records: RecordSet, bodies: Sequence[Body], capacity: int
) -> Generator[Columns, None, tuple[int, int, int, int]]:
    """The records of bodies; then where it ended: (body, record, position, fault), 0 without a fault."""
    data: list[Bytes] = [body.data for body in bodies]
    buffer = np.frombuffer(data[0] if len(data) == 1 else b"".join(data), np.uint8)
    buffer.flags.writeable = False
    ends = np.cumsum([len(part) for part in data])
    batches = np.array(
        [
            (end - len(b.data), end, b.count, b.base_offset, b.last_delta, b.base_time, b.append_time)
            for end, b in zip(ends.tolist(), bodies, strict=True)
        ],
        np.int64,
    )
    state = np.array([0, 0, -1, 0], np.int64)
    while state[0] < len(bodies) and not state[3]:
        table = _parse_once(buffer, batches, records.fetch_offset, capacity, state)
        if table.shape[1]:
            yield Columns(records.topic, records.partition, buffer, table)
    body, record, position, fault = state.tolist()
    return body, record, position, fault


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
