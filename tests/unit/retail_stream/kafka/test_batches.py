"""Clean records as columns: their headers."""

from collections.abc import Mapping

import polars as pl
import pytest

from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.errors import PoisonRecord
from retail_stream.kafka.batches import REPLAY_OF, SEQUENCE, SOURCE, table
from retail_stream.kafka.headers import REPLAY_OF as REPLAY_HEADER
from retail_stream.kafka.headers import SEQUENCE_TIME, SOURCE_OFFSET, as_big_endian
from retail_stream.kafka.record_batches import codecs
from retail_stream.kafka.record_batches.pieces import pieces
from retail_stream.kafka.record_batches.record_set import record_set
from retail_stream.kafka.record_batches.reference import Record
from tests.harness.record_batches import batch, columns

WRITER = RecordSchema({"type": "record", "name": "r", "fields": [{"name": "n", "type": "int"}]})
USUAL = [(SOURCE_OFFSET, as_big_endian(5))]
UNUSUAL = [
    (None, -1),
    ([], -1),
    ([("other", b"12345678")], -1),
    ([(SOURCE_OFFSET, None)], -1),
    ([(SOURCE_OFFSET, b"123")], -1),
    ([("other", None), *USUAL], 5),
    ([*USUAL, (SEQUENCE_TIME, as_big_endian(7)), (REPLAY_HEADER, b"sales.raw/1/2")], 5),
]


class Known:
    def get(self, ids: object) -> Mapping[int, RecordSchema]:
        return {1: WRITER}


def record(offset: int, headers: list | None) -> Record:
    named = tuple((name.encode(), value) for name, value in headers or ())
    return Record(offset, 1, b"k", frame(1, encode(WRITER.plain, {"n": offset})), named)


def read(*records: Record) -> pl.DataFrame:
    return table([columns("t", 0, records)], Known(), WRITER)  # type: ignore[arg-type]


@pytest.mark.parametrize(("headers", "source"), UNUSUAL)
def test_a_record_with_unusual_headers_is_read_as_well_as_its_neighbours(headers: list | None, source: int) -> None:
    alone = read(*(record(i, USUAL) for i in range(3)))
    assert alone[SOURCE].to_list() == [5, 5, 5]
    rows = read(record(0, USUAL), record(1, headers), record(2, USUAL))
    assert rows[SOURCE].to_list() == [5, source, 5]
    assert rows.schema == alone.schema
    replayed = len(headers or ()) == 3
    assert rows[REPLAY_OF].to_list() == [None, b"sales.raw/1/2" if replayed else None, None]
    assert rows[SEQUENCE].to_list() == [None] * 3, "only a tombstone's counts"
    assert rows["n"].to_list() == [0, 1, 2]


def test_pieces_are_read_as_one_table() -> None:
    three = [columns("t", 0, [record(i, USUAL)]) for i in range(3)]
    assert table(three, Known(), WRITER).equals(read(*(record(i, USUAL) for i in range(3))))  # type: ignore[arg-type]


def test_a_delete_has_its_key_and_time_and_no_attributes() -> None:
    deletes = Record(1, 9, b"3", None, ((b"sequence.time", as_big_endian(7)),)), Record(2, 9, b"4", None, ())
    rows = read(record(0, USUAL), *deletes, record(3, USUAL))
    assert rows["offset"].to_list() == [0, 1, 2, 3]
    assert rows["deleted"].to_list() == [False, True, True, False]
    assert rows["key"].to_list() == [None, b"3", b"4", None]
    assert rows[SEQUENCE].to_list() == [None, 7, 9000, None]
    assert rows["n"].to_list() == [0, None, None, 3]


def test_a_value_that_the_cleaner_did_not_write_is_named() -> None:
    with pytest.raises(PoisonRecord, match="t/0@1 is not a clean record: no Confluent header"):
        read(record(0, USUAL), Record(1, 1, b"k", b"text", ()))
    two = columns("t", 0, [record(0, USUAL)]), columns("t", 0, [Record(1, 1, b"k", b"text", ())])
    with pytest.raises(PoisonRecord, match="t/0@1 is not a clean record: no Confluent header"):
        table(two, Known(), WRITER)  # type: ignore[arg-type]


def test_a_record_that_is_too_large_to_be_read_is_named_and_not_taken_for_a_delete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(codecs, "BLOCK_BYTES", 100)
    data = batch([record(0, USUAL), Record(1, 1, b"k", bytes(5000), ())], "zstd")
    found = list(pieces(record_set("t", 0, data, 0), batch_bytes=0, record_bytes=1000))
    with pytest.raises(PoisonRecord, match="t/0@1 is not a clean record: it is larger than 67,108,864 bytes"):
        table(found, Known(), WRITER)  # type: ignore[arg-type]
