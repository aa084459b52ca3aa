"""The compiled pass and the plain reference read the same records, or refuse the same bytes for the same reason."""

import dataclasses

import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retail_stream.kafka.record_batches.batch import HEADER_BYTES, split
from retail_stream.kafka.record_batches.errors import CorruptBatch
from retail_stream.kafka.record_batches.pieces import pieces
from retail_stream.kafka.record_batches.record_set import RecordSet, record_set
from retail_stream.kafka.record_batches.reference import FaultyRecord, Record, decode, varint
from tests.harness.record_batches import COMPRESSORS, batch, read_all, records


def by_reference(data: bytes, lowest: int) -> list[Record] | str:
    """Records of one uncompressed batch from `lowest` on, or what is wrong with it."""
    (found,) = split(data)
    body = found.body(2**20)
    try:
        read = list(
            decode(
                bytes(body.data),
                body.count,
                body.base_offset,
                body.last_delta,
                body.base_time,
                append_time=body.append_time,
            )
        )
    except FaultyRecord as error:
        return str(error)
    return [r for r in read if r.offset >= lowest]


def by_passes(data: bytes, lowest: int, piece_records: int) -> list[Record] | str:
    found = RecordSet("t", 3, tuple(split(data)), lowest, lowest)
    try:
        return read_all(found, piece_records=piece_records)
    except CorruptBatch as error:
        return str(error).partition("cannot be read: ")[2].removesuffix(".")


@settings(deadline=None)
@given(records(first=5), st.integers(0, 12), st.integers(1, 9), st.none() | st.integers(-1, 2**62))
def test_the_pass_reads_what_the_reference_reads(found, lowest, piece_records, append_time):
    data = batch(found, append_time=append_time, base_offset=3)
    assert by_passes(data, lowest, piece_records) == by_reference(data, lowest)
    expected = [r for r in found if r.offset >= lowest]
    if append_time is not None:
        expected = [dataclasses.replace(r, timestamp=append_time) for r in expected]
    assert by_passes(data, lowest, piece_records) == expected


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damaged_records_are_refused_alike_or_read_alike(data):
    whole = bytearray(batch(data.draw(records(smallest=1)), base_offset=0))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(HEADER_BYTES, len(whole) - 1))
        whole[at] = data.draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(HEADER_BYTES, len(whole))) :]
        whole[8:12] = (len(whole) - 12).to_bytes(4, "big")
    try:
        expected: list[Record] | str = by_reference(bytes(whole), 0)
    except ValueError as error:  # the batch is too short for its number of records
        expected = str(error)
    assert by_passes(bytes(whole), 0, data.draw(st.integers(1, 9))) == expected


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 6), st.integers(0, 2**31 - 1))
@example(varint(2**62) + bytes(9), 1, 0)
@example(varint(7) + bytes(3) + varint(2**61), 1, 0)
def test_random_bytes_are_refused_alike(body, count, last_delta):
    whole = bytearray(batch([], last_offset=last_delta) + body)
    whole[8:12] = (len(whole) - 12).to_bytes(4, "big")
    whole[57:61] = count.to_bytes(4, "big")
    try:
        expected: list[Record] | str = by_reference(bytes(whole), 0)
    except ValueError as error:
        expected = str(error)
    assert by_passes(bytes(whole), 0, 2) == expected


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_record_set_is_read_or_refused_and_never_more(data):
    """Any byte of two batches changed, no checksum compared: headers included, which name sizes and counts."""
    first = batch(data.draw(records(smallest=1)), data.draw(st.sampled_from(list(COMPRESSORS))), base_offset=0)
    whole = bytearray(first + batch(data.draw(records(smallest=1, first=1000))))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = read_all(record_set("t", 0, bytes(whole), 0, check_crc=False), batch_bytes=2**16)
    except CorruptBatch:
        return
    assert len(read) <= len(whole)


