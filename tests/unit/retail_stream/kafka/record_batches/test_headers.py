"""Headers of records in columns."""

from hypothesis import given, settings

from retail_stream.kafka.record_batches.columns import pieces
from retail_stream.kafka.record_batches.headers import find_header
from retail_stream.kafka.record_batches.record_set import record_set
from retail_stream.kafka.record_batches.reference import Record
from tests.harness.record_batches import batch, records


@settings(deadline=None)
@given(records(smallest=1))
def test_the_last_header_of_a_name_is_found(found):
    (columns,) = pieces(record_set("t", 0, batch(found), 0))
    for name in ("h", "source.offset", "missing", ""):
        column = find_header(columns, name)
        for i, record in enumerate(found):
            named = dict(record.headers)
            value = named.get(name.encode())
            assert bool(column.is_present[i]) == (name.encode() in named)
            at, size = int(column.at[i]), int(column.size[i])
            assert (bytes(columns.buffer[at : at + size]) if size >= 0 else None) == value
            assert bool(column.is_number[i]) == (value is not None and len(value) == 8)


def test_numbers_are_signed_and_big_endian():
    values = [(2**63 - 1).to_bytes(8, "big"), (-2).to_bytes(8, "big", signed=True), b"1234567", None]
    found = [Record(i, 0, None, None, ((b"n", b"x"), (b"n", value))) for i, value in enumerate(values)]
    (columns,) = pieces(record_set("t", 0, batch(found), 0))
    column = find_header(columns, "n")
    assert column.number.tolist() == [2**63 - 1, -2, 0, 0]
    assert column.is_number.tolist() == [True, True, False, False]
