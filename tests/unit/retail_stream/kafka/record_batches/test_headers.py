"""Headers of records in columns."""

from hypothesis import given, settings
from hypothesis import strategies as st

from retail_stream.kafka.record_batches.headers import find_header, readable_names
from retail_stream.kafka.record_batches.pieces import pieces
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


def is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


names = st.sampled_from([b"", "ü☃\U0001f600".encode(), b"\xff", b"\xed\xa0\x80", b"a\xc3"]) | st.binary(max_size=6)


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(names, st.none() | st.binary(max_size=3)), max_size=3), min_size=1, max_size=5))
def test_names_that_are_not_utf8_are_noticed(headers):
    found = [Record(i, 0, b"\xff", b"\xff", tuple(row)) for i, row in enumerate(headers)]
    (columns,) = pieces(record_set("t", 0, batch(found), 0))
    assert readable_names(columns).tolist() == [all(is_utf8(name) for name, _ in row) for row in headers]