@settings(deadline=None)
@given(st.data())
def test_a_changed_byte_behind_the_checksum_is_noticed(data):
    whole = bytearray(batch(data.draw(records(smallest=1)), "lz4"))
    at = data.draw(st.integers(17, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptBatch, match=r"The batch at t/1@7 cannot be read: (its checksum|it has)"):
        record_set("t", 1, bytes(whole), 7)


@pytest.mark.parametrize("codec", COMPRESSORS)
def test_every_codec(codec):
    found = [Record(i, 1000 + i, b"k%d" % i, bytes(50), ()) for i in range(100)]
    data = batch(found, codec) + batch([Record(100, 0, None, None, ())], codec)
    read = record_set("t", 0, data, 0)
    assert read_all(read) == [*found, Record(100, 0, None, None, ())]
    assert (read.next_offset, read.fetch_offset) == (101, 0)


def test_a_piece_ends_with_the_batch_that_fills_it():
    data = b"".join(batch([Record(i, 0, None, bytes(1000), ())], "zstd") for i in range(10))
    found = record_set("t", 0, data, 0)
    assert [len(p) for p in pieces(found, piece_bytes=2500)] == [3, 3, 3, 1]
    assert [len(p) for p in pieces(found)] == [10]
    assert [len(p) for p in pieces(found, piece_records=4)] == [4, 4, 2]


def test_a_large_text_that_compresses_well_is_read():
    found = [Record(0, 0, None, b"text " * 3_600_000, ())]  # 18 MB
    data = batch(found, "zstd")
    assert len(data) < 2**20
    assert read_all(record_set("t", 0, data, 0)) == found


def test_a_record_count_beyond_the_bytes_is_refused_before_memory_is_reserved():
    whole = bytearray(batch([Record(0, 0, None, b"v", ())]))
    whole[57:61] = (2**31 - 1).to_bytes(4, "big")
    with pytest.raises(CorruptBatch, match=r"2,147,483,647 records do not fit"):
        read_all(record_set("t", 0, bytes(whole), 0, check_crc=False))


def test_timestamps_that_overflow_wrap_as_in_other_clients():
    found = [Record(0, 2**62, None, None, ()), Record(1, -(2**62) - 5, None, None, ())]
    assert read_all(record_set("t", 0, batch(found), 0)) == found


def test_replaced_values_and_dropped_payloads_leave_the_rest():
    found = [Record(i, i, b"k", b"v%d" % i, ((b"h", b"x"),)) for i in range(4)]
    (columns,) = pieces(record_set("t", 0, batch(found), 0))
    other = columns.replace_values(np.array([1, 3]), b"longer", np.array([6, -1])).without_payload(np.array([0]))
    assert [other.value(i) for i in range(4)] == [None, b"longer", b"v2", None]
    assert [other.key(i) for i in range(4)] == [None, b"k", b"k", b"k"]
    assert [columns.value(i) for i in range(4)] == [b"v0", b"v1", b"v2", b"v3"]


def test_what_is_before_an_unreadable_batch_comes_before_the_error():
    fine = [Record(i, 0, None, b"v", ()) for i in range(3)]
    torn = bytearray(batch([Record(3, 0, None, b"v", ()), Record(4, 0, None, b"v", ())]))
    torn[-1] = 9
    cut = batch([Record(3, 0, None, bytes(2**17), ())], "zstd")
    cut = cut[:8] + (len(cut) - 13).to_bytes(4, "big") + cut[12:-1]
    for last, expected in ((bytes(torn), [0, 1, 2, 3]), (cut, [0, 1, 2])):
        reading = pieces(record_set("t", 0, batch(fine) + last, 0, check_crc=False))
        assert next(reading).offset.tolist() == expected
        with pytest.raises(CorruptBatch, match=r"t/0@3 cannot be read"):
            next(reading)


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
def test_what_aiokafka_writes_is_read(codec):
    builder = DefaultRecordBatchBuilder(2, codec, 1, 5, 0, 7, 2**20)
    headers: list[tuple[str, bytes | None]] = [("h", b"x"), ("h", None)]
    rows: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]] = [
        (b"k%d" % i, b"value" * i, headers) for i in range(50)
    ]
    rows.append((None, None, []))
    for i, (key, value, names) in enumerate(rows):
        assert builder.append(i, 1000 - i, key, value, names) is not None
    assert read_all(record_set("t", 0, bytes(builder.build()), 0)) == [
        Record(i, 1000 - i, key, value, tuple((name.encode(), text) for name, text in names))
        for i, (key, value, names) in enumerate(rows)
    ]
