"""Batches that are too large to be decompressed as a whole are read in parts; too large records are passed over."""

import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retail_stream.kafka.record_batches import codecs
from retail_stream.kafka.record_batches.batch import HEADER_BYTES, split
from retail_stream.kafka.record_batches.errors import CorruptBatch
from retail_stream.kafka.record_batches.pieces import pieces
from retail_stream.kafka.record_batches.record_set import RecordSet, record_set
from retail_stream.kafka.record_batches.reference import FaultyRecord, Record, decode, encode, varint
from tests.harness.record_batches import COMPRESSORS, as_records, batch, read_all, records

#: Every compressed batch is too large, so that it is read in parts.
IN_PARTS = {"batch_bytes": 0}
CODECS = sorted(set(COMPRESSORS) - {"none"})


@pytest.fixture(scope="module", autouse=True)
def _small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codecs, "BLOCK_BYTES", 16)
        yield


def read_in_parts(data: bytes, lowest: int = 0, **limits: int) -> tuple[list[Record], str]:
    """(records, what is wrong behind them) of one batch."""
    read: list[Record] = []
    try:
        for piece in pieces(RecordSet("t", 0, tuple(split(data)), lowest, lowest), **IN_PARTS, **limits):
            read += as_records(piece)
    except CorruptBatch as error:
        return read, str(error).partition("cannot be read: ")[2].removesuffix(".")
    return read, ""


def by_reference(body: bytes, found: Sequence[Record], lowest: int) -> tuple[list[Record], str]:
    read: list[Record] = []
    try:
        read.extend(decode(body, len(found), found[0].offset, found[-1].offset - found[0].offset, found[0].timestamp))
    except FaultyRecord as error:
        wrong = str(error)
    else:
        wrong = ""
    return [r for r in read if r.offset >= lowest], wrong


@settings(deadline=None)
@given(st.sampled_from(CODECS), records(smallest=1, first=5), st.integers(0, 12), st.integers(1, 90), st.integers(1, 9))
def test_a_batch_in_parts_is_the_batch(codec, found, lowest, piece_bytes, piece_records):
    read = read_in_parts(batch(found, codec), lowest, piece_bytes=piece_bytes, piece_records=piece_records)
    assert read == ([r for r in found if r.offset >= lowest], "")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_records_are_read_up_to_the_damage(data):
    found = data.draw(records(smallest=1))
    body = bytearray(b"".join(encode(r, found[0].offset, found[0].timestamp) for r in found))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(
            st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)
        )
    del body[data.draw(st.integers(1, len(body))) :]
    codec, compress = COMPRESSORS[data.draw(st.sampled_from(CODECS))]
    whole = bytearray(batch(found)[:HEADER_BYTES] + compress(bytes(body)))
    whole[8:12] = (len(whole) - 12).to_bytes(4, "big")
    whole[22] |= codec
    lowest, sizes = data.draw(st.integers(0, 12)), {"piece_bytes": data.draw(st.integers(1, 90))}
    assert read_in_parts(bytes(whole), lowest, **sizes) == by_reference(bytes(body), found, lowest)


@settings(deadline=None)
@given(st.sampled_from([c for c in CODECS if c != "snappy, raw"]), st.data())
def test_a_record_that_is_too_large_is_passed_over_and_its_neighbours_are_read(codec, data):
    found = data.draw(records(smallest=1, first=5))
    large = data.draw(st.sets(st.integers(0, len(found) - 1), min_size=1))
    append_time, lowest = data.draw(st.none() | st.integers(-1, 2**62)), data.draw(st.integers(0, 12))
    sent = [replace(r, value=bytes(300)) if i in large else r for i, r in enumerate(found)]
    expected = [replace(r, key=None, value=None, headers=()) if i in large else r for i, r in enumerate(found)]
    if append_time is not None:
        expected = [replace(r, timestamp=append_time) for r in expected]
    read = read_in_parts(batch(sent, codec, append_time=append_time), lowest, piece_bytes=40, record_bytes=150)
    assert read == ([r for r in expected if r.offset >= lowest], "")


def test_a_record_that_was_not_read_is_a_piece_of_its_own():
    found = [Record(7 + i, 100 + i, b"k", bytes(5000 if i == 1 else 5), ()) for i in range(3)]
    read = list(pieces(record_set("t", 3, batch(found, "zstd"), 0), record_bytes=1000, **IN_PARTS))
    assert [(piece.offset.tolist(), piece.is_unread) for piece in read] == [([7], False), ([8], True), ([9], False)]
    assert (read[1].timestamp.tolist(), read[1].partition) == ([101], 3)


def test_a_size_beyond_the_end_of_the_batch_is_corrupt():
    body = varint(2**62) + bytes(100)
    whole = bytearray(batch([Record(3, 0, None, None, ())])[:HEADER_BYTES] + COMPRESSORS["zstd"][1](body))
    whole[8:12] = (len(whole) - 12).to_bytes(4, "big")
    whole[22] |= COMPRESSORS["zstd"][0]
    assert read_in_parts(bytes(whole)) == ([], "it is cut off")


def test_bytes_behind_the_last_record_are_noticed_wherever_they_begin():
    record = Record(3, 0, None, b"v", ())
    for behind in (1, 100):
        body = encode(record, 3, 0) + bytes(behind)
        whole = bytearray(batch([record])[:HEADER_BYTES] + COMPRESSORS["zstd"][1](body))
        whole[8:12] = (len(whole) - 12).to_bytes(4, "big")
        whole[22] |= COMPRESSORS["zstd"][0]
        wrong = "record 0 is followed by bytes that belong to no record"
        assert read_in_parts(bytes(whole), piece_bytes=1) == ([record], wrong)


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_memory_is_bounded_whatever_a_batch_expands_to(codec, monkeypatch):
    monkeypatch.setattr(codecs, "BLOCK_BYTES", 2**20)
    small = [Record(i, 0, None, bytes(2**17), ()) for i in range(200)]
    found = [*small, Record(200, 0, None, bytes(2**25), ()), Record(201, 0, None, b"v", ())]
    data = batch(found, codec)
    tracemalloc.start()
    try:
        read = [
            piece.is_unread
            for piece in pieces(record_set("t", 0, data, 0), batch_bytes=2**21, piece_bytes=2**20, record_bytes=2**23)
            for _ in range(len(piece))
        ]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert read == [False] * 200 + [True, False]
    assert peak < 2**24


def test_batches_around_a_large_one_are_read_in_order():
    found = [Record(i, 0, None, bytes(2**12 if 3 <= i < 6 else 9), ()) for i in range(9)]
    data = b"".join(batch(found[i : i + 3], "lz4") for i in (0, 3, 6))
    assert read_all(record_set("t", 0, data, 0), batch_bytes=2**10, piece_bytes=2**12) == found
