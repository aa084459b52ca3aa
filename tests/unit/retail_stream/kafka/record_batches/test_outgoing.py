"""Outgoing batches: what aiokafka reads of them, and their sizes."""

import random

import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given, settings
from hypothesis import strategies as st

from retail_stream.kafka.record_batches import outgoing
from retail_stream.kafka.record_batches.added_headers import AddedHeaders, alike, one_by_one
from retail_stream.kafka.record_batches.codecs import Codec, decompress
from retail_stream.kafka.record_batches.columns import Columns
from retail_stream.kafka.record_batches.outgoing import UNCOMPRESSED_BYTES, build
from retail_stream.kafka.record_batches.pieces import pieces
from retail_stream.kafka.record_batches.record_set import record_set
from retail_stream.kafka.record_batches.reference import Record
from tests.harness.record_batches import batch, encoded_record, read_all, records

LIMIT = 1_048_588


def columns_of(found: list[Record]) -> Columns:
    (columns,) = pieces(record_set("t", 0, batch(found, "lz4"), 0))
    return columns


def numbers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@settings(deadline=None)
@given(st.data())
def test_the_pass_builds_what_the_reference_builds(data):
    found = data.draw(records(smallest=1))
    columns = columns_of(found)
    chosen = numbers(*data.draw(st.lists(st.integers(0, len(found) - 1), unique=True)))
    added = alike(len(chosen), [("rules.version", b"v1"), ("n", None)], {"source.offset": columns.offset[chosen]})
    made = build(columns, chosen, added, LIMIT)
    assert len(made.batches) == bool(len(chosen))
    for b in made.batches:
        body = decompress(b.codec, b.body, 2**20)
        headers = [(b"rules.version", b"v1"), (b"n", None)]
        assert bytes(body) == b"".join(
            encoded_record(
                found[row],
                count,
                found[chosen[0]].timestamp,
                [*headers, (b"source.offset", found[row].offset.to_bytes(8, "big"))],
            )
            for count, row in enumerate(chosen)
        )


@settings(max_examples=50, deadline=None)
@given(records(smallest=1))
def test_aiokafka_reads_what_was_built(found):
    found = [Record(r.offset, r.timestamp, r.key, r.value, ((b"h", b"\0"), (b"h", None))) for r in found]
    columns = columns_of(found)
    everything = np.arange(len(found))
    (made,) = build(columns, everything, alike(len(found), [("é" * 40, b"x")]), LIMIT).batches
    theirs = DefaultRecordBatch(made.encode(producer_id=5, epoch=2, sequence=9))
    assert theirs.validate_crc()
    assert (theirs.producer_id, theirs.producer_epoch, theirs.base_sequence) == (5, 2, 9)
    assert theirs.max_timestamp == max(r.timestamp for r in found)
    assert not theirs.is_transactional
    assert [(r.timestamp, r.key, r.value, tuple(r.headers)) for r in theirs] == [
        (r.timestamp, r.key, r.value, (("h", b"\0"), ("h", None), ("é" * 40, b"x"))) for r in found
    ]
    assert DefaultRecordBatch(made.encode(1, 0, 0, transactional=True)).is_transactional


def test_headers_that_are_not_utf8_are_carried():
    found = [Record(0, 0, b"k", b"v", ((b"\xff", b"1"), (b"\xff", b"2")))]
    (made,) = build(columns_of(found), numbers(0), alike(1), LIMIT).batches
    assert read_all(record_set("t", 0, made.encode(), 0)) == found


def test_headers_of_dead_letters_differ():
    found = [Record(i, 0, None, b"v", ()) for i in range(3)]
    added = one_by_one([[("why", b"no key"), ("n", b"1")], [("why", b""), ("n", None)]])
    (made,) = build(columns_of(found), numbers(2, 0), added, LIMIT).batches
    assert [r.headers for r in read_all(record_set("t", 0, made.encode(), 0))] == [
        ((b"why", b"no key"), (b"n", b"1")),
        ((b"why", b""), (b"n", None)),
    ]
    assert made.records.tolist() == [2, 0]


@pytest.mark.parametrize("compressible", [True, False])
@pytest.mark.parametrize("limit", [2_000, 20_000, LIMIT])
def test_no_batch_exceeds_the_topics_limit_and_few_are_far_below(limit, compressible):
    rng = random.Random(3)
    values = [b"%05d" % rng.randrange(10**5) * 40 if compressible else rng.randbytes(200) for _ in range(20_000)]
    found = [Record(i, 0, b"k", value, ()) for i, value in enumerate(values)]
    columns = columns_of(found)
    made = build(columns, np.arange(len(columns)), alike(len(columns)), limit)
    sizes = [len(b.encode()) for b in made.batches]
    assert sizes == [b.size for b in made.batches]
    assert max(sizes) <= limit
    assert np.concatenate([b.records for b in made.batches]).tolist() == list(range(len(columns)))
    assert made.too_large.tolist() == []
    raw = sum(len(v) + 10 for v in values)
    assert len(made.batches) <= 2 + max(sum(sizes) / limit / 0.6, raw / UNCOMPRESSED_BYTES * 1.2)


def test_a_record_that_exceeds_the_limit_alone_is_named_and_its_neighbours_are_sent():
    rng = random.Random(4)
    large = [rng.randbytes(60_000), b"x" * 6_000_000, rng.randbytes(50_001)]
    found = [Record(i, 0, None, large[i // 2 - 1] if i in (2, 4, 6) else b"v", ()) for i in range(8)]
    columns = columns_of(found)
    made = build(columns, np.arange(8), alike(8), 50_000)
    assert made.too_large.tolist() == [2, 6]
    assert np.concatenate([b.records for b in made.batches]).tolist() == [0, 1, 3, 4, 5, 7]
    read = [r for b in made.batches for r in read_all(record_set("t", 0, b.encode(), 0))]
    assert [r.value for r in read] == [found[i].value for i in (0, 1, 3, 4, 5, 7)]


def test_a_batch_that_compression_would_enlarge_is_sent_as_it_is():
    (made,) = build(columns_of([Record(0, 0, b"k", b"v", ())]), numbers(0), alike(1), LIMIT).batches
    assert made.codec is Codec.NONE


def test_nothing_chosen_builds_nothing():
    columns = columns_of([Record(0, 0, b"k", b"v", ())])
    assert build(columns, numbers(), AddedHeaders(np.empty(0, np.uint8), numbers(0), 0), LIMIT).batches == ()
    assert build(columns, numbers(), one_by_one([]), LIMIT).batches == ()


def test_a_record_that_consumers_would_pass_over_is_too_large(monkeypatch):
    monkeypatch.setattr(outgoing, "RECORD_BYTES", 1000)
    columns = columns_of([Record(i, 0, None, bytes(2000 if i == 1 else 900), ()) for i in range(3)])
    monkeypatch.setattr(outgoing, "UNCOMPRESSED_BYTES", 1000)
    made = build(columns, numbers(0, 1, 2), one_by_one([()] * 3), LIMIT)
    assert made.too_large.tolist() == [1]
    assert [b.records.tolist() for b in made.batches] == [[0], [2]]
