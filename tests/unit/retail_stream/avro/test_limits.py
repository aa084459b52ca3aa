"""Hostile schemas and values: they end in a sentence, and soon."""

from typing import Any

import pytest

from retail_stream.avro.plan import DEEPEST, MOST_EMPTY_ITEMS
from retail_stream.avro.types import SchemaError, parse
from tests.harness.avro_reading import read, record
from tests.harness.avro_values import varint

NODE = {
    "type": "record",
    "name": "Node",
    "fields": [{"name": "next", "type": ["null", "Node"]}, {"name": "all", "type": {"type": "map", "values": "Node"}}],
}


def test_recursive_values_are_walked_over_down_to_a_limit():
    reader, writer = record(("f", "int")), record(("tree", NODE), ("f", "int"))

    def nested(levels: int) -> bytes:
        return b"\2" * levels + b"\0" + b"\0" * (levels + 1)

    decoded = read(reader, writer, nested(DEEPEST // 2 - 3) + varint(1), nested(DEEPEST), nested(100_000))
    assert decoded.table["f"].to_list() == [1]
    assert set(decoded.bad.values()) == {
        f"not one Avro record of schema id 7: field tree nests more than {DEEPEST} types"
    }


def many_nulls(levels: int) -> dict[str, Any]:
    """A record of 2 ** levels nulls."""
    made: dict[str, Any] = {"type": "record", "name": "N0", "fields": [{"name": "a", "type": "null"}]}
    for i in range(1, levels + 1):
        fields = [{"name": "a", "type": made}, {"name": "b", "type": f"N{i - 1}"}]
        made = {"type": "record", "name": f"N{i}", "fields": fields}
    return made


def test_values_without_bytes_cannot_make_a_decoder_or_its_readers_busy():
    reader, nulls = record(("f", "int")), {"type": "array", "items": "null"}
    most, more = varint(MOST_EMPTY_ITEMS), varint(2**62)
    bodies = [most + b"\0" + varint(1), most + varint(1) + b"\0" + varint(2), more, varint(-(2**63)) + b"\0"]
    decoded = read(reader, record(("many", nulls), ("f", "int")), *bodies)
    assert decoded.table["f"].to_list() == [1]
    why = "not one Avro record of schema id 7: field many holds more than 65,536 values without bytes"
    assert decoded.bad == dict.fromkeys([1, 2, 3], why)
    # Records of nothing but nulls, as a field and as the items of an array.
    assert read(reader, record(("deep", many_nulls(10)), ("f", "int")), varint(1)).table["f"].to_list() == [1]
    assert "values without bytes" in read(reader, record(("deep", many_nulls(60)), ("f", "int")), varint(1)).bad[0]
    items = record(("many", {"type": "array", "items": many_nulls(10)}), ("f", "int"))
    decoded = read(reader, items, varint(20) + b"\0" + varint(1), varint(40) + b"\0" + varint(1))
    assert (decoded.table["f"].to_list(), list(decoded.bad)) == ([1], [1])


def test_a_block_whose_size_is_not_that_of_its_items_is_an_error():
    writer = record(("many", {"type": "array", "items": "int"}), ("f", "int"))
    good, bad = (varint(-2) + varint(size) + b"\2\4" + b"\0" + varint(1) for size in (2, 1))
    decoded = read(record(("f", "int")), writer, good, bad)
    why = "field many holds a block whose size is not that of its items"
    assert decoded.bad == {1: f"not one Avro record of schema id 7: {why}"}


def test_a_record_that_contains_itself_has_no_values_and_stops_nothing():
    endless = {"type": "record", "name": "E", "fields": [{"name": "a", "type": "E"}, {"name": "b", "type": "E"}]}
    assert "nests more than" in read(record(("f", "int")), record(("e", endless), ("f", "int")), b"\0\0").bad[0]


def deep(levels: int) -> Any:
    made: Any = "int"
    for _ in range(levels):
        made = {"type": "array", "items": made}
    return made


def test_arrays_within_arrays_are_walked_over_down_to_a_limit():
    for levels, good in ((DEEPEST - 1, True), (DEEPEST, False), (300, False)):
        body = varint(1) * levels + varint(7) + varint(0) * levels + varint(1)
        decoded = read(record(("f", "int")), record(("deep", deep(levels)), ("f", "int")), body)
        assert (decoded.table["f"].to_list() == [1]) == good, levels
        assert ("nests more than" in decoded.bad.get(0, "")) != good, levels


def test_a_schema_that_is_nested_too_deeply_is_not_a_valid_one():
    with pytest.raises(SchemaError, match="is nested too deeply"):
        parse(deep(100_000))


@pytest.mark.parametrize(
    "schema",
    [
        *(None, 5, True, "", "nonsense", '"string"', "{}", "[]", {}, [], {"type": None}, {"type": "record"}),
        *(
            {"type": "fixed", "name": "f"},
            {"type": "fixed", "name": "f", "size": "x"},
            {"type": "array"},
            {"type": "enum"},
        ),
        *(
            {"type": "record", "name": "Sale"},
            {"type": "record", "name": "Sale", "fields": [{}]},
            {"type": {"type": "int"}},
        ),
        record(("f", "no.such.Type")),
        record(("f", {"type": "map"})),
        record(("f", "int"), ("deep", deep(5_000))),
        ["null", "string"],
    ],
)
def test_a_schema_that_cannot_be_read_at_all_is_one_sentence_for_all_its_records(schema: Any):
    decoded = read(record(("f", "int")), schema, b"\2", b"")
    assert len(decoded.bad) == 2
    assert len(set(decoded.bad.values())) == 1
    assert decoded.bad[0].startswith("schema id 7: ")
    assert decoded.bad[0].endswith(".")
