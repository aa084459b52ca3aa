"""What a fetch brings: whole batches, those of committed transactions, and where to read on."""

from typing import Any

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from retail_stream.kafka.record_batches.batch import split
from retail_stream.kafka.record_batches.errors import CorruptBatch
from retail_stream.kafka.record_batches.record_set import record_set
from retail_stream.kafka.record_batches.reference import Record
from tests.harness.record_batches import batch, marker, read_all


def record(offset: int) -> Record:
    return Record(offset, offset, b"k", b"v%d" % offset, ())


def test_a_batch_that_is_cut_off_is_left_for_the_next_fetch():
    data = batch([record(0), record(1)]) + batch([record(2)])
    for cut in range(1, len(batch([record(2)]))):
        found = record_set("t", 0, data[:-cut], 0)
        assert (len(read_all(found)), found.next_offset) == (2, 2)
    assert record_set("t", 0, b"", 7).next_offset == 7


def test_records_below_the_fetch_offset_are_dropped():
    data = batch([record(i) for i in range(10)]) + batch([record(10)])
    assert [r.offset for r in read_all(record_set("t", 0, data, 7))] == [7, 8, 9, 10]
    assert [r.offset for r in read_all(record_set("t", 0, data, 10))] == [10]


def test_the_position_passes_what_compaction_removed():
    """Offsets 3 and 5 are left of 0 to 9, then a batch is left with no record at all."""
    data = batch([record(3), record(5)], base_offset=0, last_offset=9) + batch([], base_offset=10, last_offset=14)
    found = record_set("t", 0, data, 0)
    assert ([r.offset for r in read_all(found)], found.next_offset) == ([3, 5], 15)


def test_markers_are_never_records():
    data = batch([record(0)], producer=7, transactional=True) + marker(1, 7, commit=True)
    for read_committed in (True, False):
        found = record_set("t", 0, data, 0, read_committed=read_committed)
        assert ([r.offset for r in read_all(found)], found.next_offset) == ([0], 2)
    assert record_set("t", 0, marker(1, 7, commit=True), 1).batches == ()


def test_an_idempotent_producers_records_outside_of_a_transaction_are_not_aborted():
    data = batch([record(0)], producer=7) + batch([record(1)], producer=7, transactional=True)
    data += marker(2, 7, commit=False)
    assert [r.offset for r in read_all(record_set("t", 0, data, 0, [(7, 0)]))] == [0]


def test_an_aborted_transaction_ends_with_its_marker():
    """The example of `Transactions`: only producer 7's first transaction is aborted."""
    data = b"".join(
        [
            batch([record(10)], producer=7, transactional=True),
            batch([record(11)], producer=8, transactional=True),
            batch([record(12)], producer=7, transactional=True),
            marker(13, 7, commit=False),
            batch([record(14)], producer=7, transactional=True),
        ]
    )
    assert [r.offset for r in read_all(record_set("t", 0, data, 10, [(7, 10)]))] == [11, 14]
    assert [r.offset for r in read_all(record_set("t", 0, data, 12, [(7, 10)]))] == [14]
    uncommitted = record_set("t", 0, data, 10, [(7, 10)], read_committed=False)
    assert [r.offset for r in read_all(uncommitted)] == [10, 11, 12, 14]


def test_a_marker_that_compaction_emptied_ends_nothing():
    data = batch([], base_offset=0, producer=7, transactional=True, control=True)
    data += batch([record(1)], producer=7, transactional=True)
    assert read_all(record_set("t", 0, data, 0, [(7, 0)])) == []


def test_a_marker_without_a_type_is_corrupt():
    data = batch([Record(0, 0, b"\0", b"", ())], producer=7, transactional=True, control=True)
    with pytest.raises(CorruptBatch, match=r"t/0@0 cannot be read: its marker has no type"):
        record_set("t", 0, data, 0)


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (16, 3, "its format is 3"),
        (11, 5, "its length is 5"),
        (57, 0xFF, "it has -"),
        (23, 0xFF, "last offset delta of -"),
    ],
)
def test_a_header_that_contradicts_itself_is_corrupt(at, value, reason):
    good, damaged = batch([record(0)]), bytearray(batch([record(1)]))
    damaged[at] = value
    data = good + damaged + batch([record(2)])
    found = record_set("t", 0, data, 0, check_crc=False)
    assert ([r.offset for r in read_all(found)], found.next_offset) == ([0], 1)
    with pytest.raises(CorruptBatch, match=rf"t/0@1 cannot be read: .*{reason}"):
        record_set("t", 0, data, 1, check_crc=False)


@st.composite
def logs(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int]]]:
    """(record set, aborted transactions as a broker names them): three producers, transactions and single batches."""
    data, aborted, offset = b"", [], 0
    started: dict[int, int] = {}
    for _ in range(draw(st.integers(1, 14))):
        producer = draw(st.integers(1, 3))
        step = draw(st.sampled_from(["transaction", "transaction", "plain", "commit", "abort"]))
        if step in ("commit", "abort"):
            data += marker(offset, producer, commit=step == "commit")
            first = started.pop(producer, None)
            if step == "abort" and first is not None:
                aborted.append((producer, first))
            offset += 1
            continue
        count = draw(st.integers(1, 3))
        inside = step == "transaction"
        if inside:
            started.setdefault(producer, offset)
        elif producer in started:
            continue
        found = [record(i) for i in range(offset, offset + count)]
        data += batch(found, draw(st.sampled_from(["none", "lz4"])), producer=producer, transactional=inside)
        offset += count
    return data, aborted


@settings(deadline=None)
@given(logs(), st.integers(0, 20), st.booleans())
def test_transactions_are_read_as_aiokafka_reads_them(log, start, read_committed):
    whole, aborted = log
    # A broker sends the batch that holds the first wanted offset, and what follows.
    data = b"".join(bytes(b.data) for b in split(whole) if b.next_offset > start)
    theirs: Any = PartitionRecords(
        TopicPartition("t", 0),
        MemoryRecords(data),
        aborted,
        start,
        None,
        None,
        True,
        READ_COMMITTED if read_committed else READ_UNCOMMITTED,
    )
    expected = [(r.offset, r.timestamp, r.key, r.value) for r in theirs]
    found = record_set("t", 0, data, start, aborted, read_committed=read_committed)
    assert [(r.offset, r.timestamp, r.key, r.value) for r in read_all(found)] == expected
    assert found.next_offset == max(theirs.next_fetch_offset, start)
