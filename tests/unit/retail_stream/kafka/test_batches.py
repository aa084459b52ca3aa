"""Clean records as columns: their headers."""

from collections.abc import Mapping

import pytest
from confluent_kafka import Message

from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.kafka.batches import REPLAY_OF, SEQUENCE, SOURCE, table
from retail_stream.kafka.headers import REPLAY_OF as REPLAY_HEADER
from retail_stream.kafka.headers import SEQUENCE_TIME, SOURCE_OFFSET, as_big_endian

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


def record(offset: int, headers: list | None) -> Message:
    return Message("t", 0, offset, b"k", frame(1, encode(WRITER.plain, {"n": offset})), headers, timestamp=(1, 0))


@pytest.mark.parametrize(("headers", "source"), UNUSUAL)
def test_a_record_with_unusual_headers_is_read_as_well_as_its_neighbours(headers: list | None, source: int) -> None:
    alone = table([record(i, USUAL) for i in range(3)], Known(), WRITER)  # type: ignore[arg-type]
    assert alone[SOURCE].to_list() == [5, 5, 5]
    rows = table([record(0, USUAL), record(1, headers), record(2, USUAL)], Known(), WRITER)  # type: ignore[arg-type]
    assert rows[SOURCE].to_list() == [5, source, 5]
    assert rows.schema == alone.schema
    replayed = len(headers or ()) == 3
    assert rows[REPLAY_OF].to_list() == [None, b"sales.raw/1/2" if replayed else None, None]
    assert rows[SEQUENCE].to_list() == [None] * 3, "only a tombstone's counts"
    assert rows["n"].to_list() == [0, 1, 2]
