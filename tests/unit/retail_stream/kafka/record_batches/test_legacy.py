"""Messages of the formats 0 and 1, as aiokafka writes them."""

import contextlib

import pytest
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from retail_stream.kafka.record_batches import codecs, reference
from retail_stream.kafka.record_batches.errors import CorruptBatch
from retail_stream.kafka.record_batches.record_set import record_set
from retail_stream.kafka.record_batches.reference import Record
from tests.harness.record_batches import batch, read_all

ROWS = [(b"k", b"v"), (None, b"w"), (b"", None)]
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3}


def messages(magic: int, codec: int, first: int = 0) -> bytes:
    """As a broker stores them: offsets assigned, of a compressed set the last one outside."""
    builder = LegacyRecordBatchBuilder(magic, codec, 2**20)
    for i, (key, value) in enumerate(ROWS):
        # In format 0 the broker makes the inner offsets absolute, in format 1 they count from 0.
        builder.append(i if codec and magic else first + i, 1000 + i, key, value)
    data = bytearray(builder.build())
    if codec:
        data[:8] = (first + len(ROWS) - 1).to_bytes(8, "big")
    return bytes(data)


@pytest.mark.parametrize(("magic", "name"), [(m, c) for m in (0, 1) for c in CODECS if (m, c) != (0, "lz4")])
def test_old_messages_are_read(magic, name):
    data = messages(magic, CODECS[name], 20) + batch([Record(23, 5, None, b"new", ())]) + messages(magic, 0, 24)
    found = record_set("t", 0, data, 21)
    old = [Record(20 + i, 1000 + i if magic else -1, key, value, ()) for i, (key, value) in enumerate(ROWS)]
    later = [Record(24 + i, 1000 + i if magic else -1, key, value, ()) for i, (key, value) in enumerate(ROWS)]
    assert read_all(found) == [*old[1:], Record(23, 5, None, b"new", ()), *later]
    assert found.next_offset == 27


def test_the_brokers_timestamp_replaces_those_inside():
    data = bytearray(messages(1, CODECS["gzip"]))
    data[17] |= 0x08
    data[18:26] = (77).to_bytes(8, "big")
    found = record_set("t", 0, bytes(data), 0, check_crc=False)
    assert [r.timestamp for r in read_all(found)] == [77, 77, 77]


def test_the_checksum_is_compared():
    data = bytearray(messages(1, 0))
    data[-1] ^= 1
    assert record_set("t", 0, bytes(data), 0).next_offset == 2
    with pytest.raises(CorruptBatch, match=r"t/0@2 cannot be read: its checksum is wrong"):
        record_set("t", 0, bytes(data), 2)


@pytest.mark.parametrize("magic", [0, 1])
def test_old_messages_that_expand_too_far_are_read_in_parts(magic, monkeypatch):
    data = messages(magic, CODECS["gzip"], 20)
    expected = [Record(20 + i, 1000 + i if magic else -1, key, value, ()) for i, (key, value) in enumerate(ROWS)]
    assert read_all(record_set("t", 0, data, 21), batch_bytes=0) == expected[1:]
    monkeypatch.setattr(reference, "RECORD_BYTES", 1000)
    monkeypatch.setattr(codecs, "BLOCK_BYTES", 100)
    builder = LegacyRecordBatchBuilder(magic, CODECS["gzip"], 2**20)
    for i, size in enumerate((1, 5000, 1)):
        builder.append(i, 7, None, bytes(size))
    large = bytearray(builder.build())
    large[:8] = (2).to_bytes(8, "big")
    read = read_all(record_set("t", 0, bytes(large), 0, check_crc=False), batch_bytes=0, record_bytes=1000)
    assert [(r.offset, r.timestamp, r.value) for r in read] == [
        (i, 7 if magic else -1, value) for i, value in enumerate((b"\0", None, b"\0"))
    ]


@settings(deadline=None)
@given(st.data())
def test_damaged_messages_are_read_or_refused(data):
    whole = bytearray(messages(data.draw(st.integers(0, 1)), data.draw(st.sampled_from([0, 1, 2]))))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CorruptBatch):
        read_all(record_set("t", 0, bytes(whole), 0, check_crc=False), batch_bytes=2**16)
